"""Owns the command line of `kubectl reserved`: arguments, exit codes, and nothing else.

Exit codes: 0; 1 with a message on stderr where something could not be read or is not there; 2 for wrong usage. What
needs a cluster is imported by the command that needs it: `--help` answers at once.
"""

from __future__ import annotations

import io
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, NoReturn

import typer

from reserved_capacity.settings import DATABASE_URL_VARIABLE

if TYPE_CHECKING:
    from collections.abc import Coroutine

PROGRAM = "kubectl reserved"
EXIT_FAILED = 1
EXIT_INTERRUPTED = 130

app = typer.Typer(
    name=PROGRAM,
    help="Reserved inference capacity: what there is, who holds it, and why something waits.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    context_settings={"help_option_names": ["-h", "--help"]},
)

Namespace = Annotated[str, typer.Option("--namespace", "-n", help="Namespace; default: the context's.")]
AllNamespaces = Annotated[bool, typer.Option("--all-namespaces", "-A", help="All namespaces.")]
Output = Annotated[str, typer.Option("--output", "-o", metavar="table|json|yaml", help="Output format.")]
Account = Annotated[str, typer.Option("--account", help="Billing subject, spec.account of its pools.")]
MoneyOutput = Annotated[str, typer.Option("--output", "-o", metavar="table|json|yaml|csv", help="Output format.")]
DatabaseUrl = Annotated[
    str,
    typer.Option(
        "--database-url", envvar=DATABASE_URL_VARIABLE, show_envvar=True, help="The operator's, e.g. sqlite:////path."
    ),
]
InstanceName = Annotated[str, typer.Argument(metavar="NAME", help="The ModelInstance.", show_default=False)]
Applied = Annotated[bool, typer.Option("--apply", help="Change the object, instead of printing what to commit.")]
Kubeconfig = Annotated[Path | None, typer.Option("--kubeconfig", help="Path; default: $KUBECONFIG or ~/.kube/config.")]
Context = Annotated[str, typer.Option("--context", help="Context of the kubeconfig; default: its current one.")]


@app.callback()
def _plugin() -> None:
    """Makes subcommands of the commands, also while there are few of them."""


@app.command(short_help="Show pools, nodes, instances, and what waits and why.")
def status(
    target: Annotated[
        str, typer.Argument(metavar="POOL|mi/NAME", help="Only this pool, or this instance.", show_default=False)
    ] = "",
    namespace: Namespace = "",
    all_namespaces: AllNamespaces = False,
    output: Output = "table",
    watch: Annotated[bool, typer.Option("--watch", "-w", help="Stay, and show every change.")] = False,
    kubeconfig: Kubeconfig = None,
    context: Context = "",
) -> None:
    """Show pools, their blocks, nodes, instances and members, and the reason for whatever waits.

    Of one instance -w ends with its rollout: exit code 0 where it is done or there is none, 1 where it failed.
    """
    format_ = _format(output)
    if watch and output != "table":
        raise typer.BadParameter("-w shows the screen; use it with -o table", param_hint="-w")
    from reserved_capacity.cli import commands

    place = commands.Place(kubeconfig, context, namespace, all_namespaces)
    kind, _, name = target.rpartition("/")
    if commands.is_instance(kind):
        _run(commands.status_of(place, name, format_, watch=watch))
        return
    _run(commands.status(place, name, format_, watch=watch))


@app.command(short_help="Explain the state of one object, and what to do.")
def why(
    target: Annotated[str, typer.Argument(metavar="KIND/NAME", help="For example mi/chat or cup/prod.")],
    namespace: Namespace = "",
    output: Output = "table",
    kubeconfig: Kubeconfig = None,
    context: Context = "",
) -> None:
    """Explain why an object is in the state it is in, and what to do."""
    kind, slash, name = target.partition("/")
    if not (kind and slash and name):
        raise typer.BadParameter(f"{target!r} is not KIND/NAME, for example mi/chat", param_hint="KIND/NAME")
    format_ = _format(output)
    from reserved_capacity.cli import commands

    place = commands.Place(kubeconfig, context, namespace)
    _run(commands.why(place, kind, name, format_))


@app.command(short_help="Hold the rollout of an instance between two members.")
def pause(
    name: InstanceName,
    off: Annotated[bool, typer.Option("--off", help="Let it go on.")] = False,
    applied: Applied = False,
    namespace: Namespace = "",
    kubeconfig: Kubeconfig = None,
    context: Context = "",
) -> None:
    """Hold the rollout of an instance between two members; with --off let it go on.

    Prints the YAML to commit; with --apply changes the object instead. Exit code 1 where it makes no sense now.
    """
    _edit("pause --off" if off else "pause", name, applied, (kubeconfig, context, namespace))


@app.command(short_help="Let a rollout go on whose canary waits for a person.")
def approve(
    name: InstanceName,
    applied: Applied = False,
    namespace: Namespace = "",
    kubeconfig: Kubeconfig = None,
    context: Context = "",
) -> None:
    """Let a rollout go on whose canary waits for a person's approval.

    Prints the YAML to commit; with --apply changes the object instead. Exit code 1 where it makes no sense now.
    """
    _edit("approve", name, applied, (kubeconfig, context, namespace))


@app.command(short_help="Ask for the snapshot and profile that ran before.")
def rollback(
    name: InstanceName,
    applied: Applied = False,
    namespace: Namespace = "",
    kubeconfig: Kubeconfig = None,
    context: Context = "",
) -> None:
    """Ask for the snapshot and profile that ran before the rollout, or before the last one.

    Prints the YAML to commit; with --apply changes the object instead. Exit code 1 where it makes no sense now.
    """
    _edit("rollback", name, applied, (kubeconfig, context, namespace))


@app.command(short_help="Predict what files would do, before they are applied.")
def plan(
    filename: Annotated[Path, typer.Option("--filename", "-f", metavar="DIR|FILE", help="YAML or JSON documents.")],
    namespace: Namespace = "",
    output: Output = "table",
    kubeconfig: Kubeconfig = None,
    context: Context = "",
) -> None:
    """Predict what applying the files would do: moves, waits, refusals, compute units before and after. Writes nothing.

    Exit code 1 if anything in the files would be refused or wait for somebody.
    """
    format_ = _format(output)
    from reserved_capacity.cli import commands

    _run(commands.plan(commands.Place(kubeconfig, context, namespace), filename, format_))


@app.command(short_help="Show what was invoiced to an account for a month.")
def invoice(
    account: Account,
    month: Annotated[str, typer.Option("--month", metavar="YYYY-MM", help="UTC month.")],
    output: MoneyOutput = "table",
    database_url: DatabaseUrl = "",
) -> None:
    """Show the invoices of an account for a UTC month: -o html is a page to print, -o csv the month in FOCUS 1.2 columns."""
    format_ = _one_of(output, ("table", "json", "yaml", "csv", "html"))
    from reserved_capacity.cli.money import commands

    _run(commands.invoice(database_url, account, month, format_))


@app.command(short_help="Show the ledger of an account, and audit it.")
def ledger(
    account: Account,
    since: Annotated[str, typer.Option("--since", metavar="YYYY-MM-DD", help="First UTC day.")] = "",
    until: Annotated[str, typer.Option("--until", metavar="YYYY-MM-DD", help="UTC day after the last one.")] = "",
    output: MoneyOutput = "table",
    database_url: DatabaseUrl = "",
) -> None:
    """Show every row of an account's ledger, and whether its books balance.

    Exit code 1 if they do not.
    """
    format_ = _one_of(output, ("table", "json", "yaml", "csv"))
    from reserved_capacity.cli.money import commands

    _run(commands.ledger(database_url, account, commands.Period(since, until), format_))


@app.command(short_help="Say what files would cost, before they are applied.")
def estimate(
    filename: Annotated[Path, typer.Option("--filename", "-f", metavar="DIR|FILE", help="YAML or JSON documents.")],
    first_day: Annotated[
        str, typer.Option("--first-day", metavar="YYYY-MM-DD", help="First charged UTC day; default: tomorrow.")
    ] = "",
    namespace: Namespace = "",
    output: MoneyOutput = "table",
    kubeconfig: Kubeconfig = None,
    context: Context = "",
) -> None:
    """Say what the commitments in the files would cost at today's list prices, by day, month and invoice. Writes nothing."""
    format_ = _one_of(output, ("table", "json", "yaml", "csv"))
    from reserved_capacity.cli.commands import Place
    from reserved_capacity.cli.money import commands

    _run(commands.estimate(Place(kubeconfig, context, namespace), filename, first_day, format_))


def main() -> None:
    """The entry point of `kubectl-reserved`, which kubectl runs for `kubectl reserved`."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="replace")  # a name that the terminal cannot show is no reason to fail
    app(prog_name=PROGRAM)


def _edit(verb: str, name: str, applied: bool, where: tuple[Path | None, str, str]) -> None:
    from reserved_capacity.cli import commands
    from reserved_capacity.cli.verbs import Verb

    kind, _, own = name.rpartition("/")
    if not own or (kind and not commands.is_instance(kind)):
        raise typer.BadParameter(f"{name!r} is not the name of a ModelInstance, for example chat", param_hint="NAME")
    _run(commands.edit(commands.Place(*where), Verb(verb), own, applied=applied))


def _format(word: str) -> Any:
    from reserved_capacity.cli.output import Format

    known = [format_.value for format_ in Format]
    if word not in known:
        raise typer.BadParameter(f"{word!r} is not one of {', '.join(known)}", param_hint="-o")
    return Format(word)


def _one_of(word: str, known: tuple[str, ...]) -> str:
    if word not in known:
        raise typer.BadParameter(f"{word!r} is not one of {', '.join(known)}", param_hint="-o")
    return word


def _run(work: Coroutine[Any, Any, None]) -> None:
    import asyncio

    from reserved_capacity.cli.errors import CliError

    try:
        asyncio.run(work)
    except CliError as error:
        _fail(f"{PROGRAM}: {error}", EXIT_FAILED)
    except KeyboardInterrupt:
        _fail("", EXIT_INTERRUPTED)


def _fail(message: str, code: int) -> NoReturn:
    if message:
        print(message, file=sys.stderr)
    sys.exit(code)


if __name__ == "__main__":
    main()
