"""Two that write at once."""

from __future__ import annotations

from reserved_capacity.ports import COMPUTE_UNIT_POOLS
from tests.simulation.interleaving import CLASS, Theatre, instance_key, pool_key
from tests.simulation.process import Process, Task


def two_operators_claim_one_node(theatre: Theatre) -> None:
    """The first decides for pool p and is slow; p goes, q comes, and is served from the node by the second."""
    theatre.node("n1")
    theatre.pool("p")
    first, second = theatre.operator(alone=False), theatre.operator(alone=False)
    theatre.reconciles(first, pool_key("p"))
    slow = theatre.begins(first, CLASS, until="patch Node n1")
    theatre.delete(COMPUTE_UNIT_POOLS, "p")
    theatre.pool("q")
    theatre.instance("a", "mid", 2, pool="q")
    theatre.settles(second)
    theatre.goes_on(first, slow)


def two_operators_write_one_record(theatre: Theatre) -> None:
    """The first grants to a and is slow; the second grants to a and b, and their members run."""
    theatre.node("n1")
    theatre.pool("p")
    first, second = theatre.operator(alone=False), theatre.operator(alone=False)
    theatre.settles()
    theatre.instance("a", "small", 1)
    theatre.hears(first)
    slow = theatre.begins(first, pool_key("p"), until="status ComputeUnitPool acme/p")
    theatre.instance("b", "small", 1)
    theatre.settles(second)
    theatre.goes_on(first, slow)


def claims_are_planned_on_one_version_and_written_on_another(theatre: Theatre) -> None:
    """Between two writes of one plan the first operator hears that the second node is another pool's by now."""
    theatre.node("n1")
    theatre.node("n2")
    theatre.pool("p", 800)
    first, second = theatre.operator(alone=False), theatre.operator(alone=False)
    theatre.reconciles(first, pool_key("p"))
    slow = theatre.begins(first, CLASS, until="patch Node n1")
    theatre.one_step(first, slow)
    theatre.delete(COMPUTE_UNIT_POOLS, "p")
    theatre.pool("q", 800)
    theatre.instance("a", "mid", 4, pool="q")
    theatre.settles(second)
    theatre.hears(first)
    theatre.goes_on(first, slow)


def a_create_is_slow_and_its_holding_goes_to_another(theatre: Theatre) -> None:
    """a-0 is on its way to the API server while a gives back its blocks, and b gets them and runs."""
    theatre.node("n1")
    theatre.pool("p", 200)
    theatre.instance("a", "mid", 1)
    first, second = theatre.operator(alone=False), theatre.operator(alone=False)
    for key in (pool_key("p"), CLASS, pool_key("p")):
        theatre.reconciles(first, key)
    slow = theatre.begins(first, instance_key("a"), until="create StatefulSet acme/a-0")
    theatre.edit("a", instances=0)
    theatre.instance("b", "mid", 1)
    theatre.settles(second)
    theatre.goes_on(first, slow)
    theatre.starts(first, "a", "a-0")
    theatre.cluster_works()


def a_create_is_slow_and_its_name_is_given_again(theatre: Theatre) -> None:
    """a-0 on its way is for one node; its holding goes, and the name is given again for the other node."""
    theatre.node("n1")
    theatre.node("n2")
    theatre.pool("p", 800)
    theatre.instance("a", "mid", 1)
    first, second = theatre.operator(alone=False), theatre.operator(alone=False)
    for key in (pool_key("p"), CLASS, pool_key("p")):
        theatre.reconciles(first, key)
    slow = theatre.begins(first, instance_key("a"), until="create StatefulSet acme/a-0")
    theatre.edit("a", instances=0)
    theatre.settles(second)
    theatre.instance("b", "mid", 2)
    theatre.settles(second)
    theatre.edit("a", instances=1)
    theatre.hears(second)
    theatre.reconciles(second, pool_key("p"))
    theatre.dies(second)
    theatre.goes_on(first, slow)


def idle_claims_are_given_back_while_they_are_granted(theatre: Theatre) -> None:
    """Two operators: the first gives back a node that is too much, the second has just granted it to members."""
    first, second = theatre.operator(alone=False), theatre.operator(alone=False)
    slow, given = _gives_back(theatre, first)
    theatre.hears(second)
    _wants_them(theatre, given)
    theatre.hears(second)
    theatre.reconciles(second, pool_key("p"))
    theatre.goes_on(first, slow)
    theatre.starts(second, "a", "a-0")
    theatre.cluster_works()


def claims_are_given_back_while_the_same_process_grants_them(theatre: Theatre) -> None:
    """As before, by two workers of one operator."""
    operator = theatre.operator()
    slow, given = _gives_back(theatre, operator)
    _wants_them(theatre, given)
    theatre.hears(operator)
    granting = theatre.begins(operator, pool_key("p"))
    theatre.goes_on(operator, granting)
    theatre.goes_on(operator, slow)


def _gives_back(theatre: Theatre, operator: Process) -> tuple[Task, str]:
    """The first of two orders has expired, and the operator is about to give back a node; which one."""
    theatre.node("n1")
    theatre.node("n2")
    theatre.pool("p")
    theatre.settles(operator)
    theatre.wait_days(30)
    theatre.order_more("p", 400)
    theatre.settles(operator)
    theatre.wait_days(70)
    theatre.reconciles(operator, pool_key("p"))
    slow = theatre.begins(operator, CLASS, until="patch Node ")
    return slow, slow.before.removeprefix("patch Node ")


def _wants_them(theatre: Theatre, node: str) -> None:
    """Members that fit on this node alone."""
    theatre.cordon({"n1": "n2", "n2": "n1"}[node])
    theatre.instance("a", "mid", 2)
