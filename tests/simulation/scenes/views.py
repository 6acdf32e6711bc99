"""Views that lag: who decides has not heard of what has happened."""

from __future__ import annotations

from reserved_capacity.ports import COMPUTE_UNIT_POOLS, MODEL_INSTANCES, NODES, PODS, STATEFUL_SETS
from tests.simulation.interleaving import CLASS, Theatre, instance_key, pool_key
from tests.simulation.process import Process
from tests.simulation.scenes.openings import serving, two_operators_on_two_nodes, two_with_a_member


def an_old_record_does_not_show_a_holding(theatre: Theatre) -> None:
    """The first operator sees the member, and not the record that it is on."""
    first, _ = two_with_a_member(theatre)
    theatre.hears(first, MODEL_INSTANCES, STATEFUL_SETS)
    theatre.reconciles(first, instance_key("a"))


def a_member_is_seen_before_its_instance(theatre: Theatre) -> None:
    """Different streams tell the first operator of them."""
    first, _ = two_with_a_member(theatre)
    theatre.hears(first, STATEFUL_SETS)
    theatre.reconciles(first, instance_key("a"))


def a_claim_is_seen_before_its_pool(theatre: Theatre) -> None:
    theatre.node("n1")
    first, second = theatre.operator(alone=False), theatre.operator(alone=False)
    theatre.settles()
    theatre.pool("p")
    theatre.instance("a", "mid", 2)
    theatre.settles(second)
    theatre.hears(first, NODES)
    theatre.reconciles(first, CLASS)


def a_member_of_a_pool_that_is_gone_was_never_seen(theatre: Theatre) -> None:
    first, _ = two_with_a_member(theatre)
    theatre.hears(first, NODES, COMPUTE_UNIT_POOLS)
    theatre.delete(COMPUTE_UNIT_POOLS, "p")
    theatre.hears(first, COMPUTE_UNIT_POOLS)
    theatre.reconciles(first, CLASS)


def an_old_wish_asks_for_less(theatre: Theatre) -> None:
    """The first operator knows that a asked for one member, and not yet that it asked for two and has them."""
    first, second = two_with_a_member(theatre)
    theatre.hears(first)
    theatre.edit("a", instances=2)
    theatre.settles(second)
    theatre.hears(first, COMPUTE_UNIT_POOLS, STATEFUL_SETS)
    theatre.reconciles(first, pool_key("p"))


def an_old_node_is_still_unready(theatre: Theatre) -> None:
    """The first operator was frozen when n1 was not ready for a moment; it wakes up eleven minutes later, and knows the
    time before it knows that n1 is well and has a member."""
    first, second = two_operators_on_two_nodes(theatre)
    theatre.unready("n1")
    theatre.instance("b", "mid", 2)
    theatre.settles()
    theatre.unready("n1", back=True)
    theatre.settles(second)
    theatre.instance("a", "small", 1)
    theatre.settles(second)
    theatre.delete(MODEL_INSTANCES, "b")
    theatre.settles(second)
    theatre.wait(660)
    theatre.hears(first, COMPUTE_UNIT_POOLS, MODEL_INSTANCES, STATEFUL_SETS)
    theatre.reconciles(first, pool_key("p"))


def a_member_was_never_seen(theatre: Theatre) -> None:
    """The first operator never heard of StatefulSet or pods, and has to drop the holding."""
    first, _ = two_with_a_member(theatre)
    theatre.edit("a", instances=0)
    theatre.hears(first, COMPUTE_UNIT_POOLS, MODEL_INSTANCES)
    theatre.reconciles(first, pool_key("p"))
    theatre.reconciles(first, pool_key("p"))


def a_pod_was_never_seen(theatre: Theatre) -> None:
    """The StatefulSet is gone, orphans and all; the first operator never heard of its pod, which is slow to stop."""
    first, _ = two_with_a_member(theatre)
    theatre.edit("a", instances=0)
    theatre.delete(STATEFUL_SETS, "a-0")
    theatre.pods_stop(False)
    theatre.cluster_works()
    theatre.hears(first, *(resource for resource in first.watches if resource != PODS))
    theatre.reconciles(first, pool_key("p"))
    theatre.reconciles(first, pool_key("p"))
    theatre.pods_stop(True)


def a_name_is_given_again_while_it_is_confirmed_gone(theatre: Theatre) -> None:
    """The first operator has just learned that a-0 is gone. Before it plans, the other one drops it, gives its name again,
    and releases that one, whose pod is slow to stop."""
    first, second = two_with_a_member(theatre)
    _stops_its_member(theatre, second)
    theatre.hears(first)
    slow = theatre.begins(first, pool_key("p"), until="get StatefulSet acme/a-0")
    theatre.one_step(first, slow)
    theatre.hears(second)
    theatre.reconciles(second, pool_key("p"))
    theatre.wait(60)
    theatre.edit("a", instances=1)
    theatre.settles(second)
    theatre.pods_stop(False)
    _stops_its_member(theatre, second)
    theatre.hears(first)
    theatre.goes_on(first, slow)
    theatre.pods_stop(True)


def a_name_is_given_again_before_its_member_goes(theatre: Theatre) -> None:
    """The first operator knows that a-0 is being released, and sees the next a-0."""
    first, second = two_with_a_member(theatre)
    _stops_its_member(theatre, second)
    theatre.hears(first)
    theatre.wait(60)
    theatre.edit("a", instances=1)
    theatre.settles(second)
    theatre.hears(first, MODEL_INSTANCES, STATEFUL_SETS)
    theatre.reconciles(first, instance_key("a"))


def _stops_its_member(theatre: Theatre, operator: Process) -> None:
    theatre.edit("a", instances=0)
    for key in (pool_key("p"), instance_key("a")):
        theatre.hears(operator)
        theatre.reconciles(operator, key)
    theatre.cluster_works()


def a_foreign_pod_was_never_seen(theatre: Theatre) -> None:
    """Pods of others are listed once a minute; this one came since."""
    theatre.node("n1")
    operator = theatre.operator()
    theatre.settles()
    theatre.foreign_pod("n1", gpus=2)
    theatre.time_goes_by_for_others()
    theatre.pool("p")
    theatre.hears(operator)
    theatre.reconciles(operator, pool_key("p"))
    theatre.reconciles(operator, CLASS)
    theatre.relists(operator)


def old_news_comes_late(theatre: Theatre) -> None:
    """The member is gone, pod and all, and then the pod is told once more."""
    operator = serving(theatre)
    (known,) = theatre.cluster.all_stored(PODS)
    theatre.edit("a", instances=0)
    theatre.hears(operator)
    theatre.reconciles(operator, pool_key("p"))
    theatre.reconciles(operator, instance_key("a"))
    theatre.cluster_works()
    theatre.hears(operator)
    operator.store.observe(PODS, known)


def news_comes_while_a_key_is_worked_on(theatre: Theatre) -> None:
    """The pool has just read that the member's pod is there; before it makes anything of that, the pod goes."""
    first, second = two_with_a_member(theatre)
    theatre.edit("a", instances=0)
    theatre.hears(first, COMPUTE_UNIT_POOLS, MODEL_INSTANCES)
    theatre.reconciles(first, pool_key("p"))
    slow = theatre.begins(first, pool_key("p"), until="list pods")
    theatre.one_step(first, slow)
    theatre.hears(second)
    theatre.reconciles(second, instance_key("a"))
    theatre.dies(second)
    theatre.cluster_works()
    theatre.hears(first)
    theatre.goes_on(first, slow)
