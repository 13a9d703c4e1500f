"""Comparisons and hypotheses that several repairs of Theorem 4 share."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np

from ..claims import Assumption, Comparison, at_most
from ..comparison import OPERATIONS

Side = Callable[[Any], Any]

disturbance_in_range = Assumption("ε ∈ range H", lambda i: i.disturbance_range)
both_in_range = Assumption("g, u ∈ range H", lambda i: i.share_range)
along_nothing = Assumption("ε_∥ = 0", lambda i: i.crossing)


def _known(i: Any, size: Side | None) -> tuple[Any, int, Any]:
    """Scale, operations and a further error: none for fractions, and no scale where something is infinite."""
    if getattr(i, "is_exact", False):
        return None, OPERATIONS, 0.0
    scale = getattr(i, "scale", None) if size is None else size(i)
    if scale is not None:
        scale = np.nan_to_num(np.asarray(scale, np.float64), posinf=0.0)
    return scale, getattr(i, "operations", OPERATIONS), getattr(i, "error", 0.0)


def _sides(i: Any, lhs: Side, rhs: Side) -> tuple[np.ndarray, np.ndarray]:
    """Both sides; where both are one infinity, as without a minimum, they differ by nothing."""
    left, right = np.broadcast_arrays(lhs(i), rhs(i))
    same = (left == right) & _infinite(left)
    return (np.where(same, 0, left), np.where(same, 0, right)) if same.any() else (left, right)


def _infinite(values: np.ndarray) -> np.ndarray:
    return np.vectorize(lambda value: bool(abs(value) == math.inf), otypes=[bool])(values)


def equal(lhs: Side, rhs: Side, size: Side | None = None) -> Callable[[Any], Comparison]:
    """Compare two sides; rounding is relative to `size`, or to the scale of the instance."""

    def compare(i: Any) -> Comparison:
        left, right = _sides(i, lhs, rhs)
        return Comparison(left, "==", right, *_known(i, size))

    return compare


def below(lhs: Side, bound: Side, size: Side | None = None) -> Callable[[Any], Comparison]:
    """Compare with a bound that may be attained: it is rounded up, and enlarged by what else may be off."""

    def compare(i: Any) -> Comparison:
        scale, operations, error = _known(i, size)
        left, right = _sides(i, lhs, bound)
        plain = at_most(left, right, scale=scale, operations=operations)
        return plain if plain.is_exact else replace(plain, rhs=plain.rhs + 2 * error, extra=error)

    return compare


def mean(lhs: Side, rhs: Side, rival: Side, error: Side) -> Callable[[Any], Comparison]:
    """Compare a mean with what it should be; of draws with its standard error, and beside a rival."""

    def compare(i: Any) -> Comparison:
        off = error(i)
        if off is None:
            return Comparison(lhs(i), "==", rhs(i))
        return Comparison(lhs(i), "==", rhs(i), standard_error=off, rival=rival(i))

    return compare


def positive(value: Side, size: Side | None = None) -> Callable[[Any], Comparison]:
    """Compare −value with 0, which may be attained."""
    return below(lambda i: -value(i), lambda _: 0, size)


def pair(*sides: Side) -> Side:
    """Several sides as one."""
    return lambda i: np.array([side(i) for side in sides])


def stacked(*sides: Side) -> Side:
    """Arrays and numbers, one after the other."""
    return lambda i: np.concatenate([np.atleast_1d(side(i)) for side in sides])
