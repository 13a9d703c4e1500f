r"""Linear classes and their subspaces on a few inputs: complexities are means over all signs."""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction
from functools import cached_property
from typing import Any

import numpy as np
from hypothesis import strategies as st

from ... import linalg, rational
from ...pasteable import Pasteable
from ...rademacher import LinearClass, subspace

Number = Any
"""A float, a fraction, or an exact number with square roots."""


def root(value: Number) -> Number:
    """Square root, exact for exact numbers."""
    return float(value) ** 0.5 if isinstance(value, float) else linalg.square_root(value)


def spread(kernel: np.ndarray) -> Number:
    r"""$1 - \sum_{i\ne j} K_{ij}^2/(\mathrm{tr} K)^2$; 0 for K = 0."""
    trace = kernel.trace()
    mixed = (kernel * kernel).sum() - (kernel.diagonal() ** 2).sum()
    return 1 - mixed / trace**2 if trace else 0 * trace


def constant(kernel: np.ndarray) -> Number:
    r"""$\max\{1/\sqrt2, \text{spread}\}$, by comparing squares."""
    share = spread(kernel)
    half = 0.5 if isinstance(share, float) else Fraction(1, 2)
    return share if share > 0 and share * share > half else root(half)


@dataclass(frozen=True, eq=False, repr=False)
class Directions(Pasteable):
    r"""$\{x \mapsto \langle w, x\rangle : \|w\| \le B\}$ on given inputs.

    Attributes:
        x: inputs, shape (N, d), float64 or exact.
        radius: B.
    """

    x: np.ndarray
    radius: float | Fraction
    kind = "linear class"
    operations = 2**10

    @cached_property
    def complexity(self) -> Number:
        """By enumeration."""
        return LinearClass.of(self.x, radius=self.radius).enumerated()

    @property
    def high(self) -> Number:
        r"""$B\|X\|_F/N$."""
        return self.radius * root((self.x * self.x).sum()) / len(self.x)

    @property
    def low(self) -> Number:
        """The same, times the larger of 1/√2 and what the kernel matrix allows."""
        return self.high * constant(self.x @ self.x.T)

    @property
    def tight(self) -> Number:
        """With 7/5 in place of √2."""
        return self.high / (7 / 5 if isinstance(self.radius, float) else Fraction(7, 5))

    @property
    def scale(self) -> float:
        """Of what is summed."""
        return float(self.high)


ENTRY = st.integers(-2, 2)


@st.composite
def rows(draw: st.DrawFn, most: int = 6) -> np.ndarray:
    """Inputs that are equal up to signs, multiples of unit vectors, or any small integers."""
    count, d = draw(st.integers(1, most)), draw(st.integers(1, 3))
    how = draw(st.sampled_from(("equal", "orthogonal", "any")))
    if how == "equal":
        x = np.outer([draw(st.sampled_from((1, -1, 2, 0))) for _ in range(count)], np.ones(d))
    elif how == "orthogonal":
        x = np.eye(count) * [draw(st.integers(0, 2)) for _ in range(count)]
    else:
        x = np.array([[draw(ENTRY) for _ in range(d)] for _ in range(count)], float)
    return x.astype(float)


@st.composite
def directions(draw: st.DrawFn) -> Directions:
    """Up to six inputs."""
    return Directions(draw(rows()), float(draw(st.integers(1, 2))))


@dataclass(frozen=True, eq=False, repr=False)
class Part(Pasteable):
    r"""A linear class and the part of it with w in the range of P, on the same inputs.

    Attributes:
        x: inputs, shape (N, d), float64 or exact.
        basis: P, shape (d, k), alike; its columns may be dependent.
    """

    x: np.ndarray
    basis: np.ndarray
    kind = "subspace of a linear class"
    operations = 2**12

    @cached_property
    def whole(self) -> Number:
        """The complexity of the whole class, by enumeration; B = 1."""
        return LinearClass.of(self.x, radius=self._one).enumerated()

    @cached_property
    def part(self) -> Number:
        """That of the subspace."""
        return subspace(self.x, self.basis, radius=self._one).enumerated()

    @property
    def _one(self) -> Number:
        return Fraction(1) if linalg.is_exact(self.x) else 1.0

    @cached_property
    def projector(self) -> np.ndarray:
        """The orthogonal projector on the range of P."""
        if linalg.is_exact(self.x):
            return rational.projector(self.basis)
        fractions = np.vectorize(Fraction, otypes=[object])(self.basis)  # floats are fractions: no cutoff
        return rational.projector(fractions).astype(float)

    @cached_property
    def traces(self) -> Number:
        r"""$\sqrt{\mathrm{tr}(P^T\hat SP)/\mathrm{tr}\,\hat S}$ for orthonormal P."""
        moment = self.x.T @ self.x
        total = moment.trace()
        return root((moment @ self.projector).trace() / total) if total else 0 * total

    @property
    def low(self) -> Number:
        """Of the ratio."""
        moved = self.x @ self.projector
        return self.traces * constant(moved @ moved.T)

    @property
    def high(self) -> Number:
        """Of the ratio."""
        return self.traces / constant(self.x @ self.x.T)

    @cached_property
    def shares(self) -> tuple[Number, Number] | None:
        """Of isotropic inputs the square of `traces`, and rank P/d; None for others."""
        if not linalg.is_exact(self.x):
            return None
        d, moment = self.x.shape[1], self.x.T @ self.x
        if not moment[0, 0] or np.any(moment != moment[0, 0] * rational.identity(d)):
            return None
        return (moment @ self.projector).trace() / moment.trace(), Fraction(rational.rank(self.basis), d)

    @property
    def scale(self) -> float:
        """Of what is summed."""
        return float(root((self.x * self.x).sum())) or 1.0


@st.composite
def parts(draw: st.DrawFn) -> Part:
    """Up to five inputs; columns of P repeat each other now and then."""
    x = draw(rows(5))
    d, k = x.shape[1], draw(st.integers(1, 3))
    basis = np.array([[draw(ENTRY) for _ in range(k)] for _ in range(d)], float)
    if k > 1 and draw(st.booleans()):
        basis[:, -1] = 2 * basis[:, 0]
    return Part(x, basis)


@st.composite
def isotropic_parts(draw: st.DrawFn) -> Part:
    """Exact: a multiple of the unit vectors, once or twice, and a subspace with redundant columns."""
    d, k = draw(st.integers(1, 3)), draw(st.integers(1, 3))
    unit, size = np.eye(d, dtype=int), draw(st.integers(1, 2))
    x = size * np.concatenate([unit] * draw(st.integers(1, 2)))
    basis = [[draw(st.integers(-1, 1)) for _ in range(k)] for _ in range(d)]
    return Part(linalg.exact(x.tolist()), linalg.exact(basis))
