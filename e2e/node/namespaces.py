"""unshare(2), setns(2) and prctl(2), which the Python standard library has only from 3.12 on, or not at all."""

from __future__ import annotations

import ctypes
import os
import signal
from pathlib import Path

CLONE_NEWNS = 0x00020000
CLONE_NEWUTS = 0x04000000
CLONE_NEWIPC = 0x08000000
CLONE_NEWPID = 0x20000000
CLONE_NEWNET = 0x40000000
_PR_SET_PDEATHSIG = 1

_libc = ctypes.CDLL(None, use_errno=True)


def unshare(flags: int) -> None:
    """Give this thread namespaces of its own; a new pid namespace begins with its next child."""
    _check(_libc.unshare(flags), "unshare")


def enter(path: Path, flag: int) -> None:
    """Take this thread into the namespace behind a file of /proc."""
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        _check(_libc.setns(descriptor, flag), f"setns {path}")
    finally:
        os.close(descriptor)


def die_with_parent() -> None:
    """Have the kernel kill this process when the thread that forked it ends, however that comes about."""
    _check(_libc.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0), "prctl")


def _check(result: int, what: str) -> None:
    if result:
        number = ctypes.get_errno()
        raise OSError(number, f"{what}: {os.strerror(number)}")
