"""Owns what a failed call means: from HTTP status, Status body or broken connection to the port's exceptions.

The question behind each case is what the caller may conclude about the write: not done, done by somebody, or unknown.
"""

from __future__ import annotations

import contextlib
import json
from collections.abc import Mapping
from typing import Any

import aiohttp

from reserved_capacity.ports import (
    AlreadyExists,
    ApiError,
    Conflict,
    Forbidden,
    Invalid,
    NotFound,
    OutcomeUnknown,
    Throttled,
    Unavailable,
)

DEFAULT_RETRY_AFTER = 1.0
LONGEST_RETRY_AFTER = 60.0

_BY_CODE: Mapping[int, type[ApiError]] = {
    400: Invalid,
    401: Forbidden,
    403: Forbidden,
    404: NotFound,
    409: Conflict,
    410: NotFound,
    413: Invalid,
    415: Invalid,
    422: Invalid,
    503: Unavailable,
}


def from_answer(code: int, headers: Mapping[str, str], body: bytes, *, what: str, writing: bool) -> ApiError:
    """The failure that an answer of `code` >= 400 is."""
    status = _status(body)
    message = f"{what}: {code} {status.get('reason') or ''}: {str(status.get('message') or '')[:1000]}"
    if code == 429:
        return Throttled(message, retry_after=_retry_after(headers, status))
    if code == 409 and status.get("reason") == "AlreadyExists":
        return AlreadyExists(message)
    if code == 422 and _only_the_uid_differs(status):
        return Conflict(message)
    if code == 403 and "NamespaceTerminating" in _causes(status):
        return Conflict(message)  # no right is missing: what was decided on is going away
    kind = _BY_CODE.get(code)
    if kind is None:
        # 500, 502, 504 and what may come: in the middle of a write nobody knows how far it got.
        kind = Invalid if code < 500 else OutcomeUnknown if writing else Unavailable
    return kind(message, code=code)


def from_broken_call(error: BaseException, *, what: str, writing: bool) -> ApiError:
    """The failure that a connection without an answer is. Only before it stood, the request was certainly not sent."""
    message = f"{what}: {type(error).__name__}: {error}"
    if isinstance(error, aiohttp.ClientConnectorCertificateError):
        return Forbidden(message, code=0)  # somebody is there, and it is not whom we trust
    never_sent = isinstance(error, aiohttp.ClientConnectorError | aiohttp.ConnectionTimeoutError)
    if never_sent or not writing:
        return Unavailable(message, code=0)
    return OutcomeUnknown(message, code=0)


def _status(body: bytes) -> Mapping[str, Any]:
    with contextlib.suppress(ValueError, RecursionError):
        status = json.loads(body)
        if isinstance(status, dict):
            return status
    return {"message": body[:1000].decode("utf-8", errors="replace")}


def _retry_after(headers: Mapping[str, str], status: Mapping[str, Any]) -> float:
    details = status.get("details")
    for given in (headers.get("Retry-After"), details.get("retryAfterSeconds") if isinstance(details, dict) else None):
        with contextlib.suppress(TypeError, ValueError):
            return min(LONGEST_RETRY_AFTER, max(0.1, float(given)))  # type: ignore[arg-type]
    return DEFAULT_RETRY_AFTER


def _causes(status: Mapping[str, Any]) -> set[str]:
    details = status.get("details")
    causes = details.get("causes") if isinstance(details, dict) else None
    return {str(one.get("reason")) for one in causes or () if isinstance(one, dict)}


def _only_the_uid_differs(status: Mapping[str, Any]) -> bool:
    # A patch that names another incarnation's uid is refused as if it tried to change the uid.
    details = status.get("details")
    causes = details.get("causes") if isinstance(details, dict) else None
    return bool(causes) and all(isinstance(one, dict) and one.get("field") == "metadata.uid" for one in causes or ())
