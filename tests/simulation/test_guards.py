"""The simulation can see: each guard that is taken away is missed, within some hundred seeds (proof.md, Faults)."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from tests.simulation.checker import Violation
from tests.simulation.guards import ALONE, IN_DEPTH, Guard
from tests.simulation.simulation import Simulation

SEEDS = 500
SEEDS_IN_DEPTH = 30
# What must never be, as against what is only slow, noisy or badly worded.
UNSAFE = {"I1", "I1 holders", "I2 held", "GPUs", "holding first", "claim first", "C7", "C7 pods", "I4", "R3"}


def violation_of(seed: int, guard: Guard) -> str:
    """The invariant that is violated, or nothing."""
    try:
        Simulation(seed, guard.focus).run()
    except Violation as violation:
        return violation.invariant
    return ""


@pytest.mark.parametrize("guard", ALONE, ids=lambda guard: guard.name)
def test_a_guard_that_is_removed_is_missed(guard: Guard, record_property: Callable[[str, object], None]) -> None:
    for tried, seed in enumerate(range(guard.first, guard.first + SEEDS), start=1):
        with guard.removed():
            missed = violation_of(seed, guard)
        if missed and not violation_of(seed, guard):
            record_property("seeds", tried)
            return
    pytest.fail(f"nobody misses: {guard.name}")


@pytest.mark.parametrize("guard", IN_DEPTH, ids=lambda guard: guard.name)
def test_behind_a_guard_in_depth_another_one_stands(guard: Guard) -> None:
    assert guard.behind
    with guard.removed():
        violations = {violation_of(seed, guard) for seed in range(SEEDS_IN_DEPTH)}
    assert not violations & UNSAFE
