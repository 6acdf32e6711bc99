"""Who had how many CU of a pool, from when to when: the history behind Used and Unused (M6) and Shortfall (C4)."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Final

MOMENT: Final = timedelta(microseconds=1)
"""The grain of time in which CU are counted, so that they are counted in integers."""
DAY_MOMENTS: Final = timedelta(days=1) // MOMENT


class IntervalKind(StrEnum):
    HELD = "Held"
    """`subject` is a member, `owner` its ModelInstance."""
    PROVISIONED = "Provisioned"
    """`subject` and `owner` are a commitment: the CU of it that were provisioned."""


@dataclass(frozen=True, slots=True)
class Interval:
    """`until` None: it lasts. Half-open: [since, until).

    Intervals of one subject do not overlap. A time that none of a commitment covers is unknown, which is not the same as
    an interval with 0 CU: on a day on which there was no pool, be it for a moment, nothing is taken for missing (M9).
    """

    namespace: str
    pool: str
    kind: IntervalKind
    subject: str
    owner: str
    compute_units: int
    since: datetime
    until: datetime | None = None

    def moments_between(self, start: datetime, end: datetime) -> int:
        """How much of [start, end) the interval covers, in units of MOMENT."""
        since = max(self.since, start)
        until = end if self.until is None else min(self.until, end)
        return (until - since) // MOMENT if since < until else 0
