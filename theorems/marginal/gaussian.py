r"""Least squares on Gaussian inputs: what a further example is worth, exactly and for every finite sample.

The model: $x \sim \mathcal N(0, \Sigma)$, $y = \theta^{*T} x + \xi$, $\xi \sim \mathcal N(0, \sigma^2)$,
with θ* counted from θ₀.  Full fine-tuning (FFT) is least squares on ℝᵈ, PEFT least squares on the range of a
matrix P of rank k.  What PEFT cannot express acts on it as further noise, of variance b²
(`misspecification`), which is independent of what it sees.  So one formula serves both, with p = d and v =
σ² for FFT, and with p = k and v = σ² + b² for PEFT.  Losses are squared and include the noise.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from fractions import Fraction

import numpy as np
from jaxtyping import Shaped

from .. import linalg, rational
from ..ranks import numerical_rank
from .least_squares import LeastSquares, Number, Samples, exact_numbers, number, whole, whole_number


@dataclass(frozen=True, repr=False)
class GaussianRegression:
    r"""FFT and PEFT as least squares on Gaussian inputs, compared exactly.

    Attributes:
        d: parameters of FFT.
        k: of PEFT, 1 ≤ k < d.
        noise: σ².
        bias: b², what PEFT cannot express; 0 if the best θ* is within its reach.  If neither of the two is a
            float, all results are fractions.

    Raises:
        ValueError: sizes that are not whole or out of range, or a negative or infinite variance.

    Source: T5.R1 to T5.R6.
    """

    d: int
    k: int
    noise: Number
    bias: Number

    def __post_init__(self) -> None:
        for name in ("d", "k"):
            object.__setattr__(self, name, whole_number(name, getattr(self, name), 1))
        if self.k >= self.d:
            raise ValueError(f"d, k: got {self.d} and {self.k}, needs 1 <= k < d")
        exact = exact_numbers(self.noise, self.bias)
        for name in ("noise", "bias"):
            object.__setattr__(self, name, number(name, getattr(self, name), exact))

    @classmethod
    def of(cls, theta: np.ndarray, Sigma: np.ndarray, P: np.ndarray, noise: Number) -> GaussianRegression:
        """Build it from θ* − θ₀ of shape (d,), Σ of shape (d, d), P of shape (d, k) and σ².

        Raises: ValueError: as `misspecification` and the class; a Σ or P without full rank, of which the
            number of fitted directions is not d or k.
        """
        bias = misspecification(theta, Sigma, P)
        for name, matrix in (("Sigma", Sigma), ("P", P)):
            rank = rational.rank(matrix) if linalg.is_exact(matrix) else numerical_rank(matrix).rank
            if rank != np.shape(matrix)[1]:
                raise ValueError(
                    f"{name}: has rank {rank} and {np.shape(matrix)[1]} columns, needs independent ones: "
                    f"remove "
                    "what depends on others"
                )
        return cls(*np.shape(P), noise, bias)

    @property
    def full(self) -> LeastSquares:
        """The learning curve of FFT."""
        return LeastSquares(self.d, self.noise)

    @property
    def peft(self) -> LeastSquares:
        """The learning curve of PEFT."""
        return LeastSquares(self.k, self.noise + self.bias)

    @property
    def limit(self) -> Number:
        r"""$(1 + b^2/\sigma^2)\,k/d$, what the ratio of marginal benefits rises to; infinite without noise.

        Raises:
            ValueError: σ = b = 0, where no further example is worth anything to either.
        """
        if self.noise == self.bias == 0:
            raise ValueError("noise, bias: both are 0, so that both marginal benefits are 0: no ratio")
        return (1 + self.bias / self.noise) * self.k / self.d if self.noise else math.inf

    def ratio(self, samples: Samples) -> Number | np.ndarray:
        r"""Marginal benefit of PEFT over that of FFT, strictly below `limit` and rising to it.

        $$\frac{\Delta R_{peft}(N)}{\Delta R_{full}(N)} = \Big(1+\frac{b^2}{\sigma^2}\Big)\frac kd\,
        \frac{(N-d-1)(N-d)}{(N-k-1)(N-k)},\qquad N \ge d+2$$

        Raises:
            ValueError: σ = 0, where FFT gains nothing, and sample sizes below d + 2.

        Source: T5.R4.
        """
        if not self.noise:
            raise ValueError("noise: is 0, so that FFT gains nothing and the ratio has no denominator")
        N, d, k = self._sizes(samples), self.d, self.k
        return self.limit * ((N - d - 1) * (N - d)) / ((N - k - 1) * (N - k))

    @property
    def peft_gains_more(self) -> bool:
        r"""Whether PEFT gains more per example once N is large: $b^2/\sigma^2 > d/k - 1$ (T5.R5)."""
        return bool(self.k * self.bias > (self.d - self.k) * self.noise)

    @property
    def crossover(self) -> Number:
        r"""$N^* = d + 1 + (d-k)\,\sigma^2/b^2$: for N ≥ d + 2, FFT has the smaller risk iff N > N* (T5.R6).

        Infinite for b = 0, where FFT never overtakes.
        """
        return self.d + 1 + (self.d - self.k) * self.noise / self.bias if self.bias else math.inf

    @property
    def overtakes(self) -> int | None:
        """The least N ≥ d + 2 from which on FFT has the smaller risk; None if it never has.

        The next whole number above N*, decided without rounding: floats are fractions too.
        """
        if not self.bias:
            return None
        exact = GaussianRegression(self.d, self.k, Fraction(self.noise), Fraction(self.bias))
        return math.floor(exact.crossover) + 1

    def advantage(self, samples: Samples) -> Number | np.ndarray:
        r"""$R_{peft}(N) - R_{full}(N)$ for N ≥ d + 2, without the cancellation of a difference of risks.

        $$\frac{(N-1)\,[\,b^2(N-d-1) - \sigma^2(d-k)\,]}{(N-d-1)(N-k-1)}$$

        Source: T5.R6.
        """
        N, d, k = self._sizes(samples), self.d, self.k
        return (N - 1) * (self.bias * (N - d - 1) - self.noise * (d - k)) / ((N - d - 1) * (N - k - 1))

    def _sizes(self, samples: Samples) -> int | float | np.ndarray:
        why = f"the risk of FFT with {self.d} parameters is infinite just below"
        return whole(samples, self.d + 2, None, why, isinstance(self.noise, Fraction))

    def __repr__(self) -> str:
        """Show sizes and variances."""
        return (
            f"GaussianRegression(d = {self.d}, k = {self.k}, noise variance {float(self.noise):.4g}, "
            f"misspecification {float(self.bias):.4g})"
        )


def misspecification(
    theta: Shaped[np.ndarray, " d"], Sigma: Shaped[np.ndarray, "d d"], P: Shaped[np.ndarray, "d k"]
) -> Number:
    r"""The loss that PEFT cannot avoid, $b^2 = \min_\phi (\theta^*-P\phi)^T\Sigma(\theta^*-P\phi)$.

    The same as $\theta^{*T}(\Sigma - \Sigma P(P^T\Sigma P)^+P^T\Sigma)\theta^*$, but computed as the square
    of a
    residual: the difference of two large numbers would lose a small b² to rounding.

    Args:
        theta: θ* − θ₀, shape (d,), float64 or exact.
        Sigma: covariance of the inputs, shape (d, d), symmetric and positive semidefinite.
        P: a basis of the updates that PEFT can make, shape (d, k); it may have dependent columns.

    Returns:
        b², not negative; a fraction for exact input.

    Raises:
        ValueError: shapes that do not fit, another dtype, NaN, or a Σ that is no covariance.

    Source: T5.R2.
    """
    theta, Sigma, P = map(np.asarray, (theta, Sigma, P))
    linalg.require_judging_precision("theta, Sigma, P", theta, Sigma, P)
    d = len(theta)
    if theta.ndim != 1 or Sigma.shape != (d, d) or P.ndim != 2 or len(P) != d:
        raise ValueError(
            f"theta, Sigma, P: got shapes {theta.shape}, {Sigma.shape}, {P.shape}, needs (d,), (d, d), (d, k)"
        )
    if all(map(linalg.is_exact, (theta, Sigma, P))):
        if (Sigma != Sigma.T).any() or not rational.inertia(Sigma).semidefinite:
            raise ValueError("Sigma: is no covariance, needs a symmetric positive semidefinite matrix")
        missed = theta - P @ rational.solve(P.T @ Sigma @ P, P.T @ Sigma @ theta)
        return missed @ Sigma @ missed
    theta, Sigma, P = (array.astype(np.float64) for array in (theta, Sigma, P))
    values, vectors = np.linalg.eigh((Sigma + Sigma.T) / 2)
    rounding = d * linalg.EPS * np.abs(values).max(initial=0.0)
    if values.min(initial=0.0) < -rounding or np.abs(Sigma - Sigma.T).max(initial=0.0) > 2 * rounding:
        raise ValueError("Sigma: is no covariance, needs a symmetric positive semidefinite matrix")
    root = np.sqrt(np.maximum(values, 0))[:, None] * vectors.T
    target, seen = root @ theta, root @ P
    missed = target - seen @ np.linalg.lstsq(seen, target)[0]
    return float(missed @ missed)
