"""Who gives blocks back: members that are gone, are too many, or have a successor that serves (behaviour.md C5, C7, N3).

A release takes nothing away yet: the blocks are in the member's hands until its pods are confirmed gone (C7).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence, Set
from dataclasses import replace

from .holdings import (
    Demand,
    Holding,
    HoldingState,
    PoolState,
    effective_desired,
    ordinal_of,
    standing,
    succeeded,
)
from .units import cu_of
from .versions import Version


def drop_gone(pool: PoolState, notes: list[str]) -> list[Holding]:
    """The record without members that are confirmed gone. Whoever replaced one of them is from now on a member like all."""
    kept = []
    for holding in sorted(pool.holdings, key=lambda holding: holding.member):
        if not holding.held and holding.member in pool.gone:
            notes.append(f"{holding.member} is gone: {cu_of(holding.blocks)} CU are idle again")
        else:
            kept.append(holding)
    known = {holding.member: holding for holding in pool.holdings}
    there = {holding.member for holding in kept}
    return [replace(holding, replaces=_former(holding, known, there)) for holding in kept]


def _former(holding: Holding, known: Mapping[str, Holding], there: Set[str]) -> str:
    """Whom a member replaces of those that are still there."""
    name = holding.replaces
    for _ in known:
        if name in there or name not in known:
            break
        name = known[name].replaces
    return name if name in there else ""


def release_surplus(pool: PoolState, notes: list[str]) -> list[Holding]:
    """Mark the surplus members of every instance as Releasing, and those whose successors serve."""
    wanted = {demand.instance: demand for demand in pool.demands}
    by_instance: dict[str, list[Holding]] = {}
    for holding in pool.holdings:
        by_instance.setdefault(holding.instance, []).append(holding)
    told: dict[str, Holding] = {}
    for instance, mine in sorted(by_instance.items()):
        demand = wanted.get(instance)
        keep = effective_desired(demand, len(standing(mine))) if demand else 0
        too_many = surplus(pool, mine, keep, demand.version if demand else None)
        why = f"{instance} asks for {keep}" if demand else f"{instance} is deleted"
        notes += [f"releasing {holding.member}: {why}" for holding in too_many]
        told |= {holding.member: replace(holding, state=HoldingState.RELEASING) for holding in too_many}
    for instance, demand in sorted(wanted.items()):
        rest = [holding for holding in by_instance.get(instance, ()) if holding.member not in told]
        if succeeded(rest):
            needed = _needed(pool, demand, by_instance, told)
            told |= {holding.member: holding for holding in _moves_ended(pool, demand, rest, needed, notes)}
    return [told.get(holding.member, holding) for holding in pool.holdings]


def _needed(
    pool: PoolState, demand: Demand, by_instance: Mapping[str, Sequence[Holding]], told: Mapping[str, Holding]
) -> int:
    """Members of this instance that must serve for its offering to keep its minimum (C6), of holdings some of which have been
    `told` to change. Of an offering that shall have fewer in the end no more can be missed than those."""
    if demand.accept_below_minimum:
        return 0
    wanted = beside = 0
    for each in pool.demands:
        if each.offering == demand.offering:
            held = [told.get(holding.member, holding) for holding in by_instance.get(each.instance, ())]
            wanted += effective_desired(each, len(standing(held))) + each.vacated
            beside += _serving(pool, held) if each.instance != demand.instance else 0
    return min(demand.min_instances, wanted) - beside


def _serving(pool: PoolState, holdings: Sequence[Holding]) -> int:
    return sum(each.held and each.member in pool.available for each in holdings)


def surplus(pool: PoolState, mine: Sequence[Holding], keep: int, version: Version | None = None) -> list[Holding]:
    """The members to release because fewer are wanted, each with those that it was to succeed: first who is off usable
    nodes or on the move, then who runs another `version` (where one is given), then the highest ordinals."""
    staying, former = standing(mine), succeeded(mine)
    usable = {node.name for node in pool.nodes if node.usable}
    moving = {heir.member for heir in former.values()}

    def order(holding: Holding) -> tuple[bool, bool, int]:
        leaving = holding.member in moving or not usable.issuperset(holding.nodes)
        return (leaving, version is not None and holding.version != version, ordinal_of(holding))

    released = sorted(staying, key=order, reverse=True)[: max(0, len(staying) - keep)]
    going = {holding.member for holding in released}
    return [*released, *(each for each in mine if each.member in former and _heir(former, each).member in going)]


def _moves_ended(
    pool: PoolState, demand: Demand, mine: Sequence[Holding], needed: int, notes: list[str]
) -> list[Holding]:
    """What becomes of the two of every move that is over; the end of one may be that of another."""
    known, keep = list(mine), effective_desired(demand, len(standing(mine)))
    while (over := _over(pool, known, demand, keep, needed)) is not None:
        at = next(at for at, holding in enumerate(known) if holding.member == over.member)
        if not over.held:
            notes.append(f"releasing {over.member}: the move is over")
        known[at] = over
    return [holding for holding in known if holding not in mine]


def _over(pool: PoolState, known: Sequence[Holding], demand: Demand, keep: int, needed: int) -> Holding | None:
    """The old one goes when its successor serves and it is not missed, here (minAvailable) or by the offering (`needed`). Where it
    may stay after all, the new one goes, or stays beside it if more are wanted."""
    former = succeeded(known)
    if not former:
        return None
    usable = {node.name for node in pool.nodes if node.usable}
    serving, least = _serving(pool, known), max(floor_of(demand, keep), needed)
    # Whom a rollout replaces goes by the rules of that (rollout/walk.py).
    olds = [each for each in known if each.member in former and former[each.member].version == each.version]
    for old in sorted(olds, key=lambda each: (each.member in pool.available, ordinal_of(each))):
        heir = former[old.member]
        may_stay = usable.issuperset(old.nodes) and heir.member not in former
        if may_stay and keep > len(standing(known)) >= demand.min_instances - 1:
            return replace(heir, replaces="")
        if heir.member in pool.available:
            if old.member not in pool.available or serving - 1 >= least:
                return replace(old, state=HoldingState.RELEASING)
        elif may_stay:
            return replace(heir, state=HoldingState.RELEASING)
    return None


def floor_of(demand: Demand, keep: int) -> int:
    """Members of an instance that serve at least while others of it move, out of `keep` that it may have."""
    return keep if demand.min_available is None else min(keep, demand.min_available)


def spare_members(demands: Sequence[Demand], holdings: Sequence[Holding]) -> dict[str, int]:
    """How many members of each instance a drain may evict at once: never so many that fewer are left than minAvailable, or
    of all instances of an offering together fewer than its minimum (C6, N3)."""
    held = Counter(holding.instance for holding in standing(holdings))
    left: dict[str, int] = {}
    for demand in demands:
        left[demand.offering] = left.get(demand.offering, -demand.min_instances) + held[demand.instance]
    spare = {}
    for demand in sorted(demands, key=lambda demand: demand.instance):
        keep = min(demand.desired, held[demand.instance])
        may = keep - floor_of(demand, keep)
        if not demand.accept_below_minimum:
            may = min(may, max(0, left[demand.offering]))
            left[demand.offering] -= may
        spare[demand.instance] = may
    return spare


def _heir(former: Mapping[str, Holding], holding: Holding) -> Holding:
    """Who takes the place in the end: a successor may have to leave its own node in turn."""
    for _ in former:
        holding = former.get(holding.member, holding)
    return holding
