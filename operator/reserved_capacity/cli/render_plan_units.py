"""What a plan says of reservations of token units, as lines. Pure."""

from __future__ import annotations

from rich.text import Text

from reserved_capacity.cli.findings import Level
from reserved_capacity.cli.layout import Column, Page, Row, flow, paragraph, table
from reserved_capacity.snapshot.forecast_values import Change, FleetForecast, Purchase, Reduction, ReservationForecast

_COLUMNS = (Column(""), Column("INPUT", right=True), Column("OUTPUT", right=True))


def planned_reservation(each: ReservationForecast, page: Page) -> list[Text]:
    mark = page.mark(Level.FINE if each.ok else Level.ACT)
    reason = each.reason if each.refused is None else f"{each.reason}, refused: {each.refused}"
    title = Text(f"TOKEN UNITS {each.namespace}/{each.name}", "bold")
    chips: list[Text | str] = [title, Text.assemble(mark, f" {reason}"), f"account {each.account}", each.snapshot]
    lines = flow(chips, page, indent=0)
    if not each.ok:
        lines += paragraph(each.message, page, indent=4, first=page.mark(Level.ACT))
    lines += table(
        _COLUMNS,
        [
            _row("units", each.input_units, each.output_units, page),
            _row("tokens per minute", each.input_tokens_per_minute, each.output_tokens_per_minute, page),
            _row("of the account, with its base", each.input_limit, each.output_limit, page),
        ],
        page,
    )
    lines += flow([_price(each, page), *([_fleet(each.fleet, page)] if each.fleet is not None else [])], page)
    for bought in each.purchases:
        lines += paragraph(_bought(bought, each.per_day.currency), page)
    for reduction in each.reductions:
        lines += paragraph(_reduced(reduction), page)
    return lines


def _row(label: str, left: Change, right: Change, page: Page) -> Row:
    return Row((Text(label), Text(_arrow(left, page)), Text(_arrow(right, page))))


def _arrow(change: Change, page: Page) -> str:
    if change.before == change.after:
        return f"{change.after:,}"
    return f"{change.before:,} {page.signs.arrow} {change.after:,}"


def _price(each: ReservationForecast, page: Page) -> str:
    price = each.per_day
    amount = price.after if price.before == price.after else f"{price.before} {page.signs.arrow} {price.after}"
    return f"{amount} {price.currency} a day"


def _fleet(fleet: FleetForecast, page: Page) -> str:
    place = f", pool {fleet.pool} has {fleet.have_compute_units}" if fleet.pool else ""
    return (
        f"fleet {fleet.instance}: {_arrow(fleet.instances, page)} instances, {fleet.need_compute_units} CU for all that "
        f"is sold{place}; {fleet.own_compute_units} CU of them for these units"
    )


def _bought(bought: Purchase, currency: str) -> str:
    units = f"buys {bought.units} {bought.direction.lower()} units at {bought.price_per_unit_day}"
    price = f"{units}: {bought.per_day} {currency} a day for {bought.minimum_days} days at least"
    if bought.first_day is None:
        return f"{price}, from the day after a fleet carries them"
    return f"{price}, charged from {bought.first_day} on; no reduction before {bought.removable_from}"


def _reduced(reduction: Reduction) -> str:
    units = f"gives up {reduction.units} {reduction.direction.lower()} units"
    if reduction.refused:
        return f"{units}: refused before {reduction.at}, the end of their minimum term; done by itself then"
    return f"{units} on {reduction.at}"
