"""Scenarios of versions that do not serve: onFailure decides, and the way back is as careful as the way forth (S6)."""

from __future__ import annotations

from datetime import timedelta

from reserved_capacity.domain.rollout.values import Canary, OnFailure, RolloutPhase, RolloutState, WhenNoSpare
from tests.golden.story import V1, V2, V3, Story, scenario


@scenario("A bad image, with spare room")
def bad_image_with_spare(story: Story) -> None:
    """The new member never serves. After progressDeadline it is taken back; the old ones have never been touched. The spec
    still asks for v2, and is not tried again until something about it changes."""
    story.nodes(6, 3)
    story.world.bad[V2] = "ImagePullBackOff: manifest unknown"
    story.instance(minimum=2)
    story.edit("the customer sets snapshot v2", target=V2)
    story.run()
    story.ends(V1, V1, state=RolloutState.ROLLED_BACK)
    story.untouched("chat-0", "chat-1")
    story.always_served()
    failure = story.world.records[0].failure
    assert failure is not None
    assert "manifest unknown" in failure.message


@scenario("A bad image, in place")
def bad_image_in_place(story: Story) -> None:
    """The member that was stopped for it is made again with the old version, in the same place; the other one has served all
    the time."""
    story.nodes(6)
    story.world.bad[V2] = "CrashLoopBackOff"
    story.instance(when_no_spare=WhenNoSpare.IN_PLACE, min_available=1)
    story.edit("the customer sets snapshot v2", target=V2)
    story.run()
    story.ends(V1, V1, state=RolloutState.ROLLED_BACK, serving=2)
    story.untouched("chat-1")


@scenario("A bad image, one instance in place")
def bad_image_single_in_place(story: Story) -> None:
    """With one instance the way back is the only way to serve again; the old template is still there to make it from."""
    story.nodes(3)
    story.world.bad[V2] = "CrashLoopBackOff"
    story.instance(at=["gpu-1"], when_no_spare=WhenNoSpare.IN_PLACE, min_available=0, accept_below_minimum=True)
    story.edit("the customer sets snapshot v2", target=V2)
    story.run()
    story.ends(V1, state=RolloutState.ROLLED_BACK, serving=1)


@scenario("Halt instead of going back")
def halt(story: Story) -> None:
    """onFailure Halt: everything stays as it is for somebody to look at. Nothing else moves by itself."""
    story.nodes(6, 3)
    story.world.bad[V2] = "CUDA out of memory"
    story.instance(on_failure=OnFailure.HALT)
    story.edit("the customer sets snapshot v2", target=V2)
    story.run()
    story.ends(V1, V1, V2, phase=RolloutPhase.HALTED, state=RolloutState.HALTED)
    story.untouched("chat-0", "chat-1")
    story.always_served()


@scenario("Halted on what was borrowed")
def halted_on_borrowed_room(story: Story) -> None:
    """Room for two was lent, and the canary is the only one that stands there when it fails. The rollout halts: the canary
    stays to be looked at, and the place that nobody stands on goes back to the class at once. The other follows when the
    customer sets the old snapshot back."""
    story.nodes(8)
    story.world.unclaimed = 4
    story.world.bad[V2] = "CUDA out of memory"
    story.instance(
        at=["gpu-1"] * 4,
        blocks=2,
        max_surge=2,
        when_no_spare=WhenNoSpare.BORROW_SPARE,
        canary=Canary(1),
        on_failure=OnFailure.HALT,
    )
    story.edit("the customer sets snapshot v2", target=V2)
    story.run(until=120)
    story.ends(V1, V1, V1, V1, V2, phase=RolloutPhase.HALTED, state=RolloutState.HALTED)
    assert story.world.borrowed == 2
    story.edit("the customer sets snapshot v1 again", target=V1, at=180)
    story.run()
    story.ends(V1, V1, V1, V1)
    assert story.world.borrowed == 0
    story.always_served()


@scenario("Halted, then set back")
def halted_then_set_back(story: Story) -> None:
    """The customer has seen enough and sets the old snapshot back: the failed member goes, nobody else moves."""
    story.nodes(6, 3)
    story.world.bad[V2] = "CUDA out of memory"
    story.instance(on_failure=OnFailure.HALT)
    story.edit("the customer sets snapshot v2", target=V2)
    story.edit("the customer sets snapshot v1 again", at=120, target=V1)
    story.run()
    story.ends(V1, V1)
    story.untouched("chat-0", "chat-1")
    story.always_served()


@scenario("Halted, then corrected")
def halted_then_corrected(story: Story) -> None:
    """v3 corrects what was wrong with v2: the failed member makes room for one of v3."""
    story.nodes(6, 3)
    story.world.bad[V2] = "CUDA out of memory"
    story.instance(on_failure=OnFailure.HALT)
    story.edit("the customer sets snapshot v2", target=V2)
    story.edit("the customer sets snapshot v3", at=120, target=V3)
    story.run()
    story.ends(V3, V3)
    story.always_served()


@scenario("Halted in place, one is missing")
def halted_in_place(story: Story) -> None:
    """Halt in place leaves a member missing, as it was asked for; setting the old snapshot back fills its place."""
    story.nodes(6)
    story.world.bad[V2] = "CUDA out of memory"
    story.instance(on_failure=OnFailure.HALT, when_no_spare=WhenNoSpare.IN_PLACE, min_available=1)
    story.edit("the customer sets snapshot v2", target=V2)
    story.edit("the customer sets snapshot v1 again", at=120, target=V1)
    story.run(until=100)
    story.ends(V1, V2, phase=RolloutPhase.HALTED, state=RolloutState.HALTED)
    story.run()
    story.ends(V1, V1, serving=2)
    story.untouched("chat-1")


@scenario("Failed after some have moved")
def fails_after_some_have_moved(story: Story) -> None:
    """Two members have moved and serve when the third one fails. All go back to the old version, one at a time and with the
    same care, since what was agreed for the way forth holds for the way back; the one that never moved is not restarted."""
    story.nodes(8, 2)
    story.instance(at=["gpu-1"] * 4, blocks=2)
    story.edit("the customer sets snapshot v2", target=V2)
    story.happens("the registry loses the image of v2", lambda world: world.bad.update({V2: "manifest unknown"}), at=13)
    story.run()
    story.ends(V1, V1, V1, V1, state=RolloutState.ROLLED_BACK)
    story.untouched("chat-3")
    story.always_served()


@scenario("A version that crashes after it has served")
def crashes_after_serving(story: Story) -> None:
    """The first new member serves, its old one goes, and then it crashes. Nobody else moves to a version of which a member
    does not serve; after progressDeadline the rollout goes back."""
    story.nodes(9, 3)
    story.world.crashing[V2] = timedelta(minutes=2)
    story.instance(at=["gpu-1"] * 3)
    story.edit("the customer sets snapshot v2", target=V2)
    story.run()
    story.ends(V1, V1, V1, state=RolloutState.ROLLED_BACK, serving=3)
    story.untouched("chat-2")


@scenario("Tried again with more time")
def tried_again(story: Story) -> None:
    """Ten minutes were too few for a start that takes twenty. The customer raises progressDeadline: that is another attempt at
    the same version."""
    story.nodes(6, 3)
    story.world.slow[V2] = timedelta(minutes=20)
    story.instance(progress_deadline=timedelta(minutes=10))
    story.edit("the customer sets snapshot v2", target=V2)
    story.edit("the customer sets progressDeadline 1h", at=60, progress_deadline=timedelta(hours=1))
    story.run()
    story.ends(V2, V2)
    story.always_served()


@scenario("Tried again by way of the old snapshot")
def tried_again_by_way_of_the_old(story: Story) -> None:
    """The provider has mended the image. Setting the old snapshot, and then the new one again, is a new rollout."""
    story.nodes(6, 3)
    story.world.bad[V2] = "manifest unknown"
    story.instance()
    story.edit("the customer sets snapshot v2", target=V2)
    story.happens("the provider mends the image of v2", lambda world: world.bad.clear(), at=90)
    story.edit("the customer sets snapshot v1, as it runs", at=100, target=V1)
    story.edit("the customer sets snapshot v2 again", at=110, target=V2)
    story.run()
    story.ends(V2, V2)
    story.always_served()


@scenario("Not tried again for nothing")
def not_tried_again(story: Story) -> None:
    """After a failure neither scaling nor a pause is another attempt at the same version; a new member is made of the version
    that serves."""
    story.nodes(6, 3)
    story.world.bad[V2] = "manifest unknown"
    story.instance()
    story.edit("the customer sets snapshot v2", target=V2)
    story.edit("the customer pauses", at=90, paused=True)
    story.edit("the customer goes on", at=100, paused=False)
    story.edit("the customer scales to 3 instances", at=110, desired=3)
    story.run()
    story.ends(V1, V1, V1, state=RolloutState.ROLLED_BACK)
    story.untouched("chat-0", "chat-1")


@scenario("Two at a time, one of them fails")
def one_of_two_fails(story: Story) -> None:
    """maxSurge 2: one successor serves, the other one does not. The rollout goes back, and undoes the step that had
    succeeded too."""
    story.nodes(8, 4)
    story.instance(at=["gpu-1"] * 4, blocks=2, max_surge=2)
    story.world.stillborn = {"chat-5"}
    story.edit("the customer sets snapshot v2", target=V2)
    story.run()
    story.ends(V1, V1, V1, V1, state=RolloutState.ROLLED_BACK)
    story.always_served()


@scenario("Going back fails as well")
def going_back_fails(story: Story) -> None:
    """The old version does not come up any more either. There is nothing further to go back to: the rollout halts, says so
    with both failures and what there is to do, and the members that serve keep serving. Once the registry is mended the
    customer sets the old version, and the rest goes back."""
    story.nodes(8, 2)
    story.instance(at=["gpu-1"] * 4, blocks=2)
    story.edit("the customer sets snapshot v2", target=V2)

    def break_both(world: object) -> None:
        story.world.bad.update({V2: "manifest unknown", V1: "manifest unknown"})

    story.happens("the registry loses both images", break_both, at=13)
    story.run()
    report = story.world.reports["chat"]
    assert report.phase is RolloutPhase.HALTED
    assert "neither comes up" in report.blocked_on
    assert story.world.serving("chat") == 4

    def mend_both(world: object) -> None:
        story.world.bad.clear()
        for name in [each for each, member in story.world.members.items() if not member.serves]:
            story.world.start_again(name)

    story.happens("the registry has its images again", mend_both, at=150)
    story.edit("the customer sets snapshot v1", target=V1, at=165)
    story.run()
    story.ends(V1, V1, V1, V1, state=RolloutState.DONE)
    story.always_served()


@scenario("Going back fails in place")
def going_back_fails_in_place(story: Story) -> None:
    """One instance, and neither version comes up: nobody serves, nothing moves any more, and it says so. A third version is
    the way out."""
    story.nodes(3)
    story.world.bad.update({V2: "manifest unknown", V1: "the licence has ended"})
    story.instance(at=["gpu-1"], when_no_spare=WhenNoSpare.IN_PLACE, min_available=0, accept_below_minimum=True)
    story.edit("the customer sets snapshot v2", target=V2)
    story.run()
    report = story.world.reports["chat"]
    assert report.phase is RolloutPhase.HALTED
    assert story.world.serving("chat") == 0
    story.edit("the customer sets snapshot v3", target=V3, at=150)
    story.run()
    story.ends(V3, state=RolloutState.DONE)


@scenario("Going back past a member that is down")
def going_back_past_one_that_is_down(story: Story) -> None:
    """chat-3 runs v1, has never moved, and crashes for a reason of its own. That is no failure of the way back, which takes
    longer than progressDeadline in all: it halts only for a member that was made for it."""
    story.nodes(8, 2)
    story.instance(at=["gpu-1"] * 4, blocks=2, min_available=2, progress_deadline=story.minutes(10))
    story.edit("the customer sets snapshot v2", target=V2)

    def break_one(world: object) -> None:
        story.world.bad[V2] = "manifest unknown"
        story.world.crash("chat-3", story.world.members["chat-3"])

    story.happens("the registry loses v2, and chat-3 crashes", break_one, at=13)
    story.run()
    story.ends(V1, V1, V1, V1, state=RolloutState.ROLLED_BACK, serving=3)
    story.untouched("chat-3")
