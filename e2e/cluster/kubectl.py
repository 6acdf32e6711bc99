"""Finds a kubectl and runs it against one cluster."""

from __future__ import annotations

import os
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

from e2e.cluster.state import ClusterError


@dataclass(frozen=True)
class Kubectl:
    """A kubectl that is tied to a kubeconfig, whatever the environment says."""

    binary: Path
    kubeconfig: Path | None

    def __call__(
        self,
        *arguments: str,
        input: str | None = None,  # noqa: A002 -- the name that subprocess.run gives it
        check: bool = True,
        timeout_seconds: float = 120,
    ) -> subprocess.CompletedProcess[str]:
        """Run kubectl; with `check`, a failure is an error that shows what kubectl said."""
        environment = {**os.environ}
        if self.kubeconfig:
            environment["KUBECONFIG"] = str(self.kubeconfig)
        done = subprocess.run(
            [str(self.binary), *arguments],
            input=input,
            env=environment,
            capture_output=True,
            text=True,
            timeout=timeout_seconds,
            check=False,
        )
        if check and done.returncode != 0:
            raise ClusterError(f"kubectl {' '.join(arguments)}: {done.stderr.strip() or done.stdout.strip()}")
        return done

    def succeeds(self, *arguments: str, timeout_seconds: float = 10) -> bool:
        """Whether the command works, as a probe: neither a refusal nor a hang is an error."""
        try:
            return self(*arguments, check=False, timeout_seconds=timeout_seconds).returncode == 0
        except subprocess.TimeoutExpired:
            return False


def on_path() -> Path | None:
    """The kubectl that the user has."""
    found = shutil.which("kubectl")
    return Path(found) if found else None
