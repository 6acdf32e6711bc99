from __future__ import annotations

import copy
from typing import Any

import pytest
from pydantic import BaseModel, ValidationError

from reserved_capacity.ports import (
    COMPUTE_UNIT_POOLS,
    MODEL_INSTANCES,
    NODES,
    PODS,
    SERVICES,
    JsonObject,
    Listing,
    Ref,
)
from reserved_capacity.store import (
    BY_INSTANCE,
    INSTANCE_LABEL,
    INSTANCES_BY_POOL,
    PODS_BY_NODE,
    POOLS_BY_CLASS,
    Change,
    Store,
)
from reserved_capacity.trimming import foreign_gpu_pods

CHAT = Ref(MODEL_INSTANCES, "acme", "chat")


def instance(version: int, *, uid: str = "u1", name: str = "chat", **spec: Any) -> JsonObject:
    metadata = {"name": name, "namespace": "acme", "uid": uid, "resourceVersion": str(version)}
    return {"metadata": metadata, "spec": spec}


def listing(version: int, *items: JsonObject) -> Listing:
    return Listing(items, str(version))


@pytest.fixture
def changes() -> list[Change]:
    return []


@pytest.fixture
def store(changes: list[Change]) -> Store:
    store = Store()
    store.subscribe(changes.append)
    return store


def versions(store: Store) -> dict[str, str]:
    return {obj["metadata"]["name"]: obj["metadata"]["resourceVersion"] for obj in store.all(MODEL_INSTANCES)}


def test_versions_decide_whatever_order_they_arrive_in(store: Store, changes: list[Change]) -> None:
    assert store.observe(MODEL_INSTANCES, instance(9, x=1))
    assert store.observe(MODEL_INSTANCES, instance(10, x=2))
    assert not store.observe(MODEL_INSTANCES, instance(9, x=1))
    assert versions(store) == {"chat": "10"}
    assert [(change.old and change.old["spec"], change.new and change.new["spec"]) for change in changes] == [
        (None, {"x": 1}),
        ({"x": 1}, {"x": 2}),
    ]


def test_a_version_without_news_is_kept_but_not_announced(store: Store, changes: list[Change]) -> None:
    store.observe(MODEL_INSTANCES, instance(1, x=1))
    newer = instance(2, x=1)
    newer["metadata"]["managedFields"] = [{"manager": "kubectl"}]
    assert not store.observe(MODEL_INSTANCES, newer)
    assert versions(store) == {"chat": "2"}
    assert "managedFields" not in (store.get(CHAT) or {})["metadata"]
    assert len(changes) == 1


def test_a_heartbeat_of_a_node_is_no_news_but_its_condition_is(store: Store) -> None:
    def node(version: int, heartbeat: str, ready: str) -> JsonObject:
        conditions = [{"type": "Ready", "status": ready, "lastHeartbeatTime": heartbeat}]
        status = {"conditions": conditions, "images": [{"names": [heartbeat]}], "volumesInUse": [heartbeat]}
        return {"metadata": {"name": "n", "uid": "u", "resourceVersion": str(version)}, "status": status}

    seen = node(1, "10:00", "True")
    before = copy.deepcopy(seen)
    assert store.observe(NODES, seen)
    assert seen == before, "what is given is not altered"
    assert not store.observe(NODES, node(2, "10:05", "True"))
    assert store.observe(NODES, node(3, "10:10", "False"))


def test_a_late_event_does_not_bring_a_deleted_object_back(store: Store, changes: list[Change]) -> None:
    store.observe(MODEL_INSTANCES, instance(1))
    assert store.forget(MODEL_INSTANCES, instance(5))
    assert not store.observe(MODEL_INSTANCES, instance(3, x=1))
    assert store.get(CHAT) is None
    assert changes[-1].new is None


def test_an_object_that_left_the_selector_and_is_back_is_seen_again(store: Store) -> None:
    store.observe(MODEL_INSTANCES, instance(1))
    store.forget(MODEL_INSTANCES, instance(5))
    assert store.observe(MODEL_INSTANCES, instance(7))


def test_the_deletion_of_an_old_incarnation_leaves_the_new_one(store: Store) -> None:
    store.observe(MODEL_INSTANCES, instance(1, uid="old"))
    store.observe(MODEL_INSTANCES, instance(7, uid="new"))
    assert not store.forget(MODEL_INSTANCES, instance(5, uid="old"))
    assert (store.get(CHAT) or {})["metadata"]["uid"] == "new"
    assert not store.observe(MODEL_INSTANCES, instance(4, uid="old"))


def test_a_list_repairs_what_was_missed(store: Store, changes: list[Change]) -> None:
    for name in "abc":
        store.observe(MODEL_INSTANCES, instance(1, uid=name, name=name))
    changes.clear()
    assert not store.synced(MODEL_INSTANCES)
    now = listing(
        9, instance(1, uid="a", name="a"), instance(8, uid="c", name="c", x=1), instance(9, uid="d", name="d")
    )
    found = store.replace(MODEL_INSTANCES, now)
    assert [(change.ref.name, change.new is None) for change in found] == [("b", True), ("c", False), ("d", False)]
    assert changes == found
    assert store.synced(MODEL_INSTANCES)
    assert not store.observe(MODEL_INSTANCES, instance(5, uid="b", name="b")), "gone as of the list"


def test_a_list_does_not_undo_what_is_newer_than_it(store: Store) -> None:
    """Our own writes, and events that came while the LIST was under way."""
    store.observe(MODEL_INSTANCES, instance(20, uid="new", name="new"))
    store.observe(MODEL_INSTANCES, instance(21, x=2))
    assert store.replace(MODEL_INSTANCES, listing(15, instance(12, x=1))) == []
    assert versions(store) == {"chat": "21", "new": "20"}


def test_after_a_restore_from_backup_the_list_is_believed(store: Store) -> None:
    store.replace(MODEL_INSTANCES, listing(500, instance(490, x=2), instance(495, uid="b", name="b")))
    store.forget(MODEL_INSTANCES, instance(496, uid="b", name="b"))
    found = store.replace(MODEL_INSTANCES, listing(300, instance(250, x=1), instance(260, uid="b", name="b")))
    assert {change.ref.name for change in found} == {"chat", "b"}
    assert versions(store) == {"b": "260", "chat": "250"}
    assert store.observe(MODEL_INSTANCES, instance(301, x=3))


def test_a_backup_of_a_moment_ago_is_known_by_an_object_that_is_older_than_it_was(store: Store) -> None:
    """By the next LIST the restored cluster counts higher than the one before it ever did."""
    store.replace(MODEL_INSTANCES, listing(10, instance(5, x=1)))
    store.observe(MODEL_INSTANCES, instance(20, x=2))
    assert not store.is_restored(MODEL_INSTANCES, listing(19, instance(5, x=1)))
    assert not store.is_restored(MODEL_INSTANCES, listing(99, instance(5, uid="u0")))
    store.replace(MODEL_INSTANCES, listing(99, instance(5, x=1)))
    assert (store.get(CHAT) or {})["spec"] == {"x": 1}
    assert store.observe(MODEL_INSTANCES, instance(21, x=3)) is not None


def test_after_a_restore_an_object_whose_end_was_seen_is_there_again(store: Store) -> None:
    store.observe(MODEL_INSTANCES, instance(5))
    store.forget(MODEL_INSTANCES, instance(9))
    assert store.replace(MODEL_INSTANCES, listing(8, instance(5))) == []
    assert len(store.replace(MODEL_INSTANCES, listing(99, instance(5)))) == 1


def test_indexes_follow_every_change(store: Store) -> None:
    store.observe(MODEL_INSTANCES, instance(1, poolRef="prod"))
    assert len(store.by(INSTANCES_BY_POOL, MODEL_INSTANCES, ("acme", "prod"))) == 1
    store.observe(MODEL_INSTANCES, instance(2, poolRef="other"))
    assert store.by(INSTANCES_BY_POOL, MODEL_INSTANCES, ("acme", "prod")) == []
    assert len(store.by(INSTANCES_BY_POOL, MODEL_INSTANCES, ("acme", "other"))) == 1
    store.replace(MODEL_INSTANCES, listing(3))
    assert store.by(INSTANCES_BY_POOL, MODEL_INSTANCES, ("acme", "other")) == []


def test_children_are_found_by_label_and_node(store: Store) -> None:
    pod = instance(1, uid="p", name="chat-0", nodeName="n1")
    pod["metadata"] |= {"labels": {INSTANCE_LABEL: "chat"}}
    store.observe(PODS, pod)
    for index, key in ((BY_INSTANCE, ("acme", "chat")), (PODS_BY_NODE, "n1")):
        assert [obj["metadata"]["name"] for obj in store.by(index, PODS, key)] == ["chat-0"]
    assert store.by(BY_INSTANCE, SERVICES, ("acme", "chat")) == []
    with pytest.raises(KeyError):
        store.by(POOLS_BY_CLASS, PODS, "h100-8")
    with pytest.raises(KeyError):
        Store(()).by(POOLS_BY_CLASS, COMPUTE_UNIT_POOLS, "h100-8")


def test_objects_are_listed_by_namespace_and_name(store: Store) -> None:
    for name in ("b", "a"):
        store.observe(MODEL_INSTANCES, instance(1, uid=name, name=name))
    assert list(versions(store)) == ["a", "b"]
    assert [obj["metadata"]["name"] for obj in store.in_namespace(MODEL_INSTANCES, "acme")] == ["a", "b"]
    assert store.in_namespace(MODEL_INSTANCES, "other") == []


class Parsed(BaseModel):
    spec: dict[str, int]


def test_an_object_is_parsed_once_per_version(store: Store) -> None:
    assert store.parsed(CHAT, Parsed) is None
    store.observe(MODEL_INSTANCES, instance(1, x=1))
    first = store.parsed(CHAT, Parsed)
    assert first is not None
    assert store.parsed(CHAT, Parsed) is first
    store.observe(MODEL_INSTANCES, instance(2, x=2))
    assert store.parsed(CHAT, Parsed) == Parsed(spec={"x": 2})
    store.observe(MODEL_INSTANCES, instance(3, x="no number"))
    with pytest.raises(ValidationError):
        store.parsed(CHAT, Parsed)


def test_an_answer_that_is_what_the_store_holds_is_not_parsed_again(store: Store) -> None:
    store.observe(MODEL_INSTANCES, instance(1, x=1))
    known = store.parsed(CHAT, Parsed)
    same = instance(1, x=1)
    same["metadata"]["managedFields"] = [{}]
    assert store.parsed_answer(CHAT, same, Parsed) is known
    # Whatever its version says (a cluster that was restored counts anew), other content is another answer.
    assert store.parsed_answer(CHAT, instance(1, x=2), Parsed) == Parsed(spec={"x": 2})
    assert store.parsed(CHAT, Parsed) is known


@pytest.mark.parametrize(
    ("resources", "phase", "node", "holds"),
    [
        ({"requests": {"nvidia.com/gpu": "1"}}, "Running", "n", True),
        ({"limits": {"nvidia.com/gpu": "1"}}, "Pending", "n", True),
        ({"requests": {"example.com/npu": "2"}}, "Running", "n", True),
        ({"requests": {"nvidia.com/gpu": "0"}}, "Running", "n", False),
        ({"requests": {"cpu": "1"}}, "Running", "n", False),
        ({"requests": {"nvidia.com/gpu": "1"}}, "Succeeded", "n", False),
        ({"requests": {"nvidia.com/gpu": "1"}}, "Failed", "n", False),
        ({"requests": {"nvidia.com/gpu": "1"}}, "Pending", "", False),
    ],
)
def test_foreign_pods_count_while_they_hold_gpus(resources: JsonObject, phase: str, node: str, holds: bool) -> None:
    pod = instance(1, containers=[{"name": "c", "image": "i", "resources": resources}], nodeName=node)
    pod["status"] = {"phase": phase}
    found = foreign_gpu_pods(listing(9, pod), frozenset({"example.com/npu"}))
    assert len(found.items) == holds
    if holds:
        assert "image" not in found.items[0]["spec"]["containers"][0]
        assert "status" not in found.items[0]
