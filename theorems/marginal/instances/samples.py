"""Learning problems on a few equally likely points, all samples of which are listed: no draw, no rounding."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction
from functools import cached_property
from typing import NamedTuple

import numpy as np
from hypothesis import strategies as st

from ... import linalg
from ...pasteable import Pasteable


class Learned(NamedTuple):
    """One class, learned from every sample of size N.

    Attributes:
        tests: L of what was learned, for each sample.
        fits: L_N of it.
        best: L*, the least L in the class.
    """

    tests: np.ndarray
    fits: np.ndarray
    best: Fraction

    @property
    def risk(self) -> Fraction:
        """E L."""
        return self.tests.sum() / len(self.tests)

    @property
    def training(self) -> Fraction:
        """E L_N."""
        return self.fits.sum() / len(self.fits)

    @property
    def gap(self) -> Fraction:
        """E[L − L_N]."""
        return self.risk - self.training


class Expectations:
    """What comparisons ask for, a number to a class; a subclass has `classes`, FFT first."""

    classes: list[Learned]

    @property
    def risks(self) -> list[Fraction]:
        """E L."""
        return [learned.risk for learned in self.classes]

    @property
    def trainings(self) -> list[Fraction]:
        """E L_N."""
        return [learned.training for learned in self.classes]

    @property
    def gaps(self) -> list[Fraction]:
        """E[L − L_N]."""
        return [learned.gap for learned in self.classes]

    @property
    def bests(self) -> list[Fraction]:
        """L* of each class."""
        return [learned.best for learned in self.classes]

    @property
    def full(self) -> Learned:
        """FFT."""
        return self.classes[0]


def listed(points: int, samples: int) -> Iterator[list[int]]:
    """All samples, as lists of points."""
    yield from map(list, itertools.product(range(points), repeat=samples))


def minimised(losses: np.ndarray, samples: int, *, worst: bool = False) -> Learned:
    """Learn from every sample: a hypothesis of least training loss, of those one with the largest L.

    Args:
        losses: of each hypothesis at each point, shape (M, K), exact.
        samples: N.
        worst: take one of the largest training loss instead.
    """
    means = losses.sum(axis=1) / losses.shape[1]
    tests, fits = [], []
    for sample in listed(losses.shape[1], samples):
        training = losses[:, sample].sum(axis=1) / Fraction(samples)
        wanted = max(training) if worst else min(training)
        tests.append(max(mean for mean, loss in zip(means, training, strict=True) if loss == wanted))
        fits.append(wanted)
    return Learned(np.array(tests, object), np.array(fits, object), min(means))


@dataclass(frozen=True, eq=False, repr=False)
class Means(Expectations, Pasteable):
    r"""$f_\theta = \theta$ with squared loss: the minimiser is the mean of the sample.

    Attributes:
        y: labels, shape (K,), exact; equally likely.
        samples: N.
    """

    y: np.ndarray
    samples: int
    kind = "mean of a sample"

    @property
    def bayes(self) -> Fraction:
        """The least loss of any prediction: there is no input, so it is that of the mean, L*."""
        return (self.y * self.y).sum() / len(self.y) - (self.y.sum() / Fraction(len(self.y))) ** 2

    @cached_property
    def classes(self) -> list[Learned]:
        """The constants."""
        tests, fits = [], []
        for sample in listed(len(self.y), self.samples):
            seen = self.y[sample]
            mean = seen.sum() / Fraction(self.samples)
            tests.append(((self.y - mean) ** 2).sum() / len(self.y))
            fits.append(((seen - mean) ** 2).sum() / self.samples)
        return [Learned(np.array(tests, object), np.array(fits, object), self.bayes)]


def entries(draw: st.DrawFn, shape: tuple[int, int], values: st.SearchStrategy[int]) -> np.ndarray:
    """Draw a matrix."""
    return linalg.exact([[draw(values) for _ in range(shape[1])] for _ in range(shape[0])])


@st.composite
def means(draw: st.DrawFn) -> Means:
    """Two or three labels, up to three examples."""
    y = draw(st.lists(st.integers(-3, 3), min_size=2, max_size=3))
    return Means(linalg.exact(y), draw(st.integers(1, 3)))


@dataclass(frozen=True, eq=False, repr=False)
class Listed(Expectations, Pasteable):
    """Finitely many hypotheses, given by their losses at the points.

    Attributes:
        losses: shape (M, K), exact.
        reached: the first so many hypotheses are those of PEFT.
        samples: N.
    """

    losses: np.ndarray
    reached: int
    samples: int
    kind = "listed hypotheses"

    @property
    def bayes(self) -> Fraction:
        """What a prediction could reach that is chosen at each point apart."""
        return sum(min(column) for column in self.losses.T) / Fraction(self.losses.shape[1])

    @cached_property
    def classes(self) -> list[Learned]:
        """FFT and PEFT."""
        return [minimised(rows, self.samples) for rows in (self.losses, self.losses[: self.reached])]

    @cached_property
    def careless(self) -> list[Learned]:
        """The same for who maximises the training loss."""
        return [
            minimised(rows, self.samples, worst=True) for rows in (self.losses, self.losses[: self.reached])
        ]


@st.composite
def lists(draw: st.DrawFn) -> Listed:
    """Up to four hypotheses, three points and two examples; small losses with ties."""
    hypotheses, points = draw(st.integers(2, 4)), draw(st.integers(1, 3))
    losses = entries(draw, (hypotheses, points), st.integers(0, 3))
    return Listed(losses, draw(st.integers(1, hypotheses)), draw(st.integers(1, 2)))
