"""`python -m e2e.demo`: the commands behind `make demo` and `make demo-down`."""

from __future__ import annotations

import argparse
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from pathlib import Path
from types import FrameType

from e2e.cluster import lifecycle, processes
from e2e.cluster.kubectl import on_path
from e2e.cluster.lifecycle import Cluster
from e2e.cluster.ports import free_port
from e2e.cluster.state import CHECKOUT, ClusterDir, ClusterError, say
from e2e.demo import story, tokens, year
from e2e.demo.shell import Shell
from e2e.gateway.bootstrap import Offering
from e2e.gateway.install import programs
from e2e.gateway.running import Gateway
from e2e.operator import NAMESPACE, service_account_kubeconfig

_OPERATOR = "operator"
_BIN = Path(sys.executable).parent


def main() -> int:
    """Run one command; failures that have an explanation show it without a traceback."""
    signal.signal(signal.SIGTERM, _exit)
    arguments = _parser().parse_args()
    own = ClusterDir(ClusterDir.from_environment().root / "demo")
    try:
        if arguments.command == "up":
            _up(own, _play, keep=arguments.keep)
        elif arguments.command == "year":
            _up(own, _play_year, keep=False)
        elif arguments.command == "tokens":
            _up(own, _play_tokens, keep=False)
        else:
            stopped = lifecycle.down(own, purge=True)
            say(f"demo: stopped {', '.join(stopped)}" if stopped else "demo: nothing was running")
    except (ClusterError, subprocess.SubprocessError) as error:
        say(f"demo: {error}")
        return 1
    except KeyboardInterrupt:
        return 130
    return 0


def _up(own: ClusterDir, play: Callable[[Cluster, ClusterDir], None], *, keep: bool) -> None:
    begun = time.monotonic()
    lifecycle.down(own)
    with ExitStack() as undo:
        undo.callback(_stop, own)
        cluster = _running_cluster() or lifecycle.up(own)
        if cluster.kubectl.succeeds("get", "namespace", "acme"):
            raise ClusterError("The cluster has a namespace acme already; the demo would change what is in it.")
        if cluster.state != own or cluster.backend == "existing":
            undo.callback(_clear, cluster)
        play(cluster, own)
        if keep:
            undo.pop_all()
    print(f"\n== Done in {time.monotonic() - begun:.0f} s.")
    if keep:
        print("The cluster and the operator are still running. `make demo-down` stops them. To look around:")
        print(_exports(cluster))
    else:
        print("Everything that was started is stopped again. `make demo KEEP=1` leaves it running.")


def _play_year(cluster: Cluster, own: ClusterDir) -> None:
    shell = _shell(cluster)
    story.install(shell, _relative(cluster.state.root))
    own.root.mkdir(mode=0o700, parents=True, exist_ok=True)
    days = year.calendar(own.root.absolute() / "clock-offset")
    sink = year.Sink()
    try:
        offset = ["--development", "--clock-offset-file", str(days.offset)]
        database = _start_operator(shell, cluster, own, [*offset, "--billing-url", sink.url])
        year.play(shell, days, sink, database)
    except ClusterError:
        say(f"\n{processes.tail(own, _OPERATOR, lines=30)}\n")
        raise
    finally:
        sink.close()


def _play_tokens(cluster: Cluster, own: ClusterDir) -> None:
    found = programs()  # what has to be installed or compiled first is no part of the story
    shell = _shell(cluster)
    story.install(shell, _relative(cluster.state.root))
    own.root.mkdir(mode=0o700, parents=True, exist_ok=True)
    days = year.calendar(own.root.absolute() / "clock-offset")
    try:
        _start_operator(shell, cluster, own, ["--development", "--clock-offset-file", str(days.offset)])
        tokens.sell(shell)
        shell.run("kubectl apply --server-side -f manifests/gateway/rights.yaml")
        rights = service_account_kubeconfig(
            cluster, own.root / "gateway.kubeconfig", NAMESPACE, "reserved-capacity-gateway"
        )
        shutil.rmtree(own.root / "gateway", ignore_errors=True)  # limits of a cluster that is gone
        offerings = (Offering(tokens.OFFERING, free_port()),)
        gateway = Gateway(
            found, own.root.absolute() / "gateway", offerings, tokens.ACCOUNTS, rights.absolute(), NAMESPACE
        )
        try:
            gateway.start()
            tokens.enforce(shell, gateway)
            tokens.reduce(shell, days)
            tokens.show_followed(shell, gateway)
        finally:
            gateway.stop()
    except ClusterError:
        say(f"\n{processes.tail(own, _OPERATOR, lines=30)}\n")
        raise


def _shell(cluster: Cluster) -> Shell:
    return Shell(
        CHECKOUT,
        {
            "KUBECONFIG": str(cluster.kubeconfig),
            "PATH": os.pathsep.join([str(_BIN), os.environ["PATH"], str(cluster.state.bin)]),
        },
    )


def _play(cluster: Cluster, own: ClusterDir) -> None:
    shell = _shell(cluster)
    shell.tell("Every command below can be repeated, after these lines, in a shell in this checkout.")
    shell.announce(_exports(cluster))
    story.install(shell, _relative(cluster.state.root))
    _start_operator(shell, cluster, own)
    try:
        story.buy_and_serve(shell)
        story.wait_for_capacity(shell)
        story.be_refused(shell)
    except ClusterError:
        say(f"\n{processes.tail(own, _OPERATOR, lines=30)}\n")
        raise


def _start_operator(shell: Shell, cluster: Cluster, own: ClusterDir, more: Sequence[str] = ()) -> str:
    """The URL of its books."""
    shell.tell(
        "The operator starts, as a process beside the cluster, with the account and the rights of manifests/install."
    )
    if cluster.state != own:
        own.root.mkdir(mode=0o700, parents=True, exist_ok=True)
        own.reset()
    kubeconfig = service_account_kubeconfig(cluster, own.root / "operator.kubeconfig")
    books = own.root.absolute() / "books.db"
    for left_over in own.root.glob(f"{books.name}*"):
        left_over.unlink()  # of a cluster that is gone
    flags = ["run", "--namespace", NAMESPACE, "--database-url", f"sqlite:///{books}"]
    flags += [*more, "--metrics-port", "0", "--probe-port", "0", "--kubeconfig"]
    shell.announce(f"reserved-capacity {' '.join([*flags, str(kubeconfig)])} &".replace(f"{CHECKOUT}/", ""))
    operator = processes.start(own, _OPERATOR, [_BIN / "reserved-capacity", *flags, kubeconfig])

    def check() -> None:
        if not operator.is_running():
            raise ClusterError("The operator ended.")

    shell.check = check
    return f"sqlite:///{_relative(books)}"


def _running_cluster() -> Cluster | None:
    """The local control plane that KUBECONFIG points to, if it does; other clusters are `lifecycle.up`'s to find."""
    given = os.environ.get("KUBECONFIG", "")
    directory = Path(given).absolute().parent
    return lifecycle.current(ClusterDir(directory)) if given and (directory / "cluster.json").is_file() else None


def _exports(cluster: Cluster) -> str:
    built = "" if on_path() else f":$PWD/{_relative(cluster.state.bin)}"
    return f'export KUBECONFIG="$PWD/{_relative(cluster.kubeconfig)}" PATH="$PWD/.venv/bin:$PATH{built}"'


def _relative(path: Path) -> str:
    """As a reader in the checkout would write it."""
    return os.path.relpath(path, CHECKOUT)


def _clear(cluster: Cluster) -> None:
    """Leave somebody else's cluster as it was, but for the CRDs and what belongs to them."""
    _finish_in_peace()
    for objects in (
        ("namespace", "acme", "provider"),
        (f"--kustomize={CHECKOUT / 'manifests' / 'samples' / 'tokens'}",),
        (f"--kustomize={CHECKOUT / 'manifests' / 'samples'}",),
        ("node", "demo-z1-0", "demo-z1-1"),
        ("configmap", f"--namespace={NAMESPACE}", "--selector=app.kubernetes.io/managed-by=reserved-capacity"),
    ):
        cluster.kubectl("delete", *objects, "--ignore-not-found", "--timeout=60s", check=False)


def _stop(own: ClusterDir) -> None:
    _finish_in_peace()
    lifecycle.down(own)


def _finish_in_peace() -> None:
    # A second Ctrl-C would leave half of it running.
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)


def _exit(number: int, _frame: FrameType | None) -> None:
    sys.exit(128 + number)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m e2e.demo", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    up = commands.add_parser("up", help="run the demo, and stop what it started")
    up.add_argument("--keep", action="store_true", help="leave the cluster and the operator running")
    commands.add_parser("year", help="a contract of a year, told in a minute")
    commands.add_parser("tokens", help="token units on a real gateway, to the 429")
    commands.add_parser("down", help="stop a demo that was left running")
    return parser


if __name__ == "__main__":
    sys.exit(main())
