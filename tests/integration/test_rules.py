"""Rules of behaviour.md that only a whole world can break, each where no other test of this layer tells it."""

from __future__ import annotations

from typing import Any

import pytest

from reserved_capacity.ports import (
    ACCELERATOR_CLASSES,
    COMPUTE_UNIT_POOLS,
    MODEL_OFFERINGS,
    NODES,
    PODS,
    STATEFUL_SETS,
    Ref,
)
from reserved_capacity.resync import Freshness, Resync
from reserved_capacity.store import FOREIGN_PODS
from tests.integration.test_nodes import claims, cordon, endpoints, pools_on, serving, set_ready, watched
from tests.integration.world import World, offering, pool


def lose_status(world: World) -> None:
    """As a restore without the status subresource does; whoever comes next has to find out."""
    world.kill_operators()
    world.cluster._shelf(COMPUTE_UNIT_POOLS)["acme", "prod"].pop("status")
    world.start_operator(seed=3)


async def list_foreign_pods(world: World) -> None:
    """They are not watched: the next LIST tells of them."""
    operator = world.operators[0]
    await Resync(operator.cluster, operator.store, Freshness(lambda: 0.0)).once(FOREIGN_PODS)
    await world.settle()


def foreign_pod(world: World, node: str, gpus: int) -> None:
    container = {"name": "c", "resources": {"limits": {"nvidia.com/gpu": str(gpus)}}}
    spec = {"nodeName": node, "containers": [container]}
    body = {"metadata": {"name": "train", "namespace": "lab"}, "spec": spec, "status": {"phase": "Running"}}
    world.cluster.user_create(PODS, body)


# ------------------------------------------------------------------------------------------------- lost status (C2)


async def test_c2_a_status_that_is_lost_in_the_middle_of_a_move_stops_nobody_who_serves() -> None:
    world = await serving(["gpu-0", "gpu-1"])
    world.clock.forward(minutes=1)
    world.controllers.becomes_ready = lambda pod: pod["metadata"]["name"] in ("chat-0-0", "chat-1-0")
    cordon(world, "gpu-0")
    await world.settle()
    assert sorted(world.holdings()) == ["chat-0", "chat-1", "chat-2"]
    lose_status(world)
    await world.settle()
    assert sorted(world.holdings()) == ["chat-0", "chat-1", "chat-2"]
    assert len(endpoints(world)) == 2
    world.controllers.becomes_ready = lambda _pod: True
    assert await watched(world) == 2
    assert sorted(world.holdings().values()) == [["gpu-1"], ["gpu-1"]]


async def test_c2_a_member_whose_name_is_used_again_is_not_taken_for_the_one_that_was_replaced() -> None:
    """chat-2 was made in place of chat-0; a later chat-0 is another."""
    world = await serving(["gpu-0", "gpu-1"])
    world.clock.forward(minutes=1)
    cordon(world, "gpu-0")
    await world.settle()
    cordon(world, "gpu-0", on=False)
    world.clock.forward(minutes=1)
    cordon(world, "gpu-1")
    await world.settle()
    members = {member: world.get(STATEFUL_SETS, member, "acme") for member in world.holdings()}
    annotations = {
        name: obj["metadata"]["annotations"].get("reservedcapacity.io/replaces") for name, obj in members.items()
    }
    assert annotations == {"chat-0": "chat-2", "chat-1": "chat-3"}
    before = world.pods()
    lose_status(world)
    await world.settle()
    assert sorted(world.holdings()) == ["chat-0", "chat-1"]
    assert world.pods() == before


async def test_c2_a_member_over_two_nodes_and_what_is_left_of_one_that_goes_are_found_again() -> None:
    world = World()
    world.seed(nodes=["gpu-0", "gpu-1"])
    wide: Any = offering("wide", cu=400)
    wide["spec"]["reserved"]["nodesPerInstance"] = 2
    world.cluster.user_create(MODEL_OFFERINGS, wide)
    more = world.get(COMPUTE_UNIT_POOLS, "prod", "acme")["spec"]["commitments"][0] | {
        "id": "po-2",
        "computeUnits": 1000,
    }
    orders = [*world.get(COMPUTE_UNIT_POOLS, "prod", "acme")["spec"]["commitments"], more]
    world.cluster.user_patch(Ref(COMPUTE_UNIT_POOLS, "acme", "prod"), {"spec": {"commitments": orders}})
    world.apply_instance("w", "wide", 1)
    world.apply_instance("fast", "gpt-3.5-turbo", 1)
    world.start_operator()
    await world.settle()
    world.controllers.stops = lambda _pod: False
    world.scale("fast", 0)
    await world.settle()
    record = world.pool_status()["holdings"]
    assert {each["member"]: each["state"] for each in record} == {"fast-0": "Releasing", "w-0": "Held"}
    lose_status(world)
    await world.settle()
    assert [{**each, "since": ""} for each in world.pool_status()["holdings"]] == [
        {**each, "since": ""} for each in record
    ]


# -------------------------------------------------------------------------------------------- capacity (C4, C10, C11)


async def test_c4_what_is_there_belongs_to_the_commitments_in_the_order_of_acceptance() -> None:
    world = World()
    world.seed(nodes=["gpu-0"])
    world.start_operator()
    await world.settle()
    world.clock.forward(minutes=1)
    first = world.get(COMPUTE_UNIT_POOLS, "prod", "acme")["spec"]["commitments"][0]
    more = {**first, "id": "po-0", "computeUnits": 400}
    world.cluster.user_patch(Ref(COMPUTE_UNIT_POOLS, "acme", "prod"), {"spec": {"commitments": [more, first]}})
    await world.settle()
    told = {each["id"]: each["provisionedComputeUnits"] for each in world.pool_status()["commitments"]}
    assert told == {"po-1": 600, "po-0": 200}
    assert world.condition(COMPUTE_UNIT_POOLS, "prod", "Provisioned")[1] == "PartiallyProvisioned"
    world.apply_instance("chat", "gpt-4-turbo", 3)
    await world.settle()
    assert len(world.holdings()) == 2, "800 CU are there, and 200 of them are no instance"
    assert world.instance_condition("chat", "CapacityReserved")[1] == "NotYetProvisioned"


async def test_c10_idle_units_are_lent_to_nobody_and_shown_as_idle() -> None:
    world = World()
    world.seed(nodes=["gpu-0"])
    world.start_operator()
    await world.settle()
    world.clock.forward(minutes=1)
    world.cluster.user_create(COMPUTE_UNIT_POOLS, pool("other", cu=600, commitment="po-2"))
    world.apply_instance("chat", "gpt-4-turbo", 2, pool_ref="other")
    await world.settle()
    assert pools_on(world, "gpu-0") == {"prod": 6, "other": 2}
    assert world.holdings() == {}
    assert world.pool_status()["computeUnits"]["idle"] == 600
    assert world.instance_condition("chat", "CapacityReserved")[1] == "NotYetProvisioned"


async def test_c11_a_foreign_pod_that_comes_later_takes_no_claim_and_is_named_until_it_goes() -> None:
    world = await serving(["gpu-0"])
    foreign_pod(world, "gpu-0", 2)
    await list_foreign_pods(world)
    assert claims(world, "gpu-0") == 6
    assert world.condition(COMPUTE_UNIT_POOLS, "prod", "Healthy")[1] == "ForeignPods"
    assert "lab/train" in world.condition(COMPUTE_UNIT_POOLS, "prod", "Healthy")[2]
    assert world.instance_condition("chat", "Ready")[0] == "True"
    world.cluster.remove(Ref(PODS, "lab", "train"))
    await list_foreign_pods(world)
    assert world.condition(COMPUTE_UNIT_POOLS, "prod", "Healthy")[0] == "True"


async def test_the_class_says_what_there_is_what_is_claimed_what_is_free_and_what_has_failed() -> None:
    world = await serving(["gpu-0", "gpu-1", "gpu-2", "gpu-3"])
    foreign_pod(world, "gpu-1", 3)
    cordon(world, "gpu-2")
    set_ready(world, "gpu-3", "Unknown")
    await list_foreign_pods(world)

    def told() -> tuple[dict[str, int], dict[str, int]]:
        status = world.get(ACCELERATOR_CLASSES, "h100-8")["status"]
        return status["nodes"], status["computeUnits"]

    nodes, units = told()
    assert nodes == {"total": 4, "ready": 3, "cordoned": 1, "failed": 0}
    assert units == {"total": 3200, "claimed": 600, "free": 200 + 500, "unhealthy": 0}
    world.clock.forward(minutes=11)
    await world.settle()
    nodes, units = told()
    assert (nodes["failed"], units["unhealthy"]) == (1, 800)
    world.cluster.remove(Ref(NODES, "", "gpu-3"))
    await world.settle()
    assert told()[1] == {"total": 2400, "claimed": 600, "free": 700, "unhealthy": 0}


# ------------------------------------------------------------------------------------------------ change sets (F5, F6)


@pytest.mark.parametrize("ends", ["Rejected", "RolledBack"])
async def test_f5_members_of_an_id_that_came_to_nothing_stay_as_they_are_until_it_changes_or_goes(ends: str) -> None:
    world = World()
    world.seed(nodes=["gpu-0"])
    world.apply_instance("chat", "gpt-4-turbo", 2)
    world.apply_instance("fast", "gpt-3.5-turbo", 0)
    world.start_operator()
    await world.settle()
    world.controllers.becomes_ready = lambda pod: not pod["metadata"]["name"].startswith("fast")
    carried = {"changeSet": {"id": "x", "members": 2}}
    world.edit_instance("chat", {"instances": 0, **carried})
    world.edit_instance("fast", {"instances": 6 if ends == "RolledBack" else 7, **carried})
    await world.settle()
    world.clock.forward(hours=1)
    await world.settle()
    assert [each["phase"] for each in world.pool_status()["changeSets"]] == [ends]
    assert world.instance_condition("chat", "Accepted")[1] == f"ChangeSet{ends}"
    before = world.pods()
    world.edit_instance("fast", {"instances": 1})
    world.edit_instance("chat", {"instances": 4})
    await world.settle()
    assert world.pods() == before
    world.edit_instance("fast", {"instances": 0, "changeSet": None})
    world.edit_instance("chat", {"instances": 2, "changeSet": None})
    await world.settle()
    assert world.pods() == before
    assert world.instance_condition("chat", "Ready")[0] == "True"


async def test_f6_a_move_changes_nothing_of_the_contract() -> None:
    world = World()
    world.seed(nodes=["gpu-0"])
    world.apply_instance("chat", "gpt-4-turbo", 2)
    world.apply_instance("fast", "gpt-3.5-turbo", 0)
    world.start_operator()
    await world.settle()
    before = world.pool_status()
    world.clock.forward(days=3)
    for name, count in (("chat", 0), ("fast", 6)):
        world.edit_instance(name, {"instances": count, "changeSet": {"id": "there", "members": 2}})
    await world.settle()
    after = world.pool_status()
    assert sorted(world.holdings()) == [f"fast-{number}" for number in range(6)]
    for field in ("commitments", "termEnd", "computeUnits", "nodes"):
        kept = [
            [{**node, "holders": []} for node in status["nodes"]] if field == "nodes" else status[field]
            for status in (before, after)
        ]
        assert kept[0] == kept[1], field
