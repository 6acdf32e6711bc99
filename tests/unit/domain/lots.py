"""Lots as tests need them: GPT-4.1 at the prices of the seed, bought at 2026-03-01T10:00Z."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import UTC, date, datetime
from decimal import Decimal

from reserved_capacity.domain.tokens.lots import Direction, Lot, ReservationName, billing_start
from reserved_capacity.domain.tokens.orders import Buyer, OrderPlan, UnitTerms, plan_orders

INPUT, OUTPUT = Direction.INPUT, Direction.OUTPUT
BOUGHT = datetime(2026, 3, 1, 10, 0, tzinfo=UTC)
NAME = ReservationName("acme", "gpt-41")
BUYER = Buyer("acme", NAME, "gpt-4.1", "usd", "USD", 30)
TERMS = {INPUT: UnitTerms(30_000, Decimal("110.00")), OUTPUT: UnitTerms(2_500, Decimal("36.00"))}


def at(text: str) -> datetime:
    """`03-31T23:59:59` of 2026, UTC."""
    return datetime.fromisoformat(f"2026-{text}").replace(tzinfo=UTC)


def day(text: str) -> date:
    return date.fromisoformat(f"2026-{text}")


def wish(input_units: int, output_units: int = 0) -> dict[Direction, int]:
    return {INPUT: input_units, OUTPUT: output_units}


def ordered(
    wanted: Mapping[Direction, int], known: Sequence[Lot] = (), now: datetime = BOUGHT
) -> tuple[tuple[Lot, ...], OrderPlan]:
    """All lots as they stand after an order, and its plan."""
    plan = plan_orders(wanted, known, BUYER, TERMS, now)
    cut = {lot.id: lot for lot in plan.cut}
    return (*(cut.get(lot.id, lot) for lot in known), *plan.bought), plan


def begun(lots: Sequence[Lot], now: datetime = BOUGHT) -> tuple[Lot, ...]:
    """The same, backed and published at a moment; what had begun before, or was given back, stays."""
    return tuple(
        lot if lot.billing_start or not lot.final_units else replace(lot, billing_start=billing_start(now))
        for lot in lots
    )


def bought(input_units: int = 3, output_units: int = 4) -> tuple[Lot, ...]:
    return begun(ordered(wish(input_units, output_units))[0])
