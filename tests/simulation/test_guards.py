"""The simulation can see: each guard that is taken away is missed, within some hundred seeds (proof.md, Faults)."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from tests.simulation.checker import Violation
from tests.simulation.guards import ALONE, IN_DEPTH, Guard
from tests.simulation.simulation import Focus, Simulation

SEEDS = 400
SEEDS_IN_DEPTH = 30


def violated(seed: int, focus: Focus) -> bool:
    try:
        Simulation(seed, focus).run()
    except Violation:
        return True
    return False


def first_seed_that_notices(guard: Guard, seeds: int) -> int | None:
    for seed in range(seeds):
        with guard.removed():
            noticed = violated(seed, guard.focus)
        if noticed and not violated(seed, guard.focus):
            return seed
    return None


@pytest.mark.parametrize("guard", ALONE, ids=lambda guard: guard.name)
def test_a_guard_that_is_removed_is_missed(guard: Guard, record_property: Callable[[str, object], None]) -> None:
    seed = first_seed_that_notices(guard, SEEDS)
    assert seed is not None, f"nobody misses: {guard.name}"
    record_property("seeds", seed + 1)


@pytest.mark.parametrize("guard", IN_DEPTH, ids=lambda guard: guard.name)
def test_behind_a_guard_in_depth_another_one_stands(guard: Guard) -> None:
    assert guard.behind
    assert first_seed_that_notices(guard, SEEDS_IN_DEPTH) is None, f"it is missed after all: {guard.name}"
