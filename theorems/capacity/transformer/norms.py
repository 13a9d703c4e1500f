r"""Norm layers as projections onto a sphere, and how far they move a token.

With $X = (Cx, \sqrt{n\varepsilon})$ a norm layer without its parameters is $h(x) = \sqrt{n}\, (X/\|X\|)$
without its last coordinate, and $\|X\| = \sqrt{n}\,s(x)$. So what a norm layer does to a perturbation is what
radial projection onto the unit sphere does, at relative distance $t = \|y - x\| / (\sqrt{n}\,s(x))$. Facts N1
to N5 of the theorem's page.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from jaxtyping import Float

from ... import linalg
from .forward import unit_norm

if TYPE_CHECKING:
    from ....models.transformer import TransformerConfig
    from .enclosure import Enclosure
    from .rounding import Margin

Array = np.ndarray


def norm_lipschitz(config: TransformerConfig, scale: Float[Array, " n"]) -> linalg.Upper:
    r"""Global Lipschitz constant of a norm layer, $\|\mathrm{diag}(\gamma) C\|_2 / \sqrt{\varepsilon}$.

    Attained where the variance is zero, and useless elsewhere: 316 at ε = 1e-5. Source: theory of LayerNorm's
    Jacobian $\gamma C (I - hh^T/n)/s$, s ≥ √ε; the page proves it (N5).
    """
    matrix = np.diag(scale)
    if config.norm == "layer":
        matrix = matrix - matrix.mean(axis=1, keepdims=True)
    return linalg.Upper(linalg.spectral_norm(matrix) / np.sqrt(config.epsilon) * (1 + linalg.gamma(8)))


def norm_radius(
    config: TransformerConfig, scale: Float[Array, " n"], bias: Float[Array, " n"] | None = None
) -> float:
    r"""Radius of a ball that holds all outputs of a norm layer, $\max|\gamma_i|\sqrt{n} + \|\beta\|_2$ (N4).

    The supremum is attained up to ε for a one-hot γ under RMSNorm and β along that axis.
    """
    size = np.max(np.abs(scale)) * np.sqrt(config.width) + (0.0 if bias is None else np.linalg.norm(bias))
    return linalg.Upper(size * (1 + linalg.gamma(2 * config.width + 8)))


def two_point(distance: Array, s_x: Array, s_y: Array) -> Array:
    r"""Move of the normalised token, $\|h(x) - h(y)\| \le 2\|x - y\| / (s_x + s_y)$ (N1).

    Equality for antipodal or equally long points as ε → 0. Source: Dunkl and Williams, *A simple norm
    inequality*, Amer. Math. Monthly 71 (1964), applied to X and Y, which have the same last coordinate.
    """
    return 2 * distance / (s_x + s_y)


def two_point_from_base(distance: Array, s_x: Array, width: int, epsilon: float) -> Array:
    r"""Two-point bound from the base point: $s_y \ge \max(\sqrt\varepsilon, s_x - \|x-y\|/\sqrt n)$."""
    return two_point(distance, s_x, np.maximum(np.sqrt(epsilon), s_x - distance / np.sqrt(width)))


def sphere_chord(t: Array) -> Array:
    r"""Largest move of the projection onto the unit sphere at relative distance t (N2).

    $$\sup_{\|Y-X\| \le t\|X\|} \Big\| \tfrac{Y}{\|Y\|} - \tfrac{X}{\|X\|} \Big\| = 2\sin(\tfrac12\arcsin t),
    \qquad t \le 1,$$

    and 2 beyond. Sharper than the two-point bound from the base point, $2t/(2-t)$: at t = 1 it is √2, not 2.
    Attained (n ≥ 2 coordinates after centring, $\|y-x\| \le \|Cx\|$) where y is the foot of the tangent from
    x.
    """
    inside = np.minimum(t, 1.0)
    return np.where(t <= 1.0, inside * np.sqrt(2 / (1 + np.sqrt((1 - inside) * (1 + inside)))), 2.0)


def sphere_remainder(t: Array) -> Array:
    r"""Bound on the move of the projection beyond its linear part at relative distance t (N3).

    $$\Big\| \tfrac{Y}{\|Y\|} - \tfrac{X}{\|X\|} - P\tfrac{Y-X}{\|X\|} \Big\|
      \le t^2\sqrt{a(k) + \tfrac{32}{25\sqrt5}\,kt + k^2t^2}, \qquad k = \frac{1}{1+\sqrt{1-t^2}},$$

    with $P = I - uu^T$ and $a(k) = \max_{0 \le y \le 1} y - (1-k^2)y^2$. Asymptotically sharp: $t^2/\sqrt3$
    as t → 0. Never above the trivial chord + t.
    """
    inside = np.minimum(t, 1.0)
    k = 1 / (1 + np.sqrt((1 - inside) * (1 + inside)))
    square = np.minimum(k * k, 0.5)
    lead = np.where(k * k <= 0.5, 0.25 / (1 - square), k * k)
    taylor = inside**2 * np.sqrt(lead + 32 / (25 * np.sqrt(5)) * k * inside + (k * inside) ** 2)
    trivial = sphere_chord(t) + t
    return np.where(t <= 1.0, np.minimum(taylor, trivial), trivial)


class UnitNorm:
    """The norm layer without its parameters, around given tokens.

    Args:
        config: sizes and variants.
        x: the computed tokens that the perturbed ones are compared with, shape (p, t, n).
        margin: rounding allowance.

    Attributes:
        h: normalised tokens.
        s: their scales.
    """

    def __init__(self, config: TransformerConfig, x: Float[Array, "p t n"], margin: Margin) -> None:
        self.centred, self.root, self.margin = config.norm == "layer", np.sqrt(config.width), margin
        self.epsilon, (self.h, self.s) = config.epsilon, unit_norm(config, x)
        # Subtracting a mean cancels: what is lost is relative to the token, not to its centred part.
        self.cancelled = 4 * margin.relative * (1 + np.linalg.norm(x, axis=-1) / self.s)
        self.rounding = self.cancelled * self.root

    def _relative(self, x: Enclosure) -> Float[Array, "p t"]:
        return self.margin.up(x.radius / (self.root * self.s) * (1 + self.cancelled))

    def ball(self, x: Enclosure) -> Float[Array, "p t"]:
        """Radius around h of a ball that holds all h(y): chord, two points (for large ε), or range."""
        chord, span = self.root * sphere_chord(self._relative(x)), self.root + np.linalg.norm(self.h, axis=-1)
        points = two_point_from_base(x.radius, self.s, len(self.h.T), self.epsilon) * (1 + self.cancelled)
        return self.margin.up(np.minimum(np.minimum(chord, points), span)) + self.rounding

    def remainder(self, x: Enclosure) -> Float[Array, "p t"]:
        """Bound on h(y) − h − J(y − x)."""
        return self.margin.up(self.root * sphere_remainder(self._relative(x))) + self.rounding

    def tangent(self, v: Float[Array, "*batch p t n"]) -> Float[Array, "*batch p t n"]:
        r"""The linear part, $J v = (I - hh^T/n) C v / s$."""
        v = v - v.mean(axis=-1, keepdims=True) if self.centred else v
        along = np.sum(v * self.h, axis=-1, keepdims=True) / self.root**2
        return (v - along * self.h) / self.s[..., None]

    def adjoint(self, c: Float[Array, "m p t n"]) -> Float[Array, "m p t n"]:
        """The transpose of the linear part, which is symmetric."""
        return self.tangent(c)

    def linear(self, r: Float[Array, "p t"]) -> Float[Array, "p t"]:
        r"""Bound on $\|J w\|$ for $\|w\| \le r$: $\|J\|_2 \le 1/s$."""
        return self.margin.up(r / self.s * (1 + self.cancelled))

    def loss(self, sizes: Float[Array, "p t"]) -> Float[Array, "p t"]:
        """Rounding of `tangent` at perturbations of these norms."""
        return 4 * self.cancelled * sizes / self.s

    def adjoint_loss(self, sizes: Float[Array, "p t"]) -> Float[Array, "p t"]:
        """Rounding of `adjoint`: the same, for it acts on each token alone."""
        return self.loss(sizes)
