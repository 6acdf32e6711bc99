"""Invoices: what the books say, put together for one customer, one currency and one UTC month (behaviour.md M6).

An invoice follows from its rows alone, so it is the same whoever makes it, and it is never changed: what is found later is on
the next one. Which rows those are is kept beside the rows, not in them: for each month that was closed, the number of the
account's last row at that moment. An invoice has the rows of days before the end of its month that no closed month has
(ledger_ports, `uninvoiced`; ADR 0022).

A Prepayment has an invoice of its own at the start of the term; the monthly ones show the charges that draw it down, and ask
for nothing that was paid.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from enum import StrEnum
from itertools import groupby
from typing import Final

from reserved_capacity.domain.billing.ledger import LOT_PREFIX, Book, EntryKind, Transaction
from reserved_capacity.domain.billing.months import Month, months_between
from reserved_capacity.domain.terms import start_of

GRACE: Final = timedelta(hours=24)
"""How long after its end a month is closed: its last days are posted by then (M6)."""

_ORDER: Final = tuple(EntryKind)
_SUMMED: Final = frozenset({EntryKind.CHARGE, EntryKind.SHORTFALL})
"""Kinds with a row a day, which become one line; of the others every row is a line, with its note."""


class InvoiceKind(StrEnum):
    MONTHLY = "Monthly"
    PREPAYMENT = "Prepayment"


@dataclass(frozen=True, slots=True)
class InvoiceLine:
    """Rows of one contract and kind with the same units and price; a price that changes makes a second line.

    `earlier`: days of a month that was closed already. `drawn_minor` is the part of the amount that was paid in advance.
    """

    contract: str
    kind: EntryKind
    first_day: date
    last_day: date
    days: int
    compute_units: int
    price: str
    amount_minor: int
    drawn_minor: int = 0
    earlier: bool = False
    note: str = ""
    token_units: int = 0

    @property
    def is_of_lot(self) -> bool:
        return self.contract.startswith(LOT_PREFIX)


@dataclass(frozen=True, slots=True)
class Invoice:
    """`due_minor` = charges + prepayment + credits - drawn down; negative: in the customer's favour.

    Credits are negative; corrections are counted among charges or credits by their sign.
    """

    number: str
    kind: InvoiceKind
    account: str
    currency: str
    month: Month
    issued_at: datetime
    lines: tuple[InvoiceLine, ...]
    charges_minor: int
    prepayment_minor: int
    credits_minor: int
    drawn_minor: int
    due_minor: int


def closes_at(month: Month) -> datetime:
    """The moment at which the invoice of a month is made, and which it bears (M6)."""
    return start_of(month.end) + GRACE


def months_to_close(first_day: date | None, closed: Month | None, now: datetime) -> tuple[Month, ...]:
    """The months that are over and not closed, in order. `first_day` is the first day of any row, `closed` the last month
    that was closed. Days are closed first: whoever closes a month before its days have rows puts these on the next."""
    if first_day is None:
        return ()
    start = first_day if closed is None else max(first_day, closed.end)
    return tuple(month for month in months_between(start, now.astimezone(UTC).date()) if closes_at(month) <= now)


def invoice_number(row: Transaction, month: Month) -> str:
    """The invoice that has a row which is billed in that month: a Prepayment's own, else the month's."""
    if row.kind is EntryKind.PREPAYMENT:
        return f"{row.account}-{row.contract}-{row.day}"
    return _monthly_number(row.account, row.currency, month)


def _monthly_number(account: str, currency: str, month: Month) -> str:
    return f"{account}-{currency}-{month}"


def monthly_invoice(account: str, currency: str, month: Month, rows: Iterable[Transaction]) -> Invoice | None:
    """The invoice of a month from its rows; None where there is nothing to invoice.

    Prepayments are left out, they have their own; so are rows at a price of 0, which are reported and never invoiced (T4).
    """
    billed = [row for row in rows if row.kind is not EntryKind.PREPAYMENT and not _is_free(row)]
    if not billed:
        return None
    number = _monthly_number(account, currency, month)
    return _invoice(number, InvoiceKind.MONTHLY, month, closes_at(month), billed)


def prepayment_invoice(row: Transaction) -> Invoice:
    """The invoice of a Prepayment, made when its row is posted."""
    number = invoice_number(row, Month.of(row.day))
    issued = start_of(row.day + timedelta(days=1))
    return _invoice(number, InvoiceKind.PREPAYMENT, Month.of(row.day), issued, (row,))


def _invoice(number: str, kind: InvoiceKind, month: Month, issued_at: datetime, rows: Sequence[Transaction]) -> Invoice:
    prepayments = sum(row.amount_minor for row in rows if row.kind is EntryKind.PREPAYMENT)
    others = [row.amount_minor for row in rows if row.kind is not EntryKind.PREPAYMENT]
    return Invoice(
        number=number,
        kind=kind,
        account=rows[0].account,
        currency=rows[0].currency,
        month=month,
        issued_at=issued_at,
        lines=_lines(rows, month),
        charges_minor=sum(amount for amount in others if amount > 0),
        prepayment_minor=prepayments,
        credits_minor=sum(amount for amount in others if amount < 0),
        drawn_minor=sum(map(_drawn, rows)),
        due_minor=sum(_posted(row, Book.RECEIVABLE) for row in rows),
    )


def _lines(rows: Sequence[Transaction], month: Month) -> tuple[InvoiceLine, ...]:
    """In the order of contracts, and of each: what was charged by price, then what was given back."""
    ordered = sorted(rows, key=lambda row: (row.contract, _ORDER.index(row.kind), row.day))
    lines = [
        _line(tuple(same), month)
        for _, same in groupby(ordered, key=lambda row: _line_key(row, earlier=row.day < month.start))
    ]
    return tuple(lines)


def _line_key(row: Transaction, *, earlier: bool) -> tuple[str, EntryKind, bool, int, int, str, str]:
    own = "" if row.kind in _SUMMED else row.key
    return (row.contract, row.kind, earlier, row.compute_units, row.token_units, row.price, own)


def _line(rows: Sequence[Transaction], month: Month) -> InvoiceLine:
    first = rows[0]
    return InvoiceLine(
        contract=first.contract,
        kind=first.kind,
        first_day=first.day,
        last_day=rows[-1].day,
        days=len(rows),
        compute_units=first.compute_units,
        price=first.price,
        amount_minor=sum(row.amount_minor for row in rows),
        drawn_minor=sum(map(_drawn, rows)),
        earlier=first.day < month.start,
        note="" if first.kind in _SUMMED and not first.is_of_lot else first.note,
        token_units=first.token_units,
    )


def _posted(row: Transaction, book: Book) -> int:
    return sum(posting.minor for posting in row.postings if posting.book is book)


def _drawn(row: Transaction) -> int:
    """What of a charge was taken from a prepayment."""
    return _posted(row, Book.PREPAID) if row.kind is EntryKind.CHARGE else 0


def _is_free(row: Transaction) -> bool:
    return not row.amount_minor and not row.price.strip("0.")
