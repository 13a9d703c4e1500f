"""The exact model of frozen-A LoRA regression: its risks, its gap between training and test, its draws."""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction
from functools import cached_property
from typing import Any

import jax
import numpy as np
from hypothesis import strategies as st

from ... import linalg
from ...pasteable import Pasteable
from ..frozen_a import FrozenA, excess_risk
from ..simulation import Simulated, simulate
from ..spectrum import tails

RANKS = (1, 2)
DRAWS = 4096
_SIDES = 5, 3


@dataclass(frozen=True, eq=False, repr=False)
class Regression(Pasteable):
    r"""$y = \Delta W x + \xi$ with Gaussian inputs, least squares with A frozen to the leading directions.

    Attributes:
        squares: σ_i² of the update, descending, exact.
        outputs: m.
        samples: N.
        noise: σ².
        rank: r, with N − r ≥ 3.
    """

    squares: np.ndarray
    outputs: int
    samples: int
    noise: Fraction
    rank: int = 0
    kind = "frozen-A regression"

    @cached_property
    def model(self) -> FrozenA:
        """The library's closed forms."""
        return FrozenA(self.squares, self.outputs, self.samples, self.noise)

    @cached_property
    def risks(self) -> list[Fraction]:
        """E(r) for all r, from the formula of one rank at a time."""
        known = {"outputs": self.outputs, "samples": self.samples, "noise": self.noise}
        left = tails(self.squares)
        return [Fraction(excess_risk(left[r], r, **known)) for r in range(self.model.last + 1)]

    @property
    def best(self) -> int:
        """The critical rank, by the criterion."""
        return self.model.best_rank().rank

    @property
    def lowest(self) -> int:
        """The first rank of least risk, by looking at all."""
        return self.risks.index(min(self.risks))

    @property
    def hasty(self) -> int:
        """By the criterion with what is not captured left out: σ²_{r+1} (N − r − 1) ≤ m σ²."""
        price, last = self.outputs * self.noise, self.model.last
        stops = (r for r in range(last) if self.squares[r] * (self.samples - r - 1) <= price)
        return next(stops, last)

    @property
    def turns(self) -> int:
        """How often the risk falls again after it rose: 0 for a unimodal one."""
        steps = [after - before for before, after in zip(self.risks[:-1], self.risks[1:], strict=True)]
        return sum(b < 0 < a for i, a in enumerate(steps) for b in steps[i + 1 :])

    def gap(self, rank: int) -> Fraction:
        r"""Expected test less training loss, $(m\sigma^2 + \mathrm{tail}(r))\,(r/(N-r-1) + r/N)$.

        What A misses acts as further noise, independent of the features; of least squares with r features the
        training loss is 1 − r/N of the noise and the test loss 1 + r/(N−r−1).
        """
        noise = self.outputs * self.noise + tails(self.squares)[rank]
        return noise * (Fraction(rank, self.samples - rank - 1) + Fraction(rank, self.samples))

    @property
    def gaps(self) -> tuple[Fraction, Fraction]:
        """The gap at r and at r + 1."""
        return self.gap(self.rank), self.gap(self.rank + 1)

    @property
    def critical(self) -> int:
        """r_c."""
        return self.best


@st.composite
def regressions(draw: st.DrawFn) -> Regression:
    """Up to five singular values, equal ones and zeros among them; noise that may vanish."""
    count = draw(st.integers(1, 5))
    squares = sorted(draw(st.lists(st.integers(0, 12), min_size=count, max_size=count)), reverse=True)
    samples, outputs = draw(st.integers(3, 20)), draw(st.integers(1, 4))
    noise = Fraction(draw(st.integers(0, 12)), draw(st.integers(1, 3)))
    rank = draw(st.integers(0, max(0, min(count, samples - 2) - 1)))
    return Regression(linalg.exact(squares), outputs, samples, noise, rank)


@dataclass(frozen=True, repr=False)
class Gap(Pasteable):
    r"""A gap between test and training loss, and the constant that is claimed in $c\sqrt{r/N}$.

    Attributes:
        gap: the gap, exact or float64.
        rank: r.
        samples: N.
        constant: c > 0.
        standard_error: of the gap less what is claimed, where they are means over seeds.
        rival: the gap if it did not depend on the rank: a sample has to tell the two apart.
    """

    gap: Any
    rank: int
    samples: int
    constant: Any = Fraction(1)
    standard_error: float | None = None
    rival: float | None = None
    note: str = ""
    kind = "generalisation gap"

    @property
    def claimed(self) -> Any:
        """C √(r/N)."""
        share, exact = Fraction(self.rank, self.samples), not isinstance(self.gap, float)
        return self.constant * (linalg.square_root(share) if exact else float(share) ** 0.5)


def gap_of(regression: Regression, rank: int) -> Gap:
    """The gap of the model at a rank, with the constant that its gap at rank 1 fixes."""
    constant = regression.gap(1) * linalg.square_root(Fraction(regression.samples))
    return Gap(regression.gap(rank), rank, regression.samples, constant)


@st.composite
def gaps(draw: st.DrawFn) -> Gap:
    """Regressions with all of the update captured, at ranks above 1, and models that have nothing to fit."""
    samples, rank = draw(st.integers(8, 20)), draw(st.integers(2, 4))
    if draw(st.booleans()):
        return Gap(Fraction(0), rank, samples, Fraction(draw(st.integers(1, 4))))
    return gap_of(Regression(linalg.exact([1] + [0] * 4), 1, samples, Fraction(1)), rank)


@dataclass(frozen=True, eq=False, repr=False)
class Drawn(Pasteable):
    """The model simulated: inputs and noise drawn, B fitted, and the excess risk of the fit measured.

    Attributes:
        squares: σ_i² of the update, descending.
        noise: σ².
        samples: N.
        seed: of the draws; part of the instance, so that no search can look for an unlucky one.
    """

    squares: np.ndarray
    noise: float
    samples: int
    seed: int = 0
    kind = "simulated regression"

    @cached_property
    def simulated(self) -> Simulated:
        """Mean risks with their standard errors at the ranks 1 and 2."""
        n, m = _SIDES
        rng = np.random.default_rng(self.seed)
        u, _ = np.linalg.qr(rng.normal(size=(n, n)))
        v, _ = np.linalg.qr(rng.normal(size=(m, m)))
        update = (u[:, :m] * np.sqrt(self.squares)) @ v.T
        key = jax.random.key(self.seed)
        return simulate(update, RANKS, key, samples=self.samples, noise=self.noise, draws=DRAWS)

    @property
    def measured(self) -> np.ndarray:
        """Mean excess risk at each rank."""
        return self.simulated.mean

    @property
    def standard_error(self) -> np.ndarray:
        """Of the means."""
        return self.simulated.standard_error

    def _each(self, formula: Any) -> np.ndarray:
        left = tails(self.squares)
        return np.array([formula(float(left[r]), r, self.samples - r - 1) for r in RANKS])

    @property
    def formula(self) -> np.ndarray:
        """[(N − 1) tail(r) + m σ² r] / (N − r − 1)."""
        m = _SIDES[1]
        return self._each(lambda tail, r, left: ((self.samples - 1) * tail + m * self.noise * r) / left)

    @property
    def without(self) -> np.ndarray:
        """Bias plus variance of the noise alone: what A misses does not disturb the fit."""
        return self._each(lambda tail, r, left: tail + _SIDES[1] * self.noise * r / left)

    @property
    def fixed(self) -> np.ndarray:
        """With r / N in place of r / (N − r − 1), as for inputs that are not random."""
        m, N = _SIDES[1], self.samples
        return self._each(lambda tail, r, left: tail + (m * self.noise + tail) * r / N)


@st.composite
def draws(draw: st.DrawFn) -> Drawn:
    """Spectra that leave much of the update beyond each rank but the last, and moderate noise."""
    a, b = draw(st.integers(4, 8)), draw(st.integers(2, 4))
    noise = draw(st.integers(1, 3)) / 10
    squares, samples = np.array([a, b, 1], float), draw(st.sampled_from((12, 16)))
    return Drawn(squares, noise, samples, draw(st.integers(0, 99)))
