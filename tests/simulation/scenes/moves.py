"""Members leave a node, and it comes back before they have left (behaviour.md N3, C5)."""

from __future__ import annotations

from reserved_capacity.ports import ENDPOINT_SLICES, PODS
from tests.simulation.interleaving import Theatre, instance_key, pool_key
from tests.simulation.process import Process


def _half_way(theatre: Theatre) -> Process:
    """The contract is for one mid. Its member moves from n1, which is cordoned, to n2; then n1 comes back, and a asks for
    one more than the contract covers."""
    theatre.node("n1")
    theatre.node("n2")
    theatre.pool("p", 200)
    theatre.instance("a", "mid", 1)
    operator = theatre.operator()
    theatre.settles()
    assert theatre.holdings() == {"a-0": ("n1",)}
    theatre.pods_start(False)
    theatre.cordon("n1")
    theatre.settles()
    assert theatre.holdings() == {"a-0": ("n1",), "a-1": ("n2",)}
    theatre.edit("a", instances=2)
    theatre.cordon("n1", back=True)
    return operator


def a_node_comes_back_while_too_many_are_asked_for(theatre: Theatre) -> None:
    """The successor does not serve yet: it goes, though two are asked for, since one is all that may be (I2)."""
    operator = _half_way(theatre)
    before = theatre.pods()["a-0-0"]
    theatre.hears(operator)
    theatre.reconciles(operator, pool_key("p"))
    theatre.expect(theatre.holdings() == {"a-0": ("n1",)}, "N3", "the move is not undone")
    theatre.pods_start(True)
    theatre.settles()
    theatre.expect(theatre.pods() == {"a-0-0": before}, "R3", "who may stay was stopped")


def a_node_comes_back_and_the_successor_serves_unheard(theatre: Theatre) -> None:
    """Who looks at the old news would undo the move, and stop a member that serves by now."""
    operator = _half_way(theatre)
    theatre.pods_start(True)
    theatre.cluster_works()
    theatre.time_goes_by_for_others()
    theatre.hears(operator, *(each for each in operator.watches if each not in (ENDPOINT_SLICES, PODS)))
    theatre.reconciles(operator, pool_key("p"))
    theatre.settles()
    theatre.reconciles(operator, instance_key("a"))
