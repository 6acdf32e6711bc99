"""Owns where Prometheus' own tools come from: PATH, else Debian's package, unpacked into the user's cache.

Versions are pinned loosely, to what FIRST and BEYOND say: the rules use nothing newer than 2.42 (Debian 12; 13 has 2.53).
Nothing outside the cache directory is touched, and root is not needed: apt reads the machine's sources but keeps its
lists in a directory of ours, and `dpkg -x` only unpacks.
"""

from __future__ import annotations

import fcntl
import os
import re
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

FIRST, BEYOND = (2, 42), (4, 0)
_PACKAGE = "prometheus"
_APT_SECONDS = 240


class NoPrometheus(Exception):
    """The message says what to install."""


@dataclass(frozen=True, slots=True)
class Prometheus:
    """Both commands, of one version."""

    promtool: Path
    prometheus: Path

    def check(self, *arguments: str, cwd: Path | None = None, given: str | None = None) -> tuple[int, str]:
        """`promtool` with these arguments: its exit code, and all that it said."""
        done = subprocess.run(
            [str(self.promtool), *arguments], cwd=cwd, input=given, capture_output=True, text=True, check=False
        )
        return done.returncode, done.stdout + done.stderr


def find() -> Prometheus:
    """The tools; the first call on a machine without them downloads 35 MB. Raises NoPrometheus."""
    promtool, prometheus = shutil.which("promtool"), shutil.which("prometheus")
    if promtool and prometheus and _fits(Path(promtool)):
        return Prometheus(Path(promtool), Path(prometheus))
    with _lock():
        for home in sorted(_cache().glob("prometheus-*/usr/bin"), reverse=True):
            if _fits(home / "promtool"):
                return Prometheus(home / "promtool", home / "prometheus")
        home = _unpacked() / "usr/bin"
    if not _fits(home / "promtool"):
        raise NoPrometheus(f"{home / 'promtool'} is not of a version from {_dotted(FIRST)} to below {_dotted(BEYOND)}.")
    return Prometheus(home / "promtool", home / "prometheus")


def _fits(promtool: Path) -> bool:
    if not promtool.is_file():
        return False
    said = subprocess.run([str(promtool), "--version"], capture_output=True, text=True, check=False)
    match = re.search(r"version v?(\d+)\.(\d+)", said.stdout + said.stderr)
    return match is not None and FIRST <= (int(match[1]), int(match[2])) < BEYOND


def _unpacked() -> Path:
    """Debian's package in its directory of the cache."""
    if not (shutil.which("apt-get") and shutil.which("dpkg")):
        raise NoPrometheus(
            f"The alert rules are tested with promtool {_dotted(FIRST)} or newer, which is not on PATH, and without apt-get "
            "and dpkg it cannot be fetched from here. Install Prometheus (promtool and prometheus) and put it on PATH."
        )
    with tempfile.TemporaryDirectory(prefix=".fetching-", dir=_cache()) as scratch:
        archive = _downloaded(Path(scratch))
        version = archive.name.split("_")[1]
        _run(["dpkg", "-x", str(archive), f"{scratch}/unpacked"], Path(scratch))
        home = _cache() / f"prometheus-{version}"
        shutil.rmtree(home, ignore_errors=True)
        os.replace(f"{scratch}/unpacked", home)
    return home


def _downloaded(scratch: Path) -> Path:
    apt = [
        "apt-get",
        "-q",
        "-o",
        "Acquire::Retries=3",
        "-o",
        f"Dir::State::Lists={scratch}/lists",
        "-o",
        f"Dir::Cache={scratch}/apt",
    ]
    if os.geteuid() == 0:
        apt += ["-o", "APT::Sandbox::User=root"]  # the sandbox's user may not write here
    for directory in ("lists/partial", "apt/archives/partial"):
        (scratch / directory).mkdir(parents=True)
    _run([*apt, "update"], scratch)
    _run([*apt, "download", _PACKAGE], scratch)
    return next(scratch.glob(f"{_PACKAGE}_*.deb"))


def _run(command: list[str], cwd: Path) -> None:
    try:
        done = subprocess.run(command, cwd=cwd, capture_output=True, text=True, timeout=_APT_SECONDS, check=False)
    except subprocess.TimeoutExpired:
        raise NoPrometheus(f"`{' '.join(command)}` took longer than {_APT_SECONDS} s.") from None
    if done.returncode:
        raise NoPrometheus(
            f"promtool is not on PATH, and `{' '.join(command)}` failed, with which it would have been fetched:\n"
            f"{done.stdout}{done.stderr}\nInstall it yourself: apt-get install prometheus"
        )


def _cache() -> Path:
    home = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "reserved-capacity"
    home.mkdir(mode=0o700, parents=True, exist_ok=True)
    return home


@contextmanager
def _lock() -> Iterator[None]:
    """One download, however many workers test."""
    with (_cache() / "prometheus.lock").open("a") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def _dotted(version: tuple[int, int]) -> str:
    return f"{version[0]}.{version[1]}"
