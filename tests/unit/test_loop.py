from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any, cast

import pytest

from reserved_capacity.adapters.remembering import RememberingCluster
from reserved_capacity.ledger_ports import (
    SLOWLY_SECONDS,
    LedgerFull,
    LedgerUnavailable,
    LedgerUnusable,
    SinkRefused,
    SinkUnavailable,
)
from reserved_capacity.loop import FORBIDDEN_RETRY_SECONDS, LONGEST_WAIT_FOR_BOOKS_SECONDS, Loop
from reserved_capacity.ports import (
    ACCELERATOR_CLASSES,
    MODEL_INSTANCES,
    PODS,
    STATEFUL_SETS,
    WATCHED,
    ClusterReader,
    Conflict,
    Forbidden,
    Invalid,
    JsonObject,
    Listing,
    NotFound,
    OutcomeUnknown,
    Precondition,
    Ref,
    Resource,
    Throttled,
    Unavailable,
)
from reserved_capacity.queue import Key, WorkQueue
from reserved_capacity.resync import AWAY_SECONDS, Freshness, Resync
from reserved_capacity.store import FOREIGN_PODS, Store
from tests.fakes.cluster import FakeCluster

KEY = Key("instance", "acme", "chat")
CHAT = Ref(MODEL_INSTANCES, "acme", "chat")


def keys_for(resource: Resource, old: JsonObject | None, new: JsonObject | None, _store: Store) -> Iterable[Key]:
    metadata = (new or old or {})["metadata"]
    if metadata["name"] == "unroutable":
        raise LookupError(resource)
    if resource == MODEL_INSTANCES:
        yield Key("instance", metadata["namespace"], metadata["name"])
    if resource == STATEFUL_SETS:
        yield Key("pool", metadata["namespace"], "prod")
        yield Key("instance", metadata["namespace"], metadata["name"])


@dataclass
class World:
    """A loop whose time stands still unless a test moves it."""

    time: float = 0.0
    now_: datetime = datetime(2026, 3, 1, tzinfo=UTC)
    fake: FakeCluster = field(default_factory=FakeCluster)
    store: Store = field(default_factory=Store)
    turns: list[Key] = field(default_factory=list)
    then: Callable[[Key], Awaitable[datetime | None]] | None = None

    def __post_init__(self) -> None:
        self.fake.attach(self.store)
        self.cluster = RememberingCluster(self.fake, self.store)
        self.queue = WorkQueue(lambda: self.time)
        self.loop = Loop(
            self.cluster,
            self.store,
            self,
            keys_for,
            {"instance": self._reconcile, "pool": self._reconcile},
            self.queue,
            crowds=frozenset({"instance"}),
        )

    def now(self) -> datetime:
        return self.now_

    def recorded(self, api_timestamp: datetime) -> datetime:
        return api_timestamp

    async def _reconcile(self, key: Key) -> datetime | None:
        self.turns.append(key)
        return await self.then(key) if self.then else None

    def make(self, name: str = "chat") -> JsonObject:
        return self.fake.user_create(MODEL_INSTANCES, {"metadata": {"name": name, "namespace": "acme"}, "spec": {}})

    async def turn(self) -> None:
        """Work on what is due now."""
        while (key := self.queue.take()) is not None:
            try:
                await self.loop.reconcile(key)
            finally:
                self.queue.done(key)

    def raises(self, error: BaseException) -> None:
        async def then(_key: Key) -> None:
            raise error

        self.then = then


@pytest.fixture
def world() -> World:
    return World()


async def test_nothing_is_reconciled_before_the_gate_is_open_and_then_everything_is(world: World) -> None:
    world.make()
    await world.turn()
    assert world.turns == []
    world.loop.open()
    await world.turn()
    assert world.turns == [KEY]
    world.fake.user_patch(CHAT, {"spec": {"x": 1}})
    world.fake.user_delete(CHAT)
    await world.turn()
    assert world.turns == [KEY, KEY]


async def test_our_own_write_wakes_whoever_depends_on_it_once(world: World) -> None:
    obj = world.make()
    world.loop.open()
    await world.turn()
    seen = Precondition(obj["metadata"]["uid"], obj["metadata"]["resourceVersion"])
    world.fake.hold_events()
    await world.cluster.replace_status(CHAT, seen, {**obj, "status": {"x": 1}})
    assert (world.store.get(CHAT) or {})["status"] == {"x": 1}, "the store knows before the watch tells"
    await world.turn()
    assert len(world.turns) == 2
    world.fake.deliver_events()
    await world.turn()
    assert len(world.turns) == 2


async def test_a_change_that_cannot_be_routed_harms_nobody_else(world: World) -> None:
    world.loop.open()
    world.make("unroutable")
    world.make()
    await world.turn()
    assert world.turns == [KEY]


async def test_a_deadline_wakes_its_key_and_none_removes_it(world: World) -> None:
    midnight = world.now_ + timedelta(hours=5)

    async def then(_key: Key) -> datetime | None:
        return midnight if world.now_ < midnight else None

    world.then = then
    world.make()
    world.loop.open()
    await world.turn()
    world.loop.enqueue_due()
    await world.turn()
    assert len(world.turns) == 1
    world.now_ += timedelta(days=400)
    world.loop.enqueue_due()
    await world.turn()
    assert len(world.turns) == 2
    assert len(world.loop.deadlines) == 0


@pytest.mark.parametrize(
    ("error", "least", "most"),
    [
        (Conflict("x"), 0.0, 0.1),
        (NotFound("x"), 0.0, 0.1),
        (Unavailable("x"), 0.0, 0.1),
        (OutcomeUnknown("x"), 0.0, 0.1),
        (Invalid("x"), 0.0, 0.1),
        (ValueError("a defect"), 0.0, 0.1),
        (Throttled("x", retry_after=7.0), 7.0, 7.0),
        (Forbidden("x", code=401), 0.05, 0.05),
        (Forbidden("x"), FORBIDDEN_RETRY_SECONDS, FORBIDDEN_RETRY_SECONDS),
        (LedgerUnavailable("x"), 0.0, 0.1),
        (LedgerFull("x"), 0.0, 0.1),
        (LedgerUnusable("x"), SLOWLY_SECONDS, SLOWLY_SECONDS),
        (SinkUnavailable("x"), 0.0, 0.1),
        (SinkUnavailable("x", retry_after=9.0), 9.0, 9.0),
        (SinkUnavailable("x", retry_after=1e6), LONGEST_WAIT_FOR_BOOKS_SECONDS, LONGEST_WAIT_FOR_BOOKS_SECONDS),
        (SinkRefused("x"), SLOWLY_SECONDS, SLOWLY_SECONDS),
    ],
)
async def test_every_failure_is_tried_again_after_its_time(
    world: World, error: Exception, least: float, most: float
) -> None:
    world.make()
    world.loop.open()
    world.raises(error)
    await world.turn()
    wait = world.queue.next_due_in()
    assert wait is not None
    assert least <= wait <= most
    world.then = None
    world.time += wait
    await world.turn()
    assert world.turns == [KEY, KEY]
    assert world.queue.depth == 0


async def test_failures_in_a_row_wait_longer_and_longer(world: World) -> None:
    world.make()
    world.loop.open()
    world.raises(Unavailable("down"))
    for _ in range(12):
        await world.turn()
        world.time += world.queue.next_due_in() or 0
    assert len(world.turns) == 12
    assert world.time > 30


async def test_a_turn_that_wrote_something_before_it_failed_is_the_first_that_failed(world: World) -> None:
    """Where single calls fail, a turn of many writes fails nearly always, and is nearer to its end each time."""
    missing = [f"chat-{number}" for number in range(12)]

    async def then(_key: Key) -> None:
        if missing:
            name = missing.pop()
            await world.cluster.create(PODS, {"metadata": {"name": name, "namespace": "acme"}, "spec": {}})
            raise Unavailable("the next call")

    world.make()
    world.loop.open()
    world.then = then
    for _ in range(13):
        await world.turn()
        world.time += world.queue.next_due_in() or 0
    assert missing == []
    assert world.queue.depth == 0
    assert world.time < 13 * 0.1


async def test_a_write_of_another_turn_is_no_progress_of_this_one(world: World) -> None:
    """Two workers at a time: one writes, the other one only fails."""
    world.make()
    world.make("other")
    world.loop.open()
    both = asyncio.Barrier(2)

    async def then(key: Key) -> None:
        await both.wait()
        if key != KEY:
            await world.cluster.create(PODS, {"metadata": {"name": f"pod-{len(world.turns)}", "namespace": "acme"}})
        await both.wait()
        raise Unavailable("down")

    world.then = then
    for _ in range(8):
        keys = [key for _ in range(2) if (key := world.queue.take()) is not None]
        await asyncio.gather(*(world.loop.reconcile(key) for key in keys))
        for key in keys:
            world.queue.done(key)
        world.time += 60
    assert world.queue.failures(KEY) == 8
    assert world.queue.failures(Key("instance", "acme", "other")) == 1


async def test_the_object_of_a_failed_write_is_read_before_the_next_turn(world: World) -> None:
    obj = world.make()
    seen = Precondition(obj["metadata"]["uid"], obj["metadata"]["resourceVersion"])
    world.fake.hold_events()  # the watch lags behind somebody else's change
    world.fake.user_patch(CHAT, {"spec": {"x": 1}})

    async def then(_key: Key) -> None:
        await world.cluster.patch(CHAT, seen, {"metadata": {"labels": {"a": "b"}}})

    world.then = then
    world.loop.open()
    await world.turn()
    assert (world.store.get(CHAT) or {})["spec"] == {}
    world.then = None
    world.time += 1
    await world.turn()
    assert (world.store.get(CHAT) or {})["spec"] == {"x": 1}


async def test_a_write_that_found_its_object_gone_takes_it_out_of_the_store(world: World) -> None:
    obj = world.make()
    seen = Precondition(obj["metadata"]["uid"], obj["metadata"]["resourceVersion"])
    world.fake.hold_events()
    world.fake.user_delete(CHAT)

    async def then(_key: Key) -> None:
        if world.store.get(CHAT):
            await world.cluster.patch(CHAT, seen, {"metadata": {"labels": {"a": "b"}}})

    world.then = then
    world.loop.open()
    await world.turn()
    world.time += 1
    await world.turn()
    assert world.store.get(CHAT) is None


async def test_workers_live_through_every_error_and_end_with_the_queue(world: World) -> None:
    world.queue = world.loop.queue = WorkQueue(asyncio.get_running_loop().time)
    world.raises(ValueError("a defect"))
    world.loop.open()
    workers = [asyncio.create_task(world.loop.work()) for _ in range(3)]
    world.make()
    await asyncio.sleep(0.3)
    assert len(world.turns) >= 2
    assert not any(worker.done() for worker in workers)
    world.queue.close()
    await asyncio.wait_for(asyncio.gather(*workers), 1)


async def test_a_long_queue_keeps_nobody_else_from_the_event_loop(world: World) -> None:
    for number in range(100):
        world.make(f"chat-{number}")
    world.loop.open()
    worker = asyncio.create_task(world.loop.work())
    looked = 0
    while len(world.turns) < 100:
        await asyncio.sleep(0)
        looked += 1
    assert looked >= 100
    world.queue.close()
    await worker


async def test_a_change_of_what_is_there_comes_before_what_is_new(world: World) -> None:
    """An edit, and what becomes of a member; what is made in numbers waits, and so does who decides for all of them."""
    world.loop.open()
    world.make("edited")
    await world.turn()
    for name in ("new", "newer"):
        world.make(name)
    world.fake.user_patch(Ref(MODEL_INSTANCES, "acme", "edited"), {"spec": {"instances": 2}})
    world.store.observe(
        STATEFUL_SETS, {"metadata": {"name": "begun", "namespace": "acme", "uid": "1", "resourceVersion": "1"}}
    )
    world.turns.clear()
    await world.turn()
    assert [key.name for key in world.turns] == ["edited", "begun", "new", "newer", "prod"]


async def test_while_the_gate_is_shut_again_nothing_begins_and_when_it_opens_everything_is_looked_at(
    world: World,
) -> None:
    world.queue = world.loop.queue = WorkQueue(asyncio.get_running_loop().time)
    world.loop.open()
    world.make("early")
    world.loop.shut()
    world.make()
    world.loop.deadlines.set(KEY, world.now())
    world.loop.enqueue_due()
    worker = asyncio.create_task(world.loop.work())
    for _ in range(20):
        await asyncio.sleep(0)
    assert (world.queue.depth, world.turns) == (0, [])
    world.loop.open()
    for _ in range(20):
        await asyncio.sleep(0)
    assert [key.name for key in world.turns] == ["chat", "early"]
    world.queue.close()
    await asyncio.wait_for(worker, 1)


# ---------------------------------------------------------------------------------------------------------------- resync


def a_resync(world: World, **options: Any) -> Resync:
    return Resync(world.fake, world.store, Freshness(lambda: world.time), **options)


async def test_synced_when_every_resource_has_been_listed() -> None:
    world = World()
    world.store = Store()
    resync = a_resync(world)
    for resource in WATCHED:
        assert not resync.synced()
        await resync.once(resource)
    assert not resync.synced()
    await resync.once(FOREIGN_PODS)
    assert resync.synced()


async def test_a_list_heals_what_the_watch_lost_and_says_so(world: World) -> None:
    missed: list[tuple[str, int]] = []
    resync = a_resync(world, missed=lambda kind, changes: missed.append((kind, changes)))
    world.make("gone")
    world.loop.open()
    await world.turn()
    world.fake.hold_events()
    world.make()
    world.fake.user_delete(Ref(MODEL_INSTANCES, "acme", "gone"))
    world.fake.lose_events()
    assert await resync.once(MODEL_INSTANCES) == 2
    await world.turn()
    assert {key.name for key in world.turns[1:]} == {"chat", "gone"}
    assert missed == [("ModelInstance", 2)]
    assert await resync.once(MODEL_INSTANCES) == 0


async def test_a_list_counts_as_having_heard_of_the_resource(world: World) -> None:
    resync = a_resync(world)
    resync.freshness.expect(WATCHED)
    world.time = 100
    await resync.once(MODEL_INSTANCES)
    ages = resync.freshness.ages()
    assert ages[str(MODEL_INSTANCES)] == 0
    assert ages[str(PODS)] == 100


async def test_the_api_server_is_away_when_a_call_fails_and_nothing_was_heard_of_anything(world: World) -> None:
    freshness = Freshness(lambda: world.time)
    freshness.expect(WATCHED)
    world.time = AWAY_SECONDS - 1
    freshness.unanswered()
    assert not freshness.away
    world.time = AWAY_SECONDS
    freshness.unanswered()
    assert freshness.away
    world.time += 3600
    freshness.unanswered()
    world.time += 5
    assert (freshness.away, freshness.since_away()) == (True, 5)
    freshness.heard(PODS)
    assert (freshness.away, freshness.since_away()) == (False, 5)


async def test_one_kind_that_is_not_answered_among_others_that_are_is_no_outage(world: World) -> None:
    freshness = Freshness(lambda: world.time)
    freshness.expect(WATCHED)
    for _ in range(100):
        world.time += AWAY_SECONDS - 1
        freshness.heard(PODS)
        world.time += 1
        freshness.unanswered()
    assert not freshness.away
    assert freshness.since_away() == float("inf")


async def test_foreign_pods_are_known_by_what_classes_call_a_gpu(world: World) -> None:
    spec = {"nodeName": "n", "containers": [{"name": "c", "resources": {"requests": {"example.com/npu": "1"}}}]}
    labels = {"app.kubernetes.io/managed-by": "reserved-capacity"}
    world.fake.user_create(PODS, {"metadata": {"name": "theirs", "namespace": "x"}, "spec": spec})
    world.fake.user_create(PODS, {"metadata": {"name": "ours", "namespace": "x", "labels": labels}, "spec": spec})
    resync = a_resync(world)
    assert await resync.once(FOREIGN_PODS) == 0
    world.fake.user_create(ACCELERATOR_CLASSES, {"metadata": {"name": "a"}, "spec": {"gpuResource": "example.com/npu"}})
    assert await resync.once(FOREIGN_PODS) == 1
    assert [pod["metadata"]["name"] for pod in world.store.all(FOREIGN_PODS)] == ["theirs"]


async def test_a_watch_begins_at_the_newest_list_and_one_that_lost_its_place_at_another(world: World) -> None:
    resync = a_resync(world)
    await resync.once(MODEL_INSTANCES)
    first = await resync.where_to_watch_from(MODEL_INSTANCES)
    world.fake.hold_events()
    world.make()
    world.fake.lose_events()
    assert world.store.get(CHAT) is None
    again = await resync.where_to_watch_from(MODEL_INSTANCES)
    assert world.store.get(CHAT) is not None
    assert int(again or 0) > int(first or 0)


async def test_a_list_that_another_has_overtaken_is_no_restored_backup(world: World) -> None:
    asked, answer = asyncio.Event(), asyncio.Event()

    class Slow:
        async def list(self, resource: Resource, **options: Any) -> Listing:
            listing = await world.fake.list(resource, **options)
            asked.set()
            await answer.wait()
            return listing

    resync = a_resync(world)
    fast, resync.cluster = resync.cluster, cast("ClusterReader", Slow())
    slow = asyncio.create_task(resync.once(MODEL_INSTANCES))
    await asked.wait()
    world.make()
    resync.cluster = fast
    await resync.once(MODEL_INSTANCES)
    answer.set()
    await slow
    assert world.store.get(CHAT) is not None


async def test_after_a_restore_nothing_is_known_by_its_version(world: World) -> None:
    """The page of a LIST keeps what the store has in that version; of a restored cluster that says nothing."""

    class Trimming:
        async def list(self, resource: Resource, **_: Any) -> Listing:
            listing = answers.pop(0) if len(answers) > 1 else answers[0]
            return Listing([world.store.kept(resource, obj) for obj in listing.items], listing.resource_version, True)

    def chat(**spec: Any) -> JsonObject:
        return {"metadata": {"name": "chat", "namespace": "acme", "uid": "u", "resourceVersion": "50"}, "spec": spec}

    answers = [Listing([chat(x=1)], "9999999"), Listing([chat(x=2)], "9999900")]
    resync = a_resync(world)
    resync.cluster = cast("ClusterReader", Trimming())
    await resync.once(MODEL_INSTANCES)
    assert await resync.once(MODEL_INSTANCES) == 1
    assert (world.store.get(CHAT) or {})["spec"] == {"x": 2}
