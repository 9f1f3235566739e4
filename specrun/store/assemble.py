"""Images made on this machine from signed packages, where no hub can be reached."""

from __future__ import annotations

import json
import os
import shutil
import stat
import subprocess
import tempfile
import time

from specrun.errors import SpecrunError
from specrun.oci import digest as digests
from specrun.oci.digest import sha256
from specrun.oci.reference import Reference
from specrun.store import debian, elf
from specrun.store.compression import compress
from specrun.store.images import LAYER_GZIP, Image, ImageStore
from specrun.store.packing import Packer

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import Any

    from specrun.paths import Root

PATH = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
_LEFT_OUT = ("usr/share/man", "usr/share/info", "usr/share/lintian", "usr/share/locale", "usr/share/initramfs-tools")
_ETC = {
    "passwd": "root:x:0:0:root:/root:/bin/sh\ndaemon:x:1:1:daemon:/usr/sbin:/bin/false\n"
    "bin:x:2:2:bin:/bin:/bin/false\nsys:x:3:3:sys:/dev:/bin/false\nwww-data:x:33:33:www-data:/var/www:/bin/false\n"
    "nobody:x:65534:65534:nobody:/home:/bin/false\n",
    "group": "root:x:0:\ndaemon:x:1:\nbin:x:2:\nsys:x:3:\ntty:x:5:\nwww-data:x:33:\nusers:x:100:\nnogroup:x:65534:\n",
    "shadow": "root:*:::::::\ndaemon:*:::::::\nbin:*:::::::\nsys:*:::::::\nwww-data:*:::::::\nnobody:*:::::::\n",
    "nsswitch.conf": "passwd: files\ngroup: files\nshadow: files\nhosts: files dns\n",
}


def fingerprint(packages: list[str], suite: str, config: dict[str, Any]) -> str:
    """What an assembled image answers to: equal requests have equal fingerprints."""
    request = {"packages": sorted(packages), "suite": suite, "config": config, "recipe": 1}
    return digests.of(json.dumps(request, sort_keys=True).encode())


def assemble_image(
    root: Root, packages: list[str], *, tags: list[str], suite: str = "", config: dict[str, Any] | None = None
) -> Image:
    """Assemble an image from the host's packages and let `tags` stand for it.

    `config` is the `config` object of the OCI image configuration. The image holds the files of `packages` and
    of their dependencies only the shared libraries that are needed. The same package versions give the same
    digests. Raises SpecrunError.
    """
    references = [Reference.parse(tag) for tag in tags]
    here = debian.suite()
    if suite and suite != here:
        raise SpecrunError(f"packages of {suite} were asked for, and this host's apt is for {here}")
    store = ImageStore(root)
    with store.adding(), tempfile.TemporaryDirectory(prefix="assemble-", dir=root.path) as work:
        tree = f"{work}/tree"
        used, newest = _fill(tree, packages, f"{root.path}/cache/debs", work)
        settings = {"Cmd": ["sh"], "Env": [PATH], **(config or {})}
        state, size = sha256(), 0

        def archive() -> Iterator[bytes]:
            nonlocal size
            for part in Packer(tree, time=newest, owned_by_root=True):
                state.update(part)
                size += len(part)
                yield part

        digest, length = store.blobs.put_stream(compress(archive()))
        created = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(newest))
        origin = " ".join(f"{package.name}={package.version}" for package in used)
        document = {
            "created": created,
            "architecture": _ARCHITECTURES.get(os.uname().machine, os.uname().machine),
            "os": "linux",
            "config": settings,
            "rootfs": {"type": "layers", "diff_ids": [f"sha256:{state.hexdigest()}"]},
            "history": [{"created": created, "created_by": f"specrun image assemble {origin}"}],
        }
        content = _content_size(tree)
        mark = fingerprint(packages, suite, config or {})
        return store.add([(digest, length, LAYER_GZIP)], document, references, size=content, assembled=mark)


_ARCHITECTURES = {"x86_64": "amd64", "aarch64": "arm64"}


def _fill(tree: str, names: list[str], cache: str, work: str) -> tuple[list[debian.Package], int]:
    """Lay out the root file system; gives the packages used and the time of their newest file (seconds)."""
    os.mkdir(tree, 0o755)
    packages = debian.fetch(names, cache)
    for package in packages:
        debian.extract(package, tree)
    newest = max((int(os.lstat(path).st_mtime) for path in _files(tree)), default=0)
    _prune(tree)
    used = [*packages, *_add_libraries(tree, names, cache, work)]
    _add_skeleton(tree)
    if os.path.exists(f"{tree}/bin/busybox"):
        _add_applets(tree)
    return used, newest


def _prune(tree: str) -> None:
    for path in _LEFT_OUT:
        shutil.rmtree(f"{tree}/{path}", ignore_errors=True)
    documents = f"{tree}/usr/share/doc"
    for folder in os.listdir(documents) if os.path.isdir(documents) else []:
        for name in os.listdir(f"{documents}/{folder}"):
            path = f"{documents}/{folder}/{name}"
            if name != "copyright" and os.path.isfile(path):
                os.unlink(path)


def _add_libraries(tree: str, names: list[str], cache: str, work: str) -> list[debian.Package]:
    """Copy the shared libraries that the tree's programs need, from the packages that they depend on."""
    used: list[debian.Package] = []
    queue = list(names)
    asked = set(names)
    missing = _missing(tree)
    while missing and queue:
        for name in debian.dependencies(queue.pop(0)):
            if name in asked or not missing:
                continue
            asked.add(name)
            queue.append(name)
            package = debian.fetch([name], cache)[0]
            folder = f"{work}/{len(asked)}"
            os.mkdir(folder)
            debian.extract(package, folder)
            taken = [wanted for wanted in missing if _take(folder, tree, wanted)]
            if taken:
                used.append(package)
            missing = _missing(tree)
    if missing:
        raise SpecrunError(f"no dependency of {', '.join(names)} has {', '.join(sorted(missing))}")
    return used


def _missing(tree: str) -> set[str]:
    """The interpreters (as paths) and libraries (as names) that are needed and not there."""
    present = {os.path.basename(path) for path in _files(tree)}
    wanted: set[str] = set()
    for path in _files(tree):
        if not os.path.islink(path) and os.path.isfile(path):
            interpreter, libraries = elf.needs(path)
            wanted.update(libraries)
            if interpreter and not os.path.lexists(tree + interpreter):
                wanted.add(interpreter)
    return {name for name in wanted if name.startswith("/") or name not in present}


def _take(folder: str, tree: str, wanted: str) -> bool:
    """Copy one library, or an interpreter, with the file that a link of that name points to."""
    base = os.path.basename(wanted)
    found = [path for path in _files(folder) if os.path.basename(path) == base]
    for path in found:
        relative = os.path.relpath(path, folder)
        target = f"{tree}/{relative}"
        os.makedirs(os.path.dirname(target), exist_ok=True)
        if os.path.lexists(target):
            continue
        shutil.copy2(path, target, follow_symlinks=False)
        if os.path.islink(path):
            _take(folder, tree, os.path.basename(os.readlink(path)))
    return bool(found)


def _add_skeleton(tree: str) -> None:
    for folder, mode in (
        ("dev", 0o755), ("etc", 0o755), ("home", 0o755), ("proc", 0o555), ("root", 0o700), ("sys", 0o555),
        ("tmp", 0o1777), ("usr/bin", 0o755), ("usr/sbin", 0o755), ("var/tmp", 0o1777), ("var/www", 0o755),
    ):  # fmt: skip
        os.makedirs(f"{tree}/{folder}", exist_ok=True)
        os.chmod(f"{tree}/{folder}", mode)
    for name, text in _ETC.items():
        path = f"{tree}/etc/{name}"
        if not os.path.lexists(path):
            with open(path, "w", encoding="ascii") as file:
                file.write(text)
            os.chmod(path, 0o640 if name == "shadow" else 0o644)


def _add_applets(tree: str) -> None:
    """A link for each command that the busybox has, as its own image has them."""
    # The host runs the program: it is the one that apt has verified, with this host's C library.
    listing = subprocess.run([f"{tree}/bin/busybox", "--list"], capture_output=True, text=True, check=True)
    for applet in listing.stdout.split():
        if not os.path.lexists(f"{tree}/bin/{applet}"):
            os.symlink("busybox", f"{tree}/bin/{applet}")
    if not os.path.lexists(f"{tree}/usr/bin/env"):
        os.symlink("../../bin/env", f"{tree}/usr/bin/env")


def _files(tree: str) -> list[str]:
    return sorted(os.path.join(folder, name) for folder, _, names in os.walk(tree) for name in names)


def _content_size(tree: str) -> int:
    """The bytes of all regular files, which is what Docker calls an image's size."""
    sizes = (os.lstat(path) for path in _files(tree))
    return sum(info.st_size for info in sizes if stat.S_ISREG(info.st_mode))
