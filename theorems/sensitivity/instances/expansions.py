"""Losses and their expansions to second order: quadratic ones, and one with a third order."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from hypothesis import strategies as st

from ... import linalg
from ...pasteable import Pasteable
from .. import differences
from ..fact import Fact


@dataclass(frozen=True, eq=False, repr=False)
class Expansion(Pasteable):
    r"""$L(\delta) = c^T\delta + \frac12\delta^T H \delta + \sum_i t_i \delta_i^3$ at δ, and a step D, exact.

    Attributes:
        hessian: H, shape (d, d).
        slope: c, shape (d,).
        point: δ, shape (d,).
        step: D, shape (d,).
        cubes: t, shape (d,); None for a quadratic loss.
    """

    hessian: np.ndarray
    slope: np.ndarray
    point: np.ndarray
    step: np.ndarray
    cubes: np.ndarray | None = None

    @property
    def kind(self) -> str:
        """Which loss."""
        return "cubic loss" if self.cubes is not None and self.cubes.any() else "quadratic loss"

    @property
    def quadraticity(self) -> Fact:
        """Whether the loss is quadratic."""
        return Fact(self.kind == "quadratic loss", self.kind)

    def loss(self, at: np.ndarray) -> Any:
        """L."""
        third = 0 if self.cubes is None else self.cubes @ at**3
        return self.slope @ at + at @ self.hessian @ at / 2 + third

    @property
    def change(self) -> Any:
        """L(δ + D) − L(δ), measured."""
        return self.loss(self.point + self.step) - self.loss(self.point)

    @cached_property
    def predicted(self) -> Any:
        """∇L(δ)ᵀD + ½ DᵀH(δ)D, with both derivatives taken of L at δ."""
        first = differences.gradient(self.loss, self.point)
        second = differences.hessian(self.loss, self.point)
        return first @ self.step + self.step @ second @ self.step / 2


def cube() -> Expansion:
    """L(δ) = δ³ at 0: its expansion is 0 everywhere."""
    zero = linalg.exact([0])
    return Expansion(linalg.exact([[0]]), zero, zero, linalg.exact([1]), linalg.exact([1]))


@st.composite
def expansions(draw: st.DrawFn, *, quadratic: bool = True) -> Expansion:
    """Up to three parameters and small integers."""
    d = draw(st.integers(1, 3))

    def vector() -> np.ndarray:
        return linalg.exact([draw(st.integers(-2, 2)) for _ in range(d)])

    M = np.array([vector() for _ in range(d)])
    return Expansion(M + M.T, vector(), vector(), vector(), None if quadratic else vector())
