"""The provider's ModelInstances that back token units: one for each snapshot that is sold, on the fleet's pool (T4).

They grow before the limits do and shrink after them. What the operator has not labelled is none of them.
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
from reserved_capacity.api.poolstatus import PoolComputeUnits
from reserved_capacity.domain.tokens.backing import NO_FLEET, SnapshotFleet, fleet_size
from reserved_capacity.domain.tokens.entitlement import TokenRate
from reserved_capacity.domain.tokens.token_conditions import FleetReport
from reserved_capacity.ports import MODEL_INSTANCES, AlreadyExists, JsonObject, Ref
from reserved_capacity.reconcilers.context import Context, precondition_of
from reserved_capacity.snapshot import contracted_cu

_NAME_LENGTH: Final = 31
_HASH_LENGTH: Final = 8


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


async def grow(context: Context, world: FleetWorld, wanted: Mapping[str, int]) -> None:
    """Ask for more where there are too few; nothing is taken away here."""
    for snapshot, number in sorted(wanted.items()):
        live = world.instance(snapshot)
        if live is None and number:
            await _create(context, world, snapshot, number)
        elif live is not None and live.spec.instances < number:
            await _scale(context, live, number)


async def shrink(context: Context, world: FleetWorld, sold: Mapping[str, TokenRate], wanted: Mapping[str, int]) -> None:
    """Give back what is not needed any more, once the limits say so. What serves a snapshot that is sold and stands in
    another place than it should goes when there are enough in the right one."""
    for live in world.instances:
        snapshot, ref = live.spec.snapshot, Ref(MODEL_INSTANCES, live.namespace, live.name)
        observed = context.store.get(ref)
        if observed is None or live.metadata.deletion_timestamp is not None:
            continue
        right = world.instance(snapshot)
        if sold.get(snapshot, TokenRate()) == TokenRate() or _replaced(right, live, wanted.get(snapshot, 0)):
            await context.cluster.delete(ref, precondition_of(observed))
        elif right is live and 0 < wanted.get(snapshot, 0) < live.spec.instances:
            await _scale(context, live, wanted[snapshot])


def _replaced(right: ModelInstance | None, live: ModelInstance, wanted: int) -> bool:
    return right is not None and right is not live and bool(wanted) and right.status.instances.available >= wanted


async def _create(context: Context, world: FleetWorld, snapshot: str, number: int) -> None:
    assert world.place is not None, "a fleet without a pool has no sizes"  # noqa: S101
    name = instance_name(world.offering.name, snapshot)
    ref = Ref(MODEL_INSTANCES, world.place.namespace, name)
    body: JsonObject = {
        "apiVersion": meta.API_VERSION,
        "kind": meta.Kind.MODEL_INSTANCE.value,
        "metadata": {
            "name": name,
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
    try:
        await context.cluster.create(MODEL_INSTANCES, body)
    except AlreadyExists:
        await context.cluster.get(ref)  # one of ours that was not to be seen yet; the next turn knows it
        raise


async def _scale(context: Context, live: ModelInstance, number: int) -> None:
    ref = Ref(MODEL_INSTANCES, live.namespace, live.name)
    observed = context.store.get(ref)
    if observed is not None:
        await context.patch(ref, observed, {"spec": {"instances": number}})


def report(world: FleetWorld, snapshot: str, sold: TokenRate, fleet: SnapshotFleet | None) -> FleetReport:
    """The fleet of a snapshot against what is sold of it, for people."""
    place = f"{world.place.namespace}/{world.place.name}" if world.place is not None else ""
    instance, live = instance_name(world.offering.name, snapshot), world.instance(snapshot)
    held = live.status.compute_units if live is not None else 0
    units = world.pool.status.compute_units if world.pool is not None else PoolComputeUnits()
    needed = fleet.instances_for(sold) if fleet is not None else None
    wanted = max(needed or 0, world.offering.spec.reserved.min_instances)
    return FleetReport(
        snapshot=snapshot,
        pool=place,
        instance=f"{world.place.namespace}/{instance}" if world.place is not None else instance,
        wanted=wanted,
        available=fleet.available if fleet is not None else 0,
        need_cu=wanted * world.cu_per_instance,
        have_cu=min(held + units.idle, units.usable),
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
