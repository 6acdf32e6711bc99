"""Objects and helpers for the tests of what the API server refuses by itself."""

from __future__ import annotations

import json
import subprocess
import uuid
from collections.abc import Iterator
from typing import Any

from e2e.cluster.kubectl import Kubectl
from e2e.cluster.state import CHECKOUT
from e2e.waiting import until

Document = dict[str, Any]

GROUP = "reservedcapacity.io"
API_VERSION = f"{GROUP}/v1alpha1"
PLURALS = (
    "acceleratorclasses",
    "modelofferings",
    "pricebooks",
    "computeunitpools",
    "modelinstances",
    "tokenunitreservations",
)
TERM_END = "2027-03-02T00:00:00Z"
DIGEST = "oci://registry.example/models/m@sha256:" + "a" * 64
OTHER_DIGEST = "oci://registry.example/models/m@sha256:" + "b" * 64


class Server:
    """The API server as one test sees it: objects of a name and namespace of its own."""

    def __init__(self, kubectl: Kubectl, suffix: str) -> None:
        self.kubectl = kubectl
        self.namespace = f"admission-{suffix}"
        self.name = f"x{suffix}"

    def document(self, kind: str, spec: Document, *, namespaced: bool) -> Document:
        metadata = {"name": self.name} | ({"namespace": self.namespace} if namespaced else {})
        return {"apiVersion": API_VERSION, "kind": kind, "metadata": metadata, "spec": spec}

    def apply(self, document: Document, *flags: str) -> Document:
        text = json.dumps(document)
        done = self.kubectl("apply", "--server-side", "-o", "json", "-f", "-", *flags, input=text)
        applied: Document = json.loads(done.stdout)
        return applied

    def refusal(self, document: Document, *flags: str) -> str:
        """What kubectl says about a document that must be refused."""
        done = self.kubectl("apply", "--server-side", "-f", "-", *flags, input=json.dumps(document), check=False)
        return refused(done)

    def set_status(self, resource: str, status: Document, *flags: str) -> None:
        patch = json.dumps({"status": status})
        self.kubectl(
            "patch", resource, self.name, "--subresource=status", "--type=merge", "-p", patch, *self.at(*flags)
        )

    def deletion_refused(self, resource: str, *flags: str) -> str:
        return refused(self.kubectl("delete", resource, self.name, "--wait=false", *self.at(*flags), check=False))

    def delete(self, resource: str, *flags: str) -> None:
        self.kubectl("delete", resource, self.name, "--wait=false", *self.at(*flags))

    def at(self, *flags: str) -> tuple[str, ...]:
        return ("--namespace", self.namespace, *flags)


def refused(done: subprocess.CompletedProcess[str]) -> str:
    assert done.returncode != 0, f"was not refused: {done.stdout}"
    return " ".join(done.stderr.split())


def install(kubectl: Kubectl) -> Kubectl:
    """Apply manifests/install and wait until the policies are in force: that is a moment after they are stored."""
    kubectl("apply", "--server-side", "-k", str(CHECKOUT / "manifests" / "install"))
    kubectl("wait", "--for=condition=Established", "--timeout=60s", *(f"crd/{plural}.{GROUP}" for plural in PLURALS))
    probe = ("delete", "crd", f"computeunitpools.{GROUP}", "--dry-run=server")
    until(lambda: kubectl(*probe, check=False).returncode != 0, "the policies are in force")
    return kubectl


def session(kubectl: Kubectl) -> Iterator[Server]:
    """A `Server` with a namespace and name of its own; what it made is gone afterwards."""
    server = Server(kubectl, uuid.uuid4().hex[:6])
    kubectl("create", "namespace", server.namespace)
    yield server
    kubectl("delete", "namespace", server.namespace, "--wait=false")
    # Their guards read the status, so it goes first.
    for resource in ("modelofferings", "pricebooks", "acceleratorclasses"):
        if kubectl("get", resource, server.name, check=False).returncode == 0:
            kubectl("patch", resource, server.name, "--subresource=status", "--type=merge", "-p", '{"status": null}')
            kubectl("delete", resource, server.name, "--wait=false")


def commitment(**changes: Any) -> Document:
    return {"id": "po-1", "computeUnits": 600, "term": "OneYear", "provisionBy": "2026-03-01"} | changes


def pool(server: Server, *commitments: Document, **spec: Any) -> Document:
    wanted = {"account": "acme", "priceBookRef": "usd", "acceleratorClass": "h100-8"}
    return server.document(
        "ComputeUnitPool", {**wanted, "commitments": list(commitments or (commitment(),)), **spec}, namespaced=True
    )


def running(state: str = "Active", id_: str = "po-1") -> Document:
    return {"commitments": [{"id": id_, "state": state, "termEnd": TERM_END}], "termEnd": TERM_END}


def offering(server: Server, *snapshots: Document, **reserved: Any) -> Document:
    wanted = {
        "computeUnitsPerInstance": 300,
        "acceleratorClasses": ["h100-8"],
        "serving": {"image": "vllm/vllm-openai:v1"},
    }
    listed = list(snapshots or (snapshot(),))
    spec = {"displayName": "Model", "reserved": wanted | reserved, "snapshots": listed}
    return server.document("ModelOffering", spec, namespaced=False)


def snapshot(**changes: Any) -> Document:
    return {"name": "m-1", "artifact": DIGEST} | changes


def price_book(server: Server, entries: list[Document]) -> Document:
    return server.document("PriceBook", {"currency": "USD", "tokenUnits": entries}, namespaced=False)


def token_price(**changes: Any) -> Document:
    entry = {"offering": "m", "direction": "Input", "effectiveFrom": "2025-08-01", "pricePerUnitDay": "110.00"}
    return entry | changes


def instance(server: Server, **spec: Any) -> Document:
    wanted = {"poolRef": "prod", "offering": "m", "snapshot": "m-1", "instances": 2}
    return server.document("ModelInstance", wanted | spec, namespaced=True)


def tokens(server: Server, **spec: Any) -> Document:
    wanted = {"account": "acme", "priceBookRef": "usd", "offering": "m", "snapshot": "m-1", "units": {"input": 3}}
    return server.document("TokenUnitReservation", wanted | spec, namespaced=True)


def accelerators(server: Server, **spec: Any) -> Document:
    wanted = {
        "nodeSelector": {"matchLabels": {"gpu": "none-such"}},
        "gpuResource": "nvidia.com/gpu",
        "gpusPerNode": 8,
        "computeUnitsPerNode": 800,
    }
    return server.document("AcceleratorClass", wanted | spec, namespaced=False)
