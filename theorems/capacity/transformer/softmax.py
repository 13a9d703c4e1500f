r"""Softmax under a perturbation of its scores, and the extents of point sets that attention averages over.

Facts S1 to S3 of the theorem's page. Scores matter only through differences, so everything is in terms of the
oscillation osc(d) = max d − min d.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float

Array = np.ndarray


def softmax_lipschitz(oscillation: Array) -> Array:
    r"""Half the ℓ₁ move of softmax, linear: $\tfrac12\|p(u+d) - p(u)\|_1 \le \tfrac14\mathrm{osc}(d)$ (S1).

    Attained in the limit of small d at p = (½, ½).
    """
    return oscillation / 4


def softmax_move(oscillation: Array, largest: Array | float = 0.0) -> Array:
    r"""Half the ℓ₁ move (total variation) of softmax, saturating form (S1).

    $$\tfrac12\|p(u+d) - p(u)\|_1 \le \frac{m(1-m)(1-e^{-\omega})}{m + (1-m)e^{-\omega}} \le \tanh(\omega/4),
    \qquad \omega = \mathrm{osc}(d),\quad m = \min\Big(1 - \max_j p_j, \frac{1}{1+e^{\omega/2}}\Big).$$

    Attained for every ω: by d = (ω, 0) at p = (m, 1 − m).

    Args:
        oscillation: ω, or an upper bound of it.
        largest: $\max_j p_j(u)$, or a lower bound of it; 0 where nothing is known, which gives tanh(ω/4).
    """
    eps = np.finfo(float).eps
    finite = np.minimum(oscillation, 80.0)
    m = np.minimum(1 - largest + 4 * eps, 1 / (1 + np.exp(finite / 2)))
    move = m * (1 - m) * -np.expm1(-finite) / (m + (1 - m) * np.exp(-finite))
    return np.where(oscillation > 80.0, 1.0, move * (1 + 16 * eps))


def softmax_remainder(oscillation: Array) -> Array:
    r"""Half the ℓ₁ norm of softmax's second-order remainder (S2).

    $$\tfrac12\|p(u+d) - p(u) - J(u)d\|_1 \le \frac{\mathrm{osc}(d)^2}{12\sqrt3},
      \qquad J = \mathrm{diag}(p) - pp^T.$$

    Attained in the limit of small d: at p = (m, 1 − m) with m = (3 − √3)/6.
    """
    return oscillation**2 / (12 * np.sqrt(3))


@dataclass(frozen=True)
class Sight:
    """Maxima and extents over the tokens that each token sees: all of them, or itself and the earlier ones.

    All methods take token values in the last axis (the last but one for points) and return one value per
    seeing token.
    """

    causal: bool

    def largest(self, values: Float[Array, "*batch t"]) -> Float[Array, "*batch t"]:
        """Maximum over the tokens seen."""
        if self.causal:
            return np.maximum.accumulate(values, axis=-1)
        return np.broadcast_to(values.max(axis=-1, keepdims=True), values.shape)

    def two_largest(self, values: Float[Array, "*batch t"]) -> Float[Array, "*batch t"]:
        r"""Sum of the two largest of non-negative values seen; 0 where a single token is seen.

        It bounds osc(c) for all c with |c_j| ≤ values_j.
        """
        if not self.causal:
            pair = np.sort(values, axis=-1)[..., -2:].sum(axis=-1, keepdims=True)
            return np.broadcast_to(pair if values.shape[-1] > 1 else 0 * pair, values.shape)
        result, first, second = np.zeros_like(values), values[..., 0], np.zeros_like(values[..., 0])
        for t in range(1, values.shape[-1]):
            second = np.maximum(second, np.minimum(first, values[..., t]))
            first = np.maximum(first, values[..., t])
            result[..., t] = first + second
        return result

    def diameter(self, points: Float[Array, "*batch t m"]) -> Float[Array, "*batch t"]:
        """Largest distance between two of the points seen."""
        far = np.zeros(points.shape[:-1])
        for t in range(1, points.shape[-2]):
            far[..., t] = np.linalg.norm(points[..., :t, :] - points[..., t : t + 1, :], axis=-1).max(axis=-1)
        return self.largest(far)
