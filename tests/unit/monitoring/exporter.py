"""Owns an exporter that has something to say of everything: what tests and documents compare themselves with."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from prometheus_client import CollectorRegistry, Metric
from prometheus_client.parser import text_string_to_metric_families
from prometheus_client.registry import Collector

from reserved_capacity.adapters.gauges import StoreGauges
from reserved_capacity.adapters.metrics import Metrics
from reserved_capacity.ledger_ports import Lag
from reserved_capacity.ports import (
    ACCELERATOR_CLASSES,
    COMPUTE_UNIT_POOLS,
    MODEL_INSTANCES,
    TOKEN_UNIT_RESERVATIONS,
    JsonObject,
    Resource,
)
from reserved_capacity.snapshot import INDEXES
from reserved_capacity.store import Store

NOON = datetime(2026, 3, 2, 12, tzinfo=UTC)


@dataclass(frozen=True)
class Shown(Collector):
    """What a text says, read as Prometheus reads it."""

    text: Callable[[], str]

    def collect(self) -> Iterable[Metric]:
        return list(text_string_to_metric_families(self.text()))


@dataclass
class World:
    """A store, filled as a watch would, and the gauges over it."""

    now: datetime = NOON
    store: Store = field(default_factory=lambda: Store(INDEXES))
    registry: CollectorRegistry = field(default_factory=CollectorRegistry)
    _version: int = 0

    def __post_init__(self) -> None:
        self.registry.register(Shown(StoreGauges(self.store, lambda: self.now).text))

    def put(self, resource: Resource, name: str, *, namespace: str = "", **parts: Any) -> JsonObject:
        self._version += 1
        metadata = {
            "name": name,
            "uid": f"uid-{namespace}-{name}",
            "resourceVersion": str(self._version),
            "creationTimestamp": "2026-01-01T00:00:00Z",
            "generation": 1,
        }
        if namespace:
            metadata["namespace"] = namespace
        obj = {"apiVersion": resource.api_version, "kind": resource.kind, "metadata": metadata, **parts}
        self.store.observe(resource, obj)
        return obj

    def drop(self, resource: Resource, obj: JsonObject) -> None:
        self._version += 1
        self.store.forget(resource, {**obj, "metadata": {**obj["metadata"], "resourceVersion": str(self._version)}})

    def series(self, name: str, *labels: str) -> dict[tuple[str, ...], float]:
        """The samples of a metric now, by the values of these labels."""
        return {
            tuple(sample.labels[label] for label in labels): sample.value
            for metric in self.registry.collect()
            for sample in metric.samples
            if sample.name == f"reservedcapacity_{name}"
        }


def conditions(**said: str) -> list[dict[str, str]]:
    """`Ready="False/ExceedsPool"` as the API writes it."""
    return [
        {"type": type_, "status": word.split("/")[0], "reason": word.split("/")[1], "message": "need, have, next step"}
        for type_, word in said.items()
    ]


def full() -> World:
    """At least one series of every metric that there is."""
    world = World()
    metrics = Metrics()
    metrics.watch(lambda: 3, lambda: {"nodes": 1.5})
    metrics.watch_work(lambda: 0.25, lambda: True)
    metrics.wrote("patch", "Node", 409)
    metrics.reconciled("pool", "ok", 0.2)
    metrics.missed("Pod", 2)
    metrics.charged("acme", "USD", 433972)
    metrics.lagging([Lag("acme", 2, world.now, 0)])
    metrics.watch_outbox(lambda: world.now)
    metrics.registry.register(Shown(StoreGauges(world.store, lambda: world.now).text))
    world.registry = metrics.registry
    world.put(ACCELERATOR_CLASSES, "h100-8", status={"computeUnits": {"total": 800}})
    world.put(COMPUTE_UNIT_POOLS, "prod", namespace="acme", status={"computeUnits": {"contracted": 600}})
    world.put(
        MODEL_INSTANCES,
        "chat",
        namespace="acme",
        spec={"poolRef": "prod", "offering": "gpt-4-turbo"},
        status={"instances": {"desired": 2}, "rollout": {}, "conditions": conditions(Ready="True/Ready")},
    )
    world.put(
        TOKEN_UNIT_RESERVATIONS, "gpt-41", namespace="acme", status={"lots": [{"direction": "Input", "units": 3}]}
    )
    return world


def labels_of(metric: Metric) -> tuple[str, ...]:
    """In the order in which they were declared."""
    return tuple(label for label in metric.samples[0].labels if label != "le")


def labels_by_series(registry: CollectorRegistry) -> Mapping[str, frozenset[str]]:
    """The labels of each series that a scrape can show: of a histogram also `_count`, `_sum` and `_bucket`."""
    return {
        sample.name: frozenset(sample.labels)
        for metric in registry.collect()
        for sample in metric.samples
        if not sample.name.endswith("_created")
    }


# A metric of ours or of the process in an expression, and its matchers.
METRIC = re.compile(r"\b((?:reservedcapacity|process)_[a-z_]+)\b(?:\{([^}]*)\})?")
MATCHER = re.compile(r'(\w+)(=~|!~|!=|=)"([^"]*)"')
