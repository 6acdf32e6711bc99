"""Any sequence of operations: the books in memory and in SQLite answer alike, so what is simulated on the fake is true of
the database (M4, M5, M7)."""

from __future__ import annotations

import asyncio
import tempfile
from collections.abc import Awaitable, Callable, Sequence
from datetime import timedelta
from pathlib import Path
from typing import Any

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from reserved_capacity.adapters.database.engine import Database
from reserved_capacity.adapters.database.ledger import SqlLedger
from reserved_capacity.domain.billing.ledger import Transaction
from reserved_capacity.domain.billing.months import Month
from reserved_capacity.ledger_ports import Ledger, LedgerRefused, Notice, TermId
from tests.contract.ledger_port import NOW, POOL, charge, closed, contract, day, gather, held, invoice, shortfall
from tests.fakes.ledger import FakeLedger

ACCOUNT_OF = {"a": "acme", "b": "acme", "g": "globex"}
commitments = st.sampled_from(sorted(ACCOUNT_OF))
accounts = st.sampled_from(("acme", "globex"))
days = st.integers(1, 95)
END = Month(2026, 5).end
hours = st.integers(-30, 30).map(lambda count: NOW + timedelta(hours=count))


@st.composite
def transactions(draw: st.DrawFn) -> list[Transaction]:
    found = []
    for _ in range(draw(st.integers(1, 6))):
        commitment, number = draw(commitments), draw(days)
        # Now and then of the wrong account, which has to be refused if the key is there already.
        account = draw(st.sampled_from((*[ACCOUNT_OF[commitment]] * 9, "globex")))
        row = draw(st.sampled_from((charge, shortfall)))(number, commitment, minor=draw(st.integers(0, 9999)))
        found.append(type(row)(**{**{name: getattr(row, name) for name in row.__slots__}, "account": account}))
    return found


class BothLedgers(RuleBasedStateMachine):
    @initialize()
    def open(self) -> None:
        self.directory = tempfile.TemporaryDirectory()
        self.runner = asyncio.Runner()
        self.database = Database(f"sqlite:///{Path(self.directory.name)}/books.db")
        self.ledgers: tuple[Ledger, Ledger] = (FakeLedger(), SqlLedger(self.database))

    def teardown(self) -> None:
        if hasattr(self, "runner"):
            self.runner.run(self.database.close())
            self.runner.close()
            self.directory.cleanup()

    def both(self, ask: Callable[[Ledger], Awaitable[Any]]) -> Any:
        async def answer(ledger: Ledger) -> Any:
            try:
                return await ask(ledger)
            except LedgerRefused:
                return "refused"

        one, other = (self.runner.run(answer(ledger)) for ledger in self.ledgers)
        assert one == other
        return one

    @rule(given=transactions(), now=hours)
    def append(self, given: Sequence[Transaction], now: Any) -> None:
        self.both(lambda ledger: ledger.append(given, now=now))

    @rule(commitment=commitments, start=st.none() | days, number=st.integers(1, 2))
    def register(self, commitment: str, start: int | None, number: int) -> None:
        begins = day(start) if start is not None else None
        given = contract(commitment, number, account=ACCOUNT_OF[commitment], billing_start=begins)
        self.both(lambda ledger: ledger.register([given]))

    @rule(commitment=commitments, now=hours)
    def halt(self, commitment: str, now: Any) -> None:
        self.both(lambda ledger: ledger.halt(commitment, "why", now=now))

    @rule(commitment=commitments)
    def resume(self, commitment: str) -> None:
        self.both(lambda ledger: ledger.resume(commitment))

    @rule(account=accounts, limit=st.integers(1, 5), marks=st.integers(0, 5))
    def deliver(self, account: str, limit: int, marks: int) -> None:
        events = self.both(lambda ledger: ledger.pending(account, limit))
        self.both(lambda ledger: ledger.delivered(events[:marks]))

    @rule(identity=st.sampled_from("xyz"), account=accounts, now=hours)
    def announce(self, identity: str, account: str, now: Any) -> None:
        notice = Notice(identity, account, "a", {"account": account})
        self.both(lambda ledger: ledger.announce([notice], now=now))

    @rule(account=accounts, month=st.integers(3, 6), with_invoice=st.booleans())
    def close_month(self, account: str, month: int, with_invoice: bool) -> None:
        through = self.both(lambda ledger: ledger.position(account))
        sent = invoice(f"{account}-{month}", account=account) if with_invoice else None
        self.both(lambda ledger: ledger.close_month(closed(month, through, account), sent))

    @rule(present=st.sets(st.sampled_from(("c-0", "c-1"))), units=st.sampled_from((100, 200)), at=hours)
    def observe(self, present: set[str], units: int, at: Any) -> None:
        given = [held(member, units) for member in sorted(present)]
        self.both(lambda ledger: ledger.observe(POOL, given, at))

    @rule(number=days)
    def begin_close(self, number: int) -> None:
        self.both(lambda ledger: ledger.begin_close(day(number)))

    @rule(account=accounts, owner=st.sampled_from("12"), now=hours)
    def claim(self, account: str, owner: str, now: Any) -> None:
        self.both(lambda ledger: ledger.claim(account, owner, now=now, seconds=60))

    @invariant()
    def say_the_same(self) -> None:
        if not hasattr(self, "ledgers"):
            return
        terms = [TermId(commitment, number) for commitment in ACCOUNT_OF for number in (1, 2)]
        self.both(lambda ledger: ledger.posted(terms))
        self.both(lambda ledger: ledger.due(day(80)))
        self.both(lambda ledger: ledger.backlog())
        self.both(lambda ledger: ledger.halts())
        self.both(lambda ledger: ledger.books())
        far = timedelta(days=99)
        self.both(lambda ledger: gather(ledger.intervals({POOL}, NOW - far, NOW + far)))
        for account in ("acme", "globex"):
            through = self.both(lambda ledger, account=account: ledger.position(account))
            self.both(lambda ledger, account=account: ledger.pending(account, 100))
            self.both(lambda ledger, account=account: gather(ledger.entries(account=account)))
            self.both(
                lambda ledger, account=account, through=through: gather(
                    ledger.uninvoiced(account, "USD", END, through=through)
                )
            )


TestBothLedgers = BothLedgers.TestCase
TestBothLedgers.settings = settings(max_examples=20, stateful_step_count=20, deadline=None)
