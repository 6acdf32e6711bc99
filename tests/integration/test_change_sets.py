"""Change sets: 2 x GPT-4 Turbo -> 6 x GPT-3.5 Turbo as one commit, and back (the seed's own example; F1-F5)."""

from __future__ import annotations

import itertools
from typing import Any

import pytest

from tests.fakes.cluster import Fault, SimulatedCrash
from tests.integration.world import World

OLD, NEW = ("chat", "gpt-4-turbo"), ("fast", "gpt-3.5-turbo")


def in_set(id_: str) -> dict[str, Any]:
    return {"changeSet": {"id": id_, "members": 2}}


async def full_pool() -> World:
    world = World()
    world.seed(nodes=["gpu-0"])
    world.apply_instance("chat", "gpt-4-turbo", 2)
    world.apply_instance("fast", "gpt-3.5-turbo", 0)
    world.start_operator()
    await world.settle()
    return world


def check(world: World) -> None:
    units = world.pool_status()["computeUnits"]
    assert units["allocated"] + units["unhealthy"] <= units["provisioned"] <= units["contracted"] == 600


async def settle(world: World) -> None:
    for _ in range(500):
        busy = await world.operators[0].turn()
        check(world)
        if not busy and not await world.controllers.step() and not world.operators[0].wait_for_retries():
            return
    raise AssertionError("the world does not settle")


@pytest.mark.parametrize("order", itertools.permutations((("chat", 0), ("fast", 6))))
async def test_f1_f3_the_seeds_example_in_any_order_and_back(order: tuple[tuple[str, int], ...]) -> None:
    world = await full_pool()
    (first, count), (second, other) = order
    before = world.pods()
    world.edit_instance(first, {"instances": count, **in_set("there")})
    await settle(world)
    assert world.pods() == before
    status, reason, message = world.instance_condition(first, "Accepted")
    assert (status, reason) == ("Unknown", "ChangeSetIncomplete")
    assert "1/2" in message
    assert world.instance_condition(first, "Ready")[0] == "Unknown"

    world.edit_instance(second, {"instances": other, **in_set("there")})
    await settle(world)
    assert sorted(world.holdings()) == [f"fast-{number}" for number in range(6)]
    assert world.instance_condition("fast", "Ready")[0] == "True"
    assert [(each["id"], each["phase"]) for each in world.pool_status()["changeSets"]] == [("there", "Done")]

    for name, back in (("fast", 0), ("chat", 2)):
        world.edit_instance(name, {"instances": back, **in_set("back")})
    await settle(world)
    assert sorted(each.rsplit("-", 1)[0] for each in world.holdings()) == ["chat", "chat"]
    assert world.instance_condition("chat", "Ready")[0] == "True"


async def test_f2_seven_instances_are_refused_as_a_whole_with_one_message_on_all() -> None:
    world = await full_pool()
    before = world.pods()
    world.edit_instance("chat", {"instances": 0, **in_set("x")})
    world.edit_instance("fast", {"instances": 7, **in_set("x")})
    await settle(world)
    told = {world.instance_condition(name, "Accepted") for name in ("chat", "fast")}
    assert len(told) == 1
    ((status, reason, message),) = told
    assert (status, reason) == ("False", "ChangeSetRejected")
    assert "700" in message
    assert "600" in message
    assert world.pods() == before
    # F5: until the id changes or goes.
    world.edit_instance("fast", {"instances": 6, **in_set("y")})
    world.edit_instance("chat", {"instances": 0, **in_set("y")})
    await settle(world)
    assert len(world.holdings()) == 6


@pytest.mark.parametrize("other", [{}, {"fast": 7}], ids=["incomplete", "rejected"])
async def test_c6_nobody_shrinks_below_the_floor_on_the_strength_of_a_set_that_gives_nothing(
    other: dict[str, int],
) -> None:
    world = await full_pool()
    world.apply_instance("more", "gpt-4-turbo", 1, **in_set("x"))
    for name, count in other.items():
        world.edit_instance(name, {"instances": count, **in_set("x")})
    world.edit_instance("chat", {"instances": 1})
    await settle(world)
    assert world.instance_condition("chat", "Accepted")[:2] == ("False", "BelowMinimumInstances")
    assert sorted(world.holdings()) == ["chat-0", "chat-1"]

    for name in ("more", *other):
        world.edit_instance(name, {"changeSet": None, **({"instances": 0} if name in other else {})})
    await settle(world)
    assert world.instance_condition("chat", "Accepted")[0] == "True"
    assert sorted(each.rsplit("-", 1)[0] for each in world.holdings()) == ["chat", "more"]


async def test_f3_the_plan_is_on_record_before_anything_moves() -> None:
    world = await full_pool()
    before = world.pods()
    world.edit_instance("chat", {"instances": 0, **in_set("x")})
    world.edit_instance("fast", {"instances": 6, **in_set("x")})
    while not (sets := world.pool_status().get("changeSets")) or sets[0]["phase"] != "Executing":
        assert await world.operators[0].turn()
    assert world.pods() == before
    assert all(holding["state"] == "Held" for holding in world.pool_status()["holdings"])
    assert [step["action"] for step in sets[0]["steps"]].count("Place") == 6


async def test_f4_successors_that_do_not_come_up_give_the_blocks_back() -> None:
    world = await full_pool()
    world.controllers.becomes_ready = lambda pod: not pod["metadata"]["name"].startswith("fast")
    world.edit_instance("chat", {"instances": 0, **in_set("x")})
    world.edit_instance("fast", {"instances": 6, **in_set("x")})
    await settle(world)
    world.clock.forward(minutes=46)
    await settle(world)
    assert world.pool_status()["changeSets"][0]["phase"] == "RolledBack"
    assert {name.rsplit("-", 1)[0] for name in world.holdings()} == {"chat"}
    assert len(world.holdings()) == 2
    assert world.instance_condition("chat", "Available")[0] == "True"
    assert world.instance_condition("fast", "Accepted")[:2] == ("False", "ChangeSetRolledBack")


@pytest.mark.parametrize("after", [False, True])
async def test_f3_a_crash_at_any_write_resumes(after: bool) -> None:
    undisturbed = await full_pool()
    writes = len(undisturbed.cluster.writes)
    undisturbed.edit_instance("chat", {"instances": 0, **in_set("x")})
    undisturbed.edit_instance("fast", {"instances": 6, **in_set("x")})
    await settle(undisturbed)
    for at in range(len(undisturbed.cluster.writes) - writes):
        world = await full_pool()
        fault = {"after": SimulatedCrash()} if after else {"before": SimulatedCrash()}
        world.cluster.faults.append(Fault(skip=at, **fault))
        world.edit_instance("chat", {"instances": 0, **in_set("x")})
        world.edit_instance("fast", {"instances": 6, **in_set("x")})
        try:
            await settle(world)
        except SimulatedCrash:
            world.kill_operators()
            world.start_operator(seed=at)
            await settle(world)
        assert sorted(world.holdings()) == [f"fast-{number}" for number in range(6)], f"crash at write {at}"
        assert world.pool_status()["changeSets"][0]["phase"] == "Done"


@pytest.mark.parametrize(("count", "reason"), [(1, "BelowMinimumInstances"), (3, "ExceedsPool")])
async def test_f5_c6_when_a_set_is_done_its_members_are_judged_by_themselves_though_they_carry_its_id(
    count: int, reason: str
) -> None:
    world = await full_pool()
    for name, instances in (("chat", 2), ("fast", 0)):
        world.edit_instance(name, {"instances": instances, **in_set("done")})
    await settle(world)
    assert world.pool_status()["changeSets"][0]["phase"] == "Done"
    before = world.pods()
    world.scale("chat", count)
    await settle(world)
    assert world.instance_condition("chat", "Accepted")[:2] == ("False", reason)
    assert world.pods() == before
