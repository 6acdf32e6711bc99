"""`kubectl reserved why`, as text: the answer first, then what decides, then what is around it."""

from __future__ import annotations

import pytest

from reserved_capacity.cli.errors import CliError
from reserved_capacity.cli.explain import Explanation, explanation, why_wants
from reserved_capacity.cli.render_why import render_why
from reserved_capacity.cli.targets import kind_of, not_found
from reserved_capacity.cli.world import World
from reserved_capacity.ports import EVENTS, MODEL_OFFERINGS, PRICE_BOOKS, JsonObject
from tests.unit.cli.builders import (
    accelerators,
    chat,
    condition,
    event,
    instance,
    member,
    node,
    offering,
    page,
    pod,
    pool,
    serves,
    text,
    tokens,
    waits,
    world,
)


def explained(seen: World, kind: str, name: str) -> Explanation:
    info = kind_of(kind)
    found = explanation(seen, info, "acme" if info.namespaced else "", name)
    assert found is not None
    return found


def screen(seen: World, kind: str, name: str, width: int = 80) -> str:
    return text(render_why(explained(seen, kind, name), page(width)))


def full(*more: JsonObject) -> World:
    around = (pool(), chat(), accelerators(), node(), offering())
    return world(*around, instance("fast", waits()), *more, Event=EVENTS)


def test_who_waits_learns_what_for_who_has_it_and_what_to_do() -> None:
    refused = event("ModelInstance", "fast", "Refused", "a note of some length", type_="Warning")
    assert (
        screen(full(refused), "mi", "fast")
        == """\
✗ ModelInstance acme/fast is not Ready, and somebody has to act
  (WaitingForComputeUnits): the pool has too few idle compute units.

  Now        need 100 CU, have 0 idle in pool prod: scale another instance down,
             or add a commitment
  Next step  Scale another instance down or add a commitment to the pool.
  Since      2026-03-01 02:46:00Z (14m ago)

Conditions, in the order in which they decide
     CONDITION         STATUS  REASON                  MESSAGE
  ✓  Accepted          True    Accepted                this spec can be acted on
  ✗  CapacityReserved  False   WaitingForComputeUnits  this decides, see above
  !  Available         False   NoMember                0 of 1 instances are
                                                       serving
  ✗  Ready             False   WaitingForComputeUnits  the same

Pool prod
  600 CU contracted, 600 provisioned: 600 allocated, 0 idle, 0 unhealthy. It is
  Ready.

Blocks, and who holds them
  NODE   BLOCKS  IDLE  HELD BY             STATE
  gpu-1  6 of 8     0  chat-0 3, chat-1 3  Held

Instances on the pool, in the order of admission
  INSTANCE  PRIORITY  DESIRED  HELD  AVAILABLE   CU  READY
  chat             0        2     2          2  600  Ready
  fast             0        1     0          0    0  WaitingForComputeUnits

Offering gpt-3.5-turbo
  100 CU an instance, at least 1 on a pool, on h100-8; snapshot
  gpt-3.5-turbo-0125 is Active

Events
  WHEN     TYPE     REASON   OBJECT
  60s ago  Warning  Refused  modelinstance/fast
    a note of some length
"""
    )


def test_what_is_ready_says_so_in_one_sentence() -> None:
    assert explained(full(), "mi", "chat").sentence == (
        "ModelInstance acme/chat is Ready: 2 of 2 instances are serving."
    )


def test_what_serves_and_is_not_ready_says_both() -> None:
    beyond = "need 900 CU for 3 instances, pool prod has 600 CU contracted"
    conditions = [
        condition("Accepted", "False", "ExceedsPool", beyond),
        condition("CapacityReserved", "False", "ExceedsPool", beyond),
        condition("Available", "True", "Serving", "2 of 3 instances are serving"),
        condition("Ready", "False", "ExceedsPool", beyond),
    ]
    found = explained(world(pool(), chat(conditions, desired=3)), "mi", "chat")
    assert found.sentence == (
        "ModelInstance acme/chat is serving, but is not Ready, and somebody has to act (ExceedsPool): this object alone "
        "asks for more compute units than the pool has contracted, or keeps after a drain that has begun."
    )
    assert [(link.type, link.decides) for link in found.chain][:2] == [("Accepted", True), ("CapacityReserved", False)]


def test_what_moves_by_itself_is_no_alarm() -> None:
    late = condition("Provisioned", "Unknown", "Provisioning", "need 600 CU, have 0 claimed")
    moving = [condition("Accepted", "True", "Accepted"), late, late | {"type": "Ready"}]
    assert explained(world(pool(conditions=moving)), "cup", "prod").sentence == (
        "ComputeUnitPool acme/prod is not Ready yet and on its way by itself (Provisioning): nodes are being claimed "
        "and the agreed date has not passed."
    )


def test_what_the_operator_has_not_seen_says_so() -> None:
    found = explained(world(pool(), instance("new")), "mi", "new")
    assert found.sentence == "ModelInstance acme/new has no status yet: the operator has not looked at it."
    assert found.chain == ()


def test_a_pool_names_the_nodes_that_are_no_use_and_what_its_class_has_left() -> None:
    gone = condition("Healthy", "False", "NodesUnhealthy", "gpu-1 (not ready): repair or replace")
    ailing = [condition("Accepted", "True", "Accepted"), gone, gone | {"type": "Ready"}]
    nodes = [{"name": "gpu-1", "blocks": 6, "state": "Unhealthy"}]
    seen = world(pool(conditions=ailing, nodes=nodes), chat(), accelerators(), node(ready="Unknown"))
    shown = screen(seen, "cup", "prod", 120)
    assert "gpu-1  6 of 8     0  chat-0 3, chat-1 3  Unhealthy: Ready is Unknown since 2026-03-01 02:46:00Z" in shown
    assert "2 nodes, 2 ready, 0 cordoned, 0 failed; 1600 CU: 600 claimed, 1000 free, 0 unhealthy. It is Ready." in shown
    assert "po-10023-1  600          600  Active  2026-03-01    2026-02-02   2027-02-02" in shown


def test_a_member_that_does_not_start_shows_what_its_pod_says_beside_the_others() -> None:
    crashed = {
        "name": "server",
        "restartCount": 5,
        "lastState": {"terminated": {"exitCode": 137, "reason": "OOMKilled"}},
    }
    seen = world(
        pool(),
        chat(members=[member("chat-0"), member("chat-1", "Unavailable")]),
        pod("chat-1-0", "chat", "chat-1", {"containerStatuses": [crashed]}),
    )
    assert "pod chat-1-0: container server exited 137 (OOMKilled), 5 restarts" in screen(seen, "mi", "chat", 160)


def test_an_instance_without_its_pool_is_told_which_pools_there_are() -> None:
    lost = instance("lost", waits("PoolNotFound", "there is no ComputeUnitPool 'prodd'"), pool="prodd")
    assert "Pool prodd\n  does not exist here; there are: prod\n" in screen(world(pool(), lost), "mi", "lost")


def test_a_class_lists_every_node_with_its_claims() -> None:
    seen = world(pool(), accelerators(), node(), node("gpu-2", claims={}, ready="False"))
    shown = screen(seen, "acceleratorclass", "h100-8", 120)
    assert "gpu-1       8     2  acme/prod 6  usable" in shown
    assert "gpu-2       8     8  nobody       failed: Ready is False since 2026-03-01 02:46:00Z" in shown
    assert "acme/prod         600          600     0" in shown


def test_an_offering_lists_its_snapshots_its_users_and_the_classes_that_are_missing() -> None:
    seen = world(offering(), instance("fast", waits()))
    shown = screen(seen, "modeloffering", "gpt-3.5-turbo")
    assert "100 CU an instance, at least 1 on a pool, on h100-8; not there: h100-8" in shown
    assert "gpt-3.5-turbo-0125  Active             1" in shown
    assert "ModelInstance acme/fast  gpt-3.5-turbo-0125" in shown


def test_a_price_book_lists_who_pays_by_it() -> None:
    book = {
        "kind": "PriceBook",
        "metadata": {"name": "usd", "uid": "usd", "resourceVersion": "1", "generation": 1},
        "spec": {
            "currency": "USD",
            "computeUnits": [
                {"term": "OneYear", "effectiveFrom": "2024-02-08", "pricePerComputeUnitMonth": "220.00"},
            ],
        },
        "status": {
            "observedGeneration": 1,
            "conditions": [condition("Valid", "False", "PriceGap", "ThreeMonths has no price")],
        },
    }
    shown = screen(world(pool(), book, PriceBook=PRICE_BOOKS), "pricebook", "usd", 160)
    assert shown.startswith("✗ PriceBook usd is not Ready, and somebody has to act (PriceGap): something that is sold")
    assert "1 for compute units, 0 for token units, in USD" in shown
    assert "ComputeUnitPool acme/prod  acme" in shown


def test_a_reservation_of_an_offering_that_is_not_there_says_so() -> None:
    conditions = [condition("Ready", "False", "UnknownOffering", "there is no gpt-4.1")]
    shown = screen(world(tokens(conditions)), "tur", "gpt-41")
    assert "3 input and 4 output units; overflow Spill, enforcement Enforce;" in shown
    assert "no limit published yet" in " ".join(shown.split())
    assert "entitled to by these units      0       0" in shown
    assert "base" not in shown
    assert "Offering gpt-4.1\n  does not exist\n" in shown
    unread = world(tokens(conditions), unread=[MODEL_OFFERINGS])
    assert "Offering gpt-4.1" not in screen(unread, "tur", "gpt-41")


def test_events_are_the_newest_eight_of_the_instance_its_members_and_their_pods() -> None:
    old = [event("Pod", "chat-0-0", f"Old{number}", "x", seconds_ago=1000 + number) for number in range(9)]
    own = event("StatefulSet", "chat-0", "SuccessfulCreate", "made", seconds_ago=30)
    other = event("Pod", "stranger-0", "Other", "y")
    running = pod("chat-0-0", "chat", "chat-0", {})
    [section] = [
        each for each in explained(full(*old, own, other, running), "mi", "chat").sections if each.title == "Events"
    ]
    assert [row[2] for row in section.rows] == [*(f"Old{number}" for number in range(6, -1, -1)), "SuccessfulCreate"]


def test_no_width_makes_a_line_too_long() -> None:
    for width in range(60, 200):
        for kind, name in (("mi", "fast"), ("cup", "prod"), ("acceleratorclass", "h100-8")):
            lines = screen(full(event("ModelInstance", "fast", "R" * 30, "note " * 30)), kind, name, width).splitlines()
            assert max(map(len, lines)) <= width


def test_what_is_read_is_what_stands_around_the_object_and_only_the_object_is_needed() -> None:
    wants = why_wants(kind_of("mi"), "acme")
    assert [want.resource.plural for want in wants if not want.optional] == ["modelinstances"]
    assert {want.namespace for want in wants if want.resource.namespaced and want.resource.plural != "leases"} == {
        "acme"
    }


@pytest.mark.parametrize("word", ["mi", "ModelInstance", "modelinstances", "modelinstances.reservedcapacity.io"])
def test_kinds_are_spelled_as_kubectl_spells_them(word: str) -> None:
    assert kind_of(word).plural == "modelinstances"


def test_an_unknown_kind_names_the_known_ones_and_the_near_ones() -> None:
    with pytest.raises(CliError) as refused:
        kind_of("modelinstanc")
    assert str(refused.value) == (
        "there is no kind 'modelinstanc' (there are: acceleratorclass, modeloffering, pricebook, cup, mi, tur). "
        "Did you mean modelinstance?"
    )


def test_an_unknown_name_comes_with_near_matches_or_with_where_it_is() -> None:
    info = kind_of("mi")
    assert str(not_found(info, "acme", "chta", ["chat", "fast"], ())) == (
        "there is no ModelInstance 'chta' in namespace acme. Did you mean chat?"
    )
    assert str(not_found(info, "acme", "chat", [], ("globex",))) == (
        "there is no ModelInstance 'chat' in namespace acme. There is one in namespace globex: use -n."
    )
    assert str(not_found(kind_of("pricebook"), "", "eur", ["usd"], ())).endswith("'eur'. There are: usd.")


def test_serving_as_asked_leaves_nothing_to_explain() -> None:
    shown = screen(world(pool(), instance("fast", serves(1), held=1, cu=100)), "mi", "fast")
    assert "Next step" not in shown
