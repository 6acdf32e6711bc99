"""Whether this machine can have real nodes, and if not, why: in words for whoever reads why a test was skipped."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys

from e2e.node import cgroups, packages

_COMMANDS = ("unshare", "nsenter", "mount", "ip", "ldd")
# A pair of interfaces, a bridge and an overlay, in namespaces that end with the command.
_KERNEL_TRIAL = """
set -e
ip link add left type veth peer name right
ip link add between type bridge
mount -t tmpfs none /mnt
mkdir /mnt/lower /mnt/upper /mnt/work /mnt/merged
mount -t overlay none -o lowerdir=/mnt/lower,upperdir=/mnt/upper,workdir=/mnt/work /mnt/merged
echo 1 > /proc/sys/net/ipv4/ip_forward
"""
_NAMESPACES = ("--mount", "--net", "--pid", "--uts", "--ipc", "--fork", "--mount-proc", "--propagation=private")


def objection() -> str:
    """The first thing that stands against real nodes here; empty: nothing does. Changes nothing on the machine."""
    if not sys.platform.startswith("linux"):
        return "real nodes need Linux"
    if os.geteuid() != 0:
        return "real nodes need root"
    missing = [name for name in _COMMANDS if shutil.which(name) is None]
    if missing:
        return f"not installed: {', '.join(missing)}"
    return cgroups.objection() or packages.objection() or _objection_of_kernel()


def _objection_of_kernel() -> str:
    command = ["unshare", *_NAMESPACES, "sh", "-c", _KERNEL_TRIAL]
    done = subprocess.run(command, capture_output=True, text=True, timeout=20, check=False)
    return f"the kernel does not let us: {done.stderr.strip()}" if done.returncode else ""
