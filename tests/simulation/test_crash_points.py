"""A crash at any write of any story is harmless: every write, three variants, a restart, and the undisturbed end."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from tests.fakes.cluster import Fault
from tests.simulation.scenarios import STORIES, VARIANTS, Stage, Story, difference, outcome, play


@pytest.mark.parametrize("variant", VARIANTS, ids=lambda variant: variant.__name__)
@pytest.mark.parametrize("story", STORIES, ids=lambda story: story.__name__)
async def test_a_crash_at_any_write_comes_to_the_undisturbed_end(
    story: Story, variant: Callable[[Stage, int], Fault], record_property: Callable[[str, object], None]
) -> None:
    undisturbed = await play(story)
    expected, writes = outcome(undisturbed), list(undisturbed.world.cluster.writes)
    assert undisturbed.crashes == 0
    record_property("crash_points", len(writes))
    for at, write in enumerate(writes):
        stage = await play(story, variant, at)
        assert stage.crashes == 1
        assert outcome(stage) == expected, f"{at} ({write}): {difference(expected, outcome(stage))}"
