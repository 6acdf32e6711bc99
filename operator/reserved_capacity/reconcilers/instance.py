"""Reconciles a ModelInstance: brings its children in line with what the pool's record says it holds, and reports.

It decides nothing about capacity: holdings come from the pool's status, reasons from the pool's last plan. A member's
StatefulSet is announced without pods; then the record is read anew from the API server, and only if the holding still
stands does it get them, since a stale view or a slow create could put pods on blocks that were given away meanwhile.
"""

from __future__ import annotations

import contextlib
from datetime import datetime, timedelta
from typing import Any

from reserved_capacity.api import meta
from reserved_capacity.api.instancestatus import ModelInstanceStatus
from reserved_capacity.domain.eligibility import Refusal
from reserved_capacity.domain.instance_conditions import explain_move
from reserved_capacity.domain.members import (
    CreateMember,
    ObservedMember,
    ScaleMember,
)
from reserved_capacity.domain.reasons.instance import InstanceAccepted
from reserved_capacity.domain.throughput import Comparison
from reserved_capacity.ports import (
    COMPUTE_UNIT_POOLS,
    CONTROLLER_REVISIONS,
    EVENTS,
    MODEL_INSTANCES,
    POD_DISRUPTION_BUDGETS,
    SERVICES,
    STATEFUL_SETS,
    AlreadyExists,
    ApiError,
    Conflict,
    JsonObject,
    NotFound,
    Precondition,
    Ref,
    Resource,
)
from reserved_capacity.queue import Key
from reserved_capacity.reconcilers import children, events
from reserved_capacity.reconcilers.availability import next_count
from reserved_capacity.reconcilers.confirmation import confirm_held, confirm_not_held
from reserved_capacity.reconcilers.context import Context
from reserved_capacity.reconcilers.instance_report import InstanceReport, status_of
from reserved_capacity.reconcilers.instance_world import InstanceWorld, gather, owned_by
from reserved_capacity.reconcilers.pinned import tell_notice
from reserved_capacity.reconcilers.pulls import pull
from reserved_capacity.reconcilers.throughput import Subject
from reserved_capacity.snapshot import members_of, parse_instance
from reserved_capacity.snapshot.nodes import hostname_of
from reserved_capacity.store import BY_INSTANCE

# When to look again at what no watch of ours tells of: a name that somebody else has (the periodic LIST drops from the
# store what is not there any more).
LATER = timedelta(seconds=60)


async def reconcile(context: Context, key: Key) -> datetime | None:
    ref = Ref(MODEL_INSTANCES, key.namespace, key.name)
    observed = context.store.get(ref)
    if observed is None or observed["metadata"].get("deletionTimestamp"):
        if context.meter is not None:
            context.meter.forget(key.namespace, key.name)
        await _stop_orphans(context, key, observed)
        return None
    world = gather(context, parse_instance(context.store, observed))
    name_taken = await _apply(context, world) if world.pool is not None else None
    pulled_next = await pull(context, world)
    # What was written just now is part of what is reported.
    world = gather(context, world.instance)
    report = InstanceReport(
        instance=world.instance,
        pool=world.pool,
        offering=world.offering,
        holdings=world.holdings,
        assessment=world.assessment,
        name_taken=name_taken,
        port=_served_port(context, world),
    )
    look_again, measured = await _compare(context, report)
    status = status_of(context.store, report, context.clock.now(), throughput=measured)
    if not _is_told(context, world, observed, status):
        await context.publish(ref, observed, status)
    await _tell_blocked_move(context, observed, world, status.summary or "")
    later = context.clock.now() + LATER if name_taken is not None else None
    told_next = await tell_notice(context, observed, report.pinned(context.clock.now()))
    moments = (later, next_count(status.availability), look_again, told_next, pulled_next)
    return min((at for at in moments if at is not None), default=None)


def _is_told(context: Context, world: InstanceWorld, observed: JsonObject, status: ModelInstanceStatus) -> bool:
    """Until this process has planned the pool for the first time, what was said of this spec and these members stands: a
    restart that finds nothing new is silent. The pool's plan wakes every instance of it."""
    instance = world.instance
    if world.pool is None or context.board.knows(instance.namespace, instance.spec.pool_ref):
        return False
    before, wanted = observed.get("status") or {}, status.to_wire()
    return all(before.get(field) == wanted[field] for field in ("observedGeneration", "instances"))


async def _compare(context: Context, report: InstanceReport) -> tuple[datetime | None, Comparison | None]:
    """When to look again at the throughput of old and new, and what is known of it (S7)."""
    record = report.rollout.record if report.rollout is not None else None
    if context.meter is None or record is None or report.offering is None or report.port is None:
        return None, None
    subject = Subject(report.instance, report.offering, report.holdings, report.port, record)
    look_again = await context.meter.look(context.store, subject)
    return look_again, context.meter.so_far(subject) if record.moving else context.meter.result(subject)


async def _tell_blocked_move(context: Context, observed: JsonObject, world: InstanceWorld, summary: str) -> None:
    """An Event once, when a member begins to wait for another node; the summary says so all the time."""
    move = world.assessment.move if world.assessment is not None else None
    told = (observed.get("status") or {}).get("summary") or ""
    if move is not None and explain_move(move) in summary and explain_move(move) not in told:
        with contextlib.suppress(ApiError):
            await context.cluster.create(EVENTS, events.of_blocked_move(observed, move, context.clock.now()))


async def _apply(context: Context, world: InstanceWorld) -> Refusal | None:
    """Bring the children in line, as far as that can be done now; what cannot, because somebody else has the name."""
    for delete in world.plan.deletes:
        await confirm_not_held(context, _pool_of(world), delete.member)
        await _delete_member(context, world.instance.namespace, delete.member)
    for scale in world.plan.scales:
        await _scale_member(context, world, scale)
    try:
        if world.holdings:
            await _ensure_children(context, world)
        for create in world.plan.creates:
            await _create_member(context, world, create)
    except _NameTakenError as error:
        return error.refusal
    await _prune_revisions(context, world)
    return None


async def _ensure_children(context: Context, world: InstanceWorld) -> None:
    instance = world.instance
    for revision in sorted(world.revisions_in_use):
        # Also where members run: another operator may have pruned the record before it saw them, or a user may have
        # removed it; and growth has to run what they run (R1).
        body = children.controller_revision(instance, revision, world.template(revision))
        await _ensure(context, CONTROLLER_REVISIONS, body, world)
    if world.port is not None:
        wanted = children.service(instance, world.port)
        existing = await _ensure(context, SERVICES, wanted, world)
        # The API server adds to a port what we leave to it (a nodePort, say): compare what is ours.
        ports = [{key: each.get(key) for key in wanted["spec"]["ports"][0]} for each in existing["spec"]["ports"]]
        selector = existing["spec"].get("selector") or {}
        if ports != wanted["spec"]["ports"] or selector != wanted["spec"]["selector"]:
            # A merge patch takes a key away only where it says so.
            surplus = dict.fromkeys(set(selector) - set(wanted["spec"]["selector"]))
            merge = {"spec": {**wanted["spec"], "selector": {**surplus, **wanted["spec"]["selector"]}}}
            await _patch(context, SERVICES, existing, merge)
    wanted = children.pod_disruption_budget(instance, world.min_available_pods)
    existing = await _ensure(context, POD_DISRUPTION_BUDGETS, wanted, world)
    # Before the pool has been planned, what may be missed is not known: the one that is there stands.
    if world.assessment is not None and existing["spec"].get("minAvailable") != wanted["spec"]["minAvailable"]:
        await _patch(context, POD_DISRUPTION_BUDGETS, existing, {"spec": wanted["spec"]})


def _pool_of(world: InstanceWorld) -> Ref:
    return Ref(COMPUTE_UNIT_POOLS, world.instance.namespace, world.instance.spec.pool_ref)


async def _create_member(context: Context, world: InstanceWorld, create: CreateMember) -> None:
    hostnames = [hostname_of(context.store, node) for node in create.holding.nodes]
    body = children.stateful_set(
        world.instance,
        create.holding,
        create.revision,
        world.template(create.revision),
        hostnames=hostnames,
    )
    await _ensure(context, STATEFUL_SETS, body, world)


async def _ensure(context: Context, resource: Resource, body: JsonObject, world: InstanceWorld) -> JsonObject:
    """The child, made if it is missing. Raises _NameTakenError when the name is somebody else's."""
    metadata = body["metadata"]
    ref = Ref(resource, metadata["namespace"], metadata["name"])
    existing = context.store.get(ref)
    if existing is None:
        try:
            return await context.cluster.create(resource, body)
        except AlreadyExists:
            existing = await context.cluster.get(ref)
            if existing is None:
                raise
    if owned_by(existing, world.instance):
        return existing
    if (existing["metadata"].get("labels") or {}).get(meta.MANAGED_BY_LABEL) == meta.MANAGED_BY:
        # Left by an earlier incarnation of this instance, on its way out.
        raise Conflict(f"{ref} still belongs to an instance that is gone")
    raise _NameTakenError(ref)


async def _patch(context: Context, resource: Resource, observed: JsonObject, merge: dict[str, Any]) -> None:
    metadata = observed["metadata"]
    await context.patch(Ref(resource, metadata["namespace"], metadata["name"]), observed, merge)


async def _scale_member(context: Context, world: InstanceWorld, scale: ScaleMember) -> None:
    """Give an announced member its pods, or a suspended one none: the precondition is the member as it was planned on.

    Nothing happens while its blocks are not the pool's: their node is gone, or another operator gave them back. The
    Node, or the pool's record, wakes it (routes).
    """
    ref = Ref(STATEFUL_SETS, world.instance.namespace, scale.member.name)
    observed = context.store.get(ref)
    if observed is None or observed["metadata"]["uid"] != scale.member.uid:
        raise Conflict(f"{ref} went away")
    if scale.replicas and not _is_noted(observed):
        return  # its status wakes us; until then its controller writes to it, and a patch would be refused
    if scale.replicas and not await confirm_held(context, _pool_of(world), scale.member):
        return
    await _patch(context, STATEFUL_SETS, observed, {"spec": {"replicas": scale.replicas}})


def _is_noted(stateful_set: JsonObject) -> bool:
    """Has its controller seen it as it is now?"""
    status = stateful_set.get("status") or {}
    return bool(status.get("observedGeneration", 0) >= stateful_set["metadata"]["generation"])


async def _delete_member(context: Context, namespace: str, member: ObservedMember) -> None:
    # By uid alone: a member is immutable, so any version of this incarnation may go.
    ref = Ref(STATEFUL_SETS, namespace, member.name)
    try:
        await context.cluster.delete(ref, Precondition(member.uid, None))
    except NotFound:
        return


async def _prune_revisions(context: Context, world: InstanceWorld) -> None:
    used = {member.revision for member in world.members} | set(world.templates.kept.values())
    used |= {create.revision for create in world.plan.creates}
    for obj in context.store.by(BY_INSTANCE, CONTROLLER_REVISIONS, world.place):
        if obj["metadata"]["name"] not in used and owned_by(obj, world.instance):
            ref = Ref(CONTROLLER_REVISIONS, world.instance.namespace, obj["metadata"]["name"])
            await context.cluster.delete(ref, Precondition(obj["metadata"]["uid"], None))


async def _stop_orphans(context: Context, key: Key, observed: JsonObject | None) -> None:
    """The instance is gone: its members go too, in the foreground, so that their pods are gone before they are.

    The garbage collector would do it as well, but in the background; the pool frees the blocks when both are gone.
    """
    members = [each for each in members_of(context.store, key.namespace, key.name) if not each.terminating]
    if observed is not None:
        members = [each for each in members if each.owner_uid == observed["metadata"]["uid"]]
    elif members and await _is_there(context, key):
        return
    for member in members:
        await _delete_member(context, key.namespace, member)


async def _is_there(context: Context, key: Key) -> bool:
    """Of an instance and its members different streams tell, in no order: that one was not heard of yet is no end of it.
    What the answer says is known from now on, and brings the key back."""
    return await context.cluster.get(Ref(MODEL_INSTANCES, key.namespace, key.name)) is not None


class _NameTakenError(Exception):
    def __init__(self, ref: Ref) -> None:
        super().__init__(str(ref))
        self.refusal = Refusal(
            InstanceAccepted.NAME_TAKEN,
            f"{ref} exists and is not ours: rename this ModelInstance, or remove that object",
        )


def _served_port(context: Context, world: InstanceWorld) -> int | None:
    """The port that clients know: the Service's, which stays while nothing runs."""
    existing = context.store.get(Ref(SERVICES, *world.place))
    if existing is None or not owned_by(existing, world.instance):
        return None
    return next((int(port["port"]) for port in existing["spec"].get("ports") or ()), None)
