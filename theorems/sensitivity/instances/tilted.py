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
from ..fact import Fact
from .either import cut, in_range, length, lowest, pseudo_inverse, signs, solve
from .products import Products


@dataclass(frozen=True, eq=False, repr=False)
class Tilted(Products, Pasteable):
    r"""The quadratic $q(D) = (g + \varepsilon)^T D + \frac12 D^T H D$ and the directions P that PEFT has.

    Attributes:
        hessian: H, symmetric, shape (d, d), float64 or exact.
        directions: P, shape (d, k); of any rank.
        gradient: g, the gradient of the undisturbed loss, shape (d,).
        disturbance: ε, shape (d,).
        kind: what a search counts.

    What the formulas of the paper say are forms that `Products` makes of it.  `least_full` and `least_peft`
    are *measured* minima of q; what is called `printed_` is the paper's, with $\varepsilon_\parallel$ read
    as $P^T\varepsilon_\parallel$ where the types ask for it.
    """

    hessian: np.ndarray
    directions: np.ndarray
    gradient: np.ndarray
    disturbance: np.ndarray
    kind: str = "tilted quadratic"

    @property
    def k(self) -> int:
        """The number of parameters of PEFT."""
        return self.directions.shape[1]

    @property
    def is_exact(self) -> bool:
        """Whether it is given in fractions."""
        return linalg.is_exact(self.hessian)

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

    @cached_property
    def inverse(self) -> np.ndarray:
        """H⁻¹; H⁺ where H is singular."""
        return pseudo_inverse(self.hessian)

    @cached_property
    def restricted_inverse(self) -> np.ndarray:
        """H_Φ⁺."""
        return pseudo_inverse(self.restricted)

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

    @cached_property
    def rivals_full(self) -> np.ndarray:
        """The change q at points that no formula gave: 0, unit vectors, and the measured minimiser."""
        return self._rivals(np.eye(self.d, dtype=int), self.lowest_full)

    @cached_property
    def rivals_peft(self) -> np.ndarray:
        """The same within the range of P."""
        return self._rivals(self.directions.T, self.lowest_peft)

    def _rivals(self, steps: np.ndarray, found: np.ndarray | None) -> np.ndarray:
        points = [0 * self.tilt, *steps, *(-steps), *([] if found is None else [found])]
        return np.array([self.value(point) for point in points], self.tilt.dtype)

    @property
    def slopes(self) -> np.ndarray:
        """The derivative of q where it is least (at 0 where it has no minimum), by central differences."""
        return self._slopes(self.lowest_full)

    @property
    def slopes_peft(self) -> np.ndarray:
        """The same where q is least on the range of P."""
        return self._slopes(self.lowest_peft)

    def _slopes(self, point: np.ndarray | None) -> np.ndarray:
        at = 0 * self.tilt if point is None else point
        units = np.eye(self.d, dtype=int)
        found = [(self.value(at + unit) - self.value(at - unit)) / 2 for unit in units]
        return np.array(found, self.tilt.dtype)

    @property
    def slopes_size(self) -> Any:
        """What rounding of `slopes` is relative to."""
        at = 1 + abs(0 * self.tilt if self.lowest_full is None else self.lowest_full)
        return abs(self.tilt) @ at + at @ (abs(self.hessian) @ at)

    @cached_property
    def parallel_gap(self) -> Any:
        """What PEFT loses against full fine-tuning by ε_∥ alone, without g: two measured minima."""
        alone = self.with_disturbance(self.parallel, stationary=True)
        return alone.least_peft - alone.least_full

    # What the formulas say

    def times(self, x: np.ndarray) -> np.ndarray:
        """H x."""
        return self.hessian @ x

    def solved(self, x: np.ndarray) -> np.ndarray:
        """H⁻¹ x; H⁺ x where H is singular."""
        return self.inverse @ x

    def answered(self, x: np.ndarray) -> np.ndarray:
        """P H_Φ⁺ Pᵀ x."""
        return self.directions @ (self.restricted_inverse @ (self.directions.T @ x))

    @property
    def printed_full(self) -> Any:
        """What (47) says, ½ εᵀH⁻¹ε, by a solve in place of an inverse."""
        return self.disturbance @ solve(self.hessian, self.disturbance) / 2

    @property
    def printed_peft(self) -> Any:
        """What (53) says with its types repaired, ½ ε_∥ᵀP H_Φ⁺ Pᵀε_∥ + ε_⊥ᵀg, by a solve."""
        x = self.directions.T @ self.parallel
        return x @ solve(self.restricted, x) / 2 + self.orthogonal @ self.gradient

    @property
    def printed_overlap(self) -> Any:
        """ε_∥ᵀε_⊥ with ε_∥ = PPᵀε as (52) prints it, whether or not PPᵀ projects."""
        parallel = self.directions @ (self.directions.T @ self.disturbance)
        return parallel @ (self.disturbance - parallel)

    @property
    def printed_size(self) -> Any:
        """What rounding of `printed_overlap` is relative to."""
        parallel = self.directions @ (self.directions.T @ self.disturbance)
        return abs(parallel) @ (abs(self.disturbance) + abs(parallel))

    @property
    def restricted_rank(self) -> int:
        """The rank of H_Φ."""
        return rational.rank(self.restricted) if self.is_exact else self.k - signs(self.restricted).zero

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


def scalar(hessian: int, gradient: int, disturbance: int) -> Tilted:
    """One parameter, P = 1."""
    H, P = linalg.exact([[hessian]]), linalg.exact([[1]])
    return Tilted(H, P, linalg.exact([gradient]), linalg.exact([disturbance]))


def plane(gradient: tuple[int, int], disturbance: tuple[int, int], scale: int = 1) -> Tilted:
    """Two parameters, P = e₁ and H a multiple of the unit matrix: the smallest room for ε_⊥."""
    H, P = linalg.exact([[scale, 0], [0, scale]]), linalg.exact([[1], [0]])
    return Tilted(H, P, linalg.exact(list(gradient)), linalg.exact(list(disturbance)))


def skewed(gradient: tuple[int, int] = (0, 0), disturbance: tuple[int, int] = (1, 0)) -> Tilted:
    """H = [[1, −1], [−1, 2]], whose inverse is [[2, 1], [1, 1]], and P = e₁: H does not commute with PPᵀ."""
    H, P = linalg.exact([[1, -1], [-1, 2]]), linalg.exact([[1], [0]])
    return Tilted(H, P, linalg.exact(list(gradient)), linalg.exact(list(disturbance)))


def flat(disturbance: tuple[int, int], direction: int = 0) -> Tilted:
    """H = diag(1, 0) and one unit vector for P."""
    P = linalg.exact([[1 - direction], [direction]])
    return Tilted(linalg.exact([[1, 0], [0, 0]]), P, linalg.exact([0, 0]), linalg.exact(list(disturbance)))
