"""How scenes begin."""

from __future__ import annotations

from typing import Any

from tests.simulation.interleaving import Theatre
from tests.simulation.process import Process


def two_with_a_member(theatre: Theatre, count: int = 1) -> tuple[Process, Process]:
    """Two operators of one view; then a gets a member, and only the second has heard of it."""
    theatre.node("n1")
    theatre.pool("p")
    first, second = theatre.operator(alone=False), theatre.operator(alone=False)
    theatre.settles()
    theatre.instance("a", "small", count)
    theatre.settles(second)
    return first, second


def serving(theatre: Theatre, count: int = 1, **spec: Any) -> Process:
    """One operator, one node, one pool, and a with so many small members."""
    theatre.node("n1")
    theatre.pool("p")
    theatre.instance("a", "small", count, **spec)
    operator = theatre.operator()
    theatre.settles()
    return operator


def two_operators_on_two_nodes(theatre: Theatre) -> tuple[Process, Process]:
    theatre.node("n1")
    theatre.node("n2")
    theatre.pool("p", 800)
    first, second = theatre.operator(alone=False), theatre.operator(alone=False)
    theatre.settles()
    return first, second
