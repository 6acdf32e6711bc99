"""Is a change set possible, and in which steps: the final vector judged as a whole (behaviour.md F2, F3, C3, C6, C8).

The set is played through on paper, one member placed or freed at a time; what was played is the plan.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice

from .changeset_execution import MAX_STEPS, Crew, Step, StepAction
from .holdings import Demand, Holding, PoolState, Request, ordinal_of, standing
from .placement import Place, Room, best_fit
from .units import cu_of

_EFFORT = 100_000  # node visits spent on other choices of whom to free, when the first one does not pack
_MAX_GROUPS = 40  # beyond so many kinds of members to free, trying them all has no prospect


@dataclass(frozen=True, slots=True)
class Judgement:
    """The steps of a set that is possible, or why it is not."""

    steps: tuple[Step, ...] = ()
    refusal: str = ""


def judge_change_set(crew: Crew, pool: PoolState, alone: Mapping[str, str]) -> Judgement:
    """F2: own checks, sum, minimums, and real packing step by step."""
    demands = {each.instance for each in pool.demands}
    refusals = {name: alone[name] for name in crew if name in alone}
    refusals |= {name: "it is not an instance of this pool" for name in crew if name not in demands}
    if refusals:
        return Judgement(refusal="; ".join(f"{name}: {why}" for name, why in sorted(refusals.items())))
    task = _task(crew, pool)
    refusal = _vector_refusal(task, crew)
    if refusal:
        return Judgement(refusal=refusal)
    steps = _plan(task)
    if steps is None:
        return Judgement(refusal=_packing_refusal(task))
    if len(steps) > MAX_STEPS:
        return Judgement(refusal=f"need {len(steps)} steps, have room for {MAX_STEPS} in the pool's status")
    return Judgement(tuple(steps))


@dataclass(frozen=True, slots=True)
class _Task:
    """The final vector: who grows by how much, and who may be freed, in order of preference, by instance."""

    pool: PoolState
    held: Mapping[str, list[Holding]]
    growth: Mapping[str, int]
    surplus: Mapping[str, int]
    final: Counter[str]  # instances by offering

    def wants(self) -> list[Demand]:
        """One demand for every new member; the largest first, which packs best, then by admission (C3, C5)."""
        grown = [each for each in self.pool.demands if self.growth.get(each.instance)]
        grown.sort(key=lambda each: (-each.blocks_per_instance, *each.admission_order))
        return [each for each in grown for _ in range(self.growth[each.instance])]

    def blocks(self) -> int:
        stay = sum(holding.blocks for name, held in self.held.items() for holding in held[self.surplus.get(name, 0) :])
        return stay + sum(each.blocks_per_instance for each in self.wants())


def _task(crew: Crew, pool: PoolState) -> _Task:
    usable = {node.name for node in pool.nodes if node.usable}
    held: dict[str, list[Holding]] = {each.instance: [] for each in pool.demands}
    for holding in standing(pool.holdings):
        held.setdefault(holding.instance, []).append(holding)
    for members in held.values():  # whom to free first: off usable nodes, then the highest ordinals
        members.sort(key=lambda each: (usable.issuperset(each.nodes), -ordinal_of(each)))
    final = Counter[str]()
    for demand in pool.demands:
        spec = crew.get(demand.instance)
        final[demand.offering] += spec.desired if spec else len(held[demand.instance])
    change = {name: spec.desired - len(held[name]) for name, spec in crew.items()}
    growth = {name: count for name, count in change.items() if count > 0}
    return _Task(pool, held, growth, {name: -count for name, count in change.items() if count < 0}, final)


def _vector_refusal(task: _Task, crew: Crew) -> str:
    pool, need = task.pool, task.blocks()
    if need > pool.contracted_blocks:
        return f"need {cu_of(need)} CU for all instances of the pool together, have {cu_of(pool.contracted_blocks)} CU contracted"
    usable = {node.name: node.blocks for node in pool.nodes if node.usable}
    off = sum(
        holding.blocks
        for name, held in task.held.items()
        for holding in held[task.surplus.get(name, 0) :]
        if not usable.keys() & set(holding.nodes)
    )
    if task.growth and need - off > sum(usable.values()):
        return f"need {cu_of(need - off)} CU on usable nodes, have {cu_of(sum(usable.values()))} CU provisioned there"
    for demand in sorted(pool.demands, key=lambda each: each.offering):
        count = task.final[demand.offering]
        if demand.instance in crew and 0 < count < demand.min_instances:
            return f"{demand.offering} needs at least {demand.min_instances} instances on the pool or none, and would have {count}"
        if task.growth.get(demand.instance) and not demand.blocks_per_instance:
            return f"{demand.instance}: its offering {demand.offering} is not there"
    return ""


def _packing_refusal(task: _Task) -> str:
    """What does not fit even when all that goes has gone; or the floor that lets nothing go."""
    stay = [holding for name, held in task.held.items() for holding in held[task.surplus.get(name, 0) :]]
    room = Room(task.pool, stay)
    for demand in task.wants():
        if room.place_all([demand.request]) is None:
            need, nodes = cu_of(demand.blocks_per_instance), demand.nodes_per_instance
            piece = f"on each of {nodes} nodes of one {demand.topology_key}" if nodes > 1 else "on one node"
            have = cu_of(max(room.free.values(), default=0))
            return f"the new instances do not fit on the nodes: {demand.instance} needs {need // nodes} CU {piece}, have at most {have} CU on a node"
    floors = sorted(
        {f"{each.offering} {each.min_instances}" for each in task.pool.demands if task.surplus.get(each.instance)}
    )
    return f"no order of steps keeps the minimum of instances on the way ({', '.join(floors)}): have idle room for one more instance, set upgrade.acceptBelowMinimum, or lower the count in a set of its own first"


# ------------------------------------------------------------------------------------------------------- the plan (F3)


def _plan(task: _Task) -> list[Step] | None:
    """Play the set through: first as it comes, then with other choices of whom to free and fixed places (C3).

    With members of one size the second way finds a final packing whenever there is one, within the effort allowed.
    """
    wants = task.wants()
    everyone = [holding for name in sorted(task.surplus) for holding in task.held[name]]
    steps = _Draft(task, [(each, None) for each in wants], everyone).play()
    if steps is not None or not wants:
        return steps
    for victims in islice(_choices(task), max(1, _EFFORT // (len(wants) * (1 + len(task.pool.nodes))))):
        leaving = {holding.member for holding in victims}
        stay = [each for each in standing(task.pool.holdings) if each.member not in leaving]
        targets = Room(task.pool, stay).place_all([each.request for each in wants])
        if targets is not None:
            steps = _Draft(task, list(zip(wants, targets, strict=True)), list(victims)).play()
            if steps is not None:
                return steps
    return None


def _choices(task: _Task) -> Iterator[tuple[Holding, ...]]:
    """Choices of whom to free, the preferred one first, then all; members on the same nodes are the same choice."""
    yield tuple(holding for name, count in sorted(task.surplus.items()) for holding in task.held[name][:count])
    groups: list[list[Holding]] = []
    for name in sorted(task.surplus):
        by_nodes: dict[Place, list[Holding]] = {}
        for holding in task.held[name]:
            by_nodes.setdefault(holding.nodes, []).append(holding)
        groups += [by_nodes[nodes] for nodes in sorted(by_nodes)]
    if len(groups) <= _MAX_GROUPS:
        yield from _ways(groups, dict(task.surplus))


def _ways(groups: Sequence[Sequence[Holding]], left: Mapping[str, int]) -> Iterator[tuple[Holding, ...]]:
    """Every way to take so many of each instance from groups of members that are alike."""
    if not groups:
        yield from () if any(left.values()) else ((),)
        return
    group, name = groups[0], groups[0][0].instance
    later = sum(len(each) for each in groups[1:] if each[0].instance == name)
    for count in range(min(len(group), left[name]), max(0, left[name] - later) - 1, -1):
        for rest in _ways(groups[1:], {**left, name: left[name] - count}):
            yield (*group[:count], *rest)


class _Draft:
    """The set played through on paper: place what fits, else free one, until all is done.

    Members that are being released, or have a successor, already count as gone: a first Place may have to wait for them.
    """

    def __init__(self, task: _Task, wants: Sequence[tuple[Demand, Place | None]], victims: Sequence[Holding]) -> None:
        self.task, self.wants, self.victims = task, list(wants), list(victims)
        self.left = Counter(task.surplus)
        self.holdings = {each.member: each for each in standing(task.pool.holdings)}
        self.room = Room(task.pool, list(self.holdings.values()))
        self.offering = {each.instance: each.offering for each in task.pool.demands}
        self.minimum = {each.offering: each.min_instances for each in task.pool.demands}
        self.below = {each.instance for each in task.pool.demands if each.accept_below_minimum}
        self.count = Counter(
            self.offering[name] for name, held in task.held.items() for _ in held if name in self.offering
        )
        self.used = {each.member for each in task.pool.holdings} | task.pool.taken
        self.steps: list[Step] = []

    def play(self) -> list[Step] | None:
        while self.wants or self.left.total():
            if self._place_fitting():
                continue
            may = [each for each in self.victims if self.left[each.instance] and self._above_floor(each)]
            victim = self._opening(may) if self.wants else next(iter(may), None)
            if victim is None:
                return None
            self._free(victim)
        return self.steps

    def _place_fitting(self) -> bool:
        waiting, failed = [], set[tuple[Request, Place | None]]()
        for demand, target in self.wants:
            request = demand.request
            place = None if (request, target) in failed else self._place(request, target)
            if place is None:
                failed.add((request, target))
                waiting.append((demand, target))
                continue
            self._take(demand, place)
        placed, self.wants = len(waiting) < len(self.wants), waiting
        return placed

    def _place(self, request: Request, target: Place | None) -> Place | None:
        free = self.room.free
        if request.blocks > self.room.room_for(1):
            return None
        if target is None:
            return best_fit(free, request, self.room.labels)
        return target if all(free[node] >= request.part for node in target) else None

    def _take(self, demand: Demand, place: Place) -> None:
        name, blocks = self._name(demand), demand.blocks_per_instance
        self.holdings[name] = Holding(demand.instance, name, blocks, place, demand.created_at)
        for node in place:
            self.room.free[node] -= demand.request.part
        self.room.blocks -= blocks
        self.room.members -= 1
        self.count[demand.offering] += 1
        self.steps.append(Step(StepAction.PLACE, demand.instance, name, blocks, place))

    def _name(self, demand: Demand) -> str:
        ordinal = 0
        while (name := f"{demand.instance}-{ordinal}") in self.used:
            ordinal += 1
        self.used.add(name)
        return name

    def _above_floor(self, holding: Holding) -> bool:
        """C6: the floor holds on the way too, but not for an offering whose final count is 0, nor where it is given up."""
        offering = self.offering[holding.instance]
        if holding.instance in self.below:
            return True
        return not self.task.final[offering] or self.count[offering] > self.minimum[offering]

    def _free(self, holding: Holding) -> None:
        self.victims.remove(holding)
        self.left[holding.instance] -= 1
        self.count[self.offering[holding.instance]] -= 1
        del self.holdings[holding.member]
        self.room = Room(self.task.pool, list(self.holdings.values()))
        self.steps.append(Step(StepAction.FREE, holding.instance, holding.member, holding.blocks, holding.nodes))

    # ---------------------------------------------------------------------------------------------------- whom to free

    def _opening(self, may: Sequence[Holding]) -> Holding | None:
        """The first member to free so that one of those who wait gets room with the fewest frees."""
        there: dict[str, list[Holding]] = {node: [] for node in self.room.free}
        for holding in sorted(may, key=lambda each: -each.blocks_per_node):
            for node in there.keys() & set(holding.nodes):
                there[node].append(holding)
        for request, target in dict.fromkeys((demand.request, target) for demand, target in self.wants):
            opened = self._cheapest(request, target, there)
            if opened is not None:
                return opened[0] if opened else next(iter(may), None)
        return next(iter(may), None)

    def _cheapest(
        self, request: Request, target: Place | None, there: Mapping[str, Sequence[Holding]]
    ) -> list[Holding] | None:
        """Whom to free for one request: on each node the fewest, then on the nodes that need the fewest (C8)."""
        costs: dict[str, list[Holding]] = {}
        for node in target or sorted(self.room.free):
            frees = self._frees_on(node, request.part, there[node])
            if frees is not None:
                costs[node] = frees
        ranked = sorted(costs, key=lambda node: (len(costs[node]), self.room.free[node], node))
        if request.nodes == 1:
            return costs[ranked[0]] if ranked else None
        domains: dict[str, list[str]] = {}
        for node in ranked:
            domains.setdefault(self.room.labels[node].get(request.topology_key, ""), []).append(node)
        ways = [
            [holding for node in nodes[: request.nodes] for holding in costs[node]]
            for domain, nodes in sorted(domains.items())
            if domain and len(nodes) >= request.nodes
        ]
        return min(ways, key=len, default=None)

    def _frees_on(self, node: str, part: int, there: Sequence[Holding]) -> list[Holding] | None:
        slack, left, chosen = self.room.free[node], Counter(self.left), list[Holding]()
        for holding in there:
            if slack >= part:
                break
            if left[holding.instance]:
                left[holding.instance] -= 1
                slack += holding.blocks_per_node
                chosen.append(holding)
        return chosen if slack >= part else None
