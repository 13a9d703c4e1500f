r"""How well matrices of bounded norm and rank can align with a given matrix: exact suprema by Ky Fan norms.

$\sup \langle D, Z\rangle$ over a ball of matrices of rank at most r is what a rank-limited layer can make of
random signs (its Rademacher complexity) or of a gradient; for three balls it is a function of the singular
values of Z, and the maximiser is a truncated singular value decomposition.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from fractions import Fraction
from typing import Literal

import numpy as np
import sympy
from jaxtyping import Float

from .. import linalg

NORMS = ("frobenius", "spectral", "nuclear")
Exact = Fraction | sympy.Expr


@dataclass(frozen=True)
class Ball:
    r"""All matrices with $\|D\| \le$ `radius` and rank D ≤ `rank`, in one of three norms.

    Attributes:
        norm: "frobenius" $(\sum_i \sigma_i^2)^{1/2}$, "spectral" $\sigma_1$ or "nuclear" $\sum_i \sigma_i$.
        radius: ≥ 0.
        rank: ≥ 1, or None for no limit.  On a nuclear ball it changes no supremum.

    Raises:
        ValueError: an unknown norm, a negative or infinite radius, a rank below 1.
    """

    norm: Literal["frobenius", "spectral", "nuclear"] = "frobenius"
    radius: float | Fraction = 1.0
    rank: int | None = None

    def __post_init__(self) -> None:
        if self.norm not in NORMS:
            raise ValueError(f"norm: got {self.norm!r}, needs one of {', '.join(NORMS)}")
        if not (self.radius >= 0 and math.isfinite(self.radius)):
            raise ValueError(f"radius: got {self.radius}, needs a finite number >= 0")
        if self.rank is not None and self.rank < 1:
            raise ValueError(f"rank: got {self.rank}, needs an integer >= 1, or None for no limit")

    def supremum(self, z: Float[np.ndarray, "*batch m n"]) -> Float[np.ndarray, "*batch"]:
        r"""The exact supremum of $\langle D, Z\rangle = \mathrm{tr}(D^T Z)$ over the ball.

        Args:
            z: matrices, shape (..., m, n), float64.

        Returns:
            Suprema, shape (...), attained by `maximiser`.

        Raises:
            ValueError: not float64, NaN or infinity.

        Source: T3.R9; von Neumann's trace inequality.
        """
        linalg.require_judging_precision("z", z)
        return self.of_values(np.linalg.svd(z, compute_uv=False))

    def of_values(self, values: np.ndarray) -> np.ndarray | Exact:
        r"""The supremum from the singular values $\sigma_1 \ge \sigma_2 \ge \dots$ of Z.

        | ball | supremum |
        | --- | --- |
        | $\|D\|_F \le B$ | $B\,(\sum_{i \le r} \sigma_i^2)^{1/2}$ |
        | $\|D\|_2 \le s$ | $s \sum_{i \le r} \sigma_i$ |
        | $\|D\|_* \le t$ | $t\,\sigma_1$ |

        Args:
            values: shape (..., q), descending, float64; or exact, shape (q,), for an exact result.

        Raises:
            ValueError: not float64 and not exact, NaN or infinity.
        """
        values = np.asarray(values)
        linalg.require_judging_precision("values", values)
        kept = values[..., : 1 if self.norm == "nuclear" else self.rank]
        if self.norm == "frobenius":
            squares = (kept * kept).sum(axis=-1)
            root = linalg.square_root if linalg.is_exact(values) else np.sqrt
            return self.radius * root(squares)
        return self.radius * kept.sum(axis=-1)

    def maximiser(self, z: Float[np.ndarray, "m n"]) -> Float[np.ndarray, "m n"]:
        r"""A matrix of the ball at which the supremum is attained: a scaled, truncated SVD of Z.

        With $Z = \sum_i \sigma_i u_i v_i^T$: $B\,Z_r/\|Z_r\|_F$, or $s \sum_{i \le r} u_i v_i^T$, or
        $t\,u_1 v_1^T$.

        Raises:
            ValueError: not a float64 matrix, NaN or infinity.
        """
        linalg.require_judging_precision("z", z)
        u, values, vt = np.linalg.svd(z, full_matrices=False)
        kept = len(values[: 1 if self.norm == "nuclear" else self.rank])
        weights = values[:kept] if self.norm == "frobenius" and values[0] > 0 else np.ones(kept)
        if self.norm == "frobenius":
            weights = weights / np.linalg.norm(weights)
        return self.radius * (u[:, :kept] * weights) @ vt[:kept]

    def size(self, d: Float[np.ndarray, "m n"]) -> float:
        """The norm of a matrix that the radius limits."""
        values = np.linalg.svd(d, compute_uv=False)
        if self.norm == "spectral":
            return float(values[0])
        return float(np.linalg.norm(values) if self.norm == "frobenius" else values.sum())

    def limit(self, shape: tuple[int, int]) -> int:
        """The rank that matrices of a shape can have in this ball."""
        return min(*shape) if self.rank is None else min(self.rank, *shape)

    def draw(self, rng: np.random.Generator, shape: tuple[int, int]) -> Float[np.ndarray, "m n"]:
        """A random matrix on the boundary of the ball, a product of Gaussian factors: for attacks."""
        rank = self.limit(shape)
        d = rng.normal(size=(shape[0], rank)) @ rng.normal(size=(rank, shape[1]))
        return float(self.radius) / self.size(d) * d
