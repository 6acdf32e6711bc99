"""What billing still has to hear, in SQL: claims, what is pending, what was delivered, notices and halted contracts."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Callable, Sequence
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import (
    Column,
    Connection,
    Select,
    Table,
    and_,
    case,
    delete,
    func,
    insert,
    literal,
    or_,
    select,
    update,
)

from reserved_capacity.adapters.database import rows
from reserved_capacity.adapters.database.schema import Moment, accounts, halts, invoices, notices, outbox, transactions
from reserved_capacity.adapters.database.statements import (
    chunks,
    insert_new,
    lock_accounts,
    outbox_row,
    set_last_numbers,
    to_json,
)
from reserved_capacity.domain.billing.events import invoice_data, invoice_id, transaction_data
from reserved_capacity.ledger_ports import Document, Event, EventType, Halt, Lag, Notice


def backlog(connection: Connection, account: str | None) -> tuple[Lag, ...]:
    statement = (
        (_with_held() if connection.execute(select(halts.c.contract).limit(1)).first() else _none_held())
        .where(*([] if account is None else [outbox.c.account == account]))
        .group_by(outbox.c.account)
        .order_by(outbox.c.account)
    )
    return tuple(Lag(row.account, int(row.pending), row.oldest, int(row.held)) for row in connection.execute(statement))


def _none_held() -> Select[Any]:
    """Without a billing system an account has all of its rows here, and every one of its pools asks: one plain pass over the
    account's range takes a quarter of the time that looking up each row among the halted takes."""
    return select(
        outbox.c.account,
        func.count().label("pending"),
        literal(0).label("held"),
        func.min(outbox.c.recorded_at, type_=Moment).label("oldest"),
    )


def _with_held() -> Select[Any]:
    free = halts.c.contract.is_(None)
    return select(
        outbox.c.account,
        func.sum(case((free, 1), else_=0)).label("pending"),
        func.sum(case((free, 0), else_=1)).label("held"),
        func.min(case((free, outbox.c.recorded_at)), type_=Moment).label("oldest"),
    ).outerjoin(halts, halts.c.contract == outbox.c.contract)


def claim(connection: Connection, account: str, owner: str, now: datetime, seconds: float) -> bool:
    columns = accounts.c
    length = timedelta(seconds=seconds)
    # Two operators' clocks differ; by more than the length of a claim only if one of them has jumped.
    free = or_(
        columns.claimed_by.is_(None),
        columns.claimed_by == owner,
        columns.claimed_until <= now,
        columns.claimed_until > now + 2 * length,
    )
    taken = connection.execute(
        update(accounts).where(columns.account == account, free).values(claimed_by=owner, claimed_until=now + length)
    )
    return taken.rowcount == 1


# ------------------------------------------------------------------------------------------------------------- pending

_OUTBOX = ("place", "type", "document", "recorded_at")


def pending(connection: Connection, account: str, limit: int) -> tuple[Event, ...]:
    """Joined from the outbox, whose places are few, to the rows: SQLite would look through all rows for a list of keys."""
    row = transactions.c
    statement = (
        select(*(outbox.c[name].label(f"outbox_{name}") for name in _OUTBOX), transactions)
        .outerjoin(halts, halts.c.contract == outbox.c.contract)
        .outerjoin(
            transactions,
            and_(row.contract == outbox.c.contract, row.day == outbox.c.day, row.kind == outbox.c.kind),
        )
        .where(outbox.c.account == account, halts.c.contract.is_(None))
        .order_by(outbox.c.place)
        .limit(limit)
    )
    reports: Sequence[Any] = connection.execute(statement).all()
    sent = _documents(connection, invoices, reports, EventType.INVOICE, _invoice_event)
    told = _documents(connection, notices, reports, EventType.NOTICE, _notice_event)
    events = []
    for report in reports:
        kind = EventType(report.outbox_type)
        identity, data = (
            _transaction_event(report)
            if report.outbox_document is None
            else (sent if kind is EventType.INVOICE else told)[report.outbox_document]
        )
        events.append(Event(account, report.outbox_place, kind, identity, report.outbox_recorded_at, data))
    return tuple(events)


def _documents(
    connection: Connection,
    table: Table,
    reports: Sequence[Any],
    kind: EventType,
    event: Callable[[Any], tuple[str, Document]],
) -> dict[str, tuple[str, Document]]:
    key: Column[Any] = next(iter(table.primary_key.columns))
    wanted = [row.outbox_document for row in reports if row.outbox_type == kind]
    found: dict[str, tuple[str, Document]] = {}
    for chunk in chunks(wanted):
        for row in connection.execute(select(table).where(key.in_(chunk))):
            found[row._mapping[key]] = event(row)
    return found


def _transaction_event(row: Any) -> tuple[str, Document]:
    entry = rows.entry(row)
    return entry.transaction.key, transaction_data(entry.transaction, entry.number)


def _invoice_event(row: Any) -> tuple[str, Document]:
    issued = rows.invoice(row)
    data = invoice_data(issued.number, issued.account, issued.currency, issued.month, issued.document)
    return invoice_id(issued.number), data


def _notice_event(row: Any) -> tuple[str, Document]:
    return row.id, json.loads(row.data)


def delivered(connection: Connection, events: Sequence[Event]) -> None:
    places: dict[str, list[int]] = defaultdict(list)
    for each in events:
        places[each.account].append(each.place)
    for account, given in places.items():
        for chunk in chunks(given):
            connection.execute(delete(outbox).where(outbox.c.account == account, outbox.c.place.in_(chunk)))


# ------------------------------------------------------------------------------------------------------------- notices


def announce(connection: Connection, given: Sequence[Notice], now: datetime) -> tuple[Notice, ...]:
    last = lock_accounts(connection, {each.account for each in given})
    known: set[str] = set()
    for chunk in chunks({each.id for each in given}):
        known.update(connection.execute(select(notices.c.id).where(notices.c.id.in_(chunk))).scalars())
    new: list[Notice] = []
    for each in given:
        if each.id in known:
            continue
        known.add(each.id)
        new.append(each)
        last[each.account] += 1
        values = {"id": each.id, "account": each.account, "contract": each.contract, "recorded_at": now}
        connection.execute(insert(notices), {**values, "data": to_json(each.data)})
        report = outbox_row(each.account, last[each.account], EventType.NOTICE, each.contract, now, document=each.id)
        connection.execute(insert(outbox), report)
    set_last_numbers(connection, {each.account: last[each.account] for each in new})
    return tuple(new)


# --------------------------------------------------------------------------------------------------------------- halts


def halt(connection: Connection, contract: str, why: str, now: datetime) -> None:
    insert_new(connection, halts, [{"contract": contract, "since": now, "why": why}])


def resume(connection: Connection, contract: str) -> None:
    """What was held goes behind everything that was reported, or may have been, while it was held."""
    of_contract = select(outbox.c.account).where(outbox.c.contract == contract).distinct()
    last = lock_accounts(connection, set(connection.execute(of_contract).scalars()))
    if connection.execute(delete(halts).where(halts.c.contract == contract)).rowcount == 0:
        return
    for account, first_free in last.items():
        held = and_(outbox.c.account == account, outbox.c.contract == contract)
        places = connection.execute(select(outbox.c.place).where(held).order_by(outbox.c.place)).scalars().all()
        for number, place in enumerate(places, start=first_free + 1):
            here = and_(outbox.c.account == account, outbox.c.place == place)
            connection.execute(update(outbox).where(here).values(place=number))
        set_last_numbers(connection, {account: first_free + len(places)})


def find_halts(connection: Connection) -> tuple[Halt, ...]:
    found = connection.execute(select(halts).order_by(halts.c.contract))
    return tuple(Halt(row.contract, row.since, row.why) for row in found)
