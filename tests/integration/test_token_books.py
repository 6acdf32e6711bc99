"""The books of lots audit themselves, as those of commitments do (behaviour.md I5, M4; ADR 0069)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime

import pytest

from reserved_capacity.domain.billing.ledger import Transaction
from reserved_capacity.domain.tokens.charges import plan_lot_days
from reserved_capacity.domain.tokens.lots import Direction, Lot
from reserved_capacity.domain.tokens.prices import UnitPrices
from reserved_capacity.ledger_ports import Entry, Ledger, LedgerRefused
from tests.fakes.sink import FakeSink
from tests.integration.token_world import TokenWorld, token_world
from tests.unit.domain.lots import day


async def a_buyer(sink: FakeSink) -> tuple[TokenWorld, Ledger, Lot, Lot]:
    """Three input and four output units, bought on March 1 and charged from the second on; the two lots."""
    world = token_world(sink)
    await world.open()
    await world.buy()
    assert world.ledger is not None
    lots = {lot.direction: lot for lot in await world.ledger.lots(account="acme")}
    return world, world.ledger, lots[Direction.INPUT], lots[Direction.OUTPUT]


def days_of(sink: FakeSink, lot: Lot) -> list[str]:
    return [each.split("/")[1] for each in sink.received.kept.get("acme", []) if each.startswith(lot.id)]


async def test_i5_the_books_of_a_reservation_are_audited_every_day_and_balance() -> None:
    world, _, _, _ = await a_buyer(FakeSink())
    for moment in ("03-02T09:00:00", "03-03T09:00:00", "03-20T09:00:00", "05-20T09:00:00"):
        await world.pass_to(moment)
        assert world.said("LedgerBalanced")[:2] == ("True", "Balanced")
    assert world.said("Ready")[0] == "True"


async def test_m4_a_row_of_another_amount_halts_its_lot_and_no_other() -> None:
    sink = FakeSink()
    world, ledger, inputs, outputs = await a_buyer(sink)
    await world.pass_to("03-04T09:00:00")
    (right,) = plan_lot_days(inputs, UnitPrices(), posted_through=day("03-03"), today=day("03-05"))
    postings = tuple(replace(each, minor=each.minor * 2) for each in right.postings)
    await ledger.append([replace(right, amount_minor=right.amount_minor * 2, postings=postings)], now=world.clock.now())
    await world.pass_to("03-06T09:00:00")
    status, reason, message = world.said("LedgerBalanced")
    assert (status, reason) == ("False", "Mismatch")
    assert f"{right.key}: 660.00 USD stands, the contract gives 330.00 USD" in message
    assert world.said("Ready")[0] == "True", "it serves"
    assert [each.contract for each in await ledger.halts()] == [inputs.id]
    assert "2026-03-05" not in days_of(sink, inputs)
    assert days_of(sink, outputs)[-1] == "2026-03-05"
    rows = [row for row in await world.charges() if row.contract == inputs.id]
    assert rows[-1].day == day("03-05"), "its days are posted on"


async def test_m4_a_lot_that_the_books_refuse_stops_no_other_and_is_reported_when_it_balances(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    sink = FakeSink()
    world, ledger, inputs, outputs = await a_buyer(sink)
    await world.pass_to("03-03T09:00:00")
    append = ledger.append

    async def refuses(rows: Sequence[Transaction], *, now: datetime) -> tuple[Entry, ...]:
        if any(row.contract == inputs.id for row in rows):
            raise LedgerRefused("it contradicts what stands")
        return await append(rows, now=now)

    monkeypatch.setattr(ledger, "append", refuses)
    await world.pass_to("03-04T09:00:00")
    assert world.said("LedgerBalanced")[0] == "False"
    assert [each.contract for each in await ledger.halts()] == [inputs.id]
    assert days_of(sink, outputs) == ["2026-03-02", "2026-03-03"]
    monkeypatch.setattr(ledger, "append", append)
    await world.pass_to("03-05T09:00:00")
    assert world.said("LedgerBalanced")[0] == "True"
    assert days_of(sink, inputs) == ["2026-03-02", "2026-03-03", "2026-03-04"]


async def test_m7_a_start_that_the_books_learn_late_is_charged_the_same_day_and_halts_nothing(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    world, ledger, inputs, _ = await a_buyer(FakeSink())
    await world.pass_to("03-05T09:00:00")

    async def halts(contract: str, *_: object, **__: object) -> None:
        pytest.fail(f"{contract} is on its way")

    monkeypatch.setattr(ledger, "halt", halts)
    late = replace(inputs, id="lot:late", number=9, billing_start=day("03-03"))
    await ledger.register_lots([late])
    await world.order(3, 5)
    assert [row.day for row in await world.charges() if row.contract == late.id] == [day("03-03"), day("03-04")]
    assert world.said("LedgerBalanced")[0] == "True"


async def test_i8_a_restart_says_no_other_thing_of_the_books_before_it_has_audited() -> None:
    world, ledger, inputs, _ = await a_buyer(FakeSink())
    await world.pass_to("03-04T09:00:00")
    (right,) = plan_lot_days(inputs, UnitPrices(), posted_through=day("03-03"), today=day("03-05"))
    await ledger.append([replace(right, price="1.00")], now=world.clock.now())
    await world.pass_to("03-06T09:00:00")
    world.kill_operators()
    world.clock.forward(days=1)
    operator = world.start_operator()
    said = set()
    while await operator.turn():
        said.add(world.said("LedgerBalanced")[:2])
    assert said == {("False", "Mismatch")}
