"""From holdings to running members: what to create, scale and delete (behaviour.md R1, R3, C7).

A member is immutable: its snapshot, nodes and template are fixed when it is made. What changes about it afterwards is
only whether it runs (suspend) and whether it exists. The holding comes first and goes last.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from .holdings import Holding
from .versions import Version


@dataclass(frozen=True, slots=True)
class ObservedMember:
    """A StatefulSet that carries our labels. `owner_uid` tells whose incarnation of the ModelInstance made it, `nodes`
    (if anything does) for which holding."""

    name: str
    uid: str
    owner_uid: str
    revision: str
    snapshot: str
    profile: str
    replicas: int
    terminating: bool
    nodes: tuple[str, ...] = ()

    @property
    def version(self) -> Version | None:
        return Version(self.snapshot, self.profile or "default") if self.snapshot else None


@dataclass(frozen=True, slots=True)
class CreateMember:
    """A StatefulSet to announce, without pods: it gets them (ScaleMember) once the holding is confirmed with it in view.

    The other way round, a create that is slow could put pods on blocks that were given away meanwhile.
    """

    holding: Holding
    revision: str
    reason: str


@dataclass(frozen=True, slots=True)
class ScaleMember:
    member: ObservedMember
    replicas: int
    reason: str


@dataclass(frozen=True, slots=True)
class DeleteMember:
    member: ObservedMember
    reason: str


@dataclass(frozen=True, slots=True)
class Templates:
    """Names of ControllerRevisions to make members from, by version.

    `kept` are those that stay though nobody may run them (the way back of a rollout), `rendered` those that the offering
    gives now. `asked` is the version of holdings that do not say theirs, `before` the one that a rollout comes from.
    """

    asked: Version
    rendered: Mapping[Version, str]
    kept: Mapping[Version, str] = field(default_factory=dict)
    before: Version | None = None


@dataclass(frozen=True, slots=True)
class MembersPlan:
    """Typed writes in the order in which to carry them out."""

    creates: tuple[CreateMember, ...]
    scales: tuple[ScaleMember, ...]
    deletes: tuple[DeleteMember, ...]


def current_revision(observed: Sequence[ObservedMember], owner_uid: str, version: Version, templates: Templates) -> str:
    """The template that new members of a version run: what the others of it run, or what was kept, or the offering's of
    now (R1, R3). Empty if there is none: the snapshot is unknown by now, and nobody runs it.

    Should several differ, the lowest-named member decides, so that the choice is stable.
    """
    running = [each for each in observed if each.owner_uid == owner_uid and each.version == version]
    revisions = [each.revision for each in sorted(running, key=lambda member: member.name) if not each.terminating]
    return next(iter(revisions), "") or templates.kept.get(version, "") or templates.rendered.get(version, "")


def made_for(holding: Holding, member: ObservedMember) -> bool:
    """Is it the member of this holding? A create that was slow may come after its holding is gone and the name is given
    again, for blocks elsewhere, or in the same place for another version (a rollout in place)."""
    there = not member.nodes or member.nodes == holding.nodes
    return there and (holding.version is None or member.version in (None, holding.version))


def plan_members(
    holdings: Sequence[Holding],
    observed: Sequence[ObservedMember],
    *,
    owner_uid: str,
    templates: Templates,
    suspended: bool,
) -> MembersPlan:
    """Bring the StatefulSets of one living ModelInstance in line with its holdings."""
    held = {holding.member: holding for holding in holdings if holding.held}
    present = {member.name: member for member in observed}
    replicas = {name: 0 if suspended else len(holding.nodes) for name, holding in held.items()}

    def revision_for(holding: Holding) -> str:
        """One that is made in another's place runs what that one ran, also where nobody else runs any more (R1, I4);
        unless it is of another version, which is what it is made for."""
        former, version = present.get(holding.replaces), holding.version or templates.asked
        if former is not None and former.owner_uid == owner_uid and former.version == version:
            return former.revision
        return current_revision(observed, owner_uid, version, templates)

    # Without a template there is nothing to make.
    creates = [
        CreateMember(holding, revision_for(holding), f"{name} holds {holding.blocks} blocks and has no StatefulSet")
        for name, holding in sorted(held.items())
        if name not in present and revision_for(holding)
    ]
    scales = [
        ScaleMember(member, replicas[name], "suspended" if suspended else "its holding stands")
        for name, member in sorted(present.items())
        if name in held
        and not member.terminating
        and member.owner_uid == owner_uid
        and made_for(held[name], member)
        and member.replicas != replicas[name]
    ]
    deletes = [
        DeleteMember(member, reason)
        for name, member in sorted(present.items())
        if not member.terminating and (reason := _why_delete(member, held.get(name), owner_uid))
    ]
    return MembersPlan(tuple(creates), tuple(scales), tuple(deletes))


def _why_delete(member: ObservedMember, holding: Holding | None, owner_uid: str) -> str:
    """Empty if it stays."""
    if member.owner_uid != owner_uid:
        return "its owner is gone"
    if holding is None:
        return "its holding is being released"
    return "" if made_for(holding, member) else "it was made for a holding that is gone"
