"""Has the limits of an offering enforced by Envoy Gateway, where that is installed and the offering names its route (T3).

The ConfigMap is written first and is the record; the policy follows it. Nothing of Envoy Gateway is watched: one LIST, by
our label, says whether it is installed, what there is of ours, and what it has answered.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta
from typing import Final

from reserved_capacity.api import meta
from reserved_capacity.api.modeloffering import ModelOffering
from reserved_capacity.domain.conditions import ConditionValue
from reserved_capacity.domain.tokens.limits import AccountLimit
from reserved_capacity.domain.tokens.token_conditions import limit_at_gateway
from reserved_capacity.gateway.limits import config_map_name
from reserved_capacity.gateway.policy import OWNED, PolicyImpossible, Route, Spec, answer, parse_route, policy_spec
from reserved_capacity.ports import (
    BACKEND_TRAFFIC_POLICIES,
    AlreadyExists,
    Forbidden,
    Invalid,
    JsonObject,
    NotFound,
    Ref,
)
from reserved_capacity.reconcilers.context import Context, precondition_of

ASK_AGAIN: Final = timedelta(seconds=15)
"""How long a gateway's answer may lie unread."""
LOOK_AT_GATEWAY: Final = timedelta(minutes=1)
"""How long what a gateway has accepted may be refused unseen: it then serves nobody on the route (ADR 0073)."""
LOOK_FOR_GATEWAY: Final = timedelta(minutes=10)
# The API server's own refusals: of the content, of a namespace that is not there, of a name that somebody else has.
_REFUSED: Final = (Invalid, NotFound, AlreadyExists)


async def publish(context: Context, offering: ModelOffering, limits: Sequence[AccountLimit]) -> ConditionValue | None:
    """What the gateway says of these limits; None where none is asked. Raises ApiError."""
    text = offering.metadata.annotations.get(meta.HTTP_ROUTE_ANNOTATION, "")
    found = await _ours(context, offering.name, named=bool(text))
    if found is None:
        return None
    if not text:
        await _delete(context, found)
        return None
    policy = f"{BACKEND_TRAFFIC_POLICIES.kind} {config_map_name(offering.name)}"
    try:
        route = parse_route(text)
        live = await _written(context, offering.name, route, found, policy_spec(route, limits))
    except (PolicyImpossible, *_REFUSED) as error:
        # The policy before it stays, and in force if it was accepted.
        return limit_at_gateway(accepted=False, policy=policy, words=f"not written: {error}")
    await _delete(context, [each for each in found if _place(each) != _place(live)])
    said = answer(live)
    waiting = f"no gateway has answered for it yet; is HTTPRoute {route.namespace}/{route.name} there, with a Gateway?"
    return limit_at_gateway(
        accepted=said.accepted,
        policy=f"{BACKEND_TRAFFIC_POLICIES.kind} {route.namespace}/{config_map_name(offering.name)}",
        words=said.message or waiting,
    )


async def remove(context: Context, offering: str) -> None:
    await _delete(context, await _ours(context, offering, named=False) or ())


async def _ours(context: Context, offering: str, *, named: bool) -> Sequence[JsonObject] | None:
    """The offering's policies, in whatever namespace; None where there is no Envoy Gateway. Who names no route may have
    taken the right to it from us."""
    board, now = context.limits, context.clock.now()
    if board.gateway_away_until is not None and now < board.gateway_away_until:
        return None
    selector = f"{meta.MANAGED_BY_LABEL}={meta.MANAGED_BY},{meta.OFFERING_LABEL}={offering}"
    try:
        found = (await context.cluster.list(BACKEND_TRAFFIC_POLICIES, label_selector=selector)).items
    except NotFound:
        board.gateway_away_until = now + LOOK_FOR_GATEWAY
        return None
    except Forbidden:
        if named:
            raise
        return None
    board.gateway_away_until = None
    return found


async def _written(
    context: Context, offering: str, route: Route, found: Sequence[JsonObject], wanted: Spec
) -> JsonObject:
    """The policy as it is in the cluster now. Nothing is written that is there already."""
    ref = Ref(BACKEND_TRAFFIC_POLICIES, route.namespace, config_map_name(offering))
    live = next((each for each in found if _place(each) == (ref.namespace, ref.name)), None)
    if live is None:
        return await context.cluster.create(BACKEND_TRAFFIC_POLICIES, _new(ref, offering, wanted))
    spec = live.get("spec") or {}
    if all(spec.get(part) == wanted[part] for part in OWNED):
        return live
    others = dict.fromkeys((spec.get("rateLimit") or {}).keys() - wanted["rateLimit"].keys())
    merge = {"spec": {**wanted, "rateLimit": others | wanted["rateLimit"]}}
    return await context.cluster.patch(ref, precondition_of(live), merge)


def _new(ref: Ref, offering: str, spec: Spec) -> JsonObject:
    labels = {meta.MANAGED_BY_LABEL: meta.MANAGED_BY, meta.OFFERING_LABEL: offering}
    return {
        "apiVersion": BACKEND_TRAFFIC_POLICIES.api_version,
        "kind": BACKEND_TRAFFIC_POLICIES.kind,
        "metadata": {"name": ref.name, "namespace": ref.namespace, "labels": labels},
        "spec": spec,
    }


async def _delete(context: Context, policies: Sequence[JsonObject]) -> None:
    for each in policies:
        if "deletionTimestamp" not in each["metadata"]:
            await context.cluster.delete(Ref(BACKEND_TRAFFIC_POLICIES, *_place(each)), precondition_of(each))


def _place(policy: JsonObject) -> tuple[str, str]:
    return policy["metadata"]["namespace"], policy["metadata"]["name"]
