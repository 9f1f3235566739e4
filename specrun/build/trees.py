"""The trees that a stage takes files from: the build context, named contexts, other stages and images."""

from __future__ import annotations

import os

from specrun.build.errors import BuildFailed
from specrun.build.ignore import Patterns, patterns_of
from specrun.build.tree import Tree
from specrun.errors import UsageError
from specrun_runtime import libc, mounts
from specrun_runtime.fds import Fd

TYPE_CHECKING = False
if TYPE_CHECKING:
    from specrun.build.executor import Build
    from specrun.build.layering import StageState
    from specrun.build.parser import Node

_DETACH = 2


class Trees:
    """Opened when they are first asked for. `states` are those of the finished stages; `work` is a folder of ours.

    With `mounting` the trees of stages and images are mounted in the build's own mount namespace, so that parts of
    them can be mounted in a container.
    """

    def __init__(self, build: Build, states: dict[int, StageState], work: str, *, mounting: bool) -> None:
        self._build = build
        self._states = states
        self._work = work
        self._mounting = mounting
        self._trees: dict[str, Tree] = {}
        self._mounted: list[str] = []

    def find(self, name: str, node: Node) -> Tree:
        """The tree that `--from` means: "" the build context, a named context, a stage or an image."""
        if name in self._trees:
            return self._trees[name]
        request = self._build.request
        if not name:
            tree = self._context(request.context, "build context", self._ignore_file(request.context), node)
        elif name in request.contexts and not request.contexts[name].startswith("docker-image://"):
            folder = request.contexts[name]
            tree = self._context(folder, f"context {name}", os.path.join(folder, ".dockerignore"), node)
        else:
            tree = Tree(self._view(self._layers_of(name, node)), f"stage or image {name}")
        self._trees[name] = tree
        return tree

    def close(self) -> None:
        """Close all of them, and unmount what was mounted."""
        for tree in self._trees.values():
            tree.root.close()
        for path in self._mounted:
            libc.umount(path, _DETACH)
        self._trees, self._mounted = {}, []

    def _layers_of(self, name: str, node: Node) -> list[str]:
        build = self._build
        stage = None if name in build.request.contexts else build.graph.stage(name)
        if stage is not None and stage.number in self._states:
            return self._states[stage.number].lower(build.layers)
        reference = build.request.contexts.get(name, name).removeprefix("docker-image://")
        if reference == "scratch":
            return []
        return build.images.lower_directories(build.image(reference, node))

    def _view(self, lower: list[str]) -> Fd:
        if not lower:
            return Fd(os.open(fresh(self._work, "empty"), os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC))
        view = mounts.new_view(lower)
        if not self._mounting:
            return view
        path = fresh(self._work, "tree")
        with view, Fd(os.open(path, os.O_PATH | os.O_CLOEXEC)) as target:
            libc.move_mount(view.number, target.number)
        self._mounted.append(path)
        return Fd(os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC))

    def _context(self, folder: str, what: str, ignore_file: str, node: Node) -> Tree:
        if not folder:
            raise BuildFailed(
                f"{node.keyword} failed: there is no build context",
                node=node,
                hint="the Dockerfile came from stdin: use -f -",
            )
        try:
            opened = Fd(os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC))
        except OSError as error:
            raise UsageError(f"unable to prepare context: path {folder!r}: {error.strerror}") from error
        return Tree(opened, what, read_ignored(ignore_file))

    def _ignore_file(self, folder: str) -> str:
        own = f"{self._build.path}.dockerignore" if self._build.path else ""
        return own if own and os.path.exists(own) else os.path.join(folder, ".dockerignore")


def fresh(work: str, kind: str) -> str:
    """A new folder in `work`."""
    folder = f"{work}/{kind}{os.urandom(4).hex()}"
    os.mkdir(folder, 0o755)
    return folder


def read_ignored(path: str) -> Patterns | None:
    """The patterns of a `.dockerignore` file; None when there is none."""
    try:
        with open(path, encoding="utf-8", errors="surrogateescape") as file:
            return Patterns(patterns_of(file.read(1 << 20)))
    except (FileNotFoundError, NotADirectoryError):
        return None


def unmount_below(folder: str) -> None:
    """Detach what a killed process has left mounted below `folder`: a tree with mounts must not be removed."""
    with open("/proc/self/mountinfo", encoding="utf-8", errors="surrogateescape") as file:
        targets = [line.split(" ")[4] for line in file]
    for target in reversed(targets):
        if target.startswith(f"{folder}/"):
            libc.umount(target, _DETACH)
