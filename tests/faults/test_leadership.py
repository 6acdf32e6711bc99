"""Who works, who waits, and what happens when that changes."""

from __future__ import annotations

import asyncio
import time
from pathlib import Path

import aiohttp
import pytest

from reserved_capacity.adapters import lease
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


async def test_whoever_loses_the_lease_ends(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lease, "RETRY_SECONDS", 1)
    monkeypatch.setattr(lease, "RENEW_SECONDS", 2)
    async with start(tmp_path, leader_elect=True) as running:
        await running.until(lambda: running.operator.role == "leading")
        holder = {"holderIdentity": "somebody-else", "renewTime": "2030-01-01T00:00:00.000000Z"}
        running.cluster.user_patch(LEASE, {"spec": holder})
        assert await asyncio.wait_for(asyncio.shield(running.task), 8) != 0
        stored = running.cluster.peek(LEASE)
        assert stored is not None
        assert stored["spec"]["holderIdentity"] == "somebody-else", "what is not ours is not given back"


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
