r"""A loss with many minima and maps g of any shape, for what holds without any convexity."""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction
from functools import cached_property
from itertools import product
from typing import Any

import numpy as np
from hypothesis import strategies as st

from ... import linalg
from ...pasteable import Pasteable

PLACES = tuple(Fraction(i, 2) for i in range(-4, 5))


@dataclass(frozen=True, eq=False, repr=False)
class Landscape(Pasteable):
    r"""$L'(\theta) = \sum_j c_j(\theta_j^2 - w_j^2)^2$, with 2ᵈ minima, and $g(\phi) = a + b\phi + e\phi^2$.

    Attributes:
        wells: w, shape (d,).
        depths: c > 0, shape (d,).
        curve: the coefficients a, b and e as rows, shape (3, d).
    """

    wells: np.ndarray
    depths: np.ndarray
    curve: np.ndarray
    kind = "loss with many minima"

    def loss(self, theta: np.ndarray) -> Any:
        """L'."""
        return self.depths @ (theta**2 - self.wells**2) ** 2

    @cached_property
    def reached(self) -> Any:
        """The least loss on the curve, at finitely many places: none may be better than the optimum."""
        a, b, e = self.curve
        return min(self.loss(a + b * phi + e * phi**2) for phi in PLACES)

    @cached_property
    def optimum(self) -> Any:
        """The least loss at its stationary points, where each coordinate is 0 or ±w."""
        return min(
            self.loss(np.array(point, dtype=object)) for point in product(*([0 * w, w] for w in self.wells))
        )


@st.composite
def landscapes(draw: st.DrawFn) -> Landscape:
    """Up to three parameters, small integers."""
    d = draw(st.integers(1, 3))

    def vector(low: int, high: int) -> np.ndarray:
        return linalg.exact([draw(st.integers(low, high)) for _ in range(d)])

    curve = np.array([vector(-2, 2) for _ in range(3)])
    return Landscape(vector(0, 2), vector(1, 3), curve)
