"""What ADD takes from elsewhere: files over HTTP, git repositories, and archives that it unpacks."""

from __future__ import annotations

import os
import posixpath
import subprocess

from specrun.build.errors import BuildFailed
from specrun.oci.digest import bulk
from specrun_runtime.fds import Fd
from specrun_runtime.paths import open_in_root

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from specrun.build.parser import Node

_LIMIT = 16 << 30
_TIMEOUT = 60.0
"""Seconds without a byte after which a server is given up."""
_CHUNK = 1 << 20


def fetch(url: str, folder: str, node: Node, checksum: str = "") -> str:
    """Fetch `url` into `folder`; gives the path. Raises BuildFailed."""
    from urllib.error import URLError
    from urllib.parse import urlsplit
    from urllib.request import Request, urlopen

    name = posixpath.basename(urlsplit(url).path)
    path = f"{folder}/download.{os.urandom(6).hex()}"
    state, size = bulk(), 0
    try:
        request = Request(url, headers={"User-Agent": "specrun", "Accept-Encoding": "identity"})
        with urlopen(request, timeout=_TIMEOUT) as answer, open(path, "xb") as file:  # only http(s) gets here
            if not answer.url.startswith(("http://", "https://")):
                raise BuildFailed(f"ADD failed: {url} leads to {answer.url}", node=node, word=url)
            while data := answer.read(_CHUNK):
                size += len(data)
                if size > _LIMIT:
                    raise BuildFailed(f"ADD failed: {url} is larger than {_LIMIT} bytes", node=node, word=url)
                state.update(data)
                file.write(data)
            length = answer.headers.get("Content-Length")
            modified = _moment(answer.headers.get("Last-Modified") or "")
            name = _name_in(answer.headers.get("Content-Disposition") or "") or name
    except (URLError, OSError, ValueError) as error:
        wrapped = error.reason if type(error) is URLError else error
        reason = getattr(wrapped, "strerror", None) or wrapped
        raise BuildFailed(f"ADD failed: cannot fetch {url}: {reason}", node=node, word=url) from error
    if length is not None and int(length) != size:
        raise BuildFailed(f"ADD failed: {url} ended after {size} of {length} bytes", node=node, word=url)
    _check(url, checksum, f"sha256:{state.hexdigest()}", node)
    os.chmod(path, 0o600)
    os.utime(path, (modified, modified))
    target = f"{folder}/{name or 'download'}"
    os.rename(path, target)
    return target


def _check(url: str, wanted: str, found: str, node: Node) -> None:
    if wanted and wanted != found:
        raise BuildFailed(
            f"ADD failed: the checksum of {url} is {found}, not {wanted}", node=node, word=wanted,
            hint="the file has changed, or is not the one that was meant",
        )  # fmt: skip


def _moment(text: str) -> float:
    from email.utils import parsedate_to_datetime

    try:
        return parsedate_to_datetime(text).timestamp()
    except (ValueError, TypeError):
        return 0.0


def _name_in(disposition: str) -> str:
    _, found, name = disposition.partition("filename=")
    name = posixpath.basename(name.partition(";")[0].strip().strip('"'))
    return name if found and name not in (".", "..") else ""


def clone(text: str, folder: str, node: Node, *, keep_git: bool, checksum: str = "") -> tuple[str, str]:
    """Clone `repository#ref:subfolder` into `folder`; gives the commit and the folder to copy. Raises BuildFailed."""
    repository, _, fragment = text.partition("#")
    reference, _, below = fragment.partition(":")
    if reference.startswith("-") or repository.startswith("-"):
        raise BuildFailed(f"ADD failed: {text}: a reference cannot begin with '-'", node=node, word=text)
    where = f"{folder}/clone.{os.urandom(6).hex()}"
    os.mkdir(where, 0o755)
    _git(node, where, "init", "--quiet")
    _git(
        node,
        where,
        "fetch",
        "--quiet",
        "--depth=1",
        "--",
        repository,
        reference or "HEAD",
        also=(reference, repository),
    )
    _git(node, where, "-c", "advice.detachedHead=false", "checkout", "--quiet", "FETCH_HEAD")
    commit = _git(node, where, "rev-parse", "FETCH_HEAD").strip()
    if checksum and not commit.startswith(checksum):
        raise BuildFailed(f"ADD failed: {text} is at {commit}, not {checksum}", node=node, word=checksum)
    if not keep_git:
        from specrun.files import remove_tree

        remove_tree(f"{where}/.git")
    if below:
        with Fd(os.open(where, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)) as root:
            try:
                inside = Fd(open_in_root(root.number, "/" + below, os.O_PATH | os.O_DIRECTORY))
            except OSError as error:
                raise BuildFailed(f"ADD failed: {text} has no folder {below}", node=node, word=text) from error
            with inside:
                where = os.readlink(f"/proc/self/fd/{inside.number}")
    return commit, where


def _git(node: Node, where: str, *words: str, also: tuple[str, str] | None = None) -> str:
    environment = {
        "PATH": os.environ.get("PATH", "/usr/bin:/bin"), "HOME": "/nonexistent", "GIT_TERMINAL_PROMPT": "0",
        "GIT_CONFIG_NOSYSTEM": "1", "GIT_ALLOW_PROTOCOL": "http:https:git:ssh", "GIT_ASKPASS": "/bin/false",
    }  # fmt: skip
    if agent := os.environ.get("SSH_AUTH_SOCK"):
        environment["SSH_AUTH_SOCK"] = agent
    command = ["git", "-C", where, "-c", "core.hooksPath=/dev/null", "-c", "protocol.ext.allow=never", *words]
    try:
        done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=600)
    except FileNotFoundError as error:
        raise BuildFailed("ADD failed: git is not installed", node=node, hint="install git") from error
    if done.returncode and also and "--depth=1" in words:  # a server that cannot give a part gives all
        return _git(node, where, *(word for word in words if word != "--depth=1"))
    if done.returncode:
        raise BuildFailed(f"ADD failed: git {words[0]}: {done.stderr.strip()[-500:]}", node=node)
    return done.stdout


def archive_of(opened: int) -> Iterator[bytes] | None:
    """The plain tar archive that the open file holds, packed in one of the known ways; None when it holds none."""
    beginning = os.pread(opened, 512, 0)
    if beginning[:2] == b"\x1f\x8b" or beginning[:4] == b"\x28\xb5\x2f\xfd":
        from specrun.store.compression import decompress

        plain = decompress(_chunks(opened))
    elif beginning[:3] == b"BZh":
        plain = _bzip2(_chunks(opened))
    elif beginning[:6] == b"\xfd7zXZ\x00":
        plain = _xz(_chunks(opened))
    else:
        plain = _chunks(opened)
    first = b""
    try:
        while len(first) < 512 and (more := next(plain, b"")):
            first += more
    except Exception:  # what only looks packed is a file like any other
        return None
    return _joined(first, plain) if _is_header(first) else None


def _is_header(block: bytes) -> bool:
    if len(block) < 512:
        return False
    digits = block[148:156].strip(b" \0")
    if not digits or not set(digits) <= set(b"01234567"):
        return False
    return int(digits, 8) == sum(block[:148]) + 8 * 32 + sum(block[156:512])


def _joined(first: bytes, rest: Iterator[bytes]) -> Iterator[bytes]:
    yield first
    yield from rest


def _chunks(opened: int) -> Iterator[bytes]:
    position = 0
    while data := os.pread(opened, _CHUNK, position):
        position += len(data)
        yield data


def _bzip2(chunks: Iterable[bytes]) -> Iterator[bytes]:
    import bz2

    unpacker = bz2.BZ2Decompressor()
    for chunk in chunks:
        pending = chunk
        while pending or not unpacker.needs_input:
            if unpacker.eof:
                pending, unpacker = unpacker.unused_data + pending, bz2.BZ2Decompressor()
                if not pending:
                    break
            data = unpacker.decompress(pending, _CHUNK)
            pending = b""
            if data:
                yield data
            if unpacker.eof and not unpacker.unused_data:
                break


def _xz(chunks: Iterable[bytes]) -> Iterator[bytes]:
    import lzma

    unpacker = lzma.LZMADecompressor(memlimit=256 << 20)
    for chunk in chunks:
        pending = chunk
        while (pending or not unpacker.needs_input) and not unpacker.eof:
            data = unpacker.decompress(pending, _CHUNK)
            pending = b""
            if data:
                yield data
