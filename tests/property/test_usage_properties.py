"""Used and Unused against a count hour by hour, block by block (behaviour.md M1, M6, F6)."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from datetime import date, timedelta

from hypothesis import given
from hypothesis import strategies as st

from reserved_capacity.domain.billing.contracts import Contract
from reserved_capacity.domain.billing.intervals import DAY_MOMENTS, Interval, IntervalKind
from reserved_capacity.domain.billing.usage import held_on, split_charge
from reserved_capacity.domain.terms import start_of
from tests.unit.domain.contracts import contract

DAY = date(2026, 3, 5)
HOUR = timedelta(hours=1)
HOUR_MOMENTS = DAY_MOMENTS // 24


@st.composite
def holdings(draw: st.DrawFn) -> list[Interval]:
    """From the day before to the day after, on whole hours."""
    found = []
    for number in range(draw(st.integers(0, 6))):
        since = start_of(DAY) + HOUR * draw(st.integers(-24, 30))
        hours = draw(st.none() | st.integers(1, 40))
        until = since + HOUR * hours if hours is not None else None
        units, owner = 100 * draw(st.integers(1, 4)), draw(st.sampled_from("abc"))
        found.append(Interval("acme", "prod", IntervalKind.HELD, f"{owner}-{number}", owner, units, since, until))
    return found


contracts = st.lists(st.integers(1, 5), max_size=3).map(
    lambda blocks: [
        replace(
            contract(id_=f"po-{number}", compute_units=100 * count), accepted_at=start_of(date(2026, 1, 1 + number))
        )
        for number, count in enumerate(blocks)
    ]
)


def counted(agreed: list[Contract], held: list[Interval]) -> dict[str, Counter[str]]:
    """Every hour, every block held is laid on the next block of the contracts that is free."""
    found: dict[str, Counter[str]] = {each.commitment: Counter() for each in agreed}
    for hour in range(24):
        at = start_of(DAY) + HOUR * hour
        free = [each.commitment for each in agreed for _ in range(each.compute_units // 100)]
        for each in sorted(held, key=lambda interval: (interval.since, interval.subject)):
            if each.since <= at and (each.until is None or each.until > at):
                taken, free = free[: each.compute_units // 100], free[each.compute_units // 100 :]
                for commitment in taken:
                    found[commitment][each.owner] += 100 * HOUR_MOMENTS
    return found


@given(contracts, holdings())
def test_m1_what_is_held_of_each_contract_is_what_one_counts_block_by_block(
    agreed: list[Contract], held: list[Interval]
) -> None:
    assert held_on(agreed, held, DAY) == counted(agreed, held) == held_on(agreed[::-1], held[::-1], DAY)


@given(st.integers(0, 10**12), st.integers(1, 50), st.lists(st.integers(0, DAY_MOMENTS * 100), max_size=5))
def test_m6_used_is_rounded_down_and_unused_is_the_rest(charge: int, blocks: int, parts: list[int]) -> None:
    whole = blocks * 100 * DAY_MOMENTS
    held = {f"i{number}": part for number, part in enumerate(parts) if sum(parts[: number + 1]) <= whole}
    split = split_charge(charge, blocks * 100, held)
    assert split.used_minor == charge * sum(held.values()) // whole
    assert split.used_minor + split.unused_minor == charge
    assert all(use.minor >= 0 for use in split.used)
    assert split.unused_minor >= 0
