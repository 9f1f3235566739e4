"""Many files, variables, includes, overlays and profiles become the same objects as one file would."""

from __future__ import annotations

import io
import json
import sys
from pathlib import Path

import pytest

from specrun.errors import UsageError
from specrun.spec.loader import Options, Specs, load
from specrun.spec.models import ContainerSpec
from specrun.spec.problems import SpecProblems
from specrun.spec.sarif import sarif
from specrun.spec.sources import variables_of


def container(name: str = "web", spec: str = "{image: busybox}", meta: str = "") -> str:
    return f"apiVersion: specrun/v1\nkind: Container\nmetadata: {{name: {name}{meta}}}\nspec: {spec}\n---\n"


def write(folder: Path, **files: str) -> list[str]:
    for name, text in files.items():
        (folder / f"{name}.yaml").write_text(text)
    return [str(folder / f"{name}.yaml") for name in files]


def web(specs: Specs, name: str = "web") -> ContainerSpec:
    spec = specs.resources[f"container/{name}"].spec
    assert isinstance(spec, ContainerSpec)
    return spec


def test_variables_by_set_environment_and_file(tmp_path: Path) -> None:
    (tmp_path / ".env").write_text("A=file\nB=file\nC=file\nD=${B}2\n")
    spec = "{image: busybox, env: {A: '${A}', B: '${B}', C: '${C}', D: '${D}', E: '${E:-none}', F: '$HOME $${A}'}}"
    paths = write(tmp_path, s=container(spec=spec))
    found = web(load(paths, options=Options(variables={"A": "set"}, environment={"A": "env", "B": "env"})))
    assert found.env == {"A": "set", "B": "env", "C": "file", "D": "env2", "E": "none", "F": "$HOME ${A}"}


def test_a_variable_can_be_a_number(tmp_path: Path) -> None:
    paths = write(tmp_path, s=container(spec="\n  image: busybox\n  stopTimeout: ${T}\n  env: {A: '${T}'}"))
    found = web(load(paths, options=Options(variables={"T": "5"}, environment={})))
    assert (found.stopTimeout, found.env["A"]) == (5, "5")


def test_an_env_file_that_is_named_replaces_the_one_beside(tmp_path: Path) -> None:
    (tmp_path / ".env").write_text("A=beside\n")
    (tmp_path / "other").write_text("A=other\n")
    paths = write(tmp_path, s=container(spec="{image: busybox, hostname: '${A}'}"))
    assert web(load(paths, options=Options(environment={}, env_files=[str(tmp_path / "other")]))).hostname == "other"


def test_includes_are_relative_and_read_once(tmp_path: Path) -> None:
    (tmp_path / "sub").mkdir()
    write(tmp_path / "sub", a="include: [../b.yaml, a.yaml]\n---\n" + container("a"))
    paths = write(tmp_path, s="include: [sub, b.yaml]\n---\n" + container(), b=container("b"))[:1]
    assert sorted(load(paths).resources) == ["container/a", "container/b", "container/web"]


def test_an_overlay_is_merged_strategically(tmp_path: Path) -> None:
    volumes = "[{source: v, target: /v}, {source: w, target: /w}]"
    base = f"{{image: busybox, env: {{A: a, B: b}}, command: [x, y], volumes: {volumes}}}"
    over = (
        "kind: Container\nmetadata: {name: web, labels: {tier: front}}\nspec:\n  env: {B: null, C: c}\n  command: [z]\n"
        "  volumes: [{target: /v, readOnly: true}, {target: /w, $patch: delete}, {source: n, target: /n}]\n"
        "---\nkind: Container\nmetadata: {name: gone}\n$patch: delete\n"
    )
    paths = write(tmp_path, s=container(spec=base) + container("gone"))
    specs = load(paths, options=Options(overlays=write(tmp_path, over=over)))
    found = web(specs)
    assert list(specs.resources) == ["container/web"]
    assert (found.env, found.command) == ({"A": "a", "C": "c"}, ["z"])
    assert [(one.source, one.target, one.readOnly) for one in found.volumes] == [("v", "/v", True), ("n", "/n", False)]
    assert str(specs.resources["container/web"].place("spec", "env", "C")).endswith("over.yaml:4:21")
    assert str(specs.resources["container/web"].place("spec", "env", "A")).endswith("s.yaml:4:33")


def test_profiles_choose(tmp_path: Path) -> None:
    paths = write(tmp_path, s=container() + container("debug", meta=", profiles: [dev, test]"))
    assert list(load(paths).resources) == ["container/web"]
    assert len(load(paths, options=Options(profiles=frozenset({"dev"}))).resources) == 2


def test_two_ways_of_writing_are_one_spec(tmp_path: Path) -> None:
    short = (
        "{image: busybox, ports: ['8080:80'], volumes: ['v:/v:ro'], resources: {limits: {memory: 64m, cpus: '0.5'}}}"
    )
    long = (
        "{image: busybox, resources: {limits: {cpus: 0.5, memory: 67108864}}, ports: [{containerPort: 80, "
        "hostPort: 8080, protocol: tcp}], volumes: [{type: volume, source: v, target: /v, readOnly: true}]}"
    )
    one, two = (load(write(tmp_path, s=container(spec=spec))).resources["container/web"] for spec in (short, long))
    assert one.values == two.values


def test_standard_input_knows_its_places(monkeypatch: pytest.MonkeyPatch) -> None:
    data = io.TextIOWrapper(io.BytesIO(container(spec="{image: busybox, hostnam: x}").encode()))
    monkeypatch.setattr(sys, "stdin", data)
    with pytest.raises(SpecProblems) as error:
        load(["-"])
    assert str(error.value.problems[0].place) == "<stdin>:4:24"


def test_a_secret_s_content_is_not_among_the_values(tmp_path: Path) -> None:
    paths = write(tmp_path, s="apiVersion: specrun/v1\nkind: Secret\nmetadata: {name: s}\nspec: {content: hunter2}\n")
    resource = load(paths).resources["secret/s"]
    assert "hunter2" not in json.dumps(resource.values) + repr(resource.spec)


def test_settings_are_names_and_values() -> None:
    assert variables_of(["A=b=c", "D="]) == {"A": "b=c", "D": ""}
    with pytest.raises(UsageError):
        variables_of(["A"])


def test_sarif_has_rule_and_place(tmp_path: Path) -> None:
    with pytest.raises(SpecProblems) as error:
        load(write(tmp_path, s=container(spec="{image: busybox, hostnam: x}")))
    run = sarif(error.value.problems)["runs"][0]
    result = run["results"][0]
    assert (result["ruleId"], run["tool"]["driver"]["rules"]) == ("unknown-field", [{"id": "unknown-field"}])
    assert result["locations"][0]["physicalLocation"]["region"] == {"startLine": 4, "startColumn": 24}
