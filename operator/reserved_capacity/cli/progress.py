"""Owns what is shown while a command waits: nothing for the first half second, then what it is waiting for, on stderr."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import Any, TypeVar

from rich.console import Console

from reserved_capacity.cli.world import Progress

_PATIENCE_SECONDS = 0.5  # with the time that imports take, the reader waits less than a second
_LOOK_SECONDS = 0.2

Result = TypeVar("Result")


async def shown(work: Coroutine[Any, Any, Result], progress: Progress) -> Result:
    """The result of `work`. Where stderr is no terminal, one line says what is waited for."""
    task = asyncio.ensure_future(work)
    try:
        done, _ = await asyncio.wait({task}, timeout=_PATIENCE_SECONDS)
        if not done:
            await _wait_visibly(task, progress)
        return await task
    finally:
        task.cancel()


async def _wait_visibly(task: asyncio.Future[Any], progress: Progress) -> None:
    console = Console(stderr=True, highlight=False)
    if not console.is_terminal:
        console.print(f"{progress} ...", soft_wrap=True)
        await asyncio.wait({task})
        return
    with console.status(str(progress)) as status:
        while not task.done():
            status.update(str(progress))
            await asyncio.wait({task}, timeout=_LOOK_SECONDS)
