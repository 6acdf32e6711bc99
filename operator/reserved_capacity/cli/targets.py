"""Which object is meant: KIND/NAME as kubectl spells kinds, and the near matches of a name that is not there."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from reserved_capacity.api.meta import KINDS, Kind, KindInfo
from reserved_capacity.cli.errors import CliError, near
from reserved_capacity.ports import OUR_KINDS, Resource

RESOURCES: Final = {Kind(resource.kind): resource for resource in OUR_KINDS}


def kind_of(word: str) -> KindInfo:
    """The kind by its singular, plural, short name or `plural.group`, in any case. Raises CliError."""
    wanted = word.lower().partition(".")[0]
    for info in KINDS:
        if wanted in _spellings(info):
            return info
    spellings = [spelling for info in KINDS for spelling in (info.singular, *info.short_names)]
    known = ", ".join((*info.short_names, info.singular)[0] for info in KINDS)
    raise CliError(f"there is no kind {word!r} (there are: {known}).{near(wanted, spellings)}")


def resource_of(info: KindInfo) -> Resource:
    return RESOURCES[info.kind]


def not_found(info: KindInfo, namespace: str, name: str, names: Sequence[str], namespaces: Sequence[str]) -> CliError:
    """`names` are those in the namespace, `namespaces` those that have an object of that name."""
    place = f" in namespace {namespace}" if namespace else ""
    if namespaces:
        hint = f" There is one in namespace {', '.join(namespaces)}: use -n."
    else:
        hint = near(name, names) or (f" There are: {', '.join(sorted(names)[:10])}." if names else " There is none.")
    return CliError(f"there is no {info.kind} {name!r}{place}.{hint}")


def _spellings(info: KindInfo) -> tuple[str, ...]:
    return (info.singular, info.plural, *info.short_names)
