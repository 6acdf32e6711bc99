"""What backs token units, and the limits that follow (behaviour.md T3, T4, S8): the production reconcilers."""

from __future__ import annotations

from reserved_capacity.ports import (
    COMPUTE_UNIT_POOLS,
    CONFIG_MAPS,
    MODEL_INSTANCES,
    MODEL_OFFERINGS,
    NODES,
    PODS,
    TOKEN_UNIT_RESERVATIONS,
    Ref,
)
from tests.fakes.cluster import not_sent
from tests.integration.token_world import BASE, GPT_41, LIMITS, SNAPSHOT, TokenWorld, gpt_41, reservation, token_world

NEWER = "gpt-4.1-2026-01-01"


async def a_fleet(*, nodes: int = 1, fleet_cu: int = 1600) -> TokenWorld:
    world = token_world()
    await world.open(nodes=nodes, fleet_cu=fleet_cu)
    return world


async def test_t4_a_fleet_too_small_names_the_cu_that_are_missing_and_the_limit_follows_the_node() -> None:
    """Sixty units need three instances of 400 CU; one node of 800 CU carries two."""
    world = await a_fleet()
    await world.buy(units={"input": 60, "output": 0})
    status, reason, message = world.said("CapacityBacked")
    assert (status, reason) == ("False", "InsufficientCapacity")
    assert "need 1200 CU" in message
    assert "add 400 CU" in message
    assert world.entitled() == (0, 0)
    assert world.effective() == BASE
    assert world.fleet() == {SNAPSHOT: 3}
    await world.pass_to("03-03T10:00:00")
    assert await world.charges() == []

    world.add_node("gpu-1")
    await world.settle()
    assert world.said("CapacityBacked")[:2] == ("True", "Backed")
    assert world.entitled() == (1_800_000, 0)
    assert world.effective() == (BASE[0] + 1_800_000, BASE[1])
    assert {lot["billingStart"] for lot in world.status()["lots"]} == {"2026-03-04T00:00:00Z"}


async def test_t4_what_was_bought_and_not_weighed_yet_is_never_called_backed() -> None:
    world = await a_fleet()
    seen = set()
    world.cluster.user_create(TOKEN_UNIT_RESERVATIONS, reservation())
    for _ in range(100):
        moved = await world.operators[0].turn()
        status = world.get(TOKEN_UNIT_RESERVATIONS, "gpt-41", "acme").get("status", {})
        told = {each["type"]: each["status"] for each in status.get("conditions", ())}
        seen.add((told.get("Ready"), bool(status.get("entitlement", {}).get("inputTokensPerMinute"))))
        if not moved and not await world.controllers.step():
            break
    assert ("True", True) in seen
    assert ("True", False) not in seen


async def test_t4_nothing_is_sold_twice_and_who_comes_first_keeps_it() -> None:
    world = await a_fleet(fleet_cu=800)
    await world.buy("first", units={"input": 30, "output": 0})
    await world.buy("second", units={"input": 20, "output": 0})
    assert world.said("CapacityBacked", "first")[0] == "True"
    assert world.said("CapacityBacked", "second")[1] == "InsufficientCapacity"
    await world.buy("small", units={"input": 10, "output": 0})
    assert world.said("CapacityBacked", "small")[0] == "True"
    assert world.effective() == (BASE[0] + 40 * 30_000, BASE[1])


async def test_t4_the_fleet_grows_before_the_limit_and_shrinks_after_it() -> None:
    world = await a_fleet(nodes=2)
    world.cluster.writes.clear()
    await world.buy(units={"input": 30, "output": 0})
    assert world.fleet() == {SNAPSHOT: 2}
    order = [str(write.ref) for write in world.cluster.writes if write.ref.resource in (MODEL_INSTANCES, CONFIG_MAPS)]
    assert order.index(next(each for each in order if "provider/" in each)) < order.index(str(LIMITS))
    await world.pass_to("04-03T10:00:00")
    world.cluster.writes.clear()
    await world.order(10, 0)
    assert world.fleet() == {SNAPSHOT: 2}
    await world.pass_to("04-04T00:00:01")
    assert world.fleet() == {SNAPSHOT: 1}
    changed = [
        str(write.ref)
        for write in world.cluster.writes
        if write.ref == LIMITS or (write.ref.resource == MODEL_INSTANCES and write.verb == "patch")
    ]
    assert changed[0] == str(LIMITS)
    assert len(changed) == 2


async def test_t4_the_fleet_goes_when_nothing_is_sold_any_more() -> None:
    world = await a_fleet()
    await world.buy()
    await world.pass_to("04-03T10:00:00")
    world.cluster.user_delete(GPT_41)
    await world.settle()
    await world.pass_to("04-04T00:00:01")
    assert world.fleet() == {}
    assert world.cluster.objects(PODS) == []
    assert world.effective() == BASE


async def test_t4_a_fleet_that_falls_short_later_keeps_what_was_sold_and_says_so() -> None:
    world = await a_fleet()
    await world.buy(units={"input": 30, "output": 0})
    assert world.said("CapacityBacked")[0] == "True"
    world.cluster.user_delete(Ref(NODES, "", "gpu-0"))
    await world.settle()
    status, _, message = world.said("CapacityBacked")
    assert status == "False"
    assert "goes on counting" in message
    assert world.effective() == (BASE[0] + 900_000, BASE[1])
    assert world.entitled() == (900_000, 0)
    world.add_node("gpu-1")
    await world.settle()
    assert world.said("CapacityBacked")[0] == "True"


async def test_t4_the_providers_own_instances_are_not_billed_and_run_what_is_not_sold_reserved() -> None:
    world = await a_fleet()
    await world.buy()
    (name,) = (each["metadata"]["name"] for each in world.cluster.objects(MODEL_INSTANCES))
    assert world.condition(MODEL_INSTANCES, name, "Ready", "provider")[0] == "True"
    await world.pass_to("03-05T10:00:00")
    assert {row.amount_minor for row in await world.charges("provider")} == {0}


async def test_t4_an_offering_without_a_fleet_or_throughput_says_what_to_set() -> None:
    for model, expected in ((gpt_41(fleet=False), "spec.tokenUnits.fleet"), (gpt_41(), "throughput")):
        world = token_world()
        if expected == "throughput":
            for snapshot in model["spec"]["snapshots"]:
                del snapshot["throughput"]
        await world.open(model=model)
        await world.buy()
        status, reason, message = world.said("CapacityBacked")
        assert (status, reason) == ("False", "InsufficientCapacity")
        assert expected in message


async def test_t4_a_fleet_pool_that_does_not_exist_is_named_and_used_once_it_does() -> None:
    world = await a_fleet()
    pool = world.get(COMPUTE_UNIT_POOLS, "fleet", "provider")
    world.cluster.user_delete(Ref(COMPUTE_UNIT_POOLS, "provider", "fleet"))
    await world.settle()
    await world.buy()
    assert "provider/fleet" in world.said("CapacityBacked")[2]
    world.cluster.user_create(
        COMPUTE_UNIT_POOLS, {"metadata": {"name": "fleet", "namespace": "provider"}, "spec": pool["spec"]}
    )
    await world.settle()
    assert world.said("CapacityBacked")[0] == "True"


async def test_t3_the_limits_of_an_account_are_its_base_and_all_its_reservations() -> None:
    world = await a_fleet(nodes=2)
    await world.buy("one")
    await world.buy("two", units={"input": 1, "output": 0}, overflow="Reject")
    found = world.limits()["acme"]
    assert found["effective"] == {"inputTokensPerMinute": 620_000, "outputTokensPerMinute": 110_000}
    assert [(each["reservation"], each["overflow"], each["snapshot"]) for each in found["units"]] == [
        ("acme/one", "Spill", SNAPSHOT),
        ("acme/two", "Reject", SNAPSHOT),
    ]
    assert world.status("two")["rateLimit"]["added"] == {
        "inputTokensPerMinute": 120_000,
        "outputTokensPerMinute": 10_000,
    }


async def test_t3_reject_leaves_the_base_alone_and_shadow_refuses_nothing() -> None:
    world = await a_fleet()
    await world.buy(overflow="Reject", enforcement="Shadow")
    limit = world.limits()["acme"]["limit"]
    assert limit == {"inputTokensPerMinute": 90_000, "outputTokensPerMinute": 10_000, "enforcement": "Shadow"}
    world.cluster.user_patch(GPT_41, {"spec": {"overflow": "Spill", "enforcement": "Enforce"}})
    await world.settle()
    limit = world.limits()["acme"]["limit"]
    assert limit == {"inputTokensPerMinute": 590_000, "outputTokensPerMinute": 110_000, "enforcement": "Enforce"}


async def test_t3_limits_that_somebody_changed_or_deleted_are_put_back() -> None:
    world = await a_fleet()
    await world.buy()
    before = world.get(CONFIG_MAPS, LIMITS.name, LIMITS.namespace)["data"]
    world.cluster.user_patch(LIMITS, {"data": {"limits.json": "[]", "other": "x"}})
    world.clock.forward(minutes=6)
    await world.settle()
    assert world.get(CONFIG_MAPS, LIMITS.name, LIMITS.namespace)["data"] == before
    world.cluster.user_delete(LIMITS)
    world.clock.forward(minutes=6)
    await world.settle()
    assert world.get(CONFIG_MAPS, LIMITS.name, LIMITS.namespace)["data"] == before
    assert {lot["billingStart"] for lot in world.status()["lots"]} == {"2026-03-02T00:00:00Z"}


async def test_t3_a_limit_that_cannot_be_written_does_not_count() -> None:
    world = await a_fleet()
    world.cluster.faults.append(not_sent(matches=lambda _, ref: ref == LIMITS, times=10_000))
    world.cluster.user_delete(LIMITS)
    world.cluster.user_create(TOKEN_UNIT_RESERVATIONS, reservation())
    for _ in range(20):
        await world.operators[0].run()
        await world.controllers.step()
    assert world.entitled() == (0, 0)
    world.cluster.faults.clear()
    for operator in world.operators:
        operator.time += 3600
    await world.settle()
    assert world.entitled() == (90_000, 10_000)
    assert world.said("LimitPublished")[:2] == ("True", "Published")


async def test_s8_another_snapshot_is_served_before_the_first_is_left_and_no_lot_is_bought() -> None:
    world = token_world()
    await world.open(nodes=2, fleet_cu=1600, model=gpt_41(snapshots=(SNAPSHOT, NEWER)))
    await world.buy(units={"input": 30, "output": 0})
    before = world.status()["lots"]
    seen = []
    world.cluster.user_patch(GPT_41, {"spec": {"snapshot": NEWER}})
    for _ in range(100):
        await world.operators[0].run()
        moved = await world.controllers.step()
        units = world.limits()["acme"]["units"]
        assert sum(each["inputTokensPerMinute"] for each in units) == 900_000
        seen.append((units[0]["snapshot"], tuple(sorted(world.fleet().items()))))
        if not moved:
            break
    await world.settle()
    assert world.status()["lots"] == before
    assert world.fleet() == {NEWER: 2}
    assert (SNAPSHOT, ((SNAPSHOT, 2), (NEWER, 2))) in seen
    assert world.said("CapacityBacked")[0] == "True"


async def test_s8_the_dates_of_a_snapshot_show_on_the_reservation_and_stop_nothing() -> None:
    world = await a_fleet()
    await world.buy()
    snapshot = world.get(MODEL_OFFERINGS, "gpt-4.1")["spec"]["snapshots"][0]
    dated = {**snapshot, "retiresAt": "2026-05-01T00:00:00Z", "replacement": NEWER}
    world.cluster.user_patch(Ref(MODEL_OFFERINGS, "", "gpt-4.1"), {"spec": {"snapshots": [dated]}})
    await world.settle()
    status, reason, message = world.said("SnapshotSupported")
    assert (status, reason) == ("True", "RetiringSoon")
    assert NEWER in message
    await world.pass_to("05-01T00:00:01")
    assert world.said("SnapshotSupported")[:2] == ("False", "Retired")
    assert world.entitled() == (90_000, 10_000)
