"""Worlds to plan in: small, so that what fails is small too, and with everything that can be wrong with one."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import TypeVar

from hypothesis import strategies as st

from reserved_capacity.domain.claims import ClaimDemand
from reserved_capacity.domain.holdings import (
    Demand,
    Freeze,
    Holding,
    HoldingState,
    PoolNode,
    PoolState,
    Request,
)
from reserved_capacity.domain.nodes import Claim, InventoryNode, PoolId

NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)
LATER = NOW + timedelta(minutes=5)
POOLS = tuple(PoolId("acme", name, f"uid-{name}") for name in ("prod", "batch", "lab", "late"))

T = TypeVar("T")


def shuffled(data: st.DataObject, items: Sequence[T]) -> tuple[T, ...]:
    """The same things, seen in another order (I7)."""
    return tuple(data.draw(st.permutations(items)))


# --------------------------------------------------------------------------------------------------------------- claims


@dataclass(frozen=True)
class ClassWorld:
    """The nodes of one class and what its pools are owed."""

    nodes: tuple[InventoryNode, ...]
    demands: tuple[ClaimDemand, ...]
    occupied: Mapping[tuple[PoolId, str], int]


@st.composite
def inventory_nodes(draw: st.DrawFn, name: str) -> InventoryNode:
    """A node as it may be found, also one with more claims than blocks: nodes shrink."""
    claims = draw(st.dictionaries(st.sampled_from(POOLS), st.integers(1, 4), max_size=3))
    fine = draw(st.booleans())
    return InventoryNode(
        name=name,
        zone=draw(st.sampled_from("abc")),
        blocks=draw(st.sampled_from((0, 1, 4, 8, 8))),
        ready=fine or draw(st.booleans()),
        cordoned=not fine and draw(st.booleans()),
        failed=not fine and draw(st.booleans()),
        claims=tuple(Claim(pool, blocks) for pool, blocks in claims.items()),
        foreign_blocks=draw(st.sampled_from((0, 0, 0, 1, 3))),
    )


@st.composite
def class_worlds(draw: st.DrawFn) -> ClassWorld:
    count = draw(st.integers(0, 6))
    nodes = tuple(draw(inventory_nodes(f"gpu-{number}")) for number in range(count))
    living = draw(st.sets(st.sampled_from(POOLS), max_size=3))
    places = [node.name for node in nodes] + ["gone-1", "gone-2"]
    demands = []
    for pool in sorted(living):
        held = draw(st.dictionaries(st.sampled_from(places), st.integers(1, 4), max_size=3))
        demands.append(
            ClaimDemand(
                pool=pool,
                contracted_blocks=draw(st.integers(0, 20)),
                first_accepted=NOW + timedelta(days=draw(st.integers(0, 1))),
                held=held,
                staying={name: draw(st.integers(0, blocks)) for name, blocks in held.items()},
                lost_nodes=frozenset(draw(st.sets(st.sampled_from(["gone-1", "gone-2"])))),
                wanted=tuple(Request(blocks) for blocks in draw(st.lists(st.integers(1, 4), max_size=3))),
                nodes_at_once=draw(st.sampled_from((1, 1, 2))),
                last_held=draw(st.dictionaries(st.sampled_from(places), st.integers(1, 4), max_size=2)),
            )
        )
    dead = [(claim.pool, node.name) for node in nodes for claim in node.claims if claim.pool not in living]
    occupied = {each: draw(st.integers(0, 2)) for each in dead}
    return ClassWorld(nodes, tuple(demands), occupied)


# ------------------------------------------------------------------------------------------------------------- holdings


@st.composite
def pool_nodes(draw: st.DrawFn, name: str) -> PoolNode:
    state = draw(st.sampled_from(("usable", "usable", "usable", "cordoned", "failed")))
    return PoolNode(name, draw(st.integers(0, 8)), usable=state == "usable", failed=state == "failed")


@st.composite
def demand_lists(draw: st.DrawFn, *, mixed_sizes: bool = True) -> tuple[Demand, ...]:
    """Up to five instances of three offerings; an instance that runs may be larger than its offering is today."""
    offerings = {name: (draw(st.integers(1, 4)), draw(st.integers(1, 3))) for name in "xyz"}
    demands = []
    for name in draw(st.sets(st.sampled_from("abcde"), max_size=5)):
        offering = draw(st.sampled_from("xyz"))
        size, minimum = offerings[offering]
        demands.append(
            Demand(
                instance=name,
                uid=f"uid-{name}",
                offering=offering,
                blocks_per_instance=draw(st.sampled_from((size, size, size, size + 1))) if mixed_sizes else size,
                min_instances=minimum,
                desired=draw(st.integers(0, 4)),
                priority=draw(st.integers(0, 2)),
                created_at=NOW + timedelta(minutes=draw(st.integers(0, 1))),
                freeze=draw(st.sampled_from((Freeze.NOTHING,) * 4 + (Freeze.GROWTH, Freeze.EVERYTHING))),
            )
        )
    return tuple(sorted(demands, key=lambda demand: demand.instance))


@st.composite
def pool_states(draw: st.DrawFn, *, mixed_sizes: bool = True) -> PoolState:
    """A pool in the middle of its life: members of living and of deleted instances, also on nodes that are gone."""
    nodes = tuple(draw(pool_nodes(f"gpu-{number}")) for number in range(draw(st.integers(0, 4))))
    demands = draw(demand_lists(mixed_sizes=mixed_sizes))
    sizes = {demand.instance: demand.blocks_per_instance for demand in demands} | {"deleted": 2}
    free = {node.name: node.blocks for node in nodes} | {"gone": 4, "shrunk-to-nothing": 3}
    holdings = []
    for instance, ordinals in draw(
        st.dictionaries(st.sampled_from(sorted(sizes)), st.sets(st.integers(0, 3), max_size=3), max_size=4)
    ).items():
        for ordinal in sorted(ordinals):
            place = draw(st.sampled_from(sorted(free)))
            if free[place] < sizes[instance]:
                continue
            free[place] -= sizes[instance]
            state = draw(st.sampled_from((HoldingState.HELD, HoldingState.HELD, HoldingState.RELEASING)))
            holdings.append(Holding(instance, f"{instance}-{ordinal}", sizes[instance], (place,), NOW, state))
    names = [holding.member for holding in holdings]
    provisioned = sum(node.blocks for node in nodes)
    return PoolState(
        contracted_blocks=max(0, provisioned + draw(st.sampled_from((0, 0, 0, 3, 7, -2)))),
        nodes=(*nodes, PoolNode("shrunk-to-nothing", 0, usable=True)),
        holdings=tuple(holdings),
        demands=tuple(demands),
        gone=frozenset(draw(st.sets(st.sampled_from(names)))) if names else frozenset(),
        taken=frozenset(draw(st.sets(st.sampled_from(("a-0", "b-1", "c-0", "d-2")), max_size=2))),
    )
