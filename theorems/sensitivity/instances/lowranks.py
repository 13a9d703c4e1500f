r"""Losses of a matrix-shaped parameter, and the best update of rank at most r: exact, or the best found.

With separable weights, $\frac12\sum_{ij}a_ib_j(D-\Delta)_{ij}^2$ is half the squared distance of
$\sqrt a D\sqrt b$ from $\sqrt a\Delta\sqrt b$, and scaling keeps ranks: Eckart and Young give its infimum
over rank D ≤ r, though the loss is not isotropic.  Elsewhere only an upper estimate of the infimum is
known; a lower bound of the infimum has to stay below that as well.
"""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction
from functools import cached_property
from typing import Any

import numpy as np
from hypothesis import strategies as st

from ... import linalg
from ...pasteable import Pasteable
from .logistic import Ridge

ROUNDS = 8


@dataclass(frozen=True, eq=False, repr=False)
class Separable(Pasteable):
    r"""The loss $\frac12\sum_{ij}a_ib_j(D-\Delta)_{ij}^2$ around a diagonal Δ, exact.

    Attributes:
        values: the diagonal of Δ.
        rows: a > 0.
        columns: b > 0.
        rank: r, of LoRA.
    """

    values: np.ndarray
    rows: np.ndarray
    columns: np.ndarray
    rank: int
    kind = "separable weights"
    optimum = Fraction(0)

    @property
    def reached(self) -> Any:
        """The infimum over rank D ≤ r: half the squares of √(a_i b_i) Δ_i but for the r largest."""
        squares = sorted(self.rows * self.columns * self.values**2)
        return sum(squares[: len(self.values) - self.rank]) / Fraction(2)

    @property
    def tail(self) -> Any:
        """Σ_{i>r} σ_i(Δ)²."""
        return sum(sorted(self.values**2)[: len(self.values) - self.rank])

    @property
    def mu(self) -> Any:
        """The least weight."""
        return min(self.rows) * min(self.columns)

    @property
    def beta(self) -> Any:
        """The largest weight."""
        return max(self.rows) * max(self.columns)


@st.composite
def separables(draw: st.DrawFn, *, different: bool = False) -> Separable:
    """Up to 3 × 3; weights 1 … 4."""
    n = draw(st.integers(1, 3))

    def vector(low: int, high: int) -> np.ndarray:
        return linalg.exact([draw(st.integers(low, high)) for _ in range(n)])

    return Separable(vector(-4, 4), vector(1, 4), vector(1, 4), draw(st.integers(0, n)))


@dataclass(frozen=True, repr=False)
class MatrixLogistic(Pasteable):
    r"""Ridge logistic regression whose parameter is a matrix, θ₀ = 0, and LoRA of rank 1 on it.

    Attributes:
        sides: of the matrix.
        samples: N.
        ridge: μ.
        seed: of the data.

    `reached` is what alternating minimisation finds, each half of which is convex: an upper estimate.
    """

    sides: tuple[int, int]
    samples: int
    ridge: float
    seed: int = 0
    kind = "logistic regression on matrices"

    @cached_property
    def loss(self) -> Ridge:
        """On the disturbed data."""
        rng = np.random.default_rng(self.seed)
        d = self.sides[0] * self.sides[1]
        x = rng.normal(size=(self.samples, d))
        labels = np.where(x @ rng.normal(size=d) + rng.normal(size=self.samples) > 0, 1.0, -1.0)
        return Ridge(x * labels[:, None], self.ridge)

    @cached_property
    def _full(self) -> tuple[np.ndarray, float]:
        d = self.loss.x.shape[1]
        return self.loss.least(np.zeros(d), np.eye(d))

    @cached_property
    def _svd(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        return np.linalg.svd(self._full[0].reshape(self.sides))

    @property
    def optimum(self) -> float:
        """The least loss."""
        return self.loss.value(self._full[0])

    @property
    def tail(self) -> float:
        """Σ_{i>1} σ_i²  of the minimiser."""
        return float(np.sum(self._svd[1][1:] ** 2))

    @cached_property
    def reached(self) -> float:
        """The least loss at rank 1 that was found, from each singular direction."""
        return min(self._alternate(row) for row in self._svd[2][:2])

    def _alternate(self, row: np.ndarray) -> float:
        m, n = self.sides
        theta = np.zeros(m * n)
        for _ in range(ROUNDS):
            theta, _ = self.loss.least(0 * theta, np.kron(np.eye(m), row[:, None] / np.linalg.norm(row)))
            column = theta.reshape(m, n) @ row
            if not column.any():
                break
            across = np.kron(column[:, None] / np.linalg.norm(column), np.eye(n))
            theta, _ = self.loss.least(0 * theta, across)
            row = column @ theta.reshape(m, n)
        return self.loss.value(theta)

    @property
    def mu(self) -> float:
        """Strong convexity."""
        return self.loss.mu

    @property
    def beta(self) -> float:
        """Smoothness."""
        return self.loss.beta

    @property
    def error(self) -> float:
        """How far optimum and tail may be off."""
        moved = np.sqrt(2 * self._full[1] / self.mu)
        return self._full[1] + self.mu * moved * (self.tail**0.5 + moved)

    @property
    def scale(self) -> float:
        """What rounding is relative to."""
        return abs(self.reached) + self.beta * (1 + self.tail)

    @property
    def operations(self) -> int:
        """Rounded operations behind a value."""
        return self.loss.operations


@st.composite
def matrix_logistics(draw: st.DrawFn) -> MatrixLogistic:
    """2 × 2 and 2 × 3."""
    sides = (2, draw(st.integers(2, 3)))
    ridge = draw(st.sampled_from((0.01, 0.1, 1.0)))
    return MatrixLogistic(sides, draw(st.integers(6, 12)), ridge, draw(st.integers(0, 999)))
