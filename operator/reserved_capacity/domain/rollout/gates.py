"""What keeps a rollout from beginning its next step: an ordered chain, the first objection stands (S4).

Going back, be it by its author's wish or after a failure, waits for neither canary nor window: only a pause holds it.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from reserved_capacity.domain.notices import moment

from . import words
from .values import Approval, RolloutPhase, RolloutState
from .walk import Stop, Walk

Gate = Callable[[Walk], Stop | None]


def gate(walk: Walk) -> Stop | None:
    return next((stop for check in _GATES if (stop := check(walk)) is not None), None)


def _held_back(walk: Walk) -> Stop | None:
    return Stop(RolloutPhase.BLOCKED, blocked_on=walk.spec.held_back) if walk.spec.held_back else None


def _paused(walk: Walk) -> Stop | None:
    if not walk.spec.paused:
        return None
    return Stop(RolloutPhase.PAUSED, blocked_on="spec.upgrade.paused is true: set it to false to go on")


def _unready(walk: Walk) -> Stop | None:
    """Nobody else moves to a version of which a member has stopped serving."""
    if walk.record.unready_since is None or walk.record.state is not RolloutState.RUNNING:
        return None
    down = [each.member for each in walk.news if not walk.ground.serves(each.member)]
    return Stop(RolloutPhase.PROGRESSING, f"waits for {', '.join(down)} to serve")


def _canary(walk: Walk) -> Stop | None:
    canary, record = walk.spec.canary, walk.record
    if canary is None or not walk.under_canary:
        return None
    if len(walk.news) + len(record.vacated) < canary.instances:
        return None
    if record.canary_since is None:
        return Stop(RolloutPhase.CANARY)
    if canary.approval is Approval.MANUAL:
        return Stop(RolloutPhase.AWAITING_APPROVAL, blocked_on=words.approve(record))
    until = record.canary_since + canary.hold
    return Stop(RolloutPhase.CANARY, f"the canary serves and goes on at {moment(until)}", until=until)


def _window(walk: Walk) -> Stop | None:
    window, record = walk.spec.window, walk.record
    if window.open or record.goes_back or record.state is not RolloutState.RUNNING:
        return None
    opens = f"opens at {moment(window.changes_at)}" if window.changes_at else "does not open again"
    told = f"the pool's maintenance window {opens}"
    return Stop(RolloutPhase.AWAITING_WINDOW, blocked_on=told, until=window.changes_at)


_GATES: Final[tuple[Gate, ...]] = (_held_back, _paused, _unready, _canary, _window)
