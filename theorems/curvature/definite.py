r"""Whether a symmetric matrix is positive definite, with proved bounds of its least eigenvalue."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import scipy.linalg
from jaxtyping import Float

from .. import linalg
from .lanczos import room_for, search

if TYPE_CHECKING:
    from .operator import Curvature

TINY = float(np.finfo(np.float64).tiny)
STEPS = 8
"""Solves to a round of inverse iteration."""
ROUNDS = 3
RELATIVE = 1e-6
"""Width of the interval, relative to the eigenvalue, that needs no further round."""
SMALL = 300
"""Rows up to which an indefinite matrix is decomposed to find a vector."""
PRODUCTS = 2000


@dataclass(frozen=True, eq=False, repr=False)
class Definiteness:
    r"""Bounds of the least eigenvalue of a symmetric matrix.

    Attributes:
        lower: $\lambda_{\min} \ge$ this; −∞ where nothing is proved.
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

    From above by a Rayleigh quotient $x^T A x / x^T x \ge \lambda_{\min}$: of a vector found by inverse
    iteration with a Cholesky factor where the matrix is definite, and by Lanczos' method where it is not.
    From below by a Cholesky factorisation of $A - sI$ with s just below that quotient
    (`least_eigenvalue_above`); inverse iteration with that factor then sharpens both once more. No
    decomposition is needed, and the interval is usually a few times as wide as the rounding of one
    factorisation.

    Beyond the memory budget the lower bound is what the structure tells, as λ for a Gauss-Newton matrix with
    weight decay λ, and the Rayleigh quotient holds up to the rounding of products, which is estimated.

    Args:
        curvature: the matrix.

    Raises:
        ValueError: no `Curvature`.
    """
    from .operator import require_curvature  # noqa: PLC0415 - `operator` needs what is below

    require_curvature(curvature)
    return _by_cholesky(curvature) if curvature.dense else _by_products(curvature)


def _by_cholesky(curvature: Curvature) -> Definiteness:
    matrix = curvature.matrix()
    factor, info = cholesky(matrix, 0.0)
    start = np.random.default_rng(0).normal(size=len(matrix))
    if info != 0:
        start = _least_by_lanczos(curvature, tolerance=1e-8)
        factor = None
    vector, lower = start, -math.inf
    for _ in range(ROUNDS):
        if factor is not None:
            vector = _inverse_krylov(matrix, factor, vector)
        value, error = rayleigh(matrix, vector)
        proved = _just_below(matrix, vector, value, error)
        if proved is None or proved[0] <= lower:
            break
        lower, factor = proved
        if value - lower <= RELATIVE * abs(value):
            break
    what = "Cholesky factorisation of the shifted matrix" if lower > -math.inf else "nothing"
    how = f"from below by {what}, from above by a Rayleigh quotient; {curvature.decided}"
    return Definiteness(lower, value + error, vector / np.linalg.norm(vector), how)


def _just_below(
    matrix: Float[np.ndarray, "d d"], vector: Float[np.ndarray, " d"], value: float, error: float
) -> tuple[float, Float[np.ndarray, "d d"]] | None:
    """A proved lower bound of the least eigenvalue near a quotient, and the factor that proves it."""
    off = float(np.linalg.norm(matrix @ vector - value * vector)) / float(np.linalg.norm(vector))
    rounding = 2 * lost(np.diag(matrix) - value) + error
    # The quotient may be that of another eigenvalue, near or far.
    for distance in (off, 10 * off + abs(value) / 100, 100 * off + abs(value) / 2, 1e4 * off + abs(value)):
        shift = value - distance - rounding
        factor, info = cholesky(matrix, shift)
        if info == 0:
            return math.nextafter(shift - lost(np.diag(matrix) - shift), -math.inf), factor
    return None


def _by_products(curvature: Curvature) -> Definiteness:
    vector = _least_by_lanczos(curvature, tolerance=1e-6)
    image, square = curvature.product(vector), float(vector @ vector)
    value = float(vector @ image) / square
    error = linalg.gamma(curvature.operations + 2) * float(np.linalg.norm(image)) / math.sqrt(square)
    below = "the structure of the matrix" if curvature.floor > -math.inf else "nothing: not proved"
    how = f"from below by {below}, from above by a Rayleigh quotient, rounding estimated; {curvature.decided}"
    return Definiteness(curvature.floor, value + error, vector / math.sqrt(square), how)


def _least_by_lanczos(curvature: Curvature, tolerance: float) -> Float[np.ndarray, " d"]:
    """An approximate eigenvector of the least eigenvalue; how good it is shows elsewhere."""
    d = curvature.d
    if d <= SMALL and curvature.dense:
        return np.linalg.eigh(curvature.matrix())[1][:, 0]
    room = room_for(d, 1, None if curvature.dense else curvature.memory)
    limits = {"tolerance": tolerance, "most": PRODUCTS, "room": room, "seed": 0}
    return search(curvature.linear, d, 1, "smallest", **limits).vectors[:, 0]


def least_eigenvalue_above(matrix: Float[np.ndarray, "d d"], shift: float) -> float | None:
    r"""A proved lower bound of $\lambda_{\min}(A)$ just below `shift`; None if the factorisation breaks down.

    If the floating-point Cholesky factorisation of a symmetric B runs to completion, then $\lambda_{\min}(B)
    \ge -\sum_j \frac{\gamma_{j+1}}{1 - \gamma_{j+1}}\, b_{jj}$ apart from underflow, for which a tiny number
    is added. It is applied to $B = \mathrm{fl}(A - sI)$, which differs from $A - sI$ by at most $\varepsilon
    \max_j |b_{jj}|$. Only one triangle of A is read.

    Source: Rump, *Verification of positive definiteness*, BIT 46 (2006), theorem 2.3; the error bound is from
    Demmel, *On floating point errors in Cholesky*, LAPACK working note 14 (1989).
    """
    _, info = cholesky(matrix, shift)
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
    error = rounding * (linalg.frobenius(matrix) + linalg.frobenius(image) / math.sqrt(square))
    return value, (error + 4 * rounding * abs(value)) * (1 + linalg.gamma(matrix.size + 16))


def cholesky(matrix: Float[np.ndarray, "d d"], shift: float) -> tuple[Float[np.ndarray, "d d"], int]:
    """The upper factor of A − sI, and LAPACK's verdict: 0, or the order of the minor that is not positive."""
    moved = matrix.copy()
    moved.flat[:: len(matrix) + 1] -= shift
    return scipy.linalg.lapack.dpotrf(moved.T, lower=0, clean=0, overwrite_a=1)


def _inverse_krylov(
    matrix: Float[np.ndarray, "d d"], factor: Float[np.ndarray, "d d"], start: Float[np.ndarray, " d"]
) -> Float[np.ndarray, " d"]:
    """The best vector for the least eigenvalue in the Krylov space of the inverse of the factored matrix."""
    basis, v = np.empty((len(matrix), 0)), start
    for _ in range(min(len(matrix), STEPS)):
        v = scipy.linalg.cho_solve((factor, False), v, check_finite=False)
        size = np.abs(v).max()
        if not 0 < size < math.inf:  # the matrix is singular to working precision and beyond
            break
        v = v / size
        for _ in range(2):  # once leaves rounding of the size of what was removed
            v = v - basis @ (basis.T @ v)
        left = np.linalg.norm(v)
        if not left > linalg.EPS * len(matrix):
            break
        v = v / left
        basis = np.column_stack([basis, v])
    if not basis.size:
        return start
    small = basis.T @ (matrix @ basis)
    return basis @ np.linalg.eigh((small + small.T) / 2)[1][:, 0]
