"""Is what the provider offers sound? Offerings against classes, prices against offerings (api.md, `Valid`)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date

from .conditions import ConditionValue, condition
from .reasons.provider import OfferingValid, PriceBookValid


@dataclass(frozen=True, slots=True)
class OfferedClass:
    """An AcceleratorClass that an offering names; None: it does not exist."""

    name: str
    compute_units_per_node: int | None


def offering_valid(classes: Sequence[OfferedClass], cu_per_node: int) -> ConditionValue:
    """`cu_per_node`: what one instance needs on each of its nodes."""
    unknown = sorted(each.name for each in classes if each.compute_units_per_node is None)
    if unknown:
        return condition(
            "Valid",
            OfferingValid.UNKNOWN_ACCELERATOR_CLASS,
            f"spec.reserved.acceleratorClasses names {', '.join(unknown)}, which does not exist: create it, or correct "
            "the name",
        )
    small = sorted(each.name for each in classes if (each.compute_units_per_node or 0) < cu_per_node)
    if small:
        return condition(
            "Valid",
            OfferingValid.INSTANCE_LARGER_THAN_NODE,
            f"need {cu_per_node} CU on each node of an instance, nodes of {', '.join(small)} have fewer: raise "
            "spec.reserved.nodesPerInstance, or offer it on a class with larger nodes",
        )
    return condition("Valid", OfferingValid.VALID, "everything that the offering refers to exists and fits")


@dataclass(frozen=True, slots=True, order=True)
class PricedUnit:
    """One token-unit entry of a price book; direction is Input or Output."""

    offering: str
    direction: str
    effective_from: date


def price_book_valid(units: Sequence[PricedUnit], known_offerings: frozenset[str]) -> ConditionValue:
    """Every entry names an offering that exists, and where input has a price, output has one from the same day on."""
    unknown = sorted({each.offering for each in units} - known_offerings)
    if unknown:
        return condition(
            "Valid",
            PriceBookValid.UNKNOWN_OFFERING,
            f"spec.tokenUnits names {', '.join(unknown)}, which does not exist: create the ModelOffering",
        )
    first: dict[str, dict[str, date]] = {}
    for each in sorted(units, reverse=True):
        first.setdefault(each.offering, {})[each.direction] = each.effective_from
    for offering, by_direction in sorted(first.items()):
        for direction in ("Input", "Output"):
            start = min(by_direction.values())
            if by_direction.get(direction, date.max) > start:
                return condition(
                    "Valid",
                    PriceBookValid.PRICE_GAP,
                    f"{offering} is sold from {start} on, but has no {direction} price on that day: append an entry",
                )
    return condition("Valid", PriceBookValid.VALID, "every entry is for an offering that exists, without a gap")
