"""Token-unit reservations as the planners see them: what they claim of the fleet, and what they are entitled to."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from datetime import date, datetime
from decimal import Decimal
from typing import Protocol

from reserved_capacity.api import meta
from reserved_capacity.api.computeunitpool import ComputeUnitPool
from reserved_capacity.api.modelinstance import ModelInstance
from reserved_capacity.api.modeloffering import ModelOffering
from reserved_capacity.api.pricebook import PriceBook
from reserved_capacity.api.tokenunitreservation import TokenUnitReservation
from reserved_capacity.domain.notices import moment
from reserved_capacity.domain.tokens.backing import Claim, SnapshotFleet
from reserved_capacity.domain.tokens.entitlement import TokenRate, total
from reserved_capacity.domain.tokens.lots import Direction, Lot, ReservationName, day_of
from reserved_capacity.ports import COMPUTE_UNIT_POOLS, MODEL_INSTANCES, TOKEN_UNIT_RESERVATIONS, JsonObject, Ref
from reserved_capacity.snapshot.parsing import parse_instance
from reserved_capacity.store import BY_OFFERING, Store


def parse_reservation(store: Store, namespace: str, name: str) -> TokenUnitReservation | None:
    return store.parsed(Ref(TOKEN_UNIT_RESERVATIONS, namespace, name), TokenUnitReservation)


def reservations_of(store: Store, offering: str) -> tuple[TokenUnitReservation, ...]:
    """Those that are not being deleted, by namespace and name."""
    found = []
    for obj in store.by(BY_OFFERING, TOKEN_UNIT_RESERVATIONS, offering):
        metadata = obj["metadata"]
        parsed = parse_reservation(store, metadata["namespace"], metadata["name"])
        if parsed is not None and parsed.metadata.deletion_timestamp is None:
            found.append(parsed)
    return tuple(sorted(found, key=lambda each: (each.namespace, each.name)))


def claim_id(reservation: ReservationName, purchased_at: datetime) -> str:
    """What was bought at one moment counts together."""
    return f"{reservation}@{moment(purchased_at)}"


def claim_reservation(claim: str) -> ReservationName | None:
    """Whose a claim of this id is."""
    namespace, _, name = claim.rpartition("@")[0].partition("/")
    return ReservationName(namespace, name) if namespace and name else None


def claims_of_lots(lots: Iterable[Lot], now: datetime, snapshot_of: Callable[[str], str]) -> tuple[Claim, ...]:
    """Of reservations whose object is gone, by the books: what is charged counts to the end of its last day (T2).
    `snapshot_of` says which one a claim is for."""
    groups: dict[tuple[ReservationName, datetime], list[TokenRate]] = {}
    for lot in lots:
        units = lot.units_on(day_of(now))
        if units and lot.billing_start is not None:
            rate = TokenRate.of(lot.direction, units * lot.unit_tpm)
            groups.setdefault((lot.reservation, lot.purchased_at), []).append(rate)
    found = []
    for (name, at), rates in sorted(groups.items()):
        claim = claim_id(name, at)
        found.append(Claim(claim, moment(at), name, snapshot_of(claim), total(rates), begun=True))
    return tuple(found)


def claims_of_reservation(reservation: TokenUnitReservation) -> tuple[Claim, ...]:
    """By its status, where its lots stand with the units that they have today."""
    name = ReservationName(reservation.namespace, reservation.name)
    groups: dict[datetime, list[tuple[TokenRate, bool]]] = {}
    for lot in reservation.status.lots:
        if lot.units and lot.purchased_at is not None:
            rate = TokenRate.of(lot.direction, lot.tokens_per_minute)
            groups.setdefault(lot.purchased_at, []).append((rate, lot.billing_start is not None))
    return tuple(
        Claim(
            id=claim_id(name, at),
            order=moment(at),
            reservation=name,
            snapshot=reservation.spec.snapshot,
            rate=total(rate for rate, _ in lots),
            begun=any(begun for _, begun in lots),
        )
        for at, lots in sorted(groups.items())
    )


def unit_price_in_force(book: PriceBook, offering: str, direction: Direction, day: date) -> Decimal | None:
    """The list price of a unit and day that counts on that UTC day; None where the book has none yet."""
    entries = [
        each
        for each in book.spec.token_units
        if each.offering == offering and each.direction is direction and each.effective_from <= day
    ]
    newest = max(entries, key=lambda each: each.effective_from, default=None)
    return newest.price_per_unit_day if newest is not None else None


class _PerMinute(Protocol):
    @property
    def input_tokens_per_minute(self) -> int: ...

    @property
    def output_tokens_per_minute(self) -> int: ...


def rate_of(stated: _PerMinute) -> TokenRate:
    """A rate as any of the API's types states it."""
    return TokenRate(stated.input_tokens_per_minute, stated.output_tokens_per_minute)


def base_rates(offering: ModelOffering) -> Mapping[str, TokenRate]:
    units = offering.spec.token_units
    return {each.account: rate_of(each) for each in (units.base_rate_limits if units is not None else ())}


def fleet_pool(store: Store, offering: ModelOffering) -> tuple[Ref | None, ComputeUnitPool | None]:
    """Where the offering's fleet runs: the pool that it names, and that pool if there is one."""
    units = offering.spec.token_units
    if units is None or units.fleet is None:
        return None, None
    ref = Ref(COMPUTE_UNIT_POOLS, units.fleet.pool_ref.namespace, units.fleet.pool_ref.name)
    return ref, store.parsed(ref, ComputeUnitPool)


def fleet_instances(store: Store, offering: str) -> tuple[ModelInstance, ...]:
    """The instances that the operator made for token units of the offering, wherever they are."""
    found = [parse_instance(store, obj) for obj in store.by(BY_OFFERING, MODEL_INSTANCES, offering) if fleet_of(obj)]
    return tuple(sorted(found, key=lambda each: (each.namespace, each.name)))


def fleet_of(obj: JsonObject) -> str:
    """The offering whose token units an instance backs; empty: it is a customer's."""
    return str((obj["metadata"].get("labels") or {}).get(meta.FLEET_LABEL, ""))


def snapshot_fleets(offering: ModelOffering, instances: Iterable[ModelInstance]) -> Mapping[str, SnapshotFleet]:
    """What the fleet serves now, by snapshot; a snapshot whose throughput was not measured is absent."""
    serving: dict[str, int] = {}
    for each in instances:
        if each.metadata.deletion_timestamp is None:
            available = each.status.instances.available
            serving[each.spec.snapshot] = serving.get(each.spec.snapshot, 0) + available
    return {
        snapshot.name: SnapshotFleet(
            rate_of(snapshot.throughput),
            serving.get(snapshot.name, 0),
        )
        for snapshot in offering.spec.snapshots
        if snapshot.throughput is not None
    }
