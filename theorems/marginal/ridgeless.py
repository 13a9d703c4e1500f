r"""Fewer examples than parameters: the least squares fit of least norm, whose risk may *rise* with the data.

The model is that of `gaussian` with Σ = I and a class of p coefficients on which no more than N ≤ p − 2
examples are spent (FFT with p = d, or PEFT on p = k directions; an orthogonal change of basis makes them
coordinates). The fit interpolates.  It finds the part of the coefficients that lies in the span of the
inputs and nothing of the rest (bias), and it has to spread the noise over few directions (noise part), the
more so the nearer N comes to p.  There the risk is infinite.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from fractions import Fraction

import numpy as np

from .. import linalg
from .least_squares import Number, Samples, exact_numbers, number, whole, whole_number


@dataclass(frozen=True, repr=False)
class Ridgeless:
    r"""The learning curve of interpolating least squares with p > N + 1 coefficients and isotropic inputs.

    $$R(N) = \|\theta_T\|^2\Big(1-\frac Np\Big) + (\sigma^2+\|\theta_{T^c}\|^2)\Big(1+\frac N{p-N-1}\Big)$$

    Attributes:
        parameters: p ≥ 1, the coordinates T that are fitted.
        signal: ‖θ_T‖², of the best coefficients there.
        variance: v = σ² + ‖θ_{Tᶜ}‖², the noise and what lies outside; if neither is a float, all results are
            fractions.

    Every method takes a sample size or an array of them.  All are equalities.

    Raises:
        ValueError: p, the signal or v out of range, and in the methods sample sizes outside theirs.

    Source: T5.R9, T5.R10; Belkin, Hsu and Xu, SIAM J. Math. Data Sci. 2 (2020), theorem 1.
    """

    parameters: int
    signal: Number
    variance: Number

    def __post_init__(self) -> None:
        object.__setattr__(self, "parameters", whole_number("parameters", self.parameters, 1))
        exact = exact_numbers(self.signal, self.variance)
        for name in ("signal", "variance"):
            object.__setattr__(self, name, number(name, getattr(self, name), exact))

    @classmethod
    def of(cls, theta: np.ndarray, parameters: int, noise: Number) -> Ridgeless:
        """Build it from θ* of shape (d,), of whose coordinates the first p are fitted, and σ².

        Raises:
            ValueError: p outside 1 … d.
        """
        theta = np.asarray(theta)
        theta = linalg.exact(theta.tolist()) if theta.dtype.kind in "iu" else theta
        if not 1 <= parameters <= len(theta):
            raise ValueError(f"parameters: got {parameters}, needs 1 to {len(theta)}")
        squares = theta * theta
        signal, missed = squares[:parameters].sum(), squares[parameters:].sum()
        return cls(parameters, signal, noise + missed)

    def bias(self, samples: Samples) -> Number | np.ndarray:
        r"""$\|\theta_T\|^2 (1 - N/p)$, what the span of the inputs misses, for N ≤ p."""
        return self.signal * (self.parameters - self._sizes(samples, 0)) / self.parameters

    def noise_part(self, samples: Samples) -> Number | np.ndarray:
        r"""$v\,N/(p-N-1)$, the squared length of the fit to the noise, for N ≤ p − 2."""
        N = self._sizes(samples, 2)
        return self.variance * N / (self.parameters - N - 1)

    def risk(self, samples: Samples) -> Number | np.ndarray:
        """Expected test loss, noise included: `bias` + v + `noise_part`, for N ≤ p − 2."""
        return self.bias(samples) + self.variance + self.noise_part(samples)

    def marginal_bias(self, samples: Samples) -> Number | np.ndarray:
        r"""What one more example gains in bias: $\|\theta_T\|^2/p$, whatever N is."""
        return self.signal / self.parameters + 0 * self._sizes(samples, 1)

    def marginal_noise(self, samples: Samples) -> Number | np.ndarray:
        r"""What it gains in the noise part, $-v\,(p-1)/((p-N-1)(p-N-2))$ for N ≤ p − 3: it always loses."""
        N, p = self._sizes(samples, 3), self.parameters
        return -self.variance * (p - 1) / ((p - N - 1) * (p - N - 2))

    def marginal(self, samples: Samples) -> Number | np.ndarray:
        """R(N) − R(N + 1), the sum of both, for N ≤ p − 3; it falls in N and may be negative."""
        return self.marginal_bias(samples) + self.marginal_noise(samples)

    @property
    def hurts_from(self) -> int | None:
        r"""The least N at which one more example raises the risk; None where none does up to p − 3.

        There $v\,p\,(p-1) > \|\theta_T\|^2 (p-N-1)(p-N-2)$; because the marginal benefit falls in N, every
        further example up to p − 2 raises it too.
        """
        if not self.variance:
            return None
        p = self.parameters
        spread = Fraction(self.variance) * p * (p - 1)
        for N in range(max(self._guess(), 0), p - 2):
            if spread > Fraction(self.signal) * (p - N - 1) * (p - N - 2):
                return N
        return None

    def _guess(self) -> int:
        """A number of samples at or before the turn: (p − N − 1)² is at least what the turn has."""
        if not self.signal:
            return 0
        p = self.parameters
        square = Fraction(self.variance) * p * (p - 1) / Fraction(self.signal)
        return p - 3 - math.isqrt(math.ceil(square))

    def bias_variance(self, samples: Samples) -> Number | np.ndarray:
        r"""Variance of the bias over samples, $2\|\theta_T\|^4 N(p-N)/(p^2(p+2))$."""
        N, p = self._sizes(samples, 0), self.parameters
        return 2 * self.signal**2 * N * (p - N) / (p * p * (p + 2))

    def noise_variance(self, samples: Samples) -> Number | np.ndarray:
        r"""Variance of the noise part, $2 v^2 N (p-1)/((p-N-1)^2(p-N-3))$ for N ≤ p − 4, else infinite."""
        N, p = self._sizes(samples, 4), self.parameters
        return 2 * self.variance**2 * N * (p - 1) / ((p - N - 1) ** 2 * (p - N - 3))

    def _sizes(self, samples: Samples, less: int) -> int | float | np.ndarray:
        why = f"with {self.parameters} coefficients there is no finite value beyond that"
        return whole(samples, 0, self.parameters - less, why, isinstance(self.variance, Fraction))

    def __repr__(self) -> str:
        """Show p, the signal and v."""
        return (
            f"Ridgeless({self.parameters} coefficients, signal {float(self.signal):.4g}, "
            f"noise variance {float(self.variance):.4g})"
        )
