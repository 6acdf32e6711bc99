"""Owns what every implementation of the Cluster port must do, as tests that run on whatever `subject` is.

The fake is worth something only as far as it passes what the real API server passes (e2e/test_cluster_port.py).
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from itertools import count
from typing import Any

import pytest

from reserved_capacity.ports import (
    ACCELERATOR_CLASSES,
    CONTROLLER_REVISIONS,
    SERVICES,
    STATEFUL_SETS,
    AlreadyExists,
    Cluster,
    Conflict,
    JsonObject,
    NotFound,
    Precondition,
    Ref,
)

_names = count(int(time.time()))


async def _nothing() -> None:
    pass


@dataclass(slots=True)
class Subject:
    """`settle` gives the cluster's own controllers their turn."""

    cluster: Cluster
    namespace: str = "default"
    settle: Callable[[], Awaitable[None]] = _nothing
    name: str = field(default_factory=lambda: f"contract-{next(_names)}")

    def service(self, suffix: str = "") -> Ref:
        return Ref(SERVICES, self.namespace, self.name + suffix)

    async def make_service(self, suffix: str = "", **metadata: Any) -> JsonObject:
        ref = self.service(suffix)
        ports = [{"name": "http", "port": 80, "protocol": "TCP"}]
        body = {"metadata": {"name": ref.name, "namespace": ref.namespace, **metadata}, "spec": {"ports": ports}}
        return await self.cluster.create(SERVICES, body)

    @property
    def accelerators(self) -> Ref:
        return Ref(ACCELERATOR_CLASSES, "", self.name)

    async def make_accelerators(self) -> JsonObject:
        spec = {
            "nodeSelector": {"matchLabels": {"gpu": self.name}},
            "gpuResource": "nvidia.com/gpu",
            "gpusPerNode": 8,
            "computeUnitsPerNode": 800,
        }
        return await self.cluster.create(ACCELERATOR_CLASSES, {"metadata": {"name": self.name}, "spec": spec})

    @property
    def stateful_set(self) -> Ref:
        return Ref(STATEFUL_SETS, self.namespace, self.name)

    @property
    def revision(self) -> Ref:
        return Ref(CONTROLLER_REVISIONS, self.namespace, f"{self.name}-owned")

    async def make_stateful_set(self) -> JsonObject:
        """Of no pods: something that owns, and that no controller changes once it has been looked at."""
        labels = {"contract": self.name}
        template = {"metadata": {"labels": labels}, "spec": {"containers": [{"name": "c", "image": "example.com/c"}]}}
        spec = {"replicas": 0, "serviceName": self.name, "selector": {"matchLabels": labels}, "template": template}
        body = {"metadata": {"name": self.name, "namespace": self.namespace}, "spec": spec}
        await self.cluster.create(STATEFUL_SETS, body)
        async with asyncio.timeout(20):
            while True:
                await self.settle()
                seen = await self.cluster.get(self.stateful_set)
                await asyncio.sleep(0.2)
                if seen is not None and "observedGeneration" in seen.get("status", {}):
                    return seen

    async def make_revision(self, owner: JsonObject, **metadata: Any) -> JsonObject:
        """A ControllerRevision that `owner` owns, and whose existence keeps it."""
        reference = {
            "apiVersion": owner["apiVersion"],
            "kind": owner["kind"],
            "name": owner["metadata"]["name"],
            "uid": owner["metadata"]["uid"],
            "blockOwnerDeletion": True,
        }
        place = {"name": self.revision.name, "namespace": self.namespace, "ownerReferences": [reference]}
        # Data of any content would do, but could not be patched: the API server compares the bytes as they were sent.
        body = {"metadata": {**place, **metadata}, "revision": 7, "data": {}}
        return await self.cluster.create(CONTROLLER_REVISIONS, body)

    async def clean(self) -> None:
        """Delete what a test may have left behind: others use the cluster, too."""
        services = [self.service(suffix) for suffix in ("", "-1", "-2")]
        for ref in (*services, self.accelerators, self.stateful_set, self.revision):
            obj = await self.cluster.get(ref)
            if obj is not None:
                await self.cluster.delete(ref, Precondition(obj["metadata"]["uid"], None))

    async def gone(self, ref: Ref, seconds: float = 20.0) -> None:
        """Wait until the object is no more."""
        async with asyncio.timeout(seconds):
            while await self.cluster.get(ref) is not None:
                await self.settle()
                await asyncio.sleep(0.05)


def as_seen(obj: JsonObject) -> Precondition:
    return Precondition(obj["metadata"]["uid"], obj["metadata"]["resourceVersion"])


def version(obj: JsonObject) -> int:
    return int(obj["metadata"]["resourceVersion"])


def status(total: int) -> JsonObject:
    return {"nodes": {"total": total, "ready": 0, "cordoned": 0, "failed": 0}}


class ClusterContract:
    async def test_a_created_object_is_read_back_as_it_was_answered(self, subject: Subject) -> None:
        made = await subject.make_service(labels={"a": "b"})
        assert (made["apiVersion"], made["kind"]) == ("v1", "Service")
        assert made["metadata"]["uid"]
        assert made["metadata"]["creationTimestamp"]
        assert await subject.cluster.get(subject.service()) == made

    async def test_what_does_not_exist_is_none(self, subject: Subject) -> None:
        assert await subject.cluster.get(subject.service()) is None

    async def test_a_second_create_of_a_name_already_exists(self, subject: Subject) -> None:
        made = await subject.make_service()
        with pytest.raises(AlreadyExists):
            await subject.make_service()
        assert await subject.cluster.get(subject.service()) == made

    async def test_a_patch_merges_removes_and_replaces_lists_whole(self, subject: Subject) -> None:
        made = await subject.make_service(labels={"keep": "1", "drop": "1"})
        ports = [{"name": "other", "port": 81, "protocol": "TCP", "targetPort": 81}]
        merge = {"metadata": {"labels": {"drop": None, "new": "1"}}, "spec": {"ports": ports}}
        patched = await subject.cluster.patch(subject.service(), as_seen(made), merge)
        assert patched["metadata"]["labels"] == {"keep": "1", "new": "1"}
        assert patched["spec"]["ports"] == ports
        assert version(patched) > version(made)
        assert await subject.cluster.get(subject.service()) == patched

    async def test_a_patch_on_an_old_version_conflicts_and_changes_nothing(self, subject: Subject) -> None:
        made = await subject.make_service()
        newer = await subject.cluster.patch(subject.service(), as_seen(made), {"metadata": {"labels": {"a": "1"}}})
        with pytest.raises(Conflict):
            await subject.cluster.patch(subject.service(), as_seen(made), {"metadata": {"labels": {"a": "2"}}})
        assert await subject.cluster.get(subject.service()) == newer

    @pytest.mark.parametrize("any_version", [False, True])
    async def test_a_patch_for_another_incarnation_conflicts(self, subject: Subject, any_version: bool) -> None:
        old = await subject.make_service()
        await subject.cluster.delete(subject.service(), as_seen(old))
        await subject.gone(subject.service())
        new = await subject.make_service()
        assert new["metadata"]["uid"] != old["metadata"]["uid"]
        seen = Precondition(old["metadata"]["uid"], None if any_version else old["metadata"]["resourceVersion"])
        with pytest.raises(Conflict):
            await subject.cluster.patch(subject.service(), seen, {"metadata": {"labels": {"a": "1"}}})
        assert await subject.cluster.get(subject.service()) == new

    async def test_a_patch_on_any_version_needs_only_the_uid(self, subject: Subject) -> None:
        made = await subject.make_service()
        await subject.cluster.patch(subject.service(), as_seen(made), {"metadata": {"labels": {"a": "1"}}})
        any_version = Precondition(made["metadata"]["uid"], None)
        patched = await subject.cluster.patch(subject.service(), any_version, {"metadata": {"labels": {"b": "2"}}})
        assert patched["metadata"]["labels"] == {"a": "1", "b": "2"}

    async def test_a_patch_that_changes_nothing_keeps_the_version(self, subject: Subject) -> None:
        made = await subject.make_service(labels={"a": "1"})
        patched = await subject.cluster.patch(subject.service(), as_seen(made), {"metadata": {"labels": {"a": "1"}}})
        assert version(patched) == version(made)

    async def test_writes_to_what_is_gone_are_not_found(self, subject: Subject) -> None:
        made = await subject.make_accelerators()
        await subject.cluster.delete(subject.accelerators, as_seen(made))
        await subject.gone(subject.accelerators)
        with pytest.raises(NotFound):
            await subject.cluster.patch(subject.accelerators, as_seen(made), {"metadata": {"labels": {"a": "1"}}})
        with pytest.raises(NotFound):
            await subject.cluster.replace_status(subject.accelerators, as_seen(made), {**made, "status": status(1)})

    async def test_status_and_the_rest_are_written_apart(self, subject: Subject) -> None:
        made = await subject.make_accelerators()
        assert "status" not in made
        assert made["metadata"]["generation"] == 1
        ref = subject.accelerators
        body = {**made, "spec": {**made["spec"], "gpusPerNode": 4}, "status": status(3)}
        reported = await subject.cluster.replace_status(ref, as_seen(made), body)
        assert reported["status"]["nodes"]["total"] == 3
        assert reported["spec"] == made["spec"]
        assert reported["metadata"]["generation"] == 1
        merge = {"spec": {"nodeSelector": {"matchLabels": {"gpu": "x"}}}, "status": status(9)}
        changed = await subject.cluster.patch(ref, as_seen(reported), merge)
        assert changed["spec"]["nodeSelector"] == {"matchLabels": {"gpu": "x"}}
        assert changed["status"] == reported["status"]
        assert changed["metadata"]["generation"] == 2

    async def test_a_status_is_replaced_whole_and_the_same_one_keeps_the_version(self, subject: Subject) -> None:
        made = await subject.make_accelerators()
        ref, body = subject.accelerators, {**made, "status": status(3)}
        first = await subject.cluster.replace_status(ref, as_seen(made), body)
        again = await subject.cluster.replace_status(ref, as_seen(first), body)
        assert version(again) == version(first)
        units = {"computeUnits": {"total": 800, "claimed": 0, "free": 800, "unhealthy": 0}}
        second = await subject.cluster.replace_status(ref, as_seen(again), {**made, "status": units})
        assert "nodes" not in second["status"]

    async def test_a_status_on_an_old_version_or_of_another_incarnation_conflicts(self, subject: Subject) -> None:
        made = await subject.make_accelerators()
        ref = subject.accelerators
        newer = await subject.cluster.replace_status(ref, as_seen(made), {**made, "status": status(1)})
        another = Precondition("11111111-1111-4111-8111-111111111111", newer["metadata"]["resourceVersion"])
        for wrong in (as_seen(made), another):
            with pytest.raises(Conflict):
                await subject.cluster.replace_status(ref, wrong, {**made, "status": status(2)})
        assert await subject.cluster.get(ref) == newer

    async def test_a_delete_checks_uid_and_version_and_of_nothing_is_done(self, subject: Subject) -> None:
        made = await subject.make_service()
        newer = await subject.cluster.patch(subject.service(), as_seen(made), {"metadata": {"labels": {"a": "1"}}})
        uid = made["metadata"]["uid"]
        for wrong in (as_seen(made), Precondition("11111111-1111-4111-8111-111111111111", None)):
            with pytest.raises(Conflict):
                await subject.cluster.delete(subject.service(), wrong)
        assert await subject.cluster.get(subject.service()) == newer
        await subject.cluster.delete(subject.service(), Precondition(uid, None))
        await subject.gone(subject.service())
        await subject.cluster.delete(subject.service(), Precondition(uid, None))

    async def test_a_deleted_owner_stays_marked_until_all_that_it_owns_is_gone(self, subject: Subject) -> None:
        owner = await subject.make_stateful_set()
        held = await subject.make_revision(owner, finalizers=["example.com/hold"])
        await subject.cluster.delete(subject.stateful_set, as_seen(owner))
        while not held["metadata"].get("deletionTimestamp"):
            await subject.settle()
            await asyncio.sleep(0.05)
            held = await subject.cluster.get(subject.revision) or {}
        marked = await subject.cluster.get(subject.stateful_set)
        assert marked is not None
        assert marked["metadata"]["deletionTimestamp"]
        kept = [one for one in held["metadata"]["finalizers"] if one != "example.com/hold"]
        await subject.cluster.patch(subject.revision, as_seen(held), {"metadata": {"finalizers": kept or None}})
        await subject.gone(subject.revision)
        await subject.gone(subject.stateful_set)

    async def test_what_owns_nothing_is_gone_when_the_delete_is_answered(self, subject: Subject) -> None:
        made = await subject.make_accelerators()
        await subject.cluster.delete(subject.accelerators, as_seen(made))
        assert await subject.cluster.get(subject.accelerators) is None

    async def test_a_list_is_complete_typed_and_as_new_as_its_version_says(self, subject: Subject) -> None:
        first = await subject.make_service("-1", labels={"contract": subject.name, "tier": "a"})
        second = await subject.make_service("-2", labels={"contract": subject.name})
        cluster, ours = subject.cluster, f"contract={subject.name}"
        listing = await cluster.list(SERVICES, label_selector=ours)
        assert sorted(listing.items, key=lambda obj: str(obj["metadata"]["name"])) == [first, second]
        assert int(listing.resource_version) >= version(second)
        for selector, wanted in (("tier=a", [first]), ("tier!=a", [second]), ("!tier", [second]), ("tier", [first])):
            assert (await cluster.list(SERVICES, label_selector=f"{ours},{selector}")).items == wanted
        named = f"metadata.name={subject.name}-2"
        assert (await cluster.list(SERVICES, namespace=subject.namespace, field_selector=named)).items == [second]
        assert (await cluster.list(SERVICES, namespace="kube-public", label_selector=ours)).items == []
