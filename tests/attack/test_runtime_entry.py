"""Entering a running container, from one that tries to get hold of what enters (security of `exec`)."""

from __future__ import annotations

import hashlib
import os
import sys
from pathlib import Path

import pytest

from specrun_runtime import launch
from specrun_runtime.launch import base_interpreter
from tests.support.oci import PYTHON, Runtime, until

pytestmark = pytest.mark.skipif(os.getuid() != 0, reason="needs root")

OURS = f"/{os.path.basename(base_interpreter())}"
"""What /proc/<pid>/exe of a process of ours is in a container: the sealed file, on a mount that is attached nowhere."""

SPY = (
    f"""
OURS = {OURS!r}
"""
    + """
import os, time
open('/tmp/ready', 'w').close()
mine = str(os.getpid())
seen = open('/tmp/seen', 'a', buffering=1)
while True:
    for pid in os.listdir('/proc'):
        if not pid.isdigit() or pid == mine:
            continue
        for name in ('exe', 'root', 'cwd'):
            try:
                target = os.readlink(f'/proc/{pid}/{name}')
            except OSError:
                continue
            try:
                program = os.readlink(f'/proc/{pid}/exe')
            except OSError:
                program = ''
            if OURS in (target, program):
                seen.write(f'{name} {target}\\n')
        try:
            for fd in os.listdir(f'/proc/{pid}/fd'):
                target = os.readlink(f'/proc/{pid}/fd/{fd}')
                if target.startswith('/') and os.readlink(f'/proc/{pid}/exe') == OURS:
                    there = os.stat(f'/proc/{pid}/fd/{fd}')
                    try:
                        mine_too = os.path.samestat(there, os.stat(target))
                    except OSError:
                        mine_too = False
                    if not mine_too:
                        seen.write(f'fd {target}\\n')
        except OSError:
            pass
        try:
            file = os.open(f'/proc/{pid}/exe', os.O_RDONLY)
            try:
                os.close(os.open(f'/proc/self/fd/{file}', os.O_WRONLY))
                seen.write(f'written {pid}\\n')
            except OSError:
                pass
            os.close(file)
        except OSError:
            pass
"""
)


def digests() -> list[str]:
    """Of what the host's Python is made of."""
    paths = {base_interpreter(), os.path.realpath(sys.executable), "/usr/bin/python3.11"}
    return [hashlib.sha256(Path(path).read_bytes()).hexdigest() for path in sorted(paths) if os.path.exists(path)]


@pytest.mark.parametrize("tracer", [False, True], ids=["as it is", "with CAP_SYS_PTRACE"])
def test_what_enters_cannot_be_looked_at_or_written_to(runtime: Runtime, tracer: bool) -> None:
    """CVE-2016-9962, CVE-2020-14300. Bites when `joining` and `errands` leave PR_SET_DUMPABLE as it is."""
    before = digests()
    bundle = runtime.bundle()
    if tracer:
        sets = bundle.process["capabilities"]
        for kind in sets:
            sets[kind] = [*sets[kind], "CAP_SYS_PTRACE"]
    runtime.start(bundle, "c", PYTHON, "-ISc", SPY)
    until(lambda: (bundle.rootfs / "tmp/ready").exists())
    for _ in range(12):
        runtime.ok("exec", "c", "true")
    seen = set((bundle.rootfs / "tmp/seen").read_text().splitlines())
    if tracer:
        # It may look, but there is nothing of the host to be seen: the sealed copy, the container's own root, and the
        # streams, which here are two deleted files and the null device.
        seen = {line for line in seen if not line.startswith(("fd /dev/null", "fd /tmp/#"))}
        seen -= {f"exe {OURS}", "root /", "cwd /"}
    assert seen == set()
    assert digests() == before


UNSEAL = """
import ctypes, os
libc = ctypes.CDLL(None, use_errno=True)
libc.syscall.restype = ctypes.c_long

def ask(*arguments):
    if libc.syscall(*[ctypes.c_long(a) if isinstance(a, int) else a for a in arguments]) < 0:
        return os.strerror(ctypes.get_errno())
    return 'done'

print(os.readlink('/proc/self/exe'))
exe = os.open('/proc/self/exe', os.O_PATH)
writable = ctypes.create_string_buffer((0).to_bytes(8, 'little') + (1).to_bytes(8, 'little') + bytes(16), 32)
path = f'/proc/self/fd/{exe}'.encode()
ask(442, exe, b'', 0x1000, writable, 32)  # mount_setattr: not read-only
ask(165, b'', path, b'', 32 | 4096, 0)  # mount: remount the bind writable
ask(165, b'', path, b'', 32, 0)  # mount: remount the file system writable
context = libc.syscall(433, exe, b'', 0x11)  # fspick
if context >= 0:
    ask(431, context, 0, b'rw', 0, 0)
    ask(431, context, 7, 0, 0, 0)
copy = libc.syscall(428, exe, b'', 0x1001)  # open_tree of a copy
if copy >= 0:
    ask(442, copy, b'', 0x1000, writable, 32)
for name in ('/proc/self/exe', *[f'/proc/self/fd/{number}' for number in (exe, copy) if number >= 0]):
    # Nothing here would do harm if it succeeded.
    for change, value in ((os.open, os.O_RDWR), (os.truncate, os.stat(name).st_size), (os.chmod, 0o755)):
        try:
            change(name, value)
            print('CHANGED', name, change.__name__)
        except OSError as error:
            print(error.strerror)
"""


@pytest.mark.parametrize("way", ["script", "exec"])
@pytest.mark.parametrize("mighty", [False, True], ids=["as it is", "with CAP_SYS_ADMIN"])
def test_a_shell_that_is_the_runtime_itself(runtime: Runtime, way: str, mighty: bool) -> None:
    """Whoever executes /proc/self/exe gets the sealed file, which takes no write, whatever its rights (CVE-2019-5736).

    Bites when `sealed_interpreter` gives the interpreter's own file, or a copy without its seals.
    """
    before = digests()
    bundle = runtime.bundle()
    if mighty:
        for sets in bundle.process["capabilities"].values():
            sets += ["CAP_SYS_ADMIN", "CAP_SYS_PTRACE", "CAP_DAC_READ_SEARCH", "CAP_DAC_OVERRIDE"]
    runtime.start(bundle, "c", "sleep", "1000")
    script = bundle.rootfs / "tmp/sh"
    script.write_text(f"#!/proc/self/exe\n{UNSEAL}")
    script.chmod(0o755)
    command = ["/tmp/sh"] if way == "script" else ["/proc/self/exe", "/tmp/sh"]
    done = runtime.call("exec", "c", *command)
    said = done.stdout.decode().splitlines()
    assert said[0] == OURS, "it is the sealed file that runs, or this test looks at nothing"
    assert len(said) >= 7
    assert set(said[1:]) <= {"Read-only file system", "Operation not permitted", "Text file busy"}
    assert digests() == before


def test_the_copy_in_memory_is_sealed_too() -> None:
    """What there is where no overlay can be made. Bites without F_ADD_SEALS."""
    copy = launch._copied_to_memory()
    try:
        assert os.pread(copy, 4, 0) == b"\x7fELF"
        size = os.fstat(copy).st_size
        for change in (lambda: os.pwrite(copy, b"x", 0), lambda: os.truncate(copy, size - 1)):
            with pytest.raises(PermissionError):
                change()
    finally:
        os.close(copy)


@pytest.mark.parametrize("number", range(3, 13))
def test_no_descriptor_leads_outside(runtime: Runtime, number: int) -> None:
    bundle = runtime.bundle()
    folder = os.open("/", os.O_RDONLY)
    try:
        bundle.process["cwd"] = f"/proc/self/fd/{number}"
        bundle.process["args"] = ["ls", "home"]
        text = runtime.fails(bundle)
        assert "chdir to cwd" in text or "working directory" in text
        if number in (3, 7, 12):
            bundle.process["cwd"] = "/"
            runtime.start(bundle, "c", "sleep", "1000")
            text = runtime.refused("exec", "--cwd", f"/proc/self/fd/{number}", "c", "ls", "home")
            assert "chdir to cwd" in text or "working directory" in text
    finally:
        os.close(folder)
