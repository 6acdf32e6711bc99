"""What a lot costs day by day (behaviour.md T1, M2, M3, M5, M8)."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime, timedelta
from decimal import Decimal

from reserved_capacity.domain.billing.audit import Flaw
from reserved_capacity.domain.tokens.charges import audit_lot, plan_lot_days
from reserved_capacity.domain.tokens.lots import Lot
from reserved_capacity.domain.tokens.prices import UnitPrice, UnitPrices, price_on
from tests.unit.domain.lots import INPUT, at, bought, day, ordered, wish

NONE = UnitPrices()


def seen(price: str, effective_from: str, seen_at: datetime) -> UnitPrice:
    return UnitPrice("usd", "gpt-4.1", INPUT, day(effective_from), Decimal(price), seen_at)


def input_lot(units: int = 3) -> Lot:
    return bought(units, 0)[0]


def test_t1_three_input_and_four_output_units_of_gpt_41_are_474_usd_a_day() -> None:
    rows = [row for lot in bought(3, 4) for row in plan_lot_days(lot, NONE, posted_through=None, today=day("03-03"))]
    assert [row.amount_minor for row in rows] == [33_000, 14_400]
    assert [(row.token_units, row.price, row.compute_units) for row in rows] == [(3, "110.00", 0), (4, "36.00", 0)]
    assert all(row.balanced and row.is_of_lot for row in rows)


def test_t1_bought_on_march_1_and_removed_it_is_charged_from_march_2_to_31() -> None:
    lots, _ = ordered(wish(0, 0), bought(3, 4), at("03-15T10:00:00"))
    for lot in lots:
        days = [row.day for row in plan_lot_days(lot, NONE, posted_through=None, today=day("05-01"))]
        assert (days[0], days[-1], len(days)) == (day("03-02"), day("03-31"), 30)


def test_m5_days_that_are_closed_late_or_in_parts_are_the_same_rows() -> None:
    lot = input_lot()
    whole = plan_lot_days(lot, NONE, posted_through=None, today=day("04-20"))
    parts = [
        row
        for number in range(60)
        for row in plan_lot_days(
            lot,
            NONE,
            posted_through=day("03-01") + timedelta(days=number) if number else None,
            today=min(day("03-03") + timedelta(days=number), day("04-20")),
        )
    ]
    assert tuple(parts) == whole


def test_a_lot_that_was_never_backed_costs_nothing() -> None:
    assert plan_lot_days(ordered(wish(3))[0][0], NONE, posted_through=None, today=day("06-01")) == ()


def test_m2_a_price_finer_than_a_cent_loses_nothing_over_the_days() -> None:
    lot = replace(input_lot(1), ordered_price=Decimal("0.3333"))
    amounts = [row.amount_minor for row in plan_lot_days(lot, NONE, posted_through=None, today=day("03-31"))]
    assert sum(amounts) == 29 * 3333 // 100
    assert set(amounts) == {33, 34}


def test_m3_an_increase_changes_nothing_in_the_period_and_counts_for_the_next() -> None:
    prices = UnitPrices([seen("150.00", "03-10", at("03-05T10:00:00"))])
    lot = input_lot()
    assert {price_on(lot, prices, day(text)) for text in ("03-02", "03-10", "03-31")} == {Decimal("110.00")}
    assert price_on(lot, prices, day("04-01")) == Decimal("150.00")


def test_m3_a_decrease_counts_from_the_midnight_after_it_was_seen_and_a_later_increase_does_not_take_it_back() -> None:
    prices = UnitPrices([seen("100.00", "03-05", at("03-09T10:00:00")), seen("140.00", "03-12", at("03-11T10:00:00"))])
    lot = input_lot()
    got = [price_on(lot, prices, day(text)) for text in ("03-09", "03-10", "03-12", "03-31", "04-01")]
    assert got == [Decimal(text) for text in ("110.00", "100.00", "100.00", "100.00", "140.00")]


def test_m3_a_price_of_another_book_offering_or_direction_is_none_of_a_lots() -> None:
    low = seen("1.00", "03-05", at("03-02T10:00:00"))
    others = UnitPrices([replace(low, price_book="eur"), replace(low, offering="o3"), replace(low, direction="Output")])  # type: ignore[arg-type]
    assert price_on(input_lot(), others, day("03-20")) == Decimal("110.00")


def test_i5_an_audit_finds_a_day_that_is_missing_and_an_amount_that_is_wrong() -> None:
    lot = input_lot()
    rows = plan_lot_days(lot, NONE, posted_through=None, today=day("03-06"))
    assert audit_lot(lot, NONE, rows, through=day("03-05")) == ()
    assert [each.flaw for each in audit_lot(lot, NONE, rows[1:], through=day("03-05"))] == [Flaw.MISSING]
    wrong = [replace(rows[0], token_units=2), *rows[1:]]
    assert [each.flaw for each in audit_lot(lot, NONE, wrong, through=day("03-05"))] == [Flaw.CONTENT]
    assert audit_lot(lot, NONE, rows[2:], through=day("03-05"), since=day("03-04")) == ()
