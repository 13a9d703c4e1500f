"""Matrices in balls of limited rank against a given one, and against random signs."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np
from hypothesis import strategies as st

from ... import linalg
from ...pasteable import Pasteable
from ...rademacher import Ball, enumerated, lower_bound, upper_bound


@dataclass(frozen=True, eq=False, repr=False)
class DiagonalAlignment(Pasteable):
    """⟨D, Z⟩ for diagonal matrices, exact: D is an element of the ball given by its entries.

    Attributes:
        z: the entries of Z, descending, at least 0.
        ball: the class.
        d: the entries of D.
    """

    z: np.ndarray
    ball: Ball
    d: np.ndarray
    kind = "diagonal matrices"

    @property
    def alignment(self) -> Any:
        """⟨D, Z⟩."""
        return (self.d * self.z).sum()

    @property
    def supremum(self) -> Any:
        """The closed form."""
        return self.ball.of_values(self.z)

    @property
    def short(self) -> Any:
        """The closed form for one rank less."""
        rank = len(self.z) if self.ball.rank is None else self.ball.rank
        return replace(self.ball, rank=rank - 1).of_values(self.z) if rank > 1 else 0 * self.z[0]

    @property
    def attained(self) -> Any:
        """⟨D, Z⟩ for the stated maximiser: Z itself, scaled, or ones, on the entries that are kept."""
        kept = self.z[: 1 if self.ball.norm == "nuclear" else self.ball.rank]
        if self.ball.norm != "frobenius":
            return self.ball.radius * kept.sum()
        return self.ball.radius * (kept * kept).sum() / linalg.square_root((kept * kept).sum())


@dataclass(frozen=True, eq=False, repr=False)
class Alignment(Pasteable):
    """⟨D, Z⟩ for an attack D on the boundary of the ball, in float64."""

    z: np.ndarray
    ball: Ball
    d: np.ndarray
    note: str = ""
    kind = "matrices"
    operations = 2**12

    @property
    def alignment(self) -> float:
        """⟨D, Z⟩."""
        return float((self.d * self.z).sum())

    @property
    def supremum(self) -> float:
        """The closed form."""
        return float(self.ball.supremum(self.z))

    @property
    def short(self) -> float:
        """The closed form for one rank less."""
        rank = self.ball.limit(self.z.shape)
        return float(replace(self.ball, rank=rank - 1).supremum(self.z)) if rank > 1 else 0.0

    @property
    def attained(self) -> float:
        """⟨D, Z⟩ for the stated maximiser."""
        return float((self.ball.maximiser(self.z) * self.z).sum())

    @property
    def scale(self) -> float:
        """Sums of this size are rounded."""
        return float(self.ball.radius) * float(np.linalg.norm(self.z)) * max(self.z.shape)


@st.composite
def alignments(draw: st.DrawFn) -> Alignment:
    """Gaussian Z; D is random, or the maximiser moved a little within the ball."""
    m, n = draw(st.integers(1, 5)), draw(st.integers(1, 5))
    rng = np.random.default_rng(draw(st.integers(0, 2**16)))
    z = rng.normal(size=(m, n))
    norm = draw(st.sampled_from(("frobenius", "spectral", "nuclear")))
    ball = Ball(norm, float(draw(st.integers(1, 3))), draw(st.integers(1, min(m, n))))
    d = ball.draw(rng, (m, n))
    if draw(st.booleans()):
        d = nearly_best(ball, z, rng, draw(st.sampled_from((0.0, 1e-3, 0.1))))
    return Alignment(z, ball, d)


def nearly_best(ball: Ball, z: np.ndarray, rng: np.random.Generator, step: float) -> np.ndarray:
    """The maximiser of a matrix near Z: an element of the ball that is almost best for Z itself."""
    return ball.maximiser(z + step * rng.normal(size=z.shape))


@dataclass(frozen=True, eq=False, repr=False)
class Signs(Pasteable):
    """Inputs of a layer, its outputs and a ball: the complexity is the mean over all sign matrices.

    Attributes:
        x: inputs, shape (N, n), float64.
        outputs: m.
        ball: the class.
    """

    x: np.ndarray
    outputs: int
    ball: Ball
    kind = "inputs and all signs"
    operations = 2**14

    @cached_property
    def complexity(self) -> float:
        """The complexity."""
        return enumerated(self.x, self.outputs, self.ball)

    @property
    def low(self) -> float:
        """The lower bound."""
        return float(lower_bound(self.x, self.outputs, self.ball))

    @property
    def high(self) -> float:
        """The upper bound."""
        return float(upper_bound(self.x, self.outputs, self.ball))

    @property
    def printed(self) -> float:
        """B max‖x‖ √(r / N): the printed rate, which knows neither m nor n."""
        largest = float(np.linalg.norm(self.x, axis=1).max())
        rank = self.ball.limit((self.outputs, self.x.shape[1]))
        return float(self.ball.radius) * largest * float(np.sqrt(rank / len(self.x)))

    @property
    def scale(self) -> float:
        """The terms of the bounds."""
        return float(self.ball.radius) * self.outputs * float(np.linalg.norm(self.x))


@st.composite
def signs(draw: st.DrawFn) -> Signs:
    """At most 8 signs: inputs that are equal, orthogonal, zero or any small integers."""
    N, m, n = draw(st.sampled_from(((1, 2, 2), (2, 2, 2), (2, 3, 2), (4, 2, 3), (2, 4, 1), (8, 1, 2))))
    x = np.array([[draw(st.integers(-2, 2)) for _ in range(n)] for _ in range(N)], float)
    norm = draw(st.sampled_from(("frobenius", "spectral", "nuclear")))
    return Signs(x, m, Ball(norm, 1.0, draw(st.integers(1, 3))))
