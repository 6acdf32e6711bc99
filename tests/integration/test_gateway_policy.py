"""Limits on Envoy Gateway (behaviour.md T3, ADR 0053): the production reconcilers, and a gateway that the test plays."""

from __future__ import annotations

from typing import Any

import pytest

from reserved_capacity.ports import (
    BACKEND_TRAFFIC_POLICIES,
    MODEL_OFFERINGS,
    Forbidden,
    JsonObject,
    Listing,
    Ref,
    Resource,
)
from tests.fakes.cluster import FakeCluster, not_sent
from tests.integration.token_world import BASE, LIMITS, SNAPSHOT, TokenWorld, gpt_41, token_world

POLICY = Ref(BACKEND_TRAFFIC_POLICIES, "models", "limits-gpt-4.1")
OFFERING = Ref(MODEL_OFFERINGS, "", "gpt-4.1")
ROUTE = "reservedcapacity.io/http-route"


async def a_gateway(route: str | None = "models/gpt-41") -> TokenWorld:
    """Envoy Gateway is installed, and the offering's route is named."""
    world = token_world()
    world.cluster.absent.clear()
    model = gpt_41()
    if route is not None:
        model["metadata"]["annotations"] = {ROUTE: route}
    await world.open(fleet_cu=1600, model=model)
    return world


def policy(world: TokenWorld, ref: Ref = POLICY) -> JsonObject:
    found = world.cluster.peek(ref)
    assert found is not None
    return found


def numbers(world: TokenWorld, account: str = "acme") -> list[int]:
    """What the policy holds for an account that has limits of its own."""
    rules = policy(world)["spec"]["rateLimit"]["global"]["rules"]
    own = {"name": "x-reserved-capacity-account", "type": "Exact", "value": account, "invert": False}
    return [rule["limit"]["requests"] for rule in rules if rule["clientSelectors"] == [{"headers": [own]}]]


def told(status: str, message: str, about: JsonObject) -> JsonObject:
    condition = {
        "type": "Accepted",
        "status": status,
        "observedGeneration": about["metadata"]["generation"],
        "reason": "Accepted" if status == "True" else "Invalid",
        "message": message,
    }
    return {"ancestors": [{"ancestorRef": {"name": "eg"}, "controllerName": "x", "conditions": [condition]}]}


async def answers(world: TokenWorld, status: str = "True", message: str = "Policy has been accepted.") -> None:
    """The gateway says this of the policy as it is now, and the operator looks."""
    world.cluster.user_patch(POLICY, {"status": told(status, message, policy(world))}, status=True)
    await passes(world, 20)


async def passes(world: TokenWorld, seconds: float) -> None:
    world.clock.forward(seconds=seconds)
    await world.settle()


async def test_t3_the_policy_follows_the_config_map_and_its_acceptance_is_the_confirmation() -> None:
    world = await a_gateway()
    await answers(world)
    world.cluster.writes.clear()
    await world.buy()
    limits = [each.ref for each in world.cluster.writes if each.ref in (POLICY, LIMITS)]
    assert limits == [LIMITS, POLICY]
    assert numbers(world) == [589_999, 109_999]
    assert world.said("LimitPublished")[:2] == ("Unknown", "Publishing")
    assert "HTTPRoute models/gpt-41" in world.said("LimitPublished")[2]
    assert world.said("Ready")[0] == "Unknown"
    assert world.entitled() == (0, 0)

    await answers(world)
    status, reason, message = world.said("LimitPublished")
    assert (status, reason) == ("True", "AcceptedByGateway")
    assert "accepted by eg" in message
    assert world.said("Ready")[0] == "True"
    assert world.entitled() == (90_000, 10_000)


async def test_t1_nothing_is_charged_before_the_gateway_that_was_named_has_the_limit() -> None:
    world = await a_gateway()
    await world.buy()
    await world.pass_to("03-04T10:00:00")
    assert await world.charges() == []
    await answers(world)
    assert {lot["billingStart"] for lot in world.status()["lots"]} == {"2026-03-05T00:00:00Z"}


async def test_t3_a_refusal_is_told_in_the_gateways_words_and_what_was_accepted_goes_on_counting() -> None:
    world = await a_gateway()
    await world.buy()
    await answers(world)
    await world.order(6, 4)
    await answers(world, "False", "rate limit is broken")
    assert world.said("LimitPublished")[:2] == ("False", "GatewayRejected")
    assert "eg: Invalid: rate limit is broken" in world.said("LimitPublished")[2]
    assert world.said("Ready")[:2] == ("False", "GatewayRejected")
    assert world.entitled() == (90_000, 10_000)


async def test_t3_what_was_accepted_and_is_refused_later_is_told_within_a_minute_and_looking_writes_nothing() -> None:
    """Somebody changed the gateway's own configuration; our policy is the same."""
    world = await a_gateway()
    await world.buy()
    await answers(world)
    world.cluster.writes.clear()
    await passes(world, 90)
    assert world.cluster.writes == []
    world.cluster.user_patch(POLICY, {"status": told("False", "enable Ratelimit", policy(world))}, status=True)
    await passes(world, 61)
    assert world.said("LimitPublished")[:2] == ("False", "GatewayRejected")
    assert "enable Ratelimit" in world.said("LimitPublished")[2]
    assert world.entitled() == (90_000, 10_000)


async def test_t3_the_fleet_shrinks_only_after_the_gateway_has_the_smaller_limit() -> None:
    world = await a_gateway()
    await world.buy(units={"input": 30, "output": 0})
    await answers(world)
    assert world.fleet() == {SNAPSHOT: 2}
    await world.pass_to("04-10T10:00:00")
    await world.order(3, 0)
    await world.pass_to("04-11T00:01:00")
    assert numbers(world) == [589_999, 99_999]
    assert world.fleet() == {SNAPSHOT: 2}
    await answers(world)
    assert world.fleet() == {SNAPSHOT: 1}


async def test_settled_means_silent_and_what_somebody_changes_is_put_back() -> None:
    world = await a_gateway()
    await world.buy()
    await answers(world)
    world.cluster.writes.clear()
    await passes(world, 3600)
    assert [each for each in world.cluster.writes if each.ref.resource == BACKEND_TRAFFIC_POLICIES] == []

    wanted = policy(world)["spec"]
    theirs = {"rateLimit": {"local": {"rules": []}, "global": {"rules": []}}, "mergeType": "StrategicMerge"}
    world.cluster.user_patch(POLICY, {"spec": theirs})
    await passes(world, 301)
    assert policy(world)["spec"] == {**wanted, "mergeType": "StrategicMerge"}


async def test_the_policy_goes_with_the_route_moves_with_it_and_goes_with_the_offering() -> None:
    world = await a_gateway()
    world.cluster.user_patch(OFFERING, {"metadata": {"annotations": {ROUTE: "other/gpt-41"}}})
    await world.settle()
    moved = Ref(BACKEND_TRAFFIC_POLICIES, "other", POLICY.name)
    assert policy(world, moved)["spec"]["targetRefs"][0]["name"] == "gpt-41"
    assert world.cluster.peek(POLICY) is None

    world.cluster.user_patch(OFFERING, {"metadata": {"annotations": {ROUTE: None}}})
    await world.settle()
    assert world.cluster.peek(moved) is None

    world.cluster.user_patch(OFFERING, {"metadata": {"annotations": {ROUTE: "models/gpt-41"}}})
    await world.settle()
    assert policy(world)
    world.cluster.user_delete(OFFERING)
    await world.settle()
    assert world.cluster.peek(POLICY) is None


async def test_a_route_that_is_none_and_a_name_that_somebody_has_are_refusals() -> None:
    world = await a_gateway("gpt-41")
    await world.buy()
    assert world.said("LimitPublished")[:2] == ("False", "GatewayRejected")
    assert "'gpt-41' is not namespace/name" in world.said("LimitPublished")[2]

    theirs = {"metadata": {"name": POLICY.name, "namespace": "models"}, "spec": {}}
    world.cluster.user_create(BACKEND_TRAFFIC_POLICIES, theirs)
    world.cluster.user_patch(OFFERING, {"metadata": {"annotations": {ROUTE: "models/gpt-41"}}})
    await world.settle()
    assert "already exists" in world.said("LimitPublished")[2]
    assert policy(world)["spec"] == {}
    world.cluster.user_delete(OFFERING)
    await world.settle()
    assert policy(world)["spec"] == {}


async def test_without_envoy_gateway_the_config_map_is_the_confirmation_and_it_is_looked_for_seldom() -> None:
    world = await a_gateway()
    world.cluster.absent.add(BACKEND_TRAFFIC_POLICIES)
    world.cluster.remove(POLICY)
    await passes(world, 301)
    await world.buy()
    assert world.said("LimitPublished")[:2] == ("True", "Published")
    assert world.entitled() == (90_000, 10_000)

    world.cluster.absent.clear()
    await passes(world, 301)
    assert world.cluster.peek(POLICY) is None
    await passes(world, 301)
    assert numbers(world) == [589_999, 109_999]
    await answers(world)
    assert world.said("LimitPublished")[:2] == ("True", "AcceptedByGateway")


async def test_without_the_right_to_policies_only_who_names_a_route_hears_of_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    world = await a_gateway()
    await world.buy()
    await answers(world)
    listed, said = FakeCluster.list, list[tuple[str, str]]()

    async def refusing(cluster: FakeCluster, resource: Resource, **options: Any) -> Listing:
        if resource == BACKEND_TRAFFIC_POLICIES and len(said) < 4:
            said.append(world.said("LimitPublished")[:2])
            raise Forbidden("no right to it")
        return await listed(cluster, resource, **options)

    monkeypatch.setattr(FakeCluster, "list", refusing)
    world.cluster.user_patch(OFFERING, {"metadata": {"annotations": {ROUTE: "models/gpt-41/chat"}}})
    await world.settle()
    assert said[-1] == ("Unknown", "Publishing")

    said.clear()
    world.cluster.user_patch(OFFERING, {"metadata": {"annotations": {ROUTE: None}}})
    await world.settle()
    assert world.said("LimitPublished")[:2] == ("True", "Published")
    assert len(said) == 1, "and nothing is tried again at once"


async def test_a_policy_whose_write_fails_follows_later_and_the_config_map_is_written_once() -> None:
    world = await a_gateway()
    await answers(world)
    world.cluster.writes.clear()
    world.cluster.faults.append(not_sent(matches=lambda _verb, ref: ref == POLICY, times=3))
    await world.buy()
    found = [(each.ref, each.outcome) for each in world.cluster.writes if each.ref in (POLICY, LIMITS)]
    assert found == [(LIMITS, "ok"), *[(POLICY, "Unavailable")] * 3, (POLICY, "ok")]
    assert world.effective() == (BASE[0] + 90_000, BASE[1] + 10_000)
    assert numbers(world) == [589_999, 109_999]
