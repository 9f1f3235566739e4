"""A network namespace of a test's own, for what concerns all of a host's network."""

from __future__ import annotations

import os
import subprocess
import time

IPV4, IPV6 = "net/ipv4/ip_forward", "net/ipv6/conf/all/forwarding"


class Namespace:
    """A network namespace, in which commands run."""

    def __init__(self, seconds: int = 300) -> None:
        self._holder = subprocess.Popen(["unshare", "-n", "sleep", str(seconds)])
        deadline = time.monotonic() + 5
        while os.readlink(f"/proc/{self._holder.pid}/ns/net") == os.readlink("/proc/self/ns/net"):
            assert time.monotonic() < deadline
            time.sleep(0.01)
        self.path = f"/proc/{self._holder.pid}/ns/net"
        self.enter = ["nsenter", f"--net={self.path}"]

    def sh(self, script: str) -> str:
        """What a script of sh prints."""
        done = subprocess.run([*self.enter, "sh", "-ec", script], capture_output=True, text=True, check=True)
        return done.stdout.strip()

    def get(self, key: str = IPV4) -> str:
        """A parameter's value."""
        return self.sh(f"cat /proc/sys/{key}")

    def put(self, key: str, value: str) -> None:
        """Set a parameter."""
        self.sh(f"echo {value} > /proc/sys/{key}")

    def links(self) -> list[str]:
        """The names of its links."""
        return [line.split()[0].partition("@")[0] for line in self.sh("ip -br link").splitlines()]

    def close(self) -> None:
        """End it."""
        self._holder.kill()
        self._holder.wait()
