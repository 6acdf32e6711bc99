"""The catalogue changes under what runs, on a real API server: dates are refused or flagged, and no pod moves (S1, S8, R3)."""

from __future__ import annotations

import copy
from collections.abc import AsyncIterator

import pytest
import pytest_asyncio

from e2e.api import INSTANCES, OFFERINGS, OURS, STATEFUL_SETS, Api, Json, Refused
from e2e.cluster.lifecycle import Cluster
from e2e.customers import SMALL, TURBO, Customer
from e2e.stage import Stage, staged
from e2e.waiting import eventually

pytestmark = pytest.mark.asyncio(loop_scope="module")

TOKENS = f"{OURS}/tokenunitreservations"
EARLY, EARLIER = "2027-02-01T00:00:00Z", "2027-01-01T00:00:00Z"  # both within the year that is bought now


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def stage(cluster: Cluster, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Stage]:
    async with staged(cluster, tmp_path_factory.mktemp("dates")) as one:
        await one.operator()
        yield one


async def edit(api: Api, name: str, **parts: Json) -> Json:
    """Merge into the spec of an offering; of the snapshot `snapshot` if that is given."""
    spec = (await api.get(OFFERINGS, "", name))["spec"]
    snapshot = parts.pop("snapshot", None)
    if snapshot is not None:
        parts["snapshots"] = [{**spec["snapshots"][0], **snapshot}, *spec["snapshots"][1:]]  # type: ignore[assignment]
    return await api.patch(OFFERINGS, "", name, {"spec": parts})


async def refusal(api: Api, name: str, **parts: Json) -> str:
    before = (await api.get(OFFERINGS, "", name))["metadata"]["generation"]
    with pytest.raises(Refused) as caught:
        await edit(api, name, **parts)
    assert caught.value.code in (403, 422)
    assert (await api.get(OFFERINGS, "", name))["metadata"]["generation"] == before
    return caught.value.message


async def is_seen(stage: Stage, name: str) -> Json:
    """Wait until the operator has looked at the newest spec of the offering."""
    generation = (await stage.api.get(OFFERINGS, "", name))["metadata"]["generation"]

    def seen() -> Json | None:
        obj = stage.history.get(OFFERINGS, "", name) or {}
        return obj if (obj.get("status") or {}).get("observedGeneration") == generation else None

    return await stage.history.until(seen, f"generation {generation} of {name} is seen") or {}


async def told(stage: Stage, customer: Customer, name: str, words: str) -> Json:
    """Wait until SnapshotSupported of an instance says so; the instance."""

    def says() -> Json | None:
        found = customer.condition(name, "SnapshotSupported")
        return stage.history.get(INSTANCES, customer.name, name) if words in found.get("message", "") else None

    what = f"{name} says {words!r}"
    found = await stage.history.until(says, what, tell=lambda: customer.condition(name, "SnapshotSupported"))
    assert found is not None
    return found


def what_runs(stage: Stage, customer: Customer) -> tuple[dict[str, str], dict[str, int]]:
    sets = stage.history.of(STATEFUL_SETS, customer.name)
    return customer.pods(), {each["metadata"]["name"]: each["metadata"]["generation"] for each in sets}


EDITS: tuple[Json, ...] = (
    {"displayName": "another name"},
    {"reserved": {"serving": {"image": "other/server@sha256:" + "c" * 64, "args": ["--other"], "port": 9000}}},
    {"reserved": {"serving": {"readinessPath": "/ready", "metricsPath": "/m", "env": [{"name": "A", "value": "b"}]}}},
    {"reserved": {"serving": {"profiles": [{"name": "default", "args": ["--slow"]}, {"name": "fast"}]}}},
    {"reserved": {"computeUnitsPerInstance": 400}},
    {"reserved": {"minInstances": 3}},
    {"reserved": {"acceleratorClasses": ["elsewhere"], "topologyKey": "rack"}},
    {"reserved": {"sold": False}},
    {"tokenUnits": {"input": {"tokensPerMinute": 1}, "output": {"tokensPerMinute": 1}}},
    {
        "snapshot": {
            "availableFrom": "2030-01-01",
            "throughput": {"inputTokensPerMinute": 1, "outputTokensPerMinute": 1},
        }
    },
    {"snapshot": {"deprecatedFrom": "2024-02-01", "replacement": f"{TURBO}-2"}},
    {"snapshot": {"retiresAt": "2029-01-01T00:00:00Z"}},
    {"snapshot": {"retiresAt": "2024-03-01T00:00:00Z", "emergency": {"reason": "weights leak"}}},
)


async def test_editing_the_catalogue_in_every_allowed_way_moves_no_pod_of_what_runs(stage: Stage) -> None:
    """R3, S1: every field of an offering that may change, one after the other, and then all of it back."""
    [calm] = await stage.enter("calm")
    await calm.provide(1)
    await calm.buy()
    await calm.serve("chat", TURBO, 2)
    await calm.settled(chat=2)
    before = what_runs(stage, calm)
    offering = await stage.api.get(OFFERINGS, "", TURBO)
    for change in copy.deepcopy(EDITS):
        await edit(stage.api, TURBO, **change)
        await is_seen(stage, TURBO)
        assert what_runs(stage, calm) == before, change
    await told(stage, calm, "chat", "retired at 2024-03-01T00:00:00Z (emergency: weights leak)")
    assert calm.condition("chat", "SnapshotSupported")["reason"] == "Retired"

    await stage.api.patch(OFFERINGS, "", TURBO, {"spec": {"tokenUnits": None, **offering["spec"]}})
    await is_seen(stage, TURBO)
    await calm.serve("fast", SMALL, 2)  # the pool has been planned since
    await calm.settled(chat=2, fast=2)
    pods, sets = what_runs(stage, calm)
    assert before[0].items() <= pods.items()
    assert before[1].items() <= sets.items()
    assert stage.operators[0].records("error", "critical") == []


async def test_a_retirement_date_inside_a_commitment_is_refused_or_flagged_on_every_object_that_pins_it(
    stage: Stage,
) -> None:
    """S8, on the status that the operator itself writes."""
    [bound] = await stage.enter("bound")
    await bound.provide(1)
    await bound.buy()
    await bound.serve("fast", SMALL, 1)
    await bound.settled(fast=1)
    await stage.api.apply(TOKENS, reservation(bound))
    end = bound.pool()["commitments"][0]["termEnd"]

    def bound_until() -> bool:
        (snapshot,) = (stage.history.get(OFFERINGS, "", SMALL) or {})["status"]["snapshots"]
        return bool(snapshot.get("latestCommitmentEnd") == end and snapshot["pinnedInstances"] >= 2)

    await stage.history.until(bound_until, "the offering knows who is bound, and until when")
    message = await refusal(stage.api, SMALL, snapshot={"retiresAt": EARLY})
    assert "spec.snapshots[].retiresAt lies inside a commitment that pins the snapshot" in message
    assert "retire it not before status.snapshots[].latestCommitmentEnd, or state emergency.reason" in message

    await edit(stage.api, SMALL, snapshot={"retiresAt": end, "replacement": f"{SMALL}-2"})
    await told(stage, bound, "fast", f"retires at {end}; set spec.snapshot to {SMALL}-2")
    message = await refusal(stage.api, SMALL, snapshot={"retiresAt": EARLY})
    assert f"retiresAt of {SMALL}-1 moves only later than {end}: keep the date, or state emergency.reason" in message

    await edit(stage.api, SMALL, snapshot={"retiresAt": EARLY, "emergency": {"reason": "weights leak"}})
    fast = await told(stage, bound, "fast", f"at {EARLY} (emergency: weights leak)")
    assert fast["status"]["snapshot"]["emergency"] == "weights leak"
    assert fast["status"]["snapshot"]["retiresAt"] == EARLY
    await tokens_say(stage, bound, "(emergency: weights leak)")
    await events_say(stage, bound, {"ModelInstance", "TokenUnitReservation"}, f"{EARLY} (emergency: weights leak)")

    await edit(stage.api, SMALL, snapshot={"emergency": None})
    await told(stage, bound, "fast", f"earlier than {end}, before which it was not to retire")
    await edit(stage.api, SMALL, snapshot={"retiresAt": end})
    fast = await told(stage, bound, "fast", f"retires at {end}; set")
    assert "emergency" not in fast["status"]["snapshot"]


async def test_a_date_that_the_api_server_could_not_judge_is_flagged_by_the_operator(stage: Stage) -> None:
    """S8: while no operator runs, the status does not tell the API server who pins the snapshot."""
    [late] = await stage.enter("late")
    await late.provide(1)
    await late.buy()
    await late.serve("fast", SMALL, 1)
    await late.settled(fast=1)
    end = late.pool()["commitments"][0]["termEnd"]
    another = "oci://registry.example/small@sha256:" + "d" * 64
    spec = (await stage.api.get(OFFERINGS, "", SMALL))["spec"]
    snapshots = [*spec["snapshots"], {"name": f"{SMALL}-2", "artifact": another}]
    await stage.api.patch(OFFERINGS, "", SMALL, {"spec": {"snapshots": snapshots}})
    await is_seen(stage, SMALL)

    stage.operators[0].kill()
    await stage.api.apply(INSTANCES, instance(late, "other", f"{SMALL}-2"))
    snapshots[1]["retiresAt"] = EARLIER
    await stage.api.patch(OFFERINGS, "", SMALL, {"spec": {"snapshots": snapshots}})
    await stage.operator(name="successor")
    other = await told(stage, late, "other", f"earlier than {end}, before which it was not to retire")
    assert "states no emergency.reason" in other["status"]["snapshot"]["emergency"]
    offering = await is_seen(stage, SMALL)
    assert f"{SMALL}-2 was not to retire before {end}: set retiresAt back" in offering["status"]["summary"]
    assert "emergency" not in late.condition("fast", "SnapshotSupported")["message"]


def instance(customer: Customer, name: str, snapshot: str) -> Json:
    return {
        "apiVersion": "reservedcapacity.io/v1alpha1",
        "kind": "ModelInstance",
        "metadata": {"name": name, "namespace": customer.name},
        "spec": {"poolRef": "prod", "offering": SMALL, "snapshot": snapshot, "instances": 1},
    }


def reservation(customer: Customer) -> Json:
    spec = {"account": customer.name, "priceBookRef": "usd", "offering": SMALL, "snapshot": f"{SMALL}-1"}
    return {
        "apiVersion": "reservedcapacity.io/v1alpha1",
        "kind": "TokenUnitReservation",
        "metadata": {"name": "tokens", "namespace": customer.name},
        "spec": {**spec, "units": {"input": 1, "output": 1}},
    }


async def tokens_say(stage: Stage, customer: Customer, words: str) -> None:
    said: list[str] = []

    async def look() -> bool:
        status = (await stage.api.get(TOKENS, customer.name, "tokens")).get("status") or {}
        said[:] = [each["message"] for each in status.get("conditions", ()) if each["type"] == "SnapshotSupported"]
        return any(words in message for message in said)

    await eventually(look, lambda: f"SnapshotSupported says {words!r}: {said}")


async def events_say(stage: Stage, customer: Customer, kinds: set[str], words: str) -> None:
    events: list[Json] = []

    async def about() -> list[str]:
        events[:] = (await stage.api.list(f"/apis/events.k8s.io/v1/namespaces/{customer.name}/events"))["items"]
        told = [each["regarding"]["kind"] for each in events if words in each["note"]]
        return told if set(told) == kinds else []

    told = await eventually(about, lambda: f"{kinds} say {words!r}: {[each['note'] for each in events]}")
    assert len(told) == len(kinds), "each is told once"
