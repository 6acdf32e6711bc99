"""Stored objects as API types, each version parsed once."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from reserved_capacity.api.acceleratorclass import AcceleratorClass
from reserved_capacity.api.computeunitpool import ComputeUnitPool
from reserved_capacity.api.modelinstance import ModelInstance
from reserved_capacity.api.modeloffering import ModelOffering
from reserved_capacity.ports import (
    ACCELERATOR_CLASSES,
    COMPUTE_UNIT_POOLS,
    MODEL_INSTANCES,
    MODEL_OFFERINGS,
    JsonObject,
    Ref,
)
from reserved_capacity.store import (
    Store,
)


def timestamp(text: str) -> datetime:
    return datetime.fromisoformat(text)


def parse_class(store: Store, name: str) -> AcceleratorClass | None:
    return store.parsed(Ref(ACCELERATOR_CLASSES, "", name), AcceleratorClass)


def parse_offering(store: Store, name: str) -> ModelOffering | None:
    return store.parsed(Ref(MODEL_OFFERINGS, "", name), ModelOffering)


def parse_pool(store: Store, obj: JsonObject) -> ComputeUnitPool:
    pool = store.parsed(_ref(COMPUTE_UNIT_POOLS, obj), ComputeUnitPool)
    assert pool is not None, "the object came from the store"  # noqa: S101
    return pool


def parse_instance(store: Store, obj: JsonObject) -> ModelInstance:
    instance = store.parsed(_ref(MODEL_INSTANCES, obj), ModelInstance)
    assert instance is not None, "the object came from the store"  # noqa: S101
    return instance


def _ref(resource: Any, obj: JsonObject) -> Ref:
    return Ref(resource, obj["metadata"].get("namespace", ""), obj["metadata"]["name"])
