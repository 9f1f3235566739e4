"""Entering a running container, from one that tries to get hold of what enters (security of `exec`)."""

from __future__ import annotations

import hashlib
import os
import sys
from pathlib import Path

import pytest

from specrun_runtime.launch import base_interpreter
from tests.support.oci import PYTHON, Runtime, until

pytestmark = pytest.mark.skipif(os.getuid() != 0, reason="needs root")

SPY = """
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
            if 'memfd' in target or 'memfd' in program:
                seen.write(f'{name} {target}\\n')
        try:
            for fd in os.listdir(f'/proc/{pid}/fd'):
                target = os.readlink(f'/proc/{pid}/fd/{fd}')
                if target.startswith('/') and 'memfd' in os.readlink(f'/proc/{pid}/exe'):
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


def digests() -> list[str]:
    """Of what the host's Python is made of."""
    paths = {base_interpreter(), os.path.realpath(sys.executable), "/usr/bin/python3.11"}
    return [hashlib.sha256(Path(path).read_bytes()).hexdigest() for path in sorted(paths) if os.path.exists(path)]


@pytest.mark.parametrize("tracer", [False, True], ids=["as it is", "with CAP_SYS_PTRACE"])
def test_what_enters_cannot_be_looked_at_or_written_to(runtime: Runtime, tracer: bool) -> None:
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
        seen = {line for line in seen if not line.startswith(("exe /memfd:", "fd /dev/null", "fd /tmp/#"))}
        seen -= {"root /", "cwd /"}
    assert seen == set()
    assert digests() == before


def test_a_shell_that_is_the_runtime_itself(runtime: Runtime) -> None:
    """Whoever executes /proc/self/exe gets the sealed copy, which takes no write."""
    before = digests()
    bundle = runtime.bundle()
    runtime.start(bundle, "c", "sleep", "1000")
    script = bundle.rootfs / "tmp/sh"
    script.write_text(
        "#!/proc/self/exe\nimport os\nprint(os.readlink('/proc/self/exe'))\nopen('/proc/self/exe', 'r+b')\n"
    )
    script.chmod(0o755)
    done = runtime.call("exec", "c", "/tmp/sh")
    assert done.stdout.startswith(b"/memfd:"), "it is the copy that runs, or this test looks at nothing"
    assert done.returncode != 0
    assert b"busy" in done.stderr or b"not permitted" in done.stderr  # while it runs, and by its seals
    assert digests() == before


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
