"""The operator behind a proxy that injects faults, in front of a real API server (proof.md, Faults; docs/testing.md).

Whatever goes wrong in between, the end is that of an undisturbed run, nothing is given away twice on the way, no pod is
started more often, and nobody asks without a pause. `python -m e2e.faults` does the same for longer.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio

from e2e.cluster.lifecycle import Cluster
from e2e.faults.campaign import CALM, each_kind, storm
from e2e.stage import Stage, staged

pytestmark = pytest.mark.asyncio(loop_scope="module")


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def stage(cluster: Cluster, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Stage]:
    directory: Path = tmp_path_factory.mktemp("faults")
    async with staged(cluster, directory) as one:
        yield one


async def test_every_kind_of_failed_call_ends_as_the_undisturbed_run_does(stage: Stage) -> None:
    """One customer for each kind, side by side, and one that meets none."""
    results = await each_kind(stage, seed=1, share=0.15)
    print("", *(each.line() for each in results), sep="\n")
    calm = next(each for each in results if each.name == CALM)
    assert [problem for each in results for problem in each.problems(calm)] == []


async def test_all_faults_at_once_a_frozen_leader_and_an_outage_end_as_if_nothing_had_been(stage: Stage) -> None:
    report = await storm(stage, seed=1, outage_seconds=14.0)
    print("", report.line(), sep="\n")
    assert report.problems() == []
