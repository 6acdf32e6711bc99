"""A restart that finds everything as it was says nothing (I8): not even in the turns that come before a pool, or an offering,
is planned for the first time."""

from __future__ import annotations

from reserved_capacity.ports import MODEL_INSTANCES, Ref
from tests.integration.test_nodes import endpoints, serving
from tests.integration.test_token_backing import a_fleet
from tests.integration.world import Operator, World


async def restarted(world: World) -> Operator:
    """The turns of its start come in the worst order: who decides for others is last."""
    world.kill_operators()
    operator = world.start_operator(seed=1)
    keys = []
    while (key := operator.loop.queue.take()) is not None:
        keys.append(key)
        operator.loop.queue.done(key)
    for key in reversed(keys):
        await operator.loop.reconcile(key)
    return operator


async def test_i8_a_restart_writes_nothing_about_instances_that_serve_or_wait() -> None:
    world = await serving(["gpu-0", "gpu-1"])
    world.apply_instance("late", "gpt-4-turbo", 9)
    await world.settle()
    before = len(world.cluster.writes)
    await restarted(world)
    await world.settle()
    assert world.cluster.writes[before:] == []


async def test_a_restart_tells_at_once_of_a_new_spec_and_of_members_that_have_stopped_serving() -> None:
    world = await serving(["gpu-0", "gpu-1"])
    world.kill_operators()
    ref = Ref(MODEL_INSTANCES, "acme", "chat")
    world.cluster.user_patch(ref, {"spec": {"instances": 1}})
    await restarted(world)
    ready = next(each for each in world.cluster.stored(ref)["status"]["conditions"] if each["type"] == "Ready")
    assert ready["status"] == "Unknown"
    assert len(endpoints(world)) == 2


async def test_i8_a_restart_writes_nothing_about_token_units() -> None:
    world = await a_fleet(nodes=2)
    await world.buy(units={"input": 20, "output": 0})
    assert world.said("CapacityBacked")[:2] == ("True", "Backed")
    before = len(world.cluster.writes)
    await restarted(world)
    await world.settle()
    assert world.cluster.writes[before:] == []
