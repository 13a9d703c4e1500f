"""The perceptron of a block around given tokens, and what its activation does to an interval."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from jaxtyping import Float

from ....models.activations import activation
from ..scalars import SCALARS, SLOPES
from .rounding import schatten_norms

if TYPE_CHECKING:
    from .enclosure import Enclosure
    from .linear import Affine
    from .rounding import Margin

Array = np.ndarray

CURVATURE = {
    "identity": 0.0,
    "tanh": 0.76980036,  # 4 / (3 sqrt 3)
    "sigmoid": 0.09622505,  # 1 / (6 sqrt 3)
    "softplus": 0.25,
    "elu": 1.0,
    "silu": 0.5,
    "gelu": 0.79788457,  # sqrt(2 / pi)
    "gelu_tanh": 0.79788457,
}
"""Upper bounds on the Lipschitz constant of σ', by name; ReLU has none and is handled by its kink."""

MONOTONE = frozenset({"identity", "relu", "tanh", "sigmoid", "softplus", "elu"})


def activation_change(name: str, u: Array, radius: Array) -> Array:
    r"""Bound $\sup_{|d| \le \rho} |\sigma(u+d) - \sigma(u)|$, elementwise (P1).

    For monotone σ the larger of the two ends, which is exact; otherwise
    $\min(L,\, |\sigma'(u)| + \tfrac12 B\rho)\,\rho$ with B the Lipschitz constant of σ'. Never above Lρ.
    """
    sigma, lipschitz = SCALARS[name], activation(name).lipschitz
    if name in MONOTONE:
        middle = sigma(u)
        ends = np.maximum(sigma(u + radius) - middle, middle - sigma(u - radius))
        return np.minimum(ends + 16 * np.finfo(float).eps * (np.abs(u) + radius + 1), lipschitz * radius)
    return np.minimum(lipschitz, np.abs(SLOPES[name](u)) + CURVATURE[name] * radius / 2) * radius


def activation_remainder(name: str, u: Array, radius: Array) -> Array:
    r"""Bound $\sup_{|d| \le \rho} |\sigma(u+d) - \sigma(u) - \sigma'(u)d|$, elementwise (P2).

    $\tfrac12 B\rho^2$ for smooth σ, never above $2L\rho$; exactly $\max(0, \rho - |u|)$ for ReLU.
    """
    if name == "relu":
        return np.maximum(0.0, radius - np.abs(u))
    return np.minimum(CURVATURE[name] * radius / 2, 2 * activation(name).lipschitz) * radius


class Perceptron:
    r"""$\sigma(h W_1 + b_1) W_2 + b_2$ around given tokens h.

    Args:
        name: the activation σ.
        up: first layer, acting on h.
        down: second layer.
        h: the tokens, shape (p, t, n).
        margin: rounding allowance.

    Attributes:
        output: its value at h.
    """

    def __init__(self, name: str, up: Affine, down: Affine, h: Float[Array, "p t n"], margin: Margin) -> None:
        self.name, self.up, self.down, self.margin = name, up, down, margin
        self.lipschitz = activation(name).lipschitz
        self.u = up(h)
        hidden = SCALARS[name](self.u)
        self.output = down(hidden)
        self.slope = SLOPES[name](self.u)
        size = np.linalg.norm(hidden, axis=-1)
        # Values and slopes of the activation are off by a few units of its argument's rounding.
        self.slope_loss = margin.relative * np.minimum(1 + np.abs(self.u) ** 3, 1 / margin.relative)
        self.value_loss = margin.relative * (np.linalg.norm(self.u, axis=-1) + size + np.sqrt(up.width_out))
        self.at_base = up.shift(np.linalg.norm(h, axis=-1))
        self.down_shift = down.shift(size)
        self.columns, self.rows = np.linalg.norm(up.kernel, axis=0), np.linalg.norm(down.kernel, axis=1)
        self.tangent_loss = margin.relative * self.lipschitz * up.frobenius * down.frobenius
        self.jacobian = self._jacobian_norms()

    def _jacobian_norms(self) -> Float[Array, "p t"]:
        norms = np.empty(self.slope.shape[:-1])
        for one, slope in zip(norms, self.slope, strict=True):  # one input at a time, for the sake of memory
            one[...] = schatten_norms((self.up.kernel * slope[:, None, :]) @ self.down.kernel)
        return np.minimum(norms + self.tangent_loss, self.lipschitz * self.up.norm * self.down.norm)

    def ball(self, x: Enclosure) -> Float[Array, "p t"]:
        """Radius around the output that holds the outputs at all perturbed tokens (P3)."""
        drift, radius = self._parts(x)
        change = activation_change(self.name, self.u, radius)
        hidden = np.minimum(self.lipschitz * self.up.norm * x.radius, np.linalg.norm(change, axis=-1)) + drift
        known = np.minimum(self.down.norm * hidden, change @ self.rows + self.down.norm * drift)
        straight = self.linear(x.radius) + self.remainder(x)
        return np.minimum(self.margin.up(known + self.down.phi * hidden + self.down_shift), straight)

    def remainder(self, x: Enclosure) -> Float[Array, "p t"]:
        """Bound on the change of the output minus its linear part (P3)."""
        drift, radius = self._parts(x)
        bend = activation_remainder(self.name, self.u, radius)
        norm = np.linalg.norm(bend, axis=-1)
        if (
            self.name in CURVATURE
        ):  # a sum of fourth powers is at most the largest square times the sum of squares
            joint = CURVATURE[self.name] / 2 * self.columns.max() * self.up.norm * x.radius**2
            norm = np.minimum(norm, joint)
        moved = self.lipschitz * self.up.norm * x.radius + drift
        lost = drift + np.linalg.norm(self.slope_loss * radius, axis=-1)
        bent = np.minimum(self.down.norm * norm, bend @ self.rows) + self.down.norm * lost
        return self.margin.up(bent + self.down.phi * moved + self.down_shift)

    def _parts(self, x: Enclosure) -> tuple[Float[Array, "p t"], Float[Array, "p t hidden"]]:
        """Effect of the unknown first layer on the hidden units, and radius of each due to the known one."""
        drift = self.lipschitz * (self.up.phi * x.radius + self.at_base) + self.value_loss
        rest = x.rest + self.margin.relative * x.length
        predicted = np.abs(x.centre @ self.up.kernel) + self.columns * rest[..., None]
        return drift, self.margin.up(np.minimum(self.columns * x.radius[..., None], predicted))

    def tangent(self, v: Float[Array, "*batch p t n"]) -> Float[Array, "*batch p t n"]:
        """The linear part."""
        return ((v @ self.up.kernel) * self.slope) @ self.down.kernel

    def adjoint(self, c: Float[Array, "*batch p t n"]) -> Float[Array, "*batch p t n"]:
        """The transpose of the linear part."""
        return ((c @ self.down.kernel.T) * self.slope) @ self.up.kernel.T

    def linear(self, r: Float[Array, "p t"]) -> Float[Array, "p t"]:
        """Bound on the linear part of all perturbations within r."""
        return self.margin.up(self.jacobian * r)

    def loss(self, sizes: Float[Array, "p t"]) -> Float[Array, "p t"]:
        """Rounding of `tangent` at perturbations of these norms."""
        return 4 * self.tangent_loss * sizes

    def adjoint_loss(self, sizes: Float[Array, "p t"]) -> Float[Array, "p t"]:
        """Rounding of `adjoint`: the same, for it acts on each token alone."""
        return self.loss(sizes)
