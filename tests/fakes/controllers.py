"""Owns what a cluster does by itself, in steps: garbage collection, StatefulSets, Jobs, kubelets, EndpointSlices.

No threads and no time of its own: each `step()` does what is due now, so that a test decides what is seen half-way.
"""

from __future__ import annotations

import asyncio
import random
import zlib
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

from reserved_capacity.ports import (
    CHILD_KINDS,
    ENDPOINT_SLICES,
    JOBS,
    NODES,
    OUR_KINDS,
    PODS,
    SERVICES,
    STATEFUL_SETS,
    JsonObject,
    Ref,
    Resource,
)
from tests.fakes.cluster import FOREGROUND, FakeCluster
from tests.fakes.documents import cloned

_SECONDS = "%Y-%m-%dT%H:%M:%SZ"
_COLLECTED = (*CHILD_KINDS, PODS, ENDPOINT_SLICES)


def ref_of(resource: Resource, obj: JsonObject) -> Ref:
    return Ref(resource, obj["metadata"].get("namespace", ""), obj["metadata"]["name"])


@dataclass(slots=True)
class FakeControllers:
    """`becomes_ready(pod)` decides per step whether a running pod gets ready; `stops(pod)` whether a deleted one goes;
    `pulls(pod)` what a Job's pod says of its images: None that they are there, so that it runs and ends, else why not (empty:
    it is at it)."""

    cluster: FakeCluster
    becomes_ready: Callable[[JsonObject], bool] = lambda _pod: True
    stops: Callable[[JsonObject], bool] = lambda _pod: True
    pulls: Callable[[JsonObject], str | None] = lambda _pod: None
    pods_made: list[str] = field(default_factory=list)

    async def step(self) -> bool:
        """One turn of every controller; whether anything changed."""
        changed = self.step_now()
        await asyncio.sleep(0)
        return changed

    def step_now(self) -> bool:
        """`step`, for those who have no event loop."""
        before = self.cluster.version
        self._collect_garbage()
        for sts in self.cluster.all_stored(STATEFUL_SETS):
            self._sync_stateful_set(sts)
        for job in self.cluster.all_stored(JOBS):
            self._sync_job(job)
        for pod in self.cluster.all_stored(PODS):
            self._sync_pod(pod)
        for sts in self.cluster.all_stored(STATEFUL_SETS):
            self._report_stateful_set(sts)
        for service in self.cluster.all_stored(SERVICES):
            self._sync_slice(service)
        return self.cluster.version != before

    def nudge(self, chance: random.Random) -> None:
        """One controller does one thing, by chance: they lag behind each other, and behind the world."""
        turn = chance.randrange(9)
        if turn == 0:
            self._collect_garbage()
            return
        acts: tuple[tuple[Resource, Callable[[JsonObject], None]], ...] = (
            (STATEFUL_SETS, self._sync_stateful_set),
            (STATEFUL_SETS, self._report_stateful_set),
            (SERVICES, self._sync_slice),
            (JOBS, self._sync_job),
            (PODS, self._sync_pod),
        )
        resource, act = acts[min(turn - 1, 4)]
        shelf = self.cluster.all_stored(resource)
        if shelf:
            act(chance.choice(shelf))

    async def settle(self, steps: int = 50) -> None:
        """Step until nothing changes any more."""
        for _ in range(steps):
            if not await self.step():
                return
        raise AssertionError(f"controllers did not settle within {steps} steps")

    # -------------------------------------------------------------------------------------------- garbage collection

    def _collect_garbage(self) -> None:
        everything = [
            (resource, obj) for resource in (*OUR_KINDS, *_COLLECTED) for obj in self.cluster.all_stored(resource)
        ]
        alive = {obj["metadata"]["uid"] for _, obj in everything}
        foreground = {
            obj["metadata"]["uid"]: (resource, obj)
            for resource, obj in everything
            if FOREGROUND in obj["metadata"].get("finalizers", [])
        }
        blocked = set()
        for resource, obj in everything:
            owners = obj["metadata"].get("ownerReferences") or []
            if resource not in _COLLECTED or not owners:
                continue
            holding = {owner["uid"] for owner in owners} & set(foreground)
            blocked |= {owner["uid"] for owner in owners if owner.get("blockOwnerDeletion")} & set(foreground)
            orphaned = not any(owner["uid"] in alive for owner in owners)
            if (orphaned or holding) and not obj["metadata"].get("deletionTimestamp"):
                self.cluster.user_delete(ref_of(resource, obj), foreground=bool(holding) and resource != PODS)
        for uid, (resource, obj) in foreground.items():
            held_by_kubelet = resource == PODS and (obj.get("spec") or {}).get("nodeName")
            if uid not in blocked and not held_by_kubelet:
                self.cluster.drop_finalizer(ref_of(resource, obj), FOREGROUND)

    # ---------------------------------------------------------------------------------------------------- StatefulSets

    def _pods_of(self, sts: JsonObject) -> list[JsonObject]:
        uid = sts["metadata"]["uid"]
        return [
            pod
            for pod in self.cluster.all_stored(PODS)
            if pod["metadata"]["namespace"] == sts["metadata"]["namespace"]
            and any(owner["uid"] == uid for owner in pod["metadata"].get("ownerReferences") or [])
        ]

    def _sync_stateful_set(self, sts: JsonObject) -> None:
        if sts["metadata"].get("deletionTimestamp"):
            return
        name, namespace = sts["metadata"]["name"], sts["metadata"]["namespace"]
        wanted = [f"{name}-{ordinal}" for ordinal in range(sts["spec"].get("replicas", 1))]
        have = {pod["metadata"]["name"]: pod for pod in self._pods_of(sts)}
        for extra in sorted(set(have) - set(wanted)):
            if not have[extra]["metadata"].get("deletionTimestamp"):
                self.cluster.user_delete(Ref(PODS, namespace, extra))
        for pod_name in wanted:
            if self.cluster.stored(Ref(PODS, namespace, pod_name)) is None:
                self.cluster.user_create(PODS, _pod_from_template(sts, pod_name))
                self.pods_made.append(f"{namespace}/{pod_name}")

    def _report_stateful_set(self, sts: JsonObject) -> None:
        ref = ref_of(STATEFUL_SETS, sts)
        if (live := self.cluster.stored(ref)) is None:
            return
        pods = self._pods_of(live)  # those that terminate count as long as they are there
        ready = sum(is_ready(pod) for pod in pods)
        status = {
            "observedGeneration": live["metadata"]["generation"],
            "replicas": len(pods),
            "readyReplicas": ready,
            "availableReplicas": ready,
        }
        self.cluster.user_patch(ref, {"status": status}, status=True)

    # ------------------------------------------------------------------------------------------------------------ Jobs

    def _sync_job(self, job: JsonObject) -> None:
        """One pod at a time, made anew where it has failed or is gone; over when one has ended well, or the time is up."""
        ref, status = ref_of(JOBS, job), job.get("status") or {}
        if job["metadata"].get("deletionTimestamp") or status.get("conditions"):
            return
        now = self.cluster.now()
        started = datetime.fromisoformat(status.get("startTime") or f"{now:{_SECONDS}}")
        pods = self._pods_of(job)
        succeeded = any(pod["status"].get("phase") == "Succeeded" for pod in pods)
        late = now >= started + timedelta(seconds=job["spec"]["activeDeadlineSeconds"])
        if succeeded or late:
            ended = {"type": "Complete" if succeeded else "Failed", "status": "True"}
            conditions = [{**ended, "lastTransitionTime": f"{now:{_SECONDS}}"}]
            self.cluster.user_patch(ref, {"status": {"conditions": conditions}}, status=True)
            for pod in pods if late else ():
                if not pod["metadata"].get("deletionTimestamp"):
                    self.cluster.user_delete(ref_of(PODS, pod))
        elif all(pod["status"].get("phase") == "Failed" for pod in pods):
            self.cluster.user_patch(ref, {"status": {"startTime": f"{started:{_SECONDS}}"}}, status=True)
            self.cluster.user_create(PODS, _pod_of_job(job, len(pods), self.cluster.version))

    # -------------------------------------------------------------------------------------------------------- kubelets

    def _sync_pod(self, pod: JsonObject) -> None:
        ref, node = ref_of(PODS, pod), (pod.get("spec") or {}).get("nodeName")
        if node is None:
            node = _wanted_node(pod, self.cluster)
            if node is None:
                return
            # Binding is a write of the scheduler to the spec, which users cannot change.
            self.cluster.user_patch(ref, {"spec": {"nodeName": node}})
        host = self.cluster.stored(Ref(NODES, "", node))
        if host is None:
            self.cluster.remove(ref)  # the pod garbage collector: without its node a pod is no more
            return
        if not _node_is_ready(host):
            return  # nobody there to start the pod, nor to say that it has stopped
        if pod["metadata"].get("deletionTimestamp"):
            if self.stops(pod) and not pod["metadata"].get("finalizers"):
                self.cluster.remove(ref)
            return
        if _is_of_job(pod):
            self._sync_pulling_pod(ref, pod)
            return
        ready = "True" if is_ready(pod) or self.becomes_ready(pod) else "False"
        if pod.get("status", {}).get("phase") == "Running" and is_ready(pod) == (ready == "True"):
            return
        since = self.cluster.now().strftime("%Y-%m-%dT%H:%M:%SZ")
        conditions = [
            {"type": kind, "status": ready, "lastTransitionTime": since} for kind in ("Ready", "ContainersReady")
        ]
        self.cluster.user_patch(
            ref, {"status": {"phase": "Running", "podIP": _address(ref), "conditions": conditions}}, status=True
        )

    def _sync_pulling_pod(self, ref: Ref, pod: JsonObject) -> None:
        """It ends as soon as it runs, and it runs when its images are there."""
        if pod["status"].get("phase") == "Succeeded":
            return
        why = self.pulls(pod)
        status: JsonObject = {"phase": "Pending" if why is not None else "Succeeded"}
        waiting = {"reason": "ErrImagePull", "message": why} if why else {"reason": "ContainerCreating"}
        names = [each["name"] for each in pod["spec"]["containers"]] if why is not None else []
        status["containerStatuses"] = [{"name": name, "state": {"waiting": waiting}} for name in names]
        if any(pod["status"].get(key) != value for key, value in status.items()):
            self.cluster.user_patch(ref, {"status": status}, status=True)

    def fail_pod(self, ref: Ref) -> None:
        """The pod runs on but is no longer ready (until `becomes_ready` says so again)."""
        conditions = [{"type": "Ready", "status": "False"}]
        self.cluster.user_patch(ref, {"status": {"conditions": conditions}}, status=True)

    # -------------------------------------------------------------------------------------------------- EndpointSlices

    def _sync_slice(self, service: JsonObject) -> None:
        selector = (service.get("spec") or {}).get("selector")
        if not selector or service["metadata"].get("deletionTimestamp"):
            return
        name, namespace = service["metadata"]["name"], service["metadata"]["namespace"]
        labels = {**(service["metadata"].get("labels") or {}), "kubernetes.io/service-name": name}
        pods = [
            pod
            for pod in self.cluster.all_stored(PODS)
            if pod["metadata"]["namespace"] == namespace
            and selector.items() <= (pod["metadata"].get("labels") or {}).items()
            and pod.get("spec", {}).get("nodeName")
        ]
        endpoints = [_endpoint(pod) for pod in pods]
        ref = Ref(ENDPOINT_SLICES, namespace, f"{name}-00000")
        if self.cluster.stored(ref) is not None:
            self.cluster.user_patch(ref, {"metadata": {"labels": labels}, "endpoints": endpoints})
            return
        body = {
            "metadata": {
                "name": ref.name,
                "namespace": namespace,
                "labels": labels,
                "ownerReferences": [_owner(service, "v1", "Service")],
            },
            "addressType": "IPv4",
            "endpoints": endpoints,
        }
        self.cluster.user_create(ENDPOINT_SLICES, body)


def is_ready(pod: JsonObject) -> bool:
    conditions = pod.get("status", {}).get("conditions") or []
    return any(one["type"] == "Ready" and one["status"] == "True" for one in conditions)


def _node_is_ready(node: JsonObject) -> bool:
    conditions = (node.get("status") or {}).get("conditions") or []
    return [one["status"] for one in conditions if one["type"] == "Ready"] in ([], ["True"])


def _owner(obj: JsonObject, api_version: str, kind: str) -> JsonObject:
    return {
        "apiVersion": api_version,
        "kind": kind,
        "name": obj["metadata"]["name"],
        "uid": obj["metadata"]["uid"],
        "controller": True,
        "blockOwnerDeletion": True,
    }


def _is_of_job(pod: JsonObject) -> bool:
    return any(owner["kind"] == "Job" for owner in pod["metadata"].get("ownerReferences") or ())


def _pod_of_job(job: JsonObject, before: int, version: int) -> JsonObject:
    """Named by chance on a real cluster; here by what makes it differ from the one before."""
    template, name = cloned(job["spec"]["template"]), job["metadata"]["name"]
    labels = {**template["metadata"]["labels"], "batch.kubernetes.io/job-name": name}
    return {
        "metadata": {
            "name": f"{name}-{before}{version}",
            "namespace": job["metadata"]["namespace"],
            "labels": labels,
            "ownerReferences": [_owner(job, "batch/v1", "Job")],
        },
        "spec": template["spec"],
        "status": {"phase": "Pending"},
    }


def _pod_from_template(sts: JsonObject, name: str) -> JsonObject:
    template = cloned(sts["spec"]["template"])
    metadata = template.get("metadata") or {}
    labels = {
        **(metadata.get("labels") or {}),
        "statefulset.kubernetes.io/pod-name": name,
        "apps.kubernetes.io/pod-index": name.rsplit("-", 1)[1],
    }
    return {
        "metadata": {
            "name": name,
            "namespace": sts["metadata"]["namespace"],
            "labels": labels,
            "annotations": metadata.get("annotations") or {},
            "ownerReferences": [_owner(sts, "apps/v1", "StatefulSet")],
        },
        "spec": template["spec"],
        "status": {"phase": "Pending"},
    }


def _wanted_node(pod: JsonObject, cluster: FakeCluster) -> str | None:
    """The node that the pod is pinned to by name, if it exists and takes pods. A pod that is not pinned stays Pending."""
    names = _pinned_by_affinity(pod["spec"])
    if hostname := (pod["spec"].get("nodeSelector") or {}).get("kubernetes.io/hostname"):
        names.append(str(hostname))
    for name in names:
        node = cluster.stored(Ref(NODES, "", name))
        if node is not None and not (node.get("spec") or {}).get("unschedulable"):
            return name
    return None


def _pinned_by_affinity(spec: dict[str, Any]) -> list[str]:
    required = (
        ((spec.get("affinity") or {}).get("nodeAffinity") or {}).get("requiredDuringSchedulingIgnoredDuringExecution")
    ) or {}
    return [
        str(value)
        for term in required.get("nodeSelectorTerms") or []
        for match in [*(term.get("matchFields") or []), *(term.get("matchExpressions") or [])]
        if match["key"] in ("metadata.name", "kubernetes.io/hostname") and match["operator"] == "In"
        for value in match["values"]
    ]


def _endpoint(pod: JsonObject) -> JsonObject:
    terminating = bool(pod["metadata"].get("deletionTimestamp"))
    ready = is_ready(pod)
    return {
        "addresses": [pod.get("status", {}).get("podIP") or "10.0.0.1"],
        "conditions": {"ready": ready and not terminating, "serving": ready, "terminating": terminating},
        "nodeName": pod["spec"].get("nodeName"),
        "targetRef": {
            "kind": "Pod",
            "name": pod["metadata"]["name"],
            "namespace": pod["metadata"]["namespace"],
            "uid": pod["metadata"]["uid"],
        },
    }


def _address(pod: Ref) -> str:
    """One for each name, so that a test can tell whom the operator asks."""
    number = zlib.crc32(f"{pod.namespace}/{pod.name}".encode())
    return f"10.{number >> 16 & 255}.{number >> 8 & 255}.{number & 255}"
