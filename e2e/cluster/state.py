"""The state directory of one cluster: what lies where, and who may read it."""

from __future__ import annotations

import fcntl
import os
import shutil
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

CHECKOUT = Path(__file__).resolve().parents[2]

# Only these are ever removed, so that a CLUSTER_DIR that points at somebody's home directory by mistake costs nothing.
_OWNED = ("audit.log", "bin", "certs", "cluster.json", "config", "etcd", "kubeconfig", "logs", "run")


class ClusterError(Exception):
    """A start or a command failed; the message says what to do or shows the log that tells why."""


def say(message: str) -> None:
    """Progress goes to stderr: the last line of stdout is for the shell to evaluate."""
    sys.stderr.write(f"{message}\n")  # in one piece, also where two processes start clusters
    sys.stderr.flush()


@dataclass(frozen=True)
class ClusterDir:
    """Paths below CLUSTER_DIR."""

    root: Path

    @classmethod
    def from_environment(cls) -> ClusterDir:
        """CLUSTER_DIR, or `.cluster` in this checkout, so that two checkouts never meet."""
        return cls(Path(os.environ.get("CLUSTER_DIR") or CHECKOUT / ".cluster").absolute())

    @property
    def kubeconfig(self) -> Path:
        """The administrator's kubeconfig."""
        return self.root / "kubeconfig"

    @property
    def audit_log(self) -> Path:
        """One JSON audit event a line."""
        return self.root / "audit.log"

    @property
    def description(self) -> Path:
        """What was started last; absent until a start succeeds."""
        return self.root / "cluster.json"

    @property
    def logs(self) -> Path:
        """One log for each component."""
        return self.root / "logs"

    @property
    def run(self) -> Path:
        """One record for each process, and the working directory of them all."""
        return self.root / "run"

    @property
    def config(self) -> Path:
        """Credentials and configuration of the components."""
        return self.root / "config"

    @property
    def certs(self) -> Path:
        """The API server's serving certificate, which it makes itself."""
        return self.root / "certs"

    @property
    def bin(self) -> Path:
        """Holds a kubectl where PATH has none."""
        return self.root / "bin"

    def reset(self) -> None:
        """Forget the previous cluster; every start begins empty."""
        self._remove_owned()
        for directory in (self.logs, self.run, self.config, self.certs, self.bin):
            directory.mkdir(mode=0o700)

    def purge(self) -> None:
        """Remove the state; the directory itself only when nothing of anybody else is in it."""
        self._remove_owned()
        (self.root / "lock").unlink(missing_ok=True)
        if not any(self.root.iterdir()):
            self.root.rmdir()

    def _remove_owned(self) -> None:
        for name in _OWNED:
            path = self.root / name
            if path.is_dir() and not path.is_symlink():
                shutil.rmtree(path)
            else:
                path.unlink(missing_ok=True)

    @contextmanager
    def lock(self) -> Iterator[None]:
        """Let one `up` or `down` at a time work on this directory."""
        while True:
            self.root.mkdir(mode=0o700, parents=True, exist_ok=True)
            if not any(self.root.iterdir()):
                self.root.chmod(
                    0o700
                )  # made by the user for us; a directory with other files in it is not ours to close
            with (self.root / "lock").open("a") as file:
                fcntl.flock(file, fcntl.LOCK_EX)
                if self._is_lock(file.fileno()):
                    yield
                    return

    def _is_lock(self, descriptor: int) -> bool:
        # Whoever held the lock before may have purged the directory, and this lock file with it.
        try:
            return os.path.samestat(os.fstat(descriptor), (self.root / "lock").stat())
        except FileNotFoundError:
            return False


def write_private(path: Path, text: str) -> None:
    """Write a file that nobody else could read at any moment."""
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with os.fdopen(descriptor, "w", encoding="utf-8") as file:
        file.write(text)
