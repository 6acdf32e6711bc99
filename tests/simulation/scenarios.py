"""What a cluster goes through in a story, played with a crash at any chosen write of the operator (proof.md, Faults)."""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any

from reserved_capacity.ports import (
    COMPUTE_UNIT_POOLS,
    CONTROLLER_REVISIONS,
    MODEL_INSTANCES,
    NODES,
    POD_DISRUPTION_BUDGETS,
    SERVICES,
    STATEFUL_SETS,
    Ref,
)
from tests.fakes.cluster import Fault, SimulatedCrash
from tests.integration.world import World, pool
from tests.simulation.checker import Checker
from tests.simulation.facts import claims_on, held_by

_ROUNDS = 400


@dataclass(slots=True)
class Stage:
    """A world with one operator that dies at one write, and the invariants watched at every change."""

    world: World = field(default_factory=World)
    checker: Checker = field(init=False)
    crashes: int = 0
    doomed: bool = False

    def __post_init__(self) -> None:
        self.world.cluster.shares = True
        self.checker = Checker(self.world.cluster)
        self.world.cluster.subscribe(self.checker.saw)

    async def settle(self) -> None:
        """Until nothing is left to do; whoever dies is followed by a new operator."""
        for _ in range(_ROUNDS):
            try:
                busy = await self._turn()
            except SimulatedCrash:
                self._restart()
                continue
            if self.doomed:
                self.doomed = False
                self._restart()
            elif not busy and not self.world.controllers.step_now() and not self._operator().wait_for_retries():
                return
            self.checker.raise_if_broken()
        raise AssertionError("the world does not settle")

    async def _turn(self) -> bool:
        self.checker.actor = self
        try:
            busy: bool = await self._operator().turn()
            return busy
        finally:
            self.checker.actor = None
            self.checker.raise_if_broken()

    def _operator(self) -> Any:
        return self.world.operators[0] if self.world.operators else self.world.start_operator()

    def _restart(self) -> None:
        self.crashes += 1
        self.world.kill_operators()
        self.world.cluster.subscribe(self.checker.saw)
        self.world.start_operator(seed=self.crashes)

    def doom(self) -> bool:
        """The operator dies when its present turn is over."""
        self.doomed = True
        return True


Story = Callable[[Stage], Awaitable[None]]


async def buys_and_places(stage: Stage) -> None:
    stage.world.apply_instance("chat", "gpt-4-turbo", 2)
    await stage.settle()


async def waits_for_a_release(stage: Stage) -> None:
    await buys_and_places(stage)
    stage.world.apply_instance("fast", "gpt-3.5-turbo", 1)
    stage.world.scale("chat", 0)
    await stage.settle()


async def suspends_and_resumes(stage: Stage) -> None:
    await buys_and_places(stage)
    stage.world.edit_instance("chat", {"suspend": True})
    await stage.settle()
    stage.world.edit_instance("chat", {"suspend": False})
    await stage.settle()


async def deletes_an_instance(stage: Stage) -> None:
    await buys_and_places(stage)
    stage.world.delete_instance("chat")
    await stage.settle()


async def deletes_the_pool(stage: Stage) -> None:
    await buys_and_places(stage)
    stage.world.cluster.user_delete(Ref(COMPUTE_UNIT_POOLS, "acme", "prod"))
    await stage.settle()
    stage.world.delete_instance("chat")
    await stage.settle()


async def loses_a_node_that_returns(stage: Stage) -> None:
    await buys_and_places(stage)
    stage.world.cluster.user_delete(Ref(NODES, "", "gpu-0"))
    await stage.settle()
    stage.world.add_node("gpu-0")
    await stage.settle()


async def leaves_a_cordoned_node(stage: Stage) -> None:
    await buys_and_places(stage)
    stage.world.cluster.user_patch(Ref(NODES, "", "gpu-0"), {"spec": {"unschedulable": True}})
    await stage.settle()
    stage.world.cluster.user_patch(Ref(NODES, "", "gpu-0"), {"spec": {"unschedulable": None}})
    await stage.settle()


async def two_pools_compete(stage: Stage) -> None:
    await buys_and_places(stage)
    stage.world.cluster.user_create(COMPUTE_UNIT_POOLS, pool("late", cu=1200, commitment="po-2"))
    stage.world.apply_instance("fast", "gpt-3.5-turbo", 8, pool_ref="late")
    await stage.settle()
    stage.world.delete_instance("chat")
    stage.world.cluster.user_delete(Ref(COMPUTE_UNIT_POOLS, "acme", "prod"))
    await stage.settle()


async def grows(stage: Stage) -> None:
    stage.world.apply_instance("fast", "gpt-3.5-turbo", 1)
    await stage.settle()
    stage.world.scale("fast", 4)
    await stage.settle()
    order = {"id": "po-2", "computeUnits": 200, "term": "OneYear", "provisionBy": "2026-03-01"}
    first = stage.world.get(COMPUTE_UNIT_POOLS, "prod", "acme")["spec"]["commitments"]
    ref = Ref(COMPUTE_UNIT_POOLS, "acme", "prod")
    stage.world.cluster.user_patch(ref, {"spec": {"commitments": [*first, order]}})
    stage.world.scale("fast", 8)
    await stage.settle()


async def makes_a_namesake(stage: Stage) -> None:
    await buys_and_places(stage)
    stage.world.delete_instance("chat")
    stage.world.apply_instance("chat", "gpt-4-turbo", 2)
    await stage.settle()


async def makes_the_pool_anew(stage: Stage) -> None:
    await buys_and_places(stage)
    stage.world.cluster.user_delete(Ref(COMPUTE_UNIT_POOLS, "acme", "prod"))
    stage.world.cluster.user_create(COMPUTE_UNIT_POOLS, pool())
    await stage.settle()


async def loses_the_pools_status(stage: Stage) -> None:
    await buys_and_places(stage)
    stage.world.cluster.user_patch(Ref(COMPUTE_UNIT_POOLS, "acme", "prod"), {"status": None}, status=True)
    await stage.settle()


STORIES: tuple[Story, ...] = (
    buys_and_places,
    waits_for_a_release,
    suspends_and_resumes,
    deletes_an_instance,
    deletes_the_pool,
    loses_a_node_that_returns,
    leaves_a_cordoned_node,
    two_pools_compete,
    grows,
    makes_a_namesake,
    makes_the_pool_anew,
    loses_the_pools_status,
)


def not_sent(_stage: Stage, at: int) -> Fault:
    return Fault(before=SimulatedCrash(), skip=at)


def answer_lost(_stage: Stage, at: int) -> Fault:
    return Fault(after=SimulatedCrash(), skip=at)


def answered(stage: Stage, at: int) -> Fault:
    """The write has its answer, and what follows from it in this turn happens; then the process is gone."""
    return Fault(matches=_Count(stage, at))


VARIANTS: tuple[Callable[[Stage, int], Fault], ...] = (not_sent, answer_lost, answered)


@dataclass(slots=True)
class _Count:
    stage: Stage
    left: int

    def __call__(self, _verb: str, _ref: Ref) -> bool:
        self.left -= 1
        if self.left == -1:
            self.stage.doom()
        return False


async def play(story: Story, variant: Callable[[Stage, int], Fault] | None = None, at: int = 0) -> Stage:
    stage = Stage()
    stage.world.seed()
    if variant is not None:
        stage.world.cluster.faults.append(variant(stage, at))
    stage.world.start_operator()
    await story(stage)
    return stage


def outcome(stage: Stage) -> dict[str, Any]:
    """What the world came to, without versions, uids and the moments at which things happened."""
    cluster = stage.world.cluster
    pools = {obj["metadata"]["uid"]: obj["metadata"]["name"] for obj in cluster.all_stored(COMPUTE_UNIT_POOLS)}
    return {
        "pools": {
            obj["metadata"]["name"]: (held_by(obj), obj["status"]["computeUnits"], obj["status"]["summary"])
            for obj in cluster.all_stored(COMPUTE_UNIT_POOLS)
        },
        "claims": {
            node["metadata"]["name"]: {pools.get(uid, "gone"): blocks for (_, uid), blocks in claims_on(node).items()}
            for node in cluster.all_stored(NODES)
        },
        "instances": {
            obj["metadata"]["name"]: [
                (each["type"], each["status"], each["reason"], each["message"]) for each in obj["status"]["conditions"]
            ]
            for obj in cluster.all_stored(MODEL_INSTANCES)
        },
        "children": [
            f"{resource.kind} {obj['metadata']['name']}"
            for resource in (STATEFUL_SETS, SERVICES, POD_DISRUPTION_BUDGETS, CONTROLLER_REVISIONS)
            for obj in cluster.all_stored(resource)
        ],
        "pods": sorted(stage.world.pods()),
        "pods made": sorted(stage.world.controllers.pods_made),
    }


def difference(expected: dict[str, Any], found: dict[str, Any]) -> str:
    return "; ".join(
        f"{key}: {json.dumps(found[key], default=str)}, not {json.dumps(expected[key], default=str)}"
        for key in expected
        if expected[key] != found[key]
    )
