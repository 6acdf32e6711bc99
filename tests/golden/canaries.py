"""Scenarios with a canary: some first, then a person or a clock lets the rest go on (S4)."""

from __future__ import annotations

from datetime import timedelta

from reserved_capacity.domain.rollout.values import Approval, Canary, RolloutPhase, RolloutState, Strategy
from tests.golden.story import V1, V2, Story, scenario


@scenario("Canary with manual approval")
def canary_with_approval(story: Story) -> None:
    """One of three moves first. Then the rollout waits, for days if need be, until its id is in the spec: an approval is a
    change like any other, so it is in Git."""
    story.nodes(9, 3)
    story.instance(at=["gpu-1"] * 3, canary=Canary(1))
    story.edit("the customer sets snapshot v2", target=V2)
    story.approve(at=3 * 60)
    story.run(until=2 * 60)
    assert story.world.reports["chat"].phase is RolloutPhase.AWAITING_APPROVAL
    story.untouched("chat-1", "chat-2")
    story.run()
    story.ends(V2, V2, V2)
    story.always_served()


@scenario("Canary: the approval of another rollout does not count")
def canary_with_stale_approval(story: Story) -> None:
    """Only the id of this very rollout lets it go on: what approved the last one does not approve the next."""
    story.nodes(9, 3)
    story.instance(at=["gpu-1"] * 3, canary=Canary(1, approved_rollout=7))
    story.edit("the customer sets snapshot v2", target=V2)
    story.approve(at=60, rollout=1)
    story.run(until=10 * 60)
    story.ends(V1, V1, V2, phase=RolloutPhase.AWAITING_APPROVAL, state=RolloutState.RUNNING)
    story.untouched("chat-1", "chat-2")


@scenario("Canary with a timer")
def canary_with_timer(story: Story) -> None:
    """Two of five move first, and when both have served for half an hour, the rest follows by itself."""
    story.nodes(5, 1)
    story.instance(at=["gpu-1"] * 5, blocks=1, canary=Canary(2, timedelta(minutes=30), Approval.TIMER))
    story.edit("the customer sets snapshot v2", target=V2)
    story.run()
    story.ends(V2, V2, V2, V2, V2)
    story.always_served()


@scenario("Canary: its time begins anew when it stops serving")
def canary_begins_anew(story: Story) -> None:
    """The canary has served for ten minutes of thirty when it stops for two: the thirty minutes begin again, since they are
    to show that it serves."""
    story.nodes(9, 3)
    story.instance(at=["gpu-1"] * 3, canary=Canary(1, timedelta(minutes=30), Approval.TIMER))
    story.edit("the customer sets snapshot v2", target=V2)
    story.happens("chat-3 stops serving", lambda world: setattr(world.members["chat-3"], "serves", False), at=16)
    story.happens("chat-3 serves again", lambda world: setattr(world.members["chat-3"], "serves", True), at=18)
    story.run(until=47)
    story.untouched("chat-1", "chat-2")
    story.run()
    story.ends(V2, V2, V2)


@scenario("Canary that does not come up")
def canary_that_fails(story: Story) -> None:
    """The canary never serves. It is taken back, and no other member has been touched: a failed canary with spare room costs
    nothing (S6)."""
    story.nodes(9, 3)
    story.world.bad[V2] = "the image cannot be pulled"
    story.instance(at=["gpu-1"] * 3, canary=Canary(1))
    story.edit("the customer sets snapshot v2", target=V2)
    story.run()
    story.ends(V1, V1, V1, state=RolloutState.ROLLED_BACK)
    story.untouched("chat-0", "chat-1", "chat-2")
    story.always_served()


@scenario("Canary that is not liked")
def canary_taken_back(story: Story) -> None:
    """The canary serves, but the customer does not like it and sets the old snapshot back: only the canary moves; going back
    waits for no approval."""
    story.nodes(9, 3)
    story.instance(at=["gpu-1"] * 3, canary=Canary(1))
    story.edit("the customer sets snapshot v2", target=V2)
    story.edit("the customer sets snapshot v1 again", at=60, target=V1)
    story.run()
    story.ends(V1, V1, V1)
    story.untouched("chat-1", "chat-2")
    story.always_served()


@scenario("Canary of all instances")
def canary_of_all(story: Story) -> None:
    """A canary of as many instances as there are is none: nothing would be left to hold back."""
    story.nodes(6, 3)
    story.instance(canary=Canary(2))
    story.edit("the customer sets snapshot v2", target=V2)
    story.run()
    story.ends(V2, V2)


@scenario("Canary in place")
def canary_in_place(story: Story) -> None:
    """No spare room: the canary takes the place of an old member, as minAvailable allows, and waits for its approval."""
    story.nodes(9)
    story.instance(at=["gpu-1"] * 3, strategy=Strategy.IN_PLACE, min_available=2, canary=Canary(1))
    story.edit("the customer sets snapshot v2", target=V2)
    story.approve(at=60)
    story.run()
    story.ends(V2, V2, V2)


@scenario("Scaled up while the canary waits")
def scaled_up_under_canary(story: Story) -> None:
    """While the canary waits for its approval the customer needs one instance more. It gets one of the old version, which has
    proved itself: the canary stays as large as it was agreed."""
    story.nodes(6, 3, 3)
    story.instance(canary=Canary(1))
    story.edit("the customer sets snapshot v2", target=V2)
    story.edit("the customer scales to 3 instances", at=60, desired=3)
    story.approve(at=120)
    story.run(until=100)
    assert story.world.versions("chat") == ["v1", "v1", "v2"]
    story.run()
    story.ends(V2, V2, V2)
