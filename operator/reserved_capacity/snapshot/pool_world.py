"""A pool with all that its plan looks at, read from the store in one go."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime

from reserved_capacity.api import meta
from reserved_capacity.api.computeunitpool import ComputeUnitPool
from reserved_capacity.api.modelinstance import ChangeSet, ModelInstance
from reserved_capacity.api.modeloffering import ModelOffering
from reserved_capacity.api.pricebook import PriceBook
from reserved_capacity.domain.billing.agreements import continued
from reserved_capacity.domain.billing.contracts import Contract
from reserved_capacity.domain.changesets import MemberSpec
from reserved_capacity.domain.eligibility import InstanceFacts, OfferingFacts, SnapshotFacts
from reserved_capacity.domain.expiry import ExpirySettings
from reserved_capacity.domain.holdings import Holding, HoldingState, standing
from reserved_capacity.domain.members import ObservedMember
from reserved_capacity.domain.orders import OrderFacts, PriceEntry
from reserved_capacity.domain.pool_plan import PoolWorld
from reserved_capacity.domain.terms import Amendment, CommitmentOrder, CommitmentRecord, Placement
from reserved_capacity.domain.units import cu_of
from reserved_capacity.domain.versions import Version
from reserved_capacity.ports import COMPUTE_UNIT_POOLS, PODS, PRICE_BOOKS, STATEFUL_SETS, JsonObject, Ref
from reserved_capacity.snapshot.indexes import MEMBERS_BY_POOL, POOLS_BY_COMMITMENT
from reserved_capacity.snapshot.instances import (
    holding_of_pods,
    holding_of_stateful_set,
    instances_of_pool,
    members_of,
    ready_members,
)
from reserved_capacity.snapshot.parsing import parse_class, parse_offering, parse_pool, timestamp
from reserved_capacity.snapshot.pools import (
    PoolPlaces,
    change_sets_of,
    commitment_records,
    holdings_of,
    places_of,
    replacement_of,
    rollouts_of,
)
from reserved_capacity.snapshot.rollouts import rollout_spec, target_of, window_of
from reserved_capacity.snapshot.windows import schedule_error
from reserved_capacity.store import Store

Terms = Mapping[str, Sequence[Contract]]


@dataclass(frozen=True, slots=True)
class PoolView:
    """The API objects behind a PoolWorld, for whoever reports on it."""

    pool: ComputeUnitPool
    instances: tuple[ModelInstance, ...]
    places: PoolPlaces
    world: PoolWorld


def view_pool(
    store: Store,
    pool: ComputeUnitPool,
    *,
    now: datetime,
    recorded: Callable[[datetime], datetime],
    terms: Terms | None,
) -> PoolView:
    """`recorded` turns an API server's timestamp into the one that goes on record (ports.Clock). `terms` are what the books
    say of the pool's commitments, by id; None: they have not been read yet."""
    instances = tuple(instances_of_pool(store, pool.namespace, pool.name))
    members = {each.name: members_of(store, each.namespace, each.name) for each in instances}
    holdings = _without_former_owners(_with_versions(_holdings(store, pool), members), instances, members)
    places = places_of(store, pool, parse_class(store, pool.spec.accelerator_class), holdings, now=now)
    offerings = {each.spec.offering: parse_offering(store, each.spec.offering) for each in instances}
    held = _held_by_instance(holdings)
    targets = {each.name: target_of(each, offerings[each.spec.offering], now=now) for each in instances}
    window, rollouts = window_of(pool, now=now), rollouts_of(pool)
    rolling = {each.instance for each in rollouts if each.moving} | {
        holding.instance
        for holding in holdings
        if holding.instance in targets and holding.version != targets[holding.instance].version
    }
    world = PoolWorld(
        name=pool.name,
        order=_order_facts(store, pool, terms),
        records=_records(pool, terms or {}),
        replacement=replacement_of(pool),
        placements=_placements(store, pool, holdings, recorded),
        offerings={name: _offering_facts(each, pool) for name, each in offerings.items() if each is not None},
        instances=tuple(
            _instance_facts(each, held.get(each.name, ()), targets[each.name].version) for each in instances
        ),
        nodes=places.nodes,
        holdings=holdings,
        members=frozenset(member.name for each in members.values() for member in each),
        available=_available(store, instances, holdings),
        change_sets=change_sets_of(pool),
        change_set_members=tuple(
            _member_spec(each, each.spec.change_set) for each in instances if each.spec.change_set
        ),
        expiry=ExpirySettings(pool.spec.expiry.drain_before, pool.spec.expiry.stop_order),
        rollouts=rollouts,
        rollout_specs=tuple(
            rollout_spec(store, each, targets[each.name], window, rolls=each.name in rolling) for each in instances
        ),
    )
    return PoolView(pool, instances, places, world)


def _available(store: Store, instances: Sequence[ModelInstance], holdings: Sequence[Holding]) -> frozenset[str]:
    """Members that serve. Of a suspended instance nobody serves and nobody is missed: to hold the blocks is enough."""
    suspended = {each.name for each in instances if each.spec.suspend}
    resting = {holding.member for holding in holdings if holding.held and holding.instance in suspended}
    return frozenset(resting).union(*(ready_members(store, each.namespace, each.name) for each in instances))


# ------------------------------------------------------------------------------------------------------------- holdings


def _holdings(store: Store, pool: ComputeUnitPool) -> tuple[Holding, ...]:
    """The record; or, of a pool whose status is lost, what its members say of themselves (C2), also those of which
    nothing but terminating pods is left."""
    recorded = holdings_of(pool)
    if recorded or pool.status.commitments:
        return recorded
    members = store.by(MEMBERS_BY_POOL, STATEFUL_SETS, (pool.namespace, pool.name))
    found = {each["metadata"]["name"]: holding_of_stateful_set(each) for each in members}
    class_ = parse_class(store, pool.spec.accelerator_class)
    pods: dict[str, list[JsonObject]] = {}
    for pod in store.in_namespace(PODS, pool.namespace) if class_ else ():
        labels = pod["metadata"].get("labels") or {}
        if labels.get(meta.POOL_LABEL) == pool.name and labels[meta.MEMBER_LABEL] not in found:
            pods.setdefault(labels[meta.MEMBER_LABEL], []).append(pod)
    rests = [holding_of_pods(class_, each) for each in pods.values()] if class_ else []
    return _with_true_links([holding for holding in (*found.values(), *rests) if holding is not None])


def _with_true_links(holdings: Sequence[Holding]) -> tuple[Holding, ...]:
    """A member says for ever whom it was made in place of; the one that has that name now may be another."""
    since = {holding.member: holding.since for holding in holdings}
    return tuple(
        holding
        if holding.replaces in since and since[holding.replaces] < holding.since
        else replace(holding, replaces="")
        for holding in holdings
    )


def _with_versions(holdings: Sequence[Holding], members: Mapping[str, Sequence[ObservedMember]]) -> tuple[Holding, ...]:
    """Where the record does not say what a member runs (an older one does not), its StatefulSet does."""
    running = {member.name: member.version for each in members.values() for member in each}
    return tuple(replace(each, version=running.get(each.member)) if each.version is None else each for each in holdings)


def _without_former_owners(
    holdings: Sequence[Holding],
    instances: Sequence[ModelInstance],
    members: Mapping[str, Sequence[ObservedMember]],
) -> tuple[Holding, ...]:
    """Release what a former incarnation of an instance holds: a namesake made anew starts with blocks of its own.

    The record says to whom each was granted. A member of a former owner may be in view for long after it is gone; it
    counts only for a holding that does not say.
    """
    uids = {each.name: each.metadata.uid for each in instances}
    former = {member.name for name, each in members.items() for member in each if member.owner_uid != uids[name]}

    def is_former(holding: Holding) -> bool:
        if not holding.instance_uid:
            return holding.member in former
        return holding.instance_uid != uids.get(holding.instance, holding.instance_uid)

    return tuple(replace(each, state=HoldingState.RELEASING) if is_former(each) else each for each in holdings)


def _placements(
    store: Store, pool: ComputeUnitPool, holdings: Sequence[Holding], recorded: Callable[[datetime], datetime]
) -> list[Placement]:
    """When CU were provisioned to an instance: the API server's time of each present member's StatefulSet (M1)."""
    placements = []
    for holding in holdings:
        obj = store.get(Ref(STATEFUL_SETS, pool.namespace, holding.member))
        if obj is not None:
            at = recorded(timestamp(obj["metadata"]["creationTimestamp"]))
            placements.append(Placement(at, cu_of(holding.blocks)))
    return placements


# ------------------------------------------------------------------------------------------------------------ the order


def _records(pool: ComputeUnitPool, terms: Terms) -> tuple[CommitmentRecord, ...]:
    """The pool's record of its commitments, continued from the books where these know more (M9)."""
    recorded = {record.id: record for record in commitment_records(pool)}
    names = dict.fromkeys([*recorded, *(order.id for order in pool.spec.commitments)])
    own = {name: [each for each in terms.get(name, ()) if each.account == pool.spec.account] for name in names}
    records = [continued(recorded.get(name), own[name]) for name in names]
    return tuple(record for record in records if record is not None)


def _order_facts(store: Store, pool: ComputeUnitPool, terms: Terms | None) -> OrderFacts:
    spec = pool.spec
    book = store.parsed(Ref(PRICE_BOOKS, "", spec.price_book_ref), PriceBook)
    prices = None
    if book is not None:
        prices = [
            PriceEntry(entry.term, entry.effective_from, entry.price_per_compute_unit_month)
            for entry in book.spec.compute_units
        ]
    return OrderFacts(
        accelerator_class=spec.accelerator_class,
        class_exists=parse_class(store, spec.accelerator_class) is not None,
        price_book=spec.price_book_ref,
        prices=prices,
        orders=commitment_orders(pool),
        accepted_ids=frozenset(record.id for record in _records(pool, terms or {})),
        taken_ids=_taken_ids(store, pool) | _of_other_accounts(pool, terms or {}),
        schedule_error=schedule_error(window.schedule) if (window := spec.maintenance_window) else "",
        books_read=terms is not None,
    )


def commitment_orders(pool: ComputeUnitPool) -> tuple[CommitmentOrder, ...]:
    return tuple(
        CommitmentOrder(
            id=each.id,
            compute_units=each.compute_units,
            term=each.term,
            provision_by=each.provision_by,
            renewal=each.renewal.policy,
            renewal_term=each.renewal.term,
            amendments=tuple(
                Amendment(one.at, one.compute_units) for one in pool.spec.amendments if one.commitment == each.id
            ),
        )
        for each in pool.spec.commitments
    )


def _taken_ids(store: Store, pool: ComputeUnitPool) -> dict[str, str]:
    """Commitments of this pool whose id another pool has, that comes first: accepted before unaccepted, then by age."""
    taken = {}
    for order in pool.spec.commitments:
        for obj in store.by(POOLS_BY_COMMITMENT, COMPUTE_UNIT_POOLS, order.id):
            other = parse_pool(store, obj)
            if other.metadata.uid != pool.metadata.uid and _comes_first(other, pool, order.id):
                taken[order.id] = f"{other.namespace}/{other.name}"
    return taken


def _of_other_accounts(pool: ComputeUnitPool, terms: Terms) -> dict[str, str]:
    """Commitments that the books know as another account's, though its pool may be gone: an id is never given twice."""
    return {
        order.id: f"{each.namespace}/{each.pool} of account {each.account}"
        for order in pool.spec.commitments
        for each in terms.get(order.id, ())
        if each.account != pool.spec.account
    }


def _comes_first(other: ComputeUnitPool, pool: ComputeUnitPool, commitment: str) -> bool:
    def rank(each: ComputeUnitPool) -> tuple[bool, str, str]:
        accepted = each.status.commitment(commitment) is not None
        return (not accepted, str(each.metadata.creation_timestamp), each.metadata.uid)

    return rank(other) < rank(pool)


# -------------------------------------------------------------------------------------------------------- the instances


def is_fleet_pool(offering: ModelOffering, pool: ComputeUnitPool) -> bool:
    """Is it the provider's, whose instances back token units of the offering (T4)?"""
    fleet = offering.spec.token_units.fleet if offering.spec.token_units is not None else None
    return fleet is not None and (fleet.pool_ref.namespace, fleet.pool_ref.name) == (pool.namespace, pool.name)


def _offering_facts(offering: ModelOffering, pool: ComputeUnitPool) -> OfferingFacts:
    reserved = offering.spec.reserved
    return OfferingFacts(
        name=offering.name,
        sold_reserved=reserved.sold or is_fleet_pool(offering, pool),
        compute_units_per_instance=reserved.compute_units_per_instance,
        min_instances=reserved.min_instances,
        nodes_per_instance=reserved.nodes_per_instance,
        topology_key=reserved.topology_key,
        accelerator_classes=frozenset(reserved.accelerator_classes),
        profiles=frozenset({"default", *(profile.name for profile in reserved.serving.profiles)}),
        snapshots={
            each.name: SnapshotFacts(each.retires_at, each.replacement or "") for each in offering.spec.snapshots
        },
    )


def _held_by_instance(holdings: Sequence[Holding]) -> dict[str, list[Holding]]:
    held: dict[str, list[Holding]] = {}
    for holding in standing(holdings):
        held.setdefault(holding.instance, []).append(holding)
    return held


def _instance_facts(instance: ModelInstance, held: Sequence[Holding], target: Version) -> InstanceFacts:
    created = instance.metadata.creation_timestamp
    assert created is not None, "every stored object has a creation time"  # noqa: S101
    return InstanceFacts(
        name=instance.name,
        uid=instance.metadata.uid,
        offering=instance.spec.offering,
        snapshot=target.snapshot,
        profile=target.profile,
        desired=instance.spec.instances,
        priority=instance.spec.priority,
        created_at=created,
        min_available=instance.spec.upgrade.min_available,
        accept_below_minimum=instance.spec.upgrade.accept_below_minimum,
        held=len(held),
        held_blocks=held[0].blocks if held else None,
    )


def _member_spec(instance: ModelInstance, change_set: ChangeSet) -> MemberSpec:
    return MemberSpec(
        instance=instance.name,
        id=change_set.id,
        members=change_set.members,
        desired=instance.spec.instances,
        progress_deadline=instance.spec.upgrade.progress_deadline,
        suspended=instance.spec.suspend,
    )
