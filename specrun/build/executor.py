"""The build itself: stages in order, each step found in the cache or made, the result an image of the store."""

from __future__ import annotations

import json
import os
from contextlib import ExitStack

from specrun.build import copying, modes
from specrun.build.cache import Cache, Explainer, Inputs, Record
from specrun.build.errors import BuildFailed, DockerfileError
from specrun.build.evaluation import Evaluator, Platform, Scope, Step, is_git, is_url
from specrun.build.ignore import Patterns, patterns_of
from specrun.build.instructions import Copy, Run, read
from specrun.build.layering import LayerStore, StageState, is_empty
from specrun.build.parser import parse
from specrun.build.stages import Graph
from specrun.build.tree import Source, Tree, inputs_of
from specrun.errors import NotFound, SpecrunError, UsageError
from specrun.files import locked, remove_tree
from specrun.oci.reference import Reference
from specrun.store.images import ImageStore
from specrun_runtime import libc, mounts
from specrun_runtime.fds import Fd
from specrun_runtime.users import UnknownUser, resolve

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from specrun.build.instructions import Program, Stage
    from specrun.build.parser import Node
    from specrun.build.progress import Progress
    from specrun.build.request import BuildRequest
    from specrun.build.running import Runner
    from specrun.paths import Root
    from specrun.store.images import Image
    from specrun.store.layers import Layer

_CHECK = "BUILDKIT_DOCKERFILE_CHECK"
"""A build argument that says which checks are made, as the directive `check` does."""
_ARCHITECTURES = {"x86_64": "amd64", "aarch64": "arm64"}


def host_platform() -> Platform:
    """The platform of this machine, the only one that is built for."""
    machine = os.uname().machine
    return Platform(f"linux/{_ARCHITECTURES.get(machine, machine)}")


class Result:
    """What a build came to."""

    __slots__ = ("id", "manifest_digest", "references", "unused_arguments")

    def __init__(self, identity: str, manifest_digest: str, references: list[str], unused: list[str]) -> None:
        self.id = identity
        self.manifest_digest = manifest_digest
        self.references = references
        self.unused_arguments = unused


def load(request: BuildRequest) -> tuple[Program, str]:
    """The Dockerfile of a request, read; and its path for messages. Raises DockerfileError and SpecrunError."""
    if request.text is not None:
        return read(parse(request.text, "Dockerfile")), ""
    path = request.dockerfile or os.path.join(request.context, "Dockerfile")
    try:
        if not request.dockerfile and os.path.islink(path):
            # A link in the context leads no further than the context (the context may be a stranger's).
            from specrun_runtime.paths import read_regular

            with Fd(os.open(request.context, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)) as folder:
                data = read_regular(folder.number, "/Dockerfile", 4 << 20)
                if not data:
                    raise FileNotFoundError(2, "No such file or directory", path)
        else:
            with open(path, "rb") as file:
                data = file.read(4 << 20)
    except OSError as error:
        raise SpecrunError(
            f"unable to prepare context: unable to evaluate symlinks in Dockerfile path: {path}: {error.strerror}",
            hint="name the file with -f FILE",
        ) from error
    shown = os.path.relpath(path) if os.path.isabs(path) and not os.path.relpath(path).startswith("..") else path
    return read(parse(data.decode("utf-8", "surrogateescape"), shown)), path


class Build:
    """One build. `run` does it."""

    def __init__(self, root: Root, request: BuildRequest, progress: Progress) -> None:
        self.root = root
        self.request = request
        self.progress = progress
        self.images = ImageStore(root)
        self.layers = LayerStore(root)
        self.cache = Cache(root, self.layers, request.cache_from)
        self.program, self.path = load(request)
        self.platform = host_platform()
        if request.platform and str(Platform(request.platform)) != str(self.platform):
            raise SpecrunError(
                f"cannot build for {request.platform}: this machine runs {self.platform}", hint="leave --platform out"
            )
        self.scope = Scope(self.program, request.arguments, self.platform, self.platform, request.target or "default")
        self.epoch = int(self.scope.epoch) if self.scope.epoch else _epoch_of_environment()
        self._refuse_warnings()
        self.graph = Graph(self.program, self.scope, frozenset(request.contexts))
        self.target = self.graph.target(request.target)
        self.states: dict[int, StageState] = {}
        self.keys: list[str] = []
        self.explainer = Explainer(root, f"{os.path.abspath(request.context)}\0{self.path}\0{self.target.number}")
        self.shell_on_error = False
        self._trees: dict[str, Tree] = {}
        self._mounted_trees: list[str] = []
        self._work = ""
        self._total = 0
        self._number = 0
        self._missed = False
        self._mounting = False
        self._made_runner: Runner | None = None

    @property
    def _runner(self) -> Runner:
        """What runs commands; a build that finds all of them in the cache never imports it."""
        if self._made_runner is None:
            from specrun.build.request import Secrets
            from specrun.build.running import Runner

            secrets = self.request.secrets or Secrets()
            self._made_runner = Runner(self.root, self._work, secrets, self._tree, self.request.network)
        return self._made_runner

    def _refuse_warnings(self) -> None:
        """A Dockerfile with `# check=error=true` is not built while a check warns."""
        if "check" not in self.program.dockerfile.directives and _CHECK not in self.request.arguments:
            return
        from specrun.build import lint

        if lint.is_error(self.program, self.request.arguments):
            found = lint.check(self.program, arguments=self.request.arguments, target=self.request.target)
            if found:
                names = ", ".join(dict.fromkeys(warning.rule.name for warning in found))
                raise DockerfileError(
                    f"lint violation found for rules: {names}", hint="`specrun build --check` shows where"
                )

    def run(self) -> Result:
        """Build the target and its needs; nothing is tagged before all is done. Raises SpecrunError."""
        references = [Reference.parse(tag) for tag in self.request.tags]
        order = self.graph.order(self.target)
        if _is_work_left(self.root):
            from specrun.build.running import mend

            mend(self.root)
        with self.images.adding(), ExitStack() as stack:
            self._work = f"{self.root.path}/build/work/{os.urandom(8).hex()}"
            os.makedirs(self._work, mode=0o700)
            stack.callback(remove_tree, self._work)
            stack.enter_context(locked(f"{self._work}/lock"))
            stack.callback(self._close_trees)
            self._mounting = any(self._has_binds(stage) for stage in order)
            if self._mounting:
                from specrun.build.running import enter_own_namespace

                enter_own_namespace()  # before anything is opened: only what is of it can be mounted in it
            plans = {stage.number: self._begin(stage) for stage in order}
            self._total = sum(len(steps) + 1 for _, steps in plans.values())
            for stage in order:
                self._stage(stage, *plans[stage.number])
            state = self.states[self.target.number]
            self._label(state)
            image = self._known(state.id, references) or self.images.add(state.layers, state.document(), references)
            self.explainer.save()
            if self.request.cache_to:
                self.cache.export(self.request.cache_to, self.keys)
        from specrun.build.evaluation import PROXIES

        unused = sorted(set(self.request.arguments) - self.scope.declared - PROXIES - {"SOURCE_DATE_EPOCH", _CHECK})
        return Result(image.id, image.manifest_digest, [reference.familiar for reference in references], unused)

    def _known(self, identity: str, references: list[Reference]) -> Image | None:
        """The image, if it is in the store under all of these names already: then there is nothing to write."""
        try:
            image = self.images.resolve(identity)
        except SpecrunError:
            return None
        return image if all(reference.canonical in image.references for reference in references) else None

    @staticmethod
    def _has_binds(stage: Stage) -> bool:
        return any(isinstance(instruction, Run) and instruction.mount_texts for instruction in stage.instructions)

    def _label(self, state: StageState) -> None:
        if self.request.labels:
            state.config = {**state.config, "Labels": {**(state.config.get("Labels") or {}), **self.request.labels}}
            words = " ".join(f"{name}={value}" for name, value in sorted(self.request.labels.items()))
            state.add(f"LABEL {words}", state.created, None)

    def _begin(self, stage: Stage) -> tuple[Image | None, list[Any]]:
        """The stage's base image, looked up before anything runs, and its instructions."""
        asked = self.scope.platform_of(stage)
        if asked and str(Platform(asked)) != str(self.platform):
            raise DockerfileError(
                f"cannot build for {asked}: this machine runs {self.platform}", node=stage.node, word=stage.platform
            )
        base = self.graph.bases[stage.number]
        instructions = list(stage.instructions)
        if base == "scratch" or self._is_stage(stage, base):
            return None, instructions
        name = self.request.contexts.get(base, base)
        if name is not base and not name.startswith("docker-image://"):
            raise DockerfileError(f"the context {base} is a folder, which is no base image", node=stage.node, word=base)
        image = self._image(name.removeprefix("docker-image://"), stage.node)
        return image, instructions

    def _is_stage(self, stage: Stage, base: str) -> bool:
        if base in self.request.contexts or base.isdigit():
            return False
        return self.graph.stage(base, stage.number) is not None

    def _image(self, name: str, node: Node) -> Image:
        try:
            return self.images.resolve(name)
        except NotFound as error:
            from specrun.oci.reference import Reference
            from specrun.registry.pull import pull

            try:
                return pull(self.root, Reference.parse(name)).image
            except SpecrunError as refusal:
                message = f"{error.message} locally, and {refusal.message}"
                raise BuildFailed(message, node=node, word=name, hint=error.hint) from refusal

    def _stage(self, stage: Stage, image: Image | None, instructions: list[Any]) -> None:
        base = self.graph.bases[stage.number]
        self._number += 1
        written = " ".join(stage.node.original.split())
        self.progress.step(self._number, self._total, f"{stage.node.keyword} {written.partition(' ')[2]}")
        if image is not None:
            state = self._from_image(image)
        elif base == "scratch":
            state = StageState(self.platform.architecture, self.platform.os)
        else:
            found = self.graph.stage(base, stage.number)
            state = self.states[found.number].copy() if found else StageState("", "")
        self.progress.made("" if base == "scratch" else state.id if image is None else image.id)
        evaluator = Evaluator(self.scope, state.config, scratch=base == "scratch")
        triggers = evaluator.triggers(state.config, stage.node)
        if triggers:
            self.progress.note(f"# Executing {len(triggers)} build trigger{'s' if len(triggers) > 1 else ''}")
        for instruction in triggers:
            self._step(stage, evaluator.step(instruction), state, evaluator)
        for instruction in instructions:
            self._number += 1
            self.progress.step(self._number, self._total, _shown(instruction.node))
            step = evaluator.step(instruction)
            self._step(stage, step, state, evaluator)
        self.states[stage.number] = state

    def _from_image(self, image: Image) -> StageState:
        document = image.config
        state = StageState(
            document.get("architecture") or self.platform.architecture, document.get("os") or "linux",
            document.get("variant") or "",
        )  # fmt: skip
        self.images.lower_directories(image)
        state.layers = self.images.layers(image)
        state.history = list(document.get("history") or [])
        state.config = dict(document.get("config") or {})
        state.author, state.created = document.get("author") or "", document.get("created") or ""
        state.chain = json.dumps([image.id, image.diff_ids])
        return state

    def _step(self, stage: Stage, step: Step, state: StageState, evaluator: Evaluator) -> None:
        with ExitStack() as stack:
            lower = state.lower(self.layers)
            inputs = Inputs(state.chain, step.created_by or step.node.original)
            sources = self._inputs(step, inputs, stack)
            key = inputs.key()
            refused = "--no-cache was given" if self.request.no_cache else ""
            record = None if refused else self.cache.find(key)
            place = f"{stage.number}/{step.node.line}/{step.created_by if step.node is stage.node else ''}"
            self.progress.explain(self.explainer.reason(place, inputs, record is not None, refused))
            if record is None:
                layer = self._make(step, lower, state, sources, evaluator, stack)
                record = Record(_created(self.epoch), layer)
                self.cache.save(key, record)
            elif not step.empty or not self._missed:
                self.progress.cached()
            state.config = step.config
            state.author = evaluator.author or state.author
            state.add(step.created_by, record.created, record.layer)
            if not step.empty:
                state.chain = key  # what only sets the configuration is in the keys of those steps that see it
            self.keys.append(key)
            self.progress.made(state.id)

    def _inputs(self, step: Step, inputs: Inputs, stack: ExitStack) -> list[Source]:
        """Fill in what decides the step's result; gives the sources of a copy, found and open."""
        if step.kind == "meta":
            inputs.parts["configuration"] = [json.dumps(step.config, sort_keys=True)]
            return []
        if step.kind == "run" and isinstance(step.instruction, Run):
            inputs.parts["argument"] = step.arguments
            inputs.parts["environment"] = step.environment
            inputs.parts["setting"] = [
                f"workdir={step.workdir}", f"user={step.config.get('User', '')}", f"network={step.instruction.network}",
                *(f"flag{index}={text}" for index, text in enumerate(step.instruction.mount_texts)),
                *(f"program{index}={text}" for index, (_, text) in enumerate(step.files)),
            ]  # fmt: skip
            for mount in step.mounts:
                if mount.type == "bind":
                    inputs.parts[f"mount {mount.target}"] = self._mounted(mount.source, mount.source_path, step, stack)
            return []
        inputs.parts["setting"] = [f"workdir={step.workdir}", f"destination={step.destination}"]
        if not isinstance(step.instruction, Copy):
            return []
        copy = step.instruction
        inputs.parts["setting"] += [
            f"chown={step.chown}", f"chmod={step.chmod}", f"link={copy.link}", f"parents={copy.parents}",
            f"unpack={copy.unpack}",
        ]  # fmt: skip
        inputs.parts["inline"] = [f"{name}={text}" for name, text in step.files]
        sources = self._sources(step, copy, stack)
        inputs.parts["file"] = inputs_of(sources, owners=bool(copy.source))
        return sources

    def _mounted(self, source: str, path: str, step: Step, stack: ExitStack) -> list[str]:
        found = self._tree(source, step.node).find(path or ".", step.node, [])
        for one in found:
            stack.callback(one.opened.close)
        return inputs_of(found, owners=True)

    def _sources(self, step: Step, copy: Copy, stack: ExitStack) -> list[Source]:
        sources: list[Source] = []
        for text in step.sources:
            if copy.keyword == "ADD" and is_git(text):
                from specrun.build import remote

                folder = self._fresh("git")
                _, where = remote.clone(
                    text, folder, step.node, keep_git=bool(copy.keep_git_dir), checksum=copy.checksum
                )
                found = self._folder(where, stack).find(".", step.node, step.exclude)
            elif copy.keyword == "ADD" and is_url(text):
                from specrun.build import remote

                path = remote.fetch(text, self._fresh("url"), step.node, copy.checksum)
                found = self._folder(os.path.dirname(path), stack).find(os.path.basename(path), step.node, [])
                for one in found:
                    one.wanted = text
            else:
                found = self._tree(copy.source, step.node).find(text, step.node, step.exclude, parents=copy.parents)
            for one in found:
                stack.callback(one.opened.close)
            sources += found
        return sources

    def _fresh(self, kind: str) -> str:
        folder = f"{self._work}/{kind}{os.urandom(4).hex()}"
        os.mkdir(folder, 0o755)
        return folder

    def _folder(self, path: str, stack: ExitStack) -> Tree:
        opened = Fd(os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC))
        stack.callback(opened.close)
        return Tree(opened, path)

    def _make(
        self, step: Step, lower: list[str], state: StageState, sources: list[Source], evaluator: Evaluator,
        stack: ExitStack,
    ) -> Layer | None:  # fmt: skip
        """Do what the step says; gives its layer, or None when it makes none."""
        if step.kind == "meta":
            return None
        self._missed = True
        base = self._fresh("step")
        upper = f"{base}/upper"
        os.mkdir(upper, 0o755)
        stack.callback(remove_tree, base)
        try:
            if step.kind == "run":
                self._run(step, lower, state, upper, stack)
            else:
                self._write(step, lower, sources, base, evaluator)
            if step.kind == "workdir" and is_empty(upper):
                return None
            return self.layers.commit(upper, lower, self.epoch)
        except OSError as error:
            if isinstance(error, SpecrunError) or error.errno != 28:
                raise
            raise BuildFailed(
                f"{step.node.keyword} failed: the disk is full", node=step.node,
                hint="free some space and build again; the finished steps are kept",
            ) from error  # fmt: skip

    def _run(self, step: Step, lower: list[str], state: StageState, upper: str, stack: ExitStack) -> None:
        runner = self._runner

        def announce(identity: str) -> None:
            with open(f"{self._work}/container", "a", encoding="ascii") as file:
                file.write(f"{identity}\n")
            self.progress.running(identity)

        out, err = self.progress.streams()
        user = step.config.get("User", "")
        container, status = runner.run(step, lower, state.id, user, out, err, stack, announce)
        if status:
            self.progress.failed()
            if self.shell_on_error:
                self.progress.note(f"The command failed with status {status}; this is a shell where it did")
                runner.shell(container, step, lower, user)
            runner.discard(container)
            raise BuildFailed(
                f"The command '{' '.join(step.argv)}' returned a non-zero code: {status}", node=step.node,
                exit_status=status,
            )  # fmt: skip
        runner.finish(container, step, lower, upper)
        self.progress.removed(container.id)

    def _write(self, step: Step, lower: list[str], sources: list[Source], base: str, evaluator: Evaluator) -> None:
        """WORKDIR, COPY and ADD: into an overlay of the layers so far that is attached nowhere."""
        upper = f"{base}/upper"
        link = isinstance(step.instruction, Copy) and step.instruction.link
        umask = os.umask(0)
        try:
            if not lower or link:
                target_fd = Fd(os.open(upper, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC))
            else:
                os.mkdir(f"{base}/work", 0o755)
                target_fd = mounts.new_overlay(lower, upper, f"{base}/work")
            with target_fd:
                if isinstance(step.instruction, Copy):
                    self._copy(step, step.instruction, target_fd.number, lower, sources)
                else:
                    copying.Target(target_fd.number, step.node, None).folder(step.destination).close()
        finally:
            os.umask(umask)

    def _copy(self, step: Step, copy: Copy, root: int, lower: list[str], sources: list[Source]) -> None:
        owner: tuple[int, int] | None = None if copy.source else (0, 0)
        if step.chown:
            owner = self._owner(step, root, lower, copy.link)
        target = copying.Target(root, step.node, owner, modes.parse(step.chmod) if step.chmod else None)

        def unpack(source: Source, path: str) -> bool:
            wanted = copy.keyword == "ADD" and (copy.unpack or (copy.unpack is None and not is_url(source.wanted)))
            if not wanted or source.is_folder:
                return False
            from specrun.build import remote

            with source.reopen() as opened:
                chunks = remote.archive_of(opened.number)
                if chunks is None:
                    return False
                from specrun.store.layers import unpack_into

                with target.folder(path) as folder:
                    unpack_into(chunks, folder.number)
            return True

        copying.copy_all(
            target, sources, step.destination, step.workdir, unpack, parents=copy.parents, extra=len(step.files)
        )
        path, as_folder = copying.destination_of(step.destination, step.workdir)
        as_folder = as_folder or len(step.files) + len(sources) > 1 or target.is_folder(path)
        for name, text in step.files:
            to = f"{path}/{name}" if as_folder else path
            target.write(to, text.encode("utf-8", "surrogateescape"), 0o644)

    def _owner(self, step: Step, root: int, lower: list[str], link: bool) -> tuple[int, int]:
        try:
            if link and lower:
                with mounts.new_view(lower) as view:
                    return _ids(view.number, step.chown)
            return _ids(root, step.chown)
        except UnknownUser as error:
            raise BuildFailed(f"{step.node.keyword} failed: {error}", node=step.node, word=step.chown) from error

    def _tree(self, name: str, node: Any) -> Tree:
        """The tree that `--from` means: "" the build context, a named context, a stage or an image."""
        if name in self._trees:
            return self._trees[name]
        if not name:
            tree = self._context(self.request.context, "build context", self._ignore_file(self.request.context), node)
        elif name in self.request.contexts and not self.request.contexts[name].startswith("docker-image://"):
            folder = self.request.contexts[name]
            tree = self._context(folder, f"context {name}", os.path.join(folder, ".dockerignore"), node)
        else:
            tree = Tree(self._view(self._layers_of(name, node)), f"stage or image {name}")
        self._trees[name] = tree
        return tree

    def _layers_of(self, name: str, node: Node) -> list[str]:
        stage = None if name in self.request.contexts else self.graph.stage(name)
        if stage is not None and stage.number in self.states:
            return self.states[stage.number].lower(self.layers)
        reference = self.request.contexts.get(name, name).removeprefix("docker-image://")
        if reference == "scratch":
            return []
        return self.images.lower_directories(self._image(reference, node))

    def _view(self, lower: list[str]) -> Fd:
        if not lower:
            return Fd(os.open(self._fresh("empty"), os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC))
        view = mounts.new_view(lower)
        if not self._mounting:
            return view
        path = self._fresh("tree")
        with view, Fd(os.open(path, os.O_PATH | os.O_CLOEXEC)) as target:
            libc.move_mount(view.number, target.number)
        self._mounted_trees.append(path)
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
        own = f"{self.path}.dockerignore" if self.path else ""
        return own if own and os.path.exists(own) else os.path.join(folder, ".dockerignore")

    def _close_trees(self) -> None:
        for tree in self._trees.values():
            tree.root.close()
        for path in self._mounted_trees:
            libc.umount(path, 2)


def read_ignored(path: str) -> Patterns | None:
    """The patterns of a `.dockerignore` file; None when there is none."""
    try:
        with open(path, encoding="utf-8", errors="surrogateescape") as file:
            return Patterns(patterns_of(file.read(1 << 20)))
    except (FileNotFoundError, NotADirectoryError):
        return None


def _ids(root: int, text: str) -> tuple[int, int]:
    user, colon, group = text.partition(":")
    if not colon:
        found = resolve(root, user)
        return found.uid, found.gid if not user.isdigit() else int(user)
    found = resolve(root, f"{user}:{group or '0'}")
    return found.uid, found.gid


def _shown(node: Node) -> str:
    """An instruction as the classic builder prints it."""
    written = node.original.strip()
    keyword, _, rest = written.partition(" ") if " " in written else written.partition("\t")
    return f"{keyword.upper()} {rest.strip()}"


def _created(epoch: int | None) -> str:
    import time

    if epoch is not None:
        return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(epoch))
    moment = time.time()
    return f"{time.strftime('%Y-%m-%dT%H:%M:%S', time.gmtime(moment))}.{int(moment % 1 * 1_000_000_000):09d}Z"


def _is_work_left(root: Root) -> bool:
    """Whether another build is at work, or one that was killed has left something."""
    try:
        return bool(os.listdir(f"{root.path}/build/work"))
    except FileNotFoundError:
        return False


def _epoch_of_environment() -> int | None:
    text = os.environ.get("SOURCE_DATE_EPOCH", "")
    return int(text) if text.isascii() and text.isdigit() else None
