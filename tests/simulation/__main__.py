"""`python -m tests.simulation`: run seeds on all cores, or replay one."""

from __future__ import annotations

import argparse
import functools
import gc
import multiprocessing
import multiprocessing.pool
import os
import sys
import time
import traceback
from collections.abc import Iterator

from tests.simulation.guards import table
from tests.simulation.sightings import Violation
from tests.simulation.simulation import AT_THE_ENDS, EVERYWHERE, IN_ROLLOUTS, Focus, Simulation

Finding = tuple[int, str]
_FOCI = (EVERYWHERE, AT_THE_ENDS, IN_ROLLOUTS)
_OPTIONS = ("", " --ends", " --rollouts")


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.simulation", description=__doc__)
    parser.add_argument("--seeds", type=int, default=2000, help="how many (default: 2000)")
    parser.add_argument("--from", type=int, default=0, dest="first", help="the first (default: 0)")
    parser.add_argument("--replay", type=int, metavar="SEED", help="run this one alone and tell what happens")
    parser.add_argument("--keep-going", action="store_true", help="run all seeds, whatever is found")
    parser.add_argument("--ends", action="store_true", help="terms end, are renewed and reduced in mid-story")
    parser.add_argument("--rollouts", action="store_true", help="versions change all the time")
    parser.add_argument("-v", "--verbose", action="store_true", help="with --replay: every event")
    parser.add_argument("--guards", action="store_true", help="write the table of guards and what misses them")
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1)
    chosen = parser.parse_args(arguments)
    if chosen.guards:
        say(table())
        return 0
    focus = AT_THE_ENDS if chosen.ends else IN_ROLLOUTS if chosen.rollouts else EVERYWHERE
    if chosen.replay is not None:
        finding = examine(chosen.replay, focus, verbose=chosen.verbose)
        say(finding[1] if finding else f"seed {chosen.replay}: no violation")
        return 1 if finding else 0
    return run(range(chosen.first, chosen.first + chosen.seeds), chosen.jobs, focus, keep_going=chosen.keep_going)


def say(text: str) -> None:
    sys.stdout.write(f"{text}\n")
    sys.stdout.flush()


def examine(seed: int, focus: Focus = EVERYWHERE, *, verbose: bool = False) -> Finding | None:
    """Run one seed; what it found, in words."""
    simulation = Simulation(seed, focus, verbose=verbose)
    gc.disable()  # a seed is short, and most of what it makes is in use to its end
    try:
        simulation.run()
    except Violation as violation:
        what = str(violation)
    except Exception:
        what = traceback.format_exc()
    else:
        return None
    finally:
        gc.enable()
    lines = "\n".join(simulation.last_events())
    again = f"--replay {seed}{_OPTIONS[_FOCI.index(focus)]} -v"
    return seed, (
        f"\nseed {seed}, step {simulation.step}: VIOLATION of {what}\nlast events:\n{lines}\n"
        f"replay: .venv/bin/python -m tests.simulation {again}"
    )


def run(seeds: range, jobs: int, focus: Focus, *, keep_going: bool = False) -> int:
    started, findings, done = time.monotonic(), 0, 0
    with multiprocessing.Pool(jobs) as pool:
        for finding in _examined(pool, seeds, jobs, focus):
            done += 1
            if finding is not None:
                findings += 1
                say(finding[1])
                if not keep_going:
                    return 1
            if done % 200 == 0:
                rate = done / (time.monotonic() - started)
                say(f"{done} of {len(seeds)} seeds, {findings} violations, {rate:.0f} seeds/s")
    seconds = time.monotonic() - started
    rate = len(seeds) / seconds
    say(f"{len(seeds)} seeds from {seeds.start}: {findings} violations, {rate:.1f} seeds/s on {jobs} processes")
    return 1 if findings else 0


def _examined(pool: multiprocessing.pool.Pool, seeds: range, jobs: int, focus: Focus) -> Iterator[Finding | None]:
    chunk = max(1, min(20, len(seeds) // (4 * jobs) or 1))
    return pool.imap_unordered(functools.partial(_examine_of, _FOCI.index(focus)), seeds, chunksize=chunk)


def _examine_of(focus: int, seed: int) -> Finding | None:
    return examine(seed, _FOCI[focus])


if __name__ == "__main__":
    sys.exit(main())
