"""The workshop's specs on a host of their own, by commands in forks of this process: quick, and killed where told.

What runs is the command line's own code in a process of its own; only the interpreter and what it imports are not
loaded anew.
"""

from __future__ import annotations

import gc
import os
import signal
import sys
import time
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from specrun.bdd.bases import Bases
from specrun.cli import main as command_line
from specrun.reconcile import apply, project, revisions, rolling, session, workers
from specrun.spec import loader
from specrun_runtime import libc
from specrun_runtime.constants import Clone
from tests.support import leaks
from tests.support.host import Host, own_host
from tests.support.namespace import Namespace

# Loaded now, so that no fork has to.
from specrun.build import executor  # isort: skip
from specrun.cli.commands import delete, inspect, kill, plan, ps, rmi, tag, volume  # isort: skip
from specrun.network import observation  # isort: skip

LOADED = (
    apply,
    delete,
    executor,
    inspect,
    kill,
    loader,
    observation,
    plan,
    ps,
    rmi,
    rolling,
    session,
    tag,
    volume,
    workers,
)
SPECS = sorted((Path(__file__).parents[2] / "specs" / "workshop").glob("*.yaml"))
ONLINE = "24"
"""The section whose build reaches for the distribution's packages."""
BASES = ("busybox", "python:3", "registry:2")


def number_of(spec: Path) -> str:
    """Its section."""
    return spec.name[:2]


class Moments:
    """The moments of a command at which its record changes. It notes each, and ends its process at the chosen one."""

    def __init__(self, chosen: int, note: int) -> None:
        self._chosen = chosen
        self._note = note
        self._count = 0

    def _pass(self, name: str) -> None:
        self._count += 1
        os.write(self._note, f"{name}\n".encode())
        if self._count == self._chosen:
            os.kill(os.getpid(), signal.SIGKILL)

    def _around(self, owner: Any, function: str, name: Callable[..., str]) -> None:
        original = getattr(owner, function)

        def watched(*arguments: Any, **more: Any) -> Any:
            what = name(*arguments, **more)
            self._pass(f"before {what}")
            found = original(*arguments, **more)
            self._pass(f"after {what}")
            return found

        setattr(owner, function, watched)

    def watch(self, *, steps: bool) -> None:
        """Every change of the record; with `steps` also each that the effects make to the state folder."""
        self._around(
            project.Project, "save", lambda record, _: f"the snapshot, {record.revision and 'last' or 'first'}"
        )
        self._around(project.Project, "remove", lambda *_: "the end of the record")
        self._around(project.Journal, "_append", lambda _, lines, *__, **___: _line(lines))
        self._around(revisions, "record", lambda *_: "the revision")
        self._around(revisions, "forget", lambda *_: "the end of the revisions")
        if steps:
            for call in ("rename", "link", "symlink", "mkdir", "unlink", "rmdir"):
                self._around(os, call, lambda *_, what=call, **__: what)


def _line(lines: list[dict[str, Any]]) -> str:
    if "gone" in lines[0]:
        return f"{lines[0]['gone'].partition('/')[0]} is gone"
    return f"{lines[0]['entry']['kind'].lower()} is made" if lines[0]["entry"]["made"] else "the intention"


class Done:
    """What became of a command."""

    def __init__(self, status: int, said: str, moments: list[str]) -> None:
        self.killed = status == -signal.SIGKILL
        self.status = status
        self.said = said
        self.moments = moments


class Stage:
    """A host with all base images, on which sections are applied one after the other."""

    def __init__(self, host: Host, network: Namespace | None) -> None:
        self.host = host
        self.network = network

    def run(self, *words: str, kill_at: int = 0, watched: bool = False, steps: bool = False) -> Done:
        """Run a command to its end, or to its `kill_at`th moment."""
        said, noted = (os.memfd_create(name) for name in ("said", "noted"))
        gc.freeze()  # what the fork never writes to is not copied
        pid = os.fork()
        if pid == 0:
            status = 70
            try:
                moments = Moments(kill_at, noted) if kill_at or watched else None
                status = self._be(words, said, moments, steps)
            except BaseException:
                os.write(said, traceback.format_exc().encode())
            finally:
                os._exit(status)
        _, code = os.waitpid(pid, 0)
        texts = [os.pread(one, os.fstat(one).st_size, 0).decode("utf-8", "replace") for one in (said, noted)]
        os.close(said)
        os.close(noted)
        return Done(os.waitstatus_to_exitcode(code), texts[0], texts[1].splitlines())

    def _be(self, words: tuple[str, ...], said: int, moments: Moments | None, steps: bool) -> int:
        os.environ.clear()
        os.environ.update(self.host.environment)
        null = os.open("/dev/null", os.O_RDWR)
        for standard, descriptor in enumerate((null, said, said)):
            os.dup2(descriptor, standard)
        sys.stdout, sys.stderr = open(1, "w", closefd=False), open(2, "w", closefd=False)
        if self.network is not None:
            descriptor = os.open(self.network.path, os.O_RDONLY)
            libc.setns(descriptor, Clone.NEWNET)
            os.close(descriptor)
        if moments is not None:
            moments.watch(steps=steps)
        status = command_line.main(list(words))
        sys.stdout.flush()
        sys.stderr.flush()
        return status

    def ok(self, *words: str) -> str:
        """Run a command that must succeed; gives what it said."""
        done = self.run(*words)
        assert done.status == 0, f"specrun {' '.join(words)}: status {done.status}\n{done.said}"
        return done.said

    def begin(self, spec: Path) -> list[str]:
        """Have the base images that a section needs, and not those that it makes; gives the arguments of its specs."""
        text = spec.read_text()
        self.forget_volumes()
        for name in BASES:
            if f"tags: [{name}" in text:
                self.run("rmi", name)
            else:
                self.ok("tag", f"kept/{name}", name)
        return [*(["--profile", "myubuntu"] if "profiles:" in text else []), str(spec)]

    def forget_volumes(self) -> None:
        """Remove the volumes, which survive their project."""
        for folder in (self.host.root / "volumes").glob("notes"):
            self.ok("volume", "rm", folder.name)

    def still(self) -> None:
        """Kill what runs: some of the sections' commands heed no other signal."""
        running = self.ok("ps", "-q").split()
        if running:
            self.ok("kill", *running)

    def present(self) -> dict[str, set[str]]:
        """All that there is of this host, on disk and in the kernel; layers and blobs by their names alone."""
        found = leaks.present(leaks.marks_of(self.host.root))
        files = set()
        for folder, names, others in os.walk(self.host.root):
            if os.path.dirname(folder) == str(self.host.root / "layers"):
                names.clear()
            files |= {os.path.join(folder, name) for name in (*names, *others)}
        # A record of the build cache that was not written to the end: of no use to anybody, and of a few hundred bytes.
        files = {
            path for path in files if not (path.endswith(".draft") and path.startswith(f"{self.host.root}/build/"))
        }
        links = set(self.network.links()) if self.network else set()
        return {**found, "files": files, "links": found.get("links", set()) | links}

    def await_present(self, wanted: dict[str, set[str]], where: object) -> None:
        """See that there is soon what `wanted` says and nothing else."""
        deadline = time.monotonic() + 3
        while (found := self.present()) != wanted and time.monotonic() < deadline:
            time.sleep(0.02)
        for kind in {*wanted, *found}:
            here, there = found.get(kind, set()), wanted.get(kind, set())
            assert here == there, f"{where}: {kind}: orphaned {here - there}, missing {there - here}"


@contextmanager
def stage(bases: Bases, *, names: tuple[str, ...] = BASES, online: bool = False, seconds: int = 300) -> Iterator[Stage]:
    """A host with these base images in a network of its own, or with `online` in the machine's and with Debian's."""
    network = None if online else Namespace(seconds)
    try:
        if network is not None:
            network.sh("ip link set lo up")
        with own_host() as host:
            host.prefix = network.enter if network else []
            host.ok("ps")
            made = Stage(host, network)
            for name in (*names, *(["debian:bookworm-slim"] if online else [])):
                bases.give(name, host.root)
                made.ok("tag", name, f"kept/{name}")
            if "python:3" in names:
                made.ok("tag", "python:3", "library/python:3")
            for spec in SPECS:
                loader.load([str(spec)])  # builds the models, which every fork would
            yield made
    finally:
        if network is not None:
            network.close()
