"""What `pause`, `approve` and `rollback` change in a ModelInstance's spec, or why they make no sense now. Pure.

They are edits of the spec that anybody could make by hand (ADR 0035); what they add is to know which, and when. The
screen offers as ways on exactly those that make sense.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Final

from reserved_capacity.api.modelinstance import ModelInstance
from reserved_capacity.api.modeloffering import ModelOffering
from reserved_capacity.domain.lifecycle import Lifecycle, lifecycle_of
from reserved_capacity.domain.rollout.target import AutoUpgrade
from reserved_capacity.domain.rollout.values import Approval, RolloutPhase, RolloutRecord, RolloutState
from reserved_capacity.domain.versions import Version
from reserved_capacity.ports import JsonObject
from reserved_capacity.snapshot import lifecycle_dates
from reserved_capacity.snapshot.rollouts import target_of


class Verb(StrEnum):
    """What a person may want of a rollout."""

    PAUSE = "pause"
    RESUME = "pause --off"
    APPROVE = "approve"
    ROLLBACK = "rollback"


@dataclass(frozen=True, slots=True)
class Situation:
    """What a verb is judged by. `record`: the pool's, of this very instance; None if there is none, or it cannot be read.
    `offering` None: it cannot be read, and nothing is said about its snapshots."""

    instance: ModelInstance
    record: RolloutRecord | None
    offering: ModelOffering | None
    now: datetime

    @property
    def phase(self) -> RolloutPhase:
        return self.instance.status.rollout.phase

    @property
    def asked(self) -> Version:
        return Version(self.instance.spec.snapshot, self.instance.spec.profile)

    @property
    def moving(self) -> bool:
        return self.phase not in (RolloutPhase.IDLE, RolloutPhase.HALTED)


@dataclass(frozen=True, slots=True)
class Change:
    """A merge patch of the spec, and what follows from it."""

    spec: JsonObject
    effect: str


@dataclass(frozen=True, slots=True)
class Senseless:
    """Why the verb makes no sense now, and what to do instead."""

    message: str


def decide(verb: Verb, seen: Situation) -> Change | Senseless:
    metadata, status = seen.instance.metadata, seen.instance.status
    if metadata.deletion_timestamp is not None:
        return Senseless("it is being deleted")
    if status.observed_generation != metadata.generation:
        return Senseless(
            "the operator has not looked at its newest spec yet, so where its rollout is cannot be told: look at "
            "`kubectl reserved status`, then repeat"
        )
    return _DECISIONS[verb](seen)


def _pause(seen: Situation) -> Change | Senseless:
    name = seen.instance.name
    if seen.instance.spec.upgrade.paused:
        return Senseless(f"it is paused already; `kubectl reserved pause {name} --off` lets it go on")
    if seen.phase is RolloutPhase.HALTED:
        return Senseless(
            f"its rollout has halted, nothing moves: correct the spec, or `kubectl reserved rollback {name}`"
        )
    effect = "the step under way is completed, then it holds" if seen.moving else "the next rollout holds as it begins"
    return Change({"upgrade": {"paused": True}}, effect)


def _resume(seen: Situation) -> Change | Senseless:
    if not seen.instance.spec.upgrade.paused:
        return Senseless("it is not paused" + (f" but {seen.phase.value}" if seen.moving else ""))
    effect = "the rollout goes on" if seen.moving else "the next rollout will not hold"
    return Change({"upgrade": {"paused": False}}, effect)


def _approve(seen: Situation) -> Change | Senseless:
    instance, rollout = seen.instance, seen.instance.status.rollout
    canary = instance.spec.upgrade.canary
    if seen.phase is RolloutPhase.AWAITING_APPROVAL and canary is not None:
        patch = {"upgrade": {"canary": {"approvedRollout": rollout.id}}}
        return Change(patch, f"rollout {rollout.id} goes on beyond its canary to {_target(seen)}")
    if not seen.moving:
        return Senseless("no rollout waits for an approval")
    if canary is None:
        return Senseless(
            f"its rollout is {seen.phase.value} and has no canary (spec.upgrade.canary), so none is needed"
        )
    if seen.phase is RolloutPhase.PAUSED:
        return Senseless(f"its rollout is paused: first `kubectl reserved pause {instance.name} --off`")
    if canary.approval is Approval.TIMER:
        return Senseless(
            "its canary goes on by itself when it has served for spec.upgrade.canary.hold (approval: Timer)"
        )
    if canary.approved_rollout == rollout.id:
        return Senseless(f"rollout {rollout.id} is approved already and is {seen.phase.value}")
    return Senseless(
        f"its rollout is {seen.phase.value}, there is no canary that serves to be approved yet: follow it with "
        f"`kubectl reserved status mi/{instance.name} -w`"
    )


def _rollback(seen: Situation) -> Change | Senseless:
    record, asked = seen.record, seen.asked
    if record is None:
        return Senseless(
            "no rollout of it is on its pool's record, so what ran before is not known: set spec.snapshot to one of the "
            "offering's snapshots"
        )
    source = record.source
    if record.goes_back:
        return Senseless(
            f"it goes back to {source} already" if seen.moving else f"it runs {source}, as before its last rollout"
        )
    patch = _back_to(seen, source)
    if not patch:
        return Senseless(f"its spec asks for {source} already, which ran before its last rollout")
    if objection := _objection(seen, source):
        return Senseless(objection)
    held = "; it is paused, so that waits as well" if seen.instance.spec.upgrade.paused else ""
    if record.state in (RolloutState.ROLLING_BACK, RolloutState.ROLLED_BACK):
        effect = f"the spec asks for {source} again, to which the operator went back by itself"
    elif record.state is RolloutState.DONE:
        effect = f"a new rollout leads from {asked} back to {source}, with canary and window as any other{held}"
    elif seen.instance.status.instances.updated or record.starting or record.vacated:
        effect = f"who has moved goes back to {source}, the others are not restarted{held}"
    else:
        effect = f"nobody has moved, so all stay on {source} as they are"
    return Change(patch, effect)


def _back_to(seen: Situation, source: Version) -> JsonObject:
    patch: JsonObject = {}
    if seen.asked.snapshot != source.snapshot:
        patch["snapshot"] = source.snapshot
    if seen.asked.profile != source.profile:
        patch["profile"] = source.profile
    spec = seen.instance.spec
    if spec.upgrade.auto_upgrade is AutoUpgrade.NEVER or seen.record is None:
        return patch
    # What the operator moved by itself it would move again.
    there = seen.instance.model_copy(
        update={"spec": spec.model_copy(update={"snapshot": source.snapshot, "profile": source.profile})}
    )
    by_itself = seen.record.target != seen.asked
    if by_itself or target_of(there, seen.offering, now=seen.now).version != source:
        patch["upgrade"] = {"autoUpgrade": AutoUpgrade.NEVER.value}
    return patch


def _objection(seen: Situation, source: Version) -> str:
    """Why the offering lets nobody go back there."""
    if seen.offering is None:
        return ""
    listed = seen.offering.spec.snapshot(source.snapshot)
    if listed is None:
        return f"{source.snapshot}, which ran before, is not listed by the offering any more: choose another snapshot"
    if lifecycle_of(lifecycle_dates(listed), now=seen.now) is Lifecycle.RETIRED:
        return (
            f"{source.snapshot}, which ran before, is retired and nothing new is placed on it: choose another snapshot"
        )
    return ""


def _target(seen: Situation) -> str:
    return str(seen.record.target) if seen.record is not None else str(seen.asked)


_DECISIONS: Final[Mapping[Verb, Callable[[Situation], Change | Senseless]]] = {
    Verb.PAUSE: _pause,
    Verb.RESUME: _resume,
    Verb.APPROVE: _approve,
    Verb.ROLLBACK: _rollback,
}
