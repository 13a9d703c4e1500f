"""The exact learning curves of Gaussian least squares at one sample size, in fractions."""

from __future__ import annotations

import math
from dataclasses import dataclass
from fractions import Fraction
from functools import cached_property

from hypothesis import strategies as st

from ...pasteable import Pasteable
from ..gaussian import GaussianRegression
from ..ridgeless import Ridgeless

Pair = tuple[Fraction, Fraction]


@dataclass(frozen=True, eq=False, repr=False)
class Regression(Pasteable):
    """FFT on d and PEFT on k Gaussian features, N examples; the first of each pair is FFT.

    Attributes:
        d: parameters of FFT.
        k: of PEFT.
        noise: σ².
        bias: b².
        samples: N ≥ d + 2.
    """

    d: int
    k: int
    noise: Fraction
    bias: Fraction
    samples: int
    kind = "Gaussian regression"

    @cached_property
    def model(self) -> GaussianRegression:
        """The library's closed forms."""
        return GaussianRegression(self.d, self.k, self.noise, self.bias)

    @property
    def bests(self) -> Pair:
        """The least risk of each class, L*: σ² and σ² + b²."""
        return self.noise, self.noise + self.bias

    @property
    def risks(self) -> Pair:
        """R(N)."""
        return self.risks_at(self.samples)

    def risks_at(self, samples: int) -> Pair:
        """R at another sample size."""
        return self.model.full.risk(samples), self.model.peft.risk(samples)

    def gains_at(self, samples: int) -> Pair:
        """R(N) − R(N + 1), from the risks."""
        here, there = self.risks_at(samples), self.risks_at(samples + 1)
        return here[0] - there[0], here[1] - there[1]

    @property
    def gains(self) -> Pair:
        """ΔR_full(N) and ΔR_peft(N)."""
        return self.gains_at(self.samples)

    @property
    def later(self) -> Pair:
        """The same after one more example."""
        return self.gains_at(self.samples + 1)

    @property
    def trainings(self) -> Pair:
        """Expected loss on the sample."""
        return self.model.full.training_loss(self.samples), self.model.peft.training_loss(self.samples)

    @property
    def gaps(self) -> Pair:
        """Test less training loss."""
        return tuple(risk - training for risk, training in zip(self.risks, self.trainings, strict=True))

    @property
    def ladder(self) -> list[int]:
        """N, and two sample sizes far beyond it, where only a right limit is approached."""
        return [self.samples, 10 * self.samples, 100 * self.samples]

    @property
    def neighbours(self) -> list[int]:
        """Sample sizes on both sides of the crossover, where there is one, and N."""
        star = self.model.crossover
        around = range(math.floor(star) - 1, math.floor(star) + 3) if self.bias else ()
        return [n for n in (*around, self.samples) if n >= self.d + 2]

    @property
    def far(self) -> list[int]:
        r"""Sample sizes beyond $k + 1 + 2(d-k)\,l/(l-1)$, from which on a limit l > 1 of the ratio shows."""
        gain, loss = self.k * (self.noise + self.bias), self.d * self.noise  # their ratio is l
        if gain <= loss:
            return self.ladder
        start = math.floor(self.k + 1 + 2 * (self.d - self.k) * gain / (gain - loss)) + 1
        return [max(start, self.d + 2) + more for more in (0, 1, 1000)]


@st.composite
def regressions(draw: st.DrawFn, *, noiseless: bool = True, moderate: bool = False) -> Regression:
    """Small sizes near and far from d + 2; σ² and b² that may vanish, σ² not if `noiseless` is False.

    If `moderate`, b² is at most (d/k − 1)σ², and often exactly that.
    """
    d = draw(st.integers(2, 8))
    k = draw(st.integers(1, d - 1))
    noise = Fraction(draw(st.integers(0 if noiseless else 1, 6)), draw(st.integers(1, 4)))
    if moderate:
        bias = noise * Fraction((d - k) * draw(st.integers(0, 4)), 4 * k)
    else:
        bias = Fraction(draw(st.integers(0, 12)), draw(st.integers(1, 4)))
    return Regression(d, k, noise, bias, d + 2 + draw(st.one_of(st.integers(0, 4), st.integers(0, 60))))


@dataclass(frozen=True, eq=False, repr=False)
class Interpolating(Pasteable):
    """Fewer examples than coefficients, isotropic Gaussian inputs, the fit of least norm; exact.

    Attributes:
        parameters: p.
        signal: ‖θ_T‖².
        variance: σ² + ‖θ_{Tᶜ}‖².
        samples: N ≤ p − 3.
    """

    parameters: int
    signal: Fraction
    variance: Fraction
    samples: int
    kind = "interpolating regression"

    @cached_property
    def model(self) -> Ridgeless:
        """The library's closed forms."""
        return Ridgeless(self.parameters, self.signal, self.variance)

    @property
    def differences(self) -> list[Fraction]:
        """What the next example gains in bias, in the noise part, and in the risk, as differences."""
        here, there, model = self.samples, self.samples + 1, self.model
        return [part(here) - part(there) for part in (model.bias, model.noise_part, model.risk)]

    @property
    def marginals(self) -> list[Fraction]:
        """The closed forms of these gains."""
        N, model = self.samples, self.model
        return [model.marginal_bias(N), model.marginal_noise(N), model.marginal(N)]


@st.composite
def interpolations(draw: st.DrawFn) -> Interpolating:
    """Up to 14 coefficients with or without a signal and noise, from no example to p − 3."""
    parameters = draw(st.integers(3, 14))
    signal, variance = (Fraction(draw(st.integers(0, 9)), draw(st.integers(1, 3))) for _ in range(2))
    return Interpolating(parameters, signal, variance, draw(st.integers(0, parameters - 3)))
