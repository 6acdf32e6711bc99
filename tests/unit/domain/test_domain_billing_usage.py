"""Used and Unused, and the idle share (behaviour.md M1, M6, F6, C10)."""

from __future__ import annotations

from dataclasses import replace
from decimal import Decimal

import pytest

from reserved_capacity.domain.billing.intervals import DAY_MOMENTS
from reserved_capacity.domain.billing.usage import held_on, idle_share, split_charge
from tests.unit.domain.contracts import contract, held, on, provisioned, reduction

DAY = on("2026-03-05")
HOUR = DAY_MOMENTS // 24
FIRST = contract(id_="po-1", compute_units=300, accepted_at="2026-02-01T00:00:00")
SECOND = contract(id_="po-2", compute_units=200, accepted_at="2026-02-02T00:00:00")


def test_m6_used_and_unused_are_the_charge_to_the_cent() -> None:
    split = split_charge(216_986, 300, {"chat": 100 * DAY_MOMENTS, "fast": 100 * DAY_MOMENTS})
    assert split.used_minor == 216_986 * 2 // 3
    assert split.used_minor + split.unused_minor == 216_986
    assert [use.minor for use in split.used] == [72_328, 72_329]
    assert split.idle == 100 * DAY_MOMENTS


def test_c10_what_nobody_held_is_unused_as_a_whole() -> None:
    split = split_charge(216_986, 300, {})
    assert (split.used, split.unused_minor, split.idle) == ((), 216_986, 300 * DAY_MOMENTS)


def test_m6_a_day_that_is_held_as_a_whole_has_nothing_unused() -> None:
    split = split_charge(216_987, 300, {"chat": 300 * DAY_MOMENTS})
    assert (split.used_minor, split.unused_minor, split.idle) == (216_987, 0, 0)


def test_f6_a_swap_of_models_moves_the_split_and_not_the_sum() -> None:
    before = held_on([FIRST], [held(300, "2026-03-01T00:00:00")], DAY)
    swapped = [
        held(300, "2026-03-01T00:00:00", "2026-03-05T12:00:00"),
        replace(held(300, "2026-03-05T12:00:00", member="fast-0"), owner="fast"),
    ]
    after = held_on([FIRST], swapped, DAY)
    assert before == {"po-1": {"chat": 300 * DAY_MOMENTS}}
    assert after == {"po-1": {"chat": 150 * DAY_MOMENTS, "fast": 150 * DAY_MOMENTS}}
    assert split_charge(5, 300, before["po-1"]).used_minor == split_charge(5, 300, after["po-1"]).used_minor == 5


def test_m1_units_belong_to_the_contracts_in_the_order_of_acceptance() -> None:
    found = held_on(
        [SECOND, FIRST], [held(300, "2026-03-01T00:00:00"), held(100, "2026-03-05T18:00:00", member="chat-1")], DAY
    )
    assert found == {"po-1": {"chat": 300 * DAY_MOMENTS}, "po-2": {"chat": 100 * 6 * HOUR}}


def test_m1_an_instance_may_lie_across_two_contracts_and_what_is_beyond_all_is_borrowed() -> None:
    found = held_on([FIRST, SECOND], [held(600, "2026-03-01T00:00:00")], DAY)
    assert found == {"po-1": {"chat": 300 * DAY_MOMENTS}, "po-2": {"chat": 200 * DAY_MOMENTS}}


def test_a_contract_that_does_not_run_on_the_day_has_no_share() -> None:
    later = contract("2026-03-06", id_="po-0", accepted_at="2026-01-01T00:00:00")
    ended = contract(id_="po-3", reductions=(reduction("2026-03-05", 0, "2026-03-01T00:00:00"),))
    found = held_on([later, ended, contract(None, id_="po-4"), FIRST], [held(300, "2026-03-01T00:00:00")], DAY)
    assert found == {"po-1": {"chat": 300 * DAY_MOMENTS}}


def test_a_reduced_contract_has_the_units_of_that_day() -> None:
    reduced = replace(FIRST, reductions=(reduction("2026-03-05", 100, "2026-03-01T00:00:00"),))
    found = held_on([reduced, SECOND], [held(300, "2026-03-01T00:00:00")], DAY)
    assert found == {"po-1": {"chat": 100 * DAY_MOMENTS}, "po-2": {"chat": 200 * DAY_MOMENTS}}


def test_only_holdings_of_the_day_count() -> None:
    shown = [
        held(300, "2026-03-01T00:00:00", "2026-03-05T00:00:00"),
        held(300, "2026-03-06T00:00:00"),
        provisioned(300, "2026-03-01T00:00:00"),
    ]
    assert held_on([FIRST], shown, DAY) == {"po-1": {}}


@pytest.mark.parametrize(
    ("held_cu", "charged_cu", "share"),
    [(0, 300, "1.0000"), (300, 300, "0.0000"), (200, 300, "0.3333"), (100, 300, "0.6667"), (400, 300, "0.0000")],
)
def test_the_idle_share_has_four_places(held_cu: int, charged_cu: int, share: str) -> None:
    assert idle_share(held_cu, charged_cu) == Decimal(share)
    assert str(idle_share(held_cu, charged_cu)) == share


def test_where_nothing_is_charged_there_is_no_idle_share() -> None:
    assert idle_share(0, 0) is None
