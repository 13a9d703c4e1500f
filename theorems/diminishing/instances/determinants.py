r"""The loss $(\det D - 1)^2$: no singular matrix improves it, so all the gain comes with the last rank."""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction
from functools import cached_property

import numpy as np
import sympy
from hypothesis import strategies as st

from ... import linalg
from ...pasteable import Pasteable


def determinant(matrix: np.ndarray) -> Fraction:
    """Exact determinant."""
    return Fraction(str(sympy.Matrix(matrix.tolist()).det()))


@dataclass(frozen=True, eq=False, repr=False)
class Determinant(Pasteable):
    r"""$L(D) = (\det D - \delta)^2$ on n × n matrices, minimised at $\operatorname{diag}(\delta, 1, …)$.

    Attributes:
        n: the side.
        target: δ > 0.
    """

    n: int
    target: Fraction = Fraction(1)
    kind = "determinant loss"

    @property
    def values(self) -> np.ndarray:
        """The best loss V(r) at each rank: δ² below rank n, where the determinant is 0, and then 0."""
        return np.array([self.target**2] * self.n + [Fraction(0)], dtype=object)

    @property
    def gains(self) -> np.ndarray:
        """V(r) − V(r + 1)."""
        return self.values[:-1] - self.values[1:]

    @property
    def halves(self) -> np.ndarray:
        """Half the squared singular values of the minimiser, in descending order."""
        one = [Fraction(1)] * (self.n - 1)
        return np.array(sorted([self.target**2, *one], reverse=True), dtype=object) / 2


def determinants() -> st.SearchStrategy[Determinant]:
    """Sides 2 … 5."""
    return st.builds(Determinant, st.integers(2, 5), st.builds(Fraction, st.integers(1, 4)))


@dataclass(frozen=True, eq=False, repr=False)
class Segment(Pasteable):
    r"""The loss $(\det D - 1)^2$ on 2 × 2 matrices along the segment from Δ to another matrix, exact."""

    start: np.ndarray
    end: np.ndarray
    kind = "segment of the determinant loss"

    @property
    def step(self) -> np.ndarray:
        """D, the whole way."""
        return self.end - self.start

    @property
    def change(self) -> Fraction:
        """L at the end less L at the start."""
        return (determinant(self.end) - 1) ** 2 - (determinant(self.start) - 1) ** 2

    @property
    def slope(self) -> Fraction:
        """⟨∇L(start), D⟩, with the adjugate as the gradient of the determinant."""
        return 2 * (determinant(self.start) - 1) * _pair(_cofactors(self.start), self.step)

    def curvature(self, t: Fraction) -> Fraction:
        """Dᵀ H D at start + t D: det is quadratic, with second derivative 2 det D."""
        at = self.start + t * self.step
        first = _pair(_cofactors(at), self.step)
        return 2 * first**2 + 4 * (determinant(at) - 1) * determinant(self.step)

    @property
    def remainder(self) -> Fraction:
        """∫ (1 − t) DᵀH(t)D dt by Simpson's rule, which is exact for polynomials of degree 3."""
        t = (Fraction(0), Fraction(1, 2), Fraction(1))
        values = [(1 - one) * self.curvature(one) for one in t]
        return (values[0] + 4 * values[1] + values[2]) / 6

    @cached_property
    def expansion(self) -> Fraction:
        """The right side of the identity."""
        return self.slope + self.remainder

    @property
    def frozen(self) -> Fraction:
        """The same with the Hessian of the start everywhere."""
        return self.slope + self.curvature(Fraction(0)) / 2


def _cofactors(a: np.ndarray) -> np.ndarray:
    return linalg.exact([[a[1, 1], -a[1, 0]], [-a[0, 1], a[0, 0]]])


def _pair(a: np.ndarray, b: np.ndarray) -> Fraction:
    return (a * b).sum()


def segments() -> st.SearchStrategy[Segment]:
    """Between 2 × 2 matrices of small integers."""
    entry = st.integers(-3, 3)
    matrix = st.lists(entry, min_size=4, max_size=4).map(lambda e: linalg.exact([e[:2], e[2:]]))
    return st.builds(Segment, matrix, matrix)
