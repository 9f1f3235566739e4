"""The workshop's specs: `kill -9` at each operation that is journalled, and one hundred applies that change nothing."""

from __future__ import annotations

import json
import os
from itertools import zip_longest
from pathlib import Path

import pytest
import yaml

from specrun.bdd.bases import Bases
from tests.support.sections import ONLINE, SPECS, Stage, number_of, stage

CHOSEN = [spec for spec in SPECS if number_of(spec) in ("05", "06", "14", "16", "27")]
"""Sections that have all the kinds between them."""


class Trial:
    """A section that is applied and deleted without disturbance: at which moments it can be killed, and what stays."""

    def __init__(self, there: Stage, spec: Path) -> None:
        self.there = there
        self.arguments = there.begin(spec)
        with open(spec, "rb") as file:
            documents = list(yaml.safe_load_all(file))
        self.names = sorted(one["metadata"]["name"] for one in documents if one["kind"] in ("Container", "Job"))
        self.stays_up = any(one["kind"] == "Container" for one in documents)
        self.apply = self._moments("apply", "--parallel", "1")
        there.still()
        self.delete = self._moments("delete")
        there.forget_volumes()
        self.left = there.present()

    def _moments(self, *words: str) -> list[str]:
        done = self.there.run(*words, *self.arguments, watched=True)
        assert done.status == 0, done.said
        return done.moments

    def killed(self, apply: int, delete: int, *, steps: bool = False) -> bool:
        """Kill apply and delete at these moments (0: never); the next one of each does the rest. Whether apply was."""
        there, arguments = self.there, self.arguments
        first = there.run("apply", "--parallel", "1", *arguments, kill_at=apply, steps=steps) if apply else None
        where = first.moments[-1:] if first else []
        there.ok("apply", *arguments)
        plan = there.run("plan", *arguments)
        assert plan.status == 0, f"{where}: {plan.said}"
        assert sorted(os.listdir(there.host.root / "names")) == self.names, where
        assert len(os.listdir(there.host.root / "containers")) == len(self.names), where
        if self.stays_up:
            there.still()
        second = there.run("delete", *arguments, kill_at=delete) if delete else None
        where += second.moments[-1:] if second else []
        there.ok("delete", *arguments)
        there.forget_volumes()
        there.await_present(self.left, where)
        return bool(first and first.killed)


def test_each_kind_of_operation_can_be_killed_and_the_next_apply_converges(bases: Bases) -> None:
    seen: set[str] = set()
    with stage(bases) as there:
        for spec in CHOSEN:
            trial = Trial(there, spec)
            apply = [at for at, name in enumerate(trial.apply, 1) if name not in seen]
            delete = [at for at, name in enumerate(trial.delete, 1) if name not in seen]
            seen |= {*trial.apply, *trial.delete}
            for pair in zip_longest(apply, delete, fillvalue=0):
                trial.killed(*pair)
    for kind in ("image", "build", "container", "job", "network", "volume", "config", "push"):
        assert {f"after {kind} is made", f"before {kind} is gone"} <= seen, kind


def test_an_image_whose_last_tag_a_killed_delete_took_is_freed_by_the_next(bases: Bases) -> None:
    spec = next(spec for spec in SPECS if number_of(spec) == "16")
    with stage(bases) as there:
        trial = Trial(there, spec)
        there.ok("apply", *trial.arguments)
        path = there.host.root / "oci" / "index.json"
        index = json.loads(path.read_text())
        index["manifests"] = [one for one in index["manifests"] if "hello" not in json.dumps(one)]
        path.write_text(json.dumps(index))
        there.ok("delete", *trial.arguments)
        there.await_present(trial.left, "")


@pytest.mark.long
@pytest.mark.parametrize("steps", [False, True], ids=["operations", "steps"])
@pytest.mark.parametrize("spec", SPECS, ids=number_of)
def test_every_operation_can_be_killed_and_the_next_apply_converges(bases: Bases, spec: Path, steps: bool) -> None:
    """With `steps`, also before and after each change that an effect makes to the state folder."""
    with stage(bases, online=number_of(spec) == ONLINE, seconds=1800) as there:
        trial = Trial(there, spec)
        moment = 1
        while trial.killed(moment, 0 if steps or moment > len(trial.delete) else moment, steps=steps):
            moment += 1
        assert moment > len(trial.apply) >= 8


@pytest.mark.long
def test_one_hundred_applies_of_every_section_change_nothing(bases: Bases) -> None:
    for spec in SPECS:
        with stage(bases, online=number_of(spec) == ONLINE) as there:
            settled(there, spec, 100)


def test_applies_of_some_sections_change_nothing(bases: Bases) -> None:
    with stage(bases) as there:
        for spec in CHOSEN[1:4]:
            settled(there, spec, 2)


def settled(there: Stage, spec: Path, times: int) -> None:
    """Apply a section, and again: the plan stays empty, and all that was started is as it was."""
    arguments = there.begin(spec)
    there.ok("apply", *arguments)
    before = started(there)
    for _ in range(times):
        assert "nothing to change" in there.ok("apply", *arguments)
        assert there.run("plan", *arguments).status == 0  # goes the long way each time
    assert started(there) == before
    there.still()
    there.ok("delete", *arguments)


def started(there: Stage) -> list[str]:
    """Each container with its process and when that was started."""
    names = there.ok("ps", "-aq").split()
    return there.ok("inspect", "-f", "{{.Id}} {{.State.Pid}} {{.State.StartedAt}}", *names).split() if names else []
