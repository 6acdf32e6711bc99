"""Minor units and decimal strings."""

from __future__ import annotations

import re
from decimal import Decimal

import pytest

from reserved_capacity.api.fields import MONEY
from reserved_capacity.domain.billing.money import (
    format_minor,
    format_price,
    minor_ratio,
    parse_minor,
    shown_price,
    to_decimal,
)


@pytest.mark.parametrize(
    ("text", "currency", "minor"),
    [
        ("792000.00", "USD", 79_200_000),
        ("0.05", "EUR", 5),
        ("-0.05", "EUR", -5),
        ("1234", "JPY", 1234),
        ("1.234", "KWD", 1234),
        ("0.0001", "CLF", 1),
        ("0.00", "USD", 0),
        ("999999999999999.99", "USD", 99_999_999_999_999_999),
    ],
)
def test_a_decimal_string_is_minor_units_of_its_currency_and_back(text: str, currency: str, minor: int) -> None:
    assert parse_minor(text, currency) == minor
    assert format_minor(minor, currency) == text


@pytest.mark.parametrize("text", ["", ".5", "5.", "1e3", "+1", " 1", "1,00", "NaN", "--1", "१", "1.0\n"])
def test_what_is_not_a_decimal_string_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="not a decimal string"):
        parse_minor(text, "USD")


@pytest.mark.parametrize(("text", "currency"), [("0.001", "USD"), ("1.5", "JPY"), ("0.00001", "CLF")])
def test_a_part_of_a_minor_unit_is_refused_and_never_rounded(text: str, currency: str) -> None:
    with pytest.raises(ValueError, match="decimal places"):
        parse_minor(text, currency)


def test_zeros_beyond_the_minor_unit_are_not_a_part_of_one() -> None:
    assert parse_minor("2.5000", "USD") == 250
    assert parse_minor("7.00", "JPY") == 7


@pytest.mark.parametrize(
    ("price", "currency", "text"),
    [
        ("220", "USD", "220.00"),
        ("220.00", "USD", "220.00"),
        ("220.10", "USD", "220.10"),
        ("0.123400", "USD", "0.1234"),
        ("220.00", "JPY", "220"),
        ("2.2E+2", "USD", "220.00"),
    ],
)
def test_equal_prices_have_equal_texts(price: str, currency: str, text: str) -> None:
    assert format_price(Decimal(price), currency) == text


@pytest.mark.parametrize(
    ("kept", "currency", "shown"),
    [("220", "USD", "220.00"), ("0.5", "USD", "0.50"), ("0.125", "USD", "0.125"), ("110", "JPY", "110")],
)
def test_a_price_as_the_books_keep_it_is_shown_with_the_places_of_its_currency(
    kept: str, currency: str, shown: str
) -> None:
    assert str(shown_price(Decimal(kept), currency)) == shown


def test_a_price_finer_than_a_minor_unit_stays_exact() -> None:
    numerator, denominator = minor_ratio(Decimal("0.123456"), "USD")
    assert numerator * 10_000 == 123_456 * denominator


@pytest.mark.parametrize(("currency", "text"), [("USD", "0.05"), ("JPY", "5"), ("KWD", "0.005"), ("CLF", "0.0005")])
def test_an_amount_of_any_currency_has_its_places_and_fits_the_wire(currency: str, text: str) -> None:
    assert str(to_decimal(5, currency)) == text
    assert re.fullmatch(MONEY, text)
