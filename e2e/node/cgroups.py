"""Control groups of one node, in every version 1 hierarchy, and nothing of them left afterwards."""

from __future__ import annotations

import contextlib
import os
import time
from pathlib import Path

_ROOT = Path("/sys/fs/cgroup")
_NEEDED = ("cpu", "cpuset", "memory", "pids", "devices")
_REMOVAL_SECONDS = 10.0


def objection() -> str:
    """Why nodes cannot have control groups here; empty: they can."""
    missing = [name for name in _NEEDED if not (_ROOT / name / "cgroup.procs").exists()]
    if missing:
        return f"the cgroup v1 hierarchies {', '.join(missing)} are not mounted (cgroup v2 alone has not been tried)"
    refused = [name for name in _NEEDED if not os.access(_ROOT / name, os.W_OK)]
    return f"the cgroup hierarchies {', '.join(refused)} cannot be written" if refused else ""


def make(name: str) -> None:
    """The group of this name in every hierarchy."""
    for hierarchy in _hierarchies():
        (hierarchy / name).mkdir(exist_ok=True)
    # A new cpuset is empty, and takes nobody in.
    for file in ("cpuset.cpus", "cpuset.mems"):
        (_ROOT / "cpuset" / name / file).write_text((_ROOT / "cpuset" / file).read_text())


def join(name: str) -> None:
    """Put this process, and what it will start, into the group."""
    for hierarchy in _hierarchies():
        (hierarchy / name / "cgroup.procs").write_text("0")


def remove(name: str) -> list[str]:
    """Remove the group, whose processes have ended; what is left of it after 10 s."""
    deadline = time.monotonic() + _REMOVAL_SECONDS
    while left := [hierarchy / name for hierarchy in _hierarchies() if (hierarchy / name).is_dir()]:
        if time.monotonic() > deadline:
            return [str(path) for path in left]
        for path in left:
            _remove_tree(path)
        time.sleep(0.05)
    return []


def _remove_tree(path: Path) -> None:
    for directory, _, _ in os.walk(path, topdown=False):
        with contextlib.suppress(OSError):  # busy for a moment after its last process
            os.rmdir(directory)


def _hierarchies() -> list[Path]:
    """`cpu,cpuacct` is one hierarchy under several names, of which all but one are links."""
    return [path for path in sorted(_ROOT.iterdir()) if path.is_dir() and not path.is_symlink()]
