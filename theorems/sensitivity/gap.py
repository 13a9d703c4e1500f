r"""What re-adaptation leaves to PEFT and not to full fine-tuning, computed without cancellation.

At θ the loss has gradient g and Hessian H; a disturbance ε of the data tilts it, u = g + ε, and each method
re-adapts on the quadratic $q(D) = u^TD + \frac12D^THD$: full fine-tuning over all D, PEFT over the range of
P. Subtracting the two minima loses what they have in common; every function here computes a residual
instead.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float

from .. import linalg
from .roots import CUTOFF, Range, Root, Triangular, root, span

Matrix = Float[np.ndarray, "d d"]
Directions = Float[np.ndarray, "d k"]
Vector = Float[np.ndarray, " d"]


@dataclass(frozen=True, repr=False)
class ResidualGap:
    r"""The gap $\min_\Phi q(P\Phi) - \min_D q(D)$ and what it rests on.

    Attributes:
        value: the gap; NaN where u is not in the range of H, since the full minimum is −∞ there.
        full: $-\min_D q(D) = \frac12u^TH^+u$, what full fine-tuning gains.
        peft: $-\min_\Phi q(P\Phi)$, what PEFT gains.
        error: what rounding (and the residual of iterative solves) may have done to `value`, to first order.
        rank: of $H^{1/2}P$, the number of directions in which PEFT can act.
        clear: how far apart the smallest pivot that counts for the rank and the largest that does not are,
            as a quotient; infinite where nothing was dropped.
        cutoff: relative size at or below which eigenvalues, and directions of P, count as zero.
        cut: eigen-directions of H that were cut.
        outside: the length of the part of u in these directions.
        range_ok: whether that is no more than rounding explains, so that u is in the range of H.
        condition: of H on what was kept (an estimate in the 1-norm where it was factored by Cholesky).
        how: the way it was computed.
    """

    value: float
    full: float
    peft: float
    error: float
    rank: int
    clear: float
    cutoff: float
    cut: int
    outside: float
    range_ok: bool
    condition: float
    how: str

    @property
    def relative(self) -> float:
        """The gap as a part of what full fine-tuning gains; 0 where that gains nothing."""
        return self.value / self.full if self.full else 0.0

    def __repr__(self) -> str:
        """Show the gap with its error, or why there is none."""
        cut = f", {self.cut} directions cut" if self.cut else ""
        if not self.range_ok:
            return f"ResidualGap(none: {self.outside:.3g} of u lies in {self.cut} cut directions of H)"
        return (
            f"ResidualGap({self.value:.6g} ± {self.error:.1g} of {self.full:.6g}; rank {self.rank}, "
            f"condition {self.condition:.2g}, {self.how}{cut})"
        )


def residual_gap(H: Matrix, P: Directions, u: Vector, *, cutoff: float = CUTOFF) -> ResidualGap:
    r"""How much more a tilted quadratic loss leaves to PEFT than to full fine-tuning.

    $$\min_\Phi q(P\Phi) - \min_D q(D) = \tfrac12\,\|(I-Q)\,(H^+)^{1/2}u\|^2 \ge 0,$$

    for H ⪰ 0 and u in its range, with Q the orthogonal projector onto the range of $H^{1/2}P$.  Any root of H
    serves: with $H = LL^T$ it is $\frac12\|(I-Q)L^{-1}u\|^2$, Q from a QR decomposition of $L^TP$, the
        projection repeated once.  The relative error grows like $\varepsilon\sqrt{full/gap}$, where the
        difference of the two quadratic forms would lose $\varepsilon\,full/gap$.

    Args:
        H: the Hessian, shape (d, d), symmetric and positive semidefinite, float64.
        P: directions of PEFT as columns, shape (d, k); any rank, not necessarily orthonormal.
        u: gradient plus disturbance, shape (d,).
        cutoff: relative size at or below which an eigenvalue of H, or a direction of P, counts as zero.

    Returns:
        A `ResidualGap`.

    Raises:
        ValueError: shapes that do not fit, not float64, NaN, H not symmetric or with a negative eigenvalue.

    Source: T4.R3.  It is an equality; 0 if and only if u is in H range(P) (T4.R5).
    """
    P, u = checked(P, u, len(np.asarray(H)))
    F, B = root(H, cutoff), span(P, cutoff)
    A = span(F.coordinates(B.basis), math.sqrt(cutoff), math.sqrt(F.size))
    v = F.whitened(u)
    w = A.residual(v)
    outside, rounding = F.outside(u)
    defined = outside <= rounding
    return ResidualGap(
        value=float(w @ w) / 2 if defined else math.nan,
        full=float(v @ v) / 2,
        peft=float(np.sum((A.basis.T @ v) ** 2)) / 2,
        error=_error(F, B, v, w, float(np.linalg.norm(u))),
        rank=A.rank,
        clear=min(A.clear, B.clear),
        cutoff=cutoff,
        cut=F.cut,
        outside=outside,
        range_ok=defined,
        condition=F.condition,
        how=F.how,
    )


def checked(P: Directions, u: Vector, d: int) -> tuple[Directions, Vector]:
    """Directions and tilt as arrays that fit d parameters."""
    P, u = np.asarray(P), np.asarray(u)
    linalg.require_judging_precision("P", P)
    linalg.require_judging_precision("u", u)
    if P.ndim != 2 or len(P) != d:
        raise ValueError(f"P: got shape {P.shape}, needs (d, k) with d = {d}: directions are columns")
    if u.shape != (d,):
        raise ValueError(f"u: got shape {u.shape}, needs ({d},): the gradient plus the disturbance")
    return P, u


def _error(F: Root, B: Range, v: np.ndarray, w: np.ndarray, length: float) -> float:
    r"""Backward errors of H, u and the directions times the derivatives of the gap by them.

    With the minimisers −x and −y of the two methods, $d\,gap = \frac12(y^TdHy - x^TdHx) + (x-y)^Tdu$, and
    turning the directions by dB changes it by $|(H(x-y))^TdB\,y|$ at most.
    """
    rounding = linalg.gamma(sum(B.basis.shape) + 16)
    x, left = F.back(v), F.back(w)
    y = x - left
    slope = np.linalg.norm(_transposed(F, w))
    by_hessian = F.size * np.linalg.norm(left) * np.linalg.norm(x + y) / 2
    return float(rounding * (by_hessian + np.linalg.norm(left) * length + slope * np.linalg.norm(y) / B.kept))


def _transposed(F: Root, w: np.ndarray) -> np.ndarray:
    """Fᵀ w."""
    return F.L @ w if isinstance(F, Triangular) else (F.vectors * np.sqrt(F.values)) @ w
