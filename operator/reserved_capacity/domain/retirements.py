"""What was promised of a snapshot's retirement, and whether its date keeps to that (behaviour.md S8).

The API server refuses a date that moves earlier, or that is first set inside a commitment, as far as one object and the
status last written tell it. What slips by (the status was old, the operator was down, a date was taken away and set again)
is found here, when the date is first seen, and remembered until the promise is kept again.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from .notices import moment


@dataclass(frozen=True, slots=True)
class Retirement:
    """A retirement date as it was last seen. `promised`: the date before which the snapshot was not to retire and which
    this one undercuts; None where it undercuts none."""

    at: datetime
    promised: datetime | None = None


def judge_retirement(
    before: Retirement | None, at: datetime | None, *, known: bool, committed_until: datetime | None
) -> Retirement | None:
    """The date that stands now, judged by what was seen `before`.

    `known`: what stands now stood already when the offering was last looked at, or came with the snapshot; then a date
    without a record is no news. `committed_until`: the latest end of a commitment that pins the snapshot.
    """
    if at is None:
        return None
    if before is None:
        surprise = not known and committed_until is not None and at < committed_until
        return Retirement(at, committed_until if surprise else None)
    promised = before.promised or before.at
    return Retirement(at, promised if at < promised else None)


def emergency_of(stated: str, retirement: Retirement | None) -> str:
    """Why every object that pins the snapshot is flagged: the provider's reason, or that there is none. Empty: it is not."""
    if stated:
        return stated
    if retirement is None or retirement.promised is None:
        return ""
    return (
        f"the date is earlier than {moment(retirement.promised)}, before which it was not to retire, and the provider "
        "states no emergency.reason"
    )
