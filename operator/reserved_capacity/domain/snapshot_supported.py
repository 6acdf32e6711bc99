"""The condition SnapshotSupported of every object that pins a snapshot, and the notices of its dates (behaviour.md S8).

The dates are told from the day they are known, in words that change only when something is due, so that each notice is an
Event once: when the condition begins to say it. Nothing here stops anything.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta

from .conditions import ConditionValue, condition
from .lifecycle import Lifecycle, LifecycleDates, lifecycle_of, next_change
from .notices import NOTICE_DAYS, moment
from .reasons.instance import SnapshotSupported

TYPE = "SnapshotSupported"
# What every message of a snapshot has in it whose retirement comes earlier than was promised.
EMERGENCY_MARK = "(emergency: "
_DAY = timedelta(days=1)
_LEADS = {timedelta(days=days): f"{days} days" if days > 1 else "1 day" for days in sorted(NOTICE_DAYS)}


@dataclass(frozen=True, slots=True)
class PinnedSnapshot:
    """A snapshot as its offering lists it. `emergency`: why its pinned objects are flagged; empty where they are not.

    Of an instance that has opted in to move by itself it is the one that it shall run: `moves_at` is when it gives way to
    `replacement`, and `instead_of` the one that its spec names, where it has given way already.
    """

    name: str
    dates: LifecycleDates
    replacement: str = ""
    emergency: str = ""
    moves_at: datetime | None = None
    instead_of: str = ""


@dataclass(frozen=True, slots=True)
class SnapshotNotice:
    """What is told of a snapshot's dates now; `reason` is an Event's."""

    reason: str
    message: str
    warns: bool


def snapshot_supported(pinned: PinnedSnapshot, *, now: datetime) -> ConditionValue:
    notice = notice_of(pinned, now=now)
    if notice is None:
        said = f"{pinned.name} is {'a preview' if _reason(pinned, now) is SnapshotSupported.PREVIEW else 'current'}"
        return condition(TYPE, _reason(pinned, now), f"{said}; no end of it is announced{_given_way(pinned)}")
    return condition(TYPE, _reason(pinned, now), f"{notice.message}; {_next_step(pinned)}")


def notice_of(pinned: PinnedSnapshot, *, now: datetime) -> SnapshotNotice | None:
    """The notice in force; None where no date of an end is known and no emergency is stated."""
    lifecycle, left = lifecycle_of(pinned.dates, now=now), _left(pinned.dates, now)
    flag = f" {EMERGENCY_MARK}{pinned.emergency})" if pinned.emergency else ""
    if lifecycle is Lifecycle.RETIRED:
        said = f"{_retirement(pinned, 'retired')}{flag}: what serves stays, nothing new is placed on it"
        return SnapshotNotice("SnapshotRetired", said, warns=True)
    deprecated = _deprecation(pinned, lifecycle)
    if left is None:
        said = ", ".join(filter(None, (deprecated, f"its retirement is not announced{flag}")))
        if not deprecated and not flag:
            return None
        return SnapshotNotice("SnapshotDeprecated", f"{pinned.name} {said}", warns=bool(flag))
    lead = next((words for lead, words in _LEADS.items() if left <= lead), "")
    said = " and ".join(
        filter(None, (deprecated, f"retires{f' within {lead},' if lead else ''} at {_at(pinned)}{flag}"))
    )
    return SnapshotNotice("SnapshotRetires", f"{pinned.name} {said}", warns=bool(lead or flag))


def days_to_retirement(dates: LifecycleDates, *, now: datetime) -> int | None:
    """Whole days until then; negative when past."""
    left = _left(dates, now)
    return left // _DAY if left is not None else None


def next_word(pinned: PinnedSnapshot, *, now: datetime) -> datetime | None:
    """When anything that is said of the snapshot changes by itself: a date, a notice, the count of days."""
    moments, retires = [next_change(pinned.dates, now=now)], pinned.dates.retires_at
    if retires is not None:
        moments += [retires - lead for lead in _LEADS]
        # A whole day less is left just after its moment, not at it.
        moments.append(retires - (retires - now) // _DAY * _DAY + timedelta(seconds=1))
    return min((at for at in moments if at is not None and at > now), default=None)


def _reason(pinned: PinnedSnapshot, now: datetime) -> SnapshotSupported:
    lifecycle, left = lifecycle_of(pinned.dates, now=now), _left(pinned.dates, now)
    if lifecycle is not Lifecycle.RETIRED and left is not None and left <= max(_LEADS):
        return SnapshotSupported.RETIRING_SOON
    return SnapshotSupported.of(lifecycle.value)


def _deprecation(pinned: PinnedSnapshot, lifecycle: Lifecycle) -> str:
    day = pinned.dates.deprecated_from
    if day is None:
        return ""
    return f"is deprecated since {day}" if lifecycle is Lifecycle.DEPRECATED else f"will be deprecated from {day} on"


def _retirement(pinned: PinnedSnapshot, verb: str) -> str:
    return f"{pinned.name} {verb} at {_at(pinned)}"


def _at(pinned: PinnedSnapshot) -> str:
    assert pinned.dates.retires_at is not None, "asked for snapshots that retire"  # noqa: S101
    return moment(pinned.dates.retires_at)


def _next_step(pinned: PinnedSnapshot) -> str:
    if pinned.moves_at is not None:
        return f"moves by itself at {moment(pinned.moves_at)} to {pinned.replacement}{_given_way(pinned)}"
    return f"{_by_hand(pinned)}{_given_way(pinned)}"


def _given_way(pinned: PinnedSnapshot) -> str:
    """The spec is its author's: what the instance has moved to by itself is not written there."""
    if not pinned.instead_of:
        return ""
    return f"; spec.snapshot still names {pinned.instead_of}, which gave way by spec.upgrade.autoUpgrade"


def _by_hand(pinned: PinnedSnapshot) -> str:
    if pinned.replacement:
        return f"set spec.snapshot to {pinned.replacement}"
    return "no replacement is named: choose another of the offering's snapshots, or ask the provider"


def _left(dates: LifecycleDates, now: datetime) -> timedelta | None:
    return dates.retires_at - now if dates.retires_at is not None else None
