"""`python -m tests.simulation`: run seeds on all cores, or replay one."""

from __future__ import annotations

import argparse
import multiprocessing
import multiprocessing.pool
import os
import sys
import time
import traceback
from collections.abc import Iterator

from tests.simulation.checker import Violation
from tests.simulation.guards import table
from tests.simulation.simulation import Simulation

Finding = tuple[int, str]


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.simulation", description=__doc__)
    parser.add_argument("--seeds", type=int, default=2000, help="how many (default: 2000)")
    parser.add_argument("--from", type=int, default=0, dest="first", help="the first (default: 0)")
    parser.add_argument("--replay", type=int, metavar="SEED", help="run this one alone and tell what happens")
    parser.add_argument("--keep-going", action="store_true", help="run all seeds, whatever is found")
    parser.add_argument("-v", "--verbose", action="store_true", help="with --replay: every event")
    parser.add_argument("--guards", action="store_true", help="write the table of guards and what misses them")
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1)
    chosen = parser.parse_args(arguments)
    if chosen.guards:
        say(table())
        return 0
    if chosen.replay is not None:
        finding = examine(chosen.replay, verbose=chosen.verbose)
        say(finding[1] if finding else f"seed {chosen.replay}: no violation")
        return 1 if finding else 0
    return run(chosen.first, chosen.seeds, chosen.jobs, keep_going=chosen.keep_going)


def say(text: str) -> None:
    sys.stdout.write(f"{text}\n")
    sys.stdout.flush()


def examine(seed: int, *, verbose: bool = False) -> Finding | None:
    """Run one seed; what it found, in words."""
    simulation = Simulation(seed, verbose=verbose)
    try:
        simulation.run()
    except Violation as violation:
        what = str(violation)
    except Exception:
        what = traceback.format_exc()
    else:
        return None
    lines = "\n".join(simulation.last_events())
    return seed, (
        f"\nseed {seed}, step {simulation.step}: VIOLATION of {what}\nlast events:\n{lines}\n"
        f"replay: .venv/bin/python -m tests.simulation --replay {seed} -v"
    )


def run(first: int, count: int, jobs: int, *, keep_going: bool = False) -> int:
    started, findings, done = time.monotonic(), 0, 0
    with multiprocessing.Pool(jobs) as pool:
        for finding in _examined(pool, first, count, jobs):
            done += 1
            if finding is not None:
                findings += 1
                say(finding[1])
                if not keep_going:
                    return 1
            if done % 200 == 0:
                rate = done / (time.monotonic() - started)
                say(f"{done} of {count} seeds, {findings} violations, {rate:.0f} seeds/s")
    seconds = time.monotonic() - started
    say(f"{count} seeds from {first}: {findings} violations, {count / seconds:.1f} seeds/s on {jobs} processes")
    return 1 if findings else 0


def _examined(pool: multiprocessing.pool.Pool, first: int, count: int, jobs: int) -> Iterator[Finding | None]:
    return pool.imap_unordered(
        examine, range(first, first + count), chunksize=max(1, min(20, count // (4 * jobs) or 1))
    )


if __name__ == "__main__":
    sys.exit(main())
