"""Scenarios without spare room: whenNoSpare decides, and nothing is stopped that is not agreed (S2, C6)."""

from __future__ import annotations

from reserved_capacity.domain.rollout.values import RolloutPhase, RolloutState, Strategy, WhenNoSpare
from tests.golden.story import V1, V2, Story, scenario


@scenario("Block: an exactly full pool is not touched")
def block_touches_nothing(story: Story) -> None:
    """The customer uses exactly what it has bought. Surge needs room for one member more, there is none, and whenNoSpare is
    Block: nothing is touched, and the message names what is missing and the ways on."""
    story.nodes(6)
    story.instance(minimum=2)
    story.edit("the customer sets snapshot v2", target=V2)
    story.run()
    story.ends(V1, V1, phase=RolloutPhase.BLOCKED, state=RolloutState.RUNNING)
    story.untouched("chat-0", "chat-1")
    story.always_served()
    assert story.blocked_on.startswith("need 300 CU, spare 0")
    assert "InPlace" in story.blocked_on
    assert "BorrowSpare" in story.blocked_on


@scenario("Block: planned anew when spare room appears")
def block_until_spare_appears(story: Story) -> None:
    """A blocked rollout is planned anew when batch gives 300 CU back."""
    story.nodes(6, 3)
    story.instance(minimum=2)
    story.instance("batch", at=["gpu-2"])
    story.edit("the customer sets chat to snapshot v2", target=V2)
    story.edit("batch is scaled to zero", "batch", at=30, desired=0)
    story.run()
    story.ends(V2, V2)
    story.always_served_by("chat")


@scenario("InPlace: one of two may be missed")
def in_place_one_of_two(story: Story) -> None:
    """No spare, whenNoSpare InPlace, minAvailable 1 of 2: one member stops, its successor takes the same place, and only
    when that serves is the other one's turn. At least one serves at any moment."""
    story.nodes(6)
    story.instance(when_no_spare=WhenNoSpare.IN_PLACE, min_available=1)
    story.edit("the customer sets snapshot v2", target=V2)
    story.run()
    story.ends(V2, V2)


@scenario("InPlace: the model's minimum is a floor")
def in_place_blocked_by_the_minimum(story: Story) -> None:
    """minAvailable 1 would do, but the model needs two instances for its reliability (C6). The rollout stays where it is and
    names acceptBelowMinimum; when the customer accepts, it goes on."""
    story.nodes(6)
    story.instance(minimum=2, when_no_spare=WhenNoSpare.IN_PLACE, min_available=1)
    story.edit("the customer sets snapshot v2", target=V2)
    story.edit("the customer sets acceptBelowMinimum", at=20, accept_below_minimum=True)
    story.run(until=10)
    assert "acceptBelowMinimum" in story.blocked_on
    assert story.world.reports["chat"].phase is RolloutPhase.BLOCKED
    story.untouched("chat-0", "chat-1")
    story.run()
    story.ends(V2, V2)


@scenario("InPlace: minAvailable keeps all")
def in_place_blocked_by_min_available(story: Story) -> None:
    """minAvailable 5 of 2 instances counts as 2: nobody may be missed, so nothing moves in place. Lowered to 1, it does."""
    story.nodes(6)
    story.instance(when_no_spare=WhenNoSpare.IN_PLACE, min_available=5)
    story.edit("the customer sets snapshot v2", target=V2)
    story.edit("the customer lowers minAvailable to 1", at=20, min_available=1)
    story.run(until=10)
    assert "minAvailable is 2" in story.blocked_on
    story.run()
    story.ends(V2, V2)


@scenario("InPlace: a single instance")
def in_place_single_instance(story: Story) -> None:
    """One instance, minAvailable 0 and acceptBelowMinimum: for the time of one start nobody serves, as it was agreed."""
    story.nodes(3)
    story.instance(at=["gpu-1"], when_no_spare=WhenNoSpare.IN_PLACE, min_available=0, accept_below_minimum=True)
    story.edit("the customer sets snapshot v2", target=V2)
    story.run()
    story.ends(V2)


@scenario("InPlace: four members, two of which have to serve")
def in_place_one_by_one(story: Story) -> None:
    """minAvailable 2 of 4: still only one member is stopped at a time."""
    story.nodes(8)
    story.instance(at=["gpu-1"] * 4, blocks=2, when_no_spare=WhenNoSpare.IN_PLACE, min_available=2)
    story.edit("the customer sets snapshot v2", target=V2)
    story.run()
    story.ends(V2, V2, V2, V2)


@scenario("InPlace: one is down already")
def in_place_counts_who_is_down(story: Story) -> None:
    """chat-1 has crashed. It is replaced first, which costs nothing; until its successor serves nobody else is stopped,
    since minAvailable 2 of 3 counts all that do not serve, whatever the cause (S5)."""
    story.nodes(9)
    story.instance(at=["gpu-1"] * 3, when_no_spare=WhenNoSpare.IN_PLACE, min_available=2)
    story.happens("chat-1 crashes", lambda world: world.crash("chat-1", world.members["chat-1"]))
    story.edit("the customer sets snapshot v2", at=1, target=V2)
    story.run()
    story.ends(V2, V2, V2, serving=3)


@scenario("InPlace: siblings count for the minimum")
def in_place_siblings_count(story: Story) -> None:
    """chat and night run the same model, two instances each, and its minimum is 3. One of chat may be stopped; while it
    starts, none of night."""
    story.nodes(6, 6)
    story.instance(minimum=3, offering="gpt", when_no_spare=WhenNoSpare.IN_PLACE, min_available=1)
    story.instance(
        "night",
        at=["gpu-2", "gpu-2"],
        minimum=3,
        offering="gpt",
        when_no_spare=WhenNoSpare.IN_PLACE,
        min_available=1,
    )

    def both(world: object) -> None:
        story.world.edit("chat", target=V2)
        story.world.edit("night", target=V2)

    story.happens("one commit sets chat and night to v2", both)
    story.run()
    story.ends(V2, V2)
    story.ends(V2, V2, name="night")


@scenario("InPlace stays InPlace, also when room appears")
def in_place_stays(story: Story) -> None:
    """The choice is made when the first member moves, and kept: batch gives room back in the middle, and the rollout goes
    on as it began."""
    story.nodes(6, 3)
    story.instance(when_no_spare=WhenNoSpare.IN_PLACE, min_available=1)
    story.instance("batch", at=["gpu-2"])
    story.edit("the customer sets chat to snapshot v2", target=V2)
    story.edit("batch is scaled to zero", "batch", at=1, desired=0)
    story.run()
    story.ends(V2, V2)
    assert story.world.reports["chat"].strategy is Strategy.IN_PLACE


@scenario("BorrowSpare: the class lends the room for one")
def borrow_spare(story: Story) -> None:
    """The pool is full, but its class has nodes that nobody has claimed. BorrowSpare takes 300 CU of them, unbilled, for as
    long as the rollout lasts; nobody is missed at any moment. Then as much goes back, wherever it is idle."""
    story.nodes(6)
    story.world.unclaimed = 8
    story.instance(minimum=2, when_no_spare=WhenNoSpare.BORROW_SPARE)
    story.edit("the customer sets snapshot v2", target=V2)
    story.run()
    story.ends(V2, V2)
    story.always_served()
    assert (story.world.borrowed, story.world.unclaimed) == (0, 8)


@scenario("BorrowSpare: nothing to borrow")
def nothing_to_borrow(story: Story) -> None:
    """The class has nothing unclaimed either: the rollout is blocked and says so, until a node is added."""
    story.nodes(6)
    story.instance(when_no_spare=WhenNoSpare.BORROW_SPARE)
    story.edit("the customer sets snapshot v2", target=V2)
    story.happens("the provider adds a node to the class", lambda world: setattr(world, "unclaimed", 8), at=60)
    story.run(until=30)
    assert story.world.reports["chat"].phase is RolloutPhase.BLOCKED
    assert story.blocked_on.startswith("need 300 CU, spare 0")
    story.untouched("chat-0", "chat-1")
    story.run()
    story.ends(V2, V2)
    story.always_served()
    assert story.world.borrowed == 0


@scenario("BorrowSpare: what was borrowed is for the rollout alone")
def borrowed_for_the_rollout_alone(story: Story) -> None:
    """batch waits for 300 CU of a full pool. What the class lends for chat's rollout is not given to it: CU are contracted,
    and a rollout does not add to the contract (I2)."""
    story.nodes(6, 3)
    story.world.unclaimed = 3
    story.instance(when_no_spare=WhenNoSpare.BORROW_SPARE)
    story.instance("batch", at=["gpu-2"], instances=2, priority=5)
    story.edit("the customer sets chat to snapshot v2", target=V2)
    story.run()
    story.ends(V2, V2)
    story.always_served_by("chat")
    assert story.world.standing("batch") == 1
    assert story.world.borrowed == 0


@scenario("BorrowSpare, two at a time")
def borrow_for_two(story: Story) -> None:
    """maxSurge 2: room for two is asked for, and lent."""
    story.nodes(8)
    story.world.unclaimed = 4
    story.instance(at=["gpu-1"] * 4, blocks=2, max_surge=2, when_no_spare=WhenNoSpare.BORROW_SPARE)
    story.edit("the customer sets snapshot v2", target=V2)
    story.run()
    story.ends(V2, V2, V2, V2)
    story.always_served()
    assert story.world.borrowed == 0


@scenario("Blocked, and the customer changes its mind")
def blocked_and_taken_back(story: Story) -> None:
    """Nothing has moved, so setting the old snapshot back ends the rollout without a trace."""
    story.nodes(6)
    story.instance()
    story.edit("the customer sets snapshot v2", target=V2)
    story.edit("the customer sets snapshot v1 again", at=20, target=V1)
    story.run()
    story.ends(V1, V1)
    story.untouched("chat-0", "chat-1")
