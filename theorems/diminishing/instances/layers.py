"""A linear layer, its truncated updates of two kinds, and a rival of the same rank."""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction
from functools import cached_property

import numpy as np
from hypothesis import strategies as st

from ... import linalg
from ...pasteable import Pasteable
from .. import whitened
from ..spectrum import spectrum
from .spectra import Truncated, updates


@dataclass(frozen=True, eq=False, repr=False)
class Challenged(Pasteable):
    """An update of known singular values, its truncation, and a rival B A of the same rank; exact."""

    update: Truncated
    B: np.ndarray
    A: np.ndarray
    kind = "truncation and a rival"

    @property
    def plain(self) -> Fraction:
        """Squared distance of the truncation."""
        return self.update.squared_distance

    @property
    def challenge(self) -> Fraction:
        """Squared distance of the rival."""
        return ((self.update.matrix - self.B @ self.A) ** 2).sum()


@st.composite
def challenges(draw: st.DrawFn) -> Challenged:
    """Rivals with small integer factors."""
    update = draw(updates())
    m, n = update.matrix.shape
    return Challenged(update, *factors(draw, m, update.rank, n))


def factors(draw: st.DrawFn, m: int, r: int, n: int) -> tuple[np.ndarray, np.ndarray]:
    """B of shape (m, r) and A of shape (r, n), integers; for r = 0 a product that is zero."""
    entry = st.integers(-2, 2) if r else st.just(0)
    B, A = (
        linalg.exact([[draw(entry) for _ in range(columns)] for _ in range(rows)])
        for rows, columns in ((m, max(r, 1)), (max(r, 1), n))
    )
    return B, A


@dataclass(frozen=True, eq=False, repr=False)
class DiagonalLayer(Pasteable):
    r"""A layer with update Δ = diag(entries) and inputs of second moment diag(roots²), exact.

    Its loss is $\sum_{ij} \rho_i^2 (D - \Delta)_{ij}^2$, so the whitened update is diag(ρ · entries).

    Attributes:
        entries: of Δ, at least 0.
        roots: ρ > 0.
        rank: r.
        B: of a rival B A of rank at most r.
        A: of the rival.
    """

    entries: np.ndarray
    roots: np.ndarray
    rank: int
    B: np.ndarray
    A: np.ndarray
    kind = "linear layer, diagonal"

    def kept(self, sizes: np.ndarray) -> np.ndarray:
        """The update with the r entries whose sizes are largest."""
        order = sorted(range(len(sizes)), key=lambda i: -sizes[i])[: self.rank]
        return np.array([v if i in order else Fraction(0) for i, v in enumerate(self.entries)], dtype=object)

    def loss(self, change: np.ndarray) -> Fraction:
        """The loss of an update D, beyond that of Δ."""
        moment = np.diag(self.roots**2)
        return whitened.layer_loss(change, np.diag(self.entries), moment)

    @property
    def plain(self) -> Fraction:
        """The loss of the truncation of Δ."""
        return self.loss(np.diag(self.kept(self.entries)))

    @property
    def reached(self) -> Fraction:
        """The loss of the whitened truncation."""
        return self.loss(np.diag(self.kept(self.roots * self.entries)))

    @property
    def tail(self) -> Fraction:
        """The squared singular values of the whitened update, beyond the r largest."""
        squares = sorted((self.roots * self.entries) ** 2, reverse=True)
        return sum(squares[self.rank :], Fraction(0))

    @property
    def challenge(self) -> Fraction:
        """The loss of the rival."""
        return self.loss(self.B @ self.A)


@st.composite
def diagonal_layers(draw: st.DrawFn) -> DiagonalLayer:
    """Two or three inputs; the rival keeps other entries, or has small integer factors."""
    n = draw(st.integers(2, 3))
    entries, roots = (
        linalg.exact(draw(st.lists(st.integers(1, 4), min_size=n, max_size=n))) for _ in range(2)
    )
    rank = draw(st.integers(1, n))
    if draw(st.booleans()):
        return DiagonalLayer(entries, roots, rank, *factors(draw, n, rank, n))
    order = draw(st.permutations(range(n)))[:rank]
    eye = linalg.exact(np.eye(n, dtype=int).tolist())
    return DiagonalLayer(entries, roots, rank, eye[:, order] * entries[order], eye[order])


@dataclass(frozen=True, eq=False, repr=False)
class Layer(Pasteable):
    """A layer with any update and any second moment of its inputs, in float64, and a rival.

    Attributes:
        update: Δ, (in, out).
        moment: Σ.
        rank: r.
        rival: D of rank at most r.
    """

    update: np.ndarray
    moment: np.ndarray
    rank: int
    rival: np.ndarray
    note: str = ""
    kind = "linear layer"

    @property
    def plain(self) -> float:
        """The loss of the truncation of Δ."""
        u, s, vt = np.linalg.svd(self.update, full_matrices=False)
        cut = (u[:, : self.rank] * s[: self.rank]) @ vt[: self.rank]
        return whitened.layer_loss(cut, self.update, self.moment)

    @cached_property
    def _best(self) -> whitened.Whitened:
        return whitened.whitened_truncation(self.update, self.moment, self.rank)

    @property
    def reached(self) -> float:
        """The loss of the whitened truncation, measured."""
        return self._best.loss

    @cached_property
    def tail(self) -> float:
        """The tail of the singular values of the whitened update."""
        return self._best.tail

    @property
    def challenge(self) -> float:
        """The loss of the rival."""
        return whitened.layer_loss(self.rival, self.update, self.moment)

    @cached_property
    def scale(self) -> float:
        """The root of Σ cancels directions that differ by up to its condition number."""
        return float((self.update**2).sum() * np.linalg.norm(self.moment, 2))

    @property
    def operations(self) -> int:
        """Of two decompositions; a root of a rounded eigenvalue is off by the root of its error."""
        return 10**4 * max(self.update.shape)


@st.composite
def layers(draw: st.DrawFn) -> Layer:
    """Inputs of unequal sizes; the rival is fitted by alternating least squares from a random start."""
    m, n = draw(st.integers(2, 6)), draw(st.integers(2, 6))
    rank = draw(st.integers(1, min(m, n)))
    rng = np.random.default_rng(draw(st.integers(0, 2**16)))
    update = rng.normal(size=(m, n))
    x = rng.normal(size=(4 * m, m)) * np.logspace(0, -draw(st.integers(0, 2)), m)
    moment = x.T @ x / len(x)
    return Layer(update, moment, rank, fitted(update, moment, rank, rng))


def fitted(update: np.ndarray, moment: np.ndarray, rank: int, rng: np.random.Generator) -> np.ndarray:
    """A rival by alternating weighted least squares, which shares nothing with the closed form."""
    B = rng.normal(size=(len(update), rank))
    for _ in range(5):
        A = np.linalg.lstsq(B.T @ moment @ B, B.T @ moment @ update, rcond=None)[0]
        B = np.linalg.lstsq(A @ A.T, A @ update.T, rcond=None)[0].T
    return B @ A


@dataclass(frozen=True, eq=False, repr=False)
class Trained(Pasteable):
    """The truncation of a full update, and the update that a method of this rank trained, in one layer."""

    full: np.ndarray
    trained: np.ndarray
    rank: int
    note: str = ""
    kind = "trained network"

    @property
    def plain(self) -> float:
        """Squared distance of the truncation, by the singular values."""
        return spectrum(self.full).tail(self.rank)

    @property
    def challenge(self) -> float:
        """Squared distance of what was trained."""
        return float(((self.full - self.trained) ** 2).sum())

    @property
    def scale(self) -> float:
        """Rounding is relative to the matrices."""
        return float((self.full**2).sum())

    @property
    def operations(self) -> int:
        """Of a decomposition."""
        return 64 * max(self.full.shape)


@dataclass(frozen=True, eq=False, repr=False)
class TwoMethods(Pasteable):
    """Two methods on one layer: a diagonal update, and LoRA of rank 1.

    Attributes:
        diagonal: the entries of the first update.
        column: b of the second, b aᵀ.
        row: its a.
    """

    diagonal: np.ndarray
    column: np.ndarray
    row: np.ndarray
    kind = "diagonal update and LoRA"

    @property
    def counts(self) -> tuple[int, int]:
        """Parameters of the diagonal and of the factors."""
        return len(self.diagonal), len(self.column) + len(self.row)

    @property
    def ranks(self) -> tuple[int, int]:
        """Ranks of the two updates, by counting entries and products that are not zero."""
        return sum(entry != 0 for entry in self.diagonal), int(any(self.column) and any(self.row))


@st.composite
def two_methods(draw: st.DrawFn, *, least: int = 2) -> TwoMethods:
    """Sides up to 6."""
    n = draw(st.integers(least, 6))
    entry = st.integers(1, 3)
    return TwoMethods(*(linalg.exact(draw(st.lists(entry, min_size=n, max_size=n))) for _ in range(3)))
