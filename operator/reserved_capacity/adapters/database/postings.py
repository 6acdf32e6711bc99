"""What stands in the books, in SQL: which contracts have something due, what is posted of them, and posting."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import replace
from datetime import date, datetime, timedelta
from typing import Any

from sqlalchemy import (
    ColumnElement,
    Connection,
    and_,
    case,
    exists,
    func,
    insert,
    literal,
    or_,
    select,
    tuple_,
    update,
)

from reserved_capacity.adapters.database import rows
from reserved_capacity.adapters.database.agreements import by_terms, close_through, term_of, with_reductions
from reserved_capacity.adapters.database.schema import Day, books, contracts, outbox, transactions
from reserved_capacity.adapters.database.statements import (
    chunks,
    in_pairs,
    insert_new,
    lock_accounts,
    outbox_row,
    set_last_numbers,
)
from reserved_capacity.domain.billing.ledger import Book, EntryKind, Transaction
from reserved_capacity.domain.billing.posted import DueContract, Posted, PostedContract
from reserved_capacity.ledger_ports import Entry, EventType, LedgerRefused, TermId

_Key = tuple[str, date, str]


def find_due(connection: Connection, today: date, after: TermId | None, limit: int) -> tuple[DueContract, ...]:
    yesterday = literal(today - timedelta(days=1), Day)
    last_due = case((contracts.c.last_day < yesterday, contracts.c.last_day), else_=yesterday)
    charged = exists().where(
        transactions.c.contract == contracts.c.commitment,
        transactions.c.day == last_due,
        transactions.c.kind == str(EntryKind.CHARGE),
    )
    # One step at the end of a range of the primary key; the greatest of all days would read the whole range.
    through = (
        select(transactions.c.day)
        .where(*_of_term(), transactions.c.kind != str(EntryKind.CORRECTION))
        .order_by(transactions.c.day.desc())
        .limit(1)
        .scalar_subquery()
    )
    statement = (
        select(contracts, through.label("through"))
        .where(contracts.c.billing_start < today, ~charged)
        .order_by(contracts.c.commitment, contracts.c.number)
        .limit(limit)
    )
    if after is not None:
        # In this form, and not as one comparison of two pairs, both databases find the place by the index.
        statement = statement.where(
            contracts.c.commitment >= after.commitment,
            or_(contracts.c.commitment > after.commitment, contracts.c.number > after.number),
        )
    found = connection.execute(statement).all()
    known = with_reductions(connection, found)
    return tuple(DueContract(each, row.through) for each, row in zip(known, found, strict=True))


def _of_term() -> tuple[ColumnElement[bool], ...]:
    """The rows of a contract: those of its commitment in the days of its term."""
    return (
        transactions.c.contract == contracts.c.commitment,
        transactions.c.day >= contracts.c.billing_start,
        transactions.c.day <= contracts.c.last_day,
    )


def find_posted(connection: Connection, terms: Sequence[TermId]) -> tuple[PostedContract, ...]:
    found = by_terms(connection, terms)
    return with_sums(connection, [found[term] for term in terms if term in found])


def with_sums(connection: Connection, found: Sequence[Any]) -> tuple[PostedContract, ...]:
    """Computed from the rows, every time: there is no second figure that could be wrong."""
    sums: dict[TermId, list[Any]] = defaultdict(list)
    columns = transactions.c
    for chunk in chunks(found):
        pairs = [(each.commitment, each.number) for each in chunk]
        statement = (
            select(
                contracts.c.commitment,
                contracts.c.number,
                columns.kind,
                func.count().label("rows"),
                func.min(columns.day).label("first"),
                func.max(columns.day).label("last"),
                *(func.sum(columns[name]).label(name) for name in ("amount_minor", *dict(rows.BOOK_COLUMNS).values())),
            )
            .join(transactions, and_(*_of_term()))
            .where(in_pairs((contracts.c.commitment, contracts.c.number), pairs))
            .group_by(contracts.c.commitment, contracts.c.number, columns.kind)
        )
        for row in connection.execute(statement):
            sums[TermId(row.commitment, row.number)].append(row)
    return tuple(PostedContract(each, _posted(sums.get(term_of(each), []))) for each in found)


def _posted(found: Sequence[Any]) -> Posted:
    by_kind = {rows.KINDS[row.kind]: row for row in found}
    charges = by_kind.get(EntryKind.CHARGE)
    planned = [row.last for kind, row in by_kind.items() if kind is not EntryKind.CORRECTION]
    books_minor: dict[Book, int] = {}
    for book, column in rows.BOOK_COLUMNS:
        total = sum(int(row._mapping[column]) for row in found)
        if any(row._mapping[column] for row in found):
            books_minor[book] = total
    return Posted(
        rows={kind: row.rows for kind, row in by_kind.items()},
        amounts_minor={kind: int(row.amount_minor) for kind, row in by_kind.items()},
        books_minor=books_minor,
        first_charged=charges.first if charges else None,
        last_charged=charges.last if charges else None,
        through=max(planned, default=None),
    )


def posted_of(connection: Connection, names: Sequence[str]) -> dict[str, Posted]:
    """Of contracts that have no terms (lots): all of their rows."""
    sums: dict[str, list[Any]] = {name: [] for name in names}
    columns = transactions.c
    for chunk in chunks(names):
        statement = (
            select(
                columns.contract,
                columns.kind,
                func.count().label("rows"),
                func.min(columns.day).label("first"),
                func.max(columns.day).label("last"),
                *(func.sum(columns[name]).label(name) for name in ("amount_minor", *dict(rows.BOOK_COLUMNS).values())),
            )
            .where(columns.contract.in_(chunk))
            .group_by(columns.contract, columns.kind)
        )
        for row in connection.execute(statement):
            sums[row.contract].append(row)
    return {name: _posted(found) for name, found in sums.items()}


# ------------------------------------------------------------------------------------------------------------- posting


def check(given: Sequence[Transaction]) -> None:
    """Raises LedgerRefused for what must not stand in the books, before anything is locked."""
    for each in given:
        if not each.balanced:
            raise LedgerRefused(f"{each.key} is not balanced")
        named = [posting.book for posting in each.postings]
        if len(named) != len(set(named)):
            raise LedgerRefused(f"{each.key} names a book twice")


def append(connection: Connection, given: Sequence[Transaction], now: datetime) -> tuple[Entry, ...]:
    """The new ones. From the lock to the commit nobody else posts anything for these accounts, so what is not found here
    is not there, and the numbers have no gap and become visible in their order."""
    last = lock_accounts(connection, {each.account for each in given})
    owners = _owners(connection, given)
    entries: list[Entry] = []
    for each in given:
        key = (each.contract, each.day, str(each.kind))
        owner = owners.get(key)
        if owner is None:
            owners[key] = each.account
            last[each.account] += 1
            entries.append(Entry(last[each.account], now, normalised(each)))
        elif owner != each.account:
            raise LedgerRefused(f"{each.key} is of account {owner}, not of {each.account}")
    if entries:
        _insert(connection, entries)
        set_last_numbers(connection, {name: last[name] for name in {each.transaction.account for each in entries}})
    return tuple(entries)


def normalised(given: Transaction) -> Transaction:
    """As it is read back: without postings of 0, the others in the order of the books."""
    sums = {posting.book: posting for posting in given.postings if posting.minor}
    return replace(given, postings=tuple(sums[book] for book in Book if book in sums))


def _owners(connection: Connection, given: Sequence[Transaction]) -> dict[_Key, str]:
    """The account of each row of these contracts in the span of these days: a range of the primary key for each."""
    columns = transactions.c
    first, last = (min(each.day for each in given), max(each.day for each in given)) if given else (None, None)
    found: dict[_Key, str] = {}
    for chunk in chunks(sorted({each.contract for each in given})):
        statement = select(columns.contract, columns.day, columns.kind, columns.account).where(
            columns.contract.in_(chunk), columns.day >= first, columns.day <= last
        )
        found.update(((row.contract, row.day, row.kind), row.account) for row in connection.execute(statement))
    return found


def _insert(connection: Connection, entries: Sequence[Entry]) -> None:
    connection.execute(
        insert(transactions),
        [rows.transaction_row(each.transaction, each.number, each.posted_at) for each in entries],
    )
    connection.execute(insert(outbox), [_report(each) for each in entries])
    _keep_first_days(connection, entries)
    close_through(connection, max(each.transaction.day for each in entries))


def _report(entry: Entry) -> dict[str, Any]:
    row = entry.transaction
    event = EventType.CREDIT if row.amount_minor < 0 else EventType.CHARGE
    return outbox_row(row.account, entry.number, event, row.contract, entry.posted_at, day=row.day, kind=str(row.kind))


def _keep_first_days(connection: Connection, entries: Sequence[Entry]) -> None:
    first: dict[tuple[str, str], date] = {}
    for each in entries:
        pair = (each.transaction.account, each.transaction.currency)
        first[pair] = min(first.get(pair, each.transaction.day), each.transaction.day)
    found: dict[tuple[str, str], date] = {}
    for chunk in chunks(sorted({account for account, _ in first})):
        statement = select(books).where(books.c.account.in_(chunk))
        found.update(((row.account, row.currency), row.first_day) for row in connection.execute(statement))
    new = [pair for pair in sorted(first) if pair not in found]
    insert_new(connection, books, [{"account": pair[0], "currency": pair[1], "first_day": first[pair]} for pair in new])
    for account, currency in sorted(first):
        day = first[account, currency]
        if day < found.get((account, currency), day):
            here = and_(books.c.account == account, books.c.currency == currency)
            connection.execute(update(books).where(here).values(first_day=day))


# ------------------------------------------------------------------------------------------------------------- reading


def entries_page(
    connection: Connection, conditions: Sequence[ColumnElement[bool]], after: tuple[date, int] | None, limit: int
) -> list[Entry]:
    """By day and number, in which order the index of an account has them."""
    columns = transactions.c
    statement = select(transactions).where(*conditions).order_by(columns.day, columns.number).limit(limit)
    if after is not None:
        statement = statement.where(tuple_(columns.day, columns.number) > tuple_(literal(after[0], Day), after[1]))
    return [rows.entry(row) for row in connection.execute(statement)]


def entry_filters(
    account: str | None, contract: str | None, since: date | None, until: date | None
) -> list[ColumnElement[bool]]:
    columns = transactions.c
    conditions: list[ColumnElement[bool]] = []
    if account is not None:
        conditions.append(columns.account == account)
    if contract is not None:
        conditions.append(columns.contract == contract)
    if since is not None:
        conditions.append(columns.day >= since)
    if until is not None:
        conditions.append(columns.day < until)
    return conditions
