"""The options of `run`, `create` and `update` about limits, restarts, health and logs."""

from __future__ import annotations

from specrun.cli.options import Option
from specrun.errors import UsageError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from specrun.cli.options import Parsed
    from specrun.engine.policies import Health
    from specrun.engine.resources import Resources

RESOURCE_OPTIONS = [
    Option("--blkio-weight", "number", "Block IO weight, 10 to 1000"),
    Option("--cpu-period", "number", "Limit the CFS period, in microseconds"),
    Option("--cpu-quota", "number", "Limit the CFS quota, in microseconds"),
    Option("-c --cpu-shares", "number", "CPU shares (relative weight)"),
    Option("--cpus", "value", "Number of CPUs", "decimal"),
    Option("--cpuset-cpus", "value", "CPUs in which to allow execution (0-3, 0,1)"),
    Option("--cpuset-mems", "value", "Memory nodes in which to allow execution (0-3, 0,1)"),
    Option("-m --memory", "value", "Memory limit", "bytes"),
    Option("--memory-reservation", "value", "Memory soft limit", "bytes"),
    Option("--memory-swap", "value", "Limit of memory and swap together; -1 for unlimited swap", "bytes"),
    Option("--pids-limit", "number", "Limit the number of processes; -1 for unlimited"),
]
SHM_SIZE = Option("--shm-size", "value", "Size of /dev/shm", "bytes")
ULIMIT = Option("--ulimit", "list", "Ulimits: NAME=SOFT[:HARD]")
RESTART = Option("--restart", "value", "When to start it again: no, always, unless-stopped, on-failure[:COUNT]")
_THROTTLE_OPTIONS = {
    "BlkioDeviceReadBps": Option(
        "--device-read-bps", "list", "Limit reads from a device, bytes a second (DEVICE:RATE)"
    ),
    "BlkioDeviceReadIOps": Option("--device-read-iops", "list", "Limit reads from a device, a second (DEVICE:RATE)"),
    "BlkioDeviceWriteBps": Option(
        "--device-write-bps", "list", "Limit writes to a device, bytes a second (DEVICE:RATE)"
    ),
    "BlkioDeviceWriteIOps": Option("--device-write-iops", "list", "Limit writes to a device, a second (DEVICE:RATE)"),
}
"""By the field of HostConfig."""
LIFE_OPTIONS = [
    *RESOURCE_OPTIONS,
    RESTART,
    Option("--annotation", "list", "Add an annotation to the container, for the runtime and its hooks: NAME=VALUE"),
    Option("--blkio-weight-device", "list", "Block IO weight of a device (DEVICE:WEIGHT)"),
    Option("--device", "list", "Add a device of the host: DEVICE[:PATH][:rwm]"),
    Option("--device-cgroup-rule", "list", 'Allow devices by number, such as "c 10:229 rwm"'),
    *_THROTTLE_OPTIONS.values(),
    Option("--domainname", "value", "Container NIS domain name"),
    Option("--group-add", "list", "Add additional groups to join"),
    Option("--health-cmd", "value", "Command to run to check health"),
    Option("--health-interval", "value", "Time between running the check (default 30s)", "duration"),
    Option("--health-retries", "number", "Consecutive failures needed to report unhealthy (default 3)"),
    Option("--health-start-interval", "value", "Time between checks during the start period", "duration"),
    Option("--health-start-period", "value", "Time to start up before failures are counted", "duration"),
    Option("--health-timeout", "value", "Maximum time for one check to run (default 30s)", "duration"),
    Option("--init", "flag", "Run a first process in the container that forwards signals and reaps processes"),
    Option("--label-file", "list", "Read in a file of labels"),
    Option("--log-driver", "value", "Logging driver: json-file or none"),
    Option("--log-opt", "list", "Log options: max-size (default 10m), max-file (default 5)"),
    Option("--memory-swappiness", "number", "Tune how much is swapped, 0 to 100; -1 for the host's"),
    Option("--no-healthcheck", "flag", "Disable the image's health check"),
    Option("--oom-kill-disable", "flag", "Disable the OOM killer"),
    Option("--oom-score-adj", "number", "Tune the host's OOM preferences (-1000 to 1000)"),
    Option("--platform", "value", "The platform of the image: only this host's"),
    Option("--runtime", "value", "Only specrun's own runtime"),
    SHM_SIZE,
    Option("--sysctl", "list", "Kernel parameters of the container's namespaces: NAME=VALUE"),
    ULIMIT,
]


def resources_of(options: Parsed) -> Resources:
    """The limits that the options of `run`, `create`, `update` and `build` describe. Raises UsageError."""
    from specrun.engine.policies import parse_size
    from specrun.engine.resources import Resources

    def size(name: str) -> int:
        text = options.values.get(name) or ""
        return parse_size(text, f"--{name.replace('_', '-')}") if text else 0

    cpus = options.cpus or "0"
    if not cpus.replace(".", "", 1).isascii() or not cpus.replace(".", "", 1).isdigit():
        raise UsageError(f'invalid argument "{cpus}" for "--cpus" flag: failed to parse {cpus} as a rational number')
    more = options.values  # `update` has only some of them
    swappiness = more.get("memory_swappiness")
    return Resources(
        memory=size("memory"),
        memory_swap=size("memory_swap"),
        memory_reservation=size("memory_reservation"),
        cpus=float(cpus),
        cpu_shares=options.cpu_shares or 0,
        cpu_period=options.cpu_period or 0,
        cpu_quota=options.cpu_quota or 0,
        cpuset_cpus=options.cpuset_cpus,
        cpuset_mems=options.cpuset_mems,
        pids_limit=options.pids_limit or 0,
        blkio_weight=options.blkio_weight or 0,
        memory_swappiness=-1 if swappiness is None else swappiness,
        oom_kill_disable=bool(more.get("oom_kill_disable")),
        oom_score_adj=more.get("oom_score_adj") or 0,
        shm_size=size("shm_size"),
        ulimits=more.get("ulimit"),
        devices=more.get("device"),
        cgroup_rules=more.get("device_cgroup_rule"),
        weights=more.get("blkio_weight_device"),
        throttles={name: rates for name, option in _THROTTLE_OPTIONS.items() if (rates := more.get(option.key))},
    )


def life_of(options: Parsed) -> dict[str, Any]:
    """The arguments of ContainerRequest that the options of this module describe. Raises UsageError."""
    _refuse(options)
    found: dict[str, Any] = {
        "annotations": dict(_assignment(text, "--annotation") for text in options.annotation),
        "domainname": options.domainname,
        "groups": options.group_add,
        "init": options.init,
        "restart": options.restart,
        "log_driver": options.log_driver,
        "log_options": dict(_assignment(text, "--log-opt") for text in options.log_opt),
        "sysctls": dict(_assignment(text, "--sysctl") for text in options.sysctl),
    }
    if not LIMITS.isdisjoint(options.given):
        found["resources"] = resources_of(options)
    if options.no_healthcheck or any(options.values[key] for key in _HEALTH):
        found["health"] = _health_of(options)
    return {key: value for key, value in found.items() if value}


LIMITS = {option.key for option in (*RESOURCE_OPTIONS, *_THROTTLE_OPTIONS.values())} | {
    "blkio_weight_device", "device", "device_cgroup_rule", "memory_swappiness", "oom_kill_disable", "oom_score_adj",
    "shm_size", "ulimit",
}  # fmt: skip
"""The options that Resources are made of, by their keys."""
_HEALTH = [option.key for option in LIFE_OPTIONS if option.key.startswith("health_")]


def _health_of(options: Parsed) -> Health:
    from specrun.engine.policies import Health

    if options.no_healthcheck:
        if any(options.values[key] for key in _HEALTH):
            raise UsageError("--no-healthcheck conflicts with --health-* options")
        return Health(["NONE"])
    return Health(
        ["CMD-SHELL", options.health_cmd] if options.health_cmd else None,
        interval=_seconds(options, "health_interval"),
        timeout=_seconds(options, "health_timeout"),
        start_period=_seconds(options, "health_start_period"),
        start_interval=_seconds(options, "health_start_interval"),
        retries=options.health_retries or 0,
    )


def _seconds(options: Parsed, key: str) -> float:
    from specrun.cli.moments import parse_duration

    text = options.values[key]
    seconds = parse_duration(text) if text else 0.0
    if seconds is None:
        name = f"--{key.replace('_', '-')}"
        raise UsageError(f'invalid argument "{text}" for "{name}" flag: time: invalid duration "{text}"')
    return seconds


def _assignment(text: str, option: str) -> tuple[str, str]:
    key, equals, value = text.partition("=")
    if not key or not equals:
        raise UsageError(f'invalid argument "{text}" for "{option}" flag', hint="expected NAME=VALUE")
    return key, value


def _refuse(options: Parsed) -> None:
    """What Docker can and we cannot, by name."""
    if options.platform:
        from specrun.oci import platform

        if platform.parse(options.platform) != platform.host():
            raise UsageError(f"--platform {options.platform} is not supported", hint=f"this host is {platform.host()}")
    if options.runtime not in ("", "specrun-runtime"):
        raise UsageError(f"unknown or invalid runtime name: {options.runtime}", hint="there is only specrun-runtime")
