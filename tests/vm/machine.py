"""`./dev test-vm`: boots Debian's cloud kernel under qemu, with control groups of version 2, and runs `checks` there.

Everything in the machine is an archive in memory: this host's Python and busybox, and this checkout. Its processor is
emulated, so that neither hardware nor rights are needed.
"""

from __future__ import annotations

import os
import shutil
import stat
import subprocess
import sys
import time
from pathlib import Path

CHECKOUT = Path(__file__).parents[2]
CACHE = CHECKOUT / ".venv" / "vm"
PACKAGE = "linux-image-cloud-amd64"
PYTHON = Path("/usr/bin/python3.11")
LIBRARY = Path("/usr/lib/python3.11")
LEFT_OUT = {"test", "idlelib", "lib2to3", "tkinter", "ensurepip", "unittest", "pydoc_data", "distutils", "asyncio"}
PROGRAMS = ("busybox", "sleep", "sh", "true", "cat", "ls", "mkdir", "ps", "unshare")
MODULES = ("overlay.ko", "llc.ko", "stp.ko", "mrp.ko", "garp.ko", "8021q.ko", "macvlan.ko", "dummy.ko")
"""Modules of the kernel that it is given, each after those that it needs."""
SECONDS = 240
INIT = """#!/usr/bin/python3.11 -IS
import sys
sys.path[:0] = ["/checkout", "/checkout/runtime"]
from tests.vm import checks
checks.main()
"""
RUNTIME = """#!/usr/bin/python3.11 -IS
import sys
sys.path.append("/checkout/runtime")
from specrun_runtime.cli import main
sys.exit(main())
"""


class Skipped(Exception):
    """It cannot be done here; the message says why."""


def main() -> int:
    """Boot, show the machine's report, and give the exit status."""
    try:
        image, archive = kernel(), CACHE / "initramfs"
        pack(archive)
        return boot(image, archive)
    except Skipped as reason:
        print(f"test-vm: skipped: {reason}")
        return 0


def kernel() -> Path:
    """Debian's kernel for virtual machines, taken out of its package once."""
    if not shutil.which("qemu-system-x86_64"):
        raise Skipped("qemu-system-x86_64 is not installed, and cannot be (package qemu-system-x86)")
    if not PYTHON.exists() or os.uname().machine != "x86_64":
        raise Skipped("the machine is made of Debian 12's files for amd64, which this host has not")
    CACHE.mkdir(exist_ok=True)
    found = sorted(CACHE.glob("boot/vmlinuz-*"))
    if not found or not all((CACHE / name).exists() for name in MODULES):
        shown = subprocess.run(["apt-cache", "depends", PACKAGE], capture_output=True, text=True, check=False).stdout
        names = [line.split()[-1] for line in shown.splitlines() if "Depends: linux-image" in line]
        fetch = ["apt-get", "-o", "APT::Sandbox::User=root", "-qq", "download", *names]
        if not names or subprocess.run(fetch, cwd=CACHE, check=False).returncode:
            raise Skipped(f"the package {PACKAGE} cannot be downloaded")
        for package in CACHE.glob("*.deb"):
            subprocess.run(["dpkg-deb", "-x", str(package), str(CACHE)], check=True)
            package.unlink()
        for name in MODULES:
            for module in CACHE.glob(f"lib/modules/*/kernel/**/{name}"):
                module.rename(CACHE / name)
        shutil.rmtree(CACHE / "lib", ignore_errors=True)
        shutil.rmtree(CACHE / "usr", ignore_errors=True)
        found = sorted(CACHE.glob("boot/vmlinuz-*"))
    return found[-1]


def pack(path: Path) -> None:
    """The archive that the kernel unpacks as its first root (cpio, Documentation/driver-api/early-userspace)."""
    files: dict[str, Path | bytes] = {"init": INIT.encode(), "usr/bin/specrun-runtime": RUNTIME.encode()}
    files.update({name: CACHE / name for name in MODULES})
    binaries = [PYTHON, *(LIBRARY / "lib-dynload").glob("*.so")]
    binaries += [Path(os.path.realpath(found)) for name in PROGRAMS if (found := shutil.which(name))]
    for binary in binaries:
        files[str(binary)[1:]] = binary
        files.update({str(library)[1:]: Path(os.path.realpath(library)) for library in libraries(binary)})
    files.update(
        {f"usr/bin/{name}": Path(os.path.realpath(found)) for name in PROGRAMS if (found := shutil.which(name))}
    )
    for library in Path("/usr/lib/x86_64-linux-gnu").glob("libseccomp.so.2*"):
        files[str(library)[1:]] = library.resolve()
    files["usr/bin/python3"] = PYTHON
    for source in LIBRARY.rglob("*.py"):
        if not LEFT_OUT & set(source.relative_to(LIBRARY).parts):
            files[str(source)[1:]] = source
    for folder in ("runtime", "specrun", "tests/support", "tests/vm", "tests/__init__.py"):
        top = CHECKOUT / folder
        for source in [top] if top.is_file() else [*top.rglob("*.py"), *top.rglob("*.json")]:
            files[f"checkout/{source.relative_to(CHECKOUT)}"] = source
    links = {"bin": "usr/bin", "sbin": "usr/sbin", "lib": "usr/lib", "lib64": "usr/lib64"}
    with open(path, "wb") as archive:
        made: set[str] = set()
        for name in ("dev", "proc", "sys", "tmp", "run", "real", "usr/sbin", "usr/lib64"):
            _folders(archive, f"{name}/x", made)
        for name, target in links.items():
            archive.write(_entry(name, stat.S_IFLNK | 0o777, target.encode()))
        for name, source in sorted(files.items()):
            for old, new in links.items():
                name = name if not name.startswith(f"{old}/") else f"{new}{name[len(old) :]}"
            if name in made:
                continue
            made.add(name)
            _folders(archive, name, made)
            content = source if isinstance(source, bytes) else source.read_bytes()
            archive.write(_entry(name, stat.S_IFREG | 0o755, content))
        archive.write(_entry("TRAILER!!!", 0, b""))


def libraries(binary: Path) -> list[Path]:
    """The shared libraries that a program needs."""
    shown = subprocess.run(["ldd", str(binary)], capture_output=True, text=True, check=False).stdout
    return [Path(word) for line in shown.splitlines() for word in line.split() if word.startswith("/")]


def _folders(archive: object, name: str, made: set[str]) -> None:
    parts = name.split("/")[:-1]
    for index in range(len(parts)):
        folder = "/".join(parts[: index + 1])
        if folder not in made:
            made.add(folder)
            archive.write(_entry(folder, stat.S_IFDIR | 0o755, b""))  # type: ignore[attr-defined]


_number = 0


def _entry(name: str, mode: int, content: bytes) -> bytes:
    global _number
    _number += 1
    encoded = name.encode() + b"\0"
    fields = (_number, mode, 0, 0, 1, 0, len(content), 0, 0, 0, 0, len(encoded), 0)
    head = b"070701" + b"".join(b"%08X" % field for field in fields) + encoded
    return head + b"\0" * (-len(head) % 4) + content + b"\0" * (-len(content) % 4)


def boot(image: Path, archive: Path) -> int:
    """Run the machine to its end and pass its report on; 0 when every check is ok."""
    disk = CACHE / "disk"
    with open(disk, "wb") as file:
        file.truncate(64 << 20)
    command = [
        "qemu-system-x86_64", "-accel", "tcg", "-cpu", "max", "-m", "1024", "-smp", "2", "-nographic", "-no-reboot",
        "-nic", "none", "-kernel", str(image), "-initrd", str(archive),
        "-append", "console=ttyS0 quiet panic=-1 loglevel=3 cgroup_no_v1=all random.trust_cpu=on mitigations=off",
        "-drive", f"file={disk},if=none,id=disk,format=raw", "-device", "nvme,serial=specrun,drive=disk",
    ]  # fmt: skip
    began = time.monotonic()
    machine = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE)
    good, bad, ended = 0, 0, False
    try:
        assert machine.stdout
        for raw in machine.stdout:
            line = raw.decode("utf-8", "replace").rstrip()
            good += line.startswith("ok ")
            bad += line.startswith("not ok ")
            ended = ended or line == "done"
            print(line, flush=True)
            if time.monotonic() - began > SECONDS:
                break
    finally:
        machine.kill()
        machine.wait()
        if machine.stdout:
            machine.stdout.close()
        disk.unlink()
    print(f"test-vm: {good} ok, {bad} not ok, in {time.monotonic() - began:.0f} s")
    return 0 if ended and good and not bad else 1


if __name__ == "__main__":
    sys.exit(main())
