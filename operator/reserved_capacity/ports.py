"""What the reconcilers need from the outside world, as values and Protocols.

Owns the vocabulary of the Kubernetes API as we use it (resources, references, preconditions, failures) and the
clock. Adapters implement the Protocols; tests implement them with fakes that pass the same contract tests.

The write side has no method without a precondition: a create names its object, everything else names the uid and
(but for a delete of an immutable child) the resourceVersion it was decided on. So two operators, or one with a stale
cache, lose a write instead of overwriting one (architecture.md, the flow, 4).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Protocol

from reserved_capacity.gateway.usage import Readings, Window

JsonObject = dict[str, Any]


@dataclass(frozen=True, slots=True, order=True)
class Resource:
    """One REST resource of the API server."""

    group: str
    version: str
    plural: str
    kind: str
    namespaced: bool

    def __hash__(self) -> int:
        # Every look into the store hashes one; of one group's plurals there are no two.
        return hash(self.plural)

    @property
    def api_version(self) -> str:
        return f"{self.group}/{self.version}" if self.group else self.version

    def __str__(self) -> str:
        return f"{self.plural}.{self.group}" if self.group else self.plural


_OURS = ("reservedcapacity.io", "v1alpha1")
ACCELERATOR_CLASSES = Resource(*_OURS, "acceleratorclasses", "AcceleratorClass", namespaced=False)
MODEL_OFFERINGS = Resource(*_OURS, "modelofferings", "ModelOffering", namespaced=False)
PRICE_BOOKS = Resource(*_OURS, "pricebooks", "PriceBook", namespaced=False)
COMPUTE_UNIT_POOLS = Resource(*_OURS, "computeunitpools", "ComputeUnitPool", namespaced=True)
MODEL_INSTANCES = Resource(*_OURS, "modelinstances", "ModelInstance", namespaced=True)
TOKEN_UNIT_RESERVATIONS = Resource(*_OURS, "tokenunitreservations", "TokenUnitReservation", namespaced=True)
NODES = Resource("", "v1", "nodes", "Node", namespaced=False)
NAMESPACES = Resource("", "v1", "namespaces", "Namespace", namespaced=False)
PODS = Resource("", "v1", "pods", "Pod", namespaced=True)
SERVICES = Resource("", "v1", "services", "Service", namespaced=True)
CONFIG_MAPS = Resource("", "v1", "configmaps", "ConfigMap", namespaced=True)
EVENTS = Resource("events.k8s.io", "v1", "events", "Event", namespaced=True)
STATEFUL_SETS = Resource("apps", "v1", "statefulsets", "StatefulSet", namespaced=True)
CONTROLLER_REVISIONS = Resource("apps", "v1", "controllerrevisions", "ControllerRevision", namespaced=True)
POD_DISRUPTION_BUDGETS = Resource("policy", "v1", "poddisruptionbudgets", "PodDisruptionBudget", namespaced=True)
JOBS = Resource("batch", "v1", "jobs", "Job", namespaced=True)
ENDPOINT_SLICES = Resource("discovery.k8s.io", "v1", "endpointslices", "EndpointSlice", namespaced=True)
# Of Envoy Gateway, where it is installed; not watched.
BACKEND_TRAFFIC_POLICIES = Resource(
    "gateway.envoyproxy.io", "v1alpha1", "backendtrafficpolicies", "BackendTrafficPolicy", namespaced=True
)

OUR_KINDS = (
    ACCELERATOR_CLASSES,
    MODEL_OFFERINGS,
    PRICE_BOOKS,
    COMPUTE_UNIT_POOLS,
    MODEL_INSTANCES,
    TOKEN_UNIT_RESERVATIONS,
)
CHILD_KINDS = (STATEFUL_SETS, SERVICES, POD_DISRUPTION_BUDGETS, CONTROLLER_REVISIONS, JOBS)
# Deleted in the foreground, so that "the StatefulSet is gone" means that its pods are. For what owns nothing this would
# only add a finalizer; and of a ControllerRevision the garbage collector could not take it off again: the API server
# compares its `data` byte by byte, in an encoding that a patch does not keep (tried on 1.36.3).
OWNING = frozenset({STATEFUL_SETS})
WATCHED = (*OUR_KINDS, NODES, PODS, *CHILD_KINDS, ENDPOINT_SLICES)


@dataclass(frozen=True, slots=True, order=True)
class Ref:
    """Names one object; says nothing of which incarnation. `namespace` is empty for cluster-scoped resources."""

    resource: Resource
    namespace: str
    name: str

    def __str__(self) -> str:
        place = f"{self.namespace}/" if self.namespace else ""
        return f"{self.resource.kind} {place}{self.name}"


@dataclass(frozen=True, slots=True)
class Precondition:
    """The incarnation, and the version of it, that a write was decided on. `resource_version` None: any version."""

    uid: str
    resource_version: str | None


@dataclass(frozen=True, slots=True)
class Listing:
    """A consistent LIST: items (each with apiVersion and kind filled in) and the version that they are all as of.

    `trimmed`: the items are as the store keeps them already.
    """

    items: Sequence[JsonObject]
    resource_version: str
    trimmed: bool = False


class ApiError(Exception):
    """A call that did not do what it was asked to. `code` is the HTTP status, 0 where there was none; `ref` the object,
    where there was one: whoever tries again looks at it first."""

    code = 0
    ref: Ref | None = None

    def __init__(self, message: str, *, code: int | None = None) -> None:
        super().__init__(message)
        if code is not None:
            self.code = code


class Conflict(ApiError):
    """The precondition did not hold (409): look again, decide again; never re-send the same bytes."""

    code = 409


class AlreadyExists(ApiError):
    """A create met an object of that name (409/AlreadyExists): read it, and adopt it or report NameTaken."""

    code = 409


class NotFound(ApiError):
    """The object (or its incarnation) is gone (404)."""

    code = 404


class Invalid(ApiError):
    """The API server refuses the content (400, 422): a defect of ours, or a schema newer than this operator."""

    code = 422


class Forbidden(ApiError):
    """RBAC or a policy refuses us (403), nobody knows us although the token is fresh (401), or whoever
    answers is not whom we trust (0)."""

    code = 403


class Throttled(ApiError):
    """429: wait `retry_after` seconds."""

    code = 429

    def __init__(self, message: str, *, retry_after: float) -> None:
        super().__init__(message)
        self.retry_after = retry_after


class Unavailable(ApiError):
    """The request was certainly not carried out: connection refused, or 503."""

    code = 503


class OutcomeUnknown(ApiError):
    """Time-out, reset, 500 or 504 in mid-write: it may have been carried out. Re-read, never re-send."""

    code = 504


class ClusterReader(Protocol):
    async def get(self, ref: Ref) -> JsonObject | None:
        """The object as it is now (a quorum read), or None."""

    async def list(
        self, resource: Resource, *, namespace: str = "", label_selector: str = "", field_selector: str = ""
    ) -> Listing:
        """All objects that match, in every namespace when `namespace` is empty."""


class ClusterWriter(Protocol):
    async def create(self, resource: Resource, body: Mapping[str, Any]) -> JsonObject:
        """POST of an object with a name of its own choosing. Raises AlreadyExists."""

    async def patch(self, ref: Ref, precondition: Precondition, merge: Mapping[str, Any]) -> JsonObject:
        """JSON merge patch, refused (Conflict) unless uid and resourceVersion still match; lists are replaced whole."""

    async def replace_status(self, ref: Ref, precondition: Precondition, body: Mapping[str, Any]) -> JsonObject:
        """PUT of `body` (the whole object; only its status counts) to the status subresource."""

    async def delete(self, ref: Ref, precondition: Precondition) -> None:
        """DELETE; NotFound counts as done. What owns others (OWNING) stays, marked, until all that it owns is gone."""


class Cluster(ClusterReader, ClusterWriter, Protocol):
    """Both sides; what the composition root hands to the reconcilers."""


class Clock(Protocol):
    def now(self) -> datetime:
        """This moment, aware, UTC."""

    def recorded(self, api_timestamp: datetime) -> datetime:
        """An API server's timestamp as it goes on record: itself, but for the development clock's offset."""


class TokenCounters(Protocol):
    """What inference servers count of themselves."""

    async def read(self, url: str) -> tuple[int, int | None] | None:
        """Output tokens since the server started, and the milliseconds that it took to make them (None: it does not say).

        None where nobody answers, or nothing is said of tokens. Never raises.
        """


class GatewayCounters(Protocol):
    """What the gateways have counted, as whoever scrapes them keeps it."""

    async def read(self, offering: str, window: Window) -> Readings | None:
        """Of every account, what was scraped in the window and BEFORE it. `window` is in real time, whatever our clock says.

        None where nobody answers. Never raises.
        """


@dataclass(frozen=True, slots=True, kw_only=True)
class Counters:
    """Who can be asked what was counted; None: nobody."""

    servers: TokenCounters | None = None
    gateways: GatewayCounters | None = None


NO_COUNTERS = Counters()
