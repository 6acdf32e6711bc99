"""Checks manifests with kubeconform against the schemas of a Kubernetes version, offline.

The schemas are those of the package kubernetes-validate, written out for kubeconform.
"""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterable
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import Any

_SHARED = "_definitions.json"


@dataclass(frozen=True)
class Kubeconform:
    """One binary, one version of Kubernetes (`1.33`), and a directory for the schemas."""

    binary: Path
    version: str
    directory: Path

    def problems(self, documents: Iterable[dict[str, Any]]) -> list[str]:
        """What is wrong, one line for each object; unknown fields count."""
        listed = list(documents)
        self._write_schemas(listed)
        done = subprocess.run(
            [
                str(self.binary),
                "-strict",
                "-output=json",
                f"-schema-location={self.directory}/{{{{.ResourceKind}}}}.json",
            ],
            input="\n---\n".join(json.dumps(document) for document in listed),
            capture_output=True,
            text=True,
            check=False,
        )
        return [f"{found['kind']} {found['name']}: {found['msg']}" for found in json.loads(done.stdout)["resources"]]

    def _write_schemas(self, documents: list[dict[str, Any]]) -> None:
        self.directory.mkdir(parents=True, exist_ok=True)
        schemas = resources.files("kubernetes_validate") / "kubernetes-json-schema" / f"v{self.version}.0-local-strict"
        wanted = {f"{document['kind'].lower()}.json": f"{_file_name(document)}.json" for document in documents}
        for name, source in {_SHARED: _SHARED, **wanted}.items():
            if not (self.directory / name).exists():
                (self.directory / name).write_text(_local((schemas / source).read_text()))


def _file_name(document: dict[str, Any]) -> str:
    group, _, version = document["apiVersion"].rpartition("/")
    return "-".join(part for part in (document["kind"].lower(), group.split(".")[0], version) if part)


def _local(text: str) -> str:
    """Without the address that the schema claims to have: kubeconform would resolve references against it, on the network."""
    schema = json.loads(text.replace(f'"/api/{_SHARED}', f'"{_SHARED}'))
    schema.pop("$id", None)
    return json.dumps(schema)
