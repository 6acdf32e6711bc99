"""Owns the control plane of Envoy Gateway as a program: built once from its Go module, with what it needs of a cluster."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from e2e.tools.binaries import Tool

# In a pod its certificates are a volume at /certs, which no flag changes. Here they are below its working directory, where
# its own `certgen --local` writes them.
_CERTIFICATES = ('"/certs/', '"certs/envoy-gateway/')


@dataclass(frozen=True)
class _EnvoyGateway(Tool):
    @property
    def directory(self) -> Path:
        return Path(__file__).parent / "go"


ENVOY_GATEWAY = _EnvoyGateway(
    name="envoy-gateway",
    package="github.com/envoyproxy/gateway/cmd/envoy-gateway",
    pinned="github.com/envoyproxy/gateway",
    version_packages=(),
    data=(),
    announcement="first run compiles Envoy Gateway, 4 to 5 minutes on 2 cores",
    edits=(
        ("internal/xds/runner/runner.go", *_CERTIFICATES),
        ("internal/globalratelimit/runner/runner.go", *_CERTIFICATES),
    ),
)
