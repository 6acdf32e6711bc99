"""Owns the gateway's processes: each started on ports of its own, ended by its id, and started anew by itself."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

from prometheus_client.parser import text_string_to_metric_families

from e2e.cluster.ports import free_port
from e2e.gateway.bootstrap import Offering, bootstrap
from e2e.gateway.install import Programs
from reserved_capacity.gateway import ratelimit

_START_SECONDS = 120
_STOP_SECONDS = 5
_OURS = Path(sys.executable).parent / "reserved-capacity"
_MODEL, _STANDIN = (Path(__file__).parent / name for name in ("model.py", "standin.py"))

ENVOY, SERVICE, STORE, FOLLOWER = "envoy", "ratelimit", "store", "follower"


@dataclass
class Gateway:
    """`namespace` is where the limits are published, `kubeconfig` whose rights suffice to read them."""

    programs: Programs
    directory: Path
    offerings: tuple[Offering, ...]
    accounts: tuple[str, ...]
    kubeconfig: Path
    namespace: str
    ports: dict[str, int] = field(default_factory=dict)
    _processes: dict[str, subprocess.Popen[bytes]] = field(default_factory=dict)

    def start(self) -> None:
        """Everything, in order: the service begins with limits, not without."""
        self.directory.mkdir(parents=True, exist_ok=True)
        for name in ("gateway", "admin", "service", "http", "debug", "counters", "store"):
            self.ports[name] = free_port()
        for offering in self.offerings:
            self.start_server(offering)
        self.start_part(STORE)
        self.start_part(FOLLOWER)
        self._wait("the limits are written", (self._limits / "limits.yaml").exists)
        self.start_part(SERVICE)
        for offering in self.offerings:
            self._wait(offering.name, partial(_answers, offering.port, "/health"))
        self.start_part(ENVOY)

    def start_server(self, offering: Offering) -> None:
        """The offering's inference server; it is not waited for."""
        script = _STANDIN if offering.stands_in else _MODEL
        self._start(offering.name, [self.programs.python, script, self._place(offering.name), offering.port])

    def start_part(self, name: str) -> None:
        """One of ENVOY, SERVICE, STORE, FOLLOWER; returns when it is there."""
        match name:
            case "envoy":
                config = self.directory / "envoy.json"
                config.write_text(json.dumps(self.envoy_configuration(), indent=1))
                options = ("--concurrency", "2", "--disable-hot-restart", "--log-level", "warning")
                self._start(name, [self.programs.envoy, "-c", config, *options])
                self._wait("Envoy is ready", lambda: _answers(self.ports["admin"], "/ready"))
            case "ratelimit":
                self._start(name, [self.programs.rate_limit], self.service_settings())
                self._wait("the rate-limit service is ready", lambda: _answers(self.ports["http"], "/healthcheck"))
            case "store":
                where = ("--bind", "127.0.0.1", "--port", self.ports["store"], "--dir", self.directory)
                self._start(name, [self.programs.valkey, *where, "--save", ""])
                self._wait("the store is ready", lambda: self.stored("") == 0)
            case "follower":
                namespace = ("--kubeconfig", self.kubeconfig, "--namespace", self.namespace)
                self._start(name, [_OURS, "follow-limits", *namespace, "--directory", self._limits])

    def kill(self, name: str) -> None:
        """`kill -9`, and wait until it is gone."""
        process = self._processes.pop(name)
        process.kill()
        process.wait()

    def stop(self) -> None:
        """The last started first."""
        for process in reversed(list(self._processes.values())):
            process.terminate()
            try:
                process.wait(_STOP_SECONDS)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
        self._processes.clear()

    def counted(self, offering: str, account: str, key: str, direction: str) -> int:
        """Tokens of this minute, in the store."""
        begun = int(time.time()) // 60 * 60
        place = f"{ratelimit.OFFERING}_{offering}_{ratelimit.ACCOUNT}_{account}_{key}_{direction}"
        return self.stored(f"{ratelimit.DOMAIN}_{place}_{begun}")

    def stored(self, key: str) -> int:
        """What the store has at a key; 0 where nothing is, OSError where no store is."""
        with socket.create_connection(("127.0.0.1", self.ports["store"]), timeout=5) as connection:
            connection.sendall(f"*2\r\n$3\r\nGET\r\n${len(key)}\r\n{key}\r\n".encode())
            lines = connection.makefile("rb")
            return 0 if lines.readline().startswith(b"$-1") else int(lines.readline())

    def config(self) -> frozenset[str]:
        """What the rate-limit service goes by, which it tells in any order."""
        return frozenset(self.page(self.ports["debug"], "/rlconfig").splitlines())

    def page(self, port: int, path: str) -> str:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}{path}", timeout=5) as answer:
            text: str = answer.read().decode()
        return text

    def counted_by_server(self, port: int) -> dict[str, int]:
        """Tokens by direction, as llama.cpp itself counts them. It counts apart what it had in its cache;
        `usage.prompt_tokens` is both."""
        families = text_string_to_metric_families(self.page(port, "/metrics"))
        found = {sample.name: int(sample.value) for each in families for sample in each.samples}
        return {
            "input": found["llamacpp:prompt_tokens_total"] + found["llamacpp:prompt_tokens_cached_total"],
            "output": found["llamacpp:tokens_predicted_total"],
        }

    @property
    def _limits(self) -> Path:
        return self.directory / "limits" / "config"

    def _place(self, name: str) -> Path:
        place = self.directory / name
        place.mkdir(exist_ok=True)
        return place

    def envoy_configuration(self) -> dict[str, Any]:
        return bootstrap(self.ports, self.offerings, self.accounts)

    def service_settings(self) -> dict[str, str]:
        listening = {"": "http", "GRPC_": "service", "DEBUG_": "debug"}
        return {
            **{f"{name}PORT": str(self.ports[port]) for name, port in listening.items()},
            **{f"{name}HOST": "127.0.0.1" for name in listening},
            "RUNTIME_ROOT": str(self._limits.parent),
            "RUNTIME_SUBDIRECTORY": "",
            "RUNTIME_APPDIRECTORY": self._limits.name,
            "RUNTIME_WATCH_ROOT": "false",
            "RUNTIME_IGNOREDOTFILES": "true",
            "HEALTHY_WITH_AT_LEAST_ONE_CONFIG_LOADED": "true",
            "RESPONSE_DYNAMIC_METADATA": "true",
            "REDIS_SOCKET_TYPE": "tcp",
            "REDIS_URL": f"127.0.0.1:{self.ports['store']}",
            "USE_STATSD": "false",
            "USE_PROMETHEUS": "true",
            "PROMETHEUS_ADDR": f"127.0.0.1:{self.ports['counters']}",
        }

    def _start(self, name: str, command: list[object], settings: Mapping[str, str] | None = None) -> None:
        with (self.directory / f"{name}.log").open("ab") as log:
            self._processes[name] = subprocess.Popen(
                [str(word) for word in command],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                cwd=self.directory,
                env={**os.environ, **(settings or {})},
            )

    def _wait(self, what: str, check: Callable[[], bool]) -> None:
        deadline = time.monotonic() + _START_SECONDS
        while True:
            try:
                if check():
                    return
            except (OSError, urllib.error.URLError):
                pass
            ended = [name for name, process in self._processes.items() if process.poll() is not None]
            assert not ended, f"{ended} ended; see {self.directory}"
            assert time.monotonic() < deadline, f"not within {_START_SECONDS} s: {what}; see {self.directory}"
            time.sleep(0.1)


def _answers(port: int, path: str) -> bool:
    with urllib.request.urlopen(f"http://127.0.0.1:{port}{path}", timeout=2) as answer:
        return bool(answer.status == 200)
