"""What holds after every write of a simulated rollout, whatever happens (behaviour.md C6, I1, I2, I4, S1, S2, S4, S5)."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

from reserved_capacity.domain.holdings import Holding, PoolState, blocks_held_by_node, standing, succeeded
from reserved_capacity.domain.releases import floor_of
from reserved_capacity.domain.rollout.values import RolloutsPlan

if TYPE_CHECKING:
    from tests.golden.world import World


def check(world: World, before: PoolState, plan: RolloutsPlan) -> None:
    after = plan.holdings.holdings
    _blocks(world, before, after)
    _immutable(world, before, after)
    _availability(world, before, after)
    _gates(world, before, after, plan)
    _artifacts(world, before, after)


def _blocks(world: World, before: PoolState, after: tuple[Holding, ...]) -> None:
    """I1, I2: nothing is placed where there is no room, and no more than is contracted (and lent)."""
    used, earlier = blocks_held_by_node(after), blocks_held_by_node(before.holdings)
    for name, blocks in used.items():
        node = world.nodes.get(name)
        grew = blocks > earlier.get(name, 0)
        assert not grew or (node is not None and node.usable and blocks <= node.blocks), f"too much on {name}"
    left = {node.name: node.blocks for node in before.nodes if node.evacuate}
    held = sum(min(blocks, left.get(name, blocks)) for name, blocks in used.items())
    held_before = sum(min(blocks, left.get(name, blocks)) for name, blocks in earlier.items())
    assert held <= max(held_before, before.contracted_blocks + world.borrowed), "more is held than is contracted"
    assert len({each.member for each in after}) == len(after), "a name is used twice"


def _immutable(world: World, before: PoolState, after: tuple[Holding, ...]) -> None:
    """R1, I4, S1: a member never changes, nothing released returns, and nobody runs what was not asked for."""
    known = {each.member: each for each in before.holdings if each.member not in before.gone}
    for each in after:
        former = known.get(each.member)
        assert each.instance not in world.customers or each.version in world.customers[each.instance].history
        if former is not None:
            assert (each.nodes, each.blocks, each.since) == (former.nodes, former.blocks, former.since)
            assert former.version in (None, each.version), f"{each.member} changed what it runs"
            assert former.held or not each.held, f"{each.member} came back"


def _artifacts(world: World, before: PoolState, after: tuple[Holding, ...]) -> None:
    """S3: who serves is not stopped for a successor in its place before the artifact is there. What goes back in was there."""
    if world.cached is None or world.shrinking:
        return
    held = {each.member for each in after if each.held}
    heirs = succeeded([each for each in after if each.held])
    rolling = {each.instance: each for each in world.records if each.moving and not each.goes_back}
    for each in before.holdings:
        record = rolling.get(each.instance)
        stops = each.held and each.member not in held and each.member in before.available
        if record is None or record.toward != record.target or not stops or each.member in heirs:
            continue
        cached = world.cached.get(record.target.snapshot, set())
        serves = {one.version for one in before.holdings if one.member in before.available and one.member in held}
        assert cached.issuperset(each.nodes) or record.target in serves, f"{each.member} stops before the pull"


def _availability(world: World, before: PoolState, after: tuple[Holding, ...]) -> None:
    """S5, C6: stopping a member that serves leaves minAvailable and the minimum, counted over all that do not serve.

    Members that only move to another node are admission's business.
    """
    if world.shrinking:
        return  # fewer are wanted: that is the customer's own word
    healthy = {name for name, node in world.nodes.items() if not node.failed}
    serves = {name for name in before.available if name in {each.member for each in before.holdings}}
    serves = {each.member for each in before.holdings if each.member in serves and healthy.issuperset(each.nodes)}
    held = {each.member: each for each in after if each.held}
    heirs = succeeded(before.holdings)
    moved = {name for name, heir in heirs.items() if any((e.member, e.version) == (name, heir.version) for e in after)}
    stopped = [each for each in before.holdings if each.held and each.member in serves - moved]
    stopped = [each for each in stopped if each.member not in held]
    left = Counter(held[name].instance for name in serves if name in held)
    for name in {each.instance for each in stopped}:
        customer = world.customers.get(name)
        if customer is None or customer.spec.suspended:
            continue
        demand = customer.demand
        had = len(standing([each for each in before.holdings if each.instance == name]))
        least = floor_of(demand, min(demand.desired, had))
        assert left[name] >= least, f"{name}: {left[name]} serve, {least} have to"
        group = [each.demand for each in world.customers.values() if each.demand.offering == demand.offering]
        together = sum(left[each.instance] for each in group)
        floor = 0 if demand.accept_below_minimum else min(demand.min_instances, sum(each.desired for each in group))
        assert together >= floor, f"{demand.offering}: {together} serve, its minimum is {floor}"


def _gates(world: World, before: PoolState, after: tuple[Holding, ...], plan: RolloutsPlan) -> None:
    """S4: while it is paused, its window closed or its canary not approved, a rollout begins nothing."""
    records = {each.instance: each for each in world.records}
    for name, customer in world.customers.items():
        record = plan.reports[name].record
        if record is None or not record.moving or name not in records:
            continue
        known = {each.member for each in before.holdings}
        new = [each for each in after if each.instance == name and each.held and each.member not in known]
        begun = [each for each in new if each.version == record.toward and each.replaces]
        begun = [each for each in begun if _version(before, each.replaces) != each.version]
        vacated = set(record.vacated) - set(records[name].vacated)
        fresh = len(begun) + sum(_serves_in(before, member) for member in vacated)
        forward = record.state.value == "Running" and not record.goes_back
        if customer.spec.paused or customer.spec.held_back:
            assert not fresh, f"{name} begins a step though it is paused"
        if forward and not world.window(world.now).open:
            assert not fresh, f"{name} begins a step outside its window"
        canary = customer.spec.canary
        if forward and canary is not None and not record.canary_passed and canary.instances < customer.demand.desired:
            news, before_news = (
                sum(each.instance == name and each.version == record.target for each in standing(holdings))
                for holdings in (after, before.holdings)
            )
            assert news <= max(canary.instances, before_news), f"{name} goes beyond its canary"


def _version(pool: PoolState, member: str) -> object:
    return next((each.version for each in pool.holdings if each.member == member), None)


def _serves_in(pool: PoolState, member: str) -> bool:
    return member in pool.available
