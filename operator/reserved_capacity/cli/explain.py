"""Builds the explanation of one object from what was read: a sentence, the chain of conditions, and what is around it.

Pure but for `why_wants`, which only names what to read.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Final

from pydantic import ValidationError

from reserved_capacity.api.acceleratorclass import AcceleratorClass
from reserved_capacity.api.computeunitpool import ComputeUnitPool
from reserved_capacity.api.conditions import ConditionType, StatusModel
from reserved_capacity.api.meta import Kind, KindInfo
from reserved_capacity.api.modelinstance import ModelInstance
from reserved_capacity.api.modeloffering import ModelOffering
from reserved_capacity.api.pricebook import PriceBook
from reserved_capacity.api.tokenunitreservation import TokenUnitReservation
from reserved_capacity.cli import related
from reserved_capacity.cli.errors import CliError
from reserved_capacity.cli.events import events_section
from reserved_capacity.cli.findings import Level, Verdict, chain_of, verdict_of
from reserved_capacity.cli.sections import Section
from reserved_capacity.cli.targets import resource_of
from reserved_capacity.cli.world import Want, World, lease_want, operator_note, unread_notes
from reserved_capacity.domain.reasons.base import ConditionStatus
from reserved_capacity.ports import (
    ACCELERATOR_CLASSES,
    COMPUTE_UNIT_POOLS,
    EVENTS,
    MODEL_INSTANCES,
    MODEL_OFFERINGS,
    NODES,
    PODS,
    TOKEN_UNIT_RESERVATIONS,
    Ref,
    Resource,
)
from reserved_capacity.store import FOREIGN_PODS

Object = AcceleratorClass | ModelOffering | PriceBook | ComputeUnitPool | ModelInstance | TokenUnitReservation

_MODELS: Final[Mapping[Kind, type[Object]]] = {
    Kind.ACCELERATOR_CLASS: AcceleratorClass,
    Kind.MODEL_OFFERING: ModelOffering,
    Kind.PRICE_BOOK: PriceBook,
    Kind.COMPUTE_UNIT_POOL: ComputeUnitPool,
    Kind.MODEL_INSTANCE: ModelInstance,
    Kind.TOKEN_UNIT_RESERVATION: TokenUnitReservation,
}
# What is read besides the kind itself: the same namespace for a namespaced object, everything for the others.
_AROUND: Final[Mapping[Kind, tuple[Resource, ...]]] = {
    Kind.ACCELERATOR_CLASS: (NODES, PODS, FOREIGN_PODS, COMPUTE_UNIT_POOLS),
    Kind.MODEL_OFFERING: (ACCELERATOR_CLASSES, MODEL_INSTANCES, TOKEN_UNIT_RESERVATIONS),
    Kind.PRICE_BOOK: (COMPUTE_UNIT_POOLS, TOKEN_UNIT_RESERVATIONS),
    Kind.COMPUTE_UNIT_POOL: (MODEL_INSTANCES, ACCELERATOR_CLASSES, NODES, PODS),
    Kind.MODEL_INSTANCE: (COMPUTE_UNIT_POOLS, MODEL_OFFERINGS, ACCELERATOR_CLASSES, NODES, PODS),
    Kind.TOKEN_UNIT_RESERVATION: (MODEL_OFFERINGS,),
}


@dataclass(frozen=True, slots=True)
class Link:
    """One condition in the chain. `decides`: it is what keeps the object from being Ready."""

    type: str
    status: str
    reason: str
    message: str
    since: datetime
    decides: bool


@dataclass(frozen=True, slots=True)
class Explanation:
    kind: str
    namespace: str
    name: str
    now: datetime
    sentence: str
    verdict: Verdict
    chain: tuple[Link, ...]
    sections: tuple[Section, ...]
    warnings: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()


def why_wants(info: KindInfo, namespace: str) -> list[Want]:
    around = [
        Want(resource, namespace if resource.namespaced else "", optional=True) for resource in _AROUND[info.kind]
    ]
    # Events of a cluster-scoped object are in `default`.
    events = Want(EVENTS, namespace or "default", optional=True)
    return [Want(resource_of(info), namespace), *around, events, lease_want()]


def explanation(world: World, info: KindInfo, namespace: str, name: str) -> Explanation | None:
    """None if there is no such object. Raises CliError for one that cannot be read."""
    try:
        obj = world.store.parsed(Ref(resource_of(info), namespace, name), _MODELS[info.kind])
        return _explanation(world, obj) if obj is not None else None
    except ValidationError as error:
        raise CliError(f"an object is not as this version of the plugin knows it: {error}") from error


def _explanation(world: World, obj: Object) -> Explanation:
    status: StatusModel = obj.status
    verdict = verdict_of(obj, status)
    warning = operator_note(world)
    return Explanation(
        kind=obj.kind,
        namespace=obj.namespace,
        name=obj.name,
        now=world.now,
        sentence=sentence(obj, verdict),
        verdict=verdict,
        chain=_chain(obj, status, verdict),
        sections=(*_sections(world, obj), *events_section(world, obj)),
        warnings=(warning,) if warning else (),
        notes=unread_notes(world),
    )


def _chain(obj: Object, status: StatusModel, verdict: Verdict) -> tuple[Link, ...]:
    decider = verdict.decider
    first = decider.types[0] if decider else ""
    return tuple(
        Link(each.type, each.status.value, each.reason, each.message, each.last_transition_time, each.type == first)
        for each in chain_of(Kind(obj.kind), status)
    )


def sentence(obj: Object, verdict: Verdict) -> str:
    """The answer in one sentence."""
    name = f"{obj.namespace}/{obj.name}" if obj.namespace else obj.name
    subject = f"{obj.kind} {name}"
    if not verdict.ready:
        return f"{subject} has no status yet: the operator has not looked at it."
    if verdict.ready == "True":
        return f"{subject} is Ready: {verdict.message or 'all is as the spec asks'}."
    decider = verdict.decider
    why = _lowered(decider.meaning).rstrip(".") if decider and decider.meaning else verdict.message
    available = obj.status.condition(ConditionType.AVAILABLE)
    if available is not None and available.status is ConditionStatus.TRUE:
        subject += " is serving, but"
    if verdict.level is Level.WARNING:
        return f"{subject} is not Ready yet and goes on when a person says so ({verdict.reason}): {why}."
    if verdict.ready == "Unknown":
        return f"{subject} is not Ready yet and on its way by itself ({verdict.reason}): {why}."
    return f"{subject} is not Ready, and somebody has to act ({verdict.reason}): {why}."


def _lowered(text: str) -> str:
    return text[:1].lower() + text[1:] if text[1:2].islower() or text[1:2] == " " else text


def _sections(world: World, obj: Object) -> list[Section]:
    match obj:
        case ModelInstance():
            return related.of_instance(world, obj)
        case ComputeUnitPool():
            return related.of_pool(world, obj)
        case AcceleratorClass():
            return related.of_class(world, obj)
        case ModelOffering():
            return related.of_offering(world, obj)
        case PriceBook():
            return related.of_price_book(world, obj)
        case TokenUnitReservation():
            return related.of_reservation(world, obj)
