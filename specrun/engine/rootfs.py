"""The files of a container from outside: as it sees them while it runs, and mounted for one task when it does not."""

from __future__ import annotations

import os

from specrun.engine import bundle, mounting
from specrun.errors import Conflict, SpecrunError
from specrun_runtime import jsontext, state
from specrun_runtime.fds import Fd, open_process, read_all, start_time, write_all

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from specrun.engine.container import Container
    from specrun.engine.containers import Engine


def layers_of(engine: Engine, container: Container) -> list[str]:
    """The layers below the container's writable one, the topmost first."""
    image = engine.images.resolve(container.image_id)
    return [bundle.init_layer(engine.root), *engine.images.lower_directories(image)]


def view(engine: Engine, container: Container) -> Fd:
    """The container's root file system, read-only and attached nowhere, without its volumes and other mounts."""
    from specrun_runtime import mounts

    return mounts.new_view([f"{container.directory}/upper", *layers_of(engine, container)])


def within(engine: Engine, container: Container, work: Callable[[int], list[str]]) -> list[str]:
    """Call `work` with a descriptor of the container's root, volumes and all; gives what it gives: warnings.

    A running container's own root is used, else one is mounted in a mount namespace that only a child of this
    process has, so that it goes when the work is done, however it ends. Raises what `work` raises.
    """
    with engine.changing(container):
        known = state.load(container.directory)
        if known.status != state.RUNNING:
            return _in_child(engine, container, work)
        handle = open_process(known.pid, known.start_time)
        if handle is None:
            raise Conflict(f"Container {container.id} is not running")
        if container.host_config.get("UsernsMode") == "private":
            os.close(handle)
            raise Conflict(
                f"Container {container.name} has users of its own, so its files are not copied while it runs",
                hint="stop it, or let `specrun exec` run tar(1) in it",
            )
        with Fd(handle):
            root = Fd(os.open(f"/proc/{known.pid}/root", os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC))
            if start_time(known.pid) != known.start_time:
                root.close()
                raise Conflict(f"Container {container.id} is not running")
    with root:  # nobody has to wait for a copy from a running container
        return work(root.number)


def _in_child(engine: Engine, container: Container, work: Callable[[int], list[str]]) -> list[str]:
    lower = layers_of(engine, container)
    asked = mounting.in_order(mounting.runtime_mounts(engine.root, container.record))
    reader, writer = os.pipe2(os.O_CLOEXEC)
    child = os.fork()
    if child == 0:
        status = 1
        try:
            os.close(reader)
            report = _report(container, lower, asked, work)
            write_all(writer, jsontext.dumps(report).encode())
            status = 0
        finally:
            os._exit(status)
    os.close(writer)
    with Fd(reader):
        text = read_all(reader)
    os.waitpid(child, 0)
    if not text:
        raise SpecrunError("the process that copies was killed")
    report = jsontext.loads(text)
    if report["message"]:
        error = SpecrunError(report["message"], hint=report["hint"])
        error.code = report["code"]
        raise error
    warnings: list[str] = report["warnings"]
    return warnings


def _report(
    container: Container, lower: list[str], asked: list[dict[str, object]], work: Callable[[int], list[str]]
) -> dict[str, object]:
    """Do the work; gives what went wrong, as facts."""
    try:
        with _mounted(container, lower, asked) as root:
            return {"message": "", "warnings": work(root.number)}
    except SpecrunError as error:
        return {"message": error.message, "code": error.code, "hint": error.hint}
    except OSError as error:
        return {"message": str(error), "code": "error", "hint": ""}
    except Exception as error:
        return {"message": f"internal error: {type(error).__name__}: {error}", "code": "internal", "hint": ""}


def _mounted(container: Container, lower: list[str], asked: list[dict[str, object]]) -> Fd:
    """The root file system with the container's volumes, in a mount namespace of this process's own."""
    from specrun_runtime import libc, mounts
    from specrun_runtime.constants import Clone
    from specrun_runtime.paths import make_directories, make_file

    libc.unshare(Clone.NEWNS)
    mounts.make_root_slave()
    root = mounts.new_overlay(lower, f"{container.directory}/upper", f"{container.directory}/work")
    with Fd(os.open(f"{container.directory}/rootfs", os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)) as place:
        libc.move_mount(root.number, place.number)
    for mount in asked:
        if mount["type"] != "bind":
            continue
        options = mounts.Options.parse(list(mount["options"]), "mounts")  # type: ignore[call-overload]
        source, destination = str(mount["source"]), str(mount["destination"])
        maker = make_directories if os.path.isdir(source) else make_file
        with mounts.bind(source, options) as made, Fd(maker(root.number, destination)) as target:
            libc.move_mount(made.number, target.number)
    return root
