r"""Whether a symmetric matrix is positive definite, with proved bounds of its least eigenvalue."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import scipy.linalg
from jaxtyping import Float

from .. import linalg

if TYPE_CHECKING:
    from .operator import Curvature

TINY = float(np.finfo(np.float64).tiny)
STEPS = 10


@dataclass(frozen=True, eq=False, repr=False)
class Definiteness:
    r"""Bounds of the least eigenvalue of a symmetric matrix.

    Attributes:
        lower: $\lambda_{\min} \ge$ this; −∞ where nothing was proved.
        upper: $\lambda_{\min} \le$ this: a Rayleigh quotient, rounded up.
        vector: the unit vector of that Rayleigh quotient, shape (d,).
        how: what was proved, and by what.
    """

    lower: float
    upper: float
    vector: Float[np.ndarray, " d"]
    how: str

    @property
    def definite(self) -> bool | None:
        """Whether the matrix is positive definite; None where the interval does not tell."""
        if self.lower > 0:
            return True
        return False if self.upper <= 0 else None

    def __repr__(self) -> str:
        """Show the verdict and the interval."""
        verdict = {True: "positive definite", False: "not positive definite", None: "undecided"}
        interval = f"{self.lower:.6g} <= least eigenvalue <= {self.upper:.6g}"
        return f"Definiteness({verdict[self.definite]}: {interval}, {self.how})"


def definiteness(curvature: Curvature) -> Definiteness:
    r"""Bound the least eigenvalue of a symmetric matrix from both sides.

    From above by a Rayleigh quotient $x^T A x / x^T x \ge \lambda_{\min}$ of a vector found by inverse
    iteration with a Cholesky factor; from below by one Cholesky factorisation of $A - sI$ for an $s$ just below
    that quotient, see `least_eigenvalue_above`. Both are tight up to rounding where the iteration converged.

    Args:
        curvature: a matrix that fits its memory budget.

    Raises:
        ValueError: the matrix does not fit into the budget.
    """
    matrix = curvature.matrix()
    factor, info = _cholesky(matrix, 0.0)
    vector = _smallest(matrix, factor if info == 0 else None)
    value, error = rayleigh(matrix, vector)
    off = float(np.linalg.norm(matrix @ vector - value * vector))
    lower, shift = -math.inf, value
    for distance in (max(off, error), 1e-3 * abs(value) + 10 * off, abs(value) / 2 + 100 * off):
        shift = value - distance - 2 * lost(np.diag(matrix) - value)
        proved = least_eigenvalue_above(matrix, shift)
        if proved is not None:
            lower = proved
            break
    how = "a Cholesky factorisation of the shifted matrix from below, a Rayleigh quotient from above"
    return Definiteness(lower, value + error, vector, how)


def least_eigenvalue_above(matrix: Float[np.ndarray, "d d"], shift: float) -> float | None:
    r"""A proved lower bound of $\lambda_{\min}(A)$ just below `shift`; None if the factorisation breaks down.

    If the floating-point Cholesky factorisation of a symmetric B runs to completion, then
    $\lambda_{\min}(B) \ge -\sum_j \frac{\gamma_{j+1}}{1 - \gamma_{j+1}}\, b_{jj}$ apart from underflow, for
    which a tiny number is added. It is applied to $B = \mathrm{fl}(A - sI)$, which differs from $A - sI$ by at
    most $\varepsilon \max_j |b_{jj}|$. Only one triangle of A is read.

    Source: Rump, *Verification of positive definiteness*, BIT 46 (2006), theorem 2.3; the error bound is from
    Demmel, *On floating point errors in Cholesky*, LAPACK working note 14 (1989).
    """
    _, info = _cholesky(matrix, shift)
    if info != 0:
        return None
    return math.nextafter(shift - lost(np.diag(matrix) - shift), -math.inf)


def lost(diagonal: Float[np.ndarray, " d"]) -> float:
    """What the rounding of a Cholesky factorisation can hide, and that of the shift of its diagonal."""
    d, gamma = len(diagonal), linalg.gamma(len(diagonal) + 1)
    trace, largest = float(np.sum(np.maximum(diagonal, 0.0))), float(np.max(np.abs(diagonal)))
    underflow = 4 * (d + 1) * (2 * (d + 1) + largest) * TINY
    return (gamma / (1 - gamma) * trace + linalg.EPS * largest) * (1 + linalg.gamma(d + 16)) + underflow


def rayleigh(matrix: Float[np.ndarray, "d d"], vector: Float[np.ndarray, " d"]) -> tuple[float, float]:
    """The Rayleigh quotient of a vector, and a bound of what rounding can have done to it."""
    square = float(vector @ vector)
    image = matrix @ vector
    value = float(vector @ image) / square
    rounding = linalg.gamma(len(matrix) + 8)
    error = rounding * (float(np.linalg.norm(matrix)) + float(np.linalg.norm(image)) / math.sqrt(square))
    return value, (error + 4 * rounding * abs(value)) * (1 + linalg.gamma(16))


def _cholesky(matrix: Float[np.ndarray, "d d"], shift: float) -> tuple[Float[np.ndarray, "d d"], int]:
    """The upper factor of A − sI, and LAPACK's verdict: 0, or the order of the minor that is not positive."""
    moved = matrix.copy()
    moved.flat[:: len(matrix) + 1] -= shift
    return scipy.linalg.lapack.dpotrf(moved.T, lower=0, clean=0, overwrite_a=1)


def _smallest(
    matrix: Float[np.ndarray, "d d"], factor: Float[np.ndarray, "d d"] | None
) -> Float[np.ndarray, " d"]:
    """A unit vector near the eigenvector of the least eigenvalue."""
    d = len(matrix)
    if factor is None:
        return scipy.linalg.eigh(matrix, subset_by_index=[0, 0])[1][:, 0]
    basis, v = np.empty((d, 0)), np.random.default_rng(0).normal(size=d)
    for _ in range(min(d, STEPS)):
        v = scipy.linalg.cho_solve((factor, False), v, check_finite=False)
        for _ in range(2):
            v = v - basis @ (basis.T @ v)
        size = np.linalg.norm(v)
        if not size > 0:
            break
        v = v / size
        basis = np.column_stack([basis, v])
    small = basis.T @ (matrix @ basis)
    return basis @ np.linalg.eigh((small + small.T) / 2)[1][:, 0]
