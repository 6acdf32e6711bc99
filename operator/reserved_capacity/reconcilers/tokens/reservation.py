"""Tells the books what a reservation orders, and the reservation what it has (T1, T2; ADR 0040).

The books keep the lots; the status shows them. A lot is charged from the day after it first counted: after its claim was
read back from the published limits. Without the books nothing is bought or ended, and what counts goes on counting.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime

from reserved_capacity.api.pricebook import PriceBook
from reserved_capacity.api.tokenunitreservation import TokenUnitReservation
from reserved_capacity.domain.billing.billing_conditions import BillingState, late_at
from reserved_capacity.domain.reasons.tokens import TokensAccepted
from reserved_capacity.domain.terms import midnight_after
from reserved_capacity.domain.tokens.lots import Lot, ReservationName, billing_start, day_of
from reserved_capacity.domain.tokens.orders import plan_end, plan_orders
from reserved_capacity.domain.tokens.prices import UnitPrice, UnitPrices
from reserved_capacity.domain.tokens.token_conditions import TokenRefusal
from reserved_capacity.ledger_ports import LedgerError
from reserved_capacity.ports import TOKEN_UNIT_RESERVATIONS, Ref
from reserved_capacity.queue import Key
from reserved_capacity.reconcilers.billing.board import CLOSE, DELIVERY, Billing
from reserved_capacity.reconcilers.billing.reading import billing_state
from reserved_capacity.reconcilers.context import LIMITS, Context
from reserved_capacity.reconcilers.pinned import tell_notice
from reserved_capacity.reconcilers.tokens.audit import forget, read_lots
from reserved_capacity.reconcilers.tokens.reservation_report import ReservationReport, next_moment, status_of
from reserved_capacity.snapshot.market import Market, market_of, unpriced, wanted_units
from reserved_capacity.snapshot.tokens import claim_id, parse_reservation

LONGEST_BOOKS_FAILURE = 200
MOST_LOTS = 400
"""Of one reservation at a time; its status has room for 500."""


async def reconcile(context: Context, billing: Billing, key: Key) -> datetime | None:
    """Returns when something changes by itself."""
    ref, now = Ref(TOKEN_UNIT_RESERVATIONS, key.namespace, key.name), context.clock.now()
    observed, reservation = context.store.get(ref), parse_reservation(context.store, key.namespace, key.name)
    if observed is None or reservation is None:
        forget(billing, ReservationName(key.namespace, key.name))
        await _end(context, billing, ReservationName(key.namespace, key.name), now)
        return None
    market = market_of(context.store, reservation, day_of(now))
    try:
        report = await _agree(context, billing, reservation, market, now)
    except LedgerError as error:
        status = _without_books(context, billing, reservation, market, str(error)[:LONGEST_BOOKS_FAILURE])
        if status is not None:
            await context.publish(ref, observed, status_of(status, now))
        raise
    if report.finding is None and market.offering is not None and market.offering.spec.token_units is not None:
        # Nothing is said before the offering was planned, or a restart would show every reservation without its limits.
        context.enqueue(Key(LIMITS, "", reservation.spec.offering))
        if reservation.status.observed_generation:
            return None
    await context.publish(ref, observed, status_of(report, now))
    notice = await tell_notice(context, observed, report.pinned)
    moments = (midnight_after(now), late_at(report.state, now=now), next_moment(report, now), notice)
    return min(at for at in moments if at is not None)


async def _end(context: Context, billing: Billing, name: ReservationName, now: datetime) -> None:
    """Its object is gone: every lot ends at the next midnight, or with its minimum term where the object was lost."""
    known = await billing.ledger.lots(reservation=name)
    ended = plan_end(known, now)
    if ended:
        await billing.ledger.register_lots(ended)
        context.enqueue(Key(CLOSE, "", ""))


async def _agree(
    context: Context, billing: Billing, reservation: TokenUnitReservation, market: Market, now: datetime
) -> ReservationReport:
    ledger, spec = billing.ledger, reservation.spec
    name = ReservationName(reservation.namespace, reservation.name)
    known = await ledger.lots(reservation=name)
    if market.book is not None:
        await ledger.record_unit_prices(_sightings(market.book, spec.offering, _not_before(known, now)))
    prices = UnitPrices(await ledger.unit_prices(spec.price_book_ref))
    refusal = market.refusal
    if refusal is None and sum(not lot.is_over(day_of(now)) for lot in known) >= MOST_LOTS:
        refusal = TokenRefusal(
            TokensAccepted.NOT_SUPPORTED_YET,
            f"spec.units: {MOST_LOTS} lots are running, and one reservation has no more; make another reservation",
        )
    plan = plan_orders(
        wanted_units(reservation),
        known,
        market.buyer(reservation),
        market.terms if refusal is None else {},
        now.astimezone(UTC).replace(microsecond=0),
    )
    lots = {lot.id: lot for lot in known if lot.account == spec.account}
    changed = (*plan.bought, *plan.cut)
    if changed:
        lots |= {lot.id: lot for lot in await ledger.register_lots(changed)}
    if plan.unpriced and refusal is None:
        refusal = unpriced(spec.price_book_ref, spec.offering, plan.unpriced)
    finding = context.limits.of(spec.offering, reservation.namespace, reservation.name)
    counting = finding.counting if finding is not None else frozenset()
    began = _begun(tuple(lots.values()), name, counting, now)
    if began:
        lots |= {lot.id: lot for lot in await ledger.register_lots(began)}
    reading = await read_lots(billing, name, await ledger.posted_lots(sorted(lots)), now)
    if reading.awaits_close:
        context.enqueue(Key(CLOSE, "", ""))
    if reading.released:
        context.enqueue(Key(DELIVERY, "", spec.account))
    return ReservationReport(
        reservation=reservation,
        offering=market.offering,
        lots=tuple(sorted(lots.values(), key=lambda lot: lot.order)),
        prices=prices,
        finding=finding,
        refusal=refusal,
        state=await billing_state(billing, spec.account, reading.due),
        findings=reading.findings,
        usage=context.usage.of(reservation.namespace, reservation.name),
    )


def _begun(lots: Sequence[Lot], name: ReservationName, counting: frozenset[str], now: datetime) -> tuple[Lot, ...]:
    """Lots that count for the first time: charged from the next midnight on (T1)."""
    return tuple(
        replace(lot, billing_start=billing_start(now))
        for lot in lots
        if lot.billing_start is None and lot.units_on(day_of(now)) and claim_id(name, lot.purchased_at) in counting
    )


def _without_books(
    context: Context,
    billing: Billing,
    reservation: TokenUnitReservation,
    market: Market,
    failure: str,
) -> ReservationReport | None:
    """The lots as they stand in the status, and why they are not newer; None before anything stands there."""
    finding = context.limits.of(reservation.spec.offering, reservation.namespace, reservation.name)
    if not reservation.status.observed_generation or finding is None:
        return None
    return ReservationReport(
        reservation=reservation,
        offering=market.offering,
        lots=None,
        prices=UnitPrices(),
        finding=finding,
        refusal=market.refusal,
        state=BillingState(billing.sink_name, books_failure=failure),
        usage=context.usage.of(reservation.namespace, reservation.name),
    )


def _sightings(book: PriceBook, offering: str, now: datetime) -> list[UnitPrice]:
    return [
        UnitPrice(book.name, each.offering, each.direction, each.effective_from, each.price_per_unit_day, now)
        for each in book.spec.token_units
        if each.offering == offering
    ]


def _not_before(known: Sequence[Lot], now: datetime) -> datetime:
    """`now`, but for a clock that has jumped back behind a purchase: nothing was seen before that."""
    return max([now, *(lot.purchased_at for lot in known)])
