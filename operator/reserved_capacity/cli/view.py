"""Builds the status screen's values from what was read. Pure: no I/O, no clock, no layout."""

from __future__ import annotations

from collections.abc import Sequence

from pydantic import ValidationError

from reserved_capacity.api.acceleratorclass import AcceleratorClass
from reserved_capacity.api.computeunitpool import Commitment, ComputeUnitPool
from reserved_capacity.api.instancestatus import Member, MemberPhase
from reserved_capacity.api.modelinstance import ModelInstance
from reserved_capacity.api.poolstatus import NodeState, PoolNode
from reserved_capacity.cli.errors import CliError, near
from reserved_capacity.cli.findings import verdict_of
from reserved_capacity.cli.pods import evicted_at, trouble_of
from reserved_capacity.cli.reservations import reservation_view
from reserved_capacity.cli.rollouts import Place, places_of, rollout_view
from reserved_capacity.cli.values import (
    ClassView,
    CommitmentView,
    Holder,
    InstanceView,
    MemberView,
    NodeView,
    PoolView,
    StatusView,
    Units,
)
from reserved_capacity.cli.world import World, operator_note, unread_notes
from reserved_capacity.domain.holdings import Holding
from reserved_capacity.domain.units import cu_of
from reserved_capacity.ports import (
    ACCELERATOR_CLASSES,
    COMPUTE_UNIT_POOLS,
    MODEL_INSTANCES,
    NODES,
    TOKEN_UNIT_RESERVATIONS,
    JsonObject,
    Ref,
)
from reserved_capacity.snapshot import (
    allocatable_gpus,
    claims_of,
    conditions_of,
    holdings_of,
    parse_class,
    parse_instance,
    parse_pool,
    pods_of_member,
    pool_id,
    running_pods,
    shape_of,
)
from reserved_capacity.store import INSTANCES_BY_POOL


def status_view(world: World, namespace: str, pool: str = "") -> StatusView:
    """The screen of a namespace ("" for all), or of one pool. Raises CliError for a pool that is not there."""
    try:
        return _status_view(world, namespace, pool)
    except ValidationError as error:
        raise CliError(f"an object is not as this version of the plugin knows it: {error}") from error


def instance_screen(world: World, instance: ModelInstance, namespace: str) -> StatusView:
    """The screen of one instance."""
    warning = operator_note(world)
    return StatusView(
        namespace=namespace,
        now=world.now,
        pools=(),
        strays=(),
        reservations=(),
        classes=(),
        warnings=(warning,) if warning else (),
        notes=unread_notes(world),
        instance=instance_view(world, instance),
    )


def _status_view(world: World, namespace: str, pool: str) -> StatusView:
    pools = [parse_pool(world.store, obj) for obj in world.store.all(COMPUTE_UNIT_POOLS)]
    if pool:
        pools = _named(pools, pool, namespace)
    used = {each.spec.accelerator_class for each in pools}
    classes = [parse_class(world.store, obj["metadata"]["name"]) for obj in world.store.all(ACCELERATOR_CLASSES)]
    warning = operator_note(world)
    return StatusView(
        namespace=namespace,
        now=world.now,
        pools=tuple(pool_view(world, each) for each in pools),
        strays=() if pool else _strays(world, pools),
        reservations=() if pool else tuple(map(reservation_view, world.store.all(TOKEN_UNIT_RESERVATIONS))),
        classes=tuple(class_view(each) for each in classes if each and (not pool or each.name in used)),
        warnings=(warning,) if warning else (),
        notes=unread_notes(world),
    )


def _named(pools: Sequence[ComputeUnitPool], name: str, namespace: str) -> list[ComputeUnitPool]:
    found = [pool for pool in pools if pool.name == name]
    if found:
        return found
    place = f"namespace {namespace}" if namespace else "any namespace"
    there = ", ".join(sorted({pool.name for pool in pools})) or "none"
    hint = near(name, [pool.name for pool in pools]) or ("" if not namespace else " Use -n or -A to look elsewhere.")
    raise CliError(f"there is no ComputeUnitPool {name!r} in {place} (there are: {there}).{hint}")


def elsewhere_note(namespaces: Sequence[str]) -> str:
    """Where pools are, when the namespace that was asked for has none."""
    return f"There are pools in: {', '.join(namespaces)}. Use -n, or -A for all." if namespaces else ""


# ---------------------------------------------------------------------------------------------------------------- pools


def pool_view(world: World, pool: ComputeUnitPool) -> PoolView:
    units, holdings = pool.status.compute_units, holdings_of(pool)
    # What is held on a node that was replaced is outside of all sums (api.md).
    outside = {node.name for node in pool.status.nodes if node.state is NodeState.REPLACING}
    class_ = parse_class(world.store, pool.spec.accelerator_class)
    return PoolView(
        namespace=pool.namespace,
        name=pool.name,
        account=pool.spec.account,
        accelerator_class=pool.spec.accelerator_class,
        phase=pool.status.phase or "",
        units=Units(
            contracted_cu=units.contracted,
            provisioned_cu=units.provisioned,
            allocated_cu=units.allocated,
            idle_cu=units.idle,
            unhealthy_cu=units.unhealthy,
            releasing_cu=cu_of(
                sum(each.blocks for each in holdings if not each.held and outside.isdisjoint(each.nodes))
            ),
        ),
        verdict=verdict_of(pool, pool.status),
        commitments=tuple(_commitment(pool, order) for order in pool.spec.commitments),
        nodes=tuple(_node(world, pool, class_, node, holdings) for node in pool.status.nodes),
        nodes_total=pool.status.nodes_total,
        instances=tuple(instance_view(world, each) for each in _instances(world, pool)),
    )


def _instances(world: World, pool: ComputeUnitPool) -> list[ModelInstance]:
    """By name, those that are being deleted included: they hold their units until their pods are gone."""
    objects = world.store.by(INSTANCES_BY_POOL, MODEL_INSTANCES, (pool.namespace, pool.name))
    return [parse_instance(world.store, obj) for obj in objects]


def _commitment(pool: ComputeUnitPool, order: Commitment) -> CommitmentView:
    record = pool.status.commitment(order.id)
    known = record.compute_units if record is not None else None
    return CommitmentView(
        id=order.id,
        compute_units=order.compute_units if known is None else known,
        provisioned_cu=record.provisioned_compute_units if record else 0,
        term=order.term.value,
        state=record.state.value if record else "",
        renewal=order.renewal.policy.value,
        provision_by=order.provision_by,
        billing_start=record.billing_start if record else None,
        term_end=record.term_end if record else None,
    )


def _node(
    world: World,
    pool: ComputeUnitPool,
    class_: AcceleratorClass | None,
    node: PoolNode,
    holdings: Sequence[Holding],
) -> NodeView:
    obj = world.store.get(Ref(NODES, "", node.name))
    known = obj is not None and class_ is not None
    return NodeView(
        name=node.name,
        our_blocks=node.blocks,
        other_blocks=sum(claim.blocks for claim in claims_of(obj) if claim.pool != pool_id(pool)) if obj else 0,
        total_blocks=shape_of(class_).blocks_in(allocatable_gpus(class_, obj)) if known and class_ and obj else None,
        holders=tuple(
            Holder(each.member, each.blocks_per_node, not each.held) for each in holdings if node.name in each.nodes
        ),
        state=node.state.value,
        trouble=_node_trouble(world, node, obj),
    )


def _node_trouble(world: World, node: PoolNode, obj: JsonObject | None) -> str:
    """Why the node takes no new member; empty where it does."""
    if obj is None:
        gone = world.store.synced(NODES)
        return "the Node is gone" if gone else ""
    if node.state is NodeState.CORDONED:
        return "takes no new member"
    trouble = node_trouble(obj) or ("failed" if node.state is NodeState.UNHEALTHY else "")
    stay_until = evicted_at(running_pods(world.store, node.name), obj)
    return f"{trouble}, and its pods tolerate it until {stay_until:%Y-%m-%d %H:%M:%S}Z" if stay_until else trouble


def node_trouble(obj: JsonObject) -> str:
    """What a Node says of itself: not ready since when, or cordoned."""
    ready = next((each for each in conditions_of(obj) if each.type == "Ready"), None)
    parts = []
    if ready is None:
        parts.append("has not reported Ready")
    elif ready.status != "True":
        parts.append(f"Ready is {ready.status} since {ready.since:%Y-%m-%d %H:%M:%S}Z")
    if (obj.get("spec") or {}).get("unschedulable"):
        parts.append("cordoned")
    return ", ".join(parts)


# ------------------------------------------------------------------------------------------------- instances and others


def instance_view(world: World, instance: ModelInstance) -> InstanceView:
    spec, status, places = instance.spec, instance.status, places_of(world, instance)
    return InstanceView(
        namespace=instance.namespace,
        name=instance.name,
        pool=spec.pool_ref,
        offering=spec.offering,
        snapshot=spec.snapshot,
        priority=spec.priority,
        created=instance.metadata.creation_timestamp,
        desired=spec.instances,
        held=status.instances.held,
        available=status.instances.available,
        compute_units=status.compute_units,
        phase=status.phase or "",
        endpoint=status.endpoint or "",
        verdict=verdict_of(instance, status),
        members=tuple(_member(world, instance, member, places.get(member.name, Place())) for member in status.members),
        rollout=rollout_view(world, instance),
    )


def _member(world: World, instance: ModelInstance, member: Member, place: Place) -> MemberView:
    pods = pods_of_member(world.store, instance.namespace, instance.name, member.name)
    return MemberView(
        name=member.name,
        phase=member.phase.value,
        nodes=member.nodes,
        snapshot=member.snapshot,
        since=member.since,
        trouble="" if member.phase is MemberPhase.AVAILABLE else trouble_of(pods),
        runs=place.runs,
        place=place.note,
    )


def _strays(world: World, pools: Sequence[ComputeUnitPool]) -> tuple[InstanceView, ...]:
    known = {(pool.namespace, pool.name) for pool in pools}
    instances = [parse_instance(world.store, obj) for obj in world.store.all(MODEL_INSTANCES)]
    return tuple(instance_view(world, each) for each in instances if (each.namespace, each.spec.pool_ref) not in known)


def class_view(class_: AcceleratorClass) -> ClassView:
    nodes, units = class_.status.nodes, class_.status.compute_units
    return ClassView(
        name=class_.name,
        nodes=nodes.total,
        ready=nodes.ready,
        cordoned=nodes.cordoned,
        failed=nodes.failed,
        total_cu=units.total,
        claimed_cu=units.claimed,
        free_cu=units.free,
        unhealthy_cu=units.unhealthy,
        verdict=verdict_of(class_, class_.status),
    )
