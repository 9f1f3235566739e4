"""What a build is asked to do: Python values, whoever asks (the command line or a spec)."""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from specrun.build.exchange import Place


class Secrets:
    """What `--secret` and `--ssh` give: files and values by id, which no layer, key or record ever holds."""

    def __init__(self, secrets: dict[str, bytes] | None = None, agents: dict[str, str] | None = None) -> None:
        self.secrets = secrets or {}
        self.agents = agents or {}


class BuildRequest:
    """A build. `context` is a folder or "" for none; `text` is a Dockerfile that stands in no file."""

    __slots__ = (
        "arguments", "cache_from", "cache_to", "check", "context", "contexts", "dockerfile", "labels", "network",
        "no_cache", "platform", "secrets", "tags", "target", "text",
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
