"""One stage, step by step: each is found in the cache or made, and adds to the stage's layers and configuration."""

from __future__ import annotations

import os
from contextlib import ExitStack

from specrun.build import copying, modes
from specrun.build.cache import Inputs
from specrun.build.errors import BuildFailed
from specrun.build.evaluation import Evaluator, Step, is_git, is_url
from specrun.build.exchange import Record
from specrun.build.instructions import Copy, Run
from specrun.build.layering import StageState, is_empty
from specrun.build.tree import Source, Tree, inputs_of
from specrun.build.trees import Trees, fresh
from specrun.errors import SpecrunError
from specrun.files import remove_tree
from specrun_runtime import jsontext, mounts
from specrun_runtime.fds import Fd
from specrun_runtime.users import UnknownUser, resolve

TYPE_CHECKING = False
if TYPE_CHECKING:
    from specrun.build.executor import Build, Plan
    from specrun.build.parser import Node
    from specrun.build.progress import Progress
    from specrun.build.running import Runner
    from specrun.store.images import Image
    from specrun.store.layers import Layer


class Work:
    """Where stages are made: a folder of the build's, the trees that were opened, and what runs commands."""

    def __init__(self, build: Build, folder: str, states: dict[int, StageState], *, mounting: bool) -> None:
        self.build = build
        self.folder = folder
        self.states = states
        """The finished stages that may be asked for."""
        self.trees = Trees(build, states, folder, mounting=mounting)
        self._runner: Runner | None = None

    @property
    def runner(self) -> Runner:
        """What runs commands; a build that finds all of them in the cache never imports it."""
        if self._runner is None:
            from specrun.build.request import Secrets
            from specrun.build.running import Runner

            request = self.build.request
            secrets = request.secrets or Secrets()
            self._runner = Runner(self.build.root, self.folder, secrets, self.trees.find, request)
        return self._runner

    def close(self) -> None:
        """Close the trees."""
        self.trees.close()


class StageBuilder:
    """Makes one stage. `keys` are the cache keys of its steps, when it is done."""

    def __init__(self, work: Work, plan: Plan, progress: Progress) -> None:
        self.build = work.build
        self.work = work
        self.plan = plan
        self.stage = plan.stage
        self.progress = progress
        self.keys: list[str] = []
        self._missed = False

    def run(self) -> StageState:
        """Make it; gives what it has become. Raises SpecrunError."""
        build, stage, image = self.build, self.stage, self.plan.image
        base = build.graph.bases[stage.number]
        number = self.plan.first
        written = " ".join(stage.node.original.split())
        self.progress.step(number, build.total, f"{stage.node.keyword} {written.partition(' ')[2]}")
        if image is not None:
            state = self._from_image(image)
        elif base == "scratch":
            state = StageState(build.platform.architecture, build.platform.os)
        else:
            found = build.graph.stage(base, stage.number)
            state = self.work.states[found.number].copy() if found else StageState("", "")
        self.progress.made("" if base == "scratch" else state.id if image is None else image.id)
        evaluator = Evaluator(build.scope, state.config, scratch=base == "scratch")
        triggers = evaluator.triggers(state.config, stage.node)
        if triggers:
            self.progress.note(f"# Executing {len(triggers)} build trigger{'s' if len(triggers) > 1 else ''}")
        for instruction in triggers:
            self._step(evaluator.step(instruction), state, evaluator)
        for instruction in stage.instructions:
            number += 1
            self.progress.step(number, build.total, _shown(instruction.node))
            self._step(evaluator.step(instruction), state, evaluator)
        return state

    def _from_image(self, image: Image) -> StageState:
        build, document = self.build, image.config
        state = StageState(
            document.get("architecture") or build.platform.architecture, document.get("os") or "linux",
            document.get("variant") or "",
        )  # fmt: skip
        build.images.lower_directories(image)
        state.layers = build.images.layers(image)
        state.history = list(document.get("history") or [])
        state.config = dict(document.get("config") or {})
        state.author, state.created = document.get("author") or "", document.get("created") or ""
        state.chain = jsontext.dumps([image.id, image.diff_ids])
        return state

    def _step(self, step: Step, state: StageState, evaluator: Evaluator) -> None:
        with ExitStack() as stack:
            lower = state.lower(self.build.layers)
            inputs = Inputs(state.chain, step.created_by or step.node.original)
            sources = self._inputs(step, inputs, stack)
            key = inputs.key()
            refused = "--no-cache was given" if self.build.request.no_cache else ""
            record = None if refused else self.build.cache.find(key)
            for complaint in self.build.cache.complaints():
                self.progress.note(complaint)
            place = f"{self.stage.number}/{step.node.line}/{step.created_by if step.node is self.stage.node else ''}"
            self.progress.explain(self.build.explainer.reason(place, inputs, record is not None, refused))
            if record is None:
                layer = self._make(step, lower, state, sources, evaluator, stack)
                record = Record(_created(self.build.epoch), layer)
                self.build.cache.save(key, record)
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
            inputs.parts["configuration"] = [jsontext.dumps(step.config, sort_keys=True)]
            return []
        if step.kind == "run" and isinstance(step.instruction, Run):
            inputs.parts["argument"] = step.arguments
            inputs.parts["environment"] = step.environment
            inputs.parts["setting"] = [
                f"workdir={step.workdir}", f"user={step.config.get('User', '')}", f"network={step.instruction.network}",
                *(f"flag{index}={text}" for index, text in enumerate(step.instruction.mount_texts)),
                *(f"program{index}={text}" for index, (_, text) in enumerate(step.files)),
                *(f"host={text}" for text in self.build.request.extra_hosts),
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
        found = self.work.trees.find(source, step.node).find(path or ".", step.node, [])
        for one in found:
            stack.callback(one.opened.close)
        return inputs_of(found, owners=True)

    def _sources(self, step: Step, copy: Copy, stack: ExitStack) -> list[Source]:
        sources: list[Source] = []
        for text in step.sources:
            if copy.keyword == "ADD" and is_git(text):
                from specrun.build import remote

                folder = fresh(self.work.folder, "git")
                _, where = remote.clone(
                    text, folder, step.node, keep_git=bool(copy.keep_git_dir), checksum=copy.checksum
                )
                found = self._folder(where, stack).find(".", step.node, step.exclude)
            elif copy.keyword == "ADD" and is_url(text):
                from specrun.build import remote

                path = remote.fetch(text, fresh(self.work.folder, "url"), step.node, copy.checksum)
                found = self._folder(os.path.dirname(path), stack).find(os.path.basename(path), step.node, [])
                for one in found:
                    one.wanted = text
            else:
                found = self.work.trees.find(copy.source, step.node).find(
                    text, step.node, step.exclude, parents=copy.parents
                )
            for one in found:
                stack.callback(one.opened.close)
            sources += found
        return sources

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
        base = fresh(self.work.folder, "step")
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
            return self.build.layers.commit(upper, lower, self.build.epoch)
        except OSError as error:
            if isinstance(error, SpecrunError) or error.errno != 28:
                raise
            raise BuildFailed(
                f"{step.node.keyword} failed: the disk is full", node=step.node,
                hint="free some space and build again; the finished steps are kept",
            ) from error  # fmt: skip

    def _run(self, step: Step, lower: list[str], state: StageState, upper: str, stack: ExitStack) -> None:
        runner = self.work.runner

        def announce(identity: str) -> None:
            with open(f"{self.build.folder}/container", "a", encoding="ascii") as file:
                file.write(f"{identity}\n")
            self.progress.running(identity)

        out, err = self.progress.streams()
        user = step.config.get("User", "")
        container, status = runner.run(step, lower, state.id, user, out, err, stack, announce)
        if status:
            self.progress.failed()
            if self.build.shell_on_error:
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
