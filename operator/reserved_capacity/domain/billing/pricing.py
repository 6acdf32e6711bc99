"""Which price, and how many CU, a contract has on which UTC day (behaviour.md M3, M8).

The ordered price holds for the whole term and is only ever lowered. What lowers it (a list price, an agreed reduction) is a
fact with the moment at which the operator saw it, and holds from the first midnight after at the earliest: when 00:00 of a
day has come, everything that decides its price is known, and its row, posted a day later, is never wrong in hindsight.
That takes one promise from the books: no `seen_at` is recorded that lies before the end of a day that was posted already,
not even by a clock that has jumped back.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal

from reserved_capacity.domain.billing.contracts import Contract, PriceSighting, Reduction
from reserved_capacity.domain.terms import Term, midnight_after, start_of


class PriceHistory:
    """All list prices that were seen, by price book and term, the latest `effective_from` last."""

    def __init__(self, sightings: Iterable[PriceSighting] = ()) -> None:
        grouped: dict[tuple[str, Term], list[PriceSighting]] = {}
        for sighting in sightings:
            grouped.setdefault((sighting.price_book, sighting.term), []).append(sighting)
        self._groups: Mapping[tuple[str, Term], tuple[PriceSighting, ...]] = {
            # One entry of a book has one price; where a book was made anew with another, what was seen last is the list.
            key: tuple(sorted(group, key=lambda each: (each.effective_from, each.seen_at, -each.per_cu_month)))
            for key, group in grouped.items()
        }

    def of(self, price_book: str, term: Term) -> tuple[PriceSighting, ...]:
        return self._groups.get((price_book, term), ())

    def list_price(self, price_book: str, term: Term, day: date, *, known_by: datetime) -> Decimal | None:
        """The list price in force on a UTC day, as it had been seen by a moment; None when none had."""
        for sighting in reversed(self.of(price_book, term)):
            if sighting.effective_from <= day and sighting.seen_at <= known_by:
                return sighting.per_cu_month
        return None


@dataclass(frozen=True, slots=True)
class Rate:
    """From 00:00 UTC of `since` on, a contract has so many CU, each at that price a month."""

    since: date
    compute_units: int
    price: Decimal


@dataclass(frozen=True, slots=True, order=True)
class _Change:
    """What may lower a contract from a day on: it never raises anything, so the order within a day does not matter."""

    day: date
    price: Decimal
    compute_units: int


def lowers_from(effective_from: date, change: PriceSighting | Reduction) -> date:
    """The later of its own date and the first midnight after it was seen (M3)."""
    return max(effective_from, midnight_after(change.seen_at).date())


def price_on(contract: Contract, history: PriceHistory, day: date) -> Decimal:
    """The price of a CU and month on a UTC day, whether the contract has started or not."""
    lower = (change.price for change in _price_changes(contract, history) if change.day <= day)
    return min(lower, default=contract.ordered_price)


def compute_units_on(contract: Contract, day: date) -> int:
    """The CU that are charged on a UTC day: those ordered, less what was agreed to be given back."""
    left = (each.compute_units for each in contract.reductions if lowers_from(each.at, each) <= day)
    return min((contract.compute_units, *left))


def rates(contract: Contract, history: PriceHistory) -> tuple[Rate, ...]:
    """The rates of a term in order of time, the first from its first charged day; () while that day is not known.

    A rate with no CU is the last one: the contract was reduced to nothing, and from that day on nothing is charged.
    """
    start, end = contract.billing_start, contract.end
    if start is None or end is None:
        return ()
    found = [Rate(start, contract.compute_units, contract.ordered_price)]
    for change in sorted((*_price_changes(contract, history), *_reductions(contract))):
        last = found[-1]
        if change.day >= end or not last.compute_units:
            break
        rate = Rate(
            max(change.day, start), min(last.compute_units, change.compute_units), min(last.price, change.price)
        )
        if rate.since == last.since:
            found[-1] = rate
        elif (rate.compute_units, rate.price) != (last.compute_units, last.price):
            found.append(rate)
    return tuple(found)


def rate_on(steps: tuple[Rate, ...], day: date) -> Rate | None:
    """The rate of a UTC day; None before the first one. The end of the term is not looked at."""
    return next((rate for rate in reversed(steps) if rate.since <= day), None)


def charged_until(contract: Contract) -> date | None:
    """The day after the last charged day: the end of the term, or the day on which nothing of it is left."""
    start, end = contract.billing_start, contract.end
    if start is None or end is None:
        return None
    ended = (lowers_from(each.at, each) for each in contract.reductions if not each.compute_units)
    return max(start, min((end, *ended)))


def runs_on(contract: Contract, day: date) -> bool:
    """Is a UTC day one that is charged?"""
    start, until = contract.billing_start, charged_until(contract)
    return start is not None and until is not None and start <= day < until


def renewed(contract: Contract, history: PriceHistory, *, term: Term | None = None) -> Contract | None:
    """The next term of a commitment: it starts on the day on which this one ends, with the CU that are left, at the list
    price in force on that day (M8). None when this term has no end yet, or nothing is left to renew.

    Only prices that were seen by the start count as in force, whenever this is computed: an increase that is entered later
    with an older date raises nothing, a decrease lowers the new term as any other does (M3).
    """
    start = contract.end
    if start is None or charged_until(contract) != start or not compute_units_on(contract, start):
        return None
    following = replace(
        contract,
        number=contract.number + 1,
        term=term or contract.term,
        compute_units=compute_units_on(contract, start),
        accepted_at=start_of(start),
        billing_start=start,
        reductions=tuple(each for each in contract.reductions if lowers_from(each.at, each) > start),
    )
    listed = history.list_price(following.price_book, following.term, start, known_by=start_of(start))
    last_price = price_on(contract, history, start - timedelta(days=1))
    return replace(following, ordered_price=last_price if listed is None else listed)


def _price_changes(contract: Contract, history: PriceHistory) -> Iterator[_Change]:
    """Every list price that came after the day of acceptance, and what became the list price of that very day, or of one
    before, only after the contract was accepted: entered later on the same day, or with an older date."""
    accepted_on = contract.accepted_at.astimezone(UTC).date()
    newer_seen_at: datetime | None = (
        None  # when a price of that day, but with a later date than this one, was first seen
    )
    for sighting in reversed(history.of(contract.price_book, contract.term)):
        counts = sighting.effective_from > accepted_on
        if not counts:
            seen_at = sighting.seen_at
            counts = seen_at > contract.accepted_at and (newer_seen_at is None or seen_at < newer_seen_at)
            newer_seen_at = min(seen_at, newer_seen_at or seen_at)
        if counts and sighting.per_cu_month < contract.ordered_price:
            day = lowers_from(sighting.effective_from, sighting)
            yield _Change(day, sighting.per_cu_month, contract.compute_units)


def _reductions(contract: Contract) -> Iterator[_Change]:
    for reduction in contract.reductions:
        yield _Change(lowers_from(reduction.at, reduction), contract.ordered_price, reduction.compute_units)
