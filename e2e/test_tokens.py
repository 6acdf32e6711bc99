"""Token units on a real control plane, by the development clock: bought, backed, published, kept and reduced (T1-T4)."""

from __future__ import annotations

import json
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from e2e.cluster import nodes
from e2e.cluster.lifecycle import Cluster
from e2e.operator import OperatorProcess
from e2e.test_main_job import CHECKOUT, capacity, condition, get
from e2e.waiting import until

__all__ = ["capacity"]

TOKENS = CHECKOUT / "manifests/samples/tokens"
PLUGIN = Path(sys.executable).parent / "kubectl-reserved"
BOUGHT = datetime(2026, 3, 1, 10, tzinfo=UTC)


@pytest.fixture
def offset(tmp_path: Path) -> Path:
    path = tmp_path / "offset"
    jump(path, BOUGHT)
    return path


@pytest.fixture
def sold(capacity: Cluster) -> Iterator[Cluster]:
    """The samples of token units, and what of them is left is gone afterwards: by the namespaces, as a contract ends."""
    yield capacity
    # An offering that cannot be deleted any more (see `capacity`) is there in the next test, with what it was given here.
    capacity.kubectl("annotate", "modelofferings", "--all", "reservedcapacity.io/http-route-")
    capacity.kubectl("delete", "namespace", "acme", "provider", "--ignore-not-found", "--timeout=60s")
    capacity.kubectl("delete", "-k", str(TOKENS), "--ignore-not-found", check=False)
    capacity.kubectl("delete", "configmaps", "--all", "-n", "reserved-capacity")


@pytest.fixture
def operator(sold: Cluster, tmp_path: Path, offset: Path) -> Iterator[OperatorProcess]:
    process = OperatorProcess(sold, tmp_path, ["--development", f"--clock-offset-file={offset}"])
    process.start()
    yield process
    process.end()


def jump(offset: Path, moment: datetime) -> None:
    offset.write_text(str((moment - datetime.now(UTC)).total_seconds()))


def status(cluster: Cluster) -> dict[str, Any]:
    found: dict[str, Any] = get(cluster, "tur", "gpt-41", "-n", "acme").get("status", {})
    return found


def entitled(cluster: Cluster) -> tuple[int, int]:
    rate = status(cluster).get("entitlement", {})
    return (rate.get("inputTokensPerMinute", 0), rate.get("outputTokensPerMinute", 0))


def says(cluster: Cluster, type_: str, *expected: str) -> str:
    def found() -> tuple[str, str, str]:
        return condition(cluster, "tur", "gpt-41", type_)

    seen = until(
        lambda: told if (told := found())[:2] == expected else None,
        lambda: f"{type_}={'/'.join(expected)}, but {found()} {status(cluster)}",
    )
    return str(seen[2])


def becomes_true(cluster: Cluster, type_: str) -> None:
    until(
        lambda: condition(cluster, "tur", "gpt-41", type_)[0] == "True",
        lambda: f"{type_} becomes True, but {condition(cluster, 'tur', 'gpt-41', type_)}; the fleet: {fleet(cluster)}",
    )


def fleet(cluster: Cluster) -> list[tuple[str, Any]]:
    """What the provider's instances say, for whoever has to find out why."""
    items = get(cluster, "mi", "-n", "provider")["items"]
    return [(each["metadata"]["name"], each.get("status", {}).get("summary")) for each in items]


def effective(cluster: Cluster, account: str = "acme") -> tuple[int, int]:
    limits = json.loads(get(cluster, "configmap", "limits-gpt-4.1", "-n", "reserved-capacity")["data"]["limits.json"])
    found = {each["account"]: each["effective"] for each in limits}
    rate = found.get(account, found["*"])
    return (rate["inputTokensPerMinute"], rate["outputTokensPerMinute"])


def order(cluster: Cluster, input_units: int, output_units: int) -> None:
    units = json.dumps({"spec": {"units": {"input": input_units, "output": output_units}}})
    cluster.kubectl("patch", "tur", "gpt-41", "-n", "acme", "--type=merge", "-p", units)


def running_lots(directory: Path) -> int:
    """Lots of which no end is known."""
    (books,) = (directory / "reserved-capacity").glob("*.db")
    with sqlite3.connect(f"file:{books}?mode=ro", uri=True) as connection:
        found = connection.execute(
            "select count(*) from lots where id not in (select lot from lot_cuts where units = 0)"
        )
        return int(found.fetchone()[0])


def ledger(directory: Path, account: str) -> list[dict[str, Any]]:
    (books,) = (directory / "reserved-capacity").glob("*.db")
    url = f"sqlite:///{books}"
    command = [str(PLUGIN), "ledger", "--account", account, "--database-url", url, "-o", "json"]
    answer = subprocess.run(command, capture_output=True, text=True, timeout=60, check=True)
    found: list[dict[str, Any]] = json.loads(answer.stdout)["entries"]
    return found


def planned(cluster: Cluster) -> dict[str, Any]:
    """What `kubectl reserved plan` says of the reservation, before its directory is applied. Of the fleet's pool it says that
    there are too few nodes for all of it."""
    command = [str(PLUGIN), "plan", "-f", str(TOKENS), "-o", "json", "--kubeconfig", str(cluster.kubeconfig)]
    answer = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert "somebody: ComputeUnitPool provider/fleet (PartiallyProvisioned)\n" in answer.stderr, answer.stdout
    found: dict[str, Any] = next(each for each in json.loads(answer.stdout)["reservations"] if each["name"] == "gpt-41")
    assert (found["ok"], found["reason"], found["perDay"]["after"]) == (True, "Backed", "474.00")
    assert found["fleet"]["needComputeUnits"] == 400
    return found


def test_t1_t2_t4_units_are_bought_counted_charged_kept_for_their_term_and_follow_the_fleet(
    sold: Cluster, operator: OperatorProcess, offset: Path, tmp_path: Path
) -> None:
    until(lambda: condition(sold, "cup", "prod", "Provisioned")[0] == "True", "the customer's pool comes first")
    plan = planned(sold)
    sold.kubectl("apply", "--server-side", "-k", str(TOKENS))
    for type_ in ("Accepted", "CapacityBacked", "LimitPublished", "SnapshotSupported", "Ready"):
        becomes_true(sold, type_)
    until(lambda: entitled(sold) == (90_000, 10_000), "it counts")
    assert effective(sold) == (590_000, 110_000) == (plan["inputLimit"]["after"], plan["outputLimit"]["after"])
    assert effective(sold, "somebody-else") == (500_000, 100_000)
    assert {lot["billingStart"] for lot in status(sold)["lots"]} == {"2026-03-02T00:00:00Z"}
    assert {"IN-UNITS", "90000", "10000"} <= set(sold.kubectl("get", "tur", "-n", "acme").stdout.split())

    order(sold, 63, 4)
    message = says(sold, "CapacityBacked", "False", "InsufficientCapacity")
    assert "need 1600 CU" in message
    assert "have 1000" in message
    assert (entitled(sold), effective(sold)) == ((90_000, 10_000), (590_000, 110_000))
    nodes.apply(sold.kubectl, nodes.gpu_nodes(3, "z1"))
    says(sold, "CapacityBacked", "True", "Backed")
    until(lambda: effective(sold) == (2_390_000, 110_000), "the limit follows the node")
    until(lambda: entitled(sold) == (1_890_000, 10_000), "and so does the entitlement")

    jump(offset, datetime(2026, 3, 31, 23, 0, tzinfo=UTC))
    order(sold, 60, 0)
    message = says(sold, "Accepted", "False", "MinimumTermNotReached")
    assert "2026-04-01T00:00:00Z" in message
    assert entitled(sold) == (1_890_000, 10_000)
    refused = sold.kubectl("delete", "tur", "gpt-41", "-n", "acme", check=False)
    assert refused.returncode
    assert "2026-04-01T00:00:00Z" in refused.stderr

    jump(offset, datetime(2026, 4, 1, 0, 0, 5, tzinfo=UTC))
    says(sold, "Accepted", "True", "Accepted")
    until(lambda: entitled(sold) == (1_800_000, 0), "the reduction is done")
    until(lambda: effective(sold) == (2_300_000, 100_000), "and published")

    jump(offset, datetime(2026, 4, 3, 9, 0, tzinfo=UTC))
    until(lambda: any(row["day"] == "2026-04-02" for row in ledger(tmp_path, "acme")), "the days are closed")
    output = [row for row in ledger(tmp_path, "acme") if "output" in row["note"] and row.get("lot")]
    assert (output[0]["day"], output[-1]["day"], len(output)) == ("2026-03-02", "2026-03-31", 30)
    assert {row["amount"] for row in output} == {"144.00"}
    first = {row["day"]: row["amount"] for row in ledger(tmp_path, "acme") if row.get("tokenUnits") == 3}
    assert first["2026-03-02"] == "330.00"
    the_fleet_costs_nothing(tmp_path)
    deleted_units_count_to_midnight(sold, offset, tmp_path)
    assert operator.records("error", "critical") == []


def the_fleet_costs_nothing(directory: Path) -> None:
    until(lambda: ledger(directory, "provider"), "its days are closed too")
    assert {row["amount"] for row in ledger(directory, "provider")} == {"0.00"}


def deleted_units_count_to_midnight(sold: Cluster, offset: Path, tmp_path: Path) -> None:
    sold.kubectl("delete", "tur", "gpt-41", "-n", "acme")
    until(lambda: running_lots(tmp_path) == 0, "its end is in the books")
    assert effective(sold) == (2_300_000, 100_000), "it counts to the end of the day that is charged"
    jump(offset, datetime(2026, 4, 4, 0, 0, 5, tzinfo=UTC))
    until(lambda: effective(sold) == (500_000, 100_000), "only the base is left")
    until(lambda: not get(sold, "mi", "-n", "provider")["items"], "the fleet goes with what it carried")
