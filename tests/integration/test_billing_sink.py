"""Our sink against a real HTTP server: what is sent, what an answer means, and how patient it is (M7)."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime

import pytest
from cloudevents.core.bindings.http import HTTPMessage, from_structured_event

from reserved_capacity.adapters.billing_sink import ATTEMPTS, HttpBillingSink
from reserved_capacity.ledger_ports import Event, EventType, SinkError, SinkRefused, SinkUnavailable
from tests.fakes.sink import CUT, HOLD, LOST, HttpSink

NOW = datetime(2026, 3, 5, 12, 30, tzinfo=UTC)
TOKEN = "a-token"  # noqa: S105 - of nothing
SOURCE = "//5b0e2f5c-0000-4000-8000-000000000000"


def event(number: int, kind: EventType = EventType.CHARGE) -> Event:
    data = {"account": "acme", "commitment": "po-1", "amount": "52.00", "note": "Größe"}
    return Event("acme", number, kind, f"po-1/2026-03-{number:02d}/Charge", NOW, data)


class Naps:
    """Instead of sleeping: what was asked for."""

    def __init__(self) -> None:
        self.seconds: list[float] = []

    async def __call__(self, seconds: float) -> None:
        self.seconds.append(seconds)


@asynccontextmanager
async def talking(
    answers: Callable[[int], int | tuple[int, dict[str, str]]] = lambda _: 204, **options: object
) -> AsyncIterator[tuple[HttpSink, HttpBillingSink, Naps]]:
    naps = Naps()
    async with HttpSink(answers) as server:
        settings = {"source": SOURCE, "sleep": naps, **options}
        async with HttpBillingSink(server.url, **settings) as sink:  # type: ignore[arg-type]
            yield server, sink, naps


async def test_one_event_goes_in_structured_mode_as_the_api_says() -> None:
    async with talking(token=TOKEN) as (server, sink, _):
        await sink.deliver([event(2)])
        ((content_type, (sent,)),) = server.requests
        assert content_type == "application/cloudevents+json"
        assert server.headers[0]["Authorization"] == f"Bearer {TOKEN}"
        assert sent == {
            "specversion": "1.0",
            "id": "po-1/2026-03-02/Charge",
            "source": SOURCE,
            "type": "io.reservedcapacity.charge.v1",
            "subject": "acme",
            "time": "2026-03-05T12:30:00Z",
            "datacontenttype": "application/json",
            "data": {"account": "acme", "commitment": "po-1", "amount": "52.00", "note": "Größe"},
        }


async def test_several_events_go_as_one_batch_in_their_order() -> None:
    async with talking() as (server, sink, _):
        events = [event(3), event(2, EventType.CREDIT), event(4)]
        await sink.deliver(events)
        ((content_type, sent),) = server.requests
        assert content_type == "application/cloudevents-batch+json"
        assert [each["id"] for each in sent] == [each.id for each in events]
        assert sent[1]["type"] == "io.reservedcapacity.credit.v1"


async def test_another_implementation_reads_what_we_send() -> None:
    async with talking() as (server, sink, _):
        await sink.deliver([event(2)])
        body = json.dumps(server.requests[0][1][0]).encode()
        read = from_structured_event(HTTPMessage({"content-type": "application/cloudevents+json"}, body))
        assert (read.get_id(), read.get_subject(), read.get_time()) == ("po-1/2026-03-02/Charge", "acme", NOW)


@pytest.mark.parametrize("code", [405, 415, 501])
async def test_a_sink_that_takes_no_batches_is_asked_once_and_gets_them_one_by_one(code: int) -> None:
    async with talking(lambda number: code if number == 0 else 202) as (server, sink, _):
        await sink.deliver([event(1), event(2)])
        await sink.deliver([event(3), event(4)])
        assert [len(events) for _, events in server.requests] == [2, 1, 1, 1, 1]
        assert len(server.received.kept["acme"]) == 4


@pytest.mark.parametrize(("answer", "error"), [(503, SinkUnavailable), (422, SinkRefused)])
async def test_where_one_by_one_is_the_way_a_failure_says_how_many_were_taken(
    answer: int, error: type[SinkError]
) -> None:
    async with talking(lambda number: 415 if number == 0 else 204 if number < 3 else answer) as (_, sink, _naps):
        with pytest.raises(error) as failed:
            await sink.deliver([event(number) for number in range(1, 5)])
        assert failed.value.taken == 2


async def test_what_billing_has_already_counts_as_delivered() -> None:
    async with talking(lambda number: 409 if number < 2 else 204) as (server, sink, _):
        await sink.deliver([event(1), event(2)])
        assert [len(events) for _, events in server.requests] == [2, 1, 1], "of a batch, some may be new"
        await sink.deliver([event(3), event(4)])
        assert [len(events) for _, events in server.requests][3:] == [2]


@pytest.mark.parametrize("bad", [500, 502, 503, 429, 408, CUT, LOST])
async def test_what_fails_is_sent_again_under_the_same_id(bad: int) -> None:
    async with talking(lambda number: bad if number < ATTEMPTS - 1 else 204) as (server, sink, naps):
        await sink.deliver([event(1)])
        assert len(server.requests) == ATTEMPTS
        assert len({events[0]["id"] for _, events in server.requests}) == 1
        assert server.received.kept["acme"] == [event(1).id]
        assert len(naps.seconds) == ATTEMPTS - 1
        assert all(0 <= seconds <= 5 for seconds in naps.seconds)


async def test_a_sink_that_stays_down_is_left_after_a_few_attempts() -> None:
    async with talking(lambda _: 503) as (server, sink, _):
        with pytest.raises(SinkUnavailable, match="503: no, because"):
            await sink.deliver([event(1), event(2)])
        assert len(server.requests) == ATTEMPTS


async def test_a_sink_that_does_not_answer_is_given_up() -> None:
    async with talking(lambda _: HOLD, attempt_seconds=0.05) as (server, sink, _):
        with pytest.raises(SinkUnavailable, match="does not answer"):
            await sink.deliver([event(1)])
        assert len(server.requests) == ATTEMPTS


async def test_a_sink_that_is_not_there_is_unavailable() -> None:
    async with talking() as (server, sink, _):
        gone = server.url
    naps = Naps()
    async with HttpBillingSink(gone, source=SOURCE, sleep=naps) as sink:
        with pytest.raises(SinkUnavailable):
            await sink.deliver([event(1)])
    assert len(naps.seconds) == ATTEMPTS - 1


async def test_retry_after_is_honoured() -> None:
    async with talking(lambda number: (429, {"Retry-After": "3"}) if number == 0 else 204) as (_, sink, naps):
        await sink.deliver([event(1)])
        assert 3 <= naps.seconds[0] <= 5


@pytest.mark.parametrize("as_date", [False, True])
async def test_who_is_asked_to_wait_for_long_gives_the_worker_back(as_date: bool) -> None:
    given = format_datetime(datetime.now(UTC) + timedelta(seconds=600), usegmt=True) if as_date else "600"
    async with talking(lambda _: (503, {"Retry-After": given})) as (server, sink, naps):
        with pytest.raises(SinkUnavailable) as caught:
            await sink.deliver([event(1)])
        assert caught.value.retry_after == pytest.approx(600, abs=60)
        assert (len(server.requests), naps.seconds) == (1, [])


@pytest.mark.parametrize("code", [400, 413, 422])
async def test_what_billing_does_not_take_is_not_sent_again(code: int) -> None:
    async with talking(lambda _: code) as (server, sink, _):
        with pytest.raises(SinkRefused, match=str(code)):
            await sink.deliver([event(1), event(2)])
        assert len(server.requests) == 1


@pytest.mark.parametrize("code", [301, 401, 403, 404])
async def test_a_wrong_address_or_token_is_tried_again_slowly(code: int) -> None:
    async with talking(lambda _: (code, {"Location": "/elsewhere"})) as (server, sink, _):
        with pytest.raises(SinkUnavailable) as caught:
            await sink.deliver([event(1), event(2)])
        assert caught.value.retry_after == 60
        assert len(server.requests) == 1
