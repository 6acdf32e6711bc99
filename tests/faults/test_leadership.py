"""Who works, who waits, and what happens when that changes."""

from __future__ import annotations

import asyncio
import time
from pathlib import Path

import aiohttp
import pytest

from reserved_capacity import resync
from reserved_capacity.adapters import health, lease
from reserved_capacity.ports import Ref
from tests.fakes.apiserver import LEASES
from tests.fakes.cluster import FakeCluster
from tests.faults.conftest import start

LEASE = Ref(LEASES, "reserved-capacity", "reserved-capacity")


async def test_a_standby_knows_everything_does_nothing_and_takes_over_at_once(tmp_path: Path) -> None:
    cluster = FakeCluster()
    async with start(tmp_path, cluster, leader_elect=True) as first:
        await first.until(lambda: first.operator.role == "leading")
        async with start(tmp_path, cluster, leader_elect=True) as second:
            first.make("a")
            await first.until(lambda: first.settled("a"))
            assert second.operator.role == "standby"
            await second.until(second.operator.resync.synced)
            assert [write.outcome for write in cluster.writes if write.verb == "replace_status"] == ["ok"]
            first.operator.stop.set()
            assert await asyncio.wait_for(first.task, 10) == 0
            first.make("b")
            assert await second.until(lambda: second.settled("b")) < 4.0, "it need not wait for the lease to run out"


@pytest.fixture
def hasty(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, seconds in (("LEASE_SECONDS", 3), ("RENEW_SECONDS", 2), ("RETRY_SECONDS", 1)):
        monkeypatch.setattr(lease, name, seconds)


@pytest.mark.usefixtures("hasty")
async def test_whoever_loses_the_lease_stands_by_gives_nothing_back_and_works_again_when_it_is_free(
    tmp_path: Path,
) -> None:
    async with start(tmp_path, leader_elect=True) as running:
        await running.until(lambda: running.operator.role == "leading")
        holder = {"holderIdentity": "somebody-else", "renewTime": "2030-01-01T00:00:00.000000Z"}
        running.cluster.user_patch(LEASE, {"spec": holder})
        await running.until(lambda: running.operator.role == "standby")
        running.make("a")
        stored = running.cluster.peek(LEASE)
        assert stored is not None
        assert stored["spec"]["holderIdentity"] == "somebody-else", "what is not ours is not given back"
        assert running.server.mutations == []
        await running.until(lambda: running.settled("a"))
        assert running.operator.role == "leading"


@pytest.mark.usefixtures("hasty")
async def test_an_outage_of_any_length_leaves_the_process_alive_not_ready_and_working_when_it_is_over(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """ADR 0013. Every call fails for longer than everything that once ended the process."""
    monkeypatch.setattr(resync, "AWAY_SECONDS", 0.5)
    monkeypatch.setattr(health, "STALE_WATCH_SECONDS", 2.0)
    async with start(tmp_path, leader_elect=True) as running, aiohttp.ClientSession() as session:

        async def probe(path: str) -> int:
            port = running.operator._servers[0].port
            async with session.get(f"http://127.0.0.1:{port}/{path}") as response:
                return response.status

        await running.until(lambda: running.operator.role == "leading")
        running.server.fault("*", "", status=503)
        running.server.drop_watches()
        running.make("a")
        await running.until(lambda: running.operator.freshness.away)
        for _ in range(10):
            assert (await probe("livez"), await probe("readyz")) == (200, 500)
            await asyncio.sleep(0.4)
        assert running.operator.role == "standby"
        running.server.heal()
        await running.until(lambda: running.settled("a"), 15.0)
        # In a test the limit is shorter than the time until every kind is listed again.
        await running.until(lambda: max(running.operator.freshness.ages().values()) < 1.5, 15.0)
        assert (await probe("livez"), await probe("readyz")) == (200, 200)
        assert not running.task.done()


async def test_an_api_server_that_is_away_for_a_while_does_not_cost_the_lease(tmp_path: Path) -> None:
    async with start(tmp_path, leader_elect=True) as running:
        await running.until(lambda: running.operator.role == "leading")
        running.server.fault("*", "/leases", drop=True)
        await asyncio.sleep(3.0)
        running.server.heal()
        await asyncio.sleep(2.5)
        assert not running.task.done()
        assert running.operator.election.leading


async def test_probes_and_metrics_answer_while_it_runs(tmp_path: Path) -> None:
    async with start(tmp_path) as running, aiohttp.ClientSession() as session:
        ports = [server.port for server in running.operator._servers]
        for port, path in ((ports[0], "livez"), (ports[0], "readyz"), (ports[1], "metrics")):
            async with session.get(f"http://127.0.0.1:{port}/{path}") as response:
                assert response.status == 200
        started = time.monotonic()
    assert time.monotonic() - started < 10
