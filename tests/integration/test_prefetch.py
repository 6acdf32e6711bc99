"""A snapshot is brought to its nodes before a rollout releases any capacity for it (behaviour.md S3; ADR 0063)."""

from __future__ import annotations

from reserved_capacity.ports import JOBS, MODEL_INSTANCES, NODES, PODS, STATEFUL_SETS, JsonObject, Ref
from reserved_capacity.snapshot import gpus_of
from tests.integration.test_rollouts import NEW, OLD, environment, rollout, serving
from tests.integration.world import World

IN_PLACE = {"strategy": "InPlace", "minAvailable": 1, "acceptBelowMinimum": True}
DENIED = "failed to pull and unpack image: 401 Unauthorized"


async def in_place(**upgrade: object) -> World:
    """Two members in a full pool, on a node of their own each as far as the pool lets them."""
    return await serving(cu=600, **{**IN_PLACE, **upgrade})


async def later(world: World, minutes: float) -> None:
    world.clock.forward(minutes=minutes)
    await world.settle()


def jobs(world: World) -> list[JsonObject]:
    return list(world.cluster.objects(JOBS))


def cached(world: World) -> tuple[str, str, str]:
    return world.instance_condition("chat", "SnapshotCached")


async def test_s3_a_first_placement_waits_for_no_pull() -> None:
    world = await in_place()
    assert not any(write.ref.resource == JOBS for write in world.cluster.writes)
    assert cached(world) == ("True", "Cached", "no rollout waits for an artifact")


async def test_s3_no_capacity_is_released_before_the_artifact_is_on_the_node() -> None:
    world = await in_place()
    world.controllers.pulls = lambda _pod: ""
    world.edit_instance("chat", {"snapshot": NEW})
    before = world.pods()
    await world.settle()
    assert world.pods() == before
    assert world.holdings("Releasing") == {}
    assert cached(world)[:2] == ("Unknown", "Prefetching")
    assert world.instance_condition("chat", "Ready")[0] == "Unknown"
    assert rollout(world)["phase"] == "Prefetching"
    node = next(iter(world.holdings()["chat-0"]))
    assert f"the artifact of {NEW} is being pulled to {node}" in rollout(world)["step"]

    world.controllers.pulls = lambda _pod: None
    await world.settle()
    assert {environment(pod)["MODEL_SNAPSHOT"] for pod in world.member_pods()} == {NEW}
    assert world.pods().keys() == before.keys()
    assert not set(world.pods().values()) & set(before.values())


async def test_s3_the_job_pulls_what_a_member_pulls_and_holds_nothing() -> None:
    world = await in_place()
    world.controllers.pulls = lambda _pod: ""
    world.edit_instance("chat", {"snapshot": NEW})
    await world.settle()
    (job,) = jobs(world)
    spec, member = job["spec"]["template"]["spec"], world.get(STATEFUL_SETS, "chat-0", "acme")["spec"]["template"]
    pulled = {each["name"]: each["image"]["reference"] for each in spec["volumes"]}
    assert pulled["model"].startswith("models/gpt-4-turbo-new@sha256:")
    assert pulled["server"] == member["spec"]["containers"][0]["image"]
    assert spec["containers"][0]["args"] == ["-v"]
    assert gpus_of({"spec": spec}, "nvidia.com/gpu") == 0
    assert spec["tolerations"] == member["spec"]["tolerations"]
    assert job["spec"]["activeDeadlineSeconds"] == 45 * 60
    (pod,) = [each for each in world.cluster.objects(PODS) if each not in world.member_pods()]
    assert "reservedcapacity.io/instance" not in pod["metadata"]["labels"]
    assert pod["spec"]["nodeName"] in world.holdings()["chat-0"]
    assert world.condition(MODEL_INSTANCES, "chat", "Available")[0] == "True"
    assert world.get_instance("chat")["status"]["instances"]["held"] == 2
    assert world.pool_status()["computeUnits"]["allocated"] == 600
    assert {each["type"]: each["status"] for each in world.pool_status()["conditions"]}["Healthy"] == "True"


async def test_s3_a_pull_that_fails_holds_the_rollout_and_says_where_and_why() -> None:
    world = await in_place()
    world.controllers.pulls = lambda _pod: DENIED
    before = world.pods()
    world.edit_instance("chat", {"snapshot": NEW})
    await world.settle()
    assert world.pods() == before
    status, reason, message = cached(world)
    assert (status, reason) == ("False", "PrefetchFailed")
    assert DENIED in message
    assert "imagePullSecrets" in message
    assert world.instance_condition("chat", "UpToDate")[:2] == ("False", "RolloutBlocked")
    assert world.instance_condition("chat", "Ready")[0] == "False"
    assert DENIED in rollout(world)["blockedOn"]

    world.cluster.writes.clear()
    await later(world, 10)
    assert world.writes() == [], "nothing is written while it is waited for"
    world.controllers.pulls = lambda _pod: None
    await world.settle()
    assert world.instance_condition("chat", "UpToDate")[:2] == ("True", "UpToDate")


async def test_s3_a_pull_that_takes_too_long_is_tried_again_and_never_fails_the_rollout() -> None:
    world = await in_place(progressDeadline="20m")
    world.controllers.pulls = lambda _pod: ""
    world.edit_instance("chat", {"snapshot": NEW})
    await world.settle()
    (first,) = jobs(world)
    await later(world, 20)
    assert "not there within 20m, tried again at " in cached(world)[2]
    await later(world, 1)
    (second,) = jobs(world)
    assert second["metadata"]["name"] != first["metadata"]["name"]
    assert second["metadata"]["annotations"]["reservedcapacity.io/attempt"] == "2"
    assert cached(world)[:2] == ("Unknown", "Prefetching")
    assert {environment(pod)["MODEL_SNAPSHOT"] for pod in world.member_pods()} == {OLD}
    assert "lastFailure" not in world.get_instance("chat")["status"]


async def test_s3_jobs_go_when_the_rollout_is_over_or_taken_back_or_its_instance_is_gone() -> None:
    world = await in_place()
    world.edit_instance("chat", {"snapshot": NEW})
    await world.settle()
    assert world.instance_condition("chat", "UpToDate")[0] == "True"
    assert jobs(world) == []

    world.controllers.pulls = lambda _pod: ""
    world.edit_instance("chat", {"profile": "fast"})
    await world.settle()
    assert jobs(world) == [], "the snapshot is there: its members run it"
    world.edit_instance("chat", {"snapshot": OLD})
    await world.settle()
    assert len(jobs(world)) == 1
    world.edit_instance("chat", {"snapshot": NEW})
    await world.settle()
    assert jobs(world) == []

    world.edit_instance("chat", {"snapshot": OLD})
    await world.settle()
    world.delete_instance("chat")
    await world.settle()
    assert jobs(world) == []
    assert world.cluster.objects(PODS) == []


async def test_s3_a_node_that_is_lost_during_the_pull_leaves_no_job_and_stops_nobody() -> None:
    world = await serving(cu=900)
    world.controllers.pulls = lambda _pod: ""
    world.edit_instance("chat", {"snapshot": NEW})
    await world.settle()
    held = {node for nodes in world.holdings().values() for node in nodes}
    pulled = {each["metadata"]["annotations"]["reservedcapacity.io/node"] for each in jobs(world)}
    lost = next(iter(pulled - held), None)
    assert lost is not None, "it is pulled to the spare node first"
    serve = world.pods()
    world.cluster.user_delete(Ref(NODES, "", lost))
    await world.settle()
    assert world.pods() == serve
    assert lost not in {each["metadata"]["annotations"]["reservedcapacity.io/node"] for each in jobs(world)}
