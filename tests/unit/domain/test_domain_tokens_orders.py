"""Lots that are bought, kept for their minimum term and removed (behaviour.md T1, T2)."""

from __future__ import annotations

from reserved_capacity.domain.tokens.entitlement import TokenRate, entitlement_of
from reserved_capacity.domain.tokens.lots import ReservationName, lot_id, units_of
from reserved_capacity.domain.tokens.orders import Kept, kept_units, next_change, plan_end
from tests.unit.domain.lots import BOUGHT, INPUT, OUTPUT, at, begun, bought, day, ordered, wish


def test_t1_three_input_and_four_output_units_of_gpt_41_entitle_to_90000_and_10000_tokens_a_minute() -> None:
    lots = bought(3, 4)
    assert entitlement_of(lots, day("03-02")) == TokenRate(90_000, 10_000)
    assert [(lot.direction, lot.units, lot.removable_from) for lot in lots] == [
        (INPUT, 3, day("04-01")),
        (OUTPUT, 4, day("04-01")),
    ]


def test_t1_input_and_output_units_are_bought_separately() -> None:
    lots, plan = ordered(wish(3, 4))
    assert [lot.direction for lot in plan.bought] == [INPUT, OUTPUT]
    _, more_output = ordered(wish(3, 5), begun(lots), at("03-10T00:00:00"))
    assert [(lot.direction, lot.units, lot.number) for lot in more_output.bought] == [(OUTPUT, 1, 2)]
    assert not more_output.cut


def test_t2_a_reduction_inside_the_thirty_days_keeps_the_units_and_names_the_date() -> None:
    now = at("03-31T23:59:59")
    lots, _ = ordered(wish(1, 4), bought(3, 4), now)
    assert entitlement_of(lots, day("03-31")) == TokenRate(90_000, 10_000)
    assert kept_units(lots, now) == (Kept(INPUT, 2, day("04-01")),)
    assert next_change(lots, now) == day("04-01")


def test_t2_a_reduction_that_waited_is_done_at_the_end_of_the_minimum_term() -> None:
    lots, _ = ordered(wish(1, 4), bought(3, 4), at("03-20T12:00:00"))
    assert kept_units(lots, at("04-01T00:00:00")) == ()
    assert entitlement_of(lots, day("04-01")) == TokenRate(30_000, 10_000)
    again, plan = ordered(wish(1, 4), lots, at("04-01T00:00:00"))
    assert (again, plan.cut, plan.bought) == (lots, (), ())


def test_t2_a_reduction_after_the_thirty_days_takes_effect_at_the_next_utc_midnight() -> None:
    lots, _ = ordered(wish(1, 4), bought(3, 4), at("04-05T09:00:00"))
    assert kept_units(lots, at("04-05T09:00:00")) == ()
    assert units_of(lots, INPUT, day("04-05")) == 3
    assert units_of(lots, INPUT, day("04-06")) == 1


def test_t2_a_reduction_takes_the_oldest_removable_lots_first() -> None:
    old = bought(2, 0)
    lots, _ = ordered(wish(5), old, at("03-15T10:00:00"))
    lots = begun(lots, at("03-15T10:00:00"))
    lots, plan = ordered(wish(4), lots, at("04-02T10:00:00"))
    assert [(lot.number, lot.final_units) for lot in plan.cut] == [(1, 1)]
    assert kept_units(lots, at("04-02T10:00:00")) == ()


def test_t2_a_reduction_is_done_whole_or_not_at_all() -> None:
    """Two of the four units are removable: none goes before all four are."""
    lots, _ = ordered(wish(4), bought(2, 0), at("03-15T10:00:00"))
    lots = begun(lots, at("03-15T10:00:00"))
    now = at("04-02T10:00:00")
    lots, _ = ordered(wish(1), lots, now)
    assert units_of(lots, INPUT, day("04-14")) == 4
    assert units_of(lots, INPUT, day("04-15")) == 1
    assert kept_units(lots, now)[0].until == day("04-15")


def test_t2_units_that_are_put_back_before_the_date_are_kept_and_nothing_is_bought() -> None:
    lots, _ = ordered(wish(1, 4), bought(3, 4), at("03-20T12:00:00"))
    lots, plan = ordered(wish(3, 4), lots, at("03-25T12:00:00"))
    assert not plan.bought
    assert entitlement_of(lots, day("04-02")) == TokenRate(90_000, 10_000)
    assert kept_units(lots, at("03-25T12:00:00")) == ()


def test_t2_of_two_reductions_one_is_put_back_and_the_other_stays() -> None:
    lots, _ = ordered(wish(4), bought(2, 0), at("03-10T10:00:00"))
    lots = begun(lots, at("03-10T10:00:00"))
    lots, _ = ordered(wish(3), lots, at("03-12T10:00:00"))
    lots, _ = ordered(wish(1), lots, at("03-12T11:00:00"))
    lots, _ = ordered(wish(3), lots, at("03-12T12:00:00"))
    assert [units_of(lots, INPUT, day(text)) for text in ("03-31", "04-01", "04-09", "04-10")] == [4, 3, 3, 3]


def test_t2_what_was_never_backed_is_given_back_at_once() -> None:
    lots, _ = ordered(wish(5), bought(2, 0), at("03-15T10:00:00"))
    lots, plan = ordered(wish(2), lots, at("03-16T10:00:00"))
    assert units_of(lots, INPUT, day("03-16")) == 2
    assert [lot.number for lot in plan.cut] == [2]
    assert kept_units(lots, at("03-16T10:00:00")) == ()


def test_t2_a_lost_reservation_ends_with_its_minimum_term_and_a_deleted_one_at_the_next_midnight() -> None:
    assert {lot.ends_on for lot in plan_end(bought(), at("03-10T10:00:00"))} == {day("04-01")}
    assert {lot.ends_on for lot in plan_end(bought(), at("04-01T00:00:00"))} == {day("04-02")}
    assert {lot.ends_on for lot in plan_end(ordered(wish(1))[0], BOUGHT)} == {day("03-01")}


def test_t2_a_reservation_that_comes_back_continues_its_lots() -> None:
    ended = plan_end(bought(), at("03-10T10:00:00"))
    lots, plan = ordered(wish(3, 4), ended, at("03-12T10:00:00"))
    assert not plan.bought
    assert {lot.ends_on for lot in lots} == {None}


def test_t1_without_a_price_nothing_is_bought_of_that_direction() -> None:
    from reserved_capacity.domain.tokens.orders import plan_orders
    from tests.unit.domain.lots import BUYER, TERMS

    plan = plan_orders(wish(3, 4), (), BUYER, {OUTPUT: TERMS[OUTPUT]}, BOUGHT)
    assert plan.unpriced == (INPUT,)
    assert [lot.direction for lot in plan.bought] == [OUTPUT]


def test_a_lot_has_an_id_that_no_order_reference_can_have() -> None:
    found = lot_id(ReservationName("acme", "n" * 60), INPUT, 1)
    assert found.startswith("lot:")
    assert len(found) <= 63
    assert found != lot_id(ReservationName("other", "n" * 60), INPUT, 1)
