"""Resource limits: fixed values for a container, whatever shell it was started from, clamped to what we may set."""

from __future__ import annotations

import resource

from specrun_runtime.errors import SpecError

NUMBERS = {name: value for name, value in vars(resource).items() if name.startswith("RLIMIT_")}
UNLIMITED = resource.RLIM_INFINITY

_INFINITE = 2**63 - 1

DEFAULT = (
    ("RLIMIT_CORE", 0, UNLIMITED),
    ("RLIMIT_NOFILE", 1048576, 1048576),
    ("RLIMIT_NPROC", UNLIMITED, UNLIMITED),
    ("RLIMIT_STACK", 8 << 20, UNLIMITED),
    ("RLIMIT_MEMLOCK", 8 << 20, 8 << 20),
)
"""Name, soft and hard limit of a container that asks for nothing; clamped where the host allows less."""


def number(name: str, field: str) -> int:
    """The kernel's number of the limit called `name`."""
    if name not in NUMBERS:
        raise SpecError(field, f"{name!r} is not a resource limit")
    return int(NUMBERS[name])


def clamp(name: str, soft: int, hard: int) -> tuple[int, int]:
    """The nearest limits to the wanted ones that this process may set without CAP_SYS_RESOURCE."""
    ceiling = resource.getrlimit(NUMBERS[name])[1]
    if ceiling != UNLIMITED:
        hard = ceiling if hard == UNLIMITED else min(hard, ceiling)
        soft = hard if soft == UNLIMITED else min(soft, hard)
    return soft, hard


def document(name: str, soft: int, hard: int) -> dict[str, str | int]:
    """One of `process.rlimits` of the runtime specification, where no limit is 2**64-1."""
    soft, hard = (2**64 - 1 if limit == UNLIMITED else limit for limit in clamp(name, soft, hard))
    return {"type": name, "soft": soft, "hard": hard}


def apply(name: str, soft: int, hard: int) -> None:
    """setrlimit(2); limits of 2**64-1, as the specification writes RLIM_INFINITY, are none."""
    soft, hard = (UNLIMITED if limit >= _INFINITE else limit for limit in (soft, hard))
    try:
        resource.setrlimit(NUMBERS[name], (soft, hard))
    except ValueError as error:  # EPERM
        ceiling = resource.getrlimit(NUMBERS[name])[1]
        raise ValueError(f"{name}: {hard} is more than this process may have itself ({ceiling})") from error
