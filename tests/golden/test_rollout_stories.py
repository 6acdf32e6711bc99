"""Every scenario is told and compared with the text that is kept; other seeds have to end the same way.

`pytest tests/golden --update-golden` writes the texts anew: read the difference before you commit it.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.golden import canaries, failures, faults, prefetching, scaling, superseding, surging, waiting, without_spare
from tests.golden.story import SCENARIOS, Scenario

KEPT = Path(__file__).parent / "rollout"
SEEDS = range(1, 5)
CHAPTERS = (surging, without_spare, canaries, waiting, prefetching, failures, superseding, faults, scaling)


@pytest.mark.parametrize("scenario", SCENARIOS, ids=lambda scenario: scenario.slug)
def test_a_rollout_goes_as_it_is_told(scenario: Scenario, request: pytest.FixtureRequest) -> None:
    text = scenario.rendered(scenario.told(seed=0))
    kept = KEPT / f"{scenario.slug}.txt"
    if request.config.getoption("--update-golden"):
        kept.write_text(text)
    assert kept.exists(), f"{kept.name} is not there: pytest tests/golden --update-golden writes it"
    assert text == kept.read_text()


@pytest.mark.parametrize("scenario", SCENARIOS, ids=lambda scenario: scenario.slug)
def test_it_ends_the_same_way_whatever_comes_first(scenario: Scenario) -> None:
    """What happens at one moment in another order, and starts and stops that take longer or shorter (I7)."""
    for seed in SEEDS:
        scenario.told(seed)


def test_every_kept_text_is_of_a_scenario(request: pytest.FixtureRequest) -> None:
    told = {f"{scenario.slug}.txt" for scenario in SCENARIOS}
    if request.config.getoption("--update-golden"):
        for path in KEPT.glob("*.txt"):
            if path.name not in told:
                path.unlink()
    assert {path.name for path in KEPT.glob("*.txt")} == told
    assert len(SCENARIOS) >= 40
    assert len({scenario.title for scenario in SCENARIOS}) == len(SCENARIOS)
    assert all(chapter.__doc__ for chapter in CHAPTERS)
