"""Reads out what the books say of one pool, and audits what was posted since the last look (behaviour.md I5, M7)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta

from reserved_capacity.api.computeunitpool import ComputeUnitPool
from reserved_capacity.domain.billing.audit import AuditedBooks, Finding, audit
from reserved_capacity.domain.billing.billing_conditions import BillingState
from reserved_capacity.domain.billing.charges import next_due
from reserved_capacity.domain.billing.contracts import Contract
from reserved_capacity.domain.billing.posted import PostedContract
from reserved_capacity.domain.billing.pricing import PriceHistory, charged_until
from reserved_capacity.domain.billing.summary import Reported, summarize
from reserved_capacity.domain.terms import start_of
from reserved_capacity.domain.units import cu_of
from reserved_capacity.ledger_ports import Lag, Ledger, PoolName, TermId
from reserved_capacity.reconcilers.billing.board import Billing, PoolBooks
from reserved_capacity.snapshot import holdings_of

AUDITED = timedelta(days=62)
"""How far back a day's audit looks: this month and the one before. `kubectl reserved ledger` audits whole terms."""


async def read_books(
    billing: Billing,
    pool: ComputeUnitPool,
    terms: Mapping[str, tuple[Contract, ...]],
    history: PriceHistory,
    now: datetime,
) -> PoolBooks:
    ledger, today = billing.ledger, now.astimezone(UTC).date()
    own = [each for several in terms.values() for each in several if each.account == pool.spec.account]
    posted = await ledger.posted([TermId(each.commitment, each.number) for each in own])
    state = await _state(billing, pool.spec.account, posted, today)
    before = billing.books.of(PoolName(pool.namespace, pool.name))
    audited = max((each.posted.last_charged for each in posted if each.posted.last_charged), default=None)
    to_be_closed = state.unposted_days and billing.books.closed_on != today  # what is missing is on its way
    if to_be_closed or (before is not None and before.audited_before == audited and not state.unposted_days):
        findings = before.findings if before is not None else ()
    else:
        wanted = audited or state.unposted_days
        findings = await _audit(ledger, pool.spec.account, terms, today) if wanted else ()
    await _halt_or_resume(billing, own, findings, now)
    return PoolBooks(
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


async def _state(billing: Billing, account: str, posted: Sequence[PostedContract], today: date) -> BillingState:
    unposted, oldest = 0, None
    for each in posted:
        due, end = next_due(each.contract, posted_through=each.posted.through), charged_until(each.contract)
        if due is not None and end is not None and due <= start_of(min(today, end)):
            unposted += (min(today, end) - due.date()).days + 1
            oldest = min(oldest or due, due)
    return await billing_state(billing, account, unposted_days=unposted, oldest_due_at=oldest)


async def billing_state(
    billing: Billing, account: str, *, unposted_days: int, oldest_due_at: datetime | None
) -> BillingState:
    """What an account's objects say of billing: their own days that are due, and what the account has not delivered."""
    lags = await billing.ledger.backlog(account=account)
    lag = lags[0] if lags else Lag(account, 0, None, 0)
    return BillingState(
        sink=billing.sink_name,
        pending_rows=lag.pending,
        oldest_pending_at=lag.oldest,
        failure=billing.books.failure_of(account),
        unposted_days=unposted_days,
        oldest_due_at=oldest_due_at,
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


async def _halt_or_resume(
    billing: Billing, contracts: Sequence[Contract], findings: Sequence[Finding], now: datetime
) -> None:
    """A commitment whose books do not balance is not reported, until they do; all others are (M4)."""
    wrong = {finding.key.split("/")[0]: finding.message for finding in findings}
    halted = {each.contract for each in await billing.ledger.halts()}
    for commitment in sorted({each.commitment for each in contracts}):
        if commitment in wrong and commitment not in halted:
            await billing.ledger.halt(commitment, wrong[commitment], now=now)
        elif commitment in halted and commitment not in wrong:
            await billing.ledger.resume(commitment)


def unreadable(before: PoolBooks | None, billing: Billing, failure: str) -> PoolBooks:
    """The last reading, and why there is no newer one."""
    state = BillingState(billing.sink_name)
    last = before if before is not None else PoolBooks({}, state)
    return replace(last, state=replace(last.state, books_failure=failure))
