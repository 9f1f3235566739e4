"""Who `--user` means: read from the image's own passwd and group files, with nothing of the image executed."""

from __future__ import annotations

from specrun_runtime.paths import read_regular

_LARGEST_ID = 2**31 - 1


class UnknownUser(ValueError):
    """A user or group that the image does not know."""


class User:
    """A resolved user: numbers, and the home folder of the passwd entry ("/" without one)."""

    __slots__ = ("gid", "groups", "home", "uid")

    def __init__(self, uid: int, gid: int, groups: list[int], home: str) -> None:
        self.uid = uid
        self.gid = gid
        self.groups = groups
        self.home = home


def resolve(root: int, text: str) -> User:
    """The user that `text` ("", "name", "uid", "user:group") means inside `root`.

    As Docker does: a name that is found wins over a number; a number needs no entry. Raises UnknownUser, and
    Refused when a file is no regular file or is larger than 1 MiB.
    """
    wanted_user, colon, wanted_group = text.partition(":")
    wanted_user = wanted_user or "0"
    entry = _find_user(_lines(read_regular(root, "/etc/passwd")), wanted_user)
    if entry is not None:
        name, uid, gid, home = entry
    else:
        name, uid, gid, home = "", _as_id(wanted_user, "user"), 0, "/"
    members = _lines(read_regular(root, "/etc/group"))
    if colon and wanted_group:
        gid = _find_group(members, wanted_group)
        return User(uid, gid, [gid], home)
    groups = [gid]
    for fields in members:
        if len(fields) > 3 and name and name in fields[3].split(",") and _is_id(fields[2]):
            number = int(fields[2])
            if number not in groups and len(groups) < 1024:
                groups.append(number)
    return User(uid, gid, groups, home)


def groups(root: int, wanted: list[str]) -> list[int]:
    """The numbers of groups by name or number, as `root` knows them. Raises UnknownUser."""
    if not wanted:
        return []
    members = _lines(read_regular(root, "/etc/group"))
    return [_find_group(members, text) for text in wanted]


def _find_user(lines: list[list[str]], wanted: str) -> tuple[str, int, int, str] | None:
    by_number = None
    for fields in lines:
        if len(fields) < 6 or not _is_id(fields[2]) or not _is_id(fields[3]):
            continue
        entry = (fields[0], int(fields[2]), int(fields[3]), fields[5] or "/")
        if fields[0] == wanted:
            return entry
        if by_number is None and fields[2] == wanted:
            by_number = entry
    return by_number


def _find_group(lines: list[list[str]], wanted: str) -> int:
    for fields in lines:
        if len(fields) > 2 and fields[0] == wanted and _is_id(fields[2]):
            return int(fields[2])
    return _as_id(wanted, "group")


def _as_id(text: str, kind: str) -> int:
    if not _is_id(text):
        raise UnknownUser(f"unable to find {kind} {text}: no matching entries in {_FILE[kind]} file")
    return int(text)


_FILE = {"user": "passwd", "group": "group"}


def _is_id(text: str) -> bool:
    """A number of ASCII digits only; int() would take signs, spaces, underscores and other scripts' digits."""
    return text.isascii() and text.isdigit() and len(text) <= 10 and int(text) <= _LARGEST_ID


def _lines(content: bytes) -> list[list[str]]:
    return [line.split(":") for line in content.decode("utf-8", "surrogateescape").splitlines() if ":" in line]
