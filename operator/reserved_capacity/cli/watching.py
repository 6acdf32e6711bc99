"""Owns `-w`: look again every two seconds, redraw on change, and keep the last screen while the server is away.

Of one instance it ends with its rollout.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import replace
from datetime import UTC, datetime

from rich.console import Console, Group
from rich.live import Live
from rich.text import Text

from reserved_capacity.cli.errors import Unreachable
from reserved_capacity.cli.output import page_of, show
from reserved_capacity.cli.progress import shown
from reserved_capacity.cli.render_status import render_status
from reserved_capacity.cli.values import StatusView
from reserved_capacity.cli.world import Progress

PERIOD_SECONDS = 2.0

Look = Callable[[Progress], Awaitable[StatusView]]
Over = Callable[[StatusView], bool]


def never(_: StatusView) -> bool:
    return False


async def watch(look: Look, console: Console, over: Over = never) -> StatusView:
    """Until interrupted, or until `over` says so of a view, which is returned. Raises CliError where the first look fails,
    or a later one for good."""
    progress = Progress()
    first = await shown(_looked(look, progress), progress)
    if not console.is_terminal:
        return await _follow(look, first, console, over)
    last = await _live(look, first, console, over)
    # The other screen is gone by now: how it ended stays to be read.
    show(console, render_status(last, page_of(console, last.now)))
    return last


async def _looked(look: Look, progress: Progress) -> StatusView:
    return await look(progress)


async def _live(look: Look, seen: StatusView, console: Console, over: Over) -> StatusView:
    """The terminal's other screen, which gives the old one back at the end."""
    with Live(console=console, screen=True, auto_refresh=False) as live:
        drawn: list[Text] = []
        while not over(seen):
            lines = fitted(seen, console)
            if lines != drawn:
                live.update(Group(*lines), refresh=True)
                drawn = lines
            await asyncio.sleep(PERIOD_SECONDS)
            seen = await _again(look, seen)
    return seen


async def _follow(look: Look, seen: StatusView, console: Console, over: Over) -> StatusView:
    """A file or a pipe: the whole screen once for every change, whatever the time is."""
    told: StatusView | None = None
    while True:
        if told is None or replace(seen, now=told.now) != told:
            if told is not None:
                console.print()
            show(console, render_status(seen, page_of(console, seen.now)))
            told = seen
        if over(seen):
            return seen
        await asyncio.sleep(PERIOD_SECONDS)
        seen = await _again(look, seen)


async def _again(look: Look, seen: StatusView) -> StatusView:
    """The next view; while the server is away the last one, which says so."""
    try:
        return await look(Progress())
    except Unreachable as error:
        warning = f"What follows is as of {seen.now:%H:%M:%S}Z: {error}"
        return seen if any(str(error) in each for each in seen.warnings) else replace(seen, warnings=(warning,))


def fitted(seen: StatusView, console: Console) -> list[Text]:
    """The screen, without what is healthy where the window is too low; what still does not fit is counted."""
    page = page_of(console, datetime.now(UTC).replace(microsecond=0))
    lines = render_status(seen, page)
    if len(lines) > console.height:
        lines = render_status(seen, page, brief=True)
    missing = len(lines) - console.height
    if missing > 0:
        cut = f"{missing + 1} more lines: make the window taller, or name one pool"
        lines = [*lines[: console.height - 1], Text(cut, "bold yellow")]
    return lines
