"""The books and billing of the real operator while what they rest on fails (behaviour.md M4, M5, M7, M9; docs/testing.md).

Whatever goes wrong in between: at billing nothing is missing, nothing is there twice, the order of each account is kept, and
the ledger and the invoices are those of the run that nothing has disturbed.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import AsyncExitStack, contextmanager, suppress
from pathlib import Path
from random import Random

import psycopg
import pytest
import pytest_asyncio

from e2e.api import Api, Upstream
from e2e.books import Ledger, Run, provide, withdraw
from e2e.cluster import localplane
from e2e.cluster.lifecycle import Cluster
from e2e.operator import OperatorProcess
from tests.fakes.sink import CUT, LOST, HttpSink
from tests.postgresql import Postgres

pytestmark = pytest.mark.asyncio(loop_scope="module")

Begin = Callable[..., Awaitable[Run]]


@pytest.fixture(scope="module")
def server() -> Iterator[Postgres]:
    one = Postgres(fsync="off")
    yield one
    one.close()


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def runs(cluster: Cluster, server: Postgres, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Begin]:
    """Makes a run: PostgreSQL, or the SQLite file that an operator has of its own; nothing of it is left at the end."""
    directory: Path = tmp_path_factory.mktemp("money")
    all_of_them: list[Run] = []
    async with AsyncExitStack() as stack:
        api = await stack.enter_async_context(Api(await Upstream.of(cluster.kubeconfig)))
        await provide(api, cluster)

        async def one(name: str, url: str = "") -> Run:
            sink = await stack.enter_async_context(HttpSink())
            all_of_them.append(Run(name, cluster, api, directory, url or server.create(), sink))
            return all_of_them[-1]

        yield one
        for run in all_of_them:
            await run.gone()
        await withdraw(api)


@pytest_asyncio.fixture(loop_scope="module")
async def begin(runs: Begin) -> AsyncIterator[Begin]:
    """One run, which is over with the test."""
    begun: list[Run] = []

    async def one(name: str, url: str = "") -> Run:
        begun.append(await runs(name, url))
        return begun[-1]

    yield one
    for run in begun:
        await run.leave()
        run.close()


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def calm(runs: Begin) -> Ledger:
    """The run that nothing disturbs: day by day where something happens, else in steps."""
    run = await runs("calm")
    await run.begin()
    for day in (2, 3, 9, 10, 11, 12, 25, 38, 39, 46):
        await run.reach(day)
    ledger = await run.ledger()
    assert ledger is not None
    run.billed(ledger)
    await run.leave()
    run.close()
    return ledger


async def test_m2_m3_the_undisturbed_run_is_what_arithmetic_says(calm: Ledger) -> None:
    """100 CU: 264,000.00 a year, from the eleventh day on 240,000.00; a quarter 78,000.00."""
    charges = {
        contract: [int(row[5]) for row in rows if row[2] == "Charge"] for contract, rows in calm.by_contract().items()
    }
    year = [_day(264_000_00, 365, number) for number in range(1, 10)]
    year += [_day(240_000_00, 365, number) for number in range(10, 46)]
    assert charges == {"po-1": year, "po-2": year, "po-3": [_day(78_000_00, 90, number) for number in range(1, 46)]}
    others = [(row[2], int(row[5])) for row in calm.by_contract()["po-2"] if row[2] != "Charge"]
    rest = [total - total * 9 // 365 for total in (264_000_00, 240_000_00)]
    assert others == [("Prepayment", 264_000_00), ("PriceCredit", rest[1] - rest[0])]


def _day(total: int, days: int, number: int) -> int:
    return total * number // days - total * (number - 1) // days


async def test_m5_an_operator_that_was_off_for_40_days(begin: Begin, calm: Ledger, tmp_path: Path) -> None:
    run = await begin("off", f"sqlite:///{tmp_path}/books.db")
    await run.begin()
    await run.reach(3)
    await run.stop(run.operators[0])
    run.clock(43)
    await run.operator()
    await run.reach(43)
    await run.agrees(calm, 43)


async def test_m7_a_billing_system_that_was_off_for_30_days_and_then_loses_half_of_its_answers(
    begin: Begin, calm: Ledger
) -> None:
    """It takes no batches: every row is a call of its own, and half of all calls are cut off, before or after."""
    run = await begin("sink")
    await run.begin()
    await run.reach(3)
    run.sink.answers = lambda _: CUT
    for day in (4, 12, 33):
        run.clock(day)
        await run.posted(day)
    chance = Random(30)  # noqa: S311 - no secret
    run.sink.answers = lambda number: 415 if _is_batch(run, number) else chance.choice((204, 204, LOST, CUT))
    await run.reach(34)
    await run.agrees(calm, 34)
    assert len(run.sink.received.sent) > len({each for _, each in run.sink.received.sent}), "nothing was sent again"


def _is_batch(run: Run, number: int) -> bool:
    return "batch" in run.sink.requests[number][0]


async def test_m5_a_database_that_is_killed_in_the_middle_of_a_close(
    begin: Begin, calm: Ledger, server: Postgres
) -> None:
    """Once when the rows are written and their events are not, once when a month's invoice is to be kept."""
    run = await begin("killed")
    await run.begin()
    await run.reach(3)
    for table in ("outbox", "closed_months"):
        with held_up(run.url, table) as stuck:
            run.clock(43)
            await run.until(stuck, bool, "the close is in the middle")
            server.kill()
        server.start()
    await run.reach(43)
    await run.agrees(calm, 43)


async def _leads(process: OperatorProcess) -> bool:
    return any(record["event"] == "leading" for record in process.records("info"))


async def meets_it_or_comes_too_late(url: str) -> bool:
    """Or nobody is left to wait for: a transaction whose process says nothing is ended by the database after a while
    (idle_in_transaction_session_timeout)."""
    with psycopg.connect(url) as connection:
        return _waits(connection, "%accounts%") or not _is_open(connection)


def _is_open(connection: psycopg.Connection) -> bool:
    left = "SELECT 1 FROM pg_stat_activity WHERE state = 'idle in transaction' AND datname = current_database()"
    return connection.execute(left).fetchone() is not None


def _waits(connection: psycopg.Connection, query: str) -> bool:
    waiting = "SELECT 1 FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND query LIKE %s"
    return connection.execute(waiting, [query]).fetchone() is not None


@contextmanager
def held_up(url: str, table: str) -> Iterator[Callable[[], Awaitable[bool]]]:
    """Nobody can write to the table. Given is whether somebody wants to, in the middle of a transaction."""
    with (
        suppress(psycopg.OperationalError),
        psycopg.connect(url) as holder,
        psycopg.connect(url, autocommit=True) as seen,
    ):
        holder.execute(f"LOCK TABLE {table} IN SHARE MODE")

        async def stuck() -> bool:
            return _waits(seen, f"INSERT INTO {table}%")

        yield stuck


async def test_m4_a_leader_that_is_frozen_in_the_middle_of_a_close_and_wakes_up_beside_its_successor(
    begin: Begin, calm: Ledger
) -> None:
    """Its transaction is open while the successor takes over, and it goes on as if it led; half of all answers are lost."""
    run = await begin("leaders")
    run.clock(0)
    first = await run.operator("-1", "--leader-elect")
    await run.placed()
    second = await run.operator("-2", "--leader-elect")
    await run.reach(3)
    chance = Random(4)  # noqa: S311 - no secret
    run.sink.answers = lambda _: chance.choice((204, 204, LOST, CUT))
    with held_up(run.url, "outbox") as stuck:
        run.clock(43)
        await run.until(stuck, bool, "the close is in the middle")
        first.freeze()
    await run.until(lambda: _leads(second), bool, "the successor leads")
    run.clock(44)
    await run.until(
        lambda: meets_it_or_comes_too_late(run.url),
        bool,
        "the successor meets the open transaction, or comes so late that the database has ended it",
    )
    first.thaw()
    await run.reach(44)
    await run.agrees(calm, 44)


async def test_m4_two_operators_that_both_lead(begin: Begin, calm: Ledger) -> None:
    run = await begin("both")
    await run.begin()
    await run.operator("-2")
    chance = Random(5)  # noqa: S311 - no secret
    run.sink.answers = lambda _: chance.choice((204, 204, LOST, CUT))
    for day in (3, 4, 5, 43):
        await run.reach(day)
    await run.agrees(calm, 43)


async def test_m5_a_clock_that_is_a_day_ahead_and_a_day_behind(begin: Begin, calm: Ledger) -> None:
    run = await begin("clock")
    await run.begin()
    for day in (-1, 4, 5, 4, 3, 4, 5):
        run.clock(day)
        await asyncio.sleep(1.2)  # it looks once a second
    await run.reach(12)
    run.clock(11)
    await asyncio.sleep(1.2)
    await run.reach(13)
    await run.agrees(calm, 13)


async def test_m9_a_namespace_that_is_deleted_by_mistake_and_applied_again(begin: Begin, calm: Ledger) -> None:
    """One customer's pool comes back as it was, the other's under another name."""
    run = await begin("gone")
    await run.begin()
    await run.reach(5)
    await run.leave()
    await run.gone()
    await run.reach(9)
    await run.order("acme")
    await run.order("globex", "again")
    await run.used("acme")
    await run.used("globex", "again")
    await run.reach(13)
    await run.agrees(calm, 13)


async def test_m9_an_etcd_that_is_restored_from_an_older_copy_under_a_running_operator(
    begin: Begin, calm: Ledger, cluster: Cluster, tmp_path: Path
) -> None:
    if cluster.backend != "local":
        pytest.skip("only the control plane that we have built can be stopped")
    run = await begin("restored")
    await run.begin()
    await run.reach(3)
    await asyncio.to_thread(localplane.copy_etcd, cluster.state, tmp_path / "copy")
    await run.reach(9)
    localplane.restore_etcd(cluster.state, tmp_path / "copy")
    await run.reach(13)
    await run.agrees(calm, 13)

    async def charged() -> list[int]:
        status = await run.pool("acme")
        return [each.get("charged", {}).get("days", 0) for each in status.get("commitments", ())]

    await run.until(charged, lambda days: days == [12, 12], "the pool says what the books say")
