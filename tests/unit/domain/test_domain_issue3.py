"""Issue 3's must-show, step by step, with the plans alone: claims, verdicts, holdings, members."""

from __future__ import annotations

from dataclasses import replace

from reserved_capacity.domain.admission import plan_holdings
from reserved_capacity.domain.claims import plan_claims
from reserved_capacity.domain.eligibility import InstanceFacts, PoolFacts, Verdict, judge
from reserved_capacity.domain.holdings import (
    Holding,
    HoldingsPlan,
    PoolNode,
    PoolState,
    Wait,
    Waiting,
    capacity_of,
    held_count,
)
from reserved_capacity.domain.members import Templates, plan_members
from reserved_capacity.domain.versions import Version
from tests.unit.domain.builders import (
    LATER,
    NOW,
    PROD,
    SNAPSHOT,
    apply_claims,
    instance_facts,
    inventory_node,
    leaving,
    members,
    observed_member,
    offering_facts,
    owed,
)

OFFERINGS = {
    "gpt-4-turbo": offering_facts(),
    "gpt-35-turbo": offering_facts("gpt-35-turbo", compute_units=100, minimum=1),
}


class Demo:
    """A pool of 600 CU on one node of 800, and whoever asks for it."""

    def __init__(self) -> None:
        nodes = [inventory_node("gpu-1")]
        nodes = list(apply_claims(nodes, plan_claims(nodes, [owed(PROD, 6)], occupied={})))
        self.nodes = tuple(PoolNode(node.name, node.claimed_by(PROD), node.usable) for node in nodes)
        self.holdings: tuple[Holding, ...] = ()

    def step(self, *, chat: int, gone: tuple[str, ...] = ()) -> tuple[dict[str, Verdict], HoldingsPlan]:
        asked = (instance_facts("chat", chat), instance_facts("fast", 1, offering="gpt-35-turbo"))
        facts = [self._observed(each) for each in asked]
        verdicts = judge(PoolFacts("prod", "h100-8", 600), OFFERINGS, facts, now=NOW)
        demands = tuple(verdict.demand for verdict in verdicts.values())
        plan = plan_holdings(PoolState(6, self.nodes, self.holdings, demands, frozenset(gone)), now=LATER)
        self.holdings = plan.holdings
        return verdicts, plan

    def _observed(self, facts: InstanceFacts) -> InstanceFacts:
        mine = [each for each in self.holdings if each.instance == facts.name and each.held]
        return replace(facts, held=held_count(facts.name, self.holdings), held_blocks=mine[0].blocks if mine else None)


def refused(verdicts: dict[str, Verdict]) -> dict[str, str]:
    return {name: verdict.refusal.reason.value for name, verdict in verdicts.items() if verdict.refusal}


def test_issue_3_the_main_job_from_the_purchase_to_the_place_that_chat_leaves_to_fast() -> None:
    demo = Demo()
    assert demo.nodes == (PoolNode("gpu-1", 6, usable=True),)

    verdicts, plan = demo.step(chat=2)
    assert refused(verdicts) == {}
    assert members(plan) == ["chat-0", "chat-1"]
    assert plan.waits == {"fast": Wait(Waiting.WAITING_FOR_COMPUTE_UNITS, 100, 0)}

    verdicts, plan = demo.step(chat=3)
    assert refused(verdicts) == {"chat": "ExceedsPool"}
    assert members(plan) == ["chat-0", "chat-1"]

    verdicts, plan = demo.step(chat=1)
    assert refused(verdicts) == {"chat": "BelowMinimumInstances"}
    assert members(plan) == ["chat-0", "chat-1"]

    verdicts, plan = demo.step(chat=0)
    assert refused(verdicts) == {}
    assert leaving(plan) == ["chat-0", "chat-1"]
    assert plan.waits == {"fast": Wait(Waiting.WAITING_FOR_RELEASE, 100, 0)}
    assert capacity_of(demo.nodes, plan.holdings).idle == 0

    verdicts, plan = demo.step(chat=0)
    assert plan.notes == ()
    assert members(plan) == []

    verdicts, plan = demo.step(chat=0, gone=("chat-0", "chat-1"))
    assert members(plan) == ["fast-0"]
    assert plan.waits == {}
    assert capacity_of(demo.nodes, plan.holdings).idle == 5


ASKED = Version(SNAPSHOT)


def test_issue_3_members_follow_the_holdings_and_go_before_them() -> None:
    demo = Demo()
    _, plan = demo.step(chat=2)
    chat = [each for each in plan.holdings if each.instance == "chat"]
    started = plan_members(
        chat, [], owner_uid="uid-chat", templates=Templates(ASKED, {ASKED: "rev-1"}), suspended=False
    )
    assert [each.holding.member for each in started.creates] == ["chat-0", "chat-1"]

    _, plan = demo.step(chat=0)
    chat = [each for each in plan.holdings if each.instance == "chat"]
    stopping = plan_members(
        chat,
        [observed_member("chat-0"), observed_member("chat-1")],
        owner_uid="uid-chat",
        templates=Templates(ASKED, {ASKED: "rev-1"}),
        suspended=False,
    )
    assert [each.member.name for each in stopping.deletes] == ["chat-0", "chat-1"]
