"""What a cluster goes through in a story, played with a crash at any chosen write of the operator (proof.md, Faults)."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

from reserved_capacity.ports import (
    COMPUTE_UNIT_POOLS,
    CONTROLLER_REVISIONS,
    MODEL_INSTANCES,
    NODES,
    POD_DISRUPTION_BUDGETS,
    PODS,
    SERVICES,
    STATEFUL_SETS,
    JsonObject,
    Ref,
    Resource,
)
from tests.fakes.cluster import FakeCluster, Fault
from tests.fakes.controllers import FakeControllers
from tests.integration.world import Clock, World, pool
from tests.simulation.checker import Checker
from tests.simulation.facts import claims_on, held_by

_ROUNDS = 400


Act = Callable[[World], None]


@dataclass(frozen=True, slots=True)
class Story:
    """What users and machines do, act by act; after each the world settles. `begins`: what has happened before."""

    name: str
    acts: tuple[Act, ...]
    begins: tuple[Act, ...] = ()


@dataclass(frozen=True, slots=True)
class Frame:
    """The cluster at one moment, in the middle of what follows an act. What else there was, a crash takes with it."""

    act: int
    version: int
    cluster: FakeCluster
    moment: datetime
    pods_made: tuple[str, ...]
    becomes_ready: Callable[[JsonObject], bool]
    checker: Checker


@dataclass(slots=True)
class Stage:
    """A world with one operator, and the invariants watched at every change. `frames`: before each write of the
    operator, and after each turn that wrote something; kept while `films`."""

    world: World
    films: bool = False
    frames: list[Frame] = field(default_factory=list)
    checker: Checker = field(kw_only=True)
    _act: int = -1

    def __post_init__(self) -> None:
        self.world.cluster.shares = True
        self.world.cluster.faults.append(Fault(matches=self._before_a_write))
        self.world.start_operator()

    def _before_a_write(self, _verb: str, _ref: Ref) -> bool:
        self._film()
        return False

    def _film(self) -> None:
        cluster, controllers = self.world.cluster, self.world.controllers
        if not self.films or (self.frames and self.frames[-1].version == cluster.version):
            return
        held = cluster.copy()
        self.frames.append(
            Frame(
                self._act,
                cluster.version,
                held,
                self.world.clock.moment,
                tuple(controllers.pods_made),
                controllers.becomes_ready,
                self.checker.copy(held),
            )
        )

    async def play(self, acts: Sequence[Act], *, first: int = 0) -> None:
        """The acts from `first` on; before it, what an earlier one has begun comes to its end."""
        await self.settle()
        for number, act in enumerate(acts[first:], start=first):
            self._act = number
            self.checker.actor = None
            act(self.world)
            await self.settle()

    async def settle(self) -> None:
        operator = self.world.operators[0]
        for _ in range(_ROUNDS):
            written = len(self.world.cluster.writes)
            self.checker.actor = self
            busy = await operator.turn()
            self.checker.actor = None
            if len(self.world.cluster.writes) > written:
                self._film()
            self.checker.raise_if_broken()
            if not busy and not self.world.controllers.step_now() and not operator.wait_for_retries():
                return
        raise AssertionError("the world does not settle")


async def opened(story: Story) -> Stage:
    """All has happened that the story begins with. It is filmed from the first write of the operator on, if the story
    begins with nothing."""
    world = World(Clock())
    checker = Checker(world.cluster)
    world.cluster.subscribe(checker.saw)
    world.seed()
    stage = Stage(world, films=not story.begins, checker=checker)
    await stage.play(story.begins)
    stage.films = True
    return stage


async def undisturbed(story: Story) -> Stage:
    stage = await opened(story)
    await stage.play(story.acts)
    return stage


async def resumed(story: Story, frame: Frame) -> Stage:
    """The operator has died there; a new one goes on, and so does the story."""
    world = World(Clock(frame.moment))
    world.cluster = frame.cluster.copy()
    world.cluster.now = world.clock.now
    made = [*frame.pods_made]
    world.controllers = FakeControllers(world.cluster, becomes_ready=frame.becomes_ready, pods_made=made)
    checker = frame.checker.copy(world.cluster)
    world.cluster.subscribe(checker.saw)
    stage = Stage(world, checker=checker)
    await stage.play(story.acts, first=frame.act + 1)
    return stage


# --------------------------------------------------------------------------------------------------------------- acts


def applies(name: str, model: str, count: int, **spec: Any) -> Act:
    return lambda world: world.apply_instance(name, model, count, **spec)


def edits(name: str, **spec: Any) -> Act:
    return lambda world: world.edit_instance(name, spec)


def deletes(resource: Resource, name: str) -> Act:
    namespace = "acme" if resource.namespaced else ""
    return lambda world: world.cluster.user_delete(Ref(resource, namespace, name))


def together(*acts: Act) -> Act:
    def act(world: World) -> None:
        for each in acts:
            each(world)

    return act


def adds_node(name: str) -> Act:
    return lambda world: world.add_node(name)


def cordons(name: str, *, back: bool = False) -> Act:
    merge = {"spec": {"unschedulable": None if back else True}}
    return lambda world: _discard(world.cluster.user_patch(Ref(NODES, "", name), merge))


def chooses(strategy: str) -> Act:
    merge = {"spec": {"nodeReplacement": {"strategy": strategy}}}
    return lambda world: _discard(world.cluster.user_patch(Ref(COMPUTE_UNIT_POOLS, "acme", "prod"), merge))


def loses_contact(name: str, *, back: bool = False) -> Act:
    def act(world: World) -> None:
        since = world.clock.now().strftime("%Y-%m-%dT%H:%M:%SZ")
        ready = {"type": "Ready", "status": "True" if back else "Unknown", "lastTransitionTime": since}
        world.cluster.user_patch(Ref(NODES, "", name), {"status": {"conditions": [ready]}}, status=True)

    return act


def evicts_pods(node: str) -> Act:
    """As the taint manager does, when the pods' patience with the node is over."""

    def act(world: World) -> None:
        for pod in world.cluster.all_stored(PODS):
            if pod["spec"].get("nodeName") == node:
                world.cluster.user_delete(Ref(PODS, "acme", pod["metadata"]["name"]))

    return act


def minutes_pass(minutes: int) -> Act:
    return lambda world: world.clock.forward(minutes=minutes)


def time_is(moment: datetime) -> Act:
    def act(world: World) -> None:
        world.clock.moment = moment

    return act


def reduces(cu: int, day: str) -> Act:
    entry = {"commitment": "po-1", "at": day, "computeUnits": cu, "reason": "agreed"}
    ref = Ref(COMPUTE_UNIT_POOLS, "acme", "prod")
    return lambda world: _discard(world.cluster.user_patch(ref, {"spec": {"amendments": [entry]}}))


def buys(name: str, cu: int, order: str) -> Act:
    return lambda world: _discard(world.cluster.user_create(COMPUTE_UNIT_POOLS, pool(name, cu=cu, commitment=order)))


def orders_more(cu: int) -> Act:
    def act(world: World) -> None:
        order = {"id": "po-2", "computeUnits": cu, "term": "OneYear", "provisionBy": "2026-03-01"}
        first = world.get(COMPUTE_UNIT_POOLS, "prod", "acme")["spec"]["commitments"]
        ref = Ref(COMPUTE_UNIT_POOLS, "acme", "prod")
        world.cluster.user_patch(ref, {"spec": {"commitments": [*first, order]}})

    return act


def loses_status(name: str) -> Act:
    ref = Ref(COMPUTE_UNIT_POOLS, "acme", name)
    return lambda world: _discard(world.cluster.user_patch(ref, {"status": None}, status=True))


def come_up(*, but: str = "") -> Act:
    """From now on pods become ready, but for those of one instance."""

    def act(world: World) -> None:
        world.controllers.becomes_ready = lambda pod: not but or not pod["metadata"]["name"].startswith(but)

    return act


def _discard(_: object) -> None:
    return None


# ------------------------------------------------------------------------------------------------------------- stories

_SERVES = (applies("chat", "gpt-4-turbo", 2),)
_FULL = (together(applies("chat", "gpt-4-turbo", 2), applies("fast", "gpt-3.5-turbo", 0)),)
_THERE = {"changeSet": {"id": "there", "members": 2}}
_BACK = {"changeSet": {"id": "back", "members": 2}}
_END = datetime(2027, 3, 2, tzinfo=UTC)  # of po-1, which is used on the first day (world.NOW)
_MISSABLE = {"minAvailable": 1, "acceptBelowMinimum": True}
_MOVES = (edits("chat", instances=0, **_THERE), edits("fast", instances=6, **_THERE))

STORIES = (
    Story("buys and places", _SERVES),
    Story("waits for a release", (together(applies("fast", "gpt-3.5-turbo", 1), edits("chat", instances=0)),), _SERVES),
    Story("suspends and resumes", (edits("chat", suspend=True), edits("chat", suspend=False)), _SERVES),
    Story("deletes an instance", (deletes(MODEL_INSTANCES, "chat"),), _SERVES),
    Story("deletes the pool", (deletes(COMPUTE_UNIT_POOLS, "prod"), deletes(MODEL_INSTANCES, "chat")), _SERVES),
    Story("loses a node that returns", (deletes(NODES, "gpu-0"), adds_node("gpu-0")), _SERVES),
    Story("replaces a node that is gone", (deletes(NODES, "gpu-0"), evicts_pods("gpu-0"), minutes_pass(11)), _SERVES),
    Story(
        "replaces a node that has failed, and has it back",
        (
            loses_contact("gpu-0"),
            together(minutes_pass(11), evicts_pods("gpu-0")),
            loses_contact("gpu-0", back=True),
        ),
        _SERVES,
    ),
    Story("leaves a cordoned node", (cordons("gpu-0"), cordons("gpu-0", back=True)), _SERVES),
    Story(
        "leaves a cordoned node for a new one",
        (cordons("gpu-0"), together(minutes_pass(1), adds_node("gpu-2"))),
        (together(*_SERVES, buys("other", 800, "po-3")),),
    ),
    Story("leaves a cordoned node though its spec is refused", (edits("chat", instances=1), cordons("gpu-0")), _SERVES),
    Story(
        "stops members first on a full pool",
        (together(cordons("gpu-0"), cordons("gpu-1")), cordons("gpu-1", back=True)),
        (*_SERVES, together(chooses("TerminateFirst"), edits("chat", upgrade=_MISSABLE))),
    ),
    Story(
        "two pools compete",
        (
            together(buys("late", 1200, "po-2"), applies("fast", "gpt-3.5-turbo", 8, pool_ref="late")),
            together(deletes(MODEL_INSTANCES, "chat"), deletes(COMPUTE_UNIT_POOLS, "prod")),
        ),
        _SERVES,
    ),
    Story(
        "grows",
        (edits("fast", instances=4), together(orders_more(200), edits("fast", instances=8))),
        (applies("fast", "gpt-3.5-turbo", 1),),
    ),
    Story(
        "a term ends",
        (time_is(_END - timedelta(days=20)), time_is(_END - timedelta(minutes=30)), time_is(_END)),
        (applies("fast", "gpt-3.5-turbo", 6),),
    ),
    Story(
        "a reduction is agreed and holds",
        (reduces(300, "2026-03-02"), time_is(datetime(2026, 3, 2, 1, tzinfo=UTC))),
        (applies("fast", "gpt-3.5-turbo", 5),),
    ),
    Story("makes a namesake", (together(deletes(MODEL_INSTANCES, "chat"), *_SERVES),), _SERVES),
    Story("makes the pool anew", (together(deletes(COMPUTE_UNIT_POOLS, "prod"), buys("prod", 600, "po-1")),), _SERVES),
    Story("loses the pool's status", (loses_status("prod"),), _SERVES),
    Story("a change set moves all, one edit after the other", _MOVES, _FULL),
    Story(
        "a change set moves back",
        (together(edits("fast", instances=0, **_BACK), edits("chat", instances=2, **_BACK)),),
        (*_FULL, together(*_MOVES)),
    ),
    Story(
        "a change set is rolled back",
        (together(come_up(but="fast"), *_MOVES), minutes_pass(46), come_up()),
        _FULL,
    ),
    Story("a change set is refused", (together(_MOVES[0], edits("fast", instances=7, **_THERE)),), _FULL),
)


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
