"""Monthly invoices and the ones for prepayments (behaviour.md M6, T4)."""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import date, timedelta

import pytest

from reserved_capacity.domain.billing.charges import correction, plan_days
from reserved_capacity.domain.billing.contracts import Contract, Payment
from reserved_capacity.domain.billing.intervals import Interval
from reserved_capacity.domain.billing.invoice_document import document_of
from reserved_capacity.domain.billing.invoices import (
    Invoice,
    InvoiceKind,
    InvoiceLine,
    closes_at,
    monthly_invoice,
    months_to_close,
    prepayment_invoice,
)
from reserved_capacity.domain.billing.ledger import EntryKind, Transaction
from reserved_capacity.domain.billing.months import Month, months_between
from reserved_capacity.domain.billing.pricing import PriceHistory
from reserved_capacity.domain.terms import Term
from tests.unit.domain.contracts import contract, on, provisioned, seen, utc

MARCH, JUNE = Month(2026, 3), Month(2026, 6)
LIST = ("2024-02-08", "220.00", "2024-02-08T00:00:00")
CUT = ("2026-06-08", "200.00", "2026-06-01T00:00:00")


def rows_of(
    month: Month, *contracts: Contract, history: PriceHistory | None = None, shown: tuple[Interval, ...] = ()
) -> list[Transaction]:
    return [
        row
        for each in contracts or (contract(),)
        for row in plan_days(each, history or seen(LIST), posted_through=None, today=month.end, provisioned=shown)
        if row.day in month
    ]


def invoice(month: Month, rows: list[Transaction]) -> Invoice:
    found = monthly_invoice("acme", "USD", month, rows)
    assert found is not None
    return found


def test_m6_an_invoice_has_one_line_a_contract_with_days_units_price_and_amount() -> None:
    found = invoice(MARCH, rows_of(MARCH))
    assert (found.number, found.kind, found.issued_at) == (
        "acme-USD-2026-03",
        InvoiceKind.MONTHLY,
        utc("2026-04-02T00:00:00"),
    )
    assert found.lines == (
        InvoiceLine(
            "po-1", EntryKind.CHARGE, on("2026-03-02"), on("2026-03-31"), 30, 300, "220.00", 79_200_000 * 30 // 365
        ),
    )
    assert found.due_minor == found.charges_minor == 79_200_000 * 30 // 365


def test_m6_a_price_change_makes_two_lines() -> None:
    lines = invoice(JUNE, rows_of(JUNE, history=seen(LIST, CUT))).lines
    assert [(str(line.first_day), str(line.last_day), line.days, line.price) for line in lines] == [
        ("2026-06-01", "2026-06-07", 7, "220.00"),
        ("2026-06-08", "2026-06-30", 23, "200.00"),
    ]


def test_m6_contracts_of_an_account_are_on_one_invoice_in_their_order() -> None:
    rows = rows_of(MARCH, contract(id_="po-2", compute_units=100), contract(id_="po-1"))
    assert [line.contract for line in invoice(MARCH, rows).lines] == ["po-1", "po-2"]


def test_c4_shortfall_credits_are_one_line_and_lower_what_is_due() -> None:
    shown = (provisioned(200, "2026-03-04T00:00:00", "2026-03-06T00:00:00"),)
    found = invoice(MARCH, rows_of(MARCH, shown=shown))
    credit = found.lines[1]
    assert (credit.kind, credit.days, credit.amount_minor) == (EntryKind.SHORTFALL, 2, -2 * 72_329)
    assert found.credits_minor == -2 * 72_329
    assert found.due_minor == found.charges_minor + found.credits_minor


def test_m6_a_prepaid_month_shows_its_charges_and_asks_for_nothing() -> None:
    prepaid = contract(payment=Payment.ANNUAL_PREPAID)
    rows = rows_of(MARCH, prepaid)
    found, first = invoice(MARCH, rows), prepayment_invoice(rows[0])
    assert (found.charges_minor, found.drawn_minor, found.due_minor) == (6_509_589, 6_509_589, 0)
    assert found.lines[0].drawn_minor == found.lines[0].amount_minor
    assert (first.number, first.kind, first.issued_at) == (
        "acme-po-1-2026-03-02",
        InvoiceKind.PREPAYMENT,
        utc("2026-03-03T00:00:00"),
    )
    assert first.due_minor == first.prepayment_minor == 79_200_000
    assert [line.kind for line in first.lines] == [EntryKind.PREPAYMENT]


def test_m3_a_price_credit_of_a_prepaid_contract_is_due_to_the_customer_with_its_reason() -> None:
    rows = rows_of(JUNE, contract(payment=Payment.ANNUAL_PREPAID), history=seen(LIST, CUT))
    found = invoice(JUNE, rows)
    assert found.due_minor == found.credits_minor < 0
    assert found.lines[-1].note == "price from 220.00 to 200.00 for the remaining 267 of 365 days"


def test_m4_every_correction_is_a_line_with_its_note() -> None:
    rows = [
        *rows_of(MARCH),
        correction(contract(), on("2026-03-05"), -700, "node lent to another customer"),
        correction(contract(), on("2026-03-06"), 300, "credit of 03-04 was too high"),
    ]
    found = invoice(MARCH, rows)
    assert [(line.amount_minor, line.note) for line in found.lines[1:]] == [
        (-700, "node lent to another customer"),
        (300, "credit of 03-04 was too high"),
    ]
    assert found.due_minor == found.charges_minor - 700


def test_t4_what_costs_nothing_is_never_invoiced() -> None:
    free = contract(price="0.00", id_="fleet")
    assert monthly_invoice("acme", "USD", MARCH, rows_of(MARCH, free)) is None
    assert [line.contract for line in invoice(MARCH, rows_of(MARCH, free, contract())).lines] == ["po-1"]


def test_a_day_that_rounds_to_nothing_at_a_price_is_a_day_on_the_invoice() -> None:
    rows = rows_of(MARCH, contract(compute_units=100, price="0.01", currency="JPY"))
    assert {row.amount_minor for row in rows} == {0}
    assert [line.days for line in invoice(MARCH, rows).lines] == [30]


def test_m6_the_same_rows_in_another_order_are_the_same_invoice() -> None:
    shown = (provisioned(200, "2026-06-04T00:00:00", "2026-06-12T00:00:00"),)
    rows = rows_of(JUNE, contract(), contract(id_="po-2"), history=seen(LIST, CUT), shown=shown)
    assert invoice(JUNE, rows) == invoice(JUNE, rows[::-1])


# ------------------------------------------------------------------------------------------------------- which months


def test_m6_a_row_that_was_found_after_its_month_was_closed_is_a_line_of_its_own() -> None:
    april = MARCH.following
    lines = invoice(april, [*rows_of(april), rows_of(MARCH)[-1]]).lines
    assert [(line.days, line.earlier) for line in lines] == [(1, True), (30, False)]


def test_m6_a_month_closes_a_day_after_its_end() -> None:
    assert closes_at(Month(2026, 12)) == utc("2027-01-02T00:00:00")
    before, at = utc("2026-04-01T23:59:59"), utc("2026-04-02T00:00:00")
    assert months_to_close(on("2026-03-15"), None, before) == ()
    assert months_to_close(on("2026-03-15"), None, at) == (MARCH,)
    assert months_to_close(on("2026-03-15"), MARCH, at) == ()
    assert months_to_close(None, None, at) == ()


def test_m5_after_months_off_every_month_is_closed_in_order() -> None:
    found = months_to_close(on("2025-11-30"), Month(2025, 11), utc("2026-03-30T00:00:00"))
    assert [str(month) for month in found] == ["2025-12", "2026-01", "2026-02"]


def test_an_invoice_of_two_contracts_and_terms_sums_to_their_rows() -> None:
    month = Month(2026, 5)
    short = contract("2026-02-10", term=Term.THREE_MONTHS, price="260.00", id_="po-2")
    rows = rows_of(month, contract(), short, replace(short, number=2, billing_start=on("2026-05-11")))
    assert invoice(month, rows).due_minor == sum(row.amount_minor for row in rows)


def test_m6_an_invoice_is_kept_and_sent_as_a_json_object_with_decimal_strings() -> None:
    shown = (provisioned(200, "2026-03-04T00:00:00", "2026-03-06T00:00:00"),)
    found = document_of(invoice(MARCH, rows_of(MARCH, shown=shown)))
    assert json.loads(json.dumps(found)) == found
    assert {name: value for name, value in found.items() if name != "lines"} == {
        "number": "acme-USD-2026-03",
        "kind": "Monthly",
        "account": "acme",
        "currency": "USD",
        "month": "2026-03",
        "issuedAt": "2026-04-02T00:00:00Z",
        "charges": "65095.89",
        "prepayment": "0.00",
        "credits": "-1446.58",
        "drawnDown": "0.00",
        "due": "63649.31",
    }
    assert found["lines"][1] == {
        "commitment": "po-1",
        "kind": "Shortfall",
        "firstDay": "2026-03-04",
        "lastDay": "2026-03-05",
        "days": 2,
        "computeUnits": 300,
        "price": "220.00",
        "amount": "-1446.58",
        "drawnDown": "0.00",
        "earlier": False,
        "note": "",
    }


# ------------------------------------------------------------------------------------------------------------ months


@pytest.mark.parametrize(("text", "days"), [("2024-02", 29), ("2026-02", 28), ("2026-12", 31), ("2100-02", 28)])
def test_a_month_has_its_days(text: str, days: int) -> None:
    month = Month.parse(text)
    assert (month.end - month.start, str(month)) == (timedelta(days=days), text)
    assert date(month.year, month.number, days) in month
    assert month.end not in month


@pytest.mark.parametrize("text", ["2026-13", "2026-3", "26-03", "2026-03-01", "2026-00", ""])
def test_what_is_no_month_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="is not a month"):
        Month.parse(text)


def test_months_are_counted_from_the_first_day_to_before_the_last() -> None:
    assert [str(month) for month in months_between(on("2026-11-30"), on("2027-01-02"))] == [
        "2026-11",
        "2026-12",
        "2027-01",
    ]
    assert list(months_between(on("2026-11-01"), on("2026-11-01"))) == []
