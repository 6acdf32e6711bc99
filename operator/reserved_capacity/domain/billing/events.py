"""What billing is told of what stands in the books, as JSON objects (api.md, Keys: CloudEvents)."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import date
from typing import Any

from reserved_capacity.domain.billing.ledger import Transaction
from reserved_capacity.domain.billing.money import format_minor


def transaction_data(row: Transaction, number: int) -> dict[str, Any]:
    """`number` is the row's place in the account's sequence. The same row is the same object, whenever it is asked for.

    `amount` is signed: what is given back is negative. A `Prepayment` is paid for by the Charges of its term, whose
    postings draw the book `prepaid` down: whoever adds up what is owed adds up the postings to `receivable`.
    """
    return {
        "account": row.account,
        "lot" if row.is_of_lot else "commitment": row.contract,
        "day": row.day.isoformat(),
        "kind": str(row.kind),
        "amount": format_minor(row.amount_minor, row.currency),
        "currency": row.currency,
        "number": number,
        **({"tokenUnits": row.token_units} if row.is_of_lot else {"computeUnits": row.compute_units}),
        "price": row.price,
        "note": row.note,
        "postings": [
            {"book": str(posting.book), "amount": format_minor(posting.minor, row.currency)} for posting in row.postings
        ],
    }


def invoice_id(number: str) -> str:
    """The id under which billing hears of an invoice."""
    return f"invoice/{number}"


def invoice_data(number: str, account: str, currency: str, month: date, document: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "account": account,
        "invoice": number,
        "currency": currency,
        "month": f"{month:%Y-%m}",
        "document": dict(document),
    }
