"""What a reservation may buy now, and at which price; or why nothing (behaviour.md T1). Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from typing import Final

from reserved_capacity.api.modeloffering import ModelOffering
from reserved_capacity.api.pricebook import PriceBook
from reserved_capacity.api.tokenunitreservation import TokenUnitReservation
from reserved_capacity.domain.reasons.tokens import TokensAccepted
from reserved_capacity.domain.tokens.lots import Direction, ReservationName
from reserved_capacity.domain.tokens.orders import Buyer, UnitTerms
from reserved_capacity.domain.tokens.token_conditions import TokenRefusal
from reserved_capacity.ports import PRICE_BOOKS, Ref
from reserved_capacity.snapshot.parsing import parse_offering
from reserved_capacity.snapshot.tokens import unit_price_in_force
from reserved_capacity.store import Store

_USUAL_DAYS: Final = 30


@dataclass(frozen=True, slots=True)
class Market:
    """`terms` by direction of which a price is in force. `refusal`: nothing may be bought."""

    offering: ModelOffering | None
    book: PriceBook | None
    terms: Mapping[Direction, UnitTerms]
    refusal: TokenRefusal | None

    def buyer(self, reservation: TokenUnitReservation) -> Buyer:
        spec = reservation.spec
        units = self.offering.spec.token_units if self.offering is not None else None
        return Buyer(
            spec.account,
            ReservationName(reservation.namespace, reservation.name),
            spec.offering,
            spec.price_book_ref,
            self.book.spec.currency if self.book is not None else "",
            units.minimum_days if units is not None else _USUAL_DAYS,
        )


def wanted_units(reservation: TokenUnitReservation) -> Mapping[Direction, int]:
    units = reservation.spec.units
    return {Direction.INPUT: units.input, Direction.OUTPUT: units.output}


def market_of(store: Store, reservation: TokenUnitReservation, day: date) -> Market:
    """At the list prices that are in force on that UTC day."""
    spec = reservation.spec
    offering = parse_offering(store, spec.offering)
    book = store.parsed(Ref(PRICE_BOOKS, "", spec.price_book_ref), PriceBook)
    refusal = _refused(reservation, offering, book)
    if refusal is not None or offering is None or book is None or offering.spec.token_units is None:
        return Market(offering, book, {}, refusal)
    units = offering.spec.token_units
    sizes = {Direction.INPUT: units.input, Direction.OUTPUT: units.output}
    terms = {}
    for direction, size in sizes.items():
        price = unit_price_in_force(book, spec.offering, direction, day)
        if price is not None:
            terms[direction] = UnitTerms(size.tokens_per_minute, price)
    return Market(offering, book, terms, None)


def _refused(
    reservation: TokenUnitReservation, offering: ModelOffering | None, book: PriceBook | None
) -> TokenRefusal | None:
    spec = reservation.spec
    if offering is None:
        return TokenRefusal(
            TokensAccepted.UNKNOWN_OFFERING,
            f"there is no ModelOffering {spec.offering!r}: create it, or make this reservation anew, since spec.offering "
            "is immutable",
        )
    if offering.spec.token_units is None:
        return TokenRefusal(
            TokensAccepted.NOT_SOLD_BY_TOKEN,
            f"{offering.name} is not sold by the token unit: choose another offering, or reserve compute units for it",
        )
    if offering.spec.snapshot(spec.snapshot) is None:
        known = ", ".join(each.name for each in offering.spec.snapshots) or "none"
        return TokenRefusal(
            TokensAccepted.UNKNOWN_SNAPSHOT,
            f"{offering.name} has no snapshot {spec.snapshot!r}: set spec.snapshot to one of {known}",
        )
    if book is None:
        return TokenRefusal(
            TokensAccepted.UNKNOWN_PRICE_BOOK,
            f"there is no PriceBook {spec.price_book_ref!r}: create it, or make this reservation anew, since "
            "spec.priceBookRef is immutable",
        )
    return None


def unpriced(book: str, offering: str, directions: Sequence[Direction]) -> TokenRefusal:
    named = " and ".join(each.value for each in directions)
    return TokenRefusal(
        TokensAccepted.PRICE_MISSING,
        f"PriceBook {book} has no price in force for {named} units of {offering}: append an entry to its spec.tokenUnits",
    )
