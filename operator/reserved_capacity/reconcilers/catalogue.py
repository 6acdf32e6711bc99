"""Reconciles what the provider sells: ModelOffering and PriceBook report whether they are sound and who uses them.

They act on nothing. `status.snapshots[].pinnedInstances` and `status.referencedBy` are what the API server's admission
rules read when somebody wants to remove a snapshot or an offering.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

from reserved_capacity.api.modeloffering import (
    ModelOffering,
    ModelOfferingStatus,
    References,
    Snapshot,
    SnapshotStatus,
)
from reserved_capacity.api.pricebook import PriceBook, PriceBookStatus
from reserved_capacity.domain.catalogue import OfferedClass, PricedUnit, offering_valid, price_book_valid
from reserved_capacity.domain.conditions import ConditionValue
from reserved_capacity.domain.lifecycle import lifecycle_of, next_change
from reserved_capacity.domain.notices import moment
from reserved_capacity.domain.reasons.base import ConditionStatus, Ready
from reserved_capacity.domain.retirements import judge_retirement
from reserved_capacity.ports import MODEL_OFFERINGS, PRICE_BOOKS, Ref
from reserved_capacity.queue import Key
from reserved_capacity.reconcilers.context import Context, condition_list
from reserved_capacity.snapshot import (
    lifecycle_dates,
    parse_class,
    parse_offering,
    recorded_retirement,
    users_of,
)
from reserved_capacity.snapshot.pins import Users


async def reconcile_offering(context: Context, key: Key) -> datetime | None:
    """Returns when a snapshot's lifecycle changes next."""
    ref = Ref(MODEL_OFFERINGS, "", key.name)
    observed, offering = context.store.get(ref), parse_offering(context.store, key.name)
    if observed is None or offering is None:
        return None
    now = context.clock.now()
    users = users_of(context.store, key.name)
    instances, tokens = len(users.instances), len(users.reservations)
    snapshots = tuple(_snapshot_status(offering, snapshot, users, now) for snapshot in offering.spec.snapshots)
    valid = offering_valid(_classes(context, offering), _cu_per_node(offering))
    generation = offering.metadata.generation
    status = ModelOfferingStatus(
        observed_generation=generation,
        summary=f"{instances} instances and {tokens} token reservations use it{_broken_promises(offering, snapshots)}",
        snapshots=snapshots,
        snapshots_total=len(snapshots),
        pinned_total=sum(each.pinned_instances for each in snapshots),
        referenced_by=References(pools=len(users.pools), instances=instances, token_reservations=tokens),
        conditions=condition_list(offering.status, (valid, _ready(valid)), generation=generation, now=now),
    )
    await context.publish(ref, observed, status)
    changes = [next_change(lifecycle_dates(each), now=now) for each in offering.spec.snapshots]
    return min((at for at in changes if at is not None), default=None)


def _snapshot_status(offering: ModelOffering, snapshot: Snapshot, users: Users, now: datetime) -> SnapshotStatus:
    committed_until = users.committed_until(snapshot.name)
    settled = offering.status.observed_generation == offering.metadata.generation
    seen = any(each.name == snapshot.name for each in offering.status.snapshots)
    retirement = judge_retirement(
        recorded_retirement(offering, snapshot.name),
        snapshot.retires_at,
        known=settled or not seen,
        committed_until=committed_until if committed_until is not None and committed_until > now else None,
    )
    return SnapshotStatus(
        name=snapshot.name,
        lifecycle=lifecycle_of(lifecycle_dates(snapshot), now=now),
        pinned_instances=users.pinning(snapshot.name),
        latest_commitment_end=committed_until,
        retires_at=retirement.at if retirement is not None else None,
        promised_until=retirement.promised if retirement is not None else None,
    )


def _broken_promises(offering: ModelOffering, snapshots: Sequence[SnapshotStatus]) -> str:
    """For the provider: which dates undercut what was promised, without a reason that customers could read."""
    broken = [
        f"; {each.name} was not to retire before {moment(each.promised_until)}: set retiresAt back, or state emergency.reason"
        for each in snapshots
        if each.promised_until is not None
        and (listed := offering.spec.snapshot(each.name))
        and listed.emergency is None
    ]
    return "".join(broken)[:900]


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


def _ready(decider: ConditionValue) -> ConditionValue:
    if decider.status is ConditionStatus.TRUE:
        return ConditionValue("Ready", ConditionStatus.TRUE, Ready.READY.value, decider.message)
    return ConditionValue("Ready", decider.status, decider.reason, decider.message)
