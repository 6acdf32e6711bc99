"""From a pool's contract to the books, and back (M1-M9): the production reconcilers over books in memory."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from datetime import date, datetime, timedelta

import pytest

from reserved_capacity.domain.billing.charges import plan_days
from reserved_capacity.domain.billing.contracts import Contract
from reserved_capacity.domain.billing.ledger import EntryKind, Transaction
from reserved_capacity.domain.billing.pricing import PriceHistory
from reserved_capacity.domain.terms import Term
from reserved_capacity.ledger_ports import (
    ClosedMonth,
    Entry,
    IssuedInvoice,
    LedgerRefused,
    LedgerUnavailable,
    SinkUnavailable,
)
from reserved_capacity.ports import COMPUTE_UNIT_POOLS, PRICE_BOOKS, Ref
from reserved_capacity.queue import Key
from reserved_capacity.reconcilers.billing import close
from reserved_capacity.reconcilers.billing.board import AGREEMENTS, CLOSE
from tests.fakes.ledger import FakeLedger
from tests.fakes.sink import FakeSink
from tests.integration.world import World, pool

PROD = Ref(COMPUTE_UNIT_POOLS, "acme", "prod")


async def a_serving_pool(*, sink: FakeSink | None = None, cu: int = 600) -> World:
    """Bought and placed on 2026-03-01: the first charged day is 2026-03-02."""
    world = World(ledger=FakeLedger(), sink=sink)
    world.seed()
    world.apply_instance("chat", "gpt-4-turbo", 2)
    world.start_operator()
    await world.settle()
    return world


async def entries(world: World, kind: EntryKind = EntryKind.CHARGE) -> list[Entry]:
    assert world.ledger is not None
    return [each async for each in world.ledger.entries(contract="po-1") if each.transaction.kind is kind]


async def amounts(world: World, kind: EntryKind = EntryKind.CHARGE) -> list[int]:
    return [each.transaction.amount_minor for each in await entries(world, kind)]


async def pass_days(world: World, days: int) -> None:
    for _ in range(days):
        world.clock.forward(days=1)
        await world.settle()


async def test_m1_m2_a_year_is_365_charges_that_sum_to_the_contract() -> None:
    world = await a_serving_pool()
    await pass_days(world, 3)
    assert [each.transaction.day.isoformat() for each in await entries(world)] == ["2026-03-02", "2026-03-03"]
    world.clock.forward(days=380)
    await world.settle()
    charged = await amounts(world)
    assert (len(charged), sum(charged)) == (365, 158_400_000)
    (commitment,) = world.pool_status()["commitments"]
    assert commitment["state"] == "Expired"
    assert commitment["charged"] == {"days": 365, "amount": "1584000.00", "lastDay": "2027-03-01"}


async def test_m5_an_operator_that_was_off_for_40_days_posts_exactly_these() -> None:
    disturbed, undisturbed = await a_serving_pool(), await a_serving_pool()
    await pass_days(undisturbed, 45)
    await pass_days(disturbed, 3)
    disturbed.kill_operators()
    disturbed.clock.forward(days=40)
    disturbed.start_operator()
    await disturbed.settle()
    await pass_days(disturbed, 2)
    assert [each.transaction for each in await entries(disturbed)] == [
        each.transaction for each in await entries(undisturbed)
    ]


async def test_m5_months_that_are_caught_up_are_posted_in_pieces_and_are_the_same(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Nobody waits for a transaction that is as long as the operator was away."""
    monkeypatch.setattr(close, "ROWS_AT_ONCE", 10)
    world = await a_serving_pool()
    ledger = world.ledger
    assert ledger is not None
    sizes: list[int] = []
    append = ledger.append

    async def counted(rows: Sequence[Transaction], *, now: datetime) -> tuple[Entry, ...]:
        sizes.append(len(rows))
        return await append(rows, now=now)

    monkeypatch.setattr(ledger, "append", counted)
    base = (await ledger.contracts())[0]
    more = [replace(base, commitment=f"po-{name}", term=Term.THREE_MONTHS) for name in "abcde"]
    await ledger.register(more)
    world.clock.forward(days=8)
    await world.settle()
    assert sizes[:3] == [14, 14, 14], "whole contracts of a week, until there are ten rows"
    for each in (base, *more):
        days = [row.transaction.day async for row in ledger.entries(contract=each.commitment)]
        assert len(days) == 7


async def test_i5_two_operators_post_every_day_once() -> None:
    world = await a_serving_pool()
    world.start_operator(seed=1)
    await pass_days(world, 20)
    assert len(await amounts(world)) == 19


async def test_m5_a_clock_that_jumps_back_a_day_writes_nothing_twice() -> None:
    world = await a_serving_pool()
    await pass_days(world, 5)
    before = await amounts(world)
    world.clock.forward(days=-1)
    await world.settle()
    world.clock.forward(days=1)
    await world.settle()
    assert await amounts(world) == before
    assert world.condition(COMPUTE_UNIT_POOLS, "prod", "LedgerBalanced")[0] == "True"


async def test_i8_a_day_costs_one_status_write_and_a_settled_pool_none() -> None:
    world = await a_serving_pool()
    await pass_days(world, 2)
    world.cluster.writes.clear()
    await world.settle()
    world.clock.forward(hours=3)
    await world.settle()
    assert world.writes() == []
    await pass_days(world, 1)
    assert len(world.writes()) == 1


async def test_m3_a_price_cut_lowers_the_rest_and_a_later_increase_takes_nothing_back() -> None:
    world = await a_serving_pool()
    await pass_days(world, 10)
    add_price(world, "2026-03-12", "110.00")
    await world.settle()
    await pass_days(world, 10)
    add_price(world, "2026-03-22", "300.00")
    await pass_days(world, 10)
    charged = await amounts(world)
    assert {amount // 1000 for amount in charged[:10]} == {433}
    assert {amount // 1000 for amount in charged[10:]} == {216}
    (commitment,) = world.pool_status()["commitments"]
    assert commitment["price"] == {"ordered": "220.00", "current": "110.00"}


async def test_m9_a_pool_whose_namespace_was_deleted_is_charged_on_and_continued_when_it_is_applied_again() -> None:
    world = await a_serving_pool()
    await pass_days(world, 5)
    before = world.pool_status()["commitments"][0]
    world.delete_instance("chat")
    world.cluster.user_delete(PROD)
    await world.settle()
    await pass_days(world, 10)
    assert len(await amounts(world)) == 14
    assert await amounts(world, EntryKind.SHORTFALL) == []

    world.cluster.user_create(COMPUTE_UNIT_POOLS, pool())
    world.apply_instance("chat", "gpt-4-turbo", 2)
    await world.settle()
    after = world.pool_status()["commitments"][0]
    for field in ("acceptedAt", "billingStart", "termEnd", "renewalDeadline", "firstProvisionedAt", "price"):
        assert after[field] == before[field], field
    await pass_days(world, 5)
    assert len(await amounts(world)) == 19


async def test_m9_a_pool_restored_from_an_older_copy_has_the_dates_of_the_books() -> None:
    world = await a_serving_pool()
    await pass_days(world, 5)
    before = world.pool_status()["commitments"][0]
    old = {**before, "state": "Ordered"}
    for field in ("billingStart", "termEnd", "renewalDeadline", "firstProvisionedAt", "charged"):
        old.pop(field, None)
    world.cluster.user_patch(PROD, {"status": {"commitments": [old]}}, status=True)
    await world.settle()
    after = world.pool_status()["commitments"][0]
    assert {key: after[key] for key in ("billingStart", "termEnd", "state")} == {
        key: before[key] for key in ("billingStart", "termEnd", "state")
    }


async def test_m9_an_order_reference_of_another_account_is_refused_though_its_pool_is_gone() -> None:
    world = await a_serving_pool()
    world.delete_instance("chat")
    world.cluster.user_delete(PROD)
    await world.settle()
    other = pool("other")
    other["spec"]["account"] = "umbrella"
    world.cluster.user_create(COMPUTE_UNIT_POOLS, other)
    await world.settle()
    status, reason, message = world.condition(COMPUTE_UNIT_POOLS, "other", "Accepted")
    assert (status, reason) == ("False", "DuplicateCommitment")
    assert "account acme" in message


async def test_m7_books_that_are_away_stop_orders_and_charges_and_nothing_else() -> None:
    world = await a_serving_pool()
    await pass_days(world, 2)
    assert world.ledger is not None
    world.ledger.failure = LedgerUnavailable("the database does not answer")
    world.cluster.user_create(COMPUTE_UNIT_POOLS, pool("late", cu=200, commitment="po-2"))
    world.scale("chat", 0)
    world.apply_instance("fast", "gpt-3.5-turbo", 2)
    world.clock.forward(days=1)
    for _ in range(20):
        await world.operators[0].run()
        await world.controllers.step()
    assert sorted(world.holdings()) == ["fast-0", "fast-1"]
    assert world.pool_status("late").get("commitments", []) == []
    status, reason, message = world.condition(COMPUTE_UNIT_POOLS, "prod", "BillingCurrent")
    assert (status, reason) == ("Unknown", "CatchingUp")
    assert "does not answer" in message
    assert world.condition(COMPUTE_UNIT_POOLS, "prod", "Ready")[0] == "True"

    world.ledger.failure = None
    world.clock.forward(minutes=10)
    for operator in world.operators:
        operator.time += 3600
    await world.settle()
    assert world.pool_status("late")["commitments"][0]["id"] == "po-2"
    assert len(await amounts(world)) == 2


async def test_m7_a_sink_that_is_away_for_30_days_gets_every_row_once_and_in_order() -> None:
    sink = FakeSink()
    world = await a_serving_pool(sink=sink)
    down = [SinkUnavailable("connection refused") for _ in range(10_000)]
    sink.failures = list(down)
    for _ in range(30):
        world.clock.forward(days=1)
        for operator in world.operators:
            await operator.run()
    assert world.condition(COMPUTE_UNIT_POOLS, "prod", "BillingCurrent")[:2] == ("False", "SinkUnavailable")
    assert world.condition(COMPUTE_UNIT_POOLS, "prod", "Ready")[0] == "True"
    sink.failures = []
    for operator in world.operators:
        operator.time += 3600
    await world.settle()
    charges = [id_ for id_ in sink.received.kept["acme"] if id_.endswith("/Charge")]
    assert charges == [each.transaction.key for each in await entries(world)]
    assert world.condition(COMPUTE_UNIT_POOLS, "prod", "BillingCurrent")[:2] == ("True", "Current")
    assert world.pool_status()["billing"]["pendingRows"] == 0


async def test_m6_months_are_invoiced_in_arrears_24_hours_after_their_end() -> None:
    world = await a_serving_pool()
    assert world.ledger is not None
    await pass_days(world, 31)  # 2026-04-01T10:00Z
    assert await world.ledger.invoices(account="acme") == ()
    await pass_days(world, 1)
    (invoice,) = await world.ledger.invoices(account="acme")
    assert (invoice.number, invoice.document["due"]) == ("acme-USD-2026-03", "130191.78")


async def test_c4_a_day_with_missing_units_is_credited() -> None:
    world = await a_serving_pool()
    await pass_days(world, 3)
    world.clock.forward(hours=2)  # 2026-03-04T12:00Z
    (name,) = {name for names in world.holdings().values() for name in names}
    world.scale("chat", 0)
    await world.settle()
    for node in ("gpu-0", "gpu-1"):
        world.cluster.user_patch(Ref_node(node), {"spec": {"unschedulable": True}})
    world.cluster.user_delete(Ref_node(name))
    await world.settle()
    await pass_days(world, 2)
    (first, second) = await amounts(world, EntryKind.SHORTFALL)
    assert -217_000 < first < -216_900
    assert -434_000 < second < -433_900


@pytest.mark.parametrize("held", [0, 2])
async def test_f6_what_is_idle_is_charged_and_shown_as_idle(held: int) -> None:
    world = await a_serving_pool()
    await pass_days(world, 1)
    world.scale("chat", held)
    await world.settle()
    await pass_days(world, 1)
    assert world.pool_status()["billing"]["idleShare"] == ("0.0000" if held else "1.0000")
    assert sum(await amounts(world)) == 433972


def add_price(world: World, day: str, price: str) -> None:
    entry = {"term": "OneYear", "effectiveFrom": day, "pricePerComputeUnitMonth": price}
    book = world.get(PRICE_BOOKS, "usd")
    world.cluster.user_patch(
        Ref(PRICE_BOOKS, "", "usd"), {"spec": {"computeUnits": [*book["spec"]["computeUnits"], entry]}}
    )


def Ref_node(name: str) -> Ref:  # noqa: N802
    from reserved_capacity.ports import NODES

    return Ref(NODES, "", name)


def test_the_clock_of_this_file_is_not_midnight() -> None:
    assert World().clock.now() - timedelta(hours=10) == World().clock.now().replace(hour=0)


def two_orders() -> World:
    """po-1 and po-2 of 300 CU each, bought and not placed."""
    world = World(ledger=FakeLedger(), sink=FakeSink())
    world.seed()
    order = dict(pool(cu=300)["spec"]["commitments"][0])
    world.cluster.user_patch(PROD, {"spec": {"commitments": [order, {**order, "id": "po-2"}]}})
    world.start_operator()
    return world


async def test_m7_a_start_that_the_books_learn_after_the_close_halts_nothing_and_leaves_the_order_alone(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The day is closed while the books know of no start; the first is learnt and looked at; then the second, and before it is
    looked at, the day is closed again, for both. What no close has tried yet is not missing (ADR 0069)."""
    world = two_orders()
    ledger, sink = world.ledger, world.sink
    assert ledger is not None
    assert sink is not None
    await world.settle()
    register, halted, away = ledger.register, list[str](), {"po-1", "po-2"}

    async def registers_what_is_known(contracts: Sequence[Contract]) -> tuple[Contract, ...]:
        stored = await register([_not_begun(each) if each.commitment in away else each for each in contracts])
        if not away:
            await world.operators[0].loop.reconcile(Key(CLOSE, "", ""))
        return stored

    async def halts(contract: str, *_: object, **__: object) -> None:
        halted.append(contract)

    monkeypatch.setattr(ledger, "register", registers_what_is_known)
    monkeypatch.setattr(ledger, "halt", halts)
    world.apply_instance("chat", "gpt-4-turbo", 2)
    for _ in range(5):
        await world.operators[0].run()
        await world.controllers.step()
    assert all(each["billingStart"] == "2026-03-02T00:00:00Z" for each in world.pool_status()["commitments"])
    world.clock.forward(days=2)
    await world.operators[0].run()
    assert await ledger.position("acme") == 0, "the close found nothing to post"
    for learnt in ("po-1", "po-2"):
        away.remove(learnt)
        await world.operators[0].loop.reconcile(Key(AGREEMENTS, "acme", "prod"))
    await world.settle()
    assert halted == []
    assert world.condition(COMPUTE_UNIT_POOLS, "prod", "LedgerBalanced")[0] == "True"
    keys = [each.transaction.key async for each in ledger.entries(account="acme")]
    assert sink.received.kept["acme"] == keys == ["po-1/2026-03-02/Charge", "po-2/2026-03-02/Charge"]


def _not_begun(contract: Contract) -> Contract:
    return replace(contract, billing_start=None, first_provisioned_at=None)


async def test_m4_what_no_close_can_post_is_shown_and_halted_and_reported_when_it_can(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A defect of one contract: it is tried once a day, not without end, and what was held goes out as soon as it balances."""
    world = two_orders()
    world.apply_instance("chat", "gpt-4-turbo", 2)
    await world.settle()
    await pass_days(world, 2)
    ledger, sink = world.ledger, world.sink
    assert ledger is not None
    assert sink is not None
    append = ledger.append

    async def refuses(rows: Sequence[Transaction], *, now: datetime) -> tuple[Entry, ...]:
        if any(row.contract == "po-2" for row in rows):
            raise LedgerRefused("it contradicts what stands")
        return await append(rows, now=now)

    monkeypatch.setattr(ledger, "append", refuses)
    await pass_days(world, 1)
    status, reason, message = world.condition(COMPUTE_UNIT_POOLS, "prod", "LedgerBalanced")
    assert (status, reason) == ("False", "Mismatch")
    assert "po-2/2026-03-03/Charge" in message
    assert [each.contract for each in await ledger.halts()] == ["po-2"]
    assert sink.received.kept["acme"][-1] == "po-1/2026-03-03/Charge", "the other one is reported"

    monkeypatch.setattr(ledger, "append", append)
    await pass_days(world, 1)
    assert world.condition(COMPUTE_UNIT_POOLS, "prod", "LedgerBalanced")[0] == "True"
    assert await ledger.halts() == ()
    assert world.pool_status()["billing"]["pendingRows"] == 0
    held = [each for each in sink.received.kept["acme"] if each.startswith("po-2")]
    assert held == [f"po-2/2026-03-0{day}/Charge" for day in (2, 3, 4)]


async def test_m4_a_restart_lifts_no_halt_before_it_has_audited(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its first look finds a day that is due, so it waits for the close; until then what was said stands."""
    world = await a_serving_pool(sink=FakeSink())
    await pass_days(world, 2)
    ledger, sink = world.ledger, world.sink
    assert ledger is not None
    assert sink is not None
    (wrong,) = plan_days_of(await ledger.contracts(commitment="po-1"), "2026-03-03")
    await ledger.append([replace(wrong, note="", price="1.00")], now=world.clock.now())
    await pass_days(world, 2)
    assert [each.contract for each in await ledger.halts()] == ["po-1"]
    reported = list(sink.received.sent)

    async def resumes(_contract: str) -> None:
        pytest.fail("it does not balance")

    monkeypatch.setattr(ledger, "resume", resumes)
    world.kill_operators()
    world.clock.forward(days=1)
    operator = world.start_operator()
    said = [world.condition(COMPUTE_UNIT_POOLS, "prod", "LedgerBalanced")]
    while await operator.turn():
        said.append(world.condition(COMPUTE_UNIT_POOLS, "prod", "LedgerBalanced"))
    assert {each[:2] for each in said} == {("False", "Mismatch")}
    assert sink.received.sent == reported


def plan_days_of(contracts: Sequence[Contract], day: str) -> tuple[Transaction, ...]:
    (contract,), last = contracts, date.fromisoformat(day)
    return plan_days(contract, PriceHistory(), posted_through=last - timedelta(days=1), today=last + timedelta(days=1))


async def test_m6_an_account_whose_month_cannot_be_closed_stops_no_other(monkeypatch: pytest.MonkeyPatch) -> None:
    world = await a_serving_pool()
    ledger = world.ledger
    assert ledger is not None
    (base,) = await ledger.contracts()
    await ledger.register([replace(base, commitment="po-0", account="aardvark")])
    close_month = ledger.close_month

    async def refuses(month: ClosedMonth, invoice: IssuedInvoice | None) -> ClosedMonth:
        if month.account == "aardvark":
            raise LedgerRefused("there is another invoice of that number")
        return await close_month(month, invoice)

    monkeypatch.setattr(ledger, "close_month", refuses)
    await pass_days(world, 33)
    assert [each.number for each in await ledger.invoices()] == ["acme-USD-2026-03"]
