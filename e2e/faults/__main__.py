"""`python -m e2e.faults --seeds 10 --outage 3600`: both campaigns of e2e/test_faults.py, for as long as one likes.
`python -m e2e.faults --table`: each kind of fault by itself, and how much later it all converges (docs/testing.md).

On the cluster of CLUSTER_DIR if one runs there, else on one of its own.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

from e2e.cluster import lifecycle
from e2e.cluster.lifecycle import Cluster
from e2e.cluster.state import ClusterDir, say
from e2e.faults.campaign import ALL_KINDS, CALM, Result, each_kind, one_by_one, storm
from e2e.stage import staged


def main() -> int:
    arguments = _parser().parse_args()
    given = "CLUSTER_DIR" in os.environ
    state = ClusterDir.from_environment() if given else ClusterDir(Path(tempfile.mkdtemp(prefix="rc-faults-")))
    running = lifecycle.current(state)
    try:
        cluster = running or lifecycle.up(state)
        if arguments.table:
            return asyncio.run(_table(cluster, arguments.kinds, arguments.first, arguments.share))
        seeds = range(arguments.first, arguments.first + arguments.seeds)
        return max(asyncio.run(_seed(cluster, seed, arguments.share, arguments.outage)) for seed in seeds)
    finally:
        if running is None:
            lifecycle.down(state, purge=not given)


async def _table(cluster: Cluster, kinds: Sequence[str], seed: int, share: float) -> int:
    """A row for each kind of fault, the undisturbed first; 1 if one does not end as that does."""
    directory = Path(tempfile.mkdtemp(prefix="rc-faults-table-"))
    print("| fault | calls or events that met it | writes of these | writes tried / pods | story | later, at most |")
    print("|---|---|---|---|---|---|", flush=True)
    problems: list[str] = []
    async with staged(cluster, directory) as stage:
        calm: Result | None = None
        async for result in one_by_one(stage, (CALM, *kinds), seed=seed, share=share):
            calm = calm or result
            print(result.row(calm), flush=True)
            problems += result.problems(calm)
    print(*problems, sep="\n")
    return 1 if problems else 0


async def _seed(cluster: Cluster, seed: int, share: float, outage_seconds: float) -> int:
    """Both campaigns with one seed; 1 if something is not as it should be."""
    directory = Path(tempfile.mkdtemp(prefix=f"rc-faults-seed-{seed}-"))
    say(f"faults: seed {seed}, the operators' logs are in {directory}")
    async with staged(cluster, directory) as stage:
        results = await each_kind(stage, seed=seed, share=share)
        print(*(each.line() for each in results), sep="\n", flush=True)
        report = await storm(stage, seed=seed, outage_seconds=outage_seconds)
        print(report.line(), flush=True)
    calm = next(each for each in results if each.name == CALM)
    problems = [problem for each in results for problem in each.problems(calm)] + report.problems()
    print(*(f"seed {seed}: {problem}" for problem in problems), sep="\n")
    return 1 if problems else 0


def _parser() -> argparse.ArgumentParser:
    others = [name for name in ALL_KINDS if name != CALM]
    parser = argparse.ArgumentParser(prog="python -m e2e.faults", description=__doc__)
    parser.add_argument("--seeds", type=int, default=1, help="how many (default: 1)")
    parser.add_argument("--from", dest="first", type=int, default=1, help="the first of them (default: 1)")
    parser.add_argument("--share", type=float, default=0.15, help="of calls that fail (default: 0.15)")
    parser.add_argument("--table", action="store_true", help="one kind after the other, as a table")
    parser.add_argument("--kinds", nargs="*", default=others, choices=others, help="of the table (default: all)")
    parser.add_argument("--outage", type=float, default=60.0, help="seconds that the API server is away (default: 60)")
    return parser


if __name__ == "__main__":
    sys.exit(main())
