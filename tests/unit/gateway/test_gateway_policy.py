"""Limits as a BackendTrafficPolicy of Envoy Gateway, and its answer (T3, ADR 0053)."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from reserved_capacity.domain.tokens.entitlement import TokenRate
from reserved_capacity.domain.tokens.limits import AccountLimit, ActiveUnits, Enforcement, Overflow
from reserved_capacity.domain.tokens.lots import ReservationName
from reserved_capacity.gateway.policy import (
    MAX_RULES,
    Answer,
    PolicyImpossible,
    Route,
    answer,
    parse_route,
    policy_spec,
)

HEADER = "x-reserved-capacity-account"
ROUTE = Route("models", "gpt-41")
BASE = TokenRate(500_000, 100_000)
BOUGHT = TokenRate(90_000, 10_000)
EVERYBODY = AccountLimit("*", BASE)

Rule = dict[str, Any]


def with_units(
    account: str = "acme",
    base: TokenRate = BASE,
    rate: TokenRate = BOUGHT,
    overflow: Overflow = Overflow.SPILL,
    enforcement: Enforcement = Enforcement.ENFORCE,
) -> AccountLimit:
    name = ReservationName(account, "gpt-41")
    return AccountLimit(account, base, (ActiveUnits(account, name, "s", rate, overflow, enforcement),))


def rules(*limits: AccountLimit) -> list[Rule]:
    found: list[Rule] = policy_spec(ROUTE, limits)["rateLimit"]["global"]["rules"]
    return found


def matches(rule: Rule, account: str | None) -> bool:
    """As Envoy Gateway v1.9 translates it: a header that is missing matches inverted selectors alone."""
    headers = [header for selector in rule["clientSelectors"] for header in selector["headers"]]
    for header in headers:
        assert header["name"] == HEADER
        hit = account is not None and (header["type"] != "Exact" or header["value"] == account)
        if hit is header["invert"]:
            return False
    return True


def of(account: str | None, *limits: AccountLimit) -> dict[str, int]:
    """What holds for an account: number by metadata key, `request` where the request itself counts."""
    found: dict[str, int] = {}
    for rule in rules(*limits):
        if matches(rule, account):
            assert rule["limit"]["unit"] == "Minute"
            assert rule["shared"] is True
            cost = rule.get("cost")
            key = cost["response"]["metadata"]["key"] if cost else "request"
            assert key not in found
            found[key] = rule["limit"]["requests"]
    return found


def tokens(input_tpm: int, output_tpm: int) -> dict[str, int]:
    """A request asks with 0 tokens, and what is used up has to refuse it: the number is the limit less one."""
    return {"llm_input_token": input_tpm - 1, "llm_output_token": output_tpm - 1}


def test_t3_who_bought_has_base_and_units_in_each_direction_and_everybody_else_the_base() -> None:
    limits = (EVERYBODY, with_units())
    assert of("acme", *limits) == tokens(590_000, 110_000)
    assert of("somebody", *limits) == tokens(500_000, 100_000)


def test_t3_a_request_costs_nothing_and_its_answer_the_tokens_of_the_ai_gateway() -> None:
    costs = [rule["cost"] for rule in rules(EVERYBODY, with_units()) if "cost" in rule]
    assert {cost["request"]["number"] for cost in costs} == {0}
    assert {cost["response"]["metadata"]["namespace"] for cost in costs} == {"io.envoy.ai_gateway"}


def test_t3_reject_holds_the_units_alone_and_the_base_where_nothing_was_bought() -> None:
    only_input = with_units(rate=TokenRate(90_000, 0), overflow=Overflow.REJECT)
    assert of("acme", EVERYBODY, with_units(overflow=Overflow.REJECT)) == tokens(90_000, 10_000)
    assert of("acme", EVERYBODY, only_input) == tokens(90_000, 100_000)


def test_t3_shadow_counts_and_refuses_nothing() -> None:
    found = rules(EVERYBODY, with_units(enforcement=Enforcement.SHADOW))
    assert [rule.get("shadowMode", False) for rule in found if matches(rule, "acme")] == [True, True]
    assert not any(rule.get("shadowMode") for rule in found if matches(rule, "somebody"))


def test_nobody_is_refused_at_once_and_so_is_who_may_use_nothing() -> None:
    assert of(None, EVERYBODY)["request"] == 0
    assert of("somebody", with_units())["request"] == 0
    assert of("acme", with_units())["llm_input_token"] == 589_999
    assert of("acme", EVERYBODY, AccountLimit("acme", TokenRate(1, 0)))["request"] == 0


def test_who_has_what_everybody_has_needs_no_rule_of_his_own() -> None:
    assert rules(EVERYBODY, AccountLimit("acme", BASE)) == rules(EVERYBODY)


def test_more_rules_than_a_policy_has_are_refused_with_the_number() -> None:
    most = (MAX_RULES - 3) // 2
    limits = [EVERYBODY, *(with_units(f"a-{number:03}") for number in range(most + 1))]
    assert len(rules(*limits[:-1])) <= MAX_RULES
    with pytest.raises(PolicyImpossible, match=f"{most + 1} accounts .* need 257 rules"):
        rules(*limits)


def test_a_selector_has_at_most_128_headers() -> None:
    named = [AccountLimit(f"a-{number:03}", TokenRate()) for number in range(200)]
    selectors = [selector for rule in rules(EVERYBODY, *named) for selector in rule["clientSelectors"]]
    assert max(len(selector["headers"]) for selector in selectors) == 128
    assert of("a-150", EVERYBODY, *named) == {"request": 0}


@given(st.dictionaries(st.sampled_from("abcdef"), st.tuples(st.integers(0, 2**40), st.integers(0, 2**40)), max_size=6))
def test_t3_each_account_has_one_limit_in_each_direction_within_what_the_crd_takes(
    bases: dict[str, tuple[int, int]],
) -> None:
    limits = [EVERYBODY, *(with_units(name, TokenRate(*rate)) for name, rate in bases.items())]
    for account in "abcdefg":
        expected = TokenRate(*bases[account]) + BOUGHT if account in bases else BASE
        ceiling = 2**32 - 1
        assert of(account, *limits) == tokens(min(expected.input_tpm, ceiling), min(expected.output_tpm, ceiling))


def test_a_route_is_a_namespace_a_name_and_perhaps_a_rule() -> None:
    assert parse_route("models/gpt-4.1") == Route("models", "gpt-4.1")
    assert parse_route("models/gpt-4.1/chat") == Route("models", "gpt-4.1", "chat")
    assert policy_spec(Route("models", "gpt-41", "chat"), ())["targetRefs"] == [
        {"group": "gateway.networking.k8s.io", "kind": "HTTPRoute", "name": "gpt-41", "sectionName": "chat"}
    ]


@pytest.mark.parametrize("text", ["gpt-41", "models/", "/gpt-41", "a/b/c/d", "Models/x", "models/gpt 41", "a.b/c"])
def test_what_is_no_route_is_refused_with_its_text(text: str) -> None:
    with pytest.raises(PolicyImpossible, match="is not namespace/name"):
        parse_route(text)


def policy(*ancestors: tuple[str, str, int]) -> dict[str, Any]:
    """(gateway, status, generation) of each; the policy is at generation 2."""
    told = [
        {
            "ancestorRef": {"name": name},
            "conditions": [
                {"type": "Accepted", "status": status, "observedGeneration": at, "reason": "Why", "message": "words"},
                {"type": "Warning", "status": "False", "observedGeneration": at},
            ],
        }
        for name, status, at in ancestors
    ]
    return {"metadata": {"generation": 2}, "status": {"ancestors": told}}


def test_t3_only_an_answer_to_this_generation_counts_and_one_refusal_is_enough() -> None:
    assert answer({"metadata": {"generation": 1}}) == Answer(None)
    assert answer(policy(("eg", "True", 1))) == Answer(None)
    assert answer(policy(("eg", "True", 2), ("old", "False", 1))) == Answer(True, "accepted by eg")
    assert answer(policy(("eg", "True", 2), ("other", "False", 2))) == Answer(False, "other: Why: words")
