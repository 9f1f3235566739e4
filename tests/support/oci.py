"""An OCI bundle of a test's own, and `specrun-runtime` as other engines call it.

The root file system has the host's /usr, read-only, so that a probe in the container can be a program of its choice.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from specrun_runtime import defaults

COMMAND = str(Path(sys.executable).with_name("specrun-runtime"))
PYTHON = "/usr/bin/python3"

PROBE = "import json, os, sys\n"
"""What every probe begins with."""


class Bundle:
    """A folder with `config.json` and `rootfs`; `config` is written when a command needs it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.rootfs = folder / "rootfs"
        for name in ("usr", "etc", "tmp", "root"):
            (self.rootfs / name).mkdir(parents=True)
        for name in ("bin", "sbin", "lib", "lib64"):
            (self.rootfs / name).symlink_to(f"usr/{name}")
        (self.rootfs / "etc/passwd").write_text("root:x:0:0::/root:/bin/sh\n")
        (self.rootfs / "etc/group").write_text("root:x:0:\n")
        self.config: dict[str, Any] = defaults.configuration()
        self.process.update(terminal=False, noNewPrivileges=False, args=["true"])
        self.config["root"]["readonly"] = False
        self.mount("/usr", "/usr", "bind", ["rbind", "ro"])

    @property
    def process(self) -> dict[str, Any]:
        """`process`."""
        process: dict[str, Any] = self.config["process"]
        return process

    @property
    def linux(self) -> dict[str, Any]:
        """`linux`."""
        linux: dict[str, Any] = self.config["linux"]
        return linux

    def mount(self, destination: str, source: str, kind: str, options: list[str], **more: object) -> None:
        """Add to `mounts`."""
        self.config["mounts"].append(
            {"destination": destination, "source": source, "type": kind, "options": options, **more}
        )

    def namespaces(self, *kinds: str, **paths: str) -> None:
        """Have these, and those of `paths` joined."""
        self.linux["namespaces"] = [{"type": kind} for kind in kinds]
        self.linux["namespaces"] += [{"type": kind, "path": path} for kind, path in paths.items()]

    def map_ids(self, first: int = 100000, size: int = 65536) -> None:
        """Have a user namespace whose root is `first` outside; the test is skipped where none can be made."""
        if subprocess.run(["unshare", "--user", "true"], capture_output=True, check=False).returncode:
            import pytest  # not there in a virtual machine

            pytest.skip("no user namespace can be made here (a chroot may have none)")
        self.linux["namespaces"].append({"type": "user"})
        for kind in ("uidMappings", "gidMappings"):
            self.linux[kind] = [{"containerID": 0, "hostID": first, "size": size}]
        for path in (self.rootfs, *self.rootfs.rglob("*")):
            os.lchown(path, first, first)

    def write(self) -> None:
        """Write config.json."""
        (self.folder / "config.json").write_text(json.dumps(self.config))


class Runtime:
    """The command, over a state folder of its own. `mark` is in the names of all that it makes."""

    def __init__(self) -> None:
        self.folder = Path(tempfile.mkdtemp(prefix="sro-"))
        self.folder.chmod(0o755)
        self.mark = self.folder.name
        self.root = self.folder / "state"
        self._bundles = 0

    def bundle(self) -> Bundle:
        """A new one, with a control group of its own."""
        self._bundles += 1
        bundle = Bundle(self.folder / f"bundle{self._bundles}")
        bundle.linux["cgroupsPath"] = f"/{self.mark}-{self._bundles}"
        return bundle

    def command(self, *arguments: str) -> list[str]:
        """The whole command line."""
        return [COMMAND, "--root", str(self.root), *arguments]

    def call(self, *arguments: str, **options: Any) -> subprocess.CompletedProcess[bytes]:
        """Run it to its end; output goes to a file, as a detached container keeps a pipe open."""
        options = {"stdin": subprocess.DEVNULL, "timeout": 60, **options}
        with tempfile.TemporaryFile() as out, tempfile.TemporaryFile() as err:
            done = subprocess.run(self.command(*arguments), stdout=out, stderr=err, check=False, **options)
            for file in (out, err):
                file.seek(0)
            return subprocess.CompletedProcess(done.args, done.returncode, out.read(), err.read())

    def ok(self, *arguments: str, **options: Any) -> str:
        """The standard output of a command that must succeed."""
        done = self.call(*arguments, **options)
        text = done.stderr.decode()
        assert done.returncode == 0, f"specrun-runtime {' '.join(arguments)}: status {done.returncode}\n{text}"
        return done.stdout.decode()

    def refused(self, *arguments: str, **options: Any) -> str:
        """The error of a command that must fail."""
        done = self.call(*arguments, **options)
        assert done.returncode != 0, done.stdout
        assert b"Traceback" not in done.stderr, done.stderr.decode()
        return done.stderr.decode()

    def run(self, bundle: Bundle, identity: str = "", **options: Any) -> str:
        """Run the bundle's command to its end; gives its output."""
        bundle.write()
        return self.ok("run", "--bundle", str(bundle.folder), identity or f"{self.mark}-run", **options)

    def probe(self, bundle: Bundle, code: str, **options: Any) -> Any:
        """What a program in Python prints inside, as JSON; `answer` is what it is to have at its end."""
        bundle.process["args"] = [PYTHON, "-I", "-S", "-c", f"{PROBE}{code}\nprint(json.dumps(answer))"]
        return json.loads(self.run(bundle, **options))

    def fails(self, bundle: Bundle, **options: Any) -> str:
        """The error of a bundle that must not start."""
        bundle.write()
        return self.refused("run", "--bundle", str(bundle.folder), f"{self.mark}-run", **options)

    def start(self, bundle: Bundle, identity: str, *command: str) -> int:
        """Create and start a container; gives its pid."""
        if command:
            bundle.process["args"] = list(command)
        bundle.write()
        self.ok("create", "--bundle", str(bundle.folder), identity)
        self.ok("start", identity)
        pid: int = self.state(identity)["pid"]
        return pid

    def state(self, identity: str) -> dict[str, Any]:
        """`state`."""
        state: dict[str, Any] = json.loads(self.ok("state", identity))
        return state

    def await_status(self, identity: str, status: str) -> None:
        """Wait until `state` says so."""
        until(lambda: self.state(identity)["status"] == status)

    def close(self) -> None:
        """Remove everything."""
        if self.root.is_dir():
            for name in os.listdir(self.root):
                self.call("delete", "--force", name)
        shutil.rmtree(self.folder)


def until(condition: Callable[[], bool], seconds: float = 10) -> None:
    """Wait until the condition holds."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "it did not come to pass"
        time.sleep(0.02)


def status_of(pid: int | str = "self") -> dict[str, str]:
    """/proc/<pid>/status as fields."""
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return dict(line.split(":\t", 1) for line in lines if ":\t" in line)
