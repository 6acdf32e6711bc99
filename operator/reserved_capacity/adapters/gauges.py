"""Owns the gauges that say what our objects' statuses say, computed when somebody looks.

Nothing is kept between two scrapes, so an object that is gone leaves no series behind, and a condition has one series:
the combination of status and reason that holds now. The cost of a scrape is one pass over our kinds in the store.
Labels are names of objects and words from the API's own lists, so their number is bounded by that of the objects.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from datetime import date, datetime

import structlog
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.registry import Collector
from pydantic import ValidationError

from reserved_capacity.api.conditions import CONDITION_REASONS, ConditionType
from reserved_capacity.api.meta import Kind
from reserved_capacity.domain.reasons.base import ConditionStatus, Ready
from reserved_capacity.domain.rollout.values import RolloutPhase
from reserved_capacity.domain.tokens.lots import Direction
from reserved_capacity.ports import (
    ACCELERATOR_CLASSES,
    COMPUTE_UNIT_POOLS,
    MODEL_INSTANCES,
    OUR_KINDS,
    TOKEN_UNIT_RESERVATIONS,
    JsonObject,
)
from reserved_capacity.snapshot import commitment_records, parse_pool
from reserved_capacity.store import Store

log = structlog.get_logger(__name__)

# The words of the `state` label: those fields of the status whose behaviour is built.
POOL_STATES = ("contracted", "provisioned", "usable", "allocated", "idle", "unhealthy")
CLASS_STATES = ("total", "claimed", "free", "unhealthy")
MEMBER_STATES = ("desired", "held", "available", "updated", "updatedAvailable")
# For a reason of a newer version, read after going back to this one.
OTHER = "Other"

_TYPES = frozenset(map(str, ConditionType))
_STATUSES = frozenset(map(str, ConditionStatus))
_READY = frozenset(map(str, Ready))
_PHASES = frozenset(map(str, RolloutPhase))


def _reasons(kind: str) -> frozenset[str]:
    enums = CONDITION_REASONS[Kind(kind)].values()
    return _READY | {str(reason) for enum in enums for reason in enum}


_REASONS = {resource.kind: _reasons(resource.kind) for resource in OUR_KINDS}


class StoreGauges(Collector):
    """`now` is the clock's, on which dates of contracts fall due."""

    def __init__(self, store: Store, now: Callable[[], datetime]) -> None:
        self._store = store
        self._now = now

    def collect(self) -> Iterator[GaugeMetricFamily]:
        pools = self._store.all(COMPUTE_UNIT_POOLS)
        instances = self._store.all(MODEL_INSTANCES)
        yield _sums(
            "reservedcapacity_pool_compute_units",
            "Compute units of a pool, as its status.computeUnits says: provisioned = allocated + idle + unhealthy, "
            "usable = allocated + idle.",
            ["namespace", "pool"],
            ((_place(pool), _part(pool, "computeUnits")) for pool in pools),
            POOL_STATES,
        )
        yield self._overdue(pools)
        yield _sums(
            "reservedcapacity_class_compute_units",
            "Compute units on the nodes of an AcceleratorClass, as its status.computeUnits says.",
            ["class"],
            ((_place(class_)[1:], _part(class_, "computeUnits")) for class_ in self._store.all(ACCELERATOR_CLASSES)),
            CLASS_STATES,
        )
        yield _sums(
            "reservedcapacity_instance_members",
            "Instances of a ModelInstance, as its status.instances says.",
            ["namespace", "instance"],
            ((_place(instance), _part(instance, "instances")) for instance in instances),
            MEMBER_STATES,
        )
        yield _info(instances)
        yield _rollouts(instances)
        yield _token_units(self._store.all(TOKEN_UNIT_RESERVATIONS))
        yield self._conditions()

    def _conditions(self) -> GaugeMetricFamily:
        family = GaugeMetricFamily(
            "reservedcapacity_condition",
            "1 for the status and reason that a condition has now.",
            labels=["kind", "namespace", "name", "type", "status", "reason"],
        )
        for resource in OUR_KINDS:
            known = _REASONS[resource.kind]
            for obj in self._store.all(resource):
                place = _place(obj)
                for each in (obj.get("status") or {}).get("conditions") or ():
                    type_, status, reason = each.get("type"), each.get("status"), each.get("reason")
                    if type_ in _TYPES and status in _STATUSES:
                        word = reason if reason in known else OTHER
                        family.add_metric([resource.kind, *place, type_, status, word], 1)
        return family

    def _overdue(self, pools: Iterable[JsonObject]) -> GaugeMetricFamily:
        family = GaugeMetricFamily(
            "reservedcapacity_pool_overdue_compute_units",
            "Compute units of a pool whose agreed date (provisionBy) has passed and that are not claimed on nodes.",
            labels=["namespace", "pool"],
        )
        today = self._now().date()
        for pool in pools:
            if _part(pool, "computeUnits") is not None:
                family.add_metric(_place(pool), self._overdue_units(pool, today))
        return family

    def _overdue_units(self, obj: JsonObject, today: date) -> int:
        try:
            pool = parse_pool(self._store, obj)
        except ValidationError as error:
            log.warning("pool not understood", pool="/".join(_place(obj)), error=str(error))
            return 0
        agreed = {order.id: order.provision_by for order in pool.spec.commitments}
        return sum(
            max(0, record.compute_units - record.provisioned_cu)
            for record in commitment_records(pool)
            if not record.ended
            and record.id in agreed
            # What is ordered after its date is not late on the day it is accepted.
            and today > max(agreed[record.id], record.accepted_at.date())
        )


def _sums(
    name: str,
    documentation: str,
    labels: list[str],
    values: Iterable[tuple[list[str], JsonObject | None]],
    states: tuple[str, ...],
) -> GaugeMetricFamily:
    """One series for each object and state; none for an object that has no status yet."""
    family = GaugeMetricFamily(name, documentation, labels=[*labels, "state"])
    for place, sums in values:
        if sums is not None:
            for state in states:
                family.add_metric([*place, state], sums.get(state, 0))
    return family


def _info(instances: Iterable[JsonObject]) -> GaugeMetricFamily:
    family = GaugeMetricFamily(
        "reservedcapacity_instance_info",
        "1; which pool and offering a ModelInstance is of.",
        labels=["namespace", "instance", "pool", "offering"],
    )
    for instance in instances:
        spec = instance.get("spec") or {}
        family.add_metric([*_place(instance), str(spec.get("poolRef", "")), str(spec.get("offering", ""))], 1)
    return family


def _rollouts(instances: Iterable[JsonObject]) -> GaugeMetricFamily:
    family = GaugeMetricFamily(
        "reservedcapacity_rollout_phase",
        "1 for the phase that an instance's rollout is in now; Idle while there is none.",
        labels=["namespace", "instance", "phase"],
    )
    for instance in instances:
        rollout = _part(instance, "rollout")
        if rollout is not None:
            phase = rollout.get("phase", RolloutPhase.IDLE.value)
            family.add_metric([*_place(instance), phase if phase in _PHASES else OTHER], 1)
    return family


def _token_units(reservations: Iterable[JsonObject]) -> GaugeMetricFamily:
    family = GaugeMetricFamily(
        "reservedcapacity_token_units",
        "Token units that a TokenUnitReservation has bought and not given back, as its status.lots say.",
        labels=["namespace", "reservation", "direction"],
    )
    for reservation in reservations:
        if status := reservation.get("status"):
            units = dict.fromkeys(map(str, Direction), 0)
            for lot in status.get("lots") or ():
                if lot.get("direction") in units:
                    units[lot["direction"]] += lot.get("units", 0)
            for direction, value in units.items():
                family.add_metric([*_place(reservation), direction], value)
    return family


def _part(obj: JsonObject, field: str) -> JsonObject | None:
    """A part of the status, or None where there is none."""
    found = (obj.get("status") or {}).get(field)
    return found if isinstance(found, dict) else None


def _place(obj: JsonObject) -> list[str]:
    return [obj["metadata"].get("namespace") or "", obj["metadata"]["name"]]
