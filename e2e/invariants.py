"""What must hold at every write (behaviour.md, I1 to I3), read from the history and from nothing that the operator says of
itself but its records: claims on Nodes, holdings on pools."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence

from e2e.api import NODES, PODS, POOLS, Json
from e2e.customers import MEMBER_LABEL, Customer, claims_of, pulls
from e2e.history import Happening, History, World

BLOCKS_PER_NODE = 8


def violations(history: History, customers: Sequence[Customer], *, one_leader: bool = True) -> list[str]:
    """Every sentence about a write after which something did not hold.

    While a leader that was frozen goes on for a moment beside its successor, the two may write a record and a claim
    that do not fit: each write has a precondition on its own object. What must hold then is that nobody is started
    on such a record (ADR 0008), which is looked at whenever a pod is bound.
    """
    found: list[str] = []
    names = {each.name for each in customers}
    for happening, world in history.replay():
        collection, namespace, name = happening.place
        owner = name.partition("-")[0] if collection == NODES else namespace
        if collection in (NODES, PODS, POOLS) and owner in names:
            sentences = [*_of_customer(world, owner, one_leader=one_leader), *_of_binding(happening, world, owner)]
            found += [f"{happening.version} {collection}/{name}: {each}" for each in sentences]
    return found


def told(history: History, customers: Sequence[Customer], broken: Sequence[str]) -> str:
    """The first sentences, and what had been written until the first of them."""
    version = int(broken[0].partition(" ")[0])
    lines = [line for each in customers for line in around(history, each.name, version)]
    return "\n".join([*broken[:10], "", *lines])


def around(history: History, owner: str, version: int, *, before: int = 12, after: int = 3) -> list[str]:
    """What was written to a customer's nodes, record and pods until a version and just after it, a line each."""
    lines = [
        (happening.version, _line(happening))
        for happening, _ in history.replay()
        if owner in (happening.place[1], happening.place[2].partition("-")[0])
    ]
    earlier = [line for at, line in lines if at <= version and line]
    later = [line for at, line in lines if at > version and line]
    return [*earlier[-before:], *later[:after]]


def _line(happening: Happening) -> str:
    collection = happening.place[0]
    obj, prefix = happening.obj, f"{happening.version} {collection.rpartition('/')[2]}/{happening.place[2]}"
    if obj is None:
        return f"{prefix} is gone"
    writers = sorted(
        (each.get("time", ""), each["manager"], each["operation"]) for each in obj["metadata"].get("managedFields", ())
    )
    by = f"by {writers[-1]}" if writers else ""
    if collection == NODES:
        ready = [each["status"] for each in obj["status"].get("conditions", ()) if each["type"] == "Ready"]
        taints = [each["key"] for each in obj["spec"].get("taints", ())]
        was = happening.was or {"metadata": {}}
        claims = f"claims {claims_of(obj)}" if claims_of(was) != claims_of(obj) else "same claims"
        return f"{prefix}: {claims}, Ready {ready}, {taints} {by}"
    if collection == POOLS:
        holdings = [
            (each["member"], each["state"], *each["nodes"]) for each in obj.get("status", {}).get("holdings", ())
        ]
        return f"{prefix}: {holdings} {by}"
    if collection == PODS:
        return f"{prefix} on {obj['spec'].get('nodeName')}, ends: {obj['metadata'].get('deletionTimestamp')} {by}"
    return ""


def _of_customer(world: World, owner: str, *, one_leader: bool) -> Iterator[str]:
    pools = [obj for (kind, namespace, _), obj in world.items() if kind == POOLS and namespace == owner]
    nodes = {name: obj for (kind, _, name), obj in world.items() if kind == NODES and name.startswith(f"{owner}-")}
    pods = _pods_of(world, owner)
    for name, node in nodes.items():
        if sum(claims_of(node).values()) > BLOCKS_PER_NODE:
            yield f"{name} has {claims_of(node)} claimed of {BLOCKS_PER_NODE} blocks"
    for pool in pools:
        yield from _of_sums(pool)
        if one_leader:
            yield from _of_claims(pool, nodes)
    yield from _of_pods(pods, pools)


def _of_binding(happening: Happening, world: World, owner: str) -> Iterator[str]:
    """A pod takes its GPUs: its customer has claimed as many as all of its pods there use."""
    (collection, _, name), was, pod = happening.place, happening.was, happening.obj
    node = pod["spec"].get("nodeName") if collection == PODS and pod is not None else None
    if not node or (was is not None and was["spec"].get("nodeName")):
        return
    used = sum(_gpus(each) for each in _pods_of(world, owner) if each["spec"].get("nodeName") == node)
    claimed = sum(claims_of(world[NODES, "", node]).values())
    if used > claimed:
        yield f"pod {name} starts on {node}, where {used} GPUs are used then and {claimed} claimed"


def _pods_of(world: World, owner: str) -> list[Json]:
    """Those that hold something."""
    pods = [obj for (kind, namespace, _), obj in world.items() if kind == PODS and namespace == owner]
    return [each for each in pods if not pulls(each)]


def _of_sums(pool: Json) -> Iterator[str]:
    status = pool.get("status") or {}
    units = status.get("computeUnits") or {}
    if units:
        if units["allocated"] + units["unhealthy"] > units["provisioned"]:
            yield f"allocated {units['allocated']} + unhealthy {units['unhealthy']} > {units['provisioned']}"
        if units["provisioned"] > units["contracted"]:
            yield f"provisioned {units['provisioned']} > contracted {units['contracted']}"
        if units["provisioned"] != units["allocated"] + units["idle"] + units["unhealthy"]:
            yield f"the sums do not fit: {units}"


def _of_claims(pool: Json, nodes: dict[str, Json]) -> Iterator[str]:
    for name, blocks in held_blocks(pool.get("status") or {}).items():
        # What was held on a node that is gone is held until its pods are gone too.
        if name in nodes and blocks > claims_of(nodes[name]).get(pool["metadata"]["uid"], 0):
            yield f"{blocks} blocks are held on {name}, of which {claims_of(nodes[name])} are claimed"


def held_blocks(status: Json) -> Counter[str]:
    """Blocks that the record says are held, by node."""
    held: Counter[str] = Counter()
    for each in status.get("holdings", ()):
        for node in each["nodes"]:
            held[node] += each["computeUnits"] // 100 // len(each["nodes"])
    return held


def _of_pods(pods: list[Json], pools: list[Json]) -> Iterator[str]:
    used: Counter[str] = Counter()
    places = {
        (each["member"], node)
        for pool in pools
        for each in (pool.get("status") or {}).get("holdings", ())
        for node in each["nodes"]
    }
    for pod in pods:
        node = pod["spec"].get("nodeName")
        if node:
            used[node] += _gpus(pod)
            if pools and (pod["metadata"]["labels"].get(MEMBER_LABEL), node) not in places:
                yield f"pod {pod['metadata']['name']} runs on {node} and has no holding there"
    for node, gpus in used.items():
        if gpus > BLOCKS_PER_NODE:
            yield f"pods use {gpus} of {BLOCKS_PER_NODE} GPUs of {node}"


def _gpus(pod: Json) -> int:
    return sum(
        int((each["resources"].get("requests") or {}).get("nvidia.com/gpu", 0)) for each in pod["spec"]["containers"]
    )
