"""What a ModelInstance asks of its rollouts, as the planner sees it (ADR 0030)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from datetime import datetime

from reserved_capacity.api import meta
from reserved_capacity.api.computeunitpool import ComputeUnitPool
from reserved_capacity.api.modelinstance import ModelInstance
from reserved_capacity.api.modeloffering import ModelOffering
from reserved_capacity.domain.rollout.target import Listed, Target, effective_target
from reserved_capacity.domain.rollout.values import Canary, RolloutSpec, Window
from reserved_capacity.domain.snapshot_supported import PinnedSnapshot
from reserved_capacity.domain.versions import Version
from reserved_capacity.ports import PODS
from reserved_capacity.snapshot.instances import lifecycle_dates
from reserved_capacity.snapshot.pins import pinned_snapshot
from reserved_capacity.snapshot.pulls import prefetched, trouble_of
from reserved_capacity.snapshot.windows import ALWAYS, schedule_error, window_at
from reserved_capacity.store import BY_INSTANCE, Store


def target_of(instance: ModelInstance, offering: ModelOffering | None, *, now: datetime) -> Target:
    """What the instance shall run: its spec, or what replaces that where it has opted in (S1)."""
    pinned = Version(instance.spec.snapshot, instance.spec.profile)
    catalogue = {
        each.name: Listed(lifecycle_dates(each), each.replacement or "")
        for each in (offering.spec.snapshots if offering else ())
    }
    return effective_target(pinned, catalogue, instance.spec.upgrade.auto_upgrade, now=now)


def supported_snapshot(
    instance: ModelInstance, offering: ModelOffering | None, *, now: datetime
) -> PinnedSnapshot | None:
    """The snapshot whose dates matter to the instance: the one that it shall run, be it by its spec or by itself (S1, S8)."""
    target = target_of(instance, offering, now=now)
    pinned = pinned_snapshot(offering, target.version.snapshot)
    if pinned is None:
        return None
    named = instance.spec.snapshot
    return replace(pinned, moves_at=target.changes_at, instead_of=named if named != pinned.name else "")


def window_of(pool: ComputeUnitPool, *, now: datetime) -> Window:
    """The pool's maintenance window now; one that no calendar has is closed for good."""
    window = pool.spec.maintenance_window
    if window is None:
        return ALWAYS
    if schedule_error(window.schedule):
        return Window(open=False)
    return window_at(window.schedule, window.duration, now=now)


def rollout_spec(
    store: Store, instance: ModelInstance, target: Target, window: Window, *, rolls: bool = True
) -> RolloutSpec:
    """`rolls` False: all that it has runs the target, so that nobody asks where an artifact is."""
    upgrade = instance.spec.upgrade
    canary = upgrade.canary
    return RolloutSpec(
        instance=instance.name,
        generation=instance.metadata.generation,
        target=target.version,
        strategy=upgrade.strategy,
        when_no_spare=upgrade.when_no_spare,
        max_surge=upgrade.max_surge,
        paused=upgrade.paused,
        canary=Canary(canary.instances, canary.hold, canary.approval, canary.approved_rollout) if canary else None,
        on_failure=upgrade.on_failure,
        progress_deadline=upgrade.progress_deadline,
        window=window,
        suspended=instance.spec.suspend,
        because=target.because,
        changes_at=target.changes_at,
        prefetched=prefetched(store, instance, target.version.snapshot) if rolls else None,
        causes=_causes(store, instance),
    )


def _causes(store: Store, instance: ModelInstance) -> Mapping[str, str]:
    """What pods say of containers that do not run, by member: ImagePullBackOff, CrashLoopBackOff and the like."""
    found: dict[str, str] = {}
    for pod in store.by(BY_INSTANCE, PODS, (instance.namespace, instance.name)):
        member = (pod["metadata"].get("labels") or {}).get(meta.MEMBER_LABEL)
        cause = trouble_of(pod)
        if member and cause:
            found.setdefault(member, cause)
    return found
