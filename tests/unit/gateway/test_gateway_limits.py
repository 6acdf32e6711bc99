from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from reserved_capacity.domain.tokens.entitlement import TokenRate
from reserved_capacity.domain.tokens.limits import AccountLimit, ActiveUnits, Enforcement, Overflow, account_limits
from reserved_capacity.domain.tokens.lots import ReservationName
from reserved_capacity.gateway.limits import InForce, LimitsInvalid, in_force, limits_document, parse_limits


def entry(account: str = "acme", **changed: Any) -> dict[str, Any]:
    unit = {"reservation": "acme/gpt", **rate(90, 10), "overflow": "Reject", "enforcement": "Shadow"}
    return {"account": account, "base": rate(5, 1), "units": [unit], "effective": rate(95, 11)} | changed


def rate(input_tpm: int, output_tpm: int) -> dict[str, int]:
    return {"inputTokensPerMinute": input_tpm, "outputTokensPerMinute": output_tpm}


def config_map(name: str, *entries: dict[str, Any], text: str | None = None) -> dict[str, Any]:
    text = text or json.dumps(entries)
    return {"metadata": {"name": name, "resourceVersion": str(hash(text))}, "data": {"limits.json": text}}


def test_the_document_of_the_api_contract_is_read_as_it_is_meant() -> None:
    name = ReservationName("acme", "gpt")
    unit = ActiveUnits("acme", name, "", TokenRate(90, 10), Overflow.REJECT, Enforcement.SHADOW)
    assert parse_limits(json.dumps([entry(later="unknown")])) == (AccountLimit("acme", TokenRate(5, 1), (unit,)),)


rates = st.builds(TokenRate, st.integers(0, 10**12), st.integers(0, 10**12))
names = st.builds(ReservationName, st.sampled_from("ab"), st.sampled_from(("x", "y.z")))
bought = st.builds(
    ActiveUnits,
    st.sampled_from("ab"),
    names,
    st.sampled_from("st"),
    rates,
    st.sampled_from(Overflow),
    st.sampled_from(Enforcement),
)


@given(bases=st.dictionaries(st.sampled_from("*abc"), rates), active=st.lists(bought, max_size=5))
def test_what_the_operator_publishes_is_what_the_gateway_reads(
    bases: dict[str, TokenRate], active: list[ActiveUnits]
) -> None:
    limits = account_limits(bases, active)
    assert parse_limits(json.dumps(limits_document(limits))) == limits


@pytest.mark.parametrize(
    "wrong",
    [
        {"effective": rate(96, 11)},
        {"base": rate(-1, 1)},
        {"base": {"inputTokensPerMinute": "5"}},
        {"base": None},
        {"units": [{"reservation": "x", **rate(1, 1), "overflow": "Maybe", "enforcement": "Shadow"}]},
        {"units": [{"reservation": "x", **rate(1, 1)}]},
    ],
)
def test_what_is_not_understood_is_refused_as_a_whole(wrong: dict[str, Any]) -> None:
    with pytest.raises(LimitsInvalid):
        parse_limits(json.dumps([entry("other"), entry(**wrong)]))


@pytest.mark.parametrize("text", ["", "{", "null", "3", '"x"', "[3]"])
def test_what_is_no_list_of_entries_is_refused(text: str) -> None:
    with pytest.raises(LimitsInvalid):
        parse_limits(text)


def test_an_account_has_one_entry() -> None:
    with pytest.raises(LimitsInvalid, match="more than one"):
        parse_limits(json.dumps([entry(), entry()]))


def test_a_document_that_is_spoilt_leaves_the_one_before_in_force_and_the_others_follow() -> None:
    first = in_force([config_map("limits-a", entry()), config_map("limits-b", entry())], InForce())
    spoilt = config_map("limits-a", text="[")
    then = in_force([spoilt, config_map("limits-b"), config_map("other", text="[")], first)
    assert then.limits == {"a": first.limits["a"], "b": ()}
    assert [complaint.split(":")[0] for complaint in then.complaints] == ["ConfigMap limits-a"]


def test_limits_go_with_their_config_map() -> None:
    first = in_force([config_map("limits-a", entry())], InForce())
    assert in_force([], first) == InForce()
