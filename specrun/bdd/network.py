"""A network namespace for one scenario: every port is free in it, and so is 172.17.0.0/16."""

from __future__ import annotations

import shutil
import subprocess
import sys
import time

_HOLD = """
import sys
sys.path.append({source!r})
from specrun_runtime import libc
from specrun_runtime.constants import Clone
libc.unshare(Clone.NEWNET)
import fcntl, _socket, struct
plug = _socket.socket(_socket.AF_INET, _socket.SOCK_DGRAM)
fcntl.ioctl(plug.fileno(), 0x8914, struct.pack("16sh14x", b"lo", 0x49))
sys.stdout.write("ready\\n"); sys.stdout.flush()
sys.stdin.read()
"""
"""Makes the namespace with `lo` up (SIOCSIFFLAGS), and keeps it until its input ends, as it does when we are killed."""


class Network:
    """The namespace, held by a process that ends with this one."""

    def __init__(self) -> None:
        import specrun_runtime

        source = str(specrun_runtime.__path__[0]).rpartition("/")[0]
        self._holder = subprocess.Popen(
            [sys.executable, "-I", "-S", "-c", _HOLD.format(source=source)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
        )
        self._uplink: subprocess.Popen[bytes] | None = None
        if self._holder.stdout is None or self._holder.stdout.readline() != b"ready\n":
            self.close()
            raise RuntimeError("no network namespace could be made: features need root")

    @property
    def prefix(self) -> list[str]:
        """What to put before a command that is to run in it."""
        return ["nsenter", f"--net=/proc/{self._holder.pid}/ns/net", "--"]

    def connect(self) -> None:
        """Give it a way out, without touching the host's rules (slirp4netns). Raises RuntimeError."""
        if self._uplink:
            return
        program = shutil.which("slirp4netns")
        if program is None:
            raise RuntimeError("a scenario with @internet needs slirp4netns, which is not installed")
        self._uplink = subprocess.Popen(
            # It ends when its input does, as it does when we are killed.
            [program, "--configure", "--mtu=1400", "--exit-fd=0", str(self._holder.pid), "uplink0"],
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        deadline = time.monotonic() + 10
        while subprocess.run([*self.prefix, "ip", "route", "get", "192.0.2.1"], capture_output=True).returncode:
            if time.monotonic() > deadline or self._uplink.poll() is not None:
                raise RuntimeError("slirp4netns gave the scenario no way out")
            time.sleep(0.02)

    def close(self) -> None:
        """Let go of it; the kernel removes it, with all that is in it."""
        for process in (self._uplink, self._holder):
            if process is None:
                continue
            if process.stdin:
                process.stdin.close()
            if process is self._uplink:
                process.kill()
            process.wait()
            if process.stdout:
                process.stdout.close()
        self._uplink = None
