"""2,000 seeds of the simulation, and that it is what it says: deterministic, and harmless to what it shares."""

from __future__ import annotations

import json
import os
import subprocess
import sys

import pytest

from reserved_capacity.ports import JsonObject, Resource
from tests.simulation.__main__ import examine
from tests.simulation.simulation import AT_THE_ENDS, IN_ROLLOUTS, Simulation

SEEDS = 2000
ENDS = 200
ROLLOUTS = 100
CHUNK = 50


@pytest.mark.parametrize("first", range(0, SEEDS, CHUNK))
def test_no_seed_violates_an_invariant(first: int) -> None:
    findings = [finding for seed in range(first, first + CHUNK) if (finding := examine(seed))]
    assert not findings, "\n".join(text for _, text in findings)


@pytest.mark.parametrize("first", range(0, ENDS, CHUNK))
def test_no_seed_in_which_terms_end_violates_an_invariant(first: int) -> None:
    findings = [finding for seed in range(first, first + CHUNK) if (finding := examine(seed, AT_THE_ENDS))]
    assert not findings, "\n".join(text for _, text in findings)


@pytest.mark.parametrize("first", range(0, ROLLOUTS, CHUNK // 2))
def test_no_seed_in_which_versions_change_violates_an_invariant(first: int) -> None:
    findings = [finding for seed in range(first, first + CHUNK // 2) if (finding := examine(seed, IN_ROLLOUTS))]
    assert not findings, "\n".join(text for _, text in findings)


def test_a_seed_runs_the_same_way_whatever_the_hash_seed() -> None:
    def writes(hash_seed: str) -> str:
        code = (
            "from tests.simulation.simulation import Simulation\n"
            "for seed in range(8):\n"
            "    simulation = Simulation(seed)\n"
            "    simulation.run()\n"
            "    print(*simulation.cluster.writes, sep=chr(10))\n"
        )
        paths = os.pathsep.join(path for path in sys.path if path)
        environment = {**os.environ, "PYTHONHASHSEED": hash_seed, "PYTHONPATH": paths}
        return subprocess.run(
            [sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True
        ).stdout

    assert writes("1") == writes("2") != ""


def test_nobody_alters_what_the_cluster_shares() -> None:
    """Objects are handed out uncopied, for speed: each is as it was when it was announced."""
    simulation = Simulation(7)
    announced: list[tuple[JsonObject, str]] = []

    def remember(_event: str, _resource: Resource, obj: JsonObject) -> None:
        announced.append((obj, json.dumps(obj, sort_keys=True)))

    simulation.cluster.subscribe(remember)
    simulation.run()
    assert len(announced) > 50
    assert all(json.dumps(obj, sort_keys=True) == text for obj, text in announced)
