"""The allocation record on its way out: the domain's values as a pool's status holds them (snapshot/pools.py reads them)."""

from __future__ import annotations

from decimal import Decimal

from reserved_capacity.api.computeunitpool import ComputeUnitPool
from reserved_capacity.api.poolstatus import (
    MAX_STOPS,
    ChangeSetStatus,
    ChangeSetStep,
    CommitmentAmendment,
    CommitmentPrice,
    CommitmentStatus,
    ExpiryPlan,
    ExpiryStop,
    RolloutFailure,
    RolloutVersion,
)
from reserved_capacity.api.poolstatus import Holding as HoldingStatus
from reserved_capacity.api.poolstatus import RolloutRecord as RolloutStatus
from reserved_capacity.domain import expiry
from reserved_capacity.domain.changesets import ChangeSetRecord
from reserved_capacity.domain.holdings import Holding
from reserved_capacity.domain.rollout.values import RolloutRecord
from reserved_capacity.domain.terms import CommitmentRecord
from reserved_capacity.domain.units import cu_of


def commitment_status(pool: ComputeUnitPool, record: CommitmentRecord, price: Decimal | None) -> CommitmentStatus:
    """`price`: the list price of the day of acceptance, or of the first day of a renewal, written once for the term; what
    M3 charges from is never looked up again."""
    before = pool.status.commitment(record.id)
    known = before.price.ordered if before is not None and before.number == record.number else None
    last = before.price.ordered if before is not None else None
    ordered = next((each for each in (known, price, last) if each is not None), None)  # a price of 0 is one (T4)
    return CommitmentStatus(
        id=record.id,
        number=record.number,
        compute_units=record.compute_units,
        amendments=tuple(
            CommitmentAmendment(at=each.at, compute_units=each.compute_units, seen_at=each.seen_at)
            for each in record.reductions
        ),
        state=record.state,
        accepted_at=record.accepted_at,
        provisioned_compute_units=record.provisioned_cu,
        first_provisioned_at=record.first_provisioned_at,
        fully_provisioned_at=record.fully_provisioned_at,
        billing_start=record.billing_start,
        term_end=record.term_end,
        renewal_deadline=record.renewal_deadline,
        price=(before.price if before is not None else CommitmentPrice()).model_copy(update={"ordered": ordered}),
        charged=before.charged if before is not None else None,
    )


def expiry_status(plan: expiry.ExpiryPlan | None) -> ExpiryPlan | None:
    if plan is None:
        return None
    stops = [ExpiryStop(instance=each.instance, instances=each.instances) for each in plan.stops]
    return ExpiryPlan(at=plan.at, stops=tuple(stops[:MAX_STOPS]))


def change_set_status(record: ChangeSetRecord) -> ChangeSetStatus:
    return ChangeSetStatus(
        id=record.id,
        phase=record.phase,
        members=record.members,
        steps=tuple(
            ChangeSetStep(
                action=step.action,
                instance=step.instance,
                member=step.member,
                compute_units=cu_of(step.blocks),
                nodes=step.nodes,
                state=step.state,
            )
            for step in record.steps
        ),
        message=record.message[:1024] or None,
    )


def holding_status(holding: Holding) -> HoldingStatus:
    return HoldingStatus(
        instance=holding.instance,
        instance_uid=holding.instance_uid,
        member=holding.member,
        replaces=holding.replaces or None,
        snapshot=holding.version.snapshot if holding.version else None,
        profile=holding.version.profile if holding.version else None,
        compute_units=cu_of(holding.blocks),
        nodes=holding.nodes,
        since=holding.since,
        state=holding.state,
    )


def rollout_status(record: RolloutRecord) -> RolloutStatus:
    failure = record.failure
    return RolloutStatus(
        instance=record.instance,
        instance_uid=record.instance_uid,
        id=record.id,
        state=record.state,
        from_=RolloutVersion(snapshot=record.source.snapshot, profile=record.source.profile),
        to=RolloutVersion(snapshot=record.target.snapshot, profile=record.target.profile),
        started_at=record.started_at,
        ended_at=record.ended_at,
        strategy=record.strategy,
        surge=record.surge,
        borrowed_compute_units=cu_of(record.borrowed),
        why=record.why[:1024] or None,
        vacated=record.vacated,
        starting=record.starting,
        unready_since=record.unready_since,
        canary_since=record.canary_since,
        canary_passed=record.canary_passed,
        attempt=record.attempt,
        failure=RolloutFailure(
            member=failure.member, reason=failure.reason, message=failure.message[:1024], at=failure.at
        )
        if failure
        else None,
    )
