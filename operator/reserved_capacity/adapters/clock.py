"""Owns what time it is: the machine's clock, and the development clock that can be told to run ahead."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path

import structlog

log = structlog.get_logger(__name__)


class SystemClock:
    def now(self) -> datetime:
        return datetime.now(UTC)

    def recorded(self, api_timestamp: datetime) -> datetime:
        return api_timestamp


class OffsetClock:
    """The machine's clock plus the seconds in a file, read at every look. No file, or an empty one: no offset.

    What cannot be read as a number leaves the offset as it was: it may be a write that is half done.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._offset = timedelta()

    def now(self) -> datetime:
        return datetime.now(UTC) + self._read()

    def recorded(self, api_timestamp: datetime) -> datetime:
        return api_timestamp + self._read()

    def _read(self) -> timedelta:
        try:
            text = self._path.read_text(encoding="ascii").strip()
        except FileNotFoundError:
            text = ""
        except (OSError, UnicodeDecodeError) as error:
            log.warning("clock offset unreadable", path=str(self._path), error=str(error))
            return self._offset
        try:
            offset = timedelta(seconds=float(text or "0"))
        except (ValueError, OverflowError):
            log.warning("clock offset is no number of seconds", path=str(self._path))
            return self._offset
        if offset != self._offset:
            log.info("clock offset changed", seconds=offset.total_seconds())
            self._offset = offset
        return offset
