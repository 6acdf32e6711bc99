"""Nodes that fail, are cordoned, blip, or hold idle blocks in pieces (behaviour.md C3, C8, C9, N1-N3)."""

from __future__ import annotations

import json
from typing import Any

import pytest

from reserved_capacity.ports import (
    COMPUTE_UNIT_POOLS,
    ENDPOINT_SLICES,
    EVENTS,
    MODEL_OFFERINGS,
    NODES,
    POD_DISRUPTION_BUDGETS,
    PODS,
    PRICE_BOOKS,
    STATEFUL_SETS,
    Ref,
)
from tests.integration.world import World, offering, pool


def claims(world: World, name: str) -> int:
    annotations = world.get(NODES, name)["metadata"].get("annotations") or {}
    return sum(each["blocks"] for each in json.loads(annotations.get("reservedcapacity.io/claims", "[]")))


def set_ready(world: World, name: str, status: str) -> None:
    since = world.clock.now().strftime("%Y-%m-%dT%H:%M:%SZ")
    conditions = [{"type": "Ready", "status": status, "lastTransitionTime": since}]
    world.cluster.user_patch(Ref(NODES, "", name), {"status": {"conditions": conditions}}, status=True)


def cordon(world: World, name: str, *, on: bool = True) -> None:
    world.cluster.user_patch(Ref(NODES, "", name), {"spec": {"unschedulable": on}})


def evict_pods(world: World, node: str) -> None:
    """What the taint manager does when its patience is over: the pods are deleted, but nobody there stops them."""
    for pod in world.cluster.objects(PODS):
        if pod["spec"].get("nodeName") == node:
            world.cluster.user_delete(Ref(PODS, pod["metadata"]["namespace"], pod["metadata"]["name"]))


async def serving(nodes: list[str]) -> World:
    world = World()
    world.seed(nodes=nodes)
    world.apply_instance("chat", "gpt-4-turbo", 2)
    world.start_operator()
    await world.settle()
    assert world.instance_condition("chat", "Ready")[0] == "True"
    return world


async def test_n1_a_blip_of_two_minutes_moves_nothing() -> None:
    world = await serving(["gpu-0", "gpu-1"])
    before = world.pods()
    set_ready(world, "gpu-0", "Unknown")
    await world.settle()
    world.clock.forward(minutes=2)
    await world.settle()
    set_ready(world, "gpu-0", "True")
    await world.settle()
    assert world.pods() == before
    assert (claims(world, "gpu-0"), claims(world, "gpu-1")) == (6, 0)


async def test_n2_a_failed_node_is_replaced_and_its_blocks_go_to_nobody_before_it_is_fenced() -> None:
    world = await serving(["gpu-0", "gpu-1"])
    set_ready(world, "gpu-0", "Unknown")
    await world.settle()
    world.clock.forward(minutes=11)
    evict_pods(world, "gpu-0")
    await world.settle()
    # Two new members serve on the spare; the old ones still hold their blocks, for nobody knows whether they run.
    assert world.holdings() == {"chat-2": ["gpu-1"], "chat-3": ["gpu-1"]}
    assert sorted(world.holdings("Releasing")) == ["chat-0", "chat-1"]
    assert world.instance_condition("chat", "Available")[0] == "True"
    # For the customer all is as it was; it is the provider who has something to do, and nobody was told of a lack of room.
    status = world.get_instance("chat")["status"]
    assert world.instance_condition("chat", "Ready")[0] == "True"
    assert "what chat-0, chat-1 had on gpu-0 is used by nobody before that is fenced" in status["summary"]
    assert (status["computeUnits"], status["nodesTotal"]) == (600, 1)
    assert "before it is fenced" in world.condition(COMPUTE_UNIT_POOLS, "prod", "Healthy")[2]
    assert "MoveBlocked" not in [event["reason"] for event in world.cluster.objects(EVENTS)]
    assert (claims(world, "gpu-0"), claims(world, "gpu-1")) == (6, 6)
    units = world.pool_status()["computeUnits"]
    assert (units["contracted"], units["provisioned"], units["allocated"], units["unhealthy"]) == (600, 600, 600, 0)
    assert {node["name"]: node["state"] for node in world.pool_status()["nodes"]} == {
        "gpu-0": "Replacing",
        "gpu-1": "Held",
    }
    # Fenced: the Node object goes, and with it what is left of its pods.
    world.cluster.remove(Ref(NODES, "", "gpu-0"))
    await world.settle()
    assert world.holdings("Releasing") == {}
    assert world.instance_condition("chat", "Ready")[0] == "True"


async def test_n2_without_a_spare_a_failed_node_keeps_its_claim_and_its_members_come_back_with_it() -> None:
    world = await serving(["gpu-0"])
    set_ready(world, "gpu-0", "Unknown")
    await world.settle()
    world.clock.forward(minutes=11)
    evict_pods(world, "gpu-0")
    await world.settle()
    assert sorted(world.holdings()) == ["chat-0", "chat-1"]
    assert world.pool_status()["computeUnits"]["unhealthy"] == 600
    told = "need 300 CU on another node, have 0 spare; repair gpu-0, or add a node of the class"
    assert told in world.get_instance("chat")["status"]["summary"]
    set_ready(world, "gpu-0", "True")
    await world.settle()
    assert sorted(world.holdings()) == ["chat-0", "chat-1"]
    assert world.instance_condition("chat", "Ready")[0] == "True"


async def test_n3_members_leave_a_cordoned_node_one_at_a_time_and_never_below_the_minimum() -> None:
    world = await serving(["gpu-0", "gpu-1"])
    cordon(world, "gpu-0")
    lowest = 2
    for _ in range(200):
        busy = await world.operators[0].turn()
        lowest = min(lowest, len(endpoints(world)))
        if not busy and not await world.controllers.step() and not world.operators[0].wait_for_retries():
            break
    assert lowest == 2
    assert world.holdings() == {"chat-2": ["gpu-1"], "chat-3": ["gpu-1"]} or all(
        nodes == ["gpu-1"] for nodes in world.holdings().values()
    )
    assert (claims(world, "gpu-0"), claims(world, "gpu-1")) == (0, 6)
    assert world.instance_condition("chat", "Ready")[0] == "True"


def endpoints(world: World) -> set[str]:
    return {
        endpoint["targetRef"]["name"]
        for each in world.cluster.objects(ENDPOINT_SLICES)
        for endpoint in each.get("endpoints") or ()
        if endpoint["conditions"]["ready"]
    }


@pytest.mark.parametrize("spec", [{}, {"snapshot": "nobody-knows"}, {"instances": 7}])
async def test_n3_on_an_exactly_full_pool_the_instance_says_why_the_drain_waits(spec: dict[str, Any]) -> None:
    """Whatever else it has to say."""
    world = await serving(["gpu-0"])
    before = world.pods()
    world.edit_instance("chat", spec)
    cordon(world, "gpu-0")
    await world.settle()
    assert world.pods() == before
    summary = world.get_instance("chat")["status"]["summary"]
    assert "chat-0 has to leave gpu-0 and cannot: need 300 CU on another node, have 0 spare" in summary
    assert [event["reason"] for event in world.cluster.objects(EVENTS)].count("MoveBlocked") == 1
    world.add_node("gpu-1")
    await world.settle()
    assert claims(world, "gpu-0") == 0
    assert "has to leave" not in world.get_instance("chat")["status"]["summary"]


async def test_c9_idle_blocks_in_pieces_are_put_together_for_who_needs_them_in_one() -> None:
    world = World()
    world.seed(nodes=[])
    for name in ("gpu-0", "gpu-1"):
        world.add_node(name, gpus=3)
    world.apply_instance("fast", "gpt-3.5-turbo", 2)
    world.start_operator()
    await world.settle()
    world.add_node("gpu-2")
    world.cluster.user_create(MODEL_OFFERINGS, offering("big", cu=400))
    world.apply_instance("large", "big", 1)
    await world.settle()
    assert world.instance_condition("large", "Ready")[0] == "True"
    assert world.pool_status()["computeUnits"]["provisioned"] == 600


@pytest.mark.parametrize("zones", [("z1", "z1"), ("z1", "z2")])
async def test_c8_an_instance_over_two_nodes_gets_equal_parts_in_one_domain_or_nothing(zones: tuple[str, str]) -> None:
    world = World()
    world.seed(nodes=[])
    for name, zone in zip(("gpu-0", "gpu-1"), zones, strict=True):
        world.add_node(name, gpus=3, zone=zone)
    wide: Any = offering("wide", cu=400)
    wide["spec"]["reserved"]["nodesPerInstance"] = 2
    world.cluster.user_create(MODEL_OFFERINGS, wide)
    world.apply_instance("w", "wide", 1)
    world.start_operator()
    await world.settle()
    if zones == ("z1", "z2"):
        assert world.holdings() == {}
        assert world.instance_condition("w", "CapacityReserved")[1] == "Fragmented"
        return
    assert world.holdings() == {"w-0": ["gpu-0", "gpu-1"]}
    assert sorted(world.pods()) == ["w-0-0", "w-0-1"]
    spec = world.get(STATEFUL_SETS, "w-0", "acme")["spec"]
    assert spec["replicas"] == 2
    limits = spec["template"]["spec"]["containers"][0]["resources"]["limits"]
    assert limits["nvidia.com/gpu"] == "2"


async def test_several_commitments_grow_one_pool() -> None:
    world = await serving(["gpu-0", "gpu-1"])
    stored = world.get(COMPUTE_UNIT_POOLS, "prod", "acme")["spec"]["commitments"]
    more = {"id": "po-2", "computeUnits": 300, "term": "ThreeMonths", "provisionBy": "2026-03-05"}
    book = {"term": "ThreeMonths", "effectiveFrom": "2024-02-08", "pricePerComputeUnitMonth": "260.00"}
    prices = world.get(PRICE_BOOKS, "usd")["spec"]["computeUnits"]
    world.cluster.user_patch(Ref(PRICE_BOOKS, "", "usd"), {"spec": {"computeUnits": [*prices, book]}})
    world.cluster.user_patch(Ref(COMPUTE_UNIT_POOLS, "acme", "prod"), {"spec": {"commitments": [*stored, more]}})
    await world.settle()
    world.scale("chat", 3)
    await world.settle()
    first, second = world.pool_status()["commitments"]
    assert world.pool_status()["computeUnits"]["allocated"] == 900
    assert first["billingStart"] == second["billingStart"] == "2026-03-02T00:00:00Z"
    assert second["termEnd"] == "2026-05-31T00:00:00Z"


async def test_n1_a_pod_that_is_made_anew_under_its_name_tells_that_the_former_is_gone() -> None:
    """Kopf may deliver the new pod before the end of the old one; the lost node must be replaced all the same."""
    world = await serving(["gpu-0", "gpu-1"])
    world.cluster.remove(Ref(NODES, "", "gpu-0"))
    await world.operators[0].run()
    assert sorted(world.holdings()) == ["chat-0", "chat-1"]
    for name in ("chat-0-0", "chat-1-0"):
        former = world.get(PODS, name, "acme")
        world.cluster.hold_events()
        world.cluster.remove(Ref(PODS, "acme", name))
        world.cluster.lose_events()
        anew = {**former, "spec": {k: v for k, v in former["spec"].items() if k != "nodeName"}, "status": {}}
        anew["metadata"] = {k: former["metadata"][k] for k in ("name", "namespace", "labels", "ownerReferences")}
        world.cluster.user_create(PODS, anew)
    await world.settle()
    assert all(nodes == ["gpu-1"] for nodes in world.holdings().values())
    assert world.instance_condition("chat", "Ready")[0] == "True"


def choose(world: World, strategy: str, most: int = 1) -> None:
    choice = {"strategy": strategy, "maxUnavailableNodes": most}
    world.cluster.user_patch(Ref(COMPUTE_UNIT_POOLS, "acme", "prod"), {"spec": {"nodeReplacement": choice}})


async def watched(world: World) -> int:
    """Until nothing is left to do; the fewest members that served meanwhile."""
    lowest = len(endpoints(world))
    for _ in range(300):
        busy = await world.operators[0].turn()
        lowest = min(lowest, len(endpoints(world)))
        if not busy and not await world.controllers.step() and not world.operators[0].wait_for_retries():
            return lowest
    raise AssertionError("the world does not settle")


@pytest.mark.parametrize(
    ("strategy", "accept", "stays"),
    [("ReplaceFirst", True, 2), ("TerminateFirst", False, 2), ("TerminateFirst", True, 1)],
)
async def test_n2_terminate_first_empties_a_full_pools_node_as_far_as_may_be_missed(
    strategy: str, accept: bool, stays: int
) -> None:
    """GPT-4 Turbo has a minimum of two, which only acceptBelowMinimum gives up (C6)."""
    world = await serving(["gpu-0"])
    choose(world, strategy)
    world.edit_instance("chat", {"upgrade": {"minAvailable": 1, "acceptBelowMinimum": accept}})
    await world.settle()
    assert world.condition(COMPUTE_UNIT_POOLS, "prod", "Accepted")[0] == "True"
    cordon(world, "gpu-0")
    assert await watched(world) == stays
    assert len(world.holdings()) == stays
    if stays == 2:
        assert "has to leave gpu-0" in world.get_instance("chat")["status"]["summary"]
    else:
        assert world.instance_condition("chat", "CapacityReserved")[1] == "NodesUnhealthy"
    assert ("acceptBelowMinimum" in world.get_instance("chat")["status"]["summary"]) == (
        strategy == "TerminateFirst" and not accept
    )
    cordon(world, "gpu-0", on=False)
    await world.settle()
    assert world.instance_condition("chat", "Ready")[0] == "True"


async def test_n2_what_terminate_first_gave_up_is_placed_on_a_node_that_comes_later() -> None:
    world = await serving(["gpu-0"])
    choose(world, "TerminateFirst")
    world.edit_instance("chat", {"upgrade": {"minAvailable": 0, "acceptBelowMinimum": True}})
    cordon(world, "gpu-0")
    await world.settle()
    assert world.holdings() == {}
    world.add_node("gpu-1")
    await world.settle()
    assert sorted(world.holdings().values()) == [["gpu-1"], ["gpu-1"]]
    assert (claims(world, "gpu-0"), claims(world, "gpu-1")) == (0, 6)
    assert world.instance_condition("chat", "Ready")[0] == "True"


@pytest.mark.parametrize(("most", "claimed"), [(1, 1), (2, 2)])
async def test_n2_so_many_nodes_are_under_replacement_at_once(most: int, claimed: int) -> None:
    world = World()
    world.seed(nodes=[])
    for name in ("gpu-0", "gpu-1"):
        world.add_node(name, gpus=3)
    world.apply_instance("chat", "gpt-4-turbo", 2)
    world.start_operator()
    await world.settle()
    choose(world, "ReplaceFirst", most)
    world.controllers.becomes_ready = lambda pod: pod["metadata"]["name"] in ("chat-0-0", "chat-1-0")
    for name in ("gpu-2", "gpu-3"):
        world.add_node(name, gpus=3)
    for name in ("gpu-0", "gpu-1"):
        cordon(world, name)
    await world.settle()
    assert sum(claims(world, name) == 3 for name in ("gpu-2", "gpu-3")) == claimed
    assert len(world.holdings()) == 2 + claimed
    assert len(endpoints(world)) == 2


@pytest.mark.parametrize(
    "spec",
    [
        {"instances": 7},
        {"instances": 1},
        {"snapshot": "nobody-knows"},
        {"changeSet": {"id": "waits", "members": 2}},
    ],
)
async def test_r1_a_member_whose_spec_is_refused_or_waits_for_its_set_leaves_a_cordoned_node_with_its_template(
    spec: dict[str, Any],
) -> None:
    world = await serving(["gpu-0", "gpu-1"])
    template = world.get(STATEFUL_SETS, "chat-0", "acme")["spec"]["template"]["spec"]["containers"]
    world.edit_instance("chat", spec)
    await world.settle()
    refused = world.instance_condition("chat", "Accepted")
    assert refused[0] != "True"
    cordon(world, "gpu-0")
    assert await watched(world) == 2
    assert sorted(world.holdings().values()) == [["gpu-1"], ["gpu-1"]]
    assert claims(world, "gpu-0") == 0
    assert world.instance_condition("chat", "Accepted") == refused
    for member in world.holdings():
        assert world.get(STATEFUL_SETS, member, "acme")["spec"]["template"]["spec"]["containers"] == template


async def test_r1_the_last_member_of_a_refused_spec_that_is_lost_comes_back_with_the_template_it_ran() -> None:
    world = World()
    world.seed(nodes=["gpu-0", "gpu-1"])
    world.apply_instance("fast", "gpt-3.5-turbo", 1)
    world.start_operator()
    await world.settle()
    world.edit_instance("fast", {"snapshot": "nobody-knows"})
    await world.settle()
    set_ready(world, "gpu-0", "Unknown")
    await world.settle()
    world.clock.forward(minutes=11)
    evict_pods(world, "gpu-0")
    await world.settle()
    assert world.holdings() == {"fast-1": ["gpu-1"]}
    labels = world.get(STATEFUL_SETS, "fast-1", "acme")["metadata"]["labels"]
    assert labels["reservedcapacity.io/snapshot"] == "gpt-3.5-turbo-1"
    assert world.instance_condition("fast", "Available")[0] == "True"


async def test_c6_a_drain_evicts_nobody_below_the_minimum_of_the_offering_unless_that_is_given_up() -> None:
    world = await serving(["gpu-0"])

    def kept() -> int:
        return int(world.get(POD_DISRUPTION_BUDGETS, "chat", "acme")["spec"]["minAvailable"])

    world.edit_instance("chat", {"upgrade": {"minAvailable": 1}})
    await world.settle()
    assert kept() == 2
    world.edit_instance("chat", {"upgrade": {"minAvailable": 1, "acceptBelowMinimum": True}})
    await world.settle()
    assert kept() == 1
    world.cluster.writes.clear()
    world.kill_operators()
    world.start_operator()
    await world.settle()
    assert world.writes() == []


async def test_c9_room_is_put_together_for_all_that_can_only_be_placed_together() -> None:
    """600 CU in pieces of 400 and 200, and two instances of 300 at least (C6)."""
    world = World()
    world.seed(nodes=[])
    world.add_node("gpu-0", gpus=4)
    world.add_node("gpu-1", gpus=2)
    world.apply_instance("chat", "gpt-4-turbo", 2)
    world.start_operator()
    await world.settle()
    assert world.instance_condition("chat", "CapacityReserved")[1] == "Fragmented"
    world.add_node("gpu-2")
    await world.settle()
    assert world.instance_condition("chat", "Ready")[0] == "True"
    assert world.pool_status()["computeUnits"]["provisioned"] == 600


@pytest.mark.parametrize("together", [True, False])
async def test_n2_a_node_that_comes_back_bare_is_offered_to_the_pool_that_last_held_it(together: bool) -> None:
    """The older pool is owed more than the node has, and would come first for any other."""
    world = World()
    world.seed(nodes=["gpu-1"])
    world.start_operator()
    await world.settle()
    world.clock.forward(minutes=1)
    world.cluster.user_create(COMPUTE_UNIT_POOLS, pool("late", cu=600, commitment="po-2"))
    world.add_node("gpu-0", gpus=4)
    await world.settle()
    assert pools_on(world, "gpu-0") == {"late": 4}
    first = world.get(COMPUTE_UNIT_POOLS, "prod", "acme")["spec"]["commitments"][0]
    more = {**first, "id": "po-3", "computeUnits": 400}
    world.cluster.user_patch(Ref(COMPUTE_UNIT_POOLS, "acme", "prod"), {"spec": {"commitments": [first, more]}})
    await world.settle()
    world.cluster.remove(Ref(NODES, "", "gpu-0"))
    if not together:
        await world.settle()
        assert states(world, "late") == {"gpu-0": "Replacing", "gpu-1": "Free"}
        assert world.pool_status("late")["computeUnits"]["provisioned"] == 200
        world.cluster.writes.clear()
        world.operators[0].loop.open()
        await world.settle()
        assert world.writes() == []
    world.add_node("gpu-0", gpus=4)
    await world.settle()
    assert pools_on(world, "gpu-0") == {"late": 4}
    assert states(world, "late") == {"gpu-0": "Free", "gpu-1": "Free"}


def states(world: World, name: str) -> dict[str, str]:
    return {node["name"]: node["state"] for node in world.pool_status(name)["nodes"]}


def pools_on(world: World, name: str) -> dict[str, int]:
    annotations = world.get(NODES, name)["metadata"].get("annotations") or {}
    entries = json.loads(annotations.get("reservedcapacity.io/claims", "[]"))
    return {each["pool"].split("/")[1]: each["blocks"] for each in entries}


async def test_c11_a_foreign_pod_that_is_met_just_before_a_claim_is_known_from_then_on() -> None:
    """It came since the last LIST; the pool gets its blocks elsewhere at once, not when the next LIST finds it."""
    world = World()
    world.seed(nodes=["gpu-0", "gpu-1"])
    world.start_operator()
    spec = {"nodeName": "gpu-0", "containers": [{"name": "c", "resources": {"requests": {"nvidia.com/gpu": "4"}}}]}
    world.cluster.user_create(PODS, {"metadata": {"name": "foreign", "namespace": "other"}, "spec": spec})
    await world.settle()
    assert (claims(world, "gpu-0"), claims(world, "gpu-1")) == (0, 6)
