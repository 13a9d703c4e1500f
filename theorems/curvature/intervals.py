r"""Intervals that hold eigenvalues of a symmetric matrix, proved from approximate eigenvectors."""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
from jaxtyping import Float

from .. import linalg
from .definite import least_eigenvalue_above, lost

FEW = 64
"""Columns up to which the norm of a residual is its largest singular value, and not its Frobenius norm."""


def kahan_radius(
    images: Float[np.ndarray, "d c"],
    vectors: Float[np.ndarray, "d c"],
    small: Float[np.ndarray, "c c"] | Float[np.ndarray, " c"],
    rounding: float,
) -> float:
    r"""How far the eigenvalues of M are from c eigenvalues of A, paired and with multiplicities.

    Let Q have orthonormal columns, M be symmetric and $R = A Q - Q M$. Then A has c eigenvalues, each counted
    as often as it is repeated, that can be paired with those of M so that partners differ by at most
    $\|R\|_2$. Proof: in a basis that begins with Q, the first columns of $A - \mathrm{diag}(M, \cdot)$ are R,
    and a suitable symmetric block in the corner makes the norm of the whole that of R (Davis, Kahan and
    Weinberger 1982). So A is within $\|R\|_2$ of a matrix that has the eigenvalues of M, and Weyl's
    inequality pairs all eigenvalues in their order.

    If X is only nearly orthonormal, $\|X^T X - I\|_2 = \delta < 1$, and $R = A X - X M$, then
    $Q = X (X^T X)^{-1/2}$ gives $(\|R\|_2 + 2 \delta \|M\|_2) / (1 - \delta)$. Norms are rounded up, and what
    the computation of R and of $X^T X$ can have lost is added. Tight: the eigenvalues ±ε of
    $A = \begin{pmatrix} 0 & \epsilon \\ \epsilon & 0 \end{pmatrix}$ are at the distance ε from M = 0 for
    $Q = e_1$.

    Args:
        images: A X, as computed.
        vectors: X.
        small: M, or its diagonal.
        rounding: bound of $\|\mathrm{fl}(A x) - A x\|_2$ for a unit vector x.

    Returns:
        The radius; infinite where δ ≥ 1.

    Source: Kahan, *Inclusion theorems for clusters of eigenvalues of Hermitian matrices*, University of
    Toronto, 1967; Parlett, *The Symmetric Eigenvalue Problem*, 1980, theorem 11.5.1.
    """
    largest = max(float(np.abs(images).max()), float(np.abs(small).max()), rounding)
    if 0 < largest < math.inf:  # the squares of a small matrix underflow, and a radius of 0 proves too much
        scale = math.ldexp(1.0, min(-math.frexp(largest)[1], 1023))
        return _radius(images * scale, vectors, small * scale, rounding * scale) / scale
    return _radius(images, vectors, small, rounding)


def _radius(
    images: Float[np.ndarray, "d c"],
    vectors: Float[np.ndarray, "d c"],
    small: Float[np.ndarray, "c c"] | Float[np.ndarray, " c"],
    rounding: float,
) -> float:
    c = vectors.shape[1]
    product, error = gram(vectors)
    delta = _norm(product - np.eye(c)) + error
    if not delta < 1:
        return math.inf
    back = vectors * small if small.ndim == 1 else vectors @ small
    size = float(np.linalg.norm(small)) * (1 + linalg.gamma(small.size + 8))
    away = linalg.gamma(c + 2) * (linalg.frobenius(images) + linalg.frobenius(vectors) * size)
    away += math.sqrt(c) * rounding * (1 + delta)
    radius = (_norm(images - back) + away + 2 * delta * size) / (1 - delta)
    return radius * (1 + linalg.gamma(64))


def gram(vectors: Float[np.ndarray, "d c"]) -> tuple[Float[np.ndarray, "c c"], float]:
    r"""$X^T X$, and a bound of its error in the spectral norm.

    Summed in blocks of about √d rows, so that the chain of rounded operations is some 2√d long and not d.
    """
    rows = math.isqrt(len(vectors)) + 1
    starts = range(0, len(vectors), rows)
    total = sum(vectors[at : at + rows].T @ vectors[at : at + rows] for at in starts)
    error = linalg.gamma(rows + len(starts)) * linalg.frobenius(vectors) ** 2
    return total, error * (1 + linalg.gamma(vectors.size + 8))


def _norm(matrix: Float[np.ndarray, "m n"]) -> float:
    if matrix.shape[1] <= min(FEW, len(matrix) // 4):  # its Gram matrix is much smaller
        product, error = gram(matrix)
        return math.sqrt(float(linalg.spectral_norm(product)) + error) * (1 + linalg.gamma(4))
    if min(matrix.shape) <= FEW:
        return float(linalg.spectral_norm(matrix))
    return float(np.linalg.norm(matrix)) * (1 + linalg.gamma(matrix.size + 8))


class Ritz(NamedTuple):
    """Ritz values in ascending order, their vectors, and the radius of proved intervals around the values."""

    values: Float[np.ndarray, " c"]
    vectors: Float[np.ndarray, "d c"]
    radius: float


def ritz(images: Float[np.ndarray, "d c"], vectors: Float[np.ndarray, "d c"], rounding: float) -> Ritz:
    """The Rayleigh-Ritz method on the span of nearly orthonormal X.

    Args:
        images: A X, as computed.
        vectors: X.
        rounding: as `kahan_radius`.
    """
    small = vectors.T @ images
    small = (small + small.T) / 2
    values, turn = np.linalg.eigh(small)
    error = linalg.gamma(len(small)) * linalg.frobenius(small)
    inner = kahan_radius(small @ turn, turn, values, error)
    return Ritz(values, vectors @ turn, kahan_radius(images, vectors, small, rounding) + inner)


class Spectrum(NamedTuple):
    r"""A complete decomposition: each eigenvalue, in its order, within the radius of the computed one.

    Attributes:
        values: ascending, shape (d,).
        vectors: nearly orthonormal, shape (d, d).
        radius: as `kahan_radius` has it.
    """

    values: Float[np.ndarray, " d"]
    vectors: Float[np.ndarray, "d d"]
    radius: float


def spectrum(matrix: Float[np.ndarray, "d d"]) -> Spectrum:
    """Decompose a symmetric matrix completely, and prove how far each eigenvalue can be off."""
    values, vectors = np.linalg.eigh(matrix)
    return Spectrum(values, vectors, kahan_radius(matrix @ vectors, vectors, values, rounding_of(matrix)))


def rounding_of(matrix: Float[np.ndarray, "d d"]) -> float:
    r"""Bound of $\|\mathrm{fl}(A x) - A x\|_2 \le \gamma_d \|A\|_F$ for a unit vector x."""
    return linalg.gamma(len(matrix) + 2) * linalg.frobenius(matrix) * (1 + linalg.gamma(matrix.size + 8))


def none_above(
    matrix: Float[np.ndarray, "d d"],
    values: Float[np.ndarray, " j"],
    vectors: Float[np.ndarray, "d j"],
    level: float,
    below: float,
) -> float | None:
    r"""A number near `level` that at most j eigenvalues of A exceed; None if that could not be proved.

    With $A' = A - X D X^T$ and $D \succeq 0$ of order j, Weyl's inequality gives
    $\lambda_{j+1}(A) \le \lambda_1(A') + \lambda_{j+1}(X D X^T) = \lambda_1(A')$, and one Cholesky
    factorisation of $s I - A'$ bounds $\lambda_1(A')$ (`least_eigenvalue_above`). X may be anything; the
    factorisation succeeds if X are eigenvectors of all eigenvalues above s, which D brings down below it.

    Args:
        matrix: A.
        values: approximations of the j eigenvalues, above the level.
        vectors: X.
        level: s, more than `margin` above the others.
        below: where D brings the values, more than `margin` below the level.
    """
    weights = values - below
    lowered = (vectors * weights) @ vectors.T - matrix
    bound = least_eigenvalue_above(lowered, -level)
    if bound is None:
        return None
    # Entries of XDXᵀ and of the difference are rounded.
    size = linalg.frobenius(matrix) + float(np.sum(weights * np.sum(vectors**2, axis=0)))
    error = linalg.gamma(len(values) + 3) * size * (1 + linalg.gamma(matrix.size + 8))
    return math.nextafter(-bound + error, math.inf)


def margin(diagonal: Float[np.ndarray, " d"], found: Ritz, size: float) -> float:
    """How far above the other eigenvalues the level of `none_above` has to be for its Cholesky to succeed.

    Args:
        diagonal: of A.
        found: the eigenvalues that may be brought down.
        size: ‖A‖_F.
    """
    level = float(np.abs(found.values).max())
    brought = linalg.gamma(len(diagonal) + 1) * level * len(found.values)
    return 2 * (lost(level - diagonal) + brought + linalg.gamma(FEW) * size + found.radius)
