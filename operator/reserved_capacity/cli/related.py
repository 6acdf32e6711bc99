"""What an object hangs together with, for `why`: the pool's figures, who holds its blocks, which nodes are no use. Pure."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import UTC, datetime

from reserved_capacity.api.acceleratorclass import AcceleratorClass
from reserved_capacity.api.computeunitpool import ComputeUnitPool
from reserved_capacity.api.modelinstance import ModelInstance
from reserved_capacity.api.modeloffering import ModelOffering
from reserved_capacity.api.pricebook import PriceBook
from reserved_capacity.api.tokenunitreservation import TokenUnitReservation
from reserved_capacity.cli.findings import Verdict, verdict_of
from reserved_capacity.cli.layout import moment
from reserved_capacity.cli.reservations import fleet_words, limits_of, published_words, view_of
from reserved_capacity.cli.rollouts import RolloutView, rollout_view
from reserved_capacity.cli.sections import Section
from reserved_capacity.cli.values import CommitmentView, InstanceView, NodeView, PoolView
from reserved_capacity.cli.view import instance_view, node_trouble, pool_view
from reserved_capacity.cli.world import World
from reserved_capacity.domain.nodes import InventoryNode
from reserved_capacity.ports import (
    ACCELERATOR_CLASSES,
    COMPUTE_UNIT_POOLS,
    MODEL_INSTANCES,
    MODEL_OFFERINGS,
    NODES,
    TOKEN_UNIT_RESERVATIONS,
    Ref,
)
from reserved_capacity.snapshot import (
    inventory,
    parse_class,
    parse_offering,
    parse_pool,
    pools_of_class,
)
from reserved_capacity.store import BY_OFFERING, BY_PRICE_BOOK

_LISTED = 20
_NEVER = datetime.max.replace(tzinfo=UTC)


def of_instance(world: World, instance: ModelInstance) -> list[Section]:
    members = _members(instance_view(world, instance))
    obj = world.store.get(Ref(COMPUTE_UNIT_POOLS, instance.namespace, instance.spec.pool_ref))
    if obj is None:
        there = [each["metadata"]["name"] for each in world.store.all(COMPUTE_UNIT_POOLS)]
        known = world.store.synced(COMPUTE_UNIT_POOLS)
        text = f"does not exist here; there are: {', '.join(there) or 'none'}"
        around = [Section(f"Pool {instance.spec.pool_ref}", text)] if known else []
    else:
        around = _of_pool(pool_view(world, parse_pool(world.store, obj)))
    return [
        *_rollout(rollout_view(world, instance)),
        *members,
        *around,
        *_offering(world, instance.spec.offering, instance.spec.snapshot),
    ]


def of_pool(world: World, pool: ComputeUnitPool) -> list[Section]:
    seen = pool_view(world, pool)
    class_ = parse_class(world.store, pool.spec.accelerator_class)
    columns = ("COMMITMENT", "CU", "PROVISIONED", "STATE", "PROVISION BY", "BILLED FROM", "ENDS")
    orders = _listed("Commitments", columns, map(_order_row, seen.commitments))
    return [*_of_pool(seen), *orders, *([_supply(class_)] if class_ else [])]


def of_class(world: World, class_: AcceleratorClass) -> list[Section]:
    spec = class_.spec
    labels = ", ".join(f"{key}={value}" for key, value in spec.node_selector.match_labels.items())
    nodes = inventory(world.store, class_, now=world.now)
    pools = [
        (f"{pool.namespace}/{pool.name}", str(units.contracted), str(units.provisioned), str(units.idle))
        for pool in pools_of_class(world.store, class_.name)
        for units in (pool.status.compute_units,)
    ]
    return [
        _supply(class_),
        Section("Selector", f"{labels}; {spec.gpus_per_node} GPUs of a node are {spec.compute_units_per_node} CU"),
        *_listed(
            "Nodes", ("NODE", "BLOCKS", "FREE", "CLAIMED BY", "STATE"), (_inventory_row(world, each) for each in nodes)
        ),
        *_listed("Pools", ("POOL", "CONTRACTED", "PROVISIONED", "IDLE"), pools),
    ]


def of_offering(world: World, offering: ModelOffering) -> list[Section]:
    wanted = offering.spec.reserved.accelerator_classes
    missing = [name for name in wanted if parse_class(world.store, name) is None]
    absent = f"; not there: {', '.join(missing)}" if missing and world.store.synced(ACCELERATOR_CLASSES) else ""
    snapshots = [
        (each.name, each.lifecycle.value, str(each.pinned_instances), moment(each.latest_commitment_end))
        for each in offering.status.snapshots
    ]
    users = [
        (f"{obj['kind']} {obj['metadata']['namespace']}/{obj['metadata']['name']}", obj["spec"].get("snapshot", ""))
        for resource in (MODEL_INSTANCES, TOKEN_UNIT_RESERVATIONS)
        for obj in world.store.by(BY_OFFERING, resource, offering.name)
    ]
    return [
        Section("Sold as", f"{_sold(offering)}{absent}"),
        *_listed("Snapshots", ("SNAPSHOT", "LIFECYCLE", "PINNED BY", "LATEST COMMITMENT END"), snapshots),
        *_listed("Used by", ("OBJECT", "SNAPSHOT"), users),
    ]


def of_price_book(world: World, book: PriceBook) -> list[Section]:
    spec = book.spec
    users = [
        (f"{obj['kind']} {obj['metadata']['namespace']}/{obj['metadata']['name']}", obj["spec"].get("account", ""))
        for resource in (COMPUTE_UNIT_POOLS, TOKEN_UNIT_RESERVATIONS)
        for obj in world.store.by(BY_PRICE_BOOK, resource, book.name)
    ]
    entries = (
        f"{len(spec.compute_units)} for compute units, {len(spec.token_units)} for token units, in {spec.currency}"
    )
    return [Section("Prices", entries), *_listed("Used by", ("OBJECT", "ACCOUNT"), users)]


def _rollout(rollout: RolloutView | None) -> list[Section]:
    """Where it stands, and the commands that make sense now; nothing of an instance that never was in one."""
    if rollout is None:
        return []
    state = "done" if rollout.settled else rollout.phase
    started = f", started {moment(rollout.started_at)}" if rollout.started_at else ""
    measured = (rollout.compared, rollout.unavailable)
    facts = (rollout.why,) if rollout.settled else (rollout.step, rollout.waits_for, rollout.failure, rollout.why)
    told = "; ".join(fact for fact in (*facts, *measured) if fact)
    text = f"from {rollout.source} to {rollout.target}: {state}{started}" + (f". {told}." if told else ".")
    ways = [(way.command, way.effect) for way in rollout.ways]
    return [
        Section(f"Rollout {rollout.id}" if rollout.id else "Rollout", text),
        *_listed("How to go on", ("COMMAND", "EFFECT"), ways),
    ]


def of_reservation(world: World, reservation: TokenUnitReservation) -> list[Section]:
    spec, seen = reservation.spec, view_of(reservation)
    text = (
        f"{seen.input_units} input and {seen.output_units} output units; overflow {seen.overflow}, enforcement "
        f"{seen.enforcement}; {fleet_words(seen)}; {published_words(seen)}"
    )
    lots = [
        (
            f"{lot.direction.lower()} {lot.id}",
            str(lot.units),
            lot.price_per_unit_day,
            f"{lot.purchased_at:%Y-%m-%d}" if lot.purchased_at else "",
            moment(lot.billing_start) or "not yet",
            moment(lot.removable_from) or ("now" if lot.removable else ""),
            moment(lot.ends_at),
        )
        for lot in seen.lots
    ]
    rates = [(label, f"{rate.input_tpm:,}", f"{rate.output_tpm:,}") for label, rate in limits_of(seen)]
    return [
        Section("Units", text),
        *_listed("Tokens per minute", ("LIMIT", "INPUT", "OUTPUT"), rates),
        *_listed("Lots", ("LOT", "UNITS", "A UNIT-DAY", "BOUGHT", "BILLED FROM", "REMOVABLE", "ENDS"), lots),
        *_offering(world, spec.offering, spec.snapshot),
    ]


# ---------------------------------------------------------------------------------------------------------------- parts

_INSTANCE_COLUMNS = ("INSTANCE", "PRIORITY", "DESIRED", "HELD", "AVAILABLE", "CU", "READY")


def _of_pool(pool: PoolView) -> list[Section]:
    units = pool.units
    figures = (
        f"{units.contracted_cu} CU contracted, {units.provisioned_cu} provisioned: {units.allocated_cu} allocated, "
        f"{units.idle_cu} idle, {units.unhealthy_cu} unhealthy"
    )
    if units.releasing_cu:
        figures += f"; {units.releasing_cu} are being released"
    # C5: who asked first with the highest priority is served first.
    instances = sorted(pool.instances, key=lambda each: (-each.priority, each.created or _NEVER, each.name))
    return [
        Section(f"Pool {pool.name}", f"{figures}. {_state(pool.verdict)}"),
        *_listed(
            "Blocks, and who holds them", ("NODE", "BLOCKS", "IDLE", "HELD BY", "STATE"), map(_node_row, pool.nodes)
        ),
        *_listed("Instances on the pool, in the order of admission", _INSTANCE_COLUMNS, map(_instance_row, instances)),
    ]


def _order_row(order: CommitmentView) -> tuple[str, ...]:
    return (
        order.id,
        str(order.compute_units),
        str(order.provisioned_cu),
        order.state or "not accepted",
        str(order.provision_by),
        moment(order.billing_start),
        moment(order.term_end),
    )


def _state(verdict: Verdict) -> str:
    """`It is Ready.`, or why not and what to do."""
    if verdict.ready == "True":
        return "It is Ready."
    decider = verdict.decider
    if decider is None:
        return verdict.note
    remedy = f" {decider.remedy}" if decider.remedy else ""
    return f"It is not Ready ({decider.reason}): {decider.message}.{remedy}"


def _node_row(node: NodeView) -> tuple[str, ...]:
    total = f" of {node.total_blocks}" if node.total_blocks is not None else ""
    holders = ", ".join(f"{each.member} {each.blocks}{' releasing' if each.releasing else ''}" for each in node.holders)
    state = f"{node.state}: {node.trouble}" if node.trouble else node.state
    return (node.name, f"{node.our_blocks}{total}", str(node.idle_blocks), holders or "nobody", state)


def _instance_row(instance: InstanceView) -> tuple[str, ...]:
    ready = instance.phase if instance.verdict.ready == "True" else instance.verdict.reason
    numbers = (instance.priority, instance.desired, instance.held, instance.available, instance.compute_units)
    return (instance.name, *map(str, numbers), ready or "no status yet")


def _members(instance: InstanceView) -> list[Section]:
    rows = [
        (
            f"{each.name} ({each.runs})" if each.runs else each.name,
            each.phase,
            ", ".join(each.nodes),
            moment(each.since),
            each.trouble,
        )
        for each in instance.members
    ]
    return _listed("Members", ("MEMBER", "PHASE", "NODE", "SINCE", "POD"), rows)


def _offering(world: World, name: str, snapshot: str) -> list[Section]:
    """The offering and the snapshot that an object asks for; nothing where they cannot be read."""
    offering = parse_offering(world.store, name)
    if offering is None:
        return [Section(f"Offering {name}", "does not exist")] if world.store.synced(MODEL_OFFERINGS) else []
    listed = [each.name for each in offering.spec.snapshots]
    lifecycle = next((each.lifecycle.value for each in offering.status.snapshots if each.name == snapshot), "")
    known = f"snapshot {snapshot} is {lifecycle}" if lifecycle else f"its snapshots are {', '.join(listed)}"
    return [Section(f"Offering {name}", f"{_sold(offering)}; {known}")]


def _sold(offering: ModelOffering) -> str:
    reserved = offering.spec.reserved
    if not reserved.sold:
        return "not sold as a reserved instance"
    return (
        f"{reserved.compute_units_per_instance} CU an instance, at least {reserved.min_instances} on a pool, "
        f"on {', '.join(reserved.accelerator_classes)}"
    )


def _supply(class_: AcceleratorClass) -> Section:
    nodes, units = class_.status.nodes, class_.status.compute_units
    return Section(
        f"Class {class_.name}",
        f"{nodes.total} nodes, {nodes.ready} ready, {nodes.cordoned} cordoned, {nodes.failed} failed; {units.total} CU: "
        f"{units.claimed} claimed, {units.free} free, {units.unhealthy} unhealthy. "
        f"{_state(verdict_of(class_, class_.status))}",
    )


def _inventory_row(world: World, node: InventoryNode) -> tuple[str, ...]:
    obj = world.store.get(Ref(NODES, "", node.name))
    claims = [f"{claim.pool} {claim.blocks}" for claim in node.claims]
    foreign = [f"{node.foreign_blocks} in use by pods that are not ours"] if node.foreign_blocks else []
    trouble = node_trouble(obj) if obj else ""
    state = "failed" if node.failed else "usable" if node.usable else "not usable"
    return (
        node.name,
        str(node.blocks),
        str(node.free_blocks),
        ", ".join([*claims, *foreign]) or "nobody",
        f"{state}: {trouble}" if trouble else state,
    )


def _listed(title: str, columns: tuple[str, ...], rows: Iterable[tuple[str, ...]]) -> list[Section]:
    """A table of the first rows, and how many there are; nothing where there is none."""
    found = tuple(rows)
    more = f" ({_LISTED} of {len(found)})" if len(found) > _LISTED else ""
    return [Section(f"{title}{more}", "", columns, found[:_LISTED])] if found else []
