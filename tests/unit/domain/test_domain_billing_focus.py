"""FOCUS 1.2 rows (behaviour.md M6, C10). The specification's own validator runs in `tests/focus`."""

from __future__ import annotations

from collections.abc import Sequence
from decimal import Decimal

import pytest

from reserved_capacity.domain.billing.charges import correction, plan_days
from reserved_capacity.domain.billing.contracts import Contract, Payment
from reserved_capacity.domain.billing.focus import COLUMNS, FocusCharge, Row, focus_rows
from reserved_capacity.domain.billing.intervals import DAY_MOMENTS
from reserved_capacity.domain.billing.invoices import monthly_invoice
from reserved_capacity.domain.billing.ledger import EntryKind, Transaction
from reserved_capacity.domain.billing.months import Month
from reserved_capacity.domain.terms import Term
from tests.unit.domain.contracts import contract, on, provisioned, seen

HISTORY = seen(("2024-02-08", "220.00", "2024-02-08T00:00:00"), ("2026-06-08", "200.00", "2026-06-01T00:00:00"))
PREPAID = contract(payment=Payment.ANNUAL_PREPAID)
SHOWN = (provisioned(200, "2026-06-04T00:00:00", "2026-06-06T00:00:00"),)
THIRDS = {"chat": 100 * DAY_MOMENTS, "fast": 7 * DAY_MOMENTS // 3}


def ledger(what: Contract) -> tuple[Transaction, ...]:
    return plan_days(what, HISTORY, posted_through=None, today=on("2030-01-01"), provisioned=SHOWN)


def rows_of(
    what: Contract, row: Transaction, held: dict[str, int] | None = None, month: Month | None = None
) -> tuple[Row, ...]:
    charge = FocusCharge(what, row, month or Month.of(row.day), Decimal("240.00"), "acme-USD", held or {})
    return focus_rows(charge, provider="Example")


def day(
    what: Contract, text: str, held: dict[str, int] | None = None, kind: EntryKind = EntryKind.CHARGE
) -> tuple[Row, ...]:
    (row,) = [row for row in ledger(what) if row.day == on(text) and row.kind is kind]
    return rows_of(what, row, held)


def pick(rows: Sequence[Row], *columns: str) -> list[tuple[str | None, ...]]:
    return [tuple(row[column] for column in columns) for row in rows]


def total(rows: Sequence[Row], column: str, **where: str) -> Decimal:
    chosen = [row for row in rows if all(row[name] == value for name, value in where.items())]
    return sum((Decimal(row[column] or 0) for row in chosen), Decimal(0))


def test_m6_a_days_charge_is_a_purchase_its_use_by_instance_and_the_rest_unused() -> None:
    rows = day(contract(), "2026-03-04", {"chat": 100 * DAY_MOMENTS, "fast": 50 * DAY_MOMENTS})
    assert pick(rows, "ChargeCategory", "CommitmentDiscountStatus", "ResourceId", "BilledCost", "EffectiveCost") == [
        ("Purchase", None, "po-1", "2169.86", "0.00"),
        ("Usage", "Used", "acme/chat", "0.00", "723.28"),
        ("Usage", "Used", "acme/fast", "0.00", "361.65"),
        ("Usage", "Unused", "po-1", "0.00", "1084.93"),
    ]
    assert pick(rows, "CommitmentDiscountQuantity", "ConsumedQuantity") == [
        ("7200", None), ("2400", "2400"), ("1200", "1200"), ("3600", None),
    ]  # fmt: skip


def test_c10_all_units_idle_are_unused_rows_and_charged() -> None:
    rows = day(contract(), "2026-03-04")
    assert pick(rows, "ChargeCategory", "CapacityReservationStatus", "EffectiveCost") == [
        ("Purchase", None, "0.00"),
        ("Usage", "Unused", "2169.86"),
    ]


def test_m6_a_day_in_full_use_has_no_unused_row() -> None:
    rows = day(contract(), "2026-03-04", {"chat": 300 * DAY_MOMENTS})
    assert pick(rows, "ChargeCategory", "CapacityReservationStatus") == [("Purchase", None), ("Usage", "Used")]


def test_m6_a_prepayment_is_one_purchase_for_the_term_and_its_days_are_usage_alone() -> None:
    (paid,) = day(PREPAID, "2026-03-02", kind=EntryKind.PREPAYMENT)
    assert pick([paid], "ChargeCategory", "ChargeFrequency", "BilledCost", "EffectiveCost", "PricingQuantity") == [
        ("Purchase", "One-Time", "792000.00", "0.00", "3600")
    ]
    assert (paid["ChargePeriodStart"], paid["ChargePeriodEnd"]) == ("2026-03-02T00:00:00Z", "2027-03-02T00:00:00Z")
    assert {row["ChargeCategory"] for row in day(PREPAID, "2026-03-04", THIRDS)} == {"Usage"}


@pytest.mark.parametrize("what", [contract(), PREPAID])
def test_focus_over_a_contract_what_was_used_or_not_is_what_was_bought_less_what_was_credited(what: Contract) -> None:
    rows = [row for each in ledger(what) for row in rows_of(what, each, THIRDS)]
    bought = total(rows, "BilledCost", ChargeCategory="Purchase")
    used = total(rows, "EffectiveCost", CommitmentDiscountStatus="Used")
    unused = total(rows, "EffectiveCost", CommitmentDiscountStatus="Unused")
    price_credit = sum(each.amount_minor for each in ledger(what) if each.kind is EntryKind.PRICE_CREDIT)
    assert used + unused == total(rows, "EffectiveCost", ChargeCategory="Usage") == bought + Decimal(price_credit) / 100
    assert total(rows, "EffectiveCost") == total(rows, "BilledCost")


@pytest.mark.parametrize("what", [contract(), PREPAID])
def test_focus_the_billed_cost_of_an_invoice_is_what_it_asks_for(what: Contract) -> None:
    month = Month(2026, 6)
    rows = [row for row in ledger(what) if row.day in month]
    invoice = monthly_invoice("acme", "USD", month, rows)
    assert invoice is not None
    billed = total([row for each in rows for row in rows_of(what, each, THIRDS)], "BilledCost")
    assert billed == Decimal(invoice.due_minor) / 100


@pytest.mark.parametrize("term", list(Term))
def test_focus_unit_prices_are_the_price_books_and_their_products_exact(term: Term) -> None:
    what = contract(term=term, compute_units=12_300, price="0.000999")
    row = plan_days(what, HISTORY, posted_through=None, today=on("2026-03-03"))[0]
    for each in rows_of(what, row, THIRDS):
        quantity = Decimal(each["PricingQuantity"] or "")
        assert Decimal(each["ListCost"] or "") == quantity * Decimal(each["ListUnitPrice"] or "")
        assert Decimal(each["ContractedCost"] or "") == quantity * Decimal(each["ContractedUnitPrice"] or "")
        assert (each["ListUnitPrice"], each["ContractedUnitPrice"]) == ("240.00", "0.000999")


def test_focus_quantities_of_a_day_are_those_of_its_purchase() -> None:
    for column in ("CommitmentDiscountQuantity", "PricingQuantity"):
        rows = day(contract(), "2026-03-04", THIRDS)
        parts = total(rows, column, ChargeCategory="Usage")
        assert abs(parts - total(rows, column, ChargeCategory="Purchase")) <= Decimal("0.000002")


def test_c4_a_shortfall_is_a_credit_with_an_effective_cost_and_m3_a_price_credit_has_none() -> None:
    (shortfall,) = day(contract(), "2026-06-04", kind=EntryKind.SHORTFALL)
    (price,) = day(PREPAID, "2026-06-08", kind=EntryKind.PRICE_CREDIT)
    assert pick([shortfall], "ChargeCategory", "BilledCost", "EffectiveCost") == [("Credit", "-723.29", "-723.29")]
    assert pick([price], "ChargeCategory", "EffectiveCost", "PricingQuantity") == [("Credit", "0.00", None)]
    assert (price["ListCost"], price["ContractedCost"]) == (price["BilledCost"], price["BilledCost"])


def test_m4_a_correction_is_an_adjustment_and_of_an_invoiced_month_of_class_correction() -> None:
    row = correction(contract(), on("2026-03-05"), -700, "node lent to another customer")
    (soon,), (late,) = rows_of(contract(), row), rows_of(contract(), row, month=Month(2026, 5))
    columns = ("ChargeCategory", "ChargeClass", "BilledCost", "BillingPeriodStart", "ChargePeriodStart")
    assert pick([soon, late], *columns) == [
        ("Adjustment", None, "-7.00", "2026-03-01T00:00:00Z", "2026-03-05T00:00:00Z"),
        ("Adjustment", "Correction", "-7.00", "2026-05-01T00:00:00Z", "2026-03-05T00:00:00Z"),
    ]
    assert late["ChargeDescription"] == "po-1: node lent to another customer"


def test_focus_every_row_has_every_column_and_a_status_only_where_something_is_used_or_not() -> None:
    for each in ledger(PREPAID)[:120]:
        for row in rows_of(PREPAID, each, THIRDS):
            assert tuple(row) == COLUMNS
            status = row["CapacityReservationStatus"]
            assert status == row["CommitmentDiscountStatus"]
            assert (status is not None) == (row["ChargeCategory"] == "Usage")


def test_m4_every_row_names_the_ledgers_row_and_its_pool() -> None:
    assert {(row["x_LedgerKey"], row["x_Pool"]) for row in day(contract(), "2026-03-04", THIRDS)} == {
        ("po-1/2026-03-04/Charge", "prod")
    }


def test_minor_units_are_those_of_the_currency() -> None:
    what = contract(currency="JPY", price="33000")
    row = plan_days(what, HISTORY, posted_through=None, today=on("2026-03-03"))[0]
    assert pick(rows_of(what, row), "BilledCost", "EffectiveCost", "BillingCurrency", "PricingCurrency") == [
        ("325479", "0", "JPY", "JPY"),
        ("0", "325479", "JPY", "JPY"),
    ]
