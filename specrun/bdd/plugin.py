"""The pytest plugin: collects `.feature` files, gives each scenario its world, and keeps the evidence.

It is loaded in every pytest of an environment that has specrun, so it does nothing where pytest-bdd is missing and
nothing where there are no features.
"""

from __future__ import annotations

import json
import os
import re
import signal
import time
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

try:
    import pytest_bdd
except ImportError:
    pytest_bdd = None  # type: ignore[assignment]

TAGS = {
    "learner": "the scenario looks at what a learner has done (specrun workshop check)",
    "internet": "the scenario needs other hosts, such as a package archive",
    "specrun": "the scenario is about what only specrun has",
    "slow": "the scenario takes more than ten seconds",
}
"""Tags of scenarios that mean something here."""

_RESULT = pytest.StashKey[dict[str, Any]]()


def pytest_addoption(parser: pytest.Parser) -> None:
    """Options of features."""
    group = parser.getgroup("specrun", "features on container engines")
    group.addoption(
        "--engine", choices=("specrun", "docker", "podman"), default="specrun", help="what runs the features"
    )
    group.addoption(
        "--results", metavar="FILE", help="write what every step did and showed to FILE, for specrun report"
    )
    group.addoption(
        "--learner", metavar="ROOT", help="look at what a learner has done in this state folder, and only that"
    )
    parser.addini("specrun_features", "collect .feature files (default: true)", type="bool", default=True)


def pytest_configure(config: pytest.Config) -> None:
    """Make the tags known."""
    for tag, meaning in TAGS.items():
        config.addinivalue_line("markers", f"{tag}: {meaning}")
    if pytest_bdd is not None:
        config.pluginmanager.register(_Features(config), "specrun-features")


class _Features:
    """The hooks that need pytest-bdd."""

    def __init__(self, config: pytest.Config) -> None:
        self.config = config
        self.results: list[dict[str, Any]] = []
        self.started = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
        self.prepared = False

    def pytest_collect_file(self, file_path: Path, parent: pytest.Collector) -> pytest.Module | None:
        """A feature file is a module whose tests are its scenarios."""
        if file_path.suffix != ".feature" or not self.config.getini("specrun_features"):
            return None
        if not self.prepared:
            self.prepared = True
            self._prepare()
        module: pytest.Module = FeatureFile.from_parent(parent, path=file_path)
        return module

    def _prepare(self) -> None:
        """Leave nothing when we are told to end; clear what those have left who were not told."""
        from specrun.bdd.processes import heed_sigterm
        from specrun.bdd.scene import sweep
        from specrun_runtime import libc
        from specrun_runtime.constants import Prctl

        heed_sigterm()
        if hasattr(self.config, "workerinput"):  # of pytest-xdist, which lets workers go on for a while without it
            libc.prctl(Prctl.SET_PDEATHSIG, signal.SIGTERM)
        sweep()

    def pytest_collection_modifyitems(self, items: list[pytest.Item]) -> None:
        """Scenarios about a learner's own state, or those that make their own."""
        wanted = bool(self.config.getoption("--learner"))
        items[:] = [
            item
            for item in items
            if not isinstance(item.parent, FeatureFile) or (item.get_closest_marker("learner") is not None) is wanted
        ]

    def pytest_bdd_before_scenario(self, request: pytest.FixtureRequest, feature: Any, scenario: Any) -> None:
        """Begin its record, and make its world."""
        if _is_ours(request):  # before the world is made, which may skip the scenario, or fail
            request.node.stash[_RESULT] = self._record(request.node, feature, scenario)
        world = _world_of(request)
        if world is None:
            return
        world.section = feature.name
        world.source = Path(feature.filename).parent
        if "internet" in _tags(feature, scenario):
            world.engine.connect()

    def _record(self, item: pytest.Item, feature: Any, scenario: Any) -> dict[str, Any]:
        """What is known of a scenario before its first step."""
        return {
            "feature": feature.name,
            "file": os.path.relpath(feature.filename, self.config.rootpath),
            "scenario": scenario.name,
            "rule": scenario.rule.name if getattr(scenario, "rule", None) else "",
            "line": scenario.line_number,
            "example": getattr(item, "callspec", None) and item.callspec.id or "",  # type: ignore[attr-defined]
            "tags": sorted(_tags(feature, scenario)),
            "engine": self.config.getoption("--engine"),
            "steps": [],
            "planned": [f"{step.keyword.strip()} {step.name}" for step in scenario.steps],
        }

    def pytest_bdd_before_step(self, request: pytest.FixtureRequest, step: Any) -> None:
        """Begin the step's evidence."""
        world = _world_of(request)
        if world is not None:
            world.evidence = []
            world.began = time.monotonic()

    def pytest_bdd_after_step(self, request: pytest.FixtureRequest, step: Any) -> None:
        """What must hold after every step."""
        world = _world_of(request)
        if world is None:
            return
        problems = world.engine.problems()
        self._note(request, step, "passed" if not problems else "failed", "\n".join(problems))
        if problems:
            raise AssertionError("after this step:\n" + "\n".join(problems))

    def pytest_bdd_step_error(self, request: pytest.FixtureRequest, step: Any, exception: BaseException) -> None:
        """Keep what the step said."""
        self._note(request, step, "failed", str(exception))

    def pytest_bdd_step_func_lookup_error(
        self, request: pytest.FixtureRequest, step: Any, exception: BaseException
    ) -> None:
        """A sentence that nobody knows."""
        self._note(request, step, "undefined", f"no step says so; {_nearest(step.type, step.name)}")

    def _note(self, request: pytest.FixtureRequest, step: Any, status: str, error: str) -> None:
        world, result = _world_of(request), request.node.stash.get(_RESULT, None)
        if world is None or result is None:
            return
        result["steps"].append(
            {
                "keyword": step.keyword.strip(),
                "text": step.name,
                "status": status,
                "seconds": round(time.monotonic() - world.began, 3),
                "commands": world.evidence,
                "error": error,
            }
        )
        world.evidence = []

    @pytest.hookimpl(hookwrapper=True)
    def pytest_runtest_makereport(self, item: pytest.Item) -> Iterator[None]:
        """Send the record along with pytest's own, also from a worker of xdist."""
        outcome = yield
        report = outcome.get_result()  # type: ignore[attr-defined]
        result = item.stash.get(_RESULT, None)
        if result is None or report.when != "call":
            return
        report.user_properties.append(("specrun", json.dumps(result)))
        if report.failed and any(step["error"] for step in result["steps"]):
            report.longrepr = _story(result)

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """Collect the records."""
        if hasattr(self.config, "workerinput"):
            return
        kept = dict(report.user_properties).get("specrun")
        if kept and report.when == "call":
            result = json.loads(str(kept))
            result["status"] = report.outcome
            result["seconds"] = round(report.duration, 3)
            result["id"] = report.nodeid
            result["error"] = "" if report.passed else _reason(report)
            self.results.append(result)
        elif report.nodeid.partition("::")[0].endswith(".feature") and (report.failed or report.skipped):
            self._no_scenario(report)

    def _no_scenario(self, report: pytest.TestReport) -> None:
        """One that was skipped, or whose engine could not be had or left something behind."""
        file, _, name = report.nodeid.partition("::")
        for result in self.results:
            if result["id"] == report.nodeid:
                result["status"] = "failed"
                result["error"] = report.longreprtext[-4000:]
                return
        self.results.append(
            {
                "feature": file, "file": file, "scenario": name, "rule": "", "line": 0, "example": "", "tags": [],
                "engine": self.config.getoption("--engine"), "steps": [], "planned": [], "id": report.nodeid,
                "status": "skipped" if report.skipped else "failed", "seconds": 0.0, "error": _reason(report),
            }
        )  # fmt: skip

    def pytest_sessionfinish(self) -> None:
        """Write the results."""
        path = self.config.getoption("--results")
        if path and not hasattr(self.config, "workerinput"):
            from specrun.bdd.results import write

            write(path, self.results, str(self.config.getoption("--engine")), self.started)


class FeatureFile(pytest.Module):
    """A `.feature` file as a test module, without Python of its own."""

    def _getobj(self) -> ModuleType:
        module = ModuleType(self.path.stem)
        module.__file__ = str(self.path)
        code = compile(
            "from pytest_bdd import scenarios\nscenarios(path, features_base_dir=base)", str(self.path), "exec"
        )
        vars(module).update(path=str(self.path), base=str(self.path.parent))
        try:
            exec(code, vars(module))  # pytest-bdd puts the tests into the module that calls it
        except pytest_bdd.exceptions.NoScenariosFound as error:
            raise self.CollectError(f"{self.path.name}: there is no scenario in it") from error
        except pytest_bdd.exceptions.GherkinParseError as error:
            raise self.CollectError(
                f"{self.path.name}:{error.line}: {error.message}\n    {error.line_content}"
            ) from error
        return module


if pytest_bdd is not None:
    from pytest_bdd import parsers, step

    import specrun.bdd.steps  # noqa: F401 (fills the table)
    from specrun.bdd.bases import Bases
    from specrun.bdd.engines import BY_NAME, Learner
    from specrun.bdd.scene import scene
    from specrun.bdd.sentences import TABLE
    from specrun.bdd.world import World

    for _sentence in TABLE:
        step(parsers.re(_sentence.pattern.pattern, re.DOTALL), type_=_sentence.kind, converters=_sentence.converters)(
            _sentence.function
        )

    @pytest.fixture(scope="session")
    def bases(tmp_path_factory: pytest.TempPathFactory, worker_id: str) -> Iterator[Bases]:
        """The base images of this run, shared by all workers."""
        common = tmp_path_factory.getbasetemp()
        shared = (common if worker_id == "master" else common.parent) / "bases"
        made = Bases(Path(os.environ.get("SPECRUN_BASES") or shared))
        try:
            yield made
        finally:
            made.close()

    @pytest.fixture
    def world(request: pytest.FixtureRequest, bases: Bases) -> Iterator[World]:
        """One scenario's world."""
        name = str(request.config.getoption("--engine"))
        tags = {mark.name for mark in request.node.iter_markers()}
        if "specrun" in tags and name != "specrun":
            pytest.skip("about what only specrun has")
        with scene() as folder:
            learner = request.config.getoption("--learner")
            try:
                engine = Learner(folder, bases, str(learner)) if learner else BY_NAME[name](folder, bases)
            except RuntimeError as error:
                pytest.fail(str(error), pytrace=False)
            made = World(engine)
            try:
                yield made
            finally:
                made.close()
                engine.close()

    if not hasattr(pytest, "xdist"):

        @pytest.fixture(scope="session")
        def worker_id(request: pytest.FixtureRequest) -> str:
            """As pytest-xdist names the worker; "master" without it."""
            workerinput: dict[str, str] = getattr(request.config, "workerinput", {})
            return workerinput.get("workerid", "master")


def _reason(report: pytest.TestReport) -> str:
    """Why it was skipped, or what was wrong."""
    return str(report.longrepr[2]) if isinstance(report.longrepr, tuple) else report.longreprtext[-4000:]


def _story(result: dict[str, Any]) -> str:
    """A scenario that failed, up to the step that did, and what that said."""
    lines = [f"{result['file']}:{result['line']}  Scenario: {result['scenario']}"]
    for step in result["steps"]:
        lines.append(f"  {'ok' if step['status'] == 'passed' else 'NO'}  {step['keyword']} {step['text']}")
        lines += [f"        {row}" for row in step["error"].splitlines()]
    lines += [f"   -  {line}" for line in result["planned"][len(result["steps"]) :]]
    return "\n".join(lines)


def _nearest(kind: str, text: str) -> str:
    from difflib import get_close_matches

    from specrun.bdd.sentences import TABLE

    close = get_close_matches(text, [sentence.text for sentence in TABLE if sentence.kind == kind], 3, 0.4)
    return "the nearest are:\n" + "\n".join(close) if close else "docs/steps.md lists all steps"


def _world_of(request: pytest.FixtureRequest) -> Any:
    """The scenario's world; None in a scenario of somebody else's steps."""
    try:
        return request.getfixturevalue("world") if _is_ours(request) else None
    except pytest.FixtureLookupError:
        return None


def _is_ours(request: pytest.FixtureRequest) -> bool:
    return isinstance(request.node.parent, FeatureFile) or "world" in request.node.fixturenames


def _tags(feature: Any, scenario: Any) -> set[str]:
    return {*feature.tags, *scenario.tags}
