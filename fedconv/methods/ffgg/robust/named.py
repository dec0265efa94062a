"""What aggregators, pre-steps and attacks have in common: a name, a table, and sentences about impossible settings."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any, ClassVar

from fedconv.core.checks import integer
from fedconv.problems.errors import InputError


class Registered:
    """Base of the frozen dataclasses in the registries; their fields are their settings."""

    name: ClassVar[str]

    def to_dict(self) -> dict[str, Any]:
        """The settings with the name, as JSON data."""
        return {"name": self.name, **asdict(self)}  # pyright: ignore[reportArgumentType]


def check_counts(n: int, f: int) -> None:
    """Raise InputError unless 0 ≤ f < n/2: f attackers among n messages."""
    integer("f", f, 0)
    if 2 * f >= n:
        raise InputError(f"f, the number of attackers, must be less than half of the {n} messages; got {f}")
