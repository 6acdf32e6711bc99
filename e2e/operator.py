"""Owns the operator as a process of its own, with the account and the rights that it has in a real cluster."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from e2e.cluster.lifecycle import Cluster

NAMESPACE = ACCOUNT = "reserved-capacity"
USER = f"system:serviceaccount:{NAMESPACE}:{ACCOUNT}"
_BINARY = Path(sys.executable).parent / "reserved-capacity"
_STOP_SECONDS = 15


@dataclass(slots=True)
class OperatorProcess:
    """One `reserved-capacity run`. The token is the ServiceAccount's: what RBAC or a policy refuses it, fails here."""

    cluster: Cluster
    directory: Path
    flags: Sequence[str] = ()
    name: str = "operator"
    namespace: str = NAMESPACE
    account: str = ACCOUNT
    _process: subprocess.Popen[bytes] | None = field(default=None, init=False)

    @property
    def log(self) -> Path:
        return self.directory / f"{self.name}.log"

    def start(self) -> None:
        path = self.directory / f"{self.name}.kubeconfig"
        kubeconfig = service_account_kubeconfig(self.cluster, path, self.namespace, self.account)
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

    def stop(self) -> int:
        """SIGTERM; its exit code. One that does not end within 15 s is killed, and fails the test."""
        assert self._process is not None, "the operator was not started"
        self._process.terminate()
        try:
            return self._process.wait(_STOP_SECONDS)
        except subprocess.TimeoutExpired:
            self.kill()
            raise AssertionError(f"the operator did not stop within {_STOP_SECONDS} s of SIGTERM") from None

    def is_running(self) -> bool:
        return self._process is not None and self._process.poll() is None

    def records(self, *levels: str) -> list[dict[str, object]]:
        """The log's records of these levels; a line that is not JSON fails the test that reads it."""
        records = [json.loads(line) for line in self.log.read_text().splitlines()]
        return [record for record in records if record["level"] in levels]


def service_account_kubeconfig(
    cluster: Cluster, path: Path, namespace: str = NAMESPACE, account: str = ACCOUNT
) -> Path:
    """A kubeconfig (0600) with a fresh token of a ServiceAccount, by default the operator's of manifests/install."""
    config = json.loads(cluster.kubectl("config", "view", "--raw", "--minify", "-o", "json").stdout)
    token = cluster.kubectl("create", "token", account, "-n", namespace, "--duration=2h").stdout.strip()
    config["users"] = [{"name": account, "user": {"token": token}}]
    config["contexts"][0]["context"]["user"] = account
    path.touch(mode=0o600)
    path.write_text(json.dumps(config))
    return path
