"""Owns the processes: Envoy Gateway, the Envoy and the rate-limit service that it configures, store and inference server.

Its ports are fixed, so there is one of it on a machine at a time; who comes second waits.
"""

from __future__ import annotations

import base64
import fcntl
import json
import os
import socket
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Final

from e2e.cluster import build
from e2e.cluster.lifecycle import Cluster
from e2e.cluster.ports import free_port
from e2e.envoygateway.documents import NODE_CLUSTER, SYSTEM, settings
from e2e.envoygateway.program import ENVOY_GATEWAY
from e2e.gateway.bootstrap import HTTP2, loopback, static_cluster
from e2e.gateway.running import SERVICE, STORE, Gateway

CONTROL_PLANE: Final = "envoy-gateway"
_XDS, _LIMITS_XDS = 18000, 18001
_CERTIFICATES: Final = ("envoy-gateway", "envoy", "envoy-rate-limit")
_TLS: Final = "type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.UpstreamTlsContext"


@contextmanager
def alone() -> Iterator[None]:
    """The machine's one Envoy Gateway."""
    build.cache_root().mkdir(mode=0o700, parents=True, exist_ok=True)
    with (build.cache_root() / "envoy-gateway.lock").open("a") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


@dataclass(kw_only=True)
class EnvoyGateway(Gateway):
    """On `cluster`, with all rights. One offering; nothing follows the ConfigMap."""

    cluster: Cluster

    def start(self) -> None:
        """All but Envoy, which is ready once there is a Gateway for it."""
        self.directory.mkdir(parents=True, exist_ok=True)
        self._make_certificates()
        for name in ("gateway", "admin", "service", "http", "debug", "counters", "store"):
            self.ports[name] = free_port()
        self.start_server(self.offerings[0])
        self.start_part(STORE)
        self.start_control_plane()
        self.start_part(SERVICE)

    def _make_certificates(self) -> None:
        """As its chart's job does: Secrets, which it looks for. A volume would have them as files."""
        command = [str(ENVOY_GATEWAY.binary()), "certgen", "--disable-topology-injector"]
        environment = {**os.environ, **self._environment()}
        subprocess.run(command, check=True, capture_output=True, timeout=60, env=environment)
        for name in _CERTIFICATES:
            secret = self.cluster.kubectl("get", "secret", name, "-n", SYSTEM, "-o", "json").stdout
            self._certificate(name, "").mkdir(parents=True)
            for key, value in json.loads(secret)["data"].items():
                self._certificate(name, key).write_bytes(base64.b64decode(value))

    def _environment(self) -> dict[str, str]:
        return {"KUBECONFIG": str(self.kubeconfig), "ENVOY_GATEWAY_NAMESPACE": SYSTEM}

    def start_control_plane(self, *, rate_limit: bool = True) -> None:
        """Returns when both of its xDS servers listen; without rate limits it has one."""
        path = self.directory / "envoy-gateway.json"
        path.write_text(json.dumps(settings(rate_limit=rate_limit)))
        self._start(CONTROL_PLANE, [ENVOY_GATEWAY.binary(), "server", "-c", path], self._environment())
        for port in (_XDS, _LIMITS_XDS) if rate_limit else (_XDS,):
            self._wait(f"Envoy Gateway listens on {port}", partial(_listens, port))

    def envoy_configuration(self) -> dict[str, Any]:
        """What Envoy Gateway's own bootstrap says, with the certificates of this machine."""
        xds = {
            **static_cluster("xds_cluster", _XDS),
            **HTTP2,
            "transport_socket": {"name": "tls", "typed_config": {"@type": _TLS, "common_tls_context": self._tls()}},
        }
        ads = {"api_type": "DELTA_GRPC", "transport_api_version": "V3", "set_node_on_first_message_only": True}
        return {
            "node": {"id": "envoy", "cluster": NODE_CLUSTER},
            "admin": {"address": loopback(self.ports["admin"])},
            "dynamic_resources": {
                "ads_config": {**ads, "grpc_services": [{"envoy_grpc": {"cluster_name": "xds_cluster"}}]},
                "lds_config": {"ads": {}, "resource_api_version": "V3"},
                "cds_config": {"ads": {}, "resource_api_version": "V3"},
            },
            "static_resources": {"clusters": [xds]},
        }

    def _tls(self) -> dict[str, Any]:
        files = {name: {"filename": str(self._certificate("envoy", name))} for name in ("tls.crt", "tls.key", "ca.crt")}
        certificate = {"certificate_chain": files["tls.crt"], "private_key": files["tls.key"]}
        return {
            "tls_params": {"tls_maximum_protocol_version": "TLSv1_3"},
            "tls_certificates": [certificate],
            "validation_context": {"trusted_ca": files["ca.crt"]},
        }

    def _certificate(self, whose: str, name: str) -> Path:
        return self.directory / "certs" / whose / name

    def service_settings(self) -> dict[str, str]:
        """As the Deployment has them that Envoy Gateway makes of it."""
        ours = super().service_settings()
        return {
            **{key: value for key, value in ours.items() if not key.startswith("RUNTIME")},
            "CONFIG_TYPE": "GRPC_XDS_SOTW",
            "CONFIG_GRPC_XDS_SERVER_URL": f"localhost:{_LIMITS_XDS}",
            "CONFIG_GRPC_XDS_NODE_ID": "envoy-ratelimit",
            "CONFIG_GRPC_XDS_SERVER_USE_TLS": "true",
            "CONFIG_GRPC_XDS_CLIENT_TLS_CERT": str(self._certificate("envoy-rate-limit", "tls.crt")),
            "CONFIG_GRPC_XDS_CLIENT_TLS_KEY": str(self._certificate("envoy-rate-limit", "tls.key")),
            "CONFIG_GRPC_XDS_SERVER_TLS_CACERT": str(self._certificate("envoy-rate-limit", "ca.crt")),
            "CONFIG_GRPC_XDS_SERVER_TLS_SAN": "envoy-gateway",
            "FORCE_START_WITHOUT_INITIAL_CONFIG": "true",
            "HEALTHY_WITH_AT_LEAST_ONE_CONFIG_LOADED": "false",
        }


def _listens(port: int) -> bool:
    with socket.create_connection(("127.0.0.1", port), timeout=2):
        return True
