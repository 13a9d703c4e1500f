r"""Linear classes of bounded norm, with all samples of a few points listed, against the slow rate."""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction
from functools import cached_property
from typing import Any

import numpy as np
from hypothesis import strategies as st

from ... import linalg, rational
from ...pasteable import Pasteable
from .samples import Learned, entries, listed, minimised


@dataclass(frozen=True, eq=False, repr=False)
class Slow(Pasteable):
    r"""Hypotheses $w$ with the loss $G\,|y - \langle w, x\rangle|$; those of PEFT lie in the range of P.

    Attributes:
        w: hypotheses, shape (M, d), exact; one of them 0.
        x: inputs, shape (K, d), exact; equally likely with their labels.
        y: labels, shape (K,), exact.
        basis: P, shape (d, k), exact.
        samples: N.
        lipschitz: G.
    """

    w: np.ndarray
    x: np.ndarray
    y: np.ndarray
    basis: np.ndarray
    samples: int
    lipschitz: Fraction = Fraction(1)
    kind = "bounded linear class"

    @cached_property
    def projector(self) -> np.ndarray:
        """The orthogonal projector on the range of P."""
        return rational.projector(self.basis)

    @cached_property
    def losses(self) -> list[np.ndarray]:
        """Of each hypothesis at each point, for FFT and for PEFT."""
        every = self.lipschitz * np.abs(self.y - self.w @ self.x.T)
        within = [not np.any(row != self.projector @ row) for row in self.w]
        return [every, every[within]]

    @cached_property
    def classes(self) -> list[Learned]:
        """FFT and PEFT, minimised."""
        return [minimised(one, self.samples) for one in self.losses]

    @property
    def gaps(self) -> list[Fraction]:
        """E[L − L_N] of a minimiser of the training loss, and E sup(L − L_N); FFT, then PEFT."""
        return [gap for one, learned in zip(self.losses, self.classes, strict=True)
                for gap in (learned.gap, self._supremum(one))]  # fmt: skip

    def _supremum(self, losses: np.ndarray) -> Fraction:
        means = losses.sum(axis=1) / Fraction(len(self.x))
        tops = [
            max(means - losses[:, sample].sum(axis=1) / Fraction(self.samples))
            for sample in listed(len(self.x), self.samples)
        ]
        return sum(tops) / len(tops)

    @property
    def traces(self) -> list[Fraction]:
        """Tr Σ and tr(PᵀΣP) for orthonormal P."""
        moment = self.x.T @ self.x / Fraction(len(self.x))
        return [moment.trace(), (moment @ self.projector).trace()]

    @property
    def bounds(self) -> list[Any]:
        r"""$2GB\sqrt{\mathrm{tr}/N}$, twice for each class."""
        return self._bounds(self.traces)

    @property
    def narrow(self) -> list[Any]:
        r"""The same with the largest $E x_j^2$ in place of the traces."""
        return self._bounds([((self.x * self.x).sum(axis=0) / Fraction(len(self.x))).max()] * 2)

    def _bounds(self, moments: list[Fraction]) -> list[Any]:
        square = (self.w * self.w).sum(axis=1).max()
        found = [linalg.square_root(4 * self.lipschitz**2 * square * m / self.samples) for m in moments]
        return [found[0], found[0], found[1], found[1]]


def basis_vectors(d: int, k: int, samples: int = 1) -> Slow:
    """Unit vectors with labels ±1, and as hypotheses: one example says nothing of the others."""
    unit = np.eye(d, dtype=int)
    both = np.concatenate([unit, -unit])
    x, y = np.concatenate([unit, unit]), [1] * d + [-1] * d
    w = np.concatenate([0 * unit[:1], both])
    return Slow(
        *(linalg.exact(a if isinstance(a, list) else a.tolist()) for a in (w, x, y, unit[:, :k])), samples
    )


@st.composite
def slow(draw: st.DrawFn) -> Slow:
    """Unit vectors, or up to four hypotheses of two or three parameters at up to three points."""
    if draw(st.booleans()):
        d = draw(st.integers(1, 6))
        return basis_vectors(d, draw(st.integers(1, d)))
    d, points, entry = draw(st.integers(1, 3)), draw(st.integers(1, 3)), st.integers(-2, 2)
    w = np.vstack([linalg.exact([[0] * d]), entries(draw, (draw(st.integers(1, 4)), d), entry)])
    x, y = entries(draw, (points, d), entry), entries(draw, (points, 1), entry)[:, 0]
    basis = entries(draw, (d, draw(st.integers(1, 2))), entry)
    return Slow(w, x, y, basis, draw(st.integers(1, 2)), Fraction(draw(st.integers(1, 3)), 2))
