"""The shapes of the documents of the OCI runtime specification 1.2, and one function that checks a value against one.

Properties that a shape does not name are allowed: the specification asks runtimes to ignore what they do not know
(config.md, "Extensibility"). What is known and cannot be done is refused elsewhere, by `spec`.
"""

from __future__ import annotations

from specrun_runtime.errors import SpecError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    Shape = Callable[[Any, str], None]

_NAMES = {dict: "an object", list: "a list", str: "a string", bool: "true or false", int: "a number", float: "a number"}


def check(document: Any, shape: Shape, name: str) -> None:
    """Raises SpecError that names the field, what was found there and what was expected."""
    shape(document, name)


def _wrong(value: Any, field: str, expected: str) -> SpecError:
    found = "nothing" if value is None else f"{value!r}"
    return SpecError(field, f"found {found if len(found) < 80 else found[:77] + '...'}, expected {expected}")


def text(value: Any, field: str) -> None:
    """A string without a NUL byte."""
    if not isinstance(value, str) or "\0" in value:
        raise _wrong(value, field, "a string")


def path(value: Any, field: str) -> None:
    """An absolute path."""
    if not isinstance(value, str) or not value.startswith("/") or "\0" in value:
        raise _wrong(value, field, "an absolute path")


def flag(value: Any, field: str) -> None:
    """true or false."""
    if not isinstance(value, bool):
        raise _wrong(value, field, "true or false")


def number(low: int, high: int) -> Shape:
    """A whole number between the two, both allowed."""

    def shape(value: Any, field: str) -> None:
        if not isinstance(value, int) or isinstance(value, bool) or not low <= value <= high:
            raise _wrong(value, field, f"a whole number between {low} and {high}")

    return shape


uint16, uint32, uint64 = number(0, 2**16 - 1), number(0, 2**32 - 1), number(0, 2**64 - 1)
int32, int64 = number(-(2**31), 2**31 - 1), number(-(2**63), 2**63 - 1)


def choice(words: str) -> Shape:
    """One of the `words`."""
    allowed = words.split()

    def shape(value: Any, field: str) -> None:
        if value not in allowed:
            raise _wrong(value, field, f"one of {', '.join(allowed)}")

    return shape


def beginning(prefix: str, letters: str) -> Shape:
    """`prefix` and then one or more of `letters`."""

    def shape(value: Any, field: str) -> None:
        if not isinstance(value, str) or not value.startswith(prefix) or not set(value[len(prefix) :]) <= set(letters):
            raise _wrong(value, field, f"{prefix}...")

    return shape


def items(shape: Shape, least: int = 0) -> Shape:
    """A list of at least `least` values of one shape."""

    def whole(value: Any, field: str) -> None:
        if not isinstance(value, list):
            raise _wrong(value, field, "a list")
        if len(value) < least:
            raise SpecError(field, f"is empty, expected {least} or more")
        for index, item in enumerate(value):
            shape(item, f"{field}[{index}]")

    return whole


def table(shape: Shape) -> Shape:
    """An object whose values have one shape, under names of their own."""

    def whole(value: Any, field: str) -> None:
        if not isinstance(value, dict):
            raise _wrong(value, field, "an object")
        for key, item in value.items():
            shape(item, f"{field}.{key}")

    return whole


def fields(required: str = "", /, **known: Shape) -> Shape:
    """An object with the `known` properties; `null` counts as absent, as Go's encoder writes it."""
    needed = required.split()

    def whole(value: Any, field: str) -> None:
        if not isinstance(value, dict):
            raise _wrong(value, field, "an object")
        for name in needed:
            if value.get(name) is None:
                raise SpecError(_under(field, name), "is missing")
        for name, item in value.items():
            if item is not None and name in known:
                known[name](item, _under(field, name))

    return whole


def _under(field: str, name: str) -> str:
    return f"{field}.{name}" if field else name


def page_size(value: Any, field: str) -> None:
    """A huge page size such as `2MB`."""
    if isinstance(value, str) and value[-2:] in ("KB", "MB", "GB") and value[:-2].isdigit() and value[0] != "0":
        return
    raise _wrong(value, field, "a size such as 2MB or 1GB")


ACTIONS = (
    "SCMP_ACT_KILL SCMP_ACT_KILL_PROCESS SCMP_ACT_KILL_THREAD SCMP_ACT_TRAP SCMP_ACT_ERRNO SCMP_ACT_TRACE "
    "SCMP_ACT_ALLOW SCMP_ACT_LOG SCMP_ACT_NOTIFY"
)
OPERATORS = "SCMP_CMP_NE SCMP_CMP_LT SCMP_CMP_LE SCMP_CMP_EQ SCMP_CMP_GE SCMP_CMP_GT SCMP_CMP_MASKED_EQ"
ARCHITECTURES = " ".join(
    f"SCMP_ARCH_{name}"
    for name in (
        "X86 X86_64 X32 ARM AARCH64 MIPS MIPS64 MIPS64N32 MIPSEL MIPSEL64 MIPSEL64N32 PPC PPC64 PPC64LE S390 S390X "
        "PARISC PARISC64 RISCV64 LOONGARCH64 M68K SH SHEB"
    ).split()
)
NAMESPACES = "pid network mount ipc uts user cgroup time"
POLICIES = "SCHED_OTHER SCHED_FIFO SCHED_RR SCHED_BATCH SCHED_ISO SCHED_IDLE SCHED_DEADLINE"
SCHEDULER_FLAGS = " ".join(
    f"SCHED_FLAG_{name}"
    for name in "RESET_ON_FORK RECLAIM DL_OVERRUN KEEP_POLICY KEEP_PARAMS UTIL_CLAMP_MIN UTIL_CLAMP_MAX".split()
)
_CAPITALS = "ABCDEFGHIJKLMNOPQRSTUVWXYZ"

_texts = items(text)
_mappings = items(fields("containerID hostID size", containerID=uint32, hostID=uint32, size=uint32))
_device_rate = items(fields("major minor rate", major=int64, minor=int64, rate=uint64))
_device_weight = items(fields("major minor", major=int64, minor=int64, weight=uint16, leafWeight=uint16))
_hook = items(fields("path", path=path, args=_texts, env=_texts, timeout=number(1, 2**31 - 1)))
_set = items(text)

RESOURCES = fields(
    unified=table(text),
    devices=items(fields("allow", allow=flag, type=text, major=int64, minor=int64, access=text)),
    pids=fields("limit", limit=int64),
    memory=fields(
        kernel=int64,
        kernelTCP=int64,
        limit=int64,
        reservation=int64,
        swap=int64,
        swappiness=uint64,
        disableOOMKiller=flag,
        useHierarchy=flag,
        checkBeforeUpdate=flag,
    ),
    cpu=fields(
        cpus=text,
        mems=text,
        period=uint64,
        quota=int64,
        burst=uint64,
        realtimePeriod=uint64,
        realtimeRuntime=int64,
        shares=uint64,
        idle=int64,
    ),
    hugepageLimits=items(fields("pageSize limit", pageSize=page_size, limit=uint64)),
    network=fields(classID=uint32, priorities=items(fields("name priority", name=text, priority=uint32))),
    blockIO=fields(
        weight=uint16,
        leafWeight=uint16,
        weightDevice=_device_weight,
        throttleReadBpsDevice=_device_rate,
        throttleWriteBpsDevice=_device_rate,
        throttleReadIOPSDevice=_device_rate,
        throttleWriteIOPSDevice=_device_rate,
    ),
    rdma=table(fields(hcaHandles=uint32, hcaObjects=uint32)),
)

SECCOMP = fields(
    "defaultAction",
    defaultAction=choice(ACTIONS),
    defaultErrnoRet=uint32,
    flags=items(
        choice(" ".join(f"SECCOMP_FILTER_FLAG_{name}" for name in "TSYNC LOG SPEC_ALLOW WAIT_KILLABLE_RECV".split()))
    ),
    listenerPath=text,
    listenerMetadata=text,
    architectures=items(choice(ARCHITECTURES)),
    syscalls=items(
        fields(
            "names action",
            names=items(text, 1),
            action=choice(ACTIONS),
            errnoRet=uint32,
            args=items(fields("index value op", index=uint32, value=uint64, valueTwo=uint64, op=choice(OPERATORS))),
        )
    ),
)

PROCESS = fields(
    "cwd",
    args=_texts,
    commandLine=text,
    consoleSize=fields("height width", height=uint64, width=uint64),
    cwd=text,
    env=_texts,
    terminal=flag,
    user=fields(uid=uint32, gid=uint32, umask=uint32, additionalGids=items(uint32), username=text),
    capabilities=fields(bounding=_set, effective=_set, inheritable=_set, permitted=_set, ambient=_set),
    apparmorProfile=text,
    oomScoreAdj=number(-1000, 1000),
    selinuxLabel=text,
    ioPriority=fields(
        "class", **{"class": choice("IOPRIO_CLASS_RT IOPRIO_CLASS_BE IOPRIO_CLASS_IDLE"), "priority": int32}
    ),
    noNewPrivileges=flag,
    scheduler=fields(
        "policy",
        policy=choice(POLICIES),
        nice=int32,
        priority=int32,
        flags=items(choice(SCHEDULER_FLAGS)),
        runtime=uint64,
        deadline=uint64,
        period=uint64,
    ),
    rlimits=items(
        fields("type soft hard", type=beginning("RLIMIT_", _CAPITALS), soft=uint64, hard=uint64),
    ),
    execCPUAffinity=fields(
        initial=beginning("", "0123456789,- "),
        final=beginning("", "0123456789,- "),
    ),
)

CONFIG = fields(
    "ociVersion",
    ociVersion=text,
    hooks=fields(
        prestart=_hook,
        createRuntime=_hook,
        createContainer=_hook,
        startContainer=_hook,
        poststart=_hook,
        poststop=_hook,
    ),
    annotations=table(text),
    hostname=text,
    domainname=text,
    mounts=items(
        fields(
            "destination",
            destination=text,
            source=text,
            type=text,
            options=_texts,
            uidMappings=_mappings,
            gidMappings=_mappings,
        )
    ),
    root=fields("path", path=text, readonly=flag),
    process=PROCESS,
    linux=fields(
        namespaces=items(fields("type", type=choice(NAMESPACES), path=text)),
        devices=items(
            fields(
                "type path",
                type=choice("c b u p"),
                path=text,
                fileMode=uint32,
                major=int64,
                minor=int64,
                uid=uint32,
                gid=uint32,
            )
        ),
        netDevices=table(fields(name=text)),
        uidMappings=_mappings,
        gidMappings=_mappings,
        timeOffsets=table(fields(secs=int64, nanosecs=uint32)),
        cgroupsPath=text,
        resources=RESOURCES,
        rootfsPropagation=choice("private shared slave unbindable rprivate rshared rslave runbindable"),
        seccomp=SECCOMP,
        sysctl=table(text),
        maskedPaths=_texts,
        readonlyPaths=_texts,
        mountLabel=text,
        intelRdt=fields(
            closID=text, schemata=_texts, l3CacheSchema=text, memBwSchema=text, enableCMT=flag, enableMBM=flag
        ),
        personality=fields("domain", domain=choice("LINUX LINUX32"), flags=_texts),
    ),
    freebsd=fields(
        devices=items(fields("path", path=text, mode=uint32)),
        jail=fields(
            parent=text,
            host=choice("new inherit"),
            ip4=choice("new inherit disable"),
            ip4Addr=_texts,
            ip6=choice("new inherit disable"),
            ip6Addr=_texts,
            vnet=choice("new inherit"),
            interface=text,
            vnetInterfaces=_texts,
            sysvmsg=choice("new inherit disable"),
            sysvsem=choice("new inherit disable"),
            sysvshm=choice("new inherit disable"),
            enforceStatfs=number(0, 2),
            allow=fields(),
        ),
    ),
)
"""config.json (config.md, config-linux.md), with what the other platforms' parts share with the schema."""

STATE = fields(
    "ociVersion id status bundle",
    ociVersion=text,
    id=text,
    status=choice("creating created running stopped"),
    pid=number(0, 2**31 - 1),
    bundle=text,
    annotations=table(text),
)
"""The state of a container (runtime.md, "State")."""

FEATURES = fields(
    "ociVersionMin ociVersionMax",
    ociVersionMin=text,
    ociVersionMax=text,
    hooks=_texts,
    mountOptions=_texts,
    linux=fields(namespaces=_texts, capabilities=_texts),
    annotations=table(text),
    potentiallyUnsafeConfigAnnotations=_texts,
)
"""What `features` prints (features.md)."""
