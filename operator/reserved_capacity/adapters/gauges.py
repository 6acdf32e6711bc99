"""Owns the gauges that say what our objects' statuses say, computed when somebody looks.

Nothing is kept between two scrapes, so an object that is gone leaves no series behind, and a condition has one series:
the combination of status and reason that holds now. The cost of a scrape is one pass over our kinds in the store.
Labels are names of objects and words from the API's own lists, so their number is bounded by that of the objects.

They are written as Prometheus' text here and not by its client library: ten thousand instances have 140,000 series, for
which that needs seconds, in which nothing else runs (docs/adr/0076).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from datetime import date, datetime

import structlog
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


class StoreGauges:
    """`now` is the clock's, on which dates of contracts fall due."""

    def __init__(self, store: Store, now: Callable[[], datetime]) -> None:
        self._store = store
        self._now = now

    def text(self) -> str:
        """All of them, in the text format 0.0.4."""
        return "".join(f"{line}\n" for line in self._lines())

    def _lines(self) -> Iterator[str]:
        pools = self._store.all(COMPUTE_UNIT_POOLS)
        instances = self._store.all(MODEL_INSTANCES)
        yield from _sums(
            "reservedcapacity_pool_compute_units",
            "Compute units of a pool, as its status.computeUnits says: provisioned = allocated + idle + unhealthy, "
            "usable = allocated + idle.",
            ((_place(pool, "pool"), _part(pool, "computeUnits")) for pool in pools),
            POOL_STATES,
        )
        yield from self._overdue(pools)
        yield from _sums(
            "reservedcapacity_class_compute_units",
            "Compute units on the nodes of an AcceleratorClass, as its status.computeUnits says.",
            (
                (_labels(("class", class_["metadata"]["name"])), _part(class_, "computeUnits"))
                for class_ in self._store.all(ACCELERATOR_CLASSES)
            ),
            CLASS_STATES,
        )
        yield from _sums(
            "reservedcapacity_instance_members",
            "Instances of a ModelInstance, as its status.instances says.",
            ((_place(instance, "instance"), _part(instance, "instances")) for instance in instances),
            MEMBER_STATES,
        )
        yield from _info(instances)
        yield from _rollouts(instances)
        yield from _token_units(self._store.all(TOKEN_UNIT_RESERVATIONS))
        yield from self._conditions()

    def _conditions(self) -> Iterator[str]:
        name = "reservedcapacity_condition"
        yield from _header(name, "1 for the status and reason that a condition has now.")
        for resource in OUR_KINDS:
            known = _REASONS[resource.kind]
            for obj in self._store.all(resource):
                place = f'kind="{resource.kind}",{_place(obj, "name")}'
                for each in (obj.get("status") or {}).get("conditions") or ():
                    type_, status, reason = each.get("type"), each.get("status"), each.get("reason")
                    if type_ in _TYPES and status in _STATUSES:
                        word = reason if reason in known else OTHER
                        yield f'{name}{{{place},type="{type_}",status="{status}",reason="{word}"}} 1'

    def _overdue(self, pools: Iterable[JsonObject]) -> Iterator[str]:
        name = "reservedcapacity_pool_overdue_compute_units"
        yield from _header(
            name,
            "Compute units of a pool whose agreed date (provisionBy) has passed and that are not claimed on nodes.",
        )
        today = self._now().date()
        for pool in pools:
            if _part(pool, "computeUnits") is not None:
                yield f"{name}{{{_place(pool, 'pool')}}} {self._overdue_units(pool, today)}"

    def _overdue_units(self, obj: JsonObject, today: date) -> int:
        try:
            pool = parse_pool(self._store, obj)
        except ValidationError as error:
            log.warning("pool not understood", pool="{namespace}/{name}".format(**obj["metadata"]), error=str(error))
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


def _header(name: str, documentation: str) -> tuple[str, str]:
    return f"# HELP {name} {documentation}", f"# TYPE {name} gauge"


def _sums(
    name: str, documentation: str, values: Iterable[tuple[str, JsonObject | None]], states: tuple[str, ...]
) -> Iterator[str]:
    """One series for each object and state; none for an object that has no status yet."""
    yield from _header(name, documentation)
    for place, sums in values:
        if sums is not None:
            for state in states:
                yield f'{name}{{{place},state="{state}"}} {sums.get(state, 0)}'


def _info(instances: Iterable[JsonObject]) -> Iterator[str]:
    name = "reservedcapacity_instance_info"
    yield from _header(name, "1; which pool and offering a ModelInstance is of.")
    for instance in instances:
        spec = instance.get("spec") or {}
        of = _labels(("pool", str(spec.get("poolRef", ""))), ("offering", str(spec.get("offering", ""))))
        yield f"{name}{{{_place(instance, 'instance')},{of}}} 1"


def _rollouts(instances: Iterable[JsonObject]) -> Iterator[str]:
    name = "reservedcapacity_rollout_phase"
    yield from _header(name, "1 for the phase that an instance's rollout is in now; Idle while there is none.")
    for instance in instances:
        rollout = _part(instance, "rollout")
        if rollout is not None:
            phase = rollout.get("phase", RolloutPhase.IDLE.value)
            yield f'{name}{{{_place(instance, "instance")},phase="{phase if phase in _PHASES else OTHER}"}} 1'


def _token_units(reservations: Iterable[JsonObject]) -> Iterator[str]:
    name = "reservedcapacity_token_units"
    yield from _header(
        name, "Token units that a TokenUnitReservation has bought and not given back, as its status.lots say."
    )
    for reservation in reservations:
        if status := reservation.get("status"):
            units = dict.fromkeys(map(str, Direction), 0)
            for lot in status.get("lots") or ():
                if lot.get("direction") in units:
                    units[lot["direction"]] += lot.get("units", 0)
            for direction, value in units.items():
                yield f'{name}{{{_place(reservation, "reservation")},direction="{direction}"}} {value}'


def _part(obj: JsonObject, field: str) -> JsonObject | None:
    """A part of the status, or None where there is none."""
    found = (obj.get("status") or {}).get(field)
    return found if isinstance(found, dict) else None


def _place(obj: JsonObject, kind: str) -> str:
    """Which object it is, as labels; `kind` is what its name is called."""
    return _labels(("namespace", obj["metadata"].get("namespace") or ""), (kind, obj["metadata"]["name"]))


def _labels(*pairs: tuple[str, str]) -> str:
    return ",".join(f'{name}="{value.translate(_ESCAPES)}"' for name, value in pairs)


# Of names that the API server has accepted none needs it; references in a spec are free words.
_ESCAPES = str.maketrans({"\\": r"\\", '"': r"\"", "\n": r"\n"})
