"""The build itself: stages in order, each step found in the cache or made, the result an image of the store."""

from __future__ import annotations

import os
from contextlib import ExitStack

from specrun.build.cache import Cache, Explainer
from specrun.build.errors import BuildFailed, DockerfileError
from specrun.build.evaluation import Platform, Scope
from specrun.build.exchange import records_of
from specrun.build.instructions import Run, read
from specrun.build.layering import LayerStore, StageState
from specrun.build.parser import parse
from specrun.build.stage import StageBuilder, Work
from specrun.build.stages import Graph
from specrun.build.trees import unmount_below
from specrun.errors import NotFound, SpecrunError, UsageError
from specrun.files import locked, remove_tree
from specrun.oci import platform
from specrun.oci.reference import InvalidReference, Reference
from specrun.store.images import ImageStore
from specrun_runtime.fds import Fd

TYPE_CHECKING = False
if TYPE_CHECKING:
    from specrun.build.exchange import Place
    from specrun.build.instructions import Program, Stage
    from specrun.build.parser import Node
    from specrun.build.progress import Progress
    from specrun.build.request import BuildRequest
    from specrun.paths import Root
    from specrun.store.images import Image

_CHECK = "BUILDKIT_DOCKERFILE_CHECK"
"""A build argument that says which checks are made, as the directive `check` does."""


def host_platform() -> Platform:
    """The platform of this machine, the only one that is built for."""
    return Platform(platform.host())


def is_built_here(asked: str) -> bool:
    """Whether a platform, by any of its names, is this machine's."""
    try:
        return platform.parse(asked) == platform.host()
    except UsageError:
        return False


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


class Plan:
    """What one stage will be made of: its base image if it has one, and the number of its first step."""

    __slots__ = ("first", "image", "stage")

    def __init__(self, stage: Stage, image: Image | None, first: int) -> None:
        self.stage = stage
        self.image = image
        self.first = first


class Build:
    """One build. `run` does it."""

    def __init__(self, root: Root, request: BuildRequest, progress: Progress) -> None:
        self.root = root
        self.request = request
        self.progress = progress
        self.images = ImageStore(root)
        self.layers = LayerStore(root)
        self.cache = Cache(root, self.layers, request.cache_from)
        request.check()
        _check_network(root, request.network)
        self.program, self.path = load(request)
        self.platform = host_platform()
        if request.platform and not is_built_here(request.platform):
            raise SpecrunError(
                f"cannot build for {request.platform}: this machine runs {self.platform}", hint="leave --platform out"
            )
        self.scope = Scope(self.program, request.arguments, self.platform, self.platform, request.target or "default")
        self.epoch = int(self.scope.epoch) if self.scope.epoch else _epoch_of_environment()
        self._refuse_warnings()
        self.graph = Graph(self.program, self.scope, frozenset(request.contexts))
        self.target = self.graph.target(request.target)
        self.states: dict[int, StageState] = {}
        """Of the stages that are made."""
        self.keys: dict[int, list[str]] = {}
        """The cache keys of their steps."""
        self.explainer = Explainer(root, f"{os.path.abspath(request.context)}\0{self.path}\0{self.target.number}")
        self.shell_on_error = False
        self.pulled: dict[str, Image] = {}
        """By name, where newer images are asked for: once in a build."""
        self.folder = ""
        """Where everything is that is in the making; it goes when the build ends."""
        self.mounting = False
        """Whether the build has a mount namespace of its own, for what RUN --mount binds."""
        self.total = 0
        self.work: Work

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
        failed = True
        try:
            result = self._run()
            failed = False
        finally:
            self.progress.close(failed=failed)
        return result

    def _run(self) -> Result:
        references = [Reference.parse(tag) for tag in self.request.tags]
        order = self.graph.order(self.target)
        if _is_work_left(self.root):
            from specrun.build.running import mend

            mend(self.root)
        with self.images.adding(), ExitStack() as stack:
            plans = self._plans(order)
            self._prepare(stack, plans)
            self._make(plans)
            state = self.states[self.target.number]
            self._label(state)
            if any(place.inline for place in self.request.cache_to):
                state.records = records_of(self.cache.records(self._keys(all_stages=False)))
            image = self._known(state.id, references) or self.images.add(state.layers, state.document(), references)
            self.explainer.save(self.folder)
            for place in self.request.cache_to:
                if not place.inline:
                    self._export(place)
        from specrun.build.evaluation import PROXIES

        unused = sorted(set(self.request.arguments) - self.scope.declared - PROXIES - {"SOURCE_DATE_EPOCH", _CHECK})
        return Result(image.id, image.manifest_digest, [reference.familiar for reference in references], unused)

    def _export(self, place: Place) -> None:
        """Let a cache be written. Raises SpecrunError; the image is there then."""
        try:
            self.cache.export(place, self._keys(all_stages=place.all_stages))
        except SpecrunError as error:
            message = f"the image is built, but its cache could not be exported to {place}: {error.message}"
            if not place.lenient:
                raise SpecrunError(message, hint=error.hint or "ignore-error=true lets the build succeed") from error
            self.progress.note(f"[Warning] {message}")

    def _keys(self, *, all_stages: bool) -> list[str]:
        """Those of the steps of all stages, or of the steps that the image consists of."""
        stages = self.graph.order(self.target) if all_stages else self.graph.line(self.target)
        return [key for stage in stages for key in self.keys[stage.number]]

    def _make(self, plans: list[Plan]) -> None:
        if self.progress.interval is None and (len(plans) == 1 or self.shell_on_error):
            for plan in plans:
                self.make(plan)
            return
        from specrun.build.crew import Crew

        self.cache.look()
        for complaint in self.cache.complaints():
            self.progress.note(complaint)
        Crew(self, plans, self.progress).run()

    def make(self, plan: Plan) -> None:
        """Make one stage, in this process. Raises SpecrunError."""
        builder = StageBuilder(self.work, plan, self.progress)
        self.states[plan.stage.number] = builder.run()
        self.keys[plan.stage.number] = builder.keys

    def _prepare(self, stack: ExitStack, plans: list[Plan]) -> None:
        """The folder for what is in the making, and the mount namespace if one is needed."""
        self.folder = f"{self.root.path}/build/work/{os.urandom(8).hex()}"
        with locked(self.root.lock("builds"), shared=True):  # whoever mends sees no folder that is not locked yet
            os.makedirs(self.folder, mode=0o700)
            stack.callback(remove_tree, self.folder)
            stack.enter_context(locked(f"{self.folder}/lock"))
        self.cache.drafts = self.folder
        self.mounting = any(_has_mounts(plan) for plan in plans)
        if self.mounting:
            from specrun.build.running import enter_own_namespace

            enter_own_namespace()  # before anything is opened: only what is of it can be mounted in it
            stack.callback(unmount_below, self.folder)
        self.work = Work(self, self.folder, self.states, mounting=self.mounting)
        stack.callback(self.work.close)

    def _plans(self, order: list[Stage]) -> list[Plan]:
        plans = []
        for stage in order:
            for instruction in stage.instructions:
                if isinstance(instruction, Run):
                    instruction.check_mounts()
            plans.append(Plan(stage, self._base(stage), self.total + 1))
            self.total += len(stage.instructions) + 1
        return plans

    def _known(self, identity: str, references: list[Reference]) -> Image | None:
        """The image, if it is in the store under all of these names already: then there is nothing to write."""
        try:
            image = self.images.resolve(identity)
        except SpecrunError:
            return None
        return image if all(reference.canonical in image.references for reference in references) else None

    def _label(self, state: StageState) -> None:
        if self.request.labels:
            state.config = {**state.config, "Labels": {**(state.config.get("Labels") or {}), **self.request.labels}}
            words = " ".join(f"{name}={value}" for name, value in sorted(self.request.labels.items()))
            state.add(f"LABEL {words}", state.created, None)

    def _base(self, stage: Stage) -> Image | None:
        """The stage's base image, looked up before anything runs; None for scratch and for another stage."""
        asked = self.scope.platform_of(stage)
        if asked and not is_built_here(asked):
            raise DockerfileError(
                f"cannot build for {asked}: this machine runs {self.platform}", node=stage.node, word=stage.platform
            )
        base = self.graph.bases[stage.number]
        if base == "scratch" or self._is_stage(stage, base):
            return None
        name = self.request.contexts.get(base, base)
        if name is not base and not name.startswith("docker-image://"):
            raise DockerfileError(f"the context {base} is a folder, which is no base image", node=stage.node, word=base)
        return self.image(name.removeprefix("docker-image://"), stage.node)

    def _is_stage(self, stage: Stage, base: str) -> bool:
        if base in self.request.contexts or base.isdigit():
            return False
        return self.graph.stage(base, stage.number) is not None

    def image(self, name: str, node: Node) -> Image:
        """An image by its name, pulled where it is not there, or where newer ones are wanted. Raises BuildFailed."""
        if self.request.pull:
            return self._newest(name, node)
        try:
            return self.images.resolve(name)
        except InvalidReference as error:
            raise DockerfileError(error.message, node=node, word=name, hint=error.hint) from error
        except NotFound as error:
            try:
                return _pull(self.root, name)
            except SpecrunError as refusal:
                message = f"{error.message} locally, and {refusal.message}"
                raise BuildFailed(message, node=node, word=name, hint=error.hint) from refusal

    def _newest(self, name: str, node: Node) -> Image:
        try:
            if name not in self.pulled:
                own = Reference.parse(name).canonical in self.request.made_beside
                self.pulled[name] = self.images.resolve(name) if own else _pull(self.root, name)
            return self.pulled[name]
        except SpecrunError as error:
            raise BuildFailed(error.message, node=node, word=name, hint=error.hint) from error


def _pull(root: Root, name: str) -> Image:
    """The image of this name, as its registry has it now. Raises SpecrunError."""
    from specrun.registry.pull import pull

    return pull(root, Reference.parse(name)).image


def _has_mounts(plan: Plan) -> bool:
    """Whether a step of the stage, or of what its base image's ONBUILD adds, has a `--mount`."""
    triggers = (plan.image.config.get("config") or {}).get("OnBuild") if plan.image else None
    return any(isinstance(one, Run) and one.mount_texts for one in plan.stage.instructions) or any(
        "--mount" in text for text in triggers or ()
    )


def _check_network(root: Root, mode: str) -> None:
    """Refuse a network that is not there, although every step may be in the cache. Raises NotFound."""
    kind, _, name = mode.partition(":")
    if kind == "container":
        from specrun.engine.containers import Engine

        Engine(root).get(name)
    elif mode not in ("default", "bridge", "none", "host"):
        from specrun.network.networks import NetworkStore

        try:
            NetworkStore(root).get(mode)
        except NotFound as error:
            hint = f"`specrun network create {mode}` makes it, `specrun network ls` lists what there is"
            raise NotFound(f"--network {mode}: {error.message}", hint=hint) from error


def _is_work_left(root: Root) -> bool:
    """Whether another build is at work, or one that was killed has left something."""
    try:
        return bool(os.listdir(f"{root.path}/build/work"))
    except FileNotFoundError:
        return False


def _epoch_of_environment() -> int | None:
    text = os.environ.get("SOURCE_DATE_EPOCH", "")
    return int(text) if text.isascii() and text.isdigit() else None
