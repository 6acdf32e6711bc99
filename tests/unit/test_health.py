from __future__ import annotations

from dataclasses import dataclass, field

from aiohttp import web
from aiohttp.test_utils import TestClient, TestServer

from reserved_capacity.adapters.health import Vitals, application
from reserved_capacity.adapters.metrics import Metrics


@dataclass
class Process:
    ages: dict[str, float] = field(default_factory=lambda: {"nodes": 1.0, "pods": 2.0})
    oldest: float = 0.0
    synced: bool = True
    since_away: float = float("inf")

    def application(self) -> web.Application:
        return application(
            Vitals(
                watch_ages=lambda: self.ages,
                away=lambda: self.since_away < 60,
                since_away=lambda: self.since_away,
                oldest_due_seconds=lambda: self.oldest,
                synced=lambda: self.synced,
                role=lambda: "standby",
            )
        )


async def ask(app: web.Application, path: str) -> tuple[int, str]:
    async with TestClient(TestServer(app)) as client:
        response = await client.get(path)
        return response.status, await response.text()


async def test_alive_while_every_kind_is_heard_of_and_the_queue_moves() -> None:
    assert await ask(Process(oldest=119).application(), "/livez") == (200, '{"alive": true}')


async def test_not_alive_with_a_stale_watch_which_is_named() -> None:
    status, body = await ask(Process(ages={"nodes": 1.0, "pods": 91.0}).application(), "/livez")
    assert (status, body) == (500, '{"alive": false, "staleWatches": {"pods": 91.0}}')


async def test_not_alive_with_a_stuck_queue() -> None:
    assert await ask(Process(oldest=121).application(), "/livez") == (500, '{"alive": false, "queueStuckSeconds": 121}')


async def test_alive_but_not_ready_for_as_long_as_the_api_server_is_away() -> None:
    process = Process(ages={"nodes": 3700.0, "pods": 3600.0}, oldest=3600, since_away=12.0)
    assert await ask(process.application(), "/livez") == (200, '{"alive": true}')
    status, body = await ask(process.application(), "/readyz")
    assert (status, '"apiServer": "away"' in body) == (500, True)


async def test_what_is_still_stale_so_long_after_the_return_of_the_api_server_only_a_restart_mends() -> None:
    status, body = await ask(Process(ages={"nodes": 1.0, "pods": 3700.0}, since_away=91.0).application(), "/livez")
    assert (status, body) == (500, '{"alive": false, "staleWatches": {"pods": 91.0}}')


async def test_ready_once_synced_also_on_standby() -> None:
    process = Process()
    body = '{"ready": true, "synced": true, "apiServer": "answers", "role": "standby"}'
    assert await ask(process.application(), "/readyz") == (200, body)
    process.synced = False
    assert (await ask(process.application(), "/readyz"))[0] == 500


async def test_metrics_carry_the_names_of_the_contract() -> None:
    metrics = Metrics()
    metrics.watch(lambda: 3, lambda: {"nodes": 1.5})
    metrics.wrote("patch", "Node", 409)
    metrics.reconciled("pool", "ok", 0.2)
    metrics.missed("Pod", 2)
    status, text = await ask(metrics.application(), "/metrics")
    assert status == 200
    for line in (
        "reservedcapacity_queue_depth 3.0",
        'reservedcapacity_watch_age_seconds{kind="nodes"} 1.5',
        'reservedcapacity_api_writes_total{code="409",kind="Node",verb="patch"} 1.0',
        'reservedcapacity_reconcile_seconds_count{outcome="ok",reconciler="pool"} 1.0',
        'reservedcapacity_missed_events_total{kind="Pod"} 2.0',
    ):
        assert line in text
