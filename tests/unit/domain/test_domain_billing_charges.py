"""The daily close (behaviour.md M1, M2, M3, M5, M6, M9, C4, I5; seed: Reserved Capacity)."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from datetime import date, timedelta
from itertools import pairwise

import pytest

from reserved_capacity.domain.billing.charges import (
    charge_of,
    correction,
    cost_of,
    next_due,
    plan_days,
    shortfall_minor,
)
from reserved_capacity.domain.billing.contracts import Contract, Payment
from reserved_capacity.domain.billing.intervals import DAY_MOMENTS, Interval
from reserved_capacity.domain.billing.ledger import Book, EntryKind, Transaction
from reserved_capacity.domain.billing.pricing import PriceHistory
from reserved_capacity.domain.terms import Term, midnight_after
from tests.unit.domain.contracts import (
    balance,
    contract,
    held,
    on,
    provisioned,
    reduction,
    seen,
    total,
    utc,
)

LIST = ("2024-02-08", "220.00", "2024-02-08T00:00:00")
CUT = ("2026-06-08", "200.00", "2026-06-01T00:00:00")


def close(
    what: Contract,
    history: PriceHistory | None = None,
    *,
    after: str | None = None,
    today: str = "2030-01-01",
    shown: tuple[Interval, ...] = (),
) -> tuple[Transaction, ...]:
    return plan_days(
        what,
        history or seen(LIST),
        posted_through=on(after) if after else None,
        today=on(today),
        provisioned=shown,
    )


@pytest.mark.parametrize(("compute_units", "minor"), [(300, 79_200_000), (600, 158_400_000)])
def test_m2_the_seeds_year_is_365_charges_that_sum_to_the_contract(compute_units: int, minor: int) -> None:
    rows = close(contract(compute_units=compute_units))
    assert len(rows) == 365
    assert total(rows) == minor
    assert {row.kind for row in rows} == {EntryKind.CHARGE}
    assert max(row.amount_minor for row in rows) - min(row.amount_minor for row in rows) == 1


@pytest.mark.parametrize("start", ["2024-02-28", "2023-03-01", "2028-02-29", "2026-12-31", "2100-02-01"])
@pytest.mark.parametrize(("term", "months"), [(Term.ONE_YEAR, 12), (Term.THREE_MONTHS, 3)])
def test_m2_a_term_is_so_many_days_whatever_the_calendar_says(start: str, term: Term, months: int) -> None:
    rows = close(contract(start, term=term, price="333.33"), today="2110-01-01")
    assert [row.day for row in rows] == [on(start) + timedelta(days=number) for number in range(term.days)]
    assert total(rows) == 300 * 33_333 * months


@pytest.mark.parametrize(
    ("first_use", "first_day"),
    [
        ("2026-03-01T23:59:59", "2026-03-02"),
        ("2026-03-02T00:00:00", "2026-03-03"),
        ("2028-02-28T12:00:00", "2028-02-29"),
    ],
)
def test_m1_the_first_charge_is_for_the_utc_day_after_the_first_use(first_use: str, first_day: str) -> None:
    start = midnight_after(utc(first_use)).date()
    assert close(contract(str(start)))[0].day == on(first_day)


@pytest.fixture(params=["Pacific/Kiritimati", "Pacific/Pago_Pago", "America/New_York", "Asia/Kathmandu"])
def _zone(request: pytest.FixtureRequest) -> Iterator[None]:
    before = os.environ.get("TZ")
    os.environ["TZ"] = request.param
    time.tzset()
    yield
    os.environ.pop("TZ")
    if before is not None:
        os.environ["TZ"] = before
    time.tzset()


@pytest.mark.usefixtures("_zone")
def test_m1_the_zone_of_the_machine_does_not_matter() -> None:
    assert midnight_after(utc("2026-03-01T23:59:59")).date() == on("2026-03-02")
    rows = close(contract(payment=Payment.ANNUAL_PREPAID), seen(LIST, ("2026-06-08", "200.00", "2026-06-09T23:59:59")))
    assert (rows[0].day, len(rows)) == (on("2026-03-02"), 367)
    assert [row.day for row in rows if row.kind is EntryKind.PRICE_CREDIT] == [on("2026-06-10")]


def test_m2_the_row_of_a_day_is_due_when_the_day_is_over() -> None:
    assert close(contract(), today="2026-03-02") == ()
    assert [row.day for row in close(contract(), today="2026-03-03")] == [on("2026-03-02")]
    assert next_due(contract(), posted_through=None) == utc("2026-03-03T00:00:00")
    assert next_due(contract(), posted_through=on("2026-03-02")) == utc("2026-03-04T00:00:00")
    assert next_due(contract(), posted_through=on("2027-03-01")) is None
    assert next_due(contract(None), posted_through=None) is None


def test_m2_nothing_is_charged_before_the_start_is_known_or_after_the_end() -> None:
    assert close(contract(None)) == ()
    assert close(contract())[-1].day == on("2027-03-01")
    assert close(contract(), after="2027-03-01") == ()


def test_m5_after_forty_days_off_the_forty_missing_days_appear_and_are_the_same_rows() -> None:
    undisturbed = close(contract())
    before = close(contract(), today="2026-05-01")
    missed = close(contract(), after="2026-04-30", today="2026-06-10")
    assert len(missed) == 40
    assert (*before, *missed, *close(contract(), after="2026-06-09")) == undisturbed


def test_m5_a_clock_that_jumps_back_finds_nothing_to_post() -> None:
    assert close(contract(), after="2026-05-10", today="2026-05-10") == ()
    assert close(contract(), after="2026-05-10", today="2026-03-01") == ()


def test_m9_the_day_of_an_earlier_term_will_do_as_the_last_posted_one() -> None:
    assert close(contract("2027-03-02"), after="2027-03-01", today="2027-03-04")[0].day == on("2027-03-02")


def test_m4_keys_name_contract_day_and_kind_and_every_row_balances() -> None:
    rows = close(
        contract(payment=Payment.ANNUAL_PREPAID), seen(LIST, CUT), shown=(provisioned(0, "2026-03-05T00:00:00"),)
    )
    assert rows[1].key == "po-1/2026-03-02/Charge"
    assert len({row.key for row in rows}) == len(rows)
    assert all(row.balanced for row in rows)


def test_m3_after_a_cut_the_rest_of_the_term_is_charged_at_the_lower_price() -> None:
    rows = close(contract(), seen(LIST, CUT))
    assert [(row.day, row.price) for before, row in pairwise(rows) if before.price != row.price] == [
        (on("2026-06-08"), "200.00")
    ]
    # 98 days at 220.00 and 267 at 200.00, each with its own cumulative rounding.
    assert total(rows) == 79_200_000 * 98 // 365 + 72_000_000 - 72_000_000 * 98 // 365


def test_m6_a_prepaid_term_begins_with_one_prepayment_that_the_charges_draw_down() -> None:
    rows = close(contract(payment=Payment.ANNUAL_PREPAID))
    assert (rows[0].kind, rows[0].day, rows[0].amount_minor) == (EntryKind.PREPAYMENT, on("2026-03-02"), 79_200_000)
    assert (total(rows), balance(rows, Book.PREPAID)) == (79_200_000, 0)
    assert balance(rows, Book.RECEIVABLE) == 79_200_000
    assert balance(rows, Book.REVENUE) == -79_200_000


def test_m3_prepaid_a_cut_is_one_credit_of_the_differences_of_the_remaining_days() -> None:
    rows = close(contract(payment=Payment.ANNUAL_PREPAID), seen(LIST, CUT))
    (credit,) = [row for row in rows if row.kind is EntryKind.PRICE_CREDIT]
    at_old = [row.amount_minor for row in close(contract()) if row.day >= credit.day]
    at_new = [row.amount_minor for row in rows if row.kind is EntryKind.CHARGE and row.day >= credit.day]
    assert (credit.day, credit.amount_minor) == (on("2026-06-08"), sum(at_new) - sum(at_old))
    assert credit.note == "price from 220.00 to 200.00 for the remaining 267 of 365 days"
    assert balance(rows, Book.PREPAID) == 0


def test_m3_prepaid_a_cut_before_the_start_makes_the_prepayment_smaller() -> None:
    rows = close(contract(payment=Payment.ANNUAL_PREPAID), seen(LIST, ("2026-02-25", "200.00", "2026-02-21T00:00:00")))
    assert [row.amount_minor for row in rows if row.kind is not EntryKind.CHARGE] == [72_000_000]


def test_prepaid_a_reduction_to_nothing_gives_back_the_rest_and_ends_the_charges() -> None:
    ended = contract(payment=Payment.ANNUAL_PREPAID, reductions=(reduction("2026-06-01", 0, "2026-05-01T00:00:00"),))
    rows = close(ended)
    assert (rows[-1].kind, rows[-1].day) == (EntryKind.PRICE_CREDIT, on("2026-06-01"))
    assert rows[-1].note == "from 300 to 0 CU for the remaining 274 of 365 days"
    assert balance(rows, Book.PREPAID) == 0
    assert close(ended, after="2026-06-01") == ()


def test_a_reduction_and_a_cut_on_one_day_are_one_credit() -> None:
    both = contract(payment=Payment.ANNUAL_PREPAID, reductions=(reduction("2026-06-08", 200, "2026-05-01T00:00:00"),))
    credits_ = [row for row in close(both, seen(LIST, CUT)) if row.kind is EntryKind.PRICE_CREDIT]
    assert [row.note for row in credits_] == [
        "price from 220.00 to 200.00 and from 300 to 200 CU for the remaining 267 of 365 days"
    ]


def test_monthly_a_reduction_lowers_the_charges_from_its_day() -> None:
    rows = close(contract(reductions=(reduction("2026-06-01", 200, "2026-05-01T00:00:00"),)))
    assert {(row.compute_units, row.amount_minor // 100) for row in rows} == {(300, 2169), (200, 1446)}


def test_t4_a_price_of_nothing_is_reported_day_by_day_and_prepaid_by_no_row() -> None:
    rows = close(contract(price="0.00", payment=Payment.ANNUAL_PREPAID))
    assert len(rows) == 365
    assert (total(rows), {row.kind for row in rows}) == (0, {EntryKind.CHARGE})


@pytest.mark.parametrize(("currency", "price", "minor"), [("JPY", "33000", 118_800_000), ("KWD", "67.00", 241_200_000)])
def test_minor_units_are_those_of_the_currency(currency: str, price: str, minor: int) -> None:
    assert total(close(contract(currency=currency, price=price))) == minor


def test_m2_a_price_finer_than_a_cent_is_rounded_by_the_days_alone() -> None:
    rows = close(contract(compute_units=100, price="0.000999"))
    assert total(rows) == 100 * 12 * 999 // 10_000


# ----------------------------------------------------------------------------------------------------------- shortfall


def credits_of(*shown: Interval, what: Contract | None = None, today: str = "2026-03-10") -> dict[str, int]:
    rows = close(what or contract(), shown=shown, today=today)
    return {str(row.day): row.amount_minor for row in rows if row.kind is EntryKind.SHORTFALL}


def test_c4_a_day_with_a_third_missing_gives_back_a_third_rounded_up() -> None:
    full, less = provisioned(300, "2026-02-25T00:00:00", "2026-03-04T00:00:00"), provisioned(200, "2026-03-04T00:00:00")
    assert credits_of(full, less, today="2026-03-06") == {
        "2026-03-04": -72_329,
        "2026-03-05": -72_329,
    }


def test_c4_a_credit_counts_seconds_and_a_single_one_gives_back_a_minor_unit() -> None:
    before, gap, after = (
        provisioned(300, "2026-03-01T00:00:00", "2026-03-04T10:00:00"),
        provisioned(200, "2026-03-04T10:00:00", "2026-03-04T10:00:01"),
        provisioned(300, "2026-03-04T10:00:01"),
    )
    assert credits_of(before, gap, after) == {"2026-03-04": -1}


def test_c4_a_credit_spans_midnight_day_by_day() -> None:
    before, after = (
        provisioned(300, "2026-03-01T00:00:00", "2026-03-04T18:00:00"),
        provisioned(300, "2026-03-05T06:00:00"),
    )
    found = credits_of(before, provisioned(0, "2026-03-04T18:00:00", "2026-03-05T06:00:00"), after)
    assert found == {"2026-03-04": -54_247, "2026-03-05": -54_247}


def test_c4_nothing_provisioned_gives_back_the_charge_and_never_more() -> None:
    assert credits_of(provisioned(0, "2026-03-04T00:00:00", "2026-03-05T00:00:00")) == {"2026-03-04": -216_986}
    assert shortfall_minor(5, 300, 400 * DAY_MOMENTS) == 5
    assert shortfall_minor(0, 300, 300 * DAY_MOMENTS) == 0


def test_m9_a_day_on_which_nobody_saw_the_pool_has_no_shortfall() -> None:
    assert credits_of() == {}
    assert credits_of(provisioned(300, "2026-03-02T00:00:00", "2026-03-04T00:00:00")) == {}


def test_m9_on_the_day_on_which_a_pool_goes_or_comes_back_nothing_is_taken_for_missing() -> None:
    """It comes back with nothing, and has its CU a moment later."""
    before, back = provisioned(300, "2026-03-01T00:00:00", "2026-03-04T10:00:00"), "2026-03-06T12:00:00"
    waits = provisioned(0, back, "2026-03-06T12:00:03")
    assert credits_of(before, waits, provisioned(300, "2026-03-06T12:00:03")) == {}
    assert credits_of(before, provisioned(0, back), today="2026-03-08") == {"2026-03-07": -216_986}


def test_c4_what_is_contracted_after_a_reduction_is_what_can_be_missing() -> None:
    reduced = contract(reductions=(reduction("2026-03-05", 200, "2026-03-01T00:00:00"),))
    assert credits_of(provisioned(200, "2026-03-04T00:00:00"), what=reduced) == {"2026-03-04": -72_329}


def test_c4_intervals_of_others_and_of_holdings_do_not_count() -> None:
    assert credits_of(provisioned(0, "2026-03-04T00:00:00", commitment="po-2"), held(0, "2026-03-04T00:00:00")) == {}


def test_c4_a_prepaid_shortfall_is_owed_to_the_customer_and_leaves_the_drawdown_alone() -> None:
    rows = close(
        contract(payment=Payment.ANNUAL_PREPAID), shown=(provisioned(0, "2026-03-04T00:00:00", "2026-03-05T00:00:00"),)
    )
    assert balance(rows, Book.PREPAID) == 0
    assert balance(rows, Book.RECEIVABLE) == 79_200_000 - 216_986
    assert balance(rows, Book.CREDITS) == 216_986


# ---------------------------------------------------------------------------------------------------------- the others


@pytest.mark.parametrize("day", ["2026-03-02", "2026-06-07", "2026-06-08", "2027-03-01"])
def test_what_a_day_costs_can_be_asked_before_it_is_posted(day: str) -> None:
    history = seen(LIST, CUT)
    posted = {row.day: row.amount_minor for row in close(contract(), history)}
    assert charge_of(contract(), history, on(day)) == posted[on(day)]


@pytest.mark.parametrize(
    ("first", "end"),
    [
        ("2026-01-01", "2028-01-01"),
        ("2026-06-01", "2026-06-30"),
        ("2026-06-08", "2026-06-09"),
        ("2027-03-01", "2027-03-02"),
    ],
)
def test_what_some_days_cost_is_the_sum_of_their_charges(first: str, end: str) -> None:
    ended = contract(reductions=(reduction("2027-01-01", 0, "2026-05-01T00:00:00"),))
    for what in (contract(), ended):
        rows = close(what, seen(LIST, CUT))
        assert cost_of(what, seen(LIST, CUT), on(first), on(end)) == sum(
            row.amount_minor for row in rows if on(first) <= row.day < on(end)
        )
    assert cost_of(contract(None), seen(LIST), on(first), on(end)) == 0


@pytest.mark.parametrize("day", ["2026-03-01", "2027-03-02"])
def test_a_day_outside_the_term_costs_nothing(day: str) -> None:
    assert charge_of(contract(), seen(LIST), on(day)) == 0
    assert charge_of(contract(None), seen(LIST), on(day)) == 0


@pytest.mark.parametrize(("amount", "book"), [(-500, Book.CREDITS), (500, Book.REVENUE)])
def test_m4_a_correction_is_a_row_of_its_own_that_changes_what_is_owed(amount: int, book: Book) -> None:
    row = correction(contract(), on("2026-04-01"), amount, "agreed by phone")
    assert (row.key, row.balanced) == ("po-1/2026-04-01/Correction", True)
    assert balance((row,), Book.RECEIVABLE) == amount == -balance((row,), book)


def test_a_lasting_interval_gives_back_nothing_for_days_that_are_posted() -> None:
    rows = close(contract(), after="2027-02-28", today="2027-03-02", shown=(provisioned(200, "2026-03-02T00:00:00"),))
    assert [(row.day, row.kind) for row in rows] == [
        (date(2027, 3, 1), EntryKind.CHARGE),
        (date(2027, 3, 1), EntryKind.SHORTFALL),
    ]
