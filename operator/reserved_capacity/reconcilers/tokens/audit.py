"""Audits what is posted of a reservation's lots, and halts the reporting of a lot whose books do not balance (I5, M4).

As for commitments (reconcilers/billing/reading.py): what no close has tried yet is not missing, and nobody is halted or reported
again before an audit.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date, datetime

from reserved_capacity.domain.billing.audit import Finding
from reserved_capacity.domain.tokens.charges import DAY, PostedLot, audit_lot, charged_days
from reserved_capacity.domain.tokens.lots import ReservationName, day_of
from reserved_capacity.domain.tokens.prices import UnitPrices
from reserved_capacity.ledger_ports import Ledger
from reserved_capacity.queue import Key
from reserved_capacity.reconcilers.billing.board import Audit, Billing, Due
from reserved_capacity.reconcilers.billing.reading import AUDITED, halt_or_resume
from reserved_capacity.reconcilers.context import TOKENS


@dataclass(frozen=True, slots=True)
class LotReading:
    """`findings` None: not audited yet. `awaits_close`: days are due that no close has tried yet. `released`: rows that were held
    are to be reported."""

    due: Due
    findings: tuple[Finding, ...] | None
    awaits_close: bool
    released: bool


async def read_lots(billing: Billing, name: ReservationName, posted: Sequence[PostedLot], now: datetime) -> LotReading:
    """`posted` are the reservation's own lots: those of its account."""
    books, today = billing.books, day_of(now)
    key, due = Key(TOKENS, name.namespace, name.name), _due(posted, today)
    through = frozenset((each.lot.id, each.posted.through) for each in posted)
    last, released = books.audit_of(key), False
    awaits_close = books.awaits_close(key, due)
    if not awaits_close:
        if last is None or due or last.posted != through:
            last = Audit(await _audit(billing.ledger, name, [each.lot.id for each in posted], today), through)
            books.keep_audit(key, last)
        released = await halt_or_resume(billing, [each.lot.id for each in posted], last.findings, now)
    return LotReading(due, last.findings if last is not None else None, awaits_close, released)


def forget(billing: Billing, name: ReservationName) -> None:
    """It is gone: nobody is to be told of it any more."""
    key = Key(TOKENS, name.namespace, name.name)
    billing.books.keep_audit(key, None)
    billing.books.awaits_close(key, frozenset())


def _due(posted: Sequence[PostedLot], today: date) -> Due:
    days = {each.lot.id: charged_days(each.lot, each.posted.through, today) for each in posted}
    return frozenset((lot, min(due), max(due)) for lot, due in days.items() if due)


async def _audit(ledger: Ledger, name: ReservationName, lots: Sequence[str], today: date) -> tuple[Finding, ...]:
    """Rows before what they are made of, as for commitments."""
    since = today - AUDITED
    rows = {
        lot: [entry.transaction async for entry in ledger.entries(contract=lot, since=since)] for lot in sorted(lots)
    }
    prices: dict[str, UnitPrices] = {}
    found: list[Finding] = []
    for lot in await ledger.lots(reservation=name):
        if lot.price_book not in prices:
            prices[lot.price_book] = UnitPrices(await ledger.unit_prices(lot.price_book))
        if lot.id in rows:
            found += audit_lot(lot, prices[lot.price_book], rows[lot.id], through=today - DAY, since=since)
    return tuple(found)
