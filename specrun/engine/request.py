"""What a container is to be: Python values, checked before anything is made."""

from __future__ import annotations

from specrun.engine.ahead import attached_streams
from specrun.engine.networking import NetworkRequest
from specrun.engine.policies import Health, log_config, parse_restart
from specrun.engine.resources import Resources
from specrun.engine.resources import check as check_limits
from specrun.engine.security import SecurityRequest
from specrun.errors import InvalidName, SpecrunError, UsageError
from specrun.paths import NAME, is_name

TYPE_CHECKING = False
if TYPE_CHECKING:
    from specrun.engine.mountspec import MountRequest


class ContainerRequest:
    """All that can be asked of a new container; what is left out is the image's or Docker's default."""

    __slots__ = (
        "annotations",
        "attach",
        "auto_remove",
        "command",
        "console",
        "container_id",
        "detached",
        "domainname",
        "entrypoint",
        "env",
        "groups",
        "health",
        "hostname",
        "image",
        "init",
        "interactive",
        "labels",
        "log_driver",
        "log_options",
        "mounts",
        "name",
        "network",
        "security",
        "resources",
        "restart",
        "stop_signal",
        "stop_timeout",
        "sysctls",
        "transient",
        "tty",
        "user",
        "volumes_from",
        "workdir",
    )

    def __init__(
        self,
        image: str,
        *,
        name: str = "",
        command: list[str] | None = None,
        entrypoint: list[str] | None = None,
        env: list[str] | None = None,
        workdir: str = "",
        user: str = "",
        hostname: str = "",
        labels: dict[str, str] | None = None,
        auto_remove: bool = False,
        interactive: bool = False,
        detached: bool = False,
        tty: bool = False,
        console: tuple[int, int] = (0, 0),
        network: NetworkRequest | str = "default",
        stop_signal: str = "",
        stop_timeout: int | None = None,
        mounts: list[MountRequest] | None = None,
        volumes_from: list[str] | None = None,
        security: SecurityRequest | None = None,
        domainname: str = "",
        groups: list[str] | None = None,
        resources: Resources | None = None,
        sysctls: dict[str, str] | None = None,
        annotations: dict[str, str] | None = None,
        restart: str = "",
        health: Health | None = None,
        init: bool = False,
        log_driver: str = "",
        log_options: dict[str, str] | None = None,
        attach: list[str] | None = None,
        container_id: str = "",
        transient: bool = False,
    ) -> None:
        self.image = image
        self.name = name
        self.command = command
        """None for the image's own."""
        self.entrypoint = entrypoint
        """None for the image's own, [] for none at all."""
        self.env = env or []
        """`NAME=value`, each."""
        self.workdir = workdir
        self.user = user
        self.hostname = hostname
        self.labels = labels or {}
        self.auto_remove = auto_remove
        self.transient = transient
        """Whether the caller removes it after its end: then nothing of it need outlast a power failure."""
        self.interactive = interactive
        self.detached = detached
        self.tty = tty
        self.console = console
        """Rows and columns that the terminal begins with; 0 for none in particular."""
        self.network = NetworkRequest(network) if isinstance(network, str) else network
        self.stop_signal = stop_signal
        self.stop_timeout = stop_timeout
        self.mounts = mounts or []
        self.volumes_from = volumes_from or []
        """`CONTAINER[:ro|rw]`, each."""
        self.security = security or SecurityRequest()
        self.domainname = domainname
        self.groups = groups or []
        """Names or numbers of further groups, as the image knows them."""
        self.resources = resources or Resources()
        self.sysctls = sysctls or {}
        self.annotations = annotations or {}
        """For the runtime; they are no labels, and nothing of the engine's heeds them."""
        self.restart = restart
        """`no`, `always`, `unless-stopped` or `on-failure[:COUNT]`."""
        self.health = health or Health()
        self.init = init
        """Whether a small first process of ours forwards signals to the command, and reaps."""
        self.log_driver = log_driver
        self.log_options = log_options or {}
        self.attach = attach or []
        """The streams to attach to, of `stdin`, `stdout` and `stderr`; those that make sense when it is empty."""
        self.container_id = container_id
        """64 hexadecimal digits, of somebody who writes them down before there is a container; "" for any."""

    def attached_streams(self) -> list[str]:
        """The streams that whoever starts it is attached to."""
        return attached_streams(self.detached, self.attach, self.interactive)

    def check(self) -> None:
        """Refuse what can be refused without looking at the image or the store."""
        if self.name and not is_name(self.name):
            raise InvalidName(
                f"Invalid container name ({self.name}), only {NAME} are allowed",
                hint="names begin with a letter or a digit and have at most 128 characters",
            )
        self.network.check()
        self.security.check()
        if self.security.user_namespace == "private" and (
            self.network.mode == "host" or self.network.mode.startswith("container:")
        ):
            whose = "host's" if self.network.mode == "host" else "another container's"
            raise UsageError(f"cannot share the {whose} network namespace when user namespaces are enabled")
        policy = parse_restart(self.restart)
        if self.auto_remove and policy["Name"] != "no":
            raise UsageError("Conflicting options: --restart and --rm")
        for stream in self.attach:
            if stream not in ("stdin", "stdout", "stderr"):
                raise UsageError("valid streams are STDIN, STDOUT and STDERR")
        self.health.check()
        log_config(self.log_driver, self.log_options)
        check_limits(self.resources.host_config())
        if self.hostname and not _is_hostname(self.hostname):
            raise UsageError(f"invalid hostname {self.hostname!r}", hint="letters, digits, '-' and '.', at most 63")
        if self.workdir and not self.workdir.startswith("/"):
            raise UsageError(
                f"the working directory '{self.workdir}' is invalid, it needs to be an absolute path",
            )
        for entry in self.env:
            name, equals, _ = entry.partition("=")
            if not name or not equals:
                raise UsageError(f"invalid environment variable: {entry}", hint="expected NAME=value")
        for text in (*self.env, *(self.command or ()), *(self.entrypoint or ()), self.user, self.workdir):
            if "\0" in text:
                raise SpecrunError("an argument holds a NUL byte, which no program can be given")


def _is_hostname(text: str) -> bool:
    letters = frozenset("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-._")
    return len(text) <= 63 and letters.issuperset(text) and text[0] not in "-."
