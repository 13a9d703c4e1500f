r"""Quadratic forms with the pseudo-inverse, and what was cut to compute them."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float

from .. import linalg
from .definite import definiteness
from .lanczos import CHANCE
from .operator import Curvature, require_curvature
from .solving import CUTOFF, MOST, RELATIVE, SINGULAR, solve

IMAGES = 8
"""Products with random vectors from which the size of a matrix is bounded that is too large to be formed."""


@dataclass(frozen=True, eq=False, repr=False)
class PseudoForm:
    r"""$u^T A^+ u$ with the directions in which A counts as zero left out.

    Attributes:
        value: the form.
        error: a bound of what the solution of $A x = u$ and rounding leave of it, in which beyond the memory
            budget the rounding of products is estimated; infinite where nothing bounds it.
        cutoff: directions with an eigenvalue of at most this size were cut.
        cut: how many; None where it is not known.
        cut_directions: orthonormal, shape (d, cut); no columns where none was cut.
        outside: the norm of the part of u in the directions that were cut: zero if u is in the range of A,
            and the value means little if it is not.
        how: by which computation.
    """

    value: float
    error: float
    cutoff: float
    cut: int | None
    cut_directions: Float[np.ndarray, "d cut"]
    outside: float
    how: str

    def __repr__(self) -> str:
        """Show the value and what was cut."""
        cut = "cut directions not known"
        if self.cut is not None:
            cut = f"{self.cut} of {len(self.cut_directions)} directions cut"
        outside = f", {self.outside:.1e} of u outside" if self.cut != 0 else ""
        return f"PseudoForm({self.value:.6g} ± {self.error:.1e}, {cut}{outside}, {self.how})"


def quadratic_form(
    curvature: Curvature,
    u: Float[np.ndarray, " d"],
    *,
    cutoff: float = CUTOFF,
    relative: float = RELATIVE,
    most: int = MOST,
) -> PseudoForm:
    r"""$u^T A^+ u$ for a symmetric A, with the range condition made visible.

    If all eigenvalues are proved to be above the cutoff, A is solved with, and the form is $2 u^T x - x^T A
    x$, which falls short of $u^T A^{-1} u$ by $r^T A^{-1} r \le \|r\|^2 / \mu$ only, with $r = u - A x$.
    Otherwise A is decomposed, and its small eigenvalues are cut. Beyond the memory budget x comes from an
    iteration that started at 0; then the cut directions are not known, and the part of u in them is at most
    ‖r‖.

    Args:
        curvature: A.
        u: shape (d,), float64.
        cutoff: relative to the largest |λ|.
        relative: what an iteration aims at, see `solve`.
        most: products that it may make.

    Raises:
        ValueError: no `Curvature`, a negative cutoff, another shape or dtype, NaN or infinity.
    """
    require_curvature(curvature)
    if not 0 <= cutoff < 1:
        raise ValueError(f"cutoff: got {cutoff}, needs a number from 0 to 1, such as {CUTOFF:g}")
    u, none = np.asarray(u), np.empty((curvature.d, 0))
    lower = curvature.floor
    if curvature.dense:
        size = linalg.frobenius(curvature.matrix())  # at least the largest |λ|
        lower = definiteness(curvature).lower if size > 0 else 0.0
        if not lower > cutoff * size:
            return _cut(curvature, u, cutoff)
    solution = solve(curvature, u, relative=relative, most=most)
    image, outside = curvature.product(solution.x), 0.0 if lower > 0 else solution.residual
    if (
        not lower > 0 and solution.relative > SINGULAR
    ):  # the rest of u is in no image: solve for what is in one
        u = image
        solution = solve(curvature, u, relative=relative, most=most)
        image = curvature.product(solution.x)
    x = solution.x
    value = float(2 * u @ x - x @ image)
    if not lower > 0:
        how = f"{solution.how}; nothing bounds the error: the matrix is not known to be definite"
        return PseudoForm(value, math.inf, 0.0, None, none, outside, how)
    # A x is u, and so it is short where A is ill-conditioned; its rounding is that of what cancels in it.
    length = linalg.frobenius(x)
    rounding = (2 * linalg.frobenius(u) + _size(curvature) * length) * length
    error = solution.residual**2 / lower + linalg.gamma(curvature.operations + len(x) + 4) * rounding
    return PseudoForm(value, error * (1 + linalg.gamma(16)), 0.0, 0, none, outside, solution.how)


def _size(curvature: Curvature) -> float:
    r"""At least $\|A\|_F$; beyond the budget except with probability `CHANCE`.

    For a Gaussian v and $s^2 = 1/(1 + 2\lambda)$,

    $$P(\|A v\| \le s \|A\|_F) \le e^{\lambda s^2} \prod_i (1 + 2\lambda w_i)^{-1/2} \le \sqrt e\, s,$$

    where $w_i$ is the share of a squared singular value in their sum $\|A\|_F^2$: by Markov, and since
    $\prod_i (1 + 2\lambda w_i) \ge 1 + 2\lambda$.  So the longest of n images is shorter than that with
    probability at most $(\sqrt e\, s)^n$.
    """
    if curvature.dense:
        return linalg.frobenius(curvature.matrix()) * (1 + linalg.gamma(curvature.d**2 + 8))
    drawn = np.random.default_rng(0).normal(size=(IMAGES, curvature.d))
    longest = max(linalg.frobenius(curvature.product(v)) for v in drawn)
    return longest * math.sqrt(math.e) / CHANCE ** (1 / IMAGES)


def _cut(curvature: Curvature, u: Float[np.ndarray, " d"], cutoff: float) -> PseudoForm:
    linalg.require_judging_precision("u", u)
    if u.shape != (curvature.d,):
        raise ValueError(f"u: got shape {u.shape}, needs ({curvature.d},), one entry to a parameter")
    values, vectors, radius = curvature.spectrum
    limit = cutoff * float(np.abs(values).max())
    kept = np.abs(values) > limit
    along = vectors.T @ u
    x = along[kept] / values[kept]
    outside, length = linalg.frobenius(along[~kept]), linalg.frobenius(x)
    # E changes A⁺ by −A⁺EA⁺ + A⁺²E(I − AA⁺) + (I − AA⁺)EA⁺², to first order and if the rank stays.
    error = radius * length * length + 2 * radius * outside * linalg.frobenius(x / values[kept])
    return PseudoForm(
        value=float(along[kept] @ x),
        error=error + linalg.gamma(2 * len(u) + 8) * linalg.frobenius(u) * length,
        cutoff=limit,
        cut=int((~kept).sum()),
        cut_directions=vectors[:, ~kept],
        outside=outside,
        how=f"complete decomposition, error to first order; {curvature.decided}",
    )
