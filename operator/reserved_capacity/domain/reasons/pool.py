"""Reasons of ComputeUnitPool; `BillingCurrent` and `LedgerBalanced` also stand on TokenUnitReservation."""

from reserved_capacity.domain.reasons.base import FALSE, TRUE, UNKNOWN, Reason


class PoolAccepted(Reason):
    """ComputeUnitPool, condition Accepted."""

    ACCEPTED = "Accepted", TRUE, "The order is complete and can be fulfilled."
    UNKNOWN_ACCELERATOR_CLASS = (
        "UnknownAcceleratorClass",
        FALSE,
        "spec.acceleratorClass names a class that does not exist.",
        "Create the AcceleratorClass; the field is immutable, so a mistyped pool is deleted and made anew.",
    )
    UNKNOWN_PRICE_BOOK = (
        "UnknownPriceBook",
        FALSE,
        "spec.priceBookRef names a price book that does not exist.",
        "Create the PriceBook; the field is immutable, so a mistyped pool is deleted and made anew.",
    )
    PRICE_MISSING = (
        "PriceMissing",
        FALSE,
        "The price book has no price in force for the term of a commitment.",
        "Append an entry for that term to the PriceBook's spec.computeUnits.",
    )
    DUPLICATE_COMMITMENT = (
        "DuplicateCommitment",
        FALSE,
        "Another pool already carries a commitment with this id; an id is unique in the cluster.",
        "Give the commitment the order reference that belongs to it.",
    )
    INVALID_SCHEDULE = (
        "InvalidSchedule",
        FALSE,
        "spec.maintenanceWindow.schedule is not a cron expression that ever comes due.",
        "Correct the schedule: five fields, UTC, for example '0 2 * * 6'.",
    )
    NOT_SUPPORTED_YET = (
        "NotSupportedYet",
        FALSE,
        "The spec uses a field whose behaviour this version of the operator does not have; nothing running changes.",
        "Remove the field named in the message, or upgrade the operator.",
    )


class Provisioned(Reason):
    """ComputeUnitPool, condition Provisioned."""

    PROVISIONED = "Provisioned", TRUE, "All contracted compute units are claimed on healthy nodes."
    PROVISIONING = (
        "Provisioning",
        UNKNOWN,
        "Nodes are being claimed and the agreed date has not passed.",
        "Wait; the message says how many compute units are still missing.",
    )
    PARTIALLY_PROVISIONED = (
        "PartiallyProvisioned",
        FALSE,
        "Fewer compute units than contracted are claimed; only provisioned ones can be used.",
        "The provider adds nodes of the class; charged days with missing units are credited.",
    )
    PROVISIONING_LATE = (
        "ProvisioningLate",
        FALSE,
        "provisionBy has passed and compute units are missing.",
        "The provider adds nodes of the class; the message says how many compute units are missing.",
    )


class Healthy(Reason):
    """ComputeUnitPool, condition Healthy."""

    HEALTHY = "Healthy", TRUE, "All nodes of the pool are healthy and used by nobody else."
    NODES_UNHEALTHY = (
        "NodesUnhealthy",
        FALSE,
        "A node of the pool is gone or has failed by a repair rule of its class.",
        "Repair the node named in the message or add a spare one; a replacement is claimed as soon as one is free.",
    )
    FOREIGN_PODS = (
        "ForeignPods",
        FALSE,
        "Pods that are not ours use GPUs on a node that the pool has claimed.",
        "Remove the pods named in the message, or the toleration that let them onto the node.",
    )
    TOO_MANY_MEMBERS = (
        "TooManyMembers",
        FALSE,
        "The instances of the pool ask for more than 1,000 members, the most one pool can record.",
        "Lower spec.instances, or split the pool.",
    )


class CommitmentSecure(Reason):
    """ComputeUnitPool, condition CommitmentSecure. It never makes Ready False: a planned expiry is not a fault."""

    SECURE = "Secure", TRUE, "No commitment that is in use ends within 30 days."
    RENEWING = "Renewing", TRUE, "The commitment that ends next is followed by another term without a gap."
    EXPIRES_SOON = (
        "ExpiresSoon",
        FALSE,
        "A commitment has passed its renewal deadline and expires at the date in the message.",
        "Add a new commitment to keep the capacity; status.expiryPlan says what stops otherwise.",
    )
    EXPIRED = (
        "Expired",
        FALSE,
        "A commitment has ended; its compute units are no longer contracted.",
        "Add a new commitment, or remove the expired one from the spec.",
    )


class BillingCurrent(Reason):
    """ComputeUnitPool and TokenUnitReservation, condition BillingCurrent. It never makes Ready False."""

    CURRENT = "Current", TRUE, "Every row of the ledger has reached billing."
    NO_SINK = (
        "NoSink",
        TRUE,
        "No billing system is configured; rows are kept in the outbox.",
        "Give the operator --billing-url to have them delivered.",
    )
    SINK_UNAVAILABLE = (
        "SinkUnavailable",
        FALSE,
        "The billing system does not accept rows; nothing is lost, they wait in the outbox.",
        "Repair the billing system named in the message.",
    )
    CATCHING_UP = (
        "CatchingUp",
        UNKNOWN,
        "Rows are being posted or delivered after an interruption.",
        "Wait; the message says how many rows are pending.",
    )


class LedgerBalanced(Reason):
    """ComputeUnitPool and TokenUnitReservation, condition LedgerBalanced. It never makes Ready False."""

    BALANCED = "Balanced", TRUE, "Debits equal credits and every charged day has exactly one charge."
    MISMATCH = (
        "Mismatch",
        FALSE,
        "The ledger disagrees with the contract or with itself.",
        "Run `kubectl reserved ledger` for the account and report the row named in the message; corrections are new rows.",
    )
