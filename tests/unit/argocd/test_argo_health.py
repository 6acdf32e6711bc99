"""The health scripts: Argo CD's own tests of them, every reason that there is, and what one script may not do."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from datetime import date
from pathlib import Path
from typing import Any

import pytest

from reserved_capacity.api.meta import API_VERSION, GROUP, Kind
from reserved_capacity.domain import instance_conditions, pool_conditions
from reserved_capacity.domain.conditions import ConditionValue
from reserved_capacity.domain.eligibility import Refusal
from reserved_capacity.domain.holdings import Wait, Waiting
from reserved_capacity.domain.instance_conditions import InstanceObservation
from reserved_capacity.domain.pool_conditions import PoolObservation
from reserved_capacity.domain.reasons import instance, pool, provider, tokens
from reserved_capacity.domain.reasons.base import FALSE, TRUE, UNKNOWN, ConditionStatus, Ready, Reason
from tests.unit.argocd import argo
from tests.unit.argocd.argo import Health

SCRIPTS = sorted(argo.CUSTOMIZATIONS.glob("*/*/health.lua"))
OURS = [argo.GROUP / kind.value / "health.lua" for kind in Kind]
STATES = ("new", "progressing", "healthy", "degraded", "deleting")
# The enums of each kind by condition; the test below fails when one is missing here.
REASONS: dict[Kind, dict[str, type[Reason]]] = {
    Kind.ACCELERATOR_CLASS: {"Ready": provider.ClassReady},
    Kind.MODEL_OFFERING: {"Valid": provider.OfferingValid},
    Kind.PRICE_BOOK: {"Valid": provider.PriceBookValid},
    Kind.COMPUTE_UNIT_POOL: {
        "Accepted": pool.PoolAccepted,
        "Provisioned": pool.Provisioned,
        "Healthy": pool.Healthy,
        "CommitmentSecure": pool.CommitmentSecure,
        "BillingCurrent": pool.BillingCurrent,
        "LedgerBalanced": pool.LedgerBalanced,
    },
    Kind.MODEL_INSTANCE: {
        "Accepted": instance.InstanceAccepted,
        "CapacityReserved": instance.CapacityReserved,
        "SnapshotCached": instance.SnapshotCached,
        "Available": instance.Available,
        "UpToDate": instance.UpToDate,
        "SnapshotSupported": instance.SnapshotSupported,
    },
    Kind.TOKEN_UNIT_RESERVATION: {
        "Accepted": tokens.TokensAccepted,
        "CapacityBacked": tokens.CapacityBacked,
        "LimitPublished": tokens.LimitPublished,
        "ServiceLevelMet": tokens.ServiceLevelMet,
        "SnapshotSupported": instance.SnapshotSupported,
        "BillingCurrent": pool.BillingCurrent,
        "LedgerBalanced": pool.LedgerBalanced,
    },
}
EVERY_REASON = [
    pytest.param(kind, type_, reason, id=f"{kind}-{type_}-{reason}")
    for kind, by_type in REASONS.items()
    for type_, enum in by_type.items()
    for reason in enum
]
STOPPED_BY_A_PERSON = {
    instance.Available.SUSPENDED,
    instance.UpToDate.PAUSED,
    instance.UpToDate.AWAITING_APPROVAL,
}
NEVER_DEGRADES = [
    (kind, type_, reason)
    for kind, type_ in (
        (Kind.COMPUTE_UNIT_POOL, "CommitmentSecure"),
        (Kind.COMPUTE_UNIT_POOL, "BillingCurrent"),
        (Kind.TOKEN_UNIT_RESERVATION, "ServiceLevelMet"),
        (Kind.TOKEN_UNIT_RESERVATION, "BillingCurrent"),
    )
    for reason in REASONS[kind][type_]
]


def obj(kind: Kind, *conditions: tuple[str, str, str], generation: int = 3, observed: int = 3) -> argo.Object:
    listed = [
        {"type": type_, "status": status, "reason": reason, "message": f"{reason} of {type_}"}
        for type_, status, reason in conditions
    ]
    status: dict[str, Any] = {"observedGeneration": observed, "conditions": listed}
    metadata = {"name": "it", "generation": generation}
    return {"apiVersion": API_VERSION, "kind": kind.value, "metadata": metadata, "spec": {}, "status": status}


def argos_own_tests() -> Iterator[Any]:
    for script in SCRIPTS:
        for test in argo.load(script.parent / "health_test.yaml")["tests"]:
            name = f"{script.parent.name}/{Path(test['inputPath']).stem}"
            yield pytest.param(script.parent / test["inputPath"], test["healthStatus"], id=name)


@pytest.mark.parametrize(("path", "expected"), list(argos_own_tests()))
def test_argos_own_health_tests_pass(path: Path, expected: dict[str, str]) -> None:
    assert argo.health_of(argo.load(path)) == Health(**expected)


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda script: str(script.parent.name))
def test_every_file_of_testdata_is_in_a_health_test_and_is_of_the_scripts_kind(script: Path) -> None:
    listed = {test["inputPath"] for test in argo.load(script.parent / "health_test.yaml")["tests"]}
    assert listed == {f"testdata/{path.name}" for path in script.parent.glob("testdata/*.yaml")}
    assert {argo.load(script.parent / path)["kind"] for path in listed} == {script.parent.name}


@pytest.mark.parametrize("kind", Kind)
def test_the_testdata_of_each_kind_has_every_state(kind: Kind) -> None:
    names = [path.stem for path in (argo.GROUP / kind.value / "testdata").iterdir()]
    states = (*STATES, "suspended") if kind is Kind.MODEL_INSTANCE else STATES
    assert [state for state in states if not any(name.startswith(state) for name in names)] == []


def test_the_scripts_of_all_kinds_differ_only_in_their_comment_and_in_who_has_stopped_it() -> None:
    assert {argo.body_of(script.read_text()) for script in OURS} == {argo.body_of(OURS[0].read_text())}
    assert {script.parent.name for script in SCRIPTS if script.parent.parent.name == GROUP} == {*map(str, Kind)}


@pytest.mark.parametrize("name", ["string", "math", "os", "io", "debug"])
def test_a_library_that_argocd_cm_does_not_give_is_not_there(name: str) -> None:
    assert argo.run(f"return {{seen = tostring({name}), loaded = tostring(package.loaded['{name}'])}}", {}) == {
        "seen": "nil",
        "loaded": "nil",
    }


def test_strings_have_no_methods() -> None:
    with pytest.raises(Exception, match="attempt to index a string value"):
        argo.run('return {status = ("healthy"):upper()}', {})


def test_the_table_of_reasons_has_every_enum() -> None:
    defined = {
        each
        for module in (instance, pool, provider, tokens)
        for each in vars(module).values()
        if isinstance(each, type) and issubclass(each, Reason) and each is not Reason
    }
    assert {enum for by_type in REASONS.values() for enum in by_type.values()} == defined


@pytest.mark.parametrize(("kind", "type_", "reason"), EVERY_REASON)
@pytest.mark.parametrize("status", ConditionStatus)
def test_every_reason_has_a_health_with_readys_message(
    kind: Kind, type_: str, reason: Reason, status: ConditionStatus
) -> None:
    conditions = [] if type_ == "Ready" else [(type_, reason.status.value, reason.value)]
    health = argo.health_of(obj(kind, *conditions, ("Ready", status.value, reason.value)))
    expected = {TRUE: "Healthy", UNKNOWN: "Progressing", FALSE: "Degraded"}[status]
    if reason in STOPPED_BY_A_PERSON and kind is Kind.MODEL_INSTANCE and status is not FALSE:
        expected = "Suspended"
    assert health == Health(expected, f"{reason.value} of Ready")


@pytest.mark.parametrize(("kind", "type_", "reason"), NEVER_DEGRADES)
def test_a_missed_service_level_a_planned_expiry_and_late_billing_leave_a_ready_object_healthy(
    kind: Kind, type_: str, reason: Reason
) -> None:
    seen = obj(kind, (type_, reason.status.value, reason.value), ("Ready", "True", Ready.READY.value))
    assert argo.health_of(seen) == Health("Healthy", "Ready of Ready")


@pytest.mark.parametrize("kind", Kind)
def test_without_a_ready_condition_of_this_generation_it_is_progressing(kind: Kind) -> None:
    waiting = Health("Progressing", "Waiting for the operator")
    stale = Health("Progressing", "Waiting for the operator to see the newest spec")
    unseen = obj(kind)
    del unseen["status"]
    assert argo.health_of(unseen) == waiting
    assert argo.health_of(unseen | {"status": {}}) == waiting
    assert argo.health_of(unseen | {"status": {"conditions": []}}) == stale
    assert argo.health_of(obj(kind)) == waiting
    assert argo.health_of(obj(kind, ("Ready", "False", "Old"), generation=4)) == stale
    assert argo.health_of(obj(kind, ("Ready", "True", "Ready"), generation=4)) == stale


@pytest.mark.parametrize("kind", Kind)
def test_what_is_being_deleted_is_progressing_whatever_its_conditions_say(kind: Kind) -> None:
    dying = obj(kind, ("Ready", "False", "Fault"))
    dying["metadata"]["deletionTimestamp"] = "2026-06-10T02:00:00Z"
    assert argo.health_of(dying) == Health("Progressing", "Pending deletion")


def health_of_values(kind: Kind, values: tuple[ConditionValue, ...]) -> str:
    return argo.health_of(obj(kind, *((each.type, each.status.value, each.reason) for each in values))).status


SERVING = InstanceObservation(
    pool="prod",
    desired=2,
    min_available=2,
    suspended=False,
    held=2,
    releasing=0,
    available=2,
    refusal=None,
    wait=None,
    evaluated=True,
)
FULFILLED = PoolObservation(
    contracted_cu=600, provisioned_cu=600, provision_by=date(2026, 3, 1), today=date(2026, 2, 1), refusal=None
)


@pytest.mark.parametrize(
    ("changed", "health"),
    [
        ({}, "Healthy"),
        ({"available": 1}, "Progressing"),
        ({"evaluated": False}, "Progressing"),
        ({"held": 3}, "Progressing"),
        ({"desired": 0, "min_available": 0, "held": 0, "available": 0}, "Healthy"),
        ({"suspended": True, "available": 0}, "Suspended"),
        ({"suspended": True, "evaluated": False}, "Suspended"),
        ({"refusal": Refusal(instance.InstanceAccepted.POOL_NOT_FOUND, "no pool")}, "Degraded"),
        ({"suspended": True, "refusal": Refusal(instance.InstanceAccepted.EXCEEDS_POOL, "too many")}, "Degraded"),
        ({"held": 0, "wait": Wait(Waiting.NOT_YET_PROVISIONED, 600, 0)}, "Progressing"),
        ({"held": 0, "wait": Wait(Waiting.NOT_YET_PROVISIONED, 600, 0), "overdue": True}, "Degraded"),
        ({"held": 0, "wait": Wait(Waiting.WAITING_FOR_RELEASE, 600, 0)}, "Progressing"),
        ({"held": 0, "wait": Wait(Waiting.WAITING_FOR_COMPUTE_UNITS, 600, 0)}, "Degraded"),
        ({"held": 0, "wait": Wait(Waiting.FRAGMENTED, 600, 0)}, "Degraded"),
        ({"held": 0, "wait": Wait(Waiting.NODES_UNHEALTHY, 600, 0)}, "Degraded"),
    ],
)
def test_an_instance_that_waits_is_progressing_if_it_ends_by_itself_and_degraded_if_somebody_must_act(
    changed: dict[str, Any], health: str
) -> None:
    values = instance_conditions.conditions_of(replace(SERVING, **changed))
    assert health_of_values(Kind.MODEL_INSTANCE, values) == health


@pytest.mark.parametrize(
    ("changed", "health"),
    [
        ({}, "Healthy"),
        ({"provisioned_cu": 0}, "Progressing"),
        ({"provisioned_cu": 0, "today": date(2026, 3, 2)}, "Degraded"),
        ({"provisioned_cu": 500}, "Degraded"),
        ({"sick_nodes": ("gpu-1 (failed)",)}, "Degraded"),
        ({"foreign_pods": ("kube-system/miner",)}, "Degraded"),
    ],
)
def test_a_pool_is_progressing_until_the_agreed_day_and_degraded_when_it_lacks_what_was_bought(
    changed: dict[str, Any], health: str
) -> None:
    values = pool_conditions.conditions_of(replace(FULFILLED, **changed))
    assert health_of_values(Kind.COMPUTE_UNIT_POOL, values) == health
