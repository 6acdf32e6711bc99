"""What a forecast says of reservations of token units: entitlement, price, dates, and whether a fleet carries it. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace
from datetime import date, datetime, timedelta

from reserved_capacity.domain.billing.money import floor_minor, format_minor, format_price
from reserved_capacity.domain.conditions import ConditionValue
from reserved_capacity.domain.reasons.base import ConditionStatus
from reserved_capacity.domain.tokens.backing import NO_FLEET
from reserved_capacity.domain.tokens.entitlement import TokenRate, entitlement_of, total
from reserved_capacity.domain.tokens.limits import base_of
from reserved_capacity.domain.tokens.lots import Direction, Lot, day_of, units_of
from reserved_capacity.domain.tokens.orders import kept_units
from reserved_capacity.domain.tokens.token_conditions import capacity_backed, tokens_accepted
from reserved_capacity.ports import MODEL_INSTANCES, Ref
from reserved_capacity.snapshot.fleet import PoolRoom, fleet_report
from reserved_capacity.snapshot.forecast_values import (
    Change,
    DayPrice,
    FleetForecast,
    Purchase,
    Reduction,
    ReservationForecast,
    Units,
)
from reserved_capacity.snapshot.paper import Paper, Place
from reserved_capacity.snapshot.paper_units import OfferingPlan, Order, counts
from reserved_capacity.snapshot.tokens import base_rates


def reservation_forecasts(paper: Paper, pools: Mapping[Place, Units]) -> tuple[ReservationForecast, ...]:
    """`pools`: as they are when all has been carried out."""
    limits = _Limits(paper)
    return tuple(_forecast(paper, order, pools, limits) for _, order in sorted(paper.orders.items()))


class _Limits:
    """What the accounts' limits are made up of: one pool of units for an account and offering."""

    def __init__(self, paper: Paper) -> None:
        self._added: dict[tuple[str, str], list[tuple[TokenRate, TokenRate]]] = {}
        for order in paper.orders.values():
            self._added.setdefault(_buyer(order), []).append(_rates(order, _plan(paper, order)))

    def of(self, order: Order) -> tuple[TokenRate, TokenRate]:
        offering = order.market.offering
        base = base_of(base_rates(offering), order.reservation.spec.account) if offering is not None else TokenRate()
        rates = self._added[_buyer(order)]
        return base + total(before for before, _ in rates), base + total(after for _, after in rates)


def _buyer(order: Order) -> tuple[str, str]:
    return (order.reservation.spec.offering, order.reservation.spec.account)


def _plan(paper: Paper, order: Order) -> OfferingPlan | None:
    return paper.offerings.get(order.reservation.spec.offering)


def _rates(order: Order, plan: OfferingPlan | None) -> tuple[TokenRate, TokenRate]:
    """What its lots entitle to now, and from the next midnight on."""
    now = order.tomorrow - timedelta(days=1)
    before = entitlement_of((lot for lot in order.before if lot.billing_start is not None), now)
    return before, entitlement_of((lot for lot in order.lots if counts(order, lot, plan)), order.tomorrow)


def _forecast(paper: Paper, order: Order, pools: Mapping[Place, Units], limits: _Limits) -> ReservationForecast:
    spec, plan = order.reservation.spec, _plan(paper, order)
    today, (before, after) = day_of(paper.now), _rates(order, plan)
    limit_before, limit_after = limits.of(order)
    accepted = tokens_accepted(order.refusal, kept_units(order.lots, paper.now))
    backed, fleet = _fleet(paper, order, plan, pools)
    taken = accepted.status is ConditionStatus.TRUE

    def units(direction: Direction) -> Change:
        return Change(units_of(order.before, direction, today), units_of(order.lots, direction, order.tomorrow))

    return ReservationForecast(
        namespace=order.name.namespace,
        name=order.name.name,
        account=spec.account,
        offering=spec.offering,
        snapshot=spec.snapshot,
        input_units=units(Direction.INPUT),
        output_units=units(Direction.OUTPUT),
        input_tokens_per_minute=Change(before.input_tpm, after.input_tpm),
        output_tokens_per_minute=Change(before.output_tpm, after.output_tpm),
        input_limit=Change(limit_before.input_tpm, limit_after.input_tpm),
        output_limit=Change(limit_before.output_tpm, limit_after.output_tpm),
        per_day=_day_price(order, plan),
        purchases=tuple(_purchase(order, lot, plan) for lot in order.bought),
        reductions=tuple(_reductions(order, paper.now)),
        fleet=fleet,
        reason=backed.reason,
        message=backed.message if taken else accepted.message,
        refused=None if taken else accepted.reason,
        ok=taken and backed.status is ConditionStatus.TRUE,
    )


def _fleet(
    paper: Paper, order: Order, plan: OfferingPlan | None, pools: Mapping[Place, Units]
) -> tuple[ConditionValue, FleetForecast | None]:
    own = [claim for claim in plan.claims if claim.reservation == order.name] if plan is not None else []
    if plan is None or not own:
        return capacity_backed(None, carried=True, started=False), None
    snapshot, world = order.reservation.spec.snapshot, plan.world
    place = (world.place.namespace, world.place.name) if world.place is not None else ("", "")
    pool, fleet = pools.get(place, Units()), plan.fleets.get(snapshot)
    room = PoolRoom(pool.idle, pool.allocated + pool.idle)
    report = fleet_report(world, snapshot, plan.backing.sold.get(snapshot, TokenRate()), fleet, room)
    started = any(plan.backing.snapshot_of(claim) is not None for claim in own)
    backed = capacity_backed(report, carried=all(plan.backing.carries(claim) for claim in own), started=started)
    live = paper.read.get(Ref(MODEL_INSTANCES, place[0], report.instance.rpartition("/")[2]))
    return backed, FleetForecast(
        instance=report.instance,
        pool=report.pool,
        instances=Change(live["spec"]["instances"] if live is not None else 0, plan.wanted.get(snapshot, 0)),
        need_compute_units=report.need_cu,
        have_compute_units=report.have_cu,
        own_compute_units=(fleet or NO_FLEET).share(total(claim.rate for claim in own), world.cu_per_instance),
    )


def _day_price(order: Order, plan: OfferingPlan | None) -> DayPrice:
    currency = order.market.book.spec.currency if order.market.book is not None else ""
    now = order.tomorrow - timedelta(days=1)
    before = sum(
        floor_minor(lot.ordered_price, lot.units_on(now), currency)
        for lot in order.before
        if lot.billing_start is not None
    )
    after = sum(
        floor_minor(lot.ordered_price, lot.units_on(order.tomorrow), currency)
        for lot in order.lots
        if counts(order, lot, plan)
    )
    return DayPrice(currency, format_minor(before, currency), format_minor(after, currency))


def _purchase(order: Order, lot: Lot, plan: OfferingPlan | None) -> Purchase:
    first = order.tomorrow if counts(order, lot, plan) else None
    return Purchase(
        direction=lot.direction.value,
        units=lot.units,
        tokens_per_minute=lot.units * lot.unit_tpm,
        price_per_unit_day=format_price(lot.ordered_price, lot.currency),
        per_day=format_minor(floor_minor(lot.ordered_price, lot.units, lot.currency), lot.currency),
        minimum_days=lot.minimum_days,
        first_day=first,
        removable_from=replace(lot, billing_start=first).removable_from,
    )


def _reductions(order: Order, now: datetime) -> Iterator[Reduction]:
    """By direction and day; the lots of `before` have no cuts, so those of `lots` are what the spec asks for."""
    found: dict[tuple[str, date], list[Lot]] = {}
    for lot in order.lots:
        if lot.cuts:
            found.setdefault((lot.direction.value, lot.cuts[-1].at), []).append(lot)
    for (direction, at), lots in sorted(found.items()):
        units = sum(lot.units - lot.final_units for lot in lots)
        yield Reduction(direction, units, at, refused=any(not lot.is_removable(now) for lot in lots))
