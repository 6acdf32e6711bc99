"""Money on a terminal, as CSV, and as a page to print."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Mapping, Sequence
from datetime import date, timedelta
from html import escape
from typing import Any

from rich import box
from rich.table import Table

from reserved_capacity.domain.billing.audit import Finding
from reserved_capacity.domain.billing.focus import COLUMNS, Row
from reserved_capacity.domain.billing.invoices import InvoiceKind
from reserved_capacity.domain.billing.ledger import EntryKind, Transaction
from reserved_capacity.domain.billing.money import format_minor
from reserved_capacity.domain.billing.months import Month
from reserved_capacity.ledger_ports import Document, Entry

_FORMULA = ("=", "+", "-", "@", "\t", "\r")
_NUMBERS = frozenset({"BilledCost", "EffectiveCost", "ListCost", "ContractedCost", "PricingCurrencyEffectiveCost"})


def invoice_table(document: Document) -> Table:
    currency = document["currency"]
    table = Table(box=box.SIMPLE_HEAD, title=f"{document['kind']} invoice {document['number']}", title_justify="left")
    for name, justify in (("CONTRACT", "left"), ("KIND", "left"), ("FROM", "left"), ("THROUGH", "left")):
        table.add_column(name, justify=justify, no_wrap=True)  # type: ignore[arg-type]
    for name in ("DAYS", "UNITS", "PRICE", f"AMOUNT {currency}"):
        table.add_column(name, justify="right", no_wrap=True)
    for line in document["lines"]:
        table.add_row(*_cells(line))
    table.add_section()
    for label, amount in totals(document):
        table.add_row("", label, "", "", "", "", "", amount)
    return table


def totals(document: Document) -> list[tuple[str, str]]:
    rows = [
        ("Charges", document["charges"]),
        ("Prepayment", document["prepayment"]),
        ("Credits", document["credits"]),
        ("Drawn from prepayment", f"-{document['drawnDown']}"),
    ]
    used = [(label, amount) for label, amount in rows if amount.strip("-0.")]
    return [*used, ("Due", document["due"])]


def _cells(line: Mapping[str, Any]) -> tuple[str, ...]:
    return (
        contract_of(line),
        f"{line['kind']} (earlier month)" if line.get("earlier") else str(line["kind"]),
        str(line["firstDay"]),
        str(line["lastDay"]),
        str(line["days"]),
        units_of(line),
        str(line["price"]),
        str(line["amount"]),
    )


def contract_of(line: Mapping[str, Any]) -> str:
    return str(line["lot"] if "lot" in line else line["commitment"])


def units_of(line: Mapping[str, Any]) -> str:
    """Compute units, or token units, which are told apart by their contract and their price."""
    return str(line["tokenUnits"] if "lot" in line else line["computeUnits"])


def ledger_table(entries: Sequence[Entry], findings: Sequence[Finding]) -> Table:
    """Rows by day, the sum of them, and what an audit finds."""
    table = Table(box=box.SIMPLE_HEAD)
    for name in ("NO", "DAY", "CONTRACT", "KIND", "UNITS", "PRICE", "AMOUNT", "CURRENCY", "NOTE"):
        table.add_column(name, justify="right" if name in ("NO", "UNITS", "PRICE", "AMOUNT") else "left", no_wrap=True)
    for entry in entries:
        row = entry.transaction
        amount = format_minor(row.amount_minor, row.currency)
        units = str(row.compute_units or row.token_units or "")
        table.add_row(
            str(entry.number),
            str(row.day),
            row.contract,
            str(row.kind),
            units,
            row.price,
            amount,
            row.currency,
            row.note,
        )
    table.add_section()
    for currency in sorted({each.transaction.currency for each in entries}):
        total = sum(each.transaction.amount_minor for each in entries if each.transaction.currency == currency)
        table.add_row("", "", "", "Sum", "", "", format_minor(total, currency), currency, "")
    table.caption = "; ".join(f"{each.key}: {each.message}" for each in findings) or "The books balance."
    return table


def ledger_document(entries: Sequence[Entry], findings: Sequence[Finding]) -> dict[str, Any]:
    return {
        "entries": [
            {
                "number": each.number,
                "key": each.transaction.key,
                "account": each.transaction.account,
                "lot" if each.transaction.is_of_lot else "commitment": each.transaction.contract,
                "day": each.transaction.day.isoformat(),
                "kind": str(each.transaction.kind),
                "amount": format_minor(each.transaction.amount_minor, each.transaction.currency),
                "currency": each.transaction.currency,
                **_units(each.transaction),
                "price": each.transaction.price,
                "postings": {
                    str(posting.book): format_minor(posting.minor, each.transaction.currency)
                    for posting in each.transaction.postings
                },
                "note": each.transaction.note,
            }
            for each in entries
        ],
        "findings": [{"key": each.key, "flaw": str(each.flaw), "message": each.message} for each in findings],
    }


def _units(row: Transaction) -> dict[str, int]:
    return {"tokenUnits": row.token_units} if row.is_of_lot else {"computeUnits": row.compute_units}


def focus_csv(rows: Iterable[Row]) -> str:
    """FOCUS 1.2. A text that a spreadsheet would take for a formula is put in an apostrophe's care; numbers stay numbers."""
    text = io.StringIO()
    writer = csv.DictWriter(text, COLUMNS, lineterminator="\n")
    writer.writeheader()
    for row in rows:
        writer.writerow({name: _safe(name, value) for name, value in row.items()})
    return text.getvalue()


def plain_csv(rows: Sequence[Mapping[str, Any]]) -> str:
    text = io.StringIO()
    names = list(dict.fromkeys(name for row in rows for name in row))
    writer = csv.DictWriter(text, names, lineterminator="\n")
    writer.writeheader()
    for row in rows:
        writer.writerow({name: _safe(name, str(value)) if name != "amount" else value for name, value in row.items()})
    return text.getvalue()


def _safe(name: str, value: str | None) -> str:
    if value is None:
        return ""
    return f"'{value}" if value.startswith(_FORMULA) and name not in _NUMBERS else value


_STYLE = """
  body { font: 11pt/1.45 "Liberation Sans", Arial, sans-serif; color: #1a1a1a; max-width: 52rem; margin: 2.5rem auto; padding: 0 1.5rem; }
  h1 { font-size: 20pt; font-weight: 600; margin: 0 0 .2rem; }
  .sub { color: #555; margin: 0 0 2rem; }
  dl { display: grid; grid-template-columns: 9rem auto; gap: .2rem 1rem; margin: 0 0 2rem; }
  dt { color: #555; } dd { margin: 0; }
  table { border-collapse: collapse; width: 100%; font-size: 10pt; }
  th { text-align: left; font-weight: 600; border-bottom: 2px solid #1a1a1a; padding: .35rem .5rem; }
  td { border-bottom: 1px solid #ddd; padding: .35rem .5rem; vertical-align: top; }
  .n { text-align: right; font-variant-numeric: tabular-nums; white-space: nowrap; }
  td.d { white-space: nowrap; } tr { break-inside: avoid; }
  .note { color: #555; font-size: 9pt; }
  section + section { margin-top: 4rem; break-before: page; }
  tfoot { display: table-row-group; /* or it would stand on every printed sheet */ } tfoot td { border: 0; } tfoot tr.due td { border-top: 2px solid #1a1a1a; font-weight: 600; font-size: 12pt; }
  footer { margin-top: 2.5rem; color: #555; font-size: 9pt; }
  @page { size: A4; margin: 18mm; } @media print { body { margin: 0; padding: 0; max-width: none; } section + section { margin-top: 0; } }
"""


def invoice_page(documents: Sequence[Document]) -> str:
    """A page to print: one sheet an invoice, no script, nothing from elsewhere."""
    sheets = "\n".join(_sheet(document) for document in documents)
    title = escape(", ".join(str(document["number"]) for document in documents))
    return (
        f'<!doctype html>\n<html lang="en"><head><meta charset="utf-8"><title>Invoice {title}</title>'
        f"<style>{_STYLE}</style></head><body>\n{sheets}\n</body></html>\n"
    )


def _sheet(document: Document) -> str:
    facts = [
        ("Number", document["number"]),
        ("Account", document["account"]),
        ("Period", _period(document)),
        ("Issued", f"{str(document['issuedAt'])[:10]} (UTC)"),
        ("Currency", document["currency"]),
    ]
    lines = "\n".join(_line(line) for line in document["lines"])
    *parts, (_, due) = totals(document)
    favour = ", in your favour" if due.startswith("-") else ""
    sums = "\n".join(_sum(label, amount, "sum") for label, amount in parts)
    sums += "\n" + _sum(f"Due{favour}", due, "due")
    return (
        f'<section><h1>Invoice</h1><p class="sub">Reserved capacity, {escape(str(document["kind"]).lower())}</p>'
        f"<dl>{''.join(f'<dt>{escape(name)}</dt><dd>{escape(str(value))}</dd>' for name, value in facts)}</dl>"
        '<table><thead><tr><th>Contract</th><th>Period</th><th class="n">Days</th><th class="n">Units</th>'
        f'<th class="n">Price</th><th class="n">Amount {escape(str(document["currency"]))}</th></tr></thead><tbody>\n{lines}\n</tbody><tfoot>\n{sums}\n</tfoot></table>'
        "<footer>A day is charged from 00:00 to 24:00 UTC; the days of a term add up to its price exactly. Amounts without tax.</footer>"
        "</section>"
    )


def _period(document: Document) -> str:
    """The whole month, or of a prepayment the day on which its term begins."""
    if document["kind"] == InvoiceKind.PREPAYMENT:
        return f"term from {document['lines'][0]['firstDay']} (UTC)"
    month = Month.of(date.fromisoformat(f"{document['month']}-01"))
    return f"{month.start} to {month.end - timedelta(days=1)} (UTC)"


def _sum(label: str, amount: str, kind: str) -> str:
    return (
        f'<tr class="{kind}"><td colspan="5" class="n">{escape(label)}</td>'
        f'<td class="n">{escape(_grouped(amount))}</td></tr>'
    )


def _line(line: Mapping[str, Any]) -> str:
    note = str(line.get("note") or "")
    what = f"{escape(contract_of(line))}<br><span class='note'>{escape(_words(str(line['kind'])))}"
    what += f", {escape(note)}" if note else ""
    what += ", drawn from the prepayment" if str(line.get("drawnDown") or "").strip("-0.") else ""
    what += ", of an earlier month" if line.get("earlier") else ""
    price = str(line["price"])
    per = "per unit and day" if "lot" in line else "per CU and month"
    priced = f"{escape(_grouped(price))}<br><span class='note'>{per}</span>" if price else ""
    counted = units_of(line) if price else ""  # a correction is of no units
    days = line["days"] if line["kind"] in (EntryKind.CHARGE, EntryKind.SHORTFALL) else ""  # others are of a moment
    period = (
        f"{line['firstDay']} to {line['lastDay']}" if line["firstDay"] != line["lastDay"] else str(line["firstDay"])
    )
    return (
        f"<tr><td>{what}</span></td><td class='d'>{escape(period)}</td><td class='n'>{days}</td>"
        f"<td class='n'>{counted}</td><td class='n'>{priced}</td>"
        f"<td class='n'>{escape(_grouped(str(line['amount'])))}</td></tr>"
    )


def _words(kind: str) -> str:
    """`PriceCredit` as `Price credit`."""
    return "".join(f" {each.lower()}" if number and each.isupper() else each for number, each in enumerate(kind))


def _grouped(amount: str) -> str:
    """`130191.78` as `130,191.78`."""
    whole, point, fraction = amount.partition(".")
    sign, digits = ("-", whole[1:]) if whole.startswith("-") else ("", whole)
    return f"{sign}{int(digits):,}{point}{fraction}" if digits.isdigit() else amount
