"""How the store files objects for these questions: every index that a snapshot looks things up by."""

from __future__ import annotations

import json
from collections.abc import Hashable, Iterable, Sequence

from reserved_capacity.api import meta
from reserved_capacity.domain.nodes import Claim, PoolId
from reserved_capacity.ports import (
    COMPUTE_UNIT_POOLS,
    NODES,
    PODS,
    STATEFUL_SETS,
    JsonObject,
)
from reserved_capacity.store import (
    STANDARD_INDEXES,
    Index,
)


def claims_of(node: JsonObject) -> tuple[Claim, ...]:
    """The claims written on a Node; what cannot be read counts as nobody's, and the next write mends it."""
    raw = (node["metadata"].get("annotations") or {}).get(meta.CLAIMS_ANNOTATION)
    if not raw:
        return ()
    try:
        entries = json.loads(raw)
        return tuple(sorted(_claim(entry) for entry in entries))
    except (ValueError, TypeError, KeyError):
        return ()


def _claim(entry: JsonObject) -> Claim:
    namespace, name = entry["pool"].split("/", 1)
    return Claim(PoolId(namespace, name, entry["uid"]), int(entry["blocks"]))


def claims_annotation(claims: Sequence[Claim]) -> str:
    """The annotation's text: a JSON list of `{pool, uid, blocks}` (api.md, Keys)."""
    entries = [{"pool": str(claim.pool), "uid": claim.pool.uid, "blocks": claim.blocks} for claim in claims]
    return json.dumps(entries, separators=(",", ":"))


def _pools_of_node(node: JsonObject) -> Iterable[Hashable]:
    return {(claim.pool.namespace, claim.pool.name) for claim in claims_of(node)}


def _labels_of_node(node: JsonObject) -> Iterable[Hashable]:
    return (node["metadata"].get("labels") or {}).items()


def _commitments_of_pool(pool: JsonObject) -> Iterable[Hashable]:
    return {each["id"] for each in (pool.get("spec") or {}).get("commitments") or ()}


# Key: (namespace, name of a pool that has a claim on the node), whatever its uid.
NODES_BY_POOL = Index("nodes-by-pool", frozenset({NODES}), _pools_of_node)
# Key: (label, value).
NODES_BY_LABEL = Index("nodes-by-label", frozenset({NODES}), _labels_of_node)


def _pool_of_member(stateful_set: JsonObject) -> Iterable[Hashable]:
    metadata = stateful_set["metadata"]
    pool = (metadata.get("labels") or {}).get(meta.POOL_LABEL)
    return ((metadata["namespace"], pool),) if pool else ()


def _nodes_of_member(stateful_set: JsonObject) -> Iterable[Hashable]:
    nodes = (stateful_set["metadata"].get("annotations") or {}).get(meta.NODES_ANNOTATION)
    return nodes.split(",") if nodes else ()


# Key: (namespace, name of the pool), whether or not pool and instance still exist.
MEMBERS_BY_POOL = Index("members-by-pool", frozenset({STATEFUL_SETS}), _pool_of_member)
# Key: name of a node that the member is pinned to.
MEMBERS_BY_NODE = Index("members-by-node", frozenset({STATEFUL_SETS}), _nodes_of_member)


def _instance_of_pull(pod: JsonObject) -> Iterable[Hashable]:
    metadata = pod["metadata"]
    instance = (metadata.get("labels") or {}).get(meta.PREFETCH_LABEL)
    return ((metadata["namespace"], instance),) if instance else ()


# Key: (namespace, name of the instance for which the pod pulls an artifact).
PULLS_BY_INSTANCE = Index("pulls-by-instance", frozenset({PODS}), _instance_of_pull)
# Key: id of a commitment, which is unique in the cluster or else a duplicate.
POOLS_BY_COMMITMENT = Index("pools-by-commitment", frozenset({COMPUTE_UNIT_POOLS}), _commitments_of_pool)
INDEXES = (
    *STANDARD_INDEXES,
    NODES_BY_POOL,
    NODES_BY_LABEL,
    MEMBERS_BY_POOL,
    MEMBERS_BY_NODE,
    PULLS_BY_INSTANCE,
    POOLS_BY_COMMITMENT,
)
