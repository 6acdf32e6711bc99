"""`python -m tests.money`: stories on all cores against the oracle, or one of them in full."""

from __future__ import annotations

import argparse
import multiprocessing
import os
import sys
import time
import traceback

from tests.money.oracle import expected
from tests.money.replay import replayed
from tests.money.stories import tell
from tests.money.verdict import judge

_CHUNK = 500
Finding = tuple[int, str]


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.money", description=__doc__)
    parser.add_argument("--cases", type=int, default=1_000_000, help="how many (default: 1,000,000)")
    parser.add_argument("--from", type=int, default=0, dest="first", help="the first (default: 0)")
    parser.add_argument("--replay", type=int, metavar="CASE", help="tell this one alone, with both sets of books")
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1)
    chosen = parser.parse_args(arguments)
    if chosen.replay is not None:
        return _replay(chosen.replay)
    return _prove(chosen.first, chosen.cases, chosen.jobs)


def findings(first: int, count: int) -> list[Finding]:
    """What is wrong with the stories of so many seeds."""
    return [(seed, what) for seed in range(first, first + count) if (what := _examined(seed))]


def _examined(seed: int) -> str:
    try:
        return judge(seed)
    except Exception:
        return traceback.format_exc()


def _say(text: str) -> None:
    sys.stdout.write(f"{text}\n")
    sys.stdout.flush()


def _prove(first: int, cases: int, jobs: int) -> int:
    started, done, wrong = time.monotonic(), 0, 0
    chunks = [(at, min(_CHUNK, first + cases - at)) for at in range(first, first + cases, _CHUNK)]
    with multiprocessing.Pool(jobs) as pool:
        for found in pool.imap_unordered(_chunk, chunks):
            for seed, what in found:
                wrong += 1
                _say(f"case {seed}: {what}\n  replay: .venv/bin/python -m tests.money --replay {seed}")
            before, done = done, min(cases, done + _CHUNK)
            if done * 20 // cases != before * 20 // cases:
                _say(f"{done:,} of {cases:,} cases, {wrong} wrong, {time.monotonic() - started:.0f} s")
    return 1 if wrong else 0


def _chunk(chunk: tuple[int, int]) -> list[Finding]:
    return findings(*chunk)


def _replay(seed: int) -> int:
    story = tell(seed)
    _say(str(story))
    _say("\n".join(f"ours    {row.day} {row.kind} {row.amount_minor} {row.note}" for row in replayed(story).rows))
    _say("\n".join(f"oracle  {line}" for line in expected(story)))
    what = _examined(seed)
    _say(what or f"case {seed}: nothing wrong")
    return 1 if what else 0


if __name__ == "__main__":
    sys.exit(main())
