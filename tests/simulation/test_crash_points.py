"""A crash at any write of any story is harmless: every write, three variants, a restart, and the undisturbed end.

A crash leaves nothing but the cluster as it is. So a write that was not sent is the cluster before it; one whose answer
was lost, the cluster after it; one that was answered, the cluster when the turn is over: frames of one undisturbed run,
of which those that are the same moment are played once.
"""

from __future__ import annotations

from collections.abc import Callable

import pytest

from reserved_capacity.ports import WATCHED
from tests.fakes.cluster import Fault, SimulatedCrash
from tests.simulation.scenarios import STORIES, Story, difference, opened, outcome, resumed, undisturbed


@pytest.mark.parametrize("story", STORIES, ids=lambda story: story.name)
async def test_a_crash_at_any_write_comes_to_the_undisturbed_end(
    story: Story, record_property: Callable[[str, object], None]
) -> None:
    stage = await undisturbed(story)
    expected = outcome(stage)
    record_property("frames", len(stage.frames))
    assert stage.frames
    for number, frame in enumerate(stage.frames):
        end = outcome(await resumed(story, frame))
        assert end == expected, f"frame {number} (act {frame.act}): {difference(expected, end)}"


@pytest.mark.parametrize("variant", ["before", "after"])
async def test_what_a_crash_leaves_is_a_frame(variant: str) -> None:
    """With a process that does die: before a write is sent, or when its answer is lost."""
    story = STORIES[1]
    begun = len((await opened(story)).world.cluster.writes)
    whole = await undisturbed(story)
    frames = {frame.version: frame.cluster for frame in whole.frames}
    for at in range(len(whole.world.cluster.writes) - begun):
        stage = await opened(story)
        stage.world.cluster.faults.append(Fault(skip=at, **{variant: SimulatedCrash()}))
        with pytest.raises(SimulatedCrash):
            await stage.play(story.acts)
        left = stage.world.cluster
        assert all(left.all_stored(each) == frames[left.version].all_stored(each) for each in WATCHED)
