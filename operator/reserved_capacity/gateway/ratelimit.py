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

from reserved_capacity.domain.tokens.entitlement import TokenRate
from reserved_capacity.domain.tokens.limits import EVERYBODY, AccountLimit, Enforcement

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

_NOBODY: Final = AccountLimit(EVERYBODY, TokenRate())

Descriptor = dict[str, Any]


def ratelimit_config(limits: Mapping[str, Iterable[AccountLimit]]) -> dict[str, Any]:
    """The service's one file, for the limits of all offerings by name. What it does not know, it refuses."""
    offerings = [
        {"key": OFFERING, "value": offering, "descriptors": list(_accounts(limits[offering]))}
        for offering in sorted(limits)
    ]
    unknown = {"key": OFFERING, "descriptors": [{"key": ACCOUNT, "descriptors": [_closed()]}]}
    return {"domain": DOMAIN, "descriptors": [*offerings, unknown]}


def _accounts(limits: Iterable[AccountLimit]) -> Iterator[Descriptor]:
    by_name = {each.account: each for each in limits}
    everybody = by_name.pop(EVERYBODY, _NOBODY)
    for account in sorted(by_name):
        yield {"key": ACCOUNT, "value": account, "descriptors": list(_of_account(by_name[account]))}
    # Without a value: each account that is not named above counts for itself.
    yield {"key": ACCOUNT, "descriptors": list(_of_account(everybody))}


def _of_account(limits: AccountLimit) -> Iterator[Descriptor]:
    ceilings, bought = _by_direction(limits.limit), _by_direction(limits.added)
    # Shadow counts and never refuses.
    refuses = limits.enforcement is Enforcement.ENFORCE
    if refuses and not all(ceilings.values()):
        yield _closed()
    for direction, ceiling in ceilings.items():
        if ceiling:
            # Shadow is not the service's own shadow mode, which tells nobody that somebody would have been refused.
            yield _counter(TOKENS, direction, ceiling, refuses=refuses)
    for direction, units in bought.items():
        if 0 < units < ceilings[direction]:
            yield _counter(UNITS, direction, units, refuses=False)


def _by_direction(rate: TokenRate) -> Mapping[str, int]:
    return dict(zip(DIRECTIONS, (rate.input_tpm, rate.output_tpm), strict=True))


def _counter(key: str, direction: str, tokens: int, *, refuses: bool) -> Descriptor:
    # A request asks with 0 tokens, and the service says "over" only above its number: at the number is used up already.
    number = min(tokens, MAX_PER_MINUTE) - 1
    mode = {} if refuses else {"quota_mode": True}
    return {"key": key, "value": direction, "rate_limit": {"unit": "minute", "requests_per_unit": number}, **mode}


def _closed() -> Descriptor:
    """Whoever may use nothing is refused by the request itself: a counter of tokens would let the first one through."""
    return {"key": ADMISSION, "value": EVERY_REQUEST, "rate_limit": {"unit": "minute", "requests_per_unit": 0}}
