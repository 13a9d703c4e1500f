r"""A loss that is quadratic in the update of one layer: V(r) in closed form, between its two bounds.

$L(D) = \tfrac12\,\mathrm{tr}\,\big((D-\Delta)^T M (D-\Delta) S\big)$ with positive definite M and S: the
least-squares loss of a layer is of this form, and every smooth loss is nearly so around a minimum.
"""

from __future__ import annotations

import functools
from dataclasses import dataclass
from fractions import Fraction

import numpy as np
from jaxtyping import Float

from .. import linalg
from .spectrum import tails

HALF = Fraction(1, 2)


@dataclass(frozen=True, eq=False)
class Quadratic:
    r"""$L(D) = \tfrac12\,\mathrm{tr}((D-\Delta)^T M (D-\Delta) S)$, with minimum 0 at Δ.

    Attributes:
        update: Δ, shape (m, n), float64 or exact.
        left: M, shape (m, m), symmetric positive definite.
        right: S, shape (n, n), symmetric positive definite.  Exact input needs all three diagonal, so that
            everything is rational.

    Raises:
        ValueError: shapes that do not fit, not symmetric, not positive definite, not float64 and not exact,
            or exact and not diagonal.
    """

    update: Float[np.ndarray, "m n"]
    left: Float[np.ndarray, "m m"]
    right: Float[np.ndarray, "n n"]

    def __post_init__(self) -> None:
        for name in ("update", "left", "right"):
            linalg.require_judging_precision(name, getattr(self, name))
        m, n = self.update.shape
        if self.left.shape != (m, m) or self.right.shape != (n, n):
            raise ValueError(
                f"left, right: got shapes {self.left.shape} and {self.right.shape}, "
                f"needs {(m, m)} and {(n, n)}"
            )
        if self.is_exact and not all(_diagonal(a) for a in (self.update, self.left, self.right)):
            raise ValueError(
                "update, left, right: exact ones must be diagonal; pass float64 arrays otherwise"
            )
        for name in ("left", "right"):
            matrix = getattr(self, name)
            if not np.all(matrix == matrix.T) or min(_eigenvalues(matrix)) <= 0:
                raise ValueError(f"{name}: needs a symmetric positive definite matrix; add a multiple of I")

    @property
    def is_exact(self) -> bool:
        """Whether the numbers are exact."""
        return linalg.is_exact(self.update)

    def loss(self, d: Float[np.ndarray, "m n"]) -> float | Fraction:
        """L(D), by its definition."""
        gap = d - self.update
        trace = np.trace(gap.T @ self.left @ gap @ self.right)
        return trace * HALF if self.is_exact else float(trace) / 2

    @functools.cached_property
    def convexity(self) -> float | Fraction:
        r"""$\mu = \lambda_{\min}(M)\,\lambda_{\min}(S)$, the smallest eigenvalue of the Hessian S ⊗ M."""
        return min(_eigenvalues(self.left)) * min(_eigenvalues(self.right))

    @functools.cached_property
    def smoothness(self) -> float | Fraction:
        r"""$\beta = \lambda_{\max}(M)\,\lambda_{\max}(S)$, the largest eigenvalue of the Hessian S ⊗ M."""
        return max(_eigenvalues(self.left)) * max(_eigenvalues(self.right))

    def best(self, rank: int) -> float | Fraction:
        r"""$V(r) = \min_{\mathrm{rank} D \le r} L(D) = \tfrac12\sum_{i>r} \sigma_i^2(M^{1/2}\Delta S^{1/2})$.

        Raises:
            ValueError: a negative rank.

        Source: T3.R8; Eckart and Young 1936 after the change of variables.  An equality.
        """
        return _tail(self._weighted_squares, rank) * (HALF if self.is_exact else 0.5)

    def truncated(self, rank: int) -> Float[np.ndarray, "m n"]:
        """Δ_r, the truncated SVD of Δ itself, which is not the best of its rank for L.

        Raises:
            ValueError: a negative rank.
        """
        if rank < 0:
            raise ValueError(f"rank: got {rank}, needs an integer >= 0")
        if self.is_exact:
            kept = sorted(range(min(self.update.shape)), key=lambda i: -abs(self.update[i, i]))[:rank]
            out = self.update * 0
            for i in kept:
                out[i, i] = self.update[i, i]
            return out
        u, s, vt = np.linalg.svd(self.update, full_matrices=False)
        return (u[:, :rank] * s[:rank]) @ vt[:rank]

    def bounds(self, rank: int) -> tuple[float | Fraction, float | Fraction]:
        r"""The ends of $\frac\mu2\mathrm{tail}(r) \le V(r) \le L(\Delta_r) \le \frac\beta2\mathrm{tail}(r)$.

        Equal if M and S are multiples of the identity.

        Raises:
            ValueError: a negative rank.

        Source: T3.R4, T3.R5.
        """
        tail = _tail(self._squares, rank)
        half = HALF if self.is_exact else 0.5
        return self.convexity * tail * half, self.smoothness * tail * half

    @functools.cached_property
    def _squares(self) -> np.ndarray:
        if self.is_exact:
            return _descending(np.diagonal(self.update) ** 2)
        return np.linalg.svd(self.update, compute_uv=False) ** 2

    @functools.cached_property
    def _weighted_squares(self) -> np.ndarray:
        if self.is_exact:
            m, s = np.diagonal(self.left), np.diagonal(self.right)
            q = min(len(m), len(s))
            return _descending(np.diagonal(self.update) ** 2 * m[:q] * s[:q])
        # Any root will do: Cholesky factors differ from the symmetric ones by rotations.
        left, right = np.linalg.cholesky(self.left), np.linalg.cholesky(self.right)
        return np.linalg.svd(left.T @ self.update @ right, compute_uv=False) ** 2


def _tail(squares: np.ndarray, rank: int) -> float | Fraction:
    if rank < 0:
        raise ValueError(f"rank: got {rank}, needs an integer >= 0")
    return tails(squares)[min(rank, len(squares))]


def _descending(values: np.ndarray) -> np.ndarray:
    return np.array(sorted(values, reverse=True), dtype=object)


def _diagonal(a: np.ndarray) -> bool:
    return linalg.is_exact(a) and all(i == j or a[i, j] == 0 for i, j in np.ndindex(a.shape))


def _eigenvalues(a: np.ndarray) -> np.ndarray:
    return np.diagonal(a) if linalg.is_exact(a) else np.linalg.eigvalsh(a)
