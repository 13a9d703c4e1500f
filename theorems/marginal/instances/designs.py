"""Least squares on given inputs, with all signs of the noise listed: expectations without any draw."""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from fractions import Fraction
from functools import cached_property

import numpy as np
from hypothesis import strategies as st

from ... import linalg, rational
from ...pasteable import Pasteable
from ..fixed_design import FixedDesign, fixed_design


@dataclass(frozen=True, eq=False, repr=False)
class Design(Pasteable):
    """$y = X θ* + ξ$ with ξ uniform on {±σ}ᴺ, whose covariance is σ²I; exact.

    Attributes:
        X: inputs, shape (N, d).
        P: basis of the updates, shape (d, k); dependent columns are allowed.
        theta: θ*, shape (d,).
        deviation: σ.
    """

    X: np.ndarray
    P: np.ndarray
    theta: np.ndarray
    deviation: Fraction
    kind = "fixed design"

    @cached_property
    def exact(self) -> FixedDesign:
        """The library's closed form."""
        return fixed_design(self.X, self.P, self.theta, self.deviation**2)

    @cached_property
    def _fits(self) -> list[tuple[np.ndarray, np.ndarray]]:
        """The predictions of the fit and the labels, for each of the 2ᴺ signs; by the normal equations."""
        features, fits = self.X @ self.P, []
        for signs in itertools.product((-1, 1), repeat=len(self.X)):
            y = self.X @ self.theta + self.deviation * linalg.exact(list(signs))
            fits.append((features @ rational.solve(features.T @ features, features.T @ y), y))
        return fits

    @property
    def excess(self) -> Fraction:
        """E‖X(θ̂ − θ*)‖²/N, the mean over all signs."""
        return self._mean([fit - self.X @ self.theta for fit, _ in self._fits])

    @property
    def training(self) -> Fraction:
        """E‖y − Xθ̂‖²/N, the mean over all signs."""
        return self._mean([y - fit for fit, y in self._fits])

    def _mean(self, errors: list[np.ndarray]) -> Fraction:
        return sum(error @ error for error in errors) / Fraction(len(errors) * len(self.X))

    @property
    def claimed(self) -> Fraction:
        """The training loss σ²(N − k)/N of k independent directions."""
        return self.deviation**2 * Fraction(len(self.X) - self.P.shape[1], len(self.X))

    @property
    def counted(self) -> Fraction:
        """The excess with the number of parameters in place of the rank."""
        return self.exact.missed + self.deviation**2 * Fraction(self.P.shape[1], len(self.X))


@st.composite
def designs(draw: st.DrawFn, *, full: bool = False) -> Design:
    """Up to four examples and three parameters, often dependent ones; P = I if `full`."""
    N, d, entry = draw(st.integers(1, 4)), draw(st.integers(1, 3)), st.integers(-2, 2)
    k = d if full else draw(st.integers(1, d))

    def matrix(rows: int, columns: int) -> np.ndarray:
        return linalg.exact([[draw(entry) for _ in range(columns)] for _ in range(rows)])

    X, theta = matrix(N, d), matrix(1, d)[0]
    P = rational.identity(d) if full else matrix(d, k)
    return Design(X, P, theta, Fraction(draw(st.integers(0, 3)), draw(st.integers(1, 2))))
