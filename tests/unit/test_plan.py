"""Plans are made of values alone."""

from __future__ import annotations

from pathlib import Path

import pytest

from specrun.errors import Conflict
from specrun.reconcile.changes import Action, Found, FoundImage, Observed, Plan
from specrun.reconcile.diff import Difference, Operation, differences
from specrun.reconcile.plan import plan
from specrun.reconcile.project import Entry, Project
from specrun.spec.loader import Specs, load

BUSYBOX = {"docker.io/library/busybox:latest": FoundImage("sha256:1")}


def specs(tmp_path: Path, kind: str = "Job", command: str = "[echo, hi]") -> Specs:
    path = tmp_path / "s.yaml"
    path.write_text(
        f"apiVersion: specrun/v1\nkind: {kind}\nmetadata: {{name: one}}\nspec: {{image: busybox, command: {command}}}\n"
    )
    return load([str(path)])


def planned(wanted: Specs, status: str, code: int = 0, token: str = "t", image: str = "sha256:1") -> Plan:
    resource = next(iter(wanted.resources.values()))
    record = Project("s", {resource.key: Entry(resource.kind, "one", resource.values, "t")})
    container = Found("c" * 64, status, token, {}, {"image_id": image, "exit_code": code})
    return plan(wanted, Observed(BUSYBOX, {resource.key: container}), record)


def test_nothing_there_means_create(tmp_path: Path) -> None:
    made = plan(specs(tmp_path), Observed(BUSYBOX), Project("s"))
    assert [change.action for change in made.changes] == [Action.CREATE]


@pytest.mark.parametrize(
    ("kind", "status", "code", "action"),
    [
        ("Job", "exited", 0, Action.KEEP),
        ("Job", "exited", 3, Action.REPLACE),
        ("Job", "created", 127, Action.REPLACE),
        ("Job", "running", 0, Action.UPDATE),
        ("Container", "running", 0, Action.KEEP),
        ("Container", "exited", 0, Action.UPDATE),
        ("Container", "created", 0, Action.UPDATE),
    ],
)
def test_what_is_there_decides(tmp_path: Path, kind: str, status: str, code: int, action: Action) -> None:
    assert [change.action for change in planned(specs(tmp_path, kind), status, code).changes] == [action]


def test_another_image_replaces(tmp_path: Path) -> None:
    change = planned(specs(tmp_path), "exited", image="sha256:2").changes[0]
    assert (change.action, change.reason) == (Action.REPLACE, "busybox is another image now")


def test_a_stranger_is_a_conflict(tmp_path: Path) -> None:
    with pytest.raises(Conflict, match="not of this project"):
        planned(specs(tmp_path), "exited", token="other")


def test_planning_twice_is_planning_once(tmp_path: Path) -> None:
    wanted = specs(tmp_path)
    assert planned(wanted, "running") == planned(wanted, "running")


def test_differences_name_fields() -> None:
    assert differences({"a": 1, "b": [1, 2]}, {"b": [1, 3], "c": 4}) == [
        Difference(Operation.REMOVE, ("a",), 1, None),
        Difference(Operation.CHANGE, ("b", 1), 2, 3),
        Difference(Operation.ADD, ("c",), None, 4),
    ]
    assert differences([1], [1, 2])[0].operation is Operation.CHANGE
