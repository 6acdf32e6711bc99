"""Reasons of TokenUnitReservation."""

from reserved_capacity.domain.reasons.base import FALSE, TRUE, UNKNOWN, Reason


class TokensAccepted(Reason):
    """TokenUnitReservation, condition Accepted."""

    ACCEPTED = "Accepted", TRUE, "The order is complete and can be fulfilled."
    UNKNOWN_OFFERING = (
        "UnknownOffering",
        FALSE,
        "spec.offering names an offering that does not exist.",
        "Create the ModelOffering; the field is immutable, so a mistyped reservation is deleted and made anew.",
    )
    UNKNOWN_SNAPSHOT = (
        "UnknownSnapshot",
        FALSE,
        "spec.snapshot is not one of the offering's snapshots.",
        "Choose one of the snapshots named in the message.",
    )
    UNKNOWN_PRICE_BOOK = (
        "UnknownPriceBook",
        FALSE,
        "spec.priceBookRef names a price book that does not exist.",
        "Create the PriceBook; the field is immutable, so a mistyped reservation is deleted and made anew.",
    )
    NOT_SOLD_BY_TOKEN = (
        "NotSoldByToken",
        FALSE,
        "The offering has no spec.tokenUnits: it is not sold by the token unit.",
        "Choose another offering, or reserve compute units for a ModelInstance.",
    )
    PRICE_MISSING = (
        "PriceMissing",
        FALSE,
        "The price book has no price in force for this offering and direction.",
        "Append an entry to the PriceBook's spec.tokenUnits.",
    )
    MINIMUM_TERM_NOT_REACHED = (
        "MinimumTermNotReached",
        FALSE,
        "The reduction would take units that are still inside their minimum term; the entitlement stays as it was.",
        "Wait: the units are removed at the date in the message, unless spec.units is put back before.",
    )
    NOT_SUPPORTED_YET = (
        "NotSupportedYet",
        FALSE,
        "The spec uses a field whose behaviour this version of the operator does not have; nothing running changes.",
        "Remove the field named in the message, or upgrade the operator.",
    )


class CapacityBacked(Reason):
    """TokenUnitReservation, condition CapacityBacked."""

    BACKED = "Backed", TRUE, "The provider's fleet can serve everything that is sold of this snapshot."
    INSUFFICIENT_CAPACITY = (
        "InsufficientCapacity",
        FALSE,
        "The fleet pool has too few compute units for what is sold of this snapshot.",
        "The provider adds the compute units named in the message to the fleet pool.",
    )
    FLEET_STARTING = (
        "FleetStarting",
        UNKNOWN,
        "The fleet has the compute units and its instances are starting.",
        "Wait; the message names the ModelInstance.",
    )


class LimitPublished(Reason):
    """TokenUnitReservation, condition LimitPublished."""

    PUBLISHED = "Published", TRUE, "The rate limit stands in the ConfigMap that gateways read."
    ACCEPTED_BY_GATEWAY = "AcceptedByGateway", TRUE, "The gateway has accepted the policy at our generation."
    GATEWAY_REJECTED = (
        "GatewayRejected",
        FALSE,
        "The API server or the gateway refuses the policy, in the words of the message; new units do not count.",
        "Correct what it names; the route of a policy that Envoy Gateway itself refuses answers 500 until then.",
    )
    PUBLISHING = (
        "Publishing",
        UNKNOWN,
        "The new limit is being written and is not confirmed yet.",
        "Wait; if it lasts, look at the gateway's controller.",
    )


class ServiceLevelMet(Reason):
    """TokenUnitReservation, condition ServiceLevelMet. It never makes Ready False: it is measured and credited."""

    MET = "Met", TRUE, "Uptime and latency of the month are within the promise."
    UPTIME_BELOW = (
        "UptimeBelow",
        FALSE,
        "Uptime of the month is below the promise.",
        "Nothing to do: the credit is posted at the month's end.",
    )
    LATENCY_BELOW = (
        "LatencyBelow",
        FALSE,
        "Too many requests of the month were slower than promised.",
        "Nothing to do: the credit is posted at the month's end.",
    )
    NOT_MEASURED = (
        "NotMeasured",
        UNKNOWN,
        "There are no measurements for the month.",
        "Give the operator --prometheus-url, and check that the gateway's metrics are scraped.",
    )
