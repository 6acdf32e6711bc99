"""Owns how limits become the configuration of the rate-limit service (github.com/envoyproxy/ratelimit).

For each account and direction it keeps two counters of the same tokens, which Envoy charges together (`envoy`):
- `tokens`: at its limit the account is refused;
- `units`: at its limit what was bought is used up. It refuses nobody; the answer is marked, and counted, as spilled.

Both begin anew with every minute, in Redis, under keys that do not contain the limit: another limit, another file, another
process goes on counting where the one before was.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any, Final

from reserved_capacity.gateway.limits import EVERYBODY, AccountLimits

DOMAIN: Final = "reserved-capacity"
OFFERING: Final = "offering"
ACCOUNT: Final = "account"
ADMISSION: Final = "admission"
TOKENS: Final = "tokens"
UNITS: Final = "units"
EVERY_REQUEST: Final = "request"
DIRECTIONS: Final = ("input", "output")

# The service counts in 32 bits; nobody uses 71 million tokens a second.
MAX_PER_MINUTE: Final = 2**32 - 1

_NOBODY: Final = AccountLimits(EVERYBODY)

Descriptor = dict[str, Any]


def ratelimit_config(limits: Mapping[str, Iterable[AccountLimits]]) -> dict[str, Any]:
    """The service's one file, for the limits of all offerings by name. What it does not know, it refuses."""
    offerings = [
        {"key": OFFERING, "value": offering, "descriptors": list(_accounts(limits[offering]))}
        for offering in sorted(limits)
    ]
    unknown = {"key": OFFERING, "descriptors": [{"key": ACCOUNT, "descriptors": [_closed()]}]}
    return {"domain": DOMAIN, "descriptors": [*offerings, unknown]}


def _accounts(limits: Iterable[AccountLimits]) -> Iterator[Descriptor]:
    by_name = {each.account: each for each in limits}
    everybody = by_name.pop(EVERYBODY, _NOBODY)
    for account in sorted(by_name):
        yield {"key": ACCOUNT, "value": account, "descriptors": list(_of_account(by_name[account]))}
    # Without a value: each account that is not named above counts for itself.
    yield {"key": ACCOUNT, "descriptors": list(_of_account(everybody))}


def _of_account(limits: AccountLimits) -> Iterator[Descriptor]:
    ceilings = {direction: _ceiling(limits, direction) for direction in DIRECTIONS}
    refuses = _refuses(limits)
    if refuses and not all(ceilings.values()):
        yield _closed()
    for direction, ceiling in ceilings.items():
        if ceiling:
            # Shadow is not the service's own shadow mode, which tells nobody that somebody would have been refused.
            yield _counter(TOKENS, direction, ceiling, refuses=refuses)
    for direction in DIRECTIONS:
        bought = _bought(limits, direction)
        if bought and bought < ceilings[direction]:
            yield _counter(UNITS, direction, bought, refuses=False)


def _ceiling(limits: AccountLimits, direction: str) -> int:
    """Tokens of a minute after which the account is refused. With Reject the base is not touched; but a direction of which
    nothing was bought has only the base. Of several reservations one that may spill is enough."""
    bought = _bought(limits, direction)
    if bought and not any(unit.spills for unit in limits.units):
        return bought
    return int(getattr(limits.effective, f"{direction}_tpm"))


def _bought(limits: AccountLimits, direction: str) -> int:
    return int(getattr(limits.bought, f"{direction}_tpm"))


def _refuses(limits: AccountLimits) -> bool:
    """Shadow counts and never refuses; of several reservations one that is enforced is enough."""
    return not limits.units or any(unit.enforced for unit in limits.units)


def _counter(key: str, direction: str, tokens: int, *, refuses: bool) -> Descriptor:
    # A request asks with 0 tokens, and the service says "over" only above its number: at the number is used up already.
    number = min(tokens, MAX_PER_MINUTE) - 1
    mode = {} if refuses else {"quota_mode": True}
    return {"key": key, "value": direction, "rate_limit": {"unit": "minute", "requests_per_unit": number}, **mode}


def _closed() -> Descriptor:
    """Whoever may use nothing is refused by the request itself: a counter of tokens would let the first one through."""
    return {"key": ADMISSION, "value": EVERY_REQUEST, "rate_limit": {"unit": "minute", "requests_per_unit": 0}}
