"""Owns what the process can be told: the settings of `reserved-capacity run`, checked, as one frozen value."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

DATABASE_URL_VARIABLE = "RESERVED_CAPACITY_DATABASE_URL"
BILLING_TOKEN_VARIABLE = "RESERVED_CAPACITY_BILLING_TOKEN"  # noqa: S105 - a name
LEASE_NAME = "reserved-capacity"
DEFAULT_NAMESPACE = "reserved-capacity"  # where manifests/install puts the operator and its right to the Lease
DEFAULT_METRICS_PORT = 9090
DEFAULT_PROBE_PORT = 8081
DEFAULT_PULL_IMAGE = "registry.k8s.io/pause:3.10"  # most nodes have it: it holds every pod together
WORKERS = 16
DRAIN_SECONDS = 6.0


class SettingsError(ValueError):
    """A combination of settings that must not run; the message is for the person who gave it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """`namespace` None: the service account's, outside a cluster DEFAULT_NAMESPACE. A port of 0: any that is free; None:
    the usual one, or any if that is taken (two processes on one machine must not stop each other)."""

    kubeconfig: Path | None = None
    namespace: str | None = None
    leader_elect: bool = True
    database_url: str | None = field(default=None, repr=False)
    billing_url: str | None = field(default=None, repr=False)
    billing_token: str | None = field(default=None, repr=False)
    prometheus_url: str | None = field(default=None, repr=False)
    pull_image: str = DEFAULT_PULL_IMAGE
    metrics_port: int | None = None
    probe_port: int | None = None
    clock_offset_file: Path | None = None
    development: bool = False

    def __post_init__(self) -> None:
        if self.clock_offset_file is not None and not self.development:
            raise SettingsError("--clock-offset-file falsifies contract dates: it is refused without --development")
        for flag, port in (("--metrics-port", self.metrics_port), ("--probe-port", self.probe_port)):
            if port is not None and not 0 <= port <= 65535:
                raise SettingsError(f"{flag} {port}: a port is 0 (any) to 65535")
        if self.metrics_port and self.metrics_port == self.probe_port:
            raise SettingsError(f"--metrics-port and --probe-port are both {self.metrics_port}")

        if self.prometheus_url is not None and not self.prometheus_url.startswith(("http://", "https://")):
            raise SettingsError("--prometheus-url: not an http:// or https:// URL")


def embedded_database(environment: Mapping[str, str], cluster: str) -> str:
    """The URL of the SQLite file that is used where no database is named: in the user's state directory, one for each
    cluster, by the uid of its kube-system namespace. Books of two clusters in one file would take one's commitments for
    the other's."""
    state = environment.get("XDG_STATE_HOME") or f"{environment.get('HOME', '')}/.local/state"
    return f"sqlite:///{state}/reserved-capacity/{cluster}.db"
