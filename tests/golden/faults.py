"""Scenarios of nodes that fail or are drained in the middle of a rollout, and of records that are lost (N1-N3, C2)."""

from __future__ import annotations

from reserved_capacity.domain.rollout.values import Canary, RolloutPhase, RolloutState, WhenNoSpare
from tests.golden.story import V2, Story, scenario


@scenario("The node of an old member fails in the middle")
def node_of_an_old_member_fails(story: Story) -> None:
    """gpu-2 fails with chat-1 on it while the first successor starts. Its blocks are replaced by the class (N2), chat-1 is made
    again there as it was, and the rollout goes on with it in its turn."""
    story.nodes(3, 3, 3)
    story.instance(at=["gpu-1", "gpu-2"])
    story.world.slow[V2] = story.minutes(5)
    story.edit("the customer sets snapshot v2", target=V2)
    story.happens("gpu-2 fails", lambda world: world.lose_node("gpu-2"), at=1)
    story.happens("the class claims gpu-9 in place of gpu-2", lambda world: world.replace_node("gpu-2", "gpu-9"), at=3)
    story.run()
    story.ends(V2, V2, serving=2)


@scenario("The node of the new member fails in the middle")
def node_of_the_new_member_fails(story: Story) -> None:
    """gpu-3 fails with the successor on it, before that serves. A lost node is not the version's fault: the deadline does not
    run, and the step begins again where the class has claimed blocks instead."""
    story.nodes(3, 3, 3)
    story.instance(at=["gpu-1", "gpu-2"])
    story.edit("the customer sets snapshot v2", target=V2)
    story.happens("gpu-3 fails", lambda world: world.lose_node("gpu-3"), at=1)
    story.happens(
        "the class claims gpu-9 in place of gpu-3", lambda world: world.replace_node("gpu-3", "gpu-9"), at=120
    )
    story.run(until=110)
    assert story.world.records[0].state is RolloutState.RUNNING
    story.untouched("chat-0", "chat-1")
    story.run()
    story.ends(V2, V2, serving=2)


@scenario("The spare node fails between two members")
def the_spare_node_fails(story: Story) -> None:
    """After the first step the room for the next one is lost with its node. The rollout is planned anew: whenNoSpare is Block,
    so it says what it waits for, and goes on when a node is there."""
    story.nodes(6, 3)
    story.instance()
    story.world.slow[V2] = story.minutes(5)
    story.edit("the customer sets snapshot v2", target=V2)
    story.edit("the customer pauses", at=1, paused=True)
    story.happens("gpu-1 loses 300 CU: a GPU is broken", lambda world: world.change_node("gpu-1", blocks=3), at=20)
    story.edit("the customer goes on", at=30, paused=False)
    story.happens("the GPU is replaced", lambda world: world.change_node("gpu-1", blocks=6), at=60)
    story.run(until=50)
    assert story.world.reports["chat"].phase is RolloutPhase.BLOCKED
    assert story.blocked_on.startswith("need 300 CU, spare 0")
    story.run()
    story.ends(V2, V2)
    story.always_served()


@scenario("The spare node fails, and InPlace is agreed")
def the_spare_node_fails_in_place(story: Story) -> None:
    """The same with whenNoSpare InPlace: what is left goes in place, as was agreed for the lack of room."""
    story.nodes(6, 3)
    story.instance(when_no_spare=WhenNoSpare.IN_PLACE, min_available=1)
    story.world.slow[V2] = story.minutes(5)
    story.edit("the customer sets snapshot v2", target=V2)
    story.edit("the customer pauses", at=1, paused=True)
    story.happens("gpu-1 loses 300 CU: a GPU is broken", lambda world: world.change_node("gpu-1", blocks=3), at=20)
    story.edit("the customer goes on", at=30, paused=False)
    story.run()
    story.ends(V2, V2)


@scenario("A node fails while its member makes room in place")
def node_fails_in_place(story: Story) -> None:
    """chat-0 was stopped for its successor when its node fails: the successor is placed where the class has claimed blocks
    instead, and chat-1 is not stopped before it serves."""
    story.nodes(3, 3)
    story.instance(at=["gpu-1", "gpu-2"], when_no_spare=WhenNoSpare.IN_PLACE, min_available=1)
    story.edit("the customer sets snapshot v2", target=V2)
    story.happens("gpu-1 fails", lambda world: world.lose_node("gpu-1"), at=0.5)
    story.happens("the class claims gpu-9 in place of gpu-1", lambda world: world.replace_node("gpu-1", "gpu-9"), at=5)
    story.run()
    story.ends(V2, V2, serving=2)


@scenario("Drained in the middle of a rollout")
def drained_in_mid_way(story: Story) -> None:
    """gpu-1 is cordoned with both members on it. The members that the rollout replaces do not return there: it empties the node
    by the way, and nobody moves twice."""
    story.nodes(6, 6)
    story.instance()
    story.edit("the customer sets snapshot v2", target=V2)
    story.happens("gpu-1 is cordoned", lambda world: world.cordon("gpu-1"), at=1)
    story.run()
    story.ends(V2, V2)
    assert {each.nodes for each in story.world.holdings} == {("gpu-2",)}


@scenario("Drained while the canary waits")
def drained_while_the_canary_waits(story: Story) -> None:
    """The rollout waits for an approval when gpu-1 is cordoned. The drain does not wait for it (N3): the old member moves as it
    is, with the room that the rollout has kept; the rollout takes its next step when room is there again."""
    story.nodes(6, 3)
    story.instance(canary=Canary(1))
    story.world.slow[V2] = story.minutes(5)
    story.edit("the customer sets snapshot v2", target=V2)
    story.happens("gpu-1 is cordoned", lambda world: world.cordon("gpu-1"), at=60)
    story.happens("the class claims gpu-9 in place of gpu-1", lambda world: world.replace_node("gpu-1", "gpu-9"), at=61)
    story.approve(at=120)
    story.run(until=110)
    assert story.world.versions("chat") == ["v1", "v2"]
    assert all("gpu-1" not in each.nodes for each in story.world.holdings)
    story.run()
    story.ends(V2, V2)


@scenario("In place on a cordoned node")
def in_place_on_a_cordoned_node(story: Story) -> None:
    """Whoever is on a cordoned node cannot be replaced in place, since nothing may be placed there. The other one can; the
    rollout says what it waits for."""
    story.nodes(3, 3)
    story.instance(at=["gpu-1", "gpu-2"], when_no_spare=WhenNoSpare.IN_PLACE, min_available=1)
    story.happens("gpu-1 is cordoned", lambda world: world.cordon("gpu-1"))
    story.edit("the customer sets snapshot v2", at=1, target=V2)
    story.happens("gpu-1 is uncordoned", lambda world: world.uncordon("gpu-1"), at=60)
    story.run(until=50)
    assert story.world.versions("chat") == ["v1", "v2"]
    assert "gpu-1" in story.blocked_on
    story.run()
    story.ends(V2, V2)


@scenario("The pool's status is lost in the middle")
def status_lost_in_mid_way(story: Story) -> None:
    """An etcd backup brings the pool back without its status. Holdings are rebuilt from the StatefulSets, which say what each
    member runs (C2); the rollout is planned anew from that, under the id of the generation that asks for it."""
    story.nodes(9, 3)
    story.instance(at=["gpu-1"] * 3)
    story.world.slow[V2] = story.minutes(5)
    story.edit("the customer sets snapshot v2", target=V2)
    story.happens("the pool's status is lost and rebuilt", lambda world: world.lose_status(), at=8)
    story.run()
    story.ends(V2, V2, V2)
    story.always_served()


@scenario("Members of an operator that did not record versions")
def members_without_a_version(story: Story) -> None:
    """Holdings that say nothing of a version are adopted with what their member runs; then a rollout is as any other."""
    story.nodes(6, 3)
    story.instance()
    story.happens("the holdings are read from an older record", lambda world: world.forget_versions())
    story.edit("the customer sets snapshot v2", at=10, target=V2)
    story.run()
    story.ends(V2, V2)
    story.always_served()
