"""What the screen says of a node that fails: why its members are still there, and until when (behaviour.md N1)."""

from __future__ import annotations

from reserved_capacity.cli.render_status import render_status
from reserved_capacity.cli.view import status_view
from reserved_capacity.ports import JsonObject
from tests.unit.cli.builders import SINCE, accelerators, chat, holding, node, page, pod, pool, text, world

UNREACHABLE = "node.kubernetes.io/unreachable"
SICK = [{"name": "gpu-1", "blocks": 6, "state": "Unhealthy"}]


def lost(*taints: JsonObject) -> JsonObject:
    unreachable = {"key": UNREACHABLE, "effect": "NoExecute", "timeAdded": SINCE}
    document = node(ready="Unknown")
    document["spec"]["taints"] = [unreachable, *taints]
    return document


def serving(name: str, seconds: int | None, **metadata: str) -> JsonObject:
    tolerates = {"key": UNREACHABLE, "operator": "Exists", "effect": "NoExecute"}
    document = pod(f"{name}-0", "chat", name, {})
    document["spec"]["tolerations"] = [tolerates if seconds is None else tolerates | {"tolerationSeconds": seconds}]
    document["metadata"] |= metadata
    return document


def screen(*objects: JsonObject) -> str:
    held = pool(nodes=SICK, holdings=[holding("chat-0"), holding("chat-1")])
    seen = status_view(world(held, chat(), accelerators(), *objects), "acme")
    return " ".join(text(render_status(seen, page(200))).split())


def test_n1_a_node_that_fails_says_until_when_its_pods_tolerate_it_the_last_of_them() -> None:
    shown = screen(lost(), serving("chat-0", 30), serving("chat-1", 600))
    assert (
        "Unhealthy: Ready is Unknown since 2026-03-01 02:46:00Z, and its pods tolerate it until 2026-03-01 02:56:00Z"
        in shown
    )


def test_n1_the_taint_that_evicts_first_counts() -> None:
    other = {"key": "node.kubernetes.io/not-ready", "effect": "NoExecute", "timeAdded": SINCE}
    tolerant = serving("chat-0", 600)
    tolerant["spec"]["tolerations"].append({"key": other["key"], "operator": "Exists", "tolerationSeconds": 60})
    assert "tolerate it until 2026-03-01 02:47:00Z" in screen(lost(other), tolerant)


def test_n1_where_no_pod_waits_for_it_nothing_is_said() -> None:
    going = serving("chat-0", 600, deletionTimestamp="2026-03-01T02:50:00Z")
    assert "tolerate" not in screen(lost(), going, serving("chat-1", None))
    assert "tolerate" not in screen(node(), serving("chat-0", 600))
