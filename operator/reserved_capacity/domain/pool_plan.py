"""One pass over a pool, pure: may its order be accepted, what may its instances have, who holds which blocks.

The reconciler carries the plan out and the kubectl plugin shows it before anything is applied; both call this.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from decimal import Decimal

from .changesets import ChangeSetPlan, ChangeSetRecord, ChangeSetVerdict, MemberSpec, Phase, plan_change_sets
from .eligibility import InstanceFacts, OfferingFacts, PoolFacts, Refusal, Verdict, judge
from .expiry import ExpiryPlan, ExpirySettings, Fall, Outlook, drain, outlook
from .holdings import Demand, Freeze, Holding, HoldingsPlan, PoolNode, PoolState, Wait, Waiting, capacity_of, held_count
from .notices import notices_of
from .orders import OrderFacts, OrderVerdict, judge_order, renewal_prices
from .reasons.instance import InstanceAccepted
from .repair import NodeReplacement
from .rollout.planning import plan_rollouts
from .rollout.records import growth_version, has_proved_itself
from .rollout.values import RolloutRecord, RolloutSpec, RolloutsPlan, RolloutState
from .terms import CommitmentRecord, Placement, next_moment, plan_commitments
from .units import blocks_of, cu_of
from .versions import Version


@dataclass(frozen=True, slots=True)
class PoolWorld:
    """Everything that the plan of one pool looks at.

    `members` are names of StatefulSets that exist, `gone` members of Releasing holdings that are confirmed gone,
    `available` members that serve.
    """

    name: str
    order: OrderFacts
    replacement: NodeReplacement
    records: tuple[CommitmentRecord, ...]
    placements: Sequence[Placement]
    offerings: Mapping[str, OfferingFacts]
    instances: tuple[InstanceFacts, ...]
    nodes: tuple[PoolNode, ...]
    holdings: tuple[Holding, ...]
    members: frozenset[str] = frozenset()
    gone: frozenset[str] = frozenset()
    available: frozenset[str] = frozenset()
    change_sets: tuple[ChangeSetRecord, ...] = ()
    change_set_members: tuple[MemberSpec, ...] = ()
    expiry: ExpirySettings = field(default_factory=ExpirySettings)
    rollouts: tuple[RolloutRecord, ...] = ()
    rollout_specs: tuple[RolloutSpec, ...] = ()


@dataclass(frozen=True, slots=True)
class PoolPlan:
    """What the pool's status shall say, and what its instances are told.

    `prices` are ordered prices to put on record: of commitments accepted now, and of terms that begin by renewal.
    """

    order: OrderVerdict
    records: tuple[CommitmentRecord, ...]
    verdicts: Mapping[str, Verdict]
    holdings: HoldingsPlan
    change_sets: tuple[ChangeSetRecord, ...]
    rollouts: RolloutsPlan
    ahead: Outlook
    expiry: ExpiryPlan | None
    prices: Mapping[str, Decimal]
    next_moment: datetime | None

    @property
    def contracted_cu(self) -> int:
        """CU of all accepted commitments that have not ended."""
        return self.ahead.contracted_cu


def plan_pool(world: PoolWorld, *, now: datetime) -> PoolPlan:
    order = judge_order(world.order, today=now.date())
    records = plan_commitments(
        world.order.orders,
        world.records,
        acceptable=frozenset(order.acceptable),
        provisioned_cu=cu_of(sum(node.blocks for node in world.nodes)),
        placements=world.placements,
        now=now,
    )
    ahead = outlook(records, world.expiry, now=now)
    # Of what is about to end nothing is granted any more: plans are made for what lasts.
    falls_at = ahead.draining.at if ahead.draining is not None else None
    pool = PoolFacts(world.name, world.order.accelerator_class, ahead.lasting_cu, falls_at)
    kept = _kept_by_their_sets(world)
    own = judge(pool, world.offerings, world.instances, now=now, kept=kept)
    verdicts = _for_the_set_to_decide(own, world.change_set_members)
    state = PoolState(
        contracted_blocks=blocks_of(ahead.lasting_cu),
        nodes=world.nodes,
        holdings=world.holdings,
        demands=tuple(verdict.demand for verdict in verdicts.values()),
        gone=world.gone,
        taken=world.members,
        available=world.available,
        replacement=world.replacement,
    )
    alone = {name: verdict.refusal.message for name, verdict in verdicts.items() if verdict.refusal is not None}
    sets = plan_change_sets(state, world.change_set_members, world.change_sets, alone, now=now)
    decided = {name for name, each in sets.freezes.items() if each.kind in _REASONS}
    if decided != kept:
        own = judge(pool, world.offerings, world.instances, now=now, kept=decided)
    # Once its set is done an instance is judged by itself, though it carries the id still (F5, C6).
    verdicts = {
        name: _with_set(verdict, sets.freezes[name]) if name in sets.freezes else own[name]
        for name, verdict in verdicts.items()
    }
    demands = tuple(verdict.demand for verdict in verdicts.values())
    state = replace(state, holdings=sets.holdings, demands=demands, reserved=sets.reserved)
    drained = drain(replace(state, demands=_with_versions(world, demands)), ahead, world.expiry, now=now)
    state = replace(state, holdings=drained.holdings)
    # What is claimed beyond the contract, and does not stand for a node that is being left, was lent for rollouts.
    lent = max(0, sum(node.blocks for node in world.nodes) - blocks_of(ahead.contracted_cu))
    specs = _rollout_specs(world, verdicts, sets, now)
    rollouts = plan_rollouts(state, specs, world.rollouts, now=now, lent=lent)
    holdings = _with_waits(state, rollouts.holdings, sets)
    moments = (sets.next_moment, ahead.next_moment, rollouts.next_moment)
    return PoolPlan(
        order=order,
        records=records,
        verdicts=verdicts,
        holdings=_because_of(ahead.draining, holdings),
        change_sets=sets.records,
        rollouts=rollouts,
        ahead=ahead,
        expiry=drained.plan,
        prices={**order.acceptable, **renewal_prices(world.order, world.records, records)},
        next_moment=_next_moment(world, records, moments, now),
    )


def _with_versions(world: PoolWorld, demands: Sequence[Demand]) -> tuple[Demand, ...]:
    """In the middle of a rollout who runs what has not proved itself stops first, as when fewer are asked for."""
    specs = {spec.instance: spec for spec in world.rollout_specs}
    records = {record.instance: record for record in world.rollouts}

    def version(demand: Demand) -> Version | None:
        spec, record = specs.get(demand.instance), records.get(demand.instance)
        if spec is None or record is None or not record.moving:
            return None
        return growth_version(spec, record, proven=has_proved_itself(spec, record, world.holdings, world.available))

    return tuple(replace(demand, version=version(demand)) for demand in demands)


def _for_the_set_to_decide(verdicts: Mapping[str, Verdict], members: Sequence[MemberSpec]) -> dict[str, Verdict]:
    """What weighs an instance against the others is judged for the set as a whole, not for its members (F2)."""
    carried = {member.instance for member in members}

    def released(name: str, verdict: Verdict) -> Verdict:
        refusal = verdict.refusal
        together = refusal is not None and refusal.reason in _TOGETHER
        if name not in carried or not together:
            return verdict
        return Verdict(replace(verdict.demand, freeze=Freeze.NOTHING), None)

    return {name: released(name, verdict) for name, verdict in verdicts.items()}


_TOGETHER = (InstanceAccepted.BELOW_MINIMUM_INSTANCES, InstanceAccepted.EXCEEDS_POOL)
_REASONS = {
    Phase.INCOMPLETE: InstanceAccepted.CHANGE_SET_INCOMPLETE,
    Phase.REJECTED: InstanceAccepted.CHANGE_SET_REJECTED,
    Phase.ROLLED_BACK: InstanceAccepted.CHANGE_SET_ROLLED_BACK,
}


def _kept_by_their_sets(world: PoolWorld) -> set[str]:
    """Whose set waits for others, or was decided against, as the record has it: they get nothing of what they ask for."""
    phases = {record.id: record.phase for record in world.change_sets}
    return {member.instance for member in world.change_set_members if phases.get(member.id) in _REASONS}


def _with_set(verdict: Verdict, decided: ChangeSetVerdict) -> Verdict:
    """A member keeps what it holds, apart from the steps of its set; and says why, where it is not simply under way.

    While the set moves its members, nothing else does (Freeze.STEPS)."""
    frozen = replace(verdict.demand, freeze=Freeze.STEPS if decided.moving else Freeze.EVERYTHING)
    reason = _REASONS.get(decided.kind)
    return Verdict(frozen, Refusal(reason, decided.message) if reason is not None else verdict.refusal)


def _with_waits(state: PoolState, plan: HoldingsPlan, sets: ChangeSetPlan) -> HoldingsPlan:
    """Members of a set that is being carried out and have not got everything yet wait for its next step."""
    have = cu_of(capacity_of(state.nodes, plan.holdings).idle)
    waits = dict(plan.waits)
    for demand in state.demands:
        decided = sets.freezes.get(demand.instance)
        executing = decided is not None and decided.kind is Phase.EXECUTING
        if executing and held_count(demand.instance, plan.holdings) < demand.desired:
            need = cu_of(demand.blocks_per_instance)
            waits[demand.instance] = Wait(Waiting.WAITING_FOR_RELEASE, need, have, decided.message if decided else "")
    return replace(plan, waits=waits)


def _because_of(fall: Fall | None, plan: HoldingsPlan) -> HoldingsPlan:
    """While a drain is under way, whoever finds no room is told that what seems idle is about to end."""
    if fall is None:
        return plan
    remedy = f"{fall.why}: add a commitment, or scale another instance down"
    waits = {
        name: replace(wait, remedy=remedy) if wait.reason is Waiting.WAITING_FOR_COMPUTE_UNITS else wait
        for name, wait in plan.waits.items()
    }
    return replace(plan, waits=waits)


def _rollout_specs(
    world: PoolWorld, verdicts: Mapping[str, Verdict], sets: ChangeSetPlan, now: datetime
) -> list[RolloutSpec]:
    """No step begins for an instance whose spec cannot be acted on, whose change set moves it, or whose target has
    retired; but the way back to what ran before stays open (S8)."""
    ways_back = {record.instance: record.source for record in world.rollouts if record.state is not RolloutState.DONE}
    facts = {each.name: each for each in world.instances}
    specs = []
    for spec in world.rollout_specs:
        refusal, moving = verdicts[spec.instance].refusal, sets.freezes.get(spec.instance)
        why = refusal.message if refusal is not None else moving.message if moving is not None else ""
        if not why and ways_back.get(spec.instance) != spec.target:
            why = _retired(world.offerings.get(facts[spec.instance].offering), spec, now)
        specs.append(replace(spec, held_back=why))
    return specs


def _retired(offering: OfferingFacts | None, spec: RolloutSpec, now: datetime) -> str:
    snapshot = offering.snapshots.get(spec.target.snapshot) if offering else None
    if snapshot is None or snapshot.retires_at is None or now < snapshot.retires_at:
        return ""
    instead = f"set spec.snapshot to {snapshot.replacement}" if snapshot.replacement else "choose another one"
    return f"{spec.target.snapshot} has retired, so nothing new is placed on it: {instead}"


def _next_moment(
    world: PoolWorld, records: Sequence[CommitmentRecord], others: Sequence[datetime | None], now: datetime
) -> datetime | None:
    """When the plan changes by itself: a date of a commitment, a notice, a deadline of a change set or a rollout, a
    snapshot that retires or gives way to another."""
    retirements = [snapshot.retires_at for each in world.offerings.values() for snapshot in each.snapshots.values()]
    notices = [notice.at for record in records if not record.ended for notice in notices_of(record)]
    moments = (next_moment(records, world.order.orders, now), *others, *notices, *retirements)
    return min((at for at in moments if at is not None and at > now), default=None)
