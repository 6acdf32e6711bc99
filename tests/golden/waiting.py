"""Scenarios of rollouts that wait: paused, outside the window, for artifacts, for other things (S3, S4)."""

from __future__ import annotations

from datetime import datetime, timedelta

from reserved_capacity.domain.rollout.values import RolloutPhase, RolloutState, Strategy, WhenNoSpare, Window
from tests.golden.story import FAST, V1, V2, V3, Story, scenario
from tests.golden.world import NOON


def _nightly(now: datetime) -> Window:
    """Open from 22:00 to 23:00."""
    opens = NOON.replace(hour=22)
    while opens + timedelta(hours=1) <= now:
        opens += timedelta(days=1)
    closes = opens + timedelta(hours=1)
    return Window(open=True, changes_at=closes) if opens <= now else Window(open=False, changes_at=opens)


@scenario("Paused between two members")
def paused_in_mid_way(story: Story) -> None:
    """A pause in the middle of a step: the step is completed, the next one is not begun. Whoever unpauses, goes on."""
    story.nodes(6, 3)
    story.instance()
    story.edit("the customer sets snapshot v2", target=V2)
    story.edit("the customer pauses", at=1, paused=True)
    story.edit("the customer goes on", at=60, paused=False)
    story.run(until=50)
    assert story.world.versions("chat") == ["v1", "v2"]
    assert story.world.reports["chat"].phase is RolloutPhase.PAUSED
    story.run()
    story.ends(V2, V2)
    story.always_served()


@scenario("Paused from the beginning")
def paused_from_the_beginning(story: Story) -> None:
    """Snapshot and pause in one edit: the rollout has its id, and touches nothing."""
    story.nodes(6, 3)
    story.instance()
    story.edit("the customer sets snapshot v2 and paused", target=V2, paused=True)
    story.edit("the customer goes on", at=60, paused=False)
    story.run(until=50)
    story.untouched("chat-0", "chat-1")
    story.run()
    story.ends(V2, V2)
    story.always_served()


@scenario("Paused in place")
def paused_in_place(story: Story) -> None:
    """In place, a step that is completed means that the stopped member's place is filled: a pause leaves nobody missing."""
    story.nodes(6)
    story.instance(when_no_spare=WhenNoSpare.IN_PLACE, min_available=1)
    story.edit("the customer sets snapshot v2", target=V2)
    story.edit("the customer pauses", at=0.5, paused=True)
    story.run(until=6 * 60)
    story.ends(V1, V2, phase=RolloutPhase.PAUSED, state=RolloutState.RUNNING, serving=2)


@scenario("A pause does not count against the deadline")
def pause_and_deadline(story: Story) -> None:
    """Paused for five hours after the first member: the deadline is of a step, and none is under way."""
    story.nodes(6, 3)
    story.instance(progress_deadline=timedelta(minutes=10))
    story.edit("the customer sets snapshot v2", target=V2)
    story.edit("the customer pauses", at=4, paused=True)
    story.edit("the customer goes on", at=5 * 60, paused=False)
    story.run()
    story.ends(V2, V2)


@scenario("Outside the maintenance window")
def outside_the_window(story: Story) -> None:
    """The pool's window opens at 22:00. The rollout waits for it, and says since the afternoon what it waits for."""
    story.nodes(6, 3)
    story.world.window = _nightly
    story.instance()
    story.edit("the customer sets snapshot v2", target=V2)
    story.run(until=9 * 60)
    assert story.world.reports["chat"].phase is RolloutPhase.AWAITING_WINDOW
    story.untouched("chat-0", "chat-1")
    story.run()
    story.ends(V2, V2)
    story.always_served()


@scenario("A window that closes in the middle")
def window_closes_in_mid_way(story: Story) -> None:
    """Each start takes 40 minutes, the window is an hour: the step under way at 23:00 is completed, the next one begins the
    night after."""
    story.nodes(9, 3)
    story.world.window = _nightly
    story.world.slow[V2] = timedelta(minutes=40)
    story.instance(at=["gpu-1"] * 3)
    story.edit("the customer sets snapshot v2", target=V2)
    story.run(until=72 * 60)
    story.ends(V2, V2, V2)
    story.always_served()


@scenario("Going back does not wait for the window")
def going_back_outside_the_window(story: Story) -> None:
    """What was begun in the window turns out bad at midnight. Setting the old snapshot back acts at once."""
    story.nodes(9, 3)
    story.world.window = _nightly
    story.world.slow[V2] = timedelta(minutes=40)
    story.instance(at=["gpu-1"] * 3)
    story.edit("the customer sets snapshot v2", target=V2)
    story.edit("the customer sets snapshot v1 again", at=12 * 60, target=V1)
    story.run(until=14 * 60)
    story.ends(V1, V1, V1)


@scenario("The artifact is pulled first")
def prefetch_first(story: Story) -> None:
    """No node has the artifact of v2. It is pulled to the node where the next member goes before any capacity is taken (S3),
    and to the others meanwhile."""
    story.nodes(6, 3)
    story.world.cached = {"v1": {"gpu-1", "gpu-2"}}
    story.instance()
    story.edit("the customer sets snapshot v2", target=V2)
    story.run()
    story.ends(V2, V2)
    story.always_served()


@scenario("The artifact is pulled first, in place")
def prefetch_first_in_place(story: Story) -> None:
    """In place a pull would be downtime: the old member is stopped only when the artifact is on its node."""
    story.nodes(6)
    story.world.cached = {"v1": {"gpu-1"}}
    story.instance(strategy=Strategy.IN_PLACE, min_available=1)
    story.edit("the customer sets snapshot v2", target=V2)
    story.run(until=1)
    story.untouched("chat-0", "chat-1")
    story.run()
    story.ends(V2, V2)


@scenario("The artifact cannot be pulled")
def prefetch_fails(story: Story) -> None:
    """The pull fails, so nothing is stopped and nothing placed: the old version serves on. When the artifact is there, the
    rollout begins."""
    story.nodes(6, 3)
    story.world.cached = {"v1": {"gpu-1", "gpu-2"}}
    story.world.unpullable = {"gpu-2": "401 Unauthorized", "gpu-1": "401 Unauthorized"}
    story.instance()
    story.edit("the customer sets snapshot v2", target=V2)
    story.happens("the pull secret is corrected", lambda world: world.unpullable.clear(), at=60)
    story.run(until=50)
    story.ends(V1, V1, phase=RolloutPhase.PREFETCHING, state=RolloutState.RUNNING)
    assert "401 Unauthorized" in story.blocked_on
    story.run()
    story.ends(V2, V2)
    story.always_served()


@scenario("The wait for the window is used to pull")
def prefetch_while_waiting(story: Story) -> None:
    """The artifact is on the nodes long before the window opens."""
    story.nodes(6, 3)
    story.world.window = _nightly
    story.world.cached = {"v1": {"gpu-1", "gpu-2"}}
    story.instance()
    story.edit("the customer sets snapshot v2", target=V2)
    story.run(until=60)
    assert story.world.cached["v2"] == {"gpu-1", "gpu-2"}
    story.untouched("chat-0", "chat-1")
    story.run()
    story.ends(V2, V2)


@scenario("Two pulls, one snapshot")
def profile_needs_no_pull(story: Story) -> None:
    """Another profile of the same snapshot needs the artifact only on the node that has not got it yet."""
    story.nodes(6, 3)
    story.world.cached = {"v1": {"gpu-1"}}
    story.instance()
    story.edit("the customer sets profile fast", target=FAST)
    story.run()
    story.ends(FAST, FAST)


@scenario("A spec that cannot be acted on")
def refused_in_mid_way(story: Story) -> None:
    """In the middle of a rollout an edit asks for a snapshot that the offering does not have. What is under way is completed
    and nothing else begun, until the spec can be acted on again."""
    story.nodes(9, 3)
    story.instance(at=["gpu-1"] * 3)
    story.edit("the customer sets snapshot v2", target=V2)
    story.edit(
        "the customer sets snapshot v2o, a typing error", at=1, held_back="gpt has no snapshot 'v2o': set one of v1, v2"
    )
    story.edit("the customer corrects it to v2", at=60, held_back="")
    story.run(until=50)
    assert story.world.versions("chat") == ["v1", "v1", "v2"]
    story.run()
    story.ends(V2, V2, V2)
    story.always_served()


@scenario("Beside one of its model that does not come up")
def beside_one_that_does_not_come_up(story: Story) -> None:
    """chat and night run one model whose minimum is 4, and night's second member does not serve. chat's first successor
    does, but the old one has to stay (C6): that is progress while night-1 may yet come up, and Blocked after that."""
    story.nodes(9, 6)
    story.world.bad[V3] = "the artifact is not where it should be"
    story.instance(minimum=4, offering="gpt")
    story.instance("night", at=["gpu-2"], version=V3, minimum=4, offering="gpt")
    story.edit("the customer sets night to 2 instances", "night", desired=2)
    story.edit("the customer sets chat to snapshot v2", at=5, target=V2)
    story.happens("night-1 serves", lambda world: setattr(world.members["night-1"], "serves", True), at=120)
    story.run(until=30)
    assert story.world.reports["chat"].phase is RolloutPhase.PROGRESSING
    story.run(until=100)
    assert story.world.reports["chat"].phase is RolloutPhase.BLOCKED
    assert "or get night-1 to serve" in story.blocked_on
    story.run()
    story.ends(V2, V2)
    story.always_served_by("chat")
