"""Scenarios with spare room: the new member serves before the old one goes (S2)."""

from __future__ import annotations

from datetime import timedelta

from reserved_capacity.domain.rollout.values import RolloutPhase, Strategy
from tests.golden.story import FAST, V1, V2, Story, scenario


@scenario("Surge with room for one more")
def surge_with_room_for_one(story: Story) -> None:
    """The pool has room for one member beside those that serve. Each successor serves before the old member goes, and
    takes the room that the one before it has left. At no moment are fewer than two serving."""
    story.nodes(6, 3)
    story.instance(minimum=2)
    story.edit("the customer sets snapshot v2", target=V2)
    story.run()
    story.ends(V2, V2)
    story.always_served()


@scenario("Surge, two at a time")
def surge_two_at_a_time(story: Story) -> None:
    """maxSurge is 2 and there is room for two: two successors start at once, and each old member goes when its own
    successor serves."""
    story.nodes(8, 4)
    story.instance(at=["gpu-1"] * 4, blocks=2, max_surge=2)
    story.edit("the customer sets snapshot v2", target=V2)
    story.run()
    story.ends(V2, V2, V2, V2)
    story.always_served()


@scenario("Surge with less room than maxSurge allows")
def surge_with_less_room_than_allowed(story: Story) -> None:
    """maxSurge is 3, the room is enough for one: what there is decides, and the reason says so."""
    story.nodes(6, 2)
    story.instance(at=["gpu-1"] * 3, blocks=2, max_surge=3)
    story.edit("the customer sets snapshot v2", target=V2)
    story.run()
    story.ends(V2, V2, V2)
    story.always_served()
    assert "so 1 at a time serves" in story.why


@scenario("Another performance profile")
def another_profile(story: Story) -> None:
    """A profile is part of what a member runs, so a change of it is a rollout like a change of the snapshot (R5)."""
    story.nodes(6, 3)
    story.instance()
    story.edit("the customer sets profile fast", target=FAST)
    story.run()
    story.ends(FAST, FAST)
    story.always_served()


@scenario("Instances that span two nodes")
def instances_over_two_nodes(story: Story) -> None:
    """Each instance runs in equal parts on two nodes of one zone (C8), and so shall its successor. 400 CU are spare, but
    gpu-4 is in another zone than gpu-3; with gpu-5 there is a pair of nodes with room."""
    story.nodes(4, 4, 2, 2, zones="aaab")
    story.instance(at=["gpu-1+gpu-2", "gpu-1+gpu-2"], blocks=4, nodes=2)
    story.edit("the customer sets snapshot v2", target=V2)
    story.happens("gpu-5 with 200 CU comes to zone a", lambda world: world.add_node("gpu-5", 2), at=30)
    story.run(until=20)
    assert "on 2 nodes of one topology domain" in story.blocked_on
    story.run()
    story.ends(V2, V2)
    story.always_served()


@scenario("An instance that does not serve is replaced first")
def who_does_not_serve_goes_first(story: Story) -> None:
    """chat-1 has crashed before the rollout begins. Its successor comes first, since nobody misses it; the rollout needs
    no more room than any other."""
    story.nodes(9, 3)
    story.instance(at=["gpu-1"] * 3)
    story.happens("chat-1 crashes", lambda world: world.crash("chat-1", world.members["chat-1"]))
    story.edit("the customer sets snapshot v2", at=1, target=V2)
    story.run()
    story.ends(V2, V2, V2, serving=3)


@scenario("An old member crashes while its fellow is being replaced")
def an_old_member_crashes_in_mid_way(story: Story) -> None:
    """The successor was made for chat-0, but then chat-1 crashes. With only two members serving, chat-0 cannot be spared:
    the successor takes the place of chat-1, and the rollout does not hang."""
    story.nodes(6, 3)
    story.instance()
    story.edit("the customer sets snapshot v2", target=V2)
    story.happens("chat-1 crashes", lambda world: world.crash("chat-1", world.members["chat-1"]), at=2)
    story.run()
    story.ends(V2, V2, serving=2)


@scenario("Spare room that others do not get while a rollout is under way")
def the_room_of_a_rollout_stays_its_own(story: Story) -> None:
    """The room for the surge is fixed when the first member moves (S2). batch, which asks for more in the middle, waits
    until the rollout is over; it would have been first had it asked before."""
    story.nodes(6, 3, 3)
    story.instance()
    story.instance("batch", at=["gpu-3"], priority=10)
    story.edit("the customer sets chat to snapshot v2", target=V2)
    story.edit("batch asks for one instance more", "batch", at=1, desired=2)
    story.run()
    story.ends(V2, V2)
    assert story.world.serving("batch") == 2
    story.always_served_by("chat")


@scenario("Growth comes before a rollout that has not begun")
def growth_comes_before_a_rollout(story: Story) -> None:
    """Both are asked for at one moment, and there is room for one. Who grows serves more with it, so batch gets the room
    and the rollout says what it waits for; when batch shrinks again, the rollout takes its turn."""
    story.nodes(6, 3, 3)
    story.instance()
    story.instance("batch", at=["gpu-3"])

    def both(world: object) -> None:
        story.world.edit("chat", target=V2)
        story.world.edit("batch", desired=2)

    story.happens("one commit sets chat to v2 and batch to 2 instances", both)
    story.edit("batch shrinks to one instance", "batch", at=60, desired=1)
    story.run()
    story.ends(V2, V2)
    assert story.world.standing("batch") == 1
    story.always_served_by("chat")


@scenario("Two rollouts and room for one")
def two_rollouts_and_room_for_one(story: Story) -> None:
    """chat and batch move at the same time and there is room for one successor. They go one after the other, in the order
    of admission (C5)."""
    story.nodes(6, 3, 3)
    story.instance()
    story.instance("batch", at=["gpu-3"], priority=1)

    def both(world: object) -> None:
        story.world.edit("chat", target=V2)
        story.world.edit("batch", target=V2)

    story.happens("one commit sets chat and batch to v2", both)
    story.run()
    story.ends(V2, V2)
    story.ends(V2, name="batch")
    story.always_served()


@scenario("Room enough, but in pieces")
def room_in_pieces(story: Story) -> None:
    """300 CU are spare, but no node has 300 CU in one piece. The message says so, and idle claims are put together for it
    (C9); then the rollout begins."""
    story.nodes(6, 2, 1)
    story.instance()
    story.edit("the customer sets snapshot v2", target=V2)

    def together(world: object) -> None:
        assert story.world.plan is not None
        assert [each.blocks for each in story.world.plan.holdings.wanted] == [3]
        story.world.change_node("gpu-2", blocks=3)
        story.world.change_node("gpu-3", blocks=0)

    story.happens("idle claims are put together: gpu-2 has 300 CU, gpu-3 none", together, at=5)
    story.run()
    story.ends(V2, V2)
    story.always_served()


@scenario("The same snapshot again")
def nothing_to_do(story: Story) -> None:
    """An edit that does not change what the members run is no rollout: nothing is planned and nothing written."""
    story.nodes(6, 3)
    story.instance()
    story.edit("the customer edits maxSurge", max_surge=2)
    story.run()
    story.ends(V1, V1, state=None)
    story.untouched("chat-0", "chat-1")
    assert not story.world.writes


@scenario("InPlace by choice, though there is room")
def in_place_by_choice(story: Story) -> None:
    """strategy InPlace asks for no room beside the old members, and takes none: one goes, the new one takes its place."""
    story.nodes(6, 3)
    story.instance(strategy=Strategy.IN_PLACE, min_available=1)
    story.edit("the customer sets snapshot v2", target=V2)
    story.run()
    story.ends(V2, V2)
    assert {each.nodes for each in story.world.holdings} <= {("gpu-1",), ("gpu-2",)}


@scenario("A slow start within its time")
def a_slow_start(story: Story) -> None:
    """The new version takes 40 of the 45 minutes that progressDeadline gives it: no failure."""
    story.nodes(6, 3)
    story.instance()
    story.world.slow[V2] = timedelta(minutes=40)
    story.edit("the customer sets snapshot v2", target=V2)
    story.run()
    story.ends(V2, V2)
    story.always_served()


@scenario("Five members one after the other")
def five_members(story: Story) -> None:
    """The general case in full: every member is replaced once, by the lowest ordinal that is not in use (R1)."""
    story.nodes(5, 1)
    story.instance(at=["gpu-1"] * 5, blocks=1, minimum=2)
    story.edit("the customer sets snapshot v2", target=V2)
    story.run()
    story.ends(V2, V2, V2, V2, V2)
    story.always_served()
    assert story.world.reports["chat"].phase is RolloutPhase.IDLE
