r"""Logistic regression in one weight: the smallest problem with an empty argmin in equation 1."""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction

import sympy
from hypothesis import strategies as st
from hypothesis.strategies import SearchStrategy

from ..pasteable import Pasteable


@dataclass(frozen=True, repr=False)
class Logistic(Pasteable):
    r"""The loss $L(w) = \sum_i \log(1 + e^{-w z_i}) + \tfrac\lambda2 w^2$ and a point w = n ln 2 to look at.

    Attributes:
        margins: the zᵢ = yᵢ xᵢ, not zero.
        ridge: λ ≥ 0.
        n: where, in units of ln 2.
    """

    margins: tuple[int, ...]
    ridge: Fraction = Fraction(0)
    n: int = 0
    kind: str = "logistic regression"

    @property
    def margin(self) -> Fraction:
        """The best worst margin, max over w = ±1 of minᵢ w zᵢ; above 0, L falls for ever along a ray."""
        return Fraction(max(min(self.margins), min(-z for z in self.margins)))

    def loss(self, n: int) -> sympy.Expr:
        """L at w = n ln 2."""
        terms = sum(sympy.log(1 + sympy.Rational(2) ** (-n * z)) for z in self.margins)
        return terms + sympy.Rational(self.ridge) / 2 * (n * sympy.log(2)) ** 2

    @property
    def outside(self) -> tuple[bool, str]:
        """Whether w lies outside the ball λ w² / 2 ≥ L(0) in which all minimizers must be."""
        at = self.loss(0)
        penalty = sympy.Rational(self.ridge) / 2 * (self.n * sympy.log(2)) ** 2
        return bool(
            penalty.evalf(30) >= at.evalf(30)
        ), f"λw²/2 = {float(penalty):.3g}, L(0) = {float(at):.3g}"


@dataclass(frozen=True, repr=False)
class TrainedMargin(Pasteable):
    """The worst margin of a trained classifier over its examples: f_y minus the largest other output.

    If it is positive, scaling the last layer up lowers the cross-entropy for ever.
    """

    margin: float
    scale: float
    operations: int
    kind: str = "trained classifier"
    note: str = "the worst margin over the training examples; above 0, a larger head is always better"


nonzero = st.integers(1, 3) | st.integers(-3, -1)


def data_sets() -> SearchStrategy:
    """Up to three examples."""
    return st.builds(Logistic, st.lists(nonzero, min_size=1, max_size=3).map(tuple))


def with_ridge(ridges: tuple[int, int] = (1, 8)) -> SearchStrategy:
    """Data sets with a ridge in units of 1/2, looked at inside and outside of the ball."""
    ridge = st.integers(*ridges).map(lambda i: Fraction(i, 2))
    margins = st.lists(nonzero, min_size=1, max_size=2).map(tuple)
    return st.builds(Logistic, margins, ridge, st.integers(3, 16) | st.integers(-16, -3))
