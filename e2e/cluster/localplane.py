"""The built control plane: etcd, API server, controller manager and scheduler, on loopback only."""

from __future__ import annotations

import base64
import json
import os
import re
import secrets
import shutil
import signal
import subprocess
from collections.abc import Mapping
from pathlib import Path

from e2e.cluster import build, fake_kubelet, processes
from e2e.cluster.kubectl import Kubectl, on_path
from e2e.cluster.ports import free_port
from e2e.cluster.processes import Record
from e2e.cluster.state import ClusterDir, say, write_private

# The name in the kubeconfig by which a cluster of ours, of any checkout, is told from one of the user's.
NAME = "reserved-capacity-local"

# Components have users of their own, so that the audit log tells what people and the operator do from the machinery.
# "admin" is the only user for people; others come from service accounts (`kubectl create token`).
_ADMIN = "admin"
_CONTROLLER_MANAGER = "system:kube-controller-manager"
_SCHEDULER = "system:kube-scheduler"
_KWOK = "kwok"
_GROUPS = {_ADMIN: "system:masters", _CONTROLLER_MANAGER: "", _SCHEDULER: "", _KWOK: "system:masters"}

_AUDIT_POLICY = {
    "apiVersion": "audit.k8s.io/v1",
    "kind": "Policy",
    # With both stages every request would be in the log twice.
    "omitStages": ["RequestReceived"],
    "rules": [{"level": "Metadata"}],
}

# Sockets, in the working directory of the processes: etcd knows no users, so on a port anybody on this machine could read
# every Secret. etcd wants a port in the address all the same and makes it part of the file name.
_ETCD = "unix://etcd.sock:0"
_ETCD_PEERS = "unix://etcd-peer.sock:0"


def start(state: ClusterDir) -> None:
    """Start everything and wait until it is usable. The caller stops what was started when this fails."""
    binary = build.ensure(build.CONTROL_PLANE) / build.CONTROL_PLANE.name
    build.ensure(build.KWOK)  # before anything runs, as it may take a minute
    say("cluster: starting etcd, API server, controller manager, scheduler and KWOK")
    _provide_kubectl(state, binary)
    _run(state, binary, free_port(), _write_credentials(state, binary))


def copy_etcd(state: ClusterDir, to: Path) -> None:
    """What a backup has: etcd stands still while its files are copied, as if its process had been killed at that moment."""
    (etcd,) = (record for record in processes.records(state) if record.name == "etcd" and record.is_running())
    os.kill(etcd.pid, signal.SIGSTOP)
    try:
        shutil.copytree(state.root / "etcd", to)
    finally:
        os.kill(etcd.pid, signal.SIGCONT)


def restore_etcd(state: ClusterDir, copy: Path) -> None:
    """Everything is stopped and started again, under the same address and for the same users, with the etcd of a copy."""
    binary = build.ensure(build.CONTROL_PLANE) / build.CONTROL_PLANE.name
    (port,) = re.findall(r"server: https://127\.0\.0\.1:(\d+)", state.kubeconfig.read_text(encoding="utf-8"))
    processes.stop_all(state)
    shutil.rmtree(state.root / "etcd")
    shutil.copytree(copy, state.root / "etcd")
    _run(state, binary, int(port), {})


def _run(state: ClusterDir, binary: Path, port: int, tokens: Mapping[str, str]) -> None:
    """`tokens`: of whom there is no kubeconfig yet."""
    kubectl = Kubectl(on_path() or state.bin / "kubectl", state.kubeconfig)
    etcd = processes.start(state, "etcd", [binary, "etcd", *_etcd_flags(state)])
    apiserver = processes.start(state, "kube-apiserver", [binary, "kube-apiserver", *_apiserver_flags(state, port)])
    serving_certificate = state.certs / "apiserver.crt"
    # The key is written after the certificate, so where there is a key the certificate is complete.
    has_key = (state.certs / "apiserver.key").is_file
    processes.wait_until("the API server's certificate", has_key, state, [etcd, apiserver])
    for user, token in tokens.items():
        write_private(_kubeconfig(state, user), _render_kubeconfig(port, serving_certificate, user, token))
    processes.wait_until(
        "the API server",
        lambda: kubectl.succeeds("get", "--raw", "/readyz", "--request-timeout=2s"),
        state,
        [etcd, apiserver],
    )
    running: list[Record] = [etcd, apiserver]
    for name, flags in (
        ("kube-controller-manager", _controller_manager_flags(state)),
        ("kube-scheduler", _scheduler_flags(state)),
    ):
        running.append(processes.start(state, name, [binary, name, *flags]))
    fake_kubelet.start(state, _kubeconfig(state, _KWOK), running)
    # Without it no pod can be created; the controller manager makes it as soon as it works.
    processes.wait_until(
        "the default service account",
        lambda: kubectl.succeeds("get", "serviceaccount", "default", "--namespace=default"),
        state,
        running,
    )


def _provide_kubectl(state: ClusterDir, binary: Path) -> None:
    if not on_path():
        (state.bin / "kubectl").symlink_to(binary)


def _write_credentials(state: ClusterDir, binary: Path) -> dict[str, str]:
    key = subprocess.run([str(binary), "generate-key"], check=True, capture_output=True, text=True).stdout
    write_private(state.config / "service-account.key", key)
    tokens = {user: secrets.token_urlsafe(32) for user in _GROUPS}
    rows = [f'{token},{user},{user},"{_GROUPS[user]}"\n' for user, token in tokens.items()]
    write_private(state.config / "tokens.csv", "".join(rows))
    write_private(state.config / "audit-policy.json", json.dumps(_AUDIT_POLICY, indent=2))
    return tokens


def _kubeconfig(state: ClusterDir, user: str) -> Path:
    return state.kubeconfig if user == _ADMIN else state.config / f"{user.removeprefix('system:')}.kubeconfig"


def _render_kubeconfig(port: int, certificate: Path, user: str, token: str) -> str:
    # The API server signs its certificate with an authority of its own making and appends that to the file.
    authority = base64.b64encode(certificate.read_bytes()).decode()
    return f"""\
apiVersion: v1
kind: Config
current-context: {NAME}
clusters:
- name: {NAME}
  cluster:
    server: https://127.0.0.1:{port}
    certificate-authority-data: {authority}
users:
- name: {user}
  user:
    token: {token}
contexts:
- name: {NAME}
  context:
    cluster: {NAME}
    user: {user}
"""


def _etcd_flags(state: ClusterDir) -> list[str]:
    return [
        f"--data-dir={state.root / 'etcd'}",
        f"--listen-client-urls={_ETCD}",
        f"--listen-peer-urls={_ETCD_PEERS}",
        "--advertise-client-urls=http://127.0.0.1:0",  # required, but told only to other members, and there are none
        "--unsafe-no-fsync",  # a crash of the machine may lose the data, which the next start discards anyway
        "--log-level=warn",
    ]


def _apiserver_flags(state: ClusterDir, port: int) -> list[str]:
    key = state.config / "service-account.key"
    return [
        f"--etcd-servers={_ETCD}",
        "--bind-address=127.0.0.1",
        "--advertise-address=127.0.0.1",
        f"--secure-port={port}",
        f"--cert-dir={state.certs}",
        f"--token-auth-file={state.config / 'tokens.csv'}",
        "--authorization-mode=RBAC",
        "--service-account-issuer=https://kubernetes.default.svc",
        f"--service-account-key-file={key}",
        f"--service-account-signing-key-file={key}",
        "--service-cluster-ip-range=10.96.0.0/16",
        "--endpoint-reconciler-type=none",  # a loopback address is not a valid endpoint of the kubernetes service
        # Pods leave a lost node after 30 s instead of 5 minutes, so that a test can see it.
        "--default-unreachable-toleration-seconds=30",
        "--default-not-ready-toleration-seconds=30",
        f"--audit-policy-file={state.config / 'audit-policy.json'}",
        f"--audit-log-path={state.audit_log}",
        "--audit-log-maxsize=0",  # never rotated: tests count the events of their whole run
    ]


def _controller_manager_flags(state: ClusterDir) -> list[str]:
    return [
        f"--kubeconfig={_kubeconfig(state, _CONTROLLER_MANAGER)}",
        "--use-service-account-credentials",
        f"--service-account-private-key-file={state.config / 'service-account.key'}",
        f"--root-ca-file={state.certs / 'apiserver.crt'}",
        "--leader-elect=false",
        "--allocate-node-cidrs=false",
        f"--node-monitor-grace-period={fake_kubelet.lease_seconds() + 10}s",
        "--kube-api-qps=300",
        "--kube-api-burst=500",
        "--secure-port=0",
    ]


def _scheduler_flags(state: ClusterDir) -> list[str]:
    return [
        f"--kubeconfig={_kubeconfig(state, _SCHEDULER)}",
        "--leader-elect=false",
        "--kube-api-qps=1000",
        "--kube-api-burst=1000",
        "--secure-port=0",
    ]
