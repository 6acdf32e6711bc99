"""Owns what the plugin says when it cannot do what it was asked: one message for a person, exit code 1."""

from __future__ import annotations

import difflib
import os
import ssl
from collections.abc import Iterable

from reserved_capacity.api.meta import GROUP
from reserved_capacity.ports import ApiError, Forbidden, NotFound, Resource, Throttled, Unavailable


class CliError(Exception):
    """What went wrong, as sentences for the person at the terminal."""


class NotAllowed(CliError):
    """RBAC refuses this call; whoever can do without its answer goes on."""


class Unreachable(CliError):
    """The API server does not answer now; later it may."""


def from_api(error: ApiError, *, verb: str, resource: Resource, namespace: str, server: str) -> CliError:
    """The message for a failed call: which verb on which resource, at which server."""
    place = f" in namespace {namespace}" if namespace else " in all namespaces" if resource.namespaced else ""
    if error.code == 401:
        return CliError(f"the API server {server} does not accept your credentials (401): log in again")
    if isinstance(error, Forbidden):
        role = ", for example the ClusterRole reserved-capacity-viewer" if resource.group == GROUP else ""
        return NotAllowed(f"you may not {verb} {resource}{place}: ask for a role with the verb {verb} on it{role}")
    if isinstance(error, NotFound):
        return CliError(
            f"the API server {server} does not know {resource}: install the CRDs with "
            "`kubectl apply --server-side -k manifests/install`, or choose another --context"
        )
    if isinstance(error, Unavailable) and error.code == 0:
        return Unreachable(f"cannot reach the API server {server}: {_cause(error.__cause__)}")
    if isinstance(error, Unavailable | Throttled):
        return Unreachable(f"the API server {server} cannot {verb} {resource} now: {error}")
    return CliError(f"cannot {verb} {resource}{place}: {error}")


def _cause(error: BaseException | None) -> str:
    if isinstance(error, TimeoutError):
        return "no answer in time"
    refused = getattr(error, "certificate_error", None) or getattr(error, "os_error", None)
    if isinstance(refused, ssl.SSLError):
        return f"no trust in its certificate, or none in ours: {refused}"
    number = getattr(error, "errno", None)
    if isinstance(number, int) and number > 0:
        return os.strerror(number).lower()
    return str(error) or type(error).__name__


def near(word: str, words: Iterable[str]) -> str:
    """` Did you mean a or b?`, or nothing where nothing is near."""
    known = sorted(set(words))
    found = difflib.get_close_matches(word, known, n=3, cutoff=0.7)
    found += [each for each in known if word and each not in found and (word in each or each in word)]
    return f" Did you mean {' or '.join(found[:3])}?" if found else ""
