"""How the history of a pool goes on: from who had CU of it, and who has now, to the intervals that end and begin (M6, C4)."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, replace
from datetime import datetime

from reserved_capacity.domain.billing.intervals import Interval, IntervalKind


@dataclass(frozen=True, slots=True)
class Presence:
    """Somebody who has CU of a pool now; of a commitment, also that it has none. `since`: from when on, if that is known;
    then not from the look at it."""

    kind: IntervalKind
    subject: str
    owner: str
    compute_units: int
    since: datetime | None = None


@dataclass(frozen=True, slots=True)
class IntervalChanges:
    """`ended` are lasting intervals with their end filled in, `begun` new ones that last."""

    ended: tuple[Interval, ...] = ()
    begun: tuple[Interval, ...] = ()


def plan_intervals(
    pool: tuple[str, str],
    lasting: Collection[Interval],
    present: Collection[Presence],
    at: datetime,
    ends: Mapping[tuple[IntervalKind, str], datetime],
) -> IntervalChanges:
    """What changes in the history of a pool (namespace, name) when `present` is everybody who has CU of it at `at`.

    `lasting` are the pool's intervals without an end; `ends` says, by kind and subject, when the last ended one of those
    who are present ended. Somebody whose CU or owner differ ends and begins anew. Nothing ends before it began, and
    nobody begins before what they had has ended: a clock that jumped back counts nothing twice.
    """
    now_there = {(each.kind, each.subject): each for each in present}
    before = {(each.kind, each.subject): each for each in lasting}
    ended = {
        key: replace(was, until=max(at, was.since))
        for key, was in before.items()
        if key not in now_there
        or (now_there[key].owner, now_there[key].compute_units) != (was.owner, was.compute_units)
    }
    begun = []
    for key, each in now_there.items():
        if key in before and key not in ended:
            continue
        since = min(each.since or at, at)
        last_end = ended[key].until if key in ended else ends.get(key)
        since = max(since, last_end) if last_end is not None else since
        begun.append(Interval(*pool, each.kind, each.subject, each.owner, each.compute_units, since))
    return IntervalChanges(
        tuple(ended[key] for key in sorted(ended)), tuple(sorted(begun, key=lambda each: (each.kind, each.subject)))
    )
