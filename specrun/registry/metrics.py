"""Figures of a running server, for Prometheus."""

from __future__ import annotations

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

TYPE_CHECKING = False
if TYPE_CHECKING:
    from specrun.registry.storage import Storage


class Metrics:
    """What `/metrics` shows."""

    def __init__(self, storage: Storage) -> None:
        self._registry = CollectorRegistry()
        labels = ("method", "route", "status")
        prefix = "specrun_registry"
        self._requests = Counter(f"{prefix}_requests_total", "Requests answered.", labels, registry=self._registry)
        self._seconds = Histogram(
            f"{prefix}_request_seconds", "Time to answer.", ("route",), registry=self._registry,
            buckets=(0.001, 0.005, 0.02, 0.1, 0.5, 2, 10, 60),
        )  # fmt: skip
        self._sent = Counter(f"{prefix}_sent_bytes_total", "Bytes of bodies sent.", registry=self._registry)
        self._received = Counter(f"{prefix}_received_bytes_total", "Bytes of bodies received.", registry=self._registry)
        self.busy = Gauge(f"{prefix}_requests_in_progress", "Requests being answered.", registry=self._registry)
        free = Gauge(f"{prefix}_free_bytes", "Space left in the storage.", registry=self._registry)
        free.set_function(storage.free_space)

    def count(self, method: str, route: str, status: int, sent: int, received: int, seconds: float) -> None:
        """One request has been answered."""
        known = method if method in ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE") else "other"
        self._requests.labels(known, route, str(status)).inc()
        self._seconds.labels(route).observe(seconds)
        self._sent.inc(sent)
        self._received.inc(received)

    def text(self) -> bytes:
        """In the text format."""
        return generate_latest(self._registry)
