"""Whom a client may be sent to at every instant of the history, and what pods of a snapshot do that does not come up."""

from __future__ import annotations

from collections.abc import Iterator

from e2e.api import BINDINGS, ENDPOINT_SLICES, INSTANCES, PODS, POLICIES, STATEFUL_SETS, Api, Json
from e2e.customers import INSTANCE_LABEL, MEMBER_LABEL, Customer, pulls
from e2e.history import History, World
from tests.unit.argocd.argo import health_of

SNAPSHOT_LABEL = "reservedcapacity.io/snapshot"

_SERVICE_LABEL = "kubernetes.io/service-name"


def served(world: World, customer: Customer, instance: str) -> set[str]:
    """The pods that a client may be sent to, and that nobody has told to end."""
    slices = [
        obj
        for (kind, namespace, _), obj in world.items()
        if kind == ENDPOINT_SLICES
        and namespace == customer.name
        and obj["metadata"]["labels"].get(_SERVICE_LABEL) == instance
    ]
    routable = {
        each["targetRef"]["uid"]
        for one in slices
        for each in one.get("endpoints") or ()
        if each["conditions"].get("ready") and each.get("targetRef")
    }
    staying = {
        obj["metadata"]["uid"]
        for (kind, namespace, _), obj in world.items()
        if kind == PODS and namespace == customer.name and not obj["metadata"].get("deletionTimestamp")
    }
    return routable & staying


def at_every_instant(history: History, customer: Customer, instance: str, since: int) -> Iterator[set[str]]:
    """Those who serve, after each write that may have changed it."""
    for happening, world in history.replay():
        if happening.version > since and happening.place[:2] in (
            (PODS, customer.name),
            (ENDPOINT_SLICES, customer.name),
        ):
            yield served(world, customer, instance)


def fewest(history: History, customer: Customer, since: int, instance: str = "chat") -> int:
    """The smallest number of endpoints that there was at any instant."""
    return min(map(len, at_every_instant(history, customer, instance, since)))


def touched(history: History, customer: Customer, since: int) -> list[str]:
    """Writes of members and their pods."""
    return [
        f"{each.version} {each.place}"
        for each in history.happenings
        if each.version > since
        and each.place[0] in (PODS, STATEFUL_SETS)
        and each.place[1] == customer.name
        and not pulls(each.obj or each.was or {"metadata": {}})
    ]


def snapshots(history: History, customer: Customer, instance: str = "chat") -> dict[str, str]:
    """What the pods run, by uid."""
    return {
        pod["metadata"]["uid"]: pod["metadata"]["labels"][SNAPSHOT_LABEL]
        for pod in history.of(PODS, customer.name)
        if pod["metadata"]["labels"].get(INSTANCE_LABEL) == instance
    }


def pulled_before_it_went(history: History, customer: Customer, since: int) -> dict[str, bool]:
    """By node on which a member was told to end: had what pulls the artifact there come to its end before?"""
    there: set[str] = set()
    found: dict[str, bool] = {}
    for happening, _ in history.replay():
        pod = happening.obj
        if happening.version <= since or happening.place[:2] != (PODS, customer.name) or pod is None:
            continue
        node = pod["spec"].get("nodeName", "")
        if pulls(pod):
            there |= {node} if pod["status"].get("phase") == "Succeeded" else set()
        elif pod["metadata"].get("deletionTimestamp"):
            found.setdefault(node, node in there)
    return found


def pods_of(history: History, customer: Customer, snapshot: str) -> list[Json]:
    return [pod for pod in history.of(PODS, customer.name) if pod["metadata"]["labels"].get(SNAPSHOT_LABEL) == snapshot]


def status_of(customer: Customer) -> Json:
    found: Json = (customer.history.get(INSTANCES, customer.name, "chat") or {}).get("status") or {}
    return found


def shown_by_argo_cd(customer: Customer) -> str:
    """The word of our health script for the instance as it is."""
    return health_of(customer.history.now[INSTANCES, customer.name, "chat"]).status


def rollout(customer: Customer) -> Json:
    found: Json = status_of(customer)["rollout"]
    return found


async def moved(customer: Customer, snapshot: str) -> None:
    """Wait until all that serve run it, and nobody else is there."""
    await customer.history.until(
        lambda: set(snapshots(customer.history, customer).values()) == {snapshot},
        f"all of {customer.name} run {snapshot}",
        customer.patience,
        lambda: (rollout(customer), snapshots(customer.history, customer)),
    )
    await customer.settled(chat=2)


async def a_pod_of(customer: Customer, snapshot: str) -> Json:
    found = await customer.history.until(
        lambda: [each for each in pods_of(customer.history, customer, snapshot) if each["spec"].get("nodeName")],
        f"{customer.name} has a pod of {snapshot}",
        customer.patience,
        lambda: rollout(customer),
    )
    return found[0]


async def never_comes_up(api: Api, snapshot: str) -> None:
    """Whoever plays the kubelet is refused to call pods of this snapshot ready."""
    labelled = f"object.metadata.labels[?'{SNAPSHOT_LABEL}'].orValue('') == '{snapshot}'"
    ready = "object.status.?conditions.orValue([]).exists(each, each.type == 'Ready' && each.status == 'True')"
    policy = {
        "apiVersion": "admissionregistration.k8s.io/v1",
        "kind": "ValidatingAdmissionPolicy",
        "metadata": {"name": f"{snapshot}-never-ready"},
        "spec": {
            "failurePolicy": "Fail",
            "matchConstraints": {
                "resourceRules": [
                    {
                        "apiGroups": [""],
                        "apiVersions": ["v1"],
                        "operations": ["UPDATE"],
                        "resources": ["pods/status"],
                    }
                ]
            },
            "validations": [{"expression": f"!({labelled} && {ready})"}],
        },
    }
    binding = {
        "apiVersion": "admissionregistration.k8s.io/v1",
        "kind": "ValidatingAdmissionPolicyBinding",
        "metadata": policy["metadata"],
        "spec": {"policyName": f"{snapshot}-never-ready", "validationActions": ["Deny"]},
    }
    await api.apply(POLICIES, policy)
    await api.apply(BINDINGS, binding)


async def comes_up_again(api: Api, snapshot: str) -> None:
    for collection in (BINDINGS, POLICIES):
        await api.delete(collection, "", f"{snapshot}-never-ready")


async def fails(api: Api, pod: Json, reason: str, message: str) -> None:
    """A pod's container waits, and says why."""
    container = pod["spec"]["containers"][0]
    status = {
        "name": container["name"],
        "image": container["image"],
        "imageID": "",
        "ready": False,
        "restartCount": 0,
        "state": {"waiting": {"reason": reason, "message": message}},
    }
    conditions = [{"type": each, "status": "False"} for each in ("Ready", "ContainersReady")]
    body = {"status": {"containerStatuses": [status], "conditions": conditions}}
    await api.patch(PODS, pod["metadata"]["namespace"], pod["metadata"]["name"], body, "status")


def member_of(pod: Json) -> str:
    return str(pod["metadata"]["labels"][MEMBER_LABEL])
