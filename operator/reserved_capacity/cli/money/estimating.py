"""`kubectl reserved estimate`: what the orders in files would cost, at the list prices of the cluster and of the files."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import date, timedelta
from typing import Any

from rich import box
from rich.table import Table

from reserved_capacity.api.computeunitpool import ComputeUnitPool
from reserved_capacity.api.pricebook import PriceBook
from reserved_capacity.cli.errors import CliError
from reserved_capacity.cli.plan import Given
from reserved_capacity.cli.world import Want, World
from reserved_capacity.domain.billing.estimate import Estimate, Order, estimate
from reserved_capacity.domain.billing.money import format_minor, format_price
from reserved_capacity.domain.orders import PriceEntry, list_price
from reserved_capacity.domain.terms import RenewalPolicy
from reserved_capacity.ports import COMPUTE_UNIT_POOLS, MODEL_OFFERINGS, PRICE_BOOKS, TOKEN_UNIT_RESERVATIONS, Ref


@dataclass(frozen=True, slots=True)
class Estimated:
    """A commitment of a file. `ordered`: the cluster has it already, so that applying the file buys nothing."""

    pool: str
    commitment: str
    order: Order
    estimate: Estimate
    ordered: bool
    renews: bool


def wants() -> list[Want]:
    return [
        Want(PRICE_BOOKS),
        Want(COMPUTE_UNIT_POOLS, optional=True),
        Want(MODEL_OFFERINGS, optional=True),
        Want(TOKEN_UNIT_RESERVATIONS, optional=True),
    ]


def estimates(world: World, given: Given, first_day: date | None) -> tuple[Estimated, ...]:
    """Of every commitment in the files. `first_day` None: tomorrow, as if it were ordered and used today. Raises CliError."""
    today = world.now.date()
    books = {obj["metadata"]["name"]: PriceBook.parse(obj) for obj in world.store.all(PRICE_BOOKS)}
    books |= {each.ref.name: PriceBook.parse(each.body) for each in given.documents if each.ref.resource == PRICE_BOOKS}
    pools = [each for each in given.documents if each.ref.resource == COMPUTE_UNIT_POOLS]
    if not pools and not any(each.ref.resource == TOKEN_UNIT_RESERVATIONS for each in given.documents):
        raise CliError("there is neither a ComputeUnitPool nor a TokenUnitReservation in the files: nothing is bought")
    found: list[Estimated] = []
    for each in pools:
        pool, live = ComputeUnitPool.parse(each.body), world.store.get(each.ref)
        have = {} if live is None else {one["id"] for one in (live.get("status") or {}).get("commitments") or ()}
        found += _of_pool(pool, each.ref, books.get(pool.spec.price_book_ref), have, first_day, today)
    return tuple(found)


def _of_pool(
    pool: ComputeUnitPool, ref: Ref, book: PriceBook | None, have: Iterable[str], first_day: date | None, today: date
) -> Iterable[Estimated]:
    if book is None:
        raise CliError(
            f"{ref}: there is no PriceBook {pool.spec.price_book_ref!r}, neither in the cluster nor in the files: "
            "correct spec.priceBookRef"
        )
    entries = [
        PriceEntry(entry.term, entry.effective_from, entry.price_per_compute_unit_month)
        for entry in book.spec.compute_units
    ]
    for commitment in pool.spec.commitments:
        price = list_price(entries, commitment.term, today)
        if price is None:
            raise CliError(
                f"{ref}: PriceBook {book.name} has no price for {commitment.term} in force on {today}, which commitment "
                f"{commitment.id} needs"
            )
        order = Order(commitment.compute_units, commitment.term, commitment.payment, price, book.spec.currency)
        yield Estimated(
            pool=f"{ref.namespace}/{ref.name}",
            commitment=commitment.id,
            order=order,
            estimate=estimate(order, first_day or today + timedelta(days=1)),
            ordered=commitment.id in have,
            renews=commitment.renewal.policy is RenewalPolicy.RENEW,
        )


def estimate_table(found: Iterable[Estimated]) -> Table:
    table = Table(box=box.SIMPLE_HEAD)
    right = ("CU", "PRICE", "PER-DAY", "DAYS", "TOTAL")
    for name in (
        "POOL",
        "COMMITMENT",
        "CU",
        "TERM",
        "PAYMENT",
        "PRICE",
        "PER-DAY",
        "DAYS",
        "TOTAL",
        "FIRST-DAY",
        "ENDS",
        "NOTE",
    ):
        table.add_column(name, justify="right" if name in right else "left", no_wrap=True)
    for each in found:
        row = rows((each,))[0]
        table.add_row(*(str(row[key]) for key in (
            "pool", "commitment", "computeUnits", "term", "payment", "price", "perDay", "days", "total", "firstDay", "end", "note",
        )))  # fmt: skip
    return table


def rows(found: Iterable[Estimated]) -> list[dict[str, Any]]:
    return [
        {
            "pool": each.pool,
            "commitment": each.commitment,
            "computeUnits": each.order.compute_units,
            "term": str(each.order.term),
            "payment": str(each.order.payment),
            "price": format_price(each.order.price, each.order.currency),
            "currency": each.order.currency,
            "perDay": format_minor(each.estimate.per_day_minor, each.order.currency),
            "days": each.estimate.days,
            "total": format_minor(each.estimate.total_minor, each.order.currency),
            "firstDay": each.estimate.first_day.isoformat(),
            "end": each.estimate.end.isoformat(),
            "renewalDeadline": each.estimate.renewal_deadline.isoformat(),
            "months": [
                {"month": str(one.month), "days": one.days, "amount": format_minor(one.minor, each.order.currency)}
                for one in each.estimate.months
            ],
            "invoices": [
                {"issued": one.issued.isoformat(), "amount": format_minor(one.minor, each.order.currency)}
                for one in each.estimate.dues
            ],
            "note": _note(each),
        }
        for each in found
    ]


def _note(each: Estimated) -> str:
    if each.ordered:
        return "ordered already"
    return "then renews at the list price" if each.renews else ""
