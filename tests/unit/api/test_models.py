"""The models: what is read is what was written, and nothing else gets in."""

from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from reserved_capacity.api.acceleratorclass import AcceleratorClass
from reserved_capacity.api.base import ApiObject
from reserved_capacity.api.computeunitpool import ComputeUnitPool
from reserved_capacity.api.crd import KIND_MODELS
from reserved_capacity.api.fields import format_duration, parse_duration
from reserved_capacity.api.modelinstance import ModelInstance, ModelInstanceStatus
from reserved_capacity.api.modeloffering import ModelOffering
from reserved_capacity.api.poolstatus import CommitmentStatus, ComputeUnitPoolStatus, Holding
from reserved_capacity.api.pricebook import ComputeUnitPrice, PriceBook
from reserved_capacity.api.serving import Profile
from reserved_capacity.api.tokenunitreservation import TokenUnitReservation
from reserved_capacity.domain.terms import CommitmentState, Term

DIGEST = "oci://registry.example/models/m@sha256:" + "a" * 64
SERVING: dict[str, Any] = {
    "image": "vllm/vllm-openai:v1",
    "args": ["--model", "$(MODEL_PATH)"],
    "port": 8000,
    "readinessPath": "/health",
    "metricsPath": "/metrics",
    "env": [{"name": "A", "value": "b"}],
    "imagePullSecrets": ["pull"],
    "resources": {"limits": {"memory": "64Gi"}, "requests": {"cpu": "8"}},
    "sharedMemory": "16Gi",
    "runtimeClassName": "nvidia",
    "serviceAccountName": "models",
    "securityContext": {
        "runAsUser": 1000,
        "runAsNonRoot": True,
        "capabilities": {"add": ["IPC_LOCK"], "drop": ["ALL"]},
        "seccompProfile": {"type": "RuntimeDefault"},
    },
    "labels": {"team": "a"},
    "annotations": {"note": "b"},
    "profiles": [{"name": "low-latency", "args": ["--max-num-seqs", "16"], "env": []}],
}
SPECS: dict[type[ApiObject], dict[str, Any]] = {
    AcceleratorClass: {
        "nodeSelector": {"matchLabels": {"nvidia.com/gpu.product": "H100"}},
        "gpuResource": "nvidia.com/gpu",
        "gpusPerNode": 8,
        "computeUnitsPerNode": 800,
        "repair": [{"conditionType": "Ready", "status": "Unknown", "after": "10m"}],
    },
    ModelOffering: {
        "displayName": "GPT-4.1",
        "reserved": {
            "sold": True,
            "computeUnitsPerInstance": 300,
            "minInstances": 2,
            "nodesPerInstance": 1,
            "acceleratorClasses": ["h100-8"],
            "topologyKey": "topology.kubernetes.io/zone",
            "serving": SERVING,
        },
        "tokenUnits": {
            "fleet": {"poolRef": {"namespace": "provider", "name": "fleet"}},
            "baseRateLimits": [{"account": "*", "inputTokensPerMinute": 500000, "outputTokensPerMinute": 100000}],
            "input": {"tokensPerMinute": 30000},
            "output": {"tokensPerMinute": 2500},
            "minimumDays": 30,
            "latency": {"tokensPerSecond": 80, "percent": "99"},
            "uptime": "99.9",
            "longContext": "Excluded",
            "cachedInputWeight": "1",
        },
        "snapshots": [
            {
                "name": "gpt-4.1-2025-04-14",
                "artifact": DIGEST,
                "availableFrom": "2025-04-14",
                "deprecatedFrom": "2026-06-01",
                "retiresAt": "2026-12-01T00:00:00Z",
                "replacement": "gpt-5",
                "throughput": {"inputTokensPerMinute": 1, "outputTokensPerMinute": 1, "measuredBy": "bench"},
            }
        ],
    },
    PriceBook: {
        "currency": "USD",
        "computeUnits": [
            {"term": "OneYear", "effectiveFrom": "2024-02-08", "pricePerComputeUnitMonth": "220.00"},
        ],
        "tokenUnits": [
            {"offering": "gpt-4.1", "direction": "Input", "effectiveFrom": "2025-08-01", "pricePerUnitDay": "110.00"},
        ],
        "serviceLevels": {
            "reservedInstances": {"uptime": "99.5", "uptimeCredits": [{"below": "99.5", "percent": "10"}]},
            "tokenUnits": {"uptime": "99.9", "uptimeCredits": [], "latencyCredits": []},
        },
    },
    ComputeUnitPool: {
        "account": "acme",
        "priceBookRef": "usd",
        "acceleratorClass": "h100-8",
        "commitments": [
            {
                "id": "po-10023-1",
                "computeUnits": 600,
                "term": "OneYear",
                "payment": "Monthly",
                "provisionBy": "2026-03-01",
                "renewal": {"policy": "Expire"},
            }
        ],
        "amendments": [{"commitment": "po-10023-1", "at": "2026-06-01", "computeUnits": 300, "reason": "agreed"}],
        "nodeReplacement": {"strategy": "ReplaceFirst", "maxUnavailableNodes": 1},
        "maintenanceWindow": {"schedule": "0 2 * * 6", "duration": "4h"},
        "expiry": {"drainBefore": "1h", "stopOrder": ["chat"]},
    },
    ModelInstance: {
        "poolRef": "prod",
        "offering": "gpt-4-turbo",
        "snapshot": "gpt-4-turbo-2024-04-09",
        "profile": "default",
        "instances": 2,
        "priority": 0,
        "suspend": False,
        "changeSet": {"id": "rebalance-2026-03", "members": 2},
        "upgrade": {
            "strategy": "Surge",
            "whenNoSpare": "Block",
            "maxSurge": 1,
            "minAvailable": 2,
            "acceptBelowMinimum": False,
            "autoUpgrade": "Never",
            "paused": False,
            "canary": {"instances": 1, "hold": "30m", "approval": "Manual", "approvedRollout": 0},
            "onFailure": "Rollback",
            "progressDeadline": "45m",
        },
    },
    TokenUnitReservation: {
        "account": "acme",
        "priceBookRef": "usd",
        "offering": "gpt-4.1",
        "snapshot": "gpt-4.1-2025-04-14",
        "units": {"input": 3, "output": 4},
        "overflow": "Spill",
        "enforcement": "Enforce",
    },
}


def pool_spec(**changes: Any) -> dict[str, Any]:
    return {"spec": {**SPECS[ComputeUnitPool], **changes}}


@pytest.mark.parametrize("model", KIND_MODELS, ids=lambda model: model.info.kind)
def test_a_complete_spec_reads_and_writes_the_same(model: type[ApiObject]) -> None:
    parsed = model.parse({"metadata": {"name": "a", "uid": "u", "resourceVersion": "7"}, "spec": SPECS[model]})
    assert parsed.metadata.resource_version == "7"
    assert parsed.to_wire()["spec"] == SPECS[model]
    assert model.parse(parsed.to_wire()) == parsed


@pytest.mark.parametrize("model", KIND_MODELS, ids=lambda model: model.info.kind)
def test_an_unknown_field_is_ignored_at_every_depth(model: type[ApiObject]) -> None:
    newer = {"spec": SPECS[model] | {"fromTheFuture": 1}, "status": {"alsoNew": {}}, "more": 2}
    assert model.parse(newer) == model.parse({"spec": SPECS[model]})


def test_models_are_frozen() -> None:
    pool = ComputeUnitPool.parse(pool_spec())
    with pytest.raises(ValidationError, match="frozen"):
        pool.spec.account = "other"  # type: ignore[misc]


def test_money_is_a_decimal_string_and_never_a_float() -> None:
    entry = {"term": "OneYear", "effectiveFrom": "2024-02-08"}
    price = ComputeUnitPrice.parse(entry | {"pricePerComputeUnitMonth": "220.10"})
    assert price.price_per_compute_unit_month == Decimal("220.10")
    assert price.to_wire()["pricePerComputeUnitMonth"] == "220.10"
    assert price.effective_from == date(2024, 2, 8)
    for wrong in (220.1, 220, "1e3", "NaN", "", "220,00"):
        with pytest.raises(ValidationError):
            ComputeUnitPrice.parse(entry | {"pricePerComputeUnitMonth": wrong})


def test_times_are_utc_and_whole_seconds_so_that_they_read_back_equal() -> None:
    status = CommitmentStatus.parse({"id": "a", "state": "Active", "acceptedAt": "2026-03-01T01:59:59.9+01:00"})
    assert status.accepted_at == datetime(2026, 3, 1, 0, 59, 59, tzinfo=UTC)
    assert status.to_wire()["acceptedAt"] == "2026-03-01T00:59:59Z"
    with pytest.raises(ValidationError):
        CommitmentStatus.parse({"id": "a", "state": "Active", "acceptedAt": "2026-03-01T01:59:59"})


@given(st.integers(min_value=0, max_value=10**7))
def test_a_duration_reads_back_equal(seconds: int) -> None:
    value = timedelta(seconds=seconds)
    assert parse_duration(format_duration(value)) == value


@pytest.mark.parametrize("text", ["", "10", "1d", "5m1h", "-1m", "1.5h", "10m "])
def test_what_is_no_duration_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="is not a duration"):
        parse_duration(text)


def test_an_absent_status_is_an_empty_one() -> None:
    assert ComputeUnitPool.parse(pool_spec()).status == ComputeUnitPoolStatus()
    assert ModelInstanceStatus().to_wire()["instances"]["available"] == 0


def test_absent_fields_are_not_written_as_null() -> None:
    since = datetime(2026, 3, 1, tzinfo=UTC)
    held = Holding(instance="chat", member="chat-0", compute_units=300, nodes=("gpu-1",), since=since)
    status = ComputeUnitPoolStatus(holdings=(held,))
    wire = status.to_wire()
    assert "termEnd" not in wire
    assert wire["holdings"] == [
        {
            "instance": "chat",
            "instanceUid": "",
            "member": "chat-0",
            "computeUnits": 300,
            "nodes": ["gpu-1"],
            "since": "2026-03-01T00:00:00Z",
            "state": "Held",
        }
    ]


def test_running_is_every_state_but_the_first_and_the_last() -> None:
    assert {state for state in CommitmentState if not state.running} == {
        CommitmentState.ORDERED,
        CommitmentState.EXPIRED,
    }


def test_things_are_found_by_their_key() -> None:
    pool = ComputeUnitPool.parse(pool_spec())
    found = pool.spec.commitment("po-10023-1")
    assert found is not None
    assert found.term is Term.ONE_YEAR
    assert pool.spec.commitment("other") is None
    offering = ModelOffering.parse({"spec": SPECS[ModelOffering]})
    assert offering.spec.snapshot("gpt-4.1-2025-04-14") is not None
    serving = offering.spec.reserved.serving
    assert serving.profile("default") == Profile(name="default")
    assert serving.profile("other") is None
