"""Two pools and their class live through anything (behaviour.md, Invariants): random edits, node events and releases.

The machine plays the cluster: it carries out claim plans write by write, holdings plans in one write, and says which
members are gone, whenever it likes. The invariants are looked at after every step.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from datetime import timedelta

from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from reserved_capacity.domain.admission import plan_holdings
from reserved_capacity.domain.claims import ClaimDemand, ClaimPlan, plan_claims
from reserved_capacity.domain.eligibility import InstanceFacts, OfferingFacts, PoolFacts, SnapshotFacts, Verdict, judge
from reserved_capacity.domain.holdings import (
    Holding,
    HoldingsPlan,
    PoolNode,
    PoolState,
    Waiting,
    blocks_held_by_node,
    held_count,
)
from reserved_capacity.domain.nodes import InventoryNode, PoolId
from reserved_capacity.domain.units import cu_of
from tests.property.worlds import NOW, POOLS


def offering(name: str, compute_units: int, minimum: int) -> OfferingFacts:
    return OfferingFacts(
        name,
        True,
        compute_units,
        minimum,
        1,
        "zone",
        frozenset({"h100-8"}),
        frozenset({"default"}),
        {"v1": SnapshotFacts()},
    )


OFFERINGS = {each.name: each for each in (offering("big", 300, 2), offering("mid", 200, 3), offering("small", 100, 1))}
PAIR = POOLS[:2]
NAMES = ("a", "b", "c")


@dataclass
class Pool:
    """What the API server knows of one pool."""

    contracted: int = 6
    instances: dict[str, InstanceFacts] = field(default_factory=dict)
    holdings: tuple[Holding, ...] = ()


class CapacityMachine(RuleBasedStateMachine):
    def __init__(self) -> None:
        super().__init__()
        self.nodes: dict[str, InventoryNode] = {}
        self.absent: dict[str, InventoryNode] = {}
        self.pools = {pool: Pool() for pool in PAIR}
        self.shrunk: set[str] = set()
        self.ticks = 0

    @initialize(zones=st.lists(st.sampled_from("ab"), min_size=1, max_size=3))
    def start(self, zones: list[str]) -> None:
        for number, zone in enumerate(zones):
            self.nodes[f"gpu-{number}"] = InventoryNode(f"gpu-{number}", zone, 8, True, False, False)

    # ------------------------------------------------------------------------------------------------ what people do

    @rule(pool=st.sampled_from(PAIR), blocks=st.integers(0, 12))
    def contract(self, pool: PoolId, blocks: int) -> None:
        self.pools[pool].contracted = blocks

    @rule(
        pool=st.sampled_from(PAIR),
        name=st.sampled_from(NAMES),
        model=st.sampled_from(sorted(OFFERINGS)),
        desired=st.integers(0, 4),
        priority=st.integers(0, 1),
    )
    def apply(self, pool: PoolId, name: str, model: str, desired: int, priority: int) -> None:
        """Make an instance, or edit what may be edited of it."""
        self.ticks += 1
        old = self.pools[pool].instances.get(name)
        if old is not None:
            self.pools[pool].instances[name] = replace(old, desired=desired, priority=priority)
        elif not any(each.instance == name for each in self.pools[pool].holdings):
            created = NOW + timedelta(seconds=self.ticks)
            facts = InstanceFacts(name, f"uid-{self.ticks}", model, "v1", "default", desired, priority, created)
            self.pools[pool].instances[name] = facts

    @rule(pool=st.sampled_from(PAIR), name=st.sampled_from(NAMES))
    def delete(self, pool: PoolId, name: str) -> None:
        self.pools[pool].instances.pop(name, None)

    @rule(pool=st.sampled_from(PAIR), name=st.sampled_from(NAMES), valid=st.booleans())
    def mistype(self, pool: PoolId, name: str, valid: bool) -> None:
        """Break a spec so that it is frozen, or mend it."""
        old = self.pools[pool].instances.get(name)
        if old is not None:
            self.pools[pool].instances[name] = replace(old, snapshot="v1" if valid else "typo")

    # ----------------------------------------------------------------------------------------------- what nodes do

    @rule(number=st.integers(0, 2), ready=st.booleans(), cordoned=st.booleans(), failed=st.booleans())
    def change_node(self, number: int, ready: bool, cordoned: bool, failed: bool) -> None:
        node = self.nodes.get(f"gpu-{number}")
        if node is not None:
            self.nodes[node.name] = replace(node, ready=ready, cordoned=cordoned, failed=failed and not ready)

    @rule(number=st.integers(0, 2))
    def lose_node(self, number: int) -> None:
        node = self.nodes.pop(f"gpu-{number}", None)
        if node is not None:
            self.absent[node.name] = node

    @rule(number=st.integers(0, 2), blocks=st.sampled_from((8, 8, 8, 4)), remembers=st.booleans())
    def node_comes_back(self, number: int, blocks: int, remembers: bool) -> None:
        node = self.absent.pop(f"gpu-{number}", None)
        if node is not None:
            claims = node.claims if remembers else ()
            self.nodes[node.name] = InventoryNode(node.name, node.zone, blocks, True, False, False, claims)
            if blocks < 8:
                self.shrunk.add(node.name)

    # --------------------------------------------------------------------------------------------- what we do

    @rule(writes=st.sampled_from((None, None, 1)))
    def claim(self, writes: int | None) -> None:
        """Plan claims and write them, or only the first of them before a crash."""
        plan = self._plan_claims()
        for change in plan.changes[:writes]:
            self.nodes[change.node] = replace(self.nodes[change.node], claims=change.claims)

    @rule(pool=st.sampled_from(PAIR))
    def allocate(self, pool: PoolId) -> None:
        self._allocate(pool, gone=())

    @precondition(lambda self: any(self._releasing(pool) for pool in PAIR))
    @rule(pool=st.sampled_from(PAIR), data=st.data())
    def confirm_gone(self, pool: PoolId, data: st.DataObject) -> None:
        releasing = self._releasing(pool)
        if releasing:
            self._allocate(pool, gone=data.draw(st.sets(st.sampled_from(releasing), min_size=1)))

    @rule()
    def settle(self) -> None:
        """Left alone, the world comes to rest within a few rounds, and then nothing is written (I8)."""
        for _ in range(6):
            before = (self.nodes.copy(), {pool: self.pools[pool].holdings for pool in PAIR})
            self.claim(None)
            for pool in PAIR:
                self._allocate(pool, gone=self._releasing(pool))
            if before == (self.nodes, {pool: self.pools[pool].holdings for pool in PAIR}):
                break
        else:
            raise AssertionError("the world does not come to rest")
        assert self._plan_claims().changes == ()

    def _plan_claims(self) -> ClaimPlan:
        demands = [
            ClaimDemand(pool, state.contracted, NOW, blocks_held_by_node(state.holdings))
            for pool, state in self.pools.items()
        ]
        return plan_claims(list(self.nodes.values()), demands, occupied={})

    def _releasing(self, pool: PoolId) -> list[str]:
        return [holding.member for holding in self.pools[pool].holdings if not holding.held]

    def _places(self, pool: PoolId) -> Iterable[PoolNode]:
        """As snapshot.places_of: nodes that are gone count as failed with what is held there."""
        for node in self.nodes.values():
            if node.claimed_by(pool):
                yield PoolNode(node.name, node.claimed_by(pool), node.usable, node.failed)
        for name, blocks in blocks_held_by_node(self.pools[pool].holdings).items():
            if name not in self.nodes:
                yield PoolNode(name, blocks, usable=False, failed=True)

    def _allocate(self, pool: PoolId, *, gone: Iterable[str]) -> None:
        state = self.pools[pool]
        facts = PoolFacts(pool.name, "h100-8", cu_of(state.contracted))
        verdicts = judge(facts, OFFERINGS, [self._observed(state, each) for each in state.instances.values()], now=NOW)
        before = PoolState(
            contracted_blocks=state.contracted,
            nodes=tuple(self._places(pool)),
            holdings=state.holdings,
            demands=tuple(verdict.demand for verdict in verdicts.values()),
            gone=frozenset(gone),
        )
        now = NOW + timedelta(hours=1, seconds=self.ticks)
        plan = plan_holdings(before, now=now)
        self._check_step(before, plan, verdicts)
        again = plan_holdings(replace(before, holdings=plan.holdings, gone=frozenset()), now=now)
        assert (again.holdings, again.waits, again.notes) == (plan.holdings, plan.waits, ())
        state.holdings = plan.holdings

    def _observed(self, state: Pool, facts: InstanceFacts) -> InstanceFacts:
        mine = [each for each in state.holdings if each.instance == facts.name and each.held]
        return replace(facts, held=len(mine), held_blocks=mine[0].blocks if mine else None)

    def _check_step(self, before: PoolState, plan: HoldingsPlan, verdicts: dict[str, Verdict]) -> None:
        new = [each for each in plan.holdings if each not in before.holdings and each.held]
        if new:
            assert sum(each.blocks for each in plan.holdings) <= before.contracted_blocks
        self._check_members(before, plan)
        self._check_instances(before, plan, verdicts)
        self._check_floor(before, plan, verdicts, {each.instance for each in new})

    def _check_members(self, before: PoolState, plan: HoldingsPlan) -> None:
        """A member stays what and where it is, and ends by being released and then confirmed gone (R1, C7)."""
        after = {each.member: each for each in plan.holdings}
        for holding in before.holdings:
            if holding.held:
                assert replace(after[holding.member], state=holding.state) == holding
            elif holding.member not in before.gone:
                assert after[holding.member] == holding

    def _check_instances(self, before: PoolState, plan: HoldingsPlan, verdicts: dict[str, Verdict]) -> None:
        """What serves goes on unless its instance wants fewer, and whoever is refused stays as it is (C5)."""
        for name, verdict in verdicts.items():
            was, now = held_count(name, before.holdings), held_count(name, plan.holdings)
            if verdict.refusal is not None:
                assert now == was
            assert now >= min(was, verdict.demand.desired)
        for name, wait in plan.waits.items():  # what is accepted can be granted: the two agree about the floor
            assert verdicts[name].refusal is None
            assert wait.reason is not Waiting.BELOW_MINIMUM_INSTANCES

    def _check_floor(
        self, before: PoolState, plan: HoldingsPlan, verdicts: dict[str, Verdict], grown: set[str]
    ) -> None:
        """C6, I3: a grant ends at the minimum or above, and so does all that a lone instance does by itself."""
        for model, facts in OFFERINGS.items():
            group = [name for name, verdict in verdicts.items() if verdict.demand.offering == model]
            held = sum(held_count(name, plan.holdings) for name in group)
            if grown.intersection(group):
                assert held >= facts.min_instances
            elif len(group) == 1:
                assert held in (0, held_count(group[0], before.holdings)) or held >= facts.min_instances

    # --------------------------------------------------------------------------------------------- what always holds

    @invariant()
    def i1_no_block_of_a_node_is_used_twice(self) -> None:
        used: dict[str, int] = {}
        for state in self.pools.values():
            for name, blocks in blocks_held_by_node(state.holdings).items():
                used[name] = used.get(name, 0) + blocks
        for name, blocks in used.items():
            assert blocks <= 8, f"{blocks} blocks of {name} are held"
        for node in self.nodes.values():
            if node.name not in self.shrunk:
                assert node.claimed_blocks <= node.blocks

    @invariant()
    def i1_what_is_held_is_claimed_or_was_lost_with_its_node_and_nobody_else_has_it(self) -> None:
        for node in self.nodes.values():
            if node.name in self.shrunk:
                continue
            promised = sum(
                max(node.claimed_by(pool), blocks_held_by_node(state.holdings).get(node.name, 0))
                for pool, state in self.pools.items()
            )
            assert promised <= node.blocks

    @invariant()
    def r1_a_member_has_one_name_and_one_holding(self) -> None:
        for state in self.pools.values():
            assert len({holding.member for holding in state.holdings}) == len(state.holdings)


TestCapacity = CapacityMachine.TestCase
