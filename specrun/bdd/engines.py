"""The engines that features run on, each behind a command `docker` on the scenario's PATH."""

from __future__ import annotations

import os
import shlex
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from specrun.bdd import processes
from specrun.bdd.network import Network

if TYPE_CHECKING:
    from specrun.bdd.bases import Bases

NAMES = ("specrun", "docker", "podman")


class Engine:
    """What a scenario runs its command lines with."""

    name = ""
    lasting = False
    """Whether what its commands start may outlive the scenario."""

    def __init__(self, folder: Path, bases: Bases) -> None:
        self.folder = folder
        self.bases = bases
        self.prefix: list[str] = []
        """What comes before each command, to enter the scenario's network."""
        (folder / "bin").mkdir()
        path = f"{folder / 'bin'}{os.pathsep}{os.environ.get('PATH', os.defpath)}"
        self.environment = {**os.environ, "PATH": path, "DOCKER_CONFIG": str(folder / "docker-config")}
        self.environment |= processes.mark(folder)
        self.enter = "" if self.lasting else processes.make_group(folder)
        """What a shell does first, to be told from others' processes."""
        self.environment.pop("NO_COLOR", None)

    def command(self, name: str, *words: str) -> None:
        """Put a command on the scenario's PATH that runs `words` with its arguments."""
        script = self.folder / "bin" / name
        script.write_text(f'#!/bin/sh\nexec {shlex.join(words)} "$@"\n')
        script.chmod(0o755)

    def image(self, name: str) -> None:
        """Have the image `name`, whatever it takes. Raises AssertionError."""
        raise NotImplementedError

    def connect(self) -> None:
        """Have a way to other hosts."""

    def problems(self) -> list[str]:
        """What must hold after every step and does not, a sentence each."""
        return []

    def version(self) -> str:
        """The engine's own word for what it is."""
        return self._ask("docker", "version", "--format", "{{.Server.Version}}")

    def _ask(self, *words: str) -> str:
        done = subprocess.run(
            [*self.prefix, *words], env=self.environment, stdin=subprocess.DEVNULL, capture_output=True, text=True
        )
        return done.stdout.strip()

    def close(self) -> None:
        """Leave nothing of the scenario."""


class Specrun(Engine):
    """specrun, with a state folder and a network of the scenario's own."""

    name = "specrun"

    def __init__(self, folder: Path, bases: Bases) -> None:
        super().__init__(folder, bases)
        self.root = folder / "root"
        self.environment["SPECRUN_ROOT"] = str(self.root)
        self.environment["SPECRUN_RUN"] = str(folder / "run")
        program = own_command()
        self.command("docker", *program)
        self.command("specrun", *program)
        self._network = Network()
        self.prefix = self._network.prefix

    def image(self, name: str) -> None:
        """Link it into the scenario's store."""
        self.bases.give(name, self.root)

    def connect(self) -> None:
        """Give the scenario's network a way out."""
        self._network.connect()

    def problems(self) -> list[str]:
        """The store is whole, and every control group of ours belongs to a container that is listed."""
        from specrun.bdd.leaks import orphans
        from specrun.paths import peek_root
        from specrun.store.images import ImageStore

        root = peek_root(str(self.root))
        if root is None:
            return []
        return [*ImageStore(root).verify(), *orphans(root)]

    def version(self) -> str:
        """What `specrun --version` says."""
        return self._ask("specrun", "--version").rpartition(" ")[2]

    def close(self) -> None:
        """Remove all containers, then look for what they left."""
        from specrun.bdd.leaks import left
        from specrun.bdd.scene import clear

        clear(self.folder, self.environment, self.prefix)
        identity = self.root / "id"
        found = left(identity.read_text().strip()) if identity.exists() else []
        self._network.close()
        if found:
            raise AssertionError("left on the machine:\n" + "\n".join(f"  {thing}" for thing in found))


class Learner(Engine):
    """specrun over the state folder of somebody who works through the workshop: looked at, and left as it is."""

    name = "specrun"
    lasting = True

    def __init__(self, folder: Path, bases: Bases, root: str) -> None:
        super().__init__(folder, bases)
        self.environment["SPECRUN_ROOT"] = root
        for command in ("docker", "specrun"):
            self.command(command, *own_command())

    def image(self, name: str) -> None:
        """Theirs, or none."""


class Docker(Engine):
    """A real Docker, reached as the caller's environment says, and emptied after each scenario.

    One that had something in it when the run began is refused: it is somebody's.
    """

    name = "docker"
    program = "docker"
    removal = "rm -f -v"
    """What removes containers, whatever they do."""

    def __init__(self, folder: Path, bases: Bases) -> None:
        super().__init__(folder, bases)
        self._alone = ExitStack()
        self._enter(bases)
        self.command("docker", *self._words)

    def _enter(self, bases: Bases) -> None:
        """Wait until no other worker has a scenario on it. Raises RuntimeError for one that has somebody's things."""
        self._words = [self.found()]
        host = os.environ.get("DOCKER_HOST", "").replace("/", "_")
        self._alone.enter_context(bases.alone(f"docker{host}"))  # each Docker has its own queue
        try:
            bases.keep("docker", self._ours)
        except BaseException:
            self._alone.close()
            raise

    @contextmanager
    def _ours(self) -> Iterator[None]:
        """Look once at what is there, before anything is removed."""
        theirs = {
            "containers": self._list("ps", "-aq"),
            "images": set(self._list("images", "--format", "{{.Repository}}:{{.Tag}}")) - set(self.bases.names()),
            "volumes": self._list("volume", "ls", "-q"),
            "networks": self._list("network", "ls", "-q", "--filter", "type=custom"),
        }
        counts = [f"{len(names)} {kind}" for kind, names in theirs.items() if names]
        if counts and os.environ.get("SPECRUN_EMPTY_DOCKER") != "1":
            raise RuntimeError(
                f"--engine docker: this Docker has {', '.join(counts)}, and features empty it after each scenario;"
                " give another by DOCKER_HOST, or say SPECRUN_EMPTY_DOCKER=1 if all of it may be removed"
            )
        self._empty()
        yield

    @classmethod
    def found(cls) -> str:
        """The engine's program; of several the distribution's. Raises RuntimeError."""
        path = os.pathsep.join(("/usr/bin", "/usr/local/bin", os.environ.get("PATH", os.defpath)))
        program = shutil.which(cls.program, path=path)
        if program is None:
            raise RuntimeError(f"--engine {cls.name}: {cls.program} is not installed")
        return program

    def image(self, name: str) -> None:
        """Load it, unless an earlier scenario has."""
        done = subprocess.run([*self._words, "image", "inspect", name], env=self.environment, capture_output=True)
        if done.returncode == 0:
            return
        words = [*self.prefix, *self._words, "load", "-i", str(self.bases.archive(name))]
        done = subprocess.run(words, env=self.environment, capture_output=True)
        if done.returncode:
            raise AssertionError(f"{self.name} load of {name}: {done.stderr.decode()}")

    def _list(self, *words: str) -> list[str]:
        done = subprocess.run([*self._words, *words], env=self.environment, capture_output=True, text=True)
        return done.stdout.split()

    def _empty(self) -> None:
        """Remove containers, networks, volumes, and all images but the base images."""
        kept = f"grep -vxF {self._kept()} | grep -v '<none>'"
        script = (
            f"docker ps -aq | xargs -r docker {self.removal}; docker volume ls -q | xargs -r docker volume rm -f;"
            " docker network ls -q --filter type=custom | xargs -r docker network rm;"
            f" docker images --format '{{{{.Repository}}}}:{{{{.Tag}}}}' | {kept}"
            " | xargs -r docker rmi -f; docker image prune -f"
        )
        words = [*self.prefix, "sh", "-c", script]
        subprocess.run(words, env=self.environment, stdin=subprocess.DEVNULL, capture_output=True, check=False)

    def _kept(self) -> str:
        """Options of grep that name the base images as the engine lists them."""
        return " ".join(f"-e {shlex.quote(name)}" for name in self.bases.names())

    def close(self) -> None:
        """Empty the engine."""
        self._empty()
        self._alone.close()


class Podman(Docker):
    """A real podman, with a storage of the run's own and, for each scenario, a network of its own."""

    name = "podman"
    program = "podman"
    removal = "rm -f -v -t 0"

    def _enter(self, bases: Bases) -> None:
        """Share the storage with the worker's other scenarios."""
        from specrun.bdd.podman import store

        self._store = bases.keep("podman", lambda: store(self.found()))
        self._words = self._store.command
        own = {**processes.mark(self.folder), "PATH": self.environment["PATH"]}
        self.environment |= {**self._store.environment, **own}
        logins = self.folder / "docker-config"
        logins.mkdir()
        (logins / "config.json").write_text("{}")
        self._network = Network()
        self.prefix = self._network.prefix

    def image(self, name: str) -> None:
        """Load it, unless an earlier scenario has."""
        super().image(name)
        self._store.settle(name, self.prefix)

    def connect(self) -> None:
        """Give the scenario's network a way out."""
        self._network.connect()

    def version(self) -> str:
        """The client's version: there is no server."""
        return self._ask("docker", "version", "--format", "{{.Client.Version}}")

    def _kept(self) -> str:
        return " ".join(f"-e docker.io/library/{shlex.quote(name)}" for name in self.bases.names())

    def close(self) -> None:
        """Empty the storage, and let go of the network."""
        super().close()
        self._network.close()


BY_NAME: dict[str, type[Engine]] = {"specrun": Specrun, "docker": Docker, "podman": Podman}


def own_command() -> list[str]:
    """The command line of the specrun that this interpreter has."""
    script = Path(sys.executable).with_name("specrun")
    return [str(script)] if script.exists() else [sys.executable, "-m", "specrun.cli.main"]
