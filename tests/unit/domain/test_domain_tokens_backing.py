"""What the fleet carries, what counts of it, and the limits that follow (behaviour.md T3, T4, C5, I7)."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from reserved_capacity.domain.tokens.backing import (
    Claim,
    Grant,
    SnapshotFleet,
    fleet_size,
    plan_backing,
)
from reserved_capacity.domain.tokens.entitlement import TokenRate, total
from reserved_capacity.domain.tokens.limits import (
    ActiveUnits,
    Enforcement,
    Overflow,
    account_limits,
)
from reserved_capacity.domain.tokens.lots import ReservationName

EACH = TokenRate(600, 50)
OLD, NEW = "model-1", "model-2"


def claim(number: int, rate: TokenRate, snapshot: str = OLD, *, begun: bool = False) -> Claim:
    name = ReservationName("acme", f"r{number}")
    return Claim(f"{name}@{number}", f"{number:03}", name, snapshot, rate, begun)


def fleet(available: int, throughput: TokenRate = EACH) -> SnapshotFleet:
    return SnapshotFleet(throughput, available)


def test_t4_the_fleet_is_sized_by_the_direction_that_needs_more() -> None:
    assert fleet(0).instances_for(TokenRate(601, 50)) == 2
    assert fleet(0).instances_for(TokenRate(600, 151)) == 4
    assert fleet(0).instances_for(TokenRate()) == 0
    assert fleet(0, TokenRate(600, 0)).instances_for(TokenRate(0, 1)) is None


def test_t4_the_fleet_keeps_the_offerings_minimum_and_the_pools_size() -> None:
    assert fleet_size(fleet(0), TokenRate(1, 0), minimum=2, most=10) == 2
    assert fleet_size(fleet(0), TokenRate(6000, 0), minimum=2, most=7) == 7
    assert fleet_size(fleet(0), TokenRate(), minimum=2, most=10) == 0


def test_t4_what_begun_before_the_record_was_lost_is_granted_anew() -> None:
    plan = plan_backing([claim(1, TokenRate(600, 0), begun=True)], [], {})
    assert plan.grants == (Grant("acme/r1@1", OLD),)
    assert plan.overdrawn == {"acme/r1@1"}


def test_t4_a_grant_of_a_claim_that_is_no_more_is_dropped() -> None:
    plan = plan_backing([], [Grant("acme/r1@1", OLD)], {OLD: fleet(1)})
    assert (plan.grants, plan.sold) == ((), {})


def test_s8_a_claim_moves_when_the_other_fleet_has_room_and_both_carry_it_until_then() -> None:
    moving = claim(1, TokenRate(900, 0), NEW, begun=True)
    before = [Grant(moving.id, OLD)]
    plan = plan_backing([moving], before, {OLD: fleet(2), NEW: fleet(1)})
    assert plan.grants == tuple(before)
    assert plan.sold == {OLD: moving.rate, NEW: moving.rate}
    assert not plan.carries(moving)
    plan = plan_backing([moving], before, {OLD: fleet(2), NEW: fleet(2)})
    assert plan.grants == (Grant(moving.id, NEW),)
    assert plan.sold == {NEW: moving.rate}
    assert plan.carries(moving)


RATES = st.builds(TokenRate, st.integers(0, 2000), st.integers(0, 200))
CLAIMS = st.lists(st.tuples(RATES, st.sampled_from([OLD, NEW]), st.booleans()), max_size=8)


@given(CLAIMS, st.integers(0, 6), st.integers(0, 6), st.randoms())
def test_t4_nothing_new_is_granted_beyond_what_serves_whatever_the_order(drawn, old, new, chance) -> None:  # type: ignore[no-untyped-def]
    claims = [claim(n, rate, snapshot, begun=False) for n, (rate, snapshot, _) in enumerate(drawn)]
    fleets = {OLD: fleet(old), NEW: fleet(new)}
    plan = plan_backing(claims, [], fleets)
    granted = {grant.claim: grant.snapshot for grant in plan.grants}
    for snapshot, each in fleets.items():
        assert total(one.rate for one in claims if granted.get(one.id) == snapshot).fits(each.capacity)
    assert not plan.overdrawn
    # I7: the order of events does not matter; and what is granted stays, whatever comes.
    shuffled = list(claims)
    chance.shuffle(shuffled)
    assert plan_backing(shuffled, [], fleets) == plan
    assert plan_backing(claims, plan.grants, fleets) == plan
    shrunk = plan_backing(claims, plan.grants, {})
    assert shrunk.grants == plan.grants
    # C5: who was left out does not fit.
    for one in claims:
        if one.id not in granted:
            used = total(other.rate for other in claims if granted.get(other.id) == one.snapshot)
            assert not (used + one.rate).fits(fleets[one.snapshot].capacity)


def units(name: str, rate: TokenRate, overflow: Overflow = Overflow.SPILL, account: str = "acme") -> ActiveUnits:
    return ActiveUnits(account, ReservationName("acme", name), OLD, rate, overflow, Enforcement.ENFORCE)


def test_t3_effective_is_the_base_and_all_active_units_by_account_and_direction() -> None:
    bases = {"*": TokenRate(500, 100), "umbrella": TokenRate(900, 0)}
    found = account_limits(bases, [units("b", TokenRate(90, 0)), units("a", TokenRate(0, 10))])
    assert [(each.account, each.effective) for each in found] == [
        ("*", TokenRate(500, 100)),
        ("acme", TokenRate(590, 110)),
        ("umbrella", TokenRate(900, 0)),
    ]
    assert [str(each.reservation) for each in found[1].units] == ["acme/a", "acme/b"]


def test_t3_an_account_whose_units_are_all_reject_has_them_alone() -> None:
    bases = {"*": TokenRate(500, 100)}
    one = units("a", TokenRate(90, 10), Overflow.REJECT)
    assert account_limits(bases, [one])[1].limit == TokenRate(90, 10)
    assert account_limits(bases, [one, units("b", TokenRate(1, 1))])[1].limit == TokenRate(591, 111)


def test_t3_reject_holds_to_the_base_in_a_direction_of_which_nothing_was_bought() -> None:
    (_, found) = account_limits({"*": TokenRate(500, 100)}, [units("a", TokenRate(90, 0), Overflow.REJECT)])
    assert found.limit == TokenRate(90, 100)


def test_i7_the_order_of_reservations_makes_no_difference() -> None:
    bases = {"*": TokenRate(500, 100)}
    active = [units("b", TokenRate(90, 0)), units("a", TokenRate(0, 10)), units("c", TokenRate(1, 1), account="z")]
    assert account_limits(bases, active) == account_limits(bases, active[::-1])


def test_t3_without_a_base_for_everybody_an_account_has_its_units_only() -> None:
    (found,) = account_limits({}, [units("a", TokenRate(90, 10))])
    assert (found.base, found.effective) == (TokenRate(), TokenRate(90, 10))
