"""Learning curves, measured on networks or planted: losses of several seeds at several sample sizes."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np
from jaxtyping import Float

from ...pasteable import Pasteable
from ..crossover import Crossover, crossover
from ..fits import CurveFit, fit_curve
from ..gains import Gains, gains

SIZES = (20, 44, 96, 209, 457, 1000)
"""Of planted curves: those of the trained ones."""
SEEDS = 10


@dataclass(frozen=True, eq=False, repr=False)
class Curve(Pasteable):
    """One learning curve.

    Attributes:
        sizes: V sample sizes.
        losses: of S seeds, shape (S, V).
    """

    sizes: tuple[int, ...]
    losses: Float[np.ndarray, "S V"]
    kind = "learning curve"

    @cached_property
    def fit(self) -> CurveFit:
        """What it looks like, as the library says."""
        return fit_curve((self.sizes, self.losses))

    @property
    def note(self) -> str:
        """The finding as a sentence, for the record."""
        return f"{self.fit.shape}: {self.fit.reason}"


@dataclass(frozen=True, eq=False, repr=False)
class Pair(Pasteable):
    """The learning curves of full fine-tuning and of PEFT, paired by seed.

    Attributes:
        sizes: V sample sizes.
        full: losses, shape (S, V).
        peft: losses, shape (S, V).
        d: parameters of full fine-tuning.
        k: of PEFT.
    """

    sizes: tuple[int, ...]
    full: Float[np.ndarray, "S V"]
    peft: Float[np.ndarray, "S V"]
    d: int
    k: int
    kind = "two learning curves"

    @cached_property
    def gains(self) -> Gains:
        """What examples gain, as the library says."""
        return gains((self.sizes, self.full), (self.sizes, self.peft), d=self.d, k=self.k)

    @cached_property
    def crossover(self) -> Crossover:
        """Where the curves cross, as the library says."""
        return crossover((self.sizes, self.full), (self.sizes, self.peft))


@dataclass(frozen=True, eq=False, repr=False)
class Measured(Pasteable):
    """Means over seeds at neighbouring sizes of measured curves, as comparisons on exact ones ask for them.

    Pairs belong to FFT and PEFT, in this order.

    Attributes:
        standard_error: of the difference of the two sides of the comparison that this is for.
        d: parameters of FFT.
        k: of PEFT.
        gains: mean loss that each gains per example between two sizes.
        later: the same between the next two.
        risks: test losses.
        trainings: losses on the sample.
        bests: fitted limits of the test losses.
        statistics: what to show.
    """

    standard_error: float
    d: int = 0
    k: int = 0
    gains: tuple[float, ...] = ()
    later: tuple[float, ...] = ()
    risks: tuple[float, ...] = ()
    trainings: tuple[float, ...] = ()
    bests: tuple[float, ...] = ()
    statistics: dict[str, Any] = field(default_factory=dict)
    note: str = ""
    kind = "trained network"

    @property
    def gaps(self) -> tuple[float, ...]:
        """Test less training loss."""
        return tuple(risk - training for risk, training in zip(self.risks, self.trainings, strict=True))


def noise(seed: int, scale: float | np.ndarray, sizes: int) -> Float[np.ndarray, "S V"]:
    """Normal deviations of seeds, half of the variance common to all sizes, as nested examples make it."""
    rng = np.random.default_rng(seed)
    common, own = rng.normal(size=(SEEDS, 1)), rng.normal(size=(SEEDS, sizes))
    return scale * (common + own) / np.sqrt(2)
