"""Token units from the order to the bill (behaviour.md T1, T2, M3, M5, M7): the production reconcilers over books in memory."""

from __future__ import annotations

from reserved_capacity.ledger_ports import LedgerUnavailable
from reserved_capacity.ports import PRICE_BOOKS, TOKEN_UNIT_RESERVATIONS, Ref
from tests.fakes.sink import FakeSink
from tests.integration.token_world import BASE, GPT_41, LIMITS, TokenWorld, reservation, token_world, unit_price


async def a_buyer(sink: FakeSink | None = None) -> TokenWorld:
    """Three input and four output units of GPT-4.1, bought at 2026-03-01T10:00Z, with a fleet that carries them."""
    world = token_world(sink)
    await world.open()
    await world.buy()
    return world


async def test_t1_three_input_and_four_output_units_count_at_once_and_are_charged_474_usd_a_day_from_march_2() -> None:
    world = await a_buyer()
    assert world.entitled() == (90_000, 10_000)
    assert world.effective() == (BASE[0] + 90_000, BASE[1] + 10_000)
    assert world.effective("other") == BASE
    assert {
        type_: world.said(type_)[0] for type_ in ("Accepted", "CapacityBacked", "LimitPublished", "Ready")
    } == dict.fromkeys(("Accepted", "CapacityBacked", "LimitPublished", "Ready"), "True")
    assert await world.charges() == []
    await world.pass_to("03-03T09:00:00")
    rows = await world.charges()
    assert [row.day.isoformat() for row in rows] == ["2026-03-02"] * 2
    assert sum(row.amount_minor for row in rows) == 47_400


async def test_t1_the_lots_show_their_dates_units_and_price() -> None:
    world = await a_buyer()
    lots = {lot["direction"]: lot for lot in world.status()["lots"]}
    assert (lots["Input"]["units"], lots["Input"]["pricePerUnitDay"], lots["Input"]["tokensPerMinute"]) == (
        3,
        "110.00",
        90_000,
    )
    assert {lot["purchasedAt"] for lot in lots.values()} == {"2026-03-01T10:00:00Z"}
    assert {lot["billingStart"] for lot in lots.values()} == {"2026-03-02T00:00:00Z"}
    assert {lot["removableFrom"] for lot in lots.values()} == {"2026-04-01T00:00:00Z"}
    assert not any(lot["removable"] for lot in lots.values())


async def test_t2_a_reduction_before_april_1_is_refused_with_the_date_and_done_after_it() -> None:
    world = await a_buyer()
    await world.pass_to("03-31T23:59:59")
    await world.order(1, 4)
    status, reason, message = world.said("Accepted")
    assert (status, reason) == ("False", "MinimumTermNotReached")
    assert "2026-04-01T00:00:00Z" in message
    assert world.entitled() == (90_000, 10_000)
    assert world.effective() == (BASE[0] + 90_000, BASE[1] + 10_000)
    await world.pass_to("04-01T00:00:01")
    assert world.said("Accepted")[0] == "True"
    assert world.entitled() == (30_000, 10_000)
    assert world.effective() == (BASE[0] + 30_000, BASE[1] + 10_000)
    await world.pass_to("04-03T00:00:01")
    rows = await world.charges()
    by_day = {row.day.isoformat(): 0 for row in rows}
    for row in rows:
        by_day[row.day.isoformat()] += row.amount_minor
    assert list(by_day.values()) == [47_400] * 30 + [11_000 + 14_400] * 2
    assert (min(by_day), max(by_day)) == ("2026-03-02", "2026-04-02")


async def test_t2_more_units_are_a_lot_of_their_own_with_its_own_dates() -> None:
    world = await a_buyer()
    await world.pass_to("03-10T12:00:00")
    await world.order(5, 4)
    assert world.entitled() == (150_000, 10_000)
    lots = [lot for lot in world.status()["lots"] if lot["direction"] == "Input"]
    assert [(lot["units"], lot["removableFrom"][:10]) for lot in lots] == [(3, "2026-04-01"), (2, "2026-04-10")]


async def test_t2_a_reservation_that_is_deleted_after_its_term_ends_at_the_next_midnight() -> None:
    world = await a_buyer()
    await world.pass_to("04-02T10:00:00")
    assert all(lot["removable"] for lot in world.status()["lots"])
    world.cluster.user_delete(GPT_41)
    await world.settle()
    world.kill_operators()
    world.start_operator()
    await world.pass_to("04-02T23:59:59")
    assert world.effective() == (BASE[0] + 90_000, BASE[1] + 10_000)
    assert sum(world.fleet().values()) == 1
    await world.pass_to("04-03T00:00:01")
    assert world.effective() == BASE
    assert world.fleet() == {}
    await world.pass_to("04-10T10:00:00")
    days = {row.day.isoformat() for row in await world.charges()}
    assert (len(days), max(days)) == (32, "2026-04-02")
    assert "acme" not in world.limits()


async def test_t2_a_reservation_that_is_lost_is_charged_until_it_is_removable_and_continued_if_it_comes_back() -> None:
    world = await a_buyer()
    await world.pass_to("03-10T10:00:00")
    world.cluster.user_delete(GPT_41)
    await world.pass_to("03-12T10:00:00")
    assert world.effective() == (BASE[0] + 90_000, BASE[1] + 10_000), "what is charged counts"
    world.cluster.user_delete(LIMITS)
    await world.pass_to("03-15T10:00:00")
    assert world.limits()["acme"]["units"][0]["reservation"] == "acme/gpt-41", "the books know it too"
    world.cluster.user_create(TOKEN_UNIT_RESERVATIONS, reservation())
    await world.settle()
    assert world.entitled() == (90_000, 10_000)
    assert {lot["billingStart"] for lot in world.status()["lots"]} == {"2026-03-02T00:00:00Z"}
    world.cluster.user_delete(GPT_41)
    await world.pass_to("03-31T23:59:59")
    assert world.effective() == (BASE[0] + 90_000, BASE[1] + 10_000)
    await world.pass_to("04-10T10:00:00")
    assert world.effective() == BASE
    rows = await world.charges()
    assert (len(rows), max(row.day.isoformat() for row in rows)) == (60, "2026-03-31")


async def test_t2_a_reservation_that_went_while_nobody_looked_ends_all_the_same() -> None:
    world = await a_buyer()
    await world.pass_to("04-05T10:00:00")
    world.kill_operators()
    world.cluster.user_delete(GPT_41)
    world.start_operator()
    await world.settle()
    await world.pass_to("04-09T10:00:00")
    assert max(row.day.isoformat() for row in await world.charges()) == "2026-04-05"


async def test_m5_an_operator_that_was_off_for_40_days_posts_exactly_these() -> None:
    disturbed, undisturbed = await a_buyer(), await a_buyer()
    await disturbed.pass_to("03-05T10:00:00")
    disturbed.kill_operators()
    disturbed.clock.forward(days=40)
    disturbed.start_operator()
    await disturbed.settle()
    await undisturbed.pass_to("04-14T10:00:00")
    assert await disturbed.charges() == await undisturbed.charges()


async def test_i5_two_operators_buy_and_post_once() -> None:
    world = token_world()
    await world.open()
    world.start_operator(seed=1)
    await world.buy()
    await world.pass_to("03-10T10:00:00")
    assert len(world.status()["lots"]) == 2
    assert len(await world.charges()) == 2 * 8


async def test_m3_a_list_price_that_rises_changes_nothing_before_the_next_period() -> None:
    world = await a_buyer()
    book = world.get(PRICE_BOOKS, "usd")["spec"]
    prices = [*book["tokenUnits"], unit_price("Input", "200.00", "2026-03-10")]
    world.cluster.user_patch(Ref(PRICE_BOOKS, "", "usd"), {"spec": {"tokenUnits": prices}})
    await world.pass_to("04-03T10:00:00")
    rows = [row for row in await world.charges() if row.price != "36.00"]
    assert [row.price for row in rows] == ["110.00"] * 30 + ["200.00"] * 2
    (lot,) = [lot for lot in world.status()["lots"] if lot["direction"] == "Input"]
    assert lot["pricePerUnitDay"] == "200.00"


async def test_m6_m7_the_rows_are_invoiced_and_reach_billing_as_lots() -> None:
    sink = FakeSink()
    world = await a_buyer(sink)
    await world.pass_to("04-02T01:00:00")
    assert world.ledger is not None
    (invoice,) = await world.ledger.invoices(account="acme")
    assert invoice.document["due"] == "14220.00"
    assert {line["tokenUnits"] for line in invoice.document["lines"]} == {3, 4}
    assert sum(each.startswith("lot:") for each in sink.received.kept["acme"]) == 62
    assert world.said("BillingCurrent")[:2] == ("True", "Current")


async def test_m7_books_that_are_away_keep_what_counts_and_buy_nothing() -> None:
    world = await a_buyer()
    assert world.ledger is not None
    world.ledger.failure = LedgerUnavailable("the database does not answer")
    units = {"input": 5, "output": 4}
    world.cluster.user_patch(GPT_41, {"spec": {"units": units}})
    for _ in range(10):
        await world.operators[0].run()
        await world.controllers.step()
    assert world.entitled() == (90_000, 10_000)
    assert world.effective() == (BASE[0] + 90_000, BASE[1] + 10_000)
    status, reason, message = world.said("BillingCurrent")
    assert (status, reason) == ("Unknown", "CatchingUp")
    assert "does not answer" in message
    world.ledger.failure = None
    for operator in world.operators:
        operator.time += 3600
    await world.settle()
    assert world.entitled() == (150_000, 10_000)


async def test_i8_a_settled_reservation_is_silent() -> None:
    world = await a_buyer()
    await world.pass_to("03-04T10:00:00")
    world.cluster.writes.clear()
    world.clock.forward(hours=3)
    await world.settle()
    world.kill_operators()
    world.start_operator()
    await world.settle()
    # A pool says once more that its books are read: that is told of pools elsewhere.
    assert [write for write in world.writes() if "ComputeUnitPool" not in write] == []


async def test_what_cannot_be_bought_says_why() -> None:
    world = token_world()
    await world.open()
    await world.buy("a", offering="gpt-9")
    await world.buy("b", snapshot="gpt-4.1-2020-01-01")
    await world.buy("c", priceBookRef="eur")
    await world.buy("d", priceBookRef="internal")
    assert {name: world.said("Accepted", name)[:2] for name in "abcd"} == {
        "a": ("False", "UnknownOffering"),
        "b": ("False", "UnknownSnapshot"),
        "c": ("False", "UnknownPriceBook"),
        "d": ("False", "PriceMissing"),
    }
    assert not any(world.status(name).get("lots") for name in "abcd")
    assert "acme" not in world.limits()
