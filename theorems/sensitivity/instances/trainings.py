"""Training losses of tiny models, whose Hessian is measured on the loss itself."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from hypothesis import strategies as st

from ... import linalg, rational
from ...pasteable import Pasteable
from .. import differences


@dataclass(frozen=True, eq=False, repr=False)
class Training(Pasteable):
    r"""The mean of $\frac12 (f(x; w) - y)^2$ over a few samples, exact.

    Attributes:
        inputs: x, shape (N, d) for the linear model $f = w^T x$, (N,) for $f = w_d \\cdots w_1 x$.
        targets: y, shape (N,).
        weights: w, where the Hessian is taken, shape (d,) with d ≤ 2 for products.
    """

    inputs: np.ndarray
    targets: np.ndarray
    weights: np.ndarray

    @property
    def kind(self) -> str:
        """Which model."""
        return "linear model" if self.inputs.ndim == 2 else "product of weights"

    @property
    def d(self) -> int:
        """The number of weights."""
        return len(self.weights)

    def loss(self, weights: np.ndarray) -> Any:
        """The training loss."""
        outputs = self.inputs @ weights if self.inputs.ndim == 2 else self.inputs * np.prod(weights)
        gaps = outputs - self.targets
        return gaps @ gaps / (2 * len(gaps))

    @cached_property
    def hessian(self) -> np.ndarray:
        """H, by differences of the loss."""
        return differences.hessian(self.loss, self.weights)

    @property
    def positive(self) -> int:
        """How many eigenvalues of H are positive."""
        return rational.inertia(self.hessian).positive


@st.composite
def trainings(draw: st.DrawFn) -> Training:
    """Up to three samples, none of them zero, and two weights; small integers."""
    N, linear = draw(st.integers(1, 3)), draw(st.booleans())
    d = draw(st.integers(1, 2)) if linear else 2

    def vector(n: int, entries: st.SearchStrategy[int]) -> np.ndarray:
        return linalg.exact([draw(entries) for _ in range(n)])

    filled, free = st.sampled_from((1, 2, -1)), st.integers(-2, 2)
    inputs = np.array([vector(d, filled) for _ in range(N)]) if linear else vector(N, filled)
    return Training(inputs, vector(N, free), vector(d, free))
