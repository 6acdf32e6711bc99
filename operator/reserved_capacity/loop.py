"""Owns the level-triggered loop: what wakes a key, who works on it, and what becomes of a failure.

Three things wake a key: a change in the store (a watch event, a LIST-diff, or our own write: the store does not tell
them apart, nor does this), a deadline, and a failure that waits to be tried again. Nothing is reconciled before every
resource has been listed once and this process leads; from then on all of our kinds are looked at once, so what happened
before does not matter.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime

import structlog

from reserved_capacity import turns
from reserved_capacity.ledger_ports import BooksError
from reserved_capacity.ports import (
    OUR_KINDS,
    ApiError,
    Clock,
    Cluster,
    Conflict,
    Forbidden,
    JsonObject,
    NotFound,
    OutcomeUnknown,
    Ref,
    Resource,
    Throttled,
    Unavailable,
)
from reserved_capacity.queue import Deadlines, Key, WorkQueue
from reserved_capacity.store import Change, Store

log = structlog.get_logger(__name__)

Reconciler = Callable[[Key], Awaitable[datetime | None]]
Route = Callable[[Resource, JsonObject | None, JsonObject | None, Store], Iterable[Key]]

FORBIDDEN_RETRY_SECONDS = 60.0
LONGEST_WAIT_FOR_BOOKS_SECONDS = 600.0
DEADLINE_POLL_SECONDS = 1.0


def _unmeasured(_reconciler: str, _outcome: str, _seconds: float) -> None:
    pass


@dataclass(slots=True)
class Loop:
    """`cluster` must be one that puts what it reads and writes into `store` (adapters.remembering).

    `standing` are keys of work that no object stands for; `crowds` the reconcilers of what there may be thousands of, of
    which what is begun goes before what begins (docs/adr/0074); `reconciled(reconciler, outcome, seconds)` is told of every
    turn.
    """

    cluster: Cluster
    store: Store
    clock: Clock
    route: Route
    reconcilers: Mapping[str, Reconciler]
    queue: WorkQueue
    deadlines: Deadlines = field(default_factory=Deadlines)
    standing: tuple[Key, ...] = ()
    crowds: frozenset[str] = frozenset()
    reconciled: Callable[[str, str, float], None] = _unmeasured
    _open: bool = False
    _doubtful: dict[Key, Ref] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.store.subscribe(self.changed)

    # ---------------------------------------------------------------------------------------------- what wakes a key

    def changed(self, change: Change) -> None:
        """Enqueue whoever depends on the object. While the gate is shut nobody does: `open` enqueues all."""
        if self._open:
            self._enqueue(change.ref.resource, change.old, change.new)

    def open(self) -> None:
        """From now on reconcile: every resource has been listed, and this process leads. Looks at everything once."""
        if self._open:
            return
        self._open = True
        for resource in OUR_KINDS:
            for obj in self.store.all(resource):
                self._enqueue(resource, None, obj)
        for key in self.standing:
            self.queue.add(key)
        log.info("reconciling", keys=self.queue.depth)

    def shut(self) -> None:
        """Begin no other turn until `open`: the Lease is lost. Turns under way go on to their end, as after a loss that
        nobody has noticed yet; what makes that safe is the precondition of each write."""
        self._open = False
        log.info("standing by", keys=self.queue.depth)

    @property
    def is_open(self) -> bool:
        return self._open

    def enqueue_due(self) -> None:
        """Enqueue the keys whose deadline has come."""
        if self._open:
            for key in self.deadlines.due(self.clock.now()):
                self.queue.add(key)

    async def poll_deadlines(self) -> None:
        """`enqueue_due` every second, for ever: a clock that jumps needs no other notice."""
        while True:
            self.enqueue_due()
            await asyncio.sleep(DEADLINE_POLL_SECONDS)

    def _enqueue(self, resource: Resource, old: JsonObject | None, new: JsonObject | None) -> None:
        edited = _is_edited(resource, old, new)
        try:
            for key in self.route(resource, old, new, self.store):
                # What becomes of one of a crowd wakes who decides for all as well, who does it better for many at a time.
                begun = edited or (resource not in OUR_KINDS and key.reconciler in self.crowds)
                self.queue.add(key, begun=begun)
        except Exception:
            # A defect, and this is the only notice of the change; the next change, or a restart, brings another.
            metadata = (new or old or {}).get("metadata", {})
            log.exception("routing failed", resource=str(resource), name=metadata.get("name"))

    # ------------------------------------------------------------------------------------------------- who works on it

    async def work(self) -> None:
        """One worker: reconcile key by key until the queue is closed. No failure of a reconciler ends it."""
        while (key := await self.queue.get()) is not None:
            try:
                if self._open:  # what was to be done when the Lease was lost, `open` enqueues anew
                    await self.reconcile(key)
            finally:
                self.queue.done(key)
            # A turn that finds nothing to do waits for nothing; thousands of them would keep the Lease, the probes and the
            # watches waiting.
            await asyncio.sleep(0)

    # ------------------------------------------------------------------------------------- what becomes of a failure

    async def reconcile(self, key: Key) -> None:
        """One turn of one key, that the caller has taken and lets go of. Raises nothing but cancellation."""
        started, turn = asyncio.get_running_loop().time(), turns.begin()
        outcome = "ok"
        try:
            await self._look_again(key)
            when = await self.reconcilers[key.reconciler](key)
            self.deadlines.set(key, when)
            self.queue.forget(key)
        except ApiError as error:
            outcome = type(error).__name__
            if turn.wrote:
                # What is done is not done again: however many calls fail on the way, each such turn is nearer to the end.
                self.queue.forget(key)
            self._try_again(key, error)
        except BooksError as error:
            outcome = type(error).__name__
            self._come_back(key, error)
        except Exception:
            outcome = "error"
            log.exception("reconcile failed", key=str(key), retry_in=round(self.queue.retry(key), 2))
        finally:
            self.reconciled(key.reconciler, outcome, asyncio.get_running_loop().time() - started)

    async def _look_again(self, key: Key) -> None:
        """Read the object that the last turn stumbled over, so that this one does not decide on the same stale view."""
        ref = self._doubtful.get(key)
        if ref is not None:
            await self.cluster.get(ref)
            del self._doubtful[key]

    def _come_back(self, key: Key, error: BooksError) -> None:
        """The books or billing are away: nothing of the cluster is in doubt, and nobody else waits."""
        if error.retry_after is not None:
            delay = min(error.retry_after, LONGEST_WAIT_FOR_BOOKS_SECONDS)
            self.queue.add(key, delay, begun=True)
        else:
            delay = self.queue.retry(key)
        say = log.error if error.needs_somebody else log.warning
        say("books call failed", key=str(key), kind=type(error).__name__, error=str(error), retry_in=round(delay, 2))

    def _try_again(self, key: Key, error: ApiError) -> None:
        if error.ref is not None:
            self._doubtful[key] = error.ref
        match error:
            case Throttled():
                self.queue.add(key, error.retry_after, begun=True)
                delay = error.retry_after
            case Forbidden() if error.code != 401:
                self.queue.add(key, FORBIDDEN_RETRY_SECONDS, begun=True)
                delay = FORBIDDEN_RETRY_SECONDS
            case _:
                delay = self.queue.retry(key)
        expected = isinstance(error, Conflict | NotFound) and self.queue.failures(key) <= 3
        say = log.info if expected else log.warning
        if not isinstance(error, Conflict | NotFound | Throttled | Unavailable | OutcomeUnknown) and error.code != 401:
            say = log.error  # Invalid, Forbidden: nothing that waiting mends; an API server that starts knows nobody
        say("api call failed", key=str(key), kind=type(error).__name__, error=str(error), retry_in=round(delay, 2))


def _is_edited(resource: Resource, old: JsonObject | None, new: JsonObject | None) -> bool:
    """Has somebody changed one of ours, or deleted it? What is only made now, and what we report, is no edit."""
    if resource not in OUR_KINDS or old is None:
        return False
    return new is None or old["metadata"].get("generation") != new["metadata"].get("generation")
