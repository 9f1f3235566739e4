"""Reports say what the results say, the same way each time."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any
from xml.etree.ElementTree import fromstring

import pytest
from lxml import etree

from specrun.report import html, junit, markdown, model, waivers
from specrun.report.model import Verdict
from specrun.spec.problems import SpecProblems

GOLDEN = Path(__file__).parents[1] / "golden"


def scenario(name: str, status: str, **more: Any) -> dict[str, Any]:
    step = {"keyword": "When", "text": "I run `true`", "status": status, "seconds": 0.1, "error": "", "commands": []}
    if status == "failed":
        step["error"] = "expected <success> & more"
    return {
        "feature": "Hello", "file": "features/01_hello.feature", "scenario": name, "rule": "", "line": 3, "example": "",
        "tags": [], "engine": "specrun", "steps": [] if status == "skipped" else [step],
        "planned": ["When I run `true`", "Then it succeeds"], "id": f"x::{name}", "status": status, "seconds": 0.5,
        "error": "Skipped: no network" if status == "skipped" else "", **more,
    }  # fmt: skip


def run(*scenarios: dict[str, Any], engine: str = "specrun") -> dict[str, Any]:
    return {
        "engine": engine,
        "started": "2026-11-24T09:00:00Z",
        "configuration": {"engine": engine, "kernel": "Linux"},
        "scenarios": list(scenarios),
    }


def waiver(expires: str) -> waivers.Waiver:
    return waivers.Waiver("01_hello", "bad*", "*", "known", "me", expires, "waivers.yaml:1")


def verdicts(report: model.Report) -> dict[str, Verdict]:
    return {row.name: row.outcomes["specrun"].verdict for section in report.sections for row in section.scenarios}


def test_evidence_is_cut_for_a_small_report() -> None:
    long = scenario("good", "passed")
    long["steps"][0]["commands"] = [{"line": "x", "status": 0, "output": "a" * 90, "errors": "b", "seconds": 0.1}]
    (short,) = model.shortened([run(long)], 10)
    (command,) = short["scenarios"][0]["steps"][0]["commands"]
    assert (command["output"], command["errors"]) == ("aaaaaaaaaa… (90 characters)\n", "b")
    assert len(long["steps"][0]["commands"][0]["output"]) == 90  # what was given is as it was
    assert model.shortened([run(long)], 0)[0]["scenarios"][0]["steps"][0]["commands"] == []
    assert verdicts(model.build([short])) == {"good": Verdict.PASSED}


def test_verdicts() -> None:
    first = run(
        scenario("good", "passed"), scenario("bad", "failed"), scenario("off", "skipped"), scenario("odd", "failed")
    )
    again = run(scenario("bad", "failed"), scenario("odd", "passed"))
    report = model.build([first, again])
    assert verdicts(report) == {
        "good": Verdict.PASSED,
        "bad": Verdict.FAILED,
        "off": Verdict.SKIPPED,
        "odd": Verdict.FLAKY,
    }
    assert not report.holds


def test_a_waiver_holds_until_its_day() -> None:
    results = [run(scenario("bad", "failed"))]
    assert verdicts(model.build(results, [waiver("2026-11-24")])) == {"bad": Verdict.WAIVED}
    assert model.build(results, [waiver("2026-11-24")]).holds
    assert verdicts(model.build(results, [waiver("2026-11-23")])) == {"bad": Verdict.EXPIRED}
    assert not model.build(results, [waiver("2026-11-23")]).holds


def test_a_waiver_is_about_the_step_that_it_names() -> None:
    results = [run(scenario("bad [{{.Name}}]", "failed"), scenario("good", "passed"))]
    about = ("01_hello", "bad [{{.Name}}*", "specrun", "known", "me", "2030-01-01", "waivers.yaml:1")
    for step, verdict in (("I run *", Verdict.WAIVED), ("I run `false`", Verdict.FAILED)):
        report = model.build(results, [waivers.Waiver(*about, step)])
        assert verdicts(report)["bad [{{.Name}}]"] == verdict


def test_a_waiver_that_nothing_needs_is_named() -> None:
    results = [run(scenario("bad", "failed"), scenario("good", "passed"))]
    stale = waivers.Waiver("01_hello", "good", "*", "was known", "me", "2030-01-01", "waivers.yaml:2")
    elsewhere = waivers.Waiver("*", "*", "podman", "not run here", "me", "2030-01-01", "waivers.yaml:3")
    assert model.build(results, [waiver("2030-01-01"), stale, elsewhere]).unneeded == [stale]


def test_nothing_holds_where_nothing_ran() -> None:
    assert not model.build([run()]).holds


def test_steps_that_were_not_reached_are_shown() -> None:
    report = model.build([run(scenario("bad", "failed"))])
    steps = report.sections[0].scenarios[0].outcomes["specrun"].steps
    assert [(step.text, step.status) for step in steps] == [("I run `true`", "failed"), ("it succeeds", "not run")]


def test_a_difference_to_an_earlier_run() -> None:
    before = model.build([run(scenario("good", "passed"), scenario("gone", "passed"))])
    now = model.build([run(scenario("good", "failed"), scenario("new", "passed"))])
    changes = [(change.scenario, change.before, change.now) for change in model.compare(now, before)]
    assert changes == [
        ("Hello: gone", "passed", ""),
        ("Hello: good", "passed", "failed"),
        ("Hello: new", "", "passed"),
    ]


@pytest.mark.parametrize("module", [html, junit, markdown])
def test_rendering_twice_gives_the_same_bytes(module: Any) -> None:
    results = [
        run(scenario("good", "passed"), scenario("bad", "failed")),
        run(scenario("good", "passed"), engine="docker"),
    ]
    texts = {module.render(model.build(json.loads(json.dumps(results)), [waiver("2030-01-01")])) for _ in range(2)}
    assert len(texts) == 1
    assert "good" in texts.pop()


def test_html_needs_no_other_file_and_escapes_what_commands_said() -> None:
    text = html.render(model.build([run(scenario("bad<script>", "failed"))]))
    assert "http:" not in text and "https:" not in text and "src=" not in text
    assert "bad<script>" not in text and "expected &lt;success&gt; &amp; more" in text


def test_junit_counts_and_explains() -> None:
    control = scenario("bad", "failed")
    control["steps"][0]["error"] = "a\x1b[31mb"
    suite = fromstring(junit.render(model.build([run(control, scenario("off", "skipped"))])))[0]
    assert (suite.get("tests"), suite.get("failures"), suite.get("skipped")) == ("2", "1", "1")
    failure = suite.find("testcase/failure")
    assert failure is not None and failure.text == "a�[31mb"


def sample() -> str:
    """A report in JUnit's form with every verdict, on two engines."""
    first = [scenario(name, "failed") for name in ("bad", "known", "late", "odd")]
    first += [scenario("good", "passed"), scenario("off", "skipped")]
    known = waivers.Waiver("*", "known", "*", "known", "me", "2030-01-01", "waivers.yaml:1")
    late = waivers.Waiver("*", "late", "*", "known", "me", "2020-01-01", "waivers.yaml:2")
    runs = [run(*first), run(scenario("odd", "passed")), run(*first, engine="docker")]
    return junit.render(model.build(runs, [known, late]))


def test_junit_is_as_its_schema_says() -> None:
    schema = etree.XMLSchema(etree.parse(GOLDEN / "junit.xsd"))
    text = sample()
    schema.assertValid(etree.fromstring(text.encode()))
    for wrong in (
        text.replace(' id="1"', ' id="0"'),
        text.replace(' tests="', ' test="'),
        text.replace('time="', 'time="x'),
    ):
        assert not schema.validate(etree.fromstring(wrong.encode()))


def test_waivers_are_read_with_their_places(tmp_path: Path) -> None:
    file = tmp_path / "waivers.yaml"
    file.write_text(
        '- scenario: "01_hello: bad*"\n  engine: podman\n  reason: known\n  owner: me\n  expires: "2027-01-31"\n'
    )
    (found,) = waivers.load(str(file))
    assert found.covers("features/01_hello.feature", "bad luck", "podman")
    assert not found.covers("features/01_hello.feature", "bad luck", "docker")
    assert found.place == f"{file}:1"


@pytest.mark.parametrize(
    ("text", "code", "line"),
    [
        ("- 7\n", "bad-waiver", 1),
        ("- {scenario: 'a: b', engine: x, reason: y, owner: z}\n", "bad-waiver", 1),
        ("- {scenario: 'a: b', engine: x, reason: y, owner: z, expires: '2027-01-31', step: 7}\n", "bad-waiver", 1),
        ("- scenario: 'a: b'\n  engin: x\n", "unknown-field", 2),
        ("- {scenario: ab, engine: x, reason: y, owner: z, expires: '2027-01-31'}\n", "bad-waiver", 1),
        ("- scenario: 'a: b'\n  engine: x\n  reason: y\n  owner: z\n  expires: soon\n", "bad-waiver", 5),
    ],
)
def test_a_wrong_waiver_is_an_error_with_a_place(tmp_path: Path, text: str, code: str, line: int) -> None:
    file = tmp_path / "waivers.yaml"
    file.write_text(text)
    with pytest.raises(SpecProblems) as caught:
        waivers.load(str(file))
    assert (code, line) in [(problem.code, problem.place.line) for problem in caught.value.problems]


@pytest.mark.parametrize(
    "text", ["", "[]", '{"version": 1}', '{"version": 2, "runs": []}', '{"version": 1, "runs": []}']
)
def test_what_is_no_document_of_results_is_refused(tmp_path: Path, text: str) -> None:
    file = tmp_path / "results.json"
    file.write_text(text)
    with pytest.raises(model.BadResults):
        model.read([str(file)])


@pytest.mark.parametrize(
    ("damage", "place"),
    [
        (lambda one: one.pop("engine"), "runs[0].engine"),
        (lambda one: one.update(scenarios={}), "runs[0].scenarios"),
        (lambda one: one["scenarios"][1].update(line="3"), "runs[0].scenarios[1].line"),
        (lambda one: one["scenarios"][0]["steps"].append(3), "runs[0].scenarios[0].steps[1].keyword"),
        (lambda one: one["scenarios"][0]["steps"][0].update(commands=[{}]), "steps[0].commands[0].line"),
    ],
)
def test_damaged_results_are_refused_with_the_place(tmp_path: Path, damage: Any, place: str) -> None:
    one = run(scenario("good", "passed"), scenario("bad", "failed"))
    file = tmp_path / "results.json"
    file.write_text(json.dumps({"version": 1, "runs": [one]}))
    assert model.read([str(file)]) == [one]
    damage(one)
    file.write_text(json.dumps({"version": 1, "runs": [one]}))
    with pytest.raises(model.BadResults) as caught:
        model.read([str(file)])
    assert f"{place} is missing" in str(caught.value)
