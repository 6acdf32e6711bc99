"""A market on real nodes: what the provider sells, what one customer buys and runs, and the customer's own client."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from e2e.cluster.lifecycle import Cluster
from e2e.cluster.nodes import GPU_PRODUCT
from e2e.cluster.state import CHECKOUT
from e2e.customers import INSTANCE_LABEL
from e2e.node.configs import PAUSE_IMAGE
from e2e.node.nodes import REAL_LABEL, RealNodes
from e2e.tools.helm import Helm, HelmError
from e2e.tools.install import Installation
from e2e.waiting import until

Json = dict[str, Any]

_API = "reservedcapacity.io/v1alpha1"
_CLASS, _OFFERING, _POOL = "real-gpus", "tiny", "prod"
_START_SECONDS = 180
_AVAILABLE = "2024-01-01"
_PORT = 8000


@dataclass(slots=True)
class Market:
    """The operator's chart is installed, one model is sold, and one customer has an instance of it."""

    cluster: Cluster
    nodes: RealNodes
    helm: Helm
    directory: Path
    namespace: str = "acme"
    instance: str = "chat"
    _installation: Installation = field(init=False)

    def __post_init__(self) -> None:
        image = self.nodes.images.operator
        settings = {
            "image.repository": image.repository,
            "image.digest": image.digest,
            "image.pullPolicy": "Never",
            "pullImage": PAUSE_IMAGE,
            "persistence.enabled": "false",
            r"nodeSelector.kubernetes\.io/hostname": "system",
        }
        flags = tuple(f"--set={key}={value}" for key, value in settings.items())
        self._installation = Installation(self.cluster, self.helm, self.directory, flags=flags)

    def open(self) -> None:
        """Install the chart, wait until its operator is ready, and offer the model."""
        # On a shared cluster everything that was there before goes, but for the nodes, which others may play on.
        try:
            self._installation.install()
        except HelmError as error:
            raise AssertionError(f"{error}\n{self.told()}") from None
        self._apply_prices()
        self.apply("AcceleratorClass", _CLASS, _class())
        self.apply("ModelOffering", _OFFERING, self._offering())

    def close(self) -> None:
        """Take everything away. Nobody waits for servers that have no clients: they end with their nodes."""
        kubectl = self.cluster.kubectl
        kubectl("delete", "namespace", self.namespace, "--ignore-not-found", "--wait=false")
        kubectl("delete", "pods", "--all", "-n", self.namespace, "--force", "--grace-period=0", check=False)
        self._installation.purge()

    # ----------------------------------------------------------------------------------------------------- the customer

    def buy(self, compute_units: int) -> None:
        self._apply({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": self.namespace}})
        commitment = {
            "id": "po-real",
            "computeUnits": compute_units,
            "term": "OneYear",
            "payment": "Monthly",
            "provisionBy": "2026-03-01",
        }
        spec = {"account": "acme", "priceBookRef": "usd", "acceleratorClass": _CLASS, "commitments": [commitment]}
        self.apply("ComputeUnitPool", _POOL, spec, self.namespace)

    def serve(self, snapshot: str, instances: int) -> None:
        """The instance with this snapshot: the first one, or the one to move to."""
        spec = {"poolRef": _POOL, "offering": _OFFERING, "snapshot": snapshot, "instances": instances}
        self.apply("ModelInstance", self.instance, spec, self.namespace)

    def status(self) -> Json:
        found = self._get("modelinstance", self.instance)
        return dict(found.get("status") or {})

    def sees(self, type_: str, status: str, reason: str, seconds: float = _START_SECONDS) -> Json:
        """Wait until the condition of the instance, of its newest generation, says so; the whole status."""

        def says() -> Json | None:
            found = self._get("modelinstance", self.instance)
            for condition in (found.get("status") or {}).get("conditions", ()):
                if condition["type"] == type_ and condition["observedGeneration"] == found["metadata"]["generation"]:
                    return found if (condition["status"], condition["reason"]) == (status, reason) else None
            return None

        try:
            return dict(until(says, f"{self.instance}: {type_}={status}/{reason}", seconds)["status"])
        except AssertionError as error:
            raise AssertionError(f"{error}\n{json.dumps(self.status(), indent=1)}\n{self.told()}") from None

    def snapshots(self) -> set[str]:
        """What its members run."""
        return {member["snapshot"] for member in self.status().get("members", ())}

    def until_pods_are(self, count: int) -> None:
        """Wait until this many pods of the instance are there, whatever they are about to do."""
        pods = ("get", "pods", "-n", self.namespace, "-l", f"{INSTANCE_LABEL}={self.instance}", "-o", "name")
        until(lambda: len(self.cluster.kubectl(*pods).stdout.split()) == count, f"{count} pods are left")

    def happened(self, kind: str, reason: str) -> list[str]:
        """When Events of this reason were posted about the customer's objects of a kind, in order."""
        about = f"reason={reason},involvedObject.kind={kind}"
        found = self.cluster.kubectl("get", "events", "-n", self.namespace, f"--field-selector={about}", "-o", "json")
        return sorted(each["firstTimestamp"] or each["eventTime"] for each in json.loads(found.stdout)["items"])

    def endpoint(self) -> str:
        return str(self.status()["endpoint"])

    def told(self) -> str:
        """For whoever has to find out why: Events, and the end of the operator's log."""
        events = self.cluster.kubectl("get", "events", "-A", "--sort-by=.lastTimestamp", check=False).stdout
        pods = self.cluster.kubectl("get", "pods", "-A", "-o", "wide", check=False).stdout
        return "\n".join([pods, *events.splitlines()[-30:], *self.operator_log().splitlines()[-30:]])

    def operator_log(self) -> str:
        return self.nodes.pod_log(self._installation.namespace, "reserved-capacity-*")

    # ------------------------------------------------------------------------------------------------------- the objects

    def apply(self, kind: str, name: str, spec: Json, namespace: str = "") -> None:
        metadata = {"name": name, **({"namespace": namespace} if namespace else {})}
        self._apply({"apiVersion": _API, "kind": kind, "metadata": metadata, "spec": spec})

    def _get(self, kind: str, name: str) -> Json:
        found = self.cluster.kubectl("get", kind, name, "-n", self.namespace, "-o", "json")
        return dict(json.loads(found.stdout))

    def _apply(self, document: Json) -> None:
        self.cluster.kubectl("apply", "--server-side", "--force-conflicts", "-f", "-", input=json.dumps(document))

    def _apply_prices(self) -> None:
        prices = ("apply", "--server-side", "-f", str(CHECKOUT / "manifests/samples/prices.yaml"))
        until(lambda: self.cluster.kubectl(*prices, check=False).returncode == 0, "the prices are taken")

    def _offering(self) -> Json:
        images = self.nodes.images
        snapshots = [
            {"name": name, "artifact": f"oci://{image.reference}", "availableFrom": _AVAILABLE}
            for name, image in images.snapshots.items()
        ]
        serving = {"image": images.server.reference, "port": _PORT, "readinessPath": "/health"}
        reserved = {
            "sold": True,
            "computeUnitsPerInstance": 100,
            "minInstances": 2,
            "acceleratorClasses": [_CLASS],
            "serving": serving,
        }
        return {"displayName": "Tiny", "reserved": reserved, "snapshots": snapshots}


def _class() -> Json:
    """One GPU is one block, and a node has two."""
    return {
        "nodeSelector": {"matchLabels": {"nvidia.com/gpu.product": GPU_PRODUCT, REAL_LABEL: "true"}},
        "gpuResource": "nvidia.com/gpu",
        "gpusPerNode": 2,
        "computeUnitsPerNode": 200,
        "repair": [{"conditionType": "Ready", "status": status, "after": "5m"} for status in ("False", "Unknown")],
    }


@dataclass(slots=True)
class Traffic:
    """The client's pod: it asks until it is stopped, and writes each answer down."""

    market: Market
    name: str = "client"

    def start(self, workers: int) -> None:
        """In the customer's namespace; there is no DNS here, so the Service's name is in the pod's hosts file."""
        market = self.market
        service = market.cluster.kubectl("get", "service", market.instance, "-n", market.namespace, "-o", "json")
        address = json.loads(service.stdout)["spec"]["clusterIP"]
        host = f"{market.instance}.{market.namespace}.svc"
        client = {
            "name": "client",
            "image": market.nodes.images.client.reference,
            "imagePullPolicy": "Never",
            "args": [market.endpoint(), str(workers)],
        }
        spec = {
            "hostAliases": [{"ip": address, "hostnames": [host]}],
            "nodeSelector": {"kubernetes.io/hostname": "system"},
            "restartPolicy": "Never",
            "automountServiceAccountToken": False,
            "containers": [client],
        }
        metadata = {"name": self.name, "namespace": market.namespace}
        document = {"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": spec}
        market.cluster.kubectl("apply", "-f", "-", input=json.dumps(document))

    def stop(self) -> None:
        self.market.cluster.kubectl(
            "delete", "pod", self.name, "-n", self.market.namespace, "--ignore-not-found", "--timeout=60s", check=False
        )

    def requests(self, since: float = 0.0) -> list[Json]:
        """Every request that has ended and began after this moment, in the order of their ends."""
        lines = self.market.nodes.pod_log(self.market.namespace, self.name).splitlines()
        records = [json.loads(line) for line in lines if line.startswith("{") and line.endswith("}")]
        return [each for each in records if each["at"] >= since]

    def answers(self, since: float = 0.0) -> list[Json]:
        return [each for each in self.requests(since) if "failed" not in each]

    def failed(self, since: float = 0.0) -> list[Json]:
        return [each for each in self.requests(since) if "failed" in each]

    def until_answered(self, count: int, since: float = 0.0, seconds: float = 180) -> None:
        until(lambda: len(self.answers(since)) >= count, f"{count} requests are answered", seconds)
