"""A crash at any write of any rollout is harmless: budget and invariants hold at every step, and the end is the undisturbed
one (behaviour.md S2-S6, I2; proof.md, Faults)."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

import pytest

from reserved_capacity.ports import CONTROLLER_REVISIONS, STATEFUL_SETS, JsonObject
from tests.fakes.cluster import FakeCluster, Fault
from tests.fakes.controllers import FakeControllers
from tests.integration.test_crashes import check_invariants
from tests.integration.test_rollouts import NEW, OLD, bad, endpoints, rollout, runs, serving
from tests.integration.world import Clock, World

Act = Callable[[World], None]


def moves(**upgrade: Any) -> Act:
    return lambda world: world.edit_instance("chat", {"snapshot": NEW, "upgrade": upgrade})


def approves(world: World) -> None:
    world.edit_instance("chat", {"upgrade": {"canary": {"instances": 1, "approvedRollout": rollout(world)["id"]}}})


def returns(world: World) -> None:
    world.edit_instance("chat", {"snapshot": OLD})


def moves_to_what_never_serves(**upgrade: Any) -> Act:
    def act(world: World) -> None:
        world.controllers.becomes_ready = bad(NEW)
        moves(**upgrade)(world)

    return act


def deadline_passes(world: World) -> None:
    world.clock.forward(minutes=46)


@dataclass(frozen=True, slots=True)
class Story:
    """`least` serve at every step; in the end all run `runs`, for `reason`."""

    acts: tuple[Act, ...]
    cu: int = 900
    least: int = 2
    runs: str = NEW
    reason: str = "UpToDate"
    upgrade: JsonObject = field(default_factory=dict)


_CANARY: JsonObject = {"canary": {"instances": 1}}
_IN_PLACE: JsonObject = {"whenNoSpare": "InPlace", "minAvailable": 1}

STORIES = {
    "Surge": Story((moves(),)),
    "InPlace": Story((moves(),), 600, 1, upgrade=_IN_PLACE),
    "BorrowSpare": Story((moves(),), 600, upgrade={"whenNoSpare": "BorrowSpare"}),
    "a canary that borrows, and is approved": Story(
        (moves(), approves), 600, upgrade={**_CANARY, "whenNoSpare": "BorrowSpare"}
    ),
    "a canary that is taken back": Story((moves(), returns), runs=OLD, upgrade=_CANARY),
    "taken back in place": Story((moves(), returns), 600, 1, runs=OLD, upgrade={**_CANARY, **_IN_PLACE}),
    "goes back by itself": Story((moves_to_what_never_serves(), deadline_passes), runs=OLD, reason="RolledBack"),
    "goes back by itself in place": Story(
        (moves_to_what_never_serves(), deadline_passes), 600, 1, runs=OLD, reason="RolledBack", upgrade=_IN_PLACE
    ),
    "gives back by itself what it borrowed": Story(
        (moves_to_what_never_serves(), deadline_passes),
        600,
        runs=OLD,
        reason="RolledBack",
        upgrade={"whenNoSpare": "BorrowSpare"},
    ),
    "halts and is set back": Story((moves_to_what_never_serves(onFailure="Halt"), deadline_passes, returns), runs=OLD),
}


@dataclass(frozen=True, slots=True)
class Frame:
    """The cluster before a write of the operator, which is also the cluster after the one before: all that a crash there
    leaves, and how far the story is."""

    act: int
    moment: datetime
    cluster: FakeCluster
    made: tuple[str, ...]
    becomes_ready: Callable[[JsonObject], bool]

    def world(self) -> World:
        """Where another operator has been started since."""
        world = World(Clock(self.moment))
        world.cluster = self.cluster.copy()
        world.cluster.now = world.clock.now
        world.controllers = FakeControllers(world.cluster, becomes_ready=self.becomes_ready, pods_made=[*self.made])
        world.start_operator(seed=7)
        return world


async def filmed(story: Story) -> tuple[World, list[Frame]]:
    """The undisturbed run, with a frame before each write."""
    world = await serving(cu=story.cu, minimum=1, **story.upgrade)
    frames: list[Frame] = []
    acts = 0

    def film(*_: object) -> bool:
        controllers = world.controllers
        made, ready = tuple(controllers.pods_made), controllers.becomes_ready
        frames.append(Frame(acts, world.clock.now(), world.cluster.copy(), made, ready))
        return False

    world.cluster.shares = True
    world.cluster.faults.append(Fault(matches=film))
    for act in story.acts:
        act(world)
        acts += 1
        await settle(world, story.least)
    film()
    return world, frames


async def resumed(story: Story, frame: Frame) -> World:
    world = frame.world()
    await settle(world, story.least)
    for act in story.acts[frame.act :]:
        act(world)
        await settle(world, story.least)
    return world


async def settle(world: World, least: int) -> None:
    """As World.settle, looking after every step."""
    for _ in range(3000):
        busy = await world.operators[0].turn()
        check(world, least)
        if not busy:
            moved = await world.controllers.step()
            check(world, least)
            if not moved and not world.operators[0].wait_for_retries():
                return
    raise AssertionError("the world does not settle")


def check(world: World, least: int) -> None:
    check_invariants(world)
    assert endpoints(world) >= least, f"only {endpoints(world)} serve"


def outcome(world: World) -> dict[str, Any]:
    return {
        "runs": runs(world),
        "holdings": world.holdings(),
        "units": world.pool_status()["computeUnits"],
        "made": sorted(world.controllers.pods_made),
        "revisions": len(world.cluster.objects(CONTROLLER_REVISIONS)),
        "members": len(world.cluster.objects(STATEFUL_SETS)),
        "up to date": world.instance_condition("chat", "UpToDate"),
        "ready": world.instance_condition("chat", "Ready"),
    }


@pytest.mark.parametrize("name", STORIES)
async def test_a_crash_at_any_write_of_a_rollout_comes_to_the_same_end(name: str) -> None:
    story = STORIES[name]
    undisturbed, frames = await filmed(story)
    expected = outcome(undisturbed)
    assert set(expected["runs"].values()) == {story.runs}
    assert expected["up to date"][1] == story.reason
    assert expected["units"]["surge"] == 0
    assert len(frames) > len(story.acts)
    for number, frame in enumerate(frames):
        assert outcome(await resumed(story, frame)) == expected, f"crash before write {number} of {len(frames)}"
