"""What already stands in the books of one contract: what a planner compares with what should stand there."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import date

from reserved_capacity.domain.billing.contracts import Contract
from reserved_capacity.domain.billing.ledger import Book, EntryKind


@dataclass(frozen=True, slots=True)
class Posted:
    """Of the rows of a contract with a day in [billing_start, end): how many of each kind, and what they sum to.

    `first_charged` and `last_charged` are the earliest and the latest day with a Charge: without a gap,
    last - first + 1 is the number of Charges. `through` is the latest day with any row but a Correction. What has no row
    is absent from the mappings.
    """

    rows: Mapping[EntryKind, int] = field(default_factory=dict)
    amounts_minor: Mapping[EntryKind, int] = field(default_factory=dict)
    books_minor: Mapping[Book, int] = field(default_factory=dict)
    first_charged: date | None = None
    last_charged: date | None = None
    through: date | None = None


@dataclass(frozen=True, slots=True)
class PostedContract:
    """A contract, and what of it is posted."""

    contract: Contract
    posted: Posted


@dataclass(frozen=True, slots=True)
class DueContract:
    """A contract with something to post. `posted_through` is as `Posted.through`."""

    contract: Contract
    posted_through: date | None
