"""Who used what was paid for: CU of a contract's day that instances held, and what of the charge falls on them (M6, M1).

The ledger has one charge a day, whatever ran (F6). Reports split it by CU-seconds held: Used is rounded down, Unused is the
rest, so that both are the charge to the cent.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import date, timedelta
from decimal import Decimal
from itertools import pairwise
from typing import Final

from reserved_capacity.domain.billing.contracts import Contract
from reserved_capacity.domain.billing.intervals import DAY_MOMENTS, MOMENT, Interval, IntervalKind
from reserved_capacity.domain.billing.pricing import compute_units_on, runs_on
from reserved_capacity.domain.terms import start_of

_SHARE_DIGITS: Final = 4


@dataclass(frozen=True, slots=True)
class Use:
    """What one ModelInstance (`owner`) used of a contract's day: CU x MOMENT, and its part of the charge."""

    owner: str
    held: int
    minor: int


@dataclass(frozen=True, slots=True)
class Split:
    """A day's charge by who used it; `idle` are the CU x MOMENT that nobody held."""

    used: tuple[Use, ...]
    idle: int
    unused_minor: int

    @property
    def used_minor(self) -> int:
        return sum(use.minor for use in self.used)


def held_on(contracts: Iterable[Contract], held: Iterable[Interval], day: date) -> Mapping[str, Mapping[str, int]]:
    """For each commitment of one pool, the CU x MOMENT that each ModelInstance held of it on a UTC day.

    CU belong to the contracts in the order of acceptance, each with what it has on that day (M1); of the instances, those
    that have held theirs for longer come first. What is held beyond all contracts is borrowed, and nobody's here.
    """
    running = [each for each in contracts if runs_on(each, day)]
    shares = [
        (each.commitment, compute_units_on(each, day))
        for each in sorted(running, key=lambda each: (each.accepted_at, each.commitment))
    ]
    start, end = start_of(day), start_of(day + timedelta(days=1))
    present = sorted(
        (each for each in held if each.kind is IntervalKind.HELD and each.moments_between(start, end)),
        key=lambda each: (each.since, each.subject),
    )
    moments = {start, end}
    for each in present:
        moments.update(at for at in (each.since, each.until) if at is not None and start < at < end)
    found: dict[str, dict[str, int]] = {commitment: {} for commitment, _ in shares}
    for since, until in pairwise(sorted(moments)):
        there = [each for each in present if each.since <= since and (each.until is None or each.until > since)]
        _fill(found, shares, there, (until - since) // MOMENT)
    return found


def split_charge(charge_minor: int, compute_units: int, held: Mapping[str, int]) -> Split:
    """The charge of a day with so many CU, by ModelInstance in the order of names.

    Rounded down once, over the sum: the parts of the instances are differences of the running total.
    """
    whole = compute_units * DAY_MOMENTS
    used, so_far, before = [], 0, 0
    for owner, moments in sorted(held.items()):
        so_far += moments
        through = charge_minor * so_far // whole if whole else 0
        used.append(Use(owner, moments, through - before))
        before = through
    return Split(tuple(used), whole - so_far, charge_minor - before)


def idle_share(held_cu: int, charged_cu: int) -> Decimal | None:
    """The share of charged CU that nobody holds, with four decimal places; None while nothing is charged."""
    if not charged_cu:
        return None
    scale = 10**_SHARE_DIGITS
    idle = charged_cu - min(held_cu, charged_cu)
    return Decimal((2 * idle * scale + charged_cu) // (2 * charged_cu)).scaleb(-_SHARE_DIGITS)


def _fill(
    found: Mapping[str, dict[str, int]],
    shares: Sequence[tuple[str, int]],
    there: Iterable[Interval],
    moments: int,
) -> None:
    """Hand the CU of the contracts, in their order, to those who hold some during so many moments."""
    queue = iter(shares)
    commitment, left = next(queue, ("", 0))
    for each in there:
        wanted = each.compute_units
        while wanted and commitment:
            taken = min(wanted, left)
            if taken:
                owners = found[commitment]
                owners[each.owner] = owners.get(each.owner, 0) + taken * moments
            wanted, left = wanted - taken, left - taken
            if not left:
                commitment, left = next(queue, ("", 0))
