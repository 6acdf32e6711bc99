from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from reserved_capacity.__main__ import _parser, main
from reserved_capacity.adapters.clock import OffsetClock, SystemClock
from reserved_capacity.settings import (
    BILLING_TOKEN_VARIABLE,
    DATABASE_URL_VARIABLE,
    Settings,
    SettingsError,
    embedded_database,
)

STAMP = datetime(2026, 3, 1, tzinfo=UTC)


def parsed(*arguments: str) -> Settings:
    given = vars(_parser().parse_args(["run", *arguments]))
    given.pop("command")
    return Settings(**given)


def test_the_systems_clock_is_in_utc_and_leaves_timestamps_alone() -> None:
    clock = SystemClock()
    assert clock.now().utcoffset() == timedelta()
    assert clock.recorded(STAMP) == STAMP


def test_the_offset_is_read_at_every_look(tmp_path: Path) -> None:
    path = tmp_path / "offset"
    clock = OffsetClock(path)
    assert clock.recorded(STAMP) == STAMP
    path.write_text("86400\n")
    assert clock.recorded(STAMP) == STAMP + timedelta(days=1)
    assert clock.now() - datetime.now(UTC) > timedelta(hours=23)
    path.write_text("-0.5")
    assert clock.recorded(STAMP) == STAMP - timedelta(seconds=0.5)
    path.write_text("")
    assert clock.recorded(STAMP) == STAMP


def test_a_write_that_is_half_done_leaves_the_offset_as_it_was(tmp_path: Path) -> None:
    path = tmp_path / "offset"
    path.write_text("60")
    clock = OffsetClock(path)
    assert clock.recorded(STAMP) == STAMP + timedelta(minutes=1)
    for nonsense in ("6e", "nan", "1e400", "ä"):
        path.write_text(nonsense, encoding="utf-8")
        assert clock.recorded(STAMP) == STAMP + timedelta(minutes=1)


def test_the_offset_is_refused_in_production(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match="--development"):
        parsed("--clock-offset-file", str(tmp_path / "offset"))
    assert parsed("--clock-offset-file", str(tmp_path / "offset"), "--development").clock_offset_file


def test_every_flag_is_accepted() -> None:
    urls = ("--database-url=sqlite:////x", "--billing-url=http://b", "--prometheus-url=http://p")
    settings = parsed("--kubeconfig=/k", "--namespace=n", "--metrics-port=0", "--probe-port", "1", *urls)
    assert (settings.kubeconfig, settings.namespace, settings.metrics_port, settings.probe_port) == (
        Path("/k"),
        "n",
        0,
        1,
    )
    assert settings.prometheus_url == "http://p"
    assert parsed().prometheus_url is None
    with pytest.raises(SettingsError, match="--prometheus-url"):
        parsed("--prometheus-url=prometheus:9090")


def test_what_holds_a_password_is_taken_from_the_environment_and_is_not_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[Settings] = []

    def run(settings: Settings) -> int:
        seen.append(settings)
        return 0

    monkeypatch.setattr("reserved_capacity.main.run", run)
    monkeypatch.setenv(DATABASE_URL_VARIABLE, "postgresql://u:hush@db/rc")
    monkeypatch.setenv(BILLING_TOKEN_VARIABLE, "hush")
    for arguments in (["run"], ["run", "--database-url=sqlite:////x"]):
        with pytest.raises(SystemExit):
            main(arguments)
    assert [each.database_url for each in seen] == ["postgresql://u:hush@db/rc", "sqlite:////x"]
    assert seen[0].billing_token == "hush"  # noqa: S105
    assert "hush" not in repr(seen)


def test_every_cluster_has_an_embedded_database_of_its_own() -> None:
    assert embedded_database({"HOME": "/home/a"}, "u1") == "sqlite:////home/a/.local/state/reserved-capacity/u1.db"
    assert embedded_database({"XDG_STATE_HOME": "/s", "HOME": "/h"}, "u2") == "sqlite:////s/reserved-capacity/u2.db"


@pytest.mark.parametrize(
    ("arguments", "wanted"),
    [((), True), (("--leader-elect=false",), False), (("--leader-elect=true",), True), (("--leader-elect",), True)],
)
def test_leader_election_is_on_unless_told_otherwise(arguments: tuple[str, ...], wanted: bool) -> None:
    assert parsed(*arguments).leader_elect is wanted


@pytest.mark.parametrize("arguments", [("--leader-elect=maybe",), ("--metrics-port=x",), ("--nonsense",)])
def test_what_is_not_understood_is_refused(arguments: tuple[str, ...]) -> None:
    with pytest.raises(SystemExit):
        parsed(*arguments)


@pytest.mark.parametrize("arguments", [("--probe-port=70000",), ("--probe-port=9000", "--metrics-port=9000")])
def test_ports_are_checked(arguments: tuple[str, ...]) -> None:
    with pytest.raises(SettingsError):
        parsed(*arguments)
