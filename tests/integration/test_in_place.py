"""Fields of a container that change without a new process: each is added, changed and taken away again."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from specrun.bdd.bases import Bases
from tests.support.sections import Stage, stage

OTHERS = """
{kind: Container, metadata: {name: other}, spec: {image: busybox, command: [sleep, "300"], network: none}}
---
{kind: Container, metadata: {name: third}, spec: {image: busybox, command: [sleep, "300"], network: none}}
---
{kind: Network, metadata: {name: front}, spec: {ipam: {config: [{subnet: 10.77.1.0/24}]}}}
---
{kind: Network, metadata: {name: back}, spec: {ipam: {config: [{subnet: 10.77.2.0/24}]}}}
"""


def _config(name: str) -> Any:
    return lambda facts: facts["Config"].get(name)


def _restart(facts: Any) -> Any:
    return facts["HostConfig"]["RestartPolicy"]["Name"]


def _log(name: str) -> Any:
    return lambda facts: facts["HostConfig"]["LogConfig"]["Config"].get(name)


def _group(controller: str, file: str) -> Any:
    def read(facts: Any) -> str:
        """What the kernel has, from the group that the process itself names."""
        lines = Path(f"/proc/{facts['State']['Pid']}/cgroup").read_text().splitlines()
        for _, names, path in (line.split(":", 2) for line in lines):
            if controller in names.split(","):
                return Path(f"/sys/fs/cgroup/{controller}{path}/{file}").read_text().strip()
        raise AssertionError(f"there is no {controller}")

    return read


def _networks(facts: Any) -> list[str]:
    return sorted(facts["NetworkSettings"]["Networks"])


def _address(facts: Any) -> Any:
    return (facts["NetworkSettings"]["Networks"].get("front") or {}).get("IPAddress")


def _aliases(facts: Any) -> Any:
    found = (facts["NetworkSettings"]["Networks"].get("front") or {}).get("Aliases") or []
    return [name for name in found if name in ("www", "api")]


def _mac(facts: Any) -> Any:
    return (facts["NetworkSettings"]["Networks"].get("front") or {}).get("MacAddress")


def _ports(facts: Any) -> Any:
    return sorted({one["HostPort"] for some in facts["NetworkSettings"]["Ports"].values() for one in some or ()})


def _unseen(facts: Any) -> None:
    """What is only asked for when something happens later."""


TABLE: dict[str, tuple[Any, Any, Callable[[Any], Any], Any, Any]] = {
    # field: added, changed, where it is seen, and what is seen there; taken away, what was there at first
    "restart": (
        "on-failure:3",
        "always",
        lambda facts: facts["HostConfig"]["RestartPolicy"]["Name"],
        "on-failure",
        "always",
    ),
    "healthcheck": (
        {"test": ["CMD", "true"]},
        {"test": ["CMD", "ls"], "interval": "1m"},
        lambda facts: (facts["Config"].get("Healthcheck") or {}).get("Test"),
        ["CMD", "true"],
        ["CMD", "ls"],
    ),
    "logging.maxSize": ("1m", "2m", _log("max-size"), str(1 << 20), str(2 << 20)),
    "logging.maxFile": (2, 4, _log("max-file"), "2", "4"),
    "stopSignal": ("SIGINT", "SIGQUIT", _config("StopSignal"), "SIGINT", "SIGQUIT"),
    "resources.limits.memory": ("64m", "96m", _group("memory", "memory.limit_in_bytes"), str(64 << 20), str(96 << 20)),
    "resources.limits.cpus": (0.5, 1.5, _group("cpu", "cpu.cfs_quota_us"), "50000", "150000"),
    "resources.limits.pids": (40, 50, _group("pids", "pids.max"), "40", "50"),
    "resources.reservations.memory": (
        "32m",
        "48m",
        _group("memory", "memory.soft_limit_in_bytes"),
        str(32 << 20),
        str(48 << 20),
    ),
    "resources.cpuShares": (512, 2048, _group("cpu", "cpu.shares"), "512", "2048"),
    "resources.cpuset": ("0", "1", _group("cpuset", "cpuset.cpus"), "0", "1"),
    "onUnhealthy": ("restart", "stop", _unseen, None, None),
    "update": ({"order": "start-first"}, {"order": "stop-first"}, _unseen, None, None),
    "reload": ({"signal": "SIGHUP"}, {"signal": "SIGUSR1"}, _unseen, None, None),
    "dependsOn": ([{"container": "other"}], [{"container": "third"}], _unseen, None, None),
    "ports": (["8080:80"], ["8080:80", "8081:81"], _ports, ["8080"], ["8080", "8081"]),
    "networks.name": ("front", "front", _networks, ["back", "front"], ["back", "front"]),
    "networks.aliases": (["www"], ["api"], _aliases, ["www"], ["api"]),
    "networks.ipv4Address": ("10.77.1.9", "10.77.1.8", _address, "10.77.1.9", "10.77.1.8"),
    "networks.macAddress": ("02:42:0a:00:00:09", "02:42:0a:00:00:08", _mac, "02:42:0a:00:00:09", "02:42:0a:00:00:08"),
    "network": ("front", "back", _networks, ["front"], ["back"]),
}


@pytest.fixture(scope="module")
def there(bases: Bases) -> Iterator[Stage]:
    with stage(bases, names=("busybox",)) as made:
        yield made
        made.still()


def _apply(there: Stage, spec: Path, fields: dict[str, Any]) -> Any:
    """Apply web with these fields besides; gives what inspect says when there is nothing to do any more."""
    written: dict[str, Any] = {}
    for field, value in fields.items():
        outer = written
        *path, last = field.split(".")
        for name in path:
            outer = outer.setdefault(name, {})
        outer[last] = value
    if networks := written.get("networks"):
        written["networks"] = [networks, "back"]
    web = {"image": "busybox", "command": ["sleep", "300"], "stopTimeout": 0, **written}
    documents = [{"kind": "Container", "metadata": {"name": "web"}, "spec": web}, *yaml.safe_load_all(OTHERS)]
    spec.write_text(yaml.safe_dump_all({"apiVersion": "specrun/v1", **one} for one in documents))
    done = there.run("apply", str(spec))
    assert done.status == 0, done.said
    done = there.run("drift", str(spec))
    assert done.status == 0, done.said
    return json.loads(there.ok("inspect", "web"))[0]


ROUNDS = [
    [name for name in TABLE if not name.startswith("network")],
    [name for name in TABLE if name.startswith("networks")],
    ["network"],
]


@pytest.mark.parametrize("fields", ROUNDS, ids=["all but networks", "networks", "network"])
def test_fields_are_added_changed_and_taken_away_in_place(there: Stage, tmp_path: Path, fields: list[str]) -> None:
    spec = tmp_path / "in-place.yaml"
    first = _apply(there, spec, {})
    for turn in (0, 1, None):
        facts = _apply(there, spec, {field: TABLE[field][turn] for field in fields} if turn is not None else {})
        for field in fields:
            seen = TABLE[field][2]
            assert seen(facts) == (TABLE[field][3 + turn] if turn is not None else seen(first)), (field, turn)
        assert facts["State"]["Pid"] == first["State"]["Pid"]
        assert facts["State"]["StartedAt"] == first["State"]["StartedAt"]
