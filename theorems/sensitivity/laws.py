r"""Bounds and averages of the gap, and its other face: what re-adaptation does to the undisturbed loss."""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np

from .. import linalg
from ..curvature import Curvature
from .gap import Directions, Matrix, ResidualGap, Vector, formed, residual_gap
from .roots import CUTOFF, symmetric


class CleanDamage(NamedTuple):
    r"""The undisturbed loss that re-adaptation costs, each method from its own stationary point.

    Attributes:
        full: $\frac12\varepsilon^TH^+\varepsilon$, of full fine-tuning.
        peft: $\frac12\varepsilon^TP(P^THP)^+P^T\varepsilon$, of PEFT; never more.
        gap: `full` − `peft`, in residual form, with everything that it rests on.
    """

    full: float
    peft: float
    gap: ResidualGap


def clean_damage(H: Matrix | Curvature, P: Directions, eps: Vector, *, cutoff: float = CUTOFF) -> CleanDamage:
    r"""How much of the undisturbed loss each method gives up when it re-adapts to a disturbance.

    $$\tfrac12\varepsilon^TH^+\varepsilon \;\ge\; \tfrac12\varepsilon^TP(P^THP)^+P^T\varepsilon,$$

    each method from its own stationary point (g = 0, resp. $P^Tg = 0$), with the same H at both.  It is the
    reverse of what the paper concludes: who adapts better to the disturbance forgets more.

    Args:
        H: the Hessian, shape (d, d), symmetric and positive semidefinite, float64, or a `Curvature`.
        P: directions of PEFT as columns, shape (d, k), of any rank.
        eps: the disturbance of the gradient, shape (d,).
        cutoff: as in `residual_gap`.

    Raises:
        ValueError: as `residual_gap`.

    Source: T4.R16.  Equality if and only if ε is in H range(P).
    """
    gap = residual_gap(H, P, eps, cutoff=cutoff)
    return CleanDamage(gap.full, gap.peft, gap)


def kantorovich(H: Matrix | Curvature) -> float:
    r"""How far (58) can be from an equality, at most.

    $$c = (\lambda_1+\lambda_d)^2/(4\lambda_1\lambda_d) \ge 1,$$

    $$P(P^THP)^{-1}P^T \preceq \Pi H^{-1}\Pi \preceq c\,P(P^THP)^{-1}P^T,\qquad\Pi=PP^+.$$

    Attained by one direction, the sum of two unit eigenvectors of the smallest and the largest eigenvalue.

    Eigenvalues are computed, and c is no upper bound to the last digit: where H is ill-conditioned it is off
    by about κ(H) times machine epsilon, relatively.

    Args:
        H: shape (d, d), symmetric and positive definite, float64; or a `Curvature` that fits its budget.

    Raises:
        ValueError: not symmetric, not float64, or not definite.

    Source: T4.R20; Marshall and Olkin, *Matrix versions of the Cauchy and Kantorovich inequalities*, 1990.
    """
    values = np.linalg.eigvalsh(symmetric(formed(H)))
    if not values[0] > linalg.gamma(8 * len(values)) * abs(values[-1]):
        raise ValueError(f"H: smallest eigenvalue {values[0]:.3g}, needs a positive definite matrix")
    condition = float(values[-1] / values[0])  # squares of eigenvalues may be no numbers
    return (1 + condition) ** 2 / (4 * condition)


class DistanceBounds(NamedTuple):
    """What the distance to the reachable set says of the gap."""

    lower: float
    upper: float


def distance_bounds(mu: float, beta: float, distance: float) -> DistanceBounds:
    r"""The gap of any loss with curvature between μ and β, by a distance alone.

    $$\tfrac\mu2\,\mathrm{dist}^2 \le \inf_\Phi\mathcal L'(\theta_0+g(\Phi)) - \min\mathcal L' \le
    \tfrac\beta2\,\mathrm{dist}^2,\qquad \mathrm{dist} = \mathrm{dist}(\theta'_F-\theta_0,\ \mathrm{Im}\,g),$$

    where $\theta'_F$ minimises the disturbed loss $\mathcal L'$.  No quadratic model; any map g.

    Args:
        mu: $\mathcal L'$ is μ-strongly convex, μ ≥ 0.
        beta: its gradient is β-Lipschitz, β ≥ μ.
        distance: dist ≥ 0.  For LoRA of rank r it is the root of $\sum_{i>r}\sigma_i(\Theta'_F-\Theta_0)^2$.

    Raises:
        ValueError: numbers out of range.

    Source: T4.R12, T4.R13.  Both are attained for $\mathcal L'$ with Hessian cI.
    """
    if not (0 <= mu <= beta < math.inf):
        raise ValueError(f"mu, beta: got {mu} and {beta}, needs 0 <= mu <= beta, finite")
    if not 0 <= distance < math.inf:
        raise ValueError(f"distance: got {distance}, needs a finite number >= 0")
    return DistanceBounds(mu * distance**2 / 2, beta * distance**2 / 2)


class GapLaw(NamedTuple):
    """Mean and variance of a gap that is τ/2 times a chi-squared variable."""

    mean: float
    variance: float


def gap_law(tau: float, missing: int) -> GapLaw:
    r"""Mean and variance of the gap under score noise.

    $$u\sim\mathcal N(0,\tau H)\ \Rightarrow\ 2\,gap/\tau\sim\chi^2_\nu,\qquad
    \nu = \mathrm{rank}\,H-\mathrm{rank}\,HP,$$

    which for H ≻ 0 is d − rank P.

    Args:
        tau: τ > 0.
        missing: ν, the number of directions that H sees and PEFT lacks.

    Raises:
        ValueError: numbers out of range.

    Source: T4.R8, T4.R9.  They are equalities.
    """
    if not (0 < tau < math.inf and missing >= 0):
        raise ValueError(f"tau, missing: got {tau} and {missing}, needs tau > 0 and missing >= 0")
    return GapLaw(tau * missing / 2, tau**2 * missing / 2)
