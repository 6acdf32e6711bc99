"""What counts is what the server's usage says: images, cached tokens, long context (behaviour.md, api.md `tokenUnits`).

The real Envoy, rate-limit service and store, in front of a stand-in for a large model's server. The stand-in is held to the
shape of the real server's answers: a figure that the gateway reads from one it reads from the other.
"""

from __future__ import annotations

import http.client
import json
import time
from collections.abc import Iterator
from decimal import Decimal
from typing import Any

import pytest

from e2e.cluster.lifecycle import Cluster
from e2e.cluster.ports import free_port
from e2e.gateway.asking import COUNTED_SECONDS, Answer, in_one_minute, left_of_the_minute
from e2e.gateway.bootstrap import Offering
from e2e.gateway.publishing import entry, units
from e2e.gateway.standin import CONTEXT, IMAGE_TOKENS
from e2e.test_gateway import Play, counters, playing
from e2e.waiting import until

LARGE, REAL = "gpt-4o", "random"
BASE = (50_000, 50_000)
HALF = Decimal("0.5")
ACCOUNTS = ("images", "spilling", "cached", "plain", "long", "excluded")
IMAGE = {"type": "image_url", "image_url": {"url": "data:image/png;base64,iVBORw0KGgo=", "detail": "high"}}


@pytest.fixture(scope="module")
def play(cluster: Cluster, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Play]:
    offerings = (Offering(LARGE, free_port(), HALF, stands_in=True), Offering(REAL, free_port()))
    with playing(cluster, tmp_path_factory.mktemp("modalities"), offerings, ACCOUNTS, BASE) as play:
        yield play


def seen(account: str, images: int, words: str = "what is this") -> list[dict[str, Any]]:
    """A message of words and images."""
    content = [{"type": "text", "text": f"{account} {words}"}, *[IMAGE] * images]
    return [{"role": "user", "content": content}]


def asked(play: Play, account: str, messages: list[dict[str, Any]], *, stream: bool = False, **more: Any) -> Answer:
    return play.customer(account, LARGE).ask(tokens=7, stream=stream, messages=messages, **more)


def counts(play: Play, account: str, input_tokens: int, output_tokens: int) -> None:
    until(
        lambda: (
            (
                play.gateway.counted(LARGE, account, "tokens", "input"),
                play.gateway.counted(LARGE, account, "tokens", "output"),
            )
            == (input_tokens, output_tokens)
        ),
        f"{account} has used {input_tokens} and {output_tokens} tokens",
        left_of_the_minute(),
    )


@in_one_minute(15)
def test_t3_an_image_counts_by_the_usage_that_the_server_tells(play: Play) -> None:
    """In JSON and in a stream; the gateway knows nothing of images, and needs not."""
    answers = [asked(play, "images", seen("images", number), stream=number == 2) for number in (0, 1, 2)]
    assert [each.input_tokens for each in answers] == [4, 4 + IMAGE_TOKENS, 4 + 2 * IMAGE_TOKENS]
    counts(play, "images", 12 + 3 * IMAGE_TOKENS, 21)


@in_one_minute(15)
def test_t3_images_use_up_the_units_and_then_the_base(play: Play) -> None:
    play.publish(LARGE, entry("spilling", (800, 500), units("spilling/gpt", (1_000, 500))))
    answers = []
    for number in range(4):
        answers.append(asked(play, "spilling", seen("spilling", 1, f"look {number}")))
        time.sleep(COUNTED_SECONDS)
    assert [each.status for each in answers] == [200, 200, 200, 429]
    assert [each.spilled for each in answers[:3]] == [False, False, True]


@in_one_minute(15)
def test_a_cached_image_counts_by_the_weight_of_the_offering_and_is_told_apart(play: Play) -> None:
    messages, told = seen("cached", 2, f"at {time.time()}"), of_cached(play)
    before, after = (asked(play, "cached", messages, stream=stream) for stream in (False, True))
    assert before.cached_tokens == 0
    assert after.cached_tokens == after.input_tokens // 128 * 128
    assert after.input_tokens > 2 * IMAGE_TOKENS
    counts(play, "cached", before.input_tokens + after.input_tokens - after.cached_tokens // 2, 14)
    expected = (told[0] + before.input_tokens + after.input_tokens, told[1] + after.cached_tokens)
    until(lambda: of_cached(play) == expected, "Envoy tells them apart")


def of_cached(play: Play) -> tuple[int, int]:
    """Envoy's own counters of the account: input tokens, and the cached ones of them."""
    tokens = {each[2]: value for each, value in counters(play, "tokens", "direction").items() if each[0] == "cached"}
    return tokens.get("input", 0), tokens.get("cached_input", 0)


@in_one_minute(15)
def test_a_server_that_does_not_tell_cached_tokens_apart_counts_them_in_full(play: Play) -> None:
    """vLLM without `--enable-prompt-tokens-details` says null."""
    answers = [
        asked(play, "plain", seen("plain", 2), stream=stream, cached_details=None) for stream in (False, True, False)
    ]
    assert all(each.served for each in answers)
    counts(play, "plain", 3 * (4 + 2 * IMAGE_TOKENS), 21)


@in_one_minute(15)
def test_long_context_that_is_included_counts_in_full_and_one_request_may_be_worth_a_minute(play: Play) -> None:
    first = asked(play, "long", seen("long", 0, "word " * 60_000))
    assert (first.served, first.input_tokens) == (True, 60_001)
    counts(play, "long", 60_001, 7)
    assert asked(play, "long", seen("long", 0)).status == 429, "it took more than the minute's 50,000"


@in_one_minute(15)
def test_long_context_that_the_server_excludes_is_refused_by_it_and_costs_nothing(play: Play) -> None:
    refused = asked(play, "excluded", seen("excluded", 0, "word " * (CONTEXT + 1)))
    assert refused.status == 400
    served = asked(play, "excluded", seen("excluded", 0))
    counts(play, "excluded", served.input_tokens, 7)
    until(lambda: counters(play, "requests", "outcome").get(("excluded", LARGE, "invalid")), "it is counted")


@pytest.mark.parametrize("stream", [False, True])
def test_the_stand_in_answers_in_the_shape_of_the_real_server(play: Play, stream: bool) -> None:
    """All that it says the real one says too, of the same type, and of usage all that the real one says."""
    # The model's weights are random: where its answer begins with half a character, the server leaves out who speaks.
    real = until(
        lambda: _begun(_documents(play, REAL, stream), stream), "the real server begins with a whole character"
    )
    standing_in = _documents(play, LARGE, stream)
    assert real[0] == standing_in[0], "content type"
    for place in (0, -1):  # the first and the last document: what is between differs in number only
        missing = standing_in[1][place] - real[1][place]
        assert not missing, f"the real server does not say {sorted(missing)}"
    usage = [{each for each in told[-1] if each.startswith(".usage")} for _, told in (real, standing_in)]
    assert usage[0] == usage[1]


def _begun(answer: tuple[str, list[set[str]]], stream: bool) -> tuple[str, list[set[str]]] | None:
    return answer if not stream or ".choices[].delta.role: str" in answer[1][0] else None


def _documents(play: Play, offering: str, stream: bool) -> tuple[str, list[set[str]]]:
    """Content type, and of each JSON document the paths in it with their types, straight from the server."""
    port = next(each.port for each in play.gateway.offerings if each.name == offering)
    body: dict[str, Any] = {"messages": [{"role": "user", "content": f"hello {time.time()}"}], "max_tokens": 3}
    if stream:
        body |= {"stream": True, "stream_options": {"include_usage": True}}
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=20)
    try:
        connection.request("POST", "/v1/chat/completions", json.dumps(body), {"Content-Type": "application/json"})
        answer = connection.getresponse()
        text, kind = answer.read().decode(), answer.headers["Content-Type"]
    finally:
        connection.close()
    events = [line.removeprefix("data: ") for line in text.splitlines() if line.startswith("data: {")]
    return kind, [set(_paths(json.loads(each))) for each in (events if stream else [text])]


def _paths(value: Any, place: str = "") -> Iterator[str]:
    if isinstance(value, dict):
        for key, each in value.items():
            yield from _paths(each, f"{place}.{key}")
    elif isinstance(value, list):
        for each in value:
            yield from _paths(each, f"{place}[]")
    else:
        yield f"{place}: {type(value).__name__}"
