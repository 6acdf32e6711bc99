"""Owns the verdict on a settled world: whoever waits waits for a true reason, and nothing is left over.

An implementation of its own, by brute force over what the cluster says. It knows the rules of behaviour.md (C4-C7, C9),
and nothing of how the planners follow them.
"""

from __future__ import annotations

from collections import Counter
from datetime import timedelta

from reserved_capacity.ports import (
    COMPUTE_UNIT_POOLS,
    CONTROLLER_REVISIONS,
    MODEL_INSTANCES,
    MODEL_OFFERINGS,
    NODES,
    POD_DISRUPTION_BUDGETS,
    PODS,
    SERVICES,
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
    is_ready_pod,
    is_usable,
    label,
    moving,
    place,
    requested_gpus,
    rollouts_of,
)
from tests.simulation.pool_facts import PoolFacts
from tests.simulation.rollout_verdict import Around, judge_rollout
from tests.simulation.sightings import Violation

NODES_OF_MEMBER = "reservedcapacity.io/nodes"
REVISION = "reservedcapacity.io/revision"
SNAPSHOT = "reservedcapacity.io/snapshot"
PROFILE = "reservedcapacity.io/profile"  # an annotation


def judge(cluster: FakeCluster, *, one_leader: bool) -> None:
    """Raises Violation."""
    _Verdict(cluster, one_leader).all()


class _Verdict:
    def __init__(self, cluster: FakeCluster, one_leader: bool) -> None:
        self.cluster, self.one_leader = cluster, one_leader
        self.nodes = {obj["metadata"]["name"]: obj for obj in cluster.all_stored(NODES)}
        self.pods = [pod for pod in cluster.all_stored(PODS) if label(pod, MEMBER)]
        self.members = {place(obj): obj for obj in cluster.all_stored(STATEFUL_SETS)}
        self.instances = {place(obj): obj for obj in cluster.all_stored(MODEL_INSTANCES)}
        self.pools = {place(obj): self._pool(obj) for obj in cluster.all_stored(COMPUTE_UNIT_POOLS)}

    def all(self) -> None:
        self._claims()
        self._holdings()
        self._children()
        if self.one_leader:  # two may render the first template at once, one before an edit and one after it
            self._alike()
        for at, pool in self.pools.items():
            self._provisioned(at, pool)
        for obj in self.instances.values():
            if not obj["metadata"].get("deletionTimestamp"):
                self._instance(obj)

    def _pool(self, obj: JsonObject) -> PoolFacts:
        # Of what ends within the hour nothing is granted, though it is claimed until then.
        contracted = sum(contracted_blocks(obj, self.cluster.now()).values())
        lasting = sum(contracted_blocks(obj, self.cluster.now() + timedelta(hours=1)).values())
        facts = PoolFacts(obj, held_by(obj), contracted, lasting)
        for name, node in self.nodes.items():
            claims = claims_on(node)
            mine = claims.get((place(obj), obj["metadata"]["uid"]), 0)
            if mine:
                used = sum(each.on(name) for each in facts.holdings)
                vanished = max(0, sum(claims.values()) - gpus_on(node))
                facts.claimed[name] = mine
                facts.vanished += vanished
                facts.free[name] = max(0, mine - max(used, 0) - vanished) if is_usable(node) else 0
        return facts

    # ------------------------------------------------------------------------------------------------ nothing left over

    def _claims(self) -> None:
        for name, node in self.nodes.items():
            for pool, uid in claims_on(node):
                live = self.pools.get(pool)
                if live is None and not self._in_use(name, pool):
                    raise Violation("leak", f"{name} is claimed by {pool}, which is gone and has nothing there")
                if live is not None and live.body["metadata"]["uid"] != uid:
                    raise Violation("leak", f"{name} is claimed by a former incarnation of {pool}")

    def _in_use(self, node: str, pool: PoolName) -> bool:
        pods = [each for each in self.pods if each["spec"].get("nodeName") == node]
        pinned = [
            each
            for each in self.members.values()
            if node in (each["metadata"].get("annotations") or {}).get(NODES_OF_MEMBER, "").split(",")
        ]
        return any(place(each)[0] == pool[0] and label(each, POOL) == pool[1] for each in [*pods, *pinned])

    @staticmethod
    def _is_of(pool: PoolName, obj: JsonObject) -> bool:
        return place(obj)[0] == pool[0] and label(obj, POOL) == pool[1]

    def _holdings(self) -> None:
        for at, pool in self.pools.items():
            for held in pool.holdings:
                here = [pod for pod in self.pods if self._is_of(at, pod) and label(pod, MEMBER) == held.member]
                member = self.members.get((at[0], held.member))
                exists = member is not None and self._is_of(at, member)
                if held.releasing and not here and not exists:
                    raise Violation("leak", f"{held.member} is gone and its holding in {at} is not")
                owner = self.instances.get((at[0], held.instance))
                if not held.releasing and (owner is None or held.uid not in ("", owner["metadata"]["uid"])):
                    raise Violation("leak", f"{held.member} holds blocks of {at} for an instance that is gone")
        for at, member in self.members.items():
            owner = self.instances.get((at[0], label(member, INSTANCE)))
            if owner is None or owner["metadata"]["uid"] != member["metadata"]["ownerReferences"][0]["uid"]:
                if not member["metadata"].get("deletionTimestamp"):
                    raise Violation("leak", f"StatefulSet {at[1]} has outlived its instance")
                continue
            facts = self.pools.get((at[0], label(member, POOL)))
            if facts is not None and at[1] not in {each.member for each in facts.holdings}:
                raise Violation("leak", f"StatefulSet {at[1]} runs and holds nothing")

    def _children(self) -> None:
        used = {(at[0], label(each, REVISION)) for at, each in self.members.items()}
        used |= {
            (place(each)[0], place(each)[1])
            for each in self.cluster.all_stored(CONTROLLER_REVISIONS)
            if self._is_way_back(each)
        }
        for resource in (CONTROLLER_REVISIONS, SERVICES, POD_DISRUPTION_BUDGETS):
            for obj in self.cluster.all_stored(resource):
                self._child(resource, obj, used)

    def _is_way_back(self, revision: JsonObject) -> bool:
        """What a rollout that is not done would go back to is kept (ADR 0030)."""
        return any(
            each.instance == label(revision, INSTANCE) and each.state != "Done"
            for pool in self.pools.values()
            for each in rollouts_of(pool.body)
        )

    def _child(self, resource: Resource, obj: JsonObject, used: set[tuple[str, str]]) -> None:
        at = place(obj)
        owner = self.instances.get((at[0], label(obj, INSTANCE)))
        if owner is None or owner["metadata"]["uid"] != obj["metadata"]["ownerReferences"][0]["uid"]:
            raise Violation("leak", f"{resource.kind} {at[1]} has outlived its instance")
        reachable = (at[0], owner["spec"]["poolRef"]) in self.pools
        if resource == CONTROLLER_REVISIONS and at not in used and reachable:
            raise Violation("leak", f"nobody runs ControllerRevision {at[1]}")

    # ------------------------------------------------------------------------------------------------------- provision

    def _provisioned(self, at: PoolName, pool: PoolFacts) -> None:
        """C4: blocks that are free and ordered are claimed; those above the order are given back unless held. N2: what
        is held without a claim is claimed again, where there is room."""
        for held in pool.holdings:
            for name in held.nodes:
                bare = name in self.nodes and pool.claimed.get(name, 0) < held.on(name)
                if bare and self._unclaimed(self.nodes[name]) >= held.on(name):
                    raise Violation("N2", f"{held.member} holds unclaimed blocks of {name}, and they are free")
        # Held without a claim, all or in part: they count, for I2 must hold when they can be claimed again.
        lost = sum(max(0, held - pool.claimed.get(name, 0)) for name, held in by_node(pool.holdings).items())
        missing = pool.contracted - sum(pool.claimed.values()) - lost
        for name, node in self.nodes.items():
            if missing > 0 and is_usable(node) and self._unclaimed(node) > 0:
                raise Violation("C4", f"{at} lacks {missing} blocks, and {name} has {self._unclaimed(node)} free ones")
        leaving = any(not is_usable(self.nodes[name]) for name in pool.claimed)
        surplus = -missing - lost - pool.lent
        idle = sum(pool.free.values())
        if surplus > 0 and idle > 0 and not leaving:
            raise Violation("C4", f"{at} claims {surplus} blocks more than it ordered, and {idle} are idle")

    def _unclaimed(self, node: JsonObject) -> int:
        name = node["metadata"]["name"]
        foreign = sum(
            requested_gpus(pod)
            for pod in self.cluster.all_stored(PODS)
            if not label(pod, MEMBER) and pod["spec"].get("nodeName") == name
        )
        return gpus_on(node) - sum(claims_on(node).values()) - foreign - self._left_of_pools(node)

    def _left_of_pools(self, node: JsonObject) -> int:
        """What members of pools that are gone use without a claim: their node has lost it."""
        name = node["metadata"]["name"]
        used: dict[PoolName, int] = {}
        for member in self.members.values():
            at = (place(member)[0], label(member, POOL))
            pinned = (member["metadata"].get("annotations") or {}).get(NODES_OF_MEMBER, "").split(",")
            if at not in self.pools and name in pinned and member["spec"]["replicas"]:
                used[at] = used.get(at, 0) + requested_gpus(member["spec"]["template"])
        claims = claims_on(node)
        return sum(
            max(0, gpus - sum(blocks for (pool, _), blocks in claims.items() if pool == at))
            for at, gpus in used.items()
        )

    # ------------------------------------------------------------------------------------------------------- instances

    def _instance(self, obj: JsonObject) -> None:
        name, spec = obj["metadata"]["name"], obj["spec"]
        status = obj.get("status") or {}
        if status.get("observedGeneration") != obj["metadata"]["generation"]:
            raise Violation("I8", f"{name} says nothing of its newest spec")
        says = {each["type"]: each for each in status["conditions"]}
        pool = self.pools.get((place(obj)[0], spec["poolRef"]))
        refused = says["Accepted"]["reason"] if says["Accepted"]["status"] != "True" else ""
        if (refused == "PoolNotFound") != (pool is None):
            raise Violation("true reason", f"{name}: {says['Accepted']}")
        if pool is None:
            return
        former = doubled(pool.holdings)
        held = [each for each in pool.holdings if each.instance == name and not each.releasing]
        held = [each for each in held if each.member not in former]
        if moving(pool.body, "Executing", "RolledBack"):
            return  # blocks are kept for the steps of a change set, until it ends or its time is over
        if refused:
            self._refused(obj, pool, len(held), refused)
            return
        leaving = any(not self._is_usable(node) for each in held for node in each.nodes)
        if len(held) > spec["instances"] and not leaving:
            raise Violation("C1", f"{name} asks for {spec['instances']} and holds {len(held)}")
        if len(held) < spec["instances"]:
            self._waits(obj, pool, says["CapacityReserved"])
            return
        if says["CapacityReserved"]["status"] != "True":
            raise Violation("true reason", f"{name} has what it asks for: {says['CapacityReserved']}")
        self._serves(obj, pool, held, says["Ready"])

    def _refused(self, obj: JsonObject, pool: PoolFacts, held: int, reason: str) -> None:
        spec = obj["spec"]
        offering = self._offering(obj)
        group = self._group(obj)
        wanted = sum(each["spec"]["instances"] for each in group)
        size, minimum = offering["computeUnitsPerInstance"] // 100, offering.get("minInstances", 1)
        true = {
            "UnknownSnapshot": not spec["snapshot"].startswith(f"{spec['offering']}-"),
            "BelowMinimumInstances": 0 < wanted < minimum or len(group) > 1 or held < minimum,
            "ExceedsPool": spec["instances"] * size > pool.lasting and spec["instances"] > held,
            "NotSupportedYet": False,
        }
        if not true.get(reason, True):
            raise Violation("true reason", f"{obj['metadata']['name']} is refused as {reason}")

    def _waits(self, obj: JsonObject, pool: PoolFacts, says: JsonObject) -> None:
        """Brute force: would its next grant fit?"""
        name, offering = obj["metadata"]["name"], self._offering(obj)
        size, minimum = offering["computeUnitsPerInstance"] // 100, offering.get("minInstances", 1)
        group = self._group(obj)
        counts = Counter(each.instance for each in pool.holdings if not each.releasing)
        have = sum(counts[each["metadata"]["name"]] for each in group)
        batch = max(1, minimum - have)
        missing = sum(
            max(0, each["spec"]["instances"] - counts[each["metadata"]["name"]])
            for each in group
            if self._accepted(each)
        )
        fits = sum(blocks // size for blocks in pool.free.values()) >= batch and pool.room >= batch * size
        fits = fits and not pool.promised
        moving = any(not self._is_usable(node) for each in pool.holdings for node in each.nodes)
        if fits and missing >= batch and not moving:
            raise Violation("true reason", f"{name} waits, and {batch} x {size} blocks would fit: {says['message']}")
        idle = sum(pool.free.values())
        stuck = sum(
            each.blocks for each in pool.holdings if each.releasing and not all(map(self._is_usable, each.nodes))
        )
        true = {
            "WaitingForRelease": pool.releasing,
            "BelowMinimumInstances": missing < batch,
            # What is stuck on a node that has failed is replaced in the contract already (N2).
            "Fragmented": min(idle, pool.room + stuck) >= batch * size and not (fits and not moving),
            "NodesUnhealthy": any(not is_usable(self.nodes[each]) for each in pool.claimed)
            or sum(pool.claimed.values()) > idle,
            "NotYetProvisioned": sum(pool.claimed.values()) - pool.vanished < pool.contracted,
            "WaitingForComputeUnits": not fits or moving,
        }
        if not true.get(says["reason"], False):
            raise Violation("true reason", f"{name} waits: {says['reason']}: {says['message']}")

    def _serves(self, obj: JsonObject, pool: PoolFacts, held: list[Held], says: JsonObject) -> None:
        name, namespace = obj["metadata"]["name"], place(obj)[0]
        suspended = obj["spec"].get("suspend", False)
        running = 0
        for each in held:
            member = self.members.get((namespace, each.member))
            if member is None and not all(node in self.nodes for node in each.nodes):
                continue  # its node is gone, and there is no other
            if member is None:
                raise Violation("C2", f"{each.member} holds blocks and does not exist")
            here = all(self._is_usable(node) and self._has_blocks(pool, each, node) for node in each.nodes)
            if here and member["spec"]["replicas"] != (0 if suspended else 1):
                raise Violation("suspend", f"{each.member} has {member['spec']['replicas']} replicas")
            # A pod that is stuck on a dead node counts in the StatefulSet's status, and serves nobody (R2).
            going = any(
                label(pod, MEMBER) == each.member and pod["metadata"].get("deletionTimestamp")
                for pod in self.pods
                if place(pod)[0] == namespace
            )
            running += 0 if going else (member.get("status") or {}).get("readyReplicas", 0)
        moving = len(held) > obj["spec"]["instances"]
        releasing = moving or any(each.releasing and each.instance == name for each in pool.holdings)
        up_to_date = next(each for each in obj["status"]["conditions"] if each["type"] == "UpToDate")
        self._rollout(obj, pool)
        held_up = releasing or up_to_date["status"] != "True"
        if says["status"] != "True" and not held_up and (suspended or running >= obj["spec"]["instances"]):
            raise Violation("true reason", f"{name} has all it asks for: {says}")
        if says["status"] == "True" and not suspended and running < obj["spec"]["instances"]:
            raise Violation("true reason", f"{name} is Ready with {running} of {obj['spec']['instances']} members")

    def _rollout(self, obj: JsonObject, pool: PoolFacts) -> None:
        name, offering = obj["metadata"]["name"], self._offering(obj)
        size, mine = offering["computeUnitsPerInstance"] // 100, pool.of(name)
        others = [each for each in rollouts_of(pool.body) if each.moving and each.instance != name]
        fits = not others and pool.room >= size and any(blocks >= size for blocks in pool.free.values())
        calm = not pool.releasing and all(self._is_usable(node) for node in (*pool.claimed, *by_node(pool.holdings)))
        counts = Counter(label(pod, INSTANCE) for pod in self.pods if is_ready_pod(pod))
        names = {each["metadata"]["name"] for each in self._group(obj)}
        around = Around(
            fits=fits,
            calm=calm and pool.lasting == pool.contracted and not obj["spec"].get("suspend"),
            running=counts[name],
            together=sum(counts[each] for each in names),
            minimum=offering.get("minInstances", 1),
            serving=frozenset(label(pod, MEMBER) for pod in self.pods if is_ready_pod(pod)),
        )
        judge_rollout(obj, pool.body, mine, around)

    def _has_blocks(self, pool: PoolFacts, mine: Held, node: str) -> bool:
        """Fewer blocks may be claimed than held, where a node came back with others on it. Who runs there has them, then
        who comes first on record; the rest waits."""
        first = pool.holdings.index(mine)
        pods = {label(pod, MEMBER) for pod in self.pods}
        taken = sum(
            each.on(node)
            for number, each in enumerate(pool.holdings)
            if number <= first or each.releasing or each.member in pods
        )
        return taken <= pool.claimed.get(node, 0)

    def _alike(self) -> None:
        """R1, R3: the members of one instance that run one version run one template, whatever became of the offering
        meanwhile."""
        runs: dict[tuple[str, ...], set[str]] = {}
        for at, member in self.members.items():
            if not member["metadata"].get("deletionTimestamp"):
                owner = member["metadata"]["ownerReferences"][0]["uid"]
                version = (label(member, SNAPSHOT), (member["metadata"].get("annotations") or {}).get(PROFILE, ""))
                runs.setdefault((at[0], owner, *version), set()).add(label(member, REVISION))
        for (_, owner, *_version), revisions in runs.items():
            if len(revisions) > 1:
                raise Violation("R3", f"the members of {owner} run {', '.join(sorted(revisions))}")

    def _is_usable(self, node: str) -> bool:
        return node in self.nodes and is_usable(self.nodes[node])

    def _accepted(self, obj: JsonObject) -> bool:
        conditions = (obj.get("status") or {}).get("conditions") or ()
        return any(each["type"] == "Accepted" and each["status"] == "True" for each in conditions)

    def _offering(self, obj: JsonObject) -> JsonObject:
        found = self.cluster.stored(Ref(MODEL_OFFERINGS, "", obj["spec"]["offering"]))
        assert found is not None
        reserved: JsonObject = found["spec"]["reserved"]
        return reserved

    def _group(self, obj: JsonObject) -> list[JsonObject]:
        """The living instances of the same offering in the same pool."""
        return [
            each
            for at, each in self.instances.items()
            if at[0] == place(obj)[0]
            and each["spec"]["poolRef"] == obj["spec"]["poolRef"]
            and each["spec"]["offering"] == obj["spec"]["offering"]
            and not each["metadata"].get("deletionTimestamp")
        ]
