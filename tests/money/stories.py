"""Random stories of one commitment: what was agreed, what was entered when, when the operator looked.

A story is made of plain numbers, so that the code under test and the oracle have nothing in common but it. Moments are
seconds since 1970-01-01T00:00:00Z, days are days since then, prices are in minor units.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date
from random import Random

DAY = 86_400
EPOCH = date(1970, 1, 1).toordinal()
MONTHS = {90: 3, 365: 12}

# Around these days a date goes wrong first: 29 February, the turn of a year, the ends of months, a year without leap day.
_CORNERS = [
    date(year, month, day).toordinal() - EPOCH
    for year, month, day in (
        (2024, 2, 28), (2024, 2, 29), (2024, 3, 1), (2025, 2, 28), (2025, 12, 31), (2026, 3, 1), (2027, 12, 31),
        (2028, 2, 29), (2096, 2, 29), (2099, 12, 31), (2100, 2, 28), (2100, 3, 1),
    )
]  # fmt: skip
_SECONDS = (0, 1, 43_200, DAY - 1)


@dataclass(frozen=True, slots=True)
class Entry:
    """A list price for terms of so many days, entered into the price book at a moment."""

    term_days: int
    effective_day: int
    price: int
    entered_at: int


@dataclass(frozen=True, slots=True)
class Amendment:
    at_day: int
    compute_units: int
    entered_at: int


@dataclass(frozen=True, slots=True)
class Stretch:
    """So many CU were provisioned in [since, until); what no stretch covers is unknown."""

    since: int
    until: int
    compute_units: int


@dataclass(frozen=True, slots=True)
class Story:
    """`looks` are the moments at which the operator was there and closed days, the acceptance being the first.

    `terms` are the days of the first term and of those that renew it. `seen_entries[i]` are the entries that look i finds.
    """

    accepted_at: int
    used_at: int
    compute_units: int
    prepaid: bool
    terms: tuple[int, ...]
    entries: tuple[Entry, ...]
    amendments: tuple[Amendment, ...]
    stretches: tuple[Stretch, ...]
    looks: tuple[int, ...]


def tell(seed: int) -> Story:
    """The story of a seed, the same every time."""
    chance = Random(seed)
    accepted_at = _moment(chance, _day(chance))
    used_at = max(accepted_at, _moment(chance, accepted_at // DAY + chance.choice((0, 0, 1, 3, 40))))
    terms = _terms(chance)
    start = used_at // DAY + 1
    last_look = start + (sum(terms) if chance.random() < 0.3 else chance.randint(1, sum(terms)))
    compute_units = 100 * chance.choice((1, 3, 6, 7, 100, 12_345))
    return Story(
        accepted_at=accepted_at,
        used_at=used_at,
        compute_units=compute_units,
        prepaid=set(terms) == {365} and chance.random() < 0.6,
        terms=terms,
        entries=_entries(chance, accepted_at, start, last_look, terms),
        amendments=_amendments(chance, compute_units, accepted_at, last_look),
        stretches=_stretches(chance, compute_units, start, last_look),
        looks=_looks(chance, accepted_at, start, last_look),
    )


def _day(chance: Random) -> int:
    if chance.random() < 0.3:
        return chance.choice(_CORNERS) + chance.randint(-2, 2) - chance.choice((0, 0, 30, 89, 90, 364, 365))
    return chance.randint(_CORNERS[0] - 400, _CORNERS[0] + 4000)


def _moment(chance: Random, day: int) -> int:
    return day * DAY + (chance.choice(_SECONDS) if chance.random() < 0.5 else chance.randrange(DAY))


def _terms(chance: Random) -> tuple[int, ...]:
    first = 90 if chance.random() < 0.87 else 365
    if chance.random() < 0.82:
        return (first,)
    return (first, *(chance.choice((first, first, first, 90, 365)) for _ in range(chance.choice((1, 1, 1, 1, 2)))))


def _price(chance: Random, near: int) -> int:
    """Up, down, the same, nothing, or odd to the last cent."""
    kind = chance.random()
    if kind < 0.1:
        return near
    if kind < 0.15:
        return chance.choice((0, 1, 2))
    return max(0, near + chance.choice((-1, 1)) * chance.choice((1, 7, 333, 2000, chance.randint(1, 9999))))


def _entries(chance: Random, accepted_at: int, start: int, last: int, terms: tuple[int, ...]) -> tuple[Entry, ...]:
    accepted_day = accepted_at // DAY
    base = chance.choice((22_000, 26_000, 1, 333, chance.randint(1, 99_999)))
    found: dict[tuple[int, int], Entry] = {}
    for term in sorted({*terms, 90}):
        for _ in range(chance.randint(1, 2)):
            day = accepted_day - chance.choice((0, 1, 200))
            found.setdefault((term, day), Entry(term, day, _price(chance, base), accepted_at - chance.randint(0, DAY)))
    for _ in range(chance.choice((0, 0, 1, 1, 2, 3, 5))):
        term = chance.choice(terms)
        entered = _moment(chance, chance.randint(accepted_day, last))
        # Announced ahead, for the same day, or with a date that has passed: also one before the acceptance.
        ahead = chance.choice((-1000, -30, -1, 0, 0, 1, 1, 30, 100))
        day = max(entered // DAY + ahead, accepted_day - chance.choice((0, 0, 150)))
        found.setdefault((term, day), Entry(term, day, _price(chance, base), max(entered, accepted_at)))
    if chance.random() < 0.3:  # right on the seams of terms
        seam = chance.choice((start, start + terms[0], start + terms[0] - 1))
        entered = _moment(chance, seam - chance.choice((0, 1, 2)))
        term, price = chance.choice(terms), _price(chance, base)
        found.setdefault((term, seam), Entry(term, seam, price, max(entered, accepted_at)))
    return tuple(found.values())


def _amendments(chance: Random, compute_units: int, accepted_at: int, last: int) -> tuple[Amendment, ...]:
    if chance.random() < 0.7:
        return ()
    blocks = compute_units // 100
    return tuple(
        Amendment(
            chance.randint(accepted_at // DAY, last + 10),
            100 * chance.choice((0, blocks // 2, chance.randrange(blocks), chance.randrange(blocks))),
            max(accepted_at, _moment(chance, chance.randint(accepted_at // DAY, last))),
        )
        for _ in range(chance.choice((1, 1, 2, 3)))
    )


def _stretches(chance: Random, compute_units: int, start: int, last: int) -> tuple[Stretch, ...]:
    """Full for most of the time, less for some, unknown for some."""
    if chance.random() < 0.6:
        return ()
    at = start * DAY - chance.choice((0, 1, DAY, 5 * DAY))
    found = []
    for _ in range(chance.randint(1, 5)):
        until = at + chance.choice((1, 60, 3_600, DAY, chance.randrange(1, 10 * DAY)))
        share = compute_units // 100 * chance.randint(0, 100)
        found.append(Stretch(at, until, chance.choice((0, share, share, compute_units))))
        at = until + chance.choice((0, 0, 0, 1, 3_600, 2 * DAY, chance.randrange(100 * DAY)))
    if found[-1].until // DAY < last:
        found.append(Stretch(at, (last + 400) * DAY, compute_units))
    return tuple(found)


def _looks(chance: Random, accepted_at: int, start: int, last: int) -> tuple[int, ...]:
    """Every few days, every day, or with weeks in between; twice in one day, and a second before and after midnight."""
    looks, pace = [accepted_at], chance.choice((1, 10, 40, 400))
    day = accepted_at // DAY
    while len(looks) < 12:
        day += chance.randint(0 if pace == 1 else 1, pace)
        if day >= last:
            break
        looks.append(max(looks[-1], _moment(chance, day)))
    looks.append(max(looks[-1], _moment(chance, max(last, start))))
    return tuple(looks)
