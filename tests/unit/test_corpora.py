"""What Compose's own parser answers, case by case, where the corpora are beside the checkout."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from specrun.errors import SpecrunError
from specrun.reconcile.graph import graph
from specrun.spec import dotenv, short, template
from specrun.spec.compose.reading import read_compose
from specrun.spec.loader import from_values
from specrun.spec.problems import SpecProblems

FOLDER = next(
    (one / "shared/corpora" for one in Path(__file__).parents if (one / "shared/corpora").is_dir()),
    Path("/nonexistent"),
)
LEFT_OUT = {
    "dotenv": {"bar\nbaz"},  # compose-go gives the second of two bare names the name ""
}
WORDS = {"hostIP": "host_ip", "containerPort": "target", "hostPort": "published", "readOnly": "read_only"}


def cases(name: str) -> list[dict[str, Any]]:
    path = FOLDER / f"{name}.json"
    if not path.exists():
        pytest.skip("the corpora are not beside this checkout")
    found: list[dict[str, Any]] = json.loads(path.read_text())
    return [case for case in found if case["input"] not in LEFT_OUT.get(name, ())]


def port(fields: dict[str, Any]) -> dict[str, Any]:
    found = {WORDS.get(name, name): value for name, value in fields.items()}
    low, _, high = str(found.get("published", "")).partition("-")
    if low:
        found["published"] = low if low == high or not high else f"{low}-{high}"
    return {"mode": "ingress", **{name: value for name, value in found.items() if value}}


def volume(wanted: dict[str, Any]) -> dict[str, Any]:
    bind, kept = wanted.get("bind") or {}, wanted.get("volume") or {}
    fields = {
        "type": wanted["type"],
        "source": wanted.get("source"),
        "target": wanted["target"],
        "readOnly": wanted.get("read_only"),
        "propagation": bind.get("propagation"),
        "selinux": bind.get("selinux"),
        "noCopy": kept.get("nocopy"),
    }
    return {name: value for name, value in fields.items() if value is not None}


def compare(name: str, answer: Callable[[dict[str, Any]], Any], wanted: Callable[[Any], Any] = lambda one: one) -> None:
    wrong = []
    for case in cases(name):
        expected = case["expected"]
        try:
            found = answer(case)
        except ValueError as error:
            if "error" not in expected:
                wrong.append((case["input"], str(error)))
            continue
        if "error" in expected or found != wanted(expected["result"]):
            wrong.append((case["input"], found))
    assert wrong == []


def test_templates() -> None:
    compare("compose_template", lambda case: template.fill(case["input"], case["env"], compose=True))


def test_dotenv() -> None:
    compare("dotenv", lambda case: dotenv.parse(case["input"], case["env"]))


def test_ports() -> None:
    compare("compose_port", lambda case: [port(one) for one in short.ports(case["input"])])


def test_volumes() -> None:
    def answer(case: dict[str, Any]) -> dict[str, Any]:
        found = short.volume(case["input"], drives=True)
        found.pop("options", None)
        return found

    compare("compose_volume", answer, volume)


def test_compose_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Refused or converted as compose-go refuses and loads them; what specrun has not is refused by name."""
    counts: dict[tuple[bool, str], int] = {}
    wrong = []
    for case in cases("compose_load"):
        files, mains = case["input"]["files"], case["input"]["main"]
        fine = "project" in case["expected"]
        if len(mains) > 1 or _names_missing_files(files[mains[0]]):
            continue
        try:
            monkeypatch.chdir(_written(tmp_path, files))
            documents = read_compose(mains[0], files[mains[0]], case["input"]["env"])
            graph(from_values(documents, "compose.yaml", "p"))
            answer = "converted"
        except SpecProblems as error:
            assert all(problem.message for problem in error.problems)
            unsupported = any(problem.code in ("not-supported", "bad-tag") for problem in error.problems)
            answer = "not-supported" if unsupported else "refused"
        except SpecrunError:
            answer = "refused"
        counts[fine, answer] = counts.get((fine, answer), 0) + 1
        if (fine and answer == "refused") or (not fine and answer == "converted"):
            wrong.append((case["id"], answer))
        elif answer == "converted":
            wrong += _different(case["id"], case["expected"]["project"], documents)
    assert [one for one in wrong if one[0] not in KNOWN] == []
    assert counts[True, "converted"] > 140
    assert counts[False, "refused"] > 90


KNOWN = {
    **dict.fromkeys(
        (f"loader_test.go:TestProjectNameInterpolation:{line}" for line in (2043, 2067, 2074, 2098)),
        "the project's name is no variable",
    ),
    "loader_test.go:TestLoadProjectName:2810": "the project's name is no variable",
    **dict.fromkeys(
        (f"loader_test.go:TestLoadBindMountSourceIsWindowsAbsolute:{line}" for line in (1200, 1214, 1228)),
        "a path of Windows is none in a container of Linux",
    ),
    **dict.fromkeys(
        (f"merge_volumes_test.go:TestMergeVolumes:{line}" for line in (24, 38)),
        "one letter before a colon is a drive, whose container path is none of Linux",
    ),
    "merge_profiles_test.go:TestMergeProfilesUnicity:31": "a service needs an image or a build",
    "loader_test.go:TestLoadMulmtiDocumentYaml:2526": "several documents are not merged",
    "loader/testdata/include/project-directory.yaml": "an env file is looked for when a plan is made",
    "loader_test.go:TestInterpolateInt:1117": "an empty scale is no scale",
}


def _written(folder: Path, files: dict[str, str]) -> Path:
    """A new folder with these files: those that are extended and included are read."""
    new = Path(tempfile.mkdtemp(dir=folder))
    for name, text in files.items():
        (new / name).parent.mkdir(parents=True, exist_ok=True)
        (new / name).write_text(text)
    return new


def _names_missing_files(text: str) -> bool:
    """The reference looks for env files while it loads; ours are read when a plan is made."""
    return "env_file" in text


def _different(name: str, project: dict[str, Any], documents: list[dict[str, Any]]) -> list[tuple[str, Any]]:
    """Image, command, environment and ports, of every service."""
    made = {one["metadata"]["name"]: one["spec"] for one in documents if one["kind"] in ("Container", "Job")}
    found: list[tuple[str, Any]] = []
    for key, service in project["services"].items():
        spec = made.get(service.get("container_name") or key, {})
        environment = {one: value for one, value in (service.get("environment") or {}).items() if value is not None}
        wanted = [port(dict(one)) | {"published": str(one["published"])} if "published" in one else one
                  for one in service.get("ports") or []]  # fmt: skip
        ports = [
            {key: value for key, value in port(dict(one)).items() if key != "mode"} for one in spec.get("ports", [])
        ]
        if "image" in service and spec.get("image") != service["image"]:
            found.append((name, ("image", spec.get("image"))))
        if service.get("command") is not None and spec.get("command") != service["command"]:
            found.append((name, ("command", spec.get("command"), service["command"])))
        if environment != spec.get("env", {}) and not _resolved(environment, spec.get("env", {})):
            found.append((name, ("env", spec.get("env"), environment)))
        if len(wanted) != len(ports):
            found.append((name, ("ports", ports, wanted)))
    return found


def _resolved(wanted: dict[str, str], found: dict[str, str]) -> bool:
    """A name without a value is the caller's own: ours is left out of what is converted."""
    return all(wanted.get(name) == value for name, value in found.items())
