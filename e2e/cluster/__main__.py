"""`python -m e2e.cluster`: the commands behind `make cluster` and `make cluster-down`."""

from __future__ import annotations

import argparse
import signal
import subprocess
import sys
from types import FrameType

from e2e.cluster import lifecycle, nodes, processes
from e2e.cluster.state import ClusterDir, ClusterError, say


def main() -> int:
    """Run one command; failures that have an explanation show it without a traceback."""
    # As an exception it unwinds `up`, which then stops what it has started.
    signal.signal(signal.SIGTERM, _exit)
    arguments = _parser().parse_args()
    state = ClusterDir.from_environment()
    try:
        if arguments.command == "up":
            _up(state)
        elif arguments.command == "down":
            stopped = lifecycle.down(state, purge=arguments.purge)
            say(f"cluster: stopped {', '.join(stopped)}" if stopped else "cluster: nothing was running")
        elif arguments.command == "env":
            print("\n".join(lifecycle.require(state).exports()))
        elif arguments.command == "status":
            return _status(state)
        else:
            new = nodes.gpu_nodes(arguments.count, arguments.zone, arguments.gpus, arguments.prefix)
            print("\n".join(nodes.apply(lifecycle.require(state).kubectl, new)))
    except (ClusterError, subprocess.CalledProcessError) as error:
        say(f"cluster: {error}")
        return 1
    except KeyboardInterrupt:
        return 130
    return 0


def _up(state: ClusterDir) -> None:
    cluster = lifecycle.up(state)
    print(f"audit log: {cluster.audit_log or f'none with {cluster.backend}'}")
    print(f"component logs: {state.logs}")
    print("\n".join(cluster.exports()))


def _status(state: ClusterDir) -> int:
    for record in processes.records(state):
        print(f"{record.name:24} {'running' if record.is_running() else 'ended':8} pid {record.pid}")
    cluster = lifecycle.current(state)
    print(f"{state.root}: {f'ready ({cluster.backend})' if cluster else 'not running'}")
    return 0 if cluster else 1


def _exit(number: int, _frame: FrameType | None) -> None:
    sys.exit(128 + number)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m e2e.cluster", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    commands.add_parser("up", help="start a cluster that is empty but for KWOK, unless one runs already")
    down = commands.add_parser("down", help="stop it; its logs stay for reading")
    down.add_argument("--purge", action="store_true", help="remove its state directory too")
    commands.add_parser("env", help="print the exports of the running cluster")
    commands.add_parser("status", help="show each process; exit code 1 unless all is ready")
    fake = commands.add_parser("nodes", help="create fake GPU nodes and wait until they are Ready")
    fake.add_argument("--count", type=int, default=2)
    fake.add_argument("--zone", default="z1")
    fake.add_argument("--gpus", type=int, default=8, help="GPUs on each node")
    fake.add_argument("--prefix", default="gpu", help="nodes are named <prefix>-<zone>-<n>")
    return parser


if __name__ == "__main__":
    sys.exit(main())
