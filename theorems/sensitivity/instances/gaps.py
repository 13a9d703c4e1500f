r"""Tilted quadratics with what the repairs compare: the gap, its other forms, and what bounds it."""

from __future__ import annotations

from dataclasses import dataclass, replace
from fractions import Fraction
from functools import cached_property
from typing import Any

import numpy as np
import sympy
from hypothesis import strategies as st

from ... import linalg, rational
from ..fact import Fact
from ..forms import dual_gap
from ..gap import residual_gap
from .either import in_range, length, lowest, pseudo_inverse
from .matrices import squared
from .ordered import Ordered
from .residuals import Residuals
from .tilted import Tilted
from .tilts import small, structured, tilts


@dataclass(frozen=True, eq=False, repr=False)
class Gap(Residuals, Ordered):
    r"""A tilted quadratic and everything that the repairs of Theorem 4 ask of it."""

    @classmethod
    def of(cls, made: Tilted) -> Gap:
        """The same with more to ask."""
        return cls(made.hessian, made.directions, made.gradient, made.disturbance, made.kind)

    # The gap and its other forms

    @property
    def gap(self) -> Any:
        """Two measured minima; infinite where full fine-tuning has none."""
        return self.infinity if self.lowest_full is None else self.least_peft - self.least_full

    @property
    def infinity(self) -> Any:
        """An infinite number of the kind that the instance has."""
        return sympy.oo if self.is_exact else np.inf

    @cached_property
    def residual(self) -> Any:
        """½‖(I − Q)(H⁺)^½u‖²: in floating point what the library computes."""
        if not self.is_exact and self.semidefiniteness:
            return residual_gap(self.hessian, self.directions, self.tilt).value
        return Residuals.residual.func(self)

    @property
    def projected(self) -> Any:
        """The same with the projection of the full step in place of PEFT's own."""
        x = self.solved(self.tilt)
        left = x - self.projector @ x
        return left @ self.times(left) / 2

    @property
    def restricted_inverse_form(self) -> Any:
        """Π H⁺ Π in place of P H_Φ⁺ Pᵀ: uᵀ Π H⁺ Π u."""
        x = self.projector @ self.tilt
        return x @ self.solved(x)

    @cached_property
    def missing(self) -> np.ndarray:
        """N, a basis of what is orthogonal to the range of P."""
        if self.is_exact:
            return rational.nullspace(self.directions.T)
        return np.linalg.qr(self._basis, mode="complete")[0][:, self._basis.shape[1] :]

    @property
    def dual(self) -> Any:
        """½(NᵀH⁺u)ᵀ(NᵀH⁺N)⁺(NᵀH⁺u); in floating point, for a definite H, what the library computes."""
        if not self.is_exact and self.definiteness:
            return dual_gap(self.hessian, self.directions, self.tilt)
        N = self.missing
        x = N.T @ self.solved(self.tilt)
        return x @ pseudo_inverse(N.T @ self.inverse @ N) @ x / 2 if len(x) else 0 * self.tilt_full

    # When there is no gap

    @property
    def missed(self) -> Any:
        """The squared distance of u from H range(P)."""
        return _distance(self.hessian @ self.directions, self.tilt)

    @property
    def outside(self) -> Any:
        """The squared distance of u from range(P)."""
        return _distance(self.directions, self.tilt)

    @property
    def parallel_missed(self) -> Any:
        """The squared distance of H⁻¹ε_∥ from range(P)."""
        return _distance(self.directions, self.solved(self.parallel))

    # The parts of a disturbance

    @property
    def overlaps(self) -> np.ndarray:
        """Pᵀε_⊥, ε_∥ᵀε_⊥, and the squared distance of ε_∥ from range(P): all 0 for a split."""
        return self._overlaps(self.parallel)

    @property
    def printed_overlaps(self) -> np.ndarray:
        """The same for ε_∥ = PPᵀε."""
        return self._overlaps(self.directions @ (self.directions.T @ self.disturbance))

    def _overlaps(self, along: np.ndarray) -> np.ndarray:
        across = self.disturbance - along
        return np.array([*(self.directions.T @ across), along @ across, _distance(self.directions, along)])

    @property
    def overlaps_size(self) -> Any:
        """What rounding of them is relative to."""
        e = squared(self.disturbance)
        return np.array([*(abs(self.directions).T @ abs(self.disturbance)), e, e])

    @property
    def answer(self) -> np.ndarray:
        """The step of PEFT, measured; by the formula where there is no least value."""
        return self.step_peft if self.lowest_peft is None else self.lowest_peft

    @property
    def answer_to_parallel(self) -> np.ndarray:
        """The step of PEFT where only ε_∥ disturbs, measured."""
        return self.with_disturbance(self.parallel).answer

    @cached_property
    def parallel_gap(self) -> Any:
        """The gap that ε_∥ alone leaves, without g."""
        return self.with_disturbance(self.parallel, stationary=True).gap

    @property
    def answer_sizes(self) -> np.ndarray:
        """What rounding of such a step, and of the gap beside it, is relative to."""
        step = max(float(np.linalg.norm(x)) for x in (self.answer, self.solved(self.tilt)))
        return np.array([step] * self.d + [float(self.parallel_full)])

    @property
    def crossing(self) -> Fact:
        """Whether ε_∥ = 0."""
        size = length(self.parallel)
        bound = 0 if self.is_exact else linalg.gamma(16 * self.d) * length(self.disturbance)
        return Fact(size <= bound, f"|ε_∥| = {size:.3g}")

    # The disturbance's own share

    @property
    def own_share(self) -> Any:
        """How much lower the disturbance makes the least value of q: two measured minima."""
        before = self.with_disturbance(0 * self.disturbance)
        if self.lowest_full is None or before.lowest_full is None:
            return -self.infinity
        return self.least_full - before.least_full

    @property
    def share_range(self) -> Fact:
        """Whether g ∈ range H and u ∈ range H."""
        found = in_range(self.hessian, self.gradient)
        return self.range_condition if found else found

    # What re-adaptation does to the undisturbed loss

    @property
    def damage_full(self) -> Any:
        """The rise of the undisturbed loss when full fine-tuning re-adapts from g = 0, measured."""
        return self._damage(0 * self.gradient, full=True)

    @property
    def damage_peft(self) -> Any:
        """The same of PEFT from Pᵀg = 0."""
        return self._damage(self.gradient - self.projector @ self.gradient)

    @property
    def careless_damages(self) -> tuple[Any, Any]:
        """Of PEFT and of full fine-tuning, both from the same gradient g, stationary or not."""
        return self._damage(self.gradient), self._damage(self.gradient, full=True)

    def _damage(self, gradient: np.ndarray, *, full: bool = False) -> Any:
        start = replace(self, gradient=gradient)
        step = start.lowest_full if full else start.lowest_peft
        if step is None:
            return self.infinity
        return gradient @ step + step @ self.hessian @ step / 2

    @property
    def disturbance_range(self) -> Fact:
        """Whether ε ∈ range H."""
        return in_range(self.hessian, self.disturbance)


def _distance(A: np.ndarray, x: np.ndarray) -> Any:
    """Squared distance of x from the range of A, where a quadratic is least: no projector is asked."""
    if linalg.is_exact(A):
        z = lowest(A.T @ A, -(A.T @ x))
    else:
        z = np.linalg.lstsq(A, x, rcond=linalg.gamma(64 * len(x)))[0]
    return squared(x - A @ z)


def gaps(
    *, definite: bool = True, orthonormal_only: bool = False, stationary: bool = False
) -> tuple[st.SearchStrategy[Gap], ...]:
    """Those of `tilts`."""
    kinds = tilts(definite=definite, orthonormal_only=orthonormal_only, stationary=stationary)
    return tuple(one.map(Gap.of) for one in kinds)


def out_of_range() -> st.SearchStrategy[Gap]:
    """Singular H, and u with a part outside of its range."""
    return structured(kinds=("out of range",)).map(Gap.of)


def singular() -> tuple[st.SearchStrategy[Gap], ...]:
    """Exact ones with H ⪰ 0, often singular, and u in its range."""
    return small(definite=False).map(Gap.of), structured(kinds=("singular",)).map(Gap.of)


def crossing() -> tuple[st.SearchStrategy[Gap], ...]:
    """Stationary ones that are disturbed across the directions of PEFT only."""

    def cross(made: Tilted) -> Gap:
        return Gap.of(replace(made, disturbance=made.orthogonal, kind="orthogonal disturbance"))

    return tuple(one.map(cross) for one in tilts(stationary=True))


def shallow() -> st.SearchStrategy[Gap]:
    """Exact ones with half the curvature, so that eigenvalues lie below 1 and above."""
    return small(least=2).map(lambda made: Gap.of(replace(made, hessian=made.hessian / Fraction(2))))
