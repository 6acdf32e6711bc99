"""What the chart renders, without a cluster: Helm's own checks, every switch, and the refusals."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from e2e.tools.binaries import HELM, HELM_3, KUBECONFORM
from e2e.tools.helm import CHART, RELEASE, Helm, HelmError
from e2e.tools.schemas import Kubeconform
from reserved_capacity.settings import BILLING_TOKEN_VARIABLE, DATABASE_URL_VARIABLE

Documents = list[dict[str, Any]]

NAMESPACE = "capacity-system"
OLDEST, NEWEST = "1.33", "1.36"
POSTGRESQL = "--set=database.existingSecret.name=db"
PROMETHEUS = "--api-versions=monitoring.coreos.com/v1"
VARIANTS = {
    "default": (),
    "highly available": (POSTGRESQL, "--set=replicas=2"),
    "url in the values": ("--set=database.url=postgresql://u:p@db:5432/rc",),
    "everything set": (
        "--set=billingUrl=https://billing.example/events",
        "--set=billingTokenSecret.name=billing",
        "--set=prometheusUrl=http://prometheus:9090",
        "--set=podLabels.team=x",
        "--set=podAnnotations.note=x",
        "--set=nodeSelector.pool=system",
        "--set=tolerations[0].operator=Exists",
        "--set=priorityClassName=system-cluster-critical",
        "--set=imagePullSecrets[0].name=pull",
        "--set=serviceAccount.annotations.a=b",
        "--set=crds.annotations.a=b",
        "--set=persistence.storageClass=fast",
        "--set=networkPolicy.apiServer.to[0].ipBlock.cidr=10.0.0.1/32",
        "--set=networkPolicy.metricsFrom[0].namespaceSelector.matchLabels.name=monitoring",
    ),
    "as little as possible": (
        "--set=crds.install=false",
        "--set=userRoles.enabled=false",
        "--set=networkPolicy.enabled=false",
        "--set=serviceAccount.create=false",
        "--set=serviceAccount.name=mine",
        "--set=persistence.enabled=false",
    ),
}


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("helm")


@pytest.fixture(scope="module")
def helm(home: Path) -> Helm:
    return Helm(HELM.binary(), home)


def rendered(helm: Helm, *flags: str) -> Documents:
    return helm.template(f"--kube-version={NEWEST}.0", *flags, namespace=NAMESPACE)


def of_kind(documents: Documents, kind: str) -> Documents:
    return [document for document in documents if document["kind"] == kind]


def the(documents: Documents, kind: str) -> dict[str, Any]:
    (found,) = of_kind(documents, kind)
    return found


def container(documents: Documents) -> dict[str, Any]:
    (only,) = the(documents, "Deployment")["spec"]["template"]["spec"]["containers"]
    found: dict[str, Any] = only
    return found


def refusal(helm: Helm, *flags: str) -> str:
    with pytest.raises(HelmError) as refused:
        rendered(helm, *flags)
    return str(refused.value)


@pytest.mark.parametrize("version", [3, 4])
def test_lint_finds_nothing(helm: Helm, home: Path, version: int) -> None:
    chosen = helm if version == 4 else Helm(HELM_3.binary(), home)
    assert "0 chart(s) failed" in chosen("lint", "--strict", str(CHART))


@pytest.mark.parametrize("variant", VARIANTS)
def test_helm_3_and_4_render_the_same(helm: Helm, home: Path, variant: str) -> None:
    flags = VARIANTS[variant]
    assert rendered(Helm(HELM_3.binary(), home), *flags) == rendered(helm, *flags)


def test_the_oldest_kubernetes_knows_every_field(helm: Helm, home: Path) -> None:
    """The newest one is asked itself: test_chart.py. All variants in one run, because kubeconform's start is what costs."""
    documents: Documents = []
    for flags in VARIANTS.values():
        documents += [document for document in rendered(helm, *flags) if document not in documents]
    assert Kubeconform(KUBECONFORM.binary(), OLDEST, home / "schemas").problems(documents) == []


def test_kubeconform_would_say_so(helm: Helm, home: Path) -> None:
    document = the(rendered(helm), "Service") | {"spec": {"prots": []}}
    (problem,) = Kubeconform(KUBECONFORM.binary(), OLDEST, home / "schemas").problems([document])
    assert "prots" in problem


# --- Refusals


def test_more_replicas_need_postgresql_and_an_election(helm: Helm) -> None:
    said = refusal(helm, "--set=replicas=2")
    assert "replicas is 2 and the database is SQLite" in said
    assert "database.existingSecret.name" in said
    assert "leaderElection is false" in refusal(helm, "--set=replicas=2", POSTGRESQL, "--set=leaderElection=false")


@pytest.mark.parametrize(
    ("flags", "said"),
    [
        (["database.url=postgresql://db/rc", "database.existingSecret.name=db"], "are both set"),
        (["billingTokenSecret.name=billing"], "the token would be sent nowhere; set billingUrl"),
        (["serviceAccount.create=false"], "give the account that exists in serviceAccount.name"),
        (["ports.probes=9090"], "are both 9090"),
        (["persistence.enabled=false", "persistence.existingClaim=mine"], "the claim would not be used"),
        (["replica=2"], "additional properties 'replica' not allowed"),
        (["image.sha=x"], "additional properties 'sha' not allowed"),
        (["image.digest=latest"], "'/image/digest'"),
        (["database.url=mysql://db/rc"], "'/database/url'"),
        (["billingUrl=billing.example"], "'/billingUrl'"),
        (["replicas=many"], "'/replicas'"),
        (["persistence.size=big"], "'/persistence/size'"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_what_cannot_work_is_refused_with_the_reason(helm: Helm, flags: list[str], said: str) -> None:
    assert said in refusal(helm, *(f"--set={flag}" for flag in flags))


def test_an_old_kubernetes_is_refused(helm: Helm) -> None:
    with pytest.raises(HelmError, match="incompatible with Kubernetes"):
        helm.template("--kube-version=1.32.9")
    assert helm.template("--kube-version=1.33.5-gke.1080000")


# --- The workload


def test_sqlite_has_one_pod_at_a_time_and_a_volume_that_stays(helm: Helm) -> None:
    documents = rendered(helm)
    spec = the(documents, "Deployment")["spec"]
    assert (spec["replicas"], spec["strategy"]) == (1, {"type": "Recreate"})
    claim = the(documents, "PersistentVolumeClaim")
    assert claim["metadata"]["annotations"] == {"helm.sh/resource-policy": "keep"}
    assert "storageClassName" not in claim["spec"]
    (volume,) = (volume for volume in spec["template"]["spec"]["volumes"] if volume["name"] == "data")
    assert volume["persistentVolumeClaim"] == {"claimName": claim["metadata"]["name"]}
    (url,) = (flag for flag in container(documents)["args"] if flag.startswith("--database-url="))
    (mount,) = (mount for mount in container(documents)["volumeMounts"] if mount["name"] == "data")
    assert url.startswith(f"--database-url=sqlite:///{mount['mountPath']}/")
    assert of_kind(documents, "PodDisruptionBudget") == []


def test_an_existing_claim_is_used_and_none_is_made(helm: Helm) -> None:
    documents = rendered(helm, "--set=persistence.existingClaim=mine")
    assert of_kind(documents, "PersistentVolumeClaim") == []
    assert {"claimName": "mine"} in [
        volume.get("persistentVolumeClaim")
        for volume in the(documents, "Deployment")["spec"]["template"]["spec"]["volumes"]
    ]


def test_postgresql_has_no_volume_rolls_and_is_guarded_by_a_budget(helm: Helm) -> None:
    documents = rendered(helm, *VARIANTS["highly available"])
    spec = the(documents, "Deployment")["spec"]
    assert spec["strategy"]["type"] == "RollingUpdate"
    assert of_kind(documents, "PersistentVolumeClaim") + of_kind(documents, "Secret") == []
    assert not [argument for argument in container(documents)["args"] if "database" in argument.lower()]
    (variable,) = container(documents)["env"]
    assert variable["name"] == DATABASE_URL_VARIABLE
    assert variable["valueFrom"]["secretKeyRef"] == {"name": "db", "key": "url"}
    budget = the(documents, "PodDisruptionBudget")["spec"]
    assert budget["unhealthyPodEvictionPolicy"] == "AlwaysAllow"
    assert budget["selector"] == spec["selector"]


def test_a_password_in_the_values_is_in_a_secret_and_nowhere_else(helm: Helm) -> None:
    documents = rendered(helm, "--set=database.url=postgresql://u:hunter2@db:5432/rc")
    holding = [document["kind"] for document in documents if "hunter2" in str(document)]
    assert holding == ["Secret"]
    reference = container(documents)["env"][0]["valueFrom"]["secretKeyRef"]
    assert reference == {"name": the(documents, "Secret")["metadata"]["name"], "key": "url"}


@pytest.mark.parametrize("database", [(), (POSTGRESQL,)], ids=["SQLite", "PostgreSQL"])
def test_the_token_for_billing_comes_from_a_secret(helm: Helm, database: tuple[str, ...]) -> None:
    told = ("--set=billingUrl=https://billing.example/events", "--set=billingTokenSecret.name=billing")
    for more, key in (((), "token"), (("--set=billingTokenSecret.key=openmeter",), "openmeter")):
        env = container(rendered(helm, *told, *database, *more))["env"]
        assert [each["name"] for each in env] == [
            *([DATABASE_URL_VARIABLE] if database else []),
            BILLING_TOKEN_VARIABLE,
        ]
        assert env[-1]["valueFrom"]["secretKeyRef"] == {"name": "billing", "key": key}


def test_without_a_password_there_is_no_environment(helm: Helm) -> None:
    assert "env" not in container(rendered(helm, "--set=billingUrl=https://billing.example/events"))


def test_every_flag_of_the_operator_is_a_value(helm: Helm) -> None:
    documents = rendered(helm, *VARIANTS["everything set"])
    arguments = container(documents)["args"]
    assert arguments[0] == "run"
    assert {argument.partition("=")[0] for argument in arguments[1:]} == {
        "--namespace",
        "--leader-elect",
        "--metrics-port",
        "--probe-port",
        "--database-url",
        "--billing-url",
        "--prometheus-url",
        "--pull-image",
    }
    assert f"--namespace={NAMESPACE}" in arguments
    ports = {port["name"]: port["containerPort"] for port in container(documents)["ports"]}
    assert (f"--metrics-port={ports['metrics']}" in arguments, f"--probe-port={ports['probes']}" in arguments) == (
        True,
        True,
    )


def test_the_pod_is_restricted(helm: Helm) -> None:
    documents = rendered(helm)
    pod = the(documents, "Deployment")["spec"]["template"]["spec"]
    assert pod["securityContext"]["runAsUser"] == 65532
    assert pod["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
    assert container(documents)["securityContext"] == {
        "allowPrivilegeEscalation": False,
        "readOnlyRootFilesystem": True,
        "runAsNonRoot": True,
        "capabilities": {"drop": ["ALL"]},
    }
    assert pod["terminationGracePeriodSeconds"] == 30
    assert container(documents)["livenessProbe"]["httpGet"] == {"path": "/livez", "port": "probes"}
    assert container(documents)["readinessProbe"]["httpGet"] == {"path": "/readyz", "port": "probes"}


def test_a_digest_wins_over_a_tag(helm: Helm) -> None:
    digest = "sha256:" + "a" * 64
    assert container(rendered(helm))["image"] == "reserved-capacity:0.1.0"
    flags = ("--set=image.repository=example/rc", "--set=image.tag=v1", f"--set=image.digest={digest}")
    assert container(rendered(helm, *flags))["image"] == f"example/rc@{digest}"


# --- Around it


def test_the_policies_bind_the_releases_account(helm: Helm) -> None:
    documents = rendered(helm, "--set=serviceAccount.name=op")
    bound = [
        condition["expression"]
        for policy in of_kind(documents, "ValidatingAdmissionPolicy")
        for condition in policy["spec"].get("matchConditions", [])
        if condition["name"] == "by-the-operator"
    ]
    assert bound == [f"request.userInfo.username == 'system:serviceaccount:{NAMESPACE}:op'"] * 2
    subjects = [
        subject for kind in ("ClusterRoleBinding", "RoleBinding") for subject in the(documents, kind)["subjects"]
    ]
    assert subjects == [{"kind": "ServiceAccount", "name": "op", "namespace": NAMESPACE}] * 2


def test_what_outlives_an_uninstallation(helm: Helm) -> None:
    def kept(*flags: str) -> set[str]:
        documents = rendered(helm, *flags)
        key = "helm.sh/resource-policy"
        return {
            f"{document['kind']}/{document['metadata']['name']}"
            for document in documents
            if key in document["metadata"].get("annotations", {})
        }

    policies = {
        f"{kind}/reserved-capacity-{name}"
        for kind in ("ValidatingAdmissionPolicy", "ValidatingAdmissionPolicyBinding")
        for name in ("buying", "crd-deletion", "offering-deletion", "pool-deletion", "token-deletion")
    }
    crds = {
        f"CustomResourceDefinition/{item['metadata']['name']}"
        for item in of_kind(rendered(helm), "CustomResourceDefinition")
    }
    assert len(crds) == 6
    assert kept() == policies | crds | {"PersistentVolumeClaim/reserved-capacity-data"}
    assert kept("--set=crds.keep=false") == {"PersistentVolumeClaim/reserved-capacity-data"}


def test_the_network_policy_lets_in_two_ports_and_out_what_is_configured(helm: Helm) -> None:
    def ports(documents: Documents, direction: str) -> list[object]:
        rules = the(documents, "NetworkPolicy")["spec"][direction]
        return [port["port"] for rule in rules for port in rule.get("ports", ())]

    plain = rendered(helm)
    assert ports(plain, "ingress") == ["metrics", "probes"]
    assert ports(plain, "egress") == [443, 6443, 53, 53]
    full = rendered(helm, *VARIANTS["everything set"], POSTGRESQL)
    assert ports(full, "egress") == [443, 6443, 53, 53, 5432, 80, 443, 80, 443, 9090]
    first = the(full, "NetworkPolicy")["spec"]["egress"][0]
    assert first["to"] == [{"ipBlock": {"cidr": "10.0.0.1/32"}}]
    (unlimited,) = [rule for rule in the(plain, "NetworkPolicy")["spec"]["egress"] if "ports" not in rule]
    members = {"podSelector": {"matchLabels": {"app.kubernetes.io/managed-by": "reserved-capacity"}}}
    assert unlimited["to"] == [{"namespaceSelector": {}, **members}], "only members may be asked for their counters"
    open_ = the(rendered(helm, "--set=networkPolicy.restrictEgress=false"), "NetworkPolicy")["spec"]
    assert open_["policyTypes"] == ["Ingress"]
    assert "egress" not in open_


def test_monitoring_is_made_where_its_crds_are(helm: Helm) -> None:
    assert of_kind(rendered(helm), "ServiceMonitor") == []
    documents = rendered(helm, PROMETHEUS, "--set=monitoring.serviceMonitor.labels.release=prometheus")
    monitor = the(documents, "ServiceMonitor")
    assert monitor["metadata"]["labels"]["release"] == "prometheus"
    service = the(documents, "Service")
    labels = service["metadata"]["labels"]
    assert monitor["spec"]["selector"]["matchLabels"].items() <= labels.items()
    assert monitor["spec"]["endpoints"][0]["port"] in {port["name"] for port in service["spec"]["ports"]}
    assert of_kind(rendered(helm, PROMETHEUS, "--set=monitoring.serviceMonitor.enabled=false"), "ServiceMonitor") == []


def test_the_alerts_are_in_a_rule_with_your_runbooks_and_the_releases_namespace(helm: Helm) -> None:
    written = yaml.safe_load((CHART / "files/alerts.yaml").read_text())["groups"]
    rule = the(rendered(helm, PROMETHEUS), "PrometheusRule")
    assert str(rule["spec"]["groups"]) == str(written).replace("-n reserved-capacity", f"-n {NAMESPACE}")
    flags = (PROMETHEUS, "--set=monitoring.prometheusRule.runbookBaseUrl=https://books.example/rc/")
    links = [
        alert["annotations"]["runbook_url"]
        for group in the(rendered(helm, *flags), "PrometheusRule")["spec"]["groups"]
        for alert in group["rules"]
        if "alert" in alert
    ]
    assert links
    assert all(link.startswith("https://books.example/rc/docs/runbooks/") for link in links)
    assert of_kind(rendered(helm, PROMETHEUS, "--set=monitoring.prometheusRule.enabled=false"), "PrometheusRule") == []


def test_the_notes_warn_of_an_image_without_a_registry_and_of_no_persistence(helm: Helm) -> None:
    # `helm template` leaves the notes out; an install that is only tried shows them.
    def notes(*flags: str) -> str:
        return helm("install", RELEASE, str(CHART), "--dry-run=client", "--namespace", NAMESPACE, *flags).split(
            "NOTES:"
        )[1]

    assert "no registry has it" in notes()
    assert "PERSISTENCE IS OFF" in notes("--set=persistence.enabled=false")
    assert "no registry has it" not in notes("--set=image.repository=registry.example/rc")
