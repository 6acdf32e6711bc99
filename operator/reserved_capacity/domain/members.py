"""From holdings to running members: what to create, scale and delete (behaviour.md R1, R3, C7).

A member is immutable: its snapshot, nodes and template are fixed when it is made. What changes about it afterwards is
only whether it runs (suspend) and whether it exists. The holding comes first and goes last.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from .holdings import Holding


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
class MembersPlan:
    """Typed writes in the order in which to carry them out, and the ControllerRevision that new members run."""

    revision: str
    creates: tuple[CreateMember, ...]
    scales: tuple[ScaleMember, ...]
    deletes: tuple[DeleteMember, ...]


def current_revision(observed: Sequence[ObservedMember], owner_uid: str, rendered: str) -> str:
    """The template that new members run: what the others run, or the offering's of now if none runs (R1, R3).

    With several (a rollout in progress, one day) the lowest-named member decides, so that the choice is stable.
    """
    running = sorted((each for each in observed if each.owner_uid == owner_uid), key=lambda member: member.name)
    return next((member.revision for member in running if not member.terminating), rendered)


def made_for(holding: Holding, nodes: tuple[str, ...]) -> bool:
    """Is a member on these nodes the one of this holding? A create that was slow may come after its holding is gone and
    the name is given again, for blocks elsewhere."""
    return not nodes or nodes == holding.nodes


def plan_members(
    holdings: Sequence[Holding],
    observed: Sequence[ObservedMember],
    *,
    owner_uid: str,
    rendered_revision: str,
    suspended: bool,
) -> MembersPlan:
    """Bring the StatefulSets of one living ModelInstance in line with its holdings."""
    held = {holding.member: holding for holding in holdings if holding.held}
    present = {member.name: member for member in observed}
    replicas = {name: 0 if suspended else len(holding.nodes) for name, holding in held.items()}
    revision = current_revision(observed, owner_uid, rendered_revision)

    def revision_for(holding: Holding) -> str:
        """One that is made in another's place runs what that one ran, also where nobody else runs any more (R1, I4)."""
        former = present.get(holding.replaces)
        return former.revision if former is not None and former.owner_uid == owner_uid else revision

    # Without a template (the snapshot is unknown by now, and nobody runs it) there is nothing to make.
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
        and made_for(held[name], member.nodes)
        and member.replicas != replicas[name]
    ]
    deletes = [
        DeleteMember(member, reason)
        for name, member in sorted(present.items())
        if not member.terminating and (reason := _why_delete(member, held.get(name), owner_uid))
    ]
    return MembersPlan(revision, tuple(creates), tuple(scales), tuple(deletes))


def _why_delete(member: ObservedMember, holding: Holding | None, owner_uid: str) -> str:
    """Empty if it stays."""
    if member.owner_uid != owner_uid:
        return "its owner is gone"
    if holding is None:
        return "its holding is being released"
    return "" if made_for(holding, member.nodes) else "it was made for a holding that is gone"
