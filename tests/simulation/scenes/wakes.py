"""Who has to be woken when something changes, or only time passes."""

from __future__ import annotations

from reserved_capacity.ports import NODES, PODS, STATEFUL_SETS
from tests.simulation.interleaving import Theatre, instance_key, pool_key
from tests.simulation.scenes.openings import serving


def a_node_fails_when_its_time_is_over(theatre: Theatre) -> None:
    """Nothing happens in these minutes but that they pass."""
    theatre.node("n1")
    theatre.node("n2")
    theatre.pool("p")
    theatre.instance("a", "mid", 1)
    theatre.operator()
    theatre.settles()
    ((_, (home,)),) = theatre.holdings().items()
    theatre.unready(home)
    theatre.delete(PODS, "a-0-0")
    theatre.settles()
    theatre.wait(601)
    theatre.settles()
    theatre.expect(home not in str(theatre.holdings()), "N1", f"nobody noticed that {home} has failed")


def the_last_pod_goes_after_its_member(theatre: Theatre) -> None:
    operator = serving(theatre)
    theatre.edit("a", instances=0)
    theatre.delete(STATEFUL_SETS, "a-0")
    theatre.pods_stop(False)
    theatre.settles(operator)
    theatre.pods_stop(True)


def a_node_is_added(theatre: Theatre) -> None:
    theatre.pool("p")
    theatre.operator()
    theatre.settles()
    theatre.node("n1")


def an_instance_waits(theatre: Theatre) -> None:
    serving(theatre)
    theatre.instance("b", "mid", 2)


def a_claim_comes_back(theatre: Theatre) -> None:
    """A node is registered anew without its claims, while the member on it is suspended; it is resumed before they are
    written again."""
    operator = serving(theatre)
    theatre.edit("a", suspend=True)
    theatre.settles()
    theatre.delete(NODES, "n1")
    theatre.node("n1")
    theatre.edit("a", suspend=False)
    theatre.hears(operator)
    for _ in range(3):  # until both have nothing more to say
        theatre.reconciles(operator, pool_key("p"))
        theatre.reconciles(operator, instance_key("a"))
