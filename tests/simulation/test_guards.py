"""The simulation can see: each guard that is taken away is missed (proof.md, Faults), in a scene that is harmless with it.

Scenes are directed interleavings: no luck with seeds is needed, today or after the next change of a reconciler.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from reserved_capacity.doubts import Doubts
from reserved_capacity.reconcilers import capacity
from tests.simulation import removals
from tests.simulation.guards import ALONE, IN_DEPTH, Guard, table
from tests.simulation.interleaving import NotReachedError, play
from tests.simulation.scenes import amounts, moves
from tests.simulation.sightings import Violation
from tests.simulation.simulation import Simulation

SEEDS_IN_DEPTH = 12
# What must never be, as against what is only slow, noisy or badly worded.
UNSAFE = {
    "I1",
    "I1 taken",
    "I1 holders",
    "I2 held",
    "GPUs",
    "holding first",
    "claim first",
    "C7",
    "C7 pods",
    "I4",
    "R3",
}


@pytest.mark.parametrize("guard", ALONE, ids=lambda guard: guard.name)
def test_a_guard_that_is_removed_is_missed(guard: Guard) -> None:
    assert guard.scene is not None
    assert play(guard.scene) == "", "the scene is harmless with all guards in place"
    with guard.removed():
        assert play(guard.scene) == guard.missed_as


def test_c5_a_move_that_is_undone_takes_no_instance_though_more_are_asked_for() -> None:
    """What seed 75 came upon."""
    assert play(moves.a_node_comes_back_while_too_many_are_asked_for) == ""


def test_c2_an_answer_that_is_lost_takes_two_guards_to_do_harm() -> None:
    """One plan gives away what the next one gives back."""
    scene = amounts.an_answer_is_lost_between_two_plans
    with removals.instead(Doubts, "all", removals.nothing_known)():
        assert play(scene) == ""
        with removals.instead(capacity, "confirm_given_back", removals.done)():
            assert play(scene) == "I1 taken"


@pytest.mark.parametrize("guard", IN_DEPTH, ids=lambda guard: guard.name)
def test_behind_a_guard_in_depth_another_one_stands(guard: Guard) -> None:
    assert guard.behind
    with guard.removed():
        violations = {violation_in(each) for each in ALONE} | {violation_of(seed) for seed in range(SEEDS_IN_DEPTH)}
    assert not violations & UNSAFE


def violation_in(guard: Guard) -> str:
    assert guard.scene is not None
    try:
        return play(guard.scene)
    except NotReachedError:  # with another guard gone, another call comes first
        return ""


def violation_of(seed: int) -> str:
    try:
        Simulation(seed).run()
    except Violation as violation:
        return violation.invariant
    return ""


def test_the_table_in_the_documents_is_the_list_of_guards() -> None:
    """`python -m tests.simulation --guards` writes it."""
    assert table() in (Path(__file__).parents[2] / "docs/testing.md").read_text()
