"""The chart on a real API server, and the operator with the rights of the account that the chart makes.

The release is in a namespace that no manifest names. Everything of ours that was in the cluster is taken away before, and
what the chart brought afterwards.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from e2e.cluster import nodes
from e2e.cluster.kubectl import Kubectl
from e2e.cluster.lifecycle import Cluster
from e2e.operator import OperatorProcess, service_account_kubeconfig
from e2e.test_main_job import claims, condition, get, pod_uids, says
from e2e.tools import rights
from e2e.tools.binaries import HELM
from e2e.tools.helm import CHART, Helm, copied_chart
from e2e.tools.install import Installation
from e2e.waiting import until

pytestmark = pytest.mark.cluster

CHECKOUT = Path(__file__).parent.parent
FAST = CHECKOUT / "manifests/samples/customer/fast.yaml"
TOKENS = CHECKOUT / "manifests/samples/tokens"
ROLE = "reserved-capacity-operator"
KINDS = "acceleratorclasses,modelofferings,pricebooks,computeunitpools,modelinstances"
OLD_WORDS = "State in one word."
HIGHLY_AVAILABLE = ("--set=replicas=2", "--set=database.url=postgresql://u:p@db.example:5432/rc")


@pytest.fixture(scope="module")
def helm(cluster: Cluster, tmp_path_factory: pytest.TempPathFactory) -> Helm:
    return Helm(HELM.binary(), tmp_path_factory.mktemp("helm"), cluster.kubeconfig)


@pytest.fixture(scope="module")
def empty(cluster: Cluster, helm: Helm, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Installation]:
    """A cluster without anything of ours but two GPU nodes."""
    installation = Installation(cluster, helm, tmp_path_factory.mktemp("chart"))
    installation.prepare()
    yield installation
    installation.purge()


@pytest.fixture(scope="module")
def release(empty: Installation) -> Installation:
    """The chart as it is, installed, and the samples for sale."""
    if not empty.is_installed():
        empty.install()
        empty.sell()
    return empty


@pytest.fixture
def operator(release: Installation) -> Iterator[OperatorProcess]:
    process = release.operator()
    process.start()
    yield process
    process.end()


# --- The life of a release; first, because it begins with nothing and ends with what the others need


def test_upgrade_uninstall_and_reinstallation_keep_contracts_and_running_models(
    empty: Installation, tmp_path: Path
) -> None:
    cluster = empty.cluster
    empty.install(previous_chart(tmp_path), "--set=resources.limits.memory=512Mi")
    empty.sell()
    process = empty.operator("before")
    process.start()
    says(cluster, "chat", "Ready", "True", "Ready")
    pods, objects, crds = pod_uids(cluster), uids(cluster, KINDS), uids(cluster, "crd")
    installed = release_uids(empty)

    empty.upgrade(CHART, "--reset-values", "--set=resources.limits.memory=1Gi")
    assert OLD_WORDS in json.dumps(get(cluster, "crd", "computeunitpools.reservedcapacity.io")["spec"])
    assert release_uids(empty) == installed
    assert (pod_uids(cluster), uids(cluster, KINDS), uids(cluster, "crd")) == (pods, objects, crds)
    cluster.kubectl("scale", "mi", "chat", "-n", "acme", "--replicas=3")
    says(cluster, "chat", "Ready", "False", "ExceedsPool")
    cluster.kubectl("scale", "mi", "chat", "-n", "acme", "--replicas=2")
    says(cluster, "chat", "Ready", "True", "Ready")

    assert process.stop() == 0
    empty.uninstall()
    assert not exists(cluster.kubectl, "deployment", "reserved-capacity", "-n", empty.namespace)
    assert not exists(cluster.kubectl, "clusterrole", ROLE)
    assert exists(cluster.kubectl, "pvc", "reserved-capacity-data", "-n", empty.namespace)
    assert (pod_uids(cluster), uids(cluster, KINDS), uids(cluster, "crd")) == (pods, objects, crds)
    for guarded in (("cup", "prod", "-n", "acme"), ("crd", "modelinstances.reservedcapacity.io")):
        assert cluster.kubectl("delete", *guarded, check=False).returncode != 0

    empty.install()
    again = empty.operator("after")
    again.start()
    try:
        cluster.kubectl("apply", "--server-side", "-f", str(FAST))
        says(cluster, "fast", "CapacityReserved", "False", "WaitingForComputeUnits")
        says(cluster, "chat", "Ready", "True", "Ready")
        assert pod_uids(cluster) == pods
        assert again.records("error", "critical") == []
    finally:
        again.end()
        cluster.kubectl("delete", "mi", "fast", "-n", "acme")


def previous_chart(directory: Path) -> Path:
    """This chart under an older version and with other words in a CRD, until there is a release to upgrade from."""
    chart = copied_chart(directory, "0.0.1")
    crd = chart / "templates/crds/reservedcapacity.io_computeunitpools.yaml"
    text = crd.read_text()
    assert OLD_WORDS in text
    crd.write_text(text.replace(OLD_WORDS, "What the previous version said."))
    return chart


def uids(cluster: Cluster, kinds: str) -> dict[str, str]:
    listed = get(cluster, kinds, "-A")["items"]
    return {f"{item['kind']} {item['metadata']['name']}": item["metadata"]["uid"] for item in listed}


def release_uids(release: Installation) -> dict[str, str]:
    """Everything that the release made, pods and other children of it left out."""
    kinds = "serviceaccount,service,deployment,pvc,networkpolicy,role,rolebinding"
    chosen = ("-l", "app.kubernetes.io/managed-by=Helm")
    namespaced = get(release.cluster, kinds, "-n", release.namespace, *chosen)["items"]
    cluster_kinds = "clusterrole,clusterrolebinding,validatingadmissionpolicy,validatingadmissionpolicybinding"
    return {
        f"{item['kind']} {item['metadata']['name']}": item["metadata"]["uid"]
        for item in [*namespaced, *get(release.cluster, cluster_kinds, *chosen)["items"]]
    }


# --- The operator's account


def test_the_main_job_needs_every_right_of_the_charts_account_and_no_other(
    release: Installation, operator: OperatorProcess
) -> None:
    """Issue 4: from the audit log, unused verbs 0 and denied 0."""
    cluster = release.cluster
    says(cluster, "chat", "Ready", "True", "Ready")
    cluster.kubectl("apply", "--server-side", "-f", str(FAST))
    says(cluster, "fast", "CapacityReserved", "False", "WaitingForComputeUnits")
    cluster.kubectl("scale", "mi", "chat", "-n", "acme", "--replicas=0")
    says(cluster, "fast", "Ready", "True", "Ready")
    patch(cluster, "mi", "fast", {"spec": {"suspend": True}})
    says(cluster, "fast", "Available", "False", "Suspended")
    patch(cluster, "mi", "fast", {"spec": {"suspend": False}})
    says(cluster, "fast", "Available", "True", "Serving")
    cluster.kubectl("delete", "mi", "fast", "-n", "acme")
    cluster.kubectl("scale", "mi", "chat", "-n", "acme", "--replicas=2")
    says(cluster, "chat", "Ready", "True", "Ready")
    somebody_changes_our_children(cluster)
    token_units_come_and_go(cluster, release.namespace)
    assert operator.records("error", "critical") == []

    granted = rights.granted(rules(release))
    # Envoy Gateway is not installed here: e2e/test_gateway_policy.py sees its rights used.
    here = {right for right in granted if not right.resource.endswith(".gateway.envoyproxy.io")}
    unused = two_at_once_until_all_is_used(release, here)
    use = used(release)
    assert use.refused == ()
    assert unused == set()
    assert use.used <= granted


def somebody_changes_our_children(cluster: Cluster) -> None:
    moved = [{"op": "replace", "path": "/spec/ports/0/port", "value": 9}]
    cluster.kubectl("patch", "service", "chat", "-n", "acme", "--type=json", "-p", json.dumps(moved))
    patch(cluster, "pdb", "chat", {"spec": {"minAvailable": 0}})
    until(lambda: get(cluster, "pdb", "chat", "-n", "acme")["spec"]["minAvailable"] == 2, "the budget is mended")
    until(
        lambda: get(cluster, "service", "chat", "-n", "acme")["spec"]["ports"][0]["port"] != 9, "the Service is mended"
    )


def token_units_come_and_go(cluster: Cluster, namespace: str) -> None:
    """A fleet that is made, grows and goes, and limits that are written, changed and taken away with their offering."""
    cluster.kubectl("apply", "--server-side", "-k", str(TOKENS))
    until(lambda: condition(cluster, "tur", "gpt-41", "Ready")[0] == "True", "the units are backed and published")
    patch(cluster, "tur", "gpt-41", {"spec": {"units": {"input": 33}}})
    until(lambda: sum(fleet(cluster, "gpt-4.1")) > 1, "the fleet grows with what is sold")
    offering, limits = "gpt-4.1-mini", ("configmap", "limits-gpt-4.1-mini", "-n", namespace)
    cluster.kubectl("apply", "--server-side", "-f", "-", input=json.dumps(reservation("too-many", offering, 5_000)))
    until(lambda: fleet(cluster, offering), "the fleet is asked for all that the pool may have")
    until(lambda: exists(cluster.kubectl, *limits), "its limits are written")
    cluster.kubectl("delete", "tur", "too-many", "-n", "acme")
    until(lambda: not fleet(cluster, offering), "what never counted is given back at once, and the fleet with it")
    until(lambda: cluster.kubectl("delete", "modeloffering", offering, check=False).returncode == 0, "nobody pins it")
    until(lambda: not exists(cluster.kubectl, *limits), "its limits go with the offering")
    cluster.kubectl("apply", "--server-side", "-f", str(CHECKOUT / f"manifests/samples/catalogue/{offering}.yaml"))


def fleet(cluster: Cluster, offering: str) -> list[int]:
    """Instances that the operator asks for to back an offering's token units."""
    found = get(cluster, "mi", "-n", "provider", "-l", f"reservedcapacity.io/fleet={offering}")["items"]
    return [each["spec"]["instances"] for each in found]


def reservation(name: str, offering: str, units: int) -> dict[str, Any]:
    return {
        "apiVersion": "reservedcapacity.io/v1alpha1",
        "kind": "TokenUnitReservation",
        "metadata": {"name": name, "namespace": "acme"},
        "spec": {
            "account": "acme",
            "priceBookRef": "usd",
            "offering": offering,
            "snapshot": f"{offering}-2025-04-14",
            "units": {"input": units},
        },
    }


def two_at_once_until_all_is_used(release: Installation, granted: set[rights.Right]) -> set[rights.Right]:
    """Whoever loses a race looks at the object again. Two operators without an election race for every write, though not
    in every round; the rights that are still unused after the last one."""
    second = release.operator("second", "--leader-elect=false")
    second.start()
    third = release.operator("third", "--leader-elect=false")
    third.start()
    try:
        unused = granted
        for number in range(30):
            if not (unused := granted - used(release).used):
                break
            change_one_of_each_kind(release.cluster, number)
        return unused
    finally:
        second.kill()
        third.kill()


def another_snapshot(number: int) -> dict[str, Any]:
    """In a full pool, member by member, each after the artifact is on its node."""
    upgrade = {"strategy": "InPlace", "minAvailable": 1, "acceptBelowMinimum": True}
    return {"snapshot": f"gpt-4-turbo-{('2025-01-15', '2024-04-09')[number % 2]}", "upgrade": upgrade}


def change_one_of_each_kind(cluster: Cluster, number: int) -> None:
    """A new generation of every kind, a node that comes back without its claim, and children that are gone."""
    patch(cluster, "acceleratorclass", "h100-8", {"spec": {"repair": [repair(f"{number + 11}m")]}})
    patch(cluster, "modeloffering", "gpt-4-turbo", {"spec": {"displayName": f"GPT-4 Turbo {number}"}})
    price = {"term": "OneYear", "effectiveFrom": f"2030-01-{number + 1:02}", "pricePerComputeUnitMonth": "220.00"}
    added = [{"op": "add", "path": "/spec/computeUnits/-", "value": price}]
    cluster.kubectl("patch", "pricebook", "usd", "--type=json", "-p", json.dumps(added))
    patch(cluster, "mi", "chat", {"spec": {"priority": number + 1, **another_snapshot(number)}})
    says(cluster, "chat", "UpToDate", "True", "UpToDate")
    tokens = reservation("tokens", "gpt-4.1", number + 1)
    cluster.kubectl("apply", "--server-side", "-f", "-", input=json.dumps(tokens))
    for child in ("service", "pdb"):
        cluster.kubectl("delete", child, "chat", "-n", "acme")
    taken = next(name for name, blocks in claims(cluster).items() if 6 in blocks)
    cluster.kubectl("delete", "node", taken)
    nodes.apply(cluster.kubectl, nodes.gpu_nodes(2, "z1"))
    until(lambda: 6 in claims(cluster).get(taken, ()), "the node that came back carries its claim again")
    until(lambda: exists(cluster.kubectl, "service,pdb", "chat", "-n", "acme"), "the children are made again")


def repair(after: str) -> dict[str, str]:
    return {"conditionType": "Ready", "status": "False", "after": after}


def rules(release: Installation) -> list[dict[str, Any]]:
    cluster_role = get(release.cluster, "clusterrole", ROLE)
    role = get(release.cluster, "role", ROLE, "-n", release.namespace)
    return [*cluster_role["rules"], *role["rules"]]


def used(release: Installation) -> rights.Use:
    if release.cluster.audit_log is None:
        pytest.skip("this cluster has no audit log to read")
    return rights.used(release.cluster.audit_log, release.user, release.began)


def patch(cluster: Cluster, kind: str, name: str, change: dict[str, Any]) -> None:
    """A merge patch of the customer's or the provider's object."""
    cluster.kubectl("patch", kind, name, "-n", "acme", "--type=merge", "-p", json.dumps(change))


def exists(kubectl: Kubectl, *what: str) -> bool:
    return kubectl("get", *what, check=False).returncode == 0


@pytest.fixture
def token(release: Installation, tmp_path: Path) -> Kubectl:
    """kubectl with the token of the chart's account, not an administrator who impersonates it."""
    path = service_account_kubeconfig(release.cluster, tmp_path / "token.kubeconfig", release.namespace)
    return Kubectl(release.cluster.kubectl.binary, path)


@pytest.mark.parametrize(
    "forbidden",
    [
        ("get", "secrets", "-n", "acme"),
        ("get", "secrets", "-n", "capacity-system"),
        ("patch", "mi", "chat", "-n", "acme", "--type=merge", "-p", '{"spec": {"priority": 99}}'),
        ("scale", "mi", "chat", "-n", "acme", "--replicas=0"),
        ("delete", "cup", "prod", "-n", "acme"),
        ("label", "node", "gpu-z1-0", "example.com/tier=gold"),
        ("patch", "node", "gpu-z1-0", "-p", '{"spec": {"unschedulable": true}}'),
        ("delete", "node", "gpu-z1-0"),
        ("exec", "-n", "acme", "chat-0-0", "--", "true"),
        ("delete", "pod", "-n", "acme", "chat-0-0"),
        ("get", "validatingwebhookconfigurations"),
        ("create", "-f", "-"),
        ("delete", "validatingadmissionpolicy", "reserved-capacity-operator-nodes"),
        ("create", "clusterrolebinding", "more", "--clusterrole=cluster-admin", "--user=x"),
        ("create", "token", "default", "-n", "acme"),
        ("delete", "crd", "computeunitpools.reservedcapacity.io"),
    ],
    ids=lambda words: " ".join(words[:3]),
)
def test_the_charts_account_is_denied(release: Installation, token: Kubectl, forbidden: tuple[str, ...]) -> None:
    if not exists(release.cluster.kubectl, "pod", "chat-0-0", "-n", "acme"):
        serve_once(release)
    webhook = {
        "apiVersion": "admissionregistration.k8s.io/v1",
        "kind": "MutatingWebhookConfiguration",
        "metadata": {"name": "more"},
    }
    refused = token(*forbidden, check=False, input=json.dumps(webhook))
    assert refused.returncode != 0, f"{forbidden} was let through"
    assert "orbidden" in refused.stderr, refused.stderr


def serve_once(release: Installation) -> None:
    """Let the operator run until the model serves."""
    process = release.operator()
    process.start()
    try:
        says(release.cluster, "chat", "Ready", "True", "Ready")
    finally:
        process.end()


# --- What is installed


@pytest.mark.parametrize("flags", [(), HIGHLY_AVAILABLE], ids=["default", "highly-available"])
def test_the_api_server_takes_everything_that_is_rendered(release: Installation, flags: tuple[str, ...]) -> None:
    documents = release.helm.template(*release.flags, *flags, "--kube-version=1.36.0", namespace=release.namespace)
    dry_run = ("apply", "--server-side", "--dry-run=server", "--force-conflicts", "--field-manager=helm", "-f", "-")
    done = release.cluster.kubectl(*dry_run, input=yaml.safe_dump_all(documents))
    assert len(done.stdout.splitlines()) == len(documents)
    assert "Warning" not in done.stderr


def test_the_pod_passes_the_restricted_pod_security_standard(release: Installation) -> None:
    kubectl = release.cluster.kubectl
    kubectl("label", "namespace", release.namespace, "pod-security.kubernetes.io/enforce=restricted")
    try:
        pod = get(release.cluster, "deployment", "reserved-capacity", "-n", release.namespace)["spec"]["template"]
        body = {
            "apiVersion": "v1",
            "kind": "Pod",
            "metadata": {"name": "restricted", "namespace": release.namespace},
            "spec": pod["spec"],
        }
        kubectl("create", "--dry-run=server", "-f", "-", input=json.dumps(body))
        body["spec"]["securityContext"]["runAsNonRoot"] = False
        body["spec"]["containers"][0]["securityContext"]["runAsNonRoot"] = False
        refused = kubectl("create", "--dry-run=server", "-f", "-", input=json.dumps(body), check=False)
        assert "violates PodSecurity" in refused.stderr
    finally:
        kubectl("label", "namespace", release.namespace, "pod-security.kubernetes.io/enforce-")


# --- Roles for people


@pytest.fixture
def people(release: Installation) -> Iterator[Cluster]:
    """Erin has `edit` in her namespace, Dan is its order desk."""
    kubectl = release.cluster.kubectl
    kubectl("create", "namespace", "tenant")
    for user, role in (("erin", "edit"), ("dan", "reserved-capacity-order-desk")):
        kubectl("create", "rolebinding", user, f"--clusterrole={role}", f"--user={user}", "-n", "tenant")
    # The controller that aggregates roles into `edit` may still be at it.
    allowed = ("auth", "can-i", "create", "modelinstances.reservedcapacity.io", "-n", "tenant", "--as=erin")
    until(lambda: kubectl(*allowed, check=False).returncode == 0, "edit includes ModelInstances")
    yield release.cluster
    kubectl("delete", "namespace", "tenant", "--timeout=60s")


def sample(name: str) -> str:
    """A sample of the customer's, in the tenant's namespace and with an order of its own."""
    document = yaml.safe_load((CHECKOUT / f"manifests/samples/customer/{name}.yaml").read_text())
    document["metadata"]["namespace"] = "tenant"
    for commitment in document["spec"].get("commitments", []):
        commitment["id"] = "po-tenant-1"
    return json.dumps(document)


def apply_as(cluster: Cluster, user: str, text: str) -> tuple[int, str]:
    done = cluster.kubectl("apply", "--server-side", "-f", "-", f"--as={user}", input=text, check=False)
    return done.returncode, done.stderr


def test_a_tenant_with_edit_runs_models_and_cannot_buy(people: Cluster) -> None:
    assert apply_as(people, "erin", sample("chat")) == (0, "")
    people.kubectl("scale", "mi", "chat", "-n", "tenant", "--replicas=0", "--as=erin")
    people.kubectl("get", "cup", "-n", "tenant", "--as=erin")
    assert people.kubectl("get", "cup", "-n", "acme", "--as=erin", check=False).returncode != 0
    code, said = apply_as(people, "erin", sample("pool"))
    assert code != 0
    assert "forbidden" in said
    resource = "--resource=computeunitpools.reservedcapacity.io"
    people.kubectl("create", "role", "pools", "--verb=*", resource, "-n", "tenant")
    people.kubectl("create", "rolebinding", "pools", "--role=pools", "--user=erin", "-n", "tenant")
    until(lambda: "erin may not buy" in apply_as(people, "erin", sample("pool"))[1], "with all rights on pools as well")


def test_the_order_desk_buys_and_touches_neither_nodes_nor_prices(people: Cluster) -> None:
    assert apply_as(people, "dan", sample("pool")) == (0, "")
    for refused in (
        ("label", "node", "gpu-z1-0", "example.com/tier=gold"),
        ("delete", "node", "gpu-z1-0"),
        ("patch", "pricebook", "usd", "--type=merge", "-p", '{"spec": {"currency": "EUR"}}'),
        ("scale", "mi", "chat", "-n", "acme", "--replicas=0"),
        ("get", "cup", "-n", "acme"),
    ):
        done = people.kubectl(*refused, "--as=dan", check=False)
        assert done.returncode != 0, f"{refused} was let through"
        assert "forbidden" in done.stderr.lower()
