r"""Families of functions so small that it is known what freezing loses, and what it does not."""

from __future__ import annotations

import math
from dataclasses import dataclass
from fractions import Fraction

import numpy as np
import sympy
from hypothesis import strategies as st

from .. import linalg
from ..pasteable import Pasteable
from .outside import relu

TARGETS = (-2, -1, 0, 1, 2)


@dataclass(frozen=True, repr=False)
class ProductNetwork(Pasteable):
    r"""The linear network $f(x) = w_N \cdots w_1 x$ of which only some factors are trained.

    Full fine-tuning reaches c x for every c.  So does training one factor, unless the frozen ones
    multiply to 0.

    Attributes:
        base: θ₀.
        trained: which factors are trained, numbered from 0.
    """

    base: tuple[int, ...]
    trained: tuple[int, ...]
    kind: str = "product of scalars"

    @property
    def k(self) -> int:
        """Trained parameters."""
        return len(self.trained)

    @property
    def d(self) -> int:
        """All parameters."""
        return len(self.base)

    @property
    def missed(self) -> Fraction:
        """The largest |c − f(1)| over the targets, with f the best tuned function for each."""
        frozen = math.prod(w for i, w in enumerate(self.base) if i not in self.trained)
        missed = []
        for c in TARGETS:
            factors = [Fraction(1 if i in self.trained else w) for i, w in enumerate(self.base)]
            if frozen != 0:
                factors[self.trained[0]] = Fraction(c, frozen)
            missed.append(abs(c - math.prod(factors)))
        return max(missed)


@st.composite
def products(draw: st.DrawFn) -> ProductNetwork:
    """Two to four factors, zeros among them; at least one is trained and one is not."""
    base = draw(st.lists(st.integers(-2, 2), min_size=2, max_size=4))
    trained = draw(st.sets(st.integers(0, len(base) - 1), min_size=1, max_size=len(base) - 1))
    return ProductNetwork(tuple(base), tuple(sorted(trained)))


@dataclass(frozen=True, repr=False)
class ReluNeuron(Pasteable):
    r"""A neuron $f(x) = w_2\,\mathrm{relu}(w_1 x + b)$ and two ways to give up one of its three parameters.

    The target has $(w_1, b) = \rho\,(u, v)$ with $(u, v) = ((1-s^2), 2s) / (1+s^2)$ on the unit circle.

    Attributes:
        w2: of the target.
        rho: ρ > 0 of the target.
        s: the rational number that gives the direction.
        normalised: whether the two parameters are (w₂, angle), with (w₁, b) on the unit circle; otherwise
            w₂ = 1 is frozen and (w₁, b) are trained.
    """

    w2: int
    rho: int
    s: Fraction
    normalised: bool = True
    kind: str = "ReLU neuron"
    k: int = 2
    d: int = 3

    @property
    def direction(self) -> tuple[Fraction, Fraction]:
        """The rational point (u, v) of the unit circle."""
        square = self.s * self.s
        return (1 - square) / (1 + square), 2 * self.s / (1 + square)

    @property
    def missed(self) -> Fraction:
        """The largest |target − tuned| over the inputs −3, …, 3, for the natural two parameters."""
        u, v = self.direction
        if self.normalised:
            scale, pre = self.w2 * self.rho, (1, 1)
        else:  # w₂ = 1: a negative w₂ cannot be moved inside, the best constant multiple is 0
            scale, pre = 1, (max(self.w2, 0) * self.rho,) * 2

        def tuned(x: int) -> Fraction:
            return scale * relu(pre[0] * u * x + pre[1] * v)

        def target(x: int) -> Fraction:
            return self.w2 * relu(self.rho * u * x + self.rho * v)

        return max(abs(target(x) - tuned(x)) for x in range(-3, 4))


@st.composite
def neurons(draw: st.DrawFn, *, normalised: bool = True) -> ReluNeuron:
    """Targets with small weights and directions of all quadrants."""
    s = Fraction(draw(st.integers(-4, 4)), draw(st.integers(1, 3)))
    return ReluNeuron(draw(st.integers(-3, 3)), draw(st.integers(1, 3)), s, normalised)


@dataclass(frozen=True, repr=False)
class LinearModel(Pasteable):
    r"""The model f(x) = W x on p inputs, its update restricted to the span of k given matrices.

    Attributes:
        inputs: X of shape (n, p), exact.
        basis: k matrices of shape (m, n), exact.
    """

    inputs: np.ndarray
    basis: tuple[np.ndarray, ...]
    kind: str = "linear model"

    @property
    def k(self) -> int:
        """How many matrices the update may combine."""
        return len(self.basis)

    @property
    def rho(self) -> int:
        """The functional dimension ρ_S = m · rank X."""
        return len(self.basis[0]) * int(sympy.Matrix(self.inputs.tolist()).rank())

    @property
    def missed(self) -> Fraction:
        """The largest squared distance of E X from the span of the G X, over the matrix units E."""
        span = _orthogonalised([(G @ self.inputs).ravel() for G in self.basis])
        m, n = self.basis[0].shape
        missed = []
        for i, j in np.ndindex(m, n):
            unit = linalg.exact(np.zeros((m, n), int).tolist())
            unit[i, j] = Fraction(1)
            rest = _remove((unit @ self.inputs).ravel(), span)
            missed.append(rest @ rest)
        return max(missed)


def _orthogonalised(vectors: list[np.ndarray]) -> list[np.ndarray]:
    """Gram and Schmidt without norms, so that fractions stay fractions; dependent vectors drop out."""
    span: list[np.ndarray] = []
    for vector in vectors:
        rest = _remove(vector, span)
        if any(rest):
            span.append(rest)
    return span


def _remove(vector: np.ndarray, span: list[np.ndarray]) -> np.ndarray:
    for direction in span:
        vector = vector - (vector @ direction) / (direction @ direction) * direction
    return vector


@st.composite
def linear_models(draw: st.DrawFn) -> LinearModel:
    """Up to three inputs and outputs, and up to as many matrices as there are entries."""
    m, n, p = (draw(st.integers(1, 3)) for _ in range(3))
    entry = st.integers(-2, 2)

    def matrix(rows: int, columns: int) -> np.ndarray:
        return linalg.exact([[draw(entry) for _ in range(columns)] for _ in range(rows)])

    k = draw(st.integers(1, max(1, m * min(n, p) - 1)))
    return LinearModel(matrix(n, p), tuple(matrix(m, n) for _ in range(k)))


@dataclass(frozen=True, repr=False)
class LeastSquares(Pasteable):
    r"""The functional $J(w) = \|A w - y\|^2$, and its minima over all w and over some coordinates of w.

    Attributes:
        design: A of shape (p, d), exact.
        y: shape (p,), exact.
        trained: the coordinates that the smaller family may move; the others stay 0.
        added: a column for the smaller family alone, which takes it out of the larger one; or None.
    """

    design: np.ndarray
    y: np.ndarray
    trained: tuple[int, ...]
    added: np.ndarray | None = None
    kind: str = "least squares"

    @property
    def full(self) -> Fraction:
        """Min J over all w."""
        return _residual(self.y, [self.design[:, j] for j in range(self.design.shape[1])])

    @property
    def peft(self) -> Fraction:
        """Min J over the trained coordinates, with the added column if there is one."""
        columns = [self.design[:, j] for j in self.trained]
        return _residual(self.y, columns if self.added is None else [*columns, self.added])


def _residual(y: np.ndarray, columns: list[np.ndarray]) -> Fraction:
    rest = _remove(y, _orthogonalised(columns))
    return rest @ rest


@st.composite
def least_squares(draw: st.DrawFn, *, outside: bool = False) -> LeastSquares:
    """Up to four examples and three coordinates; with `outside` a column for the smaller family alone."""
    p, d = draw(st.integers(1, 4)), draw(st.integers(1, 3))
    entry = st.integers(-2, 2)
    design = linalg.exact([[draw(entry) for _ in range(d)] for _ in range(p)])
    trained = draw(st.sets(st.integers(0, d - 1)))
    y, added = (linalg.exact([draw(entry) for _ in range(p)]) for _ in range(2))
    return LeastSquares(design, y, tuple(sorted(trained)), added if outside else None)
