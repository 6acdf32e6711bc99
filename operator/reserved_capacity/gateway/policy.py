"""Owns how limits become a BackendTrafficPolicy of Envoy Gateway, and how its answer is read (ADR 0053).

One policy for an offering, on the HTTPRoute that its annotation names. Envoy Gateway has one counter for a rule, and no rule
that only marks an answer: it enforces what `AccountLimit.limit` says, and cannot tell where units end and the base begins.
All rules that a request matches have to have room; so nobody is to match those of somebody else.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from reserved_capacity.domain.tokens.entitlement import TokenRate
from reserved_capacity.domain.tokens.limits import EVERYBODY, AccountLimit, Enforcement
from reserved_capacity.gateway.envoy import ACCOUNT_HEADER, INPUT, OUTPUT, USAGE
from reserved_capacity.gateway.ratelimit import MAX_PER_MINUTE

MAX_RULES: Final = 256
_MAX_SELECTORS, _MAX_HEADERS = 8, 128
OWNED: Final = ("targetRefs", "rateLimit")
"""The parts of the spec that are ours. What else a provider adds to it (retries, timeouts, mergeType) stays."""

_NAME = r"[a-z0-9]([-.a-z0-9]{0,251}[a-z0-9])?"
_ROUTE = re.compile(rf"(?P<namespace>[a-z0-9]([-a-z0-9]{{0,61}}[a-z0-9])?)/(?P<name>{_NAME})(/(?P<rule>{_NAME}))?")
_NOBODY: Final = AccountLimit(EVERYBODY, TokenRate())

Spec = dict[str, Any]


class PolicyImpossible(ValueError):
    """The limits, or the place where they are to hold, cannot be said in one policy; the message says why."""


@dataclass(frozen=True, slots=True)
class Route:
    """The HTTPRoute to an offering's servers; `rule` is one named rule of it, empty for all."""

    namespace: str
    name: str
    rule: str = ""


@dataclass(frozen=True, slots=True)
class Answer:
    """`accepted` None: no gateway has answered for the policy as it is now. `message` is in the gateway's words."""

    accepted: bool | None
    message: str = ""


def parse_route(text: str) -> Route:
    """`namespace/name` or `namespace/name/rule`. Raises PolicyImpossible."""
    found = _ROUTE.fullmatch(text)
    if found is None:
        raise PolicyImpossible(f"{text!r} is not namespace/name of an HTTPRoute, or namespace/name/rule")
    return Route(found["namespace"], found["name"], found["rule"] or "")


def policy_spec(route: Route, limits: Iterable[AccountLimit]) -> Spec:
    """What is ours of the spec, in full, as the API server would fill it in: equal limits are equal specs.

    Raises PolicyImpossible.
    """
    target = {"group": "gateway.networking.k8s.io", "kind": "HTTPRoute", "name": route.name}
    if route.rule:
        target["sectionName"] = route.rule
    return {"targetRefs": [target], "rateLimit": {"global": {"rules": _rules(limits)}}}


def answer(policy: Mapping[str, Any]) -> Answer:
    """One gateway that refuses is enough; without a single answer to this generation there is none."""
    generation = policy["metadata"].get("generation", 0)
    found = [
        (str((ancestor.get("ancestorRef") or {}).get("name", "")), condition)
        for ancestor in (policy.get("status") or {}).get("ancestors") or ()
        for condition in ancestor.get("conditions") or ()
        if condition.get("type") == "Accepted" and condition.get("observedGeneration", 0) == generation
    ]
    refusals = [(name, condition) for name, condition in found if condition.get("status") == "False"]
    if refusals:
        return Answer(False, "; ".join(_words(name, condition) for name, condition in refusals))
    accepting = [name for name, condition in found if condition.get("status") == "True"]
    return Answer(True, f"accepted by {', '.join(sorted(accepting))}") if accepting else Answer(None)


def _words(name: str, condition: Mapping[str, Any]) -> str:
    return f"{name}: {condition.get('reason', '')}: {condition.get('message', '')}"


def _rules(limits: Iterable[AccountLimit]) -> list[Spec]:
    by_name = {each.account: each for each in limits}
    everybody = by_name.pop(EVERYBODY, _NOBODY)
    # Whoever has what everybody has counts for himself under that rule.
    named = [by_name[name] for name in sorted(by_name) if _enforced(by_name[name]) != _enforced(everybody)]
    rules = [_closed([_header("RegularExpression", ".+", invert=True)]), *_of_everybody(everybody, named)]
    for each in named:
        rules += _of_account(each, [_header("Exact", each.account)])
    if len(rules) > MAX_RULES or len(named) >= _MAX_SELECTORS * _MAX_HEADERS:
        raise PolicyImpossible(
            f"{len(named)} accounts with limits of their own need {len(rules)} rules, and a policy has {MAX_RULES}, a route "
            "one policy: give more of them the limit of everybody, or enforce the ConfigMap with the rate-limit service"
        )
    return rules


def _enforced(limits: AccountLimit) -> tuple[TokenRate, Enforcement]:
    return limits.limit, limits.enforcement


def _of_everybody(everybody: AccountLimit, named: Sequence[AccountLimit]) -> Iterator[Spec]:
    others = [_header("Exact", each.account, invert=True) for each in named]
    yield from _of_account(everybody, [{"name": ACCOUNT_HEADER, "type": "Distinct", "invert": False}, *others])


def _of_account(limits: AccountLimit, headers: Sequence[Spec]) -> Iterator[Spec]:
    shadow = limits.enforcement is Enforcement.SHADOW
    ceilings = ((limits.limit.input_tpm, INPUT), (limits.limit.output_tpm, OUTPUT))
    if not shadow and not all(ceiling for ceiling, _ in ceilings):
        yield _closed(headers)
    for ceiling, key in ceilings:
        if ceiling:
            # A request asks with 0 tokens, and the service says "over" only above its number (ADR 0050).
            number = min(ceiling, MAX_PER_MINUTE) - 1
            mode = {"shadowMode": True} if shadow else {}
            yield {**_rule(headers, number), "cost": _cost(key), **mode}


def _closed(headers: Sequence[Spec]) -> Spec:
    """Refused by the request itself, which costs 1: a rule about tokens would let the first one through."""
    return _rule(headers, 0)


def _rule(headers: Sequence[Spec], number: int) -> Spec:
    return {
        "clientSelectors": [
            {"headers": list(headers[start : start + _MAX_HEADERS])} for start in range(0, len(headers), _MAX_HEADERS)
        ],
        "limit": {"requests": number, "unit": "Minute"},
        # One counter over all rules and matches of the route, not one for each.
        "shared": True,
    }


def _cost(key: str) -> Spec:
    return {
        "request": {"from": "Number", "number": 0},
        "response": {"from": "Metadata", "metadata": {"namespace": USAGE, "key": key}},
    }


def _header(type_: str, value: str, *, invert: bool = False) -> Spec:
    return {"name": ACCOUNT_HEADER, "type": type_, "value": value, "invert": invert}
