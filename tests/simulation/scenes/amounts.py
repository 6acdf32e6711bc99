"""Who gets how much, and from where."""

from __future__ import annotations

from reserved_capacity.ports import MODEL_INSTANCES, NODES
from tests.simulation.interleaving import CLASS, Theatre, pool_key
from tests.simulation.process import Process
from tests.simulation.scenes.openings import serving


def _expired(theatre: Theatre, count: int) -> Process:
    """Of 800 CU 400 have expired; their claims are still there. a has so many mid members, of those it asked for."""
    theatre.node("n1")
    theatre.node("n2")
    theatre.pool("p")
    theatre.instance("a", "mid", count)
    operator = theatre.operator()
    theatre.settles()
    theatre.wait_days(30)
    theatre.order_more("p", 400)
    theatre.settles()
    theatre.wait_days(70)
    theatre.reconciles(operator, pool_key("p"))
    return operator


def more_is_held_than_is_left_of_the_contract(theatre: Theatre) -> None:
    """Six blocks are held and eight claimed; four are to be given back, of which two are idle."""
    operator = _expired(theatre, 3)
    theatre.reconciles(operator, CLASS)


def more_is_claimed_than_is_left_of_the_contract(theatre: Theatre) -> None:
    operator = _expired(theatre, 2)
    theatre.instance("b", "mid", 2)
    theatre.hears(operator)
    theatre.reconciles(operator, pool_key("p"))


def claims_move_between_nodes(theatre: Theatre) -> None:
    """One idle block here and one there are put together for an instance of two."""
    theatre.node("n1")
    theatre.node("n2")
    theatre.gpus("n1", 1)
    theatre.gpus("n2", 1)
    theatre.pool("p", 200)
    theatre.operator()
    theatre.settles()
    theatre.gpus("n1", 4)
    theatre.gpus("n2", 4)
    theatre.settles()
    theatre.instance("a", "mid", 1)


def an_answer_is_lost_between_two_plans(theatre: Theatre) -> None:
    """One idle block here and one there are to be put together for b; then a gets both, and the answer to that is lost:
    the plan of claims must know of it."""
    theatre.node("n1")
    theatre.node("n2")
    theatre.gpus("n1", 1)
    theatre.gpus("n2", 1)
    theatre.pool("p", 200)
    operator = theatre.operator()
    theatre.settles()
    theatre.gpus("n1", 4)
    theatre.gpus("n2", 4)
    theatre.settles()
    theatre.instance("b", "mid", 1)
    theatre.hears(operator)
    theatre.reconciles(operator, pool_key("p"))
    theatre.instance("a", "small", 2, priority=5)
    theatre.hears(operator, MODEL_INSTANCES)
    slow = theatre.begins(operator, pool_key("p"), until="status ComputeUnitPool acme/p")
    theatre.answer_is_lost(operator, slow)
    theatre.reconciles(operator, CLASS)


def blocks_are_asked_for_while_they_are_released(theatre: Theatre) -> None:
    theatre.node("n1")
    theatre.pool("p", 200)
    theatre.instance("a", "mid", 1)
    operator = theatre.operator()
    theatre.settles()
    theatre.instance("b", "mid", 1)
    theatre.edit("a", instances=0)
    theatre.hears(operator)
    theatre.reconciles(operator, pool_key("p"))


def there_is_room_for_half_of_the_minimum(theatre: Theatre) -> None:
    serving(theatre, 3)
    theatre.instance("b", "pair", 2)


def fewer_than_the_minimum_are_asked_for(theatre: Theatre) -> None:
    theatre.node("n1")
    theatre.pool("p")
    theatre.instance("a", "pair", 2)
    theatre.operator()
    theatre.settles()
    theatre.edit("a", instances=1)


def a_node_comes_back_with_less_room(theatre: Theatre) -> None:
    """Two members of two blocks each; while they are suspended the node is registered anew, and a foreign pod takes one
    of its four GPUs: one member has blocks, the other has to wait."""
    operator = _serving_two_mid(theatre)
    theatre.edit("a", suspend=True)
    theatre.settles()
    theatre.delete(NODES, "n1")
    theatre.node("n1")
    theatre.foreign_pod("n1", gpus=1)
    theatre.hears(operator)
    theatre.relists(operator)
    theatre.edit("a", suspend=False)
    theatre.settles()
    running = sum(theatre.replicas(member) for member in ("a-0", "a-1"))
    theatre.expect(running == 1, "claim first", f"{running} members of two blocks run on three that are claimed")


def _serving_two_mid(theatre: Theatre) -> Process:
    theatre.node("n1")
    theatre.pool("p")
    theatre.instance("a", "mid", 2)
    operator = theatre.operator()
    theatre.settles()
    return operator
