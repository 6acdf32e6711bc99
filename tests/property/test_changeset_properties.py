"""Change sets of any pool (behaviour.md F1-F5, C6, I2, I7, I8), with brute force as the judge of small cases.

The cluster does what it likes: members come in any order, serve and go whenever, the operator crashes, nodes fail.
"""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from datetime import timedelta

from hypothesis import assume, given
from hypothesis import strategies as st

from reserved_capacity.domain.changesets import ChangeSetRecord, MemberSpec, Phase, StepState, plan_change_sets
from reserved_capacity.domain.holdings import Demand, Holding, PoolNode, PoolState, blocks_held_by_node
from tests.property.worlds import NOW, shuffled
from tests.unit.domain.test_domain_changesets import PATIENCE, World, over_provisioned, world

Wishes = Mapping[str, int]


@st.composite
def demand_lists(draw: st.DrawFn, *, sizes: tuple[int, ...] = (1, 2, 3)) -> tuple[Demand, ...]:
    offerings = {name: (draw(st.sampled_from(sizes)), draw(st.sampled_from((1, 1, 2, 3)))) for name in "xyz"}
    demands = []
    for name in "abcd"[: draw(st.integers(2, 4))]:
        offering = draw(st.sampled_from("xyz"))
        size, minimum = offerings[offering]
        demands.append(Demand(name, f"uid-{name}", offering, size, minimum, 0, draw(st.integers(0, 1)), NOW))
    return tuple(demands)


@st.composite
def worlds(draw: st.DrawFn, *, sizes: tuple[int, ...] = (1, 2, 3)) -> World:
    """A pool at rest: everybody asks for what they hold, and all of it serves."""
    nodes = [
        PoolNode(f"gpu-{at}", draw(st.sampled_from((6, 4, 3, 2, 5))), usable=True)
        for at in range(draw(st.integers(1, 3)))
    ]
    free = {node.name: node.blocks for node in nodes}
    demands, holdings = [], []
    for demand in draw(demand_lists(sizes=sizes)):
        places = draw(st.lists(st.sampled_from(sorted(free)), min_size=draw(st.sampled_from((0, 4))), max_size=8))
        at = 0
        for place in places:
            if free[place] >= demand.blocks_per_instance:
                free[place] -= demand.blocks_per_instance
                member = f"{demand.instance}-{at}"
                holdings.append(Holding(demand.instance, member, demand.blocks_per_instance, (place,), NOW))
                at += 1
        demands.append(replace(demand, desired=at))
    made = world(*demands, nodes=nodes, holdings=holdings)
    made.contracted = sum(node.blocks for node in nodes) + draw(st.sampled_from((0, 0, 2)))
    return made


@st.composite
def wishes(draw: st.DrawFn, seen: World) -> dict[str, int]:
    """Anything, or, more often, what has a chance: some shrink, the others share what that brings."""
    members = draw(st.lists(st.sampled_from(sorted(seen.demands)), min_size=2, unique=True))
    if draw(st.integers(0, 3)) == 0:
        return {name: draw(st.integers(0, 5)) for name in members}
    counts = seen.counts()
    members.sort(key=lambda name: -counts[name])
    shrink = {name for name in members[1:] if draw(st.integers(0, 3)) == 0} | {members[0]}
    wished = {name: draw(st.integers(0, counts[name])) if name in shrink else counts[name] for name in members}
    kept = sum((wished.get(name, count)) * seen.demands[name].blocks_per_instance for name, count in counts.items())
    room = sum(node.blocks for node in seen.nodes.values()) - kept
    for name in members:
        if name not in shrink:
            most = room // seen.demands[name].blocks_per_instance
            more = draw(st.one_of(st.just(most), st.integers(0, most)))
            wished[name] += more
            room -= more * seen.demands[name].blocks_per_instance
    return wished


def arrive(seen: World, wished: Wishes, name: str) -> None:
    seen.arrive(name, wished[name], members=len(wished))


def copied(seen: World) -> World:
    return replace(
        seen,
        nodes=dict(seen.nodes),
        demands=dict(seen.demands),
        carries=dict(seen.carries),
        up=set(seen.up),
        gone=set(seen.gone),
    )


def offering_counts(seen: World) -> Counter[str]:
    return Counter(seen.demands[each.instance].offering for each in seen.holdings if each.held)


def checked_step(seen: World) -> None:
    """One pass, with all that must hold of it whatever the state."""
    plan, again = seen.look(), seen.look()
    assert plan == again
    leaving = {each.member for each in seen.holdings if not each.held}
    before, counts_before = offering_counts(seen), seen.counts()
    phase = seen.record.phase if seen.records else None
    seen.step()
    assert over_provisioned(seen.nodes.values(), seen.holdings) == 0
    assert sum(each.blocks for each in seen.holdings) <= seen.contracted
    assert len({each.member for each in seen.holdings}) == len(seen.holdings)
    if phase is None or seen.record.phase in (Phase.INCOMPLETE, Phase.REJECTED):
        assert seen.counts() == counts_before
    if seen.record.phase is Phase.EXECUTING:
        nodes_fine = all(node.usable for node in seen.nodes.values())
        now_leaving = {each.member for each in seen.holdings if not each.held}
        assert not nodes_fine or len(now_leaving) <= 1
        if nodes_fine and now_leaving - leaving:
            after = offering_counts(seen)
            for demand in seen.demands.values():
                final = final_count(seen, demand.offering)
                shrunk = after[demand.offering] < before[demand.offering]
                assert not final or not shrunk or after[demand.offering] >= demand.min_instances


def final_count(seen: World, offering: str) -> int:
    counts = seen.counts()
    return sum(
        seen.carries[name].desired if name in seen.carries else counts[name]
        for name, demand in seen.demands.items()
        if demand.offering == offering
    )


def finished(seen: World, limit: int = 120) -> None:
    """All that may happen happens, one pass after the other, until nothing does."""
    for _ in range(limit):
        before = (seen.records, seen.holdings, set(seen.up))
        checked_step(seen)
        seen.confirm()
        if before == (seen.records, seen.holdings, seen.up) and not seen.gone:
            return
    raise AssertionError(f"does not end: {seen.records}")


def outcome(seen: World, started: Wishes, wished: Wishes) -> None:
    counts = seen.counts()
    if seen.record.phase is Phase.DONE:
        assert {name: counts[name] for name in wished} == wished
        assert {name: counts[name] for name in counts if name not in wished} == {
            name: started[name] for name in counts if name not in wished
        }
    else:
        assert seen.record.phase in (Phase.REJECTED, Phase.ROLLED_BACK)
        assert counts == started


@given(worlds(), st.data())
def test_f1_every_order_of_arrival_ends_in_the_same_counts(seen: World, data: st.DataObject) -> None:
    wished = data.draw(wishes(seen))
    started, ends = seen.counts(), []
    for order in itertools.islice(itertools.permutations(wished), 6):
        other = copied(seen)
        for name in order:
            arrive(other, wished, name)
            for _ in range(data.draw(st.integers(0, 2))):
                checked_step(other)
                other.confirm()
        finished(other)
        outcome(other, started, wished)
        ends.append((other.counts(), other.record.phase, other.record.message))
    assert all(each == ends[0] for each in ends)


EVENTS = st.lists(st.sampled_from(("step", "step", "crash", "up", "gone", "late", "lost")), max_size=40)


def happen(seen: World, event: str, data: st.DataObject) -> None:
    """One thing that may happen at any time. A crash is a pass whose write is lost."""
    match event:
        case "step":
            checked_step(seen)
        case "crash":
            seen.look()
        case "up":
            names = sorted({each.member for each in seen.holdings if each.held} - seen.up)
            seen.up |= {data.draw(st.sampled_from(names))} if names else set()
        case "gone":
            names = sorted({each.member for each in seen.holdings if not each.held} - seen.gone)
            seen.gone |= {data.draw(st.sampled_from(names))} if names else set()
        case "late":
            seen.now += PATIENCE / 2
        case "lost":
            serving = sorted(seen.up)
            seen.up -= {data.draw(st.sampled_from(serving))} if serving else set()


@given(worlds(), EVENTS, st.data())
def test_f3_f4_whatever_happens_a_set_ends_whole_or_not_at_all(
    seen: World, events: list[str], data: st.DataObject
) -> None:
    wished = data.draw(wishes(seen))
    started = seen.counts()
    for name in data.draw(st.permutations(sorted(wished))):
        arrive(seen, wished, name)
        checked_step(seen)
    for event in events:
        happen(seen, event, data)
    finished(seen)
    outcome(seen, started, wished)


@given(worlds(), EVENTS, st.data())
def test_a_node_that_fails_or_is_cordoned_at_any_time_breaks_no_invariant_and_no_end(
    seen: World, events: list[str], data: st.DataObject
) -> None:
    wished = data.draw(wishes(seen))
    for name in wished:
        arrive(seen, wished, name)
    at = data.draw(st.integers(0, len(events)))
    name = data.draw(st.sampled_from(sorted(seen.nodes)))
    failed = data.draw(st.booleans())
    for number, event in enumerate(events):
        if number == at:
            seen.nodes[name] = replace(seen.nodes[name], usable=False, failed=failed, evacuate=failed)
        happen(seen, event, data)
    finished(seen)
    seen.nodes[name] = replace(seen.nodes[name], usable=True, failed=False, evacuate=False)
    finished(seen)
    assert seen.record.phase in (Phase.DONE, Phase.REJECTED, Phase.ROLLED_BACK)
    if seen.record.phase is Phase.DONE:
        counts = seen.counts()
        assert all(counts[each] == desired for each, desired in wished.items())


@given(worlds(), EVENTS, st.data())
def test_f5_members_that_leave_at_any_time_stop_nothing_but_the_set(
    seen: World, events: list[str], data: st.DataObject
) -> None:
    wished = data.draw(wishes(seen))
    for name in wished:
        arrive(seen, wished, name)
    at = data.draw(st.integers(0, len(events)))
    for number, event in enumerate(events):
        if number == at:
            seen.carries.pop(data.draw(st.sampled_from(sorted(wished))))
        happen_loosely(seen, event, data)
    seen.carries.clear()
    seen.step()
    seen.settle()
    assert all(each.phase is Phase.DONE or not each.members for each in seen.records)


def happen_loosely(seen: World, event: str, data: st.DataObject) -> None:
    """Who left goes on by its own spec, so only what holds of every plan is looked at."""
    if event == "step":
        assert seen.look() == seen.look()
        seen.step()
        assert over_provisioned(seen.nodes.values(), seen.holdings) == 0
    else:
        happen(seen, event, data)


@given(worlds(), EVENTS, st.booleans(), st.data())
def test_others_who_want_more_get_what_is_left_and_never_what_the_set_needs(
    seen: World, events: list[str], serves: bool, data: st.DataObject
) -> None:
    wished = data.draw(wishes(seen))
    started = seen.counts()
    for name in wished:
        arrive(seen, wished, name)
    seen.step()
    if seen.record.phase is not Phase.EXECUTING:
        return
    for name in seen.demands.keys() - wished.keys():
        seen.demands[name] = replace(seen.demands[name], desired=9, priority=9)
    seen.demands["greedy"] = Demand("greedy", "uid-greedy", "g", 1, 1, 20, 9, NOW)
    for event in events if serves else ():
        happen_loosely(seen, event, data)
    for _ in range(80):
        seen.step()
        seen.confirm(up=serves)
        seen.now += PATIENCE / 4 if not serves else timedelta(0)
    counts = seen.counts()
    grows = any(wished[name] > started[name] for name in wished)
    assert seen.record.phase in (
        (Phase.DONE, Phase.ROLLED_BACK) if serves else (Phase.ROLLED_BACK,) if grows else (Phase.DONE,)
    )
    ends = wished if seen.record.phase is Phase.DONE else started
    assert {name: counts[name] for name in wished} == {name: ends[name] for name in wished}


@given(worlds(), EVENTS, st.data())
def test_i7_the_order_in_which_the_world_is_seen_does_not_matter(
    seen: World, events: list[str], data: st.DataObject
) -> None:
    wished = data.draw(wishes(seen))
    for name in wished:
        arrive(seen, wished, name)
    for event in events:
        happen(seen, event, data)
    state = seen.state()
    other = replace(
        state,
        nodes=shuffled(data, state.nodes),
        holdings=shuffled(data, state.holdings),
        demands=shuffled(data, state.demands),
    )
    specs = shuffled(data, list(seen.carries.values()))
    plan = plan_change_sets(other, specs, seen.records, {}, now=seen.now)
    mine = seen.look()
    assert replace(plan, holdings=(), notes=()) == replace(mine, holdings=(), notes=())
    assert sorted(plan.holdings, key=lambda each: each.member) == sorted(mine.holdings, key=lambda each: each.member)
    assert sorted(plan.notes) == sorted(mine.notes)


@given(worlds(), EVENTS, st.data())
def test_i8_a_settled_set_is_planned_again_as_it_is(seen: World, events: list[str], data: st.DataObject) -> None:
    wished = data.draw(wishes(seen))
    for name in wished:
        arrive(seen, wished, name)
    for event in events:
        happen(seen, event, data)
    finished(seen)
    settled = (seen.records, seen.holdings)
    seen.now += timedelta(days=1)
    assert seen.step().notes == ()
    assert (seen.records, seen.holdings) == settled


@given(worlds(), st.data())
def test_f4_if_nothing_ever_serves_all_is_as_it_was(seen: World, data: st.DataObject) -> None:
    wished = data.draw(wishes(seen))
    started, held = seen.counts(), {(each.instance, each.nodes) for each in seen.holdings}
    for name in wished:
        arrive(seen, wished, name)
    for _ in range(80):
        checked_step(seen)
        seen.confirm(up=False)
        seen.now += PATIENCE / 4
    if any(wished[name] > started[name] for name in wished):
        assert seen.record.phase in (Phase.REJECTED, Phase.ROLLED_BACK)
        assert seen.counts() == started
        assert {(each.instance, each.nodes) for each in seen.holdings} == held
    else:
        assert seen.record.phase in (Phase.REJECTED, Phase.DONE)


# --------------------------------------------------------------------------------------------------------- brute force


@dataclass(frozen=True)
class Board:
    """`there`: instance, node and blocks of each old member still held; `missing`: to place, or below 0 to free."""

    free: Mapping[str, int]
    there: tuple[tuple[str, str, int], ...]
    missing: Mapping[str, int]
    count: Mapping[str, int]

    @property
    def key(self) -> tuple[object, ...]:
        return (tuple(sorted(self.free.items())), self.there, tuple(sorted(self.missing.items())))

    def changed(self, name: str, offering: str, node: str, blocks: int, by: int) -> Board:
        return Board(
            {**self.free, node: self.free[node] - by * blocks},
            self.there,
            {**self.missing, name: self.missing[name] - by},
            {**self.count, offering: self.count[offering] + by},
        )


class Judge:
    """Tries every order of steps, every choice of whom to free and every place."""

    def __init__(self, state: PoolState, specs: Mapping[str, MemberSpec]) -> None:
        self.demands = {each.instance: each for each in state.demands}
        self.held = Counter(each.instance for each in state.holdings)
        self.final, count = Counter[str](), Counter[str]()
        for name, demand in self.demands.items():
            self.final[demand.offering] += specs[name].desired if name in specs else self.held[name]
            count[demand.offering] += self.held[name]
        used = blocks_held_by_node(state.holdings)
        self.start = Board(
            {node.name: node.blocks - used.get(node.name, 0) for node in state.nodes},
            tuple(sorted((each.instance, each.nodes[0], each.blocks) for each in state.holdings)),
            {name: spec.desired - self.held[name] for name, spec in specs.items()},
            count,
        )

    def possible(self) -> bool:
        seen, open_ = set(), [self.start]
        while open_:
            board = open_.pop()
            if not any(board.missing.values()):
                return True
            if board.key not in seen:
                seen.add(board.key)
                open_ += [*self.places(board), *self.frees(board)]
        return False

    def places(self, board: Board) -> Iterator[Board]:
        for name, node in itertools.product(board.missing, board.free):
            demand = self.demands[name]
            if board.missing[name] > 0 and board.free[node] >= demand.blocks_per_instance:
                yield board.changed(name, demand.offering, node, demand.blocks_per_instance, 1)

    def frees(self, board: Board) -> Iterator[Board]:
        for at, (name, node, blocks) in enumerate(board.there):
            demand = self.demands[name]
            floor = demand.min_instances if self.final[demand.offering] else 0
            if board.missing.get(name, 0) < 0 and board.count[demand.offering] > floor:
                after = board.changed(name, demand.offering, node, blocks, -1)
                yield replace(after, there=(*board.there[:at], *board.there[at + 1 :]))


def possible(state: PoolState, specs: Mapping[str, MemberSpec]) -> bool:
    return Judge(state, specs).possible()


def judged(seen: World) -> ChangeSetRecord:
    seen.step()
    return seen.record


@given(worlds(sizes=(2,)), st.data())
def test_f2_with_equal_sizes_a_set_is_rejected_only_if_no_order_of_steps_exists(
    seen: World, data: st.DataObject
) -> None:
    wished = data.draw(wishes(seen))
    for name in wished:
        arrive(seen, wished, name)
    specs, state = dict(seen.carries), seen.state()
    record = judged(seen)
    minimums_met = all(
        not 0 < final_count(seen, each.offering) < each.min_instances
        for each in seen.demands.values()
        if each.instance in wished
    )
    assert (record.phase is not Phase.REJECTED) == (minimums_met and possible(state, specs))


@given(worlds(), st.data())
def test_f2_with_new_members_of_one_size_and_old_ones_of_any_too(seen: World, data: st.DataObject) -> None:
    wished = data.draw(wishes(seen))
    grown = {
        seen.demands[name].blocks_per_instance for name, desired in wished.items() if desired > seen.counts()[name]
    }
    assume(len(grown) == 1)
    seen.demands = {
        name: replace(each, min_instances=1, offering=f"model-of-{name}") for name, each in seen.demands.items()
    }
    for name in wished:
        arrive(seen, wished, name)
    specs, state = dict(seen.carries), seen.state()
    assert (judged(seen).phase is not Phase.REJECTED) == possible(state, specs)


@given(worlds(), st.data())
def test_f2_what_is_accepted_can_be_carried_out(seen: World, data: st.DataObject) -> None:
    wished = data.draw(wishes(seen))
    for name in wished:
        arrive(seen, wished, name)
    specs, state = dict(seen.carries), seen.state()
    record = judged(seen)
    if record.phase is Phase.EXECUTING:
        assert possible(state, specs)
        assert {step.state for step in record.steps} == {StepState.PENDING}
        change = Counter(step.instance for step in record.steps)
        assert change == {
            name: abs(desired - held) for name, desired, held in changes(state, wished) if desired != held
        }


def changes(state: PoolState, wished: Wishes) -> list[tuple[str, int, int]]:
    held = Counter(each.instance for each in state.holdings)
    return [(name, desired, held[name]) for name, desired in wished.items()]
