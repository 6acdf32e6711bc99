from __future__ import annotations

import copy
import json
from typing import Any

import pytest

from reserved_capacity.ports import (
    COMPUTE_UNIT_POOLS,
    CONTROLLER_REVISIONS,
    ENDPOINT_SLICES,
    NODES,
    PODS,
    SERVICES,
    STATEFUL_SETS,
    JsonObject,
    Resource,
)
from reserved_capacity.trimming import essential, without_bookkeeping


def obj(name: str = "chat", **parts: Any) -> JsonObject:
    owner = {"apiVersion": "v1", "kind": "Service", "name": name, "uid": "o", "controller": True}
    metadata = {
        "name": name,
        "uid": f"uid-{name}",
        "resourceVersion": "1",
        "managedFields": [{}],
        "ownerReferences": [owner],
    }
    return {"metadata": metadata, **copy.deepcopy(parts)}


CONTAINER = {
    "name": "server",
    "image": "vllm",
    "env": [{"name": "A", "value": "b"}],
    "resources": {"limits": {"nvidia.com/gpu": "1"}},
}
STATEFUL_SET = {
    "spec": {
        "replicas": 1,
        "template": {
            "metadata": {"labels": {"member": "chat-0"}},
            "spec": {"containers": [CONTAINER], "affinity": {"nodeAffinity": {}}, "restartPolicy": "Always"},
        },
    },
    "status": {"replicas": 1},
}


@pytest.mark.parametrize(
    ("resource", "parts", "kept"),
    [
        (
            PODS,
            {"spec": {"nodeName": "n", "containers": [CONTAINER], "volumes": [{}]}, "status": {"phase": "Running", "podIP": "::1"}},
            {
                "spec": {"nodeName": "n", "containers": [{"name": "server", "resources": CONTAINER["resources"]}]},
                "status": {"phase": "Running"},
            },
        ),
        (STATEFUL_SETS, STATEFUL_SET, STATEFUL_SET),
        (CONTROLLER_REVISIONS, {"data": {"pod": {}}, "revision": 1}, {"data": {"pod": {}}, "revision": 1}),
        (
            SERVICES,
            {"spec": {"ports": [{"port": 8000}], "selector": {"a": "b"}, "clusterIP": "::1"}, "status": {"loadBalancer": {}}},
            {"spec": {"ports": [{"port": 8000}], "selector": {"a": "b"}}},
        ),
        (
            ENDPOINT_SLICES,
            {
                "endpoints": [
                    {"addresses": ["::1"], "conditions": {"ready": False}, "targetRef": {"kind": "Pod", "name": "p", "uid": "u"}},
                    {"addresses": ["::1"]},
                ],
                "ports": [{"port": 8000}],
            },
            {
                "endpoints": [
                    {"addresses": ["::1"], "conditions": {"ready": False}, "targetRef": {"kind": "Pod", "name": "p", "uid": "u"}},
                    {"addresses": ["::1"], "conditions": {}},
                ]
            },
        ),
        (ENDPOINT_SLICES, {"endpoints": None}, {}),
    ],
    ids=["pod", "stateful-set", "revision", "service", "slice", "empty-slice"],
)  # fmt: skip
def test_of_an_object_is_kept_what_the_operator_looks_at(
    resource: Resource, parts: JsonObject, kept: JsonObject
) -> None:
    given = obj(**parts)
    before = copy.deepcopy(given)
    found = essential(resource, given)
    assert {key: value for key, value in found.items() if key != "metadata"} == kept
    assert "managedFields" not in found["metadata"]
    assert found["metadata"]["ownerReferences"] == [{"kind": "Service", "name": "chat", "uid": "o", "controller": True}]
    assert given == before, "what is given is not altered"
    assert essential(resource, found) == found, "what is kept once stays kept"


def test_of_our_own_kinds_all_is_kept_but_what_kubectl_apply_repeats() -> None:
    pool = obj(spec={"account": "acme"}, status={"holdings": [{"member": "chat-0"}], "summary": None})
    pool["metadata"]["annotations"] = {"kubectl.kubernetes.io/last-applied-configuration": "{}", "mine": "x"}
    found = essential(COMPUTE_UNIT_POOLS, pool)
    assert (found["spec"], found["status"]) == (pool["spec"], pool["status"])
    assert found["metadata"]["annotations"] == {"mine": "x"}


def test_what_members_of_a_model_have_in_common_is_in_memory_once() -> None:
    def member(name: str) -> JsonObject:
        return essential(STATEFUL_SETS, json.loads(json.dumps(obj(name, **STATEFUL_SET))))

    one, other = (member(name)["spec"]["template"]["spec"] for name in ("chat-0", "chat-1"))
    assert one["containers"] is other["containers"]
    assert one["affinity"] is not other["affinity"]


def test_equal_strings_of_two_objects_are_one_string() -> None:
    one, other = (essential(NODES, json.loads(json.dumps(obj(spec={"x": "a long zone name"})))) for _ in range(2))
    assert one["spec"]["x"] is other["spec"]["x"]


def test_people_see_everything_but_the_bookkeeping() -> None:
    pod = obj(spec={"volumes": [{}]}, status={"conditions": [{}]})
    found = without_bookkeeping(PODS, pod)
    assert (found["spec"], found["status"]) == (pod["spec"], pod["status"])
    assert "managedFields" not in found["metadata"]
