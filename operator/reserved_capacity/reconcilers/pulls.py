"""Brings an artifact to the nodes that a rollout will need it on, before any capacity is released (behaviour.md S3; ADR 0063).

One Job for each node, whose pod mounts exactly what a member mounts, with the member's rights to pull it, and ends at once.
It asks for no GPU and holds no blocks, so it is nobody's member, claim or foreign pod.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from datetime import datetime
from typing import Any

from reserved_capacity.api import meta
from reserved_capacity.api.modelinstance import ModelInstance
from reserved_capacity.domain.members import current_revision
from reserved_capacity.domain.rollout.pulls import CreatePull, PullsPlan, WantedPulls, plan_pulls
from reserved_capacity.domain.rollout.values import RolloutReport, RolloutState
from reserved_capacity.domain.versions import Version
from reserved_capacity.ports import JOBS, AlreadyExists, JsonObject, Precondition, Ref
from reserved_capacity.reconcilers import children
from reserved_capacity.reconcilers.context import Context
from reserved_capacity.reconcilers.instance_world import InstanceWorld
from reserved_capacity.snapshot import parse_class
from reserved_capacity.snapshot.nodes import hostname_of
from reserved_capacity.snapshot.pulls import node_uids, pulls_of

_SERVER = "server"
_MODEL = "model"
_NOBODY = 65535
_RIGHTS = ("imagePullSecrets", "serviceAccountName", "runtimeClassName")


async def pull(context: Context, world: InstanceWorld) -> datetime | None:
    """Make and remove Jobs as the pool's last plan asks for it; when to try one again that has failed."""
    if world.pool is not None and not _is_weighed(world):
        return None
    report = world.assessment.rollout if world.assessment is not None else None
    template, wanted = None, None
    if report is not None and _needs_artifacts(report):
        template = _template(context, world, report.target)
        recipe = recipe_of(template) if template is not None else ""
        wanted = WantedPulls(report.target.snapshot, recipe, report.prefetch)
    plan = _plan(context, world.instance, wanted)
    for create in plan.creates:
        assert template is not None, "without a template there is no recipe, and nothing is made"  # noqa: S101
        body = pull_job(
            world.instance, create, template, hostname=hostname_of(context.store, create.node), image=context.pull_image
        )
        try:
            await context.cluster.create(JOBS, body)
        except AlreadyExists:
            # Its own first attempt, or another operator's: the name says all that it is. Now it is known here.
            await context.cluster.get(Ref(JOBS, world.instance.namespace, body["metadata"]["name"]))
    for gone in plan.deletes:
        # By uid alone: nothing about a Job of ours changes but how far it is.
        ref = Ref(JOBS, world.instance.namespace, gone.name)
        await context.cluster.delete(ref, Precondition(gone.uid, None))
    return plan.next_moment


def _is_weighed(world: InstanceWorld) -> bool:
    seen, metadata = world.assessment, world.instance.metadata
    return seen is not None and (seen.uid, seen.generation) == (metadata.uid, metadata.generation)


def _needs_artifacts(report: RolloutReport) -> bool:
    """What goes back in was there before, and what has ended needs nothing."""
    record = report.record
    return record is not None and record.state is RolloutState.RUNNING and not record.goes_back


def _plan(context: Context, instance: ModelInstance, wanted: WantedPulls | None) -> PullsPlan:
    pulls = pulls_of(context.store, instance)
    named = {each.node for each in pulls} | set(wanted.nodes if wanted is not None else ())
    return plan_pulls(pulls, wanted, node_uids(context.store, named), now=context.clock.now())


def _template(context: Context, world: InstanceWorld, version: Version) -> Mapping[str, Any] | None:
    """What the next member of the version runs."""
    revision = current_revision(world.members, world.instance.metadata.uid, version, world.templates)
    if revision in world.by_revision:
        return world.by_revision[revision]
    class_ = parse_class(context.store, world.pool.spec.accelerator_class) if world.pool is not None else None
    blocks = next((holding.blocks for holding in world.holdings), 0)
    if world.offering is None or class_ is None or not blocks:
        return None
    return children.render_template(world.offering, class_, version, blocks)


# ------------------------------------------------------------------------------------------------------------- builders


def recipe_of(template: Mapping[str, Any]) -> str:
    """A digest of what is pulled and with which rights: if it changes, a pull that is not done begins anew."""
    spec = template["pod"]["spec"]
    pulled = (_server_image(spec), _artifact(spec), {key: spec[key] for key in _RIGHTS if key in spec})
    return hashlib.sha256(json.dumps(pulled, sort_keys=True).encode()).hexdigest()[:10]


def _server_image(pod_spec: Mapping[str, Any]) -> str:
    return next(str(each["image"]) for each in pod_spec["containers"] if each["name"] == children.CONTAINER)


def _artifact(pod_spec: Mapping[str, Any]) -> dict[str, Any]:
    """The member's own image volume."""
    return next(dict(each["image"]) for each in pod_spec["volumes"] if each["name"] == _MODEL)


def pull_job(
    instance: ModelInstance, create: CreatePull, template: Mapping[str, Any], *, hostname: str, image: str
) -> JsonObject:
    """`image` is a tiny one that ends at once when it is told `-v`. Neither the server nor the artifact is run: both are
    mounted, so the kubelet pulls them first, and a member that starts later finds them on its node.

    A pod that fails is made anew; one that does not get through within the rollout's own deadline for a step is ended
    by the cluster, also while no operator runs.
    """
    spec, recipe = template["pod"]["spec"], recipe_of(template)
    identity = (instance.metadata.uid, template["snapshot"], recipe, create.node, create.node_uid, create.attempt)
    name = f"{instance.name}-prefetch-{hashlib.sha256(repr(identity).encode()).hexdigest()[:10]}"
    body_metadata = children.child_metadata(instance, name)
    body_metadata["labels"] |= {meta.PREFETCH_LABEL: instance.name, meta.SNAPSHOT_LABEL: template["snapshot"]}
    body_metadata["annotations"] = {
        meta.NODE_ANNOTATION: create.node,
        meta.NODE_UID_ANNOTATION: create.node_uid,
        meta.RECIPE_ANNOTATION: recipe,
        meta.ATTEMPT_ANNOTATION: str(create.attempt),
    }
    volumes = [
        {"name": _MODEL, "image": _artifact(spec)},
        {"name": _SERVER, "image": {"reference": _server_image(spec), "pullPolicy": "IfNotPresent"}},
    ]
    pod = {
        "restartPolicy": "Never",
        "automountServiceAccountToken": False,
        "enableServiceLinks": False,
        "terminationGracePeriodSeconds": 0,
        "affinity": children.pinned_to([hostname]),
        "tolerations": spec["tolerations"],
        "securityContext": {
            "runAsNonRoot": True,
            "runAsUser": _NOBODY,
            "runAsGroup": _NOBODY,
            "seccompProfile": {"type": "RuntimeDefault"},
        },
        "containers": [_container(image)],
        "volumes": volumes,
        **{key: spec[key] for key in _RIGHTS if key in spec},
    }
    labels = {meta.MANAGED_BY_LABEL: meta.MANAGED_BY, meta.PREFETCH_LABEL: instance.name}
    return {
        "apiVersion": "batch/v1",
        "kind": "Job",
        "metadata": body_metadata,
        "spec": {
            "backoffLimit": 3,
            "activeDeadlineSeconds": max(1, int(instance.spec.upgrade.progress_deadline.total_seconds())),
            "template": {"metadata": {"labels": labels}, "spec": pod},
        },
    }


def _container(image: str) -> dict[str, Any]:
    """Within what the strictest Pod Security Standard and a namespace with quotas allow."""
    amounts = {"cpu": "10m", "memory": "16Mi"}
    return {
        "name": "pull",
        "image": image,
        "imagePullPolicy": "IfNotPresent",
        "args": ["-v"],
        "resources": {"requests": amounts, "limits": amounts},
        "securityContext": {
            "allowPrivilegeEscalation": False,
            "readOnlyRootFilesystem": True,
            "capabilities": {"drop": ["ALL"]},
        },
        "volumeMounts": [
            {"name": _MODEL, "mountPath": children.MODEL_PATH, "readOnly": True},
            {"name": _SERVER, "mountPath": "/server", "readOnly": True},
        ],
    }
