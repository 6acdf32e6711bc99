"""Scenarios of a second edit in the middle of a rollout: it supersedes the first (S5)."""

from __future__ import annotations

from reserved_capacity.domain.rollout.values import RolloutState, WhenNoSpare
from tests.golden.story import V1, V2, V3, Story, scenario


@scenario("The target changes in the middle")
def superseded_in_mid_way(story: Story) -> None:
    """One member runs v2 and another one starts with it when v3 is asked for. The one that starts is taken back at once, nobody
    misses it; all others move to v3, those of v2 first."""
    story.nodes(9, 3)
    story.instance(at=["gpu-1"] * 3)
    story.world.slow.setdefault(V2, story.minutes(5))
    story.edit("the customer sets snapshot v2", target=V2)
    story.edit("the customer sets snapshot v3", at=9, target=V3)
    story.run()
    story.ends(V3, V3, V3)
    story.always_served()


@scenario("Set back in the middle")
def set_back_in_mid_way(story: Story) -> None:
    """One member runs v2 when the customer sets v1 back: it alone moves. Members that never moved are not restarted."""
    story.nodes(9, 3)
    story.instance(at=["gpu-1"] * 3)
    story.world.slow.setdefault(V2, story.minutes(5))
    story.edit("the customer sets snapshot v2", target=V2)
    story.edit("the customer sets snapshot v1 again", at=9, target=V1)
    story.run()
    story.ends(V1, V1, V1)
    story.untouched("chat-1", "chat-2")
    story.always_served()


@scenario("Set back while the first one starts")
def set_back_at_once(story: Story) -> None:
    """Nothing has moved yet but a member that starts: it is taken back, and that was all."""
    story.nodes(6, 3)
    story.instance()
    story.world.slow.setdefault(V2, story.minutes(5))
    story.edit("the customer sets snapshot v2", target=V2)
    story.edit("the customer sets snapshot v1 again", at=1, target=V1)
    story.run()
    story.ends(V1, V1)
    story.untouched("chat-0", "chat-1")
    story.always_served()


@scenario("Superseded in place")
def superseded_in_place(story: Story) -> None:
    """A member was stopped for v2 and its successor starts when v3 is asked for. The place is given to v3; the other member is
    not stopped before that one serves."""
    story.nodes(6)
    story.instance(when_no_spare=WhenNoSpare.IN_PLACE, min_available=1)
    story.world.slow.setdefault(V2, story.minutes(5))
    story.edit("the customer sets snapshot v2", target=V2)
    story.edit("the customer sets snapshot v3", at=3, target=V3)
    story.run()
    story.ends(V3, V3)


@scenario("Set back in place")
def set_back_in_place(story: Story) -> None:
    """The stopped member's place is given to the old version again, without a detour."""
    story.nodes(6)
    story.instance(when_no_spare=WhenNoSpare.IN_PLACE, min_available=1)
    story.world.slow.setdefault(V2, story.minutes(5))
    story.edit("the customer sets snapshot v2", target=V2)
    story.edit("the customer sets snapshot v1 again", at=0.5, target=V1)
    story.run()
    story.ends(V1, V1, serving=2)
    story.untouched("chat-1")


@scenario("Superseded while a successor is needed")
def superseded_while_needed(story: Story) -> None:
    """chat and night run one model whose minimum is 4. chat's first successor serves when night-1 is down: until that is back
    nobody of the four that serve may go (C6), neither the old member nor, when v3 supersedes v2, the successor."""
    story.nodes(6, 3, 6)
    story.instance(minimum=4, offering="gpt")
    story.instance("night", at=["gpu-3", "gpu-3"], minimum=4, offering="gpt")
    story.world.slow[V2] = story.minutes(5)
    story.edit("the customer sets chat to snapshot v2", target=V2)
    story.happens("night-1 stops serving", lambda world: setattr(world.members["night-1"], "serves", False), at=2)
    story.edit("the customer sets chat to snapshot v3", at=10, target=V3)
    story.happens("night-1 serves again", lambda world: setattr(world.members["night-1"], "serves", True), at=30)
    story.run()
    story.ends(V3, V3)
    story.always_served_by("chat")


@scenario("Changed twice while the first member starts")
def changed_twice(story: Story) -> None:
    """v2, v3 and back to v2 within minutes: only what is wanted last is left, and nobody was ever missed."""
    story.nodes(6, 3)
    story.instance()
    story.world.slow.setdefault(V2, story.minutes(5))
    story.edit("the customer sets snapshot v2", target=V2)
    story.edit("the customer sets snapshot v3", at=1, target=V3)
    story.edit("the customer sets snapshot v2 again", at=2, target=V2)
    story.run()
    story.ends(V2, V2)
    story.always_served()


@scenario("The successor of a superseded version fails")
def the_third_version_fails(story: Story) -> None:
    """v3 supersedes v2 in the middle and does not come up. What goes back in is v1: it is what ran when nothing was under way;
    v2 was never complete."""
    story.nodes(9, 3)
    story.world.bad[V3] = "manifest unknown"
    story.instance(at=["gpu-1"] * 3)
    story.world.slow.setdefault(V2, story.minutes(5))
    story.edit("the customer sets snapshot v2", target=V2)
    story.edit("the customer sets snapshot v3", at=9, target=V3)
    story.run()
    story.ends(V1, V1, V1, state=RolloutState.ROLLED_BACK)
    story.untouched("chat-2")
    story.always_served()


@scenario("Set forth again while it goes back")
def set_forth_again(story: Story) -> None:
    """The customer takes v2 back, and changes its mind while the first member moves."""
    story.nodes(9, 3)
    story.instance(at=["gpu-1"] * 3)
    story.world.slow.setdefault(V2, story.minutes(5))
    story.edit("the customer sets snapshot v2", target=V2)
    story.edit("the customer sets snapshot v1 again", at=9, target=V1)
    story.edit("the customer sets snapshot v2 after all", at=12, target=V2)
    story.run()
    story.ends(V2, V2, V2)
    story.always_served()
