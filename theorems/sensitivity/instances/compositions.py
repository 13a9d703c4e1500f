r"""A quadratic loss seen through a map g: what (49) and (50) say of its derivatives in Φ."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from hypothesis import strategies as st

from ... import linalg, rational
from ...pasteable import Pasteable
from .. import differences
from ..fact import Fact


@dataclass(frozen=True, eq=False, repr=False)
class Composed(Pasteable):
    r"""$L(\theta) = c^T\theta + \frac12\theta^T H \theta$ at $\theta = g(\Phi)$, exact.

    Attributes:
        hessian: H, shape (d, d).
        slope: c, shape (d,).
        phi: Φ, shape (k,).
        directions: P of the linear map $g(\Phi) = P\Phi$, shape (d, k); None for LoRA.
        sides: (m, n, r) of LoRA: Φ holds B and A row by row, $g(\Phi) = BA$ row by row.

    Derivatives in Φ are measured by differences, which are exact here: L(g(Φ)) has degree 4 at most.
    """

    hessian: np.ndarray
    slope: np.ndarray
    phi: np.ndarray
    directions: np.ndarray | None = None
    sides: tuple[int, int, int] | None = None

    @property
    def kind(self) -> str:
        """Which map."""
        return "linear map" if self.sides is None else "LoRA"

    @property
    def linearity(self) -> Fact:
        """Whether g is linear."""
        return Fact(self.sides is None, self.kind)

    def g(self, phi: np.ndarray) -> np.ndarray:
        """The parameters of Φ."""
        if self.sides is None:
            return self.directions @ phi
        m, n, r = self.sides
        return (phi[: m * r].reshape(m, r) @ phi[m * r :].reshape(r, n)).ravel()

    def loss(self, theta: np.ndarray) -> Any:
        """L(θ)."""
        return self.slope @ theta + theta @ self.hessian @ theta / 2

    @cached_property
    def theta(self) -> np.ndarray:
        """g(Φ)."""
        return self.g(self.phi)

    @cached_property
    def jacobian(self) -> np.ndarray:
        """P = Dg(Φ), shape (d, k)."""
        return differences.gradient(self.g, self.phi).T

    @property
    def jacobian_at_zero(self) -> np.ndarray:
        """The matrix of the linear part of g: Dg at Φ = 0."""
        return differences.gradient(self.g, 0 * self.phi).T

    @property
    def gradient(self) -> np.ndarray:
        """∇L at θ, by the formula."""
        return self.slope + self.hessian @ self.theta

    @property
    def measured_gradient(self) -> np.ndarray:
        """The gradient in Φ, measured."""
        return differences.gradient(lambda phi: self.loss(self.g(phi)), self.phi)

    @property
    def measured_hessian(self) -> np.ndarray:
        """The Hessian in Φ, measured."""
        return differences.hessian(lambda phi: self.loss(self.g(phi)), self.phi)

    @property
    def printed_gradient(self) -> np.ndarray:
        """Pᵀ∇L with the matrix P of g = PΦ: its linear part, where g is not linear."""
        return self.jacobian_at_zero.T @ self.gradient

    @property
    def printed_hessian(self) -> np.ndarray:
        """PᵀHP with P = Dg(Φ)."""
        return self.jacobian.T @ self.hessian @ self.jacobian

    @property
    def second(self) -> np.ndarray:
        """The term that (50) lacks, Σ (∇L)ᵢ ∇²gᵢ, shape (k, k)."""
        return differences.hessian(self.g, self.phi) @ self.gradient


def scalar_lora() -> Composed:
    """One weight θ = ba at b = a = 1, and the loss L(θ) = θ."""
    return Composed(linalg.exact([[0]]), linalg.exact([1]), linalg.exact([1, 1]), sides=(1, 1, 1))


def turned() -> Composed:
    """A linear map of two parameters into three."""
    H = linalg.exact([[2, 1, 0], [1, 2, 1], [0, 1, 2]])
    P = linalg.exact([[1, 0], [1, 1], [0, 2]])
    return Composed(H, linalg.exact([1, -1, 3]), linalg.exact([1, -2]), P)


@st.composite
def compositions(draw: st.DrawFn, *, linear: bool = True) -> Composed:
    """Small integers; H of any signs; LoRA of up to 2 × 2 matrices unless linear."""

    def array(*shape: int) -> np.ndarray:
        count = int(np.prod(shape))
        return linalg.exact([draw(st.integers(-2, 2)) for _ in range(count)]).reshape(shape)

    sides = None
    if linear:
        d, k = draw(st.integers(1, 3)), draw(st.integers(1, 2))
    else:
        m, n, r = draw(st.integers(1, 2)), draw(st.integers(1, 2)), 1
        sides, d, k = (m, n, r), m * n, r * (m + n)
    M = array(d, d)
    H = M + M.T + draw(st.integers(0, 2)) * rational.identity(d)
    return Composed(H, array(d), array(k), array(d, k) if linear else None, sides)
