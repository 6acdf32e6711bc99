"""The ConfigMap of an offering: its limits for gateways, and the record of what counts (ADR 0042).

The record is the only place where throughput is given away, so it is read from the API server itself before it is decided
on, and written under the version that was read: an operator with a stale view loses the write.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

from reserved_capacity.api import meta
from reserved_capacity.domain.tokens.backing import Grant
from reserved_capacity.domain.tokens.limits import AccountLimit, ActiveUnits
from reserved_capacity.gateway.limits import (
    CONFIG_MAP_KEY,
    LimitsInvalid,
    config_map_name,
    limits_document,
    parse_limits,
)
from reserved_capacity.ports import CONFIG_MAPS, Conflict, JsonObject, Ref
from reserved_capacity.reconcilers.context import Context

GRANTS_KEY: Final = "grants.json"
REVISION_ANNOTATION: Final = f"{meta.GROUP}/revision"


@dataclass(frozen=True, slots=True)
class Record:
    """What stands in the ConfigMap; `live` None: it is not there. `grants` None: none can be read of it."""

    ref: Ref
    live: JsonObject | None = None
    grants: tuple[Grant, ...] | None = None
    units: tuple[ActiveUnits, ...] = ()
    revision: int = 0


def limits_ref(context: Context, offering: str) -> Ref:
    return Ref(CONFIG_MAPS, context.namespace, config_map_name(offering))


async def read(context: Context, offering: str) -> Record:
    """Raises ApiError; Conflict where somebody else's ConfigMap has the name."""
    ref = limits_ref(context, offering)
    live = await context.cluster.get(ref)
    if live is None:
        return Record(ref)
    metadata = live["metadata"]
    if not is_ours(live):
        raise Conflict(f"{ref} is not ours: rename or remove it, the operator publishes limits there")
    data = live.get("data") or {}
    revision = str((metadata.get("annotations") or {}).get(REVISION_ANNOTATION, ""))
    return Record(
        ref,
        live,
        grants=_grants(data.get(GRANTS_KEY)),
        units=_units(data.get(CONFIG_MAP_KEY, "")),
        revision=int(revision) if revision.isdecimal() else 0,
    )


def is_ours(live: JsonObject) -> bool:
    return bool((live["metadata"].get("labels") or {}).get(meta.MANAGED_BY_LABEL) == meta.MANAGED_BY)


def _grants(text: Any) -> tuple[Grant, ...] | None:
    """A record that somebody has spoilt is none: what is charged is granted anew."""
    try:
        return tuple(Grant(str(each["claim"]), str(each["snapshot"])) for each in json.loads(text))
    except (TypeError, ValueError, KeyError):
        return None


def _units(text: str) -> tuple[ActiveUnits, ...]:
    try:
        return tuple(unit for account in parse_limits(text) for unit in account.units)
    except LimitsInvalid:
        return ()


async def write(context: Context, record: Record, limits: Sequence[AccountLimit], grants: Sequence[Grant]) -> int:
    """Have them published; the revision under which they are. Nothing is written that is there already."""
    data = {
        CONFIG_MAP_KEY: _text(limits_document(limits)),
        GRANTS_KEY: _text([{"claim": each.claim, "snapshot": each.snapshot} for each in grants]),
    }
    if record.live is not None and (record.live.get("data") or {}) == data and record.revision:
        return record.revision
    revision = record.revision + 1
    annotations = {REVISION_ANNOTATION: str(revision)}
    if record.live is None:
        await context.cluster.create(CONFIG_MAPS, _new(record.ref, data, annotations))
    else:
        stale = dict.fromkeys((record.live.get("data") or {}).keys() - data.keys())
        await context.patch(record.ref, record.live, {"metadata": {"annotations": annotations}, "data": stale | data})
    return revision


def _new(ref: Ref, data: JsonObject, annotations: JsonObject) -> JsonObject:
    offering = ref.name.removeprefix(config_map_name(""))
    labels = {meta.MANAGED_BY_LABEL: meta.MANAGED_BY, meta.OFFERING_LABEL: offering}
    metadata = {"name": ref.name, "namespace": ref.namespace, "labels": labels, "annotations": annotations}
    return {"apiVersion": CONFIG_MAPS.api_version, "kind": CONFIG_MAPS.kind, "metadata": metadata, "data": data}


def _text(document: Any) -> str:
    """The same document is the same text."""
    return json.dumps(document, indent=1, sort_keys=True) + "\n"
