r"""Low-rank updates in exact arithmetic: Jacobian, dimension, and the nearest one."""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction
from typing import Any

import numpy as np
import sympy
from hypothesis import strategies as st

from .. import linalg
from ..pasteable import Pasteable


@dataclass(frozen=True, repr=False)
class Factors(Pasteable):
    r"""The map (B, A) ↦ B A at one pair of factors, B of shape (m, r) and A of shape (r, n)."""

    B: np.ndarray
    A: np.ndarray
    kind: str = "LoRA factors"

    @property
    def shape(self) -> tuple[int, int, int]:
        """m, n, r."""
        return len(self.B), self.A.shape[1], len(self.A)

    @property
    def k(self) -> int:
        """Entries of both factors, r (m + n)."""
        return self.B.size + self.A.size

    @property
    def d(self) -> int:
        """Entries of the product."""
        return len(self.B) * self.A.shape[1]

    @property
    def jacobian(self) -> sympy.Matrix:
        """The matrix of (dB, dA) ↦ dB A + B dA, column by column from matrix units."""
        columns = []
        for factor in (self.B, self.A):
            for i, j in np.ndindex(factor.shape):
                unit = linalg.exact(np.zeros(factor.shape, int).tolist())
                unit[i, j] = Fraction(1)
                columns.append((unit @ self.A if factor is self.B else self.B @ unit).ravel())
        return sympy.Matrix([list(column) for column in columns])

    @property
    def rank(self) -> int:
        """Rank of the Jacobian, by exact elimination."""
        return int(self.jacobian.rank())

    @property
    def ranks(self) -> tuple[int, int]:
        """Ranks of B and of A."""
        return tuple(int(sympy.Matrix(factor.tolist()).rank()) for factor in (self.B, self.A))

    @property
    def dimension(self) -> int:
        """Dimension r (m + n − r): r free columns, and n − r combinations of them."""
        m, n, r = self.shape
        r = min(m, n, r)
        return r * m + r * (n - r)


@st.composite
def factor_pairs(draw: st.DrawFn, *, deficient: bool = True) -> Factors:
    """Small integer factors; with `deficient` their ranks are drawn as well, zero included."""
    m, n = draw(st.integers(1, 3)), draw(st.integers(1, 3))
    r = draw(st.integers(1, min(m, n)))
    rng = np.random.default_rng(draw(st.integers(0, 2**16)))

    def factor(rows: int, columns: int) -> np.ndarray:
        size = min(rows, columns)
        rank = draw(st.integers(0, size)) if deficient else size
        return linalg.exact((integers(rng, rows, rank) @ integers(rng, rank, columns)).tolist())

    return Factors(factor(m, r), factor(r, n))


def integers(rng: np.random.Generator, rows: int, columns: int) -> np.ndarray:
    """Random integers that are as independent as the shape allows: an identity block on a triangular one."""
    values = rng.integers(-3, 4, size=(rows, columns))
    square = min(rows, columns)
    values[:square, :square] = np.tril(values[:square, :square], -1) + np.eye(square, dtype=int)
    return values


@dataclass(frozen=True, repr=False)
class Target(Pasteable):
    r"""A full update Δ, a low-rank one B A to compare with, and the nearest one there is.

    Attributes:
        delta: shape (m, n), exact, with min(m, n) ≤ 2, so that singular values are square roots.
        B: shape (m, 1).
        A: shape (1, n).
    """

    delta: np.ndarray
    B: np.ndarray
    A: np.ndarray
    kind: str = "full update"

    @property
    def squared_singular_values(self) -> tuple[Any, Any]:
        """The two largest eigenvalues of ΔΔᵀ, exact; 0 for a missing one."""
        first = linalg.spectral_norm(self.delta) ** 2
        return first, sum(x * x for x in self.delta.ravel()) - first

    @property
    def nearest(self) -> Any:
        """Squared Frobenius distance from Δ to the matrices of rank at most 1: σ₂²."""
        return self.squared_singular_values[1]

    @property
    def squared_distance(self) -> Fraction:
        """‖Δ − B A‖²_F."""
        return sum(x * x for x in (self.delta - self.B @ self.A).ravel())

    @property
    def spectral_distance(self) -> Any:
        """‖Δ − B A‖₂."""
        return linalg.spectral_norm(self.delta - self.B @ self.A)


@st.composite
def targets(draw: st.DrawFn) -> Target:
    """Updates with two rows and small integers, and rank-one updates beside them."""
    n, entry = draw(st.integers(2, 3)), st.integers(-2, 2)

    def matrix(rows: int, columns: int) -> np.ndarray:
        return linalg.exact([[draw(entry) for _ in range(columns)] for _ in range(rows)])

    return Target(matrix(2, n), matrix(2, 1), matrix(1, n))


@dataclass(frozen=True, repr=False)
class Variety(Pasteable):
    r"""The set of m × n matrices of rank at most r, and the matrix with min(m, n) ones on its diagonal."""

    m: int
    n: int
    r: int
    kind: str = "matrices of rank at most r"

    @property
    def k(self) -> int:
        """Parameters of LoRA, r (m + n)."""
        return self.r * (self.m + self.n)

    @property
    def d(self) -> int:
        """Entries."""
        return self.m * self.n

    @property
    def missed(self) -> Fraction:
        """Squared distance of that matrix from the set: r of its min(m, n) singular values 1 are kept."""
        return Fraction(max(0, min(self.m, self.n) - self.r))


@dataclass(frozen=True, repr=False)
class Samples(Pasteable):
    """A full update of one linear layer, seen on p inputs only.

    Attributes:
        delta: Δ of shape (m, n), exact.
        inputs: X of shape (n, p), exact.
        r: the rank that an update may have.
    """

    delta: np.ndarray
    inputs: np.ndarray
    r: int
    kind: str = "one layer on few inputs"

    @property
    def needed(self) -> int:
        """The rank of ΔX: the least rank of an update that gives the same outputs."""
        return int(sympy.Matrix((self.delta @ self.inputs).tolist()).rank())

    @property
    def few(self) -> tuple[bool, str]:
        """Whether there are at most r inputs."""
        p = self.inputs.shape[1]
        return p <= self.r, f"p = {p}, r = {self.r}"


@st.composite
def samples(draw: st.DrawFn) -> Samples:
    """Up to three inputs of a layer with up to three inputs and outputs, mostly no more of them than r."""
    m, n, p = (draw(st.integers(1, 3)) for _ in range(3))
    entry = st.integers(-2, 2)

    def matrix(rows: int, columns: int) -> np.ndarray:
        return linalg.exact([[draw(entry) for _ in range(columns)] for _ in range(rows)])

    return Samples(matrix(m, n), matrix(n, p), draw(st.integers(p, 3) | st.integers(1, 3)))
