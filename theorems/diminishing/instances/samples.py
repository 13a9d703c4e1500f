"""Learning problems on a few points, all samples of which can be listed: expectations without any draw."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from fractions import Fraction
from functools import cached_property

import numpy as np
from hypothesis import strategies as st

from ... import linalg
from ...pasteable import Pasteable
from ...rademacher import Ball, enumerated
from ..erm import ErmBound, erm_bound
from .spectra import Truncated, updates


@dataclass(frozen=True, eq=False, repr=False)
class Listed(Pasteable):
    """Equally likely points (x, y) with squared loss, and an update truncated to rank r beforehand; exact.

    Attributes:
        update: Δ with its rank r, (out, in).
        x: points, shape (K, in).
        y: targets, shape (K, out).
        samples: N; all Kᴺ samples are listed.
    """

    update: Truncated
    x: np.ndarray
    y: np.ndarray
    samples: int
    kind = "listed samples"

    def losses(self, rank: int) -> np.ndarray:
        """The loss of each point at a rank."""
        gap = self.x @ self.update.partial(rank).T - self.y
        return (gap * gap).sum(axis=1)

    def _samples(self) -> Iterator[list[int]]:
        yield from map(list, itertools.product(range(len(self.x)), repeat=self.samples))

    @property
    def moments(self) -> tuple[Fraction, Fraction]:
        """Mean and mean square of the gap L − L_N over all samples, for the rank fixed beforehand."""
        return self._moments(lambda _: self.losses(self.update.rank))

    @property
    def chosen(self) -> tuple[Fraction, Fraction]:
        """The same with the rank that is best on the sample."""
        every = [self.losses(r) for r in range(self.update.whole_rank + 1)]
        return self._moments(lambda sample: min(every, key=lambda losses: losses[sample].sum()))

    def _moments(self, choose: Callable[[list[int]], np.ndarray]) -> tuple[Fraction, Fraction]:
        gaps = []
        for sample in self._samples():
            losses = choose(sample)
            gaps.append(losses.sum() / len(losses) - losses[sample].sum() / self.samples)
        return sum(gaps) / len(gaps), sum(gap * gap for gap in gaps) / len(gaps)

    @property
    def variance(self) -> Fraction:
        """The variance of the loss of one point, divided by N."""
        losses = self.losses(self.update.rank)
        mean = losses.sum() / len(losses)
        return ((losses - mean) ** 2).sum() / len(losses) / self.samples


@st.composite
def lists(draw: st.DrawFn) -> Listed:
    """Two or three points with small integers, one or two examples to a sample."""
    update, count, entry = draw(updates()), draw(st.integers(2, 3)), st.integers(-2, 2)
    m, n = update.matrix.shape
    x, y = (linalg.exact([[draw(entry) for _ in range(k)] for _ in range(count)]) for k in (n, m))
    return Listed(update, x, y, draw(st.integers(1, 2)))


@dataclass(frozen=True, eq=False, repr=False)
class Minimised(Pasteable):
    r"""Empirical risk minimisation over a ball for $\ell = -\langle \xi, Dx\rangle$, with all samples listed.

    Attributes:
        x: points, shape (K, n), float64; equally likely.
        signs: ξ of each point, shape (K, m).
        ball: the class, a Frobenius ball.
        samples: N.
    """

    x: np.ndarray
    signs: np.ndarray
    ball: Ball
    samples: int
    kind = "listed samples, minimised"

    @property
    def mean(self) -> np.ndarray:
        """E ξ xᵀ, (m, n): the risk of D is minus its inner product with this."""
        return self.signs.T @ self.x / len(self.x)

    @cached_property
    def risk(self) -> float:
        """The expected risk of the minimiser, which is the ball's maximiser on the sample's mean."""
        risks = []
        for sample in itertools.product(range(len(self.x)), repeat=self.samples):
            z = self.signs[list(sample)].T @ self.x[list(sample)] / self.samples
            risks.append(-(self.ball.maximiser(z) * self.mean).sum())
        return float(np.mean(risks))

    @cached_property
    def bound(self) -> ErmBound:
        """The bound, with the complexity averaged over all samples."""
        outputs = self.signs.shape[1]
        every = itertools.product(range(len(self.x)), repeat=self.samples)
        found = [enumerated(self.x[list(sample)], outputs, self.ball) for sample in every]
        reference = Ball("frobenius", self.ball.radius).maximiser(self.mean)
        u, s, vt = np.linalg.svd(reference, full_matrices=False)
        rank = self.ball.limit(reference.shape)
        missed = reference - (u[:, :rank] * s[:rank]) @ vt[:rank]
        return erm_bound(
            optimum=-float((reference * self.mean).sum()),
            lipschitz=float(np.linalg.norm(self.signs, axis=1).max()),
            distance=float(np.linalg.norm(self.x @ missed.T, axis=1).mean()),
            complexity=float(np.mean(found)),
            trivial=float("inf"),
        )

    operations = 2**14

    @property
    def scale(self) -> float:
        """The largest loss of a point."""
        return float(np.abs(self.x).max() * np.abs(self.signs).max() * self.x.shape[1] * self.ball.radius)


@st.composite
def minimised(draw: st.DrawFn) -> Minimised:
    """Two or three points with two inputs and one or two outputs, one or two examples to a sample."""
    count, outputs, samples = draw(st.integers(2, 3)), draw(st.integers(1, 2)), draw(st.integers(1, 2))
    entry = st.integers(-2, 2)
    x = np.array([[draw(entry) for _ in range(2)] for _ in range(count)], float)
    signs = np.array([[draw(st.sampled_from((-1, 1))) for _ in range(outputs)] for _ in range(count)], float)
    x[0, 0] = x[0, 0] or 1.0
    return Minimised(x, signs, Ball("frobenius", 1.0, draw(st.integers(1, 2))), samples)
