"""The end of a term in one process: renewal, notices, drain, stop, reductions (behaviour.md M1, M5, M8, M9, C4)."""

from __future__ import annotations

import json
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

from reserved_capacity.ports import COMPUTE_UNIT_POOLS, EVENTS, NODES, PRICE_BOOKS, JsonObject, Ref
from tests.integration.world import NOW, World, pool

POOL = Ref(COMPUTE_UNIT_POOLS, "acme", "prod")
END = datetime(2027, 3, 2, tzinfo=UTC)  # 365 days after the midnight that follows world.NOW
HOUR = timedelta(hours=1)


def commitment(id_: str = "po-1", cu: int = 600, **more: Any) -> JsonObject:
    return {"id": id_, "computeUnits": cu, "term": "OneYear", "provisionBy": "2026-03-01", **more}


async def serving(
    *orders: JsonObject, chat: int = 2, fast: int = 0, nodes: Sequence[str] = ("gpu-0", "gpu-1"), **spec: Any
) -> World:
    """A pool with these commitments; chat (300 CU, two at least) and fast (100 CU, of more priority) serve on it."""
    world = World()
    world.seed(nodes=nodes)
    entries = world.get(PRICE_BOOKS, "usd")["spec"]["computeUnits"]
    quarter = {**entries[0], "term": "ThreeMonths", "pricePerComputeUnitMonth": "260.00"}
    world.cluster.user_patch(Ref(PRICE_BOOKS, "", "usd"), {"spec": {"computeUnits": [*entries, quarter]}})
    world.cluster.user_patch(POOL, {"spec": {"commitments": list(orders or (commitment(),)), **spec}})
    world.apply_instance("chat", "gpt-4-turbo", chat)
    if fast:
        world.apply_instance("fast", "gpt-3.5-turbo", fast, priority=5)
    world.start_operator()
    await world.settle()
    assert len(world.holdings()) == chat + fast
    return world


async def at(world: World, moment: datetime) -> None:
    world.clock.moment = moment
    await world.settle()


def record(world: World, id_: str = "po-1") -> JsonObject:
    found: JsonObject = next(each for each in world.pool_status()["commitments"] if each["id"] == id_)
    return found


def secure(world: World) -> tuple[str, str, str]:
    return world.condition(COMPUTE_UNIT_POOLS, "prod", "CommitmentSecure")


def claimed(world: World) -> int:
    return sum(
        each["blocks"]
        for node in world.cluster.objects(NODES)
        for each in json.loads((node["metadata"].get("annotations") or {}).get("reservedcapacity.io/claims", "[]"))
    )


def notices(world: World) -> list[str]:
    return [
        f"{event['type']}: {event['note'].split(', at')[0]}"
        for event in world.cluster.objects(EVENTS)
        if event["reason"] == "CommitmentEnds"
    ]


def identities_hold(world: World) -> None:
    units = world.pool_status()["computeUnits"]
    assert units["provisioned"] == units["allocated"] + units["idle"] + units["unhealthy"]
    assert units["usable"] == units["allocated"] + units["idle"]
    assert units["provisioned"] <= units["contracted"]


# ------------------------------------------------------------------------------------------------------------- expiry


async def test_m8_a_commitment_expires_announced_drained_before_and_given_back_after() -> None:
    world = await serving(commitment(), commitment("po-2", 300, term="ThreeMonths"), fast=3)
    assert secure(world)[:2] == ("True", "Secure")
    first_end = datetime(2026, 5, 31, tzinfo=UTC)
    before = world.pods()

    await at(world, first_end - timedelta(days=30))
    assert record(world, "po-2")["state"] == "Expiring"
    assert world.pool_status()["expiryPlan"] == {
        "at": "2026-05-30T23:00:00Z",
        "stops": [{"instance": "chat", "instances": 2}],
    }
    assert secure(world)[:2] == ("False", "ExpiresSoon")
    assert "from 2026-05-30T23:00:00Z on 2 of chat stop" in secure(world)[2]
    assert world.condition(COMPUTE_UNIT_POOLS, "prod", "Ready")[0] == "True"
    assert world.pods() == before

    await at(world, first_end - HOUR)
    assert sorted(world.holdings()) == ["fast-0", "fast-1", "fast-2"]
    assert "expiryPlan" not in world.pool_status()
    assert claimed(world) == 9, "what is paid for stays the pool's until the end"
    status, reason, message = world.instance_condition("chat", "CapacityReserved")
    assert (status, reason) == ("False", "WaitingForComputeUnits")
    assert "need 600 CU, have 300 idle" in message
    assert "commitment po-2 ends at 2026-05-31T00:00:00Z: add a commitment" in message
    identities_hold(world)

    await at(world, first_end)
    assert (record(world, "po-2")["state"], claimed(world)) == ("Expired", 6)
    assert world.pool_status()["computeUnits"]["contracted"] == 600
    assert secure(world)[:2] == ("True", "Secure")
    identities_hold(world)


async def test_m8_a_pool_that_ends_stops_one_by_one_and_the_instance_says_that_it_exceeds_the_pool() -> None:
    world = await serving(chat=0, fast=3)
    world.controllers.stops = lambda _pod: False
    await at(world, END - HOUR)
    assert sorted(world.holdings("Releasing")) == ["fast-2"]
    assert world.pool_status()["expiryPlan"]["stops"] == [{"instance": "fast", "instances": 2}]
    await at(world, END - HOUR / 2)
    assert sorted(world.holdings("Releasing")) == ["fast-2"], "the next one waits until this one is gone"
    status, reason, message = world.instance_condition("fast", "Accepted")
    assert (status, reason) == ("False", "ExceedsPool")
    assert "need 300 CU for 3 instances, pool prod has 0 CU contracted from 2027-03-02T00:00:00Z on" in message
    identities_hold(world)

    world.controllers.stops = lambda pod: pod["metadata"]["name"] == "fast-2-0"
    await world.settle()
    assert sorted(world.holdings("Releasing")) == ["fast-1"]

    await at(world, END)
    assert sorted(world.holdings("Releasing")) == ["fast-0", "fast-1"]
    units = world.pool_status()["computeUnits"]
    assert (units["contracted"], units["provisioned"], units["allocated"], units["surge"]) == (0, 0, 0, 200)
    assert claimed(world) == 2, "blocks go back when the pods are gone, not before"
    identities_hold(world)

    world.controllers.stops = lambda _pod: True
    await world.settle()
    assert (world.holdings(), world.pods(), claimed(world)) == ({}, {}, 0)
    assert world.pool_status()["phase"] == "Expired"
    assert secure(world)[:2] == ("False", "Expired")
    assert world.condition(COMPUTE_UNIT_POOLS, "prod", "Ready")[0] == "True"
    assert world.instance_condition("fast", "Ready")[:2] == ("False", "ExceedsPool")


async def test_m5_the_operator_is_away_over_the_end_and_the_rest_is_as_if_it_had_been_there() -> None:
    there, away = await serving(fast=0), await serving(fast=0)
    await at(there, END - HOUR)
    away.kill_operators()
    for world in (there, away):
        world.clock.moment = END + 3 * HOUR
    away.start_operator(seed=1)
    for world in (there, away):
        await world.settle()
        world.controllers.step_now()
    assert away.pool_status()["commitments"] == there.pool_status()["commitments"]
    assert away.pods() == there.pods() == {}
    assert claimed(away) == claimed(there) == 0


async def test_m8_a_restart_in_mid_drain_goes_on_where_it_stood() -> None:
    world = await serving(chat=0, fast=3)
    world.controllers.stops = lambda _pod: False
    await at(world, END - HOUR)
    world.kill_operators()
    world.start_operator(seed=2)
    await world.settle()
    assert sorted(world.holdings("Releasing")) == ["fast-2"]
    world.controllers.stops = lambda _pod: True
    await world.settle()
    assert world.holdings() == {}
    assert world.pool_status()["computeUnits"]["idle"] == 600
    await at(world, END)
    assert claimed(world) == 0


async def test_m8_the_order_of_stopping_is_the_customers() -> None:
    world = await serving(
        commitment(),
        commitment("po-2", 300, term="ThreeMonths"),
        fast=3,
        expiry={"stopOrder": ["fast"], "drainBefore": "3h"},
    )
    assert world.condition(COMPUTE_UNIT_POOLS, "prod", "Accepted")[0] == "True"
    end = datetime(2026, 5, 31, tzinfo=UTC)
    await at(world, end - timedelta(days=10))
    assert world.pool_status()["expiryPlan"] == {
        "at": "2026-05-30T21:00:00Z",
        "stops": [{"instance": "fast", "instances": 3}],
    }
    await at(world, end - 3 * HOUR)
    assert sorted(world.holdings()) == ["chat-0", "chat-1"]
    assert world.instance_condition("fast", "CapacityReserved")[1] == "WaitingForComputeUnits"


async def test_m8_a_further_commitment_cancels_the_plan_and_takes_over_claims_and_members() -> None:
    world = await serving(nodes=["gpu-0"])
    before = world.pods()
    await at(world, END - timedelta(days=10))
    assert world.pool_status()["expiryPlan"]["stops"] == [{"instance": "chat", "instances": 2}]
    more = commitment("po-2", 600, provisionBy="2027-03-02")
    world.cluster.user_patch(POOL, {"spec": {"commitments": [commitment(), more]}})
    await world.settle()
    assert "expiryPlan" not in world.pool_status()
    # There is no room for both, so the new one has the blocks of the old one when that ends; nobody is late.
    assert record(world, "po-2")["state"] == "Provisioning"
    await at(world, END + HOUR)
    assert world.pods() == before
    assert record(world, "po-2")["provisionedComputeUnits"] == 600
    assert record(world, "po-2")["billingStart"] == "2027-03-03T00:00:00Z"
    assert world.condition(COMPUTE_UNIT_POOLS, "prod", "Provisioned")[0] == "True"
    identities_hold(world)


async def test_i8_a_pool_that_has_ended_is_silent() -> None:
    world = await serving()
    await at(world, END + HOUR)
    world.cluster.writes.clear()
    await at(world, END + timedelta(days=3))
    world.operators[0].loop._enqueue(COMPUTE_UNIT_POOLS, None, world.get(COMPUTE_UNIT_POOLS, "prod", "acme"))
    await world.settle()
    assert world.writes() == []


# ------------------------------------------------------------------------------------------------------------- renewal


async def test_m8_a_renewal_follows_without_a_gap_at_the_list_price_then_in_force_and_stops_nobody() -> None:
    world = await serving(commitment(renewal={"policy": "Renew"}))
    before = world.pods()
    entries = world.get(PRICE_BOOKS, "usd")["spec"]["computeUnits"]
    dearer = {**entries[0], "effectiveFrom": "2027-01-01", "pricePerComputeUnitMonth": "240.00"}
    world.cluster.user_patch(Ref(PRICE_BOOKS, "", "usd"), {"spec": {"computeUnits": [*entries, dearer]}})
    await at(world, END - timedelta(days=30))
    assert (record(world)["state"], record(world)["price"]["ordered"]) == ("Renewing", "220.00")
    assert secure(world)[:2] == ("True", "Renewing")
    assert "expiryPlan" not in world.pool_status()
    await at(world, END)
    second = record(world)
    assert (second["state"], second["number"], second["price"]["ordered"]) == ("Active", 2, "240.00")
    assert (second["billingStart"], second["termEnd"]) == ("2027-03-02T00:00:00Z", "2028-03-01T00:00:00Z")
    assert world.pool_status()["termEnd"] == "2028-03-01T00:00:00Z"
    assert world.pods() == before
    assert secure(world)[:2] == ("True", "Secure")


async def test_m5_two_renewals_while_nobody_was_there() -> None:
    world = await serving(commitment(renewal={"policy": "Renew", "term": "ThreeMonths"}))
    before = world.pods()
    world.kill_operators()
    world.clock.moment = END + timedelta(days=100)
    world.start_operator(seed=1)
    await world.settle()
    third = record(world)
    assert (third["number"], third["billingStart"], third["price"]["ordered"]) == (3, "2027-05-31T00:00:00Z", "260.00")
    assert world.pods() == before


async def test_a_renewal_for_which_there_is_no_price_is_told_ahead() -> None:
    world = World()
    world.seed()
    order = commitment(renewal={"policy": "Renew", "term": "ThreeMonths"})
    world.cluster.user_patch(POOL, {"spec": {"commitments": [order]}})
    world.start_operator()
    await world.settle()
    status, reason, message = world.condition(COMPUTE_UNIT_POOLS, "prod", "Accepted")
    assert (status, reason) == ("False", "PriceMissing")
    assert "which the renewal of commitment po-1 needs" in message
    assert world.pool_status()["computeUnits"]["provisioned"] == 600


# ----------------------------------------------------------------------------------------------------------- amendments


def amended(*entries: tuple[str, int]) -> list[JsonObject]:
    return [{"commitment": "po-1", "at": day, "computeUnits": cu, "reason": "agreed"} for day, cu in entries]


async def test_an_agreed_reduction_drains_what_no_longer_fits_and_gives_the_rest_back() -> None:
    world = await serving(chat=0, fast=5)
    world.cluster.user_patch(POOL, {"spec": {"amendments": amended(("2026-05-01", 300))}})
    await world.settle()
    assert world.condition(COMPUTE_UNIT_POOLS, "prod", "Accepted")[0] == "True"
    assert record(world)["amendments"] == [
        {"at": "2026-05-01", "computeUnits": 300, "seenAt": NOW.strftime("%Y-%m-%dT%H:%M:%SZ")}
    ]
    may = datetime(2026, 5, 1, tzinfo=UTC)
    await at(world, may - timedelta(days=20))
    assert world.pool_status()["expiryPlan"]["stops"] == [{"instance": "fast", "instances": 2}]
    assert "commitment po-1 is reduced to 300 CU at 2026-05-01T00:00:00Z" in secure(world)[2]
    await at(world, may - HOUR)
    assert sorted(world.holdings()) == ["fast-0", "fast-1", "fast-2"]
    assert world.pool_status()["computeUnits"]["contracted"] == 600
    await at(world, may)
    assert (world.pool_status()["computeUnits"]["contracted"], record(world)["computeUnits"], claimed(world)) == (
        300,
        300,
        3,
    )
    assert world.condition(COMPUTE_UNIT_POOLS, "prod", "Provisioned")[0] == "True"
    assert record(world)["state"] == "Active"
    identities_hold(world)


async def test_a_reduction_of_the_past_holds_from_the_next_midnight_and_to_nothing_it_ends_the_commitment() -> None:
    world = await serving()
    await at(world, datetime(2026, 6, 10, 12, tzinfo=UTC))
    world.cluster.user_patch(POOL, {"spec": {"amendments": amended(("2026-04-01", 0))}})
    await world.settle()
    assert (record(world)["state"], record(world)["termEnd"]) == ("Expiring", "2026-06-11T00:00:00Z")
    assert len(world.pods()) == 2
    await at(world, datetime(2026, 6, 11, tzinfo=UTC))
    assert (record(world)["state"], world.pods(), claimed(world)) == ("Expired", {}, 0)


# -------------------------------------------------------------------------------------------------------------- notices


async def test_m8_events_tell_90_30_7_and_1_days_ahead_each_once_also_after_a_restart() -> None:
    world = await serving()
    for days in (200, 90, 89, 30, 29, 7, 1):
        await at(world, END - timedelta(days=days))
        world.kill_operators()
        world.start_operator(seed=days)
        await world.settle()
    assert notices(world) == [
        f"Warning: commitment po-1 ends within {days}" for days in ("90 days", "30 days", "7 days", "1 day")
    ]


async def test_m8_two_operators_tell_a_notice_once_and_one_that_was_away_tells_the_newest() -> None:
    world = await serving()
    world.start_operator(seed=7)
    await at(world, END - timedelta(days=3))
    assert notices(world) == ["Warning: commitment po-1 ends within 7 days"]


# -------------------------------------------------------------------------------------------- late, partial and growing


async def test_c4_growth_in_mid_term_has_dates_of_its_own_and_is_late_by_its_own_day() -> None:
    world = await serving(nodes=["gpu-0"])
    await at(world, NOW + timedelta(days=40))
    later = commitment("po-2", 600, provisionBy="2026-05-01")
    world.cluster.user_patch(POOL, {"spec": {"commitments": [commitment(), later]}})
    await world.settle()
    assert [record(world, id_)["provisionedComputeUnits"] for id_ in ("po-1", "po-2")] == [600, 200]
    status, reason, message = world.condition(COMPUTE_UNIT_POOLS, "prod", "Provisioned")
    assert (status, reason) == ("False", "PartiallyProvisioned")
    assert "need 1200 CU, have 800 claimed" in message
    world.apply_instance("fast", "gpt-3.5-turbo", 6)
    await world.settle()
    # 200 CU of po-2 are there and in use, so its term begins; po-1 goes on as before.
    assert record(world, "po-2")["billingStart"] == "2026-04-11T00:00:00Z"
    assert record(world)["billingStart"] == "2026-03-02T00:00:00Z"
    world.add_node("gpu-9")
    await world.settle()
    assert world.condition(COMPUTE_UNIT_POOLS, "prod", "Provisioned")[:2] == ("True", "Provisioned")
    assert record(world, "po-2")["fullyProvisionedAt"] == "2026-04-10T10:00:00Z"
    identities_hold(world)


async def test_c4_what_was_ordered_first_and_is_overdue_stays_late_whatever_is_ordered_after_it() -> None:
    world = World()
    world.seed(nodes=[])
    world.start_operator()
    await world.settle()
    await at(world, NOW + timedelta(days=5))
    assert world.condition(COMPUTE_UNIT_POOLS, "prod", "Provisioned")[:2] == ("False", "ProvisioningLate")
    later = commitment("po-2", 600, provisionBy="2026-12-01")
    world.cluster.user_patch(POOL, {"spec": {"commitments": [commitment(), later]}})
    await world.settle()
    status, reason, message = world.condition(COMPUTE_UNIT_POOLS, "prod", "Provisioned")
    assert (status, reason) == ("False", "ProvisioningLate")
    assert "agreed for 2026-03-01" in message


async def test_m1_without_a_use_the_term_begins_the_day_after_provision_by_and_ends_all_the_same() -> None:
    world = World()
    world.seed()
    agreed = pool()["spec"]["commitments"][0] | {"provisionBy": "2026-03-20"}
    world.cluster.user_patch(POOL, {"spec": {"commitments": [agreed]}})
    world.start_operator()
    await world.settle()
    await at(world, datetime(2026, 3, 21, tzinfo=UTC))
    assert (record(world)["state"], record(world)["billingStart"]) == ("Active", "2026-03-21T00:00:00Z")
    await at(world, datetime(2027, 3, 21, tzinfo=UTC))
    assert (record(world)["state"], claimed(world)) == ("Expired", 0)


async def test_what_has_ended_is_not_owed_and_so_not_late() -> None:
    world = await serving(commitment(), commitment("po-2", 300, term="ThreeMonths"), fast=2, nodes=["gpu-0"])
    assert world.condition(COMPUTE_UNIT_POOLS, "prod", "Provisioned")[1] == "PartiallyProvisioned"
    await at(world, datetime(2026, 9, 1, tzinfo=UTC))
    assert record(world, "po-2")["state"] == "Expired"
    assert world.condition(COMPUTE_UNIT_POOLS, "prod", "Provisioned")[:2] == ("True", "Provisioned")
    assert (sorted(world.holdings()), claimed(world)) == (["fast-0", "fast-1"], 6)
    assert world.instance_condition("chat", "CapacityReserved")[1] == "WaitingForComputeUnits"
