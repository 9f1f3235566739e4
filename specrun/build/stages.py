"""The stages of a Dockerfile as a graph: which of them the target needs, and in what order."""

from __future__ import annotations

from specrun.build.errors import DockerfileError
from specrun.build.instructions import Copy, Run

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

    from specrun.build.evaluation import Scope
    from specrun.build.instructions import Program, Stage
    from specrun.build.parser import Node


class Graph:
    """`needs[n]` are the numbers of the stages that stage `n` takes files from or is based on."""

    def __init__(self, program: Program, scope: Scope, named: frozenset[str] = frozenset()) -> None:
        self.program = program
        self.named = named
        """Names of contexts that were given on the command line: they come before stages of the same name."""
        if not program.stages:
            raise DockerfileError("dockerfile contains no stages to build", node=program.dockerfile.nodes[-1])
        self.bases = [scope.base_of(stage) for stage in program.stages]
        self.needs: list[list[int]] = []
        for stage in program.stages:
            self.needs.append(
                sorted({number for name, node in self._sources(stage) for number in self._find(stage, name, node)})
            )
        for stage in program.stages:
            self.order(stage)

    def stage(self, name: str, before: int | None = None) -> Stage | None:
        """The stage that `name` means, by its name or number, among those before number `before`."""
        stages = self.program.stages[:before]
        if name.isascii() and name.isdigit():
            return stages[int(name)] if int(name) < len(stages) else None
        return next((stage for stage in reversed(stages) if stage.name == name.lower()), None)

    def target(self, name: str) -> Stage:
        """The stage to build: the last one, or that of `--target`. Raises DockerfileError."""
        if not name:
            return self.program.stages[-1]
        found = self.stage(name)
        if found is None:
            known = ", ".join(stage.name for stage in self.program.stages if stage.name)
            raise DockerfileError(
                f"failed to reach build target {name} in Dockerfile", hint=f"the stages are {known}" if known else ""
            )
        return found

    def order(self, target: Stage) -> list[Stage]:
        """The stages that `target` needs and `target` itself, each after what it needs. Raises DockerfileError."""
        done: list[int] = []
        self._visit(target.number, [], done)
        return [self.program.stages[number] for number in done]

    def line(self, target: Stage) -> list[Stage]:
        """`target` and the stages that it is based on: those that its image consists of."""
        found: list[Stage] = [target]
        while True:
            stage = found[-1]
            base = self.bases[stage.number]
            above = None if base in self.named or base.isdigit() else self.stage(base, stage.number)
            if above is None:
                return found[::-1]
            found.append(above)

    def _visit(self, number: int, path: list[int], done: list[int]) -> None:
        if number in done:
            return
        if number in path:
            stage = self.program.stages[number]
            raise DockerfileError(f"circular dependency detected on stage: {stage.name or number}", node=stage.node)
        for needed in self.needs[number]:
            self._visit(needed, [*path, number], done)
        done.append(number)

    def _sources(self, stage: Stage) -> Iterator[tuple[str, Node]]:
        base = self.bases[stage.number]
        if base not in self.named:
            found = self.stage(base, stage.number) if not base.isdigit() else None
            if found:
                yield base, stage.node
        for instruction in stage.instructions:
            if isinstance(instruction, Copy) and instruction.source and instruction.source not in self.named:
                yield instruction.source, instruction.node
            elif isinstance(instruction, Run):
                for text in instruction.mount_texts:
                    for field in text.split(","):
                        key, _, value = field.partition("=")
                        if key.lower() == "from" and value not in self.named:
                            yield value, instruction.node

    def _find(self, stage: Stage, name: str, node: Node) -> Iterator[int]:
        found = self.stage(name, stage.number if node is stage.node else None)
        if found:
            yield found.number
        elif name.isascii() and name.isdigit():
            raise DockerfileError(
                f"invalid from flag value {name}: there is no stage of that number", node=node, word=name
            )
