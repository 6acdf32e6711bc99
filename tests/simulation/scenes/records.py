"""Records that are lost, and those who come after their namesakes."""

from __future__ import annotations

from reserved_capacity.api.meta import REVISION_LABEL
from reserved_capacity.ports import COMPUTE_UNIT_POOLS, CONTROLLER_REVISIONS, MODEL_INSTANCES, NODES, STATEFUL_SETS
from tests.simulation.facts import label
from tests.simulation.interleaving import CLASS, Theatre, instance_key, pool_key
from tests.simulation.scenes.openings import serving, two_with_a_member


def a_pool_goes_while_its_members_run(theatre: Theatre) -> None:
    operator = serving(theatre)
    theatre.delete(COMPUTE_UNIT_POOLS, "p")
    theatre.hears(operator)
    theatre.reconciles(operator, CLASS)


def a_pool_and_its_claims_are_lost(theatre: Theatre) -> None:
    """The pool is gone and its members run on; then their node is registered anew, and another pool looks for blocks."""
    operator = serving(theatre, 2)
    theatre.delete(COMPUTE_UNIT_POOLS, "p")
    theatre.settles()
    theatre.delete(NODES, "n1")
    theatre.node("n1")
    theatre.pool("q")
    theatre.instance("b", "mid", 2, pool="q")
    theatre.hears(operator)


def claims_are_planned_before_a_lost_record_is_rebuilt(theatre: Theatre) -> None:
    operator = serving(theatre)
    theatre.lose_status("p")
    theatre.hears(operator)
    theatre.reconciles(operator, CLASS)


def a_record_is_lost_before_its_members_are_seen(theatre: Theatre) -> None:
    """The first operator has not heard of a's members when the record is lost; b asks for the same blocks."""
    theatre.node("n1")
    theatre.pool("p")
    first, second = theatre.operator(alone=False), theatre.operator(alone=False)
    theatre.settles()
    theatre.instance("a", "mid", 2)
    theatre.settles(second)
    theatre.dies(second)
    theatre.lose_status("p")
    theatre.instance("b", "mid", 2, priority=5)
    theatre.hears(first, NODES, COMPUTE_UNIT_POOLS, MODEL_INSTANCES)
    for _ in range(2):  # the order is accepted, then there are blocks to give
        theatre.reconciles(first, pool_key("p"))
    theatre.starts(first, "b", "b-0")
    theatre.cluster_works()


def members_are_planned_before_a_lost_record_is_rebuilt(theatre: Theatre) -> None:
    operator = serving(theatre)
    before = theatre.pods()
    theatre.lose_status("p")
    theatre.hears(operator)
    theatre.reconciles(operator, instance_key("a"))
    theatre.settles()
    theatre.expect(theatre.pods() == before, "R3", "what serves was stopped because a record was lost")


def a_template_is_lost_after_an_edit_of_the_offering(theatre: Theatre) -> None:
    """Its record is pruned by an operator that has not seen the members; growth has to run what they run."""
    first, second = two_with_a_member(theatre)
    theatre.edit_offering("small")
    (revision,) = theatre.cluster.all_stored(CONTROLLER_REVISIONS)
    theatre.delete(CONTROLLER_REVISIONS, revision["metadata"]["name"])
    theatre.edit("a", instances=2)
    theatre.dies(first)
    theatre.settles(second)
    revisions = {label(each, REVISION_LABEL) for each in theatre.cluster.all_stored(STATEFUL_SETS)}
    theatre.expect(len(theatre.pods()) == 2 and len(revisions) == 1, "R1", "growth does not run what the others run")


def an_offering_is_edited_before_growth(theatre: Theatre) -> None:
    serving(theatre)
    theatre.edit_offering("small")
    theatre.edit("a", instances=2)


def an_instance_is_made_anew(theatre: Theatre) -> None:
    """To run the same: so no rollout moves it to blocks of its own."""
    serving(theatre)
    theatre.delete(MODEL_INSTANCES, "a")
    theatre.instance("a", "small", 1)


def an_instance_is_made_anew_in_another_pool(theatre: Theatre) -> None:
    """Before it has a member in the first; its member in the second has the name that the first one waits for."""
    theatre.node("n1")
    theatre.pool("p", 200)
    theatre.pool("q", 200)
    operator = theatre.operator()
    theatre.settles()
    theatre.instance("a", "small", 1)
    theatre.hears(operator)
    theatre.reconciles(operator, pool_key("p"))
    theatre.delete(MODEL_INSTANCES, "a")
    theatre.instance("a", "small", 1, pool="q")
    theatre.hears(operator)
    for key in (pool_key("q"), instance_key("a"), pool_key("p")):
        theatre.reconciles(operator, key)
