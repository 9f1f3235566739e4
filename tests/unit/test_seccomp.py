"""Seccomp: the default profile against the measured Docker, and the compiler against an interpreter of BPF."""

from __future__ import annotations

import errno
import json
import operator
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from specrun_runtime import capabilities, seccomp
from specrun_runtime.constants import DEFAULT_CAPABILITIES as DOCKERS
from specrun_runtime.constants import SeccompFlag
from specrun_runtime.errors import SpecError, Unsupported
from specrun_runtime.libseccomp import Library
from tests.support.bpf import AARCH64, ARM, X32, X86, X86_64, Filter
from tests.support.corpora import shared

pytestmark = pytest.mark.skipif(os.uname().machine != "x86_64", reason="the numbers are x86-64's")

KERNEL = "6.1.0-13-amd64"
DEFAULT_CAPABILITIES = frozenset(DOCKERS)

STRICTER = ("io_uring_setup", "io_uring_enter", "io_uring_register")
"""Calls that Docker 20.10 allows and that we refuse, by choice."""

LATER = {
    "cachestat": 451,
    "fchmodat2": 452,
    "map_shadow_stack": 453,
    "futex_wake": 454,
    "futex_wait": 455,
    "futex_requeue": 456,
    "statmount": 457,
    "listmount": 458,
    "mseal": 462,
    "setxattrat": 463,
    "getxattrat": 464,
    "listxattrat": 465,
    "removexattrat": 466,
}
"""Calls that Docker 20.10 has never heard of, and that we allow where libseccomp has."""

LATER_REFUSED = {
    "set_mempolicy_home_node": 450,
    "lsm_get_self_attr": 459,
    "lsm_set_self_attr": 460,
    "lsm_list_modules": 461,
    "open_tree_attr": 467,
    "file_getattr": 468,
    "file_setattr": 469,
}
"""Calls that neither allows: no such call while it is newer than all that are known, and then not permitted."""

DIRECT_ON_I386 = {
    "recvmmsg": 337,
    "sendmmsg": 345,
    "socket": 359,
    "socketpair": 360,
    "bind": 361,
    "connect": 362,
    "listen": 363,
    "accept4": 364,
    "getsockopt": 365,
    "setsockopt": 366,
    "getsockname": 367,
    "getpeername": 368,
    "sendto": 369,
    "sendmsg": 370,
    "recvfrom": 371,
    "recvmsg": 372,
    "shutdown": 373,
    "semget": 393,
    "semctl": 394,
    "shmget": 395,
    "shmctl": 396,
    "shmat": 397,
    "shmdt": 398,
    "msgget": 399,
    "msgsnd": 400,
    "msgrcv": 401,
    "msgctl": 402,
}
"""libseccomp gives pseudo numbers for what was reached through socketcall and ipc only, once."""

NAMESPACES = {
    "NEWTIME": 0x80,
    "NEWNS": 0x20000,
    "NEWCGROUP": 0x2000000,
    "NEWUTS": 0x4000000,
    "NEWIPC": 0x8000000,
    "NEWUSER": 0x10000000,
    "NEWPID": 0x20000000,
    "NEWNET": 0x40000000,
    "SIGCHLD": 17,
    "thread(0x3d0f00)": 0x3D0F00,
}

_programs: dict[frozenset[str], Filter] = {}


def default_filter(capabilities: frozenset[str] = DEFAULT_CAPABILITIES) -> Filter:
    """The default profile for a container with these capabilities."""
    if capabilities not in _programs:
        rules = seccomp.resolve(seccomp.default_profile(), capabilities, "x86_64", KERNEL)
        _programs[capabilities] = Filter(seccomp.compile(rules))
    return _programs[capabilities]


def compiled(**rules: Any) -> Filter:
    return Filter(seccomp.compile({"defaultAction": "SCMP_ACT_ERRNO", **rules}))


def number(name: str, architecture: int = X86_64) -> int:
    """The number of a call, whether libseccomp knows it or not."""
    if architecture == X86 and name in DIRECT_ON_I386:
        return DIRECT_ON_I386[name]
    found = Library().number(architecture, name)
    found = found if found >= 0 else {**LATER, **LATER_REFUSED}.get(name, -1)
    assert found >= 0, name
    return found


def expected(name: str, measured: str) -> str:
    """What we answer where Docker 20.10 answers `measured`."""
    known = [LATER[name] for name in LATER if Library().number(X86_64, name) >= 0]
    if name in STRICTER:
        assert measured == "ALLOW"
        return "ERRNO(1)"
    if name in LATER or name in LATER_REFUSED:
        assert measured == "ERRNO(38)"
        if LATER.get(name) in known:
            return "ALLOW"
        return "ERRNO(1)" if number(name) < max(known, default=449) else "ERRNO(38)"
    return measured


@pytest.fixture(scope="module")
def docker() -> dict[str, Any]:
    measured: dict[str, Any] = json.loads(shared("docker-defaults.json").read_text())["seccomp"]
    return measured


# The default profile.


@pytest.mark.parametrize(("key", "architecture", "count"), [("x86_64", X86_64, 381), ("i386", X86, 459)])
def test_every_call_without_arguments_as_docker(
    docker: dict[str, Any], key: str, architecture: int, count: int
) -> None:
    table = docker[f"effective_{key}_args_all_zero"]
    ours = {name: default_filter().decide(number(name, architecture), architecture=architecture) for name in table}
    assert ours == {name: expected(name, measured) for name, measured in table.items()}
    assert len(ours) == count


def test_the_measured_program_decides_the_same(docker: dict[str, Any]) -> None:
    """Docker's own filter, as the kernel had it, against ours: every number with several arguments."""
    theirs, ours = Filter(docker["bpf_instructions"][0]), default_filter()
    chosen = {*map(number, STRICTER), *LATER.values(), *LATER_REFUSED.values()}
    arguments = ((), (0xFFFFFFFF,) * 6, (0x11, 2, 3), (0x7E020000, 0x7E020000), (0x2000000000000008, 1))
    differences = set()
    for architecture, first in ((X86_64, 0), (X86_64, X32), (X86, 0)):
        for call in {first + plain for plain in set(range(1024)) - chosen}:
            for given in arguments:
                answers = [program.decide(call, *given, architecture=architecture) for program in (theirs, ours)]
                if answers != [answers[0]] * 2:
                    differences.add((architecture, call, given[:1], *answers))
    # Families of sockets that do not exist.
    assert differences == {
        (architecture, socket, (family,), "ALLOW", "ERRNO(1)")
        for architecture, socket in ((X86_64, 41), (X86_64, X32 + 41), (X86, 359))
        for family in (0xFFFFFFFF, 0x7E020000)
    }


def test_probes_as_docker(docker: dict[str, Any]) -> None:
    decide = default_filter().decide
    clone, personality, socket = number("clone"), number("personality"), number("socket")
    table = docker["effective_x86_64_args_all_zero"]
    measured = dict(docker["probes"])
    added = sum(expected(name, answer) == "ALLOW" for name, answer in table.items() if name in LATER)
    # Chosen otherwise, and how long the program is.
    assert (measured.pop("n_filters"), measured.pop("n_insns")) == (1, [974])
    assert measured.pop("socket_family_denied") == {}
    assert measured.pop("allowed_count_x86_64_args0") == 292
    assert sum(decide(number(name)) == "ALLOW" for name in table) == 292 - len(STRICTER) + added
    assert measured == {
        "x86_64_unknown_nr_500": decide(500),
        "x86_64_unknown_nr_1023": decide(1023),
        "x32_read(0x40000000)": decide(X32),
        "x32_ptrace": decide(X32 + 521),
        "bad_arch_arm64_read": decide(63, architecture=AARCH64),
        "clone_flags": {name: decide(clone, flags) for name, flags in NAMESPACES.items()},
        "clone3": decide(435),
        "unshare_newuser": decide(number("unshare"), NAMESPACES["NEWUSER"]),
        "unshare_0": decide(number("unshare")),
        "personality": {value: decide(personality, int(value, 16)) for value in measured["personality"]},
        "socket_netlink_audit(16,3,9)": decide(socket, 16, 3, 9),
        "i386_socketcall": decide(102, 1, architecture=X86),
        "ioctl_TIOCSTI": decide(number("ioctl"), 0, 0x5412),
        "ioctl_TIOCLINUX": decide(number("ioctl"), 0, 0x541C),
        "table_size_x86_64": len(table),
    }


def changes(table: dict[str, str], capabilities: frozenset[str]) -> dict[str, list[str]]:
    """What other capabilities than the default ones change: each call's answer before and after."""
    before, after = default_filter(), default_filter(capabilities)
    answers = {name: [before.decide(number(name)), after.decide(number(name))] for name in table}
    return {name: answer for name, answer in answers.items() if answer[0] != answer[1]}


def test_capabilities_open_and_close_what_they_do_in_docker(docker: dict[str, Any]) -> None:
    table = docker["effective_x86_64_args_all_zero"]
    errors = set()
    for key, measured in docker["per_capability"].items():
        if "error" in measured:
            errors.add(key)
            continue
        capabilities = DEFAULT_CAPABILITIES
        if "_ALL" in key:
            capabilities = frozenset()
        elif key.startswith("cap_drop_"):
            capabilities -= {f"CAP_{key.removeprefix('cap_drop_')}"}
        elif "capadd_" in key or "cap_add_" in key:
            capabilities |= {f"CAP_{key.rpartition('add_')[2]}"}
        else:
            assert key in ("user_1000", "nnp")
        found = changes(table, capabilities)
        if key == "cap_add_SYS_NICE":
            assert found.pop("set_mempolicy_home_node")[1] == "ALLOW"  # a later call of this kind
        assert found == measured["changed"], key
        assert {name for name in found if found[name][1] == "ALLOW"} == set(measured["newly_allowed"])
        assert {name for name in found if found[name][0] == "ALLOW"} == set(measured["newly_denied"])
    assert errors == {"cap_add_BPF", "cap_add_PERFMON", "cap_add_SYS_RESOURCE"}
    refused = "ERRNO(1)"
    assert changes(table, DEFAULT_CAPABILITIES | {"CAP_BPF"}) == {"bpf": [refused, "ALLOW"]}
    assert changes(table, DEFAULT_CAPABILITIES | {"CAP_PERFMON"}) == {"perf_event_open": [refused, "ALLOW"]}
    assert changes(table, DEFAULT_CAPABILITIES | {"CAP_SYS_RESOURCE"}) == {}


@pytest.mark.parametrize(("architecture", "call"), [(X86_64, 41), (X86_64, X32 + 41), (X86, 359)])
def test_two_families_of_sockets_are_refused(architecture: int, call: int) -> None:
    decide = default_filter().decide
    for above in (0, 1, 0xFFFFFFFF):  # what the kernel does not read must not matter
        denied = {
            family: answer
            for family in range(66)
            if (answer := decide(call, above << 32 | family, 5, architecture=architecture)) != "ALLOW"
        }
        # Families that do not exist (there are 46) are refused from 64 on.
        assert denied == dict.fromkeys((38, 40, 64, 65), "ERRNO(1)")


def test_namespaces_need_sys_admin() -> None:
    admin = default_filter(DEFAULT_CAPABILITIES | {"CAP_SYS_ADMIN"})
    clone = number("clone")
    assert {name: admin.decide(clone, flags) for name, flags in NAMESPACES.items()} == dict.fromkeys(
        NAMESPACES, "ALLOW"
    )
    assert default_filter().decide(clone, 0x7E020000) == "ERRNO(1)"
    assert default_filter().decide(120, 0x10000000, architecture=X86) == "ERRNO(1)"


@pytest.mark.parametrize("count", [0, 14, 41])
def test_the_program_is_short_enough(count: int) -> None:
    sets = (frozenset[str](), DEFAULT_CAPABILITIES, frozenset(capabilities.NUMBERS))
    names = {len(names): names for names in sets}[count]
    assert 800 < len(default_filter(names).instructions) < 4096


def test_the_default_profile_is_in_order() -> None:
    profile = seccomp.default_profile()
    assert profile is seccomp.default_profile()
    assert len({entry["architecture"] for entry in profile["archMap"]}) == len(profile["archMap"])
    for entry in profile["archMap"]:
        assert {entry["architecture"], *entry["subArchitectures"]} <= set(seccomp.ARCHITECTURES)
    for rule in profile["syscalls"]:
        assert rule["names"] == sorted(set(rule["names"]))
        assert set(rule) <= {"comment", "names", "action", "errnoRet", "args", "includes", "excludes"}
        assert set(rule.get("includes", {})) <= {"arches", "caps", "minKernel"}
        assert set(rule.get("excludes", {})) <= {"arches", "caps"}
        for caps in (rule.get("includes", {}), rule.get("excludes", {})):
            assert {name.removeprefix("CAP_") for name in caps.get("caps", ())} <= set(capabilities.NAMES)


# Docker's format.


def resolved(rule: dict[str, Any], machine: str = "x86_64", kernel: str = KERNEL, caps: str = "CAP_A CAP_B") -> bool:
    """Whether a rule with these conditions applies."""
    profile = {"defaultAction": "SCMP_ACT_ERRNO", "syscalls": [{"names": ["read"], "action": "SCMP_ACT_ALLOW", **rule}]}
    return bool(seccomp.resolve(profile, frozenset(caps.split()), machine, kernel)["syscalls"])


@pytest.mark.parametrize(
    ("conditions", "applies"),
    [
        ({}, True),
        ({"includes": None, "excludes": None}, True),
        ({"includes": {"caps": ["CAP_A"]}}, True),
        ({"includes": {"caps": ["CAP_A", "CAP_B"]}}, True),
        ({"includes": {"caps": ["CAP_A", "CAP_C"]}}, False),
        ({"excludes": {"caps": ["CAP_C"]}}, True),
        ({"excludes": {"caps": ["CAP_C", "CAP_A"]}}, False),
        ({"includes": {"arches": ["arm64", "amd64"]}}, True),
        ({"includes": {"arches": ["arm64", "x32"]}}, False),
        ({"excludes": {"arches": ["s390", "amd64"]}}, False),
        ({"excludes": {"arches": ["s390"]}}, True),
        ({"includes": {"arches": ["amd64"], "caps": ["CAP_C"]}}, False),
        ({"includes": {"caps": ["CAP_A"]}, "excludes": {"arches": ["amd64"]}}, False),
        ({"includes": {"minKernel": "6.1"}}, True),
        ({"includes": {"minKernel": "6.2"}}, False),
        ({"includes": {"minKernel": "4.19"}}, True),
        ({"includes": {"minKernel": "10.0"}}, False),
        ({"excludes": {"minKernel": "6.1"}}, False),
        ({"excludes": {"minKernel": "6.2"}}, True),
    ],
)
def test_conditions_of_a_rule(conditions: dict[str, Any], applies: bool) -> None:
    assert resolved(conditions) is applies


@pytest.mark.parametrize(
    ("machine", "arch"),
    [("x86_64", "amd64"), ("aarch64", "arm64"), ("i586", "x86"), ("armv7l", "arm"), ("s390x", "s390x")],
)
def test_machines_have_docker_s_names(machine: str, arch: str) -> None:
    assert resolved({"includes": {"arches": [arch]}}, machine)
    assert not resolved({"excludes": {"arches": [arch]}}, machine)


@pytest.mark.parametrize(
    ("kernel", "reached"),
    [
        ("4.8.0", True),
        ("4.7.99", False),
        ("5.0", True),
        ("4.10-rc1", True),
        ("4.9+", True),
        ("5", True),
        ("4.8rc3", True),
    ],
)
def test_the_lowest_kernel(kernel: str, reached: bool) -> None:
    assert resolved({"includes": {"minKernel": "4.8"}}, kernel=kernel) is reached


def test_ptrace_needs_a_kernel_that_filters_a_tracer_s_calls() -> None:
    for kernel, answer in (("4.7.0", "ERRNO(1)"), ("4.8.0", "ALLOW")):
        rules = seccomp.resolve(seccomp.default_profile(), DEFAULT_CAPABILITIES, "x86_64", kernel)
        assert Filter(seccomp.compile(rules)).decide(number("ptrace")) == answer
    rules = seccomp.resolve(seccomp.default_profile(), DEFAULT_CAPABILITIES | {"CAP_SYS_PTRACE"}, "x86_64", "4.7.0")
    assert Filter(seccomp.compile(rules)).decide(number("ptrace")) == "ALLOW"


@pytest.mark.parametrize(
    ("machine", "architectures"),
    [
        ("x86_64", ["SCMP_ARCH_X86_64", "SCMP_ARCH_X86", "SCMP_ARCH_X32"]),
        ("aarch64", ["SCMP_ARCH_AARCH64", "SCMP_ARCH_ARM"]),
        ("i686", ["SCMP_ARCH_X86"]),
        ("armv7l", ["SCMP_ARCH_ARM"]),
        ("riscv64", ["SCMP_ARCH_RISCV64"]),
        ("ppc64le", ["SCMP_ARCH_PPC64LE"]),
        ("s390x", ["SCMP_ARCH_S390X", "SCMP_ARCH_S390"]),
        ("unheard", []),
    ],
)
def test_architectures_come_from_the_map(machine: str, architectures: list[str]) -> None:
    rules = seccomp.resolve(seccomp.default_profile(), DEFAULT_CAPABILITIES, machine, KERNEL)
    assert rules["architectures"] == architectures


def test_an_architecture_may_have_none_below_it() -> None:
    profile = {"archMap": [{"architecture": "SCMP_ARCH_X86_64", "subArchitectures": None}]}
    assert seccomp.resolve(profile, frozenset(), "x86_64", KERNEL)["architectures"] == ["SCMP_ARCH_X86_64"]


def test_what_is_resolved_is_what_the_specification_has() -> None:
    profile = {
        "defaultAction": "SCMP_ACT_ERRNO",
        "defaultErrnoRet": 13,
        "flags": ["SECCOMP_FILTER_FLAG_LOG"],
        "listenerPath": "/run/agent",
        "listenerMetadata": "m",
        "architectures": ["SCMP_ARCH_X86_64"],
        "syscalls": [
            {"comment": "c", "name": "read", "action": "SCMP_ACT_ALLOW", "errnoRet": None, "args": [], "includes": {}},
            {"names": ["write"], "action": "SCMP_ACT_ERRNO", "errnoRet": 0, "excludes": {}},
        ],
    }
    assert seccomp.resolve(profile, frozenset(), "x86_64", KERNEL) == {
        **profile,
        "syscalls": [
            {"names": ["read"], "action": "SCMP_ACT_ALLOW", "args": []},
            {"names": ["write"], "action": "SCMP_ACT_ERRNO", "errnoRet": 0},
        ],
    }


@pytest.mark.parametrize(
    ("profile", "field"),
    [
        ({"archMap": [{}], "architectures": ["SCMP_ARCH_X86"]}, "seccomp.architectures"),
        ({"syscalls": [{"action": "SCMP_ACT_ALLOW"}]}, "seccomp.syscalls[0]"),
        ({"syscalls": [{"names": ["a"]}, {"name": "a", "names": ["b"]}]}, "seccomp.syscalls[1]"),
        ({"syscalls": [{"name": "a", "includes": {"minKernel": "4"}}]}, "seccomp.syscalls[0].includes.minKernel"),
        ({"syscalls": [{"name": "a", "excludes": {"minKernel": "4.x"}}]}, "seccomp.syscalls[0].excludes.minKernel"),
        ({"syscalls": [{"name": "a", "includes": {"minKernel": "4.²"}}]}, "seccomp.syscalls[0].includes.minKernel"),
    ],
)
def test_a_wrong_profile_is_refused_with_its_field(profile: dict[str, Any], field: str) -> None:
    with pytest.raises(SpecError) as caught:
        seccomp.resolve(profile, frozenset(), "x86_64", KERNEL)
    assert caught.value.field == field


# The compiler.

LOW = 0xFFFFFFFF
EDGES = (0, 1, 4, 5, 6, 7, LOW - 1, LOW, LOW + 1, LOW + 6, LOW + 7, 5 << 32, 6 << 32, 1 << 63, (1 << 64) - 1)
OPERATORS: dict[str, Callable[[int, int], bool]] = {
    "SCMP_CMP_NE": operator.ne,
    "SCMP_CMP_LT": operator.lt,
    "SCMP_CMP_LE": operator.le,
    "SCMP_CMP_EQ": operator.eq,
    "SCMP_CMP_GE": operator.ge,
    "SCMP_CMP_GT": operator.gt,
}


def allowed(*arguments: dict[str, Any], names: tuple[str, ...] = ("write",)) -> dict[str, Any]:
    return {"names": list(names), "action": "SCMP_ACT_ALLOW", "args": list(arguments)}


@pytest.mark.parametrize("value", [5, LOW, LOW + 6, 5 << 32])
@pytest.mark.parametrize("name", OPERATORS)
def test_a_comparison_is_of_64_bits(name: str, value: int) -> None:
    rule = allowed({"index": 2, "op": name, "value": value, "valueTwo": 99})
    program = compiled(syscalls=[rule])
    found = {edge: program.decide(1, 7, 7, edge, 7, 7, 7) for edge in EDGES}
    assert found == {edge: "ALLOW" if OPERATORS[name](edge, value) else "ERRNO(1)" for edge in EDGES}


@pytest.mark.parametrize(("mask", "value"), [(0x7E020000, 0), (6, 4), (0xF << 32 | 1, 5 << 32), ((1 << 64) - 1, 5)])
def test_a_masked_comparison(mask: int, value: int) -> None:
    program = compiled(
        syscalls=[allowed({"index": 5, "op": "SCMP_CMP_MASKED_EQ", "value": mask, "valueTwo": value})],
    )
    edges = (*EDGES, 0x7E020000, 0x20000, 5 << 32 | 2)
    found = {edge: program.decide(1, 0, 0, 0, 0, 0, edge) for edge in edges}
    assert found == {edge: "ALLOW" if edge & mask == value else "ERRNO(1)" for edge in edges}
    assert set(found.values()) == {"ALLOW", "ERRNO(1)"}


def test_conditions_are_all_needed_unless_an_argument_has_two() -> None:
    five, six = ({"index": index, "op": "SCMP_CMP_EQ", "value": index + 5} for index in (0, 1))
    both = compiled(syscalls=[allowed(five, six)])
    assert [both.decide(1, *pair) for pair in ((5, 6), (5, 0), (0, 6))] == ["ALLOW", "ERRNO(1)", "ERRNO(1)"]
    again = {"index": 0, "op": "SCMP_CMP_EQ", "value": 9}
    any_of = compiled(syscalls=[allowed(five, six, again)])
    pairs = ((5, 0), (9, 0), (0, 6), (0, 0))
    assert [any_of.decide(1, *pair) for pair in pairs] == ["ALLOW", "ALLOW", "ALLOW", "ERRNO(1)"]


@pytest.mark.parametrize(
    ("action", "number", "answer"),
    [
        ("SCMP_ACT_ERRNO", None, "ERRNO(1)"),
        ("SCMP_ACT_ERRNO", 13, "ERRNO(13)"),
        ("SCMP_ACT_ERRNO", 0, "ERRNO(0)"),
        ("SCMP_ACT_TRACE", None, "TRACE(1)"),
        ("SCMP_ACT_TRACE", 7, "TRACE(7)"),
        ("SCMP_ACT_LOG", None, "LOG"),
        ("SCMP_ACT_TRAP", None, "TRAP"),
        ("SCMP_ACT_KILL", None, "KILL_THREAD"),
        ("SCMP_ACT_KILL_THREAD", None, "KILL_THREAD"),
        ("SCMP_ACT_KILL_PROCESS", None, "KILL_PROCESS"),
        ("SCMP_ACT_NOTIFY", None, "NOTIFY"),
    ],
)
def test_actions(action: str, number: int | None, answer: str) -> None:
    rule = {"names": ["write"], "action": action, "errnoRet": number}
    program = compiled(defaultAction="SCMP_ACT_ALLOW", syscalls=[rule])
    assert (program.decide(1), program.decide(0)) == (answer, "ALLOW")
    if action != "SCMP_ACT_NOTIFY":
        program = compiled(defaultAction=action, defaultErrnoRet=number, syscalls=[allowed()])
        assert (program.decide(1), program.decide(0)) == ("ALLOW", answer)


@pytest.mark.parametrize(
    ("default", "number", "answer"),
    [
        ("SCMP_ACT_ERRNO", 1, "ERRNO(38)"),
        ("SCMP_ACT_ERRNO", 38, "ERRNO(38)"),
        ("SCMP_ACT_KILL_PROCESS", None, "ERRNO(38)"),
        ("SCMP_ACT_TRAP", None, "ERRNO(38)"),
        ("SCMP_ACT_LOG", None, "LOG"),
        ("SCMP_ACT_TRACE", 3, "TRACE(3)"),
        ("SCMP_ACT_ALLOW", None, "ALLOW"),
    ],
)
def test_a_call_newer_than_the_rules_does_not_exist(default: str, number: int | None, answer: str) -> None:
    # A rule that says what the default says still tells which calls are known.
    rules = [{"names": ["write", "futex_waitv"], "action": default, "errnoRet": number}]
    program = compiled(defaultAction=default, defaultErrnoRet=number, syscalls=rules)
    assert (program.decide(450), program.decide(1023)) == (answer, answer)
    assert program.decide(449) == program.decide(1) != ("ERRNO(38)" if number != 38 else "ALLOW")


def test_each_architecture_has_its_newest_call() -> None:
    names = ["SCMP_ARCH_X86", "SCMP_ARCH_X32"]
    program = compiled(architectures=names, syscalls=[allowed(names=("getpid", "readv", "vm86"))])
    newest = {(X86_64, 0): 39, (X86_64, X32): 515, (X86, 0): 166}
    for (architecture, first), last in newest.items():
        assert program.decide(first + last, architecture=architecture) == "ALLOW"
        assert program.decide(first + last - 1, architecture=architecture) == "ERRNO(1)"
        assert program.decide(first + last + 1, architecture=architecture) == "ERRNO(38)"


def test_other_architectures_are_killed() -> None:
    program = compiled(syscalls=[allowed()])
    assert program.decide(1) == "ALLOW"
    assert program.decide(X32 + 1) == program.decide(4, architecture=X86) == "KILL_THREAD"


def test_an_architecture_that_has_none_of_the_calls_is_left_to_the_rules() -> None:
    program = compiled(architectures=["SCMP_ARCH_X86"], syscalls=[allowed(names=("vm86",))])
    assert (program.decide(1), program.decide(166, architecture=X86)) == ("ERRNO(1)", "ALLOW")


def test_arm_s_own_calls_do_not_make_all_others_old() -> None:
    program = compiled(architectures=["SCMP_ARCH_ARM"], syscalls=[allowed(names=("futex_waitv", "cacheflush"))])
    found = [program.decide(call, architecture=ARM) for call in (449, 448, 450, 0xEFFFF, 0xF0002, 0xF0005)]
    assert found == ["ALLOW", "ERRNO(1)", "ERRNO(38)", "ERRNO(38)", "ALLOW", "ERRNO(1)"]


def test_names_that_nobody_knows_are_skipped() -> None:
    rules = [allowed(names=("nosuchcall", "write")), {"names": ["nosuchcall"], "action": "SCMP_ACT_KILL"}]
    program = compiled(syscalls=rules)
    assert (program.decide(1), program.decide(0)) == ("ALLOW", "ERRNO(1)")


@pytest.mark.parametrize(
    ("rules", "field"),
    [
        ({"defaultErrnoRet": 0x10000}, "linux.seccomp.defaultErrnoRet"),
        ({"defaultAction": "SCMP_ACT_ALLOW", "defaultErrnoRet": 1}, "linux.seccomp.defaultErrnoRet"),
        ({"architectures": ["SCMP_ARCH_X86", "SCMP_ARCH_MIPS"]}, "linux.seccomp.architectures"),
        ({"architectures": ["SCMP_ARCH_M68K"]}, "linux.seccomp.architectures"),
        ({"syscalls": [allowed(), {**allowed(), "errnoRet": 1}]}, "linux.seccomp.syscalls[1].errnoRet"),
        (
            {"syscalls": [allowed({"index": 6, "op": "SCMP_CMP_EQ", "value": 0})]},
            "linux.seccomp.syscalls[0].args[0].index",
        ),
    ],
)
def test_wrong_rules_are_refused_with_their_field(rules: dict[str, Any], field: str) -> None:
    with pytest.raises(SpecError) as caught:
        compiled(**rules)
    assert caught.value.field == field


def test_a_program_that_the_kernel_would_refuse() -> None:
    def rules(count: int) -> list[dict[str, Any]]:
        return [allowed({"index": 0, "op": "SCMP_CMP_EQ", "value": value << 32}) for value in range(count)]

    assert len(compiled(syscalls=rules(500)).instructions) < 4096
    with pytest.raises(SpecError, match=r"are \d+ instructions, and the kernel takes 4096"):
        compiled(syscalls=rules(2500))


def test_without_libseccomp(monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(*_: object, **__: object) -> None:
        raise OSError("no such library")

    monkeypatch.setattr("ctypes.CDLL", missing)
    with pytest.raises(Unsupported, match="libseccomp2"):
        compiled()


# The cache.

RULES = {"defaultAction": "SCMP_ACT_ERRNO", "syscalls": [allowed()]}


class Compiled(Exception):
    """The compiler was asked."""


@pytest.fixture
def no_compiler(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[], None]]:
    def refuse(_: dict[str, Any]) -> bytes:
        raise Compiled

    yield lambda: monkeypatch.setattr(seccomp, "compile", refuse)


def test_a_program_is_compiled_once(tmp_path: Path, no_compiler: Callable[[], None]) -> None:
    cache = str(tmp_path / "filters")
    first = seccomp.program_for(RULES, cache)
    assert Filter(first).decide(1) == "ALLOW"
    no_compiler()
    assert seccomp.program_for(json.loads(json.dumps(RULES)), cache) == first
    with pytest.raises(Compiled):
        seccomp.program_for(RULES, None)
    with pytest.raises(Compiled):
        seccomp.program_for({**RULES, "defaultErrnoRet": 2}, cache)


@pytest.mark.parametrize(
    "damage",
    [lambda data: data[:-3], lambda data: data[:-8], lambda data: b"", lambda data: bytes(len(data))],
    ids=["odd", "short", "empty", "zeros"],
)
def test_a_damaged_program_is_compiled_again(tmp_path: Path, damage: Callable[[bytes], bytes]) -> None:
    first = seccomp.program_for(RULES, str(tmp_path))
    (path,) = tmp_path.iterdir()
    sound = path.read_bytes()
    path.write_bytes(damage(sound))
    assert seccomp.program_for(RULES, str(tmp_path)) == first
    assert path.read_bytes() == sound
    assert list(tmp_path.iterdir()) == [path]


def test_other_libraries_compile_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, no_compiler: Callable[[], None]
) -> None:
    seccomp.program_for(RULES, str(tmp_path))
    monkeypatch.setattr(seccomp, "_libraries", lambda: 1)
    no_compiler()
    with pytest.raises(Compiled):
        seccomp.program_for(RULES, str(tmp_path))


# Loading.

ASKING = {"names": ["mkdir"], "action": "SCMP_ACT_NOTIFY"}


@pytest.mark.parametrize(
    ("rules", "field"),
    [
        ({"syscalls": [ASKING]}, "linux.seccomp.listenerPath"),
        ({"defaultAction": "SCMP_ACT_NOTIFY", "listenerPath": "/x"}, "linux.seccomp.defaultAction"),
        (
            {"syscalls": [ASKING, {**ASKING, "names": ["sendmsg"]}], "listenerPath": "/x"},
            "linux.seccomp.syscalls[1].names",
        ),
    ],
)
def test_questions_that_nobody_could_answer_are_refused(rules: dict[str, Any], field: str) -> None:
    for asked in (seccomp.notifies, seccomp.flags_of):
        with pytest.raises(SpecError) as caught:
            asked({"defaultAction": "SCMP_ACT_ALLOW", **rules})
        assert caught.value.field == field


def test_flags() -> None:
    every = {"defaultAction": "SCMP_ACT_ALLOW", "flags": list(seccomp.FLAGS)}
    assert seccomp.flags_of(every) == 1 | 2 | 4
    assert seccomp.flags_of({**every, "syscalls": [ASKING], "listenerPath": "/x"}) == 2 | 4 | 8 | 32
    assert seccomp.flags_of(RULES) == 0
    assert not seccomp.notifies(RULES)


def test_a_flag_that_the_kernel_does_not_take() -> None:
    with pytest.raises(SpecError, match="does not know them all") as caught:
        seccomp.load(b"", SeccompFlag.WAIT_KILLABLE_RECV)  # which the kernel takes only beside NEW_LISTENER
    assert caught.value.field == "linux.seccomp.flags"
    with pytest.raises(OSError, match="seccomp a filter of 0 instructions") as refused:
        seccomp.load(b"", 0)
    assert refused.value.errno == errno.EINVAL
