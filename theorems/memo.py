"""What was computed last: many claims ask for the same thing of the same network in a row."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import TypeVar

Given = TypeVar("Given")
Result = TypeVar("Result")


def latest(
    compute: Callable[[Given], Result], key: Callable[[Given], object] | None = None
) -> Callable[[Given], Result]:
    """Remember the result for the argument looked at last.

    Args:
        compute: a function of one argument; what raises is not remembered.
        key: what tells two arguments apart; the argument itself if None.
    """
    last: list[tuple[object, Result]] = []

    @functools.wraps(compute)
    def remembered(given: Given) -> Result:
        now = given if key is None else key(given)
        if not last or last[0][0] != now:
            last[:] = [(now, compute(given))]
        return last[0][1]

    return remembered
