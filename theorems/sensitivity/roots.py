r"""A root F of a semidefinite matrix, $F^TF = H$: through it a tilted quadratic is a squared distance.

$u^TD + \frac12D^THD = \frac12\|FD + F^{+T}u\|^2 - \frac12\|F^{+T}u\|^2$ for u in the range of H.  By Cholesky
where H is definite and the condition number allows it, by eigenvalues otherwise; what is cut is counted.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from jaxtyping import Float
from scipy.linalg import get_lapack_funcs, qr, solve_triangular

from .. import linalg
from ..curvature import definiteness, of_matrix

CUTOFF = 1e-11
"""Relative to the largest eigenvalue, or to the longest column of P: what is smaller counts as zero."""

Matrix = Float[np.ndarray, "d d"]
Vector = Float[np.ndarray, " d"]


@dataclass(frozen=True, eq=False)
class Triangular:
    """H = L Lᵀ and F = Lᵀ."""

    matrix: Matrix
    L: Matrix
    condition: float
    cut = 0
    how = "Cholesky"

    @cached_property
    def size(self) -> float:
        """An upper estimate of the largest eigenvalue."""
        return float(np.abs(self.matrix).sum(axis=0).max(initial=0.0))

    def coordinates(self, D: np.ndarray) -> np.ndarray:
        """F D."""
        return self.L.T @ D

    def whitened(self, u: np.ndarray) -> np.ndarray:
        """F⁺ᵀ u."""
        return solve_triangular(self.L, u, lower=True, check_finite=False)

    def back(self, w: np.ndarray) -> np.ndarray:
        """F⁺ w."""
        return solve_triangular(self.L, w, lower=True, trans="T", check_finite=False)

    def outside(self, _u: Vector) -> tuple[float, float]:
        """The length of u in the cut directions, of which there are none, and the rounding of it."""
        return 0.0, 0.0


@dataclass(frozen=True, eq=False)
class Diagonal:
    """H = V diag(λ) Vᵀ on the eigenvectors that were kept, and F = diag(√λ) Vᵀ.

    `turned` bounds the sine of the angle by which the span of the cut eigenvectors may be off.
    """

    values: Float[np.ndarray, " m"]
    vectors: Float[np.ndarray, "d m"]
    lost: Float[np.ndarray, "d c"]
    turned: float
    how = "eigenvalues"

    @property
    def cut(self) -> int:
        """Directions in which H counts as zero."""
        return self.lost.shape[1]

    @cached_property
    def size(self) -> float:
        """The largest eigenvalue."""
        return float(self.values.max(initial=0.0))

    @property
    def condition(self) -> float:
        """Of what is kept."""
        return self.size / float(self.values.min()) if self.values.size else 1.0

    def coordinates(self, D: np.ndarray) -> np.ndarray:
        """F D."""
        return (self.vectors * np.sqrt(self.values)).T @ D

    def whitened(self, u: np.ndarray) -> np.ndarray:
        """F⁺ᵀ u."""
        return (self.vectors / np.sqrt(self.values)).T @ u

    def back(self, w: np.ndarray) -> np.ndarray:
        """F⁺ w."""
        return (self.vectors / np.sqrt(self.values)) @ w

    def outside(self, u: Vector) -> tuple[float, float]:
        """The length of u in the cut directions, and how much of it their error explains."""
        size = float(np.linalg.norm(u))
        return float(np.linalg.norm(self.lost.T @ u)), (self.turned + linalg.gamma(len(u) + 8)) * size


Root = Triangular | Diagonal


def symmetric(H: Matrix) -> Matrix:
    """H without the asymmetry that rounding leaves.

    Raises:
        ValueError: not square, not float64, not finite, or not symmetric.
    """
    H = np.asarray(H)
    linalg.require_judging_precision("H", H)
    if H.ndim != 2 or H.shape[0] != H.shape[1] or H.size == 0:
        raise ValueError(f"H: got shape {H.shape}, needs a square matrix (d, d)")
    skew, size = float(np.abs(H - H.T).max()), float(np.abs(H).max())
    if skew > linalg.gamma(8 * len(H) + 64) * size:
        raise ValueError(
            f"H: not symmetric, two of its entries differ by {skew:.3g}; a Hessian is, pass (H + H.T) / 2"
        )
    return (H + H.T) / 2


def root(H: Matrix, cutoff: float = CUTOFF) -> Root:
    r"""A root of H, which has to be semidefinite.

    Args:
        H: symmetric, shape (d, d), float64.
        cutoff: relative to the largest eigenvalue, at or below which one counts as zero.

    Raises:
        ValueError: as `symmetric`; or a negative eigenvalue, with an interval around it that holds one for
        sure.
    """
    H = symmetric(H)
    found = _cholesky(H, cutoff)
    if found is not None:
        return found
    values, vectors = np.linalg.eigh(H)
    floor = cutoff * float(np.abs(values).max())
    if values[0] < -floor:
        _refuse_indefinite(H, floor)
    kept = values > floor
    return Diagonal(values[kept], vectors[:, kept], vectors[:, ~kept], _turned(H, values, vectors, kept))


def _turned(H: Matrix, values: Vector, vectors: Matrix, kept: np.ndarray) -> float:
    r"""The residual of the eigenvectors that are cut, over the gap between the two parts of the spectrum.

    Source: Davis and Kahan 1970, the sin θ theorem.
    """
    lost = vectors[:, ~kept]
    residual = float(np.linalg.norm(H @ lost - lost * values[~kept]))
    gap = float(values[kept].min(initial=np.inf) - np.abs(values[~kept]).max(initial=0.0))
    return residual / gap if gap > 0 else 1.0


def _refuse_indefinite(H: Matrix, floor: float) -> None:
    """Raise if the least eigenvalue is negative beyond doubt, and is no zero by the cutoff."""
    least = definiteness(of_matrix(H))
    if least.upper < -floor:
        raise ValueError(
            f"H is indefinite: its least eigenvalue lies in [{least.lower:.6g}, {least.upper:.6g}], so the "
            "loss has no minimum here and there is no gap; add weight decay, or use the Gauss-Newton matrix"
        )


def _cholesky(H: Matrix, cutoff: float) -> Triangular | None:
    """The factor, unless H is not definite or so nearly singular that directions have to be cut."""
    try:
        L = np.linalg.cholesky(H)
    except np.linalg.LinAlgError:
        return None
    (condition,) = get_lapack_funcs(("pocon",), (L,))
    reciprocal, _ = condition(L, np.abs(H).sum(axis=0).max(), uplo="L")
    return Triangular(H, L, 1 / float(reciprocal)) if reciprocal > cutoff else None


@dataclass(frozen=True, eq=False)
class Range:
    """An orthonormal basis of the range of a matrix, and how clear its rank is.

    Attributes:
        basis: shape (d, rank).
        kept: the smallest pivot that was kept, relative to the largest.
        dropped: the largest one that was not; 0 where there is none.
    """

    basis: np.ndarray
    kept: float
    dropped: float

    @property
    def rank(self) -> int:
        """The number of columns of the basis."""
        return self.basis.shape[1]

    @property
    def clear(self) -> float:
        """How many times larger the smallest pivot that was kept is than the largest that was not."""
        return self.kept / self.dropped if self.dropped else math.inf

    def residual(self, v: np.ndarray) -> np.ndarray:
        """What of v is orthogonal to the range, orthogonalised twice: once leaves ε‖v‖, which may be all."""
        for _ in range(2):
            v = v - self.basis @ (self.basis.T @ v)
        return v


def span(A: np.ndarray, cutoff: float = CUTOFF, size: float | None = None) -> Range:
    """The range of A by a QR decomposition with column pivoting.

    Args:
        A: shape (d, k).
        cutoff: pivots at or below cutoff · size count as zero.
        size: what a pivot is measured by; None scales all columns of A to the length 1 first.
    """
    if size is None:
        lengths = np.linalg.norm(A, axis=0)
        A, size = A[:, lengths > 0] / lengths[lengths > 0], 1.0
    if A.size == 0:
        return Range(np.zeros((len(A), 0)), 1.0, 0.0)
    Q, R, _ = qr(A, mode="economic", pivoting=True)
    pivots = np.abs(np.diag(R))
    rank = int((pivots > cutoff * size).sum())
    first = float(pivots[0]) or 1.0
    kept = float(pivots[rank - 1]) / first if rank else 1.0
    return Range(Q[:, :rank], kept, float(pivots[rank]) / first if rank < len(pivots) else 0.0)
