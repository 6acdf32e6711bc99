"""Rollouts on a real control plane, watched at every write of it (behaviour.md S1-S6, R2, R3, C6; issue 7's "must show").

Customers have nodes of their own, so their stories are told side by side, by one operator. The kubelets are KWOK's.
"""

from __future__ import annotations

import asyncio
import copy
import json
import subprocess
import sys
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from pathlib import Path

import pytest
import pytest_asyncio

from e2e.api import OFFERINGS, PODS, POOLS, STATEFUL_SETS, Json
from e2e.cluster import audit
from e2e.cluster.lifecycle import Cluster
from e2e.customers import TURBO, Customer, all_of
from e2e.invariants import violations
from e2e.operator import USER
from e2e.serving import (
    a_pod_of,
    comes_up_again,
    fails,
    fewest,
    member_of,
    moved,
    never_comes_up,
    pods_of,
    pulled_before_it_went,
    rollout,
    served,
    shown_by_argo_cd,
    snapshots,
    status_of,
    touched,
)
from e2e.stage import Stage, staged
from e2e.test_snapshot_dates import EDITS, edit, is_seen
from e2e.waiting import eventually

pytestmark = pytest.mark.asyncio(loop_scope="module")

OLD, NEW, BROKEN = f"{TURBO}-1", f"{TURBO}-2", f"{TURBO}-3"
PLUGIN = Path(sys.executable).parent / "kubectl-reserved"
_YEAR_OF_600_CU = 1_584_000_00  # in cents: M2, and the seed's own figure
_FLAGS = ("--development", "--leader-elect=false")


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def stage(cluster: Cluster, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Stage]:
    directory: Path = tmp_path_factory.mktemp("rollouts")
    async with staged(cluster, directory) as one:
        await one.operator(*_FLAGS, "--clock-offset-file", str(directory / "offset"))
        await never_comes_up(one.api, BROKEN)
        yield one
        await comes_up_again(one.api, BROKEN)


async def enter(stage: Stage, **compute_units: int) -> list[Customer]:
    """Customers with so many compute units, two members of chat each, and three snapshots to choose from."""
    come = []
    for name, units in compute_units.items():
        come += await stage.enter(name, compute_units=units)
    digest = "sha256:" + "b" * 64
    listed = [
        {"name": name, "artifact": f"oci://registry.example/{name}@{digest}", "availableFrom": "2024-01-01"}
        for name in (OLD, NEW, BROKEN)
    ]
    known = (await stage.api.get(OFFERINGS, "", TURBO))["spec"]["snapshots"]
    await stage.api.patch(OFFERINGS, "", TURBO, {"spec": {"snapshots": [*known, *listed[len(known) :]]}})
    await all_of(*(_begin(each) for each in come))
    return come


async def _begin(customer: Customer) -> None:
    await customer.provide(2)
    await customer.buy()
    await customer.serve("chat", TURBO, 2)
    await customer.settled(chat=2)


async def canary_of(customer: Customer, reason: str = "AwaitingApproval") -> Json:
    """Wait until the canary serves, and the one that it replaces is gone; its pod."""
    history = customer.history
    await customer.sees("chat", "Unknown", reason, "UpToDate")

    def replaced() -> bool:
        running = sorted(snapshots(history, customer).values())
        return running == [OLD, NEW] and len(history.of(STATEFUL_SETS, customer.name)) == len(running)

    await history.until(replaced, "one of two is a canary", tell=lambda: snapshots(history, customer))
    [canary] = pods_of(history, customer, NEW)
    return canary


def assert_nothing_broke(stage: Stage, *customers: Customer) -> None:
    broken = violations(stage.history, customers)
    assert not broken, broken[:10]
    for operator in stage.operators:
        assert operator.records("error", "critical") == []


# ------------------------------------------------------------------------------------------------- with no spare, with room


async def test_s2_s4_s5_with_and_without_spare_nobody_is_missed_but_whom_the_customer_gives_up(stage: Stage) -> None:
    full, lent, roomy = customers = await enter(stage, full=600, lent=600, roomy=900)
    await all_of(_block_then_in_place(stage, full), _borrows(lent), _canary_pause_and_second_thoughts(roomy))
    assert_nothing_broke(stage, *customers)


async def _block_then_in_place(stage: Stage, full: Customer) -> None:
    history, since, began = full.history, full.history.version, datetime.now(UTC)
    await full.edit("chat", snapshot=NEW)
    message = await full.sees("chat", "False", "RolloutBlocked", "UpToDate")
    for word in ("need 300 CU, spare 0", "InPlace", "BorrowSpare"):
        assert word in message
        assert word in rollout(full)["blockedOn"]
    await full.edit("chat", upgrade={"whenNoSpare": "InPlace", "minAvailable": 1})
    await history.until(lambda: "acceptBelowMinimum" in rollout(full).get("blockedOn", ""), "the floor is named")
    assert touched(history, full, since) == [], "nothing is touched"
    if stage.cluster.audit_log is not None:
        asked = audit.events(stage.cluster.audit_log, USER, began)
        kinds = {each.resource for each in asked if each.is_write and each.namespace == full.name}
        assert kinds <= {"modelinstances.reservedcapacity.io/status", "computeunitpools.reservedcapacity.io/status"} | {
            "events.events.k8s.io",
            "controllerrevisions.apps",
        }

    await full.edit("chat", upgrade={"acceptBelowMinimum": True})
    await moved(full, NEW)
    assert fewest(history, full, since) == 1
    assert rollout(full)["strategy"] == "InPlace"
    assert {each["allocated"] for each in _units(full, since)} <= {300, 600}


async def test_s3_in_place_nobody_goes_before_the_artifact_is_on_the_node(stage: Stage) -> None:
    """The Job that pulls it is the real controllers', the kubelet is KWOK's. When the rollout is over it leaves nothing."""
    [pulls] = await enter(stage, pulls=600)
    in_place = {"strategy": "InPlace", "minAvailable": 1, "acceptBelowMinimum": True}
    history, since, before = pulls.history, pulls.history.version, set(pulls.pods().values())
    await pulls.edit("chat", snapshot=NEW, upgrade=in_place)
    await moved(pulls, NEW)
    assert before.isdisjoint(pulls.pods().values())
    went = pulled_before_it_went(history, pulls, since)
    assert went, "members have gone"
    assert all(went.values()), went
    assert await pulls.sees("chat", "True", "Cached", "SnapshotCached")

    def everything() -> list[str]:
        return [each["metadata"]["name"] for each in history.of(PODS, pulls.name)]

    await history.until(lambda: sorted(everything()) == sorted(pulls.pods()), "no pull is left", 60, everything)
    jobs = await asyncio.to_thread(stage.cluster.kubectl, "get", "jobs", "-n", pulls.name, "-o", "name")
    assert jobs.stdout.strip() == ""
    report = status_of(pulls)["upgradeReport"]
    assert (report["result"], report["unavailableSeconds"]) == ("Done", 0), (
        "one of two served all the time, as promised"
    )
    assert_nothing_broke(stage, pulls)


async def _borrows(lent: Customer) -> None:
    history, since, before = lent.history, lent.history.version, lent.pool()
    await lent.edit("chat", snapshot=NEW, upgrade={"whenNoSpare": "BorrowSpare"})
    await moved(lent, NEW)
    assert fewest(history, lent, since) == 2, "no unavailable second"
    units = _units(lent, since)
    for kept in ("contracted", "provisioned", "allocated"):
        assert {each[kept] for each in units} == {600}
    assert {each["surge"] for each in units} == {0, 300}
    await history.until(lambda: sum(lent.claims().values()) == 6, "what was lent is given back")
    assert lent.pool()["billing"]["perDay"] == before["billing"]["perDay"]


def _units(customer: Customer, since: int) -> list[Json]:
    """The compute units that the pool told of, write by write."""
    return [
        each.obj["status"]["computeUnits"]
        for each in customer.history.happenings
        if each.version > since and each.place[:2] == (POOLS, customer.name) and each.obj
    ]


async def _canary_pause_and_second_thoughts(roomy: Customer) -> None:
    history, since, first = roomy.history, roomy.history.version, snapshots(roomy.history, roomy)
    await roomy.edit("chat", snapshot=NEW, upgrade={"canary": {"instances": 1}})
    await canary_of(roomy)
    since_canary, number = history.version, rollout(roomy)["id"]
    assert f"approvedRollout to {number}" in roomy.condition("chat", "UpToDate")["message"]
    assert shown_by_argo_cd(roomy) == "Suspended"
    await roomy.edit("chat", upgrade={"paused": True, "canary": {"approvedRollout": number}})
    await roomy.sees("chat", "Unknown", "Paused", "UpToDate")
    assert shown_by_argo_cd(roomy) == "Suspended"
    assert touched(history, roomy, since_canary) == [], "a pause holds it, though it is approved"
    await roomy.edit("chat", upgrade={"paused": False})
    await moved(roomy, NEW)
    assert not first.keys() & snapshots(history, roomy).keys()

    # Changed twice in the middle: to what never comes up, to the old one, and back to what it was.
    second = snapshots(history, roomy)
    await roomy.edit("chat", snapshot=BROKEN, upgrade={"canary": None})
    await a_pod_of(roomy, BROKEN)
    await roomy.edit("chat", snapshot=OLD)
    await a_pod_of(roomy, OLD)
    await roomy.edit("chat", snapshot=NEW)
    await moved(roomy, NEW)
    assert second.keys() & snapshots(history, roomy).keys(), "who never moved is not restarted"
    assert fewest(history, roomy, since) == 2


# ---------------------------------------------------------------------------------------------------------------- failures


async def test_s5_s6_bad_versions_stop_by_themselves_say_why_and_cost_no_more_than_was_agreed(stage: Stage) -> None:
    bad, placed, crashing, lost = customers = await enter(stage, bad=900, placed=600, crashing=900, lost=900)
    await all_of(_bad_image(bad), _bad_in_place(placed), _crash_loop(crashing), _lost_node(lost))
    assert_nothing_broke(stage, *customers)


async def _bad_image(bad: Customer) -> None:
    """A failed surge costs nothing."""
    history, since, before = bad.history, bad.history.version, snapshots(bad.history, bad)
    await bad.edit("chat", snapshot=BROKEN, upgrade={"progressDeadline": "5s"})
    pod = await a_pod_of(bad, BROKEN)
    await fails(bad.api, pod, "ImagePullBackOff", "manifest unknown")
    message = await bad.sees("chat", "False", "RolledBack", "UpToDate")
    for words in (member_of(pod), "did not serve within 5s", "ImagePullBackOff: manifest unknown", f"back to {OLD}"):
        assert words in message
    assert status_of(bad)["lastFailure"]["member"] == member_of(pod)
    assert bad.condition("chat", "Ready")["status"] == "False"
    assert shown_by_argo_cd(bad) == "Degraded"
    await history.until(lambda: snapshots(history, bad) == before, "the bad one is gone, the others are as they were")
    assert fewest(history, bad, since) == 2
    await bad.edit("chat", snapshot=OLD)
    await moved(bad, OLD)
    assert snapshots(history, bad) == before


async def _bad_in_place(placed: Customer) -> None:
    """A failed member in place is followed by one of the old snapshot; never fewer than one serve."""
    history, since, before = placed.history, placed.history.version, snapshots(placed.history, placed)
    in_place = {"whenNoSpare": "InPlace", "minAvailable": 1, "acceptBelowMinimum": True}
    await placed.edit("chat", snapshot=BROKEN, upgrade={**in_place, "progressDeadline": "5s"})
    message = await placed.sees("chat", "False", "RolledBack", "UpToDate")
    assert f"set the snapshot and profile back to {OLD}" in message
    await history.until(lambda: placed.running() == {"chat": 2}, "two serve again")
    assert set(snapshots(history, placed).values()) == {OLD}
    assert len(before.keys() & snapshots(history, placed).keys()) == 1, "who never moved is not restarted"
    assert fewest(history, placed, since) == 1


async def _crash_loop(crashing: Customer) -> None:
    """It served, and then it does not any more: nobody else moves to it, and Halt leaves everything to look at."""
    history = crashing.history
    upgrade = {"canary": {"instances": 1}, "onFailure": "Halt"}
    await crashing.edit("chat", snapshot=NEW, upgrade=upgrade)
    pod, since = await canary_of(crashing), history.version
    await fails(crashing.api, pod, "CrashLoopBackOff", "back-off 5m0s restarting failed container")
    approved = {"canary": {"approvedRollout": rollout(crashing)["id"]}}
    await crashing.edit("chat", upgrade={**approved, "progressDeadline": "5s"})
    message = await crashing.sees("chat", "False", "RolloutFailed", "UpToDate")
    for words in (member_of(pod), "CrashLoopBackOff", f"back to {OLD}"):
        assert words in message
    assert rollout(crashing)["phase"] == "Halted"
    assert crashing.condition("chat", "Ready")["reason"] == "RolloutFailed"
    assert shown_by_argo_cd(crashing) == "Degraded"
    assert fewest(history, crashing, since) == 1, "the one that never moved serves on"
    await crashing.edit("chat", snapshot=OLD)
    await moved(crashing, OLD)
    assert fewest(history, crashing, since) == 1


async def _lost_node(lost: Customer) -> None:
    """Whoever the lost node costs is repaired to what it was; the rollout stops nobody who cannot be spared."""
    history = lost.history
    await lost.add_nodes(1)
    await lost.edit("chat", snapshot=NEW, upgrade={"canary": {"instances": 1}})
    canary, since = await canary_of(lost), history.version
    node = canary["spec"]["nodeName"]
    await lost.lose_node(node)
    await lost.edit("chat", upgrade={"canary": {"approvedRollout": rollout(lost)["id"]}})
    await history.until(
        lambda: node not in lost.held_on(), "the lost node is left", tell=lambda: lost.pool()["holdings"]
    )
    await lost.end_pods(node)
    await moved(lost, NEW)
    before: set[str] = set()
    for happening, world in history.replay():
        serving = served(world, lost, "chat")
        pod = happening.was if happening.place[:2] == (PODS, lost.name) else None
        if happening.version > since and pod and pod["metadata"]["uid"] in before - serving:
            assert pod["spec"].get("nodeName") == node or len(serving) >= 2, "one that could not be spared was stopped"
        before = serving


# ------------------------------------------------------------------------------------------------------------- the operator


async def test_s5_the_operator_is_killed_again_and_again_while_rollouts_go_forth_and_back(stage: Stage) -> None:
    customers = await enter(stage, surges=900, places=600, borrows=600, returns=900)
    since = stage.history.version
    stories = asyncio.gather(*(_forth_and_back(each) for each in customers))
    kills = 0
    while not stories.done() and kills < 9:
        await asyncio.wait([stories], timeout=(1.1, 1.6, 2.3)[kills % 3])
        stage.operators[0].kill()
        await asyncio.to_thread(stage.operators[0].start)
        kills += 1
    await stories
    assert kills >= 4, "it was hardly disturbed"
    for each, least in zip(customers, (2, 1, 2, 2), strict=True):
        assert fewest(stage.history, each, since) == least, each.name
    assert_nothing_broke(stage, *customers)


async def _forth_and_back(customer: Customer) -> None:
    upgrades: dict[str, Json] = {
        "places": {"strategy": "InPlace", "minAvailable": 1, "acceptBelowMinimum": True},
        "borrows": {"whenNoSpare": "BorrowSpare"},
        "returns": {"canary": {"instances": 1}},
    }
    await customer.edit("chat", snapshot=NEW, upgrade=upgrades.get(customer.name, {}))
    if customer.name == "returns":
        await customer.sees("chat", "Unknown", "AwaitingApproval", "UpToDate")
    else:
        await moved(customer, NEW)
    await customer.edit("chat", snapshot=OLD)
    await moved(customer, OLD)


# ------------------------------------------------------------------------------------------- time, money, and the catalogue


async def test_s2_s4_days_of_a_borrowing_canary_cost_nothing_and_a_timer_goes_on_by_itself(stage: Stage) -> None:
    days, timed = customers = await enter(stage, days=600, timed=900)
    canary: Json = {"canary": {"instances": 1, "approval": "Timer", "hold": "30m"}}
    await days.edit("chat", snapshot=NEW, upgrade={"canary": {"instances": 1}, "whenNoSpare": "BorrowSpare"})
    await timed.edit("chat", snapshot=NEW, upgrade=canary)
    await all_of(canary_of(days), canary_of(timed, "RollingOut"))
    since = stage.history.version
    await _time_is(stage, 31 * 60)
    await moved(timed, NEW)
    assert touched(stage.history, days, since) == []

    await _time_is(stage, 3 * 86_400)
    rows = await _charges(stage, days, 2)
    assert days.pool()["computeUnits"]["surge"] == 300
    expected = [_YEAR_OF_600_CU * day // 365 - _YEAR_OF_600_CU * (day - 1) // 365 for day in range(1, len(rows) + 1)]
    assert [round(float(row["amount"]) * 100) for row in rows] == expected, "what is lent is not charged"
    await days.edit("chat", upgrade={"canary": {"approvedRollout": rollout(days)["id"]}})
    await moved(days, NEW)
    assert fewest(stage.history, days, since) == 2
    assert_nothing_broke(stage, *customers)


async def _time_is(stage: Stage, ahead: int) -> None:
    """The operator's clock runs so many seconds ahead."""

    def changes() -> int:
        return sum(each["event"] == "clock offset changed" for each in stage.operators[0].records("info"))

    before = changes()
    (stage.directory / "offset").write_text(str(ahead))
    await stage.history.until(lambda: changes() > before, "the operator looks at its clock")


async def _charges(stage: Stage, customer: Customer, least: int) -> list[Json]:
    (books,) = (stage.directory / "reserved-capacity").glob("*.db")
    command = [str(PLUGIN), "ledger", "--account", customer.name, "--database-url", f"sqlite:///{books}", "-o", "json"]
    rows: list[Json] = []

    async def enough() -> bool:
        answer = await asyncio.to_thread(subprocess.run, command, capture_output=True, check=True)
        rows[:] = json.loads(answer.stdout)["entries"]
        return len(rows) >= least

    await eventually(enough, lambda: f"{least} rows of {customer.name}: {rows}")
    return rows


async def test_r3_s1_editing_the_catalogue_moves_no_pod_in_the_middle_of_a_rollout_nor_after_it(stage: Stage) -> None:
    [calm] = await enter(stage, still=900)
    history = stage.history
    await calm.edit("chat", snapshot=NEW, upgrade={"canary": {"instances": 1}})
    canary = await canary_of(calm)

    await _edit_all(stage, calm)
    await calm.edit("chat", upgrade={"canary": {"approvedRollout": rollout(calm)["id"]}})
    await moved(calm, NEW)
    containers = [pod["spec"]["containers"][0] for pod in pods_of(history, calm, NEW)]
    for part in ("image", "args", "ports", "readinessProbe"):
        told = {json.dumps(each.get(part), sort_keys=True) for each in containers}
        assert told == {json.dumps(canary["spec"]["containers"][0].get(part), sort_keys=True)}, (
            "all run what the first runs"
        )
    await _edit_all(stage, calm)
    assert_nothing_broke(stage, calm)


async def _edit_all(stage: Stage, calm: Customer) -> None:
    """Every field of the offering that may change, and back; no pod and no StatefulSet is touched meanwhile."""
    offering, since = await stage.api.get(OFFERINGS, "", TURBO), stage.history.version
    for change in copy.deepcopy(EDITS):
        await edit(stage.api, TURBO, **change)
        await is_seen(stage, TURBO)
        assert touched(stage.history, calm, since) == [], change
    await stage.api.patch(OFFERINGS, "", TURBO, {"spec": {"tokenUnits": None, **offering["spec"]}})
    await is_seen(stage, TURBO)
    assert touched(stage.history, calm, since) == []
