"""What the ledger must say in the end, worked out in another way (behaviour.md M1-M6, M8, C4).

It walks through the days like a clerk: in the morning he looks which changes come into force, in the evening he writes down
the day. Where the code under test multiplies and divides, he carries over the rest of yesterday's division; where it looks
up prices, he crosses them out as they fall; where it cuts intervals, he adds and takes away CU as the day goes by. Written
from behaviour.md; it shares no code with `reserved_capacity`.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction
from math import ceil

from tests.money.stories import DAY, MONTHS, Entry, Story

Line = tuple[int, str, int]
"""Day, kind, amount in minor units."""


@dataclass(slots=True)
class _Account:
    """A term that is running: `left` is what its customer has paid in advance and not used."""

    price: int
    compute_units: int
    left: int = 0


def expected(story: Story) -> list[Line]:
    """All rows of all terms that are posted by the last look, by day."""
    seen = {entry: _seen(story, entry.entered_at) for entry in story.entries}
    cuts = [
        (max(each.at_day, _seen(story, each.entered_at) // DAY + 1), each.compute_units) for each in story.amendments
    ]
    until = story.looks[-1] // DAY
    begins, agreed_at, compute_units = story.used_at // DAY + 1, story.accepted_at, story.compute_units
    rows: list[Line] = []
    for number, days in enumerate(story.terms):
        if begins > until and number:
            break
        book = sorted((e for e in story.entries if e.term_days == days), key=lambda e: e.effective_day)
        price = _list_price(book, seen, agreed_at // DAY, agreed_at)
        assert price is not None
        falls = _falls(book, seen, agreed_at // DAY, agreed_at)
        clerk = _Clerk(story, begins, days, _Account(price, compute_units), falls, cuts)
        rows += clerk.days(min(until, begins + days))
        begins, agreed_at = begins + days, (begins + days) * DAY
        compute_units = min([compute_units, *(cu for day, cu in cuts if day <= begins)])
        if not compute_units:
            break
    return rows


def _seen(story: Story, entered_at: int) -> int:
    return next((look for look in story.looks if look >= entered_at), 10**12)


def _list_price(book: list[Entry], seen: dict[Entry, int], day: int, at: int) -> int | None:
    """The price in force on a day, as it was known at a moment."""
    price = None
    for entry in book:
        if entry.effective_day <= day and seen[entry] <= at:
            price = entry.price
    return price


def _falls(book: list[Entry], seen: dict[Entry, int], agreed_day: int, agreed_at: int) -> list[tuple[int, int]]:
    """(day, price) of everything that may lower the price: what is entered for later days, and whatever makes the list
    price of the day of agreement another one after the fact."""
    falls = [(max(e.effective_day, seen[e] // DAY + 1), e.price) for e in book if e.effective_day > agreed_day]
    for moment in sorted(
        {seen[entry] for entry in book if seen[entry] > agreed_at and entry.effective_day <= agreed_day}
    ):
        price = _list_price(book, seen, agreed_day, moment)
        if price is not None and price != _list_price(book, seen, agreed_day, moment - 1):
            falls.append((moment // DAY + 1, price))
    return falls


@dataclass(slots=True)
class _Clerk:
    story: Story
    begins: int
    term: int
    account: _Account
    falls: list[tuple[int, int]]
    cuts: list[tuple[int, int]]

    def days(self, end: int) -> Iterator[Line]:
        account, term, prepaid = self.account, self.term, self.story.prepaid
        mornings = {max(day, self.begins) for day, _ in (*self.falls, *self.cuts)}
        provisioned = _Provisioned(self.story)
        carried = 0
        whole = self._whole()
        for day in range(self.begins, end):
            if day in mornings or day == self.begins:
                self._morning(day)
                # What whole days so far would have left over at the price of today.
                whole = self._whole()
                carried = whole * (day - self.begins) % term
                if prepaid:
                    yield from self._settle(day, whole, carried)
                if not account.compute_units:
                    return
            amount, carried = divmod(whole + carried, term)
            yield (day, "Charge", amount)
            account.left -= amount
            missing = provisioned.missing(day, account.compute_units)
            if missing:
                back = ceil(Fraction(amount) * missing / (account.compute_units * DAY))
                if back:
                    yield (day, "Shortfall", -back)

    def _whole(self) -> int:
        return self.account.price * self.account.compute_units * MONTHS[self.term]

    def _morning(self, day: int) -> None:
        account = self.account
        account.price = min([account.price, *(price for since, price in self.falls if since <= day)])
        account.compute_units = min([account.compute_units, *(units for since, units in self.cuts if since <= day)])

    def _settle(self, day: int, whole: int, carried: int) -> Iterator[Line]:
        """What the customer has left must be what the rest of the term costs from today on."""
        past = day - self.begins
        rest = whole - (whole * past - carried) // self.term
        if not past:
            self.account.left = rest
            if rest:
                yield (day, "Prepayment", rest)
        elif rest != self.account.left:
            yield (day, "PriceCredit", rest - self.account.left)
            self.account.left = rest


class _Provisioned:
    """CU by the second, from changes: +n when a stretch begins, -n when it ends; the same for whether anything is known."""

    def __init__(self, story: Story) -> None:
        changes: Counter[int] = Counter()
        known: Counter[int] = Counter()
        for stretch in story.stretches:
            changes[stretch.since] += stretch.compute_units
            changes[stretch.until] -= stretch.compute_units
            known[stretch.since] += 1
            known[stretch.until] -= 1
        self.moments = sorted(changes.keys() | known.keys())
        self.changes, self.known = changes, known
        self.next, self.units, self.is_known = 0, 0, 0

    def missing(self, day: int, contracted: int) -> int:
        """CU-seconds; none of a day of which a second is unknown. Days are asked for in their order."""
        at, end, total, known = day * DAY, (day + 1) * DAY, 0, 0
        if not self.moments or (self.next == len(self.moments) and not self.is_known):
            return 0
        while True:
            upto = self.moments[self.next] if self.next < len(self.moments) else end
            upto = min(upto, end)
            if upto > at:
                if self.is_known and self.units < contracted:
                    total += (contracted - self.units) * (upto - at)
                known += (upto - at) * self.is_known
                at = upto
            if at == end:
                return total if known == DAY else 0
            self.units += self.changes[self.moments[self.next]]
            self.is_known += self.known[self.moments[self.next]]
            self.next += 1
