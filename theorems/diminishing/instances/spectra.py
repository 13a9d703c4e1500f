"""Updates whose singular values are known exactly, and laws that singular values may follow."""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction
from functools import cached_property
from typing import Any

import numpy as np
from hypothesis import strategies as st

from ... import linalg
from ...claims import MissingIngredient
from ...pasteable import Pasteable
from .. import critical
from ..decay import Decay, DecayVerdict, decay_model
from ..spectrum import Spectrum, spectrum, tails


def reflection(vector: tuple[int, ...]) -> np.ndarray:
    """The rational orthogonal matrix I − 2 v vᵀ / vᵀv."""
    v = linalg.exact(list(vector))
    eye = linalg.exact(np.eye(len(v), dtype=int).tolist())
    return eye - 2 * np.outer(v, v) / (v @ v)


@dataclass(frozen=True, eq=False, repr=False)
class Truncated(Pasteable):
    r"""An update $\sum_i \sigma_i u_i v_i^T$ in exact arithmetic, one rank and one ε.

    Attributes:
        values: $\sigma_1 \ge \dots \ge \sigma_R > 0$, exact.
        rank: r.
        eps: ε.
        end: where a printed sum over singular values ends; R if None.
        left: a reflection whose columns are the $u_i$; unit vectors if empty.
        right: the same for the $v_i$.
    """

    values: np.ndarray
    rank: int
    eps: Fraction = Fraction(1)
    end: int | None = None
    left: tuple[int, ...] = ()
    right: tuple[int, ...] = ()
    kind = "update with known singular values"

    @property
    def whole_rank(self) -> int:
        """R, the rank of the update."""
        return len(self.values)

    def partial(self, rank: int) -> np.ndarray:
        """The sum of the first terms."""
        count = len(self.values)
        eye = linalg.exact(np.eye(count, dtype=int).tolist())
        u, v = (reflection(w) if w else eye for w in (self.left, self.right))
        kept = min(rank, count)
        return (u[:, :kept] * self.values[:kept]) @ v[:, :kept].T

    @cached_property
    def matrix(self) -> np.ndarray:
        """The update."""
        return self.partial(len(self.values))

    @property
    def squared_distance(self) -> Fraction:
        """Measured: the sum of the squared entries of the update less its truncation."""
        return sum((self.matrix - self.partial(self.rank)).ravel() ** 2)

    @property
    def tail(self) -> Fraction:
        r"""By the formula: $\sum_{i>r} \sigma_i^2$ up to R."""
        return self.sum_to(self.whole_rank)

    @property
    def printed_tail(self) -> Fraction:
        """The same sum up to `end`."""
        return self.sum_to(self.whole_rank if self.end is None else self.end)

    def sum_to(self, end: int) -> Fraction:
        """The squares of the values after the first r, up to the index `end`."""
        return sum((v * v for v in self.values[self.rank : end]), Fraction(0))

    @property
    def critical(self) -> int:
        """The critical rank of ε, as the library computes it."""
        return critical.critical_rank(self.values, self.eps).rank

    @property
    def count(self) -> int:
        """The ranks that are not enough, counted: distance measured on the matrix, at least ε."""
        return sum(gap >= self.eps for gap in self._gaps)

    @property
    def count_above(self) -> int:
        """The same, but with ranks that leave exactly ε counted as enough."""
        return sum(gap > self.eps for gap in self._gaps)

    @property
    def _gaps(self) -> list[Fraction]:
        return [sum((self.matrix - self.partial(r)).ravel() ** 2) for r in range(self.whole_rank + 1)]


@st.composite
def updates(draw: st.DrawFn, *, whole: bool = False) -> Truncated:
    """Up to 4 × 4, small values, many of them equal; ε is a tail as often as not, so that ties occur.

    Sums end anywhere, or at R if `whole`.
    """
    R = draw(st.integers(1, 3))
    values = linalg.exact(sorted(draw(st.lists(st.integers(1, 4), min_size=R, max_size=R)), reverse=True))
    rank = draw(st.integers(0, R))
    allowed = st.sampled_from([tail for tail in tails(values**2) if tail > 0])
    eps = draw(allowed | st.builds(Fraction, st.integers(1, 12), st.integers(1, 3)))
    end = R if whole else draw(st.integers(0, R))
    left, right = draw(directions(R)), draw(directions(R))
    return Truncated(values, rank, eps, end, left, right)


def directions(least: int) -> st.SearchStrategy[tuple[int, ...]]:
    """Vectors of integers that are not zero, to reflect at; or none."""
    drawn = st.lists(st.integers(-2, 2), min_size=least, max_size=4).filter(any)
    return st.just(()) | drawn.map(tuple)


@dataclass(frozen=True, eq=False, repr=False)
class Decomposed(Pasteable):
    """A float64 matrix, truncated by NumPy's decomposition and measured entry by entry."""

    matrix: np.ndarray
    rank: int
    end: int | None = None
    note: str = ""
    kind = "decomposed matrix"

    @cached_property
    def spectrum(self) -> Spectrum:
        """Singular values, with a bound on their error."""
        return spectrum(self.matrix)

    @cached_property
    def squared_distance(self) -> float:
        """Measured on the entries."""
        u, s, vt = np.linalg.svd(self.matrix, full_matrices=False)
        cut = (u[:, : self.rank] * s[: self.rank]) @ vt[: self.rank]
        return float(((self.matrix - cut) ** 2).sum())

    @property
    def tail(self) -> float:
        """By the formula."""
        return self.spectrum.tail(self.rank)

    @property
    def printed_tail(self) -> float:
        """The sum up to `end`."""
        return self.tail - (0.0 if self.end is None else self.spectrum.tail(max(self.end, self.rank)))

    @property
    def whole_rank(self) -> int:
        """As many singular values as there are."""
        return len(self.spectrum.values)

    @property
    def scale(self) -> float:
        """Rounding of a truncation is relative to the whole matrix."""
        return self.spectrum.energy

    @property
    def operations(self) -> int:
        """Of a decomposition: a modest multiple of all its sides."""
        return 64 * max(self.matrix.shape)

    @property
    def eps(self) -> float:
        """A tenth of the energy."""
        return self.spectrum.energy / 10

    @property
    def critical(self) -> int:
        """The critical rank of ε, as the library computes it."""
        return critical.critical_rank(self.spectrum, self.eps).rank

    @property
    def count(self) -> int:
        """The ranks that are not enough, counted with sums taken the plain way."""
        squares = np.linalg.svd(self.matrix, compute_uv=False) ** 2
        return sum(float(squares[r:].sum()) >= self.eps for r in range(len(squares) + 1))


@st.composite
def gaussians(draw: st.DrawFn) -> Decomposed:
    """Gaussian matrices whose columns have sizes from 1 down to 1e-4."""
    m, n = draw(st.integers(1, 8)), draw(st.integers(1, 8))
    rng = np.random.default_rng(draw(st.integers(0, 2**16)))
    matrix = rng.normal(size=(m, n)) * np.logspace(0, -draw(st.integers(0, 4)), n)
    return Decomposed(matrix, draw(st.integers(0, min(m, n))))


@dataclass(frozen=True, repr=False)
class Geometric(Pasteable):
    r"""The spectrum $\sigma_i = C\,q^i$, exact, finite or not, and ε."""

    ratio: Fraction
    eps: Fraction
    C: Fraction = Fraction(1)
    R: int | None = None
    kind = "exponential spectrum"

    @property
    def law(self) -> critical.Exponential:
        """The library's closed forms."""
        return critical.Exponential(C=self.C, ratio=self.ratio, R=self.R)

    @property
    def critical(self) -> int:
        """The closed form."""
        return self.law.critical_rank(self.eps).rank

    @property
    def count(self) -> int:
        """The ranks that are not enough, term by term."""
        return self._count(lambda tail: tail >= self.eps)

    @property
    def count_above(self) -> int:
        """The same, but with ranks that leave exactly ε counted as enough."""
        return self._count(lambda tail: tail > self.eps)

    def _count(self, too_much: Any) -> int:
        q = self.ratio**2
        terms = 0 if self.R is None else self.R
        tail = sum((q**i for i in range(1, terms + 1)), Fraction(0)) if terms else q / (1 - q)
        r, tail = 0, tail * self.C**2
        while too_much(tail) and (self.R is None or r < self.R):
            r += 1
            tail -= self.C**2 * q**r
        return r


@st.composite
def geometrics(draw: st.DrawFn) -> Geometric:
    """Ratios 1/5 … 4/5; ε is a tail as often as not."""
    ratio = Fraction(draw(st.integers(1, 4)), 5)
    C, R = Fraction(draw(st.integers(1, 3))), draw(st.none() | st.integers(1, 12))
    law, r = critical.Exponential(C=C, ratio=ratio, R=R), draw(st.integers(0, 8))
    tie = law.tail(r)
    eps = tie if tie > 0 and draw(st.booleans()) else Fraction(draw(st.integers(1, 40)), 20)
    return Geometric(ratio, eps, C, R)


@dataclass(frozen=True, repr=False)
class PowerLaw(Pasteable):
    r"""The spectrum $\sigma_i = i^{-p}$ and ε."""

    p: float
    eps: float
    R: int | None = None
    kind = "power-law spectrum"

    @cached_property
    def brackets(self) -> tuple[int, int]:
        """The two ranks of the closed form."""
        return critical.Power(p=self.p, R=self.R).brackets(self.eps)

    @property
    def turn(self) -> int:
        """The closed form without the half that the upper end adds."""
        return self.brackets[0]

    @cached_property
    def count(self) -> int:
        """The critical rank by going up; tails by adding up 10⁵ terms, and the integral of what is left."""
        last = 10**5 if self.R is None else self.R
        terms = np.arange(1, last + 1, dtype=float) ** (-2 * self.p)
        rest = 0.0 if self.R else (last + 0.5) ** (1 - 2 * self.p) / (2 * self.p - 1)
        left = np.append(np.cumsum(terms[::-1])[::-1], 0.0) + rest
        return int(np.argmax(left < self.eps))


@st.composite
def power_laws(draw: st.DrawFn) -> PowerLaw:
    """Exponents from 0.6, or less for finite spectra; ε away from ties, where rounding would decide."""
    R = draw(st.none() | st.integers(2, 60))
    p = draw(st.integers(15 if R is None else 5, 40)) / 20
    law = critical.Power(p=p, R=R)
    least = max(law.tail(30 if R is None else R - 1), 1e-6)
    share = draw(st.integers(1, 97)) / 98
    return PowerLaw(p, least + share * (law.tail(0) - least), R)


@dataclass(frozen=True, eq=False, repr=False)
class Decaying(Pasteable):
    """Singular values of one layer, and which law of decay they show."""

    spectrum: Spectrum
    note: str = ""
    kind = "spectrum"

    @cached_property
    def verdict(self) -> DecayVerdict:
        """What the model selection says."""
        return decay_model(self.spectrum)

    @property
    def exponential(self) -> int:
        """1 where exponential decay was found, 0 where a power law or neither was.

        Raises:
            MissingIngredient: the values decide nothing.
        """
        if self.verdict.outcome is Decay.UNDECIDED:
            raise MissingIngredient(f"values that decide: {self.verdict.reason}")
        return int(self.verdict.outcome is Decay.EXPONENTIAL)


def planted(values: np.ndarray) -> Decaying:
    """A spectrum of given values."""
    return Decaying(Spectrum(np.sort(values)[::-1], (len(values), len(values))))
