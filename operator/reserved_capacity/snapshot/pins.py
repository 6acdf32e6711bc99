"""Who pins a snapshot, until when they are bound to pay for it, and what its offering says of it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta

from reserved_capacity.api.computeunitpool import ComputeUnitPool
from reserved_capacity.api.modelinstance import ModelInstance
from reserved_capacity.api.modeloffering import ModelOffering
from reserved_capacity.api.tokenunitreservation import TokenUnitReservation
from reserved_capacity.domain.retirements import Retirement, emergency_of
from reserved_capacity.domain.snapshot_supported import PinnedSnapshot
from reserved_capacity.domain.terms import midnight_after
from reserved_capacity.ports import COMPUTE_UNIT_POOLS, MODEL_INSTANCES, TOKEN_UNIT_RESERVATIONS, Ref
from reserved_capacity.snapshot.instances import lifecycle_dates
from reserved_capacity.snapshot.parsing import parse_instance, parse_pool
from reserved_capacity.store import BY_OFFERING, Store


@dataclass(frozen=True, slots=True)
class Users:
    """Everything that names one offering, with the pools of its instances by (namespace, name)."""

    instances: tuple[ModelInstance, ...]
    reservations: tuple[TokenUnitReservation, ...]
    pools: dict[tuple[str, str], ComputeUnitPool]

    def pinning(self, snapshot: str) -> int:
        pins = [each.spec.snapshot for each in self.instances] + [each.spec.snapshot for each in self.reservations]
        return pins.count(snapshot)

    def committed_until(self, snapshot: str) -> datetime | None:
        """The latest moment until which somebody who pins it has bought: the end of a term, or of a lot's minimum term."""
        homes = {(each.namespace, each.spec.pool_ref) for each in self.instances if each.spec.snapshot == snapshot}
        ends = [end for home in homes if home in self.pools for end in _ends_of(self.pools[home])]
        lots = [lot for each in self.reservations if each.spec.snapshot == snapshot for lot in each.status.lots]
        return max([*ends, *(lot.removable_from for lot in lots if lot.removable_from is not None)], default=None)


def users_of(store: Store, offering: str) -> Users:
    instances = tuple(parse_instance(store, obj) for obj in store.by(BY_OFFERING, MODEL_INSTANCES, offering))
    found = (
        store.parsed(
            Ref(TOKEN_UNIT_RESERVATIONS, obj["metadata"]["namespace"], obj["metadata"]["name"]), TokenUnitReservation
        )
        for obj in store.by(BY_OFFERING, TOKEN_UNIT_RESERVATIONS, offering)
    )
    pools = {}
    for instance in instances:
        obj = store.get(Ref(COMPUTE_UNIT_POOLS, instance.namespace, instance.spec.pool_ref))
        if obj is not None:
            pools[instance.namespace, instance.spec.pool_ref] = parse_pool(store, obj)
    return Users(instances, tuple(each for each in found if each is not None), pools)


def _ends_of(pool: ComputeUnitPool) -> Iterator[datetime]:
    """When the pool's commitments end, or did; of those whose term has not begun, the earliest that it can be."""
    terms = {order.id: order.term for order in pool.spec.commitments}
    for record in pool.status.commitments:
        if record.term_end is not None:
            yield record.term_end
        elif record.accepted_at is not None and record.id in terms:
            yield midnight_after(record.accepted_at) + timedelta(days=terms[record.id].days)


def pinned_snapshot(offering: ModelOffering | None, name: str) -> PinnedSnapshot | None:
    """What the offering says of that snapshot; None where it does not list it."""
    listed = offering.spec.snapshot(name) if offering is not None else None
    if offering is None or listed is None:
        return None
    stated = listed.emergency.reason if listed.emergency is not None else ""
    return PinnedSnapshot(
        name,
        lifecycle_dates(listed),
        listed.replacement or "",
        emergency_of(stated, recorded_retirement(offering, name)),
    )


def recorded_retirement(offering: ModelOffering, name: str) -> Retirement | None:
    """The retirement date of that snapshot as the operator last saw it."""
    recorded = next((each for each in offering.status.snapshots if each.name == name), None)
    if recorded is None or recorded.retires_at is None:
        return None
    return Retirement(recorded.retires_at, recorded.promised_until)
