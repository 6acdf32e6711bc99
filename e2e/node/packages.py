"""What a node needs that Go's module proxy cannot give: runc, which is partly C, and nft with its libraries, from Debian.

They are unpacked into the user's cache and never installed.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
from dataclasses import dataclass
from pathlib import Path

from e2e.cluster.build import cache_root
from e2e.cluster.state import ClusterError

_APT_SECONDS = 240
_PACKAGES = ("runc", "libseccomp2", "nftables", "libnftables1", "libnftnl11", "libmnl0", "libjansson4", "libedit2")
_HOME = "debian-runc-nftables"


class NotFetched(Exception):
    """A registry did not give what is needed once; the message is the client's."""


@dataclass(frozen=True)
class SystemTools:
    """Where runc and nft are, and the directory of the libraries that they need (None: the system's)."""

    runc: Path
    nft: Path
    libraries: Path | None

    @property
    def environment(self) -> dict[str, str]:
        """What a process needs to run them."""
        return {"LD_LIBRARY_PATH": str(self.libraries)} if self.libraries else {}


def find() -> SystemTools | None:
    """Those on PATH, or those unpacked before."""
    runc, nft = shutil.which("runc"), shutil.which("nft")
    if runc and nft:
        return SystemTools(Path(runc), Path(nft), None)
    home = cache_root() / _HOME
    libraries = next(home.glob("usr/lib/*/libnftables.so.1"), None)
    if libraries is None:
        return None
    return SystemTools(home / "usr/sbin/runc", home / "usr/sbin/nft", libraries.parent)


def objection() -> str:
    """Why they cannot be had on this machine; empty: they can."""
    if find() or (shutil.which("apt-get") and shutil.which("dpkg")):
        return ""
    return "runc and nft are not on PATH, and without apt-get and dpkg they cannot be fetched"


def ensure() -> SystemTools:
    """Find them, or fetch and unpack Debian's."""
    if found := find():
        return found
    cache_root().mkdir(mode=0o700, parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=".fetching-", dir=cache_root()) as scratch:
        for archive in _downloaded(Path(scratch)):
            _run(["dpkg", "-x", str(archive), f"{scratch}/unpacked"], Path(scratch))
        home = cache_root() / _HOME
        shutil.rmtree(home, ignore_errors=True)
        os.replace(f"{scratch}/unpacked", home)
    found = find()
    if found is None:
        raise ClusterError(f"Debian's packages {', '.join(_PACKAGES)} do not hold what a node needs.")
    return found


def _downloaded(scratch: Path) -> list[Path]:
    apt = ["apt-get", "-q", "-o", "Acquire::Retries=3", "-o", f"Dir::State::Lists={scratch}/lists"]
    apt += ["-o", f"Dir::Cache={scratch}/apt", "-o", "APT::Sandbox::User=root"]
    for directory in ("lists/partial", "apt/archives/partial"):
        (scratch / directory).mkdir(parents=True)
    _run([*apt, "update"], scratch)
    _run([*apt, "download", *_PACKAGES], scratch)
    return sorted(scratch.glob("*.deb"))


def _run(command: list[str], cwd: Path) -> None:
    try:
        done = subprocess.run(command, cwd=cwd, capture_output=True, text=True, timeout=_APT_SECONDS, check=False)
    except subprocess.TimeoutExpired:
        raise NotFetched(f"`{' '.join(command)}` took longer than {_APT_SECONDS} s") from None
    if done.returncode:
        raise NotFetched(f"`{' '.join(command)}` failed:\n{done.stdout}{done.stderr}")
