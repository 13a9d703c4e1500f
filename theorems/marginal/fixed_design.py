r"""Least squares on given inputs: exact for every design, without a distribution of the inputs.

The rows of X may be data, features, or the tangent features of a network (its Jacobian, one row to an
example), and P a basis of the updates that PEFT can make: then this is what linearised fine-tuning does.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Shaped

from .. import linalg, rational
from ..ranks import Rank, numerical_rank
from .least_squares import Number, number


@dataclass(frozen=True, repr=False)
class FixedDesign:
    r"""Expected losses of least squares on fixed inputs, over noise of mean 0 and covariance σ²I.

    Attributes:
        samples: N.
        rank: of XP, the number of directions that are fitted.
        noise: σ².
        missed: $\|(I-\Pi_{XP})X\theta^*\|^2/N$, what no update of the class expresses on these inputs.
        how: the singular values that justify the rank; None in exact arithmetic.
    """

    samples: int
    rank: int
    noise: Number
    missed: Number
    how: Rank | None = None

    @property
    def variance(self) -> Number:
        r"""$\sigma^2\,\mathrm{rank}(XP)/N$, what the noise costs."""
        return self.noise * self.rank / self.samples

    @property
    def excess(self) -> Number:
        r"""$E\|X(\hat\theta-\theta^*)\|^2/N$, the sum of both; an equality (T5.R11)."""
        return self.variance + self.missed

    @property
    def training_loss(self) -> Number:
        r"""$E\|y-X\hat\theta\|^2/N = \sigma^2(N-\mathrm{rank}(XP))/N$ + `missed` (T5.R7)."""
        return self.noise * (self.samples - self.rank) / self.samples + self.missed

    @property
    def gap(self) -> Number:
        r"""Loss on new labels at the same inputs less the training loss: $2\sigma^2\,\mathrm{rank}(XP)/N$.

        Source: Mallows, *Some comments on C_p*, Technometrics 15 (1973).
        """
        return 2 * self.variance

    def __repr__(self) -> str:
        """Show the parts."""
        return (
            f"FixedDesign({self.samples} samples, rank {self.rank}: excess {float(self.excess):.4g} = "
            f"{float(self.variance):.4g} noise + {float(self.missed):.4g} missed)"
        )


def fixed_design(
    X: Shaped[np.ndarray, "N d"], P: Shaped[np.ndarray, "d k"], theta: Shaped[np.ndarray, " d"], noise: Number
) -> FixedDesign:
    r"""The in-sample excess risk of PEFT on given inputs; P = I for FFT.

    $$\frac1N E\|X(\hat\theta-\theta^*)\|^2 = \frac1N\big(\sigma^2\,\mathrm{rank}(XP) +
    \|(I-\Pi_{XP})X\theta^*\|^2\big)$$

    for $y = X\theta^* + \xi$ with any noise of mean 0 and covariance σ²I, and any least squares solution
    $\hat\theta\in\mathrm{range}\,P$.  The rank counts, not k: directions that no example sees, and a gauge of
    the method, cost nothing.

    Args:
        X: inputs, shape (N, d), float64 or exact.
        P: basis of the updates, shape (d, k); it may have dependent columns.
        theta: θ* − θ₀, shape (d,).
        noise: σ².

    Returns:
        A `FixedDesign`, exact for exact input.

    Raises:
        ValueError: shapes that do not fit, another dtype, NaN, no example, or a rank without a gap in the
            singular values of XP.

    Source: T5.R11.
    """
    X, P, theta = map(np.asarray, (X, P, theta))
    linalg.require_judging_precision("X, P, theta", X, P, theta)
    if X.ndim != 2 or P.ndim != 2 or theta.shape != X.shape[1:] or len(P) != X.shape[1] or len(X) == 0:
        raise ValueError(
            f"X, P, theta: got shapes {X.shape}, {P.shape}, {theta.shape}, needs (N, d), (d, k), (d,) and N "
            f">= 1"
        )
    exact = all(map(linalg.is_exact, (X, P, theta)))
    noise = number("noise", noise, exact)
    if exact:
        features, target = X @ P, X @ theta
        missed = target - features @ rational.solve(features.T @ features, features.T @ target)
        return FixedDesign(len(X), rational.rank(features), noise, missed @ missed / len(X))
    X, P, theta = (array.astype(np.float64) for array in (X, P, theta))
    features, target = X @ P, X @ theta
    how = numerical_rank(features)
    if how.rank is None:
        raise ValueError(f"X, P: the rank of XP is undecided ({how}); remove nearly dependent directions")
    basis = np.linalg.svd(features, full_matrices=False)[0][:, : how.rank]
    missed = target - basis @ (basis.T @ target)
    missed = missed - basis @ (basis.T @ missed)
    return FixedDesign(len(X), how.rank, noise, float(missed @ missed) / len(X), how)
