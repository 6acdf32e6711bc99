"""Token units from the YAML to the 429: sold, backed by the fleet, published, and held by a real Envoy with real tokens."""

from __future__ import annotations

import json
import time
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any

from prometheus_client.parser import text_string_to_metric_families

from e2e.cluster.state import ClusterError
from e2e.demo.shell import Shell
from e2e.demo.year import Calendar
from e2e.gateway.asking import Answer, Customer, have_time, left_of_the_minute
from e2e.gateway.running import Gateway

OFFERING = "gpt-4.1"
BUYER, OTHER = ACCOUNTS = ("acme", "beta")
BASE = {"inputTokensPerMinute": 10_000, "outputTokensPerMinute": 10_000}
UNIT, UNITS = 30_000, 3
_PROMPT = "words " * 140  # 840 bytes, and the server's model has a token for each byte
_AT_ONCE = 2
_ENOUGH_SECONDS = 32


def sell(shell: Shell) -> None:
    """Until the limit is published, for a gateway that does not run yet."""
    shell.tell(
        "The catalogue, the prices, the provider's fleet, and 3 input and 4 output units of GPT-4.1: 474.00 USD a day."
    )
    shell.run("kubectl create namespace acme")
    shell.run("kubectl apply --server-side -f manifests/samples/accelerator-class.yaml")
    shell.run("kubectl apply --server-side -k manifests/samples/catalogue")
    shell.run("kubectl apply --server-side -f manifests/samples/prices.yaml")
    shell.run("kubectl reserved estimate -f manifests/samples/tokens/reservation.yaml")
    shell.tell("A small base for everybody, so that the model that runs here can reach it within a minute.")
    base = [{"op": "replace", "path": "/spec/tokenUnits/baseRateLimits", "value": [{"account": "*", **BASE}]}]
    shell.run(f"kubectl patch modeloffering/{OFFERING} --type=json -p '{json.dumps(base)}'")
    shell.run("kubectl apply --server-side -k manifests/samples/tokens")
    shell.tell(
        "The fleet starts instances for what is sold; when they serve, the units count and the limit is published."
    )
    shell.run("kubectl wait tur/gpt-41 -n acme --for=condition=Ready --timeout=60s", timeout_seconds=75)
    shell.run("kubectl get tur -n acme")
    shell.run("kubectl get cup,mi -n provider")
    shell.run("kubectl reserved status -n acme")


@dataclass(slots=True)
class _Minute:
    """What one account got of a minute, by the usage in its answers."""

    answers: list[Answer] = field(default_factory=list)

    @property
    def input_tokens(self) -> int:
        return sum(each.input_tokens for each in self.answers)

    @property
    def largest(self) -> int:
        return max((each.input_tokens for each in self.answers), default=0)

    @property
    def refusal(self) -> Answer:
        return next(each for each in self.answers if not each.served)


def enforce(shell: Shell, gateway: Gateway) -> None:
    """One minute of real requests by two accounts, then a change of the YAML in the middle of the next ones."""
    shell.tell(
        "Envoy, the rate-limit service, Valkey and a llama.cpp server run now. Two accounts ask, JSON and streams in turn."
    )
    customers = [Customer(gateway.ports["gateway"], OFFERING, each) for each in ACCOUNTS]
    have_time(_ENOUGH_SECONDS)
    with ThreadPoolExecutor() as pool:
        minutes = dict(zip(ACCOUNTS, pool.map(_ask_until_refused, customers), strict=True))
    limits = {BUYER: BASE["inputTokensPerMinute"] + UNITS * UNIT, OTHER: BASE["inputTokensPerMinute"]}
    counted = _counted(gateway)
    _follow(shell, customers[0])
    print("\n   account     limit   got in the minute   Envoy counted   requests   spilled   then")
    for account, minute in minutes.items():
        spilled = sum(each.spilled for each in minute.answers)
        print(
            f"   {account:<8} {limits[account]:>8} {minute.input_tokens:>19} {counted[account]:>15} {len(minute.answers):>10} "
            f"{spilled:>9}   429, Retry-After: {minute.refusal.headers['retry-after']} s"
        )
    print(
        "   Input tokens. A request is let in while there is room, so the last ones may go over by what they need.",
        flush=True,
    )
    for account, minute in minutes.items():
        if not limits[account] <= minute.input_tokens < limits[account] + (_AT_ONCE + 1) * minute.largest:
            raise ClusterError(f"{account} got {minute.input_tokens} tokens of a limit of {limits[account]}.")


def _ask_until_refused(customer: Customer) -> _Minute:
    minute = _Minute()
    with ThreadPoolExecutor(_AT_ONCE) as pool:
        while not minute.answers or all(each.served for each in minute.answers):
            kinds = [number % 2 == 1 for number in range(_AT_ONCE)]
            minute.answers += pool.map(lambda stream: customer.ask(_PROMPT, 1, stream=stream), kinds)
            odd = {each.status for each in minute.answers} - {200, 429}
            if odd:
                raise ClusterError(
                    f"{customer.account} was answered {sorted(odd)} after {len(minute.answers)} requests."
                )
            if left_of_the_minute() < 1:
                raise ClusterError(f"{customer.account} did not reach its limit within a minute: is the machine busy?")
    return minute


def _follow(shell: Shell, customer: Customer) -> None:
    """Right after the refusal, in the same minute."""
    shell.tell("Refused. A fourth input unit, in YAML: it is served again, in the same minute.")
    before = left_of_the_minute()
    shell.run(_order(UNITS + 1))
    began = time.monotonic()
    while not customer.ask("one more", 1).served:
        shell.check()
        time.sleep(0.1)
    took, same = time.monotonic() - began, left_of_the_minute() < before
    print(f"Served {took:.1f} s later{'' if same else ', but a new minute has begun meanwhile'}.", flush=True)


def reduce(shell: Shell, days: Calendar) -> None:
    """Fewer units: not before their 30 days are over."""
    shell.tell("Fewer units are refused before their 30 days are over, with the date, and the entitlement is kept.")
    shell.run(_order(1))
    reason = '{.status.conditions[?(@.type=="Accepted")].reason}'
    shell.run(f"kubectl wait tur/gpt-41 -n acme --for=jsonpath='{reason}'=MinimumTermNotReached --timeout=30s")
    shell.run("kubectl reserved why tur/gpt-41 -n acme")
    today = days.forward_to(31)
    shell.tell(f"It is {today} for the operator: the reduction is done by itself, and the limit follows.")
    path = "{.status.rateLimit.effective.inputTokensPerMinute}"
    wanted = BASE["inputTokensPerMinute"] + UNIT
    shell.run(f"kubectl wait tur/gpt-41 -n acme --for=jsonpath='{path}'={wanted} --timeout=90s", timeout_seconds=100)
    shell.run("kubectl get tur -n acme")


def show_followed(shell: Shell, gateway: Gateway) -> None:
    """The rate-limit service goes by the limit that the status says: its number is the limit less one (ADR 0050)."""
    shell.tell("The gateway goes by it:")
    wanted = f"{BASE['inputTokensPerMinute'] + UNIT - 1}"
    deadline = time.monotonic() + 15
    while not (lines := [each for each in sorted(gateway.config()) if f"account_{BUYER}" in each and wanted in each]):
        if time.monotonic() > deadline:
            raise ClusterError("The gateway has not followed within 15 s.")
        time.sleep(0.2)
    print("\n".join(lines), flush=True)


def _order(input_units: int) -> str:
    spec = json.dumps({"spec": {"units": {"input": input_units, "output": 4}}})
    return f"kubectl patch tur/gpt-41 -n acme --type=merge -p '{spec}'"


def _counted(gateway: Gateway) -> Mapping[str, int]:
    """Input tokens by account, since Envoy's start."""
    text = gateway.page(gateway.ports["admin"], "/stats/prometheus")
    samples: Any = (sample for family in text_string_to_metric_families(text) for sample in family.samples)
    return {
        sample.labels["account"]: int(sample.value)
        for sample in samples
        if sample.name.removesuffix("_total") == "envoy_reserved_capacity_tokens"
        and sample.labels["direction"] == "input"
    }
