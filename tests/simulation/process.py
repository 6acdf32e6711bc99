"""Owns one operator process in the simulation: the production loop, store and resync over a port that fails on demand.

Nothing runs by itself. The scheduler advances one coroutine at a time, from one await of the port to the next, so any
two reconciles of one process, or of two, can be interleaved anywhere; a crash drops all of them where they stand.
"""

from __future__ import annotations

import asyncio
import random
import traceback
import types
from collections import deque
from collections.abc import Callable, Coroutine, Generator, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from reserved_capacity import reconcilers
from reserved_capacity.adapters.remembering import RememberingCluster
from reserved_capacity.loop import Loop, Reconciler
from reserved_capacity.ports import (
    OUR_KINDS,
    PODS,
    WATCHED,
    ApiError,
    Clock,
    Conflict,
    JsonObject,
    Listing,
    OutcomeUnknown,
    Precondition,
    Ref,
    Resource,
    Throttled,
    Unavailable,
)
from reserved_capacity.queue import Key, WorkQueue
from reserved_capacity.reconcilers import routes
from reserved_capacity.resync import RESOURCES, Freshness, Resync
from reserved_capacity.snapshot import INDEXES
from reserved_capacity.store import FOREIGN_PODS, LABEL_SELECTORS, Store
from tests.fakes.cluster import FakeCluster
from tests.fakes.selectors import matches_labels

_FAULTS = ("write_faults", "read_faults", "late_writes", "lost_events", "twice_told", "shuffled")
_ON_NODE = "spec.nodeName="
Call = Callable[[], Coroutine[Any, Any, Any]]
Note = Callable[..., None]


@types.coroutine
def pause(before: str = "") -> Generator[str, None, None]:
    """Let the scheduler decide who goes on; it is told which call comes `before` anything else, if one does."""
    yield before


@dataclass(slots=True)
class Weather:
    """How bad the world is to one run: chances per call, per event, per step."""

    write_faults: float = 0.0
    read_faults: float = 0.0
    late_writes: float = 0.0
    lost_events: float = 0.0
    twice_told: float = 0.0
    shuffled: float = 0.0
    delivery: float = 0.5
    workers: int = 2

    def storm(self) -> dict[str, float]:
        """Calm down; what the weather was like."""
        was = {name: getattr(self, name) for name in _FAULTS}
        self.blow(dict.fromkeys(_FAULTS, 0.0))
        return was

    def blow(self, faults: Mapping[str, float]) -> None:
        for name, chance in faults.items():
            setattr(self, name, chance)


@dataclass(slots=True, eq=False)
class Request:
    """A write that has left the process: it is carried out some time, whether anybody still waits for it or not."""

    words: str
    coroutine: Coroutine[Any, Any, Any]
    patience: int
    done: bool = False
    answer: Any = None
    error: ApiError | None = None

    def carry_out(self) -> None:
        try:
            self.answer = _carried_out(self.coroutine)
        except ApiError as error:
            self.error = error
        self.done = True


def _carried_out(write: Coroutine[Any, Any, Any]) -> Any:
    """A write takes effect at once: its moment is that of the call."""
    try:
        while True:
            write.send(None)
    except StopIteration as end:
        return end.value


class FaultyPort:
    """The Cluster port of one process: every call may fail in every way that it can, and others may go on
    before it is carried out and before its answer arrives."""

    def __init__(self, process: Process) -> None:
        self._cluster, self._weather, self._chance = process.cluster, process.weather, process.chance
        self._late, self._note, self._looked = process.late, process.noted, process.looked

    async def get(self, ref: Ref) -> JsonObject | None:
        await self._read("get", ref)
        found = self._cluster.peek(ref)
        await pause()
        return found

    async def list(
        self, resource: Resource, *, namespace: str = "", label_selector: str = "", field_selector: str = ""
    ) -> Listing:
        await self._read("list", resource)
        found = self._cluster.listing(
            resource, namespace=namespace, label_selector=label_selector, field_selector=field_selector
        )
        if resource == PODS and field_selector.startswith(_ON_NODE):
            self._looked(field_selector.removeprefix(_ON_NODE), self._cluster.version)
        await pause()
        return found

    async def create(self, resource: Resource, body: Mapping[str, Any]) -> JsonObject:
        words = f"create {Ref(resource, body['metadata'].get('namespace', ''), body['metadata']['name'])}"
        made: JsonObject = await self._write(words, lambda: self._cluster.create(resource, body))
        return made

    async def patch(self, ref: Ref, precondition: Precondition, merge: Mapping[str, Any]) -> JsonObject:
        made: JsonObject = await self._write(f"patch {ref}", lambda: self._cluster.patch(ref, precondition, merge))
        return made

    async def replace_status(self, ref: Ref, precondition: Precondition, body: Mapping[str, Any]) -> JsonObject:
        words = f"status {ref}"
        made: JsonObject = await self._write(words, lambda: self._cluster.replace_status(ref, precondition, body))
        return made

    async def delete(self, ref: Ref, precondition: Precondition) -> None:
        await self._write(f"delete {ref}", lambda: self._cluster.delete(ref, precondition))

    async def _read(self, verb: str, what: object) -> None:
        await pause(f"{verb} {what}")
        if self._chance.random() < self._weather.read_faults:
            self._note("read fault", verb, str(what))
            raise Unavailable("simulated: no answer to a read")

    async def _write(self, words: str, call: Call) -> Any:
        weather, chance = self._weather, self._chance
        await pause(words)
        if weather.late_writes and chance.random() < weather.late_writes:
            return await self._late_write(words, call)
        fault = chance.randrange(6) if chance.random() < weather.write_faults else None
        if fault is not None:
            self._note("write fault", ("503", "409", "429", "504 not done", "504 done", "reset done")[fault], words)
        match fault:
            case 0:
                raise Unavailable("simulated: connection refused")
            case 1:
                raise Conflict("simulated: conflict")
            case 2:
                raise Throttled("simulated: too many requests", retry_after=chance.uniform(0.5, 5.0))
            case 3:
                raise OutcomeUnknown("simulated: time-out, not carried out")
        answer = _carried_out(call())
        self._note("wrote", words)
        await pause()
        if fault is not None:
            raise OutcomeUnknown("simulated: time-out, carried out")
        return answer

    async def _late_write(self, words: str, call: Call) -> Any:
        request = Request(words, call(), patience=self._chance.randrange(12))
        self._late.append(request)
        self._note("write is slow", words)
        while not request.done:
            await pause()
            request.patience -= 1
            if request.patience < 0:
                raise OutcomeUnknown("simulated: time-out, still under way")
        if request.error is not None:
            raise request.error
        return request.answer


@dataclass(slots=True, eq=False)
class Task:
    """`waits_for`: what it stands still for (a lock), if not for the scheduler alone; `before`: the call that is next."""

    words: str
    coroutine: Coroutine[Any, Any, Any]
    key: Key | None = None
    waits_for: asyncio.Future[Any] | None = None
    before: str = ""

    @property
    def ready(self) -> bool:
        return self.waits_for is None or self.waits_for.done()


@dataclass(slots=True)
class Process:
    """`failed` is told of any exception that a reconciler or route must not raise, `looked` of live looks at a node's
    pods, and at which version."""

    name: str
    cluster: FakeCluster
    clock: Clock
    monotonic: Callable[[], float]
    chance: random.Random
    weather: Weather
    late: list[Request]
    note: Note
    failed: Callable[[str], None]
    looked: Callable[[str, int], None]
    store: Store = field(init=False)
    loop: Loop = field(init=False)
    resync: Resync = field(init=False)
    tasks: list[Task] = field(default_factory=list)
    watches: dict[Resource, deque[tuple[Resource, str, JsonObject]]] = field(default_factory=dict)
    alive: bool = True
    unheard: int = 0

    def __post_init__(self) -> None:
        self.store = Store(INDEXES)
        queue = WorkQueue(self.monotonic, jitter=random.Random(self.chance.random()))
        port = FaultyPort(self)
        remembering = RememberingCluster(port, self.store)
        built = reconcilers.build(remembering, self.store, self.clock, queue.add)
        self.loop = Loop(
            cluster=remembering,
            store=self.store,
            clock=self.clock,
            route=self._route,
            reconcilers={name: self._guarded(reconciler) for name, reconciler in built.items()},
            queue=queue,
        )
        self.resync = Resync(remembering, self.store, Freshness(self.monotonic), chance=self.chance)
        self.tasks.append(Task("start", self._start()))

    # ------------------------------------------------------------------------------------------------------ lifecycle

    async def _start(self) -> None:
        """As main.Operator._start: list everything, then watch, then open. What was deleted meanwhile is not told."""
        for resource in (*self.chance.sample(WATCHED, len(WATCHED)), FOREIGN_PODS):
            while True:
                try:
                    await self.resync.once(resource)
                    break
                except ApiError:
                    await pause()
        for resource in WATCHED:
            selector = LABEL_SELECTORS.get(resource, "")
            self.watches[resource] = deque(
                (resource, "ADDED", obj)
                for obj in self.cluster.all_stored(resource)
                if matches_labels(selector, obj["metadata"].get("labels") or {})
            )
            self.unheard += len(self.watches[resource])
        self.cluster.subscribe(self._watched)
        self.loop.open()
        self.note(self.name, "leads")

    @property
    def opened(self) -> bool:
        return self.loop.is_open

    def crash(self) -> None:
        """SIGKILL: memory, coroutines and watches are gone; requests that are under way are not."""
        self.alive = False
        if self.watches:
            self.cluster.unsubscribe(self._watched)
        for task in self.tasks:
            task.coroutine.close()
        self.tasks.clear()

    # --------------------------------------------------------------------------------------------------------- working

    def advance(self) -> bool:
        """Take up a key, or go on with something, to the next await; False if there is nothing to do."""
        self.loop.enqueue_due()
        busy = sum(task.key is not None for task in self.tasks)
        if self.opened and busy < self.weather.workers and (key := self.loop.queue.take()) is not None:
            self.tasks.append(Task(str(key), self.loop.reconcile(key), key))
        ready = [task for task in self.tasks if task.ready]
        if not ready:
            return False
        self.run_on(ready[self.chance.randrange(len(ready))] if len(ready) > 1 else ready[0])
        return True

    def take_up(self, key: Key) -> Task:
        """Work on this key before all others."""
        queue = self.loop.queue
        queue.add(key)
        others = []
        while (taken := queue.take()) != key:
            assert taken is not None, f"{key} is being worked on already"
            others.append(taken)
        for each in others:
            queue.done(each)
            queue.add(each)
        task = Task(str(key), self.loop.reconcile(key), key)
        self.tasks.append(task)
        return task

    def run_on(self, task: Task) -> None:
        try:
            at = task.coroutine.send(None)
            task.before, task.waits_for = (at, None) if isinstance(at, str) else ("", at)
            while task.words == "start" and self.chance.random() < 0.9:
                task.coroutine.send(None)
        except (StopIteration, ApiError):
            self.tasks.remove(task)
            if task.key is not None:
                self.loop.queue.done(task.key)

    def fails(self, task: Task, error: ApiError) -> None:
        """What it waits for answers with this."""
        try:
            task.coroutine.throw(error)
        except StopIteration:
            self.tasks.remove(task)
            assert task.key is not None, "the loop deals with the failures of its keys"
            self.loop.queue.done(task.key)

    def list_again(self, resource: Resource) -> None:
        """One turn of the periodic LIST-diff."""
        if self.opened:
            self.tasks.append(Task(f"resync {resource}", self.resync.once(resource)))

    def list_all_again(self) -> None:
        for resource in RESOURCES:
            self.list_again(resource)

    def look_at_everything(self) -> None:
        for resource in OUR_KINDS:
            for obj in self.store.all(resource):
                for key in routes.keys_for(resource, None, obj, self.store):
                    self.loop.queue.add(key)

    # -------------------------------------------------------------------------------------------------------- watching

    def _watched(self, event: str, resource: Resource, obj: JsonObject) -> None:
        if resource not in self.watches:
            return
        selector = LABEL_SELECTORS.get(resource, "")
        if not selector or matches_labels(selector, obj["metadata"].get("labels") or {}):
            self.watches[resource].append((resource, event, obj))
            self.unheard += 1

    def hear(self) -> bool:
        """Some events of one resource arrive; some are lost, come twice, or too early."""
        if not self.unheard:
            return False
        waiting = [resource for resource, events in self.watches.items() if events]
        if self.weather.delivery == 1.0:
            for resource in waiting:
                self._hear(self.watches[resource])
        else:
            self._hear(self.watches[self.chance.choice(waiting)])
        return True

    def _hear(self, events: deque[tuple[Resource, str, JsonObject]]) -> None:
        chance, weather = self.chance, self.weather
        for _ in range(chance.randint(1, len(events))):
            if weather.shuffled and chance.random() < weather.shuffled:
                events.rotate(-chance.randrange(len(events)))
            resource, event, obj = events.popleft()
            self.unheard -= 1
            if weather.lost_events and chance.random() < weather.lost_events:
                self.note(self.name, "never hears", event, resource.kind, obj["metadata"]["name"])
                continue
            if weather.twice_told and chance.random() < weather.twice_told:
                events.append((resource, event, obj))
                self.unheard += 1
            self._tell(resource, event, obj)
            if not events:
                break

    def hear_everything(self, *resources: Resource) -> bool:
        """All events (of these resources, if some are named) as they were sent; False if there are none."""
        if not self.unheard:
            return False
        for resource in resources or self.watches:
            events = self.watches[resource]
            while events:
                self.unheard -= 1
                self._tell(*events.popleft())
        return True

    def _tell(self, resource: Resource, event: str, obj: JsonObject) -> None:
        (self.store.forget if event == "DELETED" else self.store.observe)(resource, obj)

    # -------------------------------------------------------------------------------------------------------- guarding

    def noted(self, *words: object) -> None:
        self.note(self.name, *words)

    def _route(self, resource: Resource, old: JsonObject | None, new: JsonObject | None, store: Store) -> list[Key]:
        try:
            return list(routes.keys_for(resource, old, new, store))
        except Exception:
            self.failed(f"routing raised: {traceback.format_exc(limit=-6)}")
            raise

    def _guarded(self, reconciler: Reconciler) -> Reconciler:
        async def guarded(key: Key) -> datetime | None:
            self.note(self.name, "reconciles", str(key))
            try:
                return await reconciler(key)
            except ApiError as error:
                self.note(self.name, "fails at", str(key), type(error).__name__, str(error))
                raise
            except Exception:
                self.failed(f"{key} raised: {traceback.format_exc(limit=-6)}")
                raise

        return guarded
