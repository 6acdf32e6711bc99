"""What capacity promises, on a real control plane and at every write of it: models change places without a unit more or
less, and a node that is lost, out of reach or drained costs nobody what is theirs (behaviour.md F1-F3, N1-N3)."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio

from e2e.api import NODES, PODS, POOLS, Json
from e2e.cluster import audit
from e2e.cluster.lifecycle import Cluster
from e2e.customers import INSTANCE_LABEL, SMALL, TURBO, Customer, claims_of, is_ready
from e2e.history import World
from e2e.invariants import violations
from e2e.operator import USER
from e2e.stage import Stage, staged

pytestmark = pytest.mark.asyncio(loop_scope="module")


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def stage(cluster: Cluster, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Stage]:
    directory: Path = tmp_path_factory.mktemp("promises")
    async with staged(cluster, directory) as one:
        await one.operator("--development", "--clock-offset-file", str(directory / "offset"))
        yield one


def assert_nothing_broke(stage: Stage, customer: Customer) -> None:
    broken = violations(stage.history, [customer])
    assert not broken, broken[:10]
    assert stage.operators[0].records("error", "critical") == []


def pool_writes(stage: Stage, customer: Customer, since: int) -> list[Json]:
    """The status of the pool after each write of it."""
    return [
        happening.obj["status"]
        for happening, _ in stage.history.replay()
        if happening.version > since and happening.place[:2] == (POOLS, customer.name) and happening.obj
    ]


def ready_pods(world: World, customer: Customer, instance: str) -> int:
    return sum(
        is_ready(obj)
        for (kind, namespace, _), obj in world.items()
        if kind == PODS and namespace == customer.name and obj["metadata"]["labels"].get(INSTANCE_LABEL) == instance
    )


# ----------------------------------------------------------------------------------------------------------- change sets


async def test_two_gpt_4_turbo_become_six_gpt_3_5_turbo_and_return_in_whatever_order_the_edits_arrive(
    stage: Stage,
) -> None:
    """F1, F3: the seed's own example."""
    [swapper] = await stage.enter("swapper", compute_units=600)
    await swapper.provide(1)
    await swapper.buy()
    await swapper.serve("chat", TURBO, 2)
    await swapper.serve("fast", SMALL, 0)
    await swapper.settled(chat=2)
    bought, since = swapper.pool()["computeUnits"], stage.history.version

    targets = {"there": {"chat": 0, "fast": 6}, "back": {"chat": 2, "fast": 0}}
    for (number, first), way in itertools.product(enumerate(("chat", "fast")), targets):
        change_set, wanted = (f"{way}-{number}", 2), targets[way]
        before = swapper.pods()
        for name in sorted(wanted, key=lambda name: name != first):
            await swapper.serve(name, TURBO if name == "chat" else SMALL, wanted[name], change_set)
            if name == first:
                message = await swapper.sees(name, "Unknown", "ChangeSetIncomplete", "Accepted")
                assert "1/2" in message
                assert swapper.pods() == before, "nothing moves before all have arrived"
        await swapper.settled(**wanted)

    units = [status["computeUnits"] for status in pool_writes(stage, swapper, since)]
    assert {each["contracted"] for each in units} == {each["provisioned"] for each in units} == {600}
    assert max(each["allocated"] for each in units) <= 600
    assert swapper.pool()["computeUnits"] == bought
    await assert_that_the_audit_log_knows_of_no_other_write(stage, swapper)
    assert_nothing_broke(stage, swapper)


async def assert_that_the_audit_log_knows_of_no_other_write(stage: Stage, customer: Customer) -> None:
    """So what has been looked at are all the states that the pool's record ever had."""
    log = stage.cluster.audit_log
    if log is None:  # not every cluster has one that can be read
        return

    def seen() -> int:
        return sum(each.place[:2] == (POOLS, customer.name) for each in stage.history.happenings)

    def logged() -> list[audit.Event]:
        writes = (each for each in audit.events(log) if each.is_write and each.namespace == customer.name)
        return [each for each in writes if each.resource.startswith("computeunitpools.") and each.code in (200, 201)]

    # A line, and news, may come a moment after the answer.
    await stage.history.until(
        lambda: len(logged()) == seen(), "each write was seen", tell=lambda: (len(logged()), seen())
    )
    assert {each.user for each in logged() if each.resource.endswith("/status")} == {USER}


async def test_seven_gpt_3_5_turbo_are_refused_as_a_whole_with_one_message_on_all_members(stage: Stage) -> None:
    """F2."""
    [greedy] = await stage.enter("greedy", compute_units=600)
    await greedy.provide(1)
    await greedy.buy()
    await greedy.serve("chat", TURBO, 2)
    await greedy.settled(chat=2)
    before, holdings = greedy.pods(), greedy.pool()["holdings"]
    await greedy.serve("fast", SMALL, 7, ("greedy", 2))
    await greedy.serve("chat", TURBO, 0, ("greedy", 2))
    messages = {await greedy.sees(name, "False", "ChangeSetRejected", "Accepted") for name in ("chat", "fast")}
    assert len(messages) == 1
    assert "700 CU" in messages.pop()
    assert (greedy.pods(), greedy.pool()["holdings"]) == (before, holdings)
    assert_nothing_broke(stage, greedy)


# ----------------------------------------------------------------------------------------------------------------- nodes


async def test_a_node_lost_under_a_load_of_changes_is_replaced_and_used_by_nobody_before_it_is_fenced(
    stage: Stage,
) -> None:
    """N1, N2. It even comes back to life: for as long as its former pods may run, its blocks are not free."""
    [busy] = await stage.enter("busy")
    await busy.provide(2)
    await busy.buy()
    await busy.serve("chat", TURBO, 2)
    await busy.serve("fast", SMALL, 2)
    await busy.settled(chat=2, fast=2)
    lost = next(name for name, blocks in busy.claims().items() if blocks)
    assert len(busy.pods_on(lost)) == 4, f"not on {lost} alone: {busy.claims()}"
    load = asyncio.create_task(_keep_changing(busy))
    since = stage.history.version
    await busy.lose_node(lost)
    await stage.history.until(
        lambda: lost not in busy.held_on() and busy.running().get("chat") == 2, "chat serves on the spare"
    )
    load.cancel()
    await asyncio.gather(load, return_exceptions=True)
    await busy.serve("fast", SMALL, 2)
    await stage.history.until(lambda: busy.running() == {"chat": 2, "fast": 2}, "fast serves on the spare")
    # For the customer that is the end of it, though nobody knows yet whether the lost pods run.
    await busy.sees("chat", "True", "Ready")
    await stage.history.until(
        lambda: "is used by nobody before that is fenced" in busy.condition("chat", "Ready").get("message", ""),
        "chat says what is left to do",
        tell=lambda: (busy.condition("chat", "Ready"), [each["metadata"]["name"] for each in busy.pods_on(lost)]),
    )

    await busy.buy("late", compute_units=100)
    await busy.find_node(lost, answers=False)
    await stage.history.until(lambda: busy.class_status()["nodes"]["ready"] == 2, "the node is seen to be back")
    await stage.history.until(lambda: "computeUnits" in busy.pool("late"), "the late order is seen")
    assert busy.pool("late")["computeUnits"]["provisioned"] == 0
    fenced = stage.history.version
    await busy.end_pods(lost)
    await stage.history.until(
        lambda: busy.pool("late")["computeUnits"]["provisioned"] == 100, "the blocks are free at last"
    )

    owner = stage.history.now[POOLS, busy.name, "prod"]["metadata"]["uid"]
    for happening, world in stage.history.replay():
        if since < happening.version <= fenced:
            assert set(claims_of(world[NODES, "", lost])) <= {owner}, happening.version
            if happening.place[:2] == (PODS, busy.name) and happening.was is not None and happening.obj is not None:
                bound = (happening.was["spec"].get("nodeName"), happening.obj["spec"].get("nodeName"))
                assert bound != (None, lost), "a new pod is put on the lost node"
    assert_nothing_broke(stage, busy)


async def _keep_changing(busy: Customer) -> None:
    for instances in itertools.cycle((1, 2)):
        await busy.serve("fast", SMALL, instances)
        await asyncio.sleep(0.2)


async def test_a_node_that_is_out_of_reach_for_two_minutes_moves_nothing(stage: Stage) -> None:
    """N1. The two minutes are the operator's: its clock is told to run ahead while the node is not ready."""
    [steady] = await stage.enter("steady", repair_after="10m")
    await steady.provide(2)
    await steady.buy()
    await steady.serve("chat", TURBO, 2)
    await steady.serve("fast", SMALL, 1)
    await steady.settled(chat=2, fast=1)
    before, since = steady.pods(), stage.history.version
    node = next(name for name, blocks in steady.claims().items() if blocks)
    await steady.lose_node(node)
    await stage.history.until(lambda: steady.class_status()["nodes"]["ready"] == 1, "the node is seen to be away")
    await _run_ahead(stage, 120)
    await steady.serve("fast", SMALL, 2)
    await stage.history.until(
        lambda: steady.condition("fast", "CapacityReserved").get("status") == "False",
        "the pool has been planned since",
    )
    await steady.find_node(node, answers=True)
    await steady.settled(chat=2, fast=2)

    assert before.items() <= steady.pods().items()
    for status in pool_writes(stage, steady, since):
        assert {name for holding in status["holdings"] for name in holding["nodes"]} == {node}
        assert status["computeUnits"]["unhealthy"] == 0
    assert_nothing_broke(stage, steady)


async def _run_ahead(stage: Stage, seconds: int) -> None:
    operator = stage.operators[0]
    (stage.directory / "offset").write_text(str(seconds))
    await stage.history.until(
        lambda: any(each["event"] == "clock offset changed" for each in operator.records("info")),
        "the operator looks at its clock",
    )


async def test_a_drain_says_why_it_waits_on_a_full_pool_and_with_a_spare_ends_without_falling_below_the_minimum(
    stage: Stage,
) -> None:
    """N3, C6."""
    [full] = await stage.enter("full")
    await full.provide(1)
    await full.buy()
    await full.serve("chat", TURBO, 2)
    await full.serve("fast", SMALL, 2)
    await full.settled(chat=2, fast=2)
    [node] = full.claims()
    since, pods = stage.history.version, full.pods()
    drain = asyncio.create_task(_drain(stage, node, 240))
    told = f"has to leave {node} and cannot: need 300 CU on another node, have 0 spare"
    await stage.history.until(lambda: told in full.summary("chat"), "chat says why it waits")
    assert not drain.done()
    assert full.pods() == pods

    await full.add_nodes(1)
    assert await drain == 0
    await full.settled(chat=2, fast=2)
    await stage.history.until(lambda: not full.claims()[node], "the drained node is given back")
    served = [
        ready_pods(world, full, "chat") for happening, world in stage.history.replay() if happening.version > since
    ]
    assert min(served) == 2
    assert_nothing_broke(stage, full)


async def _drain(stage: Stage, node: str, seconds: int) -> int:
    flags = ("--ignore-daemonsets", "--delete-emptydir-data", f"--timeout={seconds}s")
    done = await asyncio.to_thread(stage.cluster.kubectl, "drain", node, *flags, check=False)
    return done.returncode
