"""Owns read-your-writes: a Cluster that puts what the API server answers to a write into the store at once.

A reconciler thus never decides on less than its own last write, whatever the watches lag. A failure says which object it
was about, so that whoever tries again reads that one first.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping
from typing import Any

from reserved_capacity import turns
from reserved_capacity.ports import (
    WATCHED,
    ApiError,
    Cluster,
    JsonObject,
    Listing,
    OutcomeUnknown,
    Precondition,
    Ref,
    Resource,
)
from reserved_capacity.store import Store


class RememberingCluster:
    def __init__(self, cluster: Cluster, store: Store) -> None:
        self._cluster = cluster
        self._store = store

    async def get(self, ref: Ref) -> JsonObject | None:
        """A quorum read, and the store knows the answer, if it is of a kind that is watched: of another nobody would tell
        it that it has gone."""
        if ref.resource not in WATCHED:
            return await self._cluster.get(ref)
        before = self._store.get(ref)
        obj = await self._cluster.get(ref)
        self._store.doubts.clear(ref)
        if obj is not None:
            self._store.observe(ref.resource, obj)
        elif before is not None:
            # Only what was known when we asked: what has come since is newer than the answer.
            self._store.forget(ref.resource, before)
        return obj

    async def list(
        self, resource: Resource, *, namespace: str = "", label_selector: str = "", field_selector: str = ""
    ) -> Listing:
        return await self._cluster.list(
            resource, namespace=namespace, label_selector=label_selector, field_selector=field_selector
        )

    async def create(self, resource: Resource, body: Mapping[str, Any]) -> JsonObject:
        metadata = body["metadata"]
        ref = Ref(resource, metadata.get("namespace", "") if resource.namespaced else "", metadata["name"])
        with self._about(ref):
            return self._remembered(ref, await self._cluster.create(resource, body))

    async def patch(self, ref: Ref, precondition: Precondition, merge: Mapping[str, Any]) -> JsonObject:
        with self._about(ref):
            return self._remembered(ref, await self._cluster.patch(ref, precondition, merge))

    async def replace_status(self, ref: Ref, precondition: Precondition, body: Mapping[str, Any]) -> JsonObject:
        with self._about(ref):
            return self._remembered(ref, await self._cluster.replace_status(ref, precondition, body))

    async def delete(self, ref: Ref, precondition: Precondition) -> None:
        with self._about(ref):
            await self._cluster.delete(ref, precondition)
        # The deletion is done; to see its mark at once only saves a second one, so a failure to look is none.
        with contextlib.suppress(ApiError):
            await self.get(ref)

    def _remembered(self, ref: Ref, obj: JsonObject) -> JsonObject:
        if ref.resource in WATCHED:  # nobody would ever tell us that another one (an Event) is gone
            self._store.observe(ref.resource, obj)
        return obj

    @contextlib.contextmanager
    def _about(self, ref: Ref) -> Iterator[None]:
        try:
            yield
            turns.wrote()
        except ApiError as error:
            if error.ref is None:
                error.ref = ref
            if isinstance(error, OutcomeUnknown) and ref.resource in WATCHED:
                self._store.doubts.add(ref)
            raise
