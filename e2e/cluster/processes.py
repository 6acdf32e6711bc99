"""Background processes that outlive the shell, and that are only ever stopped by who they are.

A pid alone does not say who a process is: after a crash or a reboot it may belong to somebody else. A record therefore
holds the pid, the moment the process started (field 22 of /proc/<pid>/stat, in ticks since boot) and the boot.
"""

from __future__ import annotations

import json
import os
import select
import signal
import subprocess
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from e2e.cluster.state import ClusterDir, ClusterError, write_private

_TERM_SECONDS = 10.0
_KILL_SECONDS = 5.0

# Children of this very process stay zombies until somebody asks for their exit code.
_children: dict[int, subprocess.Popen[bytes]] = {}


@dataclass(frozen=True)
class Record:
    """Who a started process is. `order` is its place in the start; processes are stopped the other way round."""

    name: str
    order: int
    pid: int
    start_time: int
    boot_id: str

    def is_running(self) -> bool:
        """Whether this process, not just some process with its pid, runs."""
        if child := _children.get(self.pid):
            child.poll()
        return self.boot_id == _boot_id() and self.start_time == _start_time(self.pid)


def start(state: ClusterDir, name: str, argv: Sequence[str | Path], env: Mapping[str, str] | None = None) -> Record:
    """Start a process of its own session, its output in a log file, and record it."""
    order = len(records(state))
    with log_path(state, name).open("ab") as log:
        child = subprocess.Popen(  # the record below, not a context manager, is what ends it
            [str(argument) for argument in argv],
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
            cwd=state.run,
            env={**os.environ, **(env or {})},
            start_new_session=True,
        )
    _children[child.pid] = child
    record = Record(name, order, child.pid, _start_time(child.pid) or 0, _boot_id())
    write_private(state.run / f"{name}.json", json.dumps(asdict(record)))
    return record


def records(state: ClusterDir) -> list[Record]:
    """What was started and not stopped by us since, in the order of the start."""
    found = []
    for path in state.run.glob("*.json"):
        try:
            found.append(Record(**json.loads(path.read_text(encoding="utf-8"))))
        except (ValueError, TypeError):
            continue  # cut off by a crash while it was written
    return sorted(found, key=lambda record: record.order)


def stop_all(state: ClusterDir) -> list[str]:
    """Stop what is recorded, last started first, and return the names of those that were running."""
    stopped = [record.name for record in reversed(records(state)) if _stop(record)]
    for path in state.run.glob("*.json"):
        path.unlink()
    return stopped


def wait_until(
    what: str, probe: Callable[[], bool], state: ClusterDir, watched: Iterable[Record], timeout_seconds: float = 60
) -> None:
    """Wait for `probe`, and fail at once, with the end of its log, when a process it depends on dies."""
    watched = list(watched)
    deadline = time.monotonic() + timeout_seconds
    while not probe():
        for record in watched:
            if not record.is_running():
                raise ClusterError(f"{record.name} ended while waiting for {what}.\n{tail(state, record.name)}")
        if time.monotonic() > deadline:
            raise ClusterError(f"{what}: not after {timeout_seconds:.0f} s.\n{tail(state, watched[-1].name)}")
        time.sleep(0.1)


def log_path(state: ClusterDir, name: str) -> Path:
    """Where a component's output goes."""
    return state.logs / f"{name}.log"


def tail(state: ClusterDir, name: str, lines: int = 15) -> str:
    """The end of a component's log, for an error message."""
    path = log_path(state, name)
    last = path.read_text(encoding="utf-8", errors="replace").splitlines()[-lines:]
    return "\n".join([f"The end of {path}:", *(f"  {line}" for line in last)])


def _stop(record: Record) -> bool:
    try:
        # Once opened, the descriptor stays with this process even if its pid is given to another.
        descriptor = os.pidfd_open(record.pid)
    except ProcessLookupError:
        return False
    try:
        if not record.is_running():
            return False
        signal.pidfd_send_signal(descriptor, signal.SIGTERM)
        if not _has_ended(descriptor, _TERM_SECONDS):
            signal.pidfd_send_signal(descriptor, signal.SIGKILL)
            if not _has_ended(descriptor, _KILL_SECONDS):
                raise ClusterError(f"{record.name} (pid {record.pid}) does not end, not even by SIGKILL.")
        return True
    finally:
        os.close(descriptor)


def _has_ended(descriptor: int, timeout_seconds: float) -> bool:
    poll = select.poll()
    poll.register(descriptor, select.POLLIN)
    return bool(poll.poll(timeout_seconds * 1000))


def _boot_id() -> str:
    return Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()


def _start_time(pid: int) -> int | None:
    try:
        stat = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace")
    except (FileNotFoundError, ProcessLookupError):
        return None
    # The second field is the command in brackets and may itself hold blanks and brackets.
    state, *fields = stat.rpartition(")")[2].split()
    return None if state == "Z" else int(fields[18])
