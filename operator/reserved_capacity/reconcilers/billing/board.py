"""Owns what the reconcilers of money have in hand: the ledger, the sink, and the board on which the books are read out."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date

from reserved_capacity.domain.billing.audit import Finding
from reserved_capacity.domain.billing.billing_conditions import BillingState
from reserved_capacity.domain.billing.contracts import Contract
from reserved_capacity.domain.billing.summary import BillingSummary
from reserved_capacity.ledger_ports import BillingSink, Lag, Ledger, PoolName
from reserved_capacity.queue import Key

AGREEMENTS, CLOSE, DELIVERY = "agreements", "close", "delivery"

Due = frozenset[tuple[str, date, date]]
"""What is to be posted and is not: of each contract, with the number of its term, the first and the last of these days."""


@dataclass(frozen=True, slots=True)
class PoolBooks:
    """What the books say of a pool.

    `terms` are those of every commitment that the pool names, whoever agreed on them. `findings` are those of the last
    audit, of the days before `audited_before`; None: not audited yet. `read_on` is the UTC day of the summary. When the books
    cannot be read, all but `state` is as last read.
    """

    terms: Mapping[str, tuple[Contract, ...]]
    state: BillingState
    summary: BillingSummary | None = None
    findings: tuple[Finding, ...] | None = None
    audited_before: date | None = None
    read_on: date | None = None


@dataclass(frozen=True, slots=True)
class Audit:
    """What the last audit of a reservation's lots found, and how far each of them was posted then."""

    findings: tuple[Finding, ...]
    posted: frozenset[tuple[str, date | None]]


@dataclass(slots=True)
class Books:
    """The newest reading of every pool, and what billing said last for every account.

    A cache: a restart reads again, and until a pool has been read no new order of it is accepted. It also knows who found
    something due, and whether a close that began after that has tried it: only then is it missing (ADR 0069).
    """

    _pools: dict[PoolName, PoolBooks] = field(default_factory=dict)
    _audits: dict[Key, Audit] = field(default_factory=dict)
    _failures: dict[str, str] = field(default_factory=dict)
    _due: dict[Key, Due] = field(default_factory=dict)
    _awaiting: dict[Key, Due] = field(default_factory=dict)

    def post(self, pool: PoolName, reading: PoolBooks) -> bool:
        """Whether that is news."""
        news = self._pools.get(pool) != reading
        self._pools[pool] = reading
        return news

    def of(self, pool: PoolName) -> PoolBooks | None:
        """None: not read yet."""
        return self._pools.get(pool)

    def forget(self, pool: PoolName) -> None:
        self._pools.pop(pool, None)
        self.awaits_close(Key(AGREEMENTS, pool.namespace, pool.name), frozenset())

    def audit_of(self, reservation: Key) -> Audit | None:
        """None: not audited yet."""
        return self._audits.get(reservation)

    def keep_audit(self, reservation: Key, audit: Audit | None) -> None:
        if audit is None:
            self._audits.pop(reservation, None)
        else:
            self._audits[reservation] = audit

    def awaits_close(self, who: Key, due: Due) -> bool:
        """Whether a close has yet to try what is due of it; it is to be read again after that. What a close has tried in vain
        is waited for no longer, until something else is due."""
        if self._due.get(who, frozenset()) != due:
            self._due[who] = self._awaiting[who] = due
        if not due:
            self._due.pop(who, None)
            self._awaiting.pop(who, None)
        return who in self._awaiting

    def awaiting(self) -> Mapping[Key, Due]:
        """Who waits for the close that begins now."""
        return dict(self._awaiting)

    def closed(self, served: Mapping[Key, Due]) -> None:
        """That close has tried everything. Who has found something else to be due meanwhile waits for the next."""
        for who, due in served.items():
            if self._awaiting.get(who) == due:
                del self._awaiting[who]

    def failed(self, account: str, failure: str) -> bool:
        """Note what billing said for an account, empty after a success; whether that is news."""
        news = self._failures.get(account, "") != failure
        self._failures[account] = failure
        return news

    def failure_of(self, account: str) -> str:
        return self._failures.get(account, "")


def _untold(*_: object) -> None:
    pass


@dataclass(frozen=True, slots=True)
class Billing:
    """`sink` None: nobody listens, and events are kept; `sink_name` is where they go, as a customer may read it. `owner`
    names this process to others that deliver. `charged(account, currency, minor)` is told of charges that were posted,
    `lagging(backlog)` of what waits for delivery."""

    ledger: Ledger
    sink: BillingSink | None = None
    sink_name: str | None = None
    owner: str = ""
    charged: Callable[[str, str, int], None] = _untold
    lagging: Callable[[Sequence[Lag]], None] = _untold
    books: Books = field(default_factory=Books)
