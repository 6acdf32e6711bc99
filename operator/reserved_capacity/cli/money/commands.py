"""What the commands of money do: open, read, show."""

from __future__ import annotations

import json
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml
from rich.table import Table

from reserved_capacity.cli.commands import Place
from reserved_capacity.cli.connection import connected, default_namespace
from reserved_capacity.cli.errors import CliError
from reserved_capacity.cli.kubeconfig import choose
from reserved_capacity.cli.money.estimating import estimate_table, estimates, rows, wants
from reserved_capacity.cli.money.estimating_units import unit_estimates, unit_rows, unit_table
from reserved_capacity.cli.money.reading import day_of, focus_of, invoices_of, opened, statement
from reserved_capacity.cli.money.rendering import (
    focus_csv,
    invoice_page,
    invoice_table,
    ledger_document,
    ledger_table,
    plain_csv,
)
from reserved_capacity.cli.output import terminal
from reserved_capacity.cli.plan import load
from reserved_capacity.cli.progress import shown
from reserved_capacity.cli.world import Progress, read
from reserved_capacity.domain.billing.months import Month

WIDEST = 160


@dataclass(frozen=True, slots=True)
class Period:
    """Days as they were given, `until` exclusive; empty: open."""

    since: str = ""
    until: str = ""


async def invoice(url: str, account: str, month: str, format_: str) -> None:
    """`kubectl reserved invoice`. Raises CliError."""
    try:
        asked = Month.parse(month)
    except ValueError as error:
        raise CliError(f"--month: {error}") from error
    async with opened(url) as ledger:
        if format_ == "csv":
            text = focus_csv(await focus_of(ledger, account, asked))
            print(text, end="")
            return
        documents = [each.document for each in await invoices_of(ledger, account, asked)]
    if format_ == "html":
        print(invoice_page(documents))
    elif format_ == "table":
        for document in documents:
            _show(invoice_table(document))
    else:
        _write([dict(each) for each in documents], format_)


async def ledger(url: str, account: str, period: Period, format_: str) -> None:
    """`kubectl reserved ledger`. Raises CliError, also once all is shown, where the books do not balance."""
    async with opened(url) as books:
        found = await statement(books, account, day_of(period.since, "--since"), day_of(period.until, "--until"))
    if format_ == "table":
        _show(ledger_table(found.entries, found.findings))
    elif format_ == "csv":
        entries = ledger_document(found.entries, ())["entries"]
        print(plain_csv([{**each, "postings": json.dumps(each["postings"])} for each in entries]), end="")
    else:
        _write(ledger_document(found.entries, found.findings), format_)
    if found.findings:
        raise CliError(f"the books of {account} do not balance: {len(found.findings)} findings")


async def estimate(place: Place, path: Path, first_day: str, format_: str) -> None:
    """`kubectl reserved estimate`. Raises CliError."""
    choice = choose(place.kubeconfig, place.context or None, os.environ)
    given = load(path, place.namespace or default_namespace(choice))
    async with connected(choice) as reader:
        progress = Progress(reader.server)
        world = await shown(read(reader, wants(), progress), progress)
    first = day_of(first_day, "--first-day")
    found, units = estimates(world, given, first), unit_estimates(world, given, first)
    if format_ == "table":
        for table in (estimate_table(found) if found else None, unit_table(units) if units else None):
            if table is not None:
                _show(table)
        return
    documents = [*rows(found), *unit_rows(units)]
    if format_ == "csv":
        flat = [{k: v for k, v in row.items() if k not in ("months", "invoices")} for row in documents]
        print(plain_csv(flat), end="")
    else:
        _write(documents, format_)


def _show(table: Table) -> None:
    """Amounts are never cut: a narrow terminal wraps the lines."""
    console = terminal()
    console.width = max(console.width, WIDEST)
    console.print(table, soft_wrap=True, crop=False)


def _write(document: Any, format_: str) -> None:
    if format_ == "json":
        print(json.dumps(document, indent=2))
    else:
        print(yaml.safe_dump(document, sort_keys=False, allow_unicode=True), end="")
