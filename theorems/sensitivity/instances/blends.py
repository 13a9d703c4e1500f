r"""Losses that turn into others, $L_t = (1-t)L + tL'$, and what the gap of their minima is for small t.

A gap over t² is measured at several t, away from 0, and continued to 0: for quadratic losses exactly, since
there it is a quotient of polynomials with a known denominator, and for others by Richardson's extrapolation.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from fractions import Fraction
from functools import cached_property
from typing import Any

import numpy as np
from hypothesis import strategies as st

from ... import linalg, rational
from ...pasteable import Pasteable
from ..fact import Fact
from ..gap import residual_gap
from ..readaptation.paths import limit
from .gaps import Gap

HALVINGS = tuple(2.0**-n for n in range(12, 5, -1))
_NEWTON = 60


@dataclass(frozen=True, eq=False, repr=False)
class Blend(Pasteable):
    r"""Two quadratic losses, exact.

    $L = g^Tx + \frac12x^THx$ and $L' = (g+u)^Tx + \frac12x^TH'x$; both methods start at x = 0.

    Attributes:
        hessian: H ≻ 0, shape (d, d).
        other: H' ≻ 0.
        directions: P, of full column rank, shape (d, k).
        tilt: u, shape (d,).
        gradient: g; 0 where L is stationary.
    """

    hessian: np.ndarray
    other: np.ndarray
    directions: np.ndarray
    tilt: np.ndarray
    gradient: np.ndarray
    kind = "two quadratic losses"

    def gap(self, t: Fraction) -> Any:
        """The least L_t on the range of P less the least of all, each by completing squares."""
        return self._at(t).gap

    def _at(self, t: Fraction) -> Gap:
        H = (1 - t) * self.hessian + t * self.other
        return Gap(H, self.directions, self.gradient, t * self.tilt)

    @cached_property
    def limit(self) -> Any:
        """What gap / t² tends to for t → 0, continued from t = 1/2, 1/3, … alone.

        Times det H_t and det PᵀH_tP it is a polynomial.
        """
        degree = len(self.tilt) + self.directions.shape[1]

        def cleared(t: Fraction) -> Any:
            return self.gap(t) / t**2 * self._denominator(t)

        return continued(cleared, degree) / self._denominator(Fraction(0))

    def _denominator(self, t: Fraction) -> Any:
        H = self._at(t).hessian
        return determinant(H) * determinant(self.directions.T @ H @ self.directions)

    @cached_property
    def predicted(self) -> Any:
        """½‖(I − Q)H^(−1/2)u‖²."""
        return self._model.residual

    @cached_property
    def printed(self) -> Any:
        """(53) less (47), types repaired."""
        return self._model.printed_gap

    @property
    def _model(self) -> Gap:
        return Gap(self.hessian, self.directions, 0 * self.tilt, self.tilt)

    @property
    def definiteness(self) -> Fact:
        """Whether H ≻ 0."""
        return self._model.definiteness

    @property
    def stationarity(self) -> Fact:
        """Whether ∇L = 0 where both start."""
        return Fact(not self.gradient.any(), f"∇L = {self.gradient.tolist()}")


def continued(function: Callable[[Fraction], Any], degree: int) -> Any:
    """The value at 0 of a polynomial of that degree, from its values at 1/2, 1/3, ….

    Raises:
        ValueError: one more value is not as that degree has it.
    """
    places = [Fraction(1, n + 2) for n in range(degree + 2)]
    values = [function(t) for t in places]
    found = [_at_zero(places[m:], values[m:]) for m in (0, 1)]
    if found[0] != found[1]:
        raise ValueError(
            f"degree: got {degree}, needs that of the function; its values do not agree on one at 0"
        )
    return found[0]


def _at_zero(places: list[Fraction], values: list[Any]) -> Any:
    total = Fraction(0)
    for i, (t, value) in enumerate(zip(places, values, strict=True)):
        others = [s / (s - t) for j, s in enumerate(places) if j != i]
        total += value * np.prod(others, dtype=object)
    return total


def determinant(A: np.ndarray) -> Any:
    """Of a small exact matrix, along its first row."""
    if len(A) == 0:
        return Fraction(1)
    rest = [np.delete(A[1:], j, axis=1) for j in range(len(A))]
    return sum((-1) ** j * A[0, j] * determinant(minor) for j, minor in enumerate(rest))


@st.composite
def blends(draw: st.DrawFn) -> Blend:
    """Up to three parameters, small integers."""
    d = draw(st.integers(1, 3))
    k = draw(st.integers(1, d))

    def matrix(rows: int, columns: int) -> np.ndarray:
        flat = [draw(st.integers(-1, 1)) for _ in range(rows * columns)]
        return linalg.exact(flat).reshape(rows, columns)

    def definite() -> np.ndarray:
        M = matrix(d, d)
        return M @ M.T + draw(st.integers(1, 3)) * rational.identity(d)

    P = np.concatenate([rational.identity(k), matrix(d - k, k)])
    u = linalg.exact([draw(st.integers(-2, 2)) for _ in range(d)])
    return Blend(definite(), definite(), P, u, 0 * u)


@dataclass(frozen=True, repr=False)
class Exponentials(Pasteable):
    r"""Two convex losses that are not quadratic, float64, both with a minimum that Newton's method finds.

    $L(x) = \sum_j(e^{a_j^Tx}-1-a_j^Tx) + \frac c2\|x\|^2$, stationary at 0, and L' likewise with other $a_j$,
    plus $u^Tx$.

    Attributes:
        d: parameters.
        k: directions.
        ridge: c.
        seed: of all numbers.
    """

    d: int
    k: int
    ridge: float
    seed: int = 0
    kind = "two convex losses"

    @cached_property
    def _drawn(self) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
        rng = np.random.default_rng(self.seed)
        A, B = rng.normal(size=(2, self.d + 1, self.d)) / 2
        return A, B, rng.normal(size=(self.d, self.k)), rng.normal(size=self.d)

    def least(self, t: float, basis: np.ndarray) -> float:
        """The least L_t over the range of orthonormal columns, less its value at 0."""
        A, B, _, u = self._drawn
        rows = np.concatenate([A, B]) @ basis
        weights = np.repeat([1 - t, t], [len(A), len(B)])
        z = np.zeros(basis.shape[1])
        for _ in range(_NEWTON):
            s = rows @ z
            slope = rows.T @ (weights * np.expm1(s)) + self.ridge * z + t * (basis.T @ u)
            bend = (rows.T * (weights * np.exp(s))) @ rows + self.ridge * np.eye(len(z))
            step = np.linalg.solve(bend, slope)
            z = z - step / max(1.0, float(np.linalg.norm(step)))
        s = rows @ z
        return float(weights @ (np.expm1(s) - s) + self.ridge / 2 * z @ z + t * (u @ (basis @ z)))

    @cached_property
    def _measured(self) -> tuple[float, float]:
        P = np.linalg.qr(self._drawn[2])[0]
        gaps = [self.least(t, P) - self.least(t, np.eye(self.d)) for t in HALVINGS]
        squares = np.square(HALVINGS)
        found, error, weights = limit(HALVINGS, np.array(gaps) / squares)
        rounding = (
            linalg.gamma(self.operations) * self.scale * float(np.abs(weights) @ (1 / np.array(HALVINGS)))
        )
        return found, error + rounding

    @property
    def limit(self) -> float:
        """What gap / t² tends to for t → 0."""
        return self._measured[0]

    @property
    def error(self) -> float:
        """Of the limit."""
        return self._measured[1]

    @cached_property
    def _model(self) -> Gap:
        A, _, P, u = self._drawn
        return Gap(A.T @ A + self.ridge * np.eye(self.d), P, 0 * u, u)

    @cached_property
    def predicted(self) -> float:
        """½‖(I − Q)H^(−1/2)u‖²."""
        return residual_gap(self._model.hessian, self._model.directions, self._model.disturbance).value

    @property
    def printed(self) -> float:
        """(53) less (47), types repaired."""
        return self._model.printed_gap

    @property
    def scale(self) -> float:
        """What rounding is relative to."""
        return self._model.tilt_full

    @property
    def operations(self) -> int:
        """Rounded operations, times condition numbers."""
        return self._model.operations

    @property
    def definiteness(self) -> Fact:
        """Whether H ≻ 0."""
        return self._model.definiteness

    @property
    def stationarity(self) -> Fact:
        """At 0, by construction."""
        return Fact(True, "∇L(0) = 0")


@st.composite
def exponentials(draw: st.DrawFn) -> Exponentials:
    """Two to four parameters."""
    d = draw(st.integers(2, 4))
    ridge = draw(st.sampled_from((0.25, 0.5, 1.0)))
    return Exponentials(d, draw(st.integers(1, d - 1)), ridge, draw(st.integers(0, 999)))
