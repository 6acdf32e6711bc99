"""Everything that one pass over a ModelInstance looks at, gathered once from the store."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from reserved_capacity.api.computeunitpool import ComputeUnitPool
from reserved_capacity.api.modelinstance import ModelInstance
from reserved_capacity.api.modeloffering import ModelOffering
from reserved_capacity.domain.holdings import Holding
from reserved_capacity.domain.members import MembersPlan, ObservedMember, Templates, plan_members
from reserved_capacity.domain.rollout.values import RolloutRecord, RolloutState
from reserved_capacity.domain.versions import Version
from reserved_capacity.ports import COMPUTE_UNIT_POOLS, CONTROLLER_REVISIONS, STATEFUL_SETS, JsonObject, Ref
from reserved_capacity.reconcilers import children
from reserved_capacity.reconcilers.context import Assessment, Context
from reserved_capacity.snapshot import (
    holdings_of,
    members_of,
    parse_class,
    parse_offering,
    parse_pool,
    rollouts_of,
)
from reserved_capacity.store import BY_INSTANCE, Store


@dataclass(frozen=True, slots=True)
class InstanceWorld:
    """Everything that one pass over an instance looks at, gathered once."""

    instance: ModelInstance
    pool: ComputeUnitPool | None
    offering: ModelOffering | None
    holdings: tuple[Holding, ...]
    members: tuple[ObservedMember, ...]
    assessment: Assessment | None
    templates: Templates
    by_revision: Mapping[str, dict[str, Any]]
    plan: MembersPlan

    def template(self, revision: str) -> dict[str, Any]:
        return self.by_revision[revision]

    @property
    def revisions_in_use(self) -> set[str]:
        """Of what is made now, and of members that hold their blocks."""
        held = {holding.member for holding in self.holdings if holding.held}
        running = {each.revision for each in self.members if each.name in held and not each.terminating}
        return {create.revision for create in self.plan.creates} | (running & self.by_revision.keys())

    @property
    def port(self) -> int | None:
        """Of the version that ran first: what clients know changes when the last member of it is gone."""
        in_use = [self.by_revision[revision] for revision in sorted(self.revisions_in_use)]
        before = self.templates.before
        first = [each for each in in_use if before is not None and _version_of(each) == before]
        return next((each.get("port") for each in (*first, *in_use)), None)

    @property
    def place(self) -> tuple[str, str]:
        return (self.instance.namespace, self.instance.name)

    @property
    def min_available_pods(self) -> int:
        """R1: pods - (instances - minAvailable), of what is held, and no fewer than the offering's minimum leaves (C6)."""
        pods = sum(len(holding.nodes) for holding in self.holdings if holding.held)
        return max(0, pods - (self.assessment.spare if self.assessment is not None else 0))


def gather(context: Context, instance: ModelInstance) -> InstanceWorld:
    store = context.store
    pool_obj = store.get(Ref(COMPUTE_UNIT_POOLS, instance.namespace, instance.spec.pool_ref))
    pool = parse_pool(store, pool_obj) if pool_obj is not None else None
    offering = parse_offering(store, instance.spec.offering)
    holdings = holdings_of(pool, instance.name) if pool else ()
    members = members_of(store, instance.namespace, instance.name)
    # What a former incarnation holds is on its way out, and no template nor member is made for it.
    own = [holding for holding in holdings if holding.instance_uid in ("", instance.metadata.uid)]
    record = next((each for each in rollouts_of(pool) if each.instance == instance.name), None) if pool else None
    asked = Version(instance.spec.snapshot, instance.spec.profile)
    rendered = _rendered(context, pool, offering, [each for each in own if each.held], asked)
    templates = Templates(
        asked,
        {version: children.revision_name(instance.name, template) for version, template in rendered.items()},
        _kept(context, instance, record),
        before=record.source if record is not None else None,
    )
    plan = plan_members(
        own, members, owner_uid=instance.metadata.uid, templates=templates, suspended=instance.spec.suspend
    )
    by_revision = {templates.rendered[version]: template for version, template in rendered.items()}
    revisions = {each.revision for each in members if each.owner_uid == instance.metadata.uid}
    for revision in revisions | {create.revision for create in plan.creates}:
        recorded = _template_of(store, instance, members, revision)
        if recorded is not None:
            by_revision[revision] = recorded
    return InstanceWorld(
        instance=instance,
        pool=pool,
        offering=offering,
        holdings=holdings,
        members=members,
        assessment=context.board.of(instance.namespace, instance.spec.pool_ref, instance.name),
        templates=templates,
        by_revision=by_revision,
        plan=plan,
    )


def _template_of(
    store: Store, instance: ModelInstance, members: Sequence[ObservedMember], revision: str
) -> dict[str, Any] | None:
    """What members of `revision` run, as it is on record; or, should the record be lost, as one of them has it."""
    recorded = store.get(Ref(CONTROLLER_REVISIONS, instance.namespace, revision))
    if recorded is not None:
        template: dict[str, Any] = recorded["data"]
        return template
    name = next((member.name for member in members if member.revision == revision), None)
    member = store.get(Ref(STATEFUL_SETS, instance.namespace, name)) if name is not None else None
    return children.template_of(member) if member is not None else None


def _version_of(template: Mapping[str, Any]) -> Version:
    return Version(template["snapshot"], template["profile"] or "default")


def _rendered(
    context: Context,
    pool: ComputeUnitPool | None,
    offering: ModelOffering | None,
    held: Sequence[Holding],
    asked: Version,
) -> dict[Version, dict[str, Any]]:
    """What the offering makes now of the versions that are held."""
    class_ = parse_class(context.store, pool.spec.accelerator_class) if pool else None
    if offering is None or class_ is None:
        return {}
    rendered = {}
    for holding in held:
        version = holding.version or asked
        if version not in rendered:
            template = children.render_template(offering, class_, version, holding.blocks)
            if template is not None:
                rendered[version] = template
    return rendered


def _kept(context: Context, instance: ModelInstance, record: RolloutRecord | None) -> dict[Version, str]:
    """The template of the version that a rollout goes back to, should it fail: it must not depend on the catalogue."""
    if record is None or record.state is RolloutState.DONE:
        return {}
    owned = [
        obj
        for obj in context.store.by(BY_INSTANCE, CONTROLLER_REVISIONS, (instance.namespace, instance.name))
        if owned_by(obj, instance)
    ]
    found = {_version_of(obj["data"]): str(obj["metadata"]["name"]) for obj in owned}
    return {version: name for version, name in found.items() if version == record.source}


def owned_by(obj: JsonObject, instance: ModelInstance) -> bool:
    return any(owner.get("uid") == instance.metadata.uid for owner in obj["metadata"].get("ownerReferences") or ())
