"""ComputeUnitPool: the spec, an order for committed capacity. Its status is in `poolstatus`, its update rules in `poolrules`."""

from datetime import timedelta
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
    reason_column,
)
from reserved_capacity.api.fields import Day, Duration, InstanceName, Subdomain, Token
from reserved_capacity.api.poolrules import POOL_RULES
from reserved_capacity.api.poolstatus import MAX_COMMITMENTS, ComputeUnitPoolStatus
from reserved_capacity.domain.billing.contracts import Payment
from reserved_capacity.domain.repair import ReplacementStrategy
from reserved_capacity.domain.terms import RenewalPolicy, Term

_CRON: Final = r"^[0-9*,/-]+ [0-9*,/-]+ [0-9*,/-]+ [0-9*,/-]+ [0-9*,/-]+$"
_NEW_POOL: Final = "order the capacity in another ComputeUnitPool"


class Renewal(ApiModel):
    """What follows when the commitment ends. Reversible until 30 days before the end, then frozen."""

    policy: RenewalPolicy = RenewalPolicy.EXPIRE
    """Expire: the capacity is given back. Renew: another term follows without a gap at the list price then in force.
    Default: Expire."""
    term: Term | None = None
    """Term of the renewal. Default: the same term again."""


class Commitment(ApiModel):
    """One order of capacity for one term."""

    rules: ClassVar = (
        Rule(
            "self.payment != 'AnnualPrepaid' || (self.term == 'OneYear'"
            " && (!has(self.renewal.term) || self.renewal.term == 'OneYear'))",
            "spec.commitments[].payment AnnualPrepaid is for the term OneYear only: choose term OneYear or payment Monthly",
            field_path=".payment",
        ),
    )

    id: Token
    """Order reference, unique in the cluster; the ledger knows the commitment by it. Never given to another order."""
    compute_units: Annotated[
        int,
        Field(ge=100, le=10_000_000),
        Rule(
            "self % 100 == 0",
            "spec.commitments[].computeUnits must be a multiple of 100 (one block): order the next lower or higher "
            "multiple",
            message_expression=(
                "'spec.commitments[].computeUnits must be a multiple of 100 (one block): order %d or %d instead of %d'"
                ".format([self / 100 * 100, self / 100 * 100 + 100, self])"
            ),
        ),
    ]
    """Compute units ordered: at least 100, a multiple of 100. Fixed once the commitment runs."""
    term: Term
    """ThreeMonths (90 days) or OneYear (365 days), from the first charged day. Fixed once the commitment runs."""
    payment: Payment = Payment.MONTHLY
    """Monthly (in arrears) or AnnualPrepaid (with OneYear only). Default: Monthly. Fixed once the commitment runs."""
    provision_by: Day
    """UTC day by which the capacity is to be there. If no instance uses it by then, charging starts the day after.
    Fixed once the commitment runs."""
    renewal: Renewal = Renewal()
    """What follows when the commitment ends. Default: Expire."""


class Amendment(ApiModel):
    """An agreed reduction of a commitment. Only holders of `create` on computeunitpools/amendments can add one."""

    commitment: Token
    """id of the commitment that is reduced."""
    at: Day
    """UTC day from which the reduction holds, at 00:00."""
    compute_units: Annotated[
        int,
        Field(ge=0, le=10_000_000),
        Rule(
            "self % 100 == 0",
            "spec.amendments[].computeUnits must be a multiple of 100 (one block): use the next lower or higher multiple",
        ),
    ]
    """Compute units that the commitment has from that day on: a multiple of 100, fewer than before; 0 ends it."""
    reason: Annotated[str, Field(min_length=1, max_length=1024)]
    """Why, and by which agreement."""


class NodeReplacement(ApiModel):
    """How the members of a node that is being emptied leave it. On a node that has failed there is nothing left to stop:
    they move as soon as there is a place, with either strategy."""

    strategy: ReplacementStrategy = ReplacementStrategy.REPLACE_FIRST
    """ReplaceFirst: a serving member is never stopped for it; it goes when its successor serves. TerminateFirst: members
    stop first, down to upgrade.minAvailable of their instance and the minimum of their offering, also where there is no
    other place yet. A start that fails changes nothing about the choice. Default: ReplaceFirst."""
    max_unavailable_nodes: Annotated[int, Field(ge=1, le=100)] = 1
    """Nodes that may be under replacement at once; members leave each of them one at a time, or with TerminateFirst as
    many at a time as minAvailable allows. Default: 1."""


class MaintenanceWindow(ApiModel):
    """When planned changes of running members may begin."""

    schedule: Annotated[
        str,
        Field(min_length=9, max_length=128),
        Rule(
            f"self.matches(r'{_CRON}')",
            "spec.maintenanceWindow.schedule must be five cron fields (minute hour day-of-month month day-of-week) of "
            "digits, *, comma, - and /, in UTC, for example '0 2 * * 6'",
        ),
    ]
    """When the window opens: five cron fields (minute hour day-of-month month day-of-week) in UTC, for example
    "0 2 * * 6" for Saturdays at 02:00."""
    duration: Duration
    """How long the window stays open, for example 4h."""


class Expiry(ApiModel):
    """How instances stop when a commitment ends and the rest of the pool cannot hold them."""

    drain_before: Duration = timedelta(hours=1)
    """How long before the end draining begins. Default: 1h."""
    stop_order: Annotated[tuple[InstanceName, ...], ListType("atomic"), Field(max_length=100)] = ()
    """ModelInstances in the order in which they stop; those not named follow, lowest priority first."""


class ComputeUnitPoolSpec(ApiModel):
    """An order for committed capacity."""

    rules: ClassVar = (
        Rule(
            "!has(self.amendments) || self.amendments.all(a, self.commitments.all(c,"
            " c.id != a.commitment || a.computeUnits < c.computeUnits))",
            "spec.amendments[].computeUnits must be lower than the computeUnits of its commitment: to buy more, add a "
            "commitment",
        ),
    )

    account: Annotated[Token, immutable("spec.account", f"the account is billed for the whole term; {_NEW_POOL}")]
    """Billing subject: who is charged. Immutable."""
    price_book_ref: Annotated[Subdomain, immutable("spec.priceBookRef", _NEW_POOL)]
    """Name of the PriceBook whose prices hold. Immutable."""
    accelerator_class: Annotated[Subdomain, immutable("spec.acceleratorClass", _NEW_POOL)]
    """Name of the AcceleratorClass whose nodes the pool gets. Immutable."""
    commitments: Annotated[tuple[Commitment, ...], ListMap("id"), Field(min_length=1, max_length=MAX_COMMITMENTS)]
    """Orders, by id. One that runs cannot be changed, reduced or removed before its end; more capacity is another one.
    Adding or changing one takes the verb `create` on computeunitpools/commitments."""
    amendments: Annotated[tuple[Amendment, ...], ListMap("commitment", "at"), Field(max_length=MAX_COMMITMENTS)] = ()
    """Agreed reductions, by commitment and day. Append-only. Adding one takes the verb `create` on
    computeunitpools/amendments."""
    node_replacement: NodeReplacement = NodeReplacement()
    """How nodes that have failed or are being emptied are replaced. Default: ReplaceFirst, one node at a time."""
    maintenance_window: MaintenanceWindow | None = None
    """When planned changes of running members may begin. Absent: at any time."""
    expiry: Expiry = Expiry()
    """How instances stop when a commitment ends. Default: draining begins 1h before."""

    def commitment(self, id_: str) -> Commitment | None:
        """The commitment of that id, or None."""
        return next((item for item in self.commitments if item.id == id_), None)


def _cu_column(name: str, field: str, what: str, *, wide: bool = False) -> Column:
    return Column(name, f".status.computeUnits.{field}", "integer", wide=wide, description=f"Compute units {what}.")


class ComputeUnitPool(ApiObject):
    """Committed capacity: compute units that a customer has ordered for a term, the nodes that provide them, and which
    instance holds them."""

    info = meta.COMPUTE_UNIT_POOL
    rules = POOL_RULES
    selectable = (".spec.account",)
    columns = (
        Column("PHASE", ".status.phase", description="State in one word."),
        _cu_column("CONTRACTED", "contracted", "ordered"),
        _cu_column("ALLOCATED", "allocated", "held by an instance on healthy nodes"),
        _cu_column("IDLE", "idle", "held by nobody, and charged"),
        _cu_column("UNHEALTHY", "unhealthy", "on failed nodes"),
        Column("ENDS", ".status.termEnd", description="Earliest end of a running commitment."),
        condition_column("READY", "Ready"),
        AGE,
        _cu_column("PROVISIONED", "provisioned", "claimed on nodes", wide=True),
        Column("PER-DAY", ".status.billing.perDay", wide=True, description="Charge per day."),
        Column("NODES", ".status.nodesTotal", "integer", wide=True, description="Nodes with a claim of the pool."),
        reason_column(wide=True),
    )

    kind: Literal["ComputeUnitPool"] = "ComputeUnitPool"
    spec: ComputeUnitPoolSpec
    """What is ordered."""
    status: ComputeUnitPoolStatus = ComputeUnitPoolStatus()
    """What is provided, who holds it, and what it costs. Written by the operator only."""
