"""How much of a pool the planner of holdings fills, against the most that could be filled (behaviour.md C3, C5, C6, C8).

    .venv/bin/pip install --require-hashes -r requirements-bench.lock     # HiGHS, which nothing else here needs
    python -m tests.performance.bench_packing --json out.json

The bound is the optimum of a mixed-integer program over the same pool and the same wishes: any choice of whom to serve,
any packing, members moved at will. The planner serves in the order of admission and moves nobody, so what it lacks is the
price of these rules and of best-fit together. Worlds are drawn from seeds.
"""

from __future__ import annotations

import argparse
import json
import math
import random
import statistics
import sys
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import highspy

from reserved_capacity.domain.admission import plan_holdings
from reserved_capacity.domain.holdings import Demand, HoldingState, PoolNode, PoolState

NOW = datetime(2026, 3, 1, 10, 0, tzinfo=UTC)
BLOCKS_PER_NODE = 8
ZONE = "topology.kubernetes.io/zone"
SECONDS = 20.0


@dataclass(frozen=True, slots=True)
class Offering:
    """Blocks of one instance, over so many nodes of one zone, and the least number of instances."""

    name: str
    blocks: int
    nodes: int = 1
    minimum: int = 1

    @property
    def part(self) -> int:
        return self.blocks // self.nodes


# The seeds' 100 and 300 CU, and what a provider of GPU nodes would add.
CATALOGUE = (
    Offering("gpt-3.5-turbo", 1),
    Offering("two", 2),
    Offering("gpt-4-turbo", 3, minimum=2),
    Offering("half-a-node", 4),
    Offering("node", 8),
    Offering("two-nodes", 16, nodes=2),
)


@dataclass(frozen=True, slots=True)
class Scenario:
    """`load`: blocks that are asked for, in relation to those that there are. `run` carries the wishes out."""

    name: str
    load: float
    run: Callable[[PoolState, random.Random], PoolState]


# ----------------------------------------------------------------------------------------------------------- the worlds


def pool(chance: random.Random) -> PoolState:
    """Whole nodes in one to three zones, and a rest on a node that is shared with another pool."""
    count = chance.randint(20, 125)
    zones = chance.randint(1, 3)
    nodes = [
        PoolNode(f"gpu-{index:03}", BLOCKS_PER_NODE, usable=True, labels={ZONE: f"z{index % zones}"})
        for index in range(count)
    ]
    nodes.append(PoolNode("gpu-rest", chance.randint(1, BLOCKS_PER_NODE - 1), usable=True, labels={ZONE: "z0"}))
    return PoolState(sum(node.blocks for node in nodes), tuple(nodes), (), ())


def wishes(chance: random.Random, blocks: int) -> tuple[Demand, ...]:
    """Instances of some offerings, of different sizes and ages, that together ask for so many blocks."""
    sold = chance.sample(CATALOGUE, chance.randint(2, len(CATALOGUE)))
    demands: list[Demand] = []
    while blocks > 0:
        offering = chance.choice(sold)
        most = max(1, blocks // offering.blocks)
        desired = min(most, chance.choice((1, 1, 2, 4)) if offering.minimum == 1 else chance.choice((2, 4)))
        name = f"i{len(demands):04}"
        demands.append(
            Demand(
                name, f"uid-{name}", offering.name, offering.blocks, offering.minimum, desired, 0,
                NOW + timedelta(seconds=len(demands)), nodes_per_instance=offering.nodes, topology_key=ZONE,
            )
        )  # fmt: skip
        blocks -= desired * offering.blocks
    return tuple(demands)


def carried_out(state: PoolState) -> PoolState:
    """The pool once its plan is on record, what is released is gone, and all members serve."""
    for _ in range(2):
        holdings = plan_holdings(state, now=NOW).holdings
        gone = frozenset(each.member for each in holdings if each.state is HoldingState.RELEASING)
        state = replace(state, holdings=holdings, gone=gone, available=frozenset(each.member for each in holdings))
    return state


def at_once(state: PoolState, _chance: random.Random) -> PoolState:
    return carried_out(state)


def one_by_one(state: PoolState, _chance: random.Random) -> PoolState:
    """Instances arrive one after the other, and each is placed before the next one comes."""
    for count in range(len(state.demands)):
        arrived = state.demands[: count + 1]
        state = replace(carried_out(replace(state, demands=arrived)), demands=state.demands)
    return state


def with_changes(state: PoolState, chance: random.Random) -> PoolState:
    """All arrive, and then half of them go and come back as others in another order, a tenth at a time."""
    state = carried_out(state)
    for turn in range(5):
        away = set(chance.sample(range(len(state.demands)), len(state.demands) // 10))
        fewer = tuple(each for index, each in enumerate(state.demands) if index not in away)
        left = carried_out(replace(state, demands=fewer))
        back = [state.demands[index] for index in away]
        chance.shuffle(back)
        again = tuple(
            replace(each, instance=f"{each.instance}t{turn}", uid=f"{each.uid}t{turn}", created_at=NOW + timedelta(hours=turn + 1, seconds=number))
            for number, each in enumerate(back)
        )  # fmt: skip
        state = carried_out(replace(left, demands=(*fewer, *again)))
    return state


SCENARIOS = tuple(
    Scenario(f"{what}, {load:.0%} asked for", load, run)
    for what, run in (("all at once", at_once), ("one by one", one_by_one), ("with changes", with_changes))
    for load in (0.9, 1.0, 1.2)
)


# ------------------------------------------------------------------------------------------------------------ the bound


def most_blocks(state: PoolState, seconds: float) -> float:
    """No choice of members and places holds more blocks than this.

    Nodes that are alike (zone, blocks) are one group; a pattern is what one node of a group carries, by size of part. How
    many nodes carry which pattern is whole; so is how many instances are served, none or at least the minimum.
    """
    solver: Any = highspy  # its types do not follow its operators
    model = solver.Highs()
    model.setOptionValue("output_flag", False)
    model.setOptionValue("time_limit", seconds)
    offerings = {each.offering: each for each in state.demands}
    desired = Counter[str]()
    for each in state.demands:
        desired[each.offering] += each.desired
    zones = sorted({node.labels[ZONE] for node in state.nodes})
    served = {
        (name, zone): model.addVariable(0, desired[name], type=solver.HighsVarType.kInteger)
        for name in offerings
        for zone in zones
    }
    groups = Counter((node.labels[ZONE], node.blocks) for node in state.nodes if node.usable)
    parts: Any = {(name, zone): 0.0 for name in offerings for zone in zones}
    names = sorted(offerings)
    sizes = [offerings[name].blocks_per_instance // offerings[name].nodes_per_instance for name in names]
    for (zone, blocks), count in sorted(groups.items()):
        used: Any = 0.0
        for pattern in patterns(sizes, blocks):
            nodes = model.addVariable(0, count, type=solver.HighsVarType.kInteger)
            used = used + nodes
            for name, number in zip(names, pattern, strict=True):
                if number:
                    parts[name, zone] = parts[name, zone] + number * nodes
        model.addConstr(used <= count)
    total: Any = 0.0
    for name, each in sorted(offerings.items()):
        together = sum(served[name, zone] for zone in zones)
        some = model.addVariable(0, 1, type=solver.HighsVarType.kInteger)
        model.addConstr(together <= desired[name] * some)
        model.addConstr(together >= each.min_instances * some)
        for zone in zones:
            model.addConstr(each.nodes_per_instance * served[name, zone] <= parts[name, zone])
        total = total + each.blocks_per_instance * together
    model.maximize(total)
    return float(model.getInfo().mip_dual_bound)


def patterns(sizes: Sequence[int], blocks: int) -> Iterator[tuple[int, ...]]:
    """What a node can carry, by size, so that no more of anything goes onto it."""
    if not sizes:
        yield ()
        return
    for number in range(blocks // sizes[0], -1, -1):
        for rest in patterns(sizes[1:], blocks - number * sizes[0]):
            left = blocks - number * sizes[0] - sum(size * count for size, count in zip(sizes[1:], rest, strict=True))
            if left < sizes[0] or number == blocks // sizes[0]:
                yield (number, *rest)


# ----------------------------------------------------------------------------------------------------------- the report


def filled(state: PoolState) -> int:
    return sum(each.blocks for each in state.holdings if each.held)


def measured(scenario: Scenario, seed: int, seconds: float) -> tuple[int, float]:
    """Blocks that are held in the end, and the most that could be."""
    chance = random.Random(f"{scenario.name} {seed}")
    empty = pool(chance)
    ended = scenario.run(
        replace(empty, demands=wishes(chance, math.floor(scenario.load * empty.contracted_blocks))), chance
    )
    return filled(ended), most_blocks(ended, seconds)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=20, help="worlds of each scenario")
    parser.add_argument("--seconds", type=float, default=SECONDS, help="for one bound; a bound it is all the same")
    parser.add_argument("--json", type=Path, help="where the figures go")
    given = parser.parse_args()
    rows = []
    for scenario in SCENARIOS:
        found = [measured(scenario, seed, given.seconds) for seed in range(given.seeds)]
        shares = sorted(blocks / bound for blocks, bound in found)
        together = sum(blocks for blocks, _ in found) / sum(bound for _, bound in found)
        rows.append(
            {
                "scenario": scenario.name,
                "together": together,
                "median": statistics.median(shares),
                "worst": shares[0],
                "found": found,
            }
        )
        sys.stdout.write(
            f"{scenario.name:<32} {together:7.2%} of the bound  (median {statistics.median(shares):.2%}, worst {shares[0]:.2%})\n"
        )
        sys.stdout.flush()
    if given.json:
        given.json.write_text(json.dumps(rows, indent=1), encoding="utf-8")


if __name__ == "__main__":
    main()
