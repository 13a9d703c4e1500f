"""Gaps of two subspaces at once, and of a Jacobian whose square is the Hessian."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from hypothesis import strategies as st

from ... import linalg, rational
from ...pasteable import Pasteable
from ..fact import Fact
from ..forms import gauss_newton_gap
from .gaps import Gap
from .matrices import exact_rank
from .tilted import Tilted
from .tilts import small, spread, structured


@dataclass(frozen=True, eq=False, repr=False)
class Nested(Pasteable):
    r"""A subspace range P inside of range [P, R], and range R by itself.

    Attributes:
        inner: the tilted quadratic with P.
        further: R, shape (d, m).
    """

    inner: Tilted
    further: np.ndarray
    kind = "nested subspaces"

    def _gap(self, directions: np.ndarray) -> Any:
        made = self.inner
        return Gap(made.hessian, directions, made.gradient, made.disturbance).gap

    @cached_property
    def gap(self) -> Any:
        """Of range P."""
        return self._gap(self.inner.directions)

    @cached_property
    def gap_of_both(self) -> Any:
        """Of range [P, R]."""
        return self._gap(np.column_stack([self.inner.directions, self.further]))

    @cached_property
    def gap_of_further(self) -> Any:
        """Of range R alone."""
        return self._gap(self.further)

    @property
    def larger(self) -> Fact:
        """Whether range R has more dimensions than range P."""
        both = (self.inner.directions, self.further)
        ranks = [exact_rank(A) if linalg.is_exact(A) else int(np.linalg.matrix_rank(A)) for A in both]
        return Fact(ranks[0] < ranks[1], f"dimensions {ranks[0]} and {ranks[1]}")

    @property
    def semidefiniteness(self) -> Fact:
        """Whether H ⪰ 0."""
        return self.inner.semidefiniteness

    @property
    def range_condition(self) -> Fact:
        """Whether u ∈ range H."""
        return self.inner.range_condition

    @property
    def scale(self) -> Any:
        """What rounding is relative to."""
        return self.inner.tilt_full

    @property
    def operations(self) -> int:
        """Rounded operations, times condition numbers."""
        return self.inner.operations


@st.composite
def nested(draw: st.DrawFn) -> Nested:
    """With one or two further directions, which need not be new."""
    inner = draw(small(definite=False) | structured() | spread())
    columns = draw(st.integers(1, 2))
    entry = st.integers(-2, 2)
    further = linalg.exact([[draw(entry) for _ in range(columns)] for _ in range(inner.d)])
    return Nested(inner, further if inner.is_exact else further.astype(np.float64))


@st.composite
def unrelated(draw: st.DrawFn) -> Nested:
    """One direction in three dimensions, and two others that need not contain it."""
    entry = st.integers(-1, 1)
    P, u = (linalg.exact([draw(entry) for _ in range(3)]) for _ in range(2))
    further = linalg.exact([[draw(entry), draw(entry)] for _ in range(3)])
    values = linalg.exact([draw(st.integers(1, 3)) for _ in range(3)])
    return Nested(Tilted(np.diag(values) + 0 * P, P[:, None], u, 0 * u), further)


@dataclass(frozen=True, eq=False, repr=False)
class Jacobian(Pasteable):
    r"""The Gauss–Newton model of residuals: $H = J^TJ$ and $u = J^Tr$.

    Attributes:
        jacobian: J, shape (n, d), float64 or exact.
        directions: P, shape (d, k).
        residuals: r, shape (n,).
    """

    jacobian: np.ndarray
    directions: np.ndarray
    residuals: np.ndarray
    kind = "Gauss–Newton model"

    @cached_property
    def squared(self) -> Gap:
        """The tilted quadratic with H formed."""
        J = self.jacobian
        return Gap(J.T @ J, self.directions, J.T @ self.residuals, 0 * J[0])

    @property
    def gap(self) -> Any:
        """Two measured minima."""
        return self.squared.gap

    @property
    def projected(self) -> Any:
        """½‖(Π_J − Π_JP) r‖²; in floating point what the library computes."""
        J, P, r = self.jacobian, self.directions, self.residuals
        if not linalg.is_exact(J):
            return gauss_newton_gap(J, P, r).value
        left = rational.projector(J) @ r - rational.projector(J @ P) @ r
        return left @ left / 2

    @property
    def unprojected(self) -> Any:
        """½‖(I − Π_JP) r‖², as if J could fit every residual."""
        J, P, r = self.jacobian, self.directions, self.residuals
        if linalg.is_exact(J):
            left = r - rational.projector(J @ P) @ r
        else:
            left = r - J @ P @ np.linalg.lstsq(J @ P, r, rcond=None)[0]
        return left @ left / 2

    @property
    def scale(self) -> Any:
        """What rounding is relative to."""
        return self.residuals @ self.residuals

    @property
    def operations(self) -> int:
        """Rounded operations, times condition numbers."""
        return self.squared.operations


@st.composite
def jacobians(draw: st.DrawFn) -> Jacobian:
    """Small integers with any ranks, or Gaussian ones; fewer residuals than parameters, or more."""
    d, n = draw(st.integers(1, 3)), draw(st.integers(1, 4))
    k = draw(st.integers(1, d))
    if draw(st.booleans()):
        rng = np.random.default_rng(draw(st.integers(0, 2**16)))
        return Jacobian(rng.normal(size=(n, d)), rng.normal(size=(d, k)), rng.normal(size=n))
    entry = st.integers(-2, 2)

    def matrix(rows: int, columns: int) -> np.ndarray:
        return linalg.exact([[draw(entry) for _ in range(columns)] for _ in range(rows)])

    return Jacobian(matrix(n, d), matrix(d, k), matrix(1, n)[0])
