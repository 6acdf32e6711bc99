"""Owns a real Prometheus as a process, for tests that ask one."""

from __future__ import annotations

import json
import subprocess
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from e2e.cluster.ports import free_port

_START_SECONDS = 120


@contextmanager
def serving(program: Path, place: Path, config: Mapping[str, Any], *flags: str) -> Iterator[str]:
    """Its address, once it answers; what it keeps is in `place`."""
    (place / "prometheus.yaml").write_text(json.dumps(config))
    port = free_port()
    command = [str(program), f"--config.file={place}/prometheus.yaml", f"--storage.tsdb.path={place}/data"]
    with (place / "prometheus.log").open("wb") as log:
        process = subprocess.Popen([*command, f"--web.listen-address=127.0.0.1:{port}", *flags], stdout=log, stderr=log)
    try:
        deadline = time.monotonic() + _START_SECONDS
        while not _is_ready(port):
            assert process.poll() is None, f"Prometheus ended; see {place}/prometheus.log"
            assert time.monotonic() < deadline, f"Prometheus is not ready after {_START_SECONDS} s"
            time.sleep(0.05)
        yield f"http://127.0.0.1:{port}"
    finally:
        process.kill()
        process.wait()


def _is_ready(port: int) -> bool:
    try:
        urllib.request.urlopen(f"http://127.0.0.1:{port}/-/ready", timeout=2).close()
    except (urllib.error.URLError, OSError):
        return False
    return True
