"""Owns what is known to be not known: objects of which our last write had no answer, until they are read again."""

from __future__ import annotations

from reserved_capacity.ports import Ref


class Doubts:
    def __init__(self) -> None:
        self._refs: dict[Ref, None] = {}

    def add(self, ref: Ref) -> None:
        self._refs[ref] = None

    def clear(self, ref: Ref) -> None:
        """It has been read."""
        self._refs.pop(ref, None)

    def all(self) -> tuple[Ref, ...]:
        """In the order in which they came."""
        return tuple(self._refs)
