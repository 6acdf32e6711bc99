"""Owns what simulated worlds have in common: virtual time as the event loop, and going on until all is quiet."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from tests.fakes.cluster import FakeCluster
from tests.fakes.controllers import FakeControllers
from tests.simulation.checker import Checker
from tests.simulation.process import Process
from tests.simulation.sightings import Violation

SETTLING_ROUNDS = 400
# So many take a moment, in which somebody's next attempt may fall due: two leaders correct each other only until the one
# that stumbled has looked again.
_ROUNDS_OF_A_MOMENT = 50


class _VirtualLoop:
    """All that production code asks of the running event loop: what time it is, and futures (for locks)."""

    def __init__(self, monotonic: Callable[[], float]) -> None:
        self.time = monotonic

    def create_future(self) -> asyncio.Future[None]:
        return asyncio.Future(loop=self)  # type: ignore[arg-type]

    def get_debug(self) -> bool:
        return False


@contextlib.contextmanager
def as_event_loop(monotonic: Callable[[], float]) -> Iterator[None]:
    before = asyncio._get_running_loop()
    asyncio._set_running_loop(_VirtualLoop(monotonic))  # type: ignore[arg-type]
    try:
        yield
    finally:
        asyncio._set_running_loop(before)


@dataclass(frozen=True, slots=True)
class Settling:
    """`waits(seconds)` lets time pass."""

    cluster: FakeCluster
    controllers: FakeControllers
    checker: Checker
    waits: Callable[[float], None]

    def settle(self, processes: Sequence[Process]) -> None:
        """Until nobody has anything to do. Raises Violation."""
        for number in range(1, SETTLING_ROUNDS + 1):
            version = self.cluster.version
            ran = [self.drain(process) for process in processes]
            self.checker.actor = None
            self.controllers.step_now()
            quiet = not any(ran) and self.cluster.version == version
            if (quiet or number % _ROUNDS_OF_A_MOMENT == 0) and not self._wait_for_retries(processes) and quiet:
                return
        raise Violation("I8", "the world does not settle")

    def drain(self, process: Process) -> bool:
        """All that the process has to do now; False if that is nothing."""
        ran = False
        for _ in range(5000):
            self.checker.actor = process
            heard = process.hear_everything()
            if not process.advance() and not heard:
                return ran
            ran = True
            self.checker.raise_if_broken()
        raise Violation("I8", f"{process.name} does not come to an end")

    def _wait_for_retries(self, processes: Sequence[Process]) -> bool:
        due = [at for process in processes if (at := process.loop.queue.next_due_in()) is not None and at <= 120]
        if due:
            self.waits(min(due) + 0.001)
        return bool(due)
