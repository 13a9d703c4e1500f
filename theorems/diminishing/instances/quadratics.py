"""Losses around an update ΔW* whose constants are known exactly, and updates of smaller rank."""

from __future__ import annotations

from dataclasses import dataclass, replace
from fractions import Fraction
from functools import cached_property
from itertools import pairwise
from typing import Any

import numpy as np
from hypothesis import strategies as st

from ... import linalg
from ...pasteable import Pasteable
from ..spectrum import spectrum
from .spectra import Truncated, updates


@dataclass(frozen=True, eq=False, repr=False)
class Quadratic(Pasteable):
    r"""$L(D) = \langle G, D - \Delta\rangle + \frac12 \sum_{ij} w_{ij} (D - \Delta)_{ij}^2$, exact.

    Its Hessian is the diagonal of the weights, its gradient at Δ is G, and $L(\Delta) = 0$.

    Attributes:
        update: Δ, with its truncation of rank r, and ε.
        weights: w > 0, of the shape of Δ.
        slope: G; zero if None.
        lipschitz: the constant that is claimed; None takes the largest gradient norm on the segment.
        rival: an update D of rank at most r to compare with; the truncation if None.
    """

    update: Truncated
    weights: np.ndarray
    slope: np.ndarray | None = None
    lipschitz: Fraction | None = None
    rival: np.ndarray | None = None
    kind = "quadratic loss"

    @cached_property
    def gap(self) -> np.ndarray:
        """D − Δ, for the truncation."""
        return self.update.partial(self.update.rank) - self.update.matrix

    def loss(self, gap: np.ndarray) -> Fraction:
        """L at Δ + gap."""
        first = 0 if self.slope is None else (self.slope * gap).sum()
        return first + (self.weights * gap * gap).sum() / 2

    def gradient(self, gap: np.ndarray) -> np.ndarray:
        """The gradient at Δ + gap."""
        return self.weights * gap + (0 if self.slope is None else self.slope)

    @property
    def reached(self) -> Fraction:
        """The loss of the truncation; L(Δ) = 0."""
        return self.loss(self.gap)

    optimum = Fraction(0)

    @property
    def of_rival(self) -> Fraction:
        """The loss of an update of rank at most r."""
        return self.reached if self.rival is None else self.loss(self.rival - self.update.matrix)

    @property
    def change(self) -> Fraction:
        """|L(Δ_r) − L(Δ)|."""
        return abs(self.reached)

    @property
    def tail(self) -> Fraction:
        """The squared distance, by the singular values."""
        return self.update.tail

    @property
    def distance(self) -> Any:
        """‖Δ − Δ_r‖_F, measured."""
        return size(self.gap)

    @property
    def eps(self) -> Fraction:
        """ε."""
        return self.update.eps

    @property
    def steepest(self) -> Any:
        """The largest gradient norm on the segment: it is convex there, so it is one of the two ends."""
        ends = [size(self.gradient(gap)) for gap in (self.gap, 0 * self.gap)]
        return ends[0] if linalg.sign(ends[0] - ends[1]) >= 0 else ends[1]

    @property
    def constant(self) -> Any:
        """The Lipschitz constant that is claimed."""
        return self.steepest if self.lipschitz is None else self.lipschitz

    @property
    def at_optimum(self) -> Any:
        """‖∇L(Δ)‖_F."""
        return size(self.gradient(0 * self.gap))

    @property
    def beta(self) -> Fraction:
        """The largest curvature."""
        return max(self.weights.ravel())

    @property
    def mu(self) -> Fraction:
        """The smallest curvature."""
        return min(self.weights.ravel())


def size(matrix: np.ndarray) -> Any:
    """The Frobenius norm, exact."""
    return linalg.square_root((matrix * matrix).sum())


def square(lipschitz: int) -> Quadratic:
    """l(w) = w² between w = 0 and w = L + 1, and a constant L that was claimed for all of ℝ."""
    one = Truncated(linalg.exact([lipschitz + 1]), 0, Fraction((lipschitz + 1) ** 2 + 1))
    return Quadratic(one, linalg.exact([[2]]), lipschitz=Fraction(lipschitz))


@st.composite
def quadratics(
    draw: st.DrawFn, *, stationary: bool = False, isotropic: bool = False, rival: bool = False
) -> Quadratic:
    """Weights 1 … 5, with slopes unless stationary; rivals are products of small integer factors."""
    update = draw(updates())
    m, n = update.matrix.shape
    weights, slopes = st.integers(1, 1 if isotropic else 5), st.integers(-3, 3)

    def matrix(entry: st.SearchStrategy[int], rows: int, columns: int) -> np.ndarray:
        return linalg.exact([[draw(entry) for _ in range(columns)] for _ in range(rows)])

    made = Quadratic(update, matrix(weights, m, n) * draw(st.integers(1, 3)))
    if not stationary:
        made = replace(made, slope=matrix(slopes, m, n))
    if rival and update.rank and draw(st.booleans()):
        entry = st.integers(-2, 2)
        product = matrix(entry, m, update.rank) @ matrix(entry, update.rank, n)
        made = replace(made, rival=update.partial(update.rank) + product if rank_free(update) else product)
    return made


def rank_free(update: Truncated) -> bool:
    """Whether any matrix of this shape has rank at most r."""
    return update.rank >= min(update.matrix.shape)


@dataclass(frozen=True, eq=False, repr=False)
class Separable(Pasteable):
    r"""$L(D) = \frac12\,\mathrm{tr}((D-\Delta)^T M (D-\Delta) S)$ in float64, for which V(r) is known.

    Attributes:
        update: Δ.
        left: M.
        right: S.
        rank: r.
    """

    update: np.ndarray
    left: np.ndarray
    right: np.ndarray
    rank: int
    kind = "separable quadratic loss"
    optimum = at_optimum = 0.0

    def loss(self, change: np.ndarray) -> float:
        """L(D), by its definition."""
        gap = change - self.update
        return float(np.trace(gap.T @ self.left @ gap @ self.right)) / 2

    @property
    def reached(self) -> float:
        """The loss of the truncation, measured."""
        u, s, vt = np.linalg.svd(self.update, full_matrices=False)
        return self.loss((u[:, : self.rank] * s[: self.rank]) @ vt[: self.rank])

    @property
    def of_rival(self) -> float:
        """V(r): half the tail of M^(1/2) Δ S^(1/2), for which any roots will do."""
        left, right = np.linalg.cholesky(self.left), np.linalg.cholesky(self.right)
        return spectrum(left.T @ self.update @ right).tail(self.rank) / 2

    @property
    def tail(self) -> float:
        """The squared distance, by the singular values."""
        return spectrum(self.update).tail(self.rank)

    @cached_property
    def beta(self) -> float:
        """The largest curvature, that of S ⊗ M."""
        return float(np.linalg.eigvalsh(self.left)[-1] * np.linalg.eigvalsh(self.right)[-1])

    @cached_property
    def mu(self) -> float:
        """The smallest curvature."""
        return float(np.linalg.eigvalsh(self.left)[0] * np.linalg.eigvalsh(self.right)[0])

    @property
    def scale(self) -> float:
        """Decompositions are rounded relative to the whole."""
        return self.beta * float((self.update**2).sum())

    @property
    def operations(self) -> int:
        """Of four decompositions."""
        return 512 * max(self.update.shape)


@st.composite
def separables(draw: st.DrawFn) -> Separable:
    """Gaussian updates, and M and S with eigenvalues from 1 to 1, 3 or 10."""
    m, n = draw(st.integers(1, 5)), draw(st.integers(1, 5))
    rng, rank = np.random.default_rng(draw(st.integers(0, 2**16))), draw(st.integers(0, min(m, n)))
    spread = draw(st.sampled_from((1.0, 3.0, 10.0)))

    def definite(side: int) -> np.ndarray:
        q, _ = np.linalg.qr(rng.normal(size=(side, side)))
        made = (q * np.geomspace(1, spread, side)) @ q.T
        return (made + made.T) / 2

    return Separable(rng.normal(size=(m, n)), definite(m), definite(n), rank)


@st.composite
def claimed_constants(draw: st.DrawFn) -> Quadratic:
    """Quadratics with a Lipschitz constant that need not hold on the segment."""
    return replace(draw(quadratics()), lipschitz=Fraction(draw(st.integers(0, 9) | st.integers(10, 60))))


@dataclass(frozen=True, eq=False, repr=False)
class Distance(Pasteable):
    r"""$L(D) = c\,\|D - \Delta\|_F$: for it V(r) is known, and c is its Lipschitz constant everywhere.

    Attributes:
        update: Δ, r and ε.
        factor: c.
        larger: a second rank, at least r.
        samples: N of the printed √(r/N).
    """

    update: Truncated
    factor: Fraction = Fraction(1)
    larger: int = 0
    samples: int = 100
    kind = "distance loss"
    optimum = Fraction(0)

    @property
    def reached(self) -> Any:
        """The loss of the truncation, measured."""
        return self.factor * linalg.square_root(self.update.squared_distance)

    def best(self, rank: int) -> Any:
        """V(r): by Eckart and Young the truncation is best."""
        return self.factor * linalg.square_root(replace(self.update, rank=rank).tail)

    @property
    def here(self) -> Any:
        """V(r)."""
        return self.best(self.update.rank)

    @property
    def there(self) -> Any:
        """V at the larger rank."""
        return self.best(self.larger)

    @property
    def change(self) -> Any:
        """L(Δ_r) − L(Δ)."""
        return self.reached

    @property
    def tail(self) -> Fraction:
        """The squared distance, by the singular values."""
        return self.update.tail

    @property
    def printed_tail(self) -> Fraction:
        """The sum of (34) as printed."""
        return self.update.printed_tail

    @property
    def distance(self) -> Any:
        """‖Δ − Δ_r‖_F, measured."""
        return linalg.square_root(self.update.squared_distance)

    @property
    def eps(self) -> Fraction:
        """ε."""
        return self.update.eps

    @property
    def steepest(self) -> Fraction:
        """The gradient norm, c wherever there is a gradient."""
        return self.factor

    @property
    def constant(self) -> Fraction:
        """The Lipschitz constant."""
        return self.factor

    def bound(self, rank: int) -> Any:
        """The printed bound, L√ε + √(r/N) above the optimum."""
        root = linalg.square_root
        return self.factor * root(self.eps) + root(Fraction(rank, self.samples))

    @property
    def losses(self) -> tuple[Any, Any]:
        """The losses at r and at the larger rank."""
        return self.here, self.there

    @property
    def bounds(self) -> tuple[Any, Any]:
        """The printed bounds there."""
        return self.bound(self.update.rank), self.bound(self.larger)


@st.composite
def distances(draw: st.DrawFn, *, any_rank: bool = False) -> Distance:
    """Distance losses at the critical rank, or anywhere; the second rank is not smaller."""
    update = draw(updates())
    rank = update.rank if any_rank else update.critical
    larger = draw(st.integers(rank, update.whole_rank))
    return Distance(replace(update, rank=rank), Fraction(draw(st.integers(1, 3))), larger)


@dataclass(frozen=True, eq=False, repr=False)
class Gains(Pasteable):
    r"""What each further rank gains for $L(D) = \frac12 \|D - \Delta\|_F^2$."""

    update: Truncated
    kind = "squared distance"

    @cached_property
    def gains(self) -> np.ndarray:
        """V(r) − V(r + 1), measured on the matrices."""
        V = [replace(self.update, rank=r).squared_distance / 2 for r in range(self.update.whole_rank + 1)]
        return np.array([before - after for before, after in pairwise(V)], dtype=object)

    @property
    def halves(self) -> np.ndarray:
        """σ²_{r+1} / 2."""
        return self.update.values**2 / 2


def gains() -> st.SearchStrategy[Gains]:
    """Those of small updates."""
    return updates().map(Gains)
