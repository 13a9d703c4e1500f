r"""Finite classes of functions on a few points: every sample and every sign is listed, nothing is rounded."""

from __future__ import annotations

import itertools
import math
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction
from functools import cached_property
from typing import Any

import numpy as np
from hypothesis import strategies as st

from ... import linalg
from ...pasteable import Pasteable
from .samples import entries


def correlation(values: np.ndarray) -> Fraction:
    r"""$E_s \max_f \frac1N\sum_i s_i f_i$ of finitely many vectors (f_i), shape (M, N), exact.

    Signs that go with the same column of values are counted together.
    """
    columns = Counter(tuple(column) for column in values.T)
    total = Fraction(0)
    sums = [range(-count, count + 1, 2) for count in columns.values()]
    for chosen in itertools.product(*sums):
        pairs = zip(columns.values(), chosen, strict=True)
        ways = math.prod(math.comb(count, (count + s) // 2) for count, s in pairs)
        heights = sum(s * np.array(column, object) for s, column in zip(chosen, columns, strict=True))
        total += ways * max(heights)
    return total / (2 ** values.shape[1] * values.shape[1])


@dataclass(frozen=True, eq=False, repr=False)
class Losses(Pasteable):
    """Finitely many hypotheses, given by their losses at equally likely points.

    Attributes:
        losses: shape (M, K), exact, between 0 and `ceiling`.
        samples: N.
        delta: δ.
    """

    losses: np.ndarray
    samples: int
    delta: Fraction = Fraction(1, 4)
    kind = "finite class"

    @property
    def ceiling(self) -> Fraction:
        """C."""
        return max(self.losses.ravel())

    @property
    def means(self) -> np.ndarray:
        """L of each hypothesis."""
        return self.losses.sum(axis=1) / Fraction(self.losses.shape[1])

    def listed(self) -> Iterator[tuple[Fraction, list[int]]]:
        """Samples up to their order, each with its probability."""
        K, N = self.losses.shape[1], self.samples
        for sample in itertools.combinations_with_replacement(range(K), N):
            ways = math.factorial(N) // math.prod(math.factorial(n) for n in Counter(sample).values())
            yield Fraction(ways, K**N), list(sample)

    @cached_property
    def seen(self) -> list[tuple[Fraction, Fraction, Fraction, Fraction]]:
        """Of each sample: its probability, sup(L − L_N), its complexity, L of the worst minimiser."""
        found = []
        for chance, sample in self.listed():
            drawn = self.losses[:, sample]
            training = drawn.sum(axis=1) / Fraction(self.samples)
            least = min(training)
            minimised = max(L for L, loss in zip(self.means, training, strict=True) if loss == least)
            found.append((chance, max(self.means - training), correlation(drawn), minimised))
        return found

    @property
    def supremum(self) -> Fraction:
        """E sup(L − L_N)."""
        return sum(chance * top for chance, top, _, _ in self.seen)

    @property
    def complexity(self) -> Fraction:
        """R_N, the mean over samples."""
        return sum(chance * value for chance, _, value, _ in self.seen)

    @property
    def measured(self) -> list[Fraction]:
        """With which probability each of the three bounds fails: with R_N, with R̂, and that of ERM."""
        return self._exceeding(2)

    @property
    def bounds(self) -> list[Fraction]:
        """What each of them is allowed, δ."""
        return [self.delta] * 3

    @property
    def bare_chances(self) -> list[Fraction]:
        """The same without the complexity."""
        return self._exceeding(0)

    def _exceeding(self, factor: int) -> list[Fraction]:
        c, N, expected = float(self.ceiling), self.samples, float(self.complexity)
        one, two = (math.log(count / self.delta) for count in (1, 2))
        best, failing = min(self.means), [Fraction(0)] * 3
        for chance, top, value, minimised in self.seen:
            excesses = (top, top, minimised - best)
            bounds = (
                factor * expected + c * math.sqrt(one / (2 * N)),
                factor * float(value) + 3 * c * math.sqrt(two / (2 * N)),
                factor * expected + c * math.sqrt(2 * two / N),
            )
            for i, (excess, bound) in enumerate(zip(excesses, bounds, strict=True)):
                failing[i] += chance * (float(excess) > bound)
        return failing


@st.composite
def losses(draw: st.DrawFn) -> Losses:
    """Up to four hypotheses, three points and two examples; or all labellings of three or four points."""
    delta = Fraction(1, draw(st.sampled_from((2, 4, 10))))
    if draw(st.booleans()):
        K = draw(st.integers(1, 4))
        every = linalg.exact(list(itertools.product((0, 1), repeat=K)))
        return Losses(every, draw(st.integers(1, 6 if K < 4 else 3)), delta)
    hypotheses, points = draw(st.integers(2, 4)), draw(st.integers(1, 3))
    found = entries(draw, (hypotheses, points), st.integers(0, 3))
    return Losses(found, draw(st.integers(1, 3)), delta)


@dataclass(frozen=True, eq=False, repr=False)
class Bent(Pasteable):
    r"""Functions of one output and a loss with a bend at each example: $a_i\min(t,0)+b_i\max(t,0)$.

    Attributes:
        values: of M functions at N inputs, shape (M, N), exact.
        slopes: (a_i, b_i), shape (N, 2), exact.
    """

    values: np.ndarray
    slopes: np.ndarray
    kind = "one output"

    @property
    def lipschitz(self) -> Fraction:
        """G, the largest slope."""
        return max(abs(self.slopes).ravel())

    @property
    def complexity(self) -> Fraction:
        """Of the losses."""
        low, high = np.minimum(self.values, 0), np.maximum(self.values, 0)
        return correlation(self.slopes[:, 0] * low + self.slopes[:, 1] * high)

    @property
    def bound(self) -> Fraction:
        """G times the complexity of the functions."""
        return self.lipschitz * correlation(self.values)

    @property
    def loose(self) -> Fraction:
        """With the mean slope in place of the largest."""
        return abs(self.slopes).sum() / self.slopes.size * correlation(self.values)


@st.composite
def bent(draw: st.DrawFn) -> Bent:
    """Up to four functions at up to four inputs."""
    count, functions = draw(st.integers(1, 4)), draw(st.integers(1, 4))
    values, slope = st.integers(-2, 2), st.integers(-2, 2)
    return Bent(entries(draw, (functions, count), values), entries(draw, (count, 2), slope))


UNITS = ((1, 0), (0, 1), ("3/5", "4/5"), ("4/5", "-3/5"), ("-4/5", "-3/5"))


@dataclass(frozen=True, eq=False, repr=False)
class Pieces(Pasteable):
    r"""Functions of two outputs, and at each example the loss $\max_j \langle a_{ij}, v\rangle$.

    Attributes:
        values: of M functions at N inputs, shape (M, N, 2), exact.
        gradients: a_ij, shape (N, pieces, 2), exact unit vectors.
    """

    values: np.ndarray
    gradients: np.ndarray
    kind = "two outputs"

    @property
    def complexity(self) -> Fraction:
        """Of the losses, which have the Lipschitz constant 1."""
        products = [[max(a @ v for a in pieces) for v, pieces in zip(f, self.gradients, strict=True)]
                    for f in self.values]  # fmt: skip
        return correlation(np.array(products, object))

    @property
    def vector(self) -> Fraction:
        """The vector complexity of the functions: a sign for each output of each example."""
        M, N, m = self.values.shape
        return correlation(self.values.reshape(M, N * m)) * m

    @property
    def bound(self) -> Any:
        """√2 times that."""
        return linalg.square_root(Fraction(2)) * self.vector


@st.composite
def pieces(draw: st.DrawFn) -> Pieces:
    """Up to three functions, or two opposite ones, at one or two inputs."""
    N, unit = draw(st.integers(1, 2)), st.sampled_from(UNITS)
    values = linalg.exact([[draw(unit) for _ in range(N)] for _ in range(draw(st.integers(1, 3)))]) * draw(
        st.integers(1, 2)
    )
    if draw(st.booleans()):
        values = np.concatenate([values[:1], -values[:1]])
    gradients = linalg.exact([[draw(unit) for _ in range(2)] for _ in range(N)])
    return Pieces(values, gradients)
