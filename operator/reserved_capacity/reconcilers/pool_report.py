"""The status of a ComputeUnitPool: the allocation record and the sums, all recomputed from lists (behaviour.md C1)."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date, datetime, timedelta

from reserved_capacity.api.computeunitpool import ComputeUnitPool
from reserved_capacity.api.poolstatus import (
    MAX_STATUS_NODES,
    ComputeUnitPoolStatus,
    NodeState,
    PoolComputeUnits,
    PoolNode,
)
from reserved_capacity.domain import holdings as domain
from reserved_capacity.domain.commitment_secure import SecureFacts, commitment_secure
from reserved_capacity.domain.holdings import Holding, PoolCapacity, capacity_of
from reserved_capacity.domain.pool_conditions import PoolObservation, conditions_of
from reserved_capacity.domain.pool_plan import PoolPlan
from reserved_capacity.domain.terms import CommitmentRecord, start_of
from reserved_capacity.domain.units import blocks_of, cu_of
from reserved_capacity.reconcilers.billing.board import PoolBooks
from reserved_capacity.reconcilers.billing.pool_status import billing_conditions, billing_status, with_billing
from reserved_capacity.reconcilers.context import condition_list
from reserved_capacity.snapshot import PoolPlaces
from reserved_capacity.snapshot.pool_world import commitment_orders
from reserved_capacity.snapshot.record import (
    change_set_status,
    commitment_status,
    expiry_status,
    holding_status,
    rollout_status,
)


@dataclass(frozen=True, slots=True)
class PoolReport:
    """What one pass decided about a pool."""

    pool: ComputeUnitPool
    plan: PoolPlan
    places: PoolPlaces
    books: PoolBooks | None = None

    @property
    def holdings(self) -> tuple[Holding, ...]:
        return self.plan.holdings.holdings

    @property
    def records(self) -> tuple[CommitmentRecord, ...]:
        return self.plan.records

    @property
    def ends(self) -> SecureFacts:
        orders = {order.id: order for order in commitment_orders(self.pool)}
        return SecureFacts(self.records, orders, self.plan.ahead, self.plan.expiry)

    @property
    def capacity(self) -> PoolCapacity:
        return capacity_of(self.places.nodes, self.holdings)

    @property
    def provision_by(self) -> date | None:
        """The first day that was agreed for CU that are missing; None where nothing is missing.

        What is ordered after that day is not late on the day it is accepted, and what has ended is not owed.
        """
        agreed = {order.id: order.provision_by for order in self.pool.spec.commitments}
        owed = [record for record in self.records if not record.ended]
        missing = [record for record in owed if record.provisioned_cu < record.compute_units]
        days = [max(agreed[each.id], each.accepted_at.date()) for each in missing if each.id in agreed]
        return min(days, default=None)

    @property
    def late_from(self) -> datetime | None:
        """When what is missing becomes late, or did."""
        return start_of(self.provision_by + timedelta(days=1)) if self.provision_by else None

    def overdue(self, now: datetime) -> bool:
        return self.late_from is not None and now >= self.late_from


def status_of(report: PoolReport, now: datetime) -> ComputeUnitPoolStatus:
    """The whole status; what the books say stays as it stands while they cannot be read."""
    pool = report.pool
    generation = pool.metadata.generation
    observation = _observation(report, now)
    nodes = _nodes(report)
    nodes = (*nodes, *_owed_back(report, nodes))
    # What was read yesterday says nothing of today: it stands until the books have been read again.
    summary = report.books.summary if report.books is not None and report.books.read_on == now.date() else None
    ends = [record.term_end for record in report.records if record.term_end is not None and record.state.running]
    return pool.status.model_copy(
        update={
            "observed_generation": generation,
            "phase": _phase(report),
            "summary": _summary(report),
            "compute_units": _compute_units(report),
            "nodes_total": len(nodes),
            "nodes": _shown(nodes),
            "commitments": tuple(
                with_billing(commitment_status(pool, record, report.plan.prices.get(record.id)), summary, report.books)
                for record in report.records
            ),
            "billing": billing_status(summary) if summary is not None else pool.status.billing,
            "term_end": min(ends, default=None),
            "expiry_plan": expiry_status(report.plan.expiry),
            "change_sets": tuple(change_set_status(each) for each in report.plan.change_sets),
            "holdings": tuple(holding_status(each) for each in report.holdings),
            "rollouts": tuple(rollout_status(each) for each in report.plan.rollouts.records),
            "conditions": condition_list(pool.status, conditions_of(observation), generation=generation, now=now),
        }
    )


def _compute_units(report: PoolReport) -> PoolComputeUnits:
    """The sums of api.md. What is claimed beyond the contract (on its way back, or while a member moves) is not sold:
    idle blocks are left out first, then what is held shows as `surge`; so does what a rollout has borrowed, also while its
    canary waits and nobody is there."""
    capacity = report.capacity
    beyond = max(0, capacity.provisioned - blocks_of(report.plan.contracted_cu))
    idle = max(0, capacity.idle - beyond)
    held_beyond = min(capacity.allocated, max(0, beyond - capacity.idle))
    borrowed = min(beyond, sum(each.borrowed for each in report.plan.rollouts.records))
    unhealthy = min(capacity.unhealthy, blocks_of(report.plan.contracted_cu))
    allocated = capacity.allocated - held_beyond
    return PoolComputeUnits(
        contracted=report.plan.contracted_cu,
        provisioned=cu_of(allocated + idle + unhealthy),
        usable=cu_of(allocated + idle),
        allocated=cu_of(allocated),
        idle=cu_of(idle),
        unhealthy=cu_of(unhealthy),
        surge=cu_of(max(held_beyond, borrowed)),
    )


def _observation(report: PoolReport, now: datetime) -> PoolObservation:
    sick = [f"{node.name} ({_ailment(report, node)})" for node in report.places.nodes if _ailment(report, node)]
    return PoolObservation(
        contracted_cu=report.plan.contracted_cu,
        provisioned_cu=_compute_units(report).provisioned,
        provision_by=report.provision_by,
        today=now.date(),
        refusal=report.plan.order.refusal,
        sick_nodes=tuple(sick),
        foreign_pods=report.places.foreign_pods,
        members=sum(each.demand.desired for each in report.plan.verdicts.values()),
        secure=commitment_secure(report.ends, now),
        billing=billing_conditions(report.books, report.pool.status.conditions, now),
    )


def _ailment(report: PoolReport, node: domain.PoolNode) -> str:
    fact = report.places.facts.get(node.name)
    if fact is None:
        return "gone"
    given_up = bool(node.replaced) and not node.blocks
    if fact.failed:
        return "failed and replaced, and what it had is used by nobody before it is fenced" if given_up else "failed"
    if not fact.ready:
        return f"not ready since {fact.not_ready_since:%Y-%m-%dT%H:%M:%SZ}" if fact.not_ready_since else "not ready"
    return ""


def _nodes(report: PoolReport) -> tuple[PoolNode, ...]:
    holders: dict[str, list[str]] = {}
    for holding in report.holdings:
        for node in holding.nodes:
            holders.setdefault(node, []).append(holding.member)
    return tuple(
        PoolNode(
            name=node.name,
            blocks=node.blocks + node.replaced,
            state=_node_state(report, node, held=node.name in holders),
            holders=tuple(sorted(holders.get(node.name, []))),
        )
        for node in report.places.nodes
    )


def _owed_back(report: PoolReport, nodes: tuple[PoolNode, ...]) -> tuple[PoolNode, ...]:
    """Nodes that went away with idle blocks which have not been found elsewhere: who comes back is offered to us first (N2),
    and this list is where that is remembered."""
    units, here = _compute_units(report), {node.name for node in nodes}
    if units.provisioned >= units.contracted:
        return ()
    gone = [node for node in report.pool.status.nodes if node.name not in here]
    return tuple(node.model_copy(update={"state": NodeState.REPLACING, "holders": ()}) for node in gone)


def _shown(nodes: tuple[PoolNode, ...]) -> tuple[PoolNode, ...]:
    """As many as the status can list, by name; where there are more, none that somebody has to know of is left out."""
    ordered = sorted(nodes, key=lambda node: (node.state in (NodeState.FREE, NodeState.HELD), node.name))
    return tuple(sorted(ordered[:MAX_STATUS_NODES], key=lambda node: node.name))


def _node_state(report: PoolReport, node: domain.PoolNode, *, held: bool) -> NodeState:
    fact = report.places.facts.get(node.name)
    if node.replaced and not node.blocks:
        return NodeState.REPLACING
    if node.failed or fact is None or not fact.ready:
        return NodeState.UNHEALTHY
    if fact.cordoned:
        return NodeState.CORDONED
    return NodeState.HELD if held else NodeState.FREE


def _phase(report: PoolReport) -> str:
    """The state of the commitment that is furthest on its way, in one word."""
    states = [record.state for record in report.records]
    order = ("Active", "Renewing", "Expiring", "Provisioning", "Ordered", "Expired")
    return next((word for word in order if any(state.value == word for state in states)), "Pending")


def _summary(report: PoolReport) -> str:
    units = _compute_units(report)
    missing = units.contracted - units.provisioned
    parts = [
        f"{units.allocated} of {units.contracted} CU allocated",
        f"{units.idle} CU idle",
        f"{units.unhealthy} CU unhealthy" if units.unhealthy else "",
        f"{missing} CU not provisioned yet" if missing > 0 else "",
    ]
    return ", ".join(part for part in parts if part)
