"""Owns what is to be done, and when: the keyed work queue and the heap of deadlines.

Both are plain data structures under one event loop: no thread, no clock and no chance of their own (all are injected),
so that a simulation under virtual time runs the same code.
"""

from __future__ import annotations

import asyncio
import heapq
import random
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime

FIRST_RETRY_SECONDS = 0.05
LONGEST_RETRY_SECONDS = 30.0
# So many keys that go on with something are taken, then another: what is begun is finished first, and whatever keeps
# beginning anew does not starve the rest.
BEGUN_IN_A_ROW = 16


@dataclass(frozen=True, slots=True, order=True)
class Key:
    """One thing to reconcile: which reconciler, and the object (`namespace` is empty for cluster-scoped ones)."""

    reconciler: str
    namespace: str
    name: str

    def __str__(self) -> str:
        return f"{self.reconciler}:{self.namespace}/{self.name}" if self.namespace else f"{self.reconciler}:{self.name}"


class WorkQueue:
    """Keys that wait, each at most once, and keys that are being worked on, each by one worker at most.

    A key that is added while it is being worked on runs again afterwards: whatever changed may have been read too early.
    Keys that go on with what has been begun are taken before others (docs/adr/0074); among equals it is first come, first
    served. `monotonic` is in seconds and must be the clock of the running event loop where `get()` is used.
    """

    def __init__(self, monotonic: Callable[[], float], *, jitter: random.Random | None = None) -> None:
        self._monotonic = monotonic
        self._jitter = jitter if jitter is not None else random.Random()  # noqa: S311 - spreads retries, guards nothing
        self._due: dict[Key, _Due] = {}
        self._again: dict[Key, _Due] = {}
        self._running: dict[Key, float] = {}
        self._taken: dict[Key, float] = {}
        self._last_taken = float("-inf")
        self._failures: dict[Key, int] = {}
        self._heaps: dict[bool, list[tuple[float, int, Key]]] = {True: [], False: []}
        self._in_a_row = 0
        self._sequence = 0
        self._wake = asyncio.Event()
        self._closed = False

    def add(self, key: Key, after: float = 0.0, *, begun: bool = False) -> None:
        """Have `key` worked on in `after` seconds; an earlier time that is already set stands, and so does `begun`: it goes
        on with something, be it with what others have changed since."""
        wanted = _Due(self._monotonic() + max(0.0, after), begun)
        if key in self._running:
            self._again[key] = wanted.with_all_of(self._again.get(key))
            return
        known = self._due.get(key)
        wanted = wanted.with_all_of(known)
        if wanted == known:
            return
        self._due[key] = wanted
        self._sequence += 1
        heapq.heappush(self._heaps[wanted.begun], (wanted.at, self._sequence, key))
        self._wake.set()

    def take(self) -> Key | None:
        """The key that is next among those that are due, or None. Whoever takes it calls `done(key)`, come what may."""
        self._drop_stale()
        now = self._monotonic()
        begun, others = (bool(heap) and heap[0][0] <= now for heap in (self._heaps[True], self._heaps[False]))
        if not begun and not others:
            return None
        goes_on = begun and not (others and self._in_a_row >= BEGUN_IN_A_ROW)
        self._in_a_row = self._in_a_row + 1 if goes_on else 0
        at, _, key = heapq.heappop(self._heaps[goes_on])
        del self._due[key]
        self._running[key] = at
        self._taken[key] = self._last_taken = now
        return key

    async def get(self) -> Key | None:
        """Wait for the next due key and take it; None as soon as the queue is closed."""
        while not self._closed:
            key = self.take()
            if key is not None:
                return key
            # Every waiter is woken and looks again: with 16 workers that is cheaper than to keep a line of them.
            self._wake.clear()
            try:
                async with asyncio.timeout(self.next_due_in()):
                    await self._wake.wait()
            except TimeoutError:
                continue
        return None

    def close(self) -> None:
        """Nobody gets another key. Keys that are being worked on are not affected."""
        self._closed = True
        self._wake.set()

    def done(self, key: Key) -> None:
        """The worker lets go of `key`; if it was added meanwhile, it waits again from now on."""
        self._running.pop(key, None)
        self._taken.pop(key, None)
        again = self._again.pop(key, None)
        if again is not None:
            self.add(key, again.at - self._monotonic(), begun=again.begun)

    def retry(self, key: Key) -> float:
        """Add `key` after a back-off that doubles with each failure in a row; the seconds that were chosen."""
        failures = self._failures.get(key, 0)
        self._failures[key] = failures + 1
        ceiling = min(LONGEST_RETRY_SECONDS, FIRST_RETRY_SECONDS * 2.0 ** min(failures, 32))
        # Half fixed, half chance: never at once, and a crowd that failed together does not come back together.
        delay = max(FIRST_RETRY_SECONDS, ceiling * (0.5 + 0.5 * self._jitter.random()))
        self.add(key, delay, begun=True)
        return delay

    def forget(self, key: Key) -> None:
        """Success: the next failure of `key` counts as the first."""
        self._failures.pop(key, None)

    def failures(self, key: Key) -> int:
        """How often in a row `key` was retried."""
        return self._failures.get(key, 0)

    @property
    def depth(self) -> int:
        """Keys that wait, due or not; without those that are being worked on."""
        return len(self._due)

    @property
    def running(self) -> int:
        """Keys that are being worked on."""
        return len(self._running)

    def oldest_due_age(self) -> float:
        """Seconds since the longest-due key became due, 0.0 if none is. A key counts until its worker lets go of it:
        one that hangs is as stuck as one that nobody takes."""
        since = min((*(due.at for due in self._due.values()), *self._running.values()), default=None)
        return 0.0 if since is None else max(0.0, self._monotonic() - since)

    def stuck_for(self) -> float:
        """Seconds for which a worker has been at one key, or for which nobody has taken one though some are due. A long
        queue is not stuck as long as it moves: ten thousand instances that are made at once take minutes."""
        now = self._monotonic()
        turn = now - min(self._taken.values(), default=now)
        due = min((each.at for each in self._due.values()), default=now)
        return max(0.0, turn, now - max(due, self._last_taken) if due < now else 0.0)

    def next_due_in(self) -> float | None:
        """Seconds until a key is due (0.0: one is), or None when nothing waits."""
        self._drop_stale()
        first = min((heap[0][0] for heap in self._heaps.values() if heap), default=None)
        return None if first is None else max(0.0, first - self._monotonic())

    def _drop_stale(self) -> None:
        # A key that was moved forward leaves its old entry in its heap.
        for begun, heap in self._heaps.items():
            while heap and self._due.get(heap[0][2]) != _Due(heap[0][0], begun):
                heapq.heappop(heap)


@dataclass(frozen=True, slots=True)
class _Due:
    at: float
    begun: bool

    def with_all_of(self, other: _Due | None) -> _Due:
        return self if other is None else _Due(min(self.at, other.at), self.begun or other.begun)


class Deadlines:
    """When each key must be looked at even if nothing changes (midnight UTC, end of a term, a rollout's deadline).

    Wall-clock times, polled with the clock's own idea of now: a clock that jumps makes things due, whichever way it
    was told before, and no timer has to be set anew.
    """

    def __init__(self) -> None:
        self._when: dict[Key, datetime] = {}
        self._heap: list[tuple[datetime, Key]] = []

    def set(self, key: Key, when: datetime | None) -> None:
        """Replace the deadline of `key` (aware datetime); None removes it."""
        if when is None:
            self._when.pop(key, None)
            return
        if when.tzinfo is None:
            raise ValueError(f"deadline of {key} has no time zone: {when}")
        if self._when.get(key) == when:
            return
        self._when[key] = when
        heapq.heappush(self._heap, (when, key))
        if len(self._heap) > 64 + 2 * len(self._when):
            self._heap = [(at, held) for held, at in self._when.items()]
            heapq.heapify(self._heap)

    def due(self, now: datetime) -> list[Key]:
        """Remove and return the keys whose deadline has come, earliest first."""
        keys = []
        while self._heap and self._heap[0][0] <= now:
            when, key = heapq.heappop(self._heap)
            if self._when.get(key) == when:
                del self._when[key]
                keys.append(key)
        return keys

    def next(self) -> datetime | None:
        """The earliest deadline, or None."""
        while self._heap and self._when.get(self._heap[0][1]) != self._heap[0][0]:
            heapq.heappop(self._heap)
        return self._heap[0][0] if self._heap else None

    def get(self, key: Key) -> datetime | None:
        return self._when.get(key)

    def __len__(self) -> int:
        return len(self._when)
