"""What reservations say of their use, as the gateways counted it (behaviour.md T3; ADR 0052)."""

from __future__ import annotations

from datetime import datetime, timedelta

from reserved_capacity.ledger_ports import LedgerUnavailable
from reserved_capacity.ports import MODEL_OFFERINGS, TOKEN_UNIT_RESERVATIONS, JsonObject
from tests.fakes.gateways import FakeGateways
from tests.integration.token_world import TokenWorld, gpt_41, reservation, token_world

IDLE = {
    "window": "1h",
    "inputUtilization": "0.0000",
    "outputUtilization": "0.0000",
    "spilledRequests": 0,
    "rejectedRequests": 0,
}


async def a_gateway() -> tuple[TokenWorld, FakeGateways]:
    """Three input and four output units (90,000 and 10,000 tokens a minute), and an Envoy that was asked by nobody yet."""
    world, gateways = token_world(), FakeGateways()
    world.gateways = gateways
    await world.open()
    await world.buy()
    return world, gateways


async def minutes(world: TokenWorld, gateways: FakeGateways, count: int = 1, **values: int) -> None:
    """Each of them scraped, with these counters of acme at its end."""
    for _ in range(count):
        world.clock.forward(seconds=60)
        now = world.clock.now()
        for kind, value in {"served": 1, **values}.items():
            gateways.scrape(now, value, kind)
        gateways.up(now, int((now - datetime(2026, 2, 1, tzinfo=now.tzinfo)).total_seconds()))
        await world.settle()
        world.clock.forward(seconds=10)  # the look at that minute
        await world.settle()
        world.clock.forward(seconds=-10)


def usage(world: TokenWorld, name: str = "gpt-41") -> JsonObject | None:
    found: JsonObject | None = world.status(name).get("usage")
    return found


async def test_t3_use_is_what_the_gateways_counted_in_the_last_hour() -> None:
    world, gateways = await a_gateway()
    assert usage(world) is None, "nobody was looked at"
    await minutes(world, gateways)
    assert usage(world) == IDLE
    busy = world.clock.now()
    await minutes(world, gateways, input=54_000, output=30_000, spilled=2)
    await minutes(world, gateways, input=54_000 + 216_000, output=30_000, spilled=2, rejected=1)
    assert usage(world) == {
        "window": "1h",
        "inputUtilization": "0.0500",
        "outputUtilization": "0.0500",
        "peakMinute": busy.strftime("%Y-%m-%dT%H:%M:%SZ"),
        "spilledRequests": 2,
        "rejectedRequests": 1,
    }
    await minutes(world, gateways, 61, input=270_000, output=30_000, spilled=2, rejected=1)
    assert usage(world) == IDLE


async def test_i8_a_use_that_does_not_change_is_written_once() -> None:
    world, gateways = await a_gateway()
    await minutes(world, gateways, input=600)
    world.cluster.writes.clear()
    looks = len(gateways.asked)
    await minutes(world, gateways, 10, input=600)
    assert len(gateways.asked) >= looks + 10
    assert world.writes() == []


async def test_a_reservation_hears_of_its_use_once_a_minute_at_most() -> None:
    world, gateways = await a_gateway()
    await minutes(world, gateways, input=0)
    world.cluster.writes.clear()
    for minute in range(1, 6):
        await minutes(world, gateways, input=90_000 * minute)
    written = [each for each in world.writes() if "gpt-41" in each]
    assert len(written) == 5
    assert usage(world)["inputUtilization"] == "0.0833"  # type: ignore[index]


async def test_reservations_of_one_account_share_its_use_and_others_have_none_of_it() -> None:
    world, gateways = await a_gateway()
    await world.buy("more", units={"input": 1, "output": 0})
    world.cluster.user_create(TOKEN_UNIT_RESERVATIONS, reservation("other", account="beta"))
    await world.settle()
    await minutes(world, gateways, input=0)
    await minutes(world, gateways, input=72_000, output=600)
    own, more, other = (usage(world, name) for name in ("gpt-41", "more", "other"))
    assert own == more
    assert own is not None
    assert own["inputUtilization"] == "0.0100", "of four input units"
    assert other == IDLE


async def test_cached_tokens_count_by_the_offering_s_weight() -> None:
    world, gateways = token_world(), FakeGateways()
    world.gateways = gateways
    model = gpt_41()
    model["spec"]["tokenUnits"]["cachedInputWeight"] = "0.25"
    await world.open(model=model)
    await world.buy()
    await minutes(world, gateways, input=0, cached_input=0)
    await minutes(world, gateways, input=108_000, cached_input=72_000)
    assert usage(world)["inputUtilization"] == "0.0100"  # type: ignore[index]


async def test_a_prometheus_that_is_away_changes_nothing_and_after_a_while_the_use_says_how_old_it_is() -> None:
    world, gateways = await a_gateway()
    await minutes(world, gateways, input=0)
    await minutes(world, gateways, input=54_000)
    measured, end = usage(world), world.clock.now()
    assert measured is not None
    gateways.away = True
    world.cluster.writes.clear()
    await minutes(world, gateways, 4)
    assert (usage(world), world.writes()) == (measured, [])
    await minutes(world, gateways, 30)
    assert usage(world) == {**measured, "window": f"1h to {end:%Y-%m-%dT%H:%MZ}"}
    assert len(world.writes()) == 1

    world.kill_operators()
    world.start_operator()
    await minutes(world, gateways, 10)
    assert usage(world) == {**measured, "window": f"1h to {end:%Y-%m-%dT%H:%MZ}"}, "a restart does not make it younger"
    gateways.away = False
    await minutes(world, gateways, 2, input=54_000)
    assert usage(world)["window"] == "1h"  # type: ignore[index]


async def test_limits_and_money_do_not_wait_for_a_prometheus() -> None:
    world, gateways = token_world(), FakeGateways(away=True)
    world.gateways = gateways
    await world.open()
    await world.buy()
    assert world.effective() == (590_000, 110_000)
    await world.pass_to("03-03T09:00:00")
    assert len(await world.charges()) == 2
    assert usage(world) is None


async def test_use_is_told_while_the_books_are_away() -> None:
    world, gateways = await a_gateway()
    await minutes(world, gateways, input=0)
    assert world.ledger is not None
    world.ledger.failure = LedgerUnavailable("the database does not answer")
    world.clock.forward(seconds=60)
    gateways.scrape(world.clock.now(), 54_000)
    world.clock.forward(seconds=10)
    for _ in range(10):
        await world.operators[0].run()
    assert usage(world)["inputUtilization"] == "0.0100"  # type: ignore[index]


async def test_after_a_restart_the_same_hour_is_told_and_nothing_is_written() -> None:
    world, gateways = await a_gateway()
    await minutes(world, gateways, input=0)
    await minutes(world, gateways, 3, input=54_000)
    before = usage(world)
    world.kill_operators()
    world.cluster.writes.clear()
    world.start_operator()
    await minutes(world, gateways, input=54_000)
    assert (usage(world), world.writes()) == (before, [])


async def test_nobody_is_asked_of_an_offering_of_which_nothing_was_bought() -> None:
    world, gateways = await a_gateway()
    model = gpt_41()
    model["metadata"]["name"] = "gpt-4.1-mini"
    world.cluster.user_create(MODEL_OFFERINGS, model)
    await world.settle()
    await minutes(world, gateways)
    assert set(gateways.asked) == {"gpt-4.1"}


async def test_the_development_clock_may_be_ahead_of_prometheus() -> None:
    """The gateways count in real time; the status tells the time of the contracts."""
    world, gateways = await a_gateway()
    ahead, real = timedelta(days=4), world.clock.now()
    world.clock.ahead = ahead
    world.clock.moment += ahead
    for minute, value in ((0, 0), (1, 54_000)):
        gateways.scrape(real + timedelta(minutes=minute), value)
    world.clock.forward(seconds=70)
    await world.settle()
    found = usage(world)
    assert found is not None
    assert found["peakMinute"] == (real + ahead).strftime("%Y-%m-%dT%H:%M:%SZ")
