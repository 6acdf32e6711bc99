"""What an order would cost (behaviour.md M1, M2, M6; seed: Reserved Capacity)."""

from __future__ import annotations

from dataclasses import replace
from decimal import Decimal

import pytest

from reserved_capacity.domain.billing.charges import plan_days
from reserved_capacity.domain.billing.contracts import Payment
from reserved_capacity.domain.billing.estimate import Due, Order, estimate
from reserved_capacity.domain.billing.invoices import monthly_invoice
from reserved_capacity.domain.billing.months import Month
from reserved_capacity.domain.billing.pricing import PriceHistory
from reserved_capacity.domain.terms import Term
from tests.unit.domain.contracts import contract, on

YEAR = Order(600, Term.ONE_YEAR, Payment.MONTHLY, Decimal("220.00"), "USD")


def test_m2_the_seeds_example_costs_what_it_says() -> None:
    found = estimate(YEAR, on("2026-03-02"))
    assert (found.days, found.total_minor, found.per_day_minor) == (365, 158_400_000, 433_972)
    assert (found.first_day, found.last_day, found.end) == (on("2026-03-02"), on("2027-03-01"), on("2027-03-02"))
    assert found.renewal_deadline == on("2027-01-31")


@pytest.mark.parametrize("start", ["2026-03-02", "2024-02-29", "2027-12-31"])
@pytest.mark.parametrize("term", list(Term))
def test_m6_its_months_are_the_invoices_that_would_follow(start: str, term: Term) -> None:
    found = estimate(replace(YEAR, term=term, price=Decimal("333.33")), on(start))
    what = contract(start, compute_units=600, term=term, price="333.33")
    rows = plan_days(what, PriceHistory(), posted_through=None, today=on("2040-01-01"))
    for cost in found.months:
        invoice = monthly_invoice("acme", "USD", cost.month, [row for row in rows if row.day in cost.month])
        assert invoice is not None
        assert (invoice.due_minor, invoice.lines[0].days) == (cost.minor, cost.days)
    assert sum(cost.minor for cost in found.months) == found.total_minor
    assert sum(cost.days for cost in found.months) == term.days


def test_m6_monthly_is_asked_for_a_day_after_each_month() -> None:
    found = estimate(YEAR, on("2026-03-02"))
    assert found.dues[0] == Due(on("2026-04-02"), found.months[0].minor)
    assert (len(found.dues), found.months[-1].month) == (13, Month(2027, 3))


def test_m6_prepaid_is_asked_for_once_after_the_first_day() -> None:
    found = estimate(replace(YEAR, payment=Payment.ANNUAL_PREPAID), on("2026-03-02"))
    assert found.dues == (Due(on("2026-03-03"), 158_400_000),)


def test_minor_units_are_those_of_the_currency() -> None:
    assert estimate(replace(YEAR, currency="JPY", price=Decimal(33_000)), on("2026-03-02")).total_minor == 237_600_000
