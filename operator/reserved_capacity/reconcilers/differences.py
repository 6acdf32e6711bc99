"""What of an object matters to others: the difference between two versions of it that wakes them (see `routes`)."""

from __future__ import annotations

from typing import Any

from reserved_capacity.api import meta
from reserved_capacity.api.acceleratorclass import AcceleratorClass
from reserved_capacity.domain.units import cu_of
from reserved_capacity.ports import JsonObject
from reserved_capacity.snapshot import claims_of, selects


def respecified(old: JsonObject | None, new: JsonObject | None) -> bool:
    """Came, went, is going, or has another spec."""
    return old is None or new is None or _intent(old) != _intent(new)


def _intent(obj: JsonObject) -> tuple[Any, ...]:
    metadata = obj["metadata"]
    return (metadata["uid"], metadata.get("generation"), bool(metadata.get("deletionTimestamp")))


def status_fields(obj: JsonObject | None, *fields: str) -> list[Any]:
    status = (obj or {}).get("status") or {}
    return [status.get(field) for field in fields]


def term_ends(pool: JsonObject | None) -> list[Any]:
    (commitments,) = status_fields(pool, "commitments")
    return [each.get("termEnd") for each in commitments or ()]


def borrowed(pool: JsonObject | None) -> int:
    """Compute units that rollouts want beyond the contract."""
    (rollouts,) = status_fields(pool, "rollouts")
    return sum(each.get("borrowedComputeUnits", 0) for each in rollouts or ())


def promises(offering: JsonObject | None) -> list[Any]:
    """What retirement dates undercut: it is told on every object that pins the snapshot."""
    (snapshots,) = status_fields(offering, "snapshots")
    return [each.get("promisedUntil") for each in snapshots or ()]


def http_route(offering: JsonObject | None) -> Any:
    """Where its limits are to hold."""
    metadata = offering["metadata"] if offering is not None else {}
    return (metadata.get("annotations") or {}).get(meta.HTTP_ROUTE_ANNOTATION)


def moves(pool: JsonObject) -> bool:
    """Is a member of the pool on its way to another node, or a change set or a rollout under way?"""
    nodes, holdings, change_sets, rollouts = status_fields(pool, "nodes", "holdings", "changeSets", "rollouts")
    return (
        any(each["state"] in ("Running", "RollingBack") for each in rollouts or ())
        or any(node["state"] not in ("Free", "Held") for node in nodes or ())
        or any(holding.get("replaces") for holding in holdings or ())
        or any(step["state"] != "Done" for each in change_sets or () for step in each.get("steps") or ())
    )


def changed_holders(old: JsonObject | None, new: JsonObject | None) -> list[str]:
    """Instances whose holdings differ, in the allocation record; and who holds blocks on nodes where others hold fewer
    now: a member does not run while more is held there than is claimed."""
    before, after = (_by_member(pool) for pool in (old, new))
    changed = [before.get(name) or after[name] for name in {*before, *after} if before.get(name) != after.get(name)]
    left = {node for name, holding in before.items() if name not in after for node in holding["nodes"]}
    beside = [holding for holding in after.values() if not left.isdisjoint(holding["nodes"])] if left else []
    return sorted({holding["instance"] for holding in [*changed, *beside]})


def _by_member(pool: JsonObject | None) -> dict[str, JsonObject]:
    (holdings,) = status_fields(pool, "holdings")
    return {holding["member"]: holding for holding in holdings or ()}


def selected(class_: JsonObject, node: JsonObject) -> bool:
    return selects(AcceleratorClass.parse(class_), node)


def holders_on(pool: JsonObject, node: str) -> list[str]:
    """Instances that hold blocks of the node."""
    (holdings,) = status_fields(pool, "holdings")
    return sorted({holding["instance"] for holding in holdings or () if node in holding.get("nodes", ())})


def is_overheld(pool: JsonObject, node: JsonObject) -> bool:
    """Does the pool hold more of a node than it claims there (it came back with fewer blocks)?"""
    (holdings,) = status_fields(pool, "holdings")
    name = node["metadata"]["name"]
    held: int = sum(each["computeUnits"] // len(each["nodes"]) for each in holdings or () if name in each["nodes"])
    return held > cu_of(
        sum(claim.blocks for claim in claims_of(node) if (claim.pool.namespace, claim.pool.name) == place_of(pool))
    )


def place_of(obj: JsonObject) -> tuple[str, str]:
    return (obj["metadata"].get("namespace", ""), obj["metadata"]["name"])
