"""All rollouts of a pool in one plan, together with its admissions (behaviour.md S2-S6, C5, C6, N2, N3).

What is under way goes on first, from the room that it has had since its first member moved. Then the pool's own plan:
who lost its node, who grows, who leaves. What begins anew, or anew in its middle, lives on what that leaves spare. So a
rollout that waits for somebody's approval takes no blocks from others but those it began with, and one that has not
begun takes none.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from functools import cached_property

from reserved_capacity.domain.admission import plan_holdings
from reserved_capacity.domain.holdings import (
    Demand,
    Holding,
    HoldingsPlan,
    PoolState,
    Request,
    Wait,
    Waiting,
)
from reserved_capacity.domain.releases import drop_gone
from reserved_capacity.domain.waits import Waits

from .gates import gate
from .ground import Ground
from .records import concluded, current_record, growth_version, with_newcomers
from .reporting import idle_report, report_of, with_record
from .starts import begin
from .values import RolloutRecord, RolloutReport, RolloutSpec, RolloutsPlan, RolloutState
from .walk import Walk


def plan_rollouts(
    pool: PoolState, specs: Sequence[RolloutSpec], records: Sequence[RolloutRecord], *, now: datetime, lent: int = 0
) -> RolloutsPlan:
    """The pool's holdings and the records of its rollouts from now on. An instance without a spec is only admitted.

    `lent` are blocks that the pool has claimed beyond its contract, which `pool.contracted_blocks` does not count; they
    are for rollouts that have asked for them (`RolloutRecord.borrowed`).
    """
    pool = replace(pool, holdings=_adopted(pool.holdings, specs, records))
    tasks = _tasks(pool, specs, records, now)
    if all(task.rests for task in tasks):
        return _at_rest(pool, tasks, now)
    notes: list[str] = []
    pool = replace(pool, holdings=tuple(drop_gone(pool, notes)))
    before = frozenset(holding.member for holding in pool.holdings)
    asked = sum(task.record.borrowed for task in tasks if task.record is not None)
    rounds = [_Round(pool, now, min(lent, asked)).walk(tasks)]
    state = rounds[0].steered()
    plan = plan_holdings(state, now=now)
    notes += [*rounds[0].ground.notes, *plan.notes]
    if rounds[0].undecided:
        tasks = [task.with_newcomers(before, plan.holdings) for task in rounds[0].undecided]
        rounds.append(rounds[0].again(plan.holdings, now).walk(tasks))
        state = rounds[1].steered()
        notes += rounds[1].ground.notes
        if state.holdings != plan.holdings:
            plan = plan_holdings(state, now=now)
            notes += plan.notes
    now_on = {name: record for each in rounds for name, record in each.records.items()}
    now_on = {
        name: concluded(with_newcomers(record, before, plan.holdings), plan.holdings, now)
        for name, record in now_on.items()
    }
    reports = {name: report for each in rounds for name, report in each.reports.items()}
    reports = {name: with_record(report, now_on.get(name)) for name, report in reports.items()}
    moments = [at for each in reports.values() if (at := each.next_moment) is not None]
    moments += [spec.changes_at for spec in specs if spec.changes_at is not None and spec.changes_at > now]
    wanted = tuple(request for each in rounds for request in each.wanted)
    plan = replace(plan, notes=tuple(notes), wanted=plan.wanted + wanted, waits=_waits(plan, state, now_on))
    return RolloutsPlan(
        holdings=plan,
        records=tuple(record for _, record in sorted(now_on.items())),
        reports=reports,
        next_moment=min(moments, default=None),
    )


def _at_rest(pool: PoolState, tasks: Sequence[_Task], now: datetime) -> RolloutsPlan:
    """The common case: nobody moves, and the pool's own plan is all."""
    versions = {task.spec.instance: growth_version(task.spec, task.record, proven=True) for task in tasks}
    demands = [replace(each, version=versions.get(each.instance)) for each in pool.demands]
    plan = plan_holdings(replace(pool, demands=tuple(demands)), now=now)
    moments = [
        task.spec.changes_at for task in tasks if task.spec.changes_at is not None and task.spec.changes_at > now
    ]
    return RolloutsPlan(
        holdings=plan,
        records=tuple(task.record for task in tasks if task.record is not None),
        reports={task.spec.instance: idle_report(task.spec, task.record, differs=task.differs) for task in tasks},
        next_moment=min(moments, default=None),
    )


def _waits(plan: HoldingsPlan, state: PoolState, records: Mapping[str, RolloutRecord]) -> dict[str, Wait]:
    """Whose place is empty in the middle of a step waits for what is being given back; or, where that was lost to others
    (who had to leave a node), for room like everybody."""
    waits = dict(plan.waits)
    releasing, waiting = any(not each.held for each in plan.holdings), Waits(state, plan.holdings)
    for demand in state.demands:
        record = records.get(demand.instance)
        if record is not None and record.moving and record.vacated:
            wait = waiting.of(demand, [demand])
            if releasing:
                wait = replace(
                    wait, reason=Waiting.WAITING_FOR_RELEASE, remedy="its rollout replaces a member in place"
                )
            waits[demand.instance] = wait
    return waits


@dataclass(frozen=True, slots=True)
class _Task:
    """One instance that may have a rollout, and the one that it is in. `differs`: somebody runs something else than is
    asked for; `again`: a new attempt at the same (S6)."""

    spec: RolloutSpec
    demand: Demand
    record: RolloutRecord | None
    differs: bool
    again: bool

    @property
    def rests(self) -> bool:
        return self.record is None or self.record.state is RolloutState.DONE

    def with_newcomers(self, before: frozenset[str], holdings: Sequence[Holding]) -> _Task:
        return replace(self, record=with_newcomers(self.record, before, holdings) if self.record else None)

    @property
    def order(self) -> tuple[bool, tuple[int, datetime, str]]:
        """C5; but what was borrowed for one is not taken by another."""
        return (self.record is None or not self.record.borrowed, self.demand.admission_order)


def _adopted(
    holdings: Sequence[Holding], specs: Sequence[RolloutSpec], records: Sequence[RolloutRecord]
) -> tuple[Holding, ...]:
    """A holding of which nothing says what its member runs, as change sets place them, gets what grows now."""
    if all(each.version is not None for each in holdings):
        return tuple(holdings)
    known = {record.instance: record for record in records}
    versions = {each.instance: growth_version(each, known.get(each.instance), proven=False) for each in specs}
    return tuple(
        replace(each, version=versions[each.instance]) if each.version is None and each.instance in versions else each
        for each in holdings
    )


def _tasks(
    pool: PoolState, specs: Sequence[RolloutSpec], records: Sequence[RolloutRecord], now: datetime
) -> list[_Task]:
    known = {record.instance: record for record in records}
    demands = {demand.instance: demand for demand in pool.demands}
    held: dict[str, list[Holding]] = {}
    for holding in pool.holdings:
        if holding.held:
            held.setdefault(holding.instance, []).append(holding)
    tasks = []
    for spec in sorted(specs, key=lambda spec: spec.instance):
        demand = demands.get(spec.instance)
        if demand is not None:
            mine = held.get(spec.instance, [])
            before = known.get(spec.instance)
            record = current_record(spec, demand, before, mine, now)
            failed = before is not None and before.failed and before.target == spec.target
            differs = any(each.version != spec.target for each in mine)
            tasks.append(_Task(spec, demand, record, differs, again=failed and record is not before))
    return tasks


class _Round:
    """One round of steps over a pool. Without `decide`, only what has begun goes on; who has not is `undecided`."""

    def __init__(
        self,
        pool: PoolState,
        now: datetime,
        lent: int,
        *,
        wishes: Sequence[Demand] = (),
        decide: bool = False,
    ) -> None:
        self.pool, self.lent, self.decide = pool, lent, decide
        with_lent = replace(pool, contracted_blocks=pool.contracted_blocks + lent)
        self.ground = Ground(with_lent, wishes or pool.demands, now)
        self.demands = {demand.instance: demand for demand in pool.demands}
        self.records: dict[str, RolloutRecord] = {}
        self.reports: dict[str, RolloutReport] = {}
        self.undecided: list[_Task] = []
        self.kept: dict[str, tuple[Request, int]] = {}
        self.borrowed: dict[str, int] = {}
        self.on_loan: dict[str, int] = {}
        self.wanted: list[Request] = []

    def again(self, holdings: Sequence[Holding], now: datetime) -> _Round:
        """A second round on what the pool's own plan has made of the first."""
        base = replace(self.steered(), holdings=tuple(holdings), contracted_blocks=self.pool.contracted_blocks)
        lent = min(self.lent, sum(self.borrowed.values()))
        later = _Round(base, now, lent, wishes=self.ground.wishes, decide=True)
        later.borrowed = dict(self.borrowed)
        later.on_loan = {name: self._in_use(name) for name in self.on_loan}
        return later

    def walk(self, tasks: Iterable[_Task]) -> _Round:
        for task in sorted(tasks, key=lambda task: task.order):
            record = task.record
            if record is None or task.rests:
                self._rest(task)
            else:
                self._step(task, Walk(self.ground, task.spec, task.demand, record, again=task.again))
        return self

    def _rest(self, task: _Task) -> None:
        name, record = task.spec.instance, task.record
        if record is not None:
            self.records[name] = record
        self.reports[name] = idle_report(task.spec, record, differs=task.differs)
        self.demands[name] = replace(task.demand, version=growth_version(task.spec, record, proven=True))

    def _step(self, task: _Task, walk: Walk) -> None:
        name, stop, borrowed = task.spec.instance, None, walk.record.borrowed
        walk.take_in()
        if walk.record.moving:
            walk.finish_steps()
            stop = gate(walk) if walk.candidates else None
            if stop is not None:
                walk.give_back()
            elif walk.candidates:
                # Who is one too many goes first, and that is decided between the rounds.
                shrinks = not self.decide and walk.there > walk.count
                stop = None if shrinks else begin(walk, decide=self.decide)
                if stop is None:
                    self.undecided.append(replace(task, record=walk.record, again=False))
            walk.end()
        self.records[name] = walk.record
        self.reports[name] = report_of(walk, stop)
        version = growth_version(task.spec, walk.record, proven=walk.proven)
        vacated = len(walk.record.vacated)  # these places are the rollout's to fill
        self.demands[name] = replace(
            task.demand, version=version, desired=task.demand.desired - vacated, vacated=vacated
        )
        self.kept[name] = (walk.request, walk.places_to_keep)
        self.ground.keep(walk.request, walk.places_to_keep)
        self.ground.room.blocks -= min(self.lent, max(0, borrowed - walk.record.borrowed))  # goes back
        self.borrowed[name], self.on_loan[name] = walk.record.borrowed, walk.blocks_on_loan
        self.wanted += [stop.wanted] if stop is not None and stop.wanted is not None else []

    def steered(self) -> PoolState:
        """The pool as its own plan shall find it: with the steps taken, and what rollouts count on out of its reach. Of what is
        lent it sees what their members stand on or have a place for: nobody else grows into the rest (I2)."""
        reserved = dict(self.pool.reserved)
        for mine in self._places.values():
            for node, blocks in mine.items():
                reserved[node] = reserved.get(node, 0) + blocks
        on_loan = sum(min(borrowed, self._in_use(name)) for name, borrowed in self.borrowed.items())
        return replace(
            self.pool,
            contracted_blocks=self.pool.contracted_blocks + min(self.lent, on_loan),
            holdings=tuple(sorted(self.ground.holdings.values(), key=lambda holding: holding.member)),
            demands=tuple(self.demands[demand.instance] for demand in self.pool.demands),
            reserved=reserved,
        )

    @cached_property
    def _places(self) -> dict[str, dict[str, int]]:
        """Kept free, by instance and node: asked for once all have taken their steps."""
        return self.ground.reserve(self.kept)

    def _in_use(self, name: str) -> int:
        """Blocks that its members stand on beyond the contract, or have a place for."""
        return self.on_loan[name] + sum(self._places.get(name, {}).values())
