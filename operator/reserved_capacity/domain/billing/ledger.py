"""What stands in the books: balanced transactions under keys that follow from what they are (behaviour.md M4, I5).

A key names contract, UTC day and kind, so whoever posts a day twice, or twice at once, posts it once. Rows are never changed;
a correction is another row.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date
from enum import StrEnum
from typing import Final

LOT_PREFIX: Final = "lot:"
"""What the id of a lot of token units begins with. An order reference has no colon, so none is taken for a lot."""


class EntryKind(StrEnum):
    CHARGE = "Charge"
    """A day of a contract (M2)."""
    SHORTFALL = "Shortfall"
    """Credit for a charged day with fewer CU provisioned than contracted (C4)."""
    PREPAYMENT = "Prepayment"
    """The whole term of an AnnualPrepaid contract, at its start; the daily charges draw it down (M6)."""
    PRICE_CREDIT = "PriceCredit"
    """What a lower price, or an agreed reduction, saves on the rest of a prepaid term (M3)."""
    CORRECTION = "Correction"
    """What a person found to be wrong."""


class Book(StrEnum):
    """The accounts of the double entry. Every account is kept for each customer."""

    RECEIVABLE = "receivable"
    """What the customer owes."""
    PREPAID = "prepaid"
    """What the customer has been invoiced for and has not used yet."""
    REVENUE = "revenue"
    """What was earned."""
    CREDITS = "credits"
    """What was given back."""


@dataclass(frozen=True, slots=True)
class Posting:
    """One side of a transaction: a positive amount is a debit, a negative one a credit."""

    book: Book
    minor: int


@dataclass(frozen=True, slots=True)
class Transaction:
    """A row of the ledger. `contract` is the commitment's id (or a token lot's); postings sum to 0.

    `amount_minor` is what the row is about, as a customer reads it: positive for charges, negative for credits. `note` is
    a sentence for people; `price` the price of a CU and month (of a unit and day) that the amount was computed from.
    `compute_units` are those of a commitment, `token_units` those of a lot.
    """

    contract: str
    account: str
    day: date
    kind: EntryKind
    currency: str
    amount_minor: int
    postings: tuple[Posting, ...]
    compute_units: int = 0
    price: str = ""
    note: str = ""
    token_units: int = 0

    @property
    def is_of_lot(self) -> bool:
        return self.contract.startswith(LOT_PREFIX)

    @property
    def key(self) -> str:
        """The idempotency key, and the id under which billing hears of the row (M4, M7)."""
        return f"{self.contract}/{self.day.isoformat()}/{self.kind}"

    @property
    def balanced(self) -> bool:
        return sum(posting.minor for posting in self.postings) == 0
