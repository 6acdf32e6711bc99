"""Reconciles what the provider sells: ModelOffering and PriceBook report whether they are sound and who uses them.

They act on nothing. `status.snapshots[].pinnedInstances` and `status.referencedBy` are what the API server's admission
rules read when somebody wants to remove a snapshot or an offering.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

from reserved_capacity.api.computeunitpool import ComputeUnitPool
from reserved_capacity.api.modelinstance import ModelInstance
from reserved_capacity.api.modeloffering import (
    ModelOffering,
    ModelOfferingStatus,
    References,
    SnapshotStatus,
)
from reserved_capacity.api.pricebook import PriceBook, PriceBookStatus
from reserved_capacity.api.tokenunitreservation import TokenUnitReservation, TokenUnitReservationStatus
from reserved_capacity.domain.catalogue import OfferedClass, PricedUnit, offering_valid, price_book_valid
from reserved_capacity.domain.conditions import ConditionValue, condition
from reserved_capacity.domain.lifecycle import lifecycle_of, next_change
from reserved_capacity.domain.reasons.base import ConditionStatus, Ready
from reserved_capacity.domain.reasons.tokens import TokensAccepted
from reserved_capacity.ports import (
    COMPUTE_UNIT_POOLS,
    MODEL_INSTANCES,
    MODEL_OFFERINGS,
    PRICE_BOOKS,
    TOKEN_UNIT_RESERVATIONS,
    Ref,
)
from reserved_capacity.queue import Key
from reserved_capacity.reconcilers.context import Context, condition_list
from reserved_capacity.snapshot import lifecycle_dates, parse_class, parse_instance, parse_offering, parse_pool
from reserved_capacity.store import BY_OFFERING


async def reconcile_offering(context: Context, key: Key) -> datetime | None:
    """Returns when a snapshot's lifecycle changes next."""
    ref = Ref(MODEL_OFFERINGS, "", key.name)
    observed, offering = context.store.get(ref), parse_offering(context.store, key.name)
    if observed is None or offering is None:
        return None
    now = context.clock.now()
    instances = [parse_instance(context.store, obj) for obj in context.store.by(BY_OFFERING, MODEL_INSTANCES, key.name)]
    tokens = len(context.store.by(BY_OFFERING, TOKEN_UNIT_RESERVATIONS, key.name))
    pools = _pools_of(context, instances)
    snapshots = tuple(_snapshot_status(context, offering, name, instances, pools, now) for name in _names(offering))
    valid = offering_valid(_classes(context, offering), _cu_per_node(offering))
    generation = offering.metadata.generation
    status = ModelOfferingStatus(
        observed_generation=generation,
        summary=f"{len(instances)} instances and {tokens} token reservations use it",
        snapshots=snapshots,
        snapshots_total=len(snapshots),
        pinned_total=sum(each.pinned_instances for each in snapshots),
        referenced_by=References(pools=len(pools), instances=len(instances), token_reservations=tokens),
        conditions=condition_list(offering.status, (valid, _ready(valid)), generation=generation, now=now),
    )
    await context.publish(ref, observed, status)
    changes = [next_change(lifecycle_dates(each), now=now) for each in offering.spec.snapshots]
    return min((at for at in changes if at is not None), default=None)


def _names(offering: ModelOffering) -> list[str]:
    return [snapshot.name for snapshot in offering.spec.snapshots]


def _pools_of(context: Context, instances: Sequence[ModelInstance]) -> dict[tuple[str, str], ComputeUnitPool]:
    pools = {}
    for instance in instances:
        obj = context.store.get(Ref(COMPUTE_UNIT_POOLS, instance.namespace, instance.spec.pool_ref))
        if obj is not None:
            pools[instance.namespace, instance.spec.pool_ref] = parse_pool(context.store, obj)
    return pools


def _snapshot_status(
    context: Context,
    offering: ModelOffering,
    name: str,
    instances: Sequence[ModelInstance],
    pools: dict[tuple[str, str], ComputeUnitPool],
    now: datetime,
) -> SnapshotStatus:
    snapshot = offering.spec.snapshot(name)
    assert snapshot is not None, "the name comes from the offering"  # noqa: S101
    pinning = [each for each in instances if each.spec.snapshot == name]
    reserved = context.store.by(BY_OFFERING, TOKEN_UNIT_RESERVATIONS, offering.name)
    homes = {(each.namespace, each.spec.pool_ref) for each in pinning}
    ends = [
        record.term_end
        for home in homes
        if home in pools
        for record in pools[home].status.commitments
        if record.term_end is not None
    ]
    return SnapshotStatus(
        name=name,
        lifecycle=lifecycle_of(lifecycle_dates(snapshot), now=now),
        pinned_instances=len(pinning) + sum(obj["spec"].get("snapshot") == name for obj in reserved),
        latest_commitment_end=max(ends, default=None),
    )


def _classes(context: Context, offering: ModelOffering) -> list[OfferedClass]:
    found = []
    for name in offering.spec.reserved.accelerator_classes:
        class_ = parse_class(context.store, name)
        found.append(OfferedClass(name, class_.spec.compute_units_per_node if class_ else None))
    return found


def _cu_per_node(offering: ModelOffering) -> int:
    reserved = offering.spec.reserved
    return reserved.compute_units_per_instance // reserved.nodes_per_instance


async def reconcile_price_book(context: Context, key: Key) -> datetime | None:
    ref = Ref(PRICE_BOOKS, "", key.name)
    observed, book = context.store.get(ref), context.store.parsed(ref, PriceBook)
    if observed is None or book is None:
        return None
    units = [PricedUnit(each.offering, each.direction.value, each.effective_from) for each in book.spec.token_units]
    known = frozenset(each for each in {unit.offering for unit in units} if parse_offering(context.store, each))
    valid = price_book_valid(units, known)
    generation = book.metadata.generation
    entries = len(book.spec.compute_units) + len(book.spec.token_units)
    status = PriceBookStatus(
        observed_generation=generation,
        summary=f"{entries} prices in {book.spec.currency}",
        entries=entries,
        conditions=condition_list(book.status, (valid, _ready(valid)), generation=generation, now=context.clock.now()),
    )
    await context.publish(ref, observed, status)
    return None


async def reconcile_tokens(context: Context, key: Key) -> datetime | None:
    """Token units are not built yet: nothing is sold, charged or published, and the reservation says so."""
    ref = Ref(TOKEN_UNIT_RESERVATIONS, key.namespace, key.name)
    observed, reservation = context.store.get(ref), context.store.parsed(ref, TokenUnitReservation)
    if observed is None or reservation is None:
        return None
    accepted = condition(
        "Accepted",
        TokensAccepted.NOT_SUPPORTED_YET,
        "this version does not act on spec.units: nothing is reserved and nothing is charged; upgrade the operator",
    )
    generation = reservation.metadata.generation
    status = TokenUnitReservationStatus(
        observed_generation=generation,
        summary=accepted.message,
        conditions=condition_list(
            reservation.status, (accepted, _ready(accepted)), generation=generation, now=context.clock.now()
        ),
    )
    await context.publish(ref, observed, status)
    return None


def _ready(decider: ConditionValue) -> ConditionValue:
    if decider.status is ConditionStatus.TRUE:
        return ConditionValue("Ready", ConditionStatus.TRUE, Ready.READY.value, decider.message)
    return ConditionValue("Ready", decider.status, decider.reason, decider.message)
