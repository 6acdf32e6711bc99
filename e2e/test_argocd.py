"""What Argo CD shows of real objects: every state of every kind, its actions, and nothing that differs from Git."""

from __future__ import annotations

import copy
import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from e2e.cluster import nodes
from e2e.cluster.lifecycle import Cluster
from e2e.cluster.teardown import remove_namespaces
from e2e.operator import OperatorProcess
from e2e.test_main_job import CHECKOUT, get
from e2e.waiting import until
from tests.unit.argocd import argo
from tests.unit.argocd.argo import Health

ARGOCD = CHECKOUT / "manifests/argocd"
SAMPLES = CHECKOUT / "manifests/samples"
LIKE_ARGO = ("--server-side", "--force-conflicts", "--field-manager=argocd-controller")
NAMESPACED = {"ComputeUnitPool", "ModelInstance", "TokenUnitReservation"}
UNSEEN = Health("Progressing", "Waiting for the operator")
DELETED = Health("Progressing", "Pending deletion")
HOLD = "example.com/hold"
CLOCK = "clock-offset"
TWO_DAYS_SECONDS = 2 * 86400


@pytest.fixture(scope="module")
def operator(cluster: Cluster, tmp_path_factory: pytest.TempPathFactory) -> Iterator[OperatorProcess]:
    """Two nodes of 800 CU, the samples applied as Argo CD applies them, and one operator: there is nothing to elect."""
    cluster.kubectl("apply", "--server-side", "-k", str(CHECKOUT / "manifests/install"))
    nodes.apply(cluster.kubectl, nodes.gpu_nodes(2, "z1"))
    until(lambda: _sync(cluster, check=False, kustomization=SAMPLES) == 0, "the samples are taken")
    directory = tmp_path_factory.mktemp("argocd")
    flags = ["--leader-elect=false", "--development", f"--clock-offset-file={directory / CLOCK}"]
    (directory / CLOCK).write_text("0")
    process = OperatorProcess(cluster, directory, flags)
    process.start()
    yield process
    remove_namespaces(cluster.kubectl, "acme", "argocd")
    catalogue = ("delete", "acceleratorclasses,modelofferings,pricebooks", "--all")
    until(lambda: cluster.kubectl(*catalogue, check=False).returncode == 0, "the operator sees that nothing is in use")
    process.kill()
    cluster.kubectl("delete", "nodes", "--all")


@pytest.fixture
def stopped(operator: OperatorProcess) -> Iterator[OperatorProcess]:
    """Nobody writes a status but the test."""
    operator.stop()
    yield operator
    if not operator.is_running():
        operator.start()


@pytest.fixture(scope="module")
def synced(operator: OperatorProcess) -> Cluster:
    """The samples, which the operator works on."""
    return operator.cluster


@pytest.fixture(scope="module")
def short(synced: Cluster) -> Cluster:
    """With a pool that takes what is left of the nodes, which is less than it ordered; one instance serves on it."""
    _sync(synced, pool("short", 1100), instance("night", pool="short"))
    shown(synced, "ModelInstance", "night", "Healthy", "1 of 1 instances are serving")
    return synced


def obj(kind: str, name: str, spec: dict[str, Any], *finalizers: str) -> dict[str, Any]:
    metadata: dict[str, Any] = {"name": name} | ({"namespace": "acme"} if kind in NAMESPACED else {})
    if finalizers:
        metadata["finalizers"] = list(finalizers)
    return {"apiVersion": "reservedcapacity.io/v1alpha1", "kind": kind, "metadata": metadata, "spec": spec}


def pool(name: str, compute_units: int, provision_by: str = "2099-01-01") -> dict[str, Any]:
    order = {"id": f"po-{name}", "computeUnits": compute_units, "term": "OneYear", "payment": "Monthly"}
    spec = {"account": "acme", "priceBookRef": "usd", "acceleratorClass": "h100-8"}
    return obj("ComputeUnitPool", name, spec | {"commitments": [order | {"provisionBy": provision_by}]})


def instance(name: str, *, pool: str, instances: int = 1) -> dict[str, Any]:
    spec = {"poolRef": pool, "offering": "gpt-3.5-turbo", "snapshot": "gpt-3.5-turbo-0125", "instances": instances}
    return obj("ModelInstance", name, spec)


def tokens(name: str) -> dict[str, Any]:
    spec = {"account": "acme", "priceBookRef": "usd", "offering": "gpt-4.1", "snapshot": "gpt-4.1-2025-04-14"}
    return obj("TokenUnitReservation", name, spec | {"units": {"input": 1, "output": 1}})


def lost(*finalizers: str) -> list[dict[str, Any]]:
    """One of each kind, whose references lead nowhere."""
    offering = _manifests("catalogue/gpt-3.5-turbo.yaml")[0]["spec"]
    offering["reserved"]["acceleratorClasses"] = ["nowhere"]
    prices = [{"offering": "nowhere", "direction": "Input", "effectiveFrom": "2025-08-01", "pricePerUnitDay": "1.00"}]
    accelerator = _manifests("accelerator-class.yaml")[0]["spec"] | {"nodeSelector": {"matchLabels": {"no": "where"}}}
    reservation, contract = tokens("lost")["spec"], pool("lost", 100)["spec"]
    return [
        obj("AcceleratorClass", "lost", accelerator, *finalizers),
        obj("ModelOffering", "lost", offering, *finalizers),
        obj("PriceBook", "lost", {"currency": "USD", "tokenUnits": prices}, *finalizers),
        obj("ComputeUnitPool", "lost", contract | {"acceleratorClass": "nowhere"}, *finalizers),
        obj("ModelInstance", "lost", instance("lost", pool="nowhere")["spec"], *finalizers),
        obj("TokenUnitReservation", "lost", reservation, *finalizers),
    ]


def live(cluster: Cluster, kind: str, name: str) -> dict[str, Any]:
    where = ("-n", "acme") if kind in NAMESPACED else ()
    found: dict[str, Any] = get(cluster, f"{kind.lower()}.reservedcapacity.io", name, *where)
    return found


def shown(cluster: Cluster, kind: str, name: str, status: str, message: str) -> dict[str, Any]:
    """Wait until Argo CD would show this health, with this in its message, which is Ready's own; the object."""

    def seen() -> dict[str, Any] | None:
        found = live(cluster, kind, name)
        health = argo.health_of(found)
        return found if health.status == status and message in health.message else None

    found = until(seen, lambda: f"{kind} {name}: {status}, {message}; but {argo.health_of(live(cluster, kind, name))}")
    ready = next(each for each in found["status"]["conditions"] if each["type"] == "Ready")
    assert argo.health_of(found).message == ready["message"]
    return dict(found)


def _manifests(path: str) -> list[dict[str, Any]]:
    return argo.parse((SAMPLES / path).read_text())


def _sync(cluster: Cluster, *objects: dict[str, Any], kustomization: Path | None = None, check: bool = True) -> int:
    """Apply as Argo CD does with ServerSideApply=true."""
    if kustomization:
        return cluster.kubectl("apply", *LIKE_ARGO, "-k", str(kustomization), check=check).returncode
    return cluster.kubectl("apply", *LIKE_ARGO, "-f", "-", input=_list(objects), check=check).returncode


def _list(objects: tuple[dict[str, Any], ...] | list[dict[str, Any]]) -> str:
    return json.dumps({"apiVersion": "v1", "kind": "List", "items": list(objects)})


def diff(cluster: Cluster, *objects: dict[str, Any]) -> str:
    """What a server-side dry run of the same manifests would change; empty: nothing."""
    done = cluster.kubectl("diff", *LIKE_ARGO, "-f", "-", input=_list(objects), check=False)
    assert done.returncode in (0, 1), done.stderr
    assert bool(done.stdout) == bool(done.returncode)
    return done.stdout


def test_what_is_fulfilled_is_healthy_with_readys_message(synced: Cluster) -> None:
    for kind, name, message in (
        ("AcceleratorClass", "h100-8", "2 nodes have the GPUs"),
        ("ModelOffering", "gpt-4-turbo", ""),
        ("PriceBook", "usd", ""),
        ("ComputeUnitPool", "prod", "600 CU are provisioned and healthy"),
        ("ModelInstance", "chat", "2 of 2 instances are serving"),
    ):
        shown(synced, kind, name, "Healthy", message)


def test_each_kind_is_progressing_when_new_degraded_when_it_leads_nowhere_and_progressing_while_it_is_deleted(
    stopped: OperatorProcess,
) -> None:
    objects = lost(HOLD)
    _sync(stopped.cluster, *objects)
    try:
        for each in objects:
            assert argo.health_of(live(stopped.cluster, each["kind"], "lost")) == UNSEEN
        stopped.start()
        for kind, message in (
            ("AcceleratorClass", "no Node has the labels no=where"),
            ("ModelOffering", "nowhere"),
            ("PriceBook", "nowhere"),
            ("ComputeUnitPool", "there is no AcceleratorClass 'nowhere'"),
            ("ModelInstance", "there is no ComputeUnitPool 'nowhere'"),
            ("TokenUnitReservation", "ComputeUnitPool provider/fleet, which does not exist: create it"),
        ):
            shown(stopped.cluster, kind, "lost", "Degraded", message)
        stopped.cluster.kubectl("delete", "-f", "-", "--wait=false", input=_list(objects))
        for each in objects:
            assert argo.health_of(live(stopped.cluster, each["kind"], "lost")) == DELETED
    finally:
        _sync(stopped.cluster, *lost())  # without the finalizer


def test_a_pool_that_waits_is_progressing_until_the_agreed_day_and_one_that_lacks_nodes_is_degraded(
    short: Cluster, operator: OperatorProcess
) -> None:
    _sync(short, pool("later", 100), instance("soon", pool="later"))
    _sync(short, pool("late", 100, "2024-03-01"), instance("overdue", pool="late"))
    shown(short, "ComputeUnitPool", "short", "Degraded", "need 1100 CU, have 1000 claimed")
    for name, waiting in (("later", "soon"), ("late", "overdue")):
        shown(short, "ComputeUnitPool", name, "Progressing", "need 100 CU, have 0 claimed")
        shown(short, "ModelInstance", waiting, "Progressing", "not all claimed on nodes yet; nothing to do")

    operator.stop()
    (operator.directory / CLOCK).write_text(str(TWO_DAYS_SECONDS))
    operator.start()
    shown(short, "ComputeUnitPool", "late", "Degraded", "need 100 CU, have 0 claimed")
    shown(short, "ModelInstance", "overdue", "Degraded", "not all claimed on nodes yet")
    shown(short, "ModelInstance", "soon", "Progressing", "not all claimed on nodes yet; nothing to do")


def test_an_instance_that_waits_for_units_or_asks_for_too_many_is_degraded_and_says_what_to_do(synced: Cluster) -> None:
    _sync(synced, *_manifests("customer/fast.yaml"), instance("huge", pool="prod", instances=7))
    waiting = shown(synced, "ModelInstance", "fast", "Degraded", "need 100 CU, have 0")
    assert "WaitingForComputeUnits" in {each["reason"] for each in waiting["status"]["conditions"]}
    failed = shown(synced, "ModelInstance", "huge", "Degraded", "need 700 CU for 7 instances")
    assert "ExceedsPool" in {each["reason"] for each in failed["status"]["conditions"]}


def test_the_actions_suspend_and_resume_an_instance_and_git_that_leaves_the_field_out_sees_no_drift(
    short: Cluster,
) -> None:
    git = instance("night", pool="short")
    for action, status, message in (
        ("suspend", "Suspended", "suspended as asked, with 1 instances held"),
        ("resume", "Healthy", "1 of 1 instances are serving"),
    ):
        before = live(short, "ModelInstance", "night")
        assert [each["name"] for each in argo.actions_of(before)] == [action]
        after = argo.acted_on(before, action)
        assert {key for key in after if after[key] != before[key]} == {"spec"}
        short.kubectl("patch", "mi", "night", "-n", "acme", "--type=merge", "-p", json.dumps({"spec": after["spec"]}))
        shown(short, "ModelInstance", "night", status, message)
        assert diff(short, git) == ""


def test_a_spec_that_the_operator_has_not_seen_is_progressing_although_it_was_ready(
    short: Cluster, stopped: OperatorProcess
) -> None:
    short.kubectl("patch", "mi", "night", "-n", "acme", "--type=merge", "-p", '{"spec": {"priority": 1}}')
    unseen = Health("Progressing", "Waiting for the operator to see the newest spec")
    assert argo.health_of(live(short, "ModelInstance", "night")) == unseen
    stopped.start()
    shown(short, "ModelInstance", "night", "Healthy", "1 of 1 instances are serving")


@pytest.mark.parametrize(
    ("conditions", "health"),
    [
        ([("Ready", "True", "Ready")], "Healthy"),
        ([("CapacityBacked", "Unknown", "FleetStarting"), ("Ready", "Unknown", "FleetStarting")], "Progressing"),
        (
            [("CapacityBacked", "False", "InsufficientCapacity"), ("Ready", "False", "InsufficientCapacity")],
            "Degraded",
        ),
        ([("ServiceLevelMet", "False", "LatencyBelow"), ("Ready", "True", "Ready")], "Healthy"),
        ([("BillingCurrent", "False", "SinkUnavailable"), ("Ready", "True", "Ready")], "Healthy"),
    ],
)
def test_a_token_reservation_is_shown_by_its_ready_condition_and_a_missed_service_level_never_degrades_it(
    stopped: OperatorProcess, conditions: list[tuple[str, str, str]], health: str
) -> None:
    """The statuses are made by hand: this version does not act on token units."""
    _sync(stopped.cluster, tokens("by-hand"))
    generation = live(stopped.cluster, "TokenUnitReservation", "by-hand")["metadata"]["generation"]
    fixed = {"lastTransitionTime": "2026-01-01T00:00:00Z", "observedGeneration": generation}
    listed = [
        {"type": type_, "status": status, "reason": reason, "message": f"{reason} of {type_}", **fixed}
        for type_, status, reason in conditions
    ]
    status = {"status": {"observedGeneration": generation, "conditions": listed}}
    patch = ("patch", "tur", "by-hand", "-n", "acme", "--subresource=status", "--type=merge", "-p", json.dumps(status))
    stopped.cluster.kubectl(*patch)
    expected = Health(health, f"{conditions[-1][2]} of Ready")
    assert argo.health_of(live(stopped.cluster, "TokenUnitReservation", "by-hand")) == expected


def test_applying_the_same_manifests_again_after_the_operator_has_settled_changes_nothing(synced: Cluster) -> None:
    shown(synced, "ModelInstance", "chat", "Healthy", "2 of 2")
    manifests = _git(synced)
    assert diff(synced, *manifests) == ""
    chat = copy.deepcopy(next(each for each in manifests if each["kind"] == "ModelInstance"))
    chat["spec"]["priority"] = 7
    assert "priority: 7" in diff(synced, chat), "the diff would show a difference"


def test_what_is_live_is_what_is_in_git_and_the_schemas_defaults_and_nothing_else(synced: Cluster) -> None:
    shown(synced, "ModelInstance", "chat", "Healthy", "2 of 2")
    checked = [each for each in _git(synced) if each["kind"] != "Namespace"]
    assert len(checked) > 15
    for wanted in checked:
        found = live(synced, wanted["kind"], wanted["metadata"]["name"])
        assert found["spec"] == _defaulted(wanted["spec"], _schema(wanted["kind"]))
        servers_own = {"uid", "resourceVersion", "generation", "creationTimestamp"}
        assert {key: value for key, value in found["metadata"].items() if key not in servers_own} == wanted["metadata"]
        assert found["metadata"]["generation"] == 1, "nobody has written the spec since"


def _git(cluster: Cluster) -> list[dict[str, Any]]:
    return argo.parse(cluster.kubectl("kustomize", str(SAMPLES)).stdout)


def _schema(kind: str) -> dict[str, Any]:
    crds = [argo.load(path) for path in (CHECKOUT / "crds").glob("reservedcapacity.io_*.yaml")]
    crd = next(each for each in crds if each["spec"]["names"]["kind"] == kind)
    schema: dict[str, Any] = crd["spec"]["versions"][0]["schema"]["openAPIV3Schema"]["properties"]["spec"]
    return schema


def _defaulted(value: Any, schema: dict[str, Any]) -> Any:
    """The value as the API server stores it: with the defaults of the CRD's schema."""
    if isinstance(value, list):
        return [_defaulted(each, schema["items"]) for each in value]
    if not isinstance(value, dict):
        return value
    known = schema.get("properties", {})
    filled = {name: each["default"] for name, each in known.items() if "default" in each} | value
    return {name: _defaulted(each, known.get(name, {})) for name, each in filled.items()}


def test_what_argo_cd_marks_an_instance_with_is_on_none_of_its_children(short: Cluster) -> None:
    marked = instance("marked", pool="short")
    marks = {"argocd.argoproj.io/tracking-id": "acme-instances:reservedcapacity.io/ModelInstance:acme/marked"}
    marked["metadata"] |= {"annotations": marks, "labels": {"app.kubernetes.io/instance": "acme-instances"}}
    _sync(short, marked)
    shown(short, "ModelInstance", "marked", "Healthy", "1 of 1")
    kinds = "statefulsets,services,poddisruptionbudgets,controllerrevisions,pods"
    children = get(short, kinds, "-n", "acme", "-l", "reservedcapacity.io/instance=marked")["items"]
    assert {each["kind"] for each in children} >= {"StatefulSet", "Service", "Pod"}
    for child in children:
        keys = {*child["metadata"].get("annotations", {}), *child["metadata"].get("labels", {})}
        assert not [key for key in keys if "argoproj" in key or key == "app.kubernetes.io/instance"]


@pytest.mark.parametrize(
    ("application", "kinds"),
    [
        ("crds", {"CustomResourceDefinition"}),
        ("catalogue", {"AcceleratorClass", "ModelOffering", "PriceBook"}),
        ("acme-pools", {"Namespace", "ComputeUnitPool"}),
        ("acme-instances", {"ModelInstance"}),
    ],
)
def test_each_application_builds_what_it_is_for_with_its_deletion_guards(
    cluster: Cluster, tmp_path: Path, application: str, kinds: set[str]
) -> None:
    source = argo.load(ARGOCD / f"applications/{application}.yaml")["spec"]["source"]
    kustomization = {"resources": [os.path.relpath(CHECKOUT / source["path"], tmp_path)], **source["kustomize"]}
    (tmp_path / "kustomization.yaml").write_text(json.dumps(kustomization))
    built = argo.parse(cluster.kubectl("kustomize", str(tmp_path)).stdout)
    assert {each["kind"] for each in built} == kinds
    wanted = source["kustomize"].get("commonAnnotations", {})
    assert all(wanted.items() <= each["metadata"].get("annotations", {}).items() for each in built)


def test_the_patch_leaves_the_rest_of_argocd_cm_alone_and_carries_the_scripts_as_they_are(synced: Cluster) -> None:
    synced.kubectl("create", "namespace", "argocd")
    synced.kubectl("create", "configmap", "argocd-cm", "-n", "argocd", "--from-literal=url=https://argocd.example")
    patch = ("patch", "configmap", "argocd-cm", "-n", "argocd", "--patch-file", str(ARGOCD / "argocd-cm-patch.yaml"))
    synced.kubectl(*patch)
    data = get(synced, "configmap", "argocd-cm", "-n", "argocd")["data"]
    assert data["url"] == "https://argocd.example"
    script = argo.GROUP / "ModelInstance/health.lua"
    assert data["resource.customizations.health.reservedcapacity.io_ModelInstance"] == script.read_text()


def test_the_kustomize_component_patches_an_argo_cd_installation(cluster: Cluster, tmp_path: Path) -> None:
    config_map = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "argocd-cm", "namespace": "argocd"}}
    (tmp_path / "argocd.json").write_text(json.dumps(config_map | {"data": {"url": "https://argocd.example"}}))
    kustomization = {"resources": ["argocd.json"], "components": [os.path.relpath(ARGOCD, tmp_path)]}
    (tmp_path / "kustomization.yaml").write_text(json.dumps(kustomization))
    built = argo.parse(cluster.kubectl("kustomize", str(tmp_path)).stdout)
    assert len(built) == 1
    assert built[0]["data"]["url"] == "https://argocd.example"
    assert "resource.customizations.actions.reservedcapacity.io_ModelInstance" in built[0]["data"]
