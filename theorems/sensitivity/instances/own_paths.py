r"""Methods that start at their own optimum, under a map g that bends, while the loss turns into another."""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction
from functools import cached_property
from typing import Any

import numpy as np
from hypothesis import strategies as st

from ... import linalg, rational
from ...pasteable import Pasteable
from .. import differences
from ..fact import Fact
from ..readaptation.paths import limit
from .blends import HALVINGS, continued, determinant
from .either import lowest, pseudo_inverse, signs


@dataclass(frozen=True, eq=False, repr=False)
class Bowl(Pasteable):
    r"""A map that bends, $g(\phi) = (\phi, \frac12\phi^TT\phi)$, and losses quadratic seen through it, exact.

    $L(x, y) = \frac12x^TAx + c\,y$ and $L'(x, y) = u^Tx + \frac12x^TA'x + c'y$: at φ = 0 the method is
    stationary, and full fine-tuning is not, since ∂L/∂y = c.

    Attributes:
        hessian: A, shape (k, k).
        other: A'.
        bend: T, symmetric, shape (k, k).
        slopes: (c, c').
        tilt: u, shape (k,).
    """

    hessian: np.ndarray
    other: np.ndarray
    bend: np.ndarray
    slopes: np.ndarray
    tilt: np.ndarray
    kind = "a map that bends"

    def loss(self, phi: np.ndarray, t: Fraction) -> Any:
        """L_t at g(φ)."""
        x, y = phi, phi @ self.bend @ phi / 2
        before = x @ self.hessian @ x / 2 + self.slopes[0] * y
        after = self.tilt @ x + x @ self.other @ x / 2 + self.slopes[1] * y
        return (1 - t) * before + t * after

    def _curved(self, t: Fraction) -> np.ndarray:
        """The Hessian of L_t in φ, by differences of values."""
        return differences.hessian(lambda phi: self.loss(phi, t), 0 * self.tilt)

    def change(self, t: Fraction) -> Any:
        """The least L_t over the image, less that at φ = 0; the squares are those of values of the loss."""
        slope = differences.gradient(lambda phi: self.loss(phi, t), 0 * self.tilt)
        return self.loss(lowest(self._curved(t), slope), t)

    @cached_property
    def limit(self) -> Any:
        """What −change / t² tends to for t → 0, continued from other t: times a determinant a polynomial."""

        def cleared(t: Fraction) -> Any:
            return -self.change(t) / t**2 * determinant(self._curved(t))

        return continued(cleared, len(self.tilt)) / determinant(self._curved(Fraction(0)))

    @property
    def predicted(self) -> Any:
        """½uᵀP H_Φ⁻¹ Pᵀu with H_Φ = PᵀHP + Σ (∇L)ᵢ∇²gᵢ."""
        return self._form(self.hessian + self.slopes[0] * self.bend)

    @property
    def printed(self) -> Any:
        """The same with (50), H_Φ = PᵀHP."""
        return self._form(self.hessian)

    def _form(self, A: np.ndarray) -> Any:
        return self.tilt @ pseudo_inverse(A) @ self.tilt / 2

    @property
    def definiteness(self) -> Fact:
        """Whether H_Φ ≻ 0, for t = 0 and for t = 1, so for all t between."""
        ends = [signs(self._curved(Fraction(t))) for t in (0, 1)]
        return Fact(all(one.definite for one in ends), f"{ends[0].positive} of {len(self.tilt)} positive")

    @property
    def stationarity(self) -> Fact:
        """At φ = 0, by construction."""
        return Fact(True, "Dgᵀ∇L = 0")


@st.composite
def bowls(draw: st.DrawFn) -> Bowl:
    """One or two parameters, small integers, definite at both ends."""
    k = draw(st.integers(1, 2))

    def symmetric(low: int) -> np.ndarray:
        M = linalg.exact([draw(st.integers(-1, 1)) for _ in range(k * k)]).reshape(k, k)
        return M @ M.T + low * rational.identity(k)

    slopes = linalg.exact([draw(st.integers(-2, 2)) for _ in range(2)])
    bend = symmetric(0) - draw(st.integers(0, 1)) * rational.identity(k)
    # Enough curvature to outweigh the bend: its entries are at most 3, its slopes 2.
    A, B = (symmetric(draw(st.integers(9, 12))) for _ in range(2))
    return Bowl(A, B, bend, slopes, linalg.exact([draw(st.integers(-2, 2)) for _ in range(k)]))


@dataclass(frozen=True, repr=False)
class LowRankPath(Pasteable):
    r"""LoRA of rank r at its optimum for $\frac12\|BA - M\|_F^2$, while M turns into M', float64.

    The best matrix of rank r is the truncation of the target (Eckart and Young), so that both minima are
    known from singular values alone.

    Attributes:
        sides: of the matrices.
        rank: r, below both sides.
        seed: of M and M'.
    """

    sides: tuple[int, int]
    rank: int
    seed: int = 0
    kind = "LoRA"

    @cached_property
    def _targets(self) -> tuple[np.ndarray, np.ndarray]:
        rng = np.random.default_rng(self.seed)
        m, n = self.sides
        U, V = (np.linalg.qr(rng.normal(size=(s, s)))[0] for s in (m, n))
        # Singular values that are apart: where two of them meet, the best matrix of that rank jumps.
        values = np.arange(min(m, n), 0, -1) + rng.uniform(0, 0.3, size=min(m, n))
        M = (U[:, : len(values)] * values) @ V[:, : len(values)].T
        return M, M + rng.normal(size=self.sides)

    @cached_property
    def _factors(self) -> tuple[np.ndarray, np.ndarray]:
        u, s, vt = np.linalg.svd(self._targets[0], full_matrices=False)
        root = np.sqrt(s[: self.rank])
        return u[:, : self.rank] * root, root[:, None] * vt[: self.rank]

    def change(self, t: float) -> float:
        """The least L_t over rank r, less that at the optimum for M."""
        M, other = self._targets
        target = M + t * (other - M)
        B, A = self._factors
        tail = np.linalg.svd(target, compute_uv=False)[self.rank :]
        return float(tail @ tail - np.sum((B @ A - target) ** 2)) / 2

    @cached_property
    def _measured(self) -> tuple[float, float]:
        squares = np.square(HALVINGS)
        values = np.array([-self.change(t) for t in HALVINGS]) / squares
        found, error, weights = limit(HALVINGS, values)
        return found, error + linalg.gamma(self.operations) * self.scale * float(
            np.abs(weights) @ (1 / squares)
        )

    @property
    def limit(self) -> float:
        """What −change / t² tends to for t → 0."""
        return self._measured[0]

    @property
    def error(self) -> float:
        """Of the limit."""
        return self._measured[1]

    @cached_property
    def _jacobian(self) -> np.ndarray:
        """D(BA) in (B, A), row by row, shape (m n, r(m + n))."""
        B, A = self._factors
        m, n = self.sides
        return np.concatenate([np.kron(np.eye(m), A.T), np.kron(B, np.eye(n))], axis=1)

    @cached_property
    def _second(self) -> np.ndarray:
        r"""$\sum_i (\nabla L)_i \nabla^2 g_i$: BA couples entries of B with entries of A, by the gradient."""
        B, A = self._factors
        (m, n), r = self.sides, self.rank
        gradient = B @ A - self._targets[0]
        out = np.zeros((r * (m + n),) * 2)
        out[: m * r, m * r :] = np.einsum("ij,st->istj", gradient, np.eye(r)).reshape(m * r, r * n)
        return out + out.T

    def _form(self, second: np.ndarray) -> float:
        M, other = self._targets
        P = self._jacobian
        w = P.T @ (M - other).ravel()
        values, vectors = np.linalg.eigh(P.T @ P + second)
        kept = np.abs(values) > linalg.gamma(1024 * len(w)) * np.abs(values).max()
        return float(np.sum((vectors[:, kept].T @ w) ** 2 / values[kept])) / 2

    @cached_property
    def predicted(self) -> float:
        """½uᵀP H_Φ⁺ Pᵀu with H_Φ = PᵀHP + Σ (∇L)ᵢ∇²gᵢ; H = I here."""
        return self._form(self._second)

    @property
    def printed(self) -> float:
        """The same with (50)."""
        return self._form(0 * self._second)

    @property
    def scale(self) -> float:
        """What rounding is relative to."""
        return float(sum(np.sum(one**2) for one in self._targets))

    @property
    def operations(self) -> int:
        """Rounded operations behind a singular value."""
        return 32 * sum(self.sides)

    @property
    def definiteness(self) -> Fact:
        """Whether H_Φ ⪰ 0: singular values r and r + 1 are apart."""
        s = np.linalg.svd(self._targets[0], compute_uv=False)
        return Fact(
            bool(s[self.rank - 1] > s[self.rank]),
            f"singular values {s[self.rank - 1]:.3g}, {s[self.rank]:.3g}",
        )

    @property
    def stationarity(self) -> Fact:
        """The truncation is the best matrix of its rank."""
        return Fact(True, "Dgᵀ∇L = 0")


@st.composite
def low_rank_paths(draw: st.DrawFn) -> LowRankPath:
    """Matrices of up to 3 × 4, rank 1 or 2."""
    sides = draw(st.integers(2, 3)), draw(st.integers(2, 4))
    return LowRankPath(sides, draw(st.integers(1, min(sides) - 1)), draw(st.integers(0, 999)))
