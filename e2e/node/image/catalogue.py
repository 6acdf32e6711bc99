"""The images of the real nodes: the server and two snapshots for it, the operator, a client, and the pause of every pod."""

from __future__ import annotations

import platform
from dataclasses import dataclass
from pathlib import Path

from e2e.cluster.state import CHECKOUT
from e2e.node import configs, programs
from e2e.node.image import oci, python
from e2e.node.image.gguf import Model
from e2e.node.image.oci import Image

_SERVING = Path(__file__).parent.parent / "serving"
_REPOSITORY = "node.example"
_NOBODY = "65532:65532"

# The newer one is the smaller one: an update that yields more throughput from the same compute units.
OLD, NEW = Model("tiny-2024-04-09", 7, layers=6, width=128), Model("tiny-2025-01-15", 8, layers=2, width=64)


@dataclass(frozen=True)
class Catalogue:
    """Everything that is imported into the nodes."""

    server: Image
    snapshots: dict[str, Image]
    operator: Image
    client: Image
    pause: Image

    @property
    def for_gpus(self) -> tuple[Image, ...]:
        """What nodes with GPUs are given."""
        return (self.pause, self.server, *self.snapshots.values())

    @property
    def for_others(self) -> tuple[Image, ...]:
        return (self.pause, self.operator, self.client)


def fetch() -> None:
    """Make the layers that come from a registry, unless they are in the cache."""
    _operator_packages()
    _server_packages()


def _operator_packages() -> Path:
    return python.packages("operator-packages", CHECKOUT / "requirements-run.lock")


def _server_packages() -> Path:
    return python.packages("server-packages", _SERVING / "requirements.lock")


def packed(directory: Path) -> Catalogue:
    """The images of this checkout; layers that change with it are made in `directory`, the others are in the cache."""
    base = python.base()
    operator = python.distribution(directory / "operator.tar", CHECKOUT)
    serving = directory / "serving.tar"
    oci.write_layer(serving, {f"/srv/{name}.py": _SERVING / f"{name}.py" for name in ("serve", "load")})
    server = (base, _server_packages(), serving)
    return Catalogue(
        server=_image("server", server, python.PYTHON, "/srv/serve.py"),
        snapshots={model.name: _snapshot(directory, model) for model in (OLD, NEW)},
        operator=_image("operator", (base, _operator_packages(), operator), python.PYTHON, "-m", "reserved_capacity"),
        client=_image("client", (base, serving), python.PYTHON, "/srv/load.py"),
        pause=_pause(directory),
    )


def _image(name: str, layers: tuple[Path, ...], *entrypoint: str) -> Image:
    return Image(f"{_REPOSITORY}/{name}", layers, platform.machine(), entrypoint, python.ENV, _NOBODY)


def _snapshot(directory: Path, model: Model) -> Image:
    layer = directory / f"{model.name}.tar"
    oci.write_layer(layer, {"/model.gguf": model.to_bytes()})
    return Image(f"{_REPOSITORY}/models/tiny", (layer,), platform.machine())


def _pause(directory: Path) -> Image:
    layer = directory / "pause.tar"
    oci.write_layer(layer, {"/pause": programs.PAUSE.binary})
    repository, tag = configs.PAUSE_IMAGE.split(":")
    return Image(repository, (layer,), platform.machine(), ("/pause",), tag=tag)
