"""Lots of token units, in SQL: what was bought and cut, list prices that were seen, and what is posted of them."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from datetime import date, timedelta

from sqlalchemy import ColumnElement, Connection, func, select, update

from reserved_capacity.adapters.database import rows
from reserved_capacity.adapters.database.agreements import seen_no_earlier
from reserved_capacity.adapters.database.postings import posted_of
from reserved_capacity.adapters.database.schema import accounts, lot_cuts, lots, transactions, unit_prices
from reserved_capacity.adapters.database.statements import chunks, insert_new
from reserved_capacity.domain.billing.ledger import EntryKind
from reserved_capacity.domain.tokens.charges import DueLot, PostedLot, charged_days
from reserved_capacity.domain.tokens.lots import Lot, LotCut, ReservationName
from reserved_capacity.domain.tokens.prices import UnitPrice


def filters(account: str | None, reservation: ReservationName | None) -> list[ColumnElement[bool]]:
    conditions: list[ColumnElement[bool]] = []
    if account is not None:
        conditions.append(lots.c.account == account)
    if reservation is not None:
        conditions += [lots.c.namespace == reservation.namespace, lots.c.reservation == reservation.name]
    return conditions


def find(connection: Connection, conditions: Sequence[ColumnElement[bool]]) -> tuple[Lot, ...]:
    found = connection.execute(select(lots).where(*conditions).order_by(lots.c.id)).all()
    cuts = _cuts(connection, [row.id for row in found])
    return tuple(rows.lot(row, cuts.get(row.id, ())) for row in found)


def find_endless(connection: Connection) -> tuple[ReservationName, ...]:
    """What a lot has in the end is what its last cut says, whatever the days of the others (domain.tokens.lots, `ends_on`)."""
    finally_left = (
        select(lot_cuts.c.units)
        .where(lot_cuts.c.lot == lots.c.id)
        .order_by(lot_cuts.c.number.desc())
        .limit(1)
        .scalar_subquery()
    )
    place = (lots.c.namespace, lots.c.reservation)
    statement = select(*place).where(func.coalesce(finally_left, lots.c.units) > 0).distinct().order_by(*place)
    return tuple(ReservationName(row.namespace, row.reservation) for row in connection.execute(statement))


def _cuts(connection: Connection, names: Iterable[str]) -> Mapping[str, tuple[LotCut, ...]]:
    found: dict[str, list[LotCut]] = defaultdict(list)
    for chunk in chunks(names):
        statement = select(lot_cuts).where(lot_cuts.c.lot.in_(chunk)).order_by(lot_cuts.c.lot, lot_cuts.c.number)
        for row in connection.execute(statement):
            found[row.lot].append(LotCut(row.number, row.at, row.units, row.seen_at))
    return {name: tuple(cuts) for name, cuts in found.items()}


def _by_id(connection: Connection, names: Iterable[str]) -> dict[str, Lot]:
    found: dict[str, Lot] = {}
    for chunk in chunks(sorted(set(names))):
        found.update((lot.id, lot) for lot in find(connection, [lots.c.id.in_(chunk)]))
    return found


def needs_registering(connection: Connection, given: Sequence[Lot]) -> tuple[Lot, ...] | None:
    """None if something is to be written; else what is there."""
    stored = _by_id(connection, (lot.id for lot in given))
    for lot in given:
        there = stored.get(lot.id)
        if there is None or (there.billing_start is None and lot.billing_start is not None):
            return None
        if {cut.number for cut in lot.cuts} - {cut.number for cut in there.cuts}:
            return None
    return tuple(stored[lot.id] for lot in given)


def register(connection: Connection, given: Sequence[Lot]) -> tuple[Lot, ...]:
    insert_new(connection, lots, [rows.lot_row(lot) for lot in given])
    insert_new(
        connection, accounts, [{"account": name, "last_number": 0} for name in sorted({lot.account for lot in given})]
    )
    for lot in given:
        if lot.billing_start is not None:
            unknown = lots.c.billing_start.is_(None)
            connection.execute(update(lots).where(lots.c.id == lot.id, unknown).values(billing_start=lot.billing_start))
        insert_new(connection, lot_cuts, _cut_rows(lot, _last_charged(connection, lot.id)))
    stored = _by_id(connection, (lot.id for lot in given))
    return tuple(stored[lot.id] for lot in given)


def _cut_rows(lot: Lot, last: date | None) -> list[dict[str, object]]:
    earliest = last + timedelta(days=1) if last is not None else date.min
    return [
        {
            "lot": lot.id,
            "number": cut.number,
            "at": max(cut.at, earliest),
            "units": cut.units,
            "seen_at": cut.seen_at,
        }
        for cut in lot.cuts
    ]


def _last_charged(connection: Connection, lot: str) -> date | None:
    columns = transactions.c
    statement = select(func.max(columns.day)).where(columns.contract == lot, columns.kind == str(EntryKind.CHARGE))
    found = connection.execute(statement).scalar()
    return date.fromisoformat(found) if isinstance(found, str) else found


def record_prices(connection: Connection, given: Sequence[UnitPrice]) -> None:
    seen_at = seen_no_earlier(connection)
    values = [
        {
            "price_book": each.price_book,
            "offering": each.offering,
            "direction": str(each.direction),
            "effective_from": each.effective_from,
            "per_unit_day": rows.price_text(each.per_unit_day),
            "seen_at": seen_at(each.seen_at),
        }
        for each in given
    ]
    insert_new(connection, unit_prices, values)


def find_prices(connection: Connection, price_book: str) -> tuple[UnitPrice, ...]:
    columns = unit_prices.c
    statement = (
        select(unit_prices)
        .where(columns.price_book == price_book)
        .order_by(columns.offering, columns.direction, columns.effective_from, columns.seen_at, columns.per_unit_day)
    )
    return tuple(rows.unit_price(row) for row in connection.execute(statement))


def find_due(connection: Connection, today: date, after: str, limit: int) -> tuple[DueLot, ...]:
    """Which days of a lot are due follows from its cuts, so it is worked out here and not by the database."""
    begun = find(connection, [lots.c.billing_start < today, lots.c.id > after])
    last = dict(_last_days(connection))
    due = (DueLot(lot, last.get(lot.id)) for lot in begun)
    return tuple(each for each in due if charged_days(each.lot, each.posted_through, today))[:limit]


def _last_days(connection: Connection) -> Iterable[tuple[str, date]]:
    columns = transactions.c
    through = (
        select(columns.day)
        .where(columns.contract == lots.c.id, columns.kind == str(EntryKind.CHARGE))
        .order_by(columns.day.desc())
        .limit(1)
        .scalar_subquery()
    )
    for row in connection.execute(select(lots.c.id, through.label("through"))):
        if row.through is not None:
            yield row.id, row.through


def find_posted(connection: Connection, names: Sequence[str]) -> tuple[PostedLot, ...]:
    found = _by_id(connection, names)
    posted = posted_of(connection, list(found))
    return tuple(PostedLot(found[name], posted[name]) for name in names if name in found)
