"""The self-audit of a commitment's books: does every row stand there that must, and nothing else? (I5, LedgerBalanced)

The rows are worked out anew from the contract and compared with those that stand. Corrections are a person's own, and only
have to balance.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import date, timedelta
from enum import StrEnum

from reserved_capacity.domain.billing.charges import PLANNED, plan_days
from reserved_capacity.domain.billing.contracts import Contract
from reserved_capacity.domain.billing.intervals import Interval
from reserved_capacity.domain.billing.ledger import Book, EntryKind, Transaction
from reserved_capacity.domain.billing.money import format_minor
from reserved_capacity.domain.billing.pricing import PriceHistory


class Flaw(StrEnum):
    MISSING = "Missing"
    """A day that is due has no row."""
    UNEXPECTED = "Unexpected"
    """A row that follows from no contract."""
    TWICE = "Twice"
    """Two rows under one key."""
    UNBALANCED = "Unbalanced"
    """Debits and credits of a row differ."""
    AMOUNT = "Amount"
    """A row has another amount than the contract gives."""
    CONTENT = "Content"
    """A row has the right amount, and something else of it is wrong: its books, account, currency, CU or price."""
    PREPAID_LEFT = "PrepaidLeft"
    """A prepaid term is over and what was paid in advance is not used up."""


@dataclass(frozen=True, slots=True)
class Finding:
    """What is wrong with which row; `key` is the row's, or the one that it would have."""

    key: str
    flaw: Flaw
    message: str


@dataclass(frozen=True, slots=True)
class AuditedBooks:
    """What is known of one commitment: all its terms, the prices seen, its intervals, and its rows.

    `rows` may be those from a day on only; then give that day as `since`, and what needs the whole term is not looked at.
    """

    contracts: Sequence[Contract]
    history: PriceHistory
    rows: Sequence[Transaction]
    provisioned: Sequence[Interval] = ()
    since: date | None = None


def audit(books: AuditedBooks, *, through: date) -> tuple[Finding, ...]:
    """All findings, by the days of their rows. Days after `through` may have rows and need not."""
    found = [*compare(_expected(books, through), books.rows, through=through), *_prepaid(books, through)]
    return tuple(sorted(found, key=lambda finding: (finding.key, finding.flaw)))


def compare(expected: Mapping[str, Transaction], rows: Sequence[Transaction], *, through: date) -> tuple[Finding, ...]:
    """What of the rows that must stand does not, what else stands, and what is wrong with a row."""
    standing = {row.key: row for row in rows}
    found = [*_each(rows)]
    for key, want in expected.items():
        if key in standing:
            found += _differences(want, standing[key])
        elif want.day <= through:
            found.append(
                Finding(key, Flaw.MISSING, f"{want.kind} of {_money(want)} is due and does not stand in the books")
            )
    for key, row in standing.items():
        if row.kind in PLANNED and key not in expected:
            found.append(Finding(key, Flaw.UNEXPECTED, f"{row.kind} of {_money(row)} follows from no contract"))
    return tuple(sorted(found, key=lambda finding: (finding.key, finding.flaw)))


def _expected(books: AuditedBooks, through: date) -> Mapping[str, Transaction]:
    """What the contracts give, up to the last day with a row if that is later: somebody may have posted since."""
    last = max((row.day for row in books.rows if row.kind in PLANNED), default=through)
    rows = (
        row
        for contract in books.contracts
        for row in plan_days(
            contract,
            books.history,
            posted_through=books.since - timedelta(days=1) if books.since else None,
            today=max(last, through) + timedelta(days=1),
            provisioned=books.provisioned,
        )
    )
    return {row.key: row for row in rows}


def _each(rows: Iterable[Transaction]) -> Iterable[Finding]:
    """What is wrong with rows by themselves."""
    counts = Counter(row.key for row in rows)
    yield from (
        Finding(key, Flaw.TWICE, f"{count} rows stand under one key") for key, count in counts.items() if count > 1
    )
    for row in rows:
        if not row.balanced:
            difference = format_minor(sum(posting.minor for posting in row.postings), row.currency)
            yield Finding(row.key, Flaw.UNBALANCED, f"debits exceed credits by {difference} {row.currency}")


def _differences(want: Transaction, row: Transaction) -> Iterable[Finding]:
    if row.amount_minor != want.amount_minor:
        yield Finding(row.key, Flaw.AMOUNT, f"{_money(row)} stands, the contract gives {_money(want)}")
        return
    pairs = {
        "postings": (_sides(row), _sides(want)),
        "account": (row.account, want.account),
        "currency": (row.currency, want.currency),
        "compute units": (row.compute_units, want.compute_units),
        "token units": (row.token_units, want.token_units),
        "price": (row.price, want.price),
    }
    wrong = [name for name, (stands, wanted) in pairs.items() if stands != wanted]
    if wrong:
        yield Finding(row.key, Flaw.CONTENT, f"{' and '.join(wrong)} differ from what the contract gives")


def _sides(row: Transaction) -> Mapping[Book, int]:
    """By book; whether a side of 0 is written down says nothing."""
    sides: Counter[Book] = Counter()
    for posting in row.postings:
        sides[posting.book] += posting.minor
    return {book: minor for book, minor in sides.items() if minor}


def _prepaid(books: AuditedBooks, through: date) -> Iterable[Finding]:
    """The account of what was paid in advance, at the end of each term; the last row of the term is named."""
    if books.since is not None:
        return
    for contract in books.contracts:
        start, end = contract.billing_start, contract.end
        if start is None or end is None or end > through + timedelta(days=1):
            continue
        rows = [row for row in books.rows if start <= row.day < end]
        left = -sum(posting.minor for row in rows for posting in row.postings if posting.book is Book.PREPAID)
        if left:
            last = end - timedelta(days=1)
            key = f"{contract.commitment}/{last.isoformat()}/{EntryKind.CHARGE}"
            amount = format_minor(left, contract.currency)
            yield Finding(
                key, Flaw.PREPAID_LEFT, f"{amount} {contract.currency} paid in advance are left after the end"
            )


def _money(row: Transaction) -> str:
    return f"{format_minor(row.amount_minor, row.currency)} {row.currency}"
