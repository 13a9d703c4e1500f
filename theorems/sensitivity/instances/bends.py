r"""A loss of third order seen through a quadratic map: derivatives in Φ measured, and by the chain rule."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from hypothesis import strategies as st

from ... import linalg
from ...pasteable import Pasteable

NODES = np.arange(-3, 4)
FIRST = linalg.exact(["-1/60", "3/20", "-3/4", 0, "3/4", "-3/20", "1/60"])
SECOND = linalg.exact(["1/90", "-3/20", "3/2", "-49/18", "3/2", "-3/20", "1/90"])
"""Central differences on seven points: exact for polynomials of degree six, which this loss is in Φ."""


@dataclass(frozen=True, eq=False, repr=False)
class Bend(Pasteable):
    r"""A cubic loss at θ = g(Φ), exact.

    $L(\theta) = c^T\theta + \frac12\theta^TH\theta + \frac16\sum_it_i\theta_i^3$ and
    $g(\Phi) = G\Phi + \frac12T[\Phi,\Phi]$.

    Attributes:
        slope: c, shape (d,).
        hessian: H, shape (d, d).
        cubes: t, shape (d,).
        linear: G, shape (d, k).
        bend: T, symmetric in its last two axes, shape (d, k, k).
        phi: Φ, shape (k,).
    """

    slope: np.ndarray
    hessian: np.ndarray
    cubes: np.ndarray
    linear: np.ndarray
    bend: np.ndarray
    phi: np.ndarray
    kind: str = "quadratic map"

    def g(self, phi: np.ndarray) -> np.ndarray:
        """The parameters."""
        return self.linear @ phi + self.bend @ phi @ phi / 2

    def loss(self, theta: np.ndarray) -> Any:
        """L."""
        return self.slope @ theta + theta @ self.hessian @ theta / 2 + self.cubes @ theta**3 / 6

    def _along(self, direction: np.ndarray, weights: np.ndarray) -> Any:
        values = [self.loss(self.g(self.phi + int(t) * direction)) for t in NODES]
        return weights @ np.array(values, dtype=object)

    @cached_property
    def _units(self) -> np.ndarray:
        return np.eye(len(self.phi), dtype=int)

    @cached_property
    def composed_gradient(self) -> np.ndarray:
        """The gradient of L(g(Φ)), measured by values alone."""
        return np.array([self._along(e, FIRST) for e in self._units], dtype=object)

    @cached_property
    def composed_hessian(self) -> np.ndarray:
        """The Hessian of L(g(Φ)), measured by values alone."""
        own = [self._along(e, SECOND) for e in self._units]
        return np.array(
            [
                [
                    own[i] if i == j else (self._along(a + b, SECOND) - own[i] - own[j]) / 2
                    for j, b in enumerate(self._units)
                ]
                for i, a in enumerate(self._units)
            ],
            dtype=object,
        )

    def jacobian(self, phi: np.ndarray) -> np.ndarray:
        """Dg."""
        return self.linear + self.bend @ phi

    @property
    def gradient(self) -> np.ndarray:
        """∇L at g(Φ)."""
        theta = self.g(self.phi)
        return self.slope + self.hessian @ theta + self.cubes * theta**2 / 2

    @property
    def pulled_gradient(self) -> np.ndarray:
        """Dgᵀ∇L."""
        return self.jacobian(self.phi).T @ self.gradient

    @property
    def tangent_gradient(self) -> np.ndarray:
        """The same with the linear part of g, its Jacobian at Φ = 0."""
        return self.jacobian(0 * self.phi).T @ self.gradient

    @property
    def tangent_hessian(self) -> np.ndarray:
        """PᵀHP with P = Dg(Φ) and the Hessian of L at g(Φ): (50)."""
        P = self.jacobian(self.phi)
        return P.T @ (self.hessian + np.diag(self.cubes * self.g(self.phi))) @ P

    @property
    def pulled_hessian(self) -> np.ndarray:
        """PᵀHP + Σ (∇L)ᵢ ∇²gᵢ."""
        return self.tangent_hessian + np.tensordot(self.gradient, self.bend, 1)


def lora(m: int, n: int, r: int) -> tuple[np.ndarray, np.ndarray]:
    """G and T of $g(B, A) = BA$, all row by row: G = 0, and T has two entries for each term of a sum."""
    k = r * (m + n)
    T = np.zeros((m * n, k, k), dtype=int)
    for i in range(m):
        for j in range(n):
            for s in range(r):
                b, a = i * r + s, m * r + s * n + j
                T[i * n + j, b, a] = T[i * n + j, a, b] = 1
    return linalg.exact(np.zeros((m * n, k), dtype=int).tolist()), linalg.exact(T.tolist())


def scalar_lora() -> Bend:
    """θ = ba at b = a = 1, L(θ) = θ."""
    G, T = lora(1, 1, 1)
    return Bend(linalg.exact([1]), linalg.exact([[0]]), linalg.exact([0]), G, T, linalg.exact([1, 1]), "LoRA")


@st.composite
def bends(draw: st.DrawFn) -> Bend:
    """Any quadratic map of up to two numbers, or LoRA on up to 2 × 2 weights."""

    def array(*shape: int) -> np.ndarray:
        values = [draw(st.integers(-2, 2)) for _ in range(int(np.prod(shape)))]
        return linalg.exact(values).reshape(shape)

    if draw(st.booleans()):
        m, n = draw(st.integers(1, 2)), draw(st.integers(1, 2))
        (G, T), kind = lora(m, n, 1), "LoRA"
    else:
        d, k = draw(st.integers(1, 3)), draw(st.integers(1, 2))
        G, half, kind = array(d, k), array(d, k, k), "quadratic map"
        T = half + half.transpose(0, 2, 1)
    d, k = G.shape
    M = array(d, d)
    return Bend(array(d), M + M.T, array(d), G, T, array(k), kind)
