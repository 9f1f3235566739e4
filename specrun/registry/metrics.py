"""Figures of a running server, for Prometheus."""

from __future__ import annotations

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from prometheus_client.metrics_core import CounterMetricFamily, GaugeMetricFamily
from prometheus_client.registry import Collector

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

    from prometheus_client import Metric

    from specrun.registry.quota import Quota
    from specrun.registry.server import Registry
    from specrun.registry.traffic import Traffic

_PREFIX = "specrun_registry"


class Metrics:
    """What `/metrics` shows."""

    def __init__(self, registry: Registry) -> None:
        self._registry = CollectorRegistry()
        labels = ("method", "route", "status")
        prefix, storage = _PREFIX, registry.storage
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
        if storage.quota.limit:
            self._registry.register(_Room(storage.quota))
        if registry.traffic:
            self._registry.register(_Cached(registry.traffic))

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


class _Room(Collector):
    """The quota, where there is one."""

    def __init__(self, quota: Quota) -> None:
        self._quota = quota

    def collect(self) -> Iterator[Metric]:
        """As it is now."""
        yield GaugeMetricFamily(f"{_PREFIX}_quota_limit_bytes", "What content and uploads may take.", self._quota.limit)
        yield GaugeMetricFamily(f"{_PREFIX}_quota_used_bytes", "What content and uploads take.", self._quota.used)


class _Cached(Collector):
    """What a cache had, and what it had to fetch."""

    def __init__(self, traffic: Traffic) -> None:
        self._traffic = traffic

    def collect(self) -> Iterator[Metric]:
        """As it is now."""
        hits = CounterMetricFamily(
            f"{_PREFIX}_cache_hits", "Requests for content that was here, or on its way.", labels=("content",)
        )
        misses = CounterMetricFamily(
            f"{_PREFIX}_cache_misses", "Requests for content that was asked of the upstream.", labels=("content",)
        )
        for content, (had, had_not) in self._traffic.requests.items():
            hits.add_metric((content,), had)
            misses.add_metric((content,), had_not)
        yield hits
        yield misses
        what = "Answers that may have been old, as the upstream was away."
        yield CounterMetricFamily(f"{_PREFIX}_cache_stale_answers", what, self._traffic.stale)
        what = "Bytes of bodies received from the upstream."
        yield CounterMetricFamily(f"{_PREFIX}_upstream_received_bytes", what, self._traffic.received)
