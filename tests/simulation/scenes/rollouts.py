"""Versions change: what a rollout may stop, and when (behaviour.md S2, S4-S6, C6)."""

from __future__ import annotations

from typing import Any

from reserved_capacity.ports import ENDPOINT_SLICES, MODEL_INSTANCES, PODS
from tests.simulation.interleaving import Theatre, instance_key, pool_key
from tests.simulation.process import Process

_IN_PLACE = {"strategy": "InPlace", "minAvailable": 1}


def _two(theatre: Theatre, model: str = "small", cu: int = 300, **upgrade: Any) -> Process:
    """One operator, and a with two members that serve."""
    theatre.node("n1")
    theatre.pool("p", cu)
    theatre.instance("a", model, 2, upgrade=upgrade)
    operator = theatre.operator()
    theatre.settles()
    return operator


def _successor_is_made(theatre: Theatre, operator: Process) -> None:
    theatre.edit("a", snapshot="small-2")
    for key in (pool_key("p"), instance_key("a")):
        theatre.hears(operator)
        theatre.reconciles(operator, key)
    theatre.cluster_works()  # the artifact comes to the node
    for key in (pool_key("p"), instance_key("a")):
        theatre.hears(operator)
        theatre.reconciles(operator, key)
    theatre.cluster_works()  # its controller takes note of the new member
    theatre.hears(operator)
    theatre.reconciles(operator, instance_key("a"))


def another_stops_serving_unheard(theatre: Theatre) -> None:
    """The successor serves. Before the old member goes, the other one stops serving, and the operator has not heard."""
    operator = _two(theatre)
    _successor_is_made(theatre, operator)
    theatre.cluster_works()
    theatre.hears(operator)
    theatre.crash("a-1-0")
    theatre.time_goes_by_for_others()
    theatre.hears(operator, *(each for each in operator.watches if each not in (ENDPOINT_SLICES, PODS)))
    theatre.reconciles(operator, pool_key("p"))
    theatre.pods_start(True)


def all_are_to_be_available(theatre: Theatre) -> None:
    """In place, and nobody may be missed."""
    _two(theatre, cu=200, strategy="InPlace", minAvailable=2)
    theatre.edit("a", snapshot="small-2")


def the_minimum_is_to_be_available(theatre: Theatre) -> None:
    """In place, with one of two; but the offering's minimum is two."""
    _two(theatre, "pair", 200, **_IN_PLACE)
    theatre.edit("a", snapshot="pair-2")


def it_is_paused(theatre: Theatre) -> None:
    _two(theatre, paused=True)
    theatre.time_goes_by_for_others()
    theatre.edit("a", snapshot="small-2")


def its_window_is_closed(theatre: Theatre) -> None:
    """It is ten; the window is from noon to one."""
    _two(theatre)
    theatre.window("p", "0 12 * * *", "1h")
    theatre.settles()
    theatre.edit("a", snapshot="small-2")
    theatre.settles()
    theatre.wait(8000)


def a_canary_goes_first(theatre: Theatre) -> None:
    """One of two, until somebody approves it."""
    _two(theatre, canary={"instances": 1, "approval": "Manual"})
    theatre.time_goes_by_for_others(400)
    theatre.edit("a", snapshot="small-2")
    theatre.settles()
    rollout = theatre.stored(MODEL_INSTANCES, "a")["status"]["rollout"]
    theatre.expect(rollout["phase"] == "AwaitingApproval", "S4", f"the canary is {rollout['phase']}")
    theatre.edit("a", upgrade={"canary": {"approvedRollout": rollout["id"]}})


def its_artifact_is_not_on_the_node(theatre: Theatre) -> None:
    """In place, on a node that has the old artifact only."""
    _two(theatre, cu=200, **_IN_PLACE)
    theatre.time_goes_by_for_others()
    theatre.edit("a", snapshot="small-2")


def it_borrows(theatre: Theatre) -> None:
    """The pool is full, and the class is not."""
    _two(theatre, cu=200, whenNoSpare="BorrowSpare")
    theatre.edit("a", snapshot="small-2")


def the_new_one_never_serves(theatre: Theatre) -> None:
    _two(theatre)
    theatre.edit("a", snapshot="small-bad")
    theatre.settles()
    theatre.wait(3600)


def neither_comes_up(theatre: Theatre) -> None:
    """Nothing that is made starts any more: first the new version fails, then the old one on the way back."""
    _two(theatre, cu=200, **_IN_PLACE)
    theatre.pods_start(False)
    theatre.edit("a", snapshot="small-2")
    for _ in range(2):
        theatre.settles()
        theatre.wait(3600)
