"""Reads out what the books say of one pool, and audits what was posted since the last look (behaviour.md I5, M7).

What no close has tried yet is not missing: the books may have learnt of it after the close of the day (ADR 0069). So nothing is
judged before that, and nobody is halted, nor reported again.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, date, datetime, timedelta

import structlog

from reserved_capacity.api.computeunitpool import ComputeUnitPool
from reserved_capacity.domain.billing.audit import AuditedBooks, Finding, audit
from reserved_capacity.domain.billing.billing_conditions import BillingState
from reserved_capacity.domain.billing.charges import DAY, next_due
from reserved_capacity.domain.billing.contracts import Contract
from reserved_capacity.domain.billing.posted import PostedContract
from reserved_capacity.domain.billing.pricing import PriceHistory, charged_until
from reserved_capacity.domain.billing.summary import Reported, summarize
from reserved_capacity.domain.terms import start_of
from reserved_capacity.domain.units import cu_of
from reserved_capacity.ledger_ports import Lag, Ledger, PoolName, TermId
from reserved_capacity.queue import Key
from reserved_capacity.reconcilers.billing.board import AGREEMENTS, Billing, Due, PoolBooks
from reserved_capacity.snapshot import holdings_of

log = structlog.get_logger(__name__)

AUDITED = timedelta(days=62)
"""How far back a day's audit looks: this month and the one before. `kubectl reserved ledger` audits whole terms."""


@dataclass(frozen=True, slots=True)
class Reading:
    """`awaits_close`: days are due that no close has tried yet. `released`: rows that were held are to be reported."""

    books: PoolBooks
    awaits_close: bool
    released: bool


async def read_books(
    billing: Billing,
    pool: ComputeUnitPool,
    terms: Mapping[str, tuple[Contract, ...]],
    history: PriceHistory,
    now: datetime,
) -> Reading:
    ledger, today = billing.ledger, now.astimezone(UTC).date()
    own = [each for several in terms.values() for each in several if each.account == pool.spec.account]
    posted = await ledger.posted([TermId(each.commitment, each.number) for each in own])
    due = _due(posted, today)
    awaits_close = billing.books.awaits_close(Key(AGREEMENTS, pool.namespace, pool.name), due)
    state = await billing_state(billing, pool.spec.account, due)
    before = billing.books.of(PoolName(pool.namespace, pool.name))
    findings, audited = (before.findings, before.audited_before) if before is not None else (None, None)
    charged = max((each.posted.last_charged for each in posted if each.posted.last_charged), default=None)
    released = False
    if not awaits_close:
        if findings is None or due or audited != charged:
            findings = await _audit(ledger, pool.spec.account, terms, today) if charged or due else ()
        audited = charged
        released = await halt_or_resume(billing, {each.commitment for each in own}, findings, now)
    books = PoolBooks(
        terms=terms,
        state=state,
        summary=summarize(
            posted,
            history,
            Reported(
                billing.sink is not None, state.pending_rows, await _pending_from(billing, state, pool.spec.account)
            ),
            held_cu=sum(cu_of(each.blocks) for each in holdings_of(pool)),
            today=today,
        ),
        findings=findings,
        audited_before=audited,
        read_on=today,
    )
    return Reading(books, awaits_close, released)


def _due(posted: Sequence[PostedContract], today: date) -> Due:
    found = set()
    for each in posted:
        at, end = next_due(each.contract, posted_through=each.posted.through), charged_until(each.contract)
        if at is not None and end is not None and at <= start_of(min(today, end)):
            name = f"{each.contract.commitment}/{each.contract.number}"
            found.add((name, at.date() - DAY, min(today, end) - DAY))
    return frozenset(found)


async def billing_state(billing: Billing, account: str, due: Due) -> BillingState:
    """What an account's objects say of billing: their own days that are due, and what the account has not delivered."""
    first = min((day for _, day, _ in due), default=None)
    lags = await billing.ledger.backlog(account=account)
    lag = lags[0] if lags else Lag(account, 0, None, 0)
    return BillingState(
        sink=billing.sink_name,
        pending_rows=lag.pending,
        oldest_pending_at=lag.oldest,
        failure=billing.books.failure_of(account),
        unposted_days=sum((last - day).days + 1 for _, day, last in due),
        oldest_due_at=start_of(first + DAY) if first is not None else None,
    )


async def _pending_from(billing: Billing, state: BillingState, account: str) -> date | None:
    """The day of the first row that billing has not confirmed."""
    if not state.pending_rows or billing.sink is None:
        return None
    first = await billing.ledger.pending(account, 1)
    day = first[0].data.get("day") if first else None
    return date.fromisoformat(day) if isinstance(day, str) else None


async def _audit(
    ledger: Ledger, account: str, terms: Mapping[str, tuple[Contract, ...]], today: date
) -> tuple[Finding, ...]:
    found: list[Finding] = []
    for commitment, contracts in terms.items():
        if contracts and contracts[0].account == account:
            found.extend(await _audited(ledger, commitment, contracts, today))
    return tuple(found)


async def _audited(ledger: Ledger, commitment: str, known: Sequence[Contract], today: date) -> tuple[Finding, ...]:
    """The rows are read before what they are made of: facts only become more, and those that come later are of later days
    (`begin_close`). The other way round, a row that somebody posts in between would follow from nothing."""
    since, begun = today - AUDITED, known[0].billing_start
    from_day = None if begun is not None and begun >= since else since
    rows = [entry.transaction async for entry in ledger.entries(contract=commitment, since=from_day)]
    contracts = await ledger.contracts(commitment=commitment)
    history = PriceHistory(await ledger.sightings(known[0].price_book))
    provisioned = [each async for each in ledger.provisioned([commitment], start_of(since), start_of(today))]
    books = AuditedBooks(contracts, history, rows, provisioned, from_day)
    return audit(books, through=today - timedelta(days=1))


async def halt_or_resume(
    billing: Billing, contracts: Collection[str], findings: Sequence[Finding], now: datetime
) -> bool:
    """A commitment or lot whose books do not balance is not reported, until they do; all others are (M4). Whether one is
    again."""
    wrong = {finding.key.split("/")[0]: finding.message for finding in findings}
    halted = {each.contract for each in await billing.ledger.halts()}
    released = False
    for contract in sorted(contracts):
        if contract in wrong and contract not in halted:
            log.error("contract halted", contract=contract, why=wrong[contract])
            await billing.ledger.halt(contract, wrong[contract], now=now)
        elif contract in halted and contract not in wrong:
            await billing.ledger.resume(contract)
            log.info("contract resumed", contract=contract)
            released = True
    return released


def unreadable(before: PoolBooks | None, billing: Billing, failure: str) -> PoolBooks:
    """The last reading, and why there is no newer one."""
    state = BillingState(billing.sink_name)
    last = before if before is not None else PoolBooks({}, state)
    return replace(last, state=replace(last.state, books_failure=failure))
