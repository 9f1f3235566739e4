"""Documents of the OCI runtime specification, accepted or refused as its own schema does."""

from __future__ import annotations

import json
import subprocess
import sys
from typing import Any

import pytest

from specrun_runtime import schema
from specrun_runtime.errors import SpecError, Unsupported
from specrun_runtime.spec import Spec, cpu_set, host_id
from tests.support.corpora import cases

SHAPES = {"config": schema.CONFIG, "state": schema.STATE, "features": schema.FEATURES}


def test_the_corpus() -> None:
    documents = cases("runtime_spec_schema")
    wrong = [case["id"] for case in documents if _answer(case) != case["expected"]]
    assert wrong == []
    assert len(documents) == 19


def _answer(case: dict[str, Any]) -> str:
    try:
        schema.check(json.loads(case["input"]), SHAPES[case["kind"]], "")
    except ValueError:  # of JSON, or SpecError
        return "invalid"
    return "valid"


def config(**changes: Any) -> dict[str, Any]:
    return {
        "ociVersion": "1.2.0",
        "root": {"path": "rootfs"},
        "process": {"cwd": "/", "args": ["true"]},
        "linux": {"namespaces": [{"type": "mount"}]},
        **changes,
    }


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"ociVersion": "2.0.0"}, "ociVersion: found '2.0.0', expected 1.x"),
        ({"process": {"cwd": "tmp", "args": ["x"]}}, "process.cwd: found 'tmp', expected an absolute path"),
        ({"process": {"cwd": "/", "args": "x"}}, "process.args: found 'x', expected a list"),
        (
            {"process": {"cwd": "/", "args": ["x"], "user": {"uid": -1}}},
            "process.user.uid: found -1, expected a whole number between 0 and 4294967295",
        ),
        (
            {"process": {"cwd": "/", "args": ["x"], "capabilities": {"effective": ["CAP_MOON"]}}},
            "process.capabilities.effective: 'CAP_MOON' is not a capability",
        ),
        (
            {"process": {"cwd": "/", "args": ["x"], "oomScoreAdj": 1001}},
            "process.oomScoreAdj: found 1001, expected a whole number between -1000 and 1000",
        ),
        (
            {"linux": {"namespaces": [{"type": "pid"}, {"type": "pid"}]}},
            "linux.namespaces[1]: pid is there twice",
        ),
        (
            {"linux": {"devices": [{"type": "c", "path": "/dev/x"}]}},
            "linux.devices[0]: major and minor are missing",
        ),
        ({"linux": {"timeOffsets": {"moon": {"secs": 1}}}}, "linux.timeOffsets.moon: expected monotonic or boottime"),
        ({"hooks": {"prestart": [{"path": "sh"}]}}, "hooks.prestart[0].path: found 'sh', expected an absolute path"),
        (
            {"hooks": {"poststop": [{"path": "/sh", "timeout": 0}]}},
            "hooks.poststop[0].timeout: found 0, expected a whole number between 1 and 2147483647",
        ),
        ({"linux": {"personality": {"domain": "LINUX64"}}}, "linux.personality.domain: found 'LINUX64', expected one"),
    ],
)
def test_what_is_wrong_is_named(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(SpecError) as raised:
        Spec(config(**changes))
    assert str(raised.value).startswith(message)


@pytest.mark.parametrize(
    "changes",
    [
        {"windows": {"layerFolders": ["x"]}},
        {"linux": {"mountLabel": "x"}},
        {"linux": {"intelRdt": {"closID": "x"}}},
        {"linux": {"netDevices": {"eth0": {}}}},
        {"linux": {"resources": {"network": {"classID": 1}}}},
        {"linux": {"resources": {"rdma": {"mlx5_1": {"hcaHandles": 3}}}}},
        {"linux": {"resources": {"cpu": {"realtimeRuntime": 1000}}}},
        {"linux": {"resources": {"memory": {"kernelTCP": 1000}}}},
        {"process": {"cwd": "/", "args": ["x"], "apparmorProfile": "x"}},
        {"process": {"cwd": "/", "args": ["x"], "selinuxLabel": "x"}},
    ],
)
def test_what_is_not_supported_is_refused(changes: dict[str, Any]) -> None:
    with pytest.raises(Unsupported):
        Spec(config(**changes))


def test_null_is_absent_as_go_writes_it() -> None:
    spec = Spec(config(mounts=None, hooks=None, annotations=None, hostname=None))
    assert (spec.mounts, spec.hostname, spec.annotations) == ([], "", {})


def test_lists_of_cpus() -> None:
    assert cpu_set("0-3, 7", "x") == {0, 1, 2, 3, 7}
    assert cpu_set("", "x") == set()
    with pytest.raises(SpecError):
        cpu_set("1-x", "x")


def test_ids_of_a_mapping() -> None:
    document = config(
        linux={
            "namespaces": [{"type": "user"}],
            "uidMappings": [
                {"containerID": 0, "hostID": 1000, "size": 1},
                {"containerID": 1, "hostID": 100000, "size": 10},
            ],
            "gidMappings": [{"containerID": 0, "hostID": 0, "size": 1}],
        }
    )
    mappings = Spec(document).uid_mappings
    assert [host_id(mappings, number) for number in (0, 1, 10)] == [1000, 100000, 100009]
    with pytest.raises(ValueError, match="the id 11 is not mapped"):
        host_id(mappings, 11)


@pytest.mark.parametrize("text", ["{", '{"a"', '"a', "[1,", "", "x", "{} x", "NaN"])
def test_what_is_no_json_is_a_value_error_in_a_fresh_interpreter(text: str) -> None:
    code = (
        "import sys; from specrun_runtime.jsontext import loads\ntry: loads(sys.argv[1])\nexcept ValueError: print(1)"
    )
    done = subprocess.run([sys.executable, "-c", code, text], capture_output=True, text=True, check=True)
    assert done.stdout == "1\n"
