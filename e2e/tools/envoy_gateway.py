"""Envoy Gateway's own CRD of BackendTrafficPolicy, out of its Go module: the whole of it is not built here."""

from __future__ import annotations

import json
import subprocess
import tempfile
import zipfile
from typing import Final

VERSION: Final = "v1.9.1"
CRD: Final = "backendtrafficpolicies.gateway.envoyproxy.io"
_MODULE: Final = "github.com/envoyproxy/gateway"
_SUM: Final = "h1:vAVp6/AlBXJ1aOhp1mxL7fNEzVEfjADUguUhm2wzxQY="
_FILE: Final = "charts/gateway-crds-helm/templates/generated/gateway.envoyproxy.io_backendtrafficpolicies.yaml"


def crd() -> str:
    """The CRD as YAML. The module comes from Go's own cache, or is downloaded into it."""
    with tempfile.TemporaryDirectory() as nowhere:  # in no module, so that none is asked for the version
        command = ["go", "mod", "download", "-json", f"{_MODULE}@{VERSION}"]
        done = subprocess.run(command, cwd=nowhere, check=True, capture_output=True, text=True, timeout=300)
    module = json.loads(done.stdout)
    assert module["Sum"] == _SUM, f"{_MODULE} {VERSION} is not what it was: {module['Sum']}"
    with zipfile.ZipFile(module["Zip"]) as source:
        return _without_template(source.read(f"{_MODULE}@{VERSION}/{_FILE}").decode())


def _without_template(text: str) -> str:
    """The chart's file is one CRD between lines of its own templating."""
    return "\n".join(line for line in text.splitlines() if not line.startswith("{{"))
