"""Owns a customer's side: one chat request to the gateway, as a JSON answer or a stream, and what its usage says."""

from __future__ import annotations

import functools
import http.client
import json
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, ParamSpec

P = ParamSpec("P")

# What an answer has used is counted a moment after its end; who asks on at once is admitted by the counters of before.
COUNTED_SECONDS = 0.1


@dataclass(frozen=True)
class Answer:
    """Of a refused request there is no usage. `cached` are those of the input tokens that the server had already."""

    status: int
    headers: dict[str, str]
    input_tokens: int = 0
    output_tokens: int = 0
    cached_tokens: int = 0

    @property
    def served(self) -> bool:
        return self.status == 200

    @property
    def spilled(self) -> bool:
        return self.headers.get("x-reserved-capacity") == "spilled"


@dataclass(frozen=True)
class Customer:
    """One account's client. Its prompts are its own, so that the server's cache has nothing of another one's."""

    port: int
    offering: str
    account: str

    def ask(self, words: str = "hello", tokens: int = 20, *, stream: bool = False, **changed: Any) -> Answer:
        """`changed` goes into the body; `usage=False` asks for a stream without it."""
        body: dict[str, Any] = {
            "model": self.offering,
            "messages": [{"role": "user", "content": f"{self.account}: {words}"}],
            "max_tokens": tokens,
            "ignore_eos": True,
        }
        if stream:
            body |= {"stream": True, "stream_options": {"include_usage": True}}
        return self.send(body | changed)

    def send(self, body: dict[str, Any] | bytes, **headers: str) -> Answer:
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=20)
        try:
            sent = body if isinstance(body, bytes) else json.dumps(body).encode()
            usual = {"Host": self.offering, "Authorization": f"Bearer key-{self.account}"}
            usual |= {"Content-Type": "application/json"}
            connection.request("POST", "/v1/chat/completions", sent, usual | headers)
            answer = connection.getresponse()
            text = answer.read().decode(errors="replace")
            return _answer(answer.status, {key.lower(): value for key, value in answer.getheaders()}, text)
        finally:
            connection.close()


def _answer(status: int, headers: dict[str, str], text: str) -> Answer:
    if status != 200:
        return Answer(status, headers)
    events = [line.removeprefix("data: ") for line in text.splitlines() if line.startswith("data: {")]
    usage = next(found for event in reversed(events or [text]) if (found := json.loads(event).get("usage")))
    cached = (usage.get("prompt_tokens_details") or {}).get("cached_tokens", 0)
    return Answer(status, headers, usage["prompt_tokens"], usage["completion_tokens"], cached)


def left_of_the_minute() -> float:
    """Seconds until every counter begins anew."""
    return 60 - time.time() % 60


def in_one_minute(seconds: float) -> Callable[[Callable[P, None]], Callable[P, None]]:
    """A test of what one minute's counters admit. It begins with so much of a minute left, and a machine that is too slow
    for that begins it again, with the next minute: with the counters the test's arithmetic would begin anew in the middle."""

    def decorated(test: Callable[P, None]) -> Callable[P, None]:
        @functools.wraps(test)
        def wrapped(*args: P.args, **kwargs: P.kwargs) -> None:
            have_time(seconds)
            for last in (False, False, True):
                minute = time.time() // 60
                try:
                    test(*args, **kwargs)
                except AssertionError:
                    if last or time.time() // 60 == minute:
                        raise
                else:
                    if last or time.time() // 60 == minute:
                        return
                time.sleep(left_of_the_minute() + 0.1)

        return wrapped

    return decorated


def have_time(seconds: float) -> None:
    """Wait for the next minute where less than this is left of the present one."""
    left = left_of_the_minute()
    if left < seconds:
        time.sleep(left + 0.1)
