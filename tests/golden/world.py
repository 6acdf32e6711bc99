"""A small world in which rollouts are played through: members start and stop when they like, things break, time jumps.

What the pool's status would hold (holdings, records) is all that is kept from one plan to the next, so every plan is
also one after a crash of the operator. After every write the invariants are checked and the plan is made again: the same
world must give nothing new to write (I7, I8).
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta

from reserved_capacity.domain.holdings import Demand, Freeze, Holding, HoldingState, PoolNode, PoolState, standing
from reserved_capacity.domain.rollout.planning import plan_rollouts
from reserved_capacity.domain.rollout.values import (
    Prefetched,
    RolloutRecord,
    RolloutReport,
    RolloutSpec,
    RolloutsPlan,
    Window,
)
from reserved_capacity.domain.units import cu_of
from reserved_capacity.domain.versions import Version
from tests.golden import invariants

NOON = datetime(2026, 3, 7, 12, tzinfo=UTC)
EARLIER = NOON - timedelta(days=3)
START_MINUTES = (3, 4, 5, 6)
GONE_MINUTES = (1, 2)
HARD_SPACE = "\N{NO-BREAK SPACE}"  # lines are not broken there


@dataclass
class Customer:
    """A ModelInstance: what it asks for, and every version that it ever asked for."""

    demand: Demand
    spec: RolloutSpec
    history: list[Version] = field(default_factory=list)

    @property
    def name(self) -> str:
        return self.spec.instance


@dataclass
class Member:
    """What really runs: its version is that of the moment at which it was made, and never another (R1)."""

    version: Version | None
    made_at: datetime
    serves: bool = False
    crashes: int = 0


@dataclass(order=True)
class Event:
    at: datetime
    key: tuple[str, str]
    act: Callable[[], str | None] = field(compare=False)


class World:
    """`tell` gets every line of the story, with the moment; `order` shuffles what happens at one moment."""

    def __init__(self, seed: int, tell: Callable[[datetime, str], None]) -> None:
        self.random, self.tell = random.Random(seed), tell
        self.now = NOON
        self.nodes: dict[str, PoolNode] = {}
        self.customers: dict[str, Customer] = {}
        self.contracted = self.borrowed = self.unclaimed = 0
        self.holdings: tuple[Holding, ...] = ()
        self.records: tuple[RolloutRecord, ...] = ()
        self.reports: Mapping[str, RolloutReport] = {}
        self.members: dict[str, Member] = {}
        self.events: list[Event] = []
        self.window: Callable[[datetime], Window] = lambda _: Window()
        self.bad: dict[Version, str] = {}
        self.stillborn: set[str] = set()
        self.crashing: dict[Version, timedelta] = {}
        self.cached: dict[str, set[str]] | None = None
        self.unpullable: dict[str, str] = {}
        self.pulling: set[tuple[str, str]] = set()
        self.reserved: dict[str, int] = {}
        self.plan: RolloutsPlan | None = None
        self.whys: dict[str, str] = {}
        self.shown: dict[str, tuple[str, str]] = {}
        self.writes, self.writes_at_once = 0, 1
        self.unserved: dict[str, int] = {}  # minutes in which fewer than asked for served
        self.slow: dict[Version, timedelta] = {}
        self.shrinking = False

    # ----------------------------------------------------------------------------------------------------- set the stage

    def add_node(self, name: str, blocks: int, *, zone: str = "a", contracted: bool = True) -> None:
        self.nodes[name] = PoolNode(name, blocks, usable=True, labels={"zone": zone})
        self.contracted += blocks if contracted else 0

    def add_customer(self, demand: Demand, spec: RolloutSpec, places: Iterable[tuple[str, ...]]) -> None:
        self.customers[spec.instance] = Customer(demand, spec, [spec.target])
        for at, nodes in enumerate(places):
            name = f"{spec.instance}-{at}"
            holding = Holding(
                spec.instance,
                name,
                demand.blocks_per_instance,
                nodes,
                EARLIER,
                instance_uid=demand.uid,
                version=spec.target,
            )
            self.holdings += (holding,)
            self.members[name] = Member(spec.target, EARLIER, serves=True)

    def edit(self, name: str, **changes: object) -> None:
        """An edit of a ModelInstance: every one is a new generation."""
        customer = self.customers[name]
        before = customer.spec
        demand = {key: value for key, value in changes.items() if key in _OF_DEMAND}
        spec = {key: value for key, value in changes.items() if key not in _OF_DEMAND}
        self.shrinking = bool(demand.get("desired", customer.demand.desired) < customer.demand.desired)  # type: ignore[operator]
        customer.demand = replace(customer.demand, **demand)  # type: ignore[arg-type]
        customer.spec = replace(customer.spec, generation=customer.spec.generation + 1, **spec)  # type: ignore[arg-type]
        if changes.get("suspended", customer.spec.suspended) != before.suspended:
            self._suspend(name, stopped=customer.spec.suspended)
        if customer.spec.target not in customer.history:
            customer.history.append(customer.spec.target)

    def start_again(self, name: str) -> None:
        """A member that is down comes up after a while."""
        holding = next((each for each in self.holdings if each.member == name), None)
        if holding is not None and holding.held:
            self.members[name].crashes = 0
            self._start(name)

    def _suspend(self, name: str, *, stopped: bool) -> None:
        for holding in self.holdings:
            if holding.instance == name and holding.held:
                self.members[holding.member].serves = False
                if not stopped:
                    self._start(holding.member)

    def change_node(self, name: str, **changes: object) -> None:
        self.nodes[name] = replace(self.nodes[name], **changes)  # type: ignore[arg-type]
        if self.nodes[name].failed:
            for holding in self.holdings:
                if name in holding.nodes and holding.member in self.members:
                    self.members[holding.member].serves = False

    def at(self, minutes: float, act: Callable[[], str | None], key: str = "") -> None:
        self.later(timedelta(minutes=minutes) - (self.now - NOON), act, ("script", key))

    def later(self, after: timedelta, act: Callable[[], str | None], key: tuple[str, str]) -> None:
        self.events.append(Event(self.now + after, key, act))

    # ------------------------------------------------------------------------------------------------------------ to run

    def run(self, *, until: float = 24 * 60) -> None:
        """Until nothing happens any more, or so many minutes after noon."""
        end = NOON + timedelta(minutes=until)
        self.reconcile()
        while (moment := self._next_moment()) is not None and moment <= end:
            self._count_unserved(moment)
            self.now = moment
            due = [event for event in self.events if event.at <= moment]
            self.random.shuffle(due)
            for event in due:
                self.events.remove(event)
                told = event.act()
                if told:
                    self.tell(self.now, told)
                if told is not None:
                    self.reconcile()
            self.reconcile()
        if moment is not None:
            self.now = end

    def _next_moment(self) -> datetime | None:
        moments = [event.at for event in self.events]
        if self.plan is not None and self.plan.next_moment is not None:
            assert self.plan.next_moment > self.now, "a moment to look again lies in the future"
            moments.append(self.plan.next_moment)
        return min(moments, default=None)

    def _count_unserved(self, until: datetime) -> None:
        minutes = int((until - self.now).total_seconds() // 60)
        for name, customer in self.customers.items():
            if self.serving(name) < customer.demand.desired:
                self.unserved[name] = self.unserved.get(name, 0) + minutes

    def serving(self, instance: str) -> int:
        return sum(
            each.held and each.instance == instance and self.members.get(each.member, _NOBODY).serves
            for each in self.holdings
        )

    # --------------------------------------------------------------------------------------------------------- the pool

    def state(self) -> PoolState:
        resting = {
            each.member
            for each in self.holdings
            if each.held and each.instance in self.customers and self.customers[each.instance].spec.suspended
        }
        return PoolState(
            contracted_blocks=self.contracted,
            nodes=tuple(self.nodes.values()),
            holdings=self.holdings,
            demands=tuple(each.demand for each in self.customers.values()),
            gone=frozenset(each.member for each in self.holdings if not each.held and each.member not in self.members),
            taken=frozenset(self.members),
            available=frozenset(name for name, member in self.members.items() if member.serves) | resting,
            reserved=self.reserved,
        )

    def specs(self) -> list[RolloutSpec]:
        window = self.window(self.now)
        specs = []
        for customer in self.customers.values():
            causes = {
                name: self.bad[member.version]
                for name, member in self.members.items()
                if member.version in self.bad and name.rsplit("-", 1)[0] == customer.name
            }
            prefetched = None
            if self.cached is not None:
                nodes = frozenset(self.cached.get(customer.spec.target.snapshot, set()))
                prefetched = Prefetched(nodes, dict(self.unpullable))
            specs.append(replace(customer.spec, window=window, causes=causes, prefetched=prefetched))
        self.random.shuffle(specs)
        return specs

    def reconcile(self) -> None:
        """Plan and write until there is nothing to write: one write for one change of the world is enough, but where the
        write itself is the change (members that are suspended neither start nor serve)."""
        suspended = any(each.spec.suspended for each in self.customers.values())
        for _ in range(20 if suspended else self.writes_at_once + 1):
            before = self.state()
            plan = plan_rollouts(before, self.specs(), self.records, now=self.now, lent=self.borrowed)
            self.plan, told = plan, plan.reports != self.reports
            self.reports = plan.reports
            if plan.holdings.holdings == self.holdings and plan.records == self.records:
                if told:
                    self._tell_plan(plan, ())
                self.shrinking = False
                self._outside(plan)
                return
            invariants.check(self, before, plan)
            self.holdings, self.records = plan.holdings.holdings, plan.records
            self.writes += 1
            self._tell_plan(plan, plan.holdings.notes)
            self._carry_out(before)
        raise AssertionError(f"the plan is not settled after {self.writes_at_once} writes")

    def _carry_out(self, before: PoolState) -> None:
        """What the cluster makes of the new record: StatefulSets come and go."""
        known = {each.member: each for each in before.holdings}
        for holding in self.holdings:
            former = known.get(holding.member)
            if not holding.held and former is not None and former.held:
                self._stop(holding.member)
            elif holding.held and holding.member not in self.members:
                self.members[holding.member] = Member(holding.version, self.now)
                self._start(holding.member)

    def _start(self, name: str) -> None:
        member = self.members[name]
        if member.version in self.bad:
            return
        if name in self.stillborn:
            self.stillborn.discard(name)
            return
        after = timedelta(minutes=self.random.choice(START_MINUTES))
        if member.version in self.slow:
            after = self.slow[member.version]
        self.later(after, lambda: self._serve(name, member), ("serves", name))

    def _serve(self, name: str, member: Member) -> str | None:
        holding = next((each for each in self.holdings if each.member == name), None)
        if holding is not None and self.customers[holding.instance].spec.suspended:
            return None
        up = holding is not None and all(node in self.nodes and not self.nodes[node].failed for node in holding.nodes)
        if self.members.get(name) is not member or holding is None or not holding.held or not up:
            return None
        member.serves = True
        if member.version in self.crashing and not member.crashes:
            after = self.crashing[member.version]
            self.later(after, lambda: self.crash(name, member), ("crashes", name))
        return f"{name} serves"

    def crash(self, name: str, member: Member) -> str | None:
        if self.members.get(name) is not member or not member.serves:
            return None
        member.serves, member.crashes = False, member.crashes + 1
        return f"{name} crashes, and does not come up again"

    def _stop(self, name: str) -> None:
        member = self.members.get(name)
        if member is None:
            return
        member.serves = False

        def gone() -> str | None:
            if self.members.get(name) is not member:
                return None
            del self.members[name]
            return ""  # the plan says it

        self.later(timedelta(minutes=self.random.choice(GONE_MINUTES)), gone, ("gone", name))

    def _outside(self, plan: RolloutsPlan) -> None:
        """What others do about the plan: the class lends what it has unclaimed, Jobs pull artifacts."""
        wanted = sum(record.borrowed for record in plan.records)
        if wanted > self.borrowed and self.unclaimed >= wanted - self.borrowed:
            more = wanted - self.borrowed

            def lend() -> str | None:
                if self.unclaimed < more:
                    return None
                self.unclaimed -= more
                self.borrowed += more
                there = self.nodes["gpu-lent"].blocks if "gpu-lent" in self.nodes else 0
                self.add_node("gpu-lent", there + more, contracted=False)
                return f"the class lends {cu_of(more)} CU on gpu-lent"

            if not any(event.key == ("lend", "") for event in self.events):
                self.later(timedelta(minutes=1), lend, ("lend", ""))
        if self.borrowed > wanted:
            self._give_back(self.borrowed - wanted)
        for report in plan.reports.values():
            for node in report.prefetch:
                self._pull(report.target.snapshot, node)

    def _give_back(self, most: int) -> None:
        """Claims are counts: whatever is idle goes back, wherever it is."""
        used: dict[str, int] = {}
        for holding in self.holdings:
            for node in holding.nodes:
                used[node] = used.get(node, 0) + holding.blocks_per_node
        for name, node in sorted(self.nodes.items(), reverse=True):
            idle = min(most, node.blocks - used.get(name, 0))
            if idle > 0:
                self.nodes[name] = replace(node, blocks=node.blocks - idle)
                self.borrowed -= idle
                most -= idle
                self.unclaimed += idle
                self.tell(self.now, f"{cu_of(idle)} CU on {name} go back to the class")

    def _pull(self, snapshot: str, node: str) -> None:
        if self.cached is None or (snapshot, node) in self.pulling or node in self.unpullable:
            return
        self.pulling.add((snapshot, node))

        def pulled() -> str | None:
            assert self.cached is not None
            self.pulling.discard((snapshot, node))
            if node not in self.nodes or self.nodes[node].failed:
                return None
            self.cached.setdefault(snapshot, set()).add(node)
            return f"the artifact of {snapshot} is on {node}"

        self.later(timedelta(minutes=2), pulled, ("pulled", f"{snapshot}@{node}"))

    def lose_node(self, name: str) -> None:
        self.change_node(name, usable=False, failed=True, evacuate=True)

    def cordon(self, name: str) -> None:
        self.change_node(name, usable=False, evacuate=True)

    def uncordon(self, name: str) -> None:
        self.change_node(name, usable=True, evacuate=False)

    def replace_node(self, name: str, by: str) -> None:
        """Blocks are claimed elsewhere in place of a node that is being left (N2)."""
        node = self.nodes[name]
        self.add_node(by, node.blocks, contracted=False)
        self.nodes[name] = replace(node, blocks=0, replaced=node.blocks)

    def lose_status(self) -> None:
        """The pool's status is lost and rebuilt from the StatefulSets (C2): what they cannot tell is not there any more."""
        self.records = ()
        self.holdings = tuple(
            replace(each, since=self.members[each.member].made_at)
            for each in self.holdings
            if each.member in self.members
        )

    def forget_versions(self) -> None:
        """As a view gives it of holdings of an older record: the StatefulSets' labels say what runs."""
        self.holdings = tuple(replace(each, version=self.members[each.member].version) for each in self.holdings)

    def retarget(self, name: str, target: Version) -> None:
        """Another target without an edit of the spec: its generation stays."""
        customer = self.customers[name]
        customer.spec = replace(customer.spec, target=target)
        customer.history.append(target)

    def _tell_plan(self, plan: RolloutsPlan, notes: Iterable[str]) -> None:
        for note in notes:
            self.tell(self.now, f"    {note}")
        for name, customer in sorted(self.customers.items()):
            if len(self.customers) > 1 and plan.reports[name].record is None:
                continue
            shown = (self.line_of(customer), self.picture(name, plan.holdings.holdings))
            if shown != self.shown.get(name):
                self.shown[name] = shown
                self.tell(self.now, f"  {shown[0]}")
                self._tell_why(name)
                self.tell(self.now, f"    {shown[1]}")

    def _tell_why(self, name: str) -> None:
        why = self.reports[name].why
        if why and why != self.whys.get(name):
            self.tell(self.now, f"    why: {why}")
        self.whys[name] = why

    def line_of(self, customer: Customer) -> str:
        report = self.reports[customer.name]
        parts = [f"{customer.name}: {report.phase.value}"]
        parts += [report.step] if report.step else []
        parts += [report.blocked_on] if report.blocked_on else []
        return " | ".join(parts)

    def picture(self, instance: str, holdings: Iterable[Holding]) -> str:
        found = []
        for holding in sorted(holdings, key=lambda each: each.member):
            if holding.instance != instance:
                continue
            failed = any(name not in self.nodes or self.nodes[name].failed for name in holding.nodes)
            member = self.members.get(holding.member, _NOBODY)
            state = "serves" if member.serves else "starts" if holding.version not in self.bad else "fails"
            state = "crashed" if member.crashes and not member.serves else state
            state = "lost" if failed else state
            state = "suspended" if self.customers[instance].spec.suspended and holding.held else state
            state = state if holding.held else "terminates"
            found.append(
                f"{holding.member} {holding.version} {state} on {'+'.join(holding.nodes)}".replace(" ", HARD_SPACE)
            )
        return ", ".join(found) or "no members"

    def versions(self, instance: str) -> list[str]:
        return sorted(str(each.version) for each in self.holdings if each.held and each.instance == instance)

    def standing(self, instance: str) -> int:
        return len(standing([each for each in self.holdings if each.instance == instance]))


_NOBODY = Member(None, NOON)
_OF_DEMAND = {"desired", "min_available", "accept_below_minimum", "freeze", "priority"}
__all__ = ["NOON", "Freeze", "HoldingState", "World"]
