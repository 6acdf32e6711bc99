"""The local control plane itself: what `make cluster` promises."""

from __future__ import annotations

import json
import os
import re
import signal
import socket
import stat
import subprocess
import sys
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from e2e.cluster import audit, build, lifecycle, localplane, nodes, processes
from e2e.cluster.lifecycle import Cluster
from e2e.cluster.state import CHECKOUT, ClusterDir, ClusterError
from e2e.waiting import until

pytestmark = pytest.mark.cluster


@pytest.fixture
def state(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[ClusterDir]:
    """The directory of a cluster that the test starts and stops itself."""
    for module in (build.CONTROL_PLANE, build.KWOK):
        build.ensure(module)  # here, where it does not count against the timeout of the test
    monkeypatch.setenv("E2E_CLUSTER", "local")
    monkeypatch.setenv("CLUSTER_DIR", str(tmp_path / "cluster"))
    own = ClusterDir(tmp_path / "cluster")
    yield own
    lifecycle.down(own)


def run_command(*arguments: str, path: str | None = None) -> subprocess.CompletedProcess[str]:
    """Run `python -m e2e.cluster` as the Makefile does."""
    return subprocess.run(
        [sys.executable, "-m", "e2e.cluster", *arguments],
        cwd=CHECKOUT,
        env={**os.environ, **({} if path is None else {"PATH": path})},
        capture_output=True,
        text=True,
        check=True,
    )


def server_address(kubeconfig: Path) -> tuple[str, int]:
    """Host and port of the API server."""
    match = re.search(r"server: (\S+)", kubeconfig.read_text(encoding="utf-8"))
    assert match is not None
    url = urlsplit(match[1])
    assert url.hostname is not None
    assert url.port is not None
    return url.hostname, url.port


def accepts_connections(address: tuple[str, int]) -> bool:
    """Whether somebody listens."""
    with socket.socket() as probe:
        return probe.connect_ex(address) == 0


def test_up_needs_neither_go_nor_kubectl_once_built_and_ends_with_the_export_of_a_working_kubeconfig(
    cluster: Cluster, state: ClusterDir, tmp_path: Path
) -> None:
    assert cluster.state.root != state.root, "built by the shared cluster, which keeps running beside this one"
    started = run_command("up", path=str(tmp_path / "empty"))
    *_, set_path, set_kubeconfig = started.stdout.splitlines()
    assert set_path == f'export PATH="{state.bin}:$PATH"'
    assert set_kubeconfig == f"export KUBECONFIG={state.kubeconfig}"
    assert f"audit log: {state.audit_log}" in started.stdout
    assert "E2E_CLUSTER says so" in started.stderr
    shell = f"{set_path}; {set_kubeconfig}; kubectl get serviceaccount default --output=name"
    assert subprocess.check_output(["/bin/sh", "-c", shell], text=True) == "serviceaccount/default\n"


def test_only_the_owner_can_read_the_state_directory_and_the_credentials(state: ClusterDir) -> None:
    lifecycle.up(state)
    assert stat.S_IMODE(state.root.stat().st_mode) == 0o700
    secrets = [state.kubeconfig, state.certs / "apiserver.key", *state.config.iterdir()]
    assert {path.name: stat.S_IMODE(path.stat().st_mode) for path in secrets} == {path.name: 0o600 for path in secrets}


def test_fake_gpu_nodes_become_ready_with_their_gpus_and_others_are_left_alone(cluster: Cluster) -> None:
    names = nodes.apply(cluster.kubectl, nodes.gpu_nodes(2, "zone-of-fakes", gpus=4))
    assert names == ["gpu-zone-of-fakes-0", "gpu-zone-of-fakes-1"]
    stranger = nodes.gpu_node("not-fake", "zone-of-fakes")
    del stranger["metadata"]["annotations"]
    cluster.kubectl("apply", "--server-side", "--filename=-", input=json.dumps(stranger))

    shown = json.loads(cluster.kubectl("get", "nodes", "--output=json", *names, "not-fake").stdout)["items"]
    allocatable = {node["metadata"]["name"]: node["status"]["allocatable"]["nvidia.com/gpu"] for node in shown}
    assert allocatable == {"gpu-zone-of-fakes-0": "4", "gpu-zone-of-fakes-1": "4", "not-fake": "8"}
    assert "conditions" not in shown[2]["status"]
    cluster.kubectl("delete", "node", *names, "not-fake")


def test_a_pod_runs_on_a_fake_node_and_tolerates_its_loss_for_thirty_seconds(cluster: Cluster) -> None:
    (name,) = nodes.apply(cluster.kubectl, nodes.gpu_nodes(1, "zone-of-pods"))
    pod = {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": "on-a-gpu"},
        "spec": {
            "nodeSelector": {"topology.kubernetes.io/zone": "zone-of-pods"},
            "containers": [{"name": "main", "image": "none", "resources": {"limits": {"nvidia.com/gpu": "8"}}}],
        },
    }
    cluster.kubectl("apply", "--server-side", "--filename=-", input=json.dumps(pod))
    cluster.kubectl("wait", "--for=condition=Ready", "--timeout=120s", "pod/on-a-gpu")
    spec = json.loads(cluster.kubectl("get", "pod", "on-a-gpu", "--output=json").stdout)["spec"]
    assert spec["nodeName"] == name
    assert {toleration["tolerationSeconds"] for toleration in spec["tolerations"]} == {30}
    cluster.kubectl("delete", "pod/on-a-gpu", f"node/{name}")


def test_pods_of_a_node_whose_lease_another_has_are_left_alone(cluster: Cluster) -> None:
    """So a machine is lost in other tests: KWOK plays neither it nor what is to run or to end there."""
    lost, played = nodes.apply(cluster.kubectl, nodes.gpu_nodes(2, "zone-of-leases"))
    lease = {"spec": {"holderIdentity": "another", "leaseDurationSeconds": 3600}}
    at = ("--namespace=kube-node-lease", f"lease/{lost}", "--type=merge", f"--patch={json.dumps(lease)}")
    cluster.kubectl("patch", *at)
    for node in (lost, played):
        pod = {
            "apiVersion": "v1",
            "kind": "Pod",
            "metadata": {"name": f"on-{node}"},
            "spec": {"nodeName": node, "containers": [{"name": "main", "image": "none"}]},
        }
        cluster.kubectl("apply", "--server-side", "--filename=-", input=json.dumps(pod))
    cluster.kubectl("wait", "--for=condition=Ready", "--timeout=120s", f"pod/on-{played}")
    assert cluster.kubectl("get", f"pod/on-{lost}", "--output=jsonpath={.status.phase}").stdout == "Pending"
    cluster.kubectl("delete", "--force", "--grace-period=0", f"pod/on-{lost}", f"pod/on-{played}")
    cluster.kubectl("delete", "node", lost, played)


def test_the_audit_log_counts_the_writes_of_a_user_but_neither_reads_nor_dry_runs(cluster: Cluster) -> None:
    log = cluster.audit_log
    if log is None:
        pytest.skip(f"{cluster.backend} has no audit log")
    since = datetime.now(UTC)
    writer = ("--as=someone", "--as-group=system:masters")
    cluster.kubectl(*writer, "create", "configmap", "dry", "--dry-run=server")
    cluster.kubectl(*writer, "create", "configmap", "wet")
    cluster.kubectl(*writer, "get", "configmap", "wet")
    cluster.kubectl(*writer, "delete", "configmap", "wet")

    expected = {("someone", "create", "configmaps"): 1, ("someone", "delete", "configmaps"): 1}

    def counted() -> dict[tuple[str, str, str], int]:
        return audit.count_writes(log, "someone", since)

    until(lambda: counted() == expected, lambda: f"{expected}: {counted()}")
    assert not audit.count_writes(log, "someone", datetime.now(UTC))


def test_a_token_for_a_service_account_is_a_user_with_rights_of_its_own(cluster: Cluster) -> None:
    token = cluster.kubectl("create", "token", "default").stdout.strip()
    user = cluster.kubectl("auth", "whoami", f"--token={token}", "--output=jsonpath={.status.userInfo.username}")
    # The kubeconfig has a token, and kubectl lets that of the command line win.
    assert user.stdout == "system:serviceaccount:default:default"
    refused = cluster.kubectl("get", "secrets", f"--token={token}", check=False)
    assert "Forbidden" in refused.stderr


def test_a_second_up_keeps_the_running_cluster(state: ClusterDir) -> None:
    first = run_command("up")
    running = processes.records(state)
    second = run_command("up")
    assert second.stdout == first.stdout
    assert processes.records(state) == running
    assert run_command("env").stdout == f"export KUBECONFIG={state.kubeconfig}\n"
    assert "not running" not in run_command("status").stdout


def test_up_after_a_crash_stops_what_is_left_and_begins_empty(state: ClusterDir) -> None:
    cluster = lifecycle.up(state)
    cluster.kubectl("create", "namespace", "before-the-crash")
    before = {record.name: record for record in processes.records(state)}
    os.kill(before["kube-apiserver"].pid, signal.SIGKILL)
    assert lifecycle.current(state) is None

    cluster = lifecycle.up(state)
    assert not any(record.is_running() for record in before.values())
    assert "before-the-crash" not in cluster.kubectl("get", "namespaces", "--output=name").stdout


@pytest.mark.parametrize("lie", [{"start_time": 1}, {"boot_id": "an earlier boot"}])
def test_a_process_that_got_the_pid_of_a_stale_record_is_not_killed(
    state: ClusterDir, lie: dict[str, int | str]
) -> None:
    with state.lock():
        state.reset()
    bystander = processes.start(state, "bystander", ["sleep", "60"])
    record = state.run / "bystander.json"
    truth = json.loads(record.read_text(encoding="utf-8"))
    record.write_text(json.dumps({**truth, **lie}), encoding="utf-8")
    try:
        assert lifecycle.down(state) == []
        assert bystander.is_running()
    finally:
        os.kill(bystander.pid, signal.SIGKILL)


def test_a_record_that_was_cut_off_by_a_crash_does_no_harm(state: ClusterDir) -> None:
    with state.lock():
        state.reset()
    (state.run / "etcd.json").write_text('{"name": "etc', encoding="utf-8")
    assert lifecycle.down(state) == []


def test_a_failed_start_shows_the_log_of_the_component_and_leaves_nothing_behind(
    state: ClusterDir, monkeypatch: pytest.MonkeyPatch
) -> None:
    with socket.socket() as occupant:
        occupant.bind(("127.0.0.1", 0))
        occupant.listen()
        monkeypatch.setattr(localplane, "free_port", lambda: occupant.getsockname()[1])
        with pytest.raises(ClusterError, match=r"(?s)kube-apiserver ended .* address already in use"):
            lifecycle.up(state)
    assert processes.records(state) == []
    assert lifecycle.current(state) is None


def test_down_leaves_no_process_and_no_port_and_purge_leaves_no_file(state: ClusterDir) -> None:
    cluster = lifecycle.up(state)
    address = server_address(cluster.kubeconfig)
    started = processes.records(state)
    assert accepts_connections(address)
    assert [record.name for record in started if record.is_running()] == [record.name for record in started]

    assert sorted(lifecycle.down(state)) == sorted(record.name for record in started)
    assert not any(record.is_running() for record in started)
    assert not accepts_connections(address)
    assert state.audit_log.is_file(), "kept for reading until the next start"

    lifecycle.down(state, purge=True)
    assert not state.root.exists()


def test_purge_spares_the_files_of_others_in_a_directory_that_was_given_by_mistake(state: ClusterDir) -> None:
    state.root.mkdir()
    treasure = state.root / "thesis.tex"
    treasure.touch()
    lifecycle.down(state, purge=True)
    assert treasure.exists()
