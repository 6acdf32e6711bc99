"""Owns one operator process in the simulation: the production loop, store and resync over a port that fails on demand.

Nothing runs by itself. The scheduler advances one coroutine at a time, from one await of the port to the next, so any
two reconciles of one process, or of two, can be interleaved anywhere; a crash drops all of them where they stand.
"""

from __future__ import annotations

import asyncio
import contextvars
import random
import traceback
from collections import deque
from collections.abc import Callable, Coroutine
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from reserved_capacity import reconcilers
from reserved_capacity.adapters.remembering import RememberingCluster
from reserved_capacity.loop import Loop, Reconciler
from reserved_capacity.ports import (
    OUR_KINDS,
    WATCHED,
    ApiError,
    Clock,
    JsonObject,
    Resource,
)
from reserved_capacity.queue import Key, WorkQueue
from reserved_capacity.reconcilers import routes
from reserved_capacity.resync import RESOURCES, Freshness, Resync
from reserved_capacity.snapshot import INDEXES
from reserved_capacity.store import FOREIGN_PODS, LABEL_SELECTORS, Store, Trim
from reserved_capacity.trimming import essential
from tests.fakes.cluster import FakeCluster
from tests.fakes.selectors import matches_labels
from tests.simulation.network import FaultyPort, Note, Request, Weather, pause


@dataclass(slots=True, eq=False)
class Task:
    """`waits_for`: what it stands still for (a lock), if not for the scheduler alone; `before`: the call that is next."""

    words: str
    coroutine: Coroutine[Any, Any, Any]
    key: Key | None = None
    waits_for: asyncio.Future[Any] | None = None
    before: str = ""
    context: contextvars.Context = field(default_factory=contextvars.copy_context)

    def send(self) -> Any:
        """To its next await, in its own context, as an event loop does."""
        return self.context.run(self.coroutine.send, None)

    @property
    def ready(self) -> bool:
        return self.waits_for is None or self.waits_for.done()


@dataclass(slots=True)
class Process:
    """`failed` is told of any exception that a reconciler or route must not raise, `looked` of live looks at a node's
    pods and at a pool's record, and at which version."""

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
    trim: Trim = essential
    store: Store = field(init=False)
    loop: Loop = field(init=False)
    resync: Resync = field(init=False)
    tasks: list[Task] = field(default_factory=list)
    watches: dict[Resource, deque[tuple[Resource, str, JsonObject]]] = field(default_factory=dict)
    alive: bool = True
    unheard: int = 0

    def __post_init__(self) -> None:
        self.store = Store(INDEXES, self.trim)
        queue = WorkQueue(self.monotonic, jitter=random.Random(self.chance.random()))
        port = FaultyPort(self.cluster, self.weather, self.chance, self.late, self.noted, self.looked)
        remembering = RememberingCluster(port, self.store)
        built = reconcilers.build(remembering, self.store, self.clock, queue.add)
        self.loop = Loop(
            cluster=remembering,
            store=self.store,
            clock=self.clock,
            route=self._route,
            reconcilers={name: self._guarded(reconciler) for name, reconciler in built.items()},
            queue=queue,
            crowds=reconcilers.CROWDS,
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
            at = task.send()
            task.before, task.waits_for = (at, None) if isinstance(at, str) else ("", at)
            while task.words == "start" and self.chance.random() < 0.9:
                task.send()
        except (StopIteration, ApiError):
            self.tasks.remove(task)
            if task.key is not None:
                self.loop.queue.done(task.key)

    def fails(self, task: Task, error: ApiError) -> None:
        """What it waits for answers with this."""
        try:
            task.context.run(task.coroutine.throw, error)
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
