r"""What the repairs ask of whole matrices: ranks, orders, and what holds for all disturbances at once."""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction
from functools import cached_property
from typing import Any

import numpy as np

from ... import linalg, rational
from ..laws import kantorovich
from .either import cut
from .matrices import exact_rank, least_pivot
from .tilted import Tilted


@dataclass(frozen=True, eq=False, repr=False)
class Ordered(Tilted):
    r"""A tilted quadratic with its matrices in order.

    Attributes:
        extremes: the least and the largest eigenvalue of H that are not 0, where they are known exactly;
            bounds by traces take their place.
    """

    extremes: tuple[Fraction, Fraction] | None = None

    @cached_property
    def answers(self) -> np.ndarray:
        """P H_Φ⁺ Pᵀ."""
        return self.directions @ self.restricted_inverse @ self.directions.T

    @cached_property
    def excess(self) -> np.ndarray:
        """K = H⁺ − P H_Φ⁺ Pᵀ."""
        return self.inverse - self.answers

    @cached_property
    def smallest(self) -> Any:
        """At most the least eigenvalue of H that is not 0."""
        if self.extremes is not None:
            return self.extremes[0]
        if self.is_exact:
            return 1 / (np.trace(self.inverse) or Fraction(1))
        values = np.linalg.eigvalsh(self.hessian)
        kept = values[values > cut(values, self.d)]
        return float(kept.min(initial=self.largest)) - linalg.gamma(64 * self.d) * self.largest

    @cached_property
    def largest(self) -> Any:
        """At least the largest eigenvalue of H; 1 for H = 0."""
        if self.extremes is not None:
            return self.extremes[1]
        if self.is_exact:
            return np.trace(self.hessian) or Fraction(1)
        return float(linalg.spectral_norm(self.hessian))

    # Counts

    @property
    def trace(self) -> Any:
        """tr(HK)."""
        return np.trace(self.hessian @ self.excess)

    @property
    def lacking(self) -> int:
        """Rank H − rank HP, which is d − rank P for H ≻ 0."""
        return self._rank(self.hessian) - self._rank(self.hessian @ self.directions)

    @property
    def columns_lacking(self) -> int:
        """The number d − k, whatever the rank of P."""
        return self.d - self.k

    def _rank(self, A: np.ndarray) -> int:
        return exact_rank(A) if self.is_exact else int(np.sum((s := _values(A)) > cut(s, self.d)))

    # Matrices in order

    @property
    def least_excess(self) -> Any:
        """The least pivot of K on the range of H: not negative if and only if K ⪰ 0 there."""
        return least_pivot(self._range.T @ self.excess @ self._range)

    @property
    def least_excess_anywhere(self) -> Any:
        """The least pivot of K."""
        return least_pivot(self.excess)

    @cached_property
    def _range(self) -> np.ndarray:
        """A basis of the range of H."""
        if self.is_exact:
            return rational.projector(self.hessian)
        values, vectors = np.linalg.eigh(self.hessian)
        return vectors[:, values > cut(values, self.d)]

    @cached_property
    def kantorovich(self) -> Any:
        """(λ₁ + λ_d)²/(4 λ₁ λ_d), with bounds for what is not known exactly."""
        if not self.is_exact and self.definiteness:
            return kantorovich(self.hessian)
        low, high = self.smallest, self.largest
        return (low + high) ** 2 / (4 * low * high)

    @property
    def reverse_excess(self) -> Any:
        """The least pivot of c P H_Φ⁺ Pᵀ − Π H⁻¹ Π with Kantorovich's c."""
        return least_pivot(self.kantorovich * self.answers - self.projector @ self.inverse @ self.projector)

    @property
    def reverse_excess_plain(self) -> Any:
        """The same with c = 1, which is (58)."""
        return least_pivot(self.answers - self.projector @ self.inverse @ self.projector)

    @cached_property
    def matrix_size(self) -> Any:
        """What rounding of such pivots is relative to."""
        return abs(self.kantorovich) * np.linalg.norm(self.inverse.astype(np.float64))

    # For all disturbances at once

    @property
    def mixing(self) -> Any:
        r"""$\|\Pi H^{-1}(I-\Pi)\|_F^2$, of fractions by the values of (56) at unit vectors and their sums."""
        if not self.is_exact:
            return float(np.sum((self.projector @ (self.inverse - self.inverse @ self.projector)) ** 2))
        units = rational.identity(self.d)
        own = np.array([self._mixed(e) for e in units])
        sums = np.array([[self._mixed(a + b) for b in units] for a in units])
        form = (sums - own[:, None] - own) / 2
        return 2 * np.sum(form * form)

    def _mixed(self, x: np.ndarray) -> Any:
        along = self.projector @ x
        return along @ self.inverse @ (x - along)

    @property
    def commutator(self) -> Any:
        """‖ΠH − HΠ‖²_F."""
        found = self.projector @ self.hessian - self.hessian @ self.projector
        return np.sum(found * found)

    @property
    def sizes(self) -> tuple[Any, Any]:
        """‖H‖²_F and ‖H⁻¹‖²_F."""
        return np.sum(self.hessian * self.hessian), np.sum(self.inverse * self.inverse)

    # Signs

    @property
    def signs(self) -> tuple[int, int]:
        """The signs of H³ − H and of H − I: 1 for ≻ 0, 0 for ⪰ 0 only, −1 for neither."""
        H, one = self.hessian, rational.identity(self.d)
        return _sign(H @ H @ H - H), _sign(H - one)


def _values(A: np.ndarray) -> np.ndarray:
    return np.linalg.svd(A, compute_uv=False)


def _sign(A: np.ndarray) -> int:
    found = rational.inertia(A)
    return -1 if found.negative else int(found.definite)
