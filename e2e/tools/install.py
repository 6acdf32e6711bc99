"""The chart on a cluster: what was there before is taken away, the release is installed, and its operator is started here.

The nodes are KWOK's, so the Deployment's pod only seems to run; the operator is a process beside the cluster, with the
token of the ServiceAccount that the chart made.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from e2e.admission import GROUP, PLURALS
from e2e.cluster import nodes
from e2e.cluster.lifecycle import Cluster
from e2e.cluster.state import CHECKOUT
from e2e.cluster.teardown import remove_namespaces
from e2e.operator import ACCOUNT, OperatorProcess
from e2e.tools.helm import CHART, RELEASE, Helm
from e2e.waiting import until

# Not the namespace of manifests/install: whatever has that name written into it does not work here.
NAMESPACE = "capacity-system"
VOLUME = "reserved-capacity-ledger"
_CUSTOMER_NAMESPACES = ("acme", "provider")
_OURS = "app.kubernetes.io/part-of=reserved-capacity"
_CLUSTER_KINDS = (
    "validatingadmissionpolicybindings,validatingadmissionpolicies,clusterrolebindings,clusterroles,persistentvolumes"
)


@dataclass
class Installation:
    """One release, in a namespace of its own."""

    cluster: Cluster
    helm: Helm
    directory: Path
    namespace: str = NAMESPACE
    flags: tuple[str, ...] = ("--set=persistence.storageClass=-",)
    began: datetime = field(default_factory=lambda: datetime.now(UTC))

    @property
    def user(self) -> str:
        """The operator, as the API server names it."""
        return f"system:serviceaccount:{self.namespace}:{ACCOUNT}"

    def operator(self, name: str = "operator", *flags: str) -> OperatorProcess:
        """The operator with the release's account; not started."""
        return OperatorProcess(self.cluster, self.directory, flags, name, namespace=self.namespace)

    def prepare(self) -> None:
        """An empty cluster with two GPU nodes and a volume for the ledger."""
        self.purge()
        nodes.apply(self.cluster.kubectl, nodes.gpu_nodes(2, "z1"))
        self._apply(_volume(self.namespace))

    def install(self, chart: Path = CHART, *flags: str) -> None:
        options = (*self._place(), "--create-namespace", "--wait", *self.flags, *flags)
        self.helm("install", RELEASE, str(chart), *options)
        self._wait_for_policies()

    def upgrade(self, chart: Path = CHART, *flags: str) -> None:
        self.helm("upgrade", RELEASE, str(chart), *self._place(), "--wait", *self.flags, *flags)

    def uninstall(self) -> None:
        self.helm("uninstall", RELEASE, *self._place(), "--wait")

    def is_installed(self) -> bool:
        return RELEASE in self.helm("list", "--deployed", "--short", "--namespace", self.namespace).split()

    def _place(self) -> tuple[str, ...]:
        return ("--namespace", self.namespace, "--timeout", "90s")

    def _wait_for_policies(self) -> None:
        # A policy is in force a moment after it is stored.
        probe = ("delete", "crd", f"computeunitpools.{GROUP}", "--dry-run=server")
        until(lambda: self.cluster.kubectl(*probe, check=False).returncode != 0, "the policies are in force")

    def sell(self) -> None:
        """The samples: a catalogue, prices, and a customer's pool with one model on it."""
        samples = str(CHECKOUT / "manifests/samples")
        apply = ("apply", "--server-side", "-k", samples)
        until(lambda: self.cluster.kubectl(*apply, check=False).returncode == 0, "the samples are taken")

    def purge(self) -> None:
        """Take away everything of ours, however it came here. The order is that of docs/operations/uninstall.md."""
        kubectl = self.cluster.kubectl
        namespaces = (*_CUSTOMER_NAMESPACES, self.namespace, "reserved-capacity")
        remove_namespaces(kubectl, *namespaces)
        kubectl("delete", _CLUSTER_KINDS, "-l", _OURS, "--timeout=60s")
        crds = [f"{plural}.{GROUP}" for plural in PLURALS]
        found = kubectl("get", "crd", "-o", "name", "--ignore-not-found", *crds).stdout.split()
        if found:
            kubectl("annotate", *found, f"{GROUP}/allow-delete=true", "--overwrite")
            until(
                lambda: kubectl("delete", *found, "--ignore-not-found", "--timeout=60s", check=False).returncode == 0,
                "the CRDs are gone",
            )
        kubectl("delete", "nodes", "--all")

    def _apply(self, document: dict[str, Any]) -> None:
        self.cluster.kubectl("apply", "--server-side", "-f", "-", input=json.dumps(document))


def _volume(namespace: str) -> dict[str, Any]:
    """Nothing here provisions volumes, so the ledger's is made by hand, for its claim only."""
    return {
        "apiVersion": "v1",
        "kind": "PersistentVolume",
        "metadata": {"name": VOLUME, "labels": {"app.kubernetes.io/part-of": "reserved-capacity"}},
        "spec": {
            "capacity": {"storage": "5Gi"},
            "accessModes": ["ReadWriteOnce"],
            "persistentVolumeReclaimPolicy": "Retain",
            "hostPath": {"path": "/nowhere"},
            "claimRef": {"namespace": namespace, "name": "reserved-capacity-data"},
        },
    }
