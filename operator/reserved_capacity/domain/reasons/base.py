"""The base of all reason enums: a reason is a word that also knows its status, its meaning and its remedy.

The API reference is generated from these tables, so the sentences are written for the person who reads the condition.
"""

from enum import StrEnum
from typing import Final, Self


class ConditionStatus(StrEnum):
    """Status of a condition."""

    TRUE = "True"
    FALSE = "False"
    UNKNOWN = "Unknown"


TRUE: Final = ConditionStatus.TRUE
FALSE: Final = ConditionStatus.FALSE
UNKNOWN: Final = ConditionStatus.UNKNOWN

NOTHING_TO_DO: Final = "Nothing to do."


class Reason(StrEnum):
    """A member is `value, status, meaning[, remedy]`; the value is what stands in `conditions[].reason`."""

    status: ConditionStatus
    meaning: str
    remedy: str

    def __new__(cls, value: str, status: ConditionStatus, meaning: str, remedy: str = NOTHING_TO_DO) -> Self:
        member = str.__new__(cls, value)
        member._value_ = value
        member.status = status
        member.meaning = meaning
        member.remedy = remedy
        return member

    @classmethod
    def of(cls, word: str) -> Self:
        """The member with that word; raises KeyError for a word that this condition does not carry."""
        return {member.value: member for member in cls}[word]


class Ready(Reason):
    """`Ready` takes the reason of the condition that decides it; this one stands when all is well."""

    READY = "Ready", TRUE, "This generation of the spec is fully realised and serving."
