"""The provider's fleet behind an offering's token units, as it is and as it has to be (behaviour.md T4; ADR 0042).

One ModelInstance for each snapshot that is sold, on the pool that the offering names. Pure: the operator carries it out
(`reconcilers.tokens.fleet`), and `kubectl reserved plan` does so on paper.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from reserved_capacity.api import meta
from reserved_capacity.api.computeunitpool import ComputeUnitPool
from reserved_capacity.api.modelinstance import MAX_INSTANCES, ModelInstance
from reserved_capacity.api.modeloffering import ModelOffering
from reserved_capacity.domain.tokens.backing import NO_FLEET, SnapshotFleet, fleet_size
from reserved_capacity.domain.tokens.entitlement import TokenRate
from reserved_capacity.domain.tokens.token_conditions import FleetReport
from reserved_capacity.ports import JsonObject, Ref
from reserved_capacity.snapshot.pools import contracted_cu
from reserved_capacity.snapshot.tokens import fleet_instances, fleet_pool
from reserved_capacity.store import Store

_NAME_LENGTH: Final = 31
_HASH_LENGTH: Final = 8


@dataclass(frozen=True, slots=True)
class PoolRoom:
    """CU of the fleet's pool: nobody's, and those on nodes that work."""

    idle: int = 0
    usable: int = 0


@dataclass(frozen=True, slots=True)
class FleetWorld:
    """An offering's fleet: where it runs (`place` None: nowhere), and its instances as they are."""

    offering: ModelOffering
    place: Ref | None
    pool: ComputeUnitPool | None
    instances: Sequence[ModelInstance]

    @property
    def cu_per_instance(self) -> int:
        return self.offering.spec.reserved.compute_units_per_instance

    def instance(self, snapshot: str) -> ModelInstance | None:
        name = instance_name(self.offering.name, snapshot)
        place = (self.place.namespace, name) if self.place is not None else None
        return next((each for each in self.instances if (each.namespace, each.name) == place), None)


def fleet_world(store: Store, offering: ModelOffering) -> FleetWorld:
    place, pool = fleet_pool(store, offering)
    return FleetWorld(offering, place, pool, fleet_instances(store, offering.name))


def instance_name(offering: str, snapshot: str) -> str:
    """A name as ModelInstances may have it, the same for the same snapshot."""
    digest = hashlib.sha256(f"{offering}/{snapshot}".encode()).hexdigest()[:_HASH_LENGTH]
    slug = re.sub(r"[^a-z0-9]+", "-", snapshot.lower()).strip("-")
    slug = slug if slug[:1].isalpha() else f"s-{slug}"
    return f"{slug[:_NAME_LENGTH].rstrip('-')}-{digest}"


def sizes(world: FleetWorld, sold: Mapping[str, TokenRate], fleets: Mapping[str, SnapshotFleet]) -> Mapping[str, int]:
    """Instances to ask for, by snapshot."""
    if world.pool is None:
        return {}
    most = min(MAX_INSTANCES, contracted_cu(world.pool) // world.cu_per_instance)
    minimum = world.offering.spec.reserved.min_instances
    return {
        snapshot: fleet_size(fleets.get(snapshot, NO_FLEET), rate, minimum=minimum, most=most)
        for snapshot, rate in sold.items()
    }


def new_instance(world: FleetWorld, snapshot: str, number: int) -> JsonObject:
    """The ModelInstance that is to serve a snapshot, as it is created."""
    assert world.place is not None, "a fleet without a pool has no sizes"  # noqa: S101
    return {
        "apiVersion": meta.API_VERSION,
        "kind": meta.Kind.MODEL_INSTANCE.value,
        "metadata": {
            "name": instance_name(world.offering.name, snapshot),
            "namespace": world.place.namespace,
            "labels": {
                meta.FLEET_LABEL: world.offering.name,
                meta.MANAGED_BY_LABEL: meta.MANAGED_BY,
            },
        },
        "spec": {
            "poolRef": world.place.name,
            "offering": world.offering.name,
            "snapshot": snapshot,
            "instances": number,
        },
    }


@dataclass(frozen=True, slots=True)
class Resize:
    """`live` None: it is to be made. `instances` 0: it is to go."""

    snapshot: str
    live: ModelInstance | None
    instances: int


def growth(world: FleetWorld, wanted: Mapping[str, int]) -> tuple[Resize, ...]:
    """More where there are too few; nothing is taken away here."""
    found = ((snapshot, world.instance(snapshot), number) for snapshot, number in sorted(wanted.items()))
    return tuple(Resize(*each) for each in found if each[2] > (each[1].spec.instances if each[1] is not None else 0))


def shrinkage(world: FleetWorld, sold: Mapping[str, TokenRate], wanted: Mapping[str, int]) -> tuple[Resize, ...]:
    """What is not needed any more. What serves a snapshot that is sold and stands in another place than it should goes when
    there are enough in the right one."""
    found = []
    for live in world.instances:
        snapshot, number = live.spec.snapshot, wanted.get(live.spec.snapshot, 0)
        right = world.instance(snapshot)
        if live.metadata.deletion_timestamp is not None:
            continue
        if sold.get(snapshot, TokenRate()) == TokenRate() or _replaced(right, live, number):
            found.append(Resize(snapshot, live, 0))
        elif right is live and 0 < number < live.spec.instances:
            found.append(Resize(snapshot, live, number))
    return tuple(found)


def _replaced(right: ModelInstance | None, live: ModelInstance, wanted: int) -> bool:
    return right is not None and right is not live and bool(wanted) and right.status.instances.available >= wanted


def fleet_report(
    world: FleetWorld, snapshot: str, sold: TokenRate, fleet: SnapshotFleet | None, room: PoolRoom
) -> FleetReport:
    """The fleet of a snapshot against what is sold of it, for people."""
    place = f"{world.place.namespace}/{world.place.name}" if world.place is not None else ""
    instance, live = instance_name(world.offering.name, snapshot), world.instance(snapshot)
    held = live.status.compute_units if live is not None else 0
    needed = fleet.instances_for(sold) if fleet is not None else None
    wanted = max(needed or 0, world.offering.spec.reserved.min_instances)
    return FleetReport(
        snapshot=snapshot,
        pool=place,
        instance=f"{world.place.namespace}/{instance}" if world.place is not None else instance,
        wanted=wanted,
        available=fleet.available if fleet is not None else 0,
        need_cu=wanted * world.cu_per_instance,
        have_cu=min(held + room.idle, room.usable),
        missing=_missing(world, snapshot, needed, wanted, place),
    )


def _missing(world: FleetWorld, snapshot: str, needed: int | None, wanted: int, place: str) -> str:
    cu = wanted * world.cu_per_instance
    if needed is None:
        return (
            f"ModelOffering {world.offering.name} does not say what one instance of {snapshot} serves: set its "
            "snapshots[].throughput"
        )
    if not place:
        return (
            f"need {cu} CU, and ModelOffering {world.offering.name} names no pool for them: set spec.tokenUnits.fleet"
        )
    if world.pool is None:
        return f"need {cu} CU in ComputeUnitPool {place}, which does not exist: create it"
    return ""
