"""The command line itself: exit codes, formats, `-w`, and how fast `--help` is."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Sequence
from datetime import UTC, datetime
from io import StringIO

import pytest
import yaml
from rich.console import Console
from rich.text import Text
from typer.testing import CliRunner

from reserved_capacity.cli import watching
from reserved_capacity.cli.app import app
from reserved_capacity.cli.errors import CliError, Unreachable
from reserved_capacity.cli.layout import Column, Row, bar, flow, table
from reserved_capacity.cli.output import Format, show, terminal, write
from reserved_capacity.cli.values import StatusView
from reserved_capacity.cli.view import status_view
from reserved_capacity.cli.world import Progress
from tests.unit.cli.builders import accelerators, chat, instance, node, page, pool, waits, world


def seen() -> StatusView:
    return status_view(world(pool(), chat(), instance("fast", waits()), accelerators(), node()), "acme")


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["why"], "KIND/NAME"),
        (["why", "chat"], "'chat' is not KIND/NAME, for example mi/chat"),
        (["why", "mi/"], "'mi/' is not KIND/NAME"),
        (["status", "-o", "xml"], "'xml' is not one of table, json, yaml"),
        (["status", "-w", "-o", "json"], "-w shows the screen"),
        (["status", "a", "b"], "unexpected extra argument"),
        (["size"], "No such command 'size'"),
    ],
)
def test_wrong_usage_is_exit_code_2(arguments: Sequence[str], words: str) -> None:
    result = CliRunner().invoke(app, arguments)
    assert result.exit_code == 2
    assert words in result.stderr


def test_what_cannot_be_read_is_exit_code_1_and_one_line_on_stderr() -> None:
    result = CliRunner().invoke(app, ["status", "--kubeconfig", "/absent"])
    assert result.exit_code == 1
    assert result.stdout == ""
    assert result.stderr == "kubectl reserved: --kubeconfig /absent: there is no such file\n"


def test_an_unknown_kind_is_exit_code_1_before_anything_is_connected() -> None:
    result = CliRunner().invoke(app, ["why", "pod/x", "--kubeconfig", "/absent"])
    assert result.exit_code == 1
    assert "there is no kind 'pod'" in result.stderr


def test_help_loads_neither_the_kubernetes_library_nor_pydantic() -> None:
    script = (
        "import sys\n"
        "from reserved_capacity.cli.app import app\n"
        "try:\n    app(['--help'])\n"
        "except SystemExit as end:\n    assert not end.code\n"
        "print(sorted({'kubernetes', 'pydantic', 'aiohttp', 'kopf'} & sys.modules.keys()))"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "[]"


# -------------------------------------------------------------------------------------------------------------- output


def test_json_and_yaml_are_the_same_document_with_times_in_rfc_3339(capsys: pytest.CaptureFixture[str]) -> None:
    write(seen(), Format.JSON)
    document = json.loads(capsys.readouterr().out)
    write(seen(), Format.YAML)
    assert yaml.safe_load(capsys.readouterr().out) == document
    assert document["now"] == "2026-03-01T03:00:00Z"
    [prod] = document["pools"]
    assert prod["units"] == {
        "contractedCu": 600,
        "provisionedCu": 600,
        "allocatedCu": 600,
        "idleCu": 0,
        "unhealthyCu": 0,
        "releasingCu": 0,
    }
    assert prod["commitments"][0]["provisionBy"] == "2026-03-01"
    finding = prod["instances"][1]["verdict"]["findings"][0]
    assert (finding["reason"], finding["types"], finding["decides"]) == (
        "WaitingForComputeUnits",
        ["CapacityReserved", "Ready"],
        True,
    )


def test_a_terminal_gets_colour_and_NO_COLOR_takes_all_of_it_away(monkeypatch: pytest.MonkeyPatch) -> None:  # noqa: N802
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.setenv("TERM", "xterm-256color")
    monkeypatch.delenv("NO_COLOR", raising=False)
    line = [Text("bad", "bold red")]
    assert "\x1b[" in _printed(terminal(), line)
    monkeypatch.setenv("NO_COLOR", "1")
    assert _printed(terminal(), line) == "bad\n"


def _printed(console: Console, lines: list[Text]) -> str:
    with console.capture() as captured:
        show(console, lines)
    return captured.get()


# ----------------------------------------------------------------------------------------------------------------- -w


class Films:
    """What successive looks bring: views, or errors to raise. Ends with a CliError."""

    def __init__(self, *looks: StatusView | CliError) -> None:
        self.looks = [*looks, CliError("the end")]

    async def __call__(self, _progress: Progress) -> StatusView:
        look = self.looks.pop(0)
        if isinstance(look, CliError):
            raise look
        return look


async def watched(monkeypatch: pytest.MonkeyPatch, *looks: StatusView | CliError) -> str:
    monkeypatch.setattr(watching, "PERIOD_SECONDS", 0.0)
    console = Console(file=StringIO(), width=80, color_system=None)
    with pytest.raises(CliError, match="the end"):
        await watching.watch(Films(*looks), console)
    assert isinstance(console.file, StringIO)
    return console.file.getvalue()


def idle() -> StatusView:
    return status_view(world(pool(), chat()), "acme")


async def test_into_a_pipe_the_screen_is_written_once_for_every_change(monkeypatch: pytest.MonkeyPatch) -> None:
    written = await watched(monkeypatch, seen(), seen(), idle(), idle())
    assert written.count("Namespace acme") == 2
    assert written.index("mi/fast (WaitingForComputeUnits)") < written.index("All is as it should be")


async def test_while_the_server_is_away_the_last_screen_stays_and_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    away = Unreachable("cannot reach the API server https://x: connection refused")
    written = await watched(monkeypatch, seen(), away, away, seen())
    assert written.count("What follows is as of 03:00:00Z: cannot reach the API server") == 1
    assert written.count("Namespace acme") == 3


def test_a_window_that_is_too_low_drops_what_is_healthy_and_counts_what_is_cut() -> None:
    tall = Console(width=80, height=60, color_system=None)
    low = Console(width=80, height=27, color_system=None)
    tiny = Console(width=80, height=12, color_system=None)
    assert any("chat-0  Available" in line.plain for line in watching.fitted(seen(), tall))
    brief = watching.fitted(seen(), low)
    assert len(brief) <= 27
    assert any("2 members Available" in line.plain for line in brief)
    cut = watching.fitted(seen(), tiny)
    assert len(cut) == 12
    assert "mi/fast (WaitingForComputeUnits)" in cut[1].plain
    assert cut[-1].plain.endswith("more lines: make the window taller, or name one pool")


async def test_a_terminal_is_redrawn_on_its_other_screen(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(watching, "PERIOD_SECONDS", 0.0)
    console = Console(file=StringIO(), width=80, height=50, force_terminal=True, legacy_windows=False)
    with pytest.raises(CliError, match="the end"):
        await watching.watch(Films(seen(), idle()), console)
    assert isinstance(console.file, StringIO)
    written = console.file.getvalue()
    assert written.index("\x1b[?1049h") < written.index("WaitingForComputeUnits") < written.index("\x1b[?1049l")


async def test_a_watch_that_is_over_returns_the_last_view_and_leaves_it_on_the_first_screen(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(watching, "PERIOD_SECONDS", 0.0)
    console = Console(file=StringIO(), width=80, height=50, force_terminal=True, legacy_windows=False)
    last = await watching.watch(Films(seen(), idle()), console, lambda view: view == idle())
    assert last == idle()
    assert isinstance(console.file, StringIO)
    left = console.file.getvalue().rpartition("\x1b[?1049l")[2]
    assert "Namespace" in left


# -------------------------------------------------------------------------------------------------------------- layout


def test_a_bar_gives_every_amount_its_share_and_at_least_one_sign() -> None:
    assert bar((("#", 600, ""), (".", 200, "")), 8).plain == "######.."
    assert bar((("#", 9_999, ""), ("x", 1, "")), 10).plain == "#########x"
    assert bar((("#", 0, ""),), 10).plain == ""


def test_a_flow_breaks_between_phrases_and_not_inside_them() -> None:
    lines = flow(["a" * 30, "", "b" * 30, "c" * 10], page(60), indent=0)
    assert [line.plain for line in lines] == ["a" * 30, f"{'b' * 30}   {'c' * 10}"]


def test_prose_is_folded_before_names_are() -> None:
    columns = (Column("NAME"), Column("SAYS", prose=True))
    rows = [Row((Text("n" * 20), Text("word " * 20)))]
    assert [line.plain for line in table(columns, rows, page(60))][1].startswith(f"  {'n' * 20}  word word")


def test_a_moment_in_the_past_and_one_to_come_read_differently() -> None:
    from reserved_capacity.cli.layout import ago, moment

    assert ago(page(), datetime(2026, 3, 1, 2, 59, 0, tzinfo=UTC)) == "60s ago"
    assert ago(page(), datetime(2026, 3, 1, 0, 0, 0, tzinfo=UTC)) == "3h ago"
    assert ago(page(), datetime(2026, 3, 31, tzinfo=UTC)) == "in 29d"
    assert (ago(page(), None), moment(None)) == ("", "")
    assert moment(datetime(2026, 3, 31, tzinfo=UTC)) == "2026-03-31"
