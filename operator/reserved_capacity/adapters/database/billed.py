"""What customers were sent, in SQL: months that are closed, what is not invoiced yet, and invoices."""

from __future__ import annotations

from datetime import date, timedelta

from sqlalchemy import ColumnElement, Connection, and_, func, insert, select

from reserved_capacity.adapters.database import rows
from reserved_capacity.adapters.database.schema import accounts, books, closed_months, invoices, outbox, transactions
from reserved_capacity.adapters.database.statements import lock_accounts, outbox_row, set_last_numbers, to_json
from reserved_capacity.ledger_ports import AccountBooks, ClosedMonth, EventType, IssuedInvoice, LedgerRefused


def find_books(connection: Connection, account: str | None) -> tuple[AccountBooks, ...]:
    of_account = [] if account is None else [closed_months.c.account == account]
    latest = (
        select(closed_months.c.account, closed_months.c.currency, func.max(closed_months.c.month).label("month"))
        .where(*of_account)
        .group_by(closed_months.c.account, closed_months.c.currency)
        .subquery()
    )
    last = closed_months.alias("last")
    statement = (
        select(books, last.c.month, last.c.through)
        .outerjoin(latest, and_(latest.c.account == books.c.account, latest.c.currency == books.c.currency))
        .outerjoin(
            last,
            and_(
                last.c.account == latest.c.account,
                last.c.currency == latest.c.currency,
                last.c.month == latest.c.month,
            ),
        )
        .where(*([] if account is None else [books.c.account == account]))
        .order_by(books.c.account, books.c.currency)
    )
    return tuple(
        AccountBooks(
            row.account,
            row.currency,
            row.first_day,
            ClosedMonth(row.account, row.currency, row.month, row.through) if row.month is not None else None,
        )
        for row in connection.execute(statement)
    )


def last_number(connection: Connection, account: str) -> int:
    found = connection.execute(select(accounts.c.last_number).where(accounts.c.account == account)).scalar()
    return int(found or 0)


def last_closed(connection: Connection, account: str, currency: str) -> ClosedMonth | None:
    return next(iter(_latest_closed(connection, account, currency, None)), None)


def closed_with_predecessor(
    connection: Connection, account: str, currency: str, month: date
) -> tuple[ClosedMonth | None, ClosedMonth | None]:
    """The month, if it is closed, and the one that was closed before it."""
    found = _latest_closed(connection, account, currency, month)
    if not found or found[0].month != month:
        return None, None
    return found[0], found[1] if len(found) > 1 else None


def _latest_closed(connection: Connection, account: str, currency: str, upto: date | None) -> list[ClosedMonth]:
    """The last two that are closed, of those up to a month."""
    columns = closed_months.c
    statement = (
        select(closed_months)
        .where(columns.account == account, columns.currency == currency)
        .where(*([] if upto is None else [columns.month <= upto]))
        .order_by(columns.month.desc())
        .limit(2)
    )
    return [ClosedMonth(row.account, row.currency, row.month, row.through) for row in connection.execute(statement)]


def uninvoiced_filters(
    account: str, currency: str, before: date, through: int, closed: ClosedMonth | None
) -> list[list[ColumnElement[bool]]]:
    """Conditions of rows that no closed month has, in two steps, each a range of the account's index, days ascending:
    what was found later about closed months, and the days after them."""
    columns = transactions.c
    common = [columns.account == account, columns.currency == currency, columns.number <= through]
    if closed is None:
        return [[*common, columns.day < before]]
    end = end_of_month(closed.month)
    later = [*common, columns.day < min(end, before), columns.number > closed.through]
    return [later, [*common, columns.day >= end, columns.day < before]]


def end_of_month(month: date) -> date:
    """The first day of the following month."""
    return (month.replace(day=1) + timedelta(days=32)).replace(day=1)


def close_month(connection: Connection, month: ClosedMonth, invoice: IssuedInvoice | None) -> ClosedMonth:
    lock_accounts(connection, {month.account})
    columns = closed_months.c
    there = connection.execute(
        select(columns.through).where(
            columns.account == month.account, columns.currency == month.currency, columns.month == month.month
        )
    ).scalar()
    if there is not None:
        return ClosedMonth(month.account, month.currency, month.month, there)
    last = last_closed(connection, month.account, month.currency)
    if last is not None and last.month > month.month:
        raise LedgerRefused(f"{last.month:%Y-%m} of {month.account} is closed, so {month.month:%Y-%m} gets no invoice")
    values = {"account": month.account, "currency": month.currency, "month": month.month, "through": month.through}
    connection.execute(insert(closed_months), values)
    if invoice is not None and issue(connection, invoice) != invoice:
        raise LedgerRefused(f"there is another invoice {invoice.number}")
    return month


def issue(connection: Connection, invoice: IssuedInvoice) -> IssuedInvoice:
    last = lock_accounts(connection, {invoice.account})[invoice.account]
    there = find_invoice(connection, invoice.number)
    if there is not None:
        return there
    values = {
        "number": invoice.number,
        "account": invoice.account,
        "currency": invoice.currency,
        "month": invoice.month,
        "issued_at": invoice.issued_at,
        "document": to_json(invoice.document),
    }
    connection.execute(insert(invoices), values)
    report = outbox_row(invoice.account, last + 1, EventType.INVOICE, "", invoice.issued_at, document=invoice.number)
    connection.execute(insert(outbox), report)
    set_last_numbers(connection, {invoice.account: last + 1})
    return invoice


def find_invoice(connection: Connection, number: str) -> IssuedInvoice | None:
    row = connection.execute(select(invoices).where(invoices.c.number == number)).first()
    return rows.invoice(row) if row is not None else None


def find_invoices(connection: Connection, account: str | None, month: date | None) -> tuple[IssuedInvoice, ...]:
    columns = invoices.c
    conditions: list[ColumnElement[bool]] = []
    if account is not None:
        conditions.append(columns.account == account)
    if month is not None:
        conditions.append(columns.month == month)
    statement = (
        select(invoices).where(*conditions).order_by(columns.account, columns.month, columns.currency, columns.number)
    )
    return tuple(rows.invoice(row) for row in connection.execute(statement))
