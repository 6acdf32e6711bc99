"""The gateways in memory and a real Prometheus, filled with the same samples, say the same of them."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
import structlog
from aiohttp import web

from e2e.prometheus import serving
from reserved_capacity.adapters.prometheus import PrometheusCounters
from reserved_capacity.gateway.usage import MINUTES, Counter, Readings, Window
from reserved_capacity.ports import GatewayCounters
from tests.fakes.gateways import FakeGateways, Seen
from tests.unit.monitoring import prometheus

END = datetime(2026, 3, 1, 10, tzinfo=UTC)
WINDOW = Window(END)
KINDS = {"tokens": "direction", "requests": "outcome"}


def at(minute: float) -> datetime:
    return WINDOW.start + timedelta(minutes=minute)


def seen(
    minute: float, value: int, kind: str, target: str = "1", *, account: str = "acme", offering: str = "m"
) -> Seen:
    name = "tokens" if kind in ("input", "output") else "requests"
    return Seen(offering, name, account, kind, f"envoy {target}", at(minute), value)


SEEN = (
    *(seen(minute, 1_000_000 + 10 * minute, "input") for minute in range(-5, MINUTES + 1)),
    *(seen(minute + 0.75, 7 + minute, "output") for minute in range(40, MINUTES)),
    *(seen(minute, 3, "served") for minute in range(40, MINUTES + 1)),
    *(seen(minute, minute, "rejected", "2", account="beta") for minute in range(MINUTES + 1)),
    *(seen(minute, 5, "input", "2", offering="m.2") for minute in range(MINUTES + 1)),
)
UPTIMES = tuple((f"envoy {target}", at(minute), 60 * minute) for target in "123" for minute in range(MINUTES + 1))


def fake() -> FakeGateways:
    gateways = FakeGateways()
    for each in SEEN:
        labels = {"account": each.account, "target": each.target, "offering": each.offering}
        gateways.scrape(each.at, each.value, each.kind, **labels)
    for target, moment, seconds in UPTIMES:
        gateways.up(moment, seconds, target)
    return gateways


def exposition() -> str:
    """What `promtool` fills a database with."""
    lines = []
    for each in SEEN:
        job, instance = each.target.split()
        labels = {"offering": each.offering, "account": each.account, KINDS[each.name]: each.kind}
        lines.append((f"envoy_reserved_capacity_{each.name}", labels, job, instance, each.value, each.at))
    for target, moment, seconds in UPTIMES:
        job, instance = target.split()
        lines.append(("envoy_server_uptime", {}, job, instance, seconds, moment))
    return (
        "".join(
            f"{name}{{{_labels({**labels, 'job': job, 'instance': instance})}}} {value} {moment.timestamp()}\n"
            for name, labels, job, instance, value, moment in sorted(lines, key=lambda line: (line[0], line[5]))
        )
        + "# EOF\n"
    )


def _labels(labels: dict[str, str]) -> str:
    return ",".join(f'{name}="{value}"' for name, value in labels.items())


@pytest.fixture(scope="module")
def filled(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The address of a Prometheus that has all this, and scrapes nothing."""
    tools, place = prometheus.find(), tmp_path_factory.mktemp("prometheus")
    (place / "samples").write_text(exposition())
    filling = ("tsdb", "create-blocks-from", "openmetrics", str(place / "samples"), str(place / "data"))
    code, said = tools.check(*filling)
    assert code == 0, said
    with serving(tools.prometheus, place, {}, "--storage.tsdb.retention.time=100y") as url:
        yield url


@pytest.fixture(params=["fake", "prometheus"])
def gateways(request: pytest.FixtureRequest) -> GatewayCounters:
    if request.param == "fake":
        return fake()
    return PrometheusCounters(str(request.getfixturevalue("filled")))


async def read(gateways: GatewayCounters, offering: str, window: Window = WINDOW) -> Readings:
    found = await gateways.read(offering, window)
    assert found is not None
    return found


def of(readings: Readings, kind: str) -> Counter:
    (found,) = (each for each in readings.counters if each.kind == kind)
    return found


async def test_every_scrape_of_a_counter_is_told_and_of_the_minutes_before_the_window(
    gateways: GatewayCounters,
) -> None:
    readings = await read(gateways, "m")
    counted = of(readings, "input")
    assert (counted.name, counted.account, counted.target) == ("tokens", "acme", "envoy 1")
    assert counted.samples == [(60_000 * minute, 1_000_000 + 10 * minute) for minute in range(-4, MINUTES + 1)]
    assert of(readings, "output").samples == [(60_000 * minute + 45_000, 7 + minute) for minute in range(40, MINUTES)]


async def test_requests_are_told_by_their_outcome_and_account(gateways: GatewayCounters) -> None:
    readings = await read(gateways, "m")
    assert of(readings, "served").name == "requests"
    assert (of(readings, "rejected").account, of(readings, "rejected").target) == ("beta", "envoy 2")


async def test_another_offering_s_counters_are_not_told_though_its_name_is_like_it(gateways: GatewayCounters) -> None:
    assert [each.kind for each in (await read(gateways, "m.2")).counters] == ["input"]
    assert (await read(gateways, "m-2")).counters == ()


async def test_every_envoy_that_counts_says_how_long_it_has_been_up_and_no_other_does(
    gateways: GatewayCounters,
) -> None:
    for offering in ("m", "m-2"):
        readings = await read(gateways, offering)
        assert readings.uptimes.keys() == {"envoy 1", "envoy 2"}
        assert readings.uptimes["envoy 1"] == [(60_000 * minute, 60 * minute) for minute in range(MINUTES + 1)]
        assert readings.measured


async def test_a_window_in_which_nobody_was_scraped_is_not_measured(gateways: GatewayCounters) -> None:
    later = Window(END + timedelta(hours=3))
    assert await read(gateways, "m", later) == Readings()
    assert not (await read(gateways, "m", Window(END + timedelta(minutes=6)))).measured, "nor one whose end nobody saw"


def _told(said: list[str], event: Any) -> Any:
    said.append(str(event))
    raise structlog.DropEvent


async def test_a_prometheus_that_is_away_says_nothing_and_is_told_of_once(
    unused_tcp_port: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    said: list[str] = []
    telling = structlog.wrap_logger(
        None,
        processors=[lambda _logger, _level, event: _told(said, event)],
        wrapper_class=structlog.BoundLogger,  # whatever level another test has configured
    )
    monkeypatch.setattr("reserved_capacity.adapters.prometheus.log", telling)
    away = PrometheusCounters(f"http://user:hush@127.0.0.1:{unused_tcp_port}/prefix/")
    assert [await away.read("m", WINDOW) for _ in range(3)] == [None] * 3
    assert len(said) == 1
    assert "use is not measured" in said[0]
    assert "hush" not in said[0]
    gone = fake()
    gone.away = True
    assert await gone.read("m", WINDOW) is None


async def test_what_answers_otherwise_is_not_believed(filled: str) -> None:
    assert await PrometheusCounters(f"{filled}/graph").read("m", WINDOW) is None
    assert await PrometheusCounters(filled, seconds=0.000001).read("m", WINDOW) is None


@pytest.mark.parametrize(
    "answer",
    [
        b"<html>",
        b"[]",
        b'{"status": "success", "data": {"resultType": "vector", "result": []}}',
        b'{"data": {"resultType": "matrix", "result": [{"metric": {"__name__": "up"}, "values": []}]}}',
        b'{"data": {"resultType": "matrix", "result": [7]}}',
        b'{"data": {"resultType": "matrix", "result": [{"metric": {}, "values": [[Infinity, "1"]]}]}}',
        b"\xff",
    ],
)
async def test_an_answer_that_is_none_ends_nothing(answer: bytes, unused_tcp_port: int) -> None:
    async def nonsense(_request: web.Request) -> web.Response:
        return web.Response(body=answer)

    application = web.Application()
    application.router.add_post("/api/v1/query", nonsense)
    runner = web.AppRunner(application)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", unused_tcp_port).start()
    try:
        assert await PrometheusCounters(f"http://127.0.0.1:{unused_tcp_port}").read("m", WINDOW) is None
    finally:
        await runner.cleanup()
