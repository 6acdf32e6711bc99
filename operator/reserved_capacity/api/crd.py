"""CustomResourceDefinition documents of the six kinds."""

from typing import Any, Final

from reserved_capacity.api import meta
from reserved_capacity.api.acceleratorclass import AcceleratorClass
from reserved_capacity.api.base import ApiObject, Column
from reserved_capacity.api.computeunitpool import ComputeUnitPool
from reserved_capacity.api.modelinstance import ModelInstance
from reserved_capacity.api.modeloffering import ModelOffering
from reserved_capacity.api.pricebook import PriceBook
from reserved_capacity.api.schema import object_schema
from reserved_capacity.api.tokenunitreservation import TokenUnitReservation

Document = dict[str, Any]

KIND_MODELS: Final[tuple[type[ApiObject], ...]] = (
    AcceleratorClass,
    ModelOffering,
    PriceBook,
    ComputeUnitPool,
    ModelInstance,
    TokenUnitReservation,
)


def crd_document(model: type[ApiObject]) -> Document:
    """The CRD of one kind: one version, served and stored."""
    return {
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": {"name": model.info.crd_name},
        "spec": {
            "group": meta.GROUP,
            "names": _names(model.info),
            "scope": "Namespaced" if model.info.namespaced else "Cluster",
            "versions": [_version(model)],
        },
    }


def crd_documents() -> dict[str, Document]:
    """File name and document of each CRD."""
    return {f"{meta.GROUP}_{model.info.plural}.yaml": crd_document(model) for model in KIND_MODELS}


def kustomization() -> Document:
    """The kustomization beside the CRDs: `kubectl apply -k` takes a directory from outside its root, but no file."""
    return {
        "apiVersion": "kustomize.config.k8s.io/v1beta1",
        "kind": "Kustomization",
        "resources": sorted(crd_documents()),
    }


def _names(info: meta.KindInfo) -> Document:
    names: Document = {
        "kind": str(info.kind),
        "listKind": f"{info.kind}List",
        "plural": info.plural,
        "singular": info.singular,
        "categories": [meta.CATEGORY],
    }
    if info.short_names:
        names["shortNames"] = list(info.short_names)
    return names


def _version(model: type[ApiObject]) -> Document:
    version: Document = {
        "name": meta.VERSION,
        "served": True,
        "storage": True,
        "additionalPrinterColumns": [_column(column) for column in model.columns],
        "schema": {"openAPIV3Schema": object_schema(model)},
        "subresources": _subresources(model),
    }
    if model.selectable:
        version["selectableFields"] = [{"jsonPath": path} for path in model.selectable]
    return version


def _column(column: Column) -> Document:
    document: Document = {"name": column.name, "type": column.type, "jsonPath": column.json_path}
    if column.description:
        document["description"] = column.description
    if column.wide:
        document["priority"] = 1
    return document


def _subresources(model: type[ApiObject]) -> Document:
    subresources: Document = {"status": {}}
    if model.scale:
        subresources["scale"] = {
            "specReplicasPath": model.scale.spec_replicas,
            "statusReplicasPath": model.scale.status_replicas,
            "labelSelectorPath": model.scale.selector,
        }
    return subresources
