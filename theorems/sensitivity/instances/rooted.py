r"""Tilted quadratics whose $H^{1/2}$ is rational, for the substitution $y = H^{1/2}x$ of the proof."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from hypothesis import strategies as st

from ... import linalg, rational
from .. import differences
from .tilted import Tilted
from .tilts import small


@dataclass(frozen=True, eq=False, repr=False)
class Rooted(Tilted):
    r"""A tilted quadratic with $H = S^2$, exact, and the form $F(y) = g^T H^{1/2} y - \frac12 y^T H^{-2} y$.

    Attributes:
        root: S, symmetric and positive definite, shape (d, d).
    """

    kind: str = "H = S²"
    root: np.ndarray | None = None

    @property
    def peak(self) -> np.ndarray:
        """y* = H^(5/2) g, by the formula."""
        return self.root @ self.times(self.times(self.gradient))

    def form(self, y: np.ndarray) -> Any:
        """F(y)."""
        return self.gradient @ (self.root @ y) - y @ self.solved(self.solved(y)) / 2

    @property
    def peak_slopes(self) -> np.ndarray:
        """The derivative of F at y*, measured by differences."""
        return differences.gradient(self.form, self.peak)

    @property
    def short_of_peak(self) -> np.ndarray:
        """The same at H^(3/2) g."""
        return differences.gradient(self.form, self.root @ self.times(self.gradient))

    @property
    def peak_linear(self) -> Any:
        """gᵀ H^(1/2) y*."""
        return self.gradient @ (self.root @ self.peak)

    @property
    def peak_square(self) -> Any:
        """y*ᵀ H⁻² y*."""
        y = self.solved(self.peak)
        return y @ y

    @property
    def ends(self) -> tuple[np.ndarray, np.ndarray]:
        """Two points of the substitution: y = H^(1/2) ε_⊥, and y*."""
        return self.root @ self.orthogonal, self.peak

    @property
    def middle_value(self) -> Any:
        """F half-way between them."""
        first, second = self.ends
        return self.form((first + second) / 2)

    @property
    def mean_value(self) -> Any:
        """Half the sum of F at both."""
        first, second = self.ends
        return (self.form(first) + self.form(second)) / 2


def rooted(made: Tilted) -> Rooted:
    """The same gradient, disturbance and directions, with H for S and H² for H."""
    S = made.hessian
    return Rooted(S @ S, made.directions, made.gradient, made.disturbance, root=S)


def plane(root: int, gradient: int, disturbance: int) -> Rooted:
    """The smallest room for ε_⊥: two parameters, P = e₁, H = S² = s² I, with g and ε multiples of e₂."""
    S, e = root * rational.identity(2), linalg.exact([0, 1])
    return Rooted(S @ S, linalg.exact([[1], [0]]), gradient * e, disturbance * e, root=S)


def rooteds() -> st.SearchStrategy[Rooted]:
    """Those of small exact tilted quadratics with room outside the range of P."""
    return small(least=2).map(rooted)
