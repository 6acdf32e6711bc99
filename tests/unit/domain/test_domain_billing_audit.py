"""The self-audit of a commitment's books (behaviour.md I5)."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta

import pytest

from reserved_capacity.domain.billing.audit import AuditedBooks, Finding, Flaw, audit
from reserved_capacity.domain.billing.charges import correction, plan_days
from reserved_capacity.domain.billing.contracts import Payment
from reserved_capacity.domain.billing.ledger import Book, EntryKind, Posting, Transaction
from reserved_capacity.domain.billing.pricing import renewed
from tests.unit.domain.contracts import contract, on, provisioned, seen

PREPAID = contract(payment=Payment.ANNUAL_PREPAID)
HISTORY = seen(("2024-02-08", "220.00", "2024-02-08T00:00:00"), ("2026-06-08", "200.00", "2026-06-01T00:00:00"))
SHOWN = (provisioned(200, "2026-03-04T00:00:00", "2026-03-05T00:00:00"),)
END = on("2027-03-02")
ROWS = plan_days(PREPAID, HISTORY, posted_through=None, today=END, provisioned=SHOWN)
CHARGE = "po-1/2026-04-01/Charge"


def findings(rows: tuple[Transaction, ...], *, through: str = "2027-03-01", since: str | None = None) -> list[Finding]:
    books = AuditedBooks([PREPAID], HISTORY, rows, SHOWN, on(since) if since else None)
    return list(audit(books, through=on(through)))


def flaws(rows: tuple[Transaction, ...], **more: str) -> list[tuple[str, Flaw]]:
    return [(finding.key, finding.flaw) for finding in findings(rows, **more)]


def changed(key: str, change: Callable[[Transaction], Transaction]) -> tuple[Transaction, ...]:
    assert any(row.key == key for row in ROWS)
    return tuple(change(row) if row.key == key else row for row in ROWS)


def test_i5_right_books_have_no_findings_at_any_time() -> None:
    assert flaws(ROWS) == []
    half = tuple(row for row in ROWS if row.day < on("2026-10-01"))
    assert flaws(half, through="2026-09-30") == []


def test_i5_a_day_that_is_due_and_missing_is_found_by_the_key_that_it_would_have() -> None:
    rows = tuple(row for row in ROWS if row.key != CHARGE)
    (found, left) = findings(rows)
    assert (found.key, found.flaw) == (CHARGE, Flaw.MISSING)
    assert found.message == "Charge of 2169.86 USD is due and does not stand in the books"
    assert left.flaw is Flaw.PREPAID_LEFT


@pytest.mark.parametrize("kind", [EntryKind.PREPAYMENT, EntryKind.PRICE_CREDIT, EntryKind.SHORTFALL])
def test_i5_a_missing_credit_or_prepayment_is_found(kind: EntryKind) -> None:
    (lost,) = [row for row in ROWS if row.kind is kind]
    assert (lost.key, Flaw.MISSING) in flaws(tuple(row for row in ROWS if row is not lost))


def test_i5_days_that_are_not_due_may_be_missing_and_may_stand_there() -> None:
    early = tuple(row for row in ROWS if row.day < on("2026-05-01"))
    assert flaws(early, through="2026-04-20") == []
    gap = tuple(row for row in early if row.key != "po-1/2026-04-25/Charge")
    assert flaws(gap, through="2026-04-20") == []


def test_i5_two_rows_under_one_key_are_found() -> None:
    again = next(row for row in ROWS if row.key == CHARGE)
    assert (CHARGE, Flaw.TWICE) in flaws((*ROWS, again))


def test_i5_a_row_that_does_not_balance_is_found() -> None:
    rows = changed(CHARGE, lambda row: replace(row, postings=(Posting(Book.PREPAID, 1), row.postings[1])))
    assert (CHARGE, Flaw.UNBALANCED) in flaws(rows)


def test_i5_another_amount_is_found_and_told_with_the_right_one() -> None:
    rows = changed(CHARGE, lambda row: replace(row, amount_minor=row.amount_minor + 1))
    (found,) = findings(rows)
    assert found == Finding(CHARGE, Flaw.AMOUNT, "2169.87 USD stands, the contract gives 2169.86 USD")


@pytest.mark.parametrize(
    ("change", "word"),
    [
        (lambda row: replace(row, account="other"), "account"),
        (lambda row: replace(row, price="219.99"), "price"),
        (lambda row: replace(row, compute_units=200), "compute units"),
        (lambda row: replace(row, currency="EUR"), "currency"),
        (
            lambda row: replace(row, postings=(replace(row.postings[0], book=Book.RECEIVABLE), row.postings[1])),
            "postings",
        ),
    ],
)
def test_i5_a_right_amount_in_a_wrong_row_is_found(change: Callable[[Transaction], Transaction], word: str) -> None:
    found = next(finding for finding in findings(changed(CHARGE, change)) if finding.key == CHARGE)
    assert (found.flaw, found.message) == (Flaw.CONTENT, f"{word} differ from what the contract gives")


def test_i5_whether_a_side_of_nothing_is_written_down_says_nothing() -> None:
    free = contract(price="0.00")
    rows = [replace(row, postings=()) for row in plan_days(free, HISTORY, posted_through=None, today=END)]
    assert audit(AuditedBooks([free], HISTORY, rows), through=on("2027-03-01")) == ()


@pytest.mark.parametrize("day", ["2026-03-01", "2027-03-02"])
def test_i5_a_charge_outside_the_term_is_found(day: str) -> None:
    stray = replace(ROWS[1], day=on(day))
    assert (f"po-1/{day}/Charge", Flaw.UNEXPECTED) in flaws((*ROWS, stray))


def test_m4_a_correction_is_a_persons_own_and_only_has_to_balance() -> None:
    row = correction(PREPAID, on("2026-04-01"), -100, "agreed")
    assert flaws((*ROWS, row)) == []
    assert flaws((*ROWS, replace(row, postings=row.postings[:1]))) == [(row.key, Flaw.UNBALANCED)]


def test_i5_what_is_left_of_a_prepayment_after_the_end_is_found() -> None:
    stray = replace(
        correction(PREPAID, on("2026-04-01"), 100, "wrong book"),
        postings=(Posting(Book.PREPAID, -100), Posting(Book.REVENUE, 100)),
    )
    (found,) = findings((*ROWS, stray))
    assert (found.key, found.flaw) == ("po-1/2027-03-01/Charge", Flaw.PREPAID_LEFT)
    assert found.message == "1.00 USD paid in advance are left after the end"


def test_m8_all_terms_of_a_commitment_are_one_audit() -> None:
    following = renewed(PREPAID, HISTORY)
    assert following is not None
    rows = (*ROWS, *plan_days(following, HISTORY, posted_through=None, today=on("2027-05-01")))
    books = AuditedBooks([PREPAID, following], HISTORY, rows, SHOWN)
    assert audit(books, through=on("2027-04-30")) == ()
    assert audit(replace(books, rows=rows[:-1]), through=on("2027-04-30"))[0].key == "po-1/2027-04-30/Charge"


def test_the_rows_from_a_day_on_can_be_audited_alone() -> None:
    since = on("2026-06-01")
    late = tuple(row for row in ROWS if row.day >= since)
    assert flaws(late, since="2026-06-01") == []
    cut = tuple(row for row in late if row.kind is not EntryKind.PRICE_CREDIT)
    assert flaws(cut, since="2026-06-01") == [("po-1/2026-06-08/PriceCredit", Flaw.MISSING)]
    assert flaws(late[1:], since="2026-06-01") == [(f"po-1/{since.isoformat()}/Charge", Flaw.MISSING)]
    assert flaws(late[1:], since=str(since + timedelta(days=1))) == []
