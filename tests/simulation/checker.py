"""Owns the invariants of behaviour.md, checked at every change of the cluster as it happens.

It sees each change with its author: an operator (or a late write of one), or else the world, which may do as it likes.
An operator may act on an old view; so what is checked is always the cluster as it is, at the moment of the write.
To add an invariant: a method that one of `_SEEN` leads to, which calls `found`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from reserved_capacity.ports import (
    COMPUTE_UNIT_POOLS,
    ENDPOINT_SLICES,
    JOBS,
    MODEL_INSTANCES,
    NODES,
    PODS,
    STATEFUL_SETS,
    JsonObject,
    Ref,
    Resource,
)
from tests.simulation.facts import (
    INSTANCE,
    MEMBER,
    POOL,
    PREFETCH,
    PoolName,
    by_node,
    claims_on,
    gpus_on,
    held_by,
    is_usable,
    label,
    lent_to,
    moving,
    place,
    requested_gpus,
    version_of,
)
from tests.simulation.record_rules import RecordRules
from tests.simulation.sightings import A_WHILE, FOR_EVER, Wish

Claims = dict[tuple[PoolName, str], int]


class Checker(RecordRules):
    def saw(self, event: str, resource: Resource, obj: JsonObject) -> None:
        handler = _SEEN.get(resource)
        if handler is not None:
            handler(self, event, obj)

    # ----------------------------------------------------------------------------------------------------------- nodes

    def _node(self, event: str, node: JsonObject) -> None:
        name = node["metadata"]["name"]
        before = self._nodes.get(name)
        if event == "DELETED":
            self._nodes.pop(name, None)
            self._node_made_anew.add(name)
            self._trouble[name] = FOR_EVER
            return
        self._nodes[name] = node
        if not is_usable(node):
            self._trouble[name] = FOR_EVER
        elif self._trouble.get(name) == FOR_EVER:
            self._trouble[name] = int(node["metadata"]["resourceVersion"])
        self._most_gpus[name] = max(self._most_gpus.get(name, 0), gpus_on(node))
        if self.actor is not None and before is not None and claims_on(before) != claims_on(node):
            self._claimed(node, claims_on(before), claims_on(node))

    def _claimed(self, node: JsonObject, old: Claims, new: Claims) -> None:
        name = node["metadata"]["name"]
        total = sum(new.values())
        if total > max(gpus_on(node), sum(old.values())):
            self.found(f"{name} has {gpus_on(node)} blocks and is claimed for {total}", "I1")
        if total > sum(old.values()):
            self._not_in_foreign_hands(node, total)
        pools = {pool for pool, _ in {*old, *new}}
        for pool in pools:
            self._claims_cover_holders(node, pool, old, new)
        for (pool, uid), blocks in new.items():
            if blocks > old.get((pool, uid), 0):
                self._not_overclaimed(pool, uid)

    def _not_in_foreign_hands(self, node: JsonObject, total: int) -> None:
        """C11, as far as it can be known: what came after the author's last look at the node's pods is not held against
        it, unless that is long ago."""
        if self.actor == "late":
            return  # who sent it has looked when it was sent
        name = node["metadata"]["name"]
        known = max(self._looked_at(name), int(node["metadata"]["resourceVersion"]) - A_WHILE)
        foreign = sum(gpus for version, where, gpus in self._foreign.values() if where == name and version <= known)
        if foreign and total + foreign > max(gpus_on(node), self._most_gpus[name]):
            self.found(f"{name} is claimed for {total}, and others use {foreign} of its GPUs", "C11")

    def _claims_cover_holders(self, node: JsonObject, pool: PoolName, old: Claims, new: Claims) -> None:
        """Blocks that somebody holds are not taken away: neither on record, nor (for a pool that is gone) in use."""
        name = node["metadata"]["name"]
        before = sum(blocks for (each, _), blocks in old.items() if each == pool)
        after = sum(blocks for (each, _), blocks in new.items() if each == pool)
        if after >= before:
            return
        # Two leaders may take what the other has just promised; its member then does not start (see `_bound`).
        held = by_node(held_by(self._pools[pool])).get(name, 0) if pool in self._pools and self.one_leader else 0
        used = self._used(name, pool)
        if max(held, used) > after:
            self.found(f"{pool} keeps {after} blocks of {name}, of which {held} are held and {used} in use", "I1 taken")

    def _used(self, node: str, pool: PoolName) -> int:
        """GPUs of a node that the pool's pods have."""
        return sum(
            requested_gpus(pod)
            for at, pod in self._pods.items()
            if pod["spec"].get("nodeName") == node and at[0] == pool[0] and label(pod, POOL) == pool[1]
        )

    def _not_overclaimed(self, pool: PoolName, uid: str) -> None:
        live = self._pools.get(pool)
        if live is None or live["metadata"]["uid"] != uid or pool in self._pool_made_anew or not self.one_leader:
            return
        # A node that is being left has its replacement claimed before it is given back (N2).
        staying = [node for name, node in self._nodes.items() if name not in self._trouble]
        claimed = sum(claims_on(node).get((pool, uid), 0) for node in staying)
        contracted = sum(order["computeUnits"] for order in live["spec"]["commitments"]) // 100
        lent = lent_to(live)
        if claimed > contracted + lent:
            self.found(f"{pool} ordered {contracted} blocks, borrows {lent} and claims {claimed}", "I2 claims")

    # ----------------------------------------------------------------------------------------------------------- pools

    def _pool(self, event: str, pool: JsonObject) -> None:
        at = place(pool)
        before = self._pools.get(at)
        if event == "DELETED":
            self._pools.pop(at, None)
            self._pool_made_anew.add(at)
            self._forgive_members_of(at)
            return
        self._pools[at] = pool
        if before is None or self.actor is None:
            if before is not None and held_by(before) != held_by(pool):
                self._forgive_members_of(at)
                self._pool_made_anew.add(at)
            return
        old, new = held_by(before), held_by(pool)
        self._units(at, pool)
        if old != new:
            self._moving = moving(before, "Executing", "RolledBack") | moving(pool, "Executing", "RolledBack")
            self._returning = moving(pool, "RolledBack")
            self._before = before
            self._record(at, pool, old, new)
            self._steps(at, before, pool, old, new)

    def _forgive_members_of(self, pool: PoolName) -> None:
        """Their record was taken away by somebody else: what runs is not covered, for no fault of ours."""
        self._unrecorded |= {
            label(obj, MEMBER)
            for at, obj in [*self._members.items(), *self._pods.items()]
            if at[0] == pool[0] and label(obj, POOL) == pool[1]
        }

    def _units(self, at: PoolName, pool: JsonObject) -> None:
        units = pool["status"].get("computeUnits")
        if not units:
            return
        if units["allocated"] + units["unhealthy"] > units["provisioned"]:
            self.found(f"{at}: {units}", "I2 allocated")
        if units["allocated"] + units["idle"] + units["unhealthy"] != units["provisioned"]:
            self.found(f"{at}: {units}", "I2 sum")
        moved = any(each["name"] in self._trouble for each in pool["status"].get("nodes") or ())
        excused = moved or at in self._pool_made_anew or not self.one_leader
        if units["provisioned"] > units["contracted"] and not excused:
            self.found(f"{at}: {units}", "I2 provisioned")

    # ------------------------------------------------------------------------------------------------------- instances

    def _instance(self, event: str, obj: JsonObject) -> None:
        metadata = obj["metadata"]
        gone = event == "DELETED" or bool(metadata.get("deletionTimestamp"))
        spec, upgrade = obj["spec"], obj["spec"].get("upgrade") or {}
        canary = upgrade.get("canary") or {}
        wish = Wish(
            int(metadata["resourceVersion"]),
            "" if gone else metadata["uid"],
            spec["instances"],
            version_of(spec),
            upgrade.get("minAvailable", spec["instances"]),
            bool(upgrade.get("acceptBelowMinimum")),
            bool(upgrade.get("paused")),
            bool(spec.get("suspend")),
            canary.get("instances", 1) if canary else 0,
            canary.get("approval", "Manual"),
            canary.get("approvedRollout", 0),
        )
        known = self._wishes.setdefault(place(obj), [])
        if not known or replace(known[-1], version=wish.version) != wish:
            known.append(wish)

    # --------------------------------------------------------------------------------------------------------- members

    def _member(self, event: str, obj: JsonObject) -> None:
        at = place(obj)
        before = self._members.get(at)
        if event == "DELETED":
            self._members.pop(at, None)
            if self.actor is not None:
                self._stopped(at, obj)
            return
        self._members[at] = obj
        if before is None or before["metadata"]["uid"] != obj["metadata"]["uid"]:
            return
        template, was = obj["spec"]["template"], before["spec"]["template"]
        if template is not was and template != was:
            self.found(f"the template of {at[1]} was changed", "I4")
        began = obj["metadata"].get("deletionTimestamp") and not before["metadata"].get("deletionTimestamp")
        if self.actor is not None and began:
            self._stopped(at, obj)

    def _stopped(self, at: PoolName, obj: JsonObject) -> None:
        """R3: no pod is stopped whose member holds its blocks for an instance that is there. That its record was lost, and
        made anew with the member in it, after the author's last look (before which a delete that is late was sent),
        nobody could know."""
        recorded_since = 0 < self._looked_at(f"{at[0]}/{label(obj, POOL)}") < self._granted.get(at, 0)
        if at[1] in self._unrecorded and (recorded_since or self.actor == "late"):
            return
        instance = self.cluster.stored(Ref(MODEL_INSTANCES, at[0], label(obj, INSTANCE)))
        owner = obj["metadata"]["ownerReferences"][0]["uid"]
        if instance is None or instance["metadata"]["uid"] != owner or instance["metadata"].get("deletionTimestamp"):
            return
        pool = self._pools.get((at[0], label(obj, POOL)))
        holds = pool is not None and any(each.member == at[1] and not each.releasing for each in held_by(pool))
        if holds and obj["spec"]["replicas"]:
            self.found(f"member {at[1]} was deleted while it holds its blocks", "R3")

    # ------------------------------------------------------------------------------------------------------------ pods

    def _pod(self, event: str, pod: JsonObject) -> None:
        at = place(pod)
        before = self._pods.get(at)
        if label(pod, PREFETCH):
            return  # it asks for no GPU
        if not label(pod, MEMBER):
            if event == "DELETED":
                self._foreign.pop(at, None)
            else:
                here = (int(pod["metadata"]["resourceVersion"]), pod["spec"]["nodeName"], requested_gpus(pod))
                self._foreign[at] = self._foreign.get(at, here)
            return
        if event == "DELETED":
            self._pods.pop(at, None)
            return
        self._pods[at] = pod
        self._mounted(pod)
        node = pod["spec"].get("nodeName")
        if node and (before is None or not before["spec"].get("nodeName")):
            self._bound(at, pod, node)

    def _bound(self, at: PoolName, pod: JsonObject, node: str) -> None:
        """The pod takes its GPUs: they are there, and on record as its member's."""
        wanted = sum(requested_gpus(each) for each in self._pods.values() if each["spec"].get("nodeName") == node)
        if wanted > self._most_gpus.get(node, 0):
            self.found(f"pods on {node} ask for {wanted} GPUs of {self._most_gpus.get(node)}", "GPUs")
        member = label(pod, MEMBER)
        if member in self._unrecorded:
            return
        pool = self._pools.get((at[0], label(pod, POOL)))
        held = [each for each in held_by(pool) if each.member == member] if pool is not None else []
        if not held or held[0].on(node) < requested_gpus(pod):
            self.found(f"{at[1]} starts on {node}, where {member} holds no blocks", "holding first")
        claimed = sum(
            blocks for (each, _), blocks in claims_on(self._nodes[node]).items() if each == (at[0], label(pod, POOL))
        )
        if node not in self._node_made_anew and self._used(node, (at[0], label(pod, POOL))) > claimed:
            self.found(f"{at[1]} starts on {node}, of which its pool has {claimed} blocks only", "claim first")


_SEEN: dict[Resource, Callable[[Checker, str, JsonObject], None]] = {
    NODES: Checker._node,
    COMPUTE_UNIT_POOLS: Checker._pool,
    MODEL_INSTANCES: Checker._instance,
    STATEFUL_SETS: Checker._member,
    PODS: Checker._pod,
    JOBS: Checker._pulled,
    ENDPOINT_SLICES: Checker._endpoints,
}
