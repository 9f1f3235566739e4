"""Limits as writes into files of both versions of control groups, and device rules as what they come to."""

from __future__ import annotations

import struct
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from specrun_runtime.devices import DEFAULT, Policy
from specrun_runtime.errors import SpecError, Unsupported
from specrun_runtime.resources import version_1, version_2, weight_of_block, weight_of_shares


def test_version_1() -> None:
    written = version_1(
        {
            "memory": {"limit": 100, "reservation": 50, "swap": 200, "swappiness": 0, "disableOOMKiller": True},
            "cpu": {"shares": 512, "quota": 50000, "period": 100000, "cpus": "0-1", "mems": "0", "burst": 10},
            "pids": {"limit": -1},
            "blockIO": {"weight": 300, "throttleReadBpsDevice": [{"major": 8, "minor": 0, "rate": 7}]},
            "hugepageLimits": [{"pageSize": "2MB", "limit": 4096}],
        }
    )
    assert {file: text for _, file, text in written} == {
        "cpuset.cpus": "0-1",
        "cpuset.mems": "0",
        "cpu.shares": "512",
        "cpu.cfs_period_us": "100000",
        "cpu.cfs_quota_us": "50000",
        "cpu.cfs_burst_us": "10",
        "memory.limit_in_bytes": "100",
        "memory.memsw.limit_in_bytes": "200",
        "memory.soft_limit_in_bytes": "50",
        "memory.swappiness": "0",
        "memory.oom_control": "1",
        "pids.max": "max",
        "blkio.weight": "300",
        "blkio.throttle.read_bps_device": "8:0 7",
        "hugetlb.2MB.limit_in_bytes": "4096",
    }


def test_version_2() -> None:
    written = version_2(
        {
            "memory": {"limit": 100, "reservation": 50, "swap": 250},
            "cpu": {"shares": 1024, "quota": -1, "period": 50000, "cpus": "0"},
            "pids": {"limit": 9},
            "blockIO": {"weight": 1000, "throttleWriteIOPSDevice": [{"major": 8, "minor": 0, "rate": 7}]},
            "unified": {"memory.high": "90"},
        }
    )
    assert {file: text for _, file, text in written} == {
        "cpuset.cpus": "0",
        "cpu.weight": "39",
        "cpu.max": "max 50000",
        "memory.swap.max": "150",
        "memory.max": "100",
        "memory.low": "50",
        "pids.max": "9",
        "io.weight": "default 10000",
        "io.max": "8:0 wiops=7",
        "memory.high": "90",
    }


def test_the_ends_of_the_scales() -> None:
    assert [weight_of_shares(shares) for shares in (2, 262144)] == [1, 10000]
    assert [weight_of_block(weight) for weight in (10, 1000)] == [1, 10000]


@pytest.mark.parametrize(
    "resources",
    [
        {"memory": {"swappiness": 10}},
        {"memory": {"disableOOMKiller": True}},
        {"blockIO": {"leafWeight": 10}},
    ],
)
def test_what_version_2_cannot_do_is_refused(resources: dict[str, Any]) -> None:
    with pytest.raises(Unsupported):
        version_2(resources)


def test_swap_includes_memory() -> None:
    with pytest.raises(SpecError, match=r"memory\.swap: found 50, expected no less than limit \(100\)"):
        version_2({"memory": {"limit": 100, "swap": 50}})


@pytest.mark.parametrize("file", ["../x", "a/b", "", "x"])
def test_keys_of_unified_are_files_of_controllers(file: str) -> None:
    with pytest.raises(SpecError):
        version_2({"unified": {file: "1"}})


# Devices: the program of version 2 is run here on a small machine, and must say what the rules say.

Device = tuple[str, int, int, int]


def judged(program: bytes, device: Device) -> bool:
    """What the BPF program answers for a type, major, minor and access bits."""
    kind, major, minor, access = device
    memory = {0: {"b": 1, "c": 2}[kind] | access << 16, 4: major, 8: minor}
    registers = [0] * 11
    code = [struct.unpack("<BBhi", program[at : at + 8]) for at in range(0, len(program), 8)]
    position = 0
    for _ in range(10000):
        operation, pair, offset, value = code[position]
        target, source = pair & 15, pair >> 4
        position += 1
        if operation == 0x61:
            registers[target] = memory[offset]
        elif operation == 0xBC:
            registers[target] = registers[source]
        elif operation == 0x54:
            registers[target] &= value
        elif operation == 0x74:
            registers[target] >>= value
        elif operation == 0xB4:
            registers[target] = value
        elif operation in (0x55, 0x15):
            position += offset * ((registers[target] != value) == (operation == 0x55))
        elif operation == 0x5D:
            position += offset * (registers[target] != registers[source])
        elif operation == 0x95:
            return bool(registers[0])
        else:
            raise AssertionError(hex(operation))
    raise AssertionError("it does not end")


def allowed(rules: list[dict[str, Any]], device: Device) -> bool:
    """What the rules come to, read one after the other: each bit of the access is decided by the last rule about it."""
    kind, major, minor, access = device
    verdict = dict.fromkeys("rwm", False)
    for rule in (*rules, *DEFAULT):
        if rule.get("type", "a") in ("a", kind) and all(
            rule.get(name) in (None, -1, number) for name, number in (("major", major), ("minor", minor))
        ):
            for letter in rule.get("access", "rwm"):
                verdict[letter] = rule["allow"]
    return all(verdict[letter] for letter, bit in (("m", 1), ("r", 2), ("w", 4)) if access & bit)


ACCESS = st.sampled_from(["r", "w", "rw"])
NUMBER = st.integers(0, 2)
# The kernel asks for reading, writing or both (and for making a node, which is always allowed). Exact devices only: a
# rule about all of a major's devices does not undo an earlier one about one of them, in version 1 as here.
RULES = st.lists(
    st.fixed_dictionaries(
        {"allow": st.booleans(), "type": st.sampled_from("bc"), "major": NUMBER, "minor": NUMBER, "access": ACCESS}
    ),
    max_size=6,
)


@given(st.booleans(), RULES, st.sampled_from("bc"), NUMBER, NUMBER, st.sampled_from((2, 4, 6)))
def test_the_program_says_what_the_rules_say(
    first: bool, rules: list[dict[str, Any]], kind: str, major: int, minor: int, access: int
) -> None:
    whole = [{"allow": first, "access": "rwm"}, *rules]
    device = (kind, major, minor, access)
    assert judged(Policy.fold(whole).program(), device) == allowed(whole, device)


def test_lines_of_version_1() -> None:
    rules = [{"allow": False, "access": "rwm"}, {"allow": True, "type": "c", "major": 4, "access": "r"}]
    lines = Policy.fold(rules).lines()
    assert lines[0] == ("devices.deny", "a")
    assert ("devices.allow", "c 4:* r") in lines
    assert ("devices.allow", "c 1:3 rwm") in lines


@pytest.mark.parametrize("rule", [{"type": "x"}, {"access": "rx"}])
def test_a_wrong_rule_is_named(rule: dict[str, Any]) -> None:
    with pytest.raises(SpecError, match=r"linux\.resources\.devices\[0\]"):
        Policy.fold([{"allow": True, **rule}])
