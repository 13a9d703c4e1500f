r"""Solutions of A x = u with the residual as their certificate."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import lineax as lx
import numpy as np
import scipy.linalg
from jax.tree_util import Partial
from jaxtyping import Float

from .. import linalg
from .operator import Curvature

RELATIVE = 1e-12
STEPS = 10_000


@dataclass(frozen=True, eq=False, repr=False)
class Solution:
    r"""A solution of $A x = u$ and what certifies it.

    Attributes:
        x: shape (d,).
        residual: $\|u - A x\|_2$, recomputed and rounded up by what its own computation can have lost.
        relative: residual / ‖u‖; 0 for u = 0.
        iterations: of the iteration; 0 for a factorisation.
        how: by which computation.
    """

    x: Float[np.ndarray, " d"]
    residual: float
    relative: float
    iterations: int
    how: str

    def error(self, lower: float) -> float:
        r"""$\|x - A^{-1}u\| \le \|u - Ax\| / \mu$ for a proved $0 < \mu \le \lambda_{\min}(A)$.

        Raises:
            ValueError: μ is not positive: then nothing bounds the error.
        """
        if not lower > 0:
            raise ValueError(f"lower: got {lower}, needs a positive lower bound of the least eigenvalue")
        return self.residual / lower * (1 + linalg.gamma(4))

    def __repr__(self) -> str:
        """Show the certificate."""
        return f"Solution(d={len(self.x)}, residual {self.residual:.2e}, relative {self.relative:.2e}, {self.how})"


def solve(
    curvature: Curvature, u: Float[np.ndarray, " d"], *, relative: float = RELATIVE, steps: int = STEPS
) -> Solution:
    r"""Solve $A x = u$.

    Within the memory budget by a Cholesky factorisation (of an indefinite matrix, by one with symmetric
    pivoting) and one step of refinement; beyond it by conjugate gradients.  Either way the residual is recomputed
    from the result, and it alone says how good that is.

    Args:
        curvature: A.
        u: the right side, shape (d,), float64.
        relative: of the residual to ‖u‖, where an iteration may stop.
        steps: at most so many.

    Raises:
        ValueError: another shape or dtype, NaN or infinity.
    """
    u = np.asarray(u)
    if u.shape != (curvature.d,):
        raise ValueError(f"u: got shape {u.shape}, needs ({curvature.d},)")
    linalg.require_judging_precision("u", u)
    size = float(np.linalg.norm(u))
    if size == 0:
        return Solution(np.zeros_like(u), 0.0, 0.0, 0, "u is zero")
    x, iterations, how = (
        (_direct(curvature, u), 0, "") if curvature.dense else _iterated(curvature, u, relative, steps)
    )
    if curvature.dense:
        x, how = x
    left = u - curvature.product(x)
    norm = float(np.linalg.norm(curvature.matrix())) if curvature.dense else size / float(np.linalg.norm(x))
    rounding = linalg.gamma(curvature.operations + 4) * (norm * float(np.linalg.norm(x)) + size)
    residual = float(np.linalg.norm(left)) + rounding
    return Solution(x, residual, residual / size, iterations, how)


def _direct(curvature: Curvature, u: np.ndarray) -> tuple[np.ndarray, str]:
    matrix = curvature.matrix()
    try:
        factor = scipy.linalg.cho_factor(matrix, check_finite=False)
        back, how = partial(scipy.linalg.cho_solve, factor, check_finite=False), "Cholesky factorisation"
    except np.linalg.LinAlgError:
        back = partial(scipy.linalg.solve, matrix, assume_a="sym", check_finite=False)
        how = "factorisation with symmetric pivoting: the matrix is not positive definite"
    x = back(u)
    return x + back(u - matrix @ x), how


def _iterated(
    curvature: Curvature, u: np.ndarray, relative: float, steps: int
) -> tuple[np.ndarray, int, str]:
    x, count = _conjugate_gradients(curvature.linear, jnp.asarray(u), jnp.asarray(relative), steps)
    return np.asarray(x), int(count), f"conjugate gradients, {int(count)} products"


@partial(jax.jit, static_argnums=3)
def _conjugate_gradients(linear: Partial, u: Any, relative: Any, steps: int) -> tuple[Any, Any]:
    operator = lx.FunctionLinearOperator(
        linear, jax.ShapeDtypeStruct(u.shape, u.dtype), lx.positive_semidefinite_tag
    )
    solver = lx.CG(rtol=relative, atol=0.0, max_steps=steps)
    found = lx.linear_solve(operator, u, solver, throw=False)
    return found.value, found.stats["num_steps"]
