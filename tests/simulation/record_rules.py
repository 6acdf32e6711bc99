"""Owns the invariants of a pool's allocation record, from one version of it to the next."""

from __future__ import annotations

import itertools

from reserved_capacity.ports import MODEL_INSTANCES, JsonObject, Ref
from tests.simulation.facts import (
    MEMBER,
    POOL,
    Held,
    PoolName,
    by_node,
    claims_on,
    doubled,
    label,
    lent_to,
    place,
    rollouts_of,
)
from tests.simulation.rollout_rules import RolloutRules
from tests.simulation.sightings import A_WHILE, FOR_EVER


class RecordRules(RolloutRules):
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
                if not self._undoes_a_move(at, held, after):
                    self._released(at, pool, held, self._together(old, held.instance))
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
        contracted = sum(sizes) // 100 + lent_to(pool)
        if before < after > contracted and at not in self._pool_made_anew:
            self.found(f"{at}: {after} blocks are held and {contracted} contracted", "I2 held")

    def _dropped(self, at: PoolName, held: Held) -> None:
        if not held.releasing and not self._owner_is_gone(at, held):
            self.found(f"{held.member} was held and is off the record at once", "C7")
        left = [
            pod["metadata"]["name"]
            for place_, pod in self._pods.items()
            if (place_[0], label(pod, POOL), label(pod, MEMBER)) == (*at, held.member)
            and pod["spec"].get("nodeName") in held.nodes
        ]
        if left and held.member not in self._unrecorded:
            self.found(f"{held.member} is off the record while {', '.join(left)} runs", "C7 pods")

    def _released(self, at: PoolName, pool: JsonObject, held: Held, together: int) -> None:
        """Nothing that serves is stopped without need: the instance went, or asked for fewer, since this was granted. A
        rollout stops who runs something else than what it moves to (its budget: rollout_rules.py)."""
        if held.member in self._unrecorded or held.instance in self._moving or self._is_replaced(pool, held):
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

    def _together(self, old: tuple[Held, ...], instance: str) -> int:
        """Instances that it holds: a member that moves and its successor are one."""
        former = doubled(old)
        mine = [each for each in old if not each.releasing and each.instance == instance]
        return sum(each.member not in former for each in mine)

    def _undoes_a_move(self, at: PoolName, held: Held, after: dict[str, Held]) -> bool:
        """Who was to be replaced stays, and the successor goes that does not serve: no instance is taken, however many are
        asked for (N3). A member that is not wanted after all may be more than the contract covers."""
        former = after.get(held.replaces)
        return former is not None and not former.releasing and not self._missed(at[0], held)

    def _is_replaced(self, pool: JsonObject, held: Held) -> bool:
        for each in rollouts_of(pool):
            if each.instance == held.instance and each.uid in ("", held.uid):
                toward = each.source if each.state in ("RollingBack", "RolledBack") else each.target
                # Another attempt makes its members anew; and so it does with those that did not serve.
                return held.version != toward or not self._serves(place(pool)[0], held, lately=False)
        return False

    def _whole(self, at: PoolName, old: tuple[Held, ...], new: tuple[Held, ...]) -> None:
        """C6: what is granted reaches the minimum at once. A record that was lost is not granted, but found again; and
        who was deleted a moment ago may still count."""
        if at in self._pool_made_anew or any(self._owner_is_gone(at, held) for held in {*old, *new}):
            return
        before, after = self._by_offering(at, old, self._before), self._by_offering(at, new, self._pools[at])
        step_by_step = self._offerings_of(at, self._moving)  # the written plan is the grant
        for offering, count in after.items():
            if offering in step_by_step:
                continue
            if before.get(offering, 0) < count < self._minimum(offering):
                self.found(f"{at}: {offering} is granted {count}, the least is {self._minimum(offering)}", "C6")

    def _owner_is_gone(self, at: PoolName, held: Held) -> bool:
        """For whom it was granted, or who made the member, is there no more."""
        instance = self.cluster.stored(Ref(MODEL_INSTANCES, at[0], held.instance))
        if instance is None:
            return True
        member = self._members.get((at[0], held.member))
        owners = [owner["uid"] for owner in member["metadata"]["ownerReferences"]] if member is not None else []
        return any(uid != instance["metadata"]["uid"] for uid in [*owners, held.uid] if uid)

    def _floor(self, at: PoolName, old: tuple[Held, ...], new: tuple[Held, ...]) -> None:
        """I3. What the user's own hand did is excused: an instance deleted, or made anew, or one that gives the floor up."""
        before, after = self._by_offering(at, old, self._before), self._by_offering(at, new, self._pools[at])
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
            given_up = any((each["spec"].get("upgrade") or {}).get("acceptBelowMinimum") for each in living)
            if not gone and not anew and not asked and not given_up and not self._all_freed_by_plan(at, offering, old):
                self.found(f"{at}: {offering} falls from {count} to {left} instances, the least is {minimum}", "I3")

    def _all_freed_by_plan(self, at: PoolName, offering: str, old: tuple[Held, ...]) -> bool:
        """F3: a change set goes on as it was written, and this one leaves none; whoever wants some again gets them later."""
        sets = self._pools[at]["status"].get("changeSets") or ()
        freed = {
            step["member"]
            for each in sets
            if each["phase"] == "Executing"
            for step in each["steps"]
            if step["action"] == "Free"
        }
        mine = {place(each)[1] for each in self._instances_of(at, offering)}
        return all(each.member in freed for each in old if each.instance in mine and not each.releasing)

    def _recent_wishes(self, instance: JsonObject) -> set[int]:
        """What it asks for, and asked for a moment ago: between the last look and the write it may change its mind."""
        wishes = self._wishes.get(place(instance), [])
        since = self.cluster.version - A_WHILE
        following = [*(wish.version for wish in wishes[1:]), FOR_EVER]
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

    def _by_offering(self, at: PoolName, holdings: tuple[Held, ...], pool: JsonObject) -> dict[str, int]:
        """Instances that are granted. A place that a rollout has emptied to fill it again is (S2, InPlace)."""
        counts: dict[str, int] = {}
        for rollout in rollouts_of(pool):
            instance = self.cluster.stored(Ref(MODEL_INSTANCES, at[0], rollout.instance))
            if rollout.moving and instance is not None and rollout.uid in ("", instance["metadata"]["uid"]):
                offering = instance["spec"]["offering"]
                counts[offering] = counts.get(offering, 0) + len(rollout.vacated)
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
