"""Scenarios of other changes in the middle of a rollout: counts, suspension, change sets, automatic upgrades."""

from __future__ import annotations

from datetime import date, timedelta

from reserved_capacity.domain.lifecycle import LifecycleDates
from reserved_capacity.domain.rollout.target import AutoUpgrade, Listed, effective_target
from reserved_capacity.domain.rollout.values import RolloutState, WhenNoSpare
from tests.golden.story import V1, V2, Story, scenario
from tests.golden.world import NOON


@scenario("Scaled up in the middle")
def scaled_up_in_mid_way(story: Story) -> None:
    """The new version has proved itself when one instance more is asked for: it is made of it, and need not move again."""
    story.nodes(6, 3, 3)
    story.instance()
    story.world.slow[V2] = story.minutes(5)
    story.edit("the customer sets snapshot v2", target=V2)
    story.edit("the customer scales to 3 instances", at=6, desired=3)
    story.run()
    story.ends(V2, V2, V2)


@scenario("Scaled up while the first one starts")
def scaled_up_at_once(story: Story) -> None:
    """Nobody knows yet whether the new version comes up: what grows is made of the old one, which does."""
    story.nodes(6, 3, 3)
    story.instance()
    story.world.bad[V2] = "manifest unknown"
    story.edit("the customer sets snapshot v2", target=V2)
    story.edit("the customer scales to 3 instances", at=1, desired=3)
    story.run()
    story.ends(V1, V1, V1, state=RolloutState.ROLLED_BACK, serving=3)
    story.untouched("chat-0", "chat-1")


@scenario("Scaled down in the middle")
def scaled_down_in_mid_way(story: Story) -> None:
    """Whoever runs what is on its way out goes first, so that nobody has moved for nothing."""
    story.nodes(8, 2)
    story.instance(at=["gpu-1"] * 4, blocks=2)
    story.world.slow[V2] = story.minutes(5)
    story.edit("the customer sets snapshot v2", target=V2)
    story.edit("the customer scales to 2 instances", at=13, desired=2)
    story.run()
    story.ends(V2, V2)


@scenario("Scaled to zero in the middle")
def scaled_to_zero(story: Story) -> None:
    """Nothing is left to roll out; the next start is with what the spec asks for."""
    story.nodes(6, 3)
    story.instance()
    story.edit("the customer sets snapshot v2", target=V2)
    story.edit("the customer scales to zero", at=1, desired=0)
    story.edit("the customer scales to 2 instances again", at=60, desired=2)
    story.run()
    story.ends(V2, V2, state=None)


@scenario("Suspended, then another snapshot")
def suspended(story: Story) -> None:
    """Nobody serves while it is suspended, so there is nobody to be missed and no room to be had: members are replaced in
    place, also in a full pool, and come up with the new version."""
    story.nodes(6)
    story.instance()
    story.edit("the customer suspends", suspended=True)
    story.edit("the customer sets snapshot v2", at=10, target=V2)
    story.edit("the customer ends the suspension", at=60, suspended=False)
    story.run()
    story.ends(V2, V2)


@scenario("A change set comes first")
def change_set_first(story: Story) -> None:
    """The instance is part of a change set that is under way. The rollout begins when that is done (F3)."""
    story.nodes(6, 3)
    story.instance()
    why = "change set rebalance-2026-03 is under way"
    story.edit("the customer sets snapshot v2 and a change set", target=V2, held_back=why)
    story.edit("the change set is done", at=30, held_back="")
    story.run(until=20)
    story.untouched("chat-0", "chat-1")
    story.run()
    story.ends(V2, V2)
    story.always_served()


@scenario("Moved to the replacement at deprecation")
def auto_upgrade(story: Story) -> None:
    """autoUpgrade AtDeprecation: v1 is deprecated on the 8th of March, and its replacement v2 becomes the target at 00:00 UTC of
    that day, though nobody has edited anything. It is a rollout like any other."""
    story.nodes(6, 3)
    story.instance()
    catalogue = {"v1": Listed(LifecycleDates(deprecated_from=date(2026, 3, 8)), "v2"), "v2": Listed(LifecycleDates())}
    found = effective_target(V1, catalogue, AutoUpgrade.AT_DEPRECATION, now=NOON)
    assert (found.version, found.changes_at) == (V1, NOON.replace(hour=0) + timedelta(days=1))

    def midnight(world: object) -> None:
        target = effective_target(V1, catalogue, AutoUpgrade.AT_DEPRECATION, now=story.world.now).version
        story.world.retarget("chat", target)

    story.happens("v1 is deprecated from today on", midnight, at=12 * 60)
    story.run(until=48 * 60)
    story.ends(V2, V2)
    story.always_served()


@scenario("The new count does not fit")
def growth_that_waits(story: Story) -> None:
    """Four instances are asked for and the pool has room for three. The rollout does not wait for the fourth: it moves those
    that are there."""
    story.nodes(6, 3)
    story.instance(when_no_spare=WhenNoSpare.IN_PLACE, min_available=1)
    story.edit("the customer asks for 4 instances and sets snapshot v2", target=V2, desired=4)
    story.run()
    story.ends(V2, V2, V2)


@scenario("Shared by two instances: the whole floor")
def siblings_with_spare(story: Story) -> None:
    """chat and night run one model that needs three instances. chat moves with spare room, so the minimum is no question."""
    story.nodes(6, 3, 3)
    story.instance(minimum=3, offering="gpt")
    story.instance("night", at=["gpu-3"], minimum=3, offering="gpt")
    story.edit("the customer sets chat to snapshot v2", target=V2)
    story.run()
    story.ends(V2, V2)
    story.ends(V1, name="night", state=None)
    story.always_served()
