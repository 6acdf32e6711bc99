"""Who had how many CU of a pool, from when to when: the history behind Used and Unused (M6) and Shortfall (C4)."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum


class IntervalKind(StrEnum):
    HELD = "Held"
    """`subject` is a member, `owner` its ModelInstance."""
    PROVISIONED = "Provisioned"
    """`subject` and `owner` are a commitment: the CU of it that were provisioned."""


@dataclass(frozen=True, slots=True)
class Interval:
    """`until` None: it lasts. Half-open: [since, until)."""

    namespace: str
    pool: str
    kind: IntervalKind
    subject: str
    owner: str
    compute_units: int
    since: datetime
    until: datetime | None = None
