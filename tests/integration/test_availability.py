"""`status.availability` of ModelInstances over the production loop (behaviour.md N4, T6, I8)."""

from __future__ import annotations

from typing import Any

from reserved_capacity.ports import NODES, PODS, Ref
from tests.integration.test_nodes import cordon, evict_pods, serving, set_ready
from tests.integration.world import World


def availability(world: World, name: str = "chat") -> dict[str, Any]:
    return dict(world.get_instance(name)["status"].get("availability") or {})


def seconds(world: World, name: str = "chat") -> tuple[int, int, int]:
    """By the provider's fault, by maintenance, by the customer's change."""
    counted = availability(world, name)["downtimeSeconds"]
    return (counted["providerFault"], counted["plannedMaintenance"], counted["customerChange"])


async def lost_for(world: World, minutes: float, node: str = "gpu-0") -> None:
    set_ready(world, node, "Unknown")
    world.controllers.becomes_ready = lambda _pod: False
    for pod in world.cluster.objects(PODS):
        status = {"conditions": [{"type": "Ready", "status": "False"}]}
        world.cluster.user_patch(Ref(PODS, "acme", pod["metadata"]["name"]), {"status": status}, status=True)
    await world.settle()
    world.clock.forward(minutes=minutes)
    await world.settle()
    world.controllers.becomes_ready = lambda _pod: True
    set_ready(world, node, "True")
    await world.settle()


async def test_n4_nothing_is_measured_before_the_instance_serves() -> None:
    world = World()
    world.seed(nodes=[])
    world.apply_instance("chat", "gpt-4-turbo", 2)
    world.start_operator()
    await world.settle()
    assert availability(world) == {}
    world.add_node("gpu-0")
    await world.settle()
    assert availability(world)["month"] == "2026-03"
    assert availability(world)["uptime"] == "100.000"
    assert seconds(world) == (0, 0, 0)


async def test_n4_a_node_that_is_not_ready_is_the_providers_fault() -> None:
    world = await serving(["gpu-0"])
    await lost_for(world, 3)
    assert seconds(world) == (180, 0, 0)
    assert "cause" not in availability(world)
    # 31 days less the ten hours before the instance was made.
    assert availability(world)["uptime"] == "99.993"


async def test_n4_i8_while_an_outage_lasts_nothing_is_written() -> None:
    world = await serving(["gpu-0"])
    set_ready(world, "gpu-0", "Unknown")
    evict_pods(world, "gpu-0")
    await world.settle()
    assert availability(world)["cause"] == "ProviderFault"
    assert seconds(world) == (0, 0, 0)
    world.cluster.writes.clear()
    for _ in range(5):
        world.clock.forward(minutes=1)
        world.operators[0].loop.open()
        await world.settle()
    assert [write for write in world.writes() if "chat" in write] == []


async def test_n4_what_happens_on_a_cordoned_node_is_maintenance() -> None:
    world = await serving(["gpu-0"])
    cordon(world, "gpu-0")
    await world.settle()
    await lost_for(world, 5)
    assert seconds(world) == (0, 300, 0)


async def test_n4_members_that_start_because_the_customer_asked_for_them_are_the_customers() -> None:
    world = await serving(["gpu-0"])
    world.edit_instance("chat", {"suspend": True})
    await world.settle()
    world.clock.forward(hours=1)
    await world.settle()
    world.controllers.becomes_ready = lambda _pod: False
    world.edit_instance("chat", {"suspend": False})
    await world.settle()
    assert availability(world)["cause"] == "CustomerChange"
    world.clock.forward(minutes=2)
    world.controllers.becomes_ready = lambda _pod: True
    await world.settle()
    assert seconds(world) == (0, 0, 120), "an hour of suspend is no downtime"
    assert availability(world)["uptime"] == "100.000"


async def test_n4_more_than_the_pool_has_is_the_customers_though_all_that_is_held_serves() -> None:
    world = await serving(["gpu-0"])
    world.scale("chat", 3)
    await world.settle()
    world.clock.forward(minutes=10)
    world.scale("chat", 2)
    await world.settle()
    assert seconds(world) == (0, 0, 600)


async def test_n4_a_server_that_falls_on_a_fine_node_is_the_providers_fault_until_its_pod_is_back() -> None:
    world = await serving(["gpu-0"])
    world.controllers.becomes_ready = lambda _pod: False
    world.cluster.user_delete(Ref(PODS, "acme", "chat-0-0"))
    await world.settle()
    assert {each["name"]: each["phase"] for each in world.get_instance("chat")["status"]["members"]} == {
        "chat-0": "Unavailable",
        "chat-1": "Available",
    }
    world.clock.forward(seconds=42)
    world.controllers.becomes_ready = lambda _pod: True
    await world.settle()
    assert seconds(world) == (42, 0, 0)


async def test_n4_what_was_counted_survives_a_restart_and_an_open_outage_goes_on() -> None:
    world = await serving(["gpu-0"])
    await lost_for(world, 3)
    set_ready(world, "gpu-0", "Unknown")
    evict_pods(world, "gpu-0")
    await world.settle()
    world.kill_operators()
    world.clock.forward(minutes=4)
    world.start_operator()
    await world.settle()
    assert availability(world)["cause"] == "ProviderFault"
    world.clock.forward(minutes=1)
    set_ready(world, "gpu-0", "True")
    await world.settle()
    assert seconds(world) == (180 + 300, 0, 0)


async def test_n4_i8_at_the_end_of_the_month_each_instance_is_written_once() -> None:
    world = await serving(["gpu-0"])
    await lost_for(world, 3)
    world.clock.forward(days=29)
    await world.settle()
    world.cluster.writes.clear()
    world.clock.forward(days=2)
    await world.settle()
    assert [write for write in world.writes() if "ModelInstance" in write] == [
        "replace_status ModelInstance acme/chat -> ok"
    ]
    assert availability(world)["month"] == "2026-04"
    assert availability(world)["lastClosedMonth"] == {
        "month": "2026-03",
        "uptime": "99.993",
        "downtimeSeconds": {"providerFault": 180, "customerChange": 0, "plannedMaintenance": 0},
    }
    assert seconds(world) == (0, 0, 0)


async def test_n4_a_lost_node_is_the_providers_until_the_members_serve_elsewhere() -> None:
    world = await serving(["gpu-0", "gpu-1"])
    world.controllers.becomes_ready = lambda _pod: False
    set_ready(world, "gpu-0", "Unknown")
    evict_pods(world, "gpu-0")
    await world.settle()
    world.clock.forward(minutes=11)
    await world.settle()
    assert sorted(world.holdings().values()) == [["gpu-1"], ["gpu-1"]]
    world.cluster.remove(Ref(NODES, "", "gpu-0"))
    await world.settle()
    assert world.holdings("Releasing") == {}
    assert availability(world)["cause"] == "ProviderFault"
    world.clock.forward(minutes=2)
    world.controllers.becomes_ready = lambda _pod: True
    await world.settle()
    assert seconds(world) == (780, 0, 0)
