"""What limits mean on a real gateway: Envoy, the rate-limit service and its store, and a server that counts real tokens.

Limits are published as ConfigMaps on a real API server, as the operator does. Every test has accounts of its own, so none
waits for another one's minute. Exactness: a request is admitted while less than the limit is used, and its tokens are
known when it ends, so a minute's total is the limit and less than what was under way when it was reached.
"""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from prometheus_client.parser import text_string_to_metric_families

from e2e.cluster.lifecycle import Cluster
from e2e.cluster.ports import free_port
from e2e.cluster.state import CHECKOUT
from e2e.gateway.asking import COUNTED_SECONDS, Answer, Customer, have_time, in_one_minute, left_of_the_minute
from e2e.gateway.bootstrap import Offering
from e2e.gateway.install import programs
from e2e.gateway.publishing import config_map, entry, units
from e2e.gateway.running import ENVOY, FOLLOWER, SERVICE, Gateway
from e2e.operator import NAMESPACE, service_account_kubeconfig
from e2e.waiting import until

GPT, MINI = "gpt-4.1", "gpt-4.1-mini"
ACCOUNTS = ("acme", "beta", "spill", "reject", "shadow", "raised", "restarted", "cached", "prices", "nobody", "closed")
FOLLOWED_SECONDS = 30.0
BASE = (400, 400)


@dataclass
class Play:
    """The gateway, and what is published for it."""

    cluster: Cluster
    gateway: Gateway
    published: dict[str, dict[str, dict[str, Any]]] = field(default_factory=dict)

    def publish(self, offering: str, *entries: dict[str, Any], wait: bool = True) -> None:
        """These in place of the entries of the same accounts; returns when they are in force."""
        of_offering = self.published.setdefault(offering, {})
        if all(of_offering.get(each["account"]) == each for each in entries):
            return
        of_offering.update({each["account"]: each for each in entries})
        document = config_map(offering, NAMESPACE, list(of_offering.values()))
        before = self.gateway.config() if wait else frozenset()
        self.cluster.kubectl("apply", "--server-side", "-f", "-", input=json.dumps(document))
        if wait:
            until(lambda: self.gateway.config() != before, "the service has the limits")

    def customer(self, account: str, offering: str = GPT) -> Customer:
        return Customer(self.gateway.ports["gateway"], offering, account)


@contextmanager
def playing(
    cluster: Cluster, directory: Path, offerings: tuple[Offering, ...], accounts: tuple[str, ...], base: tuple[int, int]
) -> Iterator[Play]:
    """Everybody has the base, of each offering."""
    for part in ("install", "gateway"):
        cluster.kubectl("apply", "--server-side", "-k", str(CHECKOUT / "manifests" / part))
    rights = service_account_kubeconfig(cluster, directory / "kubeconfig", NAMESPACE, "reserved-capacity-gateway")
    gateway = Gateway(programs(), directory, offerings, accounts, rights, NAMESPACE)
    play = Play(cluster, gateway)
    for offering in offerings:
        play.publish(offering.name, entry("*", base), wait=False)
    try:
        gateway.start()
        yield play
    finally:
        gateway.stop()
        published = [f"limits-{offering.name}" for offering in offerings]
        cluster.kubectl("delete", "configmap", *published, "-n", NAMESPACE, "--ignore-not-found")
        cluster.kubectl("delete", "-k", str(CHECKOUT / "manifests/gateway"), "--ignore-not-found")


@pytest.fixture(scope="module")
def play(cluster: Cluster, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Play]:
    offerings = (Offering(GPT, free_port()), Offering(MINI, free_port(), Decimal("0.25")))
    with playing(cluster, tmp_path_factory.mktemp("gateway"), offerings, ACCOUNTS, BASE) as play:
        yield play


def ask_until_refused(customer: Customer, words: str = "hello", tokens: int = 20) -> list[Answer]:
    """JSON and stream in turn, one after the other; the last answer is the refusal."""
    answers: list[Answer] = []
    while not answers or answers[-1].served:
        answers.append(customer.ask(words, tokens, stream=len(answers) % 2 == 1))
        assert answers[-1].status in (200, 429), answers[-1]
        assert len(answers) < 500, "nobody is ever refused"
        time.sleep(COUNTED_SECONDS)
    return answers


def used(answers: list[Answer]) -> tuple[int, int]:
    return sum(each.input_tokens for each in answers), sum(each.output_tokens for each in answers)


def counters(play: Play, name: str, *labels: str) -> dict[tuple[str, ...], int]:
    """Envoy's own, by account, offering and what else is named."""
    text = play.gateway.page(play.gateway.ports["admin"], "/stats/prometheus")
    return {
        tuple(sample.labels[label] for label in ("account", "offering", *labels)): int(sample.value)
        for family in text_string_to_metric_families(text)
        for sample in family.samples
        if sample.name in (f"envoy_reserved_capacity_{name}", f"envoy_reserved_capacity_{name}_total")
    }


@in_one_minute(20)
def test_t3_an_account_with_units_gets_base_and_units_of_a_minute_and_one_without_only_the_base(play: Play) -> None:
    """Input decides for one, output for the other. Units first: what is above them is marked as spilled."""
    play.publish(GPT, entry("acme", BASE, units("acme/gpt", (900, 5_000))))
    acme, beta = play.customer("acme"), play.customer("beta")
    with ThreadPoolExecutor() as pool:
        with_units, without = pool.map(lambda each: ask_until_refused(*each), ((acme, "x" * 60, 5), (beta, "x", 50)))

    most = max(each.input_tokens for each in with_units)
    assert 1_300 <= used(with_units)[0] < 1_300 + 2 * most
    first_spilled = next(at for at, each in enumerate(with_units) if each.spilled)
    assert 900 <= used(with_units[:first_spilled])[0] < 900 + 2 * most
    assert all(each.spilled for each in with_units[first_spilled:-1])

    assert 400 <= used(without)[1] < 400 + 2 * 50
    assert not any(each.spilled for each in without)

    for refused in (with_units[-1], without[-1]):
        assert refused.status == 429
        assert 0 < int(refused.headers["retry-after"]) <= 60


def test_t3_reject_leaves_the_base_alone_and_serves_again_with_the_next_minute(play: Play) -> None:
    play.publish(GPT, entry("reject", BASE, units("reject/gpt", (600, 5_000), overflow="Reject")))
    customer = play.customer("reject")
    units_and_no_more(customer)
    minute = time.time() // 60
    while time.time() // 60 == minute:
        answer = customer.ask()
        assert answer.status == 429 or time.time() // 60 > minute, "refused to the end of the minute"
        time.sleep(min(5, left_of_the_minute() + 0.1))
    assert customer.ask().served


@in_one_minute(10)
def units_and_no_more(customer: Customer) -> None:
    answers = ask_until_refused(customer, "x" * 60, 5)
    refused, left = answers[-1], left_of_the_minute()
    wait = int(refused.headers["retry-after"])
    assert 600 <= used(answers)[0] < 600 + 2 * answers[0].input_tokens
    assert not any(each.spilled for each in answers)
    assert left - 2 <= wait <= left + 5, "a slow machine has asked a while ago"


@in_one_minute(10)
def test_t3_shadow_counts_and_never_refuses(play: Play) -> None:
    play.publish(GPT, entry("shadow", (100, 100), units("shadow/gpt", (100, 100), enforcement="Shadow")))
    answers = [play.customer("shadow").ask(tokens=30) for _ in range(12)]
    assert all(each.served for each in answers)
    assert used(answers)[1] == 360
    until(
        lambda: play.gateway.counted(GPT, "shadow", "tokens", "output") == 360, "all is counted", left_of_the_minute()
    )
    until(lambda: counters(play, "requests", "outcome").get(("shadow", GPT, "shadowed"), 0) > 4, "it is told")


def test_t3_a_limit_of_nothing_admits_nobody(play: Play) -> None:
    """Nothing bought and no base is not one request for free."""
    play.publish(GPT, entry("closed", (0, 0)))
    assert play.customer("closed").ask().status == 429
    assert play.gateway.counted(GPT, "closed", "tokens", "input") == 0


@in_one_minute(20)
def test_limits_follow_the_config_map_within_seconds_and_no_token_is_forgotten(play: Play) -> None:
    play.publish(GPT, entry("raised", (5_000, 200)))
    customer = play.customer("raised")
    answers = ask_until_refused(customer)
    assert 200 <= used(answers)[1] < 200 + 2 * 20

    began = time.monotonic()
    play.publish(GPT, entry("raised", (5_000, 200), units("raised/gpt", (1, 300))), wait=False)

    def is_served() -> bool:
        answers.append(customer.ask())
        return answers[-1].served

    until(is_served, "units that were bought are served", left_of_the_minute())
    took = time.monotonic() - began
    assert took < FOLLOWED_SECONDS
    answers += ask_until_refused(customer)
    assert 500 <= used(answers)[1] < 500 + 2 * 20
    print(f"followed after {took:.1f} s")


@in_one_minute(30)
def test_a_restart_of_any_part_counts_nothing_twice_and_forgets_nothing(play: Play) -> None:
    play.publish(GPT, entry("restarted", (10_000, 600)))
    customer = play.customer("restarted")
    answers = [customer.ask(stream=stream) for stream in (True, False) * 4]

    def all_is_counted() -> bool:
        return play.gateway.counted(GPT, "restarted", "tokens", "output") == used(answers)[1]

    for part in (ENVOY, SERVICE, FOLLOWER):
        until(all_is_counted, "all is counted", left_of_the_minute())
        play.gateway.kill(part)
        play.gateway.start_part(part)
        answers += [customer.ask(stream=stream) for stream in (True, False)]
    answers += ask_until_refused(customer)
    assert 600 <= used(answers)[1] < 600 + 2 * 20
    until(all_is_counted, "all is counted", left_of_the_minute())
    assert play.gateway.counted(GPT, "restarted", "tokens", "input") == used(answers)[0]


def test_a_token_that_the_server_had_in_its_cache_counts_as_the_offering_says(play: Play) -> None:
    """cachedInputWeight 0.25, rounded in the customer's favour by less than a token a request."""
    play.publish(MINI, entry("cached", (100_000, 100_000)))
    have_time(40)
    answers = [
        play.customer("cached", MINI).ask("the same words " * 10, 5, stream=stream) for stream in (False, True, True)
    ]
    cached = [each.cached_tokens for each in answers]
    assert cached[0] == 0
    assert min(cached[1:]) > 100
    expected = sum(each.input_tokens - each.cached_tokens * 3 // 4 for each in answers)
    until(lambda: play.gateway.counted(MINI, "cached", "tokens", "input") == expected, "the discount is given")


@in_one_minute(10)
def test_who_is_not_authenticated_or_cannot_be_counted_is_refused(play: Play) -> None:
    customer = play.customer("nobody")
    assert customer.send({}, Authorization="Bearer wrong").status == 401
    assert customer.ask(stream=True, stream_options={}).status == 400
    assert customer.send(b'{"stream": true}', **{"Content-Type": "text/plain"}).status == 400
    # Whoever says that he is somebody else is counted as himself.
    body = {"messages": [{"role": "user", "content": "hello"}], "max_tokens": 3}
    assert customer.send(body, **{"X-Reserved-Capacity-Account": "acme"}).served
    until(lambda: play.gateway.counted(GPT, "nobody", "tokens", "output") == 3, "it is counted", left_of_the_minute())


def test_the_gateway_s_counters_are_those_of_the_servers(play: Play) -> None:
    """Whatever was asked before. Those of Envoy begin anew with it, so it is asked by somebody new."""
    server = next(each.port for each in play.gateway.offerings if each.name == GPT)
    before = play.gateway.counted_by_server(server)
    answers = ask_until_refused(play.customer("prices"))
    after = play.gateway.counted_by_server(server)
    expected = {"input": used(answers)[0], "output": used(answers)[1]}
    assert {direction: after[direction] - before[direction] for direction in before} == expected
    until(
        lambda: (
            {each[2]: value for each, value in counters(play, "tokens", "direction").items() if each[0] == "prices"}
            == expected | {"cached_input": sum(each.cached_tokens for each in answers)}
        ),
        "Envoy says the same",
    )
    requests = {"served": len(answers) - 1, "rejected": 1}
    until(
        lambda: (
            {each[2]: value for each, value in counters(play, "requests", "outcome").items() if each[0] == "prices"}
            == requests
        ),
        "it says so of requests too",
    )
