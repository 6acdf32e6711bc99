"""What reservations order and what of it a fleet carries, on paper: for `paper`, which moves the copy of the cluster. Pure.

The lots are those of the status, which shows what the books have, but for cuts of lots that go on; these follow again from
the units that are wanted. Reservations whose object is gone count to the end of a day; only the operator knows them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime
from decimal import Decimal

from reserved_capacity.api.modeloffering import ModelOffering
from reserved_capacity.api.tokenunitreservation import TokenUnitReservation
from reserved_capacity.domain.notices import moment
from reserved_capacity.domain.terms import midnight_after, start_of
from reserved_capacity.domain.tokens.backing import BackingPlan, Claim, Grant, SnapshotFleet, plan_backing
from reserved_capacity.domain.tokens.lots import Lot, ReservationName, day_of
from reserved_capacity.domain.tokens.orders import OrderPlan, plan_orders
from reserved_capacity.domain.tokens.token_conditions import TokenRefusal
from reserved_capacity.ports import JsonObject
from reserved_capacity.snapshot.fleet import FleetWorld, fleet_world, sizes
from reserved_capacity.snapshot.market import Market, market_of, unpriced, wanted_units
from reserved_capacity.snapshot.tokens import claim_id, claims_of_reservation, reservations_of, snapshot_fleets
from reserved_capacity.store import Store


@dataclass(frozen=True, slots=True)
class Order:
    """`before` are the lots as they stand, `lots` those that follow from the spec, with their cuts. `tomorrow` is the first
    UTC day on which an order of now changes what is charged."""

    reservation: TokenUnitReservation
    market: Market
    before: tuple[Lot, ...]
    bought: tuple[Lot, ...]
    lots: tuple[Lot, ...]
    refusal: TokenRefusal | None
    tomorrow: date

    @property
    def name(self) -> ReservationName:
        return ReservationName(self.reservation.namespace, self.reservation.name)


def order_of(store: Store, reservation: TokenUnitReservation, now: datetime) -> Order:
    """As the operator would plan it now."""
    market = market_of(store, reservation, day_of(now))
    before = _lots(reservation, market)
    at = now.astimezone(UTC).replace(microsecond=0)
    plan = plan_orders(wanted_units(reservation), before, market.buyer(reservation), market.terms, at)
    lots = {lot.id: lot for lot in (*before, *plan.cut, *plan.bought)}
    return Order(
        reservation,
        market,
        before,
        plan.bought,
        tuple(sorted(lots.values(), key=lambda lot: lot.order)),
        _refusal(reservation, market, plan),
        midnight_after(now).date(),
    )


def _refusal(reservation: TokenUnitReservation, market: Market, plan: OrderPlan) -> TokenRefusal | None:
    if market.refusal is not None or not plan.unpriced:
        return market.refusal
    return unpriced(reservation.spec.price_book_ref, reservation.spec.offering, plan.unpriced)


def _lots(reservation: TokenUnitReservation, market: Market) -> tuple[Lot, ...]:
    buyer, found = market.buyer(reservation), []
    for number, lot in enumerate(reservation.status.lots, start=1):
        if not lot.units or lot.purchased_at is None:
            continue
        start, end = lot.billing_start, lot.removable_from
        found.append(
            Lot(
                id=lot.id,
                number=number,
                direction=lot.direction,
                account=buyer.account,
                reservation=buyer.reservation,
                offering=buyer.offering,
                price_book=buyer.price_book,
                currency=buyer.currency,
                units=lot.units,
                unit_tpm=lot.tokens_per_minute // lot.units,
                minimum_days=(end - start).days if start and end else buyer.minimum_days,
                ordered_price=lot.price_per_unit_day or Decimal(0),
                purchased_at=lot.purchased_at,
                billing_start=day_of(start) if start is not None else None,
            )
        )
    return tuple(found)


def lots_status(order: Order) -> list[JsonObject]:
    """The lots as a status shows them, with the units of tomorrow."""
    return [
        {
            "id": lot.id,
            "direction": lot.direction.value,
            "units": units,
            "tokensPerMinute": units * lot.unit_tpm,
            "purchasedAt": moment(lot.purchased_at),
            **({"billingStart": moment(start_of(lot.billing_start))} if lot.billing_start is not None else {}),
        }
        for lot in order.lots
        if (units := lot.units_on(order.tomorrow))
    ]


@dataclass(frozen=True, slots=True)
class OfferingPlan:
    """One turn of an offering: what its fleet carries by now, and the sizes that it is to have."""

    world: FleetWorld
    claims: tuple[Claim, ...]
    fleets: Mapping[str, SnapshotFleet]
    backing: BackingPlan
    wanted: Mapping[str, int]


def grants_now(store: Store, offering: str) -> tuple[Grant, ...]:
    """What counts already: it is charged. Where that is told is the operator's own; its snapshot is the one of the spec."""
    claims = (claim for each in reservations_of(store, offering) for claim in claims_of_reservation(each))
    return tuple(Grant(claim.id, claim.snapshot) for claim in claims if claim.begun)


def plan_offering(store: Store, offering: ModelOffering, grants: Sequence[Grant]) -> OfferingPlan:
    world = fleet_world(store, offering)
    claims = tuple(claim for each in reservations_of(store, offering.name) for claim in claims_of_reservation(each))
    fleets = snapshot_fleets(offering, world.instances)
    backing = plan_backing(claims, grants, fleets)
    return OfferingPlan(world, claims, fleets, backing, sizes(world, backing.sold, fleets))


def counts(order: Order, lot: Lot, plan: OfferingPlan | None) -> bool:
    """Whether it is charged already, or granted by the plan."""
    if lot.billing_start is not None or plan is None:
        return lot.billing_start is not None
    claim = claim_id(order.name, lot.purchased_at)
    return any(grant.claim == claim for grant in plan.backing.grants)
