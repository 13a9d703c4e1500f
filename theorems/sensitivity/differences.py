r"""Derivatives of polynomials of degree four or less, without differentiating: exact in fractions.

The central formulas on five points have no remainder there, so that a printed derivative can be held against
the function itself, with nothing between.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

Function = Callable[[np.ndarray], Any]


def gradient(f: Function, x: np.ndarray) -> np.ndarray:
    r"""The gradient of f at x, shape (n,), or the Jacobian, shape (n, m), of an f with m values.

    $f'(0) = \frac{8\,(f(1) - f(-1)) - (f(2) - f(-2))}{12}$ along each axis, exact for degree 4 or less.
    """
    return np.array([_slope(lambda t, e=e: f(x + t * e)) for e in np.eye(len(x), dtype=int)])


def hessian(f: Function, x: np.ndarray) -> np.ndarray:
    r"""The Hessian of f at x, shape (n, n) and further axes of f's values.

    $f''(0) = \frac{16\,(f(1) + f(-1)) - (f(2) + f(-2)) - 30 f(0)}{12}$ along axes and, for mixed
    derivatives, along sums of two of them; exact for degree 4 or less.
    """
    units = np.eye(len(x), dtype=int)

    def bend(direction: np.ndarray) -> Any:
        return _bend(lambda t: f(x + t * direction))

    own = [bend(e) for e in units]
    rows = [
        [own[i] if i == j else (bend(units[i] + units[j]) - own[i] - own[j]) / 2 for j in range(len(x))]
        for i in range(len(x))
    ]
    return np.array(rows)


def _slope(f: Callable[[int], Any]) -> Any:
    return (8 * (f(1) - f(-1)) - (f(2) - f(-2))) / 12


def _bend(f: Callable[[int], Any]) -> Any:
    return (16 * (f(1) + f(-1)) - (f(2) + f(-2)) - 30 * f(0)) / 12
