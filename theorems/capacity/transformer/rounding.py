"""How much float64 can have lost, and norms that may be trusted from above.

Every number that a bound is built from is computed, so it differs from what the theorem speaks of. A chain of
n rounded operations on terms of total size S is off by at most γ_n S (`linalg.gamma`); each fact of this
package adds that to what it returns, with n counted generously. Sums and products of non-negative numbers,
which is all that follows, are off by a *relative* γ_n: `Margin.up` adds it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from jaxtyping import Float

from ... import linalg

if TYPE_CHECKING:
    from ....models.transformer import TransformerConfig


@dataclass(frozen=True)
class Margin:
    r"""Rounding allowance of one stage.

    Attributes:
        relative: $\gamma_n$, for n a generous count of the operations on the longest path through one stage.
    """

    relative: float

    @classmethod
    def of(cls, config: TransformerConfig) -> Margin:
        """The margin for networks of these sizes."""
        sizes = (config.features, config.length, config.width, config.heads, config.hidden, config.outputs)
        return cls(linalg.gamma(8 * (sum(sizes) + config.depth + 64)))

    def up(self, value: Float[np.ndarray, "*shape"]) -> Float[np.ndarray, "*shape"]:
        """Round a computed sum of products of non-negative numbers upwards."""
        return value * (1 + self.relative)


def spectral_norms(a: Float[np.ndarray, "*batch m n"]) -> Float[np.ndarray, "*batch"]:
    r"""Upper estimates of $\|A\|_2$ for a few matrices at once: full SVD, enlarged by its backward error."""
    return np.linalg.svd(a, compute_uv=False)[..., 0] * (1 + linalg.gamma(32 * (a.shape[-1] + a.shape[-2])))


def schatten_norms(a: Float[np.ndarray, "*batch m n"]) -> Float[np.ndarray, "*batch"]:
    r"""Upper estimates of $\|A\|_2$ for very many small matrices, usually within a few percent.

    $\|A\|_2 \le \|A\|_{S_{16}} = \|(AA^T)^4\|_F^{1/8} \le n^{1/16}\|A\|_2$: three products for each matrix, a
    tenth of the time of as many SVDs.
    """
    largest = np.maximum(np.abs(a).max(axis=(-2, -1)), np.finfo(float).tiny)
    unit = a / largest[..., None, None]  # keeps squares away from underflow
    frobenius = np.maximum(np.linalg.norm(unit, axis=(-2, -1)), np.finfo(float).tiny)
    unit = unit / frobenius[..., None, None]
    flipped = np.swapaxes(unit, -1, -2)
    fourth = np.linalg.matrix_power(unit @ flipped if a.shape[-2] <= a.shape[-1] else flipped @ unit, 4)
    slack = linalg.gamma(16 * (a.shape[-1] + a.shape[-2]))
    power = np.minimum(1.0, np.linalg.norm(fourth, axis=(-2, -1)) + slack)
    return largest * frobenius * power ** (1 / 8) * (1 + slack)
