"""Owns how billing is told: CloudEvents 1.0 over HTTP, as OpenMeter and its like take them (api.md, Keys; behaviour.md M7).

Several events go as one batch, one alone in structured mode; a sink that takes no batches gets them one by one. What an
answer means is decided here: taken, had already (409), try again (429, 5xx, no answer), or not these events (400, 413,
422). Sending again is always safe, because an event's id is its idempotency key.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable, Mapping, Sequence
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from types import TracebackType

import aiohttp
from cloudevents.core.bindings.http import HTTPMessage, to_structured
from cloudevents.core.formats.json import JSONFormat
from cloudevents.core.v1.event import CloudEvent
from tenacity import AsyncRetrying, RetryCallState, retry_if_exception, stop_after_attempt, wait_random_exponential

from reserved_capacity.ledger_ports import Event, SinkError, SinkRefused, SinkUnavailable

ATTEMPTS = 4
ATTEMPT_SECONDS = 10.0
LONGEST_WAIT_SECONDS = 5.0
"""Who is asked to wait longer than this gives the worker back, and comes again."""
MISCONFIGURED_RETRY_SECONDS = 60.0

_BATCH = "application/cloudevents-batch+json"
_FORMAT = JSONFormat()
_NOT_THESE = frozenset({400, 413, 422})
_NO_BATCHES = frozenset({405, 406, 415, 501})
_AGAIN = frozenset({408, 425, 429})


class HttpBillingSink:
    """`reserved_capacity.ledger_ports.BillingSink`. `source` is the CloudEvents' source, `token` goes as a bearer token.

    Make it inside the event loop; `close()` it, or use it as a context.
    """

    def __init__(
        self,
        url: str,
        *,
        source: str,
        token: str | None = None,
        attempt_seconds: float = ATTEMPT_SECONDS,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        self._url = url
        self._source = source
        self._sleep = sleep
        self._takes_batches = True
        # No proxy from the environment: whoever can set a variable could read what customers pay.
        self._session = aiohttp.ClientSession(
            timeout=aiohttp.ClientTimeout(total=attempt_seconds),
            headers={"Authorization": f"Bearer {token}"} if token else {},
            trust_env=False,
        )

    async def __aenter__(self) -> HttpBillingSink:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    async def close(self) -> None:
        await self._session.close()

    async def deliver(self, events: Sequence[Event]) -> None:
        """See the port. Tries a few times by itself before it gives up."""
        if len(events) > 1 and self._takes_batches and await self._deliver_batch(events):
            return
        for number, event in enumerate(events):
            try:
                await self._send(to_structured(cloud_event(event, self._source), _FORMAT))
            except SinkError as error:
                error.taken = number
                raise

    async def _deliver_batch(self, events: Sequence[Event]) -> bool:
        """False: one by one is the way, as no batches are taken, or of this one something is known already."""
        body = b",".join(_FORMAT.write(cloud_event(event, self._source)) for event in events)
        code = await self._send(HTTPMessage({"content-type": _BATCH}, b"[" + body + b"]"), batch=True)
        self._takes_batches = code not in _NO_BATCHES
        return code < 300

    async def _send(self, message: HTTPMessage, *, batch: bool = False) -> int:
        """The status of an answer that settles it: below 300, or for a batch 409 or one of _NO_BATCHES."""
        backing_off = AsyncRetrying(
            stop=stop_after_attempt(ATTEMPTS),
            retry=retry_if_exception(_worth_another),
            wait=_wait,
            sleep=self._sleep,
            reraise=True,
        )
        return await backing_off(self._attempt, message, batch)

    async def _attempt(self, message: HTTPMessage, batch: bool) -> int:
        try:
            request = self._session.post(self._url, data=message.body, headers=message.headers, allow_redirects=False)
            async with request as answer:
                code, headers = answer.status, dict(answer.headers)
                if code < 300 or code == 409 or (batch and code in _NO_BATCHES):
                    return code
                text = (await answer.content.read(300)).decode("utf-8", errors="replace")
        except (aiohttp.ClientError, TimeoutError, OSError) as error:
            raise SinkUnavailable(f"billing does not answer: {type(error).__name__}: {error}"[:300]) from None
        raise _failure(code, headers, text)


def cloud_event(event: Event, source: str) -> CloudEvent:
    return CloudEvent(
        {
            "id": event.id,
            "source": source,
            "specversion": "1.0",
            "type": f"io.reservedcapacity.{event.type}.v1",
            "subject": event.account,
            "time": event.time.astimezone(UTC),
            "datacontenttype": "application/json",
        },
        dict(event.data),
    )


def _failure(code: int, headers: Mapping[str, str], text: str) -> SinkError:
    message = f"billing answers {code}: {' '.join(text.split())}"
    if code in _NOT_THESE:
        return SinkRefused(message)
    if code in _AGAIN or code >= 500:
        return SinkUnavailable(message, retry_after=_retry_after(headers))
    # A wrong address, a wrong token, a redirect: nothing that another attempt in a second mends.
    return SinkUnavailable(message, retry_after=MISCONFIGURED_RETRY_SECONDS)


def _retry_after(headers: Mapping[str, str]) -> float | None:
    given = headers.get("Retry-After", "")
    with contextlib.suppress(ValueError):
        return max(0.0, float(given))
    with contextlib.suppress(ValueError, TypeError):
        return max(0.0, (parsedate_to_datetime(given) - datetime.now(UTC)).total_seconds())
    return None


def _worth_another(error: BaseException) -> bool:
    return isinstance(error, SinkUnavailable) and (error.retry_after or 0.0) <= LONGEST_WAIT_SECONDS


_jitter = wait_random_exponential(multiplier=0.2, max=LONGEST_WAIT_SECONDS)


def _wait(state: RetryCallState) -> float:
    error = state.outcome.exception() if state.outcome is not None else None
    asked = error.retry_after if isinstance(error, SinkUnavailable) else None
    return max(asked or 0.0, _jitter(state))
