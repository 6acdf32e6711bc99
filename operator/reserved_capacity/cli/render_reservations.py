"""Token unit reservations as lines: units and limits, what is used, and the lots with their dates. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from decimal import Decimal, InvalidOperation

from rich.text import Text

from reserved_capacity.cli.layout import Column, Page, Row, ago, flow, moment, table
from reserved_capacity.cli.render_findings import finding_lines, ready_cell
from reserved_capacity.cli.reservations import (
    LotView,
    ReservationView,
    UsageView,
    fleet_words,
    limits_of,
    published_words,
)
from reserved_capacity.domain.tokens.entitlement import TokenRate

_LIMIT_COLUMNS = (Column("TOKENS PER MINUTE"), Column("INPUT", right=True), Column("OUTPUT", right=True))
_LOTS_SHOWN = 12


def reservation_lines(reservation: ReservationView, page: Page, *, name: str = "", brief: bool = False) -> list[Text]:
    """`name`: what to call it, where its own name is not enough. `brief`: without the lots."""
    chips: list[Text | str] = [
        Text(f"TOKEN UNITS {name or reservation.name}", "bold"),
        ready_cell(reservation.verdict, page),
        f"account {reservation.account}",
        reservation.snapshot,
        f"{reservation.input_units} input, {reservation.output_units} output units",
        *_terms(reservation),
    ]
    lines = [*flow(chips, page, indent=0), *finding_lines(reservation.verdict, page, indent=2)]
    lines += table(_LIMIT_COLUMNS, _limits(reservation), page)
    lines += flow(_rest(reservation), page)
    if reservation.lots and not brief:
        lines += [Text(), *lots_table(reservation.lots, page)]
        more = reservation.lots_total - min(len(reservation.lots), _LOTS_SHOWN)
        lines += flow([Text(f"and {more} more lots" if more > 0 else "", "dim")], page)
    return lines


def lots_table(lots: Sequence[LotView], page: Page) -> list[Text]:
    """In the order in which they were bought; with their ids and the day where there is room."""
    names = ("LOT", "UNITS", "TPM", "A UNIT-DAY", "BOUGHT", "BILLED FROM", "REMOVABLE FROM", "ENDS")
    shown = [name for name in names if page.wide or name != "BOUGHT"]
    columns = [Column(name, right=name in ("UNITS", "TPM", "A UNIT-DAY")) for name in shown]
    return table(columns, [_lot(each, page) for each in lots[:_LOTS_SHOWN]], page)


def _lot(lot: LotView, page: Page) -> Row:
    removable = moment(lot.removable_from) if lot.removable_from else "now" if lot.removable else ""
    left = f" ({ago(page, lot.removable_from)})" if page.wide and lot.removable_from and not lot.removable else ""
    bought = Text(f"{lot.purchased_at:%Y-%m-%d}" if lot.purchased_at else "")
    return Row(
        (
            Text(f"{lot.direction.lower()} {lot.id}" if page.wide else lot.direction.lower()),
            Text(str(lot.units)),
            Text(_number(lot.tokens_per_minute)),
            Text(lot.price_per_unit_day),
            *((bought,) if page.wide else ()),
            Text(moment(lot.billing_start) if lot.billing_start else "not yet", "" if lot.billing_start else "yellow"),
            Text(removable + left),
            Text(moment(lot.ends_at), "yellow"),
        )
    )


def _terms(reservation: ReservationView) -> list[str]:
    """What differs from the ordinary."""
    return [
        *([f"overflow {reservation.overflow}"] if reservation.overflow != "Spill" else []),
        *([f"enforcement {reservation.enforcement}"] if reservation.enforcement != "Enforce" else []),
    ]


def _limits(reservation: ReservationView) -> list[Row]:
    rows = [_limit(label, rate) for label, rate in limits_of(reservation)]
    usage = reservation.usage
    if usage is not None:
        label = f"used of these units, last {usage.window}" if usage.window else "used of these units"
        shares = (_percent(usage.input_utilization), _percent(usage.output_utilization))
        rows.append(Row((Text(label), *map(Text, shares))))
    return rows


def _limit(label: str, rate: TokenRate) -> Row:
    return Row((Text(label), Text(_number(rate.input_tpm)), Text(_number(rate.output_tpm))))


def _rest(reservation: ReservationView) -> list[str]:
    return [fleet_words(reservation), published_words(reservation), *_used(reservation.usage)]


def _used(usage: UsageView | None) -> list[str]:
    if usage is None:
        return ["use not measured"]
    return [
        f"busiest minute {usage.peak_minute:%Y-%m-%d %H:%M}Z" if usage.peak_minute else "",
        f"{usage.spilled_requests} requests spilled to the base",
        f"{usage.rejected_requests} answered with 429",
    ]


def _number(number: int) -> str:
    return f"{number:,}"


def _percent(share: str) -> str:
    try:
        return f"{Decimal(share) * 100:.0f} %" if share else ""
    except InvalidOperation:
        return share
