"""What the rate-limit service makes of its configuration, by behaviour.md T3 as it is written."""

from __future__ import annotations

from dataclasses import dataclass

import pytest
from hypothesis import given
from hypothesis import strategies as st

from reserved_capacity.domain.tokens.entitlement import TokenRate
from reserved_capacity.domain.tokens.limits import AccountLimit, ActiveUnits, Enforcement, Overflow
from reserved_capacity.domain.tokens.lots import ReservationName
from reserved_capacity.gateway.ratelimit import DOMAIN, MAX_PER_MINUTE, ratelimit_config
from tests.unit.gateway.service import Entries, Service

OFFERING = "gpt-4.1"


@dataclass
class Envoy:
    """Asks and charges as `gateway.envoy` has a real one do."""

    service: Service

    def request(self, account: str, tokens: tuple[int, int], offering: str = OFFERING) -> tuple[bool, bool]:
        """(admitted, spilled)"""
        admission = (_entries(offering, account, "admission", "request"), 1)
        asked = [(each, 0) for each in _counters(offering, account)]
        refused, full = self.service.ask(DOMAIN, [admission, *asked])
        if not refused:
            charged = zip(_counters(offering, account), (*tokens, *tokens), strict=True)
            self.service.ask(DOMAIN, list(charged))
        return not refused, bool(full & {3, 4})


def _counters(offering: str, account: str) -> list[Entries]:
    return [_entries(offering, account, key, way) for key in ("tokens", "units") for way in ("input", "output")]


def _entries(offering: str, account: str, key: str, value: str) -> Entries:
    return (("offering", offering), ("account", account), (key, value))


def envoy(*limits: AccountLimit) -> Envoy:
    return Envoy(Service(ratelimit_config({OFFERING: limits})))


NAME = st.just(ReservationName("acme", "x"))
rates = st.builds(TokenRate, st.integers(0, 12), st.integers(0, 12))
bought = st.lists(
    st.builds(
        ActiveUnits, st.just("acme"), NAME, st.just("s"), rates, st.sampled_from(Overflow), st.sampled_from(Enforcement)
    ),
    max_size=3,
).map(tuple)
requests = st.lists(st.tuples(st.integers(1, 6), st.integers(1, 6)), max_size=12)


@given(base=rates, units=bought, asked=requests)
def test_t3_whoever_has_used_less_than_he_may_is_admitted_and_nobody_else(
    base: TokenRate, units: tuple[ActiveUnits, ...], asked: list[tuple[int, int]]
) -> None:
    gateway = envoy(AccountLimit("acme", base, units))
    used = [0, 0]
    for tokens in asked:
        admitted, spilled = gateway.request("acme", tokens)
        room, above = _by_the_rule(base, units, (used[0], used[1]))
        assert (admitted, admitted and spilled) == (room, room and above)
        if admitted:
            used = [used[0] + tokens[0], used[1] + tokens[1]]


def _by_the_rule(base: TokenRate, units: tuple[ActiveUnits, ...], used: tuple[int, int]) -> tuple[bool, bool]:
    """Whether a request is admitted, and whether that is above the units: T3 for each direction, slowly."""
    shadow = bool(units) and not any(unit.enforcement is Enforcement.ENFORCE for unit in units)
    may_spill = any(unit.overflow is Overflow.SPILL for unit in units)
    admitted, above = True, False
    for before, base_tpm, added in (
        (used[0], base.input_tpm, sum(unit.rate.input_tpm for unit in units)),
        (used[1], base.output_tpm, sum(unit.rate.output_tpm for unit in units)),
    ):
        within_units = before < added
        uses_base = not within_units and (may_spill or not added)
        admitted &= within_units or (uses_base and before < added + base_tpm)
        above |= bool(added) and not within_units and may_spill and base_tpm > 0
    return admitted or shadow, above


@given(limits=rates, asked=requests)
def test_each_account_without_an_entry_has_the_base_of_everybody_for_itself(
    limits: TokenRate, asked: list[tuple[int, int]]
) -> None:
    gateway = envoy(AccountLimit("*", limits), AccountLimit("acme", TokenRate(10**6, 10**6)))
    alone = envoy(AccountLimit("*", limits))
    for tokens in asked:
        assert gateway.request("beta", tokens) == alone.request("gamma", tokens)
        assert gateway.request("acme", tokens)[0]


def test_an_account_without_an_entry_is_refused_where_there_is_none_for_everybody() -> None:
    gateway = envoy(AccountLimit("acme", TokenRate(10, 10)))
    assert gateway.request("acme", (1, 1))[0]
    assert not gateway.request("beta", (1, 1))[0]


def test_an_offering_without_limits_serves_nobody() -> None:
    gateway = envoy(AccountLimit("*", TokenRate(10, 10)))
    assert not gateway.request("acme", (1, 1), "gpt-5")[0]


@given(before=rates, after=rates, asked=requests)
def test_a_changed_limit_goes_on_with_what_is_counted(
    before: TokenRate, after: TokenRate, asked: list[tuple[int, int]]
) -> None:
    gateway = envoy(AccountLimit("acme", before))
    admitted = [tokens for tokens in asked if gateway.request("acme", tokens)[0]]
    used = [sum(each) for each in zip(*admitted, strict=True)] or [0, 0]
    gateway.service.config = ratelimit_config({OFFERING: [AccountLimit("acme", after)]})
    assert gateway.request("acme", (1, 1))[0] == (used[0] < after.input_tpm and used[1] < after.output_tpm)


@pytest.mark.parametrize("tpm", [MAX_PER_MINUTE, 10**12])
def test_a_limit_beyond_32_bits_is_the_largest_that_the_service_can_count(tpm: int) -> None:
    config = ratelimit_config({OFFERING: [AccountLimit("acme", TokenRate(tpm, tpm))]})
    counters = config["descriptors"][0]["descriptors"][0]["descriptors"]
    assert [each["rate_limit"]["requests_per_unit"] for each in counters] == [MAX_PER_MINUTE - 1] * 2


def test_equal_limits_in_another_order_give_the_same_file() -> None:
    limits = [AccountLimit(name, TokenRate(1, 1)) for name in ("b", "*", "a")]
    assert ratelimit_config({"x": limits, "a": []}) == ratelimit_config({"a": [], "x": limits[::-1]})
