"""Carrying out a change set whose plan is on record: what is done, what may start now, and the way back (F3, F4).

The state of a step is read from the record, the holdings and who serves, so a crash at any point resumes: the record
and the holdings are one write. Nothing is started that would hold more than is provisioned.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from enum import StrEnum

from .holdings import MAX_MEMBERS, Demand, Holding, HoldingState, PoolState, Request, ordinal_of, standing
from .placement import Place, Room
from .units import cu_of

MAX_STEPS = MAX_MEMBERS  # that a record can hold (api.md, changeSets)
_NAMED = 5  # members that a message names; the others are counted


class StepAction(StrEnum):
    PLACE = "Place"
    FREE = "Free"


class StepState(StrEnum):
    PENDING = "Pending"
    RUNNING = "Running"
    DONE = "Done"


class Phase(StrEnum):
    INCOMPLETE = "Incomplete"
    EXECUTING = "Executing"
    DONE = "Done"
    ROLLED_BACK = "RolledBack"
    REJECTED = "Rejected"


@dataclass(frozen=True, slots=True)
class Step:
    """One member placed or freed. A Place is Done once its member has served, a Free once its holding is gone."""

    action: StepAction
    instance: str
    member: str
    blocks: int
    nodes: Place
    state: StepState = StepState.PENDING

    @property
    def places(self) -> bool:
        return self.action is StepAction.PLACE

    @property
    def done(self) -> bool:
        return self.state is StepState.DONE

    @property
    def part(self) -> int:
        return self.blocks // len(self.nodes) if self.nodes else 0


@dataclass(frozen=True, slots=True)
class ChangeSetRecord:
    """What is known of one id. Without `members` a record is history only: nobody carries the id any more."""

    id: str
    phase: Phase
    members: tuple[str, ...] = ()
    steps: tuple[Step, ...] = ()
    message: str = ""


@dataclass(frozen=True, slots=True)
class MemberSpec:
    """A ModelInstance that carries `spec.changeSet`; `members` is the number that it announces."""

    instance: str
    id: str
    members: int
    desired: int
    progress_deadline: timedelta
    suspended: bool = False


Crew = Mapping[str, MemberSpec]  # who carries the id now, by instance


@dataclass(frozen=True, slots=True)
class Progress:
    """One change set after one look at it: what it has started, and what it needs kept free, by node."""

    record: ChangeSetRecord
    holdings: tuple[Holding, ...]
    reserved: Mapping[str, int]
    next_moment: datetime | None = None
    notes: tuple[str, ...] = ()


def active(record: ChangeSetRecord, crew: Crew) -> bool:
    """Does this set move members, forth or back? Only one of a pool does."""
    if record.phase is Phase.EXECUTING:
        return bool(record.members)
    back = record.phase is Phase.ROLLED_BACK and record.members
    return bool(back) and any(not step.done and step.instance in crew for step in record.steps)


def advance(record: ChangeSetRecord, crew: Crew, pool: PoolState, *, now: datetime) -> Progress:
    """Take in what has happened and start what may start. `pool.holdings` has nobody in it who is gone."""
    run = _Run(record, crew, pool, now)
    if record.phase is Phase.ROLLED_BACK:
        return run.go_back()
    return run.go_on()


def reserved_by(steps: Iterator[Step], skip: int = -1) -> dict[str, int]:
    """Blocks by node that Places still to come need beyond what the Frees before them bring."""
    balance, peak = dict[str, int](), dict[str, int]()
    for at, step in enumerate(steps):
        moving = step.places and step.state is StepState.PENDING and at != skip
        if step.done or (step.places and not moving):
            continue
        for node in step.nodes:
            balance[node] = balance.get(node, 0) + (step.part if step.places else -step.part)
            peak[node] = max(peak.get(node, 0), balance[node])
    return {node: blocks for node, blocks in sorted(peak.items()) if blocks > 0}


class _Run:
    """One change set and its pool while steps are started."""

    def __init__(self, record: ChangeSetRecord, crew: Crew, pool: PoolState, now: datetime) -> None:
        self.record, self.crew, self.pool, self.now = record, crew, pool, now
        self.holdings = {holding.member: holding for holding in pool.holdings}
        self.serving = pool.available & self.holdings.keys()  # a name that is used again has not served yet
        self.steps = list(record.steps)
        self.notes: list[str] = []
        self.absent = [name for name in record.members if name not in crew]

    # ------------------------------------------------------------------------------------------------------ forth (F3)

    def go_on(self) -> Progress:
        self._look()
        if self.absent:
            waiting = (
                f"{', '.join(self.absent)} left the set in its middle, so it stands still: give the id back, "
                "or give the others a new id or none"
            )
        else:
            late = self._deadline()
            if late is not None and late <= self.now:
                return self._turn_back(late)
            waiting = self._start()
        done = sum(step.done for step in self.steps)
        if done == len(self.steps):
            return self._progress(Phase.DONE, f"all {done} steps are done")
        message = f"{done}/{len(self.steps)} steps are done; {waiting}"
        at = None if self.absent else self._deadline()
        if at is not None:
            message += f"; it goes back at {at.astimezone(UTC):%Y-%m-%dT%H:%M:%SZ} if none serves by then"
        return self._progress(Phase.EXECUTING, message, at)

    def _look(self) -> None:
        """Bring the steps in line with what is held and who serves."""
        for at, step in enumerate(self.steps):
            if step.places and step.state is not StepState.PENDING and not self._held(step):
                self.steps[at] = self._moved(step) or replace(step, state=StepState.PENDING)
            elif not step.places and not step.done and step.member not in self.holdings:
                self.steps[at] = self._moved(step) or replace(step, state=StepState.DONE)
            elif not step.places and not step.done and not self._held(step) and (moved := self._moved(step)):
                self.steps[at] = moved
            self._settle(at)

    def _settle(self, at: int) -> None:
        step = self.steps[at]
        if step.places and step.state is StepState.RUNNING and self._serves(step):
            self.steps[at] = replace(step, state=StepState.DONE)
        elif not step.places and not step.done:
            state = StepState.PENDING if self._held(step) else StepState.RUNNING
            if step.member not in self.holdings:
                state = StepState.DONE
            self.steps[at] = replace(step, state=state)

    def _moved(self, step: Step) -> Step | None:
        """The same step for the member that was made in this one's place, because it had to leave its node (N1, N3)."""
        spec = self.crew.get(step.instance)
        if spec is None or (not step.places and step.state is StepState.RUNNING):
            return None
        mine = [each for each in self.steps if each.instance == step.instance]
        named = {each.member for each in mine if not each.places or each.state is not StepState.PENDING}
        staying = spec.desired - sum(each.places for each in mine)
        held = [each for each in standing(list(self.holdings.values())) if each.instance == step.instance]
        others = [each for each in held if each.member not in named]
        if len(others) <= max(0, staying):
            return None
        newest = max(others, key=lambda holding: (holding.since, ordinal_of(holding)))
        return replace(step, member=newest.member, nodes=newest.nodes)

    def _start(self) -> str:
        """Start what may start, in the order of the plan; returns what is waited for."""
        coming: list[str] = []
        for at, step in enumerate(self.steps):
            if step.places:
                if step.state is StepState.PENDING and not self._place(at):
                    coming.append(f"room for {step.member} ({self._why_no_room(step)})")
                elif not self._serves(self.steps[at]):
                    coming.append(f"{self.steps[at].member} to serve")
            elif not step.done:
                if coming:
                    break
                if step.state is StepState.PENDING:
                    self._free(at, f"change set {self.record.id} needs its place")
                return f"waiting for {step.member} to be gone"
        return f"waiting for {_listed(coming)}"

    # ------------------------------------------------------------------------------------------------------- back (F4)

    def _deadline(self) -> datetime | None:
        """When the set turns back: progressDeadline after its first member still held was placed, none having served.

        Suspended members do not count, neither as served nor as late; a set whose members wait for room waits.
        """
        placed = [step for step in self.steps if step.places and not self._suspended(step)]
        held = [self.holdings[step.member] for step in placed if step.state is StepState.RUNNING]
        if not held or any(step.done for step in placed):
            return None
        patience = min(self.crew[step.instance].progress_deadline for step in placed if step.instance in self.crew)
        return min(holding.since for holding in held) + patience

    def _turn_back(self, at: datetime) -> Progress:
        """Write the way back behind what was carried out; nothing is touched before that is on record."""
        tried = [step for step in self.steps if step.state is not StepState.PENDING]
        late = [step.member for step in tried if step.places and step.state is StepState.RUNNING]
        frees = [replace(step, action=StepAction.FREE) for step in reversed(tried) if step.places]
        places = [replace(step, action=StepAction.PLACE) for step in reversed(tried) if not step.places]
        back = [replace(step, state=StepState.PENDING) for step in (*frees, *places)]
        kept = [replace(step, state=StepState.DONE) for step in tried][: max(0, MAX_STEPS - len(back))]
        self.steps = [*kept, *back]
        why = (
            f"none of {_listed(late)} served by {at.astimezone(UTC):%Y-%m-%dT%H:%M:%SZ}, so the old instances return: "
            "find out why, then give the set a new id, or remove spec.changeSet"
        )
        self.notes.append(f"change set {self.record.id} turns back: {why}")
        return self._progress(Phase.ROLLED_BACK, why)

    def go_back(self) -> Progress:
        """Free the successors at once, they serve nobody, and put the old members where they were."""
        for at, step in enumerate(self.steps):
            if step.done:
                continue
            if step.instance not in self.crew:  # it left the set: what becomes of it is its own spec's business
                self.steps[at] = replace(step, state=StepState.DONE)
            elif not step.places:
                self._settle(at)
                if self.steps[at].state is StepState.PENDING:
                    self._free(at, f"change set {self.record.id} goes back")
            elif step.state is StepState.PENDING:
                self._place(at)
            elif self._serves(step) or not self._held(step):
                self.steps[at] = replace(step, state=StepState.DONE)
        return self._progress(Phase.ROLLED_BACK, self.record.message.removeprefix(self._prefix))

    # ---------------------------------------------------------------------------------------------------------- moves

    def _place(self, at: int) -> bool:
        step = self.steps[at]
        nodes = self._nodes_for(at)
        if nodes is None:
            return False
        member = self._name_for(step)
        uid = demand.uid if (demand := self._demand(step)) else ""
        self.holdings[member] = Holding(step.instance, member, step.blocks, nodes, self.now, instance_uid=uid)
        placed = replace(step, member=member, nodes=nodes, state=StepState.RUNNING)
        self.steps[at] = replace(placed, state=StepState.DONE) if self._suspended(placed) else placed
        self.notes.append(
            f"change set {self.record.id}: granted {cu_of(step.blocks)} CU on {', '.join(nodes)} to {member}"
        )
        return True

    def _nodes_for(self, at: int) -> Place | None:
        """The nodes of the plan; others, that no other step counts on, where those of the plan cannot be had."""
        step = self.steps[at]
        room = Room(self.pool, list(self.holdings.values()))
        if step.blocks > room.room_for(1):
            return None
        if all(room.free.get(node, 0) >= step.part for node in step.nodes):
            return step.nodes
        if self.record.phase is Phase.ROLLED_BACK and all(node in room.free for node in step.nodes):
            return None  # the old place is there and its blocks are on their way
        demand = self._demand(step)
        request = Request(step.blocks, len(step.nodes), demand.topology_key if demand else "")
        promised = replace(self.pool, reserved=reserved_by(iter(self.steps), skip=at))
        found = Room(promised, list(self.holdings.values())).place_all([request])
        return found[0] if found else None

    def _name_for(self, step: Step) -> str:
        # A name that a record still speaks of would be taken for the member that had it.
        used = self.holdings.keys() | self.pool.taken | {each.replaces for each in self.holdings.values()}
        if step.member not in used:
            return step.member
        used = used | {each.member for each in self.steps}
        return next(name for at in range(2 * MAX_STEPS + len(used)) if (name := f"{step.instance}-{at}") not in used)

    def _free(self, at: int, why: str) -> None:
        step = self.steps[at]
        self.holdings[step.member] = replace(self.holdings[step.member], state=HoldingState.RELEASING)
        self.steps[at] = replace(step, state=StepState.RUNNING)
        self.notes.append(f"releasing {step.member}: {why}")

    # ----------------------------------------------------------------------------------------------------------- facts

    def _demand(self, step: Step) -> Demand | None:
        return next((each for each in self.pool.demands if each.instance == step.instance), None)

    def _held(self, step: Step) -> bool:
        holding = self.holdings.get(step.member)
        return holding is not None and holding.held and holding.instance == step.instance

    def _suspended(self, step: Step) -> bool:
        return step.instance in self.crew and self.crew[step.instance].suspended

    def _serves(self, step: Step) -> bool:
        return self._held(step) and (step.member in self.serving or self._suspended(step))

    def _why_no_room(self, step: Step) -> str:
        usable = {node.name for node in self.pool.nodes if node.usable}
        lost = [node for node in step.nodes if node not in usable]
        need = f"need {cu_of(step.blocks)} CU"
        return f"{need}, {', '.join(lost)} is not usable" if lost else f"{need} on {', '.join(step.nodes)}"

    @property
    def _prefix(self) -> str:
        return f"change set {self.record.id}: "

    def _progress(self, phase: Phase, message: str, next_moment: datetime | None = None) -> Progress:
        text = f"{self._prefix}{message}"[:1024]
        record = replace(self.record, phase=phase, steps=tuple(self.steps), message=text)
        holdings = tuple(sorted(self.holdings.values(), key=lambda holding: holding.member))
        reserved = {} if phase is Phase.DONE else self._reserved(phase)
        return Progress(record, holdings, reserved, next_moment, tuple(self.notes))

    def _reserved(self, phase: Phase) -> dict[str, int]:
        """Who left the set has nothing promised; while the way back is open, neither is the old members' room given."""
        mine = [step for step in self.steps if step.instance in self.crew]
        reserved = reserved_by(iter(mine))
        if phase is not Phase.EXECUTING or any(step.places and step.done for step in mine):
            return reserved
        back = dict[str, int]()
        for step in mine:
            freed = not step.places and step.done
            if freed or (step.places and step.state is StepState.RUNNING):
                for node in step.nodes:
                    back[node] = back.get(node, 0) + (step.part if freed else -step.part)
        for node, blocks in back.items():
            reserved[node] = max(reserved.get(node, 0), blocks)
        return {node: blocks for node, blocks in sorted(reserved.items()) if blocks > 0}


def _listed(names: list[str]) -> str:
    rest = len(names) - _NAMED
    return ", ".join(names[:_NAMED]) + (f" and {rest} more" if rest > 0 else "")
