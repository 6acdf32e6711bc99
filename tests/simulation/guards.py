"""Guards of the production code (and of the API server), each with a way to take it away: the simulation must notice.

`ALONE` are guards whose loss breaks an invariant. `IN_DEPTH` are those behind which another one stands: nothing unsafe
comes of their loss, and each says why.
"""

from __future__ import annotations

from dataclasses import dataclass
from unittest import mock

from reserved_capacity.adapters.remembering import RememberingCluster
from reserved_capacity.domain import admission, claims, members, placement, pool_plan
from reserved_capacity.domain.rollout import gates, starts
from reserved_capacity.domain.rollout.walk import Walk
from reserved_capacity.doubts import Doubts
from reserved_capacity.loop import Loop
from reserved_capacity.ports import (
    COMPUTE_UNIT_POOLS,
    NODES,
    PODS,
    STATEFUL_SETS,
)
from reserved_capacity.queue import Deadlines
from reserved_capacity.reconcilers import capacity, children, confirmation, instance, pool, routes
from reserved_capacity.reconcilers.context import Board, Context
from reserved_capacity.snapshot import pool_world
from tests.simulation import removals
from tests.simulation.interleaving import Scene
from tests.simulation.scenes import amounts, moves, races, records, rollouts, views, wakes


@dataclass(frozen=True, slots=True)
class Guard:
    """`removed` takes it away. Then `scene`, which is harmless otherwise, violates the invariant `missed_as`; or, if it
    has none, `behind` says what makes up for its loss."""

    name: str
    removed: removals.Removal
    scene: Scene | None = None
    missed_as: str = ""
    behind: str = ""


ALONE: tuple[Guard, ...] = (
    Guard(
        "resourceVersion of node writes (C2)",
        removals.without_precondition(NODES),
        races.two_operators_claim_one_node,
        "I1 taken",
    ),
    Guard(
        "resourceVersion of pool status writes (C2)",
        removals.without_precondition(COMPUTE_UNIT_POOLS),
        races.two_operators_write_one_record,
        "C7",
    ),
    Guard(
        "claims are written on the node version they were planned on",
        removals.newest_version_at_write(),
        races.claims_are_planned_on_one_version_and_written_on_another,
        "I1 taken",
    ),
    Guard(
        "confirm held: the record, before a member runs",
        removals.instead(instance, "confirm_held", removals.yes),
        races.a_create_is_slow_and_its_holding_goes_to_another,
        "holding first",
    ),
    Guard(
        "confirm held: where the member was made for, before it runs",
        removals.anywhere(),
        races.a_create_is_slow_and_its_name_is_given_again,
        "GPUs",
    ),
    Guard(
        "confirm held: the claim, before a member runs",
        removals.instead(confirmation, "blocks_held_by_node", removals.none_held),
        races.idle_claims_are_given_back_while_they_are_granted,
        "claim first",
    ),
    Guard(
        "confirm held: the order of the record, where there are fewer blocks than held",
        removals.instead(confirmation, "may_run", removals.true),
        amounts.a_node_comes_back_with_less_room,
        "claim first",
    ),
    Guard(
        "confirm not held, before a member without a holding goes",
        removals.instead(instance, "confirm_not_held", removals.done),
        views.an_old_record_does_not_show_a_holding,
        "R3",
    ),
    Guard(
        "confirm not held, before a member goes whose holding is being released",
        removals.instead(instance, "confirm_not_held", removals.done),
        views.a_name_is_given_again_before_its_member_goes,
        "R3",
    ),
    Guard(
        "confirm releases on the newest wish (C5)",
        removals.instead(pool, "_intent", removals.nothing),
        views.an_old_wish_asks_for_less,
        "C5",
    ),
    Guard(
        "confirm releases on the nodes as they are (N1)",
        removals.instead(pool, "_health", removals.nothing),
        views.an_old_node_is_still_unready,
        "C5",
    ),
    Guard(
        "plan and write are one step per class (lock)",
        removals.instead(Context, "domain", removals.no_lock),
        races.claims_are_given_back_while_the_same_process_grants_them,
        "I1 taken",
    ),
    Guard(
        "confirmed gone: pods and member, live (C7)",
        removals.released_unseen(pods=False, member=False),
        views.a_member_was_never_seen,
        "C7 pods",
    ),
    Guard(
        "confirmed gone: the pods are listed (C7)",
        removals.released_unseen(pods=False, member=True),
        views.a_pod_was_never_seen,
        "C7 pods",
    ),
    Guard(
        "confirmed gone: a namesake in another pool is not waited for",
        removals.instead(pool, "_is_of", removals.is_there),
        records.an_instance_is_made_anew_in_another_pool,
        "leak",
    ),
    Guard(
        "confirmed gone: that holding, and not who has its name by now",
        removals.instead(pool, "_still_gone", removals.whoever_has_its_name),
        views.a_name_is_given_again_while_it_is_confirmed_gone,
        "C7 pods",
    ),
    Guard(
        "the pool's record is read before its claim shrinks",
        removals.instead(capacity, "confirm_given_back", removals.done),
        views.a_claim_is_seen_before_its_pool,
        "I1 taken",
    ),
    Guard(
        "members and pods of a pool that is gone are listed before its claim goes (C7)",
        removals.instead(confirmation, "_confirm_unused", removals.done),
        views.a_member_of_a_pool_that_is_gone_was_never_seen,
        "I1 taken",
    ),
    Guard(
        "foreign pods are listed before a claim (C11)",
        removals.instead(capacity, "_check_foreign_pods", removals.done),
        views.a_foreign_pod_was_never_seen,
        "C11",
    ),
    Guard(
        "claims of a pool that is gone stay while in use",
        removals.instead(capacity, "occupied", lambda *_, **__: {}),
        records.a_pool_goes_while_its_members_run,
        "I8",
    ),
    Guard(
        "what runs for a pool that is gone is nobody else's, without a claim as well",
        removals.instead(capacity, "with_unclaimed_use", removals.nodes_as_they_are),
        records.a_pool_and_its_claims_are_lost,
        "GPUs",
    ),
    Guard(
        "a pool that has not reported yet neither claims nor loses",
        removals.unrecorded_pools_count(),
        records.claims_are_planned_before_a_lost_record_is_rebuilt,
        "I1 taken",
    ),
    Guard(
        "a lost record is made anew from what the API server lists (C2)",
        removals.instead(pool, "_list_members_of_lost_record", removals.done),
        records.a_record_is_lost_before_its_members_are_seen,
        "GPUs",
    ),
    Guard(
        "an instance that was not heard of is asked for before its members are stopped",
        removals.instead(instance, "_is_there", removals.done),
        views.a_member_is_seen_before_its_instance,
        "R3",
    ),
    Guard(
        "no member is touched while its pool has no record",
        removals.instead(confirmation, "live_holdings", removals.record_or_none),
        records.members_are_planned_before_a_lost_record_is_rebuilt,
        "R3",
    ),
    Guard(
        "claims that members hold are not given back",
        removals.instead(capacity, "claim_demand", removals.demand_ignoring_holders),
        amounts.more_is_held_than_is_left_of_the_contract,
        "I1 taken",
    ),
    Guard(
        "nodes that only lose claims are written first (I2)",
        removals.instead(claims._Ledger, "_grows", lambda *_: False),
        amounts.claims_move_between_nodes,
        "I2 claims",
    ),
    Guard(
        "what is being released is still in use (C7)",
        removals.instead(placement, "blocks_held_by_node", removals.held_only),
        amounts.blocks_are_asked_for_while_they_are_released,
        "I1 holders",
    ),
    Guard(
        "no more is granted than is contracted (I2)",
        removals.instead(admission, "Room", removals.Unbounded),
        amounts.more_is_claimed_than_is_left_of_the_contract,
        "I2 held",
    ),
    Guard(
        "the minimum is granted whole (C6)",
        removals.instead(admission._Admission, "_next_batch", lambda _self, one: [one]),
        amounts.there_is_room_for_half_of_the_minimum,
        "C6",
    ),
    Guard(
        "a refused instance keeps what it has",
        removals.instead(pool_plan, "judge", removals.accepting_all),
        amounts.fewer_than_the_minimum_are_asked_for,
        "I3",
    ),
    Guard(
        "a former incarnation's holdings are released",
        removals.instead(pool_world, "_without_former_owners", removals.as_they_are),
        records.an_instance_is_made_anew,
        "leak",
    ),
    Guard(
        "growth runs what the others run (R1, R3)",
        removals.instead(members, "current_revision", lambda _o, _u, version, new: new.rendered.get(version, "")),
        records.an_offering_is_edited_before_growth,
        "R3",
    ),
    Guard(
        "a template that is lost is read back from who runs it (R1)",
        removals.instead(children, "template_of", removals.lost),
        records.a_template_is_lost_after_an_edit_of_the_offering,
        "I8",
    ),
    Guard("the store never goes back", removals.observes_anything, views.old_news_comes_late, "leak"),
    Guard(
        "keys that are added while they run, run again",
        removals.keys_added_while_running_are_dropped,
        views.news_comes_while_a_key_is_worked_on,
        "leak",
    ),
    Guard(
        "deadlines",
        removals.instead(Deadlines, "set", removals.nothing),
        wakes.a_node_fails_when_its_time_is_over,
        "N1",
    ),
    Guard(
        "a status that is there already is not written (I8)",
        removals.instead(Context, "publish", removals.publish_always),
        wakes.an_instance_waits,
        "I8",
    ),
    Guard(
        "pods that go wake their pool", removals.route_without(PODS), wakes.the_last_pod_goes_after_its_member, "leak"
    ),
    Guard("nodes that change wake class and pools", removals.route_without(NODES), wakes.a_node_is_added, "C4"),
    Guard(
        "claims that come back wake who waits for them",
        removals.instead(routes, "_waiting_for_a_claim", removals.no_keys),
        wakes.a_claim_comes_back,
        "suspend",
    ),
    Guard(
        "a pool's verdicts wake its instances",
        removals.instead(Board, "post", lambda *_: set()),
        wakes.an_instance_waits,
        "true reason",
    ),
    Guard(
        "confirm who serves, before a member that moves is stopped (S5)",
        removals.instead(pool, "_confirm_who_serves", removals.done),
        rollouts.another_stops_serving_unheard,
        "S5",
    ),
    Guard(
        "confirm who serves, before a move is undone (N3)",
        removals.instead(pool, "_confirm_who_serves", removals.done),
        moves.a_node_comes_back_and_the_successor_serves_unheard,
        "C5",
    ),
    Guard(
        "a rollout keeps minAvailable (S5)",
        removals.instead(Walk, "objection", removals.no_objection),
        rollouts.all_are_to_be_available,
        "S5",
    ),
    Guard(
        "a rollout keeps the minimum of the offering (C6)",
        removals.accepting_fewer(),
        rollouts.the_minimum_is_to_be_available,
        "I3",
    ),
    Guard("a pause (S4)", removals.without_gate(gates._paused), rollouts.it_is_paused, "S4"),
    Guard("a maintenance window (S4)", removals.without_gate(gates._window), rollouts.its_window_is_closed, "S4"),
    Guard("a canary goes alone until it is approved (S4)", removals.no_canary(), rollouts.a_canary_goes_first, "S4"),
    Guard(
        "the artifact is on the node first (S3)",
        removals.instead(starts, "lacking_of", lambda *_: []),
        rollouts.its_artifact_is_not_on_the_node,
        "S3",
    ),
    Guard("what was borrowed goes back (S2)", removals.never_given_back(), rollouts.it_borrows, "C4"),
    Guard(
        "the progress deadline (S6)",
        removals.instead(Walk, "_judge", removals.nothing),
        rollouts.the_new_one_never_serves,
        "true reason",
    ),
    Guard(
        "the progress deadline on the way back (S6)",
        removals.instead(Walk, "deadline", removals.deadline_forth),
        rollouts.neither_comes_up,
        "true reason",
    ),
)
IN_DEPTH: tuple[Guard, ...] = (
    Guard(
        "one's own writes are seen at once",
        removals.instead(RememberingCluster, "_remembered", removals.forgetful),
        behind="every write names the version it was decided on; without it more of them conflict",
    ),
    Guard(
        "what was written with an unknown outcome is read before the next plan",
        removals.instead(Doubts, "all", removals.nothing_known),
        behind="a pool's record is read before its claim shrinks",
    ),
    Guard(
        "members are deleted in the foreground",
        lambda: mock.patch("tests.fakes.cluster.OWNING", frozenset()),
        behind="_confirmed_gone lists the pods as well as the StatefulSet",
    ),
    Guard(
        "uid of member deletes",
        removals.without_precondition(STATEFUL_SETS, uid=True),
        behind="only a delete that is under way for longer than a release and a new start would meet the namesake",
    ),
    Guard(
        "confirmed gone: the member is read live",
        removals.released_unseen(pods=True, member=False),
        behind="a StatefulSet that was overlooked has no replicas yet: they come only after the holding is confirmed",
    ),
    Guard(
        "what was stumbled over is read anew",
        removals.instead(Loop, "_look_again", removals.done),
        behind="the watch or the periodic LIST brings it later",
    ),
    Guard(
        "names that are taken are not given to new members",
        removals.plan_of(members=frozenset()),
        behind="the new member meets the old one at its creation and waits until that is gone",
    ),
    Guard(
        "children of a former owner are not adopted",
        removals.instead(instance, "owned_by", lambda _obj, _instance: True),
        behind="the garbage collector takes them with their owner, and they are made again",
    ),
)


def table() -> str:
    """For docs/testing.md."""
    rows = [("guard that is taken out", "scene", "missed as"), ("---",) * 3]
    rows += [
        (guard.name, guard.scene.__name__.replace("_", " "), guard.missed_as)
        for guard in ALONE
        if guard.scene is not None
    ]
    rows += [(guard.name, "(in depth)", guard.behind) for guard in IN_DEPTH]
    return "\n".join(f"| {' | '.join(row)} |" for row in rows)
