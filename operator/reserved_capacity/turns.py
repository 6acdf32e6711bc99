"""Owns what is known of the turn that runs: has it got something done? Each worker has its own (a context variable), and
so have the calls that one turn makes side by side."""

from __future__ import annotations

from contextvars import ContextVar
from dataclasses import dataclass


@dataclass(slots=True)
class Turn:
    """`wrote`: the API server has carried out a write of this turn, and said so."""

    wrote: bool = False


_current: ContextVar[Turn | None] = ContextVar("turn", default=None)


def begin() -> Turn:
    """Of the worker that calls this, until it begins the next."""
    turn = Turn()
    _current.set(turn)
    return turn


def wrote() -> None:
    """Called for every write that was answered; outside a turn it is of no concern."""
    current = _current.get()
    if current is not None:
        current.wrote = True
