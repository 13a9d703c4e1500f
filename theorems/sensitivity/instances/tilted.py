r"""A quadratic loss that a disturbance of its gradient tilts, and a subspace in which PEFT answers.

$q(D) = u^T D + \frac12 D^T H D$ with $u = g + \varepsilon$ is the change of the disturbed loss under a step D
in the paper's model (41).  Full fine-tuning steps anywhere, PEFT within the range of P.  Numbers are
fractions or float64.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np
import sympy

from ... import linalg, rational
from ...pasteable import Pasteable
from .either import Fact, cut, in_range, length, lowest, pseudo_inverse, signs


@dataclass(frozen=True, eq=False, repr=False)
class Tilted(Pasteable):
    r"""The quadratic $q(D) = (g + \varepsilon)^T D + \frac12 D^T H D$ and the directions P that PEFT has.

    Attributes:
        hessian: H, symmetric, shape (d, d), float64 or exact.
        directions: P, shape (d, k); of any rank.
        gradient: g, the gradient of the undisturbed loss, shape (d,).
        disturbance: ε, shape (d,).
        kind: what a search counts.

    Comparisons ask for scalars, which other instances can have without a matrix.  `least_full` and
    `least_peft` are *measured* minima of q; the rest are forms with $H^{-1}$ or $H_\Phi^+$, named by vectors:
    `tilt_full` is $u^T H^{-1} u$, `mixed_full` is $\varepsilon_\parallel^T H^{-1} \varepsilon_\perp$,
    `parallel_restricted` is $\varepsilon_\parallel^T P H_\Phi^+ P^T \varepsilon_\parallel$.
    """

    hessian: np.ndarray
    directions: np.ndarray
    gradient: np.ndarray
    disturbance: np.ndarray
    kind: str = "tilted quadratic"

    @property
    def d(self) -> int:
        """The number of parameters."""
        return len(self.hessian)

    @property
    def k(self) -> int:
        """The number of parameters of PEFT."""
        return self.directions.shape[1]

    @property
    def is_exact(self) -> bool:
        """Whether it is given in fractions."""
        return linalg.is_exact(self.hessian)

    @property
    def tilt(self) -> np.ndarray:
        """The gradient of the disturbed loss, u = g + ε."""
        return self.gradient + self.disturbance

    @cached_property
    def restricted(self) -> np.ndarray:
        """H_Φ = PᵀHP."""
        return self.directions.T @ self.hessian @ self.directions

    @cached_property
    def projector(self) -> np.ndarray:
        """Π = PP⁺, the orthogonal projector onto the range of P."""
        return rational.projector(self.directions) if self.is_exact else self._basis @ self._basis.T

    @cached_property
    def parallel(self) -> np.ndarray:
        """ε_∥ = Πε."""
        return self.projector @ self.disturbance

    @property
    def orthogonal(self) -> np.ndarray:
        """ε_⊥ = ε − ε_∥."""
        return self.disturbance - self.parallel

    @cached_property
    def inverse(self) -> np.ndarray:
        """H⁻¹; H⁺ where H is singular."""
        return pseudo_inverse(self.hessian)

    @cached_property
    def restricted_inverse(self) -> np.ndarray:
        """H_Φ⁺."""
        return pseudo_inverse(self.restricted)

    def value(self, step: np.ndarray) -> Any:
        """The change q(D) under a step D."""
        return self.tilt @ step + step @ self.hessian @ step / 2

    @cached_property
    def _basis(self) -> np.ndarray:
        """An orthonormal basis of the range of P, float64."""
        u, s, _ = np.linalg.svd(self.directions, full_matrices=False)
        return u[:, s > cut(s, self.d)]

    # What is measured

    @cached_property
    def lowest_full(self) -> np.ndarray | None:
        """Where q is least, found by `lowest`; None where it has no minimum."""
        return lowest(self.hessian, self.tilt)

    @cached_property
    def lowest_peft(self) -> np.ndarray | None:
        """Where q is least on the range of P, as a point there."""
        B = self.directions if self.is_exact else self._basis
        found = lowest(B.T @ self.hessian @ B, B.T @ self.tilt)
        return None if found is None else B @ found

    @property
    def least_full(self) -> Any:
        """The least value of q, measured; −∞ where it has none."""
        return self._least(self.lowest_full)

    @property
    def least_peft(self) -> Any:
        """The least value of q on the range of P, measured."""
        return self._least(self.lowest_peft)

    def _least(self, point: np.ndarray | None) -> Any:
        if point is None:
            return -sympy.oo if self.is_exact else -np.inf
        return self.value(point)

    # What the formulas say

    @property
    def step_full(self) -> np.ndarray:
        """−H⁻¹u, by the formula (44)."""
        return -self.inverse @ self.tilt

    @property
    def step_peft(self) -> np.ndarray:
        """−P H_Φ⁺ Pᵀ u, by the formula (51)."""
        P = self.directions
        return -P @ (self.restricted_inverse @ (P.T @ self.tilt))

    def full(self, x: np.ndarray, y: np.ndarray | None = None) -> Any:
        """The form xᵀ H⁻¹ y."""
        return x @ self.inverse @ (x if y is None else y)

    @property
    def tilt_full(self) -> Any:
        """uᵀ H⁻¹ u."""
        return self.full(self.tilt)

    @property
    def disturbance_full(self) -> Any:
        """εᵀ H⁻¹ ε."""
        return self.full(self.disturbance)

    @property
    def parallel_full(self) -> Any:
        """ε_∥ᵀ H⁻¹ ε_∥."""
        return self.full(self.parallel)

    @property
    def orthogonal_full(self) -> Any:
        """ε_⊥ᵀ H⁻¹ ε_⊥."""
        return self.full(self.orthogonal)

    @property
    def mixed_full(self) -> Any:
        """ε_∥ᵀ H⁻¹ ε_⊥."""
        return self.full(self.parallel, self.orthogonal)

    @property
    def parallel_restricted(self) -> Any:
        """ε_∥ᵀ P H_Φ⁺ Pᵀ ε_∥."""
        x = self.directions.T @ self.parallel
        return x @ self.restricted_inverse @ x

    @property
    def orthogonal_slope(self) -> Any:
        """ε_⊥ᵀ g."""
        return self.orthogonal @ self.gradient

    # Hypotheses

    @cached_property
    def _signs(self) -> rational.Inertia:
        return signs(self.hessian)

    @property
    def definiteness(self) -> Fact:
        """Whether H ≻ 0."""
        return Fact(self._signs.definite, self._shown)

    @property
    def semidefiniteness(self) -> Fact:
        """Whether H ⪰ 0."""
        return Fact(self._signs.semidefinite, self._shown)

    @property
    def invertibility(self) -> Fact:
        """Whether H has an inverse."""
        return Fact(self._signs.zero == 0, self._shown)

    @property
    def _shown(self) -> str:
        if not self.is_exact:
            return f"smallest eigenvalue {np.linalg.eigvalsh(self.hessian)[0]:.3g}"
        return "eigenvalues: " + ", ".join(f"{n} {name}" for name, n in self._signs._asdict().items())

    @property
    def range_condition(self) -> Fact:
        """Whether u ∈ range H."""
        return in_range(self.hessian, self.tilt)

    @property
    def restricted_range(self) -> Fact:
        """Whether Pᵀu ∈ range PᵀHP."""
        return in_range(self.restricted, self.directions.T @ self.tilt)

    @property
    def stationarity(self) -> Fact:
        """Whether g = 0: the undisturbed loss is at a stationary point."""
        return Fact(not np.any(self.gradient), f"|g| = {length(self.gradient):.3g}")

    @property
    def orthonormality(self) -> Fact:
        """Whether PᵀP = I."""
        off = self.directions.T @ self.directions - np.eye(self.k, dtype=int)
        worst = float(np.max(np.abs(off)))
        return Fact(worst <= (0 if self.is_exact else linalg.gamma(16 * self.d)), f"|PᵀP − I| = {worst:.3g}")

    @property
    def independence(self) -> Fact:
        """Whether P has full column rank."""
        rank = rational.rank(self.directions) if self.is_exact else self._basis.shape[1]
        return Fact(rank == self.k, f"rank {rank} of {self.k}")

    # What rounding is relative to

    @cached_property
    def operations(self) -> int:
        r"""Rounded operations, times the condition numbers that carry them: $\kappa(H)\,\kappa(P)^2$.

        An error E of H changes $u^T H^{-1} u$ by $\|E\|\,\|H^{-1}u\|^2$ at most, to first order, which is
        $(\|E\|/\lambda_{\min})\,u^T H^{-1} u$ at most: forms are off relative to themselves.
        """
        if self.is_exact:
            return 8
        values, s = (np.linalg.svd(a, compute_uv=False) for a in (self.hessian, self.directions))
        kept = [v[v > cut(v, self.d)] for v in (values, s)]
        conditions = [float(v[0] / v[-1]) if len(v) else 1.0 for v in kept]
        return int(64 * self.d * conditions[0] * conditions[1] ** 2) + 1

    def with_disturbance(self, disturbance: np.ndarray, *, stationary: bool = False) -> Tilted:
        """The same loss and directions under another disturbance, and with g = 0 if stationary."""
        gradient = 0 * self.gradient if stationary else self.gradient
        return replace(self, disturbance=disturbance, gradient=gradient)
