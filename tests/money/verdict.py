"""Does the code under test agree with the oracle on a story, and do the books hold together?"""

from __future__ import annotations

from bisect import bisect_left
from collections import Counter
from datetime import timedelta

from reserved_capacity.domain.billing.invoices import (
    Cut,
    Invoice,
    is_on,
    monthly_invoice,
    months_to_close,
    prepayment_invoice,
)
from reserved_capacity.domain.billing.ledger import Book, EntryKind, Transaction
from reserved_capacity.domain.terms import start_of
from tests.money.oracle import expected
from tests.money.replay import Books, replayed
from tests.money.stories import EPOCH, tell


def judge(seed: int) -> str:
    """What is wrong, in words; nothing if nothing is."""
    story = tell(seed)
    books = replayed(story)
    ours = [(row.day.toordinal() - EPOCH, row.kind.value, row.amount_minor) for row in books.rows]
    theirs = expected(story)
    if sorted(ours) != sorted(theirs):
        odd, absent = Counter(ours) - Counter(theirs), Counter(theirs) - Counter(ours)
        return f"rows differ: ours alone {sorted(odd)[:5]}, the oracle's alone {sorted(absent)[:5]}"
    if len({row.key for row in books.rows}) != len(books.rows):
        return "a key stands twice"
    if not all(row.balanced for row in books.rows):
        return "a row does not balance"
    return _prepaid(books) or (_invoices(books) if seed % 2 else "")


def _prepaid(books: Books) -> str:
    """When all terms are over and posted, what was paid in advance is used to the cent."""
    end = books.contracts[-1].end
    over = books.posted_through is not None and end is not None and (end - books.posted_through).days == 1
    left = _sum(books.rows, Book.PREPAID)
    return f"{left} left of what was paid in advance" if over and left else ""


def _invoices(books: Books) -> str:
    """The invoices of all months sum to what the customer owes, also where a month was closed before its last days."""
    if not books.rows:
        return ""
    made = [prepayment_invoice(row) for row in books.rows if row.kind is EntryKind.PREPAYMENT]
    made += _monthly(list(enumerate(books.rows, start=1)))
    owed, billed = _sum(books.rows, Book.RECEIVABLE), sum(each.due_minor for each in made)
    if billed != owed:
        return f"invoices ask for {billed}, the ledger for {owed}"
    for each in made:
        total = each.charges_minor + each.prepayment_minor + each.credits_minor - each.drawn_minor
        if not each.due_minor == total == sum(line.amount_minor - line.drawn_minor for line in each.lines):
            return f"invoice {each.number} does not add up"
    return ""


def _monthly(rows: list[tuple[int, Transaction]]) -> list[Invoice]:
    """Every third month is closed when some of its rows are not posted yet, the last one with all of them."""
    made: list[Invoice] = []
    previous: Cut | None = None
    days = [row.day for _, row in rows]
    months = months_to_close(days[0], None, start_of(days[-1] + timedelta(days=40)))
    candidates: list[tuple[int, Transaction]] = []  # rows that are on no invoice yet, and some of the last one
    for index, month in enumerate(months):
        posted = len(rows) if month is months[-1] else bisect_left(days, month.end) - (7 if index % 3 == 0 else 0)
        known = previous.through if previous else 0
        cut = Cut(month, max(posted, known))
        candidates += rows[known : cut.through]
        on = [(number, row) for number, row in candidates if is_on(row.day, number, cut, previous)]
        candidates = on[-40:] + [each for each in candidates if each[1].day >= month.end]
        invoice = monthly_invoice("acme", "USD", month, [row for _, row in on])
        made += [invoice] if invoice else []
        previous = cut
    return made


def _sum(rows: list[Transaction], book: Book) -> int:
    return sum(posting.minor for row in rows for posting in row.postings if posting.book is book)
