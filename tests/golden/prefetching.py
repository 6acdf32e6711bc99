"""Scenarios of what happens while an artifact is brought to its nodes (S3): the old version serves on through all of it."""

from __future__ import annotations

from reserved_capacity.domain.rollout.values import RolloutPhase, RolloutState, Strategy, WhenNoSpare
from tests.golden.story import V1, V2, V3, Story, scenario


@scenario("The target changes during the pull")
def target_changed_during_prefetch(story: Story) -> None:
    """The pool is full, and v2 is being pulled when the customer wants v3. Nobody has moved, and nobody moves before v3 is
    there; v2 runs nowhere."""
    story.nodes(6)
    story.world.cached = {"v1": {"gpu-1"}}
    story.instance(when_no_spare=WhenNoSpare.IN_PLACE, min_available=1)
    story.edit("the customer sets snapshot v2", target=V2)
    story.edit("the customer sets snapshot v3", at=1, target=V3)
    story.run(until=2.5)
    story.untouched("chat-0", "chat-1")
    story.run()
    story.ends(V3, V3)


@scenario("The old snapshot is set back during the pull")
def set_back_during_prefetch(story: Story) -> None:
    """What was there before needs no pull: nothing has happened, and nothing does."""
    story.nodes(6)
    story.world.cached = {"v1": {"gpu-1"}}
    story.instance(strategy=Strategy.IN_PLACE, min_available=1)
    story.edit("the customer sets snapshot v2", target=V2)
    story.edit("the customer sets snapshot v1 again", at=1, target=V1)
    story.run()
    story.untouched("chat-0", "chat-1")
    story.ends(V1, V1)
    story.always_served()


@scenario("The node is lost during the pull")
def node_lost_during_prefetch(story: Story) -> None:
    """gpu-3, where the first new member was to go, fails before the artifact is there. No capacity was taken for it, so there is
    nothing to undo: the rollout waits for the node that is claimed instead, and for the artifact on that one."""
    story.nodes(3, 3, 3)
    story.world.cached = {"v1": {"gpu-1", "gpu-2"}}
    story.instance(at=["gpu-1", "gpu-2"])
    story.edit("the customer sets snapshot v2", target=V2)
    story.happens("gpu-3 fails", lambda world: world.lose_node("gpu-3"), at=1)
    story.happens("the class claims gpu-9 in place of gpu-3", lambda world: world.replace_node("gpu-3", "gpu-9"), at=20)
    story.run(until=19)
    story.untouched("chat-0", "chat-1")
    story.run()
    story.ends(V2, V2, serving=2)
    story.always_served()


@scenario("The record is lost during the pull")
def record_lost_during_prefetch(story: Story) -> None:
    """The operator is killed, and the pool's status goes too. Where the artifact is does not stand there: the rollout is
    planned anew, finds what was pulled, and nothing was stopped meanwhile."""
    story.nodes(6)
    story.world.cached = {"v1": {"gpu-1"}}
    story.instance(strategy=Strategy.IN_PLACE, min_available=1)
    story.edit("the customer sets snapshot v2", target=V2)
    story.happens("the pool's status is lost", lambda world: world.lose_status(), at=1)
    story.run(until=1.5)
    story.untouched("chat-0", "chat-1")
    story.run()
    story.ends(V2, V2)


@scenario("The pull fails in place")
def prefetch_fails_in_place(story: Story) -> None:
    """The registry does not have it. In place this would be an outage without an end; as it is, the member that was to go
    first serves on, no deadline runs, and the reason says which node and why."""
    story.nodes(3)
    story.world.cached = {"v1": {"gpu-1"}}
    story.world.unpullable = {"gpu-1": "not there within 45m, tried again at 13:40"}
    story.instance(at=["gpu-1"], strategy=Strategy.IN_PLACE, min_available=0, accept_below_minimum=True)
    story.edit("the customer sets snapshot v2", target=V2)
    story.run(until=20 * 60)
    story.untouched("chat-0")
    story.ends(V1, phase=RolloutPhase.PREFETCHING, state=RolloutState.RUNNING)
    assert "no capacity was released: gpu-1: not there within 45m" in story.blocked_on
    story.always_served()


@scenario("What was borrowed is kept while the artifact is brought there")
def borrowed_during_prefetch(story: Story) -> None:
    """The pool is full, and the class lends a node. Until the artifact is on it nobody else is placed there, though fast waits
    for compute units."""
    story.nodes(6)
    story.world.unclaimed = 3
    story.world.cached = {"v1": {"gpu-1"}}
    story.instance(when_no_spare=WhenNoSpare.BORROW_SPARE, priority=1)
    story.instance("fast", at=[], instances=1, blocks=1)
    story.edit("the customer sets snapshot v2", target=V2)
    story.run()
    story.ends(V2, V2)
    assert not story.world.unserved.get("chat")
