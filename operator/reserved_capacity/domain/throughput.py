"""What an update brings: output tokens per compute unit, of the new version and of the old one (behaviour.md S7).

Both are looked at in the same time, while members of both serve, from what their servers count themselves.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from datetime import datetime

from .versions import Version

MEASURABLE_TOKENS = 1000
"""Fewer output tokens on either side say nothing."""


@dataclass(frozen=True, slots=True)
class Counters:
    """What a server has counted since it started: output tokens, and the time it took to make them (None: it does not say)."""

    at: datetime
    output_tokens: int
    busy_ms: int | None


@dataclass(frozen=True, slots=True)
class Window:
    """One member from the first look at its counters to the last."""

    version: Version
    compute_units: int
    first: Counters
    last: Counters

    def until(self, counters: Counters) -> Window:
        """With one more look. A server that has started anew counts from zero, and so does its window."""
        if counters.output_tokens < self.last.output_tokens:
            return replace(self, first=counters, last=counters)
        return replace(self, last=counters)

    @property
    def tokens(self) -> int:
        return self.last.output_tokens - self.first.output_tokens

    @property
    def unit_ms(self) -> int:
        """Compute units times milliseconds: those in which it worked, or all where it does not say."""
        if self.first.busy_ms is not None and self.last.busy_ms is not None:
            return (self.last.busy_ms - self.first.busy_ms) * self.compute_units
        return int((self.last.at - self.first.at).total_seconds() * 1000) * self.compute_units


@dataclass(frozen=True, slots=True)
class Comparison:
    """Old and new in thousandths of output tokens per second and 100 compute units, and new by old in thousandths."""

    old: int
    new: int
    ratio: int


def compared(windows: Iterable[Window], old: Version, new: Version) -> Comparison | None:
    """Throughput per compute unit of both sides; None: not measurable."""
    listed = tuple(windows)
    sums = []
    for version in (old, new):
        side = [window for window in listed if window.version == version]
        tokens, unit_ms = sum(each.tokens for each in side), sum(each.unit_ms for each in side)
        if tokens < MEASURABLE_TOKENS or unit_ms <= 0:
            return None
        sums.append((tokens, unit_ms))
    (old_tokens, old_ms), (new_tokens, new_ms) = sums
    return Comparison(
        old=_rounded(old_tokens * 100_000_000, old_ms),
        new=_rounded(new_tokens * 100_000_000, new_ms),
        ratio=_rounded(1000 * new_tokens * old_ms, new_ms * old_tokens),
    )


def _rounded(numerator: int, denominator: int) -> int:
    return (2 * numerator + denominator) // (2 * denominator)
