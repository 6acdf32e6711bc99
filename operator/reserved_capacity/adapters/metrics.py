"""Owns the metrics of the process and the endpoint that shows them. Adds no label whose values users choose freely."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from aiohttp import web
from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, Counter, Histogram, generate_latest
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.registry import Collector

_BUCKETS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0)


class _AtScrape(Collector):
    """Gauges that are computed when somebody looks."""

    def __init__(self, queue_depth: Callable[[], int], watch_ages: Callable[[], Mapping[str, float]]) -> None:
        self._queue_depth = queue_depth
        self._watch_ages = watch_ages

    def collect(self) -> list[GaugeMetricFamily]:
        depth = GaugeMetricFamily("reservedcapacity_queue_depth", "Keys that wait to be reconciled.")
        depth.add_metric([], self._queue_depth())
        ages = GaugeMetricFamily(
            "reservedcapacity_watch_age_seconds",
            "Seconds since the API server was last heard of a kind.",
            labels=["kind"],
        )
        for kind, age in self._watch_ages().items():
            ages.add_metric([kind], age)
        return [depth, ages]


class Metrics:
    """`registry` is open to others: the gauges of pools and instances are made where their values are known."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self._writes = Counter(
            "reservedcapacity_api_writes_total",
            "Writes to the API server; code 0 where there was no answer.",
            ["verb", "kind", "code"],
            registry=self.registry,
        )
        self._reconciles = Histogram(
            "reservedcapacity_reconcile_seconds",
            "Duration of one reconcile.",
            ["reconciler", "outcome"],
            buckets=_BUCKETS,
            registry=self.registry,
        )
        self._missed = Counter(
            "reservedcapacity_missed_events_total",
            "Changes that a LIST found before the watch told of them: a few are races, many are a watch that misses events.",
            ["kind"],
            registry=self.registry,
        )

    def watch(self, queue_depth: Callable[[], int], watch_ages: Callable[[], Mapping[str, float]]) -> None:
        """Show these at every scrape."""
        self.registry.register(_AtScrape(queue_depth, watch_ages))

    def wrote(self, verb: str, kind: str, code: int) -> None:
        self._writes.labels(verb, kind, str(code)).inc()

    def reconciled(self, reconciler: str, outcome: str, seconds: float) -> None:
        self._reconciles.labels(reconciler, outcome).observe(seconds)

    def missed(self, kind: str, changes: int) -> None:
        self._missed.labels(kind).inc(changes)

    def application(self) -> web.Application:
        """GET /metrics in Prometheus' text format."""

        async def metrics(_request: web.Request) -> web.Response:
            return web.Response(body=generate_latest(self.registry), headers={"Content-Type": CONTENT_TYPE_LATEST})

        application = web.Application()
        application.router.add_get("/metrics", metrics)
        return application
