"""An invoice as a JSON object: what is kept, sent and printed (behaviour.md M6). Money is a decimal string."""

from __future__ import annotations

from typing import Any

from reserved_capacity.domain.billing.invoices import Invoice, InvoiceLine
from reserved_capacity.domain.billing.money import format_minor


def document_of(invoice: Invoice) -> dict[str, Any]:
    """The same invoice is the same object, whenever it is asked for.

    `due` = charges + prepayment + credits - drawnDown; credits are negative, and so is `due` in the customer's favour.
    """

    def money(minor: int) -> str:
        return format_minor(minor, invoice.currency)

    return {
        "number": invoice.number,
        "kind": str(invoice.kind),
        "account": invoice.account,
        "currency": invoice.currency,
        "month": str(invoice.month),
        "issuedAt": f"{invoice.issued_at:%Y-%m-%dT%H:%M:%SZ}",
        "lines": [_line(line, invoice.currency) for line in invoice.lines],
        "charges": money(invoice.charges_minor),
        "prepayment": money(invoice.prepayment_minor),
        "credits": money(invoice.credits_minor),
        "drawnDown": money(invoice.drawn_minor),
        "due": money(invoice.due_minor),
    }


def _line(line: InvoiceLine, currency: str) -> dict[str, Any]:
    return {
        "lot" if line.is_of_lot else "commitment": line.contract,
        "kind": str(line.kind),
        "firstDay": line.first_day.isoformat(),
        "lastDay": line.last_day.isoformat(),
        "days": line.days,
        **({"tokenUnits": line.token_units} if line.is_of_lot else {"computeUnits": line.compute_units}),
        "price": line.price,
        "amount": format_minor(line.amount_minor, currency),
        "drawnDown": format_minor(line.drawn_minor, currency),
        "earlier": line.earlier,
        "note": line.note,
    }
