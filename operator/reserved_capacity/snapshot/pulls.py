"""Where the artifacts of snapshots are, as far as an instance's Jobs, their pods and its members tell (behaviour.md S3)."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from reserved_capacity.api import meta
from reserved_capacity.api.modelinstance import ModelInstance
from reserved_capacity.domain.rollout.pulls import Pull, PullState, prefetched_of
from reserved_capacity.domain.rollout.values import Prefetched
from reserved_capacity.domain.rollout.words import lasting
from reserved_capacity.ports import JOBS, NODES, PODS, JsonObject, Ref
from reserved_capacity.snapshot.indexes import PULLS_BY_INSTANCE
from reserved_capacity.snapshot.parsing import timestamp
from reserved_capacity.store import BY_INSTANCE, Store

_CAUSE = "ErrImagePull: "


def pulls_of(store: Store, instance: ModelInstance) -> tuple[Pull, ...]:
    """Of this incarnation of the instance, by name; without those that are being deleted."""
    place = (instance.namespace, instance.name)
    troubles = {
        owner.get("uid"): trouble
        for pod in store.by(PULLS_BY_INSTANCE, PODS, place)
        if (trouble := trouble_of(pod))
        for owner in pod["metadata"].get("ownerReferences") or ()
    }
    return tuple(
        _pull(job, troubles.get(job["metadata"]["uid"], ""))
        for job in store.by(BY_INSTANCE, JOBS, place)
        if not job["metadata"].get("deletionTimestamp")
        and any(owner.get("uid") == instance.metadata.uid for owner in job["metadata"].get("ownerReferences") or ())
    )


def _pull(job: JsonObject, trouble: str) -> Pull:
    metadata = job["metadata"]
    labels, annotations = metadata.get("labels") or {}, metadata.get("annotations") or {}
    ends: dict[str, dict[str, Any]] = {
        each["type"]: each for each in (job.get("status") or {}).get("conditions") or () if each["status"] == "True"
    }
    state, ended = PullState.RUNNING, None
    for type_, reached in (("Complete", PullState.DONE), ("Failed", PullState.FAILED)):
        if type_ in ends:
            state, ended = reached, timestamp(ends[type_]["lastTransitionTime"])
    return Pull(
        name=metadata["name"],
        uid=metadata["uid"],
        node=annotations.get(meta.NODE_ANNOTATION, ""),
        node_uid=annotations.get(meta.NODE_UID_ANNOTATION, ""),
        snapshot=labels.get(meta.SNAPSHOT_LABEL, ""),
        recipe=annotations.get(meta.RECIPE_ANNOTATION, ""),
        attempt=int(annotations.get(meta.ATTEMPT_ANNOTATION, "1")),
        state=state,
        trouble=trouble,
        ended_at=ended,
    )


def node_uids(store: Store, names: Iterable[str]) -> dict[str, str]:
    """Of those nodes that there are."""
    found = {name: store.get(Ref(NODES, "", name)) for name in names}
    return {name: node["metadata"]["uid"] for name, node in found.items() if node is not None}


def prefetched(store: Store, instance: ModelInstance, snapshot: str) -> Prefetched:
    """Where the artifact of a snapshot is, for all that the instance's Jobs and members tell."""
    pulls = pulls_of(store, instance)
    return prefetched_of(
        pulls,
        snapshot,
        node_uids(store, (each.node for each in pulls)),
        _running(store, instance, snapshot),
        patience=lasting(instance.spec.upgrade.progress_deadline),
    )


def _running(store: Store, instance: ModelInstance, snapshot: str) -> set[str]:
    """Nodes on which a member has the artifact mounted: its containers do not start before."""
    return {
        pod["spec"]["nodeName"]
        for pod in store.by(BY_INSTANCE, PODS, (instance.namespace, instance.name))
        if (pod["metadata"].get("labels") or {}).get(meta.SNAPSHOT_LABEL) == snapshot
        and pod["spec"].get("nodeName")
        and (pod.get("status") or {}).get("phase") == "Running"
    }


def trouble_of(pod: JsonObject) -> str:
    """What a pod says of a container that does not run: ImagePullBackOff, CrashLoopBackOff and the like; empty if nothing.

    A pull that failed says the same while it is tried and while it is waited for: it alternates between the two.
    """
    for status in (pod.get("status") or {}).get("containerStatuses") or ():
        waiting = (status.get("state") or {}).get("waiting") or {}
        if waiting.get("reason") in (None, "ContainerCreating", "PodInitializing"):
            continue
        told = ": ".join(str(waiting[key]) for key in ("reason", "message") if waiting.get(key))
        return told[told.rfind(_CAUSE) :][:256] if _CAUSE in told else told[:256]
    return ""
