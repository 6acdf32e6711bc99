"""Price protection, reductions, renewal (behaviour.md M3, M8; seed: Reserved Capacity)."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta, timezone
from decimal import Decimal

import pytest

from reserved_capacity.domain.billing.contracts import Contract
from reserved_capacity.domain.billing.pricing import (
    PriceHistory,
    Rate,
    charged_until,
    compute_units_on,
    price_on,
    rate_on,
    rates,
    renewed,
)
from reserved_capacity.domain.terms import Term
from tests.unit.domain.contracts import contract, on, reduction, seen, sighting, utc

LIST = ("2024-02-08", "220.00", "2024-02-08T00:00:00")


def steps(what: Contract, history: PriceHistory) -> list[tuple[str, int, str]]:
    return [(str(rate.since), rate.compute_units, str(rate.price)) for rate in rates(what, history)]


def test_m3_without_another_list_price_the_ordered_one_holds_for_the_whole_term() -> None:
    assert steps(contract(), seen(LIST)) == [("2026-03-02", 300, "220.00")]


def test_m3_an_increase_changes_nothing() -> None:
    history = seen(LIST, ("2026-06-01", "300.00", "2026-05-01T12:00:00"))
    assert steps(contract(), history) == [("2026-03-02", 300, "220.00")]


def test_m3_a_decrease_that_was_announced_holds_from_its_date() -> None:
    history = seen(LIST, ("2026-06-01", "200.00", "2026-05-01T12:00:00"))
    assert steps(contract(), history) == [("2026-03-02", 300, "220.00"), ("2026-06-01", 300, "200.00")]


@pytest.mark.parametrize(
    ("seen_at", "from_day"),
    [
        ("2026-06-10T00:00:00", "2026-06-11"),
        ("2026-06-10T23:59:59", "2026-06-11"),
        ("2026-06-11T00:00:00", "2026-06-12"),
        ("2028-02-28T23:59:59", "2028-02-29"),
    ],
)
def test_m3_a_decrease_that_is_seen_late_holds_from_the_first_midnight_after(seen_at: str, from_day: str) -> None:
    history = seen(LIST, ("2026-06-01", "200.00", seen_at))
    assert price_on(contract(), history, on(from_day)) == Decimal("200.00")
    assert price_on(contract(), history, on(from_day) - timedelta(days=1)) == Decimal("220.00")


def test_m3_a_later_increase_does_not_take_a_decrease_back() -> None:
    history = seen(
        LIST,
        ("2026-05-01", "200.00", "2026-04-01T00:00:00"),
        ("2026-06-01", "210.00", "2026-04-01T00:00:00"),
        ("2026-07-01", "190.00", "2026-04-01T00:00:00"),
        ("2026-08-01", "400.00", "2026-04-01T00:00:00"),
    )
    assert [step[::2] for step in steps(contract(), history)] == [
        ("2026-03-02", "220.00"),
        ("2026-05-01", "200.00"),
        ("2026-07-01", "190.00"),
    ]


def test_m3_a_cut_between_order_and_start_is_the_price_of_the_first_day() -> None:
    history = seen(LIST, ("2026-02-25", "200.00", "2026-02-21T00:00:00"))
    assert steps(contract(), history) == [("2026-03-02", 300, "200.00")]


def test_m3_a_lower_price_from_before_the_order_does_not_count() -> None:
    history = seen(("2023-01-01", "100.00", "2023-01-01T00:00:00"), LIST)
    assert steps(contract(), history) == [("2026-03-02", 300, "220.00")]


def test_m3_a_cut_on_the_day_of_acceptance_entered_after_it_lowers_the_contract() -> None:
    history = seen(LIST, ("2026-02-20", "200.00", "2026-02-20T18:00:00"))
    assert steps(contract("2026-02-21"), history) == [("2026-02-21", 300, "200.00")]
    assert price_on(contract(None), history, on("2026-02-20")) == Decimal("220.00")


def test_m3_an_entry_dated_back_behind_a_newer_one_never_was_the_list_price() -> None:
    history = seen(LIST, ("2024-01-01", "100.00", "2026-05-01T00:00:00"))
    assert steps(contract(), history) == [("2026-03-02", 300, "220.00")]


def test_m3_a_lower_price_stays_when_another_backdated_entry_is_seen_after_it() -> None:
    first = sighting("2026-02-10", "200.00", "2026-04-01T12:00:00")
    then = sighting("2026-02-15", "210.00", "2026-05-01T12:00:00")
    early, late = PriceHistory([first]), PriceHistory([first, then])
    assert (
        steps(contract(), early)
        == steps(contract(), late)
        == [
            ("2026-03-02", 300, "220.00"),
            ("2026-04-02", 300, "200.00"),
        ]
    )


def test_m3_prices_of_another_term_or_book_do_not_count() -> None:
    cut = sighting("2026-05-01", "100.00", "2026-04-01T00:00:00")
    history = PriceHistory([replace(cut, term=Term.THREE_MONTHS), replace(cut, price_book="eur")])
    assert steps(contract(), history) == [("2026-03-02", 300, "220.00")]


def test_m3_the_utc_day_counts_in_whatever_zone_a_moment_is_written() -> None:
    cut = sighting("2026-06-01", "200.00", "2026-06-10T23:30:00")
    for hours in (-12, -1, 0, 5, 14):
        moved = replace(cut, seen_at=cut.seen_at.astimezone(timezone(timedelta(hours=hours))))
        assert steps(contract(), PriceHistory([moved]))[1][0] == "2026-06-11"


def test_a_reduction_holds_from_the_later_of_its_day_and_the_midnight_after_it_was_seen() -> None:
    reduced = contract(reductions=(reduction("2026-06-01", 200, "2026-05-01T00:00:00"),))
    assert steps(reduced, seen(LIST)) == [("2026-03-02", 300, "220.00"), ("2026-06-01", 200, "220.00")]
    late = contract(reductions=(reduction("2026-06-01", 200, "2026-06-09T08:00:00"),))
    assert [compute_units_on(late, on(day)) for day in ("2026-06-09", "2026-06-10")] == [300, 200]


def test_a_reduction_to_nothing_ends_the_charges() -> None:
    ended = contract(reductions=(reduction("2026-06-01", 0, "2026-05-01T00:00:00"),))
    assert steps(ended, seen(LIST)) == [("2026-03-02", 300, "220.00"), ("2026-06-01", 0, "220.00")]
    assert charged_until(ended) == on("2026-06-01")
    assert renewed(ended, seen(LIST)) is None


def test_charges_run_to_the_end_of_the_term_otherwise() -> None:
    assert charged_until(contract()) == on("2027-03-02")
    assert charged_until(contract(None)) is None
    assert rates(contract(None), seen(LIST)) == ()
    assert rate_on(rates(contract(), seen(LIST)), on("2026-03-01")) is None


def test_m8_a_renewal_follows_without_a_gap_at_the_list_price_of_its_first_day() -> None:
    history = seen(
        LIST, ("2026-06-01", "200.00", "2026-05-01T00:00:00"), ("2027-03-02", "230.00", "2027-01-01T00:00:00")
    )
    following = renewed(contract(), history)
    assert following is not None
    assert (following.number, following.billing_start, following.end) == (2, on("2027-03-02"), on("2028-03-01"))
    assert (following.ordered_price, following.compute_units) == (Decimal("230.00"), 300)
    assert following.accepted_at == utc("2027-03-02T00:00:00")


def test_m8_a_renewal_may_have_another_term_at_the_list_price_of_that_term() -> None:
    history = PriceHistory([sighting(*LIST), sighting("2024-02-08", "260.00", LIST[2], term=Term.THREE_MONTHS)])
    following = renewed(contract(), history, term=Term.THREE_MONTHS)
    assert following is not None
    assert (following.end, following.ordered_price) == (on("2027-05-31"), Decimal("260.00"))


def test_m8_a_renewal_has_the_compute_units_that_are_left_and_the_reductions_that_are_to_come() -> None:
    now, then = reduction("2026-06-01", 200, "2026-05-01T00:00:00"), reduction("2027-06-01", 100, "2026-05-01T00:00:00")
    following = renewed(contract(reductions=(now, then)), seen(LIST))
    assert following is not None
    assert following.compute_units == 200
    assert rates(following, seen(LIST)) == (
        Rate(on("2027-03-02"), 200, Decimal("220.00")),
        Rate(on("2027-06-01"), 100, Decimal("220.00")),
    )


def test_m8_a_reduction_that_leaves_more_than_there_is_gives_nothing_back() -> None:
    before, then = (
        reduction("2026-06-01", 100, "2026-05-01T00:00:00"),
        reduction("2027-06-01", 200, "2026-05-01T00:00:00"),
    )
    second = renewed(contract(reductions=(before, then)), seen(LIST))
    assert second is not None
    assert (second.compute_units, compute_units_on(second, on("2027-07-01"))) == (100, 100)
    third = renewed(second, seen(LIST))
    assert third is not None
    assert third.compute_units == 100


def test_m8_what_is_entered_after_the_renewal_raises_nothing_also_with_an_older_date() -> None:
    history = seen(LIST, ("2027-03-01", "400.00", "2027-03-05T00:00:00"))
    following = renewed(contract(), history)
    assert following is not None
    assert following.ordered_price == Decimal("220.00")


def test_m5_a_renewal_is_the_same_whenever_it_is_computed() -> None:
    early = seen(LIST)
    late = seen(LIST, ("2027-03-02", "180.00", "2027-03-02T07:00:00"), ("2027-05-01", "150.00", "2027-04-01T00:00:00"))
    assert renewed(contract(), early) == renewed(contract(), late)
    following = renewed(contract(), late)
    assert following is not None
    assert [str(rate.price) for rate in rates(following, late)] == ["220.00", "180.00", "150.00"]
