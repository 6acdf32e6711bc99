"""How the next step begins: with a new member where there is spare room, or by stopping an old one (S2, S3).

The strategy is chosen when the first member moves, and kept. Only where the room that it was chosen for is lost, with no
member on the move, is it chosen again: a rollout must not hang in its middle.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from datetime import timedelta
from typing import Final

from reserved_capacity.domain.holdings import MAX_MEMBERS, Holding
from reserved_capacity.domain.units import cu_of

from . import words
from .values import RolloutPhase, Strategy, WhenNoSpare
from .walk import Stop, Walk

_ANSWER: Final = timedelta(seconds=10)
_MOVING = Stop(RolloutPhase.PROGRESSING)


def begin(walk: Walk, *, decide: bool) -> Stop | None:
    """Begin what may begin; returns why not more. None: only a decision is missing, and this is not the time for it."""
    if walk.spec.suspended:
        return _begin_in_place(walk, "")
    strategy = walk.record.strategy or (Strategy.IN_PLACE if walk.spec.strategy is Strategy.IN_PLACE else None)
    if strategy is Strategy.IN_PLACE:
        walk.give_back()  # what was borrowed under another spec
    decide = decide or bool(walk.record.borrowed)  # what was borrowed for it is nobody else's
    if walk.record.strategy is None and not decide:
        return None
    if strategy is Strategy.IN_PLACE:
        return _begin_in_place(walk, words.why_in_place("spec.upgrade.strategy is InPlace"))
    return _begin_surge(walk, decide=decide)


def allowed(walk: Walk) -> int:
    """Members that may be of the new version beyond those that are: all, unless it is a canary still."""
    todo = len(walk.candidates)
    if not walk.under_canary or walk.spec.canary is None:
        return todo
    return max(0, min(todo, walk.spec.canary.instances - len(walk.news) - len(walk.record.vacated)))


def _begin_surge(walk: Walk, *, decide: bool) -> Stop | None:
    fixed = walk.record.surge if walk.record.strategy is Strategy.SURGE else 0
    surge = fixed or _fitting(walk)
    todo = min((fixed or walk.spec.max_surge) - len(walk.moves), allowed(walk))
    if todo <= 0:
        return _MOVING
    why = words.why_surge(
        cu_of(walk.request.blocks), walk.ground.spare_cu(), surge, borrowed=bool(walk.record.borrowed)
    )
    stop, started = _place(walk, walk.candidates[:todo])
    if started and not fixed:
        walk.record = replace(walk.record, strategy=Strategy.SURGE, surge=surge, why=_whole(walk, why))
    if started or stop is not None or walk.in_flight:
        return stop or _MOVING
    if walk.ground.fits_when_released(walk.request):
        need = cu_of(walk.request.blocks)
        return Stop(RolloutPhase.PROGRESSING, f"waits for {need} CU that are being given back")
    return _without_spare(walk) if decide else None


def _fitting(walk: Walk) -> int:
    """New members that have room now, beside the old ones."""
    most = min(walk.spec.max_surge, len(walk.candidates))
    return next((count for count in range(most, 0, -1) if walk.ground.fits(walk.request, count)), 0)


def _place(walk: Walk, olds: Sequence[Holding]) -> tuple[Stop | None, int]:
    for started, old in enumerate(olds):
        nodes = walk.ground.find(walk.request)
        if nodes is None:
            return None, started
        if lacking := lacking_of(walk, nodes):
            return _prefetching(walk, lacking), started
        new = walk.ground.place(walk.demand, walk.request, walk.record.toward, replaces=old.member)
        if new is not None:
            walk.record = replace(walk.record, starting=(*walk.record.starting, new.member))
    return None, len(olds)


def _without_spare(walk: Walk) -> Stop:
    """S2: `whenNoSpare` decides."""
    ground, request = walk.ground, walk.request
    need = cu_of(request.blocks)
    what = words.need(need, ground.spare_cu(), ground.largest_piece_cu(), request.nodes)
    if ground.room.members <= 0:
        what = f"{what}: the pool has {MAX_MEMBERS} members, as many as it may have"
    choice = walk.spec.when_no_spare
    if choice is WhenNoSpare.IN_PLACE:
        return _begin_in_place(walk, words.why_in_place(f"{what}, and spec.upgrade.whenNoSpare is InPlace"))
    borrows, asks = choice is WhenNoSpare.BORROW_SPARE, not walk.record.borrowed
    walk.record = replace(walk.record, borrowed=walk.blocks_to_borrow if borrows else 0)
    if borrows and asks:
        # The class answers in a moment. Nobody has to act before it has had the time.
        return Stop(RolloutPhase.PROGRESSING, words.asks_for(need), until=walk.now + _ANSWER)
    floor = words.floor_given_up(walk.demand.offering, walk.demand.min_instances) if walk.at_the_floor else ""
    blocked_on = words.no_spare(what, need, borrows=borrows, floor=floor)
    in_pieces = request if ground.spare_cu() >= need else None
    return Stop(RolloutPhase.BLOCKED, blocked_on=blocked_on, wanted=in_pieces)


def _begin_in_place(walk: Walk, why: str) -> Stop:
    """Stop one old member, whose place the new one takes; one at a time."""
    if walk.in_flight or not allowed(walk):
        return _MOVING
    moving = {heir.member for heir in walk.ground.heirs(walk.spec.instance).values()}
    candidates = [each for each in walk.candidates if each.member not in moving]
    usable = [each for each in candidates if walk.ground.usable(each)]
    if not candidates:
        return Stop(RolloutPhase.PROGRESSING, "waits for a member that moves to another node")
    if not usable:
        left = ", ".join(sorted({node for each in walk.candidates for node in each.nodes}))
        return Stop(RolloutPhase.BLOCKED, blocked_on=f"nothing may be placed again on {left}: uncordon or repair it")
    first = usable[0]
    if objection := walk.objection(first, hopeful=True):
        return Stop(RolloutPhase.BLOCKED, blocked_on=objection)
    if lacking := lacking_of(walk, first.nodes):
        return _prefetching(walk, lacking)
    walk.ground.release(first.member, f"{walk.record.toward} takes its place")
    walk.record = replace(walk.record, vacated=(*walk.record.vacated, first.member))
    if not walk.spec.suspended and walk.record.strategy is not Strategy.IN_PLACE:
        walk.record = replace(walk.record, strategy=Strategy.IN_PLACE, surge=0, why=_whole(walk, why))
    return _MOVING


def _whole(walk: Walk, why: str) -> str:
    """Why there is this rollout, where nobody has edited anything, and why it goes this way."""
    return "; ".join(each for each in (walk.spec.because, why) if each)


# -------------------------------------------------------------------------------------------------------- prefetch (S3)


def lacking_of(walk: Walk, nodes: Sequence[str]) -> list[str]:
    """Of these nodes those that have not got the artifact; what goes back in was there before and is not waited for."""
    prefetched, record = walk.spec.prefetched, walk.record
    if prefetched is None or record.toward != record.target or record.goes_back:
        return []
    return sorted(set(nodes) - prefetched.nodes)


def _prefetching(walk: Walk, lacking: Sequence[str]) -> Stop:
    failures = walk.spec.prefetched.failures if walk.spec.prefetched else {}
    failed = [f"{node}: {failures[node]}" for node in lacking if node in failures]
    told = f"the artifact of {walk.record.target.snapshot} could not be pulled, no capacity was released: {'; '.join(failed)}"
    step = f"the artifact of {walk.record.target.snapshot} is being pulled to {', '.join(lacking)}"
    return Stop(RolloutPhase.PREFETCHING, step, told if failed else "")


def prefetch_of(walk: Walk, stop: Stop) -> tuple[str, ...]:
    """Nodes that will need the artifact: where the next members go, and where old ones are that are replaced later.

    The wait for a window or an approval is used for it; a rollout that may never begin pulls nothing.
    """
    if not walk.record.moving or stop.phase in (RolloutPhase.BLOCKED, RolloutPhase.PAUSED):
        return ()
    found = walk.ground.find(walk.request) or ()
    stay = [each for each in walk.candidates if walk.ground.usable(each)]  # nobody answers on the others
    return tuple(lacking_of(walk, [*found, *(node for each in stay for node in each.nodes)]))
