"""`specrun-runtime`: one bundle of the OCI runtime specification as one container, from the command line.

This first cut has `run`, `state`, `list`, `kill`, `delete`, `spec` and `features`; `create` and `start` as two
calls, `exec` and the rest of runc's command line are still to come, and are refused by name until then.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import sys
import time

from specrun_runtime import capabilities, launch, state
from specrun_runtime.errors import StartFailed
from specrun_runtime.fds import open_process
from specrun_runtime.files import remove_tree
from specrun_runtime.spec import NAMESPACES, VERSION

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

_LETTERS = frozenset("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_.-+")


class CommandError(Exception):
    """A message for the user; the command exits with 1."""


def main(argv: list[str] | None = None) -> int:
    """Run the command line; gives the exit status."""
    arguments = _parser().parse_args(argv)
    run: Callable[[argparse.Namespace], int] = arguments.run
    try:
        return run(arguments)
    except StartFailed as error:
        print(f"specrun-runtime: {error.step}: {error.message}", file=sys.stderr)
        return error.status
    except (CommandError, OSError, ValueError) as error:
        print(f"specrun-runtime: {error}", file=sys.stderr)
        return 1


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="specrun-runtime", description="run OCI bundles as containers")
    parser.add_argument("--version", action="version", version=f"specrun-runtime, spec {VERSION}")
    parser.add_argument("--root", default="/run/specrun-runtime", help="where the state of containers is kept")
    verbs = parser.add_subparsers(metavar="COMMAND", required=True)
    run = verbs.add_parser("run", help="start a container and wait for its end")
    run.add_argument("--bundle", "-b", default=".", help="the folder with config.json")
    run.add_argument("--detach", "-d", action="store_true", help="do not wait")
    run.add_argument("id")
    run.set_defaults(run=_run)
    for name, function, text in (
        ("state", _state, "print the state as JSON"),
        ("delete", _delete, "remove a container"),
    ):
        verb = verbs.add_parser(name, help=text)
        verb.add_argument("id")
        verb.set_defaults(run=function)
        if name == "delete":
            verb.add_argument("--force", "-f", action="store_true", help="kill it first")
    kill = verbs.add_parser("kill", help="send a signal to the container's first process")
    kill.add_argument("id")
    kill.add_argument("signal", nargs="?", default="SIGTERM")
    kill.set_defaults(run=_kill)
    verbs.add_parser("list", help="print the ids and states").set_defaults(run=_list)
    verbs.add_parser("spec", help="write a config.json to begin with").set_defaults(run=_spec)
    verbs.add_parser("features", help="print what is supported, as JSON").set_defaults(run=_features)
    return parser


def _folder(arguments: argparse.Namespace) -> str:
    identity: str = arguments.id
    if not identity or not _LETTERS.issuperset(identity) or identity in (".", ".."):
        raise CommandError(f"invalid container id {identity!r}: expected letters, digits, '_', '+', '-' and '.'")
    return f"{arguments.root}/{identity}"


def _existing(arguments: argparse.Namespace) -> str:
    folder = _folder(arguments)
    if not os.path.isdir(folder):
        raise CommandError(f"container {arguments.id} does not exist")
    return folder


def _settled(folder: str) -> state.State:
    """The state; a container whose monitor was killed is killed with it."""
    known = state.load(folder)
    if known.status != state.RUNNING or (owner := state.take_over(folder)) is None:
        return known
    try:
        known = state.load(folder)
        if known.status == state.RUNNING:
            _signal(known, signal.SIGKILL)
            known.move(state.EXITED)
            known.pid, known.exit_code = 0, 137
            state.save(folder, known)
    finally:
        os.close(owner)
    return known


def _signal(known: state.State, number: int) -> bool:
    handle = open_process(known.pid, known.start_time) if known.pid else None
    if handle is None:
        return False
    signal.pidfd_send_signal(handle, number)
    os.close(handle)
    return True


def _run(arguments: argparse.Namespace) -> int:
    folder = _folder(arguments)
    bundle = os.path.abspath(arguments.bundle)
    with open(f"{bundle}/config.json", "rb") as file:
        config = json.load(file)
    config.setdefault("root", {})["path"] = os.path.join(bundle, config["root"].get("path", "rootfs"))
    cgroup = config.get("linux", {}).get("cgroupsPath", "").strip("/")
    os.makedirs(arguments.root, mode=0o700, exist_ok=True)
    try:
        os.mkdir(folder, 0o700)
    except FileExistsError as error:
        raise CommandError(f"container with id exists: {arguments.id}") from error
    owner = state.own(folder)
    try:
        with open(f"{folder}/config.json", "w", encoding="utf-8") as file:
            json.dump(config, file)
        open(f"{folder}/exit", "xb").close()
        state.save(folder, state.State())
        monitor = launch.spawn(0, 1, 2)
        monitor.begin(
            {
                "directory": folder,
                "user": None,
                "durable": False,
                "overlay": None,
                "cgroup": cgroup or f"specrun-runtime-{arguments.id}",
                "attach": {"stdin": not arguments.detach, "stdout": True, "stderr": True},
                "removal": None,
            }
        )
        monitor.await_start()
    except BaseException:
        remove_tree(folder)
        raise
    finally:
        os.close(owner)
    if arguments.detach:
        return 0
    report = monitor.next_report()
    monitor.reap()
    remove_tree(folder)
    return int(report["status"]) if report else 125


def _state(arguments: argparse.Namespace) -> int:
    print(json.dumps(_document(arguments.id, _existing(arguments)), indent=2))
    return 0


def _document(identity: str, folder: str) -> dict[str, object]:
    known = _settled(folder)
    status = "stopped" if known.status == state.EXITED else known.status
    return {"ociVersion": VERSION, "id": identity, "status": status, "pid": known.pid, "bundle": folder}


def _list(arguments: argparse.Namespace) -> int:
    names = sorted(os.listdir(arguments.root)) if os.path.isdir(arguments.root) else []
    print(json.dumps([_document(name, f"{arguments.root}/{name}") for name in names], indent=2))
    return 0


def _kill(arguments: argparse.Namespace) -> int:
    name = arguments.signal.upper().removeprefix("SIG")
    try:
        number = int(name) if name.isascii() and name.isdigit() else signal.Signals[f"SIG{name}"]
    except KeyError as error:
        raise CommandError(f"unknown signal {arguments.signal!r}") from error
    if not _signal(state.load(_existing(arguments)), number):
        raise CommandError("container not running")
    return 0


def _delete(arguments: argparse.Namespace) -> int:
    folder = _folder(arguments)
    if not os.path.isdir(folder):
        if arguments.force:
            return 0
        raise CommandError(f"container {arguments.id} does not exist")
    known = _settled(folder)
    if known.status == state.RUNNING:
        if not arguments.force:
            raise CommandError(f"cannot delete container {arguments.id} that is not stopped: {known.status}")
        _signal(known, signal.SIGKILL)
    deadline = time.monotonic() + 10
    while (owner := state.take_over(folder)) is None:
        if time.monotonic() > deadline:
            raise CommandError(f"the monitor of {arguments.id} is not responding (pid {known.monitor_pid})")
        time.sleep(0.01)
    os.close(owner)
    remove_tree(folder)
    return 0


def _spec(arguments: argparse.Namespace) -> int:
    sets = ("bounding", "effective", "permitted")
    document = {
        "ociVersion": VERSION,
        "process": {
            "args": ["sh"],
            "env": ["PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"],
            "cwd": "/",
            "user": {"uid": 0, "gid": 0},
            "capabilities": {name: list(capabilities.DEFAULT) for name in sets},
        },
        "root": {"path": "rootfs"},
        "hostname": "specrun",
        "mounts": [{"destination": "/proc", "type": "proc", "source": "proc"}],
        "linux": {"namespaces": [{"type": kind} for kind in NAMESPACES]},
    }
    with open("config.json", "x", encoding="utf-8") as file:
        json.dump(document, file, indent=2)
    return 0


def _features(arguments: argparse.Namespace) -> int:
    document = {
        "ociVersionMin": "1.0.0",
        "ociVersionMax": VERSION,
        "hooks": [],
        "linux": {
            "namespaces": list(NAMESPACES),
            "capabilities": [f"CAP_{name}" for name in capabilities.NAMES],
            "cgroup": {"v1": True, "v2": True, "systemd": False, "systemdUser": False},
            "seccomp": {"enabled": False},
            "apparmor": {"enabled": False},
            "selinux": {"enabled": False},
        },
    }
    print(json.dumps(document, indent=2))
    return 0


if __name__ == "__main__":
    sys.exit(main())
