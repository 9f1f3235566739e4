"""Debian's packages as a source of files: apt finds and verifies them, we take out what an image needs.

apt knows the mirrors and the keys of this host and checks the signature of the index and the digest of each
package; nothing here names a host.
"""

from __future__ import annotations

import os
import subprocess

from specrun.errors import HostUnfit, SpecrunError
from specrun.oci.digest import sha256
from specrun.store.layers import unpack

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator


class PackageNotFound(SpecrunError):
    """apt knows no such package."""

    code = "no-such-package"


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
        _apt(["download", *missing], cache)
    for package in packages:
        if not _is_whole(package):
            raise SpecrunError(f"apt did not download {os.path.basename(package.file)}, or not as its index says")
    return packages


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
    command = [
        "mmdebstrap", "--quiet", "--mode=root", "--format=directory", "--variant=minbase", *excluded, *merged,
        suite, target, *_sources(suite),
    ]  # fmt: skip
    _run(command, more={"SOURCE_DATE_EPOCH": str(epoch)}, hint="`apt-get install mmdebstrap` may be what is missing")


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


def _apt(arguments: list[str], folder: str) -> str:
    # As root, apt would download as the user _apt, who may not write to a folder of ours.
    return _run(["apt-get", "-q", "-o", "APT::Sandbox::User=root", *arguments], folder)


def _run(command: list[str], folder: str | None = None, *, more: dict[str, str] | None = None, hint: str = "") -> str:
    environment = {**os.environ, "LC_ALL": "C.UTF-8", **(more or {})}
    try:
        done = subprocess.run(command, cwd=folder, capture_output=True, text=True, env=environment, check=False)
    except FileNotFoundError as error:
        hint = hint or "images are assembled on a Debian host"
        raise HostUnfit(f"{command[0]} is not installed", hint=hint) from error
    if done.returncode:
        lines = done.stderr.strip().splitlines() or [f"status {done.returncode}"]
        raise SpecrunError(f"{command[0]} failed: {lines[-1]}", hint="`apt-get update` may help")
    return done.stdout
