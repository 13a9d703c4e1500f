r"""Solutions of A x = u, with the recomputed residual as their certificate."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import lineax as lx
import numpy as np
import scipy.linalg
import scipy.sparse.linalg
from jax.tree_util import Partial
from jaxtyping import Float

from .. import linalg
from .operator import Curvature, require_curvature

RELATIVE = 1e-12
MOST = 10_000
PASSES = 5
PASS = 1e-8
"""What one pass of an iteration aims at.

Of minimal residuals it is relative to ‖A‖ ‖x‖: with less, x grows if u is in no image. Of conjugate gradients
it is relative to ‖u‖: what rounding does not let them reach they go on for, and diverge; a second pass, from
the residual of the first, gets there in about as many products.
"""
CUTOFF = 1e-11
"""Eigenvalues below this part of the largest one count as zero."""
SINGULAR = 1e-6
"""A factorisation that leaves more of the right side than this part was one of a singular matrix."""

Vector = Float[np.ndarray, " d"]


@dataclass(frozen=True, eq=False, repr=False)
class Solution:
    r"""A solution of $A x = u$ and what certifies it.

    Attributes:
        x: shape (d,).
        residual: $\|u - A x\|_2$, recomputed from x and rounded up by what that can have lost.
        relative: residual / ‖u‖; 0 for u = 0.
        iterations: of an iteration; 0 for a factorisation.
        how: by which computation.
    """

    x: Vector
    residual: float
    relative: float
    iterations: int
    how: str

    def error(self, lower: float) -> float:
        r"""$\|x - A^{-1}u\|_2 \le \|u - Ax\|_2 / \mu$ for a proved $0 < \mu \le \lambda_{\min}(A)$.

        Args:
            lower: μ, such as `Definiteness.lower`.

        Raises:
            ValueError: μ is not positive: then the residual bounds no error.
        """
        if not lower > 0:
            raise ValueError(
                f"lower: got {lower}, needs a positive lower bound of the least eigenvalue; "
                "definiteness(...).lower is one where the matrix is positive definite"
            )
        return self.residual / lower * (1 + linalg.gamma(4))

    def __repr__(self) -> str:
        """Show the certificate."""
        return f"Solution(d={len(self.x)}, ‖u − Ax‖ = {self.relative:.1e} ‖u‖, {self.how})"


def solve(curvature: Curvature, u: Vector, *, relative: float = RELATIVE, most: int = MOST) -> Solution:
    r"""Solve $A x = u$ for a symmetric A.

    Within the memory budget by a Cholesky factorisation, or by one with symmetric pivoting where the matrix
    is not positive definite, with a step of refinement; where the matrix is singular, by its decomposition,
    as the least-squares solution of least norm. Beyond the budget by conjugate gradients where the structure
    of A tells that it is definite (`Curvature.floor`), and by the method of minimal residuals otherwise.
    Either way the residual is recomputed from x, and it alone says how good x is.

    Args:
        curvature: A.
        u: the right side, shape (d,), float64.
        relative: what ‖u − A x‖ / ‖u‖ an iteration aims at.
        most: products that an iteration may make; a result that is cut off shows it in its residual.

    Raises:
        ValueError: no `Curvature`, another shape or dtype, NaN or infinity.
    """
    require_curvature(curvature)
    u = np.asarray(u)
    if u.shape != (curvature.d,):
        raise ValueError(f"u: got shape {u.shape}, needs ({curvature.d},), one entry to a parameter")
    linalg.require_judging_precision("u", u)
    size = linalg.frobenius(u)
    if size == 0:
        return Solution(np.zeros_like(u), 0.0, 0.0, 0, "u is zero")
    if curvature.dense:
        (x, how), iterations = _direct(curvature, u), 0
    else:
        x, iterations, how = _iterated(curvature, u, relative, most)
    residual = certified_residual(curvature, x, u)
    return Solution(x, residual, residual / size, iterations, f"{how}; {curvature.decided}")


def certified_residual(curvature: Curvature, x: Vector, u: Vector) -> float:
    r"""$\|u - A x\|_2$, rounded up; without a matrix the rounding of the product is an estimate."""
    image = curvature.product(x)
    norm = linalg.frobenius(image)
    if curvature.dense:
        norm = linalg.frobenius(curvature.matrix()) * linalg.frobenius(x)
    rounding = linalg.gamma(curvature.operations + 4) * (norm + linalg.frobenius(u))
    return (linalg.frobenius(u - image) + rounding) * (1 + linalg.gamma(len(u) + 8))


def _direct(curvature: Curvature, u: Vector) -> tuple[Vector, str]:
    matrix = curvature.matrix()
    factor, info = scipy.linalg.lapack.dpotrf(matrix.T, lower=0, clean=0)
    if info == 0:
        back: Callable = partial(scipy.linalg.cho_solve, (factor, False), check_finite=False)
        how = "Cholesky factorisation"
    else:
        factor, pivots, info = scipy.linalg.lapack.dsytrf(matrix.T, lower=0)
        back, how = (
            partial(_back, factor, pivots),
            "factorisation with symmetric pivoting: not positive definite",
        )
    if info == 0:
        x = back(u)
        x = x + back(u - matrix @ x)
        if np.linalg.norm(u - matrix @ x) <= SINGULAR * np.linalg.norm(u):
            return x, how
    values, vectors, _ = curvature.spectrum
    kept = np.abs(values) > CUTOFF * np.abs(values).max()
    x = vectors[:, kept] @ ((vectors[:, kept].T @ u) / values[kept])
    return x, f"least squares, {int((~kept).sum())} directions cut: singular"


def _back(factor: Float[np.ndarray, "d d"], pivots: np.ndarray, v: Vector) -> Vector:
    return scipy.linalg.lapack.dsytrs(factor, pivots, v, lower=0)[0]


def _iterated(curvature: Curvature, u: Vector, relative: float, most: int) -> tuple[Vector, int, str]:
    """An iteration, restarted from its residual r until that is small, or neither ‖r‖ nor ‖A r‖ shrinks."""
    definite = curvature.floor > 0
    one = _conjugate_gradients if definite else _minimal_residuals
    x, left, count, norms = np.zeros_like(u), u, 0, None
    goal = relative * float(np.linalg.norm(u))
    for _ in range(PASSES):
        before, norms = norms, (float(np.linalg.norm(left)), float(np.linalg.norm(curvature.product(left))))
        if norms[0] <= goal or count >= most:
            break
        if before is not None and not (norms[0] < before[0] / 10 or norms[1] < before[1] / 10):
            break
        step, made = one(curvature, left, min(0.5, max(PASS, goal / norms[0])), most)
        rest, count = u - curvature.product(x + step), count + made
        if not float(np.linalg.norm(rest)) <= norms[0]:
            break
        x, left = x + step, rest
    return x, count, f"{'conjugate gradients' if definite else 'minimal residuals'}, {count} products"


def _conjugate_gradients(curvature: Curvature, u: Vector, relative: float, most: int) -> tuple[Vector, int]:
    given = (jnp.asarray(float(one)) for one in (curvature.floor, relative))
    x, count = _cg(curvature.linear, jnp.asarray(u), *given, most)
    return np.asarray(x), int(count)


@partial(jax.jit, static_argnums=4)
def _cg(linear: Partial, u: Any, floor: Any, relative: Any, most: int) -> tuple[Any, Any]:
    shape = jax.ShapeDtypeStruct(u.shape, u.dtype)
    # Relative tolerances are entry by entry there, and never met where u has zeros: an absolute one is given.
    # It is asked of steps as well; A / floor, which is no less than I, makes them no larger than residuals.
    scaled = lx.FunctionLinearOperator(lambda v: linear(v) / floor, shape, lx.positive_semidefinite_tag)
    goal = relative * jnp.linalg.norm(u)
    solver = lx.CG(rtol=0.0, atol=goal, norm=jnp.linalg.norm, max_steps=most)
    found = lx.linear_solve(scaled, u, solver, throw=False)
    return found.value / floor, found.stats["num_steps"]


def _minimal_residuals(curvature: Curvature, u: Vector, _: float, most: int) -> tuple[Vector, int]:
    count = 0

    def product(v: Vector) -> Vector:
        nonlocal count
        count += 1
        return curvature.product(v.ravel())

    operator = scipy.sparse.linalg.LinearOperator((len(u), len(u)), matvec=product, dtype=np.float64)
    x, _ = scipy.sparse.linalg.minres(operator, u, rtol=PASS, maxiter=most)
    return x, count
