"""Debian's packages as a source of files: apt finds and verifies them, we take out what an image needs.

apt knows the mirrors and the keys of this host and checks the signature of the index and the digest of each
package; nothing here names a host.
"""

from __future__ import annotations

import os
import subprocess
import time

from specrun.errors import HostUnfit, SpecrunError, Temporary
from specrun.oci.digest import sha256
from specrun.store.layers import unpack

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator


STALL = 60.0
"""Seconds in which a download has to come on, or a question to apt be answered."""
BOOTSTRAP = 1800.0
"""Seconds that mmdebstrap may take for a whole release; apt in it gives up a silent connection much earlier."""
ATTEMPTS = 3
_PATIENCE = ("Acquire::http::Timeout=20", "Acquire::https::Timeout=20", "Acquire::Retries=2")
"""apt's own limits: seconds of silence of a server, and how often a file is asked for again."""


class PackageNotFound(SpecrunError):
    """apt knows no such package."""

    code = "no-such-package"


class Stalled(Temporary):
    """A program that fetches packages came no further, and was ended."""

    code = "stalled"


class Package:
    """One version of a package, and where its file is kept."""

    __slots__ = ("digest", "file", "name", "version")

    def __init__(self, name: str, file: str, digest: str) -> None:
        self.name = name
        self.file = file
        self.digest = digest
        """sha256, hexadecimal; "" where apt names another kind."""
        self.version = os.path.basename(file).split("_")[1].replace("%3a", ":")


def suite() -> str:
    """The code name of this host's release, for example `bookworm`. Raises HostUnfit off Debian."""
    try:
        with open("/etc/os-release", encoding="utf-8") as file:
            fields = dict(line.rstrip("\n").split("=", 1) for line in file if "=" in line)
    except OSError as error:
        raise HostUnfit("this host has no /etc/os-release, so images can't be assembled from its packages") from error
    if "debian" not in (fields.get("ID"), *fields.get("ID_LIKE", "").strip('"').split()):
        raise HostUnfit(
            "images are assembled from Debian's packages, and this host is no Debian",
            hint="use a Debian host, or make the image elsewhere",
        )
    return fields.get("VERSION_CODENAME", "").strip('"')


def fetch(names: list[str], cache: str) -> list[Package]:
    """The candidate versions of `names`, in the folder `cache`; downloaded where they are not there yet.

    Raises PackageNotFound, and SpecrunError when apt fails.
    """
    os.makedirs(cache, mode=0o700, exist_ok=True)
    packages = _candidates(names, cache) if names else []
    missing = [package.name for package in packages if not _is_whole(package)]
    if missing:
        _download(missing, cache)
    for package in packages:
        if not _is_whole(package):
            raise SpecrunError(f"apt did not download {os.path.basename(package.file)}, or not as its index says")
    return packages


def _download(names: list[str], cache: str) -> None:
    """Have apt download the packages; tried again when it came no further."""
    for attempt in range(1, ATTEMPTS + 1):
        try:
            _apt(["download", *names], cache, growing=cache)
            return
        except Stalled as error:
            if attempt == ATTEMPTS:
                raise
            time.sleep(error.after)


def dependencies(*names: str) -> list[str]:
    """The packages that `names` depend on directly, the first alternative of each."""
    text = _run(
        ["apt-cache", "depends", "--no-recommends", "--no-suggests", "--no-conflicts", "--no-breaks",
         "--no-replaces", "--no-enhances", *names]
    )  # fmt: skip
    found = []
    alternative = False
    for line in text.splitlines():
        word, _, target = line.strip().partition(": ")
        if word.lstrip("|") in ("Depends", "PreDepends") and not alternative and not target.startswith("<"):
            found.append(target)
        alternative = word.startswith("|")
    return list(dict.fromkeys(found))


def release_time() -> int:
    """When the newest index that apt has on this host was made (seconds since 1970): equal for equal packages.

    Raises SpecrunError where apt has none.
    """
    folder = "/var/lib/apt/lists"
    found = []
    for name in os.listdir(folder):
        if not name.endswith("Release"):
            continue
        with open(f"{folder}/{name}", encoding="utf-8", errors="replace") as file:
            dates = [line.partition(": ")[2] for line in file if line.startswith("Date: ")]
        found += [_seconds(date) for date in dates[:1]]
    if not found:
        raise SpecrunError("apt has no package lists on this host", hint="`apt-get update` fetches them")
    return max(found)


def _seconds(date: str) -> int:
    from email.utils import parsedate_to_datetime

    return int(parsedate_to_datetime(date.strip().replace("UTC", "GMT")).timestamp())


def bootstrap(suite: str, target: str, epoch: int) -> None:
    """Install the smallest release that apt works in into the empty folder `target`, by mmdebstrap.

    The scripts of the packages are run in it. `epoch` (seconds) is the latest time that a file may have. Raises
    HostUnfit where mmdebstrap is not installed, and SpecrunError when it fails.
    """
    excluded = [f"--dpkgopt=path-exclude=/usr/share/{name}/*" for name in ("doc", "man", "info", "groff", "lintian")]
    excluded += ["--dpkgopt=path-exclude=/usr/share/locale/*", "--dpkgopt=path-include=/usr/share/doc/*/copyright"]
    hooks = "/usr/share/mmdebstrap/hooks/merged-usr"
    merged = [f"--hook-dir={hooks}", "--include=usr-is-merged"] if suite == "bookworm" else []
    patience = [f'--aptopt={name} "{value}"' for name, _, value in (text.partition("=") for text in _PATIENCE)]
    command = [
        "mmdebstrap", "--quiet", "--mode=root", "--format=directory", "--variant=minbase", *patience, *excluded,
        *merged, suite, target, *_sources(suite),
    ]  # fmt: skip
    hint = "`apt-get install mmdebstrap` may be what is missing"
    _run(command, more={"SOURCE_DATE_EPOCH": str(epoch)}, limit=BOOTSTRAP, hint=hint)


def _sources(suite: str) -> list[str]:
    """A line of sources.list for each place where this host's apt finds packages of the release."""
    text = _run(["apt-get", "indextargets", "--format", "$(REPO_URI) $(RELEASE) $(COMPONENT)", "Created-By: Packages"])
    wanted = (suite, f"{suite}-updates", f"{suite}-security")
    lines = []
    for line in dict.fromkeys(text.splitlines()):
        uri, release, component = (line.split() + ["", "", ""])[:3]
        if release in wanted and component == "main":
            lines.append(f"deb {uri.rstrip('/')} {release} main")
    if not lines:
        raise SpecrunError(f"this host's apt has no source of {suite}", hint="look at /etc/apt/sources.list")
    return lines


def extract(package: Package, target: str) -> None:
    """Unpack the package's files into the folder `target`; none of its scripts is run."""
    process = subprocess.Popen(["dpkg-deb", "--fsys-tarfile", package.file], stdout=subprocess.PIPE)
    if process.stdout is None:  # a pipe was asked for
        raise SpecrunError("dpkg-deb has no output")
    stream = process.stdout

    def chunks() -> Iterator[bytes]:
        while chunk := stream.read(1 << 20):
            yield chunk

    try:
        unpack(chunks(), target)
    finally:
        stream.close()
        status = process.wait()
    if status:
        raise SpecrunError(f"dpkg-deb could not read {package.file} (status {status})")


def _candidates(names: list[str], cache: str) -> list[Package]:
    try:
        output = _apt(["download", "--print-uris", *names], "/")  # prints nothing where the file is there already
    except SpecrunError as error:
        for marker in ("Unable to locate package ", "No packages found"):
            if marker in error.message:
                name = error.message.partition(marker)[2] or " ".join(names)
                raise PackageNotFound(
                    f"apt knows no package {name!r}",
                    hint="check the name, and run `apt-get update` if the lists are old",
                ) from error
        raise
    found: dict[str, Package] = {}
    for line in output.splitlines():
        words = line.split()
        if len(words) >= 3 and words[0].startswith("'"):
            digest = words[3].removeprefix("SHA256:") if len(words) > 3 and words[3].startswith("SHA256:") else ""
            name = words[1].split("_")[0]
            found[name] = Package(name, f"{cache}/{os.path.basename(words[1])}", digest)
    for name in names:
        if name not in found:
            raise PackageNotFound(f"apt has no file for package {name!r}", hint="has this host a source for it?")
    return [found[name] for name in dict.fromkeys(names)]


def _is_whole(package: Package) -> bool:
    try:
        with open(package.file, "rb") as file:
            return not package.digest or sha256(file.read()).hexdigest() == package.digest
    except FileNotFoundError:
        return False


def _apt(arguments: list[str], folder: str, growing: str = "") -> str:
    # As root, apt would download as the user _apt, who may not write to a folder of ours.
    options = [word for option in ("APT::Sandbox::User=root", *_PATIENCE) for word in ("-o", option)]
    return _run(["apt-get", "-q", *options, *arguments], folder, growing=growing)


def _run(
    command: list[str], folder: str | None = None, *, more: dict[str, str] | None = None, hint: str = "",
    limit: float = 0.0, growing: str = "",
) -> str:  # fmt: skip
    """What a program prints. It is ended after `limit` seconds (STALL by default) in which `growing` has not grown.

    Raises HostUnfit where it is not installed, Stalled, and SpecrunError when it fails.
    """
    environment = {**os.environ, "LC_ALL": "C.UTF-8", **(more or {})}
    try:
        process = subprocess.Popen(
            command, cwd=folder, text=True, env=environment, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )  # fmt: skip
    except FileNotFoundError as error:
        hint = hint or "images are assembled on a Debian host"
        raise HostUnfit(f"{command[0]} is not installed", hint=hint) from error
    with process:
        try:
            output, errors = _await(process, command[0], limit or STALL, growing)
        except BaseException:
            _end(process)
            raise
    if process.returncode:
        lines = errors.strip().splitlines() or [f"status {process.returncode}"]
        raise SpecrunError(f"{command[0]} failed: {lines[-1]}", hint="`apt-get update` may help")
    return output


def _await(process: subprocess.Popen[str], name: str, limit: float, growing: str) -> tuple[str, str]:
    size = _size(growing)
    while True:
        try:
            return process.communicate(timeout=limit)
        except subprocess.TimeoutExpired as error:
            before, size = size, _size(growing)
            if size > before:
                continue
            raise Stalled(
                f"{name} came no further for {limit:g} seconds and was ended",
                hint="is there a network, and does another program hold apt's locks?",
            ) from error


def _end(process: subprocess.Popen[str]) -> None:
    """Let it clean up after itself; one that does not is killed."""
    process.terminate()
    try:
        process.communicate(timeout=10)
    except subprocess.TimeoutExpired:
        process.kill()
        for stream in (process.stdout, process.stderr):
            if stream:
                stream.close()  # a process that it has started may hold the other end


def _size(folder: str) -> int:
    """The bytes of the files in a folder; 0 for none."""
    total = 0
    for entry in os.scandir(folder) if folder else ():
        try:
            total += entry.stat(follow_symlinks=False).st_size
        except FileNotFoundError:
            continue  # it has just got its final name
    return total
