"""The options of `run` and `create` that are about what the container may do."""

from __future__ import annotations

from specrun.cli.options import Option

TYPE_CHECKING = False
if TYPE_CHECKING:
    from specrun.cli.options import Parsed
    from specrun.engine.security import SecurityRequest

SECURITY_OPTIONS = [
    Option("--cap-add", "list", "Add Linux capabilities"),
    Option("--cap-drop", "list", "Drop Linux capabilities"),
    Option(
        "--cgroup-parent", "value", "Parent of the container's control groups, counted from the host's root", "group"
    ),
    Option("--cgroupns", "value", "Cgroup namespace to use (host|private)"),
    Option("--ipc", "value", "IPC mode to use (host|none|private|shareable|container:NAME)"),
    Option("--pid", "value", "PID namespace to use (host|container:NAME)"),
    Option("--privileged", "flag", "Give extended privileges to this container"),
    Option("--read-only", "flag", "Mount the container's root filesystem as read only"),
    Option("--security-opt", "list", "Security options: no-new-privileges, seccomp=FILE, specrun.NAME=off"),
    Option("--userns", "value", "User namespace to use (host|private): with private, root is nobody on the host"),
    Option("--uts", "value", "UTS namespace to use (host)"),
]


def security_of(options: Parsed) -> SecurityRequest:
    """The request that these options describe."""
    from specrun.engine.security import SecurityRequest

    return SecurityRequest(
        capabilities_added=options.cap_add,
        capabilities_dropped=options.cap_drop,
        privileged=options.privileged,
        options=options.security_opt,
        read_only=options.read_only,
        pid=options.pid,
        ipc=options.ipc,
        uts=options.uts,
        cgroup_namespace=options.cgroupns,
        cgroup_parent=options.cgroup_parent,
        user_namespace=options.userns,
    )
