"""Owns the metrics of the process and the endpoint that shows them. Adds no label whose values users choose freely."""

from __future__ import annotations

import platform
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from importlib.metadata import version

from aiohttp import web
from prometheus_client import (
    CONTENT_TYPE_LATEST,
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    ProcessCollector,
    disable_created_metrics,
    generate_latest,
)
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.registry import Collector

from reserved_capacity.ledger_ports import Lag

# Without a series more for each counter, which says when it began.
disable_created_metrics()  # type: ignore[no-untyped-call]

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
    """`registry` is open to others; what is too much for it is shown as text (`show`).

    Memory, CPU seconds, open files and the start of the process are there where the system tells (Linux).
    """

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        ProcessCollector(registry=self.registry)
        Gauge(
            "reservedcapacity_build_info",
            "1; which version runs, and on which Python.",
            ["version", "python"],
            registry=self.registry,
        ).labels(version("reserved-capacity"), platform.python_version()).set(1)
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

        self._charges = Counter(
            "reservedcapacity_charges_minor_total",
            "Charges that this process has posted, in minor units of the currency; credits are not taken off.",
            ["account", "currency"],
            registry=self.registry,
        )
        self._outbox_pending = Gauge(
            "reservedcapacity_outbox_pending",
            "Events that billing has not confirmed, at the last look.",
            ["account"],
            registry=self.registry,
        )
        self._outbox_since: datetime | None = None
        self._texts: list[Callable[[], str]] = []

    def watch_outbox(self, now: Callable[[], datetime]) -> None:
        """Show the age of the oldest event that waits, by the clock of the books."""

        def oldest() -> float:
            return (now() - self._outbox_since).total_seconds() if self._outbox_since is not None else 0.0

        Gauge(
            "reservedcapacity_outbox_oldest_seconds",
            "Age of the oldest event that billing has not confirmed, 0 if there is none.",
            registry=self.registry,
        ).set_function(oldest)

    def charged(self, account: str, currency: str, minor: int) -> None:
        self._charges.labels(account, currency).inc(minor)

    def lagging(self, backlog: Sequence[Lag]) -> None:
        """What waits, of all accounts; those that are not named have nothing."""
        self._outbox_pending.clear()
        for lag in backlog:
            self._outbox_pending.labels(lag.account).set(lag.pending)
        self._outbox_since = min((lag.oldest for lag in backlog if lag.oldest is not None), default=None)

    def watch(self, queue_depth: Callable[[], int], watch_ages: Callable[[], Mapping[str, float]]) -> None:
        """Show these at every scrape."""
        self.registry.register(_AtScrape(queue_depth, watch_ages))

    def watch_work(self, oldest_due_seconds: Callable[[], float], leading: Callable[[], bool]) -> None:
        """Show these too: whether this process is the one that works, and how far behind it is."""
        Gauge(
            "reservedcapacity_queue_oldest_due_seconds",
            "Seconds since the key that has been due longest became due, 0 if none is; a key that is being worked on counts.",
            registry=self.registry,
        ).set_function(oldest_due_seconds)
        Gauge(
            "reservedcapacity_leader",
            "1 in the process that reconciles, 0 in one that starts or stands by.",
            registry=self.registry,
        ).set_function(leading)

    def show(self, text: Callable[[], str]) -> None:
        """Show this too, which is whole families in the text format."""
        self._texts.append(text)

    def text(self) -> bytes:
        """Everything, as it is now."""
        return generate_latest(self.registry) + "".join(text() for text in self._texts).encode()

    def wrote(self, verb: str, kind: str, code: int) -> None:
        self._writes.labels(verb, kind, str(code)).inc()

    def reconciled(self, reconciler: str, outcome: str, seconds: float) -> None:
        self._reconciles.labels(reconciler, outcome).observe(seconds)

    def missed(self, kind: str, changes: int) -> None:
        self._missed.labels(kind).inc(changes)

    def application(self) -> web.Application:
        """GET /metrics in Prometheus' text format."""

        async def metrics(_request: web.Request) -> web.Response:
            return web.Response(body=self.text(), headers={"Content-Type": CONTENT_TYPE_LATEST})

        application = web.Application()
        application.router.add_get("/metrics", metrics)
        return application
