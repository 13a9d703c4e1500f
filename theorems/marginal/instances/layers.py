r"""Layers of limited rank: suprema by search and in closed form, averaged over all signs; and ratios."""

from __future__ import annotations

import functools
import itertools
from dataclasses import dataclass, replace
from fractions import Fraction
from functools import cached_property
from typing import Any

import numpy as np
from hypothesis import strategies as st

from ... import linalg
from ...pasteable import Pasteable
from ...rademacher import Ball, enumerated, lower_bound, ratio_bounds, upper_bound
from .kernels import ENTRY

_TURNS = 32


def sign_matrices(rows: int, outputs: int) -> np.ndarray:
    """All with 1 in the last place, shape (count, rows, outputs): −S gives what S gives."""
    codes = np.arange(2 ** (rows * outputs - 1))[:, None]
    return (1 - 2 * ((codes >> np.arange(rows * outputs)) & 1)).reshape(-1, rows, outputs)


@dataclass(frozen=True, eq=False, repr=False)
class RankedSigns(Pasteable):
    r"""Matrices D of a ball of limited rank against all signs, $Z = S^TX/N$; float64.

    Attributes:
        x: inputs, shape (N, n).
        outputs: m.
        ball: the class.
        seed: of the search's starts.
    """

    x: np.ndarray
    outputs: int
    ball: Ball
    seed: int = 0
    kind = "layer of limited rank"
    operations = 2**14

    @cached_property
    def z(self) -> np.ndarray:
        """All Z."""
        signs = sign_matrices(len(self.x), self.outputs).astype(float)
        return np.swapaxes(signs, 1, 2) @ self.x / len(self.x)

    @cached_property
    def searched(self) -> float:
        r"""The mean of what a search over the factors of D = A C reaches, without any decomposition of Z.

        With orthonormal columns Q the best D in the range of Q is $QQ^TZ$ scaled, $\langle D,Z\rangle =
        \|Q^TZ\|$ in the norm dual to the ball's; then its row space is held fixed, and so on in turns.
        """
        rank = 1 if self.ball.norm == "nuclear" else self.ball.limit(self.z.shape[1:])
        rng = np.random.default_rng(self.seed)
        q = np.linalg.qr(rng.normal(size=(len(self.z), self.z.shape[2], rank)))[0]
        for _ in range(_TURNS):
            p = np.linalg.qr(self.z @ q)[0]
            q = np.linalg.qr(np.swapaxes(self.z, 1, 2) @ p)[0]
        inner = np.swapaxes(p, 1, 2) @ self.z @ q
        if self.ball.norm == "spectral":  # the inner matrix is nearly diagonal: signs and nothing else
            reached = np.abs(np.diagonal(inner, axis1=1, axis2=2)).sum(axis=1)
        else:
            reached = np.linalg.norm(inner, axis=(1, 2))
        return float(self.ball.radius) * float(reached.mean())

    @cached_property
    def closed(self) -> float:
        """The mean of the closed form."""
        return enumerated(self.x, self.outputs, self.ball)

    @cached_property
    def attained(self) -> float:
        """The mean of ⟨D, Z⟩ for the stated maximiser."""
        return float(np.mean([(self.ball.maximiser(z) * z).sum() for z in self.z]))

    @property
    def short(self) -> float:
        """The closed form for one rank less."""
        rank = self.ball.limit(self.z.shape[1:])
        return enumerated(self.x, self.outputs, replace(self.ball, rank=rank - 1)) if rank > 1 else 0.0

    @property
    def low(self) -> float:
        """The lower bound of the complexity."""
        return float(lower_bound(self.x, self.outputs, self.ball))

    @property
    def high(self) -> float:
        """The upper bound."""
        return float(upper_bound(self.x, self.outputs, self.ball))

    @cached_property
    def ratios(self) -> list[float]:
        """Lower bound of the ratio to full rank, the ratio, upper bound; for Frobenius balls."""
        if self.ball.norm != "frobenius" or not np.any(self.x):
            return []
        full = enumerated(self.x, self.outputs, replace(self.ball, rank=None))
        low, high = ratio_bounds(self.x, self.outputs, self.ball.limit(self.z.shape[1:]))
        return [float(low), self.closed / full, float(high), *self.shares(self.closed / full)]

    def shares(self, ratio: float) -> list[float]:
        r"""$\sqrt{k/2d}$, the ratio, and $\sqrt{2\pi k/d}$ for isotropic inputs; k = r(m + n), d = mn."""
        m, n, rank = self.outputs, self.x.shape[1], self.ball.limit(self.z.shape[1:])
        share = rank * (m + n) / (m * n)
        moment = self.x.T @ self.x
        isotropic = np.array_equal(moment, moment[0, 0] * np.eye(n))
        return [(share / 2) ** 0.5, ratio, (2 * np.pi * share) ** 0.5 if isotropic else 1.0]

    @property
    def narrow(self) -> float:
        r"""$\sqrt{\pi r}\,\|X\|_2/\|X\|_F$, without $1/\sqrt m$."""
        rank = self.ball.limit(self.z.shape[1:])
        return (np.pi * rank) ** 0.5 * float(linalg.spectral_norm(self.x)) / float(np.linalg.norm(self.x))

    @property
    def scale(self) -> float:
        """The terms of the bounds, and of a ratio."""
        return max(1.0, float(self.ball.radius) * self.outputs * float(np.linalg.norm(self.x)))


SHAPES = ((1, 2, 2), (2, 2, 2), (2, 3, 2), (4, 1, 4), (4, 2, 3), (2, 4, 1), (3, 2, 3))


@st.composite
def ranked(draw: st.DrawFn) -> RankedSigns:
    """At most 8 signs: unit vectors, inputs that are equal or zero, or any small integers."""
    N, m, n = draw(st.sampled_from(SHAPES))
    x = np.array([[draw(ENTRY) for _ in range(n)] for _ in range(N)], float)
    if draw(st.booleans()):
        x = np.eye(N, n) * draw(st.integers(1, 2))
    norm = draw(st.sampled_from(("frobenius", "spectral", "nuclear")))
    ball = Ball(norm, float(draw(st.integers(1, 2))), draw(st.integers(1, 3)))
    return RankedSigns(x, m, ball, draw(st.integers(0, 3)))


@dataclass(frozen=True, eq=False, repr=False)
class SquareSigns(Pasteable):
    r"""Two outputs, two inputs that are unit vectors, all 2 × 2 sign matrices; exact.

    A matrix with two equal rows up to sign has the singular values 2, 0, any other √2, √2.

    Attributes:
        ball: of Frobenius or nuclear norm; of rank 1 or 2.
    """

    ball: Ball
    kind = "2 × 2 signs"

    @property
    def z(self) -> list[np.ndarray]:
        """All Z = Sᵀ/2."""
        return [linalg.exact((s.T).tolist()) / 2 for s in sign_matrices(2, 2)]

    @property
    def searched(self) -> Any:
        """The mean of the best D on a list: products of unit vectors and signs, and Z itself, scaled."""
        return self.ball.radius * sum(map(self._best, self.z)) / len(self.z)

    def _best(self, z: np.ndarray) -> Any:
        vectors = [linalg.exact(v) for v in ((1, 0), (0, 1), (1, 1), (1, -1))]
        pairs = itertools.product(vectors, repeat=2)
        reached = [abs(u @ z @ v) / linalg.square_root((u @ u) * (v @ v)) for u, v in pairs]
        if self.ball.norm == "frobenius" and self.ball.rank != 1:
            reached.append(linalg.square_root((z * z).sum()))
        return functools.reduce(lambda best, one: one if linalg.sign(one - best) > 0 else best, reached)

    @property
    def closed(self) -> Any:
        """The mean of the closed form."""
        return self._closed(self.ball)

    attained = searched

    @property
    def short(self) -> Any:
        """The closed form for one rank less."""
        return self._closed(replace(self.ball, rank=self.ball.rank - 1)) if self.ball.rank > 1 else 0

    def _closed(self, ball: Ball) -> Any:
        half = linalg.square_root(Fraction(1, 2))
        values = [(1, 0) if z[0, 0] * z[1, 1] == z[0, 1] * z[1, 0] else (half, half) for z in self.z]
        return sum(ball.of_values(np.array(v, object)) for v in values) / len(values)
