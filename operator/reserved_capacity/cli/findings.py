"""What the conditions of an object come to: which one decides, what it means, and what to do. Pure.

`CONDITION_REASONS` gives the order of precedence and the reasons' meanings; nothing is worded twice.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum

from reserved_capacity.api.base import ApiObject
from reserved_capacity.api.conditions import CONDITION_REASONS, Condition, ConditionType, StatusModel
from reserved_capacity.api.meta import Kind
from reserved_capacity.domain.reasons.base import NOTHING_TO_DO, ConditionStatus, Ready, Reason
from reserved_capacity.domain.reasons.instance import Available, SnapshotSupported, UpToDate
from reserved_capacity.domain.snapshot_supported import EMERGENCY_MARK

_ASKED_FOR = frozenset({Available.SCALED_TO_ZERO.value, Available.SUSPENDED.value})
_HELD = frozenset({UpToDate.AWAITING_APPROVAL.value, UpToDate.PAUSED.value})  # on its way as soon as a person says so
_AHEAD = frozenset(
    {SnapshotSupported.DEPRECATED.value, SnapshotSupported.RETIRING_SOON.value}
)  # True, and for how long
_EARLY = "It ends earlier than was promised: plan the move now, or ask the provider."
_KSTATUS = frozenset({ConditionType.RECONCILING.value, ConditionType.STALLED.value})  # not positive, and said by Ready


class Level(StrEnum):
    """What an object, or one of its conditions, asks of the reader."""

    FINE = "Fine"
    ASKED = "Asked"  # not True because the spec wants it so
    WARNING = "Warning"  # not True, or not for long, but not what keeps the object from being Ready
    MOVING = "Moving"  # on its way by itself
    ACT = "Act"  # somebody has to do something


@dataclass(frozen=True, slots=True)
class Finding:
    """One reason for which conditions are not True, or will not stay so, with all conditions that give it."""

    types: tuple[str, ...]
    status: str
    reason: str
    message: str
    meaning: str
    remedy: str
    since: datetime
    level: Level
    decides: bool


@dataclass(frozen=True, slots=True)
class Verdict:
    """The object as a whole. `ready` is True, False, Unknown or empty (no status yet); `note` says why the status is
    not to be relied on; `findings` begin with the one that decides; `remark` is what a True `Ready` adds: what is
    left to do though it serves."""

    level: Level
    ready: str
    reason: str
    message: str
    note: str
    findings: tuple[Finding, ...]
    remark: str = ""

    @property
    def decider(self) -> Finding | None:
        """What keeps the object from being Ready, or None."""
        return next((finding for finding in self.findings if finding.decides), None)


def verdict_of(obj: ApiObject, status: StatusModel) -> Verdict:
    kind = Kind(obj.kind)
    chain = chain_of(kind, status)
    findings = _findings(kind, chain)
    head = _head(chain)
    note = _note(obj, status)
    if head is None:
        return Verdict(Level.MOVING, "", "", "", note, ())
    level = _level_of(head, note)
    return Verdict(level, head.status.value, head.reason, head.message, note, findings, _remark(kind, head))


def chain_of(kind: Kind, status: StatusModel) -> tuple[Condition, ...]:
    """The conditions in the order in which they decide, `Ready` last; unknown ones (a newer operator's) before it."""
    order = [type_.value for type_ in CONDITION_REASONS[kind] if type_ is not ConditionType.READY]
    places = {type_: place for place, type_ in enumerate(order)} | {ConditionType.READY.value: len(order) + 1}
    shown = [condition for condition in status.conditions if condition.type not in _KSTATUS]
    return tuple(sorted(shown, key=lambda condition: (places.get(condition.type, len(order)), condition.type)))


def reason_of(kind: Kind, type_: str, word: str) -> Reason | None:
    """The reason with that word: of this condition, else of any of the kind (`Ready` borrows); None if unknown."""
    enums = CONDITION_REASONS[kind]
    own = [enum for condition, enum in enums.items() if condition.value == type_]
    candidates: tuple[type[Reason], ...] = (*own, *enums.values(), Ready)
    for enum in candidates:
        if word in {member.value for member in enum}:
            return enum.of(word)
    return None


def _head(chain: tuple[Condition, ...]) -> Condition | None:
    """The condition that speaks for the object: `Ready`; without it the first that is not True, else the first."""
    ready = next((each for each in chain if each.type == ConditionType.READY), None)
    return ready or next((each for each in chain if not _true(each)), None) or next(iter(chain), None)


def _remark(kind: Kind, head: Condition) -> str:
    """An instance that serves says first how many do, then which member cannot leave its node, or waits for a fence."""
    return head.message.partition("; ")[2] if kind is Kind.MODEL_INSTANCE and _true(head) else ""


def _level_of(head: Condition, note: str) -> Level:
    if head.status is ConditionStatus.FALSE:
        return Level.ACT
    if head.reason in _HELD and not note:
        return Level.WARNING
    return Level.MOVING if note or head.status is ConditionStatus.UNKNOWN else Level.FINE


def _findings(kind: Kind, chain: tuple[Condition, ...]) -> tuple[Finding, ...]:
    head = _head(chain)
    groups: dict[tuple[str, str], list[Condition]] = {}
    for condition in chain:
        if not _true(condition) or _ahead(condition):
            groups.setdefault((condition.reason, condition.message), []).append(condition)
    found = [_finding(kind, group, head) for group in groups.values()]
    return tuple(sorted(found, key=lambda finding: not finding.decides))


def _finding(kind: Kind, group: list[Condition], head: Condition | None) -> Finding:
    first = group[0]
    reason = reason_of(kind, first.type, first.reason)
    decides = head is not None and head in group
    # `Ready` may be Unknown over a condition that is False: it is what says whether somebody has to act.
    status = head.status if decides and head is not None else first.status
    return Finding(
        types=tuple(condition.type for condition in group),
        status=status.value,
        reason=first.reason,
        message=first.message,
        meaning=reason.meaning if reason else "",
        remedy=_EARLY if _true(first) and first.reason not in _AHEAD else _remedy(reason),
        since=min(condition.last_transition_time for condition in group),
        level=_finding_level(first.reason, status, decides=decides),
        decides=decides,
    )


def _remedy(reason: Reason | None) -> str:
    return reason.remedy if reason and reason.remedy != NOTHING_TO_DO else ""


def _finding_level(reason: str, status: ConditionStatus, *, decides: bool) -> Level:
    if reason in _ASKED_FOR and not decides:
        return Level.ASKED
    if status is ConditionStatus.UNKNOWN:
        return Level.WARNING if reason in _HELD else Level.MOVING
    return Level.ACT if decides else Level.WARNING


def _note(obj: ApiObject, status: StatusModel) -> str:
    if obj.metadata.deletion_timestamp is not None:
        return "It is being deleted."
    if not status.conditions:
        return "It has no status yet: the operator has not looked at it."
    generation = obj.metadata.generation
    if status.observed_generation < generation:
        return (
            f"The status is of generation {status.observed_generation}, the spec is at {generation}: the operator has "
            "not looked at the newest spec yet."
        )
    return ""


def _ahead(condition: Condition) -> bool:
    """True, and for how long: an end is near, or comes earlier than was promised, however far away it still is."""
    return condition.reason in _AHEAD or (
        condition.type == ConditionType.SNAPSHOT_SUPPORTED and EMERGENCY_MARK in condition.message
    )


def _true(condition: Condition) -> bool:
    return condition.status is ConditionStatus.TRUE
