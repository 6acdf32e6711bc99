"""A whole contract in a minute: bought, used, made cheaper, given to another model, ended, and proved to the cent."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any

from sqlalchemy import create_engine, text

from e2e.cluster.state import ClusterError
from e2e.demo.shell import Shell

TERM_DAYS = 365
CU, OLD_PRICE, NEW_PRICE = 600, 220_00, 200_00  # prices in cents
SEEN_AFTER = 90  # charged days when the price is cut
OLD_DAYS = SEEN_AFTER + 1  # the day on which the operator sees it is still charged at the old price (M3)
ACCOUNT = "acme"


class Sink:
    """A billing system: takes CloudEvents over HTTP on a free port of loopback, and keeps their ids in order."""

    def __init__(self) -> None:
        self.ids: list[str] = []
        received = self.ids

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                received.extend(event["id"] for event in (body if isinstance(body, list) else [body]))
                self.send_response(204)
                self.end_headers()

            def log_message(self, *_: Any) -> None:
                """The story is told elsewhere."""

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._thread = Thread(target=self._server.serve_forever, daemon=True)
        self._thread.start()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._server.server_port}/"

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()


@dataclass(frozen=True, slots=True)
class Calendar:
    """The operator's clock: this machine's, and the days in `offset` on top."""

    offset: Path
    start: date

    def forward_to(self, days: int) -> date:
        self.offset.write_text(f"{days * 86_400}\n")
        return self.start + timedelta(days=days)


def calendar(offset: Path) -> Calendar:
    found = Calendar(offset, datetime.now(UTC).date())
    found.forward_to(0)
    return found


def play(shell: Shell, days: Calendar, sink: Sink, database: str) -> None:
    shell.tell("What would a year of 600 CU cost? Nothing is applied yet but the price list.")
    shell.run("kubectl apply --server-side -f manifests/samples/prices.yaml")
    shell.run("kubectl reserved estimate -f manifests/samples/customer")
    shell.tell("It is bought and used today. Charging starts at the next midnight, UTC.")
    shell.run("kubectl apply --server-side -k manifests/samples")
    shell.run("kubectl wait mi/chat -n acme --for=condition=Ready --timeout=60s", timeout_seconds=75)
    _wait_for_days(shell, days, SEEN_AFTER, "90 days later")
    day = days.start + timedelta(days=SEEN_AFTER + 2)
    shell.tell(f"The list price falls to 200.00 from {day} on. The rest of the term is charged at the lower price.")
    entry = {"term": "OneYear", "effectiveFrom": str(day), "pricePerComputeUnitMonth": "200.00"}
    patch = json.dumps([{"op": "add", "path": "/spec/computeUnits/-", "value": entry}])
    shell.run(f"kubectl patch pricebook/usd --type=json -p '{patch}'")
    _seen(shell, database, day)
    _wait_for_days(shell, days, 180, "Another 90 days later")
    shell.run("kubectl get cup/prod -n acme -o jsonpath='{.status.commitments[0].price}'")
    _swap(shell)
    _wait_for_days(shell, days, TERM_DAYS, "The term ends, nobody renewed it, and its instances stop:")
    shell.run("kubectl wait cup/prod -n acme --for=jsonpath='{.status.phase}'=Expired --timeout=60s")
    shell.run("kubectl get cup,mi -n acme")
    last = days.forward_to(TERM_DAYS + 40)
    shell.tell(f"It is {last}: every month is invoiced, in arrears.")
    invoices = _invoices(shell, database, days.start + timedelta(days=1))
    shell.run(f"kubectl reserved invoice --account {ACCOUNT} --month {min(invoices)} --database-url {database}")
    _prove(invoices, sink, days.start + timedelta(days=1))


def _wait_for_days(shell: Shell, days: Calendar, charged: int, what: str) -> None:
    today = days.forward_to(charged + 1)
    shell.tell(f"{what} it is {today} for the operator.")
    path = "{.status.commitments[0].charged.days}"
    shell.run(f"kubectl wait cup/prod -n acme --for=jsonpath='{path}'={charged} --timeout=90s", timeout_seconds=100)
    shell.run("kubectl get cup/prod -n acme -o jsonpath='{.status.billing}'")


def _seen(shell: Shell, database: str, day: date) -> None:
    """The books have to know of the price before the midnight from which it holds."""
    known = text("SELECT count(*) FROM price_sightings WHERE effective_from = :day")

    def is_on_record() -> bool:
        engine = create_engine(database)
        try:
            with engine.connect() as connection:
                return bool(connection.execute(known, {"day": str(day)}).scalar())
        finally:
            engine.dispose()

    _until(shell, is_on_record)


def _swap(shell: Shell) -> None:
    shell.tell("Two GPT-4 Turbo become six GPT-3.5 Turbo, as one change set. The bill does not change by that.")
    shell.run("kubectl apply --server-side -f manifests/samples/customer/fast.yaml")
    for name, count in (("chat", 0), ("fast", 6)):
        spec = json.dumps({"spec": {"instances": count, "changeSet": {"id": "swap", "members": 2}}})
        shell.run(f"kubectl patch mi/{name} -n acme --type=merge -p '{spec}'")
    path = "{.status.changeSets[0].phase}"
    shell.run(f"kubectl wait cup/prod -n acme --for=jsonpath='{path}'=Done --timeout=90s", timeout_seconds=100)
    shell.run("kubectl get mi -n acme")


def _invoices(shell: Shell, database: str, first: date) -> Mapping[str, str]:
    """What is due, by month, once every month of the term is invoiced."""
    end = first + timedelta(days=TERM_DAYS - 1)
    months = []
    month = date(first.year, first.month, 1)
    while month <= end:
        months.append(f"{month:%Y-%m}")
        month = date(month.year + month.month // 12, month.month % 12 + 1, 1)
    command = f"kubectl reserved invoice --account {ACCOUNT} --database-url {database} -o json --month "
    _until(shell, lambda: bool(shell.ask(command + months[-1], may_fail=True)))
    return {month: json.loads(shell.ask(command + month))[0]["due"] for month in months}


def _prove(invoices: Mapping[str, str], sink: Sink, first: date) -> None:
    """By arithmetic of its own: two rates, each the difference of two floors (M2)."""
    old, new = CU * 12 * OLD_PRICE, CU * 12 * NEW_PRICE
    expected = old * OLD_DAYS // TERM_DAYS + new - new * OLD_DAYS // TERM_DAYS
    cents = sum(int(amount.replace(".", "")) for amount in invoices.values())
    for month, amount in invoices.items():
        print(f"   {month}   {amount:>12} USD")
    print(f"   sum       {cents / 100:>12.2f} USD")
    print(
        f"   {OLD_DAYS} days of {TERM_DAYS} at 220.00 and the rest at 200.00 are {expected / 100:.2f} USD by arithmetic "
        "of its own."
    )
    charges = [each for each in sink.ids if each.endswith("/Charge")]
    wanted = [f"po-10023-1/{first + timedelta(days=number)}/Charge" for number in range(TERM_DAYS)]
    print(f"   Billing heard of {len(charges)} days: {len(charges) - len(set(charges))} twice, none out of order.")
    if cents != expected or charges != wanted:
        raise ClusterError("The sums differ, or billing has not heard of every day once and in order.")


def _status(shell: Shell, target: str) -> Mapping[str, Any]:
    found: Mapping[str, Any] = json.loads(shell.ask(f"kubectl get {target} -o json")).get("status", {})
    return found


def _until(shell: Shell, holds: Callable[[], bool], seconds: float = 60) -> None:
    deadline = time.monotonic() + seconds
    while not holds():
        shell.check()
        if time.monotonic() > deadline:
            raise ClusterError(f"It did not happen within {seconds:.0f} s.")
        time.sleep(0.5)
