"""What a container's monitor has to know beside the bundle: told when it begins, and anew while the container runs."""

from __future__ import annotations

from specrun.engine import policies
from specrun.engine.record import event_attributes
from specrun.errors import SpecrunError
from specrun.files import discard, write_atomic
from specrun_runtime import channel, jsontext, state

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from specrun.engine.container import Container
    from specrun.engine.record import Record

_PATIENCE = 10.0


def of(record: Record) -> dict[str, Any]:
    """The health check if there is anything to check, the limits of the log, and what events say."""
    check: dict[str, Any] = record.config.get("Healthcheck") or {}
    words = check.get("Test") or ["NONE"]
    return {
        "health": check if words[0] != "NONE" and len(words) > 1 else None,
        "log": _log_limits(record),
        "attributes": event_attributes(record),
    }


def forget(directory: str) -> None:
    """Before a new start, which tells everything."""
    discard(f"{directory}/{state.ORDERS}")


def renew(container: Container) -> None:
    """Tell the monitor what the container's record says now; one between two starts reads it at the next.

    Raises SpecrunError for a monitor that does not answer.
    """
    write_atomic(f"{container.directory}/{state.ORDERS}", jsontext.dumps(of(container.record)).encode(), durable=False)
    try:
        plug = channel.connect(f"{container.directory}/attach")
    except OSError:
        return
    try:
        plug.send({"event": "orders"})
        import select

        poll = select.poll()
        poll.register(plug.fileno(), select.POLLIN)
        if not poll.poll(_PATIENCE * 1000):
            raise SpecrunError(f"the monitor of container {container.name} does not answer")
    except BrokenPipeError:
        return  # the container has ended meanwhile
    finally:
        plug.close()


def _log_limits(record: Record) -> tuple[int, int]:
    config = record.host_config.get("LogConfig") or {}
    return (0, 0) if config.get("Type") == "none" else policies.log_limits(config)
