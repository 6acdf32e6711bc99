"""Runs commands in front of an audience: each is printed as a reader would type it, run as printed, and its answer shown."""

from __future__ import annotations

import os
import shlex
import subprocess
import time
from collections.abc import Callable, Mapping
from pathlib import Path

from e2e.cluster.state import ClusterError

_LOOK_SECONDS = 0.5


class Shell:
    """`check` is called while a command runs and raises when waiting has become pointless."""

    def __init__(self, directory: Path, environment: Mapping[str, str]) -> None:
        self._directory = directory
        self._environment = {**os.environ, **environment}
        self.check: Callable[[], None] = lambda: None

    def tell(self, text: str) -> None:
        """Print one step's heading."""
        print(f"\n== {text}", flush=True)

    def run(self, command: str, *, timeout_seconds: float = 60, since: str = "") -> str:
        """Run a command that must succeed; of its answer, show what begins with the line `since`."""
        code, answer = self._execute(command, timeout_seconds)
        self._show(answer, since)
        if code != 0:
            raise ClusterError(f"`{command}` failed with exit code {code}.")
        return answer

    def refused(self, command: str, *, because: str, timeout_seconds: float = 60) -> None:
        """Run a command that must be refused, with a message that holds `because`."""
        code, answer = self._execute(command, timeout_seconds)
        self._show(answer)
        if code == 0:
            raise ClusterError(f"`{command}` should have been refused.")
        if because not in answer:
            raise ClusterError(f"`{command}` was refused, but its message does not say {because!r}.")

    def ask(self, command: str, *, may_fail: bool = False) -> str:
        """What a command answers, without showing it; of one that may fail, nothing."""
        done = subprocess.run(
            shlex.split(command),
            cwd=self._directory,
            env=self._environment,
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        if done.returncode and not may_fail:
            raise ClusterError(f"`{command}` failed: {done.stderr.strip()}")
        return "" if done.returncode else done.stdout

    def announce(self, command: str) -> None:
        """Print a command that something else runs, or that a reader has to run first."""
        print(f"$ {command}", flush=True)

    def _execute(self, command: str, timeout_seconds: float) -> tuple[int, str]:
        self.announce(command)
        deadline = time.monotonic() + timeout_seconds
        with subprocess.Popen(
            shlex.split(command),
            cwd=self._directory,
            env=self._environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        ) as process:
            try:
                while True:
                    try:
                        answer, _ = process.communicate(timeout=_LOOK_SECONDS)
                    except subprocess.TimeoutExpired:
                        self.check()
                        if time.monotonic() > deadline:
                            raise ClusterError(f"`{command}` did not end within {timeout_seconds:.0f} s.") from None
                    else:
                        return process.returncode, answer
            finally:
                process.kill()

    @staticmethod
    def _show(answer: str, since: str = "") -> None:
        lines = answer.splitlines()
        first = next((index for index, line in enumerate(lines) if line.startswith(since)), 0) if since else 0
        if first:
            print("[...]")
        print("\n".join(lines[first:]), flush=True)
