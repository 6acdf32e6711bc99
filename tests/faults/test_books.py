"""The books and their delivery when what they rest on fails: databases and operators that are killed, two operators at
once, answers that are lost (M4, M5, M7, I5, I6). What stands in the end is what an undisturbed run leaves."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import ExitStack, suppress
from datetime import timedelta
from pathlib import Path
from random import Random
from typing import Any

import pytest
from sqlalchemy import event

from reserved_capacity.adapters.billing_sink import HttpBillingSink
from reserved_capacity.adapters.database.engine import Database
from reserved_capacity.adapters.database.ledger import SqlLedger
from reserved_capacity.ledger_ports import Ledger, SinkUnavailable
from reserved_capacity.reconcilers.billing.delivery import CLAIM_SECONDS, deliver
from tests.contract.ledger_port import NOW, gather
from tests.fakes.ledger import FakeLedger
from tests.fakes.sink import CUT, LOST, HttpSink
from tests.faults.posting import CONTRACTS, close_all, order
from tests.integration.test_delivery import StoppedClock
from tests.postgresql import Postgres

ACCOUNTS = ("acme", "globex")
DAYS = 40


@pytest.fixture(params=["sqlite", "postgresql"])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    return (
        f"sqlite:///{tmp_path}/books.db" if request.param == "sqlite" else request.getfixturevalue("postgres").create()
    )


@pytest.fixture
async def ledger(url: str) -> AsyncIterator[SqlLedger]:
    database = Database(url)
    yield SqlLedger(database)
    await database.close()


@pytest.fixture
def operators(url: str) -> Iterator[Callable[[], subprocess.Popen[str]]]:
    """Starts operators as processes of their own."""
    with ExitStack() as running:

        def start() -> subprocess.Popen[str]:
            process = subprocess.Popen(
                [sys.executable, "-m", "tests.faults.posting", url, str(DAYS)],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                text=True,
                env={"PYTHONPATH": "operator:."},
            )
            running.enter_context(process)
            running.callback(process.kill)
            return process

        yield start


async def rows_of(ledger: Ledger) -> dict[str, list[Any]]:
    """Every row of every account, and that their numbers have no gap."""
    found = {account: await gather(ledger.entries(account=account)) for account in ACCOUNTS}
    for account, entries in found.items():
        assert sorted(each.number for each in entries) == list(range(1, len(entries) + 1))
        assert await ledger.position(account) == len(entries)
    return {account: sorted(each.transaction.key for each in entries) for account, entries in found.items()}


async def undisturbed() -> dict[str, list[Any]]:
    ledger = FakeLedger()
    await order(ledger)
    await close_all(ledger, DAYS)
    return await rows_of(ledger)


async def test_m5_a_database_that_is_killed_while_days_are_closed_loses_and_doubles_none(postgres: Postgres) -> None:
    database = Database(postgres.create())
    ledger = SqlLedger(database)
    await order(ledger)
    statements = 0

    def kill_now_and_then(_connection: Any, _cursor: Any, statement: str, *_: Any) -> None:
        nonlocal statements
        if statement.startswith("INSERT INTO outbox"):
            statements += 1
            if statements == 5:
                postgres.kill()
            if statements == 20:
                postgres.stop()

    event.listen(database.engine, "before_cursor_execute", kill_now_and_then)
    await close_all(ledger, DAYS, mend=postgres.start)
    assert statements > 20
    assert await rows_of(ledger) == await undisturbed()
    await database.close()


async def test_m5_an_operator_that_is_killed_while_it_closes_days_goes_on_where_it_was(
    ledger: SqlLedger, operators: Callable[[], subprocess.Popen[str]]
) -> None:
    killed = operators()
    assert killed.stdin is not None
    assert killed.stdout is not None
    print(killed.stdout.readline(), file=killed.stdin, flush=True)
    while killed.stdout.readline().strip() != "7":
        pass
    killed.kill()
    killed.wait()
    await close_all(ledger, DAYS)
    assert await rows_of(ledger) == await undisturbed()


async def test_m4_two_operators_that_close_the_same_days_at_once_post_each_once(
    ledger: SqlLedger, operators: Callable[[], subprocess.Popen[str]]
) -> None:
    both = [operators(), operators()]
    for each in both:
        assert each.stdout is not None
        assert each.stdout.readline() == "ready\n"
    for each in both:
        assert each.stdin is not None
        print(file=each.stdin, flush=True)
    assert [each.wait(timeout=60) for each in both] == [0, 0]
    assert await rows_of(ledger) == await undisturbed()
    assert sum(lag.pending for lag in await ledger.backlog()) == sum(map(len, (await undisturbed()).values()))


async def test_m5_a_clock_that_jumps_a_day_either_way_posts_no_day_twice(ledger: SqlLedger) -> None:
    await order(ledger)
    for number in (10, 9, 10, 11, 10, DAYS):
        await close_all(ledger, number)
    assert await rows_of(ledger) == await undisturbed()


async def test_m7_with_half_the_answers_lost_billing_has_every_row_once_and_in_order(ledger: SqlLedger) -> None:
    """Thirty days wait; two operators take turns, now and then at once; i6."""
    chance = Random(7)
    clock = StoppedClock(NOW)

    async def no_nap(_seconds: float) -> None:
        pass

    await order(ledger)
    await close_all(ledger, 30)
    await ledger.halt(CONTRACTS[0].commitment, "to see", now=NOW)
    async with (
        HttpSink(lambda _: chance.choice((204, 204, LOST, CUT))) as server,
        HttpBillingSink(server.url, source="//cluster", sleep=no_nap) as sink,
    ):
        for turn in range(1000):
            if turn == 40:
                await ledger.resume(CONTRACTS[0].commitment)
            lags = [lag for lag in await ledger.backlog() if lag.pending]
            if not lags and turn > 40:
                break
            for lag in lags:
                clock.moment += timedelta(seconds=chance.choice((0, CLAIM_SECONDS + 1)))
                owner = chance.choice(("one", "two"))
                with suppress(SinkUnavailable):
                    await deliver(ledger, sink, lag.account, owner=owner, clock=clock, limit=7)
    assert await ledger.backlog() == ()
    sent = [identity for _, identity in server.received.sent]
    assert len(sent) > len(set(sent)), "some were sent more than once, or nothing was tried"
    for account in ACCOUNTS:
        kept = server.received.kept[account]
        entries = sorted(await gather(ledger.entries(account=account)), key=lambda each: each.number)
        assert sorted(kept) == sorted(each.transaction.key for each in entries), "no gap, and nothing from nowhere"
        for each in CONTRACTS:
            own = [identity for identity in kept if identity.startswith(f"{each.commitment}/")]
            assert own == [key for entry in entries if (key := entry.transaction.key) in set(own)]
    globex = sorted(await gather(ledger.entries(account="globex")), key=lambda each: each.number)
    assert server.received.kept["globex"] == [each.transaction.key for each in globex], "the order of the account"
