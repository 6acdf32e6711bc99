"""What was agreed and learnt, in SQL: contracts, list prices that were seen, reductions, and the history of pools."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from datetime import date, datetime, timedelta
from typing import Any

from sqlalchemy import ColumnElement, Connection, and_, func, or_, select, update

from reserved_capacity.adapters.database import rows
from reserved_capacity.adapters.database.schema import (
    accounts,
    contracts,
    intervals,
    price_sightings,
    progress,
    reductions,
)
from reserved_capacity.adapters.database.statements import chunks, in_pairs, insert_new
from reserved_capacity.domain.billing.contracts import Contract, PriceSighting, Reduction
from reserved_capacity.domain.billing.history import IntervalChanges, Presence, plan_intervals
from reserved_capacity.domain.billing.intervals import Interval, IntervalKind
from reserved_capacity.domain.terms import start_of
from reserved_capacity.ledger_ports import LedgerRefused, PoolName, TermId


def find_contracts(connection: Connection, conditions: Sequence[ColumnElement[bool]]) -> tuple[Contract, ...]:
    found = connection.execute(
        select(contracts).where(*conditions).order_by(contracts.c.commitment, contracts.c.number)
    ).all()
    return with_reductions(connection, found)


def with_reductions(connection: Connection, found: Sequence[Any]) -> tuple[Contract, ...]:
    agreed = _reductions(connection, {row.commitment for row in found})
    return tuple(rows.contract(row, agreed.get(TermId(row.commitment, row.number), ())) for row in found)


def contract_filters(
    account: str | None, pool: PoolName | None, commitment: str | None, open_on: date | None
) -> list[ColumnElement[bool]]:
    conditions: list[ColumnElement[bool]] = []
    if account is not None:
        conditions.append(contracts.c.account == account)
    if pool is not None:
        conditions.append(and_(contracts.c.namespace == pool.namespace, contracts.c.pool == pool.name))
    if commitment is not None:
        conditions.append(contracts.c.commitment == commitment)
    if open_on is not None:
        conditions.append(or_(contracts.c.last_day.is_(None), contracts.c.last_day >= open_on))
    return conditions


def by_terms(connection: Connection, terms: Iterable[TermId]) -> dict[TermId, Contract]:
    found: dict[TermId, Contract] = {}
    for chunk in chunks(terms):
        pairs = [(term.commitment, term.number) for term in chunk]
        condition = in_pairs((contracts.c.commitment, contracts.c.number), pairs)
        found.update((TermId(each.commitment, each.number), each) for each in find_contracts(connection, [condition]))
    return found


def register(connection: Connection, given: Sequence[Contract]) -> tuple[Contract, ...]:
    insert_new(connection, contracts, [rows.contract_row(each) for each in given])
    insert_new(connection, accounts, [{"account": name, "last_number": 0} for name in sorted(_accounts(given))])
    for each in given:
        _learn(connection, each)
    stored = by_terms(connection, {term_of(each) for each in given})
    return tuple(stored[term_of(each)] for each in given)


def needs_registering(connection: Connection, given: Sequence[Contract]) -> tuple[Contract, ...] | None:
    """None if something is to be written; else what is there."""
    stored = by_terms(connection, {term_of(each) for each in given})
    for each in given:
        there = stored.get(term_of(each))
        if there is None or any(
            getattr(there, name) is None and getattr(each, name) is not None for name in rows.LEARNT
        ):
            return None
        if {(one.at, one.compute_units) for one in each.reductions} - {
            (one.at, one.compute_units) for one in there.reductions
        }:
            return None
    return tuple(stored[term_of(each)] for each in given)


def term_of(contract: Contract) -> TermId:
    return TermId(contract.commitment, contract.number)


def _accounts(given: Iterable[Contract]) -> set[str]:
    return {each.account for each in given}


def _learn(connection: Connection, contract: Contract) -> None:
    here = and_(contracts.c.commitment == contract.commitment, contracts.c.number == contract.number)
    for name, value in rows.learnt(contract).items():
        if value is not None and name != "last_day":
            column = contracts.c[name]
            values = {name: value}
            if name == "billing_start":
                values["last_day"] = rows.learnt(contract)["last_day"]
            connection.execute(update(contracts).where(here, column.is_(None)).values(values))
    if contract.reductions:
        record_reductions(connection, term_of(contract), contract.reductions)


def record_reductions(connection: Connection, term: TermId, given: Sequence[Reduction]) -> tuple[Reduction, ...]:
    if term not in by_terms(connection, [term]):
        raise LedgerRefused(f"there is no term {term.number} of {term.commitment} to reduce")
    seen_at = seen_no_earlier(connection)
    values = (
        {
            "commitment": term.commitment,
            "number": term.number,
            "at": each.at,
            "compute_units": each.compute_units,
            "seen_at": seen_at(each.seen_at),
        }
        for each in given
    )
    insert_new(connection, reductions, list(values))
    return _reductions(connection, {term.commitment}).get(term, ())


def _reductions(connection: Connection, commitments: Collection[str]) -> Mapping[TermId, tuple[Reduction, ...]]:
    found: dict[TermId, list[Reduction]] = defaultdict(list)
    for chunk in chunks(sorted(commitments)):
        statement = (
            select(reductions)
            .where(reductions.c.commitment.in_(chunk))
            .order_by(reductions.c.at, reductions.c.seen_at, reductions.c.compute_units)
        )
        for row in connection.execute(statement):
            found[TermId(row.commitment, row.number)].append(Reduction(row.at, row.compute_units, row.seen_at))
    return {term: tuple(agreed) for term, agreed in found.items()}


def close_through(connection: Connection, day: date) -> None:
    """Waits for those who are writing down facts of that day or before."""
    connection.execute(update(progress).where(progress.c.last_day < day).values(last_day=day))


def seen_no_earlier(connection: Connection) -> Callable[[datetime], datetime]:
    """When something goes on record as seen: not before the end of a day that is closed, whatever the clock says, or that
    day would have had another price in hindsight (domain.billing.pricing). Until this transaction ends nobody closes a day:
    who does has either read what it writes, or what it writes is of a later day."""
    last: date = connection.execute(select(progress.c.last_day).with_for_update(read=True)).scalar_one()
    earliest = start_of(last + timedelta(days=1))
    return lambda moment: max(moment, earliest)


def record_sightings(connection: Connection, given: Sequence[PriceSighting]) -> None:
    seen_at = seen_no_earlier(connection)
    values = (
        {
            "price_book": each.price_book,
            "term": str(each.term),
            "effective_from": each.effective_from,
            "per_cu_month": rows.price_text(each.per_cu_month),
            "seen_at": seen_at(each.seen_at),
        }
        for each in given
    )
    insert_new(connection, price_sightings, list(values))


def find_sightings(connection: Connection, price_book: str) -> tuple[PriceSighting, ...]:
    columns = price_sightings.c
    statement = (
        select(price_sightings)
        .where(columns.price_book == price_book)
        .order_by(columns.effective_from, columns.seen_at, columns.term, columns.per_cu_month)
    )
    return tuple(rows.sighting(row) for row in connection.execute(statement))


# ------------------------------------------------------------------------------------------------------------- history


def plan_observation(
    connection: Connection, pool: PoolName, present: Collection[Presence], at: datetime
) -> IntervalChanges:
    here = _of_pool(pool)
    found = connection.execute(select(intervals).where(here, intervals.c.until.is_(None)))
    lasting = [rows.interval(row) for row in found]
    known = {(each.kind, each.subject) for each in lasting}
    new = [each.subject for each in present if (each.kind, each.subject) not in known]
    ends: dict[tuple[IntervalKind, str], datetime] = {}
    for chunk in chunks(new):
        statement = (
            select(intervals.c.kind, intervals.c.subject, func.max(intervals.c.until).label("until"))
            .where(here, intervals.c.subject.in_(chunk), intervals.c.until.is_not(None))
            .group_by(intervals.c.kind, intervals.c.subject)
        )
        ends.update(((IntervalKind(row.kind), row.subject), row.until) for row in connection.execute(statement))
    return plan_intervals((pool.namespace, pool.name), lasting, present, at, ends)


def observe(connection: Connection, pool: PoolName, present: Collection[Presence], at: datetime) -> int:
    changes = plan_observation(connection, pool, present, seen_no_earlier(connection)(at))
    for each in changes.ended:
        statement = (
            update(intervals)
            .where(_of_pool(pool), intervals.c.kind == str(each.kind), intervals.c.subject == each.subject)
            .where(intervals.c.until.is_(None))
            .values(until=each.until)
        )
        connection.execute(statement)
    insert_new(connection, intervals, [_interval_row(each) for each in changes.begun])
    return len(changes.ended) + len(changes.begun)


def _of_pool(pool: PoolName) -> ColumnElement[bool]:
    return and_(intervals.c.namespace == pool.namespace, intervals.c.pool == pool.name)


def _interval_row(each: Interval) -> dict[str, Any]:
    return {
        "namespace": each.namespace,
        "pool": each.pool,
        "kind": str(each.kind),
        "subject": each.subject,
        "owner": each.owner,
        "compute_units": each.compute_units,
        "since": each.since,
    }


def find_provisioned(
    connection: Connection, commitments: Sequence[str], since: datetime, until: datetime
) -> list[Interval]:
    columns = intervals.c
    statement = (
        select(intervals)
        .where(columns.kind == str(IntervalKind.PROVISIONED), columns.subject.in_(commitments))
        .where(columns.since < until, or_(columns.until.is_(None), columns.until > since))
        .order_by(columns.subject, columns.since, columns.id)
    )
    return [rows.interval(row) for row in connection.execute(statement)]


def find_intervals(
    connection: Connection, pools: Sequence[PoolName], since: datetime, until: datetime
) -> list[Interval]:
    columns = intervals.c
    pairs = [(pool.namespace, pool.name) for pool in pools]
    statement = (
        select(intervals)
        .where(in_pairs((columns.namespace, columns.pool), pairs), columns.since < until)
        .where(or_(columns.until.is_(None), columns.until > since))
        .order_by(columns.namespace, columns.pool, columns.since, columns.kind, columns.subject, columns.id)
    )
    return [rows.interval(row) for row in connection.execute(statement)]
