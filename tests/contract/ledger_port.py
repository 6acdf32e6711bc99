"""Owns what every implementation of the Ledger port must do, as tests that run on whatever `ledger` is.

The fake is worth something only as far as it passes what SQLite and PostgreSQL pass.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import dataclass, replace
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from random import Random
from typing import Any, TypeVar

import pytest

from reserved_capacity.domain.billing.contracts import Contract, Payment, PriceSighting, Reduction
from reserved_capacity.domain.billing.history import Presence
from reserved_capacity.domain.billing.intervals import Interval, IntervalKind
from reserved_capacity.domain.billing.ledger import Book, EntryKind, Posting, Transaction
from reserved_capacity.domain.billing.months import Month
from reserved_capacity.domain.terms import Term
from reserved_capacity.ledger_ports import (
    ClosedMonth,
    Entry,
    EventType,
    Halt,
    IssuedInvoice,
    Lag,
    Ledger,
    LedgerRefused,
    Notice,
    PoolName,
    TermId,
)

Item = TypeVar("Item")

NOW = datetime(2026, 3, 5, 12, 30, 15, 123456, tzinfo=UTC)
START = date(2026, 3, 2)
POOL = PoolName("acme", "prod")


def day(number: int) -> date:
    """The first charged day is 1."""
    return START + timedelta(days=number - 1)


def contract(commitment: str = "po-1", number: int = 1, **fields: Any) -> Contract:
    values: dict[str, Any] = {
        "account": "acme",
        "namespace": POOL.namespace,
        "pool": POOL.name,
        "price_book": "usd",
        "currency": "USD",
        "compute_units": 600,
        "term": Term.THREE_MONTHS,
        "payment": Payment.MONTHLY,
        "ordered_price": Decimal("260.00"),
        "accepted_at": datetime(2026, 3, 1, 8, tzinfo=UTC),
        "billing_start": START,
    }
    return Contract(commitment, number, **{**values, **fields})


def charge(number: int, commitment: str = "po-1", minor: int = 5200, **fields: Any) -> Transaction:
    values: dict[str, Any] = {
        "account": "acme",
        "kind": EntryKind.CHARGE,
        "currency": "USD",
        "amount_minor": minor,
        "postings": (Posting(Book.RECEIVABLE, minor), Posting(Book.REVENUE, -minor)),
        "compute_units": 600,
        "price": "260.00",
        "note": f"day {number} of 90",
    }
    return Transaction(contract=commitment, day=day(number), **{**values, **fields})


def shortfall(number: int, commitment: str = "po-1", minor: int = 100) -> Transaction:
    postings = (Posting(Book.CREDITS, minor), Posting(Book.RECEIVABLE, -minor))
    return charge(number, commitment, -minor, kind=EntryKind.SHORTFALL, postings=postings)


def invoice(number: str = "acme-USD-2026-03", **fields: Any) -> IssuedInvoice:
    values: dict[str, Any] = {
        "account": "acme",
        "currency": "USD",
        "month": date(2026, 3, 1),
        "issued_at": datetime(2026, 4, 2, tzinfo=UTC),
        "document": {"due": "52.00", "lines": [{"note": "Größe\u2028"}]},
    }
    return IssuedInvoice(number, **{**values, **fields})


def closed(month: int, through: int, account: str = "acme") -> ClosedMonth:
    return ClosedMonth(account, "USD", date(2026, month, 1), through)


def held(member: str, compute_units: int = 300, since: datetime | None = None, owner: str = "chat") -> Presence:
    return Presence(IntervalKind.HELD, member, owner, compute_units, since)


async def gather(stream: AsyncIterator[Item]) -> list[Item]:
    return [each async for each in stream]


async def keys(stream: AsyncIterator[Entry]) -> list[str]:
    return [each.transaction.key async for each in stream]


async def pending(ledger: Ledger, account: str = "acme", limit: int = 100) -> list[str]:
    return [each.id for each in await ledger.pending(account, limit)]


@dataclass(frozen=True)
class Cut:
    """A closed month and the number of the account's last row at that moment: the rule that the port's answers are held to."""

    month: Month
    through: int

    def covers(self, entry: Entry) -> bool:
        return entry.number <= self.through and entry.transaction.day < self.month.end


class AgreementsContract:
    async def test_a_contract_comes_back_as_it_was_registered(self, ledger: Ledger) -> None:
        given = contract(
            provision_by=date(2026, 3, 9),
            first_provisioned_at=NOW,
            fully_provisioned_at=NOW + timedelta(hours=1),
            ordered_price=Decimal("0.001"),
            reductions=(Reduction(date(2026, 4, 1), 300, NOW),),
        )
        assert await ledger.register([given]) == (given,)
        assert await ledger.contracts() == (given,)

    async def test_who_registers_second_gets_what_the_first_one_wrote(self, ledger: Ledger) -> None:
        first = contract()
        await ledger.register([first])
        second = contract(account="other", compute_units=100, ordered_price=Decimal(1), billing_start=day(9))
        assert await ledger.register([second]) == (first,)

    async def test_what_was_not_known_is_set_once_and_stays(self, ledger: Ledger) -> None:
        unknown = contract(billing_start=None)
        await ledger.register([unknown])
        known = replace(unknown, billing_start=START, first_provisioned_at=NOW)
        assert await ledger.register([known]) == (known,)
        later = replace(known, billing_start=day(5), first_provisioned_at=NOW + timedelta(days=1), provision_by=day(3))
        assert await ledger.register([later]) == (replace(known, provision_by=day(3)),)
        assert await ledger.register([unknown]) == (replace(known, provision_by=day(3)),)

    async def test_contracts_are_found_by_account_pool_commitment_and_day(self, ledger: Ledger) -> None:
        one, renewed = contract("a"), contract("a", 2, billing_start=START + timedelta(days=90))
        other = contract("b", account="globex", namespace="globex")
        ordered = contract("c", billing_start=None)
        await ledger.register([ordered, renewed, other, one])
        assert await ledger.contracts() == (one, renewed, other, ordered)
        assert await ledger.contracts(account="globex") == (other,)
        assert await ledger.contracts(pool=POOL) == (one, renewed, ordered)
        assert await ledger.contracts(commitment="a") == (one, renewed)
        assert await ledger.contracts(open_on=day(90)) == (one, renewed, other, ordered)
        assert await ledger.contracts(open_on=day(91)) == (renewed, ordered)

    async def test_m3_a_list_price_keeps_the_moment_it_was_first_seen_at(self, ledger: Ledger) -> None:
        first = PriceSighting("usd", Term.ONE_YEAR, date(2024, 2, 8), Decimal("220.00"), NOW)
        again = replace(first, per_cu_month=Decimal("220"), seen_at=NOW + timedelta(days=1))
        lower = replace(first, per_cu_month=Decimal("200.5"), seen_at=NOW + timedelta(days=2))
        earlier = replace(first, effective_from=date(2023, 1, 1), term=Term.THREE_MONTHS)
        await ledger.record_sightings([first])
        await ledger.record_sightings([lower, again, earlier])
        await ledger.record_sightings([])
        assert await ledger.sightings("usd") == (earlier, first, lower)
        assert await ledger.sightings("eur") == ()

    async def test_a_reduction_keeps_the_moment_it_was_first_seen_at(self, ledger: Ledger) -> None:
        await ledger.register([contract()])
        term = TermId("po-1", 1)
        first, second = Reduction(day(40), 300, NOW), Reduction(day(20), 400, NOW)
        assert await ledger.record_reductions(term, [first]) == (first,)
        again = replace(first, seen_at=NOW + timedelta(days=9))
        assert await ledger.record_reductions(term, [again, second]) == (second, first)
        assert (await ledger.contracts())[0].reductions == (second, first)
        assert await ledger.register([contract(reductions=(again,))]) == (contract(reductions=(second, first)),)
        with pytest.raises(LedgerRefused):
            await ledger.record_reductions(TermId("po-1", 2), [first])

    async def test_m3_nothing_is_seen_before_the_end_of_a_day_that_is_posted(self, ledger: Ledger) -> None:
        await ledger.register([contract()])
        await ledger.append([charge(1), charge(4), charge(2)], now=NOW)
        end = datetime(2026, 3, 6, tzinfo=UTC)
        assert charge(4).day == date(2026, 3, 5)
        early = PriceSighting("usd", Term.ONE_YEAR, date(2024, 2, 8), Decimal("220.00"), NOW)
        late = replace(early, per_cu_month=Decimal(200), seen_at=end + timedelta(seconds=1))
        await ledger.record_sightings([early, late])
        assert [each.seen_at for each in await ledger.sightings("usd")] == [end, late.seen_at]
        reductions = await ledger.record_reductions(TermId("po-1", 1), [Reduction(day(40), 300, NOW)])
        assert reductions == (Reduction(day(40), 300, end),)

    async def test_m5_nothing_is_learnt_of_a_day_that_is_being_closed(self, ledger: Ledger) -> None:
        """Whoever closes it has read everything by then, and whoever audits it later must find the same."""
        await ledger.register([contract()])
        await ledger.observe(POOL, [held("chat-0")], NOW)
        today = NOW.date() + timedelta(days=1)
        for each in (today, today - timedelta(days=3)):  # a clock that jumps back opens nothing again
            await ledger.begin_close(each)
        end = datetime(today.year, today.month, today.day, tzinfo=UTC)
        early = PriceSighting("usd", Term.ONE_YEAR, date(2024, 2, 8), Decimal("220.00"), NOW)
        await ledger.record_sightings([early])
        assert [each.seen_at for each in await ledger.sightings("usd")] == [end]
        (reduction,) = await ledger.record_reductions(TermId("po-1", 1), [Reduction(day(40), 300, NOW)])
        assert reduction.seen_at == end
        await ledger.observe(POOL, [held("chat-0", 600)], NOW + timedelta(hours=1))
        found = await gather(ledger.intervals({POOL}, NOW - timedelta(days=9), end + timedelta(days=9)))
        assert [(each.compute_units, each.since, each.until) for each in found] == [(300, NOW, end), (600, end, None)]

    async def test_the_history_of_a_pool_follows_who_is_there(self, ledger: Ledger) -> None:
        one, two, three = (NOW + timedelta(hours=hours) for hours in (1, 2, 3))
        assert await ledger.observe(POOL, [held("chat-0", since=NOW), held("chat-1")], one) == 2
        assert await ledger.observe(POOL, [held("chat-1"), held("chat-0", since=NOW)], two) == 0
        assert await ledger.observe(PoolName("acme", "test"), [held("chat-0")], two) == 1
        assert await ledger.observe(POOL, [held("chat-1", 400)], three) == 3
        place = (POOL.namespace, POOL.name, IntervalKind.HELD)
        assert await gather(ledger.intervals({POOL}, NOW, three + timedelta(hours=1))) == [
            Interval(*place, "chat-0", "chat", 300, NOW, three),
            Interval(*place, "chat-1", "chat", 300, one, three),
            Interval(*place, "chat-1", "chat", 400, three),
        ]

    async def test_intervals_are_found_when_they_overlap_the_period(self, ledger: Ledger) -> None:
        one, two = NOW + timedelta(hours=1), NOW + timedelta(hours=2)
        await ledger.observe(POOL, [held("old")], NOW)
        await ledger.observe(POOL, [held("new")], one)
        other = PoolName("globex", "prod")
        await ledger.observe(other, [held("other")], NOW)

        async def subjects(since: datetime, until: datetime, *pools: PoolName) -> list[str]:
            return [each.subject for each in await gather(ledger.intervals(pools, since, until))]

        assert await subjects(NOW - timedelta(hours=1), NOW, POOL) == []
        assert await subjects(NOW, one, POOL) == ["old"]
        assert await subjects(one, two, POOL) == ["new"]
        assert await subjects(NOW, two, POOL, other) == ["old", "new", "other"]
        assert await subjects(NOW, two) == []

    async def test_m5_a_clock_that_jumped_back_counts_no_units_twice(self, ledger: Ledger) -> None:
        earlier = NOW - timedelta(days=1)
        await ledger.observe(POOL, [held("chat-0")], NOW)
        assert await ledger.observe(POOL, [held("chat-0")], earlier) == 0
        assert await ledger.observe(POOL, [], earlier) == 1
        assert await ledger.observe(POOL, [held("chat-0", since=earlier)], earlier) == 1
        found = await gather(ledger.intervals({POOL}, earlier - timedelta(days=9), NOW + timedelta(days=9)))
        assert [(each.since, each.until) for each in found] == [(NOW, NOW), (NOW, None)]

    async def test_m9_what_was_provisioned_is_found_by_commitment_wherever_the_pool_stood(self, ledger: Ledger) -> None:
        there = Presence(IntervalKind.PROVISIONED, "po-1", "po-1", 600)
        other = replace(there, subject="po-2", owner="po-2")
        again = PoolName("globex", "again")
        one, two, three = (NOW + timedelta(days=number) for number in (1, 2, 3))
        await ledger.observe(POOL, [there, other, held("po-1")], NOW)
        await ledger.observe(POOL, [other], one)
        await ledger.observe(again, [replace(there, compute_units=500)], two)
        found = await gather(ledger.provisioned(["po-1", "po-9"], NOW - timedelta(days=9), three))
        assert [(each.pool, each.compute_units, each.since, each.until) for each in found] == [
            ("prod", 600, NOW, one),
            ("again", 500, two, None),
        ]
        assert await gather(ledger.provisioned(["po-1"], one, two)) == []
        assert [
            each.subject for each in await gather(ledger.provisioned(["po-2", "po-1"], three, three + (two - one)))
        ] == [
            "po-1",
            "po-2",
        ]


class PostingsContract:
    async def test_m4_what_is_posted_comes_back_and_twice_the_same_is_once(self, ledger: Ledger) -> None:
        rows = [charge(1), shortfall(1), charge(2, minor=5199, note="Zweiter Tag é")]
        new = await ledger.append(rows, now=NOW)
        assert [each.transaction.key for each in new] == [each.key for each in rows]
        assert [each.number for each in new] == [1, 2, 3]
        assert {each.posted_at for each in new} == {NOW}
        assert await ledger.append(rows, now=NOW + timedelta(days=1)) == ()
        later = await ledger.append([charge(2, minor=1), charge(3)], now=NOW)
        assert later == tuple(await gather(ledger.entries(contract="po-1", since=day(3))))
        assert tuple(await gather(ledger.entries(contract="po-1", until=day(3)))) == new
        assert await ledger.append([], now=NOW) == ()
        assert await ledger.append([charge(7), charge(7, minor=1)], now=NOW) == tuple(
            await gather(ledger.entries(contract="po-1", since=day(7)))
        )

    async def test_postings_come_back_in_the_order_of_the_books_and_without_zeros(self, ledger: Ledger) -> None:
        postings = (Posting(Book.CREDITS, 0), Posting(Book.REVENUE, -7), Posting(Book.PREPAID, 7))
        (entry,) = await ledger.append([charge(1, minor=7, postings=postings)], now=NOW)
        assert entry.transaction.postings == (Posting(Book.PREPAID, 7), Posting(Book.REVENUE, -7))
        assert await gather(ledger.entries(account="acme")) == [entry]

    async def test_i5_what_is_not_balanced_is_refused_with_all_that_came_with_it(self, ledger: Ledger) -> None:
        crooked = charge(2, postings=(Posting(Book.RECEIVABLE, 5200), Posting(Book.REVENUE, -5199)))
        twice = charge(2, postings=(Posting(Book.RECEIVABLE, 1), Posting(Book.RECEIVABLE, -1)))
        for bad in (crooked, twice):
            with pytest.raises(LedgerRefused):
                await ledger.append([charge(1), bad], now=NOW)
        assert await gather(ledger.entries(account="acme")) == []

    async def test_a_key_of_another_account_is_refused(self, ledger: Ledger) -> None:
        await ledger.append([charge(1)], now=NOW)
        with pytest.raises(LedgerRefused):
            await ledger.append([charge(2, account="globex"), charge(1, account="globex")], now=NOW)
        assert await gather(ledger.entries(account="globex")) == []
        assert await ledger.position("globex") == 0

    async def test_numbers_of_an_account_have_no_gaps(self, ledger: Ledger) -> None:
        await ledger.append([charge(1), charge(1, "g", account="globex"), charge(2)], now=NOW)
        await ledger.append([charge(2), charge(3), charge(1, "b")], now=NOW)
        assert sorted(each.number for each in await gather(ledger.entries(account="acme"))) == [1, 2, 3, 4]
        assert [each.number for each in await gather(ledger.entries(account="globex"))] == [1]
        assert await ledger.position("acme") == 4
        assert await ledger.position("nobody") == 0

    async def test_rows_are_found_by_account_contract_and_day(self, ledger: Ledger) -> None:
        await ledger.append(
            [charge(2), charge(1), charge(1, "b"), charge(3), charge(1, "g", account="globex")], now=NOW
        )
        assert await keys(ledger.entries(account="acme", since=day(1), until=day(3))) == [
            charge(1).key,
            charge(1, "b").key,
            charge(2).key,
        ]
        assert await keys(ledger.entries(account="acme", contract="b")) == [charge(1, "b").key]
        with pytest.raises(ValueError, match="whose"):
            await gather(ledger.entries())

    async def test_m5_a_contract_is_due_until_its_last_day_before_today_is_charged(self, ledger: Ledger) -> None:
        await ledger.register([contract(), contract("later", billing_start=day(4)), contract("z", billing_start=None)])

        async def due(today: date) -> list[str]:
            return [each.contract.commitment for each in await ledger.due(today)]

        assert await due(day(1)) == []
        assert await due(day(2)) == ["po-1"]
        assert await due(day(5)) == ["later", "po-1"]
        await ledger.append([charge(number) for number in (1, 2, 3, 4)], now=NOW)
        assert await due(day(5)) == ["later"]
        assert await due(day(4)) == [], "a clock that jumped back finds nothing"
        assert await due(day(6)) == ["later", "po-1"]

    async def test_an_ended_contract_is_due_until_its_last_day_is_charged(self, ledger: Ledger) -> None:
        await ledger.register([contract()])
        await ledger.append([charge(number) for number in range(1, 90)], now=NOW)
        assert [each.posted_through for each in await ledger.due(day(400))] == [day(89)]
        await ledger.append([charge(90)], now=NOW)
        assert await ledger.due(day(400)) == ()
        assert await ledger.due(day(91)) == ()

    async def test_due_contracts_come_in_pages_that_move_on(self, ledger: Ledger) -> None:
        terms = [TermId("a", 1), TermId("a", 2), TermId("b", 1), TermId("c", 1)]
        await ledger.register([contract(term.commitment, term.number) for term in terms])
        seen: list[TermId] = []
        after: TermId | None = None
        for size in (1, 2, 1, 0):
            page = await ledger.due(day(2), after=after, limit=max(size, 1))
            assert len(page) == size
            seen += [TermId(each.contract.commitment, each.contract.number) for each in page]
            after = seen[-1]
        assert seen == terms

    async def test_what_is_posted_is_summed_for_each_term_from_its_own_rows(self, ledger: Ledger) -> None:
        first, second = contract(), contract("po-1", 2, billing_start=day(91))
        await ledger.register([first, second, contract("empty")])
        correction = charge(50, minor=-3, kind=EntryKind.CORRECTION)
        correction = replace(correction, postings=(Posting(Book.RECEIVABLE, -3), Posting(Book.CREDITS, 3)))
        await ledger.append([charge(1), charge(3), shortfall(3), charge(91), charge(92), correction], now=NOW)
        terms = [TermId("po-1", 2), TermId("nothing", 1), TermId("po-1", 1), TermId("empty", 1)]
        two, one, empty = await ledger.posted(terms)
        assert (two.contract, one.contract) == (second, first)
        assert one.posted.rows == {EntryKind.CHARGE: 2, EntryKind.SHORTFALL: 1, EntryKind.CORRECTION: 1}
        assert one.posted.amounts_minor == {
            EntryKind.CHARGE: 10400,
            EntryKind.SHORTFALL: -100,
            EntryKind.CORRECTION: -3,
        }
        assert one.posted.books_minor == {Book.RECEIVABLE: 10297, Book.REVENUE: -10400, Book.CREDITS: 103}
        assert (one.posted.first_charged, one.posted.last_charged, one.posted.through) == (day(1), day(3), day(3))
        assert two.posted.rows == {EntryKind.CHARGE: 2}
        assert two.posted.first_charged == day(91)
        assert empty.posted.rows == {}
        assert empty.posted.through is None


class InvoicesContract:
    async def test_books_tell_the_first_day_and_the_last_closed_month(self, ledger: Ledger) -> None:
        await ledger.register([contract("z", account="idle")])
        await ledger.append([charge(3), charge(1, "e", currency="EUR")], now=NOW)
        await ledger.append([charge(2), charge(1, "g", account="globex")], now=NOW)
        await ledger.close_month(closed(3, 3), None)
        await ledger.close_month(closed(4, 5), invoice())
        eur, usd, globex = await ledger.books()
        assert (eur.currency, eur.first_day, eur.closed) == ("EUR", day(1), None)
        assert (usd.currency, usd.first_day, usd.closed) == ("USD", day(2), closed(4, 5))
        assert (globex.account, globex.first_day, globex.closed) == ("globex", day(1), None)
        assert await ledger.books(account="acme") == (eur, usd)
        assert await ledger.books(account="idle") == ()

    async def test_m6_a_row_is_on_one_invoice_and_later_findings_on_the_next(self, ledger: Ledger) -> None:
        end = date(2026, 4, 1)
        await ledger.append([charge(29), charge(30), charge(31), charge(1, "e", currency="EUR")], now=NOW)
        assert charge(30).day == date(2026, 3, 31)
        march = [charge(29).key, charge(30).key]
        assert await keys(ledger.uninvoiced("acme", "USD", end, through=4)) == march
        assert await keys(ledger.uninvoiced("acme", "USD", end, through=1)) == march[:1]
        await ledger.close_month(closed(3, 4), invoice())
        assert await keys(ledger.uninvoiced("acme", "USD", end, through=4)) == []
        await ledger.append([charge(5), charge(32), charge(61)], now=NOW)
        assert await keys(ledger.uninvoiced("acme", "USD", end, through=9)) == [charge(5).key]
        april = [charge(5).key, charge(31).key, charge(32).key]
        assert charge(61).day == date(2026, 5, 1)
        assert await keys(ledger.uninvoiced("acme", "USD", date(2026, 5, 1), through=9)) == april
        assert await keys(ledger.uninvoiced("acme", "EUR", end, through=9)) == [charge(1, "e").key]

    async def test_m6_whatever_is_posted_when_every_row_is_on_the_invoice_that_the_rule_says(
        self, ledger: Ledger
    ) -> None:
        chance = Random(5)
        days, cut, months = list(range(1, 120)), None, dict[date, list[Entry]]()
        chance.shuffle(days)
        for month in (Month(2026, number) for number in (3, 4, 5, 6, 7)):
            rows = [charge(days.pop(), minor=chance.randrange(1, 9999)) for _ in range(chance.randrange(10, 24))]
            await ledger.append(rows, now=NOW)
            previous, cut = cut, Cut(month, await ledger.position("acme") - chance.randrange(3))
            found = await gather(ledger.uninvoiced("acme", "USD", month.end, through=cut.through))
            everything = await gather(ledger.entries(account="acme"))
            assert found == [
                each for each in everything if cut.covers(each) and not (previous and previous.covers(each))
            ]
            assert await gather(ledger.invoiced("acme", "USD", month.start)) == []
            await ledger.close_month(closed(month.number, cut.through), None)
            months[month.start] = found
            for start, rows_of_it in months.items():
                assert await gather(ledger.invoiced("acme", "USD", start)) == rows_of_it, "for ever"
        invoiced = [each.number for rows_of_it in months.values() for each in rows_of_it]
        assert len(invoiced) == len(set(invoiced)) > 30

    async def test_m6_a_closed_month_and_its_invoice_stay_as_they_are(self, ledger: Ledger) -> None:
        await ledger.append([charge(1), charge(2)], now=NOW)
        assert await ledger.close_month(closed(3, 1), invoice()) == closed(3, 1)
        other = invoice("another", document={"due": "0.00"})
        assert await ledger.close_month(closed(3, 2), other) == closed(3, 1)
        assert await ledger.invoices() == (invoice(),)
        with pytest.raises(LedgerRefused):
            await ledger.close_month(closed(2, 2), None)
        with pytest.raises(LedgerRefused):
            await ledger.close_month(closed(4, 2), invoice(document={}))
        assert (await ledger.books())[0].closed == closed(3, 1), "all of it or nothing"

    async def test_an_invoice_that_closes_no_month_is_kept_once(self, ledger: Ledger) -> None:
        first = invoice("acme-po-1-2026-03-02")
        assert await ledger.issue(first) == first
        assert await ledger.issue(replace(first, document={})) == first
        await ledger.close_month(closed(3, 1), invoice())
        await ledger.issue(invoice("globex-1", account="globex", month=date(2026, 5, 1)))
        assert await ledger.invoice(first.number) == first
        assert await ledger.invoice("none") is None
        assert [each.number for each in await ledger.invoices(account="acme")] == [invoice().number, first.number]
        assert [each.number for each in await ledger.invoices(month=date(2026, 5, 1))] == ["globex-1"]


class OutboxContract:
    async def test_m7_every_row_is_reported_in_the_order_of_posting(self, ledger: Ledger) -> None:
        await ledger.append([charge(2), shortfall(2), charge(1, "b"), charge(1, "g", account="globex")], now=NOW)
        first, second, third = await ledger.pending("acme", 100)
        assert [each.id for each in (first, second, third)] == [charge(2).key, shortfall(2).key, charge(1, "b").key]
        assert [each.place for each in (first, second, third)] == [1, 2, 3]
        assert (first.type, second.type) == (EventType.CHARGE, EventType.CREDIT)
        assert (first.account, first.time) == ("acme", NOW)
        expected = {"account": "acme", "commitment": "po-1", "day": "2026-03-03", "kind": "Shortfall"}
        assert {**second.data, **expected, "amount": "-1.00", "currency": "USD", "number": 2} == second.data
        assert await pending(ledger, limit=2) == [first.id, second.id]
        assert await pending(ledger, "nobody") == []

    async def test_what_was_delivered_is_not_pending_and_the_rest_is(self, ledger: Ledger) -> None:
        await ledger.append([charge(1), charge(2), charge(3)], now=NOW)
        events = await ledger.pending("acme", 2)
        await ledger.delivered(events)
        await ledger.delivered(events)
        await ledger.delivered([])
        assert await pending(ledger) == [charge(3).key]
        await ledger.append([charge(1), charge(4)], now=NOW)
        assert await pending(ledger) == [charge(3).key, charge(4).key]

    async def test_the_backlog_counts_what_is_pending_and_what_is_held(self, ledger: Ledger) -> None:
        assert await ledger.backlog() == ()
        await ledger.append([charge(1, "b"), charge(1, "g", account="globex")], now=NOW)
        await ledger.append([charge(1)], now=NOW + timedelta(days=1))
        await ledger.halt("b", "why not", now=NOW)
        assert await ledger.backlog() == (
            Lag("acme", 1, NOW + timedelta(days=1), 1),
            Lag("globex", 1, NOW, 0),
        )
        assert await ledger.backlog(account="globex") == (Lag("globex", 1, NOW, 0),)
        assert await ledger.backlog(account="nobody") == ()
        await ledger.halt("po-1", "why not", now=NOW)
        assert (await ledger.backlog())[0] == Lag("acme", 0, None, 2)
        await ledger.delivered(await ledger.pending("globex", 9))
        assert [each.account for each in await ledger.backlog()] == ["acme"]

    async def test_a_halted_contract_holds_up_no_other_and_is_reported_behind_them(self, ledger: Ledger) -> None:
        await ledger.append([charge(1), charge(1, "b"), charge(2), charge(2, "b")], now=NOW)
        await ledger.halt("b", "its sum is wrong", now=NOW)
        await ledger.halt("b", "again", now=NOW + timedelta(days=1))
        assert await ledger.halts() == (Halt("b", NOW, "its sum is wrong"),)
        assert await pending(ledger) == [charge(1).key, charge(2).key]
        await ledger.delivered(await ledger.pending("acme", 9))
        await ledger.append([charge(3, "b"), charge(3)], now=NOW)
        assert await pending(ledger) == [charge(3).key]
        await ledger.resume("b")
        await ledger.resume("b")
        assert await ledger.halts() == ()
        events = await ledger.pending("acme", 9)
        assert [each.id for each in events] == [charge(3).key, *(charge(number, "b").key for number in (1, 2, 3))]
        assert [each.place for each in events] == sorted(each.place for each in events)
        (entry,) = await ledger.append([charge(4)], now=NOW)
        assert entry.number > events[-1].place

    async def test_invoices_and_notices_are_reported_in_the_same_order_as_rows(self, ledger: Ledger) -> None:
        notice = Notice("po-1/notice/30", "acme", "po-1", {"account": "acme", "daysLeft": 30})
        await ledger.append([charge(1)], now=NOW)
        assert await ledger.announce([notice], now=NOW) == (notice,)
        await ledger.close_month(closed(3, 1), invoice())
        await ledger.append([charge(2)], now=NOW)
        assert await ledger.announce([notice, replace(notice, data={})], now=NOW) == ()
        events = await ledger.pending("acme", 9)
        assert [each.type for each in events] == [
            EventType.CHARGE,
            EventType.NOTICE,
            EventType.INVOICE,
            EventType.CHARGE,
        ]
        assert [each.id for each in events[1:3]] == [notice.id, "invoice/acme-USD-2026-03"]
        assert events[1].data == notice.data
        assert events[2].data["document"] == invoice().document
        assert events[2].data["account"] == "acme"
        await ledger.delivered(events)
        assert await ledger.announce([notice], now=NOW) == (), "once for ever, not once in the outbox"
        await ledger.close_month(closed(3, 1), invoice())
        assert await pending(ledger) == []

    async def test_one_operator_at_a_time_delivers_for_an_account(self, ledger: Ledger) -> None:
        await ledger.append([charge(1), charge(1, "g", account="globex")], now=NOW)
        assert await ledger.claim("acme", "one", now=NOW, seconds=60)
        assert not await ledger.claim("acme", "two", now=NOW + timedelta(seconds=59), seconds=60)
        assert await ledger.claim("globex", "two", now=NOW, seconds=60)
        assert await ledger.claim("acme", "one", now=NOW + timedelta(seconds=30), seconds=60)
        assert not await ledger.claim("acme", "two", now=NOW + timedelta(seconds=89), seconds=60)
        assert await ledger.claim("acme", "two", now=NOW + timedelta(seconds=90), seconds=60)
        assert not await ledger.claim("nobody", "one", now=NOW, seconds=60)

    async def test_m5_a_claim_from_the_future_is_not_believed(self, ledger: Ledger) -> None:
        await ledger.append([charge(1)], now=NOW)
        assert await ledger.claim("acme", "one", now=NOW + timedelta(days=1), seconds=60)
        assert await ledger.claim("acme", "two", now=NOW, seconds=60)


class LedgerContract(AgreementsContract, PostingsContract, InvoicesContract, OutboxContract):
    """All of it; pytest looks for a fixture `ledger`."""
