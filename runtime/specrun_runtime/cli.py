"""`specrun-runtime`: the command line of runc, so that containerd, dockerd and podman can call it."""

from __future__ import annotations

import argparse
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time

from specrun_runtime import capabilities, defaults, mounts, schema, seccomp, stats
from specrun_runtime.container import Container, ContainerError, every, load_json
from specrun_runtime.errors import SpecError, StartFailed
from specrun_runtime.relay import relay
from specrun_runtime.spec import HOOKS, NAMESPACES, VERSION
from specrun_runtime.terminal import set_size, size

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    from specrun_runtime.launch import Monitor

RELEASE = "0.1.0"


def main(argv: list[str] | None = None) -> int:
    """Run the command line; gives the exit status."""
    arguments = _parser().parse_args(argv)
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)  # a caller that ignores it would have us wait in vain
    run: Callable[[argparse.Namespace], int] = arguments.run
    try:
        if arguments.systemd_cgroup:
            raise ContainerError("--systemd-cgroup: systemd is not asked for control groups; use the cgroupfs driver")
        return run(arguments)
    except BrokenPipeError:
        return 141
    except (ContainerError, StartFailed, OSError, ValueError) as error:
        message = f"{error.step}: {error.message}" if isinstance(error, StartFailed) else str(error)
        _log(arguments, "error", message)
        print(f"specrun-runtime: {message}", file=sys.stderr)
        return 1


def _log(arguments: argparse.Namespace, level: str, message: str) -> None:
    """One record in the file of `--log`, where the caller looks for what went wrong."""
    if not arguments.log:
        return
    stamp = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
    if arguments.log_format == "json":
        line = json.dumps({"level": level, "msg": message, "time": stamp})
    else:
        line = f'time="{stamp}" level={level} msg={json.dumps(message)}'
    with open(arguments.log, "a", encoding="utf-8") as file:
        file.write(line + "\n")


class _Verbs:
    """The table of verbs: each with its function and its options."""

    def __init__(self, parser: argparse.ArgumentParser) -> None:
        self._verbs = parser.add_subparsers(metavar="COMMAND", required=True)

    def add(self, name: str, function: Callable[[argparse.Namespace], int], text: str) -> argparse.ArgumentParser:
        verb = self._verbs.add_parser(name, help=text, description=text, allow_abbrev=False)
        verb.set_defaults(run=function)
        return verb


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="specrun-runtime", description="Run OCI bundles as containers.", allow_abbrev=False
    )
    version = f"specrun-runtime version {RELEASE}\nspec: {VERSION}"
    parser.add_argument("--version", "-v", action="version", version=version)
    parser.add_argument("--root", default="/run/specrun-runtime", help="folder of the containers' state")
    parser.add_argument("--log", default="", help="file that errors are written to as well")
    parser.add_argument("--log-format", choices=("text", "json"), default="text", help="form of that file")
    parser.add_argument("--debug", action="store_true", help="accepted, and without effect")
    parser.add_argument("--systemd-cgroup", action="store_true", help="refused: systemd is not asked")
    parser.add_argument("--rootless", default="auto", help="accepted, and without effect")
    verbs = _Verbs(parser)
    for name, function, text in (
        ("create", _create, "make a container that waits for start"),
        ("run", _run, "make a container, start it and wait for its end"),
    ):
        verb = verbs.add(name, function, text)
        verb.add_argument("--bundle", "-b", default=".", help="folder with config.json")
        _streams(verb)
        verb.add_argument("--no-pivot", action="store_true", help="refused: the old root would stay in reach")
        verb.add_argument("--no-new-keyring", action="store_true", help="accepted: the keyring is always a new one")
        if name == "run":
            verb.add_argument("--detach", "-d", action="store_true", help="do not wait")
            verb.add_argument("--keep", action="store_true", help="do not delete it at its end")
        verb.add_argument("id")
    verbs.add("start", _start, "let a created container execute its command").add_argument("id")
    verbs.add("state", _state, "print the state as JSON").add_argument("id")
    verb = verbs.add("kill", _kill, "send a signal to the container's first process")
    verb.add_argument("--all", "-a", action="store_true", help="to all of its processes")
    verb.add_argument("id")
    verb.add_argument("signal", nargs="?", default="SIGTERM")
    verb = verbs.add("delete", _delete, "remove a stopped container")
    verb.add_argument("--force", "-f", action="store_true", help="kill it first")
    verb.add_argument("id")
    _add_exec(verbs)
    verb = verbs.add("ps", _ps, "show the container's processes")
    verb.add_argument("--format", "-f", choices=("table", "json"), default="table")
    verb.add_argument("id")
    verb.add_argument("options", nargs=argparse.REMAINDER, help="options of ps(1)")
    verbs.add("pause", _pause, "freeze all processes of a container").add_argument("id")
    verbs.add("resume", _resume, "let them go on").add_argument("id")
    _add_update(verbs)
    verb = verbs.add("events", _events, "print statistics and out-of-memory events, one JSON document a line")
    verb.add_argument("--interval", default="5s", help="time between two statistics")
    verb.add_argument("--stats", action="store_true", help="print the statistics once")
    verb.add_argument("id")
    verb = verbs.add("list", _list, "list the containers")
    verb.add_argument("--format", "-f", choices=("table", "json"), default="table")
    verb.add_argument("--quiet", "-q", action="store_true", help="only the ids")
    verb = verbs.add("spec", _spec, "write a config.json to begin with")
    verb.add_argument("--bundle", "-b", default=".", help="folder to write it to")
    verbs.add("features", _features, "print what is supported, as JSON")
    return parser


def _streams(verb: argparse.ArgumentParser) -> None:
    verb.add_argument("--console-socket", default="", help="socket that is sent the master of the terminal")
    verb.add_argument("--pid-file", default="", help="file to write the process id to")
    verb.add_argument("--preserve-fds", type=int, default=0, metavar="N", help="descriptors from 3 on to pass on")


def _add_exec(verbs: _Verbs) -> None:
    verb = verbs.add("exec", _exec, "execute a command in a running container")
    _streams(verb)
    verb.add_argument("--detach", "-d", action="store_true", help="do not wait")
    verb.add_argument("--process", "-p", default="", help="file with the process as JSON")
    verb.add_argument("--cwd", default="", help="working directory")
    verb.add_argument("--env", "-e", action="append", default=[], help="environment variable")
    verb.add_argument("--tty", "-t", action="store_true", help="with a terminal")
    verb.add_argument("--user", "-u", default="", help="UID[:GID]")
    verb.add_argument("--additional-gids", "-g", action="append", type=int, default=[], help="additional group")
    verb.add_argument("--cap", "-c", action="append", default=[], help="additional capability")
    verb.add_argument("--no-new-privs", action="store_true", help="set no_new_privs")
    verb.add_argument("--ignore-paused", action="store_true", help="exec in a paused container too")
    verb.add_argument("--cgroup", default="", help="control group below the container's")
    verb.add_argument("--apparmor", default="", help=argparse.SUPPRESS)
    verb.add_argument("--process-label", default="", help=argparse.SUPPRESS)
    verb.add_argument("id")
    verb.add_argument("command", nargs=argparse.REMAINDER)


UPDATES: tuple[tuple[str, str, str, Callable[[str], Any]], ...] = (
    ("--blkio-weight", "blockIO", "weight", int),
    ("--cpu-period", "cpu", "period", int),
    ("--cpu-quota", "cpu", "quota", int),
    ("--cpu-burst", "cpu", "burst", int),
    ("--cpu-share", "cpu", "shares", int),
    ("--cpu-idle", "cpu", "idle", int),
    ("--cpuset-cpus", "cpu", "cpus", str),
    ("--cpuset-mems", "cpu", "mems", str),
    ("--memory", "memory", "limit", int),
    ("--memory-reservation", "memory", "reservation", int),
    ("--memory-swap", "memory", "swap", int),
    ("--pids-limit", "pids", "limit", int),
)
"""Option of `update`, and the resource that it sets."""


def _add_update(verbs: _Verbs) -> None:
    verb = verbs.add("update", _update, "change the limits of a running container")
    verb.add_argument("--resources", "-r", default="", help="file with resources as JSON, - for standard input")
    for option, group, name, kind in UPDATES:
        verb.add_argument(option, type=kind, help=f"linux.resources.{group}.{name}")
    verb.add_argument("id")


def _create(arguments: argparse.Namespace) -> int:
    container, _ = _made(arguments, arguments.console_socket, stay=False)
    _write_pid(arguments.pid_file, container.record["pid"])
    return 0


def _made(arguments: argparse.Namespace, console_socket: str, *, stay: bool) -> tuple[Container, Monitor]:
    if arguments.no_pivot:
        raise ContainerError("--no-pivot: the old root would stay in reach of the container")
    return Container.create(
        arguments.root,
        arguments.id,
        arguments.bundle,
        console_socket=console_socket,
        preserved=_preserved(arguments.preserve_fds),
        stay=stay,
    )


def _run(arguments: argparse.Namespace) -> int:
    terminal = bool((load_json(f"{arguments.bundle}/config.json").get("process") or {}).get("terminal"))
    own = terminal and not arguments.detach and not arguments.console_socket
    with _Console(own) as console, _Forwarding(not arguments.detach) as forwarding:
        path = arguments.console_socket or console.path
        container, monitor = _made(arguments, path, stay=not arguments.detach)
        try:
            _write_pid(arguments.pid_file, container.record["pid"])
            master = console.accept()
            if master >= 0 and os.isatty(0):
                set_size(master, *size(0))  # before the command can ask for it
            _warn(arguments, container.start())
            if arguments.detach:
                return 0
            forwarding.to(container.kill)
            return _await(monitor, master)
        except BaseException:
            container.delete(force=True)
            raise
        finally:
            if not arguments.detach and not arguments.keep and os.path.isdir(container.directory):
                _warn(arguments, container.delete(force=True))


def _await(monitor: Monitor, master: int) -> int:
    """Wait for the end that the monitor reports, with a terminal in between if there is one."""
    if master >= 0:
        relay(0, master, master, 1, monitor.reports.fileno())
    report, _ = monitor.next_report()
    monitor.reap()
    if report is None:
        raise ContainerError("the process that watched the container was killed")
    return int(report["status"])


class _Console:
    """A console socket of our own, for a terminal that is relayed to the caller's."""

    def __init__(self, wanted: bool) -> None:
        self.path = ""
        self._folder = tempfile.mkdtemp(prefix="specrun-console-") if wanted else ""
        self._listener: socket.socket | None = None
        if wanted:
            self.path = f"{self._folder}/socket"
            self._listener = socket.socket(socket.AF_UNIX)
            self._listener.bind(self.path)
            self._listener.listen(1)

    def __enter__(self) -> _Console:
        return self

    def accept(self) -> int:
        """The master that was sent; -1 when there is no terminal."""
        if not self._listener:
            return -1
        connection, _ = self._listener.accept()
        with connection:
            _, descriptors, _, _ = socket.recv_fds(connection, 4096, 1)
        return descriptors[0] if descriptors else -1

    def __exit__(self, *_: object) -> None:
        if self._listener:
            self._listener.close()
            shutil.rmtree(self._folder, ignore_errors=True)


class _Forwarding:
    """Signals to this command go to the container while the `with` block runs; early ones wait until it is there."""

    def __init__(self, wanted: bool = True) -> None:
        self._wanted = wanted
        self._send: Callable[[int], None] | None = None
        self._pending: list[int] = []
        self._before: dict[int, Any] = {}

    def __enter__(self) -> _Forwarding:
        for number in _FORWARDED if self._wanted else ():
            self._before[number] = signal.signal(number, self._handle)
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def to(self, send: Callable[[int], None]) -> None:
        """Now the process is there that `send` sends to."""
        self._send = send
        while self._pending:
            self._handle(self._pending.pop(0), None)

    def _handle(self, number: int, _: object) -> None:
        if self._send is None:
            self._pending.append(number)
            return
        try:
            self._send(number)
        except (ContainerError, ProcessLookupError):
            pass  # it has just ended


_FORWARDED = (signal.SIGHUP, signal.SIGINT, signal.SIGQUIT, signal.SIGTERM, signal.SIGUSR1, signal.SIGUSR2)


def _start(arguments: argparse.Namespace) -> int:
    _warn(arguments, _container(arguments).start())
    return 0


def _state(arguments: argparse.Namespace) -> int:
    print(json.dumps(_container(arguments).state(), indent=2))
    return 0


def _kill(arguments: argparse.Namespace) -> int:
    _container(arguments).kill(signal_number(arguments.signal), everything=arguments.all)
    return 0


def signal_number(text: str) -> int:
    """The number of `SIGTERM`, `TERM` or `15`. Raises ContainerError."""
    name = text.upper().removeprefix("SIG")
    if name.isascii() and name.isdigit() and int(name) < 65:
        return int(name)
    if name.startswith(("RTMIN", "RTMAX")):
        base = 34 if name.startswith("RTMIN") else 64
        offset = name[5:] or "+0"
        if offset[0] in "+-" and offset[1:].isdigit() and 34 <= base + int(offset) <= 64:
            return base + int(offset)
    try:
        return int(signal.Signals[f"SIG{name}"])
    except KeyError as error:
        raise ContainerError(f"unknown signal {text!r}") from error


def _delete(arguments: argparse.Namespace) -> int:
    try:
        container = _container(arguments)
    except ContainerError:
        if arguments.force:
            return 0
        raise
    _warn(arguments, container.delete(force=arguments.force))
    return 0


def _exec(arguments: argparse.Namespace) -> int:
    container = _container(arguments)
    process = load_json(arguments.process) if arguments.process else _process_of(arguments, container)
    own = bool(process.get("terminal")) and not arguments.console_socket and not arguments.detach
    if own and os.isatty(0) and not process.get("consoleSize"):
        process["consoleSize"] = dict(zip(("height", "width"), size(0), strict=True))
    with _Console(own) as console, _Forwarding(not arguments.detach) as forwarding:
        pid, monitor = container.exec(
            process,
            console_socket=arguments.console_socket or console.path,
            preserved=_preserved(arguments.preserve_fds),
            stay=not arguments.detach,
            ignore_paused=arguments.ignore_paused,
            group=arguments.cgroup,
        )
        _write_pid(arguments.pid_file, pid)
        if arguments.detach:
            return 0
        forwarding.to(lambda number: os.kill(pid, number))
        return _await(monitor, console.accept())


def _process_of(arguments: argparse.Namespace, container: Container) -> dict[str, Any]:
    """The container's own process with what the options change."""
    process: dict[str, Any] = json.loads(json.dumps(container.config.get("process") or {"cwd": "/"}))
    command = arguments.command[1:] if arguments.command[:1] == ["--"] else arguments.command
    if not command:
        raise ContainerError("exec needs a command, or a process by --process")
    if arguments.apparmor or arguments.process_label:
        raise ContainerError("--apparmor and --process-label: no security module is supported")
    process["args"] = command
    process["terminal"] = arguments.tty
    process["env"] = [*(process.get("env") or []), *arguments.env]
    if arguments.cwd:
        process["cwd"] = arguments.cwd
    if arguments.no_new_privs:
        process["noNewPrivileges"] = True
    user = process.setdefault("user", {})
    if arguments.user:
        uid, _, gid = arguments.user.partition(":")
        if not uid.isdigit() or (gid and not gid.isdigit()):
            raise ContainerError(f"--user {arguments.user}: expected UID[:GID] in digits")
        user["uid"], user["gid"] = int(uid), int(gid or user.get("gid") or 0)
    if arguments.additional_gids:
        user["additionalGids"] = [*(user.get("additionalGids") or []), *arguments.additional_gids]
    for name in arguments.cap:
        sets = process.setdefault("capabilities", {})
        for kind in ("bounding", "effective", "permitted"):
            sets[kind] = sorted({*(sets.get(kind) or []), name})
    return process


def _ps(arguments: argparse.Namespace) -> int:
    pids = _container(arguments).pids()
    if arguments.format == "json":
        print(json.dumps(pids))
        return 0
    options = arguments.options[1:] if arguments.options[:1] == ["--"] else arguments.options
    done = subprocess.run(["ps", *(options or ["-ef"])], capture_output=True, text=True, check=False)
    if done.returncode:
        raise ContainerError(f"ps: {done.stderr.strip()}")
    head, *lines = done.stdout.splitlines()
    if "PID" not in head.split():
        raise ContainerError("ps: the output has no column PID")
    column = head.split().index("PID")
    print(head)
    for line in lines:
        if int(line.split()[column]) in pids:
            print(line)
    return 0


def _pause(arguments: argparse.Namespace) -> int:
    _container(arguments).pause()
    return 0


def _resume(arguments: argparse.Namespace) -> int:
    _container(arguments).resume()
    return 0


def _update(arguments: argparse.Namespace) -> int:
    resources: dict[str, Any] = {}
    if arguments.resources == "-":
        try:
            resources = json.load(sys.stdin)
        except ValueError as error:
            raise SpecError("standard input", f"is not JSON: {error}") from error
    elif arguments.resources:
        resources = load_json(arguments.resources)
    else:
        for option, group, name, _ in UPDATES:
            value = getattr(arguments, option[2:].replace("-", "_"))
            if value not in (None, ""):
                resources.setdefault(group, {})[name] = value
    _container(arguments).update(resources)
    return 0


def _events(arguments: argparse.Namespace) -> int:
    container = _container(arguments)
    if arguments.stats:
        _print_event(container, "stats", stats.document(container.cgroup))
        return 0
    text = arguments.interval.removesuffix("s")
    try:
        interval = float(text)
    except ValueError as error:
        raise ContainerError(f"--interval {arguments.interval}: expected seconds, such as 5s") from error
    kills, due = container.cgroup.oom_kills(), time.monotonic() + interval
    while container.status() != "stopped":
        now = container.cgroup.oom_kills()
        if now > kills:
            _print_event(container, "oom", {"killed": stats.killed_processes(container.cgroup)[kills - now :]})
            kills = now
        if time.monotonic() >= due:
            _print_event(container, "stats", stats.document(container.cgroup))
            due += interval
        time.sleep(min(0.1, interval))
    return 0


def _print_event(container: Container, kind: str, data: dict[str, Any]) -> None:
    print(json.dumps({"type": kind, "id": container.id, "data": data}), flush=True)


def _list(arguments: argparse.Namespace) -> int:
    states = [container.state() for container in every(arguments.root)]
    if arguments.quiet:
        for state in states:
            print(state["id"])
    elif arguments.format == "json":
        print(json.dumps(states) if states else "null")
    else:
        keys = ("id", "pid", "status", "bundle", "created", "owner")
        rows = [[key.upper() for key in keys]]
        rows += [[str(state.get(key, "")) for key in keys] for state in states]
        widths = [max(12, *(len(row[column]) + 4 for row in rows)) for column in range(6)]
        for row in rows:
            print("".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip())
    return 0


def _spec(arguments: argparse.Namespace) -> int:
    with open(f"{arguments.bundle}/config.json", "x", encoding="utf-8") as file:
        json.dump(defaults.configuration(), file, indent=2)
        file.write("\n")
    return 0


def _features(_: argparse.Namespace) -> int:
    document = {
        "ociVersionMin": "1.0.0",
        "ociVersionMax": VERSION,
        "hooks": list(HOOKS),
        "mountOptions": sorted(set(mounts.KNOWN)),
        "linux": {
            "namespaces": list(NAMESPACES),
            "capabilities": [f"CAP_{name}" for name in capabilities.NAMES],
            "cgroup": {"v1": True, "v2": True, "systemd": False, "systemdUser": False, "rdma": False},
            "seccomp": {
                "enabled": True,
                "actions": schema.ACTIONS.split(),
                "operators": schema.OPERATORS.split(),
                "archs": sorted(seccomp.ARCHITECTURES),
                "knownFlags": sorted(seccomp.FLAGS),
                "supportedFlags": sorted(seccomp.FLAGS),
            },
            "apparmor": {"enabled": False},
            "selinux": {"enabled": False},
            "intelRdt": {"enabled": False},
            "mountExtensions": {"idmap": {"enabled": True}},
        },
    }
    print(json.dumps(document, indent=2))
    return 0


def _container(arguments: argparse.Namespace) -> Container:
    container = Container(arguments.root, arguments.id)
    if not container.record:
        if arguments.run is _delete:
            return container
        raise ContainerError(f"container {arguments.id} is still being created")
    return container


def _preserved(count: int) -> list[int]:
    if "LISTEN_FDS" in os.environ and os.environ["LISTEN_FDS"].isdigit():
        count += int(os.environ["LISTEN_FDS"])
    for descriptor in range(3, 3 + count):
        try:
            os.fstat(descriptor)
        except OSError as error:
            raise ContainerError(f"--preserve-fds {count}: descriptor {descriptor} is not open") from error
    return list(range(3, 3 + count))


def _write_pid(path: str, pid: int) -> None:
    if path:
        draft = f"{os.path.dirname(path) or '.'}/.{os.path.basename(path)}"
        with open(draft, "w", encoding="ascii") as file:
            file.write(str(pid))
        os.rename(draft, path)


def _warn(arguments: argparse.Namespace, warnings: list[str]) -> None:
    for warning in warnings:
        _log(arguments, "warning", warning)
        print(f"specrun-runtime: warning: {warning}", file=sys.stderr)


if __name__ == "__main__":
    sys.exit(main())
