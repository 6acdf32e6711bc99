"""Who stops when contracted CU fall (behaviour.md M8, C6, I3, I7; ADR 0026), with counting by hand as the judge."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from datetime import timedelta

from hypothesis import given
from hypothesis import strategies as st

from reserved_capacity.domain.admission import plan_holdings
from reserved_capacity.domain.expiry import ExpirySettings, Outlook, Runner, drain, outlook, plan_stops
from reserved_capacity.domain.holdings import Demand, PoolState, effective_desired, held_count
from reserved_capacity.domain.terms import CommitmentRecord, CommitmentState
from tests.property.worlds import NOW, pool_states, shuffled

END = NOW + timedelta(days=10)


@st.composite
def crowds(draw: st.DrawFn, *, alike: bool = False) -> tuple[Runner, ...]:
    """Instances of up to three offerings; `alike`: all of one size, none with a minimum."""
    offerings = {name: (1, 1) if alike else (draw(st.integers(1, 4)), draw(st.integers(0, 4))) for name in "xyz"}
    runners = []
    for name in sorted(draw(st.sets(st.sampled_from("abcdef"), min_size=1))):
        offering = draw(st.sampled_from("xyz"))
        size, minimum = offerings[offering]
        demand = Demand(
            instance=name,
            uid=f"uid-{name}",
            offering=offering,
            blocks_per_instance=size,
            min_instances=minimum,
            desired=4,
            priority=draw(st.integers(0, 2)),
            created_at=NOW + timedelta(minutes=draw(st.integers(0, 2))),
        )
        runners.append(Runner(demand, draw(st.integers(0, 4))))
    return tuple(runners)


orders = st.lists(st.sampled_from("abcdefg"), max_size=4, unique=True)


def counts(runners: Sequence[Runner], room: int, order: Sequence[str]) -> Counter[str]:
    stopped = Counter[str]()
    for unit in plan_stops(runners, room, order):
        stopped.update(dict(unit.instances))
    return stopped


def blocks(runners: Sequence[Runner], stopped: Counter[str]) -> int:
    return sum((each.count - stopped[each.demand.instance]) * each.demand.blocks_per_instance for each in runners)


def by_offering(runners: Sequence[Runner], stopped: Counter[str]) -> Counter[str]:
    found = Counter[str]()
    for each in runners:
        found[each.demand.offering] += each.count - stopped[each.demand.instance]
    return found


def floors(runners: Sequence[Runner]) -> dict[str, int]:
    """The least that an offering may run with: its minimum, or what is left of it where that is fewer already."""
    running = by_offering(runners, Counter())
    return {
        each.demand.offering: min(running[each.demand.offering], max(1, each.demand.min_instances)) for each in runners
    }


@given(crowds(), st.integers(0, 40), orders)
def test_m8_the_rest_fits_and_nobody_stops_more_than_runs(
    runners: tuple[Runner, ...], room: int, order: list[str]
) -> None:
    stopped = counts(runners, room, order)
    assert blocks(runners, stopped) <= room
    assert all(0 <= stopped[each.demand.instance] <= each.count for each in runners)
    if blocks(runners, Counter()) <= room:
        assert not stopped


@given(crowds(), st.integers(0, 40), orders)
def test_c6_i3_an_offering_is_left_with_nothing_or_with_its_minimum(
    runners: tuple[Runner, ...], room: int, order: list[str]
) -> None:
    left = by_offering(runners, counts(runners, room, order))
    assert all(left[offering] == 0 or left[offering] >= floor for offering, floor in floors(runners).items())


@given(crowds(), st.integers(0, 40), orders)
def test_m8_nothing_that_stops_could_have_stayed(runners: tuple[Runner, ...], room: int, order: list[str]) -> None:
    """Neither one more instance of what runs on, nor the least of an offering that stops altogether."""
    stopped = counts(runners, room, order)
    used, left, least = blocks(runners, stopped), by_offering(runners, stopped), floors(runners)
    for each in runners:
        if stopped[each.demand.instance]:
            offering = each.demand.offering
            again = 1 if left[offering] else least[offering]
            assert used + again * each.demand.blocks_per_instance > room


@given(crowds(alike=True), st.integers(0, 25), orders)
def test_m8_among_equals_the_named_stop_first_then_the_lowest_priority_then_the_youngest(
    runners: tuple[Runner, ...], room: int, order: list[str]
) -> None:
    singles = [replace(each.demand, offering=each.demand.instance) for each in runners]
    crowd = [Runner(demand, each.count) for demand, each in zip(singles, runners, strict=True)]
    stopped = counts(crowd, room, order)

    def rank(each: Runner) -> tuple[int, int, float, str]:
        demand = each.demand
        named = order.index(demand.instance) if demand.instance in order else len(order)
        return (named, demand.priority, -demand.created_at.timestamp(), demand.uid)

    line = sorted(crowd, key=lambda each: (*rank(each)[:3], tuple(-ord(letter) for letter in each.demand.uid)))
    need = max(0, sum(each.count for each in crowd) - room)
    for each in line:
        goes = min(need, each.count)
        assert stopped[each.demand.instance] == goes
        need -= goes


@given(crowds(), st.integers(0, 40), orders, st.data())
def test_i7_who_stops_does_not_depend_on_the_order_in_which_instances_are_seen(
    runners: tuple[Runner, ...], room: int, order: list[str], data: st.DataObject
) -> None:
    assert plan_stops(shuffled(data, runners), room, order) == plan_stops(runners, room, order)


@given(crowds(), st.integers(0, 40), orders)
def test_m8_stopping_one_by_one_comes_to_the_same_as_stopping_all_at_once(
    runners: tuple[Runner, ...], room: int, order: list[str]
) -> None:
    units = plan_stops(runners, room, order)
    while units:
        first = dict(units[0].instances)
        runners = tuple(replace(each, count=each.count - first.get(each.demand.instance, 0)) for each in runners)
        rest = plan_stops(runners, room, order)
        assert rest == units[1:]
        units = rest


# --------------------------------------------------------------------------------------------- in a pool, pass by pass


def settle(pool: PoolState, ahead: Outlook, settings: ExpirySettings, *, at_the_end: bool) -> PoolState:
    """Until the plans stand still; whoever is released is gone at the next look."""
    now = END if at_the_end else END - timedelta(minutes=30)
    for _ in range(60):
        gone = frozenset(each.member for each in pool.holdings if not each.held)
        drained = drain(pool, ahead, settings, now=now)
        fresh = {each.member for each in drained.holdings if not each.held} - gone
        assert at_the_end or not (gone and fresh), "one after the other"
        plan = plan_holdings(replace(pool, holdings=drained.holdings, gone=gone, taken=frozenset()), now=now)
        if plan.holdings == pool.holdings:
            return pool
        pool = replace(pool, holdings=plan.holdings)
    raise AssertionError("the drain does not come to an end")


@given(pool_states(mixed_sizes=False), st.integers(0, 12), st.integers(0, 12), orders, st.booleans())
def test_m8_after_the_drain_the_pool_holds_no_more_than_is_left_and_what_could_stay_has_stayed(
    pool: PoolState, ending: int, lasting: int, order: list[str], at_the_end: bool
) -> None:
    """From any state; members on lost nodes are fenced at once, for nobody says otherwise."""
    nodes = tuple(node for node in pool.nodes if not node.failed)
    there = {node.name for node in nodes}
    holdings = tuple(each for each in pool.holdings if there.issuperset(each.nodes))
    pool = replace(pool, nodes=nodes, holdings=holdings)
    state = CommitmentState.EXPIRED if at_the_end else CommitmentState.EXPIRING
    begun = NOW - timedelta(days=80)
    records = (
        CommitmentRecord("po-1", begun, 100 * ending, state, billing_start=begun, term_end=END),
        CommitmentRecord("po-2", begun, 100 * lasting, CommitmentState.ACTIVE, billing_start=begun),
    )
    settings = ExpirySettings(timedelta(hours=1), tuple(order))
    now = END if at_the_end else END - timedelta(minutes=30)
    ahead = outlook(records, settings, now=now)
    pool = replace(pool, contracted_blocks=lasting)
    if not at_the_end and not ending:
        return
    held = Counter({demand.instance: held_count(demand.instance, pool.holdings) for demand in pool.demands})
    wanted = sum(
        min(held[each.instance], effective_desired(each, held[each.instance])) * each.blocks_per_instance
        for each in pool.demands
    )
    after = settle(pool, ahead, settings, at_the_end=at_the_end)
    total = sum(each.blocks for each in after.holdings)
    assert total <= lasting
    if wanted <= lasting:
        for each in pool.demands:
            assert held_count(each.instance, after.holdings) >= min(
                held[each.instance], effective_desired(each, held[each.instance])
            )
