"""Delivery of an account's events over the ports: order, crashes, refusals, and two operators (M7)."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta

import pytest

from reserved_capacity.ledger_ports import Event, LedgerUnavailable, SinkError, SinkRefused, SinkUnavailable
from reserved_capacity.reconcilers.billing.delivery import CLAIM_SECONDS, Delivery, deliver
from tests.contract.ledger_port import NOW, charge
from tests.fakes.ledger import FakeLedger
from tests.fakes.sink import FakeSink


class StoppedClock:
    def __init__(self, now: datetime) -> None:
        self.moment = now

    def now(self) -> datetime:
        return self.moment

    def recorded(self, api_timestamp: datetime) -> datetime:
        return api_timestamp


class Desk:
    """Books with some days posted, a sink, and operators that deliver from one to the other."""

    def __init__(self) -> None:
        self.ledger = FakeLedger()
        self.sink = FakeSink()
        self.clock = StoppedClock(NOW)

    async def post(self, *numbers: int) -> list[str]:
        rows = [charge(number) for number in numbers]
        await self.ledger.append(rows, now=NOW)
        return [row.key for row in rows]

    async def turn(self, owner: str = "one", limit: int = 10) -> Delivery:
        return await deliver(self.ledger, self.sink, "acme", owner=owner, clock=self.clock, limit=limit)

    @property
    def kept(self) -> list[str]:
        return self.sink.received.kept.get("acme", [])


@pytest.fixture
def desk() -> Desk:
    return Desk()


async def test_m7_batches_follow_each_other_until_nothing_is_left(desk: Desk) -> None:
    ids = await desk.post(*range(1, 6))
    assert [await desk.turn(limit=2) for _ in range(4)] == [
        Delivery(2, more=True),
        Delivery(2, more=True),
        Delivery(1),
        Delivery(),
    ]
    assert desk.kept == ids
    assert len(desk.sink.received.sent) == 5


async def test_m7_a_lost_answer_sends_the_same_ids_again_in_the_same_order(desk: Desk) -> None:
    ids = await desk.post(1, 2, 3)
    desk.sink.failures = [(True, SinkUnavailable("lost")), SinkUnavailable("down")]
    for _ in range(2):
        with pytest.raises(SinkUnavailable):
            await desk.turn(limit=2)
    await desk.turn(limit=2)
    await desk.turn(limit=2)
    assert desk.kept == ids


async def test_m7_a_mark_that_failed_sends_again_and_skips_nothing(desk: Desk) -> None:
    ids = await desk.post(1, 2, 3)
    deliver_to = desk.sink.deliver

    async def then_the_database_goes(events: Sequence[Event]) -> None:
        await deliver_to(events)
        desk.ledger.failure = LedgerUnavailable("gone")

    desk.sink.deliver = then_the_database_goes  # type: ignore[method-assign]
    with pytest.raises(LedgerUnavailable):
        await desk.turn(limit=2)
    desk.sink.deliver = deliver_to  # type: ignore[method-assign]
    desk.ledger.failure = None
    while (await desk.turn(limit=2)).more:
        pass
    assert desk.kept == ids
    assert len(desk.sink.received.sent) == 5


async def test_one_event_that_billing_refuses_holds_up_what_is_behind_it_and_nothing_else(desk: Desk) -> None:
    ids = await desk.post(*range(1, 9))

    def refuse(event: Event) -> SinkError | None:
        return SinkRefused("no") if event.id == ids[5] else None

    desk.sink.refuses = refuse
    turns = [await desk.turn() for _ in range(2)]
    assert all(turn.more for turn in turns)
    assert desk.kept == ids[:5]
    for _ in range(2):
        with pytest.raises(SinkRefused):
            await desk.turn()
    assert desk.kept == ids[:5], "nothing overtakes it"
    desk.sink.refuses = lambda _: None
    await desk.turn()
    assert desk.kept == ids


async def test_m7_what_was_taken_before_a_failure_counts_and_the_rest_is_tried_at_once(desk: Desk) -> None:
    """Of a sink that takes no batches, half of whose answers are lost, a hundred in a row would never be confirmed."""
    ids = await desk.post(*range(1, 9))
    deliver_to, tries = desk.sink.deliver, iter((3, 0, 4))

    async def stop_after_some(events: Sequence[Event]) -> None:
        taken = next(tries, len(events))
        await deliver_to(events[:taken])
        if taken < len(events):
            error = SinkUnavailable("lost")
            error.taken = taken
            raise error

    desk.sink.deliver = stop_after_some  # type: ignore[method-assign]
    assert await desk.turn() == Delivery(3, more=True)
    with pytest.raises(SinkUnavailable):
        await desk.turn()
    assert await desk.turn() == Delivery(4, more=True)
    assert await desk.turn() == Delivery(1)
    assert desk.kept == ids == [identity for _, identity in desk.sink.received.sent]


async def test_while_one_operator_delivers_the_other_leaves_the_account_alone(desk: Desk) -> None:
    ids = await desk.post(1, 2)
    assert await desk.turn("one", limit=1) == Delivery(1, more=True)
    assert await desk.turn("two", limit=1) == Delivery(busy=True)
    desk.clock.moment += timedelta(seconds=CLAIM_SECONDS)
    assert await desk.turn("two") == Delivery(1)
    assert desk.kept == ids


async def test_an_operator_that_was_asleep_changes_no_order(desk: Desk) -> None:
    ids = await desk.post(1, 2, 3, 4)
    asleep = await desk.ledger.pending("acme", 2)
    while (await desk.turn("two", limit=2)).more:
        pass
    await desk.sink.deliver(asleep)
    await desk.ledger.delivered(asleep)
    assert desk.kept == ids
    assert await desk.ledger.pending("acme", 9) == ()
