"""Which condition decides, what the others say, and in which order (api.md, conventions)."""

from __future__ import annotations

from collections.abc import Sequence

from reserved_capacity.api.computeunitpool import ComputeUnitPool
from reserved_capacity.api.meta import Kind
from reserved_capacity.api.modelinstance import ModelInstance
from reserved_capacity.cli.findings import Level, Verdict, chain_of, reason_of, verdict_of
from reserved_capacity.cli.render_status import render_status
from reserved_capacity.cli.view import status_view
from reserved_capacity.ports import JsonObject
from tests.unit.cli.builders import (
    chat,
    condition,
    instance,
    page,
    pool,
    provisioned,
    serves,
    text,
    waits,
    world,
)


def of_instance(conditions: Sequence[JsonObject]) -> Verdict:
    parsed = ModelInstance.parse(instance("fast", conditions))
    return verdict_of(parsed, parsed.status)


def of_pool(conditions: Sequence[JsonObject]) -> Verdict:
    parsed = ComputeUnitPool.parse(pool(conditions=conditions))
    return verdict_of(parsed, parsed.status)


def test_one_reason_that_several_conditions_give_is_one_finding_and_decides() -> None:
    verdict = of_instance(waits())
    decider = verdict.decider
    assert decider is not None
    assert decider.types == ("CapacityReserved", "Ready")
    assert decider.meaning == "The pool has too few idle compute units."
    assert decider.remedy.startswith("Scale another instance down")
    assert [(each.reason, each.level) for each in verdict.findings] == [
        ("WaitingForComputeUnits", Level.ACT),
        ("NoMember", Level.WARNING),
    ]


def test_ready_unknown_makes_a_false_condition_a_wait_and_no_alarm() -> None:
    verdict = of_instance(waits("WaitingForRelease", "the pods are terminating", status="Unknown"))
    assert verdict.level is Level.MOVING
    assert verdict.decider is not None
    assert verdict.decider.level is Level.MOVING


def test_ready_may_borrow_a_reason_whose_own_condition_is_true() -> None:
    conditions = [*serves()[:3], condition("Ready", "Unknown", "WaitingForRelease", "1 members are terminating")]
    decider = of_instance(conditions).decider
    assert decider is not None
    assert decider.types == ("Ready",)
    assert decider.remedy == "Wait; the message says how many are on their way."


def test_n3_a_member_that_serves_and_cannot_leave_its_node_is_not_all_as_it_should_be() -> None:
    cannot = "chat-0 has to leave gpu-1 and cannot: need 300 CU on another node, have 0 spare; uncordon gpu-1"
    said = [*serves()[:-1], condition("Ready", "True", "Ready", f"2 of 2 instances are serving; {cannot}")]
    assert of_instance(said).remark == cannot
    assert of_instance(serves()).remark == ""
    shown = text(render_status(status_view(world(pool(), chat(said)), "acme"), page(120)))
    assert "! Serves, and something is left to do: mi/chat\n" in shown
    assert f"! {cannot}\n" in shown
    assert "All is as it should be" not in shown


def test_a_planned_expiry_is_a_warning_on_a_pool_that_is_ready() -> None:
    expiring = condition("CommitmentSecure", "False", "ExpiresSoon", "po-1 ends 2026-04-01")
    verdict = of_pool([*provisioned(), expiring])
    assert verdict.level is Level.FINE
    assert [(each.reason, each.level, each.decides) for each in verdict.findings] == [
        ("ExpiresSoon", Level.WARNING, False)
    ]


def test_the_decider_stands_first_whatever_the_order_of_precedence() -> None:
    late = condition("Provisioned", "Unknown", "Provisioning", "600 CU are missing")
    gone = condition("Healthy", "False", "NodesUnhealthy", "gpu-1 (gone)")
    verdict = of_pool([late, gone, condition("Ready", "False", "NodesUnhealthy", "gpu-1 (gone)")])
    assert [each.reason for each in verdict.findings] == ["NodesUnhealthy", "Provisioning"]


def test_a_reason_that_a_newer_operator_invented_is_shown_without_a_meaning() -> None:
    verdict = of_instance([condition("Ready", "False", "Moonphase", "wait for the full moon")])
    assert verdict.decider is not None
    assert (verdict.decider.reason, verdict.decider.meaning, verdict.decider.remedy) == ("Moonphase", "", "")


def test_the_chain_is_in_the_order_of_precedence_with_ready_last() -> None:
    parsed = ModelInstance.parse(instance("fast", [*reversed(waits()), condition("Brandnew", "True", "Yes")]))
    chain = chain_of(Kind.MODEL_INSTANCE, parsed.status)
    assert [each.type for each in chain] == ["Accepted", "CapacityReserved", "Available", "Brandnew", "Ready"]


def test_what_kstatus_wants_to_hear_is_no_finding() -> None:
    assert of_instance([*serves(), condition("Reconciling", "True", "Reconciling")]).findings == ()


def test_every_kind_explains_the_reason_that_ready_borrows() -> None:
    borrowed = reason_of(Kind.COMPUTE_UNIT_POOL, "Ready", "ForeignPods")
    assert borrowed is not None
    assert borrowed.meaning.startswith("Pods that are not ours")
    assert reason_of(Kind.ACCELERATOR_CLASS, "Ready", "Nonsense") is None


def test_a_snapshot_that_retires_soon_is_a_warning_on_an_instance_that_is_well() -> None:
    told = condition(
        "SnapshotSupported", "True", "RetiringSoon", "m-1 retires within 30 days; set spec.snapshot to m-2"
    )
    verdict = of_instance([*serves(), told])
    assert verdict.level is Level.FINE
    (finding,) = verdict.findings
    assert (finding.level, finding.reason, finding.decides) == (Level.WARNING, "RetiringSoon", False)
    assert of_instance([*serves(), condition("SnapshotSupported", "True", "Active", "m-1 is current")]).findings == ()
