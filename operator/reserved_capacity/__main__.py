"""Owns the command line of our processes: `reserved-capacity run` and `reserved-capacity follow-limits`."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence
from pathlib import Path

from reserved_capacity.settings import (
    BILLING_TOKEN_VARIABLE,
    DATABASE_URL_VARIABLE,
    DEFAULT_METRICS_PORT,
    DEFAULT_NAMESPACE,
    DEFAULT_PROBE_PORT,
    DEFAULT_PULL_IMAGE,
    Settings,
    SettingsError,
)

EXIT_USAGE = 2
FOLLOW_LIMITS = "follow-limits"


def main(arguments: Sequence[str] | None = None) -> None:
    """Parse, run, and exit with the code of the run."""
    parser = _parser()
    given = vars(parser.parse_args(arguments))
    if given.pop("command") == FOLLOW_LIMITS:
        from reserved_capacity.following import run as follow

        sys.exit(follow(**given))
    # What holds a password comes better from here: every process of a machine can read the arguments of the others.
    given["database_url"] = given["database_url"] or os.environ.get(DATABASE_URL_VARIABLE) or None
    given["billing_token"] = os.environ.get(BILLING_TOKEN_VARIABLE) or None
    try:
        settings = Settings(**given)
    except SettingsError as error:
        parser.exit(EXIT_USAGE, f"reserved-capacity: {error}\n")
    # Not before the arguments are known to be good: the libraries take a second to load, `--help` should not.
    from reserved_capacity.main import run

    sys.exit(run(settings))


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="reserved-capacity", description="The operator for reserved inference capacity."
    )
    commands = parser.add_subparsers(dest="command", required=True)
    add = commands.add_parser("run", help="run the operator until SIGTERM").add_argument
    add("--kubeconfig", type=Path, help="default: the pod's service account, else $KUBECONFIG or ~/.kube/config")
    add(
        "--namespace",
        help=f"of its Lease and ConfigMaps; it watches all namespaces (default: the pod's, else {DEFAULT_NAMESPACE})",
    )
    add(
        "--leader-elect",
        type=_truth,
        nargs="?",
        const=True,
        default=True,
        metavar="true|false",
        help="work only while holding the Lease (default: true)",
    )
    add(
        "--database-url",
        help=f"sqlite:////path or postgresql://…; better in ${DATABASE_URL_VARIABLE} if it has a "
        "password (default: an embedded SQLite file for each cluster, in $XDG_STATE_HOME/reserved-capacity)",
    )
    add(
        "--billing-url",
        help=f"where CloudEvents go; a bearer token is in ${BILLING_TOKEN_VARIABLE}",
    )
    add(
        "--prometheus-url",
        help="of the Prometheus that scrapes the gateways: use is read there (default: use is not measured)",
    )
    add(
        "--pull-image",
        default=DEFAULT_PULL_IMAGE,
        help="of the pods that bring a snapshot to its nodes before a rollout; it has to end at once when it is told -v "
        f"(default: {DEFAULT_PULL_IMAGE})",
    )
    add("--metrics-port", type=int, help=f"0: any free one (default: {DEFAULT_METRICS_PORT}, or any if that is taken)")
    add("--probe-port", type=int, help=f"/livez and /readyz (default: {DEFAULT_PROBE_PORT}, or any if that is taken)")
    add("--clock-offset-file", type=Path, help="seconds to add to the clock; only with --development")
    add("--development", action="store_true", help="allow what must never happen in production")
    add = commands.add_parser(FOLLOW_LIMITS, help="keep a rate-limit service's file equal to the limits").add_argument
    add("--kubeconfig", type=Path, help="default: the pod's service account, else $KUBECONFIG or ~/.kube/config")
    add("--namespace", help=f"the operator's (default: the pod's, else {DEFAULT_NAMESPACE})")
    add("--directory", type=Path, required=True, help="that the service watches")
    return parser


def _truth(text: str) -> bool:
    values = {"true": True, "false": False}
    if text.lower() not in values:
        raise argparse.ArgumentTypeError(f"{text!r} is neither true nor false")
    return values[text.lower()]


if __name__ == "__main__":
    main()
