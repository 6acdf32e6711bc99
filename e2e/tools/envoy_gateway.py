"""The CRDs of Envoy Gateway and of the Gateway API, out of the module of the one: of its chart, without the templating."""

from __future__ import annotations

import json
import subprocess
import tempfile
import zipfile
from pathlib import PurePosixPath
from typing import Final

VERSION: Final = "v1.9.1"
CRD: Final = "backendtrafficpolicies.gateway.envoyproxy.io"
_MODULE: Final = "github.com/envoyproxy/gateway"
_SUM: Final = "h1:vAVp6/AlBXJ1aOhp1mxL7fNEzVEfjADUguUhm2wzxQY="
_CHART: Final = PurePosixPath(f"{_MODULE}@{VERSION}") / "charts/gateway-crds-helm/templates"
_GATEWAY_API: Final = str(_CHART / "standard-gatewayapi-crds.yaml")


def crd() -> str:
    """That of BackendTrafficPolicy, as YAML."""
    (text,) = _files(f"_{CRD.partition('.')[0]}.yaml")
    return text


def crds() -> str:
    """All of them, as YAML."""
    return "\n---\n".join(_files(".yaml"))


def _files(end: str) -> list[str]:
    """The module comes from Go's own cache, or is downloaded into it."""
    with tempfile.TemporaryDirectory() as nowhere:  # in no module, so that none is asked for the version
        command = ["go", "mod", "download", "-json", f"{_MODULE}@{VERSION}"]
        done = subprocess.run(command, cwd=nowhere, check=True, capture_output=True, text=True, timeout=300)
    module = json.loads(done.stdout)
    assert module["Sum"] == _SUM, f"{_MODULE} {VERSION} is not what it was: {module['Sum']}"
    with zipfile.ZipFile(module["Zip"]) as source:
        ours = [name for name in source.namelist() if name.startswith(f"{_CHART / 'generated'}/")]
        names = [name for name in (*sorted(ours), _GATEWAY_API) if name.endswith(end)]
        return [_without_template(source.read(name).decode()) for name in names]


def _without_template(text: str) -> str:
    """The chart's files are CRDs between lines of its own templating."""
    return "\n".join(line for line in text.splitlines() if not line.startswith("{{"))
