"""Builds the prediction of `kubectl reserved plan`: the files that were given, over what the cluster has now.

Only `load` reads files, and `plan_wants` names what to read of the cluster; the rest is pure.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any, Final

import yaml
from pydantic import ValidationError

from reserved_capacity.api.acceleratorclass import AcceleratorClass
from reserved_capacity.api.base import ApiObject, Rule
from reserved_capacity.api.computeunitpool import ComputeUnitPool
from reserved_capacity.api.meta import API_VERSION, Kind
from reserved_capacity.api.modelinstance import ModelInstance
from reserved_capacity.api.modeloffering import ModelOffering
from reserved_capacity.api.pricebook import PriceBook
from reserved_capacity.api.tokenunitreservation import TokenUnitReservation
from reserved_capacity.cli.errors import CliError
from reserved_capacity.cli.targets import RESOURCES
from reserved_capacity.cli.world import Want, World, lease_want, operator_note, unread_notes
from reserved_capacity.domain.notices import some_of
from reserved_capacity.ports import (
    ACCELERATOR_CLASSES,
    COMPUTE_UNIT_POOLS,
    MODEL_INSTANCES,
    MODEL_OFFERINGS,
    NODES,
    PODS,
    PRICE_BOOKS,
    STATEFUL_SETS,
    TOKEN_UNIT_RESERVATIONS,
    JsonObject,
    Ref,
    Resource,
)
from reserved_capacity.snapshot.forecast import forecast
from reserved_capacity.snapshot.forecast_values import InstanceForecast, Move, PoolForecast, ReservationForecast
from reserved_capacity.store import FOREIGN_PODS

_MODELS: Final[Mapping[Kind, type[ApiObject]]] = {
    Kind.ACCELERATOR_CLASS: AcceleratorClass,
    Kind.MODEL_OFFERING: ModelOffering,
    Kind.PRICE_BOOK: PriceBook,
    Kind.COMPUTE_UNIT_POOL: ComputeUnitPool,
    Kind.MODEL_INSTANCE: ModelInstance,
    Kind.TOKEN_UNIT_RESERVATION: TokenUnitReservation,
}
_SUFFIXES = (".yaml", ".yml", ".json")
_KUSTOMIZATIONS = ("kustomization.yaml", "kustomization.yml")
_NAMED = 5  # objects that the last line names; the others are counted


class _Loader(yaml.SafeLoader):
    """As kubectl reads YAML: what looks like a date is a string."""


_Loader.yaml_implicit_resolvers = {
    first: [each for each in resolvers if each[0] != "tag:yaml.org,2002:timestamp"]
    for first, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
}


@dataclass(frozen=True, slots=True)
class Document:
    """One object of ours, with where it was found; its namespace is filled in."""

    where: str
    ref: Ref
    body: JsonObject


@dataclass(frozen=True, slots=True)
class Given:
    """What the files hold. `ignored` counts documents of other kinds."""

    documents: tuple[Document, ...]
    ignored: int
    namespace: str


@dataclass(frozen=True, slots=True)
class PlanView:
    """`given` names the objects of the files, as KIND/NAMESPACE/NAME. `settled` False: no end was found."""

    pools: tuple[PoolForecast, ...]
    instances: tuple[InstanceForecast, ...]
    reservations: tuple[ReservationForecast, ...]
    moves: tuple[Move, ...]
    settled: bool
    documents: int
    ignored_documents: int
    given: tuple[str, ...]
    notes: tuple[str, ...]
    now: datetime


# ------------------------------------------------------------------------------------------------------------- the files


def load(path: Path, namespace: str) -> Given:
    """The documents of a file, or of a directory's files as `kubectl apply -f` reads them. Raises CliError.

    `namespace` is for documents that name none.
    """
    documents, ignored = [], 0
    for file in _files(path):
        for where, body in _bodies(file):
            if body.get("apiVersion") != API_VERSION or body.get("kind") not in list(Kind):
                ignored += 1
                continue
            documents.append(_document(where, body, namespace))
    if not documents:
        raise CliError(f"{path}: there is no object of {API_VERSION} to plan with ({ignored} documents of other kinds)")
    return Given(tuple(documents), ignored, namespace)


def _files(path: Path) -> list[Path]:
    if not path.exists():
        raise CliError(f"{path}: there is no such file or directory")
    if not path.is_dir():
        return [path]
    try:
        found = [each for each in path.iterdir() if each.suffix in _SUFFIXES and each.is_file()]
    except OSError as error:
        raise CliError(f"{path}: cannot be read: {error.strerror}") from error
    return sorted(each for each in found if each.name not in _KUSTOMIZATIONS)


def _bodies(file: Path) -> Iterator[tuple[str, JsonObject]]:
    """Each document with its place; empty ones are left out, and a List is its items."""
    read = 0
    try:
        text = file.read_text(encoding="utf-8-sig")
        for body in yaml.load_all(text, _Loader):
            read += 1
            where = f"{file}, document {read}"
            if body is None:
                continue
            listed = isinstance(body, dict) and body.get("kind") == "List"
            for each in (body.get("items") or ()) if listed else (body,):
                if not isinstance(each, dict):
                    raise CliError(f"{where}: this is no Kubernetes object")
                yield where, each
    except OSError as error:
        raise CliError(f"{file}: cannot be read: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise CliError(f"{file}: this is not UTF-8") from error
    except yaml.YAMLError as error:
        raise CliError(f"{file}, document {read + 1}: this is not YAML: {' '.join(str(error).split())}") from error


def _document(where: str, body: JsonObject, namespace: str) -> Document:
    kind = Kind(body["kind"])
    resource = RESOURCES[kind]
    metadata = body.get("metadata")
    if not isinstance(metadata, dict) or not isinstance(metadata.get("name"), str) or not metadata["name"]:
        raise CliError(f"{where}: the {kind} has no metadata.name")
    place = (metadata.get("namespace") or namespace) if resource.namespaced else ""
    try:
        _MODELS[kind].parse(body)
    except ValidationError as error:
        first = error.errors()[0]
        field = ".".join(map(str, first["loc"]))
        raise CliError(f"{where}: {kind} {metadata['name']}: {field}: {first['msg']}") from error
    ref = Ref(resource, place, metadata["name"])
    return Document(where, ref, {**body, "metadata": {**metadata, "namespace": place}})


# ------------------------------------------------------------------------------------------------------------ the answer


def plan_wants() -> list[Want]:
    """Everything that the planners look at, in all namespaces: pools compete for the same nodes."""
    needed = (ACCELERATOR_CLASSES, MODEL_OFFERINGS, PRICE_BOOKS, COMPUTE_UNIT_POOLS, MODEL_INSTANCES, NODES)
    useful = (TOKEN_UNIT_RESERVATIONS, STATEFUL_SETS, PODS, FOREIGN_PODS)
    return [*map(Want, needed), *(Want(resource, optional=True) for resource in useful), lease_want()]


def plan_view(world: World, given: Given) -> PlanView:
    """What would be there when all has been carried out. Raises CliError."""
    for document in given.documents:
        _check_immutable(world, document)
    changes = [(each.ref.resource, each.body) for each in given.documents]
    try:
        known = TOKEN_UNIT_RESERVATIONS not in world.unread
        found = forecast(world.store, changes, now=world.now, with_units=known)
    except ValueError as error:
        hint = "`kubectl apply --dry-run=server` tells what the API server refuses"
        raise CliError(f"the outcome cannot be predicted: {error}; {hint}") from error
    refs = {each.ref for each in given.documents}
    spaces = {ref.namespace for ref in refs if ref.namespace} or {given.namespace}
    moved = {(move.namespace, move.pool) for move in found.moves}
    warning = operator_note(world)
    unsettled = "" if found.settled else "The plans still moved when the forecast gave up: this is how far it got."
    return PlanView(
        pools=tuple(
            each
            for each in found.pools
            if each.namespace in spaces or each.before != each.after or (each.namespace, each.name) in moved
        ),
        instances=tuple(
            each for each in found.instances if each.namespace in spaces or (each.namespace, each.pool) in moved
        ),
        reservations=tuple(each for each in found.reservations if each.namespace in spaces or _changes(each)),
        moves=found.moves,
        settled=found.settled,
        documents=len(refs),
        ignored_documents=given.ignored,
        given=tuple(_path(ref.resource, ref.namespace, ref.name) for ref in sorted(refs)),
        notes=tuple(note for note in (unsettled, warning, *unread_notes(world)) if note),
        now=world.now,
    )


def _changes(reservation: ReservationForecast) -> bool:
    rates = (reservation.input_tokens_per_minute, reservation.output_tokens_per_minute)
    return any(each.before != each.after for each in rates)


def objection(view: PlanView) -> str:
    """Why the exit code is 1: what was given and would be refused, or wait for somebody. Empty where all is well."""
    names = [
        f"{resource.kind} {each.namespace}/{each.name} ({reason})"
        for resource, group in (
            (COMPUTE_UNIT_POOLS, view.pools),
            (MODEL_INSTANCES, view.instances),
            (TOKEN_UNIT_RESERVATIONS, view.reservations),
        )
        for each in group
        if not each.ok and _path(resource, each.namespace, each.name) in view.given
        for reason in (getattr(each, "refused", None) or each.reason,)
    ]
    if not names:
        return "" if view.settled else "the outcome is not known: the plans do not stand still"
    return f"would be refused, or wait for somebody: {some_of(names, _NAMED)}"


def _path(resource: Resource, namespace: str, name: str) -> str:
    return "/".join(part for part in (resource.kind, namespace, name) if part)


def _check_immutable(world: World, document: Document) -> None:
    """The API server refuses to change such a field, whatever the planners would make of it."""
    known = world.store.get(document.ref)
    if known is None:
        return
    model = _MODELS[Kind(document.ref.resource.kind)].model_fields["spec"].annotation
    fields: Mapping[str, Any] = getattr(model, "model_fields", {})
    for name, field in fields.items():
        fixed = next(
            (each for each in field.metadata if isinstance(each, Rule) and each.rule == "self == oldSelf"), None
        )
        wire = field.alias or name
        if fixed is not None and known["spec"].get(wire) != document.body["spec"].get(wire):
            raise CliError(f"{document.where}: the API server would refuse {document.ref}: {fixed.message}")
