"""What a member runs, as one value (behaviour.md R1, R5, S1)."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, order=True)
class Version:
    """An exact snapshot with a performance profile. A member never changes it; a change of either is a rollout."""

    snapshot: str
    profile: str = "default"

    def __str__(self) -> str:
        return self.snapshot if self.profile == "default" else f"{self.snapshot} ({self.profile})"
