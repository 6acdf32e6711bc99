"""Owns the invariants of behaviour.md, checked at every change of the cluster as it happens.

It sees each change with its author: an operator (or a late write of one), or else the world, which may do as it likes.
An operator may act on an old view; so what is checked is always the cluster as it is, at the moment of the write.
To add an invariant: a method that one of `_SEEN` leads to, which calls `found`.
"""

from __future__ import annotations

import copy
import itertools
from collections.abc import Callable
from dataclasses import dataclass, field, fields
from datetime import timedelta
from typing import Any

from reserved_capacity.ports import (
    COMPUTE_UNIT_POOLS,
    MODEL_INSTANCES,
    MODEL_OFFERINGS,
    NODES,
    PODS,
    STATEFUL_SETS,
    JsonObject,
    Ref,
    Resource,
)
from tests.fakes.cluster import FakeCluster
from tests.simulation.facts import (
    INSTANCE,
    MEMBER,
    POOL,
    Held,
    PoolName,
    by_node,
    claims_on,
    contracted_blocks,
    doubled,
    gpus_on,
    held_by,
    is_usable,
    label,
    moving,
    place,
    requested_gpus,
)

Claims = dict[tuple[PoolName, str], int]
_FOR_EVER = 1 << 62
_A_WHILE = 15  # versions


class Violation(Exception):
    def __init__(self, invariant: str, message: str) -> None:
        super().__init__(f"{invariant}: {message}")
        self.invariant = invariant


@dataclass(frozen=True, slots=True)
class _Wish:
    """What a ModelInstance asked for from `version` on; `uid` empty: it was gone, or going."""

    version: int
    uid: str
    desired: int


@dataclass(slots=True)
class Checker:
    """`one_leader`: nobody but one operator writes, ever; sums over several objects hold only then (D7 of the report)."""

    cluster: FakeCluster
    one_leader: bool = True
    actor: Any = None
    broken: list[Violation] = field(default_factory=list)
    _nodes: dict[str, JsonObject] = field(default_factory=dict)
    _most_gpus: dict[str, int] = field(default_factory=dict)
    _node_made_anew: set[str] = field(default_factory=set)
    _trouble: dict[str, int] = field(default_factory=dict)
    _pool_made_anew: set[PoolName] = field(default_factory=set)
    _pools: dict[PoolName, JsonObject] = field(default_factory=dict)
    _granted: dict[tuple[str, str], int] = field(default_factory=dict)
    _wishes: dict[PoolName, list[_Wish]] = field(default_factory=dict)
    _pods: dict[PoolName, JsonObject] = field(default_factory=dict)
    _members: dict[PoolName, JsonObject] = field(default_factory=dict)
    _unrecorded: set[str] = field(default_factory=set)
    _foreign: dict[PoolName, tuple[int, str, int]] = field(default_factory=dict)
    looked: dict[tuple[str, str], int] = field(default_factory=dict)
    _moving: set[str] = field(default_factory=set)
    _returning: set[str] = field(default_factory=set)

    def copy(self, cluster: FakeCluster) -> Checker:
        """One that knows the same of a copy of the cluster, and goes on from there."""
        known = {
            each.name: copy.copy(getattr(self, each.name))
            for each in fields(self)
            if each.name not in ("cluster", "actor", "_wishes")
        }
        return Checker(cluster, _wishes={at: [*wishes] for at, wishes in self._wishes.items()}, **known)

    def found(self, message: str, invariant: str = "no exceptions") -> None:
        self.broken.append(Violation(invariant, message))

    def raise_if_broken(self) -> None:
        if self.broken:
            raise self.broken[0]

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
            self._trouble[name] = _FOR_EVER
            return
        self._nodes[name] = node
        if not is_usable(node):
            self._trouble[name] = _FOR_EVER
        elif self._trouble.get(name) == _FOR_EVER:
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
        looked = self.looked.get((getattr(self.actor, "name", ""), name), 0)
        known = max(looked, int(node["metadata"]["resourceVersion"]) - _A_WHILE)
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
        if claimed > contracted:
            self.found(f"{pool} ordered {contracted} blocks and claims {claimed}", "I2 claims")

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
            self._record(at, pool, old, new)

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

    def _record(self, at: PoolName, pool: JsonObject, old: tuple[Held, ...], new: tuple[Held, ...]) -> None:
        before, after = {each.member: each for each in old}, {each.member: each for each in new}
        if len(after) != len(new):
            self.found(f"{at}: a member is recorded twice", "I1")
        version = int(pool["metadata"]["resourceVersion"])
        for member, held in after.items():
            if member not in before or (before[member].releasing and not held.releasing):
                self._granted[at[0], member] = version
        self._grants(at, pool, old, new)
        self._within_contract(at, pool, old, new)
        for member, held in before.items():
            now = after.get(member)
            if now is None or (held.releasing and not now.releasing):
                self._dropped(at, held)  # its name may go to a new member in the same write
            elif now.releasing and not held.releasing and not self._has_to_stop(pool, old):
                self._released(at, held, sum(not each.releasing and each.instance == held.instance for each in old))
            elif (held.nodes, held.blocks) != (now.nodes, now.blocks):
                self.found(f"{member} was moved on record", "R1")
        self._floor(at, old, new)
        self._whole(at, old, new)

    def _grants(self, at: PoolName, pool: JsonObject, old: tuple[Held, ...], new: tuple[Held, ...]) -> None:
        """What is newly held is claimed: every block of a node has one holder at most."""
        before, after = by_node(old), by_node(new)
        if not self.one_leader:
            return  # what another leader takes meanwhile is not started (see `_bound`)
        for name, blocks in after.items():
            if blocks <= before.get(name, 0) or name in self._node_made_anew or at in self._pool_made_anew:
                continue
            node = self._nodes.get(name)
            claimed = claims_on(node).get((at, pool["metadata"]["uid"]), 0) if node is not None else 0
            if blocks > claimed:
                self.found(f"{at} holds {blocks} blocks of {name} and claims {claimed}", "I1 holders")

    def _within_contract(self, at: PoolName, pool: JsonObject, old: tuple[Held, ...], new: tuple[Held, ...]) -> None:
        """I2, within one object and so whoever writes: nothing is granted beyond what is contracted. What moves off a
        node may be held twice meanwhile (N3)."""
        before, after = (
            sum(blocks for node, blocks in by_node(each).items() if node not in self._trouble) for each in (old, new)
        )
        # By its own word: a write that was slow on its way may arrive after the end.
        sizes = (each["computeUnits"] for each in pool["status"]["commitments"] if each["state"] != "Expired")
        contracted = sum(sizes) // 100
        if before < after > contracted and at not in self._pool_made_anew:
            self.found(f"{at}: {after} blocks are held and {contracted} contracted", "I2 held")

    def _dropped(self, at: PoolName, held: Held) -> None:
        if not held.releasing and not self._owner_is_gone(at, held):
            self.found(f"{held.member} was held and is off the record at once", "C7")
        left = [
            pod["metadata"]["name"]
            for place_, pod in self._pods.items()
            if place_[0] == at[0] and label(pod, MEMBER) == held.member and pod["spec"].get("nodeName") in held.nodes
        ]
        if left and held.member not in self._unrecorded:
            self.found(f"{held.member} is off the record while {', '.join(left)} runs", "C7 pods")

    def _released(self, at: PoolName, held: Held, together: int) -> None:
        """Nothing that serves is stopped without need: the instance went, or asked for fewer, since this was granted."""
        if held.member in self._unrecorded or held.instance in self._moving:
            return
        granted = self._granted.get((at[0], held.member), 0)
        if any(self._trouble.get(node, 0) >= granted for node in held.nodes) or self._owner_is_gone(at, held):
            return  # it moves (N1, N3), or an old view made it for an instance that is no more
        wishes = self._wishes.get((at[0], held.instance), [])
        relevant = [
            wish
            for wish, following in zip(wishes, [*wishes[1:], None], strict=True)
            if following is None or following.version >= granted
        ]
        uids = {wish.uid for wish in relevant}
        if len(uids) == 1 and "" not in uids and all(each.desired >= together for each in relevant):
            self.found(f"{held.member} is released, and {held.instance} never asked for fewer than {together}", "C5")

    def _has_to_stop(self, pool: JsonObject, old: tuple[Held, ...]) -> bool:
        """M8: a commitment ends or is reduced within the hour, or was, and what lasts does not hold all that is held."""
        ordered = sum(each["computeUnits"] for each in pool["spec"]["commitments"]) // 100
        lasting = sum(contracted_blocks(pool, self.cluster.now() + timedelta(hours=1)).values())
        return lasting < ordered and sum(each.blocks for each in old if not each.releasing) > lasting

    def _whole(self, at: PoolName, old: tuple[Held, ...], new: tuple[Held, ...]) -> None:
        """C6: what is granted reaches the minimum at once. A record that was lost is not granted, but found again; and
        who was deleted a moment ago may still count."""
        if at in self._pool_made_anew or any(self._owner_is_gone(at, held) for held in {*old, *new}):
            return
        before, after = self._by_offering(at, old), self._by_offering(at, new)
        step_by_step = self._offerings_of(at, self._moving)  # the written plan is the grant
        for offering, count in after.items():
            if offering in step_by_step:
                continue
            if before.get(offering, 0) < count < self._minimum(offering):
                self.found(f"{at}: {offering} is granted {count}, the least is {self._minimum(offering)}", "C6")

    def _minimum(self, offering: str) -> int:
        obj = self.cluster.stored(Ref(MODEL_OFFERINGS, "", offering))
        return obj["spec"]["reserved"].get("minInstances", 1) if obj is not None else 1

    def _owner_is_gone(self, at: PoolName, held: Held) -> bool:
        """For whom it was granted, or who made the member, is there no more."""
        instance = self.cluster.stored(Ref(MODEL_INSTANCES, at[0], held.instance))
        if instance is None:
            return True
        member = self._members.get((at[0], held.member))
        owners = [owner["uid"] for owner in member["metadata"]["ownerReferences"]] if member is not None else []
        return any(uid != instance["metadata"]["uid"] for uid in [*owners, held.uid] if uid)

    def _floor(self, at: PoolName, old: tuple[Held, ...], new: tuple[Held, ...]) -> None:
        """I3. What the user's own hand did is excused: an instance deleted, or made anew."""
        before, after = self._by_offering(at, old), self._by_offering(at, new)
        returning = self._offerings_of(at, self._returning)
        for offering, count in before.items():
            minimum, left = self._minimum(offering), after.get(offering, 0)
            if not (count >= minimum > left > 0) or left >= count or offering in returning:
                continue
            living = self._instances_of(at, offering)
            gone = {each.instance for each in old} - {place(each)[1] for each in living}
            anew = any(len({wish.uid for wish in self._wishes.get(place(each), [])}) > 1 for each in living)
            names = [place(each)[1] for each in living]
            asked = any(
                self._falls_by_wish(dict(zip(names, wishes, strict=True)), old, new, minimum)
                for wishes in itertools.product(*(self._recent_wishes(each) for each in living))
            )
            if not gone and not anew and not asked:
                self.found(f"{at}: {offering} falls from {count} to {left} instances, the least is {minimum}", "I3")

    def _recent_wishes(self, instance: JsonObject) -> set[int]:
        """What it asks for, and asked for a moment ago: between the last look and the write it may change its mind."""
        wishes = self._wishes.get(place(instance), [])
        since = self.cluster.version - _A_WHILE
        following = [*(wish.version for wish in wishes[1:]), _FOR_EVER]
        recent = {wish.desired for wish, end in zip(wishes, following, strict=True) if wish.uid and end >= since}
        return recent | {instance["spec"]["instances"]}

    def _falls_by_wish(
        self, wishes: dict[str, int], old: tuple[Held, ...], new: tuple[Held, ...], minimum: int
    ) -> bool:
        """F5: what shrinks shrinks at once, and what grows instead waits for it."""
        leaving = {held.instance for held in old if held not in new and not held.releasing} & set(wishes)
        left = {name: sum(not each.releasing for each in new if each.instance == name) for name in leaving}
        shrinks = all(left[name] >= wishes[name] for name in leaving)
        return not sum(wishes.values()) or (shrinks and sum(wishes.values()) >= minimum)

    def _by_offering(self, at: PoolName, holdings: tuple[Held, ...]) -> dict[str, int]:
        counts: dict[str, int] = {}
        former = doubled(holdings)
        for held in holdings:
            if held.member in former:
                continue
            instance = self.cluster.stored(Ref(MODEL_INSTANCES, at[0], held.instance))
            if instance is not None and not held.releasing and held.uid in ("", instance["metadata"]["uid"]):
                offering = instance["spec"]["offering"]
                counts[offering] = counts.get(offering, 0) + 1
        return counts

    def _offerings_of(self, at: PoolName, instances: set[str]) -> set[str]:
        found = (self.cluster.stored(Ref(MODEL_INSTANCES, at[0], name)) for name in instances)
        return {obj["spec"]["offering"] for obj in found if obj is not None}

    def _instances_of(self, at: PoolName, offering: str) -> list[JsonObject]:
        return [
            obj
            for obj in self.cluster.all_stored(MODEL_INSTANCES)
            if obj["spec"]["poolRef"] == at[1]
            and obj["metadata"]["namespace"] == at[0]
            and obj["spec"]["offering"] == offering
            and not obj["metadata"].get("deletionTimestamp")
        ]

    # ------------------------------------------------------------------------------------------------------- instances

    def _instance(self, event: str, obj: JsonObject) -> None:
        metadata = obj["metadata"]
        gone = event == "DELETED" or bool(metadata.get("deletionTimestamp"))
        wish = _Wish(int(metadata["resourceVersion"]), "" if gone else metadata["uid"], obj["spec"]["instances"])
        known = self._wishes.setdefault(place(obj), [])
        if not known or (known[-1].uid, known[-1].desired) != (wish.uid, wish.desired):
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
        """R3: no pod is stopped whose member holds its blocks for an instance that is there."""
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
}
