"""What a TokenUnitReservation says of itself: one function per condition, one reducer for Ready (api.md)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from reserved_capacity.domain.conditions import ConditionValue, condition
from reserved_capacity.domain.reasons.base import ConditionStatus, Ready
from reserved_capacity.domain.reasons.tokens import CapacityBacked, LimitPublished, TokensAccepted
from reserved_capacity.domain.tokens.orders import Kept


@dataclass(frozen=True, slots=True)
class TokenRefusal:
    """Why nothing more is bought; what is bought already stays."""

    reason: TokensAccepted
    message: str


def tokens_accepted(refusal: TokenRefusal | None, kept: Sequence[Kept]) -> ConditionValue:
    if refusal is not None:
        return condition("Accepted", refusal.reason, refusal.message)
    if kept:
        parts = " and ".join(
            f"{each.units} {each.direction.lower()} units until {each.until}T00:00:00Z" for each in kept
        )
        return condition(
            "Accepted",
            TokensAccepted.MINIMUM_TERM_NOT_REACHED,
            f"the minimum term is not over: {parts} are kept, and the entitlement with them; they are removed then, "
            "unless spec.units is put back before",
        )
    return condition("Accepted", TokensAccepted.ACCEPTED, "the order is complete and can be fulfilled")


@dataclass(frozen=True, slots=True)
class FleetReport:
    """The fleet of one snapshot against what is sold of it.

    `need_cu` carry what is sold, `have_cu` are those that the fleet's instance holds and the pool has idle. `pool` is
    namespace/name, empty where the offering names none; `missing` says what is not there at all.
    """

    snapshot: str
    pool: str
    instance: str
    wanted: int
    available: int
    need_cu: int
    have_cu: int
    missing: str = ""


def capacity_backed(report: FleetReport | None, *, carried: bool, started: bool) -> ConditionValue:
    """`carried`: all that the reservation bought is granted on its snapshot, and served. `started`: it counted before."""
    if carried or report is None:
        served = (
            f"{report.available} instances of {report.instance} carry what is sold" if report else "nothing is sold"
        )
        return condition("CapacityBacked", CapacityBacked.BACKED, served)
    kept = "; what counted before goes on counting" if started else "; it counts, and is charged, from then on"
    if report.missing:
        return condition("CapacityBacked", CapacityBacked.INSUFFICIENT_CAPACITY, f"{report.missing}{kept}")
    if report.need_cu > report.have_cu:
        return condition(
            "CapacityBacked",
            CapacityBacked.INSUFFICIENT_CAPACITY,
            f"need {report.need_cu} CU for what is sold of {report.snapshot}, have {report.have_cu} in pool {report.pool}: "
            f"add {report.need_cu - report.have_cu} CU to it{kept}",
        )
    return condition(
        "CapacityBacked",
        CapacityBacked.FLEET_STARTING,
        f"{report.available} of {report.wanted} instances of ModelInstance {report.instance} serve; wait{kept}",
    )


def limit_published(failure: str | None, revision: int | None, place: str) -> ConditionValue:
    """`revision` is the one that was read back from `place`; None: not yet."""
    if failure or revision is None:
        return condition(
            "LimitPublished",
            LimitPublished.PUBLISHING,
            f"the limit is being written to {place}" + (f": {failure}" if failure else ""),
        )
    return condition("LimitPublished", LimitPublished.PUBLISHED, f"{place} has it, in revision {revision}")


def limit_at_gateway(*, accepted: bool | None, policy: str, words: str) -> ConditionValue:
    """`policy` is in the cluster; `words` are the gateway's, or say what is waited for."""
    reason = {
        True: LimitPublished.ACCEPTED_BY_GATEWAY,
        False: LimitPublished.GATEWAY_REJECTED,
        None: LimitPublished.PUBLISHING,
    }[accepted]
    return condition("LimitPublished", reason, f"{policy}: {words}")


def ready(conditions: Sequence[ConditionValue], summary: str) -> ConditionValue:
    """The first of those that count which is not True decides."""
    for value in conditions:
        if value.status is not ConditionStatus.TRUE:
            return ConditionValue("Ready", value.status, value.reason, value.message)
    return ConditionValue("Ready", ConditionStatus.TRUE, Ready.READY.value, summary)
