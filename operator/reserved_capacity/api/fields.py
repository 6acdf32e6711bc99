"""Types of single fields: bounded strings and numbers, money, dates, times and durations with their wire form.

Money and ratios are decimal strings on the wire and `Decimal` in Python; a float is refused. Times are UTC and whole
seconds, so that what was written reads back equal and a settled world compares as settled.
"""

import re
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from typing import Annotated, Any, Final

from pydantic import AfterValidator, AwareDatetime, BeforeValidator, Field, PlainSerializer, WithJsonSchema

INT32_MAX: Final = 2**31 - 1
# The API server reads bounds as floats, so a bound beyond 2**53 is refused at the CRD's creation.
LONG_MAX: Final = 2**53 - 1

DNS_LABEL: Final = r"^[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?$"
DNS_SUBDOMAIN: Final = r"^[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*$"
INSTANCE_NAME: Final = r"^[a-z]([-a-z0-9]{0,38}[a-z0-9])?$"
TOKEN: Final = r"^[A-Za-z0-9]([-A-Za-z0-9_.]{0,61}[A-Za-z0-9])?$"  # noqa: S105  a label value, not a secret
QUALIFIED_NAME: Final = r"^([a-z0-9]([-a-z0-9.]*[a-z0-9])?/)?[A-Za-z0-9]([-A-Za-z0-9_.]{0,61}[A-Za-z0-9])?$"
DURATION: Final = r"^([0-9]+h)?([0-9]+m)?([0-9]+s)?$"
# Up to four decimal places: as many as a minor unit of any currency has (ISO 4217: KWD three, CLF four).
MONEY: Final = r"^[0-9]{1,15}(\.[0-9]{1,4})?$"
SIGNED_MONEY: Final = r"^-?[0-9]{1,15}(\.[0-9]{1,4})?$"
PERCENT: Final = r"^(100(\.0{1,4})?|[0-9]{1,2}(\.[0-9]{1,4})?)$"
RATIO: Final = r"^[0-9]{1,9}(\.[0-9]{1,6})?$"
FRACTION: Final = r"^(1(\.0{1,4})?|0(\.[0-9]{1,4})?)$"
OCI_DIGEST: Final = r"^oci://[a-z0-9][-a-zA-Z0-9._:/]*@sha256:[a-f0-9]{64}$"
MONTH: Final = r"^[0-9]{4}-(0[1-9]|1[0-2])$"
CURRENCY: Final = r"^[A-Z]{3}$"

Label = Annotated[str, Field(min_length=1, max_length=63, pattern=DNS_LABEL)]
Subdomain = Annotated[str, Field(min_length=1, max_length=253, pattern=DNS_SUBDOMAIN)]
OfferingName = Annotated[str, Field(min_length=1, max_length=63, pattern=DNS_SUBDOMAIN)]
InstanceName = Annotated[str, Field(min_length=1, max_length=40, pattern=INSTANCE_NAME)]
Token = Annotated[str, Field(min_length=1, max_length=63, pattern=TOKEN)]
QualifiedName = Annotated[str, Field(min_length=1, max_length=317, pattern=QUALIFIED_NAME)]
NodeName = Annotated[str, Field(min_length=1, max_length=253)]
Word = Annotated[str, Field(max_length=63)]
Text = Annotated[str, Field(max_length=1024)]
LongText = Annotated[str, Field(max_length=32768)]
Quantity = Annotated[str, Field(min_length=1, max_length=32, pattern=r"^[0-9]+(\.[0-9]+)?([EPTGMk]i?|m)?$")]
Currency = Annotated[str, Field(min_length=3, max_length=3, pattern=CURRENCY)]
Month = Annotated[str, Field(min_length=7, max_length=7, pattern=MONTH)]

Count = Annotated[int, Field(ge=0, le=INT32_MAX)]
ComputeUnits = Annotated[int, Field(ge=0, le=1_000_000_000)]
Blocks = Annotated[int, Field(ge=0, le=10_000_000)]
TokensPerMinute = Annotated[int, Field(ge=0, le=1_000_000_000_000)]
Long = Annotated[int, Field(ge=0, le=LONG_MAX)]
StringMap = Annotated[
    dict[
        Annotated[str, Field(max_length=317)],
        Annotated[str, Field(max_length=1024)],
    ],
    Field(max_length=64),
]


def _decimal(value: Any) -> Decimal:
    if isinstance(value, Decimal):
        return value
    if not isinstance(value, str):
        raise ValueError("must be a decimal string, for example '220.00'")
    if not re.fullmatch(r"-?[0-9]{1,15}(\.[0-9]{1,6})?", value):
        raise ValueError(f"{value!r} is not a decimal string, for example '220.00'")
    return Decimal(value)


def _decimal_text(value: Decimal) -> str:
    return format(value, "f")


def _decimal_field(pattern: str, max_length: int) -> dict[str, Any]:
    return {"type": "string", "pattern": pattern, "maxLength": max_length}


_FROM_STRING = BeforeValidator(_decimal)
_TO_STRING = PlainSerializer(_decimal_text, return_type=str)

Money = Annotated[Decimal, _FROM_STRING, _TO_STRING, WithJsonSchema(_decimal_field(MONEY, 20))]
SignedMoney = Annotated[Decimal, _FROM_STRING, _TO_STRING, WithJsonSchema(_decimal_field(SIGNED_MONEY, 21))]
Percent = Annotated[Decimal, _FROM_STRING, _TO_STRING, WithJsonSchema(_decimal_field(PERCENT, 8))]
Ratio = Annotated[Decimal, _FROM_STRING, _TO_STRING, WithJsonSchema(_decimal_field(RATIO, 16))]
ThroughputRatio = Annotated[str, Field(pattern=r"^(NotMeasured|[0-9]{1,9}(\.[0-9]{1,6})?)$", max_length=16)]
Fraction = Annotated[Decimal, _FROM_STRING, _TO_STRING, WithJsonSchema(_decimal_field(FRACTION, 6))]


def _utc_seconds(value: datetime) -> datetime:
    if value.tzinfo is UTC and not value.microsecond:
        return value  # as all of our own are
    return value.astimezone(UTC).replace(microsecond=0)


def _rfc3339(value: datetime) -> str:
    return f"{value.astimezone(UTC).isoformat(timespec='seconds')[:19]}Z"


Timestamp = Annotated[
    AwareDatetime,
    AfterValidator(_utc_seconds),
    PlainSerializer(_rfc3339, return_type=str, when_used="json"),
    WithJsonSchema({"type": "string", "format": "date-time", "maxLength": 64}),
]
Day = Annotated[date, WithJsonSchema({"type": "string", "format": "date", "maxLength": 10})]


def parse_duration(text: str) -> timedelta:
    """`1h30m`, `45s`. Raises ValueError for anything else, the empty string included."""
    match = re.fullmatch(r"(?:([0-9]{1,7})h)?(?:([0-9]{1,7})m)?(?:([0-9]{1,7})s)?", text)
    if not text or not match:
        raise ValueError(f"{text!r} is not a duration such as 45s, 10m or 1h30m")
    hours, minutes, seconds = (int(part or 0) for part in match.groups())
    return timedelta(hours=hours, minutes=minutes, seconds=seconds)


def format_duration(value: timedelta) -> str:
    """The shortest form that `parse_duration` reads back; zero is `0s`."""
    minutes, seconds = divmod(int(value.total_seconds()), 60)
    hours, minutes = divmod(minutes, 60)
    parts = ((hours, "h"), (minutes, "m"), (seconds, "s"))
    return "".join(f"{count}{unit}" for count, unit in parts if count) or "0s"


def _duration(value: Any) -> Any:
    return parse_duration(value) if isinstance(value, str) else value


Duration = Annotated[
    timedelta,
    BeforeValidator(_duration),
    PlainSerializer(format_duration, return_type=str, when_used="json"),
    WithJsonSchema({"type": "string", "pattern": DURATION, "minLength": 2, "maxLength": 20}),
]
