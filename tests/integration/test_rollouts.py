"""Rollouts through the production loop over the fake API server (behaviour.md S1-S6, R1-R3, R5; ADR 0030, 0031).

What a rollout decides is told in tests/golden; here is what becomes of it: StatefulSets, templates, status, crashes.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest

from reserved_capacity.ports import (
    COMPUTE_UNIT_POOLS,
    CONTROLLER_REVISIONS,
    ENDPOINT_SLICES,
    MODEL_OFFERINGS,
    NODES,
    PODS,
    SERVICES,
    JsonObject,
    Ref,
)
from tests.integration.world import DIGEST, World, pool

OLD, NEW = "gpt-4-turbo-1", "gpt-4-turbo-2"
CLAIMS = "reservedcapacity.io/claims"
TURBO = Ref(MODEL_OFFERINGS, "", "gpt-4-turbo")


def offer_second(world: World, **changes: Any) -> None:
    spec = world.get(MODEL_OFFERINGS, "gpt-4-turbo")["spec"]
    second = {"name": NEW, "artifact": f"oci://models/gpt-4-turbo-new@{DIGEST}"}
    reserved = {"serving": {"profiles": [{"name": "fast", "args": ["--fast"]}]}, **changes}
    world.cluster.user_patch(TURBO, {"spec": {"snapshots": [spec["snapshots"][0], second], "reserved": reserved}})


async def serving(cu: int = 900, *, minimum: int = 2, **upgrade: Any) -> World:
    """Two members of chat that serve, in a pool of so many compute units; the offering lists a second snapshot."""
    world = World()
    world.seed()
    offer_second(world, minInstances=minimum)
    if cu != 600:
        more = {"id": "po-2", "computeUnits": cu - 600, "term": "OneYear", "provisionBy": "2026-03-01"}
        orders = [*pool()["spec"]["commitments"], more]
        world.cluster.user_patch(Ref(COMPUTE_UNIT_POOLS, "acme", "prod"), {"spec": {"commitments": orders}})
    world.apply_instance("chat", "gpt-4-turbo", 2, upgrade=upgrade)
    world.start_operator()
    await world.settle()
    assert world.instance_condition("chat", "UpToDate")[:2] == ("True", "UpToDate")
    return world


def bad(snapshot: str) -> Callable[[JsonObject], bool]:
    """Pods of a snapshot do not get ready."""
    return lambda pod: environment(pod)["MODEL_SNAPSHOT"] != snapshot


def environment(pod: JsonObject) -> dict[str, str]:
    return {each["name"]: each["value"] for each in pod["spec"]["containers"][0]["env"]}


def runs(world: World) -> dict[str, str]:
    """Snapshot by pod."""
    return {pod["metadata"]["name"]: environment(pod)["MODEL_SNAPSHOT"] for pod in world.member_pods()}


def endpoints(world: World) -> int:
    """Endpoints that a client may be sent to."""
    slices = world.cluster.objects(ENDPOINT_SLICES)
    return sum(each["conditions"]["ready"] for one in slices for each in one.get("endpoints") or ())


def rollout(world: World) -> JsonObject:
    return dict(world.get_instance("chat")["status"]["rollout"])


async def settle(world: World, least: int) -> None:
    """As World.settle, looking after every step at how many serve: never fewer than this (S2, S5)."""
    for _ in range(2000):
        busy = await world.operators[0].turn()
        assert endpoints(world) >= least, f"only {endpoints(world)} serve"
        if not busy:
            moved = await world.controllers.step()
            assert endpoints(world) >= least, f"only {endpoints(world)} serve"
            if not moved and not world.operators[0].wait_for_retries():
                return
    raise AssertionError("the world does not settle")


async def test_s2_surge_replaces_every_member_and_misses_nobody() -> None:
    world = await serving()
    service = world.get(SERVICES, "chat", "acme")["metadata"]["uid"]
    world.edit_instance("chat", {"snapshot": NEW})

    await settle(world, least=2)

    assert sorted(runs(world).values()) == [NEW, NEW]
    assert world.instance_condition("chat", "UpToDate")[:2] == ("True", "UpToDate")
    assert world.instance_condition("chat", "Ready")[0] == "True"
    status = world.get_instance("chat")["status"]
    assert (status["rollout"]["phase"], status["rollout"]["id"]) == ("Idle", 2)
    assert status["snapshot"] == {"current": NEW, "target": NEW, "previous": OLD, "lifecycle": "Active"}
    report = {"from": OLD, "to": NEW, "throughputRatio": "NotMeasured", "unavailableSeconds": 0, "result": "Done"}
    assert status["upgradeReport"] == report
    assert status["instances"]["updatedAvailable"] == 2
    assert world.get(SERVICES, "chat", "acme")["metadata"]["uid"] == service
    assert len(world.cluster.objects(CONTROLLER_REVISIONS)) == 1
    world.cluster.writes.clear()
    await world.settle()
    assert world.writes() == [], "settled means silent"


async def test_s2_block_touches_nothing_in_a_full_pool_and_says_what_is_missing() -> None:
    world = await serving(cu=600)
    before = world.pods()
    world.edit_instance("chat", {"snapshot": NEW})

    await settle(world, least=2)

    assert world.pods() == before
    assert rollout(world)["phase"] == "Blocked"
    assert rollout(world)["blockedOn"].startswith("need 300 CU, spare 0")
    status, reason, message = world.instance_condition("chat", "UpToDate")
    assert (status, reason) == ("False", "RolloutBlocked")
    assert "InPlace" in message
    assert "BorrowSpare" in message
    assert world.instance_condition("chat", "Ready")[:2] == ("False", "RolloutBlocked")
    assert world.instance_condition("chat", "Available")[0] == "True"

    world.edit_instance("chat", {"snapshot": OLD})
    await world.settle()
    assert world.pods() == before
    assert world.instance_condition("chat", "Ready")[0] == "True"


async def test_s2_c6_in_place_keeps_one_and_the_minimum_unless_fewer_are_accepted() -> None:
    world = await serving(cu=600, whenNoSpare="InPlace", minAvailable=1)
    before = world.pods()
    world.edit_instance("chat", {"snapshot": NEW})
    await settle(world, least=2)
    assert world.pods() == before
    assert "acceptBelowMinimum" in rollout(world)["blockedOn"]

    world.edit_instance("chat", {"upgrade": {"acceptBelowMinimum": True}})
    await settle(world, least=1)
    assert sorted(runs(world).values()) == [NEW, NEW]
    assert rollout(world)["strategy"] == "InPlace"
    assert world.pool_status()["computeUnits"]["allocated"] == 600


async def test_s2_a_rollout_that_may_not_begin_keeps_nothing_that_it_has_borrowed() -> None:
    """ADR 0064: nobody stands on it yet. It asks again when it may."""
    world = await serving(cu=600, whenNoSpare="BorrowSpare")
    world.apply_instance("fast", "gpt-3.5-turbo", 1)
    world.edit_instance("chat", {"snapshot": NEW})
    while rollout(world)["phase"] != "Prefetching":
        assert await world.operators[0].turn(), "it asks for the artifact where it has borrowed room"
    assert world.pool_status()["computeUnits"]["surge"] == 300
    _, reason, message = world.instance_condition("fast", "CapacityReserved")
    assert (reason, "300 CU more are kept for a rollout" in message) == ("WaitingForComputeUnits", True), message

    world.edit_instance("chat", {"upgrade": {"paused": True}})
    await settle(world, least=2)
    assert rollout(world)["phase"] == "Paused"
    assert world.pool_status()["computeUnits"]["surge"] == 0

    world.edit_instance("chat", {"upgrade": {"paused": False}})
    await settle(world, least=2)
    assert sorted(runs(world).values()) == [NEW, NEW]
    assert world.pool_status()["computeUnits"]["surge"] == 0


async def test_s2_what_a_full_pool_borrows_of_its_class_is_not_sold_and_goes_back() -> None:
    """BorrowSpare: nobody is missed, and what is contracted, provisioned and allocated stays as it is."""
    world = await serving(cu=600, whenNoSpare="BorrowSpare")
    world.apply_instance("fast", "gpt-3.5-turbo", 1)  # waits for compute units, and is not given what is borrowed
    await world.settle()
    seen, phases, told = set(), set(), set()
    world.edit_instance("chat", {"snapshot": NEW})
    for _ in range(2000):
        busy = await world.operators[0].turn()
        told.add(world.instance_condition("fast", "CapacityReserved")[1])
        units = world.pool_status()["computeUnits"]
        assert (units["contracted"], units["provisioned"], units["allocated"]) == (600, 600, 600)
        assert endpoints(world) >= 2
        seen.add(units["surge"])
        phases.add(rollout(world)["phase"])
        if not busy and not await world.controllers.step() and not world.operators[0].wait_for_retries():
            break

    assert sorted(runs(world).values()) == [NEW, NEW]
    assert seen == {0, 300}
    assert phases == {"Idle", "Prefetching", "Progressing"}, "nobody has to act, not even for a moment"
    assert told <= {"WaitingForComputeUnits", "WaitingForRelease"}, "no node is to blame"
    claimed = [
        json.loads(each["metadata"].get("annotations", {}).get(CLAIMS, "[]")) for each in world.cluster.objects(NODES)
    ]
    assert sum(claim["blocks"] for claims in claimed for claim in claims) == 6
    assert world.instance_condition("fast", "CapacityReserved")[:2] == ("False", "WaitingForComputeUnits")


async def test_s2_what_is_borrowed_shows_as_surge_also_while_its_canary_waits() -> None:
    world = await serving(cu=600, whenNoSpare="BorrowSpare")
    world.edit_instance("chat", {"snapshot": NEW, "upgrade": {"canary": {"instances": 1}}})
    await settle(world, least=2)
    assert world.instance_condition("chat", "UpToDate")[:2] == ("Unknown", "AwaitingApproval")
    units = world.pool_status()["computeUnits"]
    assert (units["provisioned"], units["allocated"], units["idle"], units["surge"]) == (600, 600, 0, 300)


async def test_s2_a_class_that_has_nothing_unclaimed_lends_nothing() -> None:
    world = await serving(cu=600, whenNoSpare="BorrowSpare")
    world.cluster.user_create(COMPUTE_UNIT_POOLS, pool("other", cu=1000, commitment="po-9"))
    await world.settle()
    before = world.pods()
    world.edit_instance("chat", {"snapshot": NEW})
    await settle(world, least=2)
    assert world.pods() == before
    assert rollout(world)["phase"] == "Blocked"

    world.add_node("gpu-2")
    await settle(world, least=2)
    assert set(runs(world).values()) == {NEW}


async def test_s6_a_version_that_does_not_come_up_is_taken_back_and_nobody_was_touched() -> None:
    world = await serving()
    before = world.pods()
    world.controllers.becomes_ready = bad(NEW)
    world.edit_instance("chat", {"snapshot": NEW})
    await settle(world, least=2)
    assert sorted(runs(world).values()) == [OLD, OLD, NEW]
    assert world.instance_condition("chat", "Ready")[:2] == ("Unknown", "RollingOut")

    world.clock.forward(minutes=46)
    await settle(world, least=2)

    assert world.pods() == before
    status, reason, message = world.instance_condition("chat", "UpToDate")
    assert (status, reason) == ("False", "RolledBack")
    assert "did not serve within 45m" in message
    instance = world.get_instance("chat")
    assert instance["spec"]["snapshot"] == NEW, "the spec stays the user's"
    assert instance["status"]["lastFailure"]["member"] == "chat-2"
    assert world.instance_condition("chat", "Ready")[0] == "False"

    world.clock.forward(hours=5)
    world.cluster.writes.clear()
    await world.settle()
    assert not [write for write in world.writes() if "StatefulSet" in write], "not tried again"

    report = world.get_instance("chat")["status"]["upgradeReport"]
    assert (report["from"], report["to"], report["result"]) == (OLD, NEW, "RolledBack")
    world.edit_instance("chat", {"snapshot": OLD})
    await settle(world, least=2)
    assert world.instance_condition("chat", "Ready")[0] == "True"
    report = world.get_instance("chat")["status"]["upgradeReport"]
    assert (report["from"], report["to"], report["result"]) == (OLD, NEW, "RolledBack"), "nothing went from old to old"


async def test_s6_a_step_that_takes_its_time_says_what_the_pods_say() -> None:
    world = await serving()
    world.controllers.becomes_ready = bad(NEW)
    world.edit_instance("chat", {"snapshot": NEW})
    await settle(world, least=2)
    [pod] = [name for name, snapshot in runs(world).items() if snapshot == NEW]
    waiting = {"reason": "ImagePullBackOff", "message": "manifest unknown"}
    status = {"containerStatuses": [{"name": "server", "state": {"waiting": waiting}}]}
    world.cluster.user_patch(Ref(PODS, "acme", pod), {"status": status}, status=True)
    await settle(world, least=2)
    assert "chat-2 starts on gpu-" in rollout(world)["step"]
    assert rollout(world)["step"].endswith("at the latest (ImagePullBackOff: manifest unknown)")


async def test_s6_the_way_back_does_not_depend_on_the_catalogue() -> None:
    """R3: in place the old member is gone; its template is kept, whatever the offering says by now."""
    world = await serving(cu=600, minimum=1, whenNoSpare="InPlace", minAvailable=1)
    image = {pod["spec"]["containers"][0]["image"] for pod in world.cluster.objects(PODS)}
    world.controllers.becomes_ready = bad(NEW)
    world.edit_instance("chat", {"snapshot": NEW})
    await settle(world, least=1)
    world.edit_instance("chat", {"instances": 1})  # the one that serves goes, so nobody runs the old template
    serve = {"image": f"another-server@{DIGEST}"}
    world.cluster.user_patch(TURBO, {"spec": {"reserved": {"serving": serve}}})
    world.clock.forward(minutes=46)
    await world.settle()

    assert set(runs(world).values()) == {OLD}
    assert {pod["spec"]["containers"][0]["image"] for pod in world.cluster.objects(PODS)} == image


async def test_r3_what_is_made_later_in_a_rollout_runs_what_was_made_first() -> None:
    world = await serving()
    world.edit_instance("chat", {"snapshot": NEW, "upgrade": {"canary": {"instances": 1}}})
    await settle(world, least=2)
    assert world.instance_condition("chat", "UpToDate")[:2] == ("Unknown", "AwaitingApproval")
    moved = {pod["metadata"]["name"] for pod in world.cluster.objects(PODS)}

    world.cluster.user_patch(TURBO, {"spec": {"reserved": {"serving": {"image": f"another-server@{DIGEST}"}}}})
    await world.settle()
    assert {pod["metadata"]["name"] for pod in world.cluster.objects(PODS)} == moved, "an edit moves no pod"
    world.edit_instance("chat", {"upgrade": {"canary": {"approvedRollout": rollout(world)["id"]}}})
    await settle(world, least=2)

    assert sorted(runs(world).values()) == [NEW, NEW]
    assert {pod["spec"]["containers"][0]["image"] for pod in world.cluster.objects(PODS)} == {f"server@{DIGEST}"}


async def test_s5_setting_the_old_snapshot_back_restarts_nobody_who_never_moved() -> None:
    world = await serving()
    before = world.pods()
    world.edit_instance("chat", {"snapshot": NEW, "upgrade": {"canary": {"instances": 1}}})
    await settle(world, least=2)
    world.edit_instance("chat", {"snapshot": OLD})
    await settle(world, least=2)

    assert sorted(runs(world).values()) == [OLD, OLD]
    assert len(set(before.items()) & set(world.pods().items())) == 1
    assert world.instance_condition("chat", "UpToDate")[0] == "True"


async def test_r5_a_profile_is_rolled_out_like_a_snapshot() -> None:
    world = await serving()
    world.edit_instance("chat", {"profile": "fast"})
    await settle(world, least=2)
    arguments = {tuple(pod["spec"]["containers"][0]["args"]) for pod in world.cluster.objects(PODS)}
    assert arguments == {("--fast",)}
    assert {each["profile"] for each in world.pool_status()["holdings"]} == {"fast"}


async def test_s4_a_pause_and_the_window_hold_it_between_members() -> None:
    world = await serving()
    window = {"schedule": "0 22 * * *", "duration": "1h"}
    world.cluster.user_patch(Ref(COMPUTE_UNIT_POOLS, "acme", "prod"), {"spec": {"maintenanceWindow": window}})
    world.edit_instance("chat", {"snapshot": NEW})
    await settle(world, least=2)
    assert set(runs(world).values()) == {OLD}
    assert world.instance_condition("chat", "UpToDate")[:2] == ("Unknown", "AwaitingWindow")
    assert "2026-03-01T22:00:00Z" in rollout(world)["blockedOn"]

    world.edit_instance("chat", {"upgrade": {"paused": True}})
    world.clock.forward(hours=12)
    await settle(world, least=2)
    assert set(runs(world).values()) == {OLD}
    assert world.instance_condition("chat", "Ready")[:2] == ("Unknown", "Paused")

    world.edit_instance("chat", {"upgrade": {"paused": False}})
    await settle(world, least=2)
    assert set(runs(world).values()) == {NEW}


async def test_a_schedule_that_never_comes_due_is_told_on_the_pool() -> None:
    world = await serving()
    window = {"schedule": "0 2 31 2 *", "duration": "1h"}
    world.cluster.user_patch(Ref(COMPUTE_UNIT_POOLS, "acme", "prod"), {"spec": {"maintenanceWindow": window}})
    await world.settle()
    status, reason, message = world.condition(COMPUTE_UNIT_POOLS, "prod", "Accepted")
    assert (status, reason) == ("False", "InvalidSchedule")
    assert "Bad day-of-month" in message


async def test_s1_who_has_opted_in_moves_to_the_replacement_at_deprecation() -> None:
    world = await serving(autoUpgrade="AtDeprecation")
    first, second = world.get(MODEL_OFFERINGS, "gpt-4-turbo")["spec"]["snapshots"]
    deprecated = {**first, "deprecatedFrom": "2026-03-02", "replacement": NEW}
    world.cluster.user_patch(TURBO, {"spec": {"snapshots": [deprecated, second]}})
    await world.settle()
    assert set(runs(world).values()) == {OLD}
    told = world.instance_condition("chat", "SnapshotSupported")[2]
    assert told.endswith(f"moves by itself at 2026-03-02T00:00:00Z to {NEW}")

    world.clock.forward(hours=14)
    await settle(world, least=2)
    assert set(runs(world).values()) == {NEW}
    assert world.instance_condition("chat", "UpToDate")[0] == "True"
    assert "autoUpgrade" in rollout(world)["why"]
    told = world.instance_condition("chat", "SnapshotSupported")[2]
    assert told.startswith(f"{NEW} is current")
    assert f"spec.snapshot still names {OLD}" in told


async def test_r1_r2_an_endpoint_that_is_left_over_does_not_make_a_namesake_serve() -> None:
    """In place the successor may get the name of the one that it follows; its own endpoint counts, and no other."""
    world = await serving(cu=600, minimum=1, whenNoSpare="InPlace", minAvailable=1)
    stale = [dict(each) for each in world.cluster.objects(ENDPOINT_SLICES)[0]["endpoints"]]
    world.controllers.becomes_ready = bad(NEW)
    world.edit_instance("chat", {"snapshot": NEW})
    await settle(world, least=1)
    assert sorted(runs(world).values()) == [OLD, NEW]
    slice_ = world.cluster.objects(ENDPOINT_SLICES)[0]["metadata"]
    world.cluster.user_patch(Ref(ENDPOINT_SLICES, "acme", slice_["name"]), {"endpoints": stale})
    for _ in range(50):
        await world.operators[0].turn()

    assert sorted(runs(world).values()) == [OLD, NEW], "the other one was stopped on the word of a dead endpoint"
    assert len([each for each in world.pool_status()["holdings"] if each["state"] == "Held"]) == 2


@pytest.mark.parametrize("lost", ["status", "operator"])
async def test_c2_a_rollout_goes_on_when_what_was_known_is_lost(lost: str) -> None:
    world = await serving()
    world.edit_instance("chat", {"snapshot": NEW})
    for _ in range(400):
        await world.operators[0].turn()
        await world.controllers.step()
        if NEW in runs(world).values():
            break
    world.kill_operators()
    if lost == "status":
        world.cluster.user_patch(Ref(COMPUTE_UNIT_POOLS, "acme", "prod"), {"status": None}, status=True)
    world.start_operator(seed=3)
    await settle(world, least=2)
    assert sorted(runs(world).values()) == [NEW, NEW]


async def test_m8_a_drain_in_mid_rollout_stops_who_never_served_and_not_who_serves() -> None:
    world = await serving(cu=600, minimum=1, strategy="InPlace", minAvailable=1, progressDeadline="48h")
    world.controllers.becomes_ready = bad(NEW)
    world.edit_instance("chat", {"snapshot": NEW})
    await settle(world, least=1)
    assert runs(world) == {"chat-0-0": NEW, "chat-1-0": OLD}

    agreed = {"commitment": "po-1", "at": "2026-03-02", "computeUnits": 300, "reason": "agreed"}
    world.cluster.user_patch(Ref(COMPUTE_UNIT_POOLS, "acme", "prod"), {"spec": {"amendments": [agreed]}})
    await settle(world, least=1)
    world.clock.forward(hours=13.5)
    await settle(world, least=1)
    assert runs(world) == {"chat-1-0": OLD}
