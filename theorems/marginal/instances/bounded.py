"""Linear classes of bounded norm, learned from every sample of a few points."""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction
from functools import cached_property
from typing import Any

import numpy as np
from hypothesis import strategies as st

from ... import linalg
from ...pasteable import Pasteable
from .samples import Learned, entries, minimised


@dataclass(frozen=True, eq=False, repr=False)
class Bounded(Pasteable):
    r"""Linear hypotheses of norm at most B with the loss $|y - \langle w,x\rangle|$, of Lipschitz constant 1.

    PEFT has those that vanish beyond the first k coordinates.

    Attributes:
        w: hypotheses, shape (M, d), exact; the first is 0.
        x: inputs, shape (K, d), exact; equally likely with their labels.
        y: labels, shape (K,), exact.
        k: parameters of PEFT.
        samples: N.
    """

    w: np.ndarray
    x: np.ndarray
    y: np.ndarray
    k: int
    samples: int
    kind = "bounded linear class"
    linear = True

    @property
    def d(self) -> int:
        """Parameters of FFT."""
        return self.w.shape[1]

    @cached_property
    def classes(self) -> list[Learned]:
        """FFT and PEFT, minimised."""
        losses = np.abs(self.y - self.w @ self.x.T)
        within = [i for i, row in enumerate(self.w) if not any(row[self.k :])]
        return [minimised(losses, self.samples), minimised(losses[within], self.samples)]

    @property
    def gaps(self) -> list[Fraction]:
        """E[L − L_N] of FFT and of PEFT."""
        return [learned.gap for learned in self.classes]

    @property
    def floors(self) -> list[Fraction]:
        """A_full and A_peft."""
        return [learned.best for learned in self.classes]

    @property
    def bounds(self) -> list[Any]:
        r"""$2 B s\sqrt{p/N}$ with $s^2 = \max_j E x_j^2$, for p = d and p = k."""
        squares = (self.w * self.w).sum(axis=1).max()
        moment = ((self.x * self.x).sum(axis=0) / Fraction(len(self.x))).max()
        return [linalg.square_root(4 * squares * moment * p / self.samples) for p in (self.d, self.k)]


@st.composite
def bounded(draw: st.DrawFn) -> Bounded:
    """Two or three parameters, up to five hypotheses, three points, two examples."""
    d, points, entry = draw(st.integers(2, 3)), draw(st.integers(1, 3)), st.integers(-2, 2)
    w = entries(draw, (draw(st.integers(1, 4)), d), entry)
    w = np.vstack([linalg.exact([[0] * d]), w])
    x, y = entries(draw, (points, d), entry), entries(draw, (points, 1), entry)[:, 0]
    return Bounded(w, x, y, draw(st.integers(1, d - 1)), draw(st.integers(1, 2)))
