"""The models drawn and fitted: means over many data sets, beside the closed forms."""

from __future__ import annotations

import functools
import math
from dataclasses import dataclass
from functools import cached_property

import jax
import numpy as np
from hypothesis import strategies as st

from ... import linalg
from ...pasteable import Pasteable
from ..gaussian import GaussianRegression
from ..ridgeless import Ridgeless
from ..simulation import CHUNK, Problem, Simulated, simulate, simulate_ridgeless

SIZES = 6, (12, 14)
"""d and N of what is searched: of one shape, so that one program serves all."""
DRAWS = 16 * CHUNK  # enough to tell N − p − 1 from N − p at 5 standard errors
_RIDGELESS = 24, 20, 12


@functools.lru_cache(maxsize=32)  # several claims look at the same draws
def _simulated(i: Drawn) -> Simulated:
    problem = Problem.random(i.d, i.k, noise=i.noise, bias=i.bias, seed=i.seed)
    return simulate(problem, i.samples, jax.random.key(i.seed), draws=DRAWS)


@dataclass(frozen=True, repr=False)
class Drawn(Pasteable):
    """FFT and PEFT on Gaussian inputs with a random covariance, drawn and fitted by least squares.

    Attributes: k: parameters of PEFT. noise: σ². bias: b². d: parameters of FFT. samples: two sample sizes.
        seed: of Σ, P, θ* and of the draws; part of the instance, so that no search can look for an unlucky
        one.
    """

    k: int
    noise: float
    bias: float
    d: int = SIZES[0]
    samples: tuple[int, int] = SIZES[1]
    seed: int = 0
    kind = "simulated regression"

    @property
    def simulated(self) -> Simulated:
        """Means over the draws."""
        return _simulated(self)

    @cached_property
    def model(self) -> GaussianRegression:
        """The library's closed forms."""
        return GaussianRegression(self.d, self.k, self.noise, self.bias)

    @property
    def sizes(self) -> np.ndarray:
        """The sample sizes as an array."""
        return np.array(self.samples)

    def mean(self, quantity: str, column: int) -> np.ndarray:
        """Of a quantity, at both sizes; column 0 is FFT."""
        return self.simulated.means[quantity][:, column]

    def error(self, variance: np.ndarray) -> np.ndarray:
        """The standard error of a mean over the draws of something with this variance, which is known."""
        return np.sqrt(variance / self.simulated.draws)


def draws() -> st.SearchStrategy[Drawn]:
    """Half or more of the parameters tuned, noise and misspecification of similar size."""
    return st.builds(
        Drawn, st.sampled_from((3, 4)), st.sampled_from((0.5, 1.0, 2.0)), st.sampled_from((0.5, 1.0, 3.0))
    )


@functools.lru_cache(maxsize=16)
def _interpolated(i: Interpolated) -> Simulated:
    key = jax.random.key(i.seed)
    return simulate_ridgeless(i.theta, i.parameters, i.noise, i.samples, key, draws=DRAWS)


@dataclass(frozen=True, repr=False)
class Interpolated(Pasteable):
    """Fewer examples than coefficients, drawn and fitted with least norm.

    Attributes:
        signal: ‖θ_T‖².
        missed: ‖θ_{Tᶜ}‖².
        noise: σ².
        d: all coefficients.
        parameters: p, those that are fitted.
        samples: N.
        seed: of θ* and of the draws.
    """

    signal: float
    missed: float
    noise: float
    d: int = _RIDGELESS[0]
    parameters: int = _RIDGELESS[1]
    samples: int = _RIDGELESS[2]
    seed: int = 0
    kind = "simulated interpolation"

    @property
    def theta(self) -> np.ndarray:
        """θ*, in a random direction inside T and in another one outside."""
        drawn = np.random.default_rng(self.seed).normal(size=self.d)
        parts = np.split(drawn, [self.parameters])
        lengths = (self.signal, self.missed)
        return np.concatenate(
            [
                part * math.sqrt(square) / max(math.hypot(*part), linalg.EPS)
                for part, square in zip(parts, lengths, strict=True)
            ]
        )

    @property
    def simulated(self) -> Simulated:
        """Means over the draws."""
        return _interpolated(self)

    @cached_property
    def model(self) -> Ridgeless:
        """The library's closed forms."""
        return Ridgeless(self.parameters, self.signal, self.noise + self.missed)

    def mean(self, quantity: str) -> float:
        """Of a quantity."""
        return float(self.simulated.means[quantity][0])

    def error(self, variance: float) -> float:
        """The standard error of a mean over the draws of something with this variance, which is known."""
        return math.sqrt(variance / self.simulated.draws)


def interpolated() -> st.SearchStrategy[Interpolated]:
    """Signals, missed parts and noise of similar size; nothing may be missed."""
    return st.builds(
        Interpolated,
        st.sampled_from((0.5, 1.0, 2.0)),
        st.sampled_from((0.0, 0.5, 1.0)),
        st.sampled_from((0.5, 1.0)),
    )
