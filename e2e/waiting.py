"""Owns how long a test waits for what becomes true by itself: much longer than it takes, since other machines are slower."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any, Final

PATIENCE_SECONDS: Final = 120.0

What = str | Callable[[], str]


def until(
    check: Callable[[], Any], what: What, seconds: float = PATIENCE_SECONDS, *, pause_seconds: float = 0.1
) -> Any:
    """Wait until `check` gives something true, and give that. `what` fails the test; a function is asked when the wait is
    over, so that it can tell what was there instead."""
    deadline = time.monotonic() + seconds
    while not (found := check()):
        if time.monotonic() > deadline:
            raise AssertionError(f"not within {seconds:.0f} s: {what if isinstance(what, str) else what()}")
        time.sleep(pause_seconds)
    return found
