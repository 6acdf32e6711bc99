"""`upgradeReport.unavailableSeconds`: for how long too few served in a rollout (ADR 0065)."""

from __future__ import annotations

from datetime import datetime, timedelta

from reserved_capacity.ports import JsonObject
from tests.integration.test_prefetch import IN_PLACE, later
from tests.integration.test_rollouts import NEW, rollout, serving
from tests.integration.world import World


async def unavailable(world: World, *, restart: bool = False) -> JsonObject:
    """The report of a rollout in which every start takes 40 s."""

    def has_started(pod: JsonObject) -> bool:
        made = datetime.fromisoformat(pod["metadata"]["creationTimestamp"])
        return world.clock.now() >= made + timedelta(seconds=40)

    world.controllers.becomes_ready = has_started
    world.edit_instance("chat", {"snapshot": NEW})
    for _ in range(6):
        await world.settle()
        if restart:
            world.kill_operators()
            world.start_operator()
            await world.settle()
        world.clock.forward(seconds=20)
    await world.settle()
    report: JsonObject = world.get_instance("chat")["status"]["upgradeReport"]
    assert report["result"] == "Done"
    return report


async def test_s2_a_surge_is_unavailable_for_no_second() -> None:
    assert (await unavailable(await serving(cu=900)))["unavailableSeconds"] == 0


async def test_s2_a_single_member_in_place_is_unavailable_while_its_successor_starts_also_over_restarts() -> None:
    for restart in (False, True):
        world = await serving(cu=600, minimum=1, **{**IN_PLACE, "minAvailable": 0})
        world.scale("chat", 1)
        await world.settle()
        assert (await unavailable(world, restart=restart))["unavailableSeconds"] == 40


async def test_i8_an_outage_that_goes_on_is_written_once() -> None:
    world = await serving(cu=600, minimum=1, **{**IN_PLACE, "minAvailable": 0})
    world.scale("chat", 1)
    await world.settle()
    world.controllers.becomes_ready = lambda _pod: False
    world.edit_instance("chat", {"snapshot": NEW})
    await world.settle()
    assert rollout(world)["unavailableSince"] == "2026-03-01T10:00:00Z"
    world.cluster.writes.clear()
    await later(world, 5)
    assert world.writes() == []
