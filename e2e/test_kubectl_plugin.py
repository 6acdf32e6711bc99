"""`kubectl reserved` against a real API server, found and run by kubectl as its plugin.

The statuses are patched in, as the operator would write them; no operator runs here.
"""

from __future__ import annotations

import json
import os
import pty
import select
import subprocess
import sys
import time
import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import yaml

from e2e import admission
from e2e.cluster.kubectl import Kubectl
from e2e.cluster.lifecycle import Cluster
from e2e.waiting import PATIENCE_SECONDS, until

pytestmark = pytest.mark.cluster

Document = dict[str, Any]

NEED = "need 100 CU, have 0 idle in pool prod: scale another instance down, or add a commitment"
SINCE = "2026-03-01T02:46:00Z"
BIN = Path(sys.executable).parent


@dataclass(frozen=True)
class Plugin:
    """The plugin as a user of one kubeconfig runs it."""

    kubectl: Kubectl
    kubeconfig: Path
    namespace: str

    def __call__(self, *arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [str(self.kubectl.binary), "reserved", *arguments],
            env=self.environment(**environment),
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )

    def environment(self, **more: str) -> dict[str, str]:
        base = {"PATH": f"{BIN}:{os.environ['PATH']}", "HOME": os.environ.get("HOME", "/"), "LANG": "C.UTF-8"}
        return base | {"KUBECONFIG": str(self.kubeconfig), "COLUMNS": "80"} | more

    def says(self, *arguments: str, **environment: str) -> str:
        done = self(*arguments, **environment)
        assert done.returncode == 0, done.stderr
        assert done.stderr == ""
        return done.stdout

    def fails(self, *arguments: str, code: int = 1) -> str:
        done = self(*arguments)
        assert done.returncode == code, done.stdout + done.stderr
        assert done.stdout == ""
        return done.stderr


@pytest.fixture(scope="module")
def installed(cluster: Cluster) -> Kubectl:
    return admission.install(cluster.kubectl)


@pytest.fixture(scope="module")
def plugin(installed: Kubectl, cluster: Cluster) -> Iterator[Plugin]:
    """A namespace of its own with a pool that is full, `chat` that serves and `fast` that waits."""
    name = f"plugin-{uuid.uuid4().hex[:6]}"
    assert cluster.kubeconfig is not None
    installed("create", "namespace", name)
    try:
        for document in _documents(name):
            status = document.pop("status")
            _apply(installed, document)
            kind, own = document["kind"], document["metadata"]["name"]
            place = ("--namespace", name) if "namespace" in document["metadata"] else ()
            patch = json.dumps({"status": status})
            installed("patch", kind, own, *place, "--subresource=status", "--type=merge", "-p", patch)
        yield Plugin(installed, cluster.kubeconfig, name)
    finally:
        # A pool that runs is not deleted before its namespace is.
        installed("delete", "namespace", name, "--wait=false")
        installed("delete", "acceleratorclass", name, "--wait=false", "--ignore-not-found")


def test_status_shows_pool_nodes_instances_members_and_the_whole_reason(plugin: Plugin) -> None:
    shown = plugin.says("status", "-n", plugin.namespace)
    assert "✗ Somebody has to act on mi/fast (WaitingForComputeUnits)" in shown
    assert "■ 600 allocated   0 releasing   0 idle   0 unhealthy" in shown
    assert "po-10023-1  600          600  OneYear  Active  2026-02-02   2027-02-02" in shown
    assert "6 ours: chat-0 3, chat-1 3" in shown
    assert "chat-1  Available" in shown
    assert "".join(NEED.split()) in "".join(shown.split())
    assert "→ Scale another instance down or add a commitment to the pool." in shown
    assert f"\n{plugin.namespace}      2      2         0       0  1600      600  1000          0\n" in shown
    assert max(map(len, shown.splitlines())) <= 80
    assert "\x1b" not in shown


@pytest.mark.parametrize("columns", [80, 120, 160])
def test_no_line_is_wider_than_the_terminal(plugin: Plugin, columns: int) -> None:
    for arguments in (("status",), ("why", "mi/fast"), ("why", "cup/prod"), ("why", "modeloffering/gpt-3.5-turbo")):
        done = plugin(*arguments, "-n", plugin.namespace, COLUMNS=str(columns))
        assert all(len(line) <= columns for line in done.stdout.splitlines()), done.stdout


def test_status_of_all_namespaces_and_of_one_pool(plugin: Plugin) -> None:
    assert f"POOL {plugin.namespace}/prod" in plugin.says("status", "-A")
    assert "POOL prod" in plugin.says("status", "prod", "-n", plugin.namespace)
    assert "Did you mean prod?" in plugin.fails("status", "prodd", "-n", plugin.namespace)


def test_an_empty_namespace_says_where_the_pools_are(plugin: Plugin) -> None:
    shown = plugin.says("status", "-n", "kube-public", COLUMNS="200")
    assert "There is no ComputeUnitPool here." in shown
    assert plugin.namespace in shown


def test_json_and_yaml_hold_what_the_screen_shows(plugin: Plugin) -> None:
    document = json.loads(plugin.says("status", "-n", plugin.namespace, "-o", "json"))
    [pool] = document["pools"]
    assert [(each["name"], each["verdict"]["ready"]) for each in pool["instances"]] == [
        ("chat", "True"),
        ("fast", "False"),
    ]
    explained = yaml.safe_load(plugin.says("why", "mi/fast", "-n", plugin.namespace, "-o", "yaml"))
    assert [link["type"] for link in explained["chain"] if link["decides"]] == ["CapacityReserved"]


def test_why_begins_with_one_clear_sentence_and_ends_with_who_holds_the_blocks(plugin: Plugin) -> None:
    shown = plugin.says("why", "mi/fast", "-n", plugin.namespace, COLUMNS="160")
    assert shown.startswith(
        f"✗ ModelInstance {plugin.namespace}/fast is not Ready, and somebody has to act (WaitingForComputeUnits): "
        "the pool has too few idle compute units.\n"
    )
    assert f"Now        {NEED}\n" in shown
    assert "CapacityReserved  False   WaitingForComputeUnits  this decides, see above" in shown
    assert "chat-0 3, chat-1 3" in shown
    assert "chat             0        2     2          2  600  Ready" in shown


def test_events_about_the_object_are_shown(plugin: Plugin) -> None:
    _apply(
        plugin.kubectl,
        {
            "apiVersion": "events.k8s.io/v1",
            "kind": "Event",
            "metadata": {"name": "fast.1", "namespace": plugin.namespace},
            "eventTime": "2026-03-01T02:50:00.000000Z",
            "type": "Warning",
            "reason": "Waiting",
            "note": "no block is idle",
            "action": "Reserve",
            "reportingController": "reserved-capacity",
            "reportingInstance": "test",
            "regarding": {
                "apiVersion": "reservedcapacity.io/v1alpha1",
                "kind": "ModelInstance",
                "name": "fast",
                "namespace": plugin.namespace,
            },
        },
    )
    shown = plugin.says("why", "mi/fast", "-n", plugin.namespace, COLUMNS="160")
    assert "Warning  Waiting  modelinstance/fast  no block is idle" in shown


def test_what_is_not_there_is_refused_with_what_is_near(plugin: Plugin) -> None:
    assert "Did you mean chat?" in plugin.fails("why", "mi/chta", "-n", plugin.namespace)
    elsewhere = plugin.fails("why", "mi/fast", "-n", "kube-public")
    assert "There is one in namespace" in elsewhere
    assert plugin.namespace in elsewhere
    assert "there is no kind 'pod'" in plugin.fails("why", "pod/x")
    assert "is not KIND/NAME" in plugin.fails("why", "chat", code=2)
    assert "no context 'nowhere'" in plugin.fails("status", "--context", "nowhere")


def test_a_server_that_is_not_there_is_named(plugin: Plugin, tmp_path: Path) -> None:
    config = _kubeconfig(tmp_path / "config", {"server": "https://127.0.0.1:1"}, {"token": "x"})
    message = plugin.fails("status", "--kubeconfig", str(config))
    assert message == "kubectl reserved: cannot reach the API server https://127.0.0.1:1: connection refused\n"


def test_a_tenant_sees_the_namespace_and_is_told_what_the_role_leaves_out(plugin: Plugin, tmp_path: Path) -> None:
    kubectl, namespace = plugin.kubectl, plugin.namespace
    kubectl("create", "serviceaccount", "tenant", "-n", namespace)
    stranger = _as(plugin, "tenant", tmp_path / "stranger")
    assert plugin.fails("status", "-n", namespace, "--kubeconfig", str(stranger)) == (
        f"kubectl reserved: you may not list computeunitpools.reservedcapacity.io in namespace {namespace}: ask for a role "
        "with the verb list on it, for example the ClusterRole reserved-capacity-viewer\n"
    )
    kubectl(
        "create", "rolebinding", "tenant", "-n", namespace,
        "--clusterrole=reserved-capacity-viewer", f"--serviceaccount={namespace}:tenant",
    )  # fmt: skip

    def status() -> str:
        done = plugin("status", "-n", namespace, "--kubeconfig", str(stranger), COLUMNS="160")
        return done.stdout if done.returncode == 0 else ""

    shown = until(status, "the authorizer learns of the binding")
    assert "mi/fast (WaitingForComputeUnits)" in shown
    assert "Not looked at, since you may not list them: nodes, pods, acceleratorclasses.reservedcapacity.io." in shown


def test_watching_a_terminal_redraws_when_something_changes(plugin: Plugin) -> None:
    controller, terminal = pty.openpty()
    command = [str(plugin.kubectl.binary), "reserved", "status", "-w", "-n", plugin.namespace]
    environment = plugin.environment(TERM="xterm-256color", LINES="60")
    with subprocess.Popen(command, env=environment, stdin=terminal, stdout=terminal, stderr=terminal) as process:
        os.close(terminal)
        try:
            _read_until(controller, "WaitingForComputeUnits")
            message = {"conditions": _conditions("Fragmented", "no node has room for one instance")}
            patch = json.dumps({"status": message})
            plugin.kubectl(
                "patch", "mi", "fast", "-n", plugin.namespace, "--subresource=status", "--type=merge", "-p", patch
            )
            _read_until(controller, "mi/fast (Fragmented)")
        finally:
            process.terminate()
            os.close(controller)


# ------------------------------------------------------------------------------------------------------------- helpers


def _documents(namespace: str) -> list[Document]:
    labels = {"matchLabels": {"plugin-test": namespace}}
    shape = {"gpuResource": "nvidia.com/gpu", "gpusPerNode": 8, "computeUnitsPerNode": 800}
    ready = [_condition("Ready", "True", "Ready", "2 nodes have the GPUs that the class promises")]
    class_status = {
        "observedGeneration": 1,
        "nodes": {"total": 2, "ready": 2},
        "computeUnits": {"total": 1600, "claimed": 600, "free": 1000},
        "conditions": ready,
    }
    order = {"id": "po-10023-1", "computeUnits": 600, "term": "OneYear", "provisionBy": "2026-03-01"}
    pool = {"account": namespace, "priceBookRef": "usd", "acceleratorClass": namespace, "commitments": [order]}
    return [
        _document("AcceleratorClass", namespace, "", {"nodeSelector": labels, **shape}, class_status),
        _document("ComputeUnitPool", "prod", namespace, pool, _pool_status()),
        _document("ModelInstance", "chat", namespace, _instance_spec("gpt-4-turbo", 2), _chat_status()),
        _document("ModelInstance", "fast", namespace, _instance_spec("gpt-3.5-turbo", 1), _fast_status()),
    ]


def _document(kind: str, name: str, namespace: str, spec: Document, status: Document) -> Document:
    metadata = {"name": name} | ({"namespace": namespace} if namespace else {})
    return {
        "apiVersion": admission.API_VERSION,
        "kind": kind,
        "metadata": metadata,
        "spec": spec,
        "status": {"observedGeneration": 1, **status},
    }


def _instance_spec(offering: str, instances: int) -> Document:
    return {"poolRef": "prod", "offering": offering, "snapshot": f"{offering}-1", "instances": instances}


def _pool_status() -> Document:
    record = {
        "id": "po-10023-1",
        "state": "Active",
        "acceptedAt": "2026-02-01T00:00:00Z",
        "provisionedComputeUnits": 600,
        "billingStart": "2026-02-02T00:00:00Z",
        "termEnd": "2027-02-02T00:00:00Z",
    }
    holdings = [
        {"instance": "chat", "member": f"chat-{n}", "computeUnits": 300, "nodes": ["gpu-1"], "since": SINCE}
        for n in range(2)
    ]
    return {
        "phase": "Active",
        "computeUnits": {"contracted": 600, "provisioned": 600, "usable": 600, "allocated": 600},
        "nodesTotal": 1,
        "nodes": [{"name": "gpu-1", "blocks": 6, "state": "Held", "holders": ["chat-0", "chat-1"]}],
        "commitments": [record],
        "holdings": holdings,
        "conditions": [_condition("Ready", "True", "Ready", "600 CU are provisioned and healthy")],
    }


def _chat_status() -> Document:
    members = [
        {"name": f"chat-{n}", "phase": "Available", "nodes": ["gpu-1"], "since": SINCE, "snapshot": "gpt-4-turbo-1"}
        for n in range(2)
    ]
    return {
        "phase": "Ready",
        "instances": {"desired": 2, "held": 2, "available": 2},
        "computeUnits": 600,
        "members": members,
        "conditions": [_condition("Ready", "True", "Ready", "2 of 2 instances are serving")],
    }


def _fast_status() -> Document:
    return {
        "phase": "Blocked",
        "instances": {"desired": 1},
        "conditions": _conditions("WaitingForComputeUnits", NEED),
    }


def _conditions(reason: str, message: str) -> list[Document]:
    return [
        _condition("Accepted", "True", "Accepted", "this spec can be acted on"),
        _condition("CapacityReserved", "False", reason, message),
        _condition("Available", "False", "NoMember", "0 of 1 instances are serving"),
        _condition("Ready", "False", reason, message),
    ]


def _condition(type_: str, status: str, reason: str, message: str) -> Document:
    return {
        "type": type_,
        "status": status,
        "reason": reason,
        "message": message,
        "lastTransitionTime": SINCE,
        "observedGeneration": 1,
    }


def _apply(kubectl: Kubectl, document: Document) -> None:
    kubectl("apply", "--server-side", "-f", "-", input=json.dumps(document))


def _as(plugin: Plugin, account: str, file: Path) -> Path:
    """A kubeconfig for a service account of the namespace."""
    token = plugin.kubectl("create", "token", account, "-n", plugin.namespace).stdout.strip()
    view = json.loads(plugin.kubectl("config", "view", "--raw", "--minify", "-o", "json").stdout)
    return _kubeconfig(file, view["clusters"][0]["cluster"], {"token": token})


def _kubeconfig(file: Path, cluster: Document, user: Document) -> Path:
    document = {
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [{"name": "c", "cluster": cluster}],
        "users": [{"name": "u", "user": user}],
        "contexts": [{"name": "x", "context": {"cluster": "c", "user": "u"}}],
        "current-context": "x",
    }
    file.write_text(json.dumps(document), encoding="utf-8")
    file.chmod(0o600)
    return file


def _read_until(terminal: int, words: str, seconds: float = PATIENCE_SECONDS) -> None:
    seen = b""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if select.select([terminal], [], [], 0.5)[0]:
            seen += os.read(terminal, 65536)
        if words.encode() in seen:
            return
    pytest.fail(f"{words!r} was not drawn within {seconds:.0f} s: {seen.decode(errors='replace')[-2000:]}")
