"""`specrun info`: this host, and what of ours is on it."""

from __future__ import annotations

import os

from specrun.cli import output
from specrun.cli.options import Command, Option

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from specrun.cli.context import Context

COMMAND = Command(
    "info",
    "[OPTIONS]",
    "Print what this host is, and what of specrun's is on it.",
    [Option("-f --format", "value", "Print by a Go template, or json")],
    examples=["info", "info -f '{{.Containers}} {{.Driver}}'"],
)


def run(arguments: list[str], context: Context) -> int:
    """Print the facts."""
    options = COMMAND.parse(arguments)
    COMMAND.require(options, 0, 0)
    facts = document(context)
    if options.format in ("json", "{{json .}}"):
        import json

        context.out(json.dumps(facts) + "\n")
    elif options.format:
        from specrun.cli.templates import render

        context.out(render(options.format, facts) + "\n")
    else:
        context.out(_text(facts))
    return 0


def document(context: Context) -> dict[str, Any]:
    """The facts, by the names that `docker info --format` has for them."""
    from specrun import __version__
    from specrun.paths import default_run

    engine = context.engine()
    engine.mend()
    containers = engine.list(all=True)
    counts = [one.state.status for one in containers]
    host = os.uname()
    running, paused = counts.count("running"), counts.count("paused")
    unified = os.path.exists("/sys/fs/cgroup/cgroup.controllers")
    return {
        "ID": engine.root.id,
        "Containers": len(counts),
        "ContainersRunning": running,
        "ContainersPaused": paused,
        "ContainersStopped": len(counts) - running - paused,
        "Images": len(engine.images.all()),
        "Driver": "overlay2",
        "DriverStatus": [["Backing Filesystem", _filesystem(engine.root.path)], ["Supports d_type", "true"]],
        "Plugins": {
            "Volume": ["local"],
            "Network": ["bridge", "host", "none"],
            "Authorization": None,
            "Log": ["local"],
        },
        "MemoryLimit": True,
        "SwapLimit": True,
        "CpuCfsPeriod": True,
        "CpuCfsQuota": True,
        "CPUShares": True,
        "CPUSet": True,
        "PidsLimit": True,
        "OomKillDisable": not unified,
        "IPv4Forwarding": _first_line("/proc/sys/net/ipv4/ip_forward") == "1",
        "Debug": context.debug,
        "SystemTime": output.rfc3339(_now()),
        "LoggingDriver": "local",
        "CgroupDriver": "cgroupfs",
        "CgroupVersion": "2" if unified else "1",
        "KernelVersion": host.release,
        "OperatingSystem": _system(),
        "OSType": "linux",
        "Architecture": host.machine,
        "NCPU": len(os.sched_getaffinity(0)),
        "MemTotal": os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"),
        "DockerRootDir": engine.root.path,
        "RunDir": f"{default_run()}/{engine.root.id}",
        "Name": host.nodename,
        "Labels": [],
        "ServerVersion": __version__,
        "Runtimes": {"specrun-runtime": {"path": "specrun-runtime"}},
        "DefaultRuntime": "specrun-runtime",
        "LiveRestoreEnabled": True,
        "SecurityOptions": ["name=seccomp,profile=default", "name=cgroupns"],
        "Warnings": None,
    }


def _text(facts: dict[str, Any]) -> str:
    lines = [
        f"Containers: {facts['Containers']}",
        f" Running: {facts['ContainersRunning']}",
        f" Paused: {facts['ContainersPaused']}",
        f" Stopped: {facts['ContainersStopped']}",
        f"Images: {facts['Images']}",
        f"Version: {facts['ServerVersion']}",
        f"Storage Driver: {facts['Driver']}",
        *(f" {name}: {value}" for name, value in facts["DriverStatus"]),
        f"Logging Driver: {facts['LoggingDriver']}",
        f"Cgroup Driver: {facts['CgroupDriver']}",
        f"Cgroup Version: {facts['CgroupVersion']}",
        "Plugins:",
        f" Volume: {' '.join(facts['Plugins']['Volume'])}",
        f" Network: {' '.join(facts['Plugins']['Network'])}",
        f"Default Runtime: {facts['DefaultRuntime']}",
        "Security Options:",
        *(f" {option.partition(',')[0].removeprefix('name=')}" for option in facts["SecurityOptions"]),
        f"Kernel Version: {facts['KernelVersion']}",
        f"Operating System: {facts['OperatingSystem']}",
        f"OSType: {facts['OSType']}",
        f"Architecture: {facts['Architecture']}",
        f"CPUs: {facts['NCPU']}",
        f"Total Memory: {facts['MemTotal'] / (1 << 30):.4g}GiB",
        f"Name: {facts['Name']}",
        f"ID: {facts['ID']}",
        f"Root Dir: {facts['DockerRootDir']}",
        f"Run Dir: {facts['RunDir']}",
    ]
    return "\n".join(lines) + "\n"


def _now() -> float:
    import time

    return time.time()


def _first_line(path: str) -> str:
    try:
        with open(path, encoding="utf-8", errors="replace") as file:
            return file.readline().strip()
    except OSError:
        return ""


def _system() -> str:
    try:
        with open("/etc/os-release", encoding="utf-8", errors="replace") as file:
            lines = dict(line.rstrip("\n").partition("=")[::2] for line in file if "=" in line)
    except OSError:
        return "Linux"
    return lines.get("PRETTY_NAME", "Linux").strip('"')


def _filesystem(path: str) -> str:
    """The type of the file system that the state folder is on."""
    best, found = "", "unknown"
    try:
        with open("/proc/self/mounts", encoding="utf-8", errors="replace") as file:
            for line in file:
                _, where, kind = line.split(" ", 3)[:3]
                if len(where) >= len(best) and (path + "/").startswith(where.rstrip("/") + "/"):
                    best, found = where, kind
    except OSError:
        pass
    return found
