"""Money as integers in minor units, and as decimal strings for people. No float comes near it.

Most currencies have two decimal places; those that have not are listed here (ISO 4217, list one).
"""

from __future__ import annotations

import re
from decimal import Decimal
from typing import Final

_DIGITS: Final = {
    currency: digits
    for digits, currencies in (
        (0, "BIF CLP DJF GNF ISK JPY KMF KRW PYG RWF UGX UYI VND VUV XAF XOF XPF"),
        (3, "BHD IQD JOD KWD LYD OMR TND"),
        (4, "CLF UYW"),
    )
    for currency in currencies.split()
}
_DECIMAL: Final = re.compile(r"(-?)([0-9]+)(?:\.([0-9]+))?", re.ASCII)


def minor_digits(currency: str) -> int:
    """Decimal places of the currency: 2 for USD, 0 for JPY, 3 for KWD."""
    return _DIGITS.get(currency, 2)


def parse_minor(text: str, currency: str) -> int:
    """`"792000.00"` in USD -> 79200000. ValueError for anything but a decimal string, and for a part of a minor unit."""
    match = _DECIMAL.fullmatch(text)
    if match is None:
        raise ValueError(f"{text!r} is not a decimal string, for example '220.00'")
    sign, whole, fraction = match[1], match[2], (match[3] or "").rstrip("0")
    digits = minor_digits(currency)
    if len(fraction) > digits:
        raise ValueError(f"{text!r} has more decimal places than {currency}, which has {digits}")
    minor = int(whole + fraction.ljust(digits, "0"))
    return -minor if sign else minor


def format_minor(minor: int, currency: str) -> str:
    """79200000 in USD -> `"792000.00"`; the inverse of `parse_minor`."""
    digits = minor_digits(currency)
    sign = "-" if minor < 0 else ""
    text = str(abs(minor)).rjust(digits + 1, "0")
    return f"{sign}{text[:-digits]}.{text[-digits:]}" if digits else f"{sign}{text}"


def to_decimal(minor: int, currency: str) -> Decimal:
    """The same as a decimal number with the currency's places, for fields on the wire."""
    return Decimal(minor).scaleb(-minor_digits(currency))


def format_price(price: Decimal, currency: str) -> str:
    """A unit price with at least the currency's decimal places: equal prices give equal texts."""
    whole, _, fraction = format(price, "f").partition(".")
    fraction = fraction.rstrip("0").ljust(minor_digits(currency), "0")
    return f"{whole}.{fraction}" if fraction else whole


def shown_price(price: Decimal, currency: str) -> Decimal:
    """The same for fields on the wire: the books keep 220 and 220.00 as one, and people read 220.00 everywhere."""
    return Decimal(format_price(price, currency))


def minor_ratio(price: Decimal, currency: str) -> tuple[int, int]:
    """A unit price in minor units as numerator and denominator: exact, also where it is finer than a minor unit."""
    numerator, denominator = price.as_integer_ratio()
    return numerator * int(10 ** minor_digits(currency)), denominator


def floor_minor(price: Decimal, times: int, currency: str) -> int:
    """So many times a unit price in whole minor units, rounded down once, in the end."""
    numerator, denominator = minor_ratio(price, currency)
    return numerator * times // denominator
