"""The sentences of a rollout: need, have, and the next step (api.md: a blocked rollout says `need 300 CU, spare 0`)."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta

from reserved_capacity.domain.notices import some_of

from .values import ROLLBACK_FAILED, Failure, RolloutRecord


def lasting(time: timedelta) -> str:
    """As the API writes durations: 1h30m."""
    seconds = int(time.total_seconds())
    parts = ((seconds // 3600, "h"), (seconds // 60 % 60, "m"), (seconds % 60, "s"))
    return "".join(f"{number}{unit}" for number, unit in parts if number) or "0s"


def need(need_cu: int, spare_cu: int, largest_cu: int, nodes: int = 1) -> str:
    """What a new member needs, and what the pool has beside what is held and promised."""
    if spare_cu < need_cu:
        return f"need {need_cu} CU, spare {spare_cu}"
    if nodes > 1:
        return f"need {need_cu} CU on {nodes} nodes of one topology domain, spare {spare_cu} but not there"
    return f"need {need_cu} CU on one node, spare {spare_cu} in pieces of at most {largest_cu}"


def no_spare(what: str, need_cu: int, *, borrows: bool, floor: str = "") -> str:
    """`floor`: what else has to be given up to go in place."""
    in_place = f"InPlace (with minAvailable below the instances{f', and {floor}' if floor else ''})"
    if borrows:
        return (
            f"{what}; BorrowSpare takes it from the class as soon as {need_cu} CU are unclaimed there: add a node, set "
            f"spec.upgrade.whenNoSpare to {in_place} instead, or free {need_cu} CU in the pool"
        )
    return (
        f"{what}, so nothing is stopped: set spec.upgrade.whenNoSpare to {in_place} or to BorrowSpare, or free {need_cu} CU "
        "in the pool"
    )


def asks_for(need_cu: int) -> str:
    return f"asks the class to lend {need_cu} CU"


def floor_given_up(offering: str, least: int) -> str:
    return f"acceptBelowMinimum, as the minimum of {offering} is {least}"


def why_surge(need_cu: int, spare_cu: int, surge: int, *, borrowed: bool) -> str:
    lent = " (borrowed from the class, unbilled)" if borrowed else ""
    return (
        f"Surge: a new member needs {need_cu} CU and {spare_cu} are spare{lent}, so {surge} at a time "
        f"serve{'s' if surge == 1 else ''} before the old one goes"
    )


def why_in_place(what: str) -> str:
    return f"InPlace: {what}, so members go one by one"


def below_min_available(serving: int, least: int) -> str:
    return (
        f"stopping one more would leave {serving - 1} serving, minAvailable is {least}: lower spec.upgrade.minAvailable, "
        "or free room for a new member to serve first"
    )


def below_minimum(offering: str, serving: int, least: int, down: Sequence[str]) -> str:
    """`down` are members of the offering that do not serve."""
    left = f"{serving - 1} instance{'' if serving == 2 else 's'}"
    remedy = f"get {some_of(down, 3)} to serve" if down else "free room for a new member to serve first"
    return (
        f"stopping one more would leave {left} of {offering} serving, its minimum is {least}: set "
        f"spec.upgrade.acceptBelowMinimum to true, or {remedy}"
    )


def approve(record: RolloutRecord) -> str:
    return (
        f"the canary serves: set spec.upgrade.canary.approvedRollout to {record.id} to go on, or the snapshot and profile "
        f"back to {record.source} to undo it"
    )


def failed_back(message: str, first: Failure) -> str:
    return f"{message}; it was to go back, because {first.message}"


def halted(record: RolloutRecord, failure: Failure) -> str:
    """What stopped it, and what gets it going again: the next attempt is an edit of the spec."""
    if failure.reason == ROLLBACK_FAILED:
        remedy = (
            f"neither comes up, so nothing moves: remove the cause and set the snapshot and profile to {record.source}, or "
            "to another version that serves"
        )
    elif record.goes_back:
        remedy = (
            "there is nothing further to go back to: set the snapshot and profile to a version that serves, or remove the "
            "cause and change something of spec.upgrade for another attempt"
        )
    else:
        remedy = f"correct the spec, or set the snapshot and profile back to {record.source}"
    return f"{failure.message}: {remedy}"
