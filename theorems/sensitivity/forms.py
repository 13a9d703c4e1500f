r"""Other forms of the gap.

Each by its own formula: the directions that PEFT lacks, a Jacobian whose square is never formed,
and the parts of the disturbance along and across the directions.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float

from .. import linalg
from ..curvature import Curvature
from .gap import Directions, Matrix, ResidualGap, Vector, checked, formed, sized
from .roots import CUTOFF, root, span


def dual_gap(H: Matrix | Curvature, P: Directions, u: Vector, *, cutoff: float = CUTOFF) -> float:
    r"""The gap by the directions N that PEFT lacks, for a definite H.

    $$\tfrac12\,(N^TH^{-1}u)^T(N^TH^{-1}N)^{-1}(N^TH^{-1}u),\qquad
    \mathrm{range}\,N = \mathrm{range}(P)^\perp,$$

    as $\frac12\|Q_N^TF^{-T}u\|^2$ with $F^TF = H$ and $Q_N$ a basis of the range of $F^{-T}N$.  It is the
    cheaper form where few directions are missing, d − rank P < rank P.

    Args:
        H: the Hessian, shape (d, d), symmetric and positive definite, float64; or a `Curvature` that fits its
            memory budget.
        P: directions of PEFT as columns, shape (d, k), of any rank.
        u: gradient plus disturbance, shape (d,).
        cutoff: relative size at or below which an eigenvalue of H, or a direction of P, counts as zero.

    Raises:
        ValueError: as `residual_gap`, and a singular H, for which this form is false.

    Source: T4.R6.  It is an equality.
    """
    P, u = checked(P, u, sized(H))
    F = root(formed(H), cutoff)
    if F.cut:
        raise ValueError(
            f"H: {F.cut} eigenvalues count as zero (cutoff {cutoff:g}), and the dual form needs a definite "
            "matrix: use residual_gap"
        )
    N = complement(span(P, cutoff).basis)
    inside = np.linalg.qr(F.whitened(N))[0].T @ F.whitened(u)
    return float(inside @ inside) / 2


def complement(B: Float[np.ndarray, "d r"]) -> Float[np.ndarray, "d m"]:
    """An orthonormal basis of what is orthogonal to orthonormal columns."""
    return np.linalg.qr(B, mode="complete")[0][:, B.shape[1] :]


def gauss_newton_gap(
    J: Float[np.ndarray, "n d"], P: Directions, r: Float[np.ndarray, " n"], *, cutoff: float = CUTOFF
) -> ResidualGap:
    r"""The gap for $H = J^TJ$ and $u = J^Tr$, without forming H.

    $$\tfrac12\,\|(\Pi_J - \Pi_{JP})\,r\|^2,$$

    with the orthogonal projectors onto the ranges of J and JP, from QR decompositions with column pivoting:
    forming $J^TJ$ would square the condition number.  The range condition always holds.  Weight decay λ is
    a block √λ I below J, and zeros below r.

    Args:
        J: Jacobian of the (weighted) residuals, shape (n, d), float64.
        P: directions of PEFT as columns, shape (d, k), of any rank.
        r: residuals, shape (n,).
        cutoff: relative to the largest pivot; at or below it one counts as zero.

    Returns:
        A `ResidualGap`; `cut` counts the directions that J does not see, `condition` is that of J, squared.

    Raises:
        ValueError: shapes that do not fit, not float64, NaN.

    Source: T4.R11; Schraudolph 2002 for the matrix.  It is an equality.
    """
    J = np.asarray(J)
    linalg.require_judging_precision("J", J)
    if J.ndim != 2 or J.size == 0:
        raise ValueError(f"J: got shape {J.shape}, needs (n, d): residuals by parameters")
    P, _ = checked(P, np.zeros(J.shape[1]), J.shape[1])
    r = np.asarray(r)
    linalg.require_judging_precision("r", r)
    if r.shape != (len(J),):
        raise ValueError(f"r: got shape {r.shape}, needs ({len(J)},), one residual to a row of J")
    B = span(P, cutoff)
    size = float(np.linalg.norm(J, axis=0).max())
    all_of, some = (span(A, cutoff, size) for A in (J, J @ B.basis))
    v = all_of.basis @ (all_of.basis.T @ r)
    w = some.residual(v)
    rounding = linalg.gamma(sum(J.shape) + 16) * float(np.linalg.norm(w) * np.linalg.norm(r))
    return ResidualGap(
        value=float(w @ w) / 2,
        full=float(v @ v) / 2,
        peft=float(np.sum((some.basis.T @ v) ** 2)) / 2,
        error=rounding * (1 / all_of.kept + 1 / (some.kept * B.kept)),
        rank=some.rank,
        clear=min(one.clear for one in (all_of, some, B)),
        cutoff=cutoff,
        cut=J.shape[1] - all_of.rank,
        outside=0.0,
        range_ok=True,
        condition=1 / all_of.kept**2,
        how="QR of the Jacobian",
    )


@dataclass(frozen=True)
class Corrected57:
    r"""The gap at g = 0 by the parts of the disturbance along and across the directions: (57) put right.

    Attributes:
        parallel: $\frac12\varepsilon_\parallel^T(H^{-1} - P(P^THP)^{-1}P^T)\varepsilon_\parallel \ge 0$.
        cross: $\varepsilon_\parallel^TH^{-1}\varepsilon_\perp$, of either sign.
        orthogonal: $\frac12\varepsilon_\perp^TH^{-1}\varepsilon_\perp \ge 0$.
    """

    parallel: float
    cross: float
    orthogonal: float

    @property
    def total(self) -> float:
        """Their sum, which is the gap."""
        return self.parallel + self.cross + self.orthogonal


def corrected_57(H: Matrix | Curvature, P: Directions, eps: Vector, *, cutoff: float = CUTOFF) -> Corrected57:
    r"""Equation 57 as it should read, term by term.

    $$\min_\Phi q(P\Phi)-\min_D q(D) =
    \tfrac12\varepsilon_\parallel^T\big(H^{-1}-P(P^THP)^{-1}P^T\big)\varepsilon_\parallel
    + \varepsilon_\parallel^TH^{-1}\varepsilon_\perp + \tfrac12\varepsilon_\perp^TH^{-1}\varepsilon_\perp,$$

    with $\varepsilon_\parallel = PP^+\varepsilon$.  The printed equation has the opposite sign, a term
    $\varepsilon_\perp^Tg$ that no step within range P sees, and no cross term.  `parallel` is computed as a
    residual.

    Args:
        H: shape (d, d), symmetric and positive definite, float64; or a `Curvature` that fits its budget.
        P: shape (d, k), of any rank.
        eps: shape (d,).
        cutoff: as in `residual_gap`.

    Raises:
        ValueError: as `residual_gap`, and a singular H.

    Source: T4.R18.
    """
    P, eps = checked(P, eps, sized(H))
    F, B = root(formed(H), cutoff), span(P, cutoff)
    if F.cut:
        raise ValueError(f"H: {F.cut} eigenvalues count as zero (cutoff {cutoff:g}), needs a definite matrix")
    across = B.residual(eps)
    along = B.basis @ (B.basis.T @ eps)
    a, b = F.whitened(along), F.whitened(across)
    left = span(F.coordinates(B.basis), math.sqrt(cutoff), math.sqrt(F.size)).residual(a)
    return Corrected57(float(left @ left) / 2, float(a @ b), float(b @ b) / 2)
