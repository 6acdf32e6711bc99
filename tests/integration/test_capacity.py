"""The main job in one process: a pool is bought, gets nodes, and serves; who waits says why (behaviour.md C1-C7, R1-R3)."""

from __future__ import annotations

import json
from datetime import UTC, datetime

import pytest

from reserved_capacity.ports import (
    COMPUTE_UNIT_POOLS,
    CONTROLLER_REVISIONS,
    EVENTS,
    MODEL_INSTANCES,
    MODEL_OFFERINGS,
    NODES,
    PODS,
    SERVICES,
    STATEFUL_SETS,
    Ref,
)
from tests.integration.world import World, pool

CLAIMS = "reservedcapacity.io/claims"


@pytest.fixture
async def world() -> World:
    """600 CU on two nodes of 800, two GPT-4 Turbo instances that serve."""
    made = World()
    made.seed()
    made.apply_instance("chat", "gpt-4-turbo", 2)
    made.start_operator()
    await made.settle()
    return made


def claims(world: World, name: str) -> list[tuple[str, int]]:
    annotations = world.get(NODES, name)["metadata"].get("annotations") or {}
    return [(each["pool"], each["blocks"]) for each in json.loads(annotations.get(CLAIMS, "[]"))]


async def test_600_cu_claim_six_blocks_of_one_node_and_serve_two_instances(world: World) -> None:
    assert claims(world, "gpu-0") == [("acme/prod", 6)]
    assert claims(world, "gpu-1") == []
    assert world.holdings() == {"chat-0": ["gpu-0"], "chat-1": ["gpu-0"]}
    assert world.instance_condition("chat", "Ready")[:2] == ("True", "Ready")
    status = world.pool_status()
    assert status["computeUnits"] == {
        "contracted": 600,
        "provisioned": 600,
        "usable": 600,
        "allocated": 600,
        "idle": 0,
        "unhealthy": 0,
        "surge": 0,
    }


async def test_a_claimed_node_carries_our_keys_and_nothing_else_of_ours(world: World) -> None:
    metadata = world.get(NODES, "gpu-0")["metadata"]
    assert metadata["labels"]["reservedcapacity.io/claimed"] == "true"
    assert set(metadata["annotations"]) == {
        CLAIMS,
        "cluster-autoscaler.kubernetes.io/scale-down-disabled",
        "karpenter.sh/do-not-disrupt",
    }
    assert world.get(NODES, "gpu-0")["spec"]["taints"] == [
        {"key": "reservedcapacity.io/claimed", "value": "true", "effect": "NoSchedule"}
    ]


async def test_i8_a_settled_world_is_silent(world: World) -> None:
    world.cluster.writes.clear()
    world.cluster.relist(world.operators[0].store)
    for resource in (COMPUTE_UNIT_POOLS, MODEL_INSTANCES, MODEL_OFFERINGS):
        for obj in world.cluster.objects(resource):
            world.operators[0].loop._enqueue(resource, None, obj)
    await world.settle()
    assert world.writes() == []


async def test_a_request_that_does_not_fit_waits_with_need_and_have(world: World) -> None:
    world.apply_instance("fast", "gpt-3.5-turbo", 1)
    await world.settle()
    status, reason, message = world.instance_condition("fast", "CapacityReserved")
    assert (status, reason) == ("False", "WaitingForComputeUnits")
    assert "need 100 CU, have 0" in message
    assert world.instance_condition("fast", "Ready")[:2] == ("False", "WaitingForComputeUnits")


@pytest.mark.parametrize(("instances", "reason"), [(3, "ExceedsPool"), (1, "BelowMinimumInstances")])
async def test_a_count_that_may_not_be_is_refused_and_two_keep_serving(
    world: World, instances: int, reason: str
) -> None:
    before = world.pods()
    world.scale("chat", instances)
    await world.settle()
    assert world.instance_condition("chat", "Accepted")[:2] == ("False", reason)
    assert world.instance_condition("chat", "Ready")[:2] == ("False", reason)
    assert world.pods() == before


async def test_c7_blocks_go_to_the_next_only_after_the_pods_are_gone(world: World) -> None:
    world.apply_instance("fast", "gpt-3.5-turbo", 1)
    world.controllers.stops = lambda _pod: False
    world.scale("chat", 0)
    await world.settle()
    assert sorted(world.holdings("Releasing")) == ["chat-0", "chat-1"]
    assert world.instance_condition("fast", "CapacityReserved")[1] == "WaitingForRelease"
    assert world.instance_condition("fast", "Ready")[0] == "Unknown"
    assert world.instance_condition("chat", "Ready")[:2] == ("Unknown", "WaitingForRelease")

    world.controllers.stops = lambda _pod: True
    await world.settle()
    assert world.holdings() == {"fast-0": ["gpu-0"]}
    assert world.pool_status()["computeUnits"]["idle"] == 500
    assert world.instance_condition("fast", "Ready")[0] == "True"
    assert world.instance_condition("chat", "Available")[:2] == ("False", "ScaledToZero")
    assert world.instance_condition("chat", "Ready")[0] == "True"


async def test_a_deleted_instance_gives_its_blocks_back_after_its_pods_are_gone(world: World) -> None:
    world.controllers.stops = lambda _pod: False
    world.delete_instance("chat")
    await world.settle()
    assert sorted(world.holdings("Releasing")) == ["chat-0", "chat-1"]
    world.controllers.stops = lambda _pod: True
    await world.settle()
    assert world.pool_status()["computeUnits"]["idle"] == 600
    assert world.pods() == {}


async def test_r3_editing_the_offering_and_restarting_the_operator_change_no_pod(world: World) -> None:
    before = world.pods()
    serving = {"reserved": {"serving": {"image": "server@sha256:" + "b" * 64}}}
    world.cluster.user_patch(Ref(MODEL_OFFERINGS, "", "gpt-4-turbo"), {"spec": serving})
    await world.settle()
    world.kill_operators()
    world.start_operator(seed=1)
    await world.settle()
    assert world.pods() == before


async def test_r1_growth_runs_what_the_others_run(world: World) -> None:
    world.apply_instance("fast", "gpt-3.5-turbo", 1)
    world.scale("chat", 0)
    await world.settle()
    serving = {"reserved": {"serving": {"image": "server@sha256:" + "b" * 64}}}
    world.cluster.user_patch(Ref(MODEL_OFFERINGS, "", "gpt-3.5-turbo"), {"spec": serving})
    world.scale("fast", 2)
    await world.settle()
    images = {
        each["metadata"]["name"]: each["spec"]["template"]["spec"]["containers"][0]["image"]
        for each in world.cluster.objects(STATEFUL_SETS)
    }
    assert images["fast-0"] == images["fast-1"]


async def test_an_event_tells_once_when_somebody_is_needed(world: World) -> None:
    world.apply_instance("fast", "gpt-3.5-turbo", 1)
    await world.settle()
    world.scale("chat", 0)
    await world.settle()
    told = [(event["regarding"]["name"], event["type"], event["reason"]) for event in world.cluster.objects(EVENTS)]
    assert told == [("fast", "Warning", "WaitingForComputeUnits")]


async def test_suspend_stops_the_pods_and_keeps_the_units(world: World) -> None:
    world.edit_instance("chat", {"suspend": True})
    await world.settle()
    assert world.pods() == {}
    assert sorted(world.holdings()) == ["chat-0", "chat-1"]
    assert world.instance_condition("chat", "CapacityReserved")[0] == "True"
    assert world.instance_condition("chat", "Available")[:2] == ("False", "Suspended")
    assert world.instance_condition("chat", "Ready")[0] == "True"
    world.edit_instance("chat", {"suspend": False})
    await world.settle()
    assert sorted(world.pods()) == ["chat-0-0", "chat-1-0"]


async def test_a_foreign_service_of_that_name_is_name_taken_and_left_alone(world: World) -> None:
    foreign = {"metadata": {"name": "fast", "namespace": "acme"}, "spec": {"selector": {"app": "theirs"}}}
    world.cluster.user_create(SERVICES, foreign)
    world.scale("chat", 0)
    world.apply_instance("fast", "gpt-3.5-turbo", 1)
    await world.settle()
    assert world.instance_condition("fast", "Accepted")[:2] == ("False", "NameTaken")
    assert world.get(SERVICES, "fast", "acme")["spec"] == {"selector": {"app": "theirs"}}
    assert "fast-0-0" not in world.pods()


async def test_a_service_that_somebody_else_altered_is_mended_once(world: World) -> None:
    ref = Ref(SERVICES, "acme", "chat")
    world.cluster.user_patch(ref, {"spec": {"selector": {"app": "theirs"}}})
    await world.settle()
    assert "app" not in world.get(SERVICES, "chat", "acme")["spec"]["selector"]


async def test_c11_gpus_in_foreign_hands_are_not_claimed_and_foreign_pods_are_named() -> None:
    world = World()
    world.seed(nodes=["gpu-0"])
    container = {"name": "c", "resources": {"limits": {"nvidia.com/gpu": "4"}}}
    theirs = {
        "metadata": {"name": "train", "namespace": "lab"},
        "spec": {"nodeName": "gpu-0", "containers": [container]},
        "status": {"phase": "Running"},
    }
    world.cluster.user_create(PODS, theirs)
    world.start_operator()
    await world.settle()
    assert claims(world, "gpu-0") == [("acme/prod", 4)]
    assert world.condition(COMPUTE_UNIT_POOLS, "prod", "Provisioned")[:2] == ("False", "PartiallyProvisioned")
    status, reason, message = world.condition(COMPUTE_UNIT_POOLS, "prod", "Healthy")
    assert (status, reason) == ("False", "ForeignPods")
    assert "lab/train" in message


async def test_c4_only_provisioned_units_are_allocated_and_the_rest_is_not_yet_provisioned() -> None:
    world = World()
    world.seed(nodes=[])
    world.add_node("small", gpus=3)
    world.apply_instance("chat", "gpt-4-turbo", 2)
    world.start_operator()
    await world.settle()
    assert world.instance_condition("chat", "CapacityReserved")[1] == "NotYetProvisioned"
    world.add_node("gpu-0")
    await world.settle()
    assert world.instance_condition("chat", "Ready")[0] == "True"
    assert (
        claims(world, "gpu-0") == [("acme/prod", 6)]
        or sum(blocks for name in ("small", "gpu-0") for _, blocks in claims(world, name)) == 6
    )


async def test_m1_charging_starts_at_the_midnight_after_the_first_members_statefulset(world: World) -> None:
    (commitment,) = world.pool_status()["commitments"]
    assert commitment["state"] == "Active"
    assert commitment["firstProvisionedAt"] == "2026-03-01T10:00:00Z"
    assert commitment["billingStart"] == "2026-03-02T00:00:00Z"
    assert commitment["termEnd"] == "2027-03-02T00:00:00Z"
    assert commitment["renewalDeadline"] == "2027-01-31T00:00:00Z"
    assert commitment["price"]["ordered"] == "220.00"


async def test_a_commitment_expires_at_its_end_without_being_asked(world: World) -> None:
    world.clock.moment = datetime(2027, 3, 2, tzinfo=UTC)
    await world.settle()
    assert world.pool_status()["commitments"][0]["state"] == "Expired"


async def test_a_duplicate_commitment_is_refused_and_continues_when_the_first_pool_is_gone(world: World) -> None:
    world.cluster.user_create(COMPUTE_UNIT_POOLS, pool("copy"))
    await world.settle()
    status, reason, message = world.condition(COMPUTE_UNIT_POOLS, "copy", "Accepted")
    assert (status, reason) == ("False", "DuplicateCommitment")
    assert "acme/prod" in message
    assert world.pool_status("copy")["computeUnits"]["contracted"] == 0


async def test_n1_a_node_that_is_not_ready_is_seen_and_shown_and_nothing_moves(world: World) -> None:
    before = world.pods()
    down = [{"type": "Ready", "status": "Unknown", "lastTransitionTime": "2026-03-01T10:00:00Z"}]
    world.cluster.user_patch(Ref(NODES, "", "gpu-0"), {"status": {"conditions": down}}, status=True)
    await world.settle()
    status, reason, message = world.condition(COMPUTE_UNIT_POOLS, "prod", "Healthy")
    assert (status, reason) == ("False", "NodesUnhealthy")
    assert "gpu-0" in message
    assert world.pool_status()["nodes"][0]["state"] == "Unhealthy"
    assert world.pods() == before


async def test_n2_a_node_that_comes_back_without_its_annotation_is_given_to_who_held_it(world: World) -> None:
    world.cluster.remove(Ref(NODES, "", "gpu-0"))
    for operator in world.operators:
        await operator.run()
    assert world.pool_status()["computeUnits"]["unhealthy"] == 600
    assert claims(world, "gpu-1") == []
    world.add_node("gpu-0")
    await world.settle()
    assert claims(world, "gpu-0") == [("acme/prod", 6)]
    assert world.pool_status()["computeUnits"] | {"surge": 0} == {
        "contracted": 600,
        "provisioned": 600,
        "usable": 600,
        "allocated": 600,
        "idle": 0,
        "unhealthy": 0,
        "surge": 0,
    }


async def test_c2_a_pool_whose_status_is_lost_finds_its_holdings_in_its_members(world: World) -> None:
    before = world.pods()
    world.kill_operators()
    stored = world.cluster._shelf(COMPUTE_UNIT_POOLS)["acme", "prod"]
    stored.pop("status")
    world.start_operator(seed=3)
    await world.settle()
    assert world.holdings() == {"chat-0": ["gpu-0"], "chat-1": ["gpu-0"]}
    assert world.pods() == before
    assert world.pool_status()["commitments"][0]["billingStart"] == "2026-03-02T00:00:00Z"


async def test_a_pool_made_anew_under_its_name_takes_over_its_members_and_claims(world: World) -> None:
    before = world.pods()
    world.cluster.user_delete(Ref(COMPUTE_UNIT_POOLS, "acme", "prod"))
    await world.settle()
    assert world.pods() == before
    assert world.instance_condition("chat", "CapacityReserved")[1] in ("PoolNotFound", "Reserved")
    world.cluster.user_create(COMPUTE_UNIT_POOLS, pool())
    await world.settle()
    assert world.pods() == before
    assert claims(world, "gpu-0") == [("acme/prod", 6)]
    assert claims(world, "gpu-1") == []
    assert world.instance_condition("chat", "Ready")[0] == "True"


async def test_a_pool_that_goes_with_its_namespace_leaves_its_blocks_free(world: World) -> None:
    world.cluster.user_delete(Ref(COMPUTE_UNIT_POOLS, "acme", "prod"))
    world.delete_instance("chat")
    await world.settle()
    assert world.pods() == {}
    assert claims(world, "gpu-0") == []


async def test_a_namesake_made_anew_gets_blocks_of_its_own_and_not_the_formers_members(world: World) -> None:
    before = world.pods()
    world.delete_instance("chat")
    world.apply_instance("chat", "gpt-3.5-turbo", 1)
    await world.settle()
    assert world.pool_status()["computeUnits"]["allocated"] == 100
    assert len(world.pods()) == 1
    assert not set(world.pods().values()) & set(before.values())
    assert world.instance_condition("chat", "Ready")[0] == "True"


async def test_a_node_that_loses_gpus_places_nothing_on_those_that_are_gone(world: World) -> None:
    world.scale("chat", 0)
    await world.settle()
    world.cluster.user_patch(Ref(NODES, "", "gpu-0"), {"status": {"allocatable": {"nvidia.com/gpu": "2"}}}, status=True)
    world.cluster.remove(Ref(NODES, "", "gpu-1"))
    world.apply_instance("fast", "gpt-3.5-turbo", 4)
    await world.settle()
    assert len(world.holdings()) == 2


async def test_two_operators_at_once_give_no_block_away_twice_and_settle() -> None:
    world = World()
    world.seed(nodes=["gpu-0", "gpu-1", "gpu-2"])
    world.cluster.user_create(COMPUTE_UNIT_POOLS, pool("other", cu=800, commitment="po-2"))
    for name, model, count, ref in [
        ("chat", "gpt-4-turbo", 2, "prod"),
        ("fast", "gpt-3.5-turbo", 5, "other"),
        ("more", "gpt-3.5-turbo", 3, "other"),
    ]:
        world.apply_instance(name, model, count, pool_ref=ref)
    first, second = world.start_operator(1), world.start_operator(2)
    for _ in range(300):
        turned = await first.turn() | await second.turn()
        if not turned:
            break
    await world.settle()
    for name in ("gpu-0", "gpu-1", "gpu-2"):
        assert sum(blocks for _, blocks in claims(world, name)) <= 8
    assert world.pool_status("prod")["computeUnits"]["allocated"] == 600
    assert world.pool_status("other")["computeUnits"]["allocated"] == 800
    assert len(world.pods()) == 2 + 5 + 3
    assert len(world.controllers.pods_made) == len(world.pods())


async def test_revisions_that_nobody_runs_are_pruned(world: World) -> None:
    world.scale("chat", 0)
    await world.settle()
    assert world.cluster.objects(CONTROLLER_REVISIONS) == []
