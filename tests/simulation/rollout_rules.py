"""Owns the invariants of a step of a rollout, at the write that takes it (behaviour.md S1, S2, S4, S5, C6).

Who serves is read from the EndpointSlices as they are then (R2). What an operator could not know is not held against it:
who has stopped serving, or what was asked for, within the last few changes; nor what nodes and users did themselves.
"""

from __future__ import annotations

from datetime import datetime, timedelta

from reserved_capacity.api import meta
from reserved_capacity.ports import MODEL_INSTANCES, MODEL_OFFERINGS, JsonObject, Ref
from tests.simulation.facts import (
    INSTANCE,
    SNAPSHOT,
    Held,
    PoolName,
    Rollout,
    by_instance,
    contracted_blocks,
    doubled,
    label,
    moving,
    place,
    rollouts_of,
    window_is_open,
)
from tests.simulation.sightings import A_WHILE, FOR_EVER, Sightings, Wish

_LONG_AGO = 20 * A_WHILE


def _is_step(made: Held, old: tuple[Held, ...], rollout: Rollout) -> bool:
    """Is it to run the new version in place of one that runs another?"""
    replaced = {each.member: each.version for each in old}.get(made.replaces, rollout.target)
    return made.version == rollout.target != replaced


class RolloutRules(Sightings):
    def _endpoints(self, event: str, obj: JsonObject) -> None:
        """Keep of every member when it served last: it does until further notice, or did until this change."""
        at = place(obj)
        version = int(obj["metadata"]["resourceVersion"])
        pods = {
            each["targetRef"]["name"]
            for each in obj.get("endpoints") or ()
            if event != "DELETED" and each["conditions"]["ready"]
        }
        ready = {(at[0], pod.rsplit("-", 1)[0]) for pod in pods}
        for member in self._serving_by_slice.get(at, set()) - ready:
            self._served_until[member] = version
        for member in ready - self._serving_by_slice.get(at, set()):
            self._serves_since[member] = version
            self._served_until[member] = FOR_EVER
        self._serving_by_slice[at] = ready

    def _serves(self, namespace: str, held: Held, *, lately: bool) -> bool:
        """`lately`: or it did a moment ago."""
        until = self._served_until.get((namespace, held.member), 0)
        return until == FOR_EVER or (lately and until >= self.cluster.version - A_WHILE)

    def _lately_wished(self, at: PoolName, instance: str, *, within: int = A_WHILE) -> list[Wish]:
        """What it asks for, and asked for a moment ago."""
        wishes = self._wishes.get((at[0], instance), [])
        since = self.cluster.version - within
        following = [*(wish.version for wish in wishes[1:]), FOR_EVER]
        return [wish for wish, end in zip(wishes, following, strict=True) if wish.uid and end >= since]

    def _mounted(self, pod: JsonObject) -> None:
        """A member's pod that runs has the artifact of its snapshot."""
        if (pod.get("status") or {}).get("phase") == "Running":
            here = (pod["metadata"]["namespace"], label(pod, INSTANCE), label(pod, SNAPSHOT), pod["spec"]["nodeName"])
            self._artifacts.add(here)

    def _pulled(self, _event: str, job: JsonObject) -> None:
        """A Job that has come to its end has left the artifact on its node."""
        ends = [each["type"] for each in (job.get("status") or {}).get("conditions") or ()]
        if "Complete" in ends:
            node = job["metadata"]["annotations"][meta.NODE_ANNOTATION]
            self._artifacts.add((job["metadata"]["namespace"], label(job, INSTANCE), label(job, SNAPSHOT), node))

    # ------------------------------------------------------------------------------------------------------ the record

    def _steps(
        self, at: PoolName, before: JsonObject, pool: JsonObject, old: tuple[Held, ...], new: tuple[Held, ...]
    ) -> None:
        if self.actor == "late":
            return  # it was sent on what its author knew then
        rolling = {each.instance for each in (*rollouts_of(before), *rollouts_of(pool)) if each.moving}
        rolling -= moving(before, "Executing", "RolledBack") | moving(pool, "Executing", "RolledBack")
        mine, now = by_instance(old), by_instance(new)
        for instance in sorted(rolling):
            wishes = self._lately_wished(at, instance)
            if not wishes or len({wish.uid for wish in self._wishes[at[0], instance]}) > 1:
                continue  # deleted, or made anew
            self._known_version(at, instance, mine.get(instance, ()), now.get(instance, ()))
            self._paused(
                instance,
                self._lately_wished(at, instance, within=_LONG_AGO),
                mine.get(instance, ()),
                now.get(instance, ()),
            )
            self._gates(at, before, pool, instance, (mine.get(instance, ()), now.get(instance, ())))
            self._budget(at, pool, instance, wishes, (old, new))
            self._cached_first(at, instance, before, pool, mine.get(instance, ()))

    def _known_version(self, at: PoolName, instance: str, old: tuple[Held, ...], new: tuple[Held, ...]) -> None:
        """S1, I4: nobody runs what the instance never asked for."""
        asked = {wish.target for wish in self._wishes[at[0], instance]}
        known = {each.member for each in old if not each.releasing}
        for each in new:
            if each.member not in known and not each.releasing and each.version not in asked:
                self.found(f"{each.member} is to run {'/'.join(each.version)}, which {instance} never asked for", "I4")

    def _paused(self, instance: str, wishes: list[Wish], old: tuple[Held, ...], new: tuple[Held, ...]) -> None:
        """S4: while it is paused no member of another version is made in place of one that is there. A new member stops
        nobody, so who has not heard of the pause yet may make one."""
        if not all(wish.paused for wish in wishes):
            return
        known, versions = {each.member for each in old}, {each.member: each.version for each in old}
        for each in new:
            made = each.member not in known and not each.releasing
            if made and versions.get(each.replaces, each.version) != each.version:
                self.found(f"{each.member} replaces {each.replaces}, and {instance} is paused", "S4")

    def _gates(
        self,
        at: PoolName,
        before: JsonObject,
        pool: JsonObject,
        instance: str,
        record: tuple[tuple[Held, ...], tuple[Held, ...]],
    ) -> None:
        """S4: forth, no member is made in place of another version's while the window is closed (the pool itself says when
        it is open, and the holding when it was planned), nor beyond a canary that nobody has approved."""
        old, new = record
        rollout = next((each for each in rollouts_of(pool) if each.instance == instance and each.goes_on), None)
        if rollout is None:
            return
        wishes = self._lately_wished(at, instance, within=_LONG_AGO)
        known = {each.member for each in old}
        for each in new:
            if each.member in known or each.releasing or not _is_step(each, old, rollout):
                continue
            if not window_is_open(pool, datetime.fromisoformat(each.since)):
                self.found(f"{each.member} is made at {each.since}, outside the window", "S4")
            self._canary_alone(each, rollout, wishes, new)
        earlier = next(
            (each for each in rollouts_of(before) if (each.instance, each.id) == (instance, rollout.id)), None
        )
        passed = rollout.canary_passed and (earlier is None or not earlier.canary_passed)
        if passed and all(each.approval == "Manual" and each.approved != rollout.id for each in wishes):
            self.found(f"the canary of {instance} has passed, and nobody approved rollout {rollout.id}", "S4")

    def _canary_alone(self, made: Held, rollout: Rollout, wishes: list[Wish], new: tuple[Held, ...]) -> None:
        if rollout.canary_passed:
            return
        former = doubled(new)
        there = [each for each in new if not each.releasing and each.member not in former]
        moved = sum(each.version == rollout.target for each in there)
        count = len(there) + len(rollout.vacated)
        if all(0 < each.canary < min(moved, each.desired, count) for each in wishes):
            self.found(f"{made.member} is made while the canary of {made.instance} has not passed", "S4")

    def _cached_first(
        self, at: PoolName, instance: str, before: JsonObject, pool: JsonObject, old: tuple[Held, ...]
    ) -> None:
        """S3: no member that serves is stopped for a version whose artifact is not on the nodes where its successor goes."""
        known = {name for each in rollouts_of(before) if each.instance == instance for name in each.vacated}
        for rollout in rollouts_of(pool):
            if rollout.instance != instance or rollout.state != "Running" or rollout.source == rollout.target:
                continue
            target = rollout.target[0]
            for each in old:
                stops = each.member in set(rollout.vacated) - known and not each.releasing
                if not stops or not self._serves(at[0], each, lately=False):
                    continue
                bare = [node for node in each.nodes if (at[0], instance, target, node) not in self._artifacts]
                if bare:
                    self.found(f"{each.member} stops for {target}, which is not on {', '.join(bare)}", "S3")

    def _budget(
        self,
        at: PoolName,
        pool: JsonObject,
        instance: str,
        wishes: list[Wish],
        record: tuple[tuple[Held, ...], tuple[Held, ...]],
    ) -> None:
        """S2, S5, I3: of those that serve none is stopped below minAvailable, nor below the offering's minimum."""
        old, new = record
        if any(wish.suspended for wish in wishes) or self._has_to_stop(pool, old):
            return
        stays = {each.member for each in new if not each.releasing}
        mine = [each for each in old if each.instance == instance and not each.releasing]
        lost = [each for each in mine if each.member not in stays and self._missed(at[0], each)]
        former = doubled(old)
        there = sum(each.member not in former for each in mine)
        too_many = max(there - wish.desired for wish in wishes)
        if len(lost) <= max(0, too_many):
            return  # fewer are wanted: who goes is not the rollout's choice (C5)
        lost_by_wish = max(0, too_many)
        others = [each for each in old if not each.releasing and each.instance != instance and each.member not in stays]
        by_leave = sum(self._missed(at[0], each) and self._accepts_fewer(at, each.instance) for each in others)
        left = self._serving(at, new, {instance}) + lost_by_wish
        floor = min(min(wish.desired, wish.least, there) for wish in wishes)
        names = ", ".join(each.member for each in lost)
        if left < floor:
            self.found(f"{names} of {instance} stops, and {left} serve of at least {floor}", "S5")
        self._minimum_serves(at, instance, names, new, lost_by_wish + by_leave)

    def _minimum_serves(self, at: PoolName, instance: str, names: str, new: tuple[Held, ...], excused: int) -> None:
        """C6 over all instances of the offering in the pool."""
        obj = self.cluster.stored(Ref(MODEL_INSTANCES, at[0], instance))
        if obj is None:
            return
        offering = obj["spec"]["offering"]
        group = {place(each)[1] for each in self._instances_of(at, offering)}
        wishes = {name: self._lately_wished(at, name) for name in group}
        if self._accepts_fewer(at, instance):
            return
        if any(wish.suspended for each in wishes.values() for wish in each):
            return
        wanted = sum(min((wish.desired for wish in each), default=0) for each in wishes.values())
        minimum = self._minimum(offering)
        left = self._serving(at, new, group) + excused
        if left < min(minimum, wanted):
            self.found(f"{names} stops, and {left} of {offering} serve of at least {min(minimum, wanted)}", "I3")

    def _accepts_fewer(self, at: PoolName, instance: str) -> bool:
        return any(wish.accepts_fewer for wish in self._lately_wished(at, instance))

    def _serving(self, at: PoolName, new: tuple[Held, ...], instances: set[str]) -> int:
        return sum(
            each.instance in instances and not each.releasing and self._serves(at[0], each, lately=True) for each in new
        )

    def _missed(self, namespace: str, held: Held) -> bool:
        """It serves, not only since a moment ago, and its nodes are no reason to leave."""
        since = self._serves_since.get((namespace, held.member), FOR_EVER)
        served = self._serves(namespace, held, lately=False) and since < self.cluster.version - A_WHILE
        return served and held.member not in self._unrecorded and not any(node in self._trouble for node in held.nodes)

    def _has_to_stop(self, pool: JsonObject, old: tuple[Held, ...]) -> bool:
        """M8: a commitment ends or is reduced within the hour, or was, and what lasts does not hold all that is held."""
        ordered = sum(each["computeUnits"] for each in pool["spec"]["commitments"]) // 100
        lasting = sum(contracted_blocks(pool, self.cluster.now() + timedelta(hours=1)).values())
        return lasting < ordered and sum(each.blocks for each in old if not each.releasing) > lasting

    def _minimum(self, offering: str) -> int:
        obj = self.cluster.stored(Ref(MODEL_OFFERINGS, "", offering))
        return obj["spec"]["reserved"].get("minInstances", 1) if obj is not None else 1

    def _instances_of(self, at: PoolName, offering: str) -> list[JsonObject]:
        return [
            obj
            for obj in self.cluster.all_stored(MODEL_INSTANCES)
            if obj["spec"]["poolRef"] == at[1]
            and obj["metadata"]["namespace"] == at[0]
            and obj["spec"]["offering"] == offering
            and not obj["metadata"].get("deletionTimestamp")
        ]
