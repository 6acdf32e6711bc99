"""`kubectl reserved estimate` for token units: what the reservations in files would cost a day, and at least (T1, T2)."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import date, timedelta
from decimal import Decimal
from typing import Any

from rich import box
from rich.table import Table

from reserved_capacity.api.modeloffering import ModelOffering, TokenUnitsSpec
from reserved_capacity.api.pricebook import PriceBook
from reserved_capacity.api.tokenunitreservation import TokenUnitReservation
from reserved_capacity.cli.errors import CliError
from reserved_capacity.cli.plan import Given
from reserved_capacity.cli.world import World
from reserved_capacity.domain.billing.money import floor_minor, format_minor, format_price
from reserved_capacity.domain.tokens.lots import Direction
from reserved_capacity.ports import MODEL_OFFERINGS, PRICE_BOOKS, TOKEN_UNIT_RESERVATIONS, Ref, Resource
from reserved_capacity.snapshot.tokens import unit_price_in_force


@dataclass(frozen=True, slots=True)
class UnitEstimate:
    """Units of one direction, all of the reservation's: `running` of them are bought already."""

    reservation: str
    offering: str
    direction: Direction
    units: int
    running: int
    unit_tpm: int
    price: Decimal
    currency: str
    first_day: date
    minimum_days: int

    def minor(self, days: int) -> int:
        return floor_minor(self.price, self.units * days, self.currency)


def unit_estimates(world: World, given: Given, first_day: date | None) -> tuple[UnitEstimate, ...]:
    """Of every TokenUnitReservation in the files. `first_day` None: tomorrow, as if it counted today. Raises CliError."""
    today = world.now.date()
    books = {name: PriceBook.parse(obj) for name, obj in _known(world, given, PRICE_BOOKS).items()}
    offerings = {name: ModelOffering.parse(obj) for name, obj in _known(world, given, MODEL_OFFERINGS).items()}
    found: list[UnitEstimate] = []
    for each in given.documents:
        if each.ref.resource == TOKEN_UNIT_RESERVATIONS:
            asked = TokenUnitReservation.parse(each.body)
            live = world.store.get(each.ref)
            running = TokenUnitReservation.parse(live) if live is not None else None
            book = books.get(asked.spec.price_book_ref)
            units = _sold(offerings.get(asked.spec.offering), asked, each.ref)
            if book is None:
                raise CliError(f"{each.ref}: there is no PriceBook {asked.spec.price_book_ref!r}")
            found += _of(asked, running, units, book, (today, first_day or today + timedelta(days=1)))
    return tuple(found)


def _known(world: World, given: Given, resource: Resource) -> dict[str, Any]:
    known = {obj["metadata"]["name"]: obj for obj in world.store.all(resource)}
    return known | {each.ref.name: each.body for each in given.documents if each.ref.resource == resource}


def _sold(offering: ModelOffering | None, asked: TokenUnitReservation, ref: Ref) -> TokenUnitsSpec:
    if offering is None:
        raise CliError(
            f"{ref}: there is no ModelOffering {asked.spec.offering!r}, neither in the cluster nor in the files"
        )
    if offering.spec.token_units is None:
        raise CliError(f"{ref}: {offering.name} is not sold by the token unit")
    return offering.spec.token_units


def _of(
    asked: TokenUnitReservation,
    running: TokenUnitReservation | None,
    sold: TokenUnitsSpec,
    book: PriceBook,
    days: tuple[date, date],
) -> Iterator[UnitEstimate]:
    today, first_day = days
    sizes = {
        Direction.INPUT: (asked.spec.units.input, sold.input),
        Direction.OUTPUT: (asked.spec.units.output, sold.output),
    }
    for direction, (units, size) in sizes.items():
        if not units:
            continue
        price = unit_price_in_force(book, asked.spec.offering, direction, today)
        if price is None:
            raise CliError(
                f"PriceBook {book.name} has no price for {direction} units of {asked.spec.offering} in force on {today}"
            )
        lots = running.status.lots if running is not None else ()
        yield UnitEstimate(
            reservation=f"{asked.namespace}/{asked.name}",
            offering=asked.spec.offering,
            direction=direction,
            units=units,
            running=sum(lot.units for lot in lots if lot.direction is direction),
            unit_tpm=size.tokens_per_minute,
            price=price,
            currency=book.spec.currency,
            first_day=first_day,
            minimum_days=sold.minimum_days,
        )


_HEADINGS = {
    "RESERVATION": "reservation",
    "OFFERING": "offering",
    "DIRECTION": "direction",
    "UNITS": "units",
    "TPM": "tokensPerMinute",
    "PRICE": "price",
    "PER-DAY": "perDay",
    "MIN-DAYS": "minimumDays",
    "AT-LEAST": "total",
    "FIRST-DAY": "firstDay",
    "REMOVABLE": "removableFrom",
    "NOTE": "note",
}


def unit_table(found: Iterable[UnitEstimate]) -> Table:
    table = Table(box=box.SIMPLE_HEAD)
    right = ("UNITS", "TPM", "PRICE", "PER-DAY", "MIN-DAYS", "AT-LEAST")
    for name in _HEADINGS:
        table.add_column(name, justify="right" if name in right else "left", no_wrap=True)
    for row in unit_rows(found):
        table.add_row(*(str(row[key]) for key in _HEADINGS.values()))
    return table


def unit_rows(found: Iterable[UnitEstimate]) -> list[dict[str, Any]]:
    return [
        {
            "reservation": each.reservation,
            "offering": each.offering,
            "direction": str(each.direction),
            "units": each.units,
            "tokensPerMinute": each.units * each.unit_tpm,
            "price": format_price(each.price, each.currency),
            "currency": each.currency,
            "perDay": format_minor(each.minor(1), each.currency),
            "minimumDays": each.minimum_days,
            "total": format_minor(each.minor(each.minimum_days), each.currency),
            "firstDay": each.first_day.isoformat(),
            "removableFrom": (each.first_day + timedelta(days=each.minimum_days)).isoformat(),
            "note": f"{each.running} units are bought already" if each.running else "",
        }
        for each in found
    ]
