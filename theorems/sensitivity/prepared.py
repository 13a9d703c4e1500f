r"""H and P factored once, for the gaps that many disturbances leave: dense, or by products alone."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float

from .. import linalg
from ..curvature import Curvature, solve
from .roots import Range, Root, Triangular, root, span

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
        error: what rounding and the residual of an iterative solve may have done to `value`, to first order
            and in the worst case, which is usually some hundred times too much.
        rank: of $H^{1/2}P$, the number of directions in which PEFT can act.
        clear: how far apart the smallest pivot that counts for the rank and the largest that does not are,
            as a quotient; infinite where nothing was dropped.
        cutoff: relative size at or below which eigenvalues, and directions of P, count as zero.
        cut: eigen-directions of H that were cut.
        outside: the length of the part of u in these directions; of an iterative solve, the residual.
        range_ok: whether that is no more than rounding explains, so that u is in the range of H.
        condition: of H on what was kept (an estimate in the 1-norm where it was factored by Cholesky); NaN
            where it is not known.
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
        if not self.range_ok:
            return f"ResidualGap(none: {self.outside:.3g} of u is not in the range of H; {self.how})"
        cut = f", {self.cut} directions cut" if self.cut else ""
        condition = "" if math.isnan(self.condition) else f", condition {self.condition:.2g}"
        return (
            f"ResidualGap({self.value:.6g} ± {self.error:.1g} of {self.full:.6g}; rank {self.rank}"
            f"{condition}, {self.how}{cut})"
        )


@dataclass(frozen=True, eq=False)
class Dense:
    """A root F of H, a basis B of the range of P, and one of the range of FB."""

    root: Root
    directions: Range
    image: Range
    cutoff: float

    @classmethod
    def of(cls, H: Matrix, P: Directions, cutoff: float) -> Dense:
        """Factor both."""
        F, B = root(H, cutoff), span(P, cutoff)
        return cls(F, B, span(F.coordinates(B.basis), math.sqrt(cutoff), math.sqrt(F.size)), cutoff)

    def gap(self, u: Vector) -> ResidualGap:
        """The gap under a tilt u, as a residual."""
        F, A = self.root, self.image
        v = F.whitened(u)
        w = A.residual(v)
        outside, rounding = F.outside(u)
        defined = outside <= rounding
        return ResidualGap(
            value=float(w @ w) / 2 if defined else math.nan,
            full=float(v @ v) / 2,
            peft=float(np.sum((A.basis.T @ v) ** 2)) / 2,
            error=self._error(v, w, linalg.frobenius(u)),
            rank=A.rank,
            clear=min(A.clear, self.directions.clear),
            cutoff=self.cutoff,
            cut=F.cut,
            outside=outside,
            range_ok=defined,
            condition=F.condition,
            how=F.how,
        )

    def _error(self, v: np.ndarray, w: np.ndarray, length: float) -> float:
        r"""Backward errors of H, u and the directions times the derivatives of the gap by them.

        With the minimisers −x and −y of the two methods, $d\,gap = \frac12(y^TdHy - x^TdHx) + (x-y)^Tdu$, and
        turning the directions by dB changes it by $|(H(x-y))^TdB\,y|$ at most.  Last, w itself is rounded.
        """
        F, B = self.root, self.directions
        rounding = linalg.gamma(sum(B.basis.shape) + 16)
        x, left = F.back(v), F.back(w)
        y = x - left
        slope = F.L @ w if isinstance(F, Triangular) else (F.vectors * np.sqrt(F.values)) @ w
        missing = linalg.frobenius(left)
        by_hessian = F.size * missing * linalg.frobenius(x + y) / 2
        by_directions = linalg.frobenius(slope) * linalg.frobenius(y) / B.kept
        return rounding * (by_hessian + missing * length + by_directions) + rounding**2 * float(v @ v) / 2


@dataclass(frozen=True, eq=False)
class Free:
    r"""Products with H, a basis B of the range of P, and a root of $B^THB$."""

    curvature: Curvature
    directions: Range
    root: Root
    cutoff: float

    @classmethod
    def of(cls, curvature: Curvature, P: Directions, cutoff: float) -> Free:
        """Factor what PEFT sees of H."""
        B = span(P, cutoff)
        return cls(curvature, B, root(curvature.restricted(B.basis), cutoff), cutoff)

    def gap(self, u: Vector) -> ResidualGap:
        r"""The gap as $\frac12(x-y)^TH(x-y)$, with x from a solve whose residual ρ is known.

        To first order the error of x changes the gap by $(x-y)^T\rho$ at most, whatever the condition of H.
        """
        B, F = self.directions.basis, self.root
        try:
            solution = solve(self.curvature, u)
        except ValueError as broken:  # u is checked: what is not finite can only come of the iteration
            raise ValueError(
                "H: conjugate gradients broke down, so H is singular with u outside its range, or "
                "indefinite: add weight decay, or use the Gauss-Newton matrix"
            ) from broken
        x, y = solution.x, B @ F.back(F.whitened(B.T @ u))
        left = x - y
        value = float(left @ self.curvature.product(left)) / 2
        missing = float(np.linalg.norm(left))
        rounding = linalg.gamma(self.curvature.operations + len(u) + 16)
        size = float(np.linalg.norm(u)) + solution.residual
        defined = solution.relative <= math.sqrt(linalg.EPS)
        if defined and value < -rounding * missing * size:
            raise ValueError(
                f"H is indefinite: a direction has the curvature {2 * value / missing**2:.6g}, and the least "
                "eigenvalue is not above it; add weight decay, or use the Gauss-Newton matrix"
            )
        return ResidualGap(
            value=value if defined else math.nan,
            full=float(u @ x) / 2,
            peft=float(u @ y) / 2,
            error=missing * (solution.residual + rounding * size),
            rank=B.shape[1] - F.cut,
            clear=self.directions.clear,
            cutoff=self.cutoff,
            cut=0,
            outside=solution.residual,
            range_ok=defined,
            condition=math.nan,
            how=f"{solution.how}; that H is semidefinite is not proved",
        )
