"""Owns the figures of the scale benchmark: what was measured, as values, as lines while it runs, and as a table."""

from __future__ import annotations

import statistics
import sys
from dataclasses import asdict, dataclass, field

from tests.performance.plain_client import JsonObject
from tests.performance.scale_meter import Usage
from tests.performance.scale_world import Shape


@dataclass(slots=True)
class ColdStart:
    """Seconds from the start of the process: until all is listed, and until the first write follows from it."""

    synced_seconds: float
    decided_seconds: float
    decided_cpu_seconds: float
    decided_rss_mib: float
    done_cpu_seconds: float
    done_rss_mib: float
    peak_rss_mib: float
    writes: dict[str, int]


@dataclass(slots=True)
class OperatorRun:
    shape: Shape
    provisioned_seconds: float = 0.0
    reserved: Usage | None = None
    settled: Usage | None = None
    steady: Usage | None = None
    cold_start: ColdStart | None = None
    latencies: list[float] = field(default_factory=list)
    single_latencies: list[float] = field(default_factory=list)
    rss_idle_mib: float = 0.0
    rss_settled_mib: float = 0.0
    rss_peak_mib: float = 0.0
    reads: dict[str, int] = field(default_factory=dict)
    refused: dict[str, int] = field(default_factory=dict)
    errors: int = 0
    writes_until_reserved: dict[str, int] = field(default_factory=dict)
    writes_until_settled: dict[str, int] = field(default_factory=dict)
    steady_writes: dict[str, int] = field(default_factory=dict)
    reconciles: dict[str, int] = field(default_factory=dict)


# ------------------------------------------------------------------------------------------------------- while it runs


def say(text: str) -> None:
    sys.stdout.write(f"{text}\n")
    sys.stdout.flush()


def provisioned(run: OperatorRun) -> str:
    return f"all pools provisioned after {run.provisioned_seconds:.1f} s, {run.rss_idle_mib:.0f} MiB"


def reserved(run: OperatorRun) -> str:
    assert run.reserved is not None
    return f"all reserved after {_usage(asdict(run.reserved))}"


def settled(run: OperatorRun) -> str:
    assert run.settled is not None
    return f"all serve and are quiet after {_usage(asdict(run.settled))}, {run.rss_settled_mib:.0f} MiB"


def steady(run: OperatorRun) -> str:
    assert run.steady is not None
    return f"steady state: {_usage(asdict(run.steady))}, writes {run.steady_writes or 0}"


def cold_start(run: OperatorRun) -> str:
    assert run.cold_start is not None
    return "cold start: " + _cold_start(asdict(run.cold_start))


def _cold_start(found: JsonObject) -> str:
    return (
        "listed after {synced_seconds:.1f} s, first decision after {decided_seconds:.1f} s "
        "({decided_cpu_seconds:.1f} s of CPU, {decided_rss_mib:.0f} MiB); all looked at after {done_cpu_seconds:.1f} s "
        "of CPU; {done_rss_mib:.0f} MiB, peak {peak_rss_mib:.0f} MiB"
    ).format(**found)


def _usage(usage: JsonObject) -> str:
    return (
        "{seconds:.1f} s (CPU: operator {operator:.1f}, client {client:.1f}, control plane {control_plane:.1f}, "
        "others {others:.1f})"
    ).format(**usage)


# ---------------------------------------------------------------------------------------------------------- at the end


def figures(run: OperatorRun, floors: dict[str, Usage]) -> JsonObject:
    """Everything that was measured, as plain data."""
    assert run.reserved is not None
    assert run.settled is not None
    assert run.steady is not None
    assert run.cold_start is not None
    count = run.shape.instances
    return {
        "shape": asdict(run.shape),
        "provisioned_seconds": run.provisioned_seconds,
        "until_reserved": asdict(run.reserved),
        "until_settled": asdict(run.settled),
        "steady": asdict(run.steady),
        "cold_start": asdict(run.cold_start),
        "floors": {name: asdict(usage) for name, usage in floors.items()},
        "ratio_to": {name: run.reserved.seconds / usage.seconds for name, usage in floors.items()},
        "cpu_ratio_to": {name: run.reserved.ours / usage.ours for name, usage in floors.items()},
        "operator_cpu_ms_per_object": {
            "until_reserved": 1000 * run.reserved.operator / count,
            "until_settled": 1000 * run.settled.operator / count,
        },
        "latency_seconds": {
            "p50": run.latencies[count // 2],
            "p99": run.latencies[count * 99 // 100],
            "single_p50": statistics.median(run.single_latencies),
            "single_max": max(run.single_latencies),
        },
        "rss_mib": {"idle": run.rss_idle_mib, "settled": run.rss_settled_mib, "peak": run.rss_peak_mib},
        "writes_per_object": {
            "until_reserved": sum(run.writes_until_reserved.values()) / count,
            "until_settled": sum(run.writes_until_settled.values()) / count,
        },
        "writes_until_reserved": run.writes_until_reserved,
        "writes_until_settled": run.writes_until_settled,
        "reads": run.reads,
        "refused": run.refused,
        "errors_logged": run.errors,
        "steady_writes": run.steady_writes,
        "reconciles": run.reconciles,
    }


def table(found: JsonObject) -> str:
    shape, reserved_in = found["shape"], found["until_reserved"]
    cpu, latency = found["operator_cpu_ms_per_object"], found["latency_seconds"]
    rows: list[tuple[str, str]] = [
        ("shape", "{instances} instances, {pools} pools, {nodes} nodes".format(**shape)),
        ("start to all pools provisioned", f"{found['provisioned_seconds']:.1f} s"),
        ("apply to all CapacityReserved", _usage(reserved_in)),
        ("apply to all serving and quiet", _usage(found["until_settled"])),
        *((f"{name} floor", _usage(usage)) for name, usage in found["floors"].items()),
        *((f"ratio to the {name} floor", f"{ratio:.2f}") for name, ratio in found["ratio_to"].items()),
        *((f"ratio of CPU to the {name} floor", f"{ratio:.2f}") for name, ratio in found["cpu_ratio_to"].items()),
        ("latency of an instance, p50 / p99", f"{latency['p50']:.2f} / {latency['p99']:.2f} s"),
        ("alone, p50 / max", f"{1000 * latency['single_p50']:.0f} / {1000 * latency['single_max']:.0f} ms"),
        ("operator CPU per object, reserved / settled", "{until_reserved:.1f} / {until_settled:.1f} ms".format(**cpu)),
        ("RSS before / all serve / peak", "{idle:.0f} / {settled:.0f} / {peak:.0f} MiB".format(**found["rss_mib"])),
        ("cold start", _cold_start(found["cold_start"])),
        (
            "writes per object, reserved / settled",
            "{until_reserved:.2f} / {until_settled:.2f}".format(**found["writes_per_object"]),
        ),
        ("steady state", f"{_usage(found['steady'])}, writes {found['steady_writes'] or 0}"),
        *(
            (f"  {what}", f"{number / shape['instances']:.2f}")
            for what, number in _sorted(found["writes_until_settled"])
        ),
        *((f"  {what}", f"{number / shape['instances']:.2f}") for what, number in _sorted(found["reads"])),
        *(
            (f"  reconciles {what}", f"{number / shape['instances']:.2f}")
            for what, number in _sorted(found["reconciles"])
        ),
        ("errors in the operator's log", str(found["errors_logged"])),
        *((f"  refused {what}", str(number)) for what, number in _sorted(found["refused"])),
    ]
    return "\n".join(f"{name:<60} {value}" for name, value in rows)


def _sorted(counted: dict[str, int]) -> list[tuple[str, int]]:
    return sorted(counted.items(), key=lambda item: -item[1])
