"""A crash at any write is harmless (proof.md, Faults): every write of the scenario, in three variants, then a restart.

The end state must be the undisturbed one, no pod may have been made twice, and no block given away twice on the way.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest

from reserved_capacity.ports import COMPUTE_UNIT_POOLS, NODES
from tests.fakes.cluster import Fault, SimulatedCrash
from tests.integration.world import World

VARIANTS: dict[str, Callable[[int], Fault]] = {
    "not sent": lambda at: Fault(before=SimulatedCrash(), skip=at),
    "applied, answer lost": lambda at: Fault(after=SimulatedCrash(), skip=at),
}


async def scenario(world: World) -> None:
    """Buy, place, wait, shrink, and place the one that waited."""
    world.apply_instance("chat", "gpt-4-turbo", 2)
    await settle(world)
    world.apply_instance("fast", "gpt-3.5-turbo", 1)
    world.scale("chat", 0)
    await settle(world)


async def settle(world: World) -> None:
    """Settle, and start a new operator whenever the present one dies; check the invariants after every step."""
    while True:
        try:
            for _ in range(200):
                busy = await world.operators[0].turn()
                check_invariants(world)
                if not busy:
                    moved = await world.controllers.step()
                    check_invariants(world)
                    if not moved and not world.operators[0].wait_for_retries():
                        return
            raise AssertionError("the world does not settle")
        except SimulatedCrash:
            world.kill_operators()
            world.start_operator(seed=7)


def check_invariants(world: World) -> None:
    """I1, I2: on no node more than its blocks claimed, by nobody more than contracted, by no member unclaimed blocks."""
    claimed: dict[str, int] = {}
    for node in world.cluster.objects(NODES):
        entries = json.loads((node["metadata"].get("annotations") or {}).get("reservedcapacity.io/claims", "[]"))
        claimed[node["metadata"]["name"]] = sum(entry["blocks"] for entry in entries)
        assert claimed[node["metadata"]["name"]] <= 8
    status = world.cluster.objects(COMPUTE_UNIT_POOLS)[0].get("status") or {}
    held: dict[str, int] = {}
    for holding in status.get("holdings", []):
        for name in holding["nodes"]:
            held[name] = held.get(name, 0) + holding["computeUnits"] // 100
    assert all(blocks <= claimed[name] for name, blocks in held.items())
    units = status.get("computeUnits")
    if units:
        assert units["allocated"] + units["unhealthy"] <= units["provisioned"] <= units["contracted"]
    members = {pod.rsplit("-", 1)[0] for pod in world.pods()}
    assert members <= {holding["member"] for holding in status.get("holdings", [])}


def outcome(world: World) -> dict[str, Any]:
    """What the world came to, without versions, uids and the moments at which things happened."""
    return {
        "holdings": world.holdings(),
        "releasing": world.holdings("Releasing"),
        "units": world.pool_status()["computeUnits"],
        "pods": sorted(world.pods()),
        "pods made": sorted(world.controllers.pods_made),
        "chat": world.instance_condition("chat", "Ready")[:2],
        "fast": world.instance_condition("fast", "Ready")[:2],
        "nodes": {node["metadata"]["name"]: node["metadata"].get("annotations") for node in claims(world)},
    }


def claims(world: World) -> list[dict[str, Any]]:
    return [dict(node) for node in world.cluster.objects(NODES)]


async def played(fault: Fault | None = None) -> World:
    world = World()
    world.seed()
    if fault is not None:
        world.cluster.faults.append(fault)
    world.start_operator()
    await scenario(world)
    return world


@pytest.mark.parametrize("variant", VARIANTS)
async def test_a_crash_at_any_write_comes_to_the_same_end(variant: str) -> None:
    undisturbed = await played()
    expected = outcome(undisturbed)
    writes = len(undisturbed.cluster.writes)
    assert writes > 25, "the scenario is too small to prove anything"
    for at in range(writes):
        world = await played(VARIANTS[variant](at))
        assert outcome(world) == expected, f"crash at write {at} ({undisturbed.cluster.writes[at]}), {variant}"


async def test_a_crash_between_any_two_writes_is_the_same_as_one_before_the_next() -> None:
    """The third variant: answered, then dead before anything else."""
    expected = outcome(await played())
    for seed in range(20):
        world = World()
        world.seed()
        world.start_operator()
        world.apply_instance("chat", "gpt-4-turbo", 2)
        for _ in range(seed):
            await world.operators[0].turn()
        world.kill_operators()
        world.start_operator(seed=seed)
        await settle(world)
        world.apply_instance("fast", "gpt-3.5-turbo", 1)
        world.scale("chat", 0)
        await settle(world)
        assert outcome(world) == expected
