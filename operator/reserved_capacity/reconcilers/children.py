"""What a ModelInstance consists of, as pure builders: template, StatefulSet, Service, PodDisruptionBudget (R1).

A template is rendered once, kept in a ControllerRevision, and never rendered again for members that run: so an edit of
the offering, or a newer operator, changes no pod (R3).
"""

from __future__ import annotations

import copy
import hashlib
import json
from collections.abc import Mapping, Sequence
from datetime import timedelta
from typing import Any

from reserved_capacity.api import meta
from reserved_capacity.api.acceleratorclass import AcceleratorClass
from reserved_capacity.api.modelinstance import ModelInstance
from reserved_capacity.api.modeloffering import ModelOffering
from reserved_capacity.api.serving import EnvVar, Resources, SecurityContext, ServingSpec
from reserved_capacity.domain.holdings import Holding
from reserved_capacity.domain.units import cu_of
from reserved_capacity.domain.versions import Version
from reserved_capacity.ports import JsonObject
from reserved_capacity.snapshot import (
    HOSTNAME_LABEL,
    shape_of,
)

CONTAINER = "server"
MODEL_PATH = "/model"
POD_INDEX_LABEL = "apps.kubernetes.io/pod-index"
# Traffic-safe ends (ADR 0045). A pod that is to end stays as it is until nobody sends to it any more: its endpoint turns to
# terminating at once, and proxies and gateways have seen that when it is over. Then the server is asked to end, and has this
# long for the answers that it still streams.
ROUTED_AWAY_SECONDS = 15
ANSWERS_SECONDS = 300
_POD_SECURITY_FIELDS = ("runAsUser", "runAsGroup", "fsGroup", "runAsNonRoot", "seccompProfile")


def render_template(
    offering: ModelOffering, class_: AcceleratorClass, version: Version, blocks: int
) -> dict[str, Any] | None:
    """Everything about a member but its name and its nodes; what a ControllerRevision keeps. None if the offering has not
    got the snapshot or the profile."""
    serving = offering.spec.reserved.serving
    snapshot, profile = offering.spec.snapshot(version.snapshot), serving.profile(version.profile)
    if snapshot is None or profile is None:
        return None
    served = serving.model_copy(
        update={
            "image": profile.image or serving.image,
            "args": serving.args if profile.args is None else profile.args,
            "env": _overridden(serving.env, profile.env),
            "resources": profile.resources or serving.resources,
        }
    )
    env = {
        "MODEL_PATH": MODEL_PATH,
        "MODEL_SNAPSHOT": snapshot.name,
        "RESERVED_CU": str(cu_of(blocks)),
    }
    gpus = blocks // offering.spec.reserved.nodes_per_instance * shape_of(class_).gpus_per_block
    return {
        "snapshot": snapshot.name,
        "profile": profile.name,
        "computeUnits": cu_of(blocks),
        "port": served.port,
        "pod": {
            "metadata": {"labels": dict(served.labels), "annotations": dict(served.annotations)},
            "spec": _pod_spec(served, env, snapshot.artifact, {class_.spec.gpu_resource: str(gpus)}, class_),
        },
    }


def revision_name(instance: str, template: Mapping[str, Any]) -> str:
    """Deterministic: the same template has the same name, so a retry meets its own first attempt."""
    digest = hashlib.sha256(json.dumps(template, sort_keys=True, separators=(",", ":")).encode()).hexdigest()
    return f"{instance}-{digest[:10]}"


def controller_revision(instance: ModelInstance, name: str, template: Mapping[str, Any]) -> JsonObject:
    return {
        "apiVersion": "apps/v1",
        "kind": "ControllerRevision",
        "metadata": child_metadata(instance, name),
        "revision": instance.metadata.generation,
        "data": dict(template),
    }


def service(instance: ModelInstance, port: int) -> JsonObject:
    """Selects the leader pod of every member; readiness decides which of them get traffic."""
    return {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": child_metadata(instance, instance.name),
        "spec": {
            "selector": {meta.INSTANCE_LABEL: instance.name, POD_INDEX_LABEL: "0"},
            "ports": [{"name": "http", "port": port, "targetPort": "http", "protocol": "TCP"}],
        },
    }


def pod_disruption_budget(instance: ModelInstance, min_available_pods: int) -> JsonObject:
    return {
        "apiVersion": "policy/v1",
        "kind": "PodDisruptionBudget",
        "metadata": child_metadata(instance, instance.name),
        "spec": {
            "minAvailable": min_available_pods,
            # A pod that never became ready protects nothing; it must not hold up a drain.
            "unhealthyPodEvictionPolicy": "AlwaysAllow",
            "selector": {"matchLabels": {meta.INSTANCE_LABEL: instance.name}},
        },
    }


def stateful_set(
    instance: ModelInstance,
    holding: Holding,
    revision: str,
    template: Mapping[str, Any],
    *,
    hostnames: Sequence[str],
) -> JsonObject:
    """One member, announced without pods: pinned to its nodes, one pod on each, never updated in place (OnDelete)."""
    labels = {
        meta.MANAGED_BY_LABEL: meta.MANAGED_BY,
        meta.INSTANCE_LABEL: instance.name,
        meta.MEMBER_LABEL: holding.member,
        meta.SNAPSHOT_LABEL: template["snapshot"],
        meta.POOL_LABEL: instance.spec.pool_ref,
    }
    pod = copy.deepcopy(template["pod"])
    pod["metadata"]["labels"] = {**pod["metadata"]["labels"], **labels}
    pod["spec"]["affinity"] = _affinity(holding.member, hostnames)
    body_metadata = child_metadata(instance, holding.member)
    body_metadata["labels"] = {**labels, meta.REVISION_LABEL: revision}
    body_metadata["annotations"] = {
        meta.PROFILE_ANNOTATION: template["profile"],
        meta.COMPUTE_UNITS_ANNOTATION: str(cu_of(holding.blocks)),
        meta.NODES_ANNOTATION: ",".join(holding.nodes),
        **({meta.REPLACES_ANNOTATION: holding.replaces} if holding.replaces else {}),
    }
    return {
        "apiVersion": "apps/v1",
        "kind": "StatefulSet",
        "metadata": body_metadata,
        "spec": {
            "replicas": 0,
            "serviceName": instance.name,
            "podManagementPolicy": "Parallel",
            "updateStrategy": {"type": "OnDelete"},
            "revisionHistoryLimit": 0,
            "selector": {"matchLabels": {meta.MEMBER_LABEL: holding.member}},
            "template": pod,
        },
    }


def template_of(stateful_set: JsonObject) -> dict[str, Any]:
    """The template that a member runs, read back from the member itself: what `stateful_set` made of it, undone.

    With the API server's defaults written out, which changes no pod; and without the name, the nodes and our labels,
    which `stateful_set` adds anew.
    """
    metadata, pod = stateful_set["metadata"], stateful_set["spec"]["template"]
    annotations = metadata.get("annotations") or {}
    ours = {meta.MANAGED_BY_LABEL, meta.INSTANCE_LABEL, meta.MEMBER_LABEL, meta.SNAPSHOT_LABEL, meta.POOL_LABEL}
    labels = {key: value for key, value in (pod["metadata"].get("labels") or {}).items() if key not in ours}
    ports = [port for container in pod["spec"]["containers"] for port in container.get("ports") or ()]
    return {
        "snapshot": metadata["labels"][meta.SNAPSHOT_LABEL],
        "profile": annotations.get(meta.PROFILE_ANNOTATION, ""),
        "computeUnits": int(annotations.get(meta.COMPUTE_UNITS_ANNOTATION, "0")),
        "port": next((port["containerPort"] for port in ports if port.get("name") == "http"), None),
        "pod": {
            "metadata": {"labels": labels, "annotations": dict(pod["metadata"].get("annotations") or {})},
            "spec": {key: value for key, value in pod["spec"].items() if key != "affinity"},
        },
    }


def selector_of(instance: str) -> str:
    """The label selector of all pods of an instance, for the scale subresource."""
    return f"{meta.INSTANCE_LABEL}={instance}"


def endpoint_of(instance: ModelInstance, port: int) -> str:
    return f"http://{instance.name}.{instance.namespace}.svc:{port}/v1"


def child_metadata(instance: ModelInstance, name: str) -> dict[str, Any]:
    """What every child carries: whose it is, and that it goes with it."""
    return {
        "name": name,
        "namespace": instance.namespace,
        "labels": {meta.MANAGED_BY_LABEL: meta.MANAGED_BY, meta.INSTANCE_LABEL: instance.name},
        "ownerReferences": [
            {
                "apiVersion": meta.API_VERSION,
                "kind": meta.Kind.MODEL_INSTANCE.value,
                "name": instance.name,
                "uid": instance.metadata.uid,
                "controller": True,
            }
        ],
    }


def _overridden(base: Sequence[EnvVar], over: Sequence[EnvVar]) -> tuple[EnvVar, ...]:
    return tuple({each.name: each for each in (*base, *over)}.values())


def _pod_spec(
    serving: ServingSpec, env: Mapping[str, str], artifact: str, gpus: Mapping[str, str], class_: AcceleratorClass
) -> dict[str, Any]:
    pod_security, container_security = _security(serving.security_context)
    mounts: list[dict[str, Any]] = [{"name": "model", "mountPath": MODEL_PATH, "readOnly": True}]
    container = {
        "name": CONTAINER,
        "image": serving.image,
        "args": list(serving.args),
        # Ours come last: $(MODEL_PATH) in args means ours, whatever the offering sets.
        "env": [each.to_wire() for each in serving.env if each.name not in env]
        + [{"name": name, "value": value} for name, value in env.items()],
        "ports": [{"name": "http", "containerPort": serving.port}],
        # A server that is busy answers its probe late; taken out for that, it would leave its work to the others.
        "readinessProbe": {
            "httpGet": {"path": serving.readiness_path, "port": "http"},
            "periodSeconds": 5,
            "timeoutSeconds": 5,
        },
        # The kubelet itself sleeps: the image needs no shell.
        "lifecycle": {"preStop": {"sleep": {"seconds": ROUTED_AWAY_SECONDS}}},
        "resources": _resources(serving.resources, gpus),
        "volumeMounts": mounts,
        **({"securityContext": container_security} if container_security else {}),
    }
    volumes: list[dict[str, Any]] = [
        {"name": "model", "image": {"reference": artifact.removeprefix("oci://"), "pullPolicy": "IfNotPresent"}}
    ]
    if serving.shared_memory:
        volumes.append({"name": "shm", "emptyDir": {"medium": "Memory", "sizeLimit": serving.shared_memory}})
        mounts.append({"name": "shm", "mountPath": "/dev/shm"})  # noqa: S108 - where NCCL looks
    optional = {
        "imagePullSecrets": [{"name": name} for name in serving.image_pull_secrets],
        "runtimeClassName": serving.runtime_class_name,
        "serviceAccountName": serving.service_account_name,
        "securityContext": pod_security,
    }
    return {
        "automountServiceAccountToken": False,
        "terminationGracePeriodSeconds": ROUTED_AWAY_SECONDS + ANSWERS_SECONDS,
        "containers": [container],
        "volumes": volumes,
        "tolerations": _tolerations(class_),
        **{key: value for key, value in optional.items() if value},
    }


def _resources(resources: Resources, gpus: Mapping[str, str]) -> dict[str, Any]:
    return {
        "limits": {**resources.limits, **gpus},
        "requests": {**resources.requests, **gpus},
    }


def _security(context: SecurityContext | None) -> tuple[dict[str, Any], dict[str, Any]]:
    """The pod's and the container's half of one security context."""
    wire = context.to_wire() if context is not None else {}
    pod = {key: value for key, value in wire.items() if key in _POD_SECURITY_FIELDS}
    container = {key: value for key, value in wire.items() if key not in _POD_SECURITY_FIELDS and value != {}}
    if "capabilities" in container:
        container["capabilities"] = {key: value for key, value in container["capabilities"].items() if value}
    return pod, container


def _tolerations(class_: AcceleratorClass) -> list[dict[str, Any]]:
    """Our claim's taint, the device plugin's custom, and bad health for as long as the repair rule gives it (N1)."""
    patience = max((rule.after for rule in class_.spec.repair), default=timedelta(minutes=10))
    seconds = int(patience.total_seconds())
    return [
        {"key": meta.CLAIMED_TAINT, "operator": "Equal", "value": meta.CLAIMED_VALUE, "effect": "NoSchedule"},
        {"key": class_.spec.gpu_resource, "operator": "Exists", "effect": "NoSchedule"},
        *(
            {
                "key": f"node.kubernetes.io/{key}",
                "operator": "Exists",
                "effect": "NoExecute",
                "tolerationSeconds": seconds,
            }
            for key in ("not-ready", "unreachable")
        ),
    ]


def pinned_to(hostnames: Sequence[str]) -> dict[str, Any]:
    """The affinity of a pod that may run there and nowhere else."""
    pinned = {"key": HOSTNAME_LABEL, "operator": "In", "values": list(hostnames)}
    return {
        "nodeAffinity": {
            "requiredDuringSchedulingIgnoredDuringExecution": {"nodeSelectorTerms": [{"matchExpressions": [pinned]}]}
        }
    }


def _affinity(member: str, hostnames: Sequence[str]) -> dict[str, Any]:
    return {
        **pinned_to(hostnames),
        "podAntiAffinity": {
            "requiredDuringSchedulingIgnoredDuringExecution": [
                {"topologyKey": HOSTNAME_LABEL, "labelSelector": {"matchLabels": {meta.MEMBER_LABEL: member}}}
            ]
        },
    }
