"""One rollout in one pass: take in what has happened, finish what is in flight, and begin what may begin (S2-S6).

A step is one member: with Surge its successor is placed, serves, and the old one goes; in place the old one goes first.
A step in flight is always completed or undone; only what begins a new one is subject to pause, canary, window and room.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import datetime
from functools import cached_property

from reserved_capacity.domain.holdings import Demand, Freeze, Holding, Request
from reserved_capacity.domain.releases import floor_of

from . import words
from .ground import Ground, request_of
from .records import concluded
from .values import (
    PROGRESS_DEADLINE_EXCEEDED,
    ROLLBACK_FAILED,
    Approval,
    Failure,
    OnFailure,
    RolloutPhase,
    RolloutRecord,
    RolloutSpec,
    RolloutState,
    Strategy,
)


@dataclass(frozen=True, slots=True)
class Stop:
    """Why no further step begins now, and until when at the latest. `wanted` is room that is there, but in pieces (C9)."""

    phase: RolloutPhase
    step: str = ""
    blocked_on: str = ""
    until: datetime | None = None
    wanted: Request | None = None


class Walk:
    """One rollout that is under way, and the pool around it. `again`: it is another attempt at what has failed before."""

    def __init__(
        self, ground: Ground, spec: RolloutSpec, demand: Demand, record: RolloutRecord, *, again: bool = False
    ) -> None:
        self.ground, self.spec, self.demand, self.record, self.again = ground, spec, demand, record, again
        self.now = ground.now

    # ----------------------------------------------------------------------------------------------------------- facts

    @property
    def held(self) -> list[Holding]:
        return self.ground.held_by(self.spec.instance)

    @property
    def news(self) -> list[Holding]:
        return [each for each in self.held if each.version == self.record.toward]

    @property
    def olds(self) -> list[Holding]:
        return [each for each in self.held if each.version != self.record.toward]

    @cached_property
    def request(self) -> Request:
        return request_of(self.demand, self.ground.of(self.spec.instance))

    @property
    def there(self) -> int:
        """Instances that it has, those in the middle of a step included."""
        return self.ground.standing(self.spec.instance) + len(self.record.vacated)

    @property
    def count(self) -> int:
        """Instances that it has and shall have; growth that waits for room is nobody that could be missed."""
        match self.demand.freeze:
            case Freeze.EVERYTHING | Freeze.STEPS:
                return self.there
            case _:
                return min(self.demand.desired, self.there)

    @property
    def moves(self) -> list[tuple[Holding, Holding]]:
        """Members whose successors of the wanted version are there, with those."""
        heirs = self.ground.heirs(self.spec.instance)
        olds = [each for each in self.olds if each.member in heirs]
        return [(old, heirs[old.member]) for old in olds if heirs[old.member].version == self.record.toward]

    @property
    def candidates(self) -> list[Holding]:
        """Who may be next: who does not serve (and is not just starting), who has to leave its node anyway, who runs what
        was given up, by name."""
        heirs, former = self.ground.heirs(self.spec.instance), self.record.source
        leaving = {node.name for node in self.ground.pool.nodes if node.evacuate}

        def rank(each: Holding) -> tuple[bool, bool, bool, str]:
            stays = leaving.isdisjoint(each.nodes)
            return (self.ground.serves(each.member) or self.young(each), stays, each.version == former, each.member)

        return sorted((each for each in self.olds if each.member not in heirs), key=rank)

    def young(self, member: Holding) -> bool:
        """Does it not serve because it has not had the time?"""
        return not self.ground.serves(member.member) and self.now < member.since + self.spec.progress_deadline

    @property
    def in_flight(self) -> bool:
        return bool(self.record.vacated or self.record.starting or self.moves)

    @property
    def starting(self) -> list[Holding]:
        return [each for each in self.news if each.member in self.record.starting]

    def awaits(self, member: Holding) -> bool:
        """Is it a new member's failure if it does not serve? Forth, that of all of the new version; on the way back, of
        those that were made for it: the others run that version because they never moved."""
        if self.record.state is not RolloutState.ROLLING_BACK:
            return True
        return bool(member.replaces) or member.member in self.record.starting

    @property
    def under_canary(self) -> bool:
        """Is it among the first instances still? All of them are no canary."""
        canary, record = self.spec.canary, self.record
        if canary is None or record.canary_passed or record.goes_back or record.state is not RolloutState.RUNNING:
            return False
        return canary.instances < self.count

    def objection(self, member: Holding, *, hopeful: bool = False) -> str:
        """Why a member must not be stopped now; empty if it may be. All that do not serve count, whatever the cause (S5).

        `hopeful`: who is just starting counts as if it served, and is not stopped as if it never would.
        """
        soon = {each.member for each in self.held if hopeful and self.young(each)}
        if self.spec.suspended or not (self.ground.serves(member.member) or member.member in soon):
            return ""
        more = len(soon) if member.member in soon else 0
        return self._missed(more, more)

    def lasting_objection(self) -> str:
        """Why none that serves may be stopped, and could not if all served of whom something is to come yet: who is just
        starting, and who is being given back, as others may follow it."""
        coming = [each for demand in self._group for each in self.ground.of(demand.instance) if self._unsettled(each)]
        mine = sum(each.instance == self.spec.instance for each in coming)
        return "" if self.spec.suspended else self._missed(mine, len(coming))

    def _unsettled(self, member: Holding) -> bool:
        return not member.held or self.young(member)

    def patience_ends(self) -> datetime | None:
        """When the first of those that are just starting, also of other instances of the model, no longer is."""
        young = (each for demand in self._group for each in self.ground.held_by(demand.instance) if self.young(each))
        return min((each.since + self.spec.progress_deadline for each in young), default=None)

    def _missed(self, more: int, more_together: int) -> str:
        """What would fall below what was promised with one fewer, if so many more served, here and of the whole model."""
        serving = self.ground.serving_of([self.spec.instance]) + more
        least = floor_of(self.demand, self.count)
        if serving - 1 < least:
            return words.below_min_available(serving, least)
        together = self.ground.serving_of(each.instance for each in self._group) + more_together
        # Of an offering that shall have fewer in the end, be it none, no more can be missed than those (C6).
        floor = min(self.demand.min_instances, sum(map(self._wanted, self._group)))
        if not self.demand.accept_below_minimum and together - 1 < floor:
            return words.below_minimum(self.demand.offering, together, self.demand.min_instances, self._down)
        return ""

    @property
    def _down(self) -> list[str]:
        """Members of its model that do not serve."""
        held = [each for demand in self._group for each in self.ground.held_by(demand.instance)]
        return [each.member for each in held if not self.ground.serves(each.member)]

    @cached_property
    def _group(self) -> list[Demand]:
        """All of its model in the pool: they keep its minimum together."""
        return [each for each in self.ground.wishes if each.offering == self.demand.offering]

    @property
    def at_the_floor(self) -> bool:
        """Would one instance less be below the offering's minimum, which nobody has given up?"""
        wanted = sum(map(self._wanted, self._group))
        return not self.demand.accept_below_minimum and wanted <= self.demand.min_instances

    def _wanted(self, demand: Demand) -> int:
        if demand.freeze in (Freeze.EVERYTHING, Freeze.STEPS):
            return self.ground.standing(demand.instance)
        return demand.desired

    @property
    def proven(self) -> bool:
        """Has the new version served here, and passed as a canary where there is one?"""
        return not self.under_canary and any(self.ground.serves(each.member) for each in self.news)

    @property
    def places_to_keep(self) -> int:
        """Places for new members that stay promised to a surge that has begun, beside those that are taken (S2); and before
        it begins those that were borrowed for it, while an artifact is brought there."""
        if not self.record.moving:
            return 0
        if self.record.strategy is None and self.record.borrowed:
            return min(self.record.borrowed // self.request.blocks, len(self.candidates))
        if self.record.strategy is not Strategy.SURGE:
            return 0
        return min(self.record.surge - len(self.moves), len(self.candidates))

    @property
    def blocks_to_borrow(self) -> int:
        """Blocks beyond the contract for as many new members as may be there at a time (S2, BorrowSpare)."""
        return self.request.blocks * min(self.record.surge or self.spec.max_surge, self.count)

    @property
    def blocks_on_loan(self) -> int:
        """What its members stand on beyond those that it shall have, with those that make room (on a failed node they are
        outside all sums, N2)."""
        leaving = sum(
            not each.held and each.member not in self.ground.lost for each in self.ground.of(self.spec.instance)
        )
        standing = self.request.blocks * len(self.moves) if self.record.moving else self._surplus_blocks
        return standing + self.request.blocks * leaving

    @property
    def _surplus_blocks(self) -> int:
        """Of its members beyond those that it shall have: a rollout that halts keeps what they stand on, and no more (ADR 0064)."""
        return self.request.blocks * max(0, len(self.held) - self.count)

    # ------------------------------------------------------------------------------------------- what has happened

    def take_in(self) -> None:
        """What has ended is not looked at again."""
        if self.record.moving:
            self._settle()
            self._judge()

    def _settle(self) -> None:
        """Bring the record in line with who is there and who serves."""
        surplus = self.there - self.count
        kept = self.record.vacated[: max(0, len(self.record.vacated) - max(0, surplus))]
        news = [each for each in self.news if self.awaits(each)]
        waiting = {each.member for each in news if not self.ground.serves(each.member)}
        # Who lost its node starts anew when that comes back, or elsewhere: until then no deadline runs.
        starting = tuple(name for name in self.record.starting if name in waiting - self.ground.lost)
        unready = waiting - set(starting) - self.ground.lost
        since = (self.record.unready_since or self.now) if unready and not self.spec.suspended else None
        borrowed = self.blocks_to_borrow if self.record.borrowed else 0
        self.record = replace(self.record, vacated=kept, starting=starting, unready_since=since, borrowed=borrowed)
        self._settle_canary()

    def _settle_canary(self) -> None:
        canary, record = self.spec.canary, self.record
        if canary is None or not self.under_canary:
            return
        serving = sum(self.ground.serves(each.member) for each in self.news)
        since = (record.canary_since or self.now) if serving >= canary.instances else None
        passed = since is not None and (
            canary.approved_rollout == record.id
            if canary.approval is Approval.MANUAL
            else since + canary.hold <= self.now
        )
        self.record = replace(record, canary_since=since, canary_passed=passed)

    def deadline_of(self, member: Holding) -> datetime | None:
        """When a new member that does not serve counts as failed; a lost node is nobody's failure."""
        if self.spec.suspended or member.member in self.ground.lost or self.ground.serves(member.member):
            return None
        since, record = self.record.unready_since, self.record
        if member.member in record.starting:
            back = record.failure if record.state is RolloutState.ROLLING_BACK else None
            since = max(member.since, back.at if back is not None else record.started_at)
        return since + self.spec.progress_deadline if since is not None else None

    def deadline(self) -> datetime | None:
        if not self.record.moving:
            return None
        news = [each for each in self.news if self.awaits(each)]
        return min((at for each in news if (at := self.deadline_of(each)) is not None), default=None)

    def _judge(self) -> None:
        """S6: a member that did not come up in time turns the rollout back, or halts it. One that goes back already halts:
        there is nothing further to go back to (ADR 0031)."""
        at = self.deadline()
        if at is None or self.now < at:
            return
        late = next(each for each in self.news if self.awaits(each) and self.deadline_of(each) == at)
        failure = self._failure_of(late)
        back = self.record.goes_back or self.record.state is RolloutState.ROLLING_BACK
        halts = back or self.spec.on_failure is OnFailure.HALT
        state = RolloutState.HALTED if halts else RolloutState.ROLLING_BACK
        self.record = replace(
            self.record,
            state=state,
            failure=failure,
            attempt=self.spec.attempt,
            starting=self.record.starting if halts else (),
            vacated=() if halts else self.record.vacated,  # growth fills these, with what has proved itself
            borrowed=min(self.record.borrowed, self._surplus_blocks) if halts else self.record.borrowed,
            unready_since=None,
            ended_at=self.now if halts else None,
        )
        self.ground.notes.append(f"{failure.message}: the rollout {'halts' if halts else 'goes back'}")

    def _failure_of(self, late: Holding) -> Failure:
        patience = words.lasting(self.spec.progress_deadline)
        cause = self.spec.causes.get(late.member, "")
        message = f"{late.member} with {self.record.toward} did not serve within {patience}"
        message += f": {cause}" if cause else ""
        first = self.record.failure
        if self.record.state is RolloutState.ROLLING_BACK and first is not None:
            return Failure(late.member, ROLLBACK_FAILED, words.failed_back(message, first), self.now)
        return Failure(late.member, PROGRESS_DEADLINE_EXCEEDED, message, self.now)

    def give_back(self) -> None:
        """Whoever has not begun keeps no room that it has only borrowed and does not need: nobody stands on it (ADR 0064)."""
        if self.record.strategy is None:
            self.record = replace(self.record, borrowed=0)

    # ---------------------------------------------------------------------------------------- what is in flight already

    def finish_steps(self) -> None:
        self._undo()
        self._fill()
        self._retire()

    def _undo(self) -> None:
        """Take back what leads elsewhere by now: successors of another version than is wanted, and members of one that was
        given up, unless they are needed until others serve (S5, S6)."""
        for gone in self.detours():
            if not self.objection(gone):
                self.ground.release(gone.member, f"{self.record.toward} is wanted")
        known = (self.record.source, self.record.toward)
        for each in self.held:
            failed_before = self.again and each.version == self.record.toward
            if not self.ground.serves(each.member) and (failed_before or each.version not in known):
                self._give_up(each)

    def _give_up(self, member: Holding) -> None:
        """Release a member that does not serve; its place is to be filled anew unless another stands for it already, or it
        stands for another."""
        heirs = self.ground.heirs(self.spec.instance)
        linked = member.member in heirs or member.member in {heir.member for heir in heirs.values()}
        self.ground.release(member.member, f"{member.version} did not serve")
        if not linked:
            self.record = replace(self.record, vacated=(*self.record.vacated, member.member))
        self.record = replace(
            self.record, starting=tuple(each for each in self.record.starting if each != member.member)
        )

    def detours(self) -> list[Holding]:
        """Of members whose successors run something else than they, and than what is wanted, one of the two each."""
        heirs, wanted = self.ground.heirs(self.spec.instance), self.record.toward
        pairs = [(each, heirs[each.member]) for each in self.held if each.member in heirs]
        return [
            self._dispensable(former, heir) for former, heir in pairs if heir.version not in (former.version, wanted)
        ]

    def _dispensable(self, former: Holding, heir: Holding) -> Holding:
        """Who of the two goes: who does not serve, else who runs what is wanted least."""
        if not self.ground.serves(heir.member):
            return heir
        if not self.ground.serves(former.member):
            return former
        back = heir.version == self.record.source and former.version != self.record.toward
        return former if back else heir

    def _fill(self) -> None:
        """Put new members where old ones were stopped, as soon as these are gone; elsewhere only if that place is lost."""
        for member in self.record.vacated:
            old = self.ground.holdings.get(member)
            if old is not None and not old.held and self.ground.usable(old):
                continue
            new = self.ground.place(self.demand, self.request, self.record.toward)
            if new is None:
                return
            left = tuple(name for name in self.record.vacated if name != member)
            self.record = replace(self.record, vacated=left, starting=(*self.record.starting, new.member))

    def _retire(self) -> None:
        """Let old members go whose successors serve; or, where they cannot be spared, others that do not serve anyway."""
        for old, heir in self.moves:
            if not self.ground.serves(heir.member):
                continue
            goes: Holding | None = old
            if self.objection(old):
                goes = next((each for each in self.candidates if not self.ground.serves(each.member)), None)
            if goes is not None:
                self.ground.take_over(heir.member, goes.member)
                self.ground.release(goes.member, f"{heir.member} serves in its place")

    def end(self) -> None:
        """Is it over?"""
        before, self.record = self.record, concluded(self.record, self.held, self.now)
        if self.record != before:
            self.ground.notes.append(f"{self.spec.instance}: all members run {self.record.toward}")
