"""Whatever is ordered in whatever order: lots keep their minimum term, and posted days stay as they were (T1, T2, M5)."""

from __future__ import annotations

from datetime import timedelta

from hypothesis import given
from hypothesis import strategies as st

from reserved_capacity.domain.terms import start_of
from reserved_capacity.domain.tokens.charges import plan_lot_days
from reserved_capacity.domain.tokens.lots import Direction, Lot, units_of
from reserved_capacity.domain.tokens.orders import kept_units, plan_end
from reserved_capacity.domain.tokens.prices import UnitPrices
from tests.unit.domain.lots import BOUGHT, begun, ordered, wish

STEPS = st.lists(
    st.tuples(
        st.integers(0, 40 * 24),
        st.integers(0, 5),
        st.integers(0, 3),
        st.booleans(),
    ),
    min_size=1,
    max_size=8,
)
"""(hours since the step before, input units, output units, whether what waits is backed then)."""


@given(STEPS)
def test_t2_no_unit_is_lost_inside_its_minimum_term_and_what_is_wanted_comes_in_the_end(
    steps: list[tuple[int, int, int, bool]],
) -> None:
    lots: tuple[Lot, ...] = ()
    now = BOUGHT
    for hours, more_in, more_out, backed in steps:
        now += timedelta(hours=hours)
        lots, _ = ordered(wish(more_in, more_out), lots, now)
        lots = begun(lots, now) if backed else lots
        # The same order again changes nothing.
        again, plan = ordered(wish(more_in, more_out), lots, now)
        assert (again, plan.cut, plan.bought) == (lots, (), ())
        for direction, wanted in wish(more_in, more_out).items():
            assert sum(lot.final_units for lot in lots if lot.direction is direction) == wanted
        for kept in kept_units(lots, now):
            assert start_of(kept.until) > now
    for lot in lots:
        start, end = lot.billing_start, lot.removable_from
        if start is None or end is None:
            continue
        assert all(lot.units_on(start + timedelta(days=n)) == lot.units_on(start) for n in range((end - start).days))
        days = [lot.units_on(start + timedelta(days=n)) for n in range(400)]
        assert days == sorted(days, reverse=True)


@given(STEPS)
def test_m5_a_day_that_was_posted_is_never_another_one_in_hindsight(steps: list[tuple[int, int, int, bool]]) -> None:
    lots: tuple[Lot, ...] = ()
    now = BOUGHT
    posted: dict[str, object] = {}
    for hours, more_in, more_out, backed in steps:
        now += timedelta(hours=hours)
        for lot in lots:
            for row in plan_lot_days(lot, UnitPrices(), posted_through=None, today=now.date()):
                assert posted.setdefault(row.key, row) == row
        lots, _ = ordered(wish(more_in, more_out), lots, now)
        lots = begun(lots, now) if backed else lots
    rows = {row.key for lot in lots for row in plan_lot_days(lot, UnitPrices(), posted_through=None, today=now.date())}
    assert set(posted) <= rows


@given(STEPS, st.integers(0, 3000))
def test_t2_a_reservation_that_is_gone_ends_and_no_lot_before_its_time(
    steps: list[tuple[int, int, int, bool]], hours: int
) -> None:
    lots: tuple[Lot, ...] = ()
    now = BOUGHT
    for gap, more_in, more_out, backed in steps:
        now += timedelta(hours=gap)
        lots, _ = ordered(wish(more_in, more_out), lots, now)
        lots = begun(lots, now) if backed else lots
    now += timedelta(hours=hours)
    ended = {lot.id: lot for lot in plan_end(lots, now)}
    lots = tuple(ended.get(lot.id, lot) for lot in lots)
    for lot in lots:
        assert lot.ends_on is not None
        assert lot.removable_from is None or lot.id not in ended or lot.ends_on >= lot.removable_from
    last = max(lot.ends_on for lot in lots if lot.ends_on) if lots else now.date()
    assert all(units_of(lots, direction, last) == 0 for direction in Direction)
