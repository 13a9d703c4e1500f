"""How a hypothesis fares, with what shows it."""

from __future__ import annotations

from typing import Any, NamedTuple


class Fact(NamedTuple):
    """Whether a hypothesis is met on an instance, and what it was seen by; what an `Assumption` returns."""

    met: bool
    shown: Any

    def __bool__(self) -> bool:
        """Whether it is met."""
        return bool(self.met)
