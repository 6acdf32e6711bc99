"""What a pool's status says of money: `billing`, and of each commitment `price` and `charged` (api.md, ComputeUnitPool)."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import date, timedelta
from decimal import Decimal

from reserved_capacity.domain.billing.charges import DAY, charge_of, cost_of
from reserved_capacity.domain.billing.contracts import Contract
from reserved_capacity.domain.billing.ledger import EntryKind
from reserved_capacity.domain.billing.money import shown_price, to_decimal
from reserved_capacity.domain.billing.months import Month
from reserved_capacity.domain.billing.posted import PostedContract
from reserved_capacity.domain.billing.pricing import PriceHistory, compute_units_on, price_on, runs_on
from reserved_capacity.domain.billing.usage import idle_share


@dataclass(frozen=True, slots=True)
class Reported:
    """How far billing has heard of the account: rows that wait, and the day of the first of them."""

    sink: bool
    pending_rows: int = 0
    pending_from: date | None = None


@dataclass(frozen=True, slots=True)
class CommitmentBilling:
    """Of the term that runs, or ran last: the price of a CU and month, and what was charged. Amounts are decimals of the
    price book's currency."""

    commitment: str
    ordered: Decimal
    current: Decimal
    charged_days: int
    charged: Decimal
    last_day: date | None


@dataclass(frozen=True, slots=True)
class BillingSummary:
    """`per_day` is the charge of the current day, `month_to_date` the posted charges of the current UTC month.

    `last_reported_day`: that day's rows and all before it have reached billing; None without a billing system.
    """

    currency: str
    per_day: Decimal
    month_to_date: Decimal
    idle_share: Decimal | None
    last_reported_day: date | None
    pending_rows: int
    commitments: tuple[CommitmentBilling, ...]


def summarize(
    posted: Sequence[PostedContract], history: PriceHistory, reported: Reported, *, held_cu: int, today: date
) -> BillingSummary | None:
    """Of one pool: all terms of its commitments that may have a day in this month, with what is posted of them. None
    without any. `held_cu` are the CU that instances of the pool hold now."""
    if not posted:
        return None
    currency = posted[0].contract.currency
    running = [each.contract for each in posted if runs_on(each.contract, today)]
    return BillingSummary(
        currency=currency,
        per_day=to_decimal(sum(charge_of(contract, history, today) for contract in running), currency),
        month_to_date=to_decimal(sum(_month_to_date(each, history, Month.of(today)) for each in posted), currency),
        idle_share=idle_share(held_cu, sum(compute_units_on(contract, today) for contract in running)),
        last_reported_day=_last_reported(posted, reported),
        pending_rows=reported.pending_rows,
        commitments=tuple(_commitment(each, history, today) for each in _present(posted, today)),
    )


def _present(posted: Iterable[PostedContract], today: date) -> Iterable[PostedContract]:
    """Of each commitment the term that has begun last, else the first; in the order of acceptance."""
    chosen: dict[str, PostedContract] = {}
    for each in sorted(
        posted, key=lambda each: (each.contract.number, each.contract.accepted_at, each.contract.commitment)
    ):
        start = each.contract.billing_start
        if each.contract.commitment not in chosen or (start is not None and start <= today):
            chosen[each.contract.commitment] = each
    return chosen.values()


def _month_to_date(each: PostedContract, history: PriceHistory, month: Month) -> int:
    """A posted day is what the contract gives, so nothing has to be read for it but how far it is posted."""
    last = each.posted.last_charged
    return cost_of(each.contract, history, month.start, min(month.end, last + DAY)) if last is not None else 0


def _commitment(each: PostedContract, history: PriceHistory, today: date) -> CommitmentBilling:
    contract, posted = each.contract, each.posted
    return CommitmentBilling(
        commitment=contract.commitment,
        ordered=shown_price(contract.ordered_price, contract.currency),
        current=shown_price(price_on(contract, history, _last_day_by(contract, today)), contract.currency),
        charged_days=posted.rows.get(EntryKind.CHARGE, 0),
        charged=to_decimal(posted.amounts_minor.get(EntryKind.CHARGE, 0), contract.currency),
        last_day=posted.last_charged,
    )


def _last_day_by(contract: Contract, today: date) -> date:
    return min(today, contract.end - timedelta(days=1)) if contract.end is not None else today


def _last_reported(posted: Sequence[PostedContract], reported: Reported) -> date | None:
    last = max((each.posted.last_charged for each in posted if each.posted.last_charged is not None), default=None)
    if last is None or not reported.sink:
        return None
    if not reported.pending_rows or reported.pending_from is None:
        return last
    through = min(last, reported.pending_from - DAY)
    starts = [each.contract.billing_start for each in posted if each.contract.billing_start is not None]
    return through if starts and min(starts) <= through else None
