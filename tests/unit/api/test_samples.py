"""The samples against the price list of the seed: twelve models with units, prices, uptime and latency (issue 8)."""

from __future__ import annotations

from pathlib import Path
from typing import Final

import pytest
import yaml

from reserved_capacity.api.modeloffering import LongContext, ModelOffering
from reserved_capacity.api.pricebook import PriceBook
from reserved_capacity.domain.tokens.lots import Direction

_SAMPLES: Final = Path(__file__).parents[3] / "manifests/samples"
# Offering; tokens per minute and price a day of an input unit, of an output unit; tokens per second that 99 % exceed.
_PRICE_LIST: Final = (
    ("gpt-5", 25_000, "75.00", 2_500, "60.00", 50),
    ("gpt-5-mini", 500_000, "275.00", 50_000, "220.00", 80),
    ("gpt-4.1", 30_000, "110.00", 2_500, "36.00", 80),
    ("gpt-4.1-mini", 500_000, "450.00", 50_000, "175.00", 90),
    ("gpt-4.1-nano", 500_000, "110.00", 50_000, "40.00", 100),
    ("o3", 25_000, "75.00", 5_000, "60.00", 80),
    ("o4-mini", 30_000, "50.00", 5_000, "32.50", 90),
    ("gpt-4o", 30_000, "124.59", 2_500, "39.34", 80),
    ("gpt-4o-mini", 500_000, "114.75", 50_000, "49.18", 90),
    ("gpt-4o-mini-fine-tuning", 500_000, "229.50", 50_000, "98.36", 90),
    ("o1", 5_000, "163.93", 1_000, "131.15", 80),
    ("o3-mini", 30_000, "78.69", 5_000, "52.46", 90),
)
_WITHOUT_LONG_CONTEXT: Final = {"gpt-4.1", "gpt-4.1-mini", "gpt-4.1-nano"}


def sold() -> dict[str, ModelOffering]:
    files = (_SAMPLES / "catalogue").glob("*.yaml")
    documents = [yaml.safe_load(each.read_text(encoding="utf-8")) for each in files]
    offerings = [ModelOffering.parse(each) for each in documents if each["kind"] == "ModelOffering"]
    return {each.name: each for each in offerings if each.spec.token_units is not None}


def prices() -> dict[tuple[str, Direction], str]:
    book = PriceBook.parse(yaml.safe_load((_SAMPLES / "prices.yaml").read_text(encoding="utf-8")))
    return {(each.offering, each.direction): str(each.price_per_unit_day) for each in book.spec.token_units}


def test_exactly_the_models_of_the_price_list_are_sold_by_the_token_unit_and_priced() -> None:
    names = {row[0] for row in _PRICE_LIST}
    assert sold().keys() == names
    assert {offering for offering, _ in prices()} == names
    assert len(prices()) == 2 * len(names)


@pytest.mark.parametrize("row", _PRICE_LIST, ids=lambda row: str(row[0]))
def test_a_model_has_the_units_prices_uptime_and_latency_of_the_price_list(
    row: tuple[str, int, str, int, str, int],
) -> None:
    name, input_tpm, input_price, output_tpm, output_price, speed = row
    units = sold()[name].spec.token_units
    assert units is not None
    assert (units.input.tokens_per_minute, units.output.tokens_per_minute) == (input_tpm, output_tpm)
    assert (prices()[name, Direction.INPUT], prices()[name, Direction.OUTPUT]) == (input_price, output_price)
    assert units.latency is not None
    assert (units.latency.tokens_per_second, str(units.latency.percent)) == (speed, "99")
    assert (str(units.uptime), units.minimum_days) == ("99.9", 30)
    excluded = units.long_context is LongContext.EXCLUDED
    assert excluded == (name in _WITHOUT_LONG_CONTEXT)
