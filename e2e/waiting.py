"""Owns how long a test waits for what becomes true by itself: much longer than it takes, since other machines are slower."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from typing import Any, Final

PATIENCE_SECONDS: Final = 120.0
_FIRST_PAUSE_SECONDS: Final = 0.05
_LONGEST_PAUSE_SECONDS: Final = 0.5

What = str | Callable[[], str]


def until(check: Callable[[], Any], what: What, seconds: float = PATIENCE_SECONDS) -> Any:
    """Wait until `check` gives something true, and give that. `what` fails the test; a function is asked when the wait is
    over, so that it can tell what was there instead.

    Most checks start a kubectl: it is asked less and less often, so that what is waited for has the processor."""
    patience = _Patience(what, seconds)
    while not (found := check()):
        time.sleep(patience.pause())
    return found


async def eventually(look: Callable[[], Awaitable[Any]], what: What, seconds: float = PATIENCE_SECONDS) -> Any:
    """`until` for a look that is awaited."""
    patience = _Patience(what, seconds)
    while True:
        if found := await look():
            return found
        await asyncio.sleep(patience.pause())


class _Patience:
    def __init__(self, what: What, seconds: float) -> None:
        self._what, self._seconds = what, seconds
        self._deadline = time.monotonic() + seconds
        self._pause = _FIRST_PAUSE_SECONDS

    def pause(self) -> float:
        """How long to wait before the next look. Raises AssertionError when it is over."""
        if time.monotonic() > self._deadline:
            told = self._what if isinstance(self._what, str) else self._what()
            raise AssertionError(f"not within {self._seconds:.0f} s: {told}")
        pause = self._pause
        self._pause = min(pause * 1.5, _LONGEST_PAUSE_SECONDS)
        return pause
