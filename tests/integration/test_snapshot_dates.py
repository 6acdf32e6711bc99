"""Dates of a snapshot on every object that pins it, and catalogues that change under what runs (behaviour.md S1, S8, R3)."""

from __future__ import annotations

from typing import Any

import pytest

from reserved_capacity.ports import (
    COMPUTE_UNIT_POOLS,
    EVENTS,
    MODEL_OFFERINGS,
    NODES,
    STATEFUL_SETS,
    TOKEN_UNIT_RESERVATIONS,
    JsonObject,
    Ref,
)
from tests.fakes.ledger import FakeLedger
from tests.integration.test_nodes import evict_pods, set_ready
from tests.integration.world import DIGEST, World

OFFERING = "gpt-4-turbo"
FAR, NEAR = "2027-12-01T00:00:00Z", "2026-12-01T00:00:00Z"  # after and within the year that is bought on 2026-03-01


async def serving() -> World:
    world = World(ledger=FakeLedger())
    world.seed()
    world.apply_instance("chat", OFFERING, 2)
    world.cluster.user_create(TOKEN_UNIT_RESERVATIONS, reservation())
    world.start_operator()
    await world.settle()
    assert len(world.pods()) == 2
    return world


def reservation() -> JsonObject:
    spec = {"account": "acme", "priceBookRef": "usd", "offering": OFFERING, "snapshot": f"{OFFERING}-1"}
    return {"metadata": {"name": "tokens", "namespace": "acme"}, "spec": {**spec, "units": {"input": 3}}}


def edit(world: World, spec: JsonObject) -> None:
    world.cluster.user_patch(Ref(MODEL_OFFERINGS, "", OFFERING), {"spec": spec})


def date(world: World, retires_at: str | None, **more: Any) -> None:
    """Set the date of the snapshot that is pinned, as the API server would let through."""
    snapshot = {"name": f"{OFFERING}-1", "artifact": f"oci://models/{OFFERING}@{DIGEST}", **more}
    edit(world, {"snapshots": [{**snapshot, "retiresAt": retires_at} if retires_at else snapshot]})


def said(world: World) -> tuple[str, str, str]:
    """(status, reason, message) of SnapshotSupported, the same on everything that pins it."""
    told = world.instance_condition("chat", "SnapshotSupported")
    assert world.condition(TOKEN_UNIT_RESERVATIONS, "tokens", "SnapshotSupported") == told
    return told


def notices(world: World, kind: str = "ModelInstance") -> list[tuple[str, str]]:
    """(reason, type) of the Events about the snapshot, in the order of posting."""
    posted = [each for each in world.cluster.objects(EVENTS) if each["reason"].startswith("Snapshot")]
    posted.sort(key=lambda each: each["eventTime"])
    return [(each["reason"], each["type"]) for each in posted if each["regarding"]["kind"] == kind]


def snapshot_of(world: World) -> JsonObject:
    found: JsonObject = world.get_instance("chat")["status"]["snapshot"]
    return found


async def test_s8_dates_show_on_every_object_that_pins_the_snapshot_from_the_day_they_are_known() -> None:
    world = await serving()
    assert said(world)[:2] == ("True", "Active")
    assert snapshot_of(world)["lifecycle"] == "Active"
    date(world, FAR, deprecatedFrom="2027-06-01", replacement="gpt-4-turbo-2")
    await world.settle()
    status, reason, message = said(world)
    assert (status, reason) == ("True", "Active")
    assert message == (
        "gpt-4-turbo-1 will be deprecated from 2027-06-01 on and retires at 2027-12-01T00:00:00Z; set spec.snapshot to "
        "gpt-4-turbo-2"
    )
    shown = snapshot_of(world)
    assert (shown["retiresAt"], shown["daysToRetirement"], shown["replacement"]) == (FAR, 639, "gpt-4-turbo-2")
    assert "emergency" not in shown
    assert notices(world) == notices(world, "TokenUnitReservation") == [("SnapshotRetires", "Normal")]


async def test_s8_each_notice_is_given_once_over_restarts_and_past_retirement_nothing_is_stopped() -> None:
    world = await serving()
    (order,) = world.get(COMPUTE_UNIT_POOLS, "prod", "acme")["spec"]["commitments"]
    renewed = {"commitments": [{**order, "renewal": {"policy": "Renew"}}]}
    world.cluster.user_patch(Ref(COMPUTE_UNIT_POOLS, "acme", "prod"), {"spec": renewed})
    date(world, FAR, deprecatedFrom="2027-06-01")
    await world.settle()
    pods, at = world.pods(), []
    for days, hours in ((456, 14), (93, 0), (60, 0), (23, 0), (6, 0), (1, 0)):
        world.clock.forward(days=days, hours=hours)
        await world.settle()
        world.kill_operators()
        world.start_operator()
        await world.settle()
        at.append((said(world)[1], snapshot_of(world)["daysToRetirement"]))
    assert at == [
        ("Deprecated", 183),
        ("RetiringSoon", 90),
        ("RetiringSoon", 30),
        ("RetiringSoon", 7),
        ("RetiringSoon", 1),
        ("Retired", 0),
    ]
    assert notices(world) == [
        ("SnapshotRetires", "Normal"),
        ("SnapshotRetires", "Normal"),
        ("SnapshotRetires", "Warning"),
        ("SnapshotRetires", "Warning"),
        ("SnapshotRetires", "Warning"),
        ("SnapshotRetires", "Warning"),
        ("SnapshotRetired", "Warning"),
    ]
    assert world.instance_condition("chat", "Ready")[:2] == ("True", "Ready")
    assert world.pods() == pods


async def test_s8_a_date_that_slipped_in_inside_a_commitment_is_flagged_on_every_pinned_object_until_it_is_kept() -> (
    None
):
    """The API server's rule reads the status; here it was written before the commitment was bought."""
    world = await serving()
    date(world, NEAR)
    await world.settle()
    assert "(emergency: the date is earlier than 2027-03-02T00:00:00Z, before which" in said(world)[2]
    assert "states no emergency.reason" in snapshot_of(world)["emergency"]
    assert notices(world) == notices(world, "TokenUnitReservation") == [("SnapshotRetires", "Warning")]
    offering = world.get(MODEL_OFFERINGS, OFFERING)["status"]
    assert offering["snapshots"][0]["promisedUntil"] == "2027-03-02T00:00:00Z"
    assert "gpt-4-turbo-1 was not to retire before 2027-03-02T00:00:00Z: set retiresAt back" in offering["summary"]
    date(world, NEAR, emergency={"reason": "weights leak"})
    await world.settle()
    assert "(emergency: weights leak)" in said(world)[2]
    assert snapshot_of(world)["emergency"] == "weights leak"
    assert "was not to retire" not in world.get(MODEL_OFFERINGS, OFFERING)["status"]["summary"]
    date(world, NEAR)
    await world.settle()
    assert "states no emergency.reason" in said(world)[2]
    date(world, FAR)
    await world.settle()
    assert "emergency" not in said(world)[2]
    assert "promisedUntil" not in world.get(MODEL_OFFERINGS, OFFERING)["status"]["snapshots"][0]


async def test_s8_a_date_that_is_taken_away_and_set_earlier_while_nobody_looks_is_flagged() -> None:
    world = await serving()
    date(world, FAR)
    await world.settle()
    world.kill_operators()
    date(world, None)
    date(world, "2027-10-01T00:00:00Z")
    world.start_operator()
    await world.settle()
    assert f"earlier than {FAR}" in said(world)[2]


async def test_s8_a_date_that_was_known_before_the_commitment_is_no_emergency() -> None:
    world = World(ledger=FakeLedger())
    world.seed()
    date(world, NEAR)
    world.cluster.user_create(TOKEN_UNIT_RESERVATIONS, reservation())
    world.apply_instance("chat", OFFERING, 2)
    world.start_operator()
    await world.settle()
    assert "emergency" not in said(world)[2]


async def test_i8_between_two_words_nothing_is_written() -> None:
    world = await serving()
    date(world, FAR)
    await world.settle()
    world.cluster.writes.clear()
    world.kill_operators()
    world.clock.forward(hours=1)
    world.start_operator()
    await world.settle()
    assert world.writes() == []


SERVING = {"image": f"other@{DIGEST}", "args": ["--other"], "port": 9000, "readinessPath": "/r", "metricsPath": "/m"}


@pytest.mark.parametrize(
    "change",
    [
        {"displayName": "another"},
        {"reserved": {"serving": SERVING}},
        {"reserved": {"serving": {"env": [{"name": "A", "value": "b"}], "profiles": [{"name": "fast"}]}}},
        {"reserved": {"serving": {"labels": {"a": "b"}, "annotations": {"c": "d"}, "sharedMemory": "1Gi"}}},
        {"reserved": {"computeUnitsPerInstance": 200}},
        {"reserved": {"computeUnitsPerInstance": 400}},
        {"reserved": {"minInstances": 1}},
        {"reserved": {"minInstances": 3}},
        {"reserved": {"nodesPerInstance": 3}},
        {"reserved": {"acceleratorClasses": ["other"]}},
        {"reserved": {"topologyKey": "rack"}},
        {"reserved": {"sold": False}},
        {"tokenUnits": {"input": {"tokensPerMinute": 1}, "output": {"tokensPerMinute": 1}}},
    ],
    ids=str,
)
async def test_r3_editing_the_catalogue_in_any_way_moves_no_pod(change: JsonObject) -> None:
    world = await serving()
    before, sets = world.pods(), template_versions(world)
    edit(world, change)
    await world.settle()
    world.kill_operators()
    world.start_operator(seed=1)
    await world.settle()
    assert (world.pods(), template_versions(world)) == (before, sets)


@pytest.mark.parametrize(
    "dates",
    [
        {"deprecatedFrom": "2026-01-01"},
        {"retires_at": "2026-01-01T00:00:00Z", "emergency": {"reason": "weights leak"}},
        {"retires_at": FAR, "replacement": "gpt-4-turbo-2"},
        {"availableFrom": "2030-01-01"},
        {"throughput": {"inputTokensPerMinute": 1, "outputTokensPerMinute": 1}},
    ],
    ids=str,
)
async def test_s1_no_date_of_a_snapshot_moves_a_pod(dates: dict[str, Any]) -> None:
    world = await serving()
    before, sets = world.pods(), template_versions(world)
    date(world, **{"retires_at": None, **dates})
    await world.settle()
    assert (world.pods(), template_versions(world)) == (before, sets)


def template_versions(world: World) -> dict[str, int]:
    return {each["metadata"]["name"]: each["metadata"]["generation"] for each in world.cluster.objects(STATEFUL_SETS)}


async def test_s8_past_retirement_what_fails_is_still_replaced() -> None:
    """N2: the snapshot is the customer's until the customer moves."""
    world = await serving()
    date(world, "2026-01-01T00:00:00Z", emergency={"reason": "weights leak"})
    await world.settle()
    (lost,) = {nodes[0] for nodes in world.holdings().values()}
    set_ready(world, lost, "Unknown")
    await world.settle()
    world.clock.forward(minutes=11)
    evict_pods(world, lost)
    await world.settle()
    assert lost not in {nodes[0] for nodes in world.holdings().values()}
    world.cluster.user_delete(Ref(NODES, "", lost))
    await world.settle()
    assert len(world.holdings()) == 2
    assert world.instance_condition("chat", "Ready")[0] == "True"
    assert said(world)[1] == "Retired"
