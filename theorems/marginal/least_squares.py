r"""The learning curve of one class: least squares on Gaussian inputs, for every finite sample."""

from __future__ import annotations

import math
import numbers
from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction

import numpy as np

Number = Fraction | float | int
Samples = int | Sequence[int] | np.ndarray


def whole(samples: Samples, least: int, most: int | None, why: str, exact: bool) -> int | float | np.ndarray:
    """Sample sizes as numbers that keep what they are multiplied with exact, or as floats.

    Raises:
        ValueError: sizes that are not whole numbers, or outside the range; `why` says what happens there.
    """
    sizes = np.asarray(samples)
    if sizes.dtype.kind not in "iuO" or not all(isinstance(n, int) for n in sizes.ravel().tolist()):
        raise ValueError(f"samples: got {samples!r}, needs whole numbers; round them first")
    if sizes.size and (sizes.min() < least or (most is not None and sizes.max() > most)):
        limits = f"at least {least}" if most is None else f"{least} to {most}"
        raise ValueError(f"samples: got {sizes.min()} to {sizes.max()}, needs {limits}: {why}")
    return sizes.astype(object if exact else np.float64)[()]


def number(name: str, value: Number, exact: bool) -> Fraction | float:
    """A variance or a squared norm, as a fraction or as a float.

    Raises:
        ValueError: a negative one, NaN or infinity.
    """
    if not (value >= 0 and math.isfinite(value)):
        raise ValueError(f"{name}: got {value}, needs a finite number >= 0")
    if not exact:
        return float(value)
    return Fraction(int(value)) if isinstance(value, numbers.Integral) else Fraction(value)


def whole_number(name: str, value: int, least: int) -> int:
    """A number of parameters.

    Raises:
        ValueError: one that is not whole, or too small.
    """
    if not isinstance(value, int | np.integer) or value < least:
        raise ValueError(f"{name}: got {value}, needs a whole number >= {least}")
    return int(value)


def exact_numbers(*values: Number) -> bool:
    """Whether none of them is a float, so that results are fractions."""
    return not any(isinstance(value, float | np.floating) for value in values)


@dataclass(frozen=True, repr=False)
class LeastSquares:
    r"""The learning curve of one class: least squares with p coefficients and noise of variance v.

    The risk of a fit to N examples is a random number, distributed as $v\,(1 + \chi^2_p / \chi^2_{N-p+1})$
    with independent $\chi^2$; its mean is `risk`, and independent of the loss on the sample,
    $v\,\chi^2_{N-p}/N$.

    Attributes:
        parameters: p ≥ 0.
        variance: v ≥ 0; a fraction or an integer makes all results exact.

    Every method takes a sample size or an array of them, and returns as many numbers.

    Raises:
        ValueError: p or v out of range, and in the methods sample sizes for which there is no such number.

    Source: T5.R1 to T5.R3, T5.R7, T5.R8; Breiman and Freedman, J. Amer. Statist. Assoc. 78 (1983), for the
    risk.
    """

    parameters: int
    variance: Number

    def __post_init__(self) -> None:
        object.__setattr__(self, "parameters", whole_number("parameters", self.parameters, 0))
        exact = exact_numbers(self.variance)
        object.__setattr__(self, "variance", number("variance", self.variance, exact))

    @property
    def least_samples(self) -> int:
        """The least N with a finite risk, p + 2: at p − 1, p and p + 1 it is infinite, if there is noise."""
        return self.parameters + 2

    def risk(self, samples: Samples) -> Number | np.ndarray:
        r"""Expected test loss, $v\,(N-1)/(N-p-1)$ for N ≥ p + 2; an equality."""
        N = self._sizes(samples, self.least_samples)
        return self.variance * (N - 1) / (N - self.parameters - 1)

    def excess(self, samples: Samples) -> Number | np.ndarray:
        r"""The estimation error, $v\,p/(N-p-1)$: the risk less its limit v."""
        N = self._sizes(samples, self.least_samples)
        return self.variance * self.parameters / (N - self.parameters - 1)

    def marginal(self, samples: Samples) -> Number | np.ndarray:
        r"""What one more example gains, $R(N) - R(N+1) = v\,p/((N-p-1)(N-p))$, N ≥ p + 2; it falls in N."""
        N, p = self._sizes(samples, self.least_samples), self.parameters
        return self.variance * p / ((N - p - 1) * (N - p))

    def training_loss(self, samples: Samples) -> Number | np.ndarray:
        r"""Expected loss on the sample itself, $v\,(N-p)/N$ for N ≥ p: below the best loss v of the class."""
        N = self._sizes(samples, max(self.parameters, 1))
        return self.variance * (N - self.parameters) / N

    def gap(self, samples: Samples) -> Number | np.ndarray:
        r"""Expected test less training loss, $v\,p\,(2N-p-1)/(N(N-p-1))$: about twice `excess`."""
        N, p = self._sizes(samples, self.least_samples), self.parameters
        return self.variance * p * (2 * N - p - 1) / (N * (N - p - 1))

    def risk_variance(self, samples: Samples) -> Number | np.ndarray:
        r"""Variance of the risk over samples, $2 v^2 p\,(N-1)/((N-p-1)^2(N-p-3))$ for N ≥ p + 4."""
        N, p = self._sizes(samples, self.parameters + 4), self.parameters
        return 2 * self.variance**2 * p * (N - 1) / ((N - p - 1) ** 2 * (N - p - 3))

    def training_variance(self, samples: Samples) -> Number | np.ndarray:
        r"""Variance of the loss on the sample, $2 v^2 (N-p)/N^2$ for N ≥ p."""
        N = self._sizes(samples, max(self.parameters, 1))
        return 2 * self.variance**2 * (N - self.parameters) / (N * N)

    def _sizes(self, samples: Samples, least: int) -> int | float | np.ndarray:
        why = f"with {self.parameters} coefficients there is no finite value below that"
        return whole(samples, least, None, why, isinstance(self.variance, Fraction))

    def __repr__(self) -> str:
        """Show p and v."""
        return f"LeastSquares({self.parameters} coefficients, noise variance {float(self.variance):.4g})"
