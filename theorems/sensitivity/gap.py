r"""What re-adaptation leaves to PEFT and not to full fine-tuning, computed without cancellation.

At θ the loss has gradient g and Hessian H; a disturbance ε of the data tilts it, u = g + ε, and each method
re-adapts on the quadratic $q(D) = u^TD + \frac12D^THD$: full fine-tuning over all D, PEFT over the range of
P.  Subtracting the two minima loses what they have in common; every function here computes a residual.
"""

from __future__ import annotations

import numpy as np

from .. import linalg
from ..curvature import Curvature
from .prepared import Dense, Directions, Free, Matrix, ResidualGap, Vector
from .roots import CUTOFF

__all__ = [
    "Directions",
    "Matrix",
    "ResidualGap",
    "Vector",
    "checked",
    "formed",
    "prepare",
    "residual_gap",
    "sized",
]


def residual_gap(H: Matrix | Curvature, P: Directions, u: Vector, *, cutoff: float = CUTOFF) -> ResidualGap:
    r"""How much more a tilted quadratic loss leaves to PEFT than to full fine-tuning.

    $$\min_\Phi q(P\Phi) - \min_D q(D) = \tfrac12\,\|(I-Q)\,(H^+)^{1/2}u\|^2 \ge 0,$$

    for H ⪰ 0 and u in its range, with Q the orthogonal projector onto the range of $H^{1/2}P$.  Any root of H
    serves: with $H = LL^T$ it is $\frac12\|(I-Q)L^{-1}u\|^2$, Q from a QR decomposition of $L^TP$, the
    projection repeated once.  The relative error grows like $\varepsilon\sqrt{full/gap}$, where the
    difference of the two quadratic forms would lose $\varepsilon\,full/gap$.

    Args:
        H: the Hessian, shape (d, d), symmetric and positive semidefinite, float64; or a `Curvature`.  One
        that does not fit its memory budget is never formed: $\frac12(x-y)^TH(x-y)$ with x = H⁻¹u by
        conjugate gradients and y = P(PᵀHP)⁺Pᵀu.
        P: directions of PEFT as columns, shape (d, k); any rank, not necessarily orthonormal.
        u: gradient plus disturbance, shape (d,).
        cutoff: relative size at or below which an eigenvalue of H, or a direction of P, counts as zero.

    Returns:
        A `ResidualGap`.

    Raises:
        ValueError: shapes that do not fit, not float64, NaN, H not symmetric or with a negative eigenvalue.

    Example:
        >>> import numpy as np
        >>> H, P = np.array([[1.0, -1.0], [-1.0, 2.0]]), np.array([[1.0], [0.0]])
        >>> found = residual_gap(H, P, np.array([1.0, 0.0]))
        >>> round(found.value, 12), round(found.full, 12), found.rank
        (0.5, 1.0, 1)

    Source: T4.R3.  It is an equality; 0 if and only if u is in H range(P) (T4.R5).
    """
    prepared = prepare(H, P, cutoff=cutoff)
    return prepared.gap(checked(P, u, sized(H))[1])


def prepare(H: Matrix | Curvature, P: Directions, *, cutoff: float = CUTOFF) -> Dense | Free:
    """Factor H and P once; the method `gap` of what comes back takes one tilt u after the other.

    Args:
        H: as in `residual_gap`.
        P: as in `residual_gap`.
        cutoff: as in `residual_gap`.

    Raises:
        ValueError: as `residual_gap`.
    """
    d = sized(H)
    P, _ = checked(P, np.zeros(d), d)
    if isinstance(H, Curvature) and not H.dense:
        return Free.of(H, P, cutoff)
    return Dense.of(formed(H), P, cutoff)


def formed(H: Matrix | Curvature) -> Matrix:
    """The matrix itself.

    Raises:
        ValueError: a `Curvature` that does not fit its memory budget.
    """
    return H.matrix() if isinstance(H, Curvature) else np.asarray(H)


def sized(H: Matrix | Curvature) -> int:
    """The number of parameters."""
    return H.d if isinstance(H, Curvature) else len(np.asarray(H))


def checked(P: Directions, u: Vector, d: int) -> tuple[Directions, Vector]:
    """Directions and tilt as arrays that fit d parameters.

    Raises:
        ValueError: shapes that do not fit, not float64, NaN.
    """
    P, u = np.asarray(P), np.asarray(u)
    linalg.require_judging_precision("P", P)
    linalg.require_judging_precision("u", u)
    if P.ndim != 2 or len(P) != d:
        raise ValueError(f"P: got shape {P.shape}, needs (d, k) with d = {d}: directions are columns")
    if u.shape != (d,):
        raise ValueError(f"u: got shape {u.shape}, needs ({d},): the gradient plus the disturbance")
    return P, u
