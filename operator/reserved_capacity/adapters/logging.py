"""Owns the log's form: one JSON object a line on stderr, ours and that of every library alike.

What a user or a server wrote may be in it, so strings are capped and (by JSON) control characters escaped.
"""

from __future__ import annotations

import logging
import sys
from collections.abc import MutableMapping
from typing import Any

import structlog

LONGEST_STRING = 2_000
_LONGEST_TRACEBACK = 20_000


def _capped(_logger: Any, _method: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    for key, value in event.items():
        text = value if isinstance(value, str | int | float | bool | None) else str(value)
        longest = _LONGEST_TRACEBACK if key == "exception" else LONGEST_STRING
        if isinstance(text, str) and len(text) > longest:
            text = f"{text[:longest]}... ({len(text)} characters)"
        event[key] = text
    return event


def configure(*, verbose: bool = False) -> None:
    """Route structlog and the standard library's loggers (so also Kopf's and aiohttp's) to stderr. Idempotent."""
    shared: list[Any] = [
        structlog.contextvars.merge_contextvars,
        structlog.stdlib.add_logger_name,
        structlog.stdlib.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        structlog.processors.format_exc_info,
    ]
    structlog.configure(
        processors=[*shared, structlog.stdlib.ProcessorFormatter.wrap_for_formatter],
        logger_factory=structlog.stdlib.LoggerFactory(),
        wrapper_class=structlog.stdlib.BoundLogger,
        cache_logger_on_first_use=True,
    )
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=shared,
            processors=[
                structlog.stdlib.ProcessorFormatter.remove_processors_meta,
                _capped,
                structlog.processors.JSONRenderer(),
            ],
        )
    )
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(logging.DEBUG if verbose else logging.INFO)
    # Kopf tells of every event of every object that a handler was called; the access log of every probe.
    for name in ("kopf.objects", "aiohttp.access", "asyncio"):
        logging.getLogger(name).setLevel(logging.WARNING)
