"""Which tools there are. One Go module pins them all, so that Helm 3 and kubeconform cost seconds beside Helm 4."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from e2e.cluster import build
from e2e.cluster.build import Module

_GO = Path(__file__).parent / "go"


@dataclass(frozen=True)
class Tool(Module):
    """One command of the module in `go/`."""

    @property
    def directory(self) -> Path:
        return _GO

    def binary(self) -> Path:
        """The built command; the first run compiles it, later ones find it in the user's cache."""
        return build.ensure(self) / self.name


HELM = Tool(
    name="helm",
    package="helm.sh/helm/v4/cmd/helm",
    pinned="helm.sh/helm/v4",
    version_packages=(),
    data=(),
    announcement="first run compiles Helm 4, 2 to 3 minutes on 2 cores",
)
HELM_3 = Tool(
    name="helm3",
    package="helm.sh/helm/v3/cmd/helm",
    pinned="helm.sh/helm/v3",
    version_packages=(),
    data=(),
    announcement="first run compiles Helm 3, seconds after Helm 4",
)
KUBECONFORM = Tool(
    name="kubeconform",
    package="github.com/yannh/kubeconform/cmd/kubeconform",
    pinned="github.com/yannh/kubeconform",
    version_packages=(),
    data=(),
    announcement="first run compiles kubeconform, a second",
)
