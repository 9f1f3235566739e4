"""What a build is asked to do: Python values, whoever asks (the command line or a spec)."""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from specrun.build.exchange import Place
    from specrun.engine.networking import NetworkRequest
    from specrun.engine.resources import Resources


class Secrets:
    """What `--secret` and `--ssh` give: files and values by id, which no layer, key or record ever holds."""

    def __init__(self, secrets: dict[str, bytes] | None = None, agents: dict[str, str] | None = None) -> None:
        self.secrets = secrets or {}
        self.agents = agents or {}


class BuildRequest:
    """A build. `context` is a folder or "" for none; `text` is a Dockerfile that stands in no file."""

    __slots__ = (
        "arguments", "cache_from", "cache_to", "cgroup_parent", "context", "contexts", "dockerfile", "extra_hosts",
        "labels", "made_beside", "network", "no_cache", "platform", "pull", "resources", "secrets", "tags", "target",
        "text",
    )  # fmt: skip

    def __init__(
        self,
        context: str,
        *,
        dockerfile: str = "",
        text: str | None = None,
        tags: list[str] | None = None,
        arguments: dict[str, str] | None = None,
        labels: dict[str, str] | None = None,
        target: str = "",
        network: str = "default",
        platform: str = "",
        no_cache: bool = False,
        cache_from: list[Place] | None = None,
        cache_to: list[Place] | None = None,
        contexts: dict[str, str] | None = None,
        secrets: Secrets | None = None,
        pull: bool = False,
        made_beside: frozenset[str] = frozenset(),
        extra_hosts: list[str] | None = None,
        resources: Resources | None = None,
        cgroup_parent: str = "",
    ) -> None:
        self.context = context
        self.dockerfile = dockerfile
        """A path; "" is `Dockerfile` in the context."""
        self.text = text
        self.tags = tags or []
        self.arguments = arguments or {}
        self.labels = labels or {}
        self.target = target
        self.network = network
        self.platform = platform
        self.no_cache = no_cache
        self.cache_from = cache_from or []
        """What another build's `cache_to` has written."""
        self.cache_to = cache_to or []
        self.contexts = contexts or {}
        """Named contexts: a folder, or `docker-image://REFERENCE`."""
        self.secrets = secrets
        self.pull = pull
        """Whether the registries are asked for newer images even where there are some of these names."""
        self.made_beside = made_beside
        """Canonical references that are not pulled: somebody makes them for this build."""
        self.extra_hosts = extra_hosts or []
        """`NAME:ADDRESS`, each, for the /etc/hosts of RUN steps."""
        self.resources = resources
        """What each RUN step may use."""
        self.cgroup_parent = cgroup_parent

    def network_of(self, mode: str) -> NetworkRequest:
        """The network of a RUN step that asks for `mode`, where `default` is that of the build."""
        from specrun.engine.networking import NetworkRequest

        return NetworkRequest(self.network if mode == "default" else mode, extra_hosts=self.extra_hosts)

    def check(self) -> None:
        """Refuse what no RUN step could be given. Raises SpecrunError."""
        if self.network != "default" or self.extra_hosts:
            self.network_of("default").check()
        if self.resources:
            from specrun.engine.resources import check

            check(self.resources.host_config())
