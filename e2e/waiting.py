"""Owns how long a test waits for what becomes true by itself: much longer than it takes, since other machines are slower."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any, Final

PATIENCE_SECONDS: Final = 120.0
_FIRST_PAUSE_SECONDS: Final = 0.05
_LONGEST_PAUSE_SECONDS: Final = 0.5

What = str | Callable[[], str]


def until(check: Callable[[], Any], what: What, seconds: float = PATIENCE_SECONDS) -> Any:
    """Wait until `check` gives something true, and give that. `what` fails the test; a function is asked when the wait is
    over, so that it can tell what was there instead.

    Most checks start a kubectl: it is asked less and less often, so that what is waited for has the processor."""
    deadline, pause = time.monotonic() + seconds, _FIRST_PAUSE_SECONDS
    while not (found := check()):
        if time.monotonic() > deadline:
            raise AssertionError(f"not within {seconds:.0f} s: {what if isinstance(what, str) else what()}")
        time.sleep(pause)
        pause = min(pause * 1.5, _LONGEST_PAUSE_SECONDS)
    return found
