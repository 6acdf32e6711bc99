"""The plan by which the proxy of the end-to-end suite injects faults (e2e/faults/plan.py)."""

from __future__ import annotations

from e2e.faults.plan import CALL_FAULTS, STREAM_FAULTS, Fault, Plan, Rule

PATH = "/apis/apps/v1/namespaces/acme/statefulsets/chat-0"


def faults_of(plan: Plan, paths: list[str]) -> dict[str, list[Fault | None]]:
    met: dict[str, list[Fault | None]] = {}
    for path in paths:
        met.setdefault(path, []).append(plan.for_call("PATCH", path))
    return met


def test_who_asks_the_same_meets_the_same_whatever_others_ask_in_between() -> None:
    rule = Rule("", CALL_FAULTS, 0.5)
    paths = [f"/{name}" for name in "abcde"] * 40
    assert faults_of(Plan(7, (rule,)), paths) == faults_of(Plan(7, (rule,)), sorted(paths))
    assert faults_of(Plan(7, (rule,)), paths) != faults_of(Plan(8, (rule,)), paths)


def test_a_rule_covers_its_customers_namespace_nodes_and_class_and_nobody_elses() -> None:
    plan = Plan(1, (Rule("acme", frozenset({Fault.CONFLICT}), 1.0),))
    mine = [PATH, "/api/v1/nodes/acme-0", "/apis/x/v1/acceleratorclasses/acme-h100", "/api/v1/namespaces/acme/pods"]
    others = ["/api/v1/nodes/other-0", "/api/v1/namespaces/acme2/pods", "/api/v1/nodes"]
    assert [plan.for_call("PATCH", path) for path in mine + others] == [Fault.CONFLICT] * 4 + [None] * 3
    gone = {"metadata": {"namespace": "acme", "name": "chat-0"}}
    plan = Plan(1, (Rule("acme", frozenset({Fault.MISSED_DELETE}), 1.0),))
    assert plan.for_event("/api/v1/pods", "DELETED", gone) == Fault.MISSED_DELETE
    assert plan.for_event("/api/v1/pods", "MODIFIED", gone) is None
    assert plan.for_event("/api/v1/nodes", "DELETED", {"metadata": {"name": "other-0"}}) is None


def test_a_read_meets_nothing_that_only_a_write_can_meet_and_no_more_than_its_limit() -> None:
    plan = Plan(1, (Rule("", CALL_FAULTS | STREAM_FAULTS, 1.0, {Fault.HANG: 2}),))
    met = [plan.for_call("GET", PATH) for _ in range(200)]
    of_writes = {Fault.CONFLICT, Fault.INVALID, Fault.ANSWER_LOST, Fault.RESET_AFTER_COMMIT}
    assert not set(met) & (of_writes | STREAM_FAULTS)
    assert met.count(Fault.HANG) == plan.count(Fault.HANG) == 2
