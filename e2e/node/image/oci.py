"""Packs OCI images without a registry, a daemon or a Dockerfile: layers are tar files, an archive is what `ctr import` reads."""

from __future__ import annotations

import hashlib
import io
import json
import tarfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

_LAYER = "application/vnd.oci.image.layer.v1.tar"
_CONFIG = "application/vnd.oci.image.config.v1+json"
_MANIFEST = "application/vnd.oci.image.manifest.v1+json"
_MACHINES = {"x86_64": "amd64", "aarch64": "arm64"}


@dataclass(frozen=True)
class Image:
    """Layers from below, and how they are run. `repository` is a name without tag: images here are known by digest."""

    repository: str
    layers: tuple[Path, ...]
    machine: str
    entrypoint: Sequence[str] = ()
    env: Mapping[str, str] = field(default_factory=dict)
    user: str = ""
    tag: str = ""

    @property
    def digest(self) -> str:
        """Of the manifest: what a reference names."""
        return _digest(self.manifest)

    @property
    def reference(self) -> str:
        return f"{self.repository}:{self.tag}" if self.tag else f"{self.repository}@{self.digest}"

    @property
    def config(self) -> bytes:
        run = {
            "Env": [f"{name}={value}" for name, value in self.env.items()],
            "Entrypoint": list(self.entrypoint),
            "WorkingDir": "/",
            "User": self.user,
        }
        return _json(
            {
                "created": "1970-01-01T00:00:00Z",
                "architecture": _MACHINES[self.machine],
                "os": "linux",
                "config": run,
                "rootfs": {"type": "layers", "diff_ids": [_file_digest(layer) for layer in self.layers]},
            }
        )

    @property
    def manifest(self) -> bytes:
        layers = [
            {"mediaType": _LAYER, "digest": _file_digest(layer), "size": layer.stat().st_size} for layer in self.layers
        ]
        config = {"mediaType": _CONFIG, "digest": _digest(self.config), "size": len(self.config)}
        return _json({"schemaVersion": 2, "mediaType": _MANIFEST, "config": config, "layers": layers})


def write_archive(path: Path, images: Sequence[Image]) -> None:
    """One OCI layout of these images, each layer once."""
    index = {"schemaVersion": 2, "manifests": [_described(image) for image in images]}
    with tarfile.open(path, "w") as archive:
        _add(archive, "oci-layout", b'{"imageLayoutVersion":"1.0.0"}')
        _add(archive, "index.json", _json(index))
        for data in {blob: None for image in images for blob in (image.config, image.manifest)}:
            _add(archive, f"blobs/sha256/{_digest(data).removeprefix('sha256:')}", data)
        for layer in {layer: None for image in images for layer in image.layers}:
            archive.add(layer, f"blobs/sha256/{_file_digest(layer).removeprefix('sha256:')}")


def write_layer(path: Path, files: Mapping[str, Path | bytes]) -> None:
    """A layer of these files (by their place in the image): root's, readable by all, and the same bytes every time."""
    with tarfile.open(path, "w", format=tarfile.PAX_FORMAT) as archive:
        directories: set[str] = set()
        for name, content in sorted(files.items()):
            for parent in reversed(Path(name).parents):
                if str(parent) not in ("/", ".") and str(parent) not in directories:
                    directories.add(str(parent))
                    _add_directory(archive, str(parent), 0o755)
            if isinstance(content, bytes):
                _add(archive, name.lstrip("/"), content)
            else:
                executable = content.stat().st_mode & 0o100
                _add(archive, name.lstrip("/"), content.read_bytes(), 0o755 if executable else 0o644)
        if "/tmp" not in directories:  # noqa: S108 -- in the image
            _add_directory(archive, "/tmp", 0o1777)  # noqa: S108


def _described(image: Image) -> dict[str, Any]:
    manifest = image.manifest
    return {
        "mediaType": _MANIFEST,
        "digest": _digest(manifest),
        "size": len(manifest),
        "platform": {"os": "linux", "architecture": _MACHINES[image.machine]},
        "annotations": {"io.containerd.image.name": image.reference},
    }


def _add(archive: tarfile.TarFile, name: str, data: bytes, mode: int = 0o644) -> None:
    entry = tarfile.TarInfo(name)
    entry.size, entry.mode = len(data), mode
    archive.addfile(entry, io.BytesIO(data))


def _add_directory(archive: tarfile.TarFile, name: str, mode: int) -> None:
    entry = tarfile.TarInfo(name.lstrip("/"))
    entry.type, entry.mode = tarfile.DIRTYPE, mode
    archive.addfile(entry)


def _json(document: dict[str, Any]) -> bytes:
    return json.dumps(document, sort_keys=True).encode()


def _digest(data: bytes) -> str:
    return "sha256:" + hashlib.sha256(data).hexdigest()


@cache
def _file_digest(path: Path) -> str:
    with path.open("rb") as file:
        return "sha256:" + hashlib.file_digest(file, "sha256").hexdigest()
