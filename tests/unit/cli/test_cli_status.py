"""The status screen, as text (issue 3, item 6). No colour, fixed widths, three in the morning."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from reserved_capacity.cli.errors import CliError
from reserved_capacity.cli.layout import ASCII
from reserved_capacity.cli.render_status import render_status
from reserved_capacity.cli.view import status_view
from reserved_capacity.cli.world import LEASES, World
from reserved_capacity.domain.lifecycle import LifecycleDates
from reserved_capacity.domain.snapshot_supported import PinnedSnapshot, snapshot_supported
from reserved_capacity.ports import ACCELERATOR_CLASSES, NODES, JsonObject
from tests.unit.cli.builders import (
    NEED_100,
    NOW,
    accelerators,
    chat,
    condition,
    holding,
    instance,
    member,
    node,
    page,
    pod,
    pool,
    text,
    tokens,
    waits,
    world,
)

_MISSING = "need 1000 CU, have 900 claimed: 100 CU are missing until the provider adds healthy nodes of the class"


def screen(seen: World, width: int = 80, namespace: str = "acme", **options: bool) -> str:
    return text(render_status(status_view(seen, namespace), page(width), **options))


def full() -> World:
    """The pool is full and `fast` waits."""
    return world(pool(), chat(), instance("fast", waits()), accelerators(), node())


def test_at_80_columns_the_screen_says_what_waits_and_why() -> None:
    assert (
        screen(full())
        == """\
Namespace acme   1 pool, 2 instances   2026-03-01 03:00:00Z
✗ Somebody has to act on mi/fast (WaitingForComputeUnits)

POOL prod   ✓ Ready   Active   account acme   class h100-8
  ■■■■■■■■■■■■■■■■■■■■■■■■■■■■■■■■■■■■■■■■■■■■■■■■■■■■■■■■■■■■■■■■■■■■■■■■
  600 CU contracted   600 provisioned
  ■ 600 allocated   0 releasing   0 idle   0 unhealthy

  COMMITMENT   CU  PROVISIONED  TERM     STATE   BILLED FROM  ENDS
  po-10023-1  600          600  OneYear  Active  2026-02-02   2027-02-02

  NODE   BLOCKS                                     STATE
  gpu-1  ■■■■■■··  6 of 8 ours: chat-0 3, chat-1 3  Held

  INSTANCE  OFFERING / SNAPSHOT     DESIRED  HELD  AVAILABLE   CU  READY
  chat      gpt-4-turbo                   2     2          2  600  ✓ Ready
            gpt-4-turbo-2024-04-09
    chat-0  Available  gpu-1  since 02:46:00Z (14m ago)
    chat-1  Available  gpu-1  since 02:46:00Z (14m ago)
  fast      gpt-3.5-turbo                 1     0          0    0  ✗ False
            gpt-3.5-turbo-0125
    ✗ WaitingForComputeUnits: need 100 CU, have 0 idle in pool prod: scale
      another instance down, or add a commitment (CapacityReserved, 14m ago)
      → Scale another instance down or add a commitment to the pool.
    ! NoMember: 0 of 1 instances are serving (Available, 14m ago)
      → Look at CapacityReserved, and at the members' pods named in
        status.members.

CLASS   NODES  READY  CORDONED  FAILED    CU  CLAIMED  FREE  UNHEALTHY
h100-8      2      2         0       0  1600      600  1000          0
"""
    )


def test_at_120_columns_reasons_and_ends_stand_in_the_rows() -> None:
    assert (
        screen(full(), 120)
        == """\
Namespace acme   1 pool, 2 instances   2026-03-01 03:00:00Z
✗ Somebody has to act on mi/fast (WaitingForComputeUnits)

POOL prod   ✓ Ready   Active   account acme   class h100-8
  ■■■■■■■■■■■■■■■■■■■■■■■■■■■■■■■■■■■■■■■■■■■■■■■■■■■■■■■■■■■■■■■■■■■■■■■■
  600 CU contracted   600 provisioned   ■ 600 allocated   0 releasing   0 idle   0 unhealthy

  COMMITMENT   CU  PROVISIONED  TERM     STATE   BILLED FROM  ENDS
  po-10023-1  600          600  OneYear  Active  2026-02-02   2027-02-02 (in 337d)

  NODE   BLOCKS                                     STATE
  gpu-1  ■■■■■■··  6 of 8 ours: chat-0 3, chat-1 3  Held

  INSTANCE  OFFERING       SNAPSHOT                DESIRED  HELD  AVAILABLE   CU  READY
  chat      gpt-4-turbo    gpt-4-turbo-2024-04-09        2     2          2  600  ✓ Ready
    chat-0  Available  gpu-1  since 02:46:00Z (14m ago)
    chat-1  Available  gpu-1  since 02:46:00Z (14m ago)
  fast      gpt-3.5-turbo  gpt-3.5-turbo-0125            1     0          0    0  ✗ WaitingForComputeUnits
    ✗ WaitingForComputeUnits: need 100 CU, have 0 idle in pool prod: scale another instance down, or add a commitment
      (CapacityReserved, 14m ago)
      → Scale another instance down or add a commitment to the pool.
    ! NoMember: 0 of 1 instances are serving (Available, 14m ago)
      → Look at CapacityReserved, and at the members' pods named in status.members.

CLASS   NODES  READY  CORDONED  FAILED    CU  CLAIMED  FREE  UNHEALTHY
h100-8      2      2         0       0  1600      600  1000          0
"""
    )


def sick() -> World:
    """One node cordoned, one not ready, one gone; one member leaving, one that cannot pull its image."""
    starting = [
        condition("Accepted", "True", "Accepted"),
        condition("CapacityReserved", "True", "Reserved"),
        condition("Available", "False", "NoMember", "0 of 1 instances are serving"),
        condition("Ready", "Unknown", "NoMember", "0 of 1 instances are serving"),
    ]
    waiting = {"reason": "ImagePullBackOff", "message": "Back-off pulling image"}
    return world(
        pool(
            conditions=[
                condition("Accepted", "True", "Accepted"),
                condition("Provisioned", "False", "PartiallyProvisioned", _MISSING),
                condition("Healthy", "False", "NodesUnhealthy", "gpu-2 (not ready), gpu-3 (gone): repair or replace"),
                condition("Ready", "False", "PartiallyProvisioned", _MISSING),
            ],
            units={"contracted": 1000, "provisioned": 900, "allocated": 600, "unhealthy": 300},
            nodes=[
                {"name": "gpu-1", "blocks": 6, "state": "Cordoned"},
                {"name": "gpu-2", "blocks": 2, "state": "Unhealthy"},
                {"name": "gpu-3", "blocks": 1, "state": "Unhealthy"},
            ],
            holdings=[
                holding("chat-0"),
                holding("chat-1", state="Releasing"),
                holding("fast-0", cu=100, node="gpu-2"),
            ],
        ),
        chat(members=[member("chat-0"), member("chat-1", "Terminating")]),
        instance("fast", starting, held=1, available=0, cu=100, members=[member("fast-0", "Starting", "gpu-2")]),
        pod("fast-0-0", "fast", "fast-0", {"containerStatuses": [{"name": "server", "state": {"waiting": waiting}}]}),
        accelerators(),
        node(claims={"acme/prod": 6, "globex/batch": 2}),
        node("gpu-2", claims={"acme/prod": 2}, ready="Unknown"),
    )


def test_what_a_replaced_node_has_not_given_back_yet_is_no_part_of_the_pools_sums() -> None:
    shown = screen(
        world(
            pool(
                units={"contracted": 600, "provisioned": 600, "allocated": 600},
                nodes=[
                    {"name": "gpu-1", "blocks": 6, "state": "Replacing"},
                    {"name": "gpu-2", "blocks": 6, "state": "Held"},
                ],
                holdings=[
                    holding("chat-0", state="Releasing"),
                    holding("chat-1", state="Releasing"),
                    holding("chat-2", node="gpu-2"),
                    holding("chat-3", node="gpu-2"),
                ],
            ),
            chat(members=[member("chat-2", node="gpu-2"), member("chat-3", node="gpu-2")]),
            accelerators(),
            node(claims={"acme/prod": 6}, ready="Unknown"),
            node("gpu-2", claims={"acme/prod": 6}),
        )
    )
    assert "■ 600 allocated   0 releasing" in shown


def test_a_sick_pool_shows_each_lost_block_the_ailing_nodes_and_what_the_pods_say() -> None:
    assert (
        screen(sick())
        == """\
Namespace acme   1 pool, 2 instances   2026-03-01 03:00:00Z
✗ Somebody has to act on cup/prod (PartiallyProvisioned)
… On its way by itself: mi/fast (NoMember)

POOL prod   ✗ PartiallyProvisioned   Active   account acme   class h100-8
  ■■■■■■■■■■■■■■■■■■■■■▣▣▣▣▣▣▣▣▣▣▣▣▣▣▣▣▣▣▣▣▣▣✗✗✗✗✗✗✗✗✗✗✗✗✗✗✗✗✗✗✗✗✗········
  1000 CU contracted   900 provisioned   · 100 missing
  ■ 600 allocated   ▣ 300 of it releasing   0 idle   ✗ 300 unhealthy
  ✗ PartiallyProvisioned: need 1000 CU, have 900 claimed: 100 CU are missing
    until the provider adds healthy nodes of the class (Provisioned, 14m ago)
    → The provider adds nodes of the class; charged days with missing units are
      credited.
  ! NodesUnhealthy: gpu-2 (not ready), gpu-3 (gone): repair or replace (Healthy,
    14m ago)
    → Repair the node named in the message or add a spare one; a replacement is
      claimed as soon as one is free.

  COMMITMENT   CU  PROVISIONED  TERM     STATE   BILLED FROM  ENDS
  po-10023-1  600          600  OneYear  Active  2026-02-02   2027-02-02

  NODE   BLOCKS                                    STATE
  gpu-1  ■■■▣▣▣▒▒  6 of 8 ours: chat-0 3, chat-1   Cordoned: takes no new member
                   3 releasing; other pools 2
  gpu-2  ✗✗······  2 of 8 ours: fast-0 1, 1 not    Unhealthy: Ready is Unknown
                   held                            since 2026-03-01 02:46:00Z
  gpu-3  ✗         1 ours: 1 not held              Unhealthy: the Node is gone

  INSTANCE  OFFERING / SNAPSHOT     DESIRED  HELD  AVAILABLE   CU  READY
  chat      gpt-4-turbo                   2     2          2  600  ✓ Ready
            gpt-4-turbo-2024-04-09
    chat-0  Available    gpu-1  since 02:46:00Z (14m ago)
    chat-1  Terminating  gpu-1  since 02:46:00Z (14m ago)
  fast      gpt-3.5-turbo                 1     1          0  100  … Unknown
            gpt-3.5-turbo-0125
    fast-0  Starting  gpu-2  since 02:46:00Z (14m ago)
      pod fast-0-0: container server ImagePullBackOff: Back-off pulling image
    … NoMember: 0 of 1 instances are serving (Available, 14m ago)
      → Look at CapacityReserved, and at the members' pods named in
        status.members.

CLASS   NODES  READY  CORDONED  FAILED    CU  CLAIMED  FREE  UNHEALTHY
h100-8      2      2         0       0  1600      600  1000          0
"""
    )


def test_a_healthy_screen_says_so_in_its_second_line() -> None:
    assert screen(world(pool(), chat())).splitlines()[1] == "✓ All is as it should be"


@given(width=st.integers(min_value=60, max_value=200), where=st.sampled_from([full, sick]), brief=st.booleans())
def test_no_width_loses_a_word_of_a_reason_and_no_line_is_too_long(width: int, where: object, brief: bool) -> None:
    assert callable(where)
    shown = screen(where(), width, brief=brief)
    assert all(len(line) <= width for line in shown.splitlines())
    assert _squeezed(NEED_100 if where is full else _MISSING) in _squeezed(shown)


def test_names_as_long_as_they_may_be_are_folded_and_never_cut() -> None:
    name, model = "i" * 40, "m" * 63
    odd = instance(name, waits(), offering=model, snapshot="s" * 63, members=[member(f"{name}-0", node="n" * 60)])
    for width in (80, 120):
        shown = screen(world(pool(), odd), width)
        assert all(len(line) <= width for line in shown.splitlines())
        assert _squeezed(shown).count("i") >= 40 + 40
        assert shown.count("m") >= 63


def test_a_terminal_without_unicode_gets_signs_that_it_can_show() -> None:
    shown = text(render_status(status_view(sick(), "acme"), page(signs=ASCII)))
    assert shown.isascii()
    assert "###%%%==" in shown
    assert "X Somebody has to act on cup/prod" in shown


def test_what_the_reader_may_not_list_is_named_and_the_rest_is_shown() -> None:
    seen = world(pool(), chat(), unread=[NODES, ACCELERATOR_CLASSES, LEASES])
    shown = screen(seen)
    assert "gpu-1  ■■■■■■  6 ours: chat-0 3, chat-1 3  Held" in shown
    assert "Not looked at, since you may not list them: nodes," in shown
    assert "leases" not in shown


def test_an_object_that_the_operator_has_not_seen_says_so() -> None:
    shown = screen(world(pool(conditions=[], units={"allocated": 0}), instance("new")))
    assert "… On its way by itself: cup/prod, mi/new" in shown
    assert "It has no status yet: the operator has not looked at it." in shown


def test_a_status_older_than_the_spec_is_not_passed_off_as_news() -> None:
    shown = screen(world(pool(), instance("fast", waits(), generation=4)))
    assert _squeezed("The status is of generation 1, the spec is at 4") in _squeezed(shown)


def test_an_instance_whose_pool_does_not_exist_is_listed_by_itself() -> None:
    lost = instance("lost", waits("PoolNotFound", "there is no ComputeUnitPool 'prodd'"), pool="prodd")
    shown = screen(world(pool(), lost))
    assert "INSTANCES WITHOUT A POOL" in shown
    assert "there is no ComputeUnitPool 'prodd'" in shown


def test_a_token_unit_reservation_that_is_refused_is_on_the_screen() -> None:
    refused = [
        condition("Accepted", "False", "NotSupportedYet", "spec.units is not acted on"),
        condition("Ready", "False", "NotSupportedYet", "spec.units is not acted on"),
    ]
    shown = screen(world(pool(), tokens(refused)))
    assert "tur/gpt-41 (NotSupportedYet)" in shown
    assert "✗ NotSupportedYet: spec.units is not acted on (Accepted, 14m ago)" in shown


def test_scaled_to_zero_as_asked_is_no_fault() -> None:
    asked = [
        condition("Accepted", "True", "Accepted"),
        condition("CapacityReserved", "True", "Reserved"),
        condition("Available", "False", "ScaledToZero", "spec.instances is 0: nothing is meant to serve"),
        condition("Ready", "True", "Ready", "scaled to zero as asked"),
    ]
    shown = screen(world(pool(), instance("fast", asked, desired=0, phase="ScaledToZero")))
    assert "✓ All is as it should be" in shown
    assert "✓ ScaledToZero" in shown
    assert "○ ScaledToZero: spec.instances is 0" in shown


def test_the_member_that_still_runs_another_snapshot_says_which() -> None:
    shown = screen(world(pool(), chat(members=[member("chat-0", snapshot="gpt-4-turbo-2023")])), 120)
    assert "since 02:46:00Z (14m ago), runs gpt-4-turbo-2023" in shown


def test_many_healthy_members_are_counted_but_the_ones_in_trouble_are_named() -> None:
    many = [member(f"chat-{number}") for number in range(40)] + [member("chat-40", "Unavailable")]
    shown = screen(world(pool(), chat(members=many)))
    assert "and 28 more Available" in shown
    assert "chat-40  Unavailable" in shown


def test_in_brief_only_what_is_not_well_keeps_its_line() -> None:
    shown = screen(sick(), brief=True)
    assert "chat-1  Terminating" in shown
    assert "1 members Available" not in shown
    assert "chat-0  Available" not in shown
    assert "gpu-3" in shown


def test_nodes_beyond_those_that_the_status_lists_are_counted() -> None:
    nodes: list[JsonObject] = [{"name": f"gpu-{number:03}", "blocks": 8, "state": "Free"} for number in range(100)]
    shown = screen(world(pool(nodes=nodes, nodes_total=130, holdings=[]), unread=[NODES]))
    assert "and 84 more with 672 blocks, all well" in shown
    assert "and 30 nodes that the status does not list" in shown


def test_a_commitment_that_is_not_accepted_or_ends_soon_stands_out() -> None:
    soon = {
        "id": "po-1",
        "state": "Expiring",
        "acceptedAt": "2025-04-01T00:00:00Z",
        "provisionedComputeUnits": 600,
        "billingStart": "2025-04-01T00:00:00Z",
        "termEnd": "2026-04-01T00:00:00Z",
    }
    orders = [
        {"id": "po-1", "computeUnits": 600, "term": "OneYear", "provisionBy": "2025-04-01"},
        {"id": "po-2", "computeUnits": 100, "term": "ThreeMonths", "provisionBy": "2026-05-01"},
    ]
    shown = screen(world(pool(commitments=orders, records=[soon])), 120)
    assert "2026-04-01 (in 30d)" in shown
    assert "po-2        100            0  ThreeMonths  not accepted  by 2026-05-01" in shown


def test_the_screen_of_one_pool_leaves_out_the_others() -> None:
    seen = world(pool(), pool("batch", holdings=[]), chat(), accelerators())
    assert [each.name for each in status_view(seen, "acme", "prod").pools] == ["prod"]


def test_a_pool_that_is_not_there_is_refused_with_the_near_ones() -> None:
    with pytest.raises(CliError) as refused:
        status_view(world(pool()), "acme", "prdo")
    assert str(refused.value) == (
        "there is no ComputeUnitPool 'prdo' in namespace acme (there are: prod). Did you mean prod?"
    )


def test_over_all_namespaces_names_carry_theirs() -> None:
    shown = screen(full(), namespace="")
    assert "POOL acme/prod" in shown
    assert "Somebody has to act on acme/mi/fast" in shown
    lost = world(instance("lost", waits(), pool="prodd"))
    assert "  acme/lost  gpt-3.5-turbo" in screen(lost, namespace="")


def test_an_operator_whose_lease_has_run_out_is_the_first_thing_on_the_screen() -> None:
    lease = {
        "kind": "Lease",
        "metadata": {"name": "reserved-capacity", "namespace": "x", "uid": "l", "resourceVersion": "1"},
        "spec": {"holderIdentity": "a", "leaseDurationSeconds": 15, "renewTime": "2026-03-01T02:00:00.000000Z"},
    }
    shown = screen(world(pool(), chat(), lease, Lease=LEASES)).splitlines()
    assert shown[1].startswith("✗ No operator has held the Lease reserved-capacity since 2026-03-01 02:00:00Z")
    alive = lease | {"spec": lease["spec"] | {"renewTime": "2026-03-01T02:59:50.000000Z"}}  # type: ignore[operator]
    assert "✓ All is as it should be" in screen(world(pool(), chat(), alive, Lease=LEASES))


def _squeezed(shown: str) -> str:
    return "".join(shown.split())


@pytest.mark.parametrize("reason", ["Active", "RetiringSoon"])
def test_s8_an_emergency_is_on_the_screen_however_far_away_the_end_is(reason: str) -> None:
    dates = LifecycleDates(retires_at=datetime(2027, 3, 1, tzinfo=UTC))
    said = snapshot_supported(PinnedSnapshot("m-1", dates, "m-2", "a flaw in the weights"), now=NOW).message
    told = [*waits()[:-1], condition("SnapshotSupported", "True", reason, said)]
    assert "(emergency: a flaw in the weights)" in _squeezed_words(screen(world(pool(), chat(told))))
    calm = [*told[:-1], condition("SnapshotSupported", "True", "Active", "m-1 is current; no end of it is announced")]
    assert "SnapshotSupported" not in screen(world(pool(), chat(calm)))


def _squeezed_words(shown: str) -> str:
    return " ".join(shown.split())
