r"""Convex losses after a disturbance, and sets of updates of which the nearest and the best are known.

$L'$ is quadratic, $\frac12(\theta-m)^TA(\theta-m)$ with θ relative to θ₀; the image of g is a union of affine
pieces: one subspace for a linear map, all coordinate planes for a sparse update with a learned mask, points
for a curve that is looked at in finitely many places.
"""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction
from functools import cached_property
from itertools import combinations
from typing import Any

import numpy as np
from hypothesis import strategies as st

from ... import linalg, rational
from ...pasteable import Pasteable
from .either import lowest

Piece = tuple[np.ndarray, np.ndarray]
"""A point, shape (d,), and directions through it, shape (d, j)."""


@dataclass(frozen=True, eq=False, repr=False)
class Convex(Pasteable):
    r"""A quadratic loss and the image of a map g, exact.

    Attributes:
        values: eigenvalues of A, positive.
        turn: v; A is their diagonal, reflected along v; not reflected if v = 0.
        centre: m, where the loss is least, relative to θ₀.
        pieces: points and directions whose union is Im g.
        clean: where the undisturbed loss, with the same A, is least; m if None.
    """

    values: np.ndarray
    turn: np.ndarray
    centre: np.ndarray
    pieces: tuple[Piece, ...]
    clean: np.ndarray | None = None
    kind: str = "quadratic loss"

    @cached_property
    def hessian(self) -> np.ndarray:
        """A."""
        Q = rational.reflection(self.turn) if self.turn.any() else rational.identity(len(self.turn))
        return (Q * self.values) @ Q

    def _least(self, centre: np.ndarray, pieces: tuple[Piece, ...], A: np.ndarray) -> Any:
        """Least value of ½(x − centre)ᵀA(x − centre) on the pieces, each by completing squares."""
        found = []
        for point, P in pieces:
            away = point - centre
            step = P @ lowest(P.T @ A @ P, P.T @ (A @ away)) + away
            found.append(step @ A @ step / 2)
        return min(found)

    @cached_property
    def reached(self) -> Any:
        """The infimum of L' over θ₀ + Im g."""
        return self._least(self.centre, self.pieces, self.hessian)

    @cached_property
    def optimum(self) -> Any:
        """The minimum of L', found in the same way on the whole space."""
        d = len(self.centre)
        return self._least(self.centre, ((0 * self.centre, rational.identity(d)),), self.hessian)

    @cached_property
    def squared_distance(self) -> Any:
        """Of θ'_F − θ₀ from Im g."""
        return 2 * self._least(self.centre, self.pieces, rational.identity(len(self.centre)))

    @property
    def mu(self) -> Any:
        """The least curvature."""
        return min(self.values)

    @property
    def beta(self) -> Any:
        """The largest curvature."""
        return max(self.values)

    @property
    def rises(self) -> tuple[Any, Any]:
        """The rise over the own undisturbed optimum, of PEFT and of full fine-tuning."""
        clean = self.centre if self.clean is None else self.clean
        return self.reached - self._least(clean, self.pieces, self.hessian), self.optimum


def sparse(d: int, entries: int) -> tuple[Piece, ...]:
    """Updates with so many entries, wherever they are: a learned mask."""
    one = rational.identity(d)
    return tuple((0 * one[0], one[:, list(chosen)]) for chosen in combinations(range(d), entries))


def parabola(d: int) -> tuple[Piece, ...]:
    """The curve φ ↦ (φ, φ², φ, φ², …) at some places."""
    places = [Fraction(i, 2) for i in range(-4, 5)]
    return tuple(
        (np.array([phi ** (1 + i % 2) for i in range(d)], dtype=object), linalg.exact([[]] * d).reshape(d, 0))
        for phi in places
    )


@st.composite
def convexes(draw: st.DrawFn) -> Convex:
    """Two or three parameters; a linear map, a learned mask or a curve; eigenvalues 1 … 9."""
    d, kind = draw(st.integers(2, 3)), draw(st.sampled_from(("linear map", "learned mask", "curve")))

    def vector(low: int, high: int) -> np.ndarray:
        return linalg.exact([draw(st.integers(low, high)) for _ in range(d)])

    pieces = {
        "linear map": lambda: ((0 * vector(0, 1), np.array([vector(-2, 2) for _ in range(d - 1)]).T),),
        "learned mask": lambda: sparse(d, 1),
        "curve": lambda: parabola(d),
    }[kind]()
    values = vector(1, 9)
    return Convex(values, vector(-1, 1), vector(-3, 3), pieces, vector(-3, 3), kind)
