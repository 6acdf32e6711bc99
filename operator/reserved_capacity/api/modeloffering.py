"""ModelOffering: one model that is sold, how it runs, and its snapshots."""

from decimal import Decimal
from enum import StrEnum
from typing import Annotated, ClassVar, Final, Literal

from pydantic import Field

from reserved_capacity.api import meta
from reserved_capacity.api.base import (
    AGE,
    ApiModel,
    ApiObject,
    Column,
    ListMap,
    ListType,
    Rule,
    condition_column,
    immutable,
)
from reserved_capacity.api.conditions import StatusModel
from reserved_capacity.api.fields import (
    OCI_DIGEST,
    Count,
    Day,
    Fraction,
    Label,
    Percent,
    QualifiedName,
    Subdomain,
    Timestamp,
    Token,
    TokensPerMinute,
)
from reserved_capacity.api.serving import ServingSpec
from reserved_capacity.domain.lifecycle import Lifecycle

MAX_SNAPSHOTS: Final = 64
TOPOLOGY_ZONE: Final = "topology.kubernetes.io/zone"


class ReservedSpec(ApiModel):
    """How an instance runs, and whether it is sold as one."""

    rules: ClassVar = (
        Rule(
            "self.computeUnitsPerInstance % (100 * self.nodesPerInstance) == 0",
            "spec.reserved.computeUnitsPerInstance must be a multiple of 100 * nodesPerInstance: every node of an "
            "instance gets the same whole number of blocks",
            message_expression=(
                "'spec.reserved.computeUnitsPerInstance must be a multiple of %d (100 * nodesPerInstance), so that every "
                "node of an instance gets whole blocks; %d is not'"
                ".format([100 * self.nodesPerInstance, self.computeUnitsPerInstance])"
            ),
            field_path=".computeUnitsPerInstance",
        ),
    )

    sold: bool = True
    """Whether customers may run it as reserved instances. False: only the provider's own fleet for token units runs it,
    and a customer's instance says NotSoldReserved. Default: true."""
    compute_units_per_instance: Annotated[int, Field(ge=100, le=1_000_000)]
    """Compute units that one instance needs; a multiple of 100 * nodesPerInstance."""
    min_instances: Annotated[int, Field(ge=1, le=1000)] = 1
    """Fewest instances of this offering on one pool, for reliability; above it one at a time. Default: 1."""
    nodes_per_instance: Annotated[int, Field(ge=1, le=64)] = 1
    """Nodes over which the blocks of one instance are split evenly, all in one topology domain. Default: 1."""
    accelerator_classes: Annotated[tuple[Subdomain, ...], ListType("set"), Field(min_length=1, max_length=16)]
    """Names of the AcceleratorClasses it may run on; the pool's class decides."""
    topology_key: QualifiedName = TOPOLOGY_ZONE
    """Node label whose value all nodes of one instance share. Default: topology.kubernetes.io/zone."""
    serving: ServingSpec
    """How an instance runs; any OpenAI-compatible server. No edit ever touches a running pod."""


class FleetPoolRef(ApiModel):
    """A ComputeUnitPool of the provider."""

    namespace: Label
    """Namespace of the pool."""
    name: Subdomain
    """Name of the pool."""


class Fleet(ApiModel):
    """The provider's own instances that back sold token units."""

    pool_ref: FleetPoolRef
    """The provider's pool on which the operator runs them."""


class BaseRateLimit(ApiModel):
    """Rate limit of one account before any purchase."""

    account: Annotated[str, Field(min_length=1, max_length=63)]
    """The account, or "*" for everybody who is not listed."""
    input_tokens_per_minute: TokensPerMinute
    """Input tokens per minute without any token unit."""
    output_tokens_per_minute: TokensPerMinute
    """Output tokens per minute without any token unit."""


class TokenUnitSize(ApiModel):
    """What one token unit entitles to."""

    tokens_per_minute: Annotated[int, Field(ge=1, le=1_000_000_000)]
    """Tokens per minute of one unit."""


class LatencyTarget(ApiModel):
    """Latency promise: `percent` of the requests are faster than `tokensPerSecond`."""

    tokens_per_second: Annotated[int, Field(ge=1, le=1_000_000)]
    """Output tokens per second that a request must exceed."""
    percent: Percent
    """Share of the requests in percent, a decimal string, for example "99"."""


class LongContext(StrEnum):
    """Whether long-context requests are part of what token units buy."""

    EXCLUDED = "Excluded"
    INCLUDED = "Included"


class TokenUnitsSpec(ApiModel):
    """How the offering is sold by the token unit."""

    fleet: Fleet | None = None
    """The provider's instances that back sold units. Absent: nothing backs them, and CapacityBacked says so."""
    base_rate_limits: Annotated[tuple[BaseRateLimit, ...], ListMap("account"), Field(max_length=500)] = ()
    """Rate limits by account before any purchase; bought units are added to them."""
    input: TokenUnitSize
    """What one input unit entitles to."""
    output: TokenUnitSize
    """What one output unit entitles to."""
    minimum_days: Annotated[int, Field(ge=1, le=3650)] = 30
    """Days for which a unit is bought at least. Default: 30."""
    latency: LatencyTarget | None = None
    """Latency promise. Absent: none."""
    uptime: Percent | None = None
    """Uptime promise per calendar month in percent, a decimal string, for example "99.9". Absent: none."""
    long_context: LongContext = LongContext.EXCLUDED
    """Whether long-context requests are included. Excluded or Included. Default: Excluded."""
    cached_input_weight: Fraction = Decimal("1")
    """How much a cached input token counts: "1" fully, "0" not at all. Default: "1"."""


class Emergency(ApiModel):
    """Leave to retire a snapshot earlier than was said. Flags every object that pins it."""

    reason: Annotated[str, Field(min_length=1, max_length=1024)]
    """Why it cannot wait; shown on every object that pins the snapshot."""


class Throughput(ApiModel):
    """Measured throughput of one instance."""

    input_tokens_per_minute: TokensPerMinute
    """Input tokens per minute that one instance serves."""
    output_tokens_per_minute: TokensPerMinute
    """Output tokens per minute that one instance serves."""
    measured_by: Annotated[str, Field(max_length=1024)] = ""
    """How and when it was measured, in words or as a link."""


class Snapshot(ApiModel):
    """One immutable version of the model."""

    rules: ClassVar = (
        Rule(
            "!has(oldSelf.retiresAt) || !has(self.retiresAt) || self.retiresAt >= oldSelf.retiresAt"
            " || has(self.emergency)",
            "spec.snapshots[].retiresAt moves only later: keep the date, or state emergency.reason",
            message_expression=(
                "'spec.snapshots: retiresAt of %s moves only later than %s: keep the date, or state emergency.reason'"
                ".format([self.name, oldSelf.retiresAt])"
            ),
            field_path=".retiresAt",
        ),
        Rule(
            "!has(self.replacement) || self.replacement != self.name",
            "spec.snapshots[].replacement must name another snapshot",
            field_path=".replacement",
        ),
        Rule(
            "!has(self.deprecatedFrom) || !has(self.retiresAt) || self.deprecatedFrom <= self.retiresAt",
            "spec.snapshots[].deprecatedFrom must not be later than retiresAt",
            field_path=".deprecatedFrom",
        ),
    )

    name: Token
    """Exact name of the snapshot, as customers pin it, for example gpt-4-turbo-2024-04-09."""
    artifact: Annotated[
        str,
        Field(min_length=1, max_length=512),
        Rule(
            f"self.matches(r'{OCI_DIGEST}')",
            "spec.snapshots[].artifact must be an OCI reference with a digest, oci://<registry>/<repository>@sha256:<64 "
            "hex digits>: tags can be moved and are refused",
        ),
        immutable("spec.snapshots[].artifact", "add a snapshot with a new name for the new artifact"),
    ]
    """Weights as an OCI artifact with a digest, oci://...@sha256:...; mounted read-only at /model. Immutable: other
    weights are another snapshot."""
    available_from: Day | None = None
    """UTC day from which the snapshot is Active; before it, it is a Preview. Absent: Active."""
    deprecated_from: Day | None = None
    """UTC day from which the snapshot is Deprecated. Absent: not deprecated."""
    retires_at: Timestamp | None = None
    """When the snapshot retires: nothing new is placed on it, nothing that runs is stopped. Moves only later, unless
    `emergency` is stated. Absent: not announced."""
    replacement: Token | None = None
    """Name of the snapshot to move to."""
    emergency: Emergency | None = None
    """The only way to move retiresAt earlier, or to set it inside a commitment that pins the snapshot. Absent in the
    normal case."""
    throughput: Throughput | None = None
    """Measured throughput of one instance. Needed where the snapshot is sold by the token unit."""


class ModelOfferingSpec(ApiModel):
    """One model that is sold."""

    display_name: Annotated[str, Field(min_length=1, max_length=128)]
    """Name for people."""
    reserved: ReservedSpec
    """How an instance runs, and whether it is sold as one."""
    token_units: TokenUnitsSpec | None = None
    """How it is sold by the token unit. Absent: it is not."""
    snapshots: Annotated[tuple[Snapshot, ...], ListMap("name"), Field(min_length=1, max_length=MAX_SNAPSHOTS)]
    """Versions of the model, by name. A pinned one cannot be removed."""

    def snapshot(self, name: str) -> Snapshot | None:
        """The snapshot of that name, or None."""
        return next((item for item in self.snapshots if item.name == name), None)


class SnapshotStatus(ApiModel):
    """Who uses one snapshot."""

    name: Token
    """Name of the snapshot."""
    lifecycle: Lifecycle
    """Preview, Active, Deprecated or Retired."""
    pinned_instances: Count = 0
    """ModelInstances and TokenUnitReservations that name it."""
    latest_commitment_end: Timestamp | None = None
    """Latest end of a commitment whose pool runs the snapshot, or of the minimum term of token units of it."""
    retires_at: Timestamp | None = None
    """The retirement date as the operator last saw it, against which a new one is judged. Absent: not announced."""
    promised_until: Timestamp | None = None
    """Before this date the snapshot was not to retire, and retiresAt undercuts it: every object that pins the snapshot is
    flagged. Absent: no promise is broken."""


class References(ApiModel):
    """How many objects refer to the offering; while any does, it cannot be deleted."""

    pools: Count = 0
    """ComputeUnitPools with an instance of it."""
    instances: Count = 0
    """ModelInstances of it."""
    token_reservations: Count = 0
    """TokenUnitReservations of it."""


class ModelOfferingStatus(StatusModel):
    """Who uses the offering."""

    snapshots: Annotated[tuple[SnapshotStatus, ...], ListMap("name"), Field(max_length=MAX_SNAPSHOTS)] = ()
    """Lifecycle and use of each snapshot."""
    snapshots_total: Count = 0
    """Number of snapshots."""
    pinned_total: Count = 0
    """Objects that pin any snapshot of the offering."""
    referenced_by: References = References()
    """Objects that refer to the offering."""


# Two references by status: admission works with the operator down, on what it last saw.
_PINNED_STAY: Final = Rule(
    "!has(oldSelf.status) || !has(oldSelf.status.snapshots) || oldSelf.status.snapshots.all(s,"
    " !has(s.pinnedInstances) || s.pinnedInstances == 0 || !oldSelf.spec.snapshots.exists(o, o.name == s.name)"
    " || self.spec.snapshots.exists(n, n.name == s.name))",
    "spec.snapshots: a snapshot that is pinned cannot be removed: move the objects that pin it "
    "(status.snapshots[].pinnedInstances) to another snapshot first",
    field_path=".spec.snapshots",
)
_NO_SURPRISE_RETIREMENT: Final = Rule(
    "!has(oldSelf.status) || !has(oldSelf.status.snapshots) || self.spec.snapshots.all(n,"
    " !has(n.retiresAt) || has(n.emergency)"
    " || oldSelf.spec.snapshots.exists(o, o.name == n.name && has(o.retiresAt))"
    " || !oldSelf.status.snapshots.exists(s, s.name == n.name"
    " && has(s.latestCommitmentEnd) && s.latestCommitmentEnd > n.retiresAt))",
    "spec.snapshots[].retiresAt lies inside a commitment that pins the snapshot: retire it not before "
    "status.snapshots[].latestCommitmentEnd, or state emergency.reason",
    field_path=".spec.snapshots",
)


class ModelOffering(ApiObject):
    """One model that is sold: how it runs on reserved capacity, how it is sold by the token unit, and its snapshots.
    Belongs to the provider."""

    info = meta.MODEL_OFFERING
    rules = (_PINNED_STAY, _NO_SURPRISE_RETIREMENT)
    columns = (
        Column("CU", ".spec.reserved.computeUnitsPerInstance", "integer", description="Compute units per instance."),
        Column("MIN", ".spec.reserved.minInstances", "integer", description="Fewest instances on one pool."),
        Column("SNAPSHOTS", ".status.snapshotsTotal", "integer", description="Number of snapshots."),
        Column("INPUT-TPM", ".spec.tokenUnits.input.tokensPerMinute", "integer", description="Of one input unit."),
        Column("OUTPUT-TPM", ".spec.tokenUnits.output.tokensPerMinute", "integer", description="Of one output unit."),
        Column("PINNED", ".status.pinnedTotal", "integer", description="Objects that pin a snapshot."),
        condition_column("VALID", "Valid"),
        AGE,
    )

    kind: Literal["ModelOffering"] = "ModelOffering"
    spec: ModelOfferingSpec
    """What the provider sells."""
    status: ModelOfferingStatus = ModelOfferingStatus()
    """Who uses it. Written by the operator only."""
