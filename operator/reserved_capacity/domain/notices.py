"""Notices of an end: 90, 30, 7 and 1 days ahead, as values (behaviour.md M8).

A notice follows from the dates alone, so it is the same whenever it is computed, and its key is the same for whoever sends
it. What is sent where is not decided here: the pool's condition and an Event carry the newest one.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from .terms import CommitmentRecord

NOTICE_DAYS = (90, 30, 7, 1)


@dataclass(frozen=True, slots=True)
class Notice:
    """That a term of a commitment ends within so many days; due `at`, or when the end became known if that is later."""

    commitment: str
    number: int
    days: int
    at: datetime
    ends_at: datetime

    @property
    def key(self) -> str:
        """What is sent under it is sent once; an end that is brought forward is another one."""
        return f"{self.commitment}/{self.ends_at.astimezone(UTC):%Y-%m-%d}/Notice{self.days}"

    @property
    def message(self) -> str:
        days = f"{self.days} days" if self.days > 1 else "1 day"
        return f"commitment {self.commitment} ends within {days}, at {moment(self.ends_at)}"


def notices_of(record: CommitmentRecord) -> tuple[Notice, ...]:
    """All notices of the record's present term, those to come included; none before its end is known.

    Of several that would have been due before the end was known, only the most urgent is given.
    """
    if record.term_end is None:
        return ()
    known = _known_since(record)
    at = {days: max(record.term_end - timedelta(days=days), known) for days in NOTICE_DAYS}
    return tuple(
        Notice(record.id, record.number, days, at[days], record.term_end)
        for days in NOTICE_DAYS
        if at[days] < record.term_end and not any(at[less] == at[days] for less in NOTICE_DAYS if less < days)
    )


def newest_notice(record: CommitmentRecord, now: datetime) -> Notice | None:
    """The notice that is in force: the last one that is due. None for what has ended, or ends later."""
    if record.ended:
        return None
    due = [notice for notice in notices_of(record) if notice.at <= now]
    return due[-1] if due else None


def _known_since(record: CommitmentRecord) -> datetime:
    """Since when the end is what it is: from the start of the term, unless an agreement has brought it forward."""
    agreed = [
        each.seen_at for each in record.reductions if not each.compute_units and each.holds_from == record.term_end
    ]
    start = record.billing_start or record.accepted_at
    return max([start, *agreed[:1]])


def some_of(names: Sequence[str], most: int) -> str:
    """So many of the names; the others are counted."""
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return ", ".join(names[:most]) + more


def moment(at: datetime) -> str:
    return f"{at.astimezone(UTC):%Y-%m-%dT%H:%M:%SZ}"
