"""Rollouts of any kind in any weather (behaviour.md S1-S6, C6, I1, I2, I4, I7, I8): the invariants of the stories hold after
every write, and when the weather clears, everybody runs what is asked for."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from datetime import datetime, timedelta

from hypothesis import given, note
from hypothesis import strategies as st

from reserved_capacity.domain.holdings import PoolState
from reserved_capacity.domain.rollout.planning import plan_rollouts
from reserved_capacity.domain.rollout.values import (
    Canary,
    OnFailure,
    RolloutPhase,
    RolloutState,
    Strategy,
    WhenNoSpare,
    Window,
)
from reserved_capacity.domain.versions import Version
from tests.golden.story import Story
from tests.golden.world import NOON, World
from tests.property.worlds import shuffled

VERSIONS = tuple(Version(name) for name in ("v1", "v2", "v3"))
NAMES = ("chat", "night")
Act = tuple[str, Callable[[World], object]]


@st.composite
def stages(draw: st.DrawFn) -> Story:
    """One or two instances of one or two models on a pool that is full, or nearly so."""
    story = Story(draw(st.integers(0, 99)))
    together = draw(st.booleans())
    spare = draw(st.integers(0, 3))
    for at, name in enumerate(NAMES[: draw(st.integers(1, 2))]):
        count, blocks = draw(st.integers(1, 4)), draw(st.integers(1, 2))
        story.world.add_node(f"gpu-{at}", count * blocks)
        story.instance(
            name,
            at=[f"gpu-{at}"] * count,
            blocks=blocks,
            minimum=draw(st.integers(1, 3)),
            offering="gpt" if together else "",
            priority=draw(st.integers(0, 1)),
            min_available=draw(st.none() | st.integers(0, 4)),
            accept_below_minimum=draw(st.booleans()),
            strategy=draw(st.sampled_from(Strategy)),
            when_no_spare=draw(st.sampled_from(WhenNoSpare)),
            max_surge=draw(st.integers(1, 3)),
            on_failure=draw(st.sampled_from(OnFailure)),
            canary=draw(st.none() | st.builds(Canary, st.integers(1, 2), st.just(timedelta(minutes=5)))),
        )
    if spare:
        story.world.add_node("gpu-spare", spare)
    story.world.writes_at_once = 4  # nodes, members and rollouts may take a step after the other
    story.world.unclaimed = draw(st.sampled_from((0, 8)))
    return story


@st.composite
def acts(draw: st.DrawFn) -> Act:
    """What people and things do."""
    name = draw(st.sampled_from(NAMES))
    node = draw(st.sampled_from(("gpu-0", "gpu-1", "gpu-spare")))
    version, count, flag = draw(st.sampled_from(VERSIONS)), draw(st.integers(0, 4)), draw(st.booleans())
    number = draw(st.integers(0, 5))
    choices: list[Act] = [
        (f"{name} is set to {version}", lambda world: _edit(world, name, target=version)),
        (f"{name} is set to {version} again", lambda world: _edit(world, name, target=version)),
        (f"{name} is scaled to {count}", lambda world: _edit(world, name, desired=count)),
        (f"{name} is paused: {flag}", lambda world: _edit(world, name, paused=flag)),
        (f"{name} is approved", lambda world: _approve(world, name)),
        (f"{name} gets minAvailable {count}", lambda world: _edit(world, name, min_available=count)),
        (f"{version} is bad", lambda world: world.bad.update({version: "CrashLoopBackOff"})),
        (f"{version} is good", lambda world: world.bad.pop(version, None)),
        (f"member {number} of {name} crashes", lambda world: _crash(world, f"{name}-{number}")),
        (f"{node} fails", lambda world: node in world.nodes and world.lose_node(node)),
        (f"{node} is cordoned", lambda world: node in world.nodes and world.cordon(node)),
        (f"{node} is there again", lambda world: _mend(world, node)),
        (f"{name} is suspended: {flag}", lambda world: _edit(world, name, suspended=flag)),
        ("the pool's status is lost", lambda world: world.lose_status()),
    ]
    return draw(st.sampled_from(choices))


def _edit(world: World, name: str, **changes: object) -> None:
    if name in world.customers:
        world.edit(name, **changes)


def _approve(world: World, name: str) -> None:
    record = next((each for each in world.records if each.instance == name), None)
    canary = world.customers[name].spec.canary if name in world.customers else None
    if record is not None and canary is not None:
        world.edit(name, canary=replace(canary, approved_rollout=record.id))


def _crash(world: World, member: str) -> None:
    if member in world.members:
        world.members[member].serves = False


def _mend(world: World, node: str) -> None:
    if node in world.nodes:
        world.change_node(node, usable=True, failed=False, evacuate=False)
        for holding in world.holdings:
            if node in holding.nodes and holding.member in world.members:
                world.start_again(holding.member)


def _clear(world: World) -> None:
    """The weather clears: nodes are there, images are good, and whoever asked for a thing may have it."""
    world.bad.clear()
    world.window = lambda _: Window()
    for node in list(world.nodes):
        _mend(world, node)
    for name, customer in world.customers.items():
        world.edit(
            name,
            paused=False,
            suspended=False,
            canary=None,
            min_available=0,
            accept_below_minimum=True,
            when_no_spare=WhenNoSpare.IN_PLACE,
            progress_deadline=customer.spec.progress_deadline + timedelta(hours=1),
        )
    for name, member in list(world.members.items()):
        if not member.serves:
            world.start_again(name)


@given(stages(), st.lists(st.tuples(st.integers(0, 120), acts()), max_size=12))
def test_a_rollout_keeps_its_promises_and_ends_when_it_can(story: Story, script: list[tuple[int, Act]]) -> None:
    world = story.world
    for minute, (told, act) in script:
        story.happens(told, act, at=minute)
    story.happens("the weather clears", _clear, at=180)
    try:
        story.run(until=72 * 60)
    finally:
        note("\n".join(story.lines))
    for name, customer in world.customers.items():
        report, record = world.reports[name], world.reports[name].record
        assert report.phase is RolloutPhase.IDLE, (name, report)
        assert record is None or record.state is RolloutState.DONE
        assert set(world.versions(name)) <= {str(customer.spec.target)}
    assert not world.borrowed


@given(stages(), st.lists(st.tuples(st.integers(0, 60), acts()), max_size=6), st.data())
def test_equal_worlds_give_equal_plans_whatever_their_order(
    story: Story, script: list[tuple[int, Act]], data: st.DataObject
) -> None:
    """I7: in the middle of whatever is going on."""
    world = story.world
    for minute, (told, act) in script:
        story.happens(told, act, at=minute)
    story.run(until=data.draw(st.integers(0, 60)))
    pool = world.state()
    other = replace(
        pool,
        nodes=shuffled(data, pool.nodes),
        holdings=shuffled(data, pool.holdings),
        demands=shuffled(data, pool.demands),
    )
    assert _planned(world, pool, world.now) == _planned(world, other, world.now)


def _planned(world: World, pool: PoolState, now: datetime) -> object:
    plan = plan_rollouts(pool, world.specs(), world.records, now=now, lent=world.borrowed)
    return (plan.holdings.holdings, plan.records, sorted(plan.reports.items()), plan.next_moment)


@given(stages(), st.integers(0, 40))
def test_a_closed_window_a_pause_and_a_canary_hold_whoever_is_under_way(story: Story, minute: int) -> None:
    """S4, with the gates shut at any moment: the invariants look at every write."""
    world = story.world
    for name in world.customers:
        story.edit(f"{name} is set to v2", name, at=1, target=VERSIONS[1])
        story.edit(f"{name} is paused", name, at=minute, paused=True)
    opens = NOON + timedelta(minutes=20)
    world.window = lambda now: Window(open=now < opens, changes_at=opens if now < opens else None)
    story.run(until=24 * 60)
    for name in world.customers:
        assert len(set(world.versions(name))) <= 2
