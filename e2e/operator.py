"""Owns the operator as a process of its own, with the account and the rights that it has in a real cluster."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from e2e.cluster.lifecycle import Cluster

NAMESPACE = ACCOUNT = "reserved-capacity"
USER = f"system:serviceaccount:{NAMESPACE}:{ACCOUNT}"
_BINARY = Path(sys.executable).parent / "reserved-capacity"
_START_SECONDS = 120
_STOP_SECONDS = 30
"""The grace period that its pod has."""


@dataclass(slots=True)
class OperatorProcess:
    """One `reserved-capacity run`. The token is the ServiceAccount's: what RBAC or a policy refuses it, fails here.

    `server` is where it is told that the API server is, for example a proxy.
    """

    cluster: Cluster
    directory: Path
    flags: Sequence[str] = ()
    name: str = "operator"
    namespace: str = NAMESPACE
    account: str = ACCOUNT
    server: str = ""
    _process: subprocess.Popen[bytes] | None = field(default=None, init=False)

    @property
    def log(self) -> Path:
        return self.directory / f"{self.name}.log"

    def start(self) -> None:
        path = self.directory / f"{self.name}.kubeconfig"
        kubeconfig = service_account_kubeconfig(self.cluster, path, self.namespace, self.account, self.server)
        command = [str(_BINARY), "run", "--kubeconfig", str(kubeconfig), "--namespace", self.namespace]
        command += ["--metrics-port", "0", "--probe-port", "0", *self.flags]
        environment = {**os.environ, "XDG_STATE_HOME": str(self.directory)}  # its books go with the test
        with self.log.open("ab") as log:
            self._process = subprocess.Popen(command, stdout=log, stderr=log, stdin=subprocess.DEVNULL, env=environment)

    def kill(self) -> None:
        """`kill -9`."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()

    def end(self) -> None:
        """`kill -9`, and its Lease with it, for which whoever comes next would wait until it has run out."""
        self.kill()
        self.cluster.kubectl("delete", "leases", "--all", "-n", self.namespace, "--ignore-not-found", check=False)

    def stop(self) -> int:
        """SIGTERM; its exit code. One that does not end in its grace period is killed, and fails the test."""
        assert self._process is not None, "the operator was not started"
        self._process.terminate()
        try:
            return self._process.wait(_STOP_SECONDS)
        except subprocess.TimeoutExpired:
            self.kill()
            raise AssertionError(f"the operator did not stop within {_STOP_SECONDS} s of SIGTERM") from None

    def freeze(self) -> None:
        """SIGSTOP: it does not know that time goes by."""
        assert self._process is not None
        self._process.send_signal(signal.SIGSTOP)

    def thaw(self) -> None:
        assert self._process is not None
        self._process.send_signal(signal.SIGCONT)

    def probe(self, path: str) -> tuple[int, dict[str, object]]:
        """What the kubelet would be told: status and body of /livez or /readyz. Waits for a process that has just started."""
        port = self._probe_port()
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{port}{path}", timeout=5) as answer:
                return answer.status, json.load(answer)
        except urllib.error.HTTPError as error:
            return error.code, json.load(error)

    def _probe_port(self) -> int:
        deadline = time.monotonic() + _START_SECONDS
        while True:
            ports = [record["port"] for record in self.records("info") if record.get("what") == "probes"]
            if ports:
                return int(str(ports[-1]))
            assert time.monotonic() < deadline, f"{self.name} does not listen {_START_SECONDS} s after its start"
            time.sleep(0.1)

    def is_running(self) -> bool:
        return self._process is not None and self._process.poll() is None

    def records(self, *levels: str) -> list[dict[str, object]]:
        """The log's records of these levels; a line that is not JSON fails the test that reads it."""
        lines = self.log.read_text().splitlines(keepends=True)
        records = [json.loads(line) for line in lines if line.endswith("\n")]  # the last one is being written
        return [record for record in records if record["level"] in levels]


def service_account_kubeconfig(
    cluster: Cluster, path: Path, namespace: str = NAMESPACE, account: str = ACCOUNT, server: str = ""
) -> Path:
    """A kubeconfig (0600) with a fresh token of a ServiceAccount, by default the operator's of manifests/install.

    `server` in place of the cluster's own.
    """
    config = json.loads(cluster.kubectl("config", "view", "--raw", "--minify", "-o", "json").stdout)
    token = cluster.kubectl("create", "token", account, "-n", namespace, "--duration=2h").stdout.strip()
    config["users"] = [{"name": account, "user": {"token": token}}]
    config["contexts"][0]["context"]["user"] = account
    if server:
        config["clusters"][0]["cluster"] = {"server": server}
    path.touch(mode=0o600)
    path.write_text(json.dumps(config))
    return path
