"""Owns what a provider applies for Envoy Gateway: a Gateway, the route to an offering's servers, keys; and the patches."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

from e2e.gateway.bootstrap import load_assignment, loopback
from reserved_capacity.gateway import envoy

NAMESPACE: Final = "models"
SYSTEM: Final = "envoy-gateway-system"
GATEWAY: Final = "eg"
NODE_CLUSTER: Final = f"{NAMESPACE}/{GATEWAY}"
"""How an Envoy says whose it is."""
_EG: Final = "gateway.envoyproxy.io"
_API: Final = f"{_EG}/v1alpha1"
_CONTROLLER: Final = f"{_EG}/gatewayclass-controller"
_TYPES: Final = "type.googleapis.com/envoy.config"

Document = dict[str, Any]


def settings(*, rate_limit: bool) -> Document:
    """The EnvoyGateway of its configuration file. The address of the store is for pods that nothing runs here."""
    store = {"rateLimit": {"backend": {"type": "Redis", "redis": {"url": "redis.redis.svc:6379"}}}}
    kubernetes = {"leaderElection": {"disable": True}, "proxyTopologyInjector": {"disabled": True}}
    return {
        "apiVersion": _API,
        "kind": "EnvoyGateway",
        "gateway": {"controllerName": _CONTROLLER},
        "provider": {"type": "Kubernetes", "kubernetes": kubernetes},
        "extensionApis": {"enableBackend": True, "enableEnvoyPatchPolicy": True},
        "telemetry": {"metrics": {"prometheus": {"disable": True}}},
        **(store if rate_limit else {}),
    }


def before_it_starts() -> list[Document]:
    """What its chart makes. It looks for what has its own name, which owns what it makes."""
    ports = [{"name": "grpc", "port": 18000}]
    labels = {"app": "envoy-gateway"}
    template = {"metadata": {"labels": labels}, "spec": {"containers": [{"name": "envoy-gateway", "image": "nowhere"}]}}
    deployment = {"replicas": 0, "selector": {"matchLabels": labels}, "template": template}
    return [
        _document("v1", "Namespace", NAMESPACE, "", {}),
        _document("v1", "Namespace", SYSTEM, "", {}),
        _document("v1", "ServiceAccount", "envoy-gateway", SYSTEM, {}),
        _spec("v1", "Service", "envoy-gateway", {"ports": ports}, namespace=SYSTEM),
        _spec("apps/v1", "Deployment", "envoy-gateway", deployment, namespace=SYSTEM),
    ]


def documents(route: str, ports: Mapping[str, int], server: int, accounts: Sequence[str]) -> list[Document]:
    """An HTTPRoute to the server of the offering that is asked for by the route's name as host, and all around it."""
    gateway = {"group": "gateway.networking.k8s.io", "kind": "Gateway", "name": GATEWAY}
    to_route = {"group": "gateway.networking.k8s.io", "kind": "HTTPRoute", "name": route}
    rule = {
        "matches": [{"path": {"type": "PathPrefix", "value": "/v1/"}}],
        "backendRefs": [{"group": _EG, "kind": "Backend", "name": route}],
    }
    keys = {
        "credentialRefs": [{"name": "keys"}],
        "extractFrom": [{"headers": ["authorization"]}],
        "forwardClientIDHeader": envoy.ACCOUNT_HEADER,
        "sanitize": True,
    }
    listener = {"name": "http", "protocol": "HTTP", "port": ports["gateway"]}
    from_outside = {"earlyRequestHeaders": {"remove": [envoy.ACCOUNT_HEADER]}}
    # Loopback is no address of a backend; the patch below puts it in the place of this one.
    backend = {"endpoints": [{"ip": {"address": "192.0.2.1", "port": server}}]}
    return [
        _spec("gateway.networking.k8s.io/v1", "GatewayClass", GATEWAY, {"controllerName": _CONTROLLER}, namespace=""),
        _spec(
            "gateway.networking.k8s.io/v1", "Gateway", GATEWAY, {"gatewayClassName": GATEWAY, "listeners": [listener]}
        ),
        _spec(_API, "Backend", route, backend),
        _spec(
            "gateway.networking.k8s.io/v1",
            "HTTPRoute",
            route,
            {"parentRefs": [{"name": GATEWAY}], "hostnames": [route], "rules": [rule]},
        ),
        _document("v1", "Secret", "keys", NAMESPACE, {"stringData": {each: f"key-{each}" for each in accounts}}),
        _spec(_API, "SecurityPolicy", "keys", {"targetRefs": [to_route], "apiKeyAuth": keys}),
        _spec(_API, "ClientTrafficPolicy", GATEWAY, {"targetRefs": [gateway], "headers": from_outside}),
        _spec(_API, "EnvoyPatchPolicy", GATEWAY, {"targetRef": gateway, "type": "JSONPatch", "jsonPatches": _patches(route, ports, server)}),
    ]  # fmt: skip


def _patches(route: str, ports: Mapping[str, int], server: int) -> list[Document]:
    """In the places that Envoy Gateway v1.9.1 gives them."""
    endpoint = "endpoints/0/lb_endpoints/0/endpoint/address"
    service = f"{_TYPES}.cluster.v3.Cluster", "ratelimit_cluster"
    listener = f"{_TYPES}.listener.v3.Listener", f"{NAMESPACE}/{GATEWAY}/http"
    filters = "/default_filter_chain/filters/0/typed_config/http_filters/0"
    usage = [each for each in envoy.http_filters("unused") if each["name"].endswith("_to_metadata")]
    return [
        _patch(*service, "replace", "/type", "STATIC"),
        _patch(*service, "remove", "/eds_cluster_config"),
        _patch(*service, "remove", "/transport_socket"),
        _patch(*service, "add", "/load_assignment", load_assignment("ratelimit_cluster", ports["service"])),
        _patch(
            f"{_TYPES}.endpoint.v3.ClusterLoadAssignment",
            f"httproute/{NAMESPACE}/{route}/rule/0",
            "replace",
            f"/{endpoint}",
            loopback(server),
        ),
        *(_patch(*listener, "add", filters, each) for each in usage),
    ]


def _patch(type_: str, name: str, op: str, path: str, value: Document | str | None = None) -> Document:
    operation = {"op": op, "path": path, **({"value": value} if value is not None else {})}
    return {"type": type_, "name": name, "operation": operation}


def _spec(api: str, kind: str, name: str, spec: Document, *, namespace: str = NAMESPACE) -> Document:
    return _document(api, kind, name, namespace, {"spec": spec})


def _document(api: str, kind: str, name: str, namespace: str, rest: Document) -> Document:
    metadata = {"name": name, **({"namespace": namespace} if namespace else {})}
    return {"apiVersion": api, "kind": kind, "metadata": metadata, **rest}
