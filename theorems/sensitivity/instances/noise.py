r"""Score noise: tilts with the covariance τH, averaged over finitely many points that are as good, or drawn.

With $H = MM^T$ the tilt is $u = \sqrt\tau M\xi$.  What depends on ξ by its moments up to the second is
exact for signs $\xi \in \{-1, 1\}^m$; up to the fifth, for the points of Gauss and Hermite, $\xi_i \in
\{-\sqrt3, 0, \sqrt3\}$ with the weights 1/6, 2/3, 1/6.  A gap is quadratic in u, so that no root shows.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from fractions import Fraction
from functools import cached_property
from itertools import product

import numpy as np
from hypothesis import strategies as st
from scipy.stats import chi2

from ... import linalg, rational
from ...pasteable import Pasteable
from .gaps import Gap

DRAWS = 16_384
QUANTILES = np.array([0.1, 0.5, 0.9])
_HALF, _SIXTH, _ONE = Fraction(1, 2), Fraction(1, 6), Fraction(1)
SIGNS = ((-_ONE, _HALF), (_ONE, _HALF))
HERMITE = ((-_ONE, _SIXTH), (0 * _ONE, 1 - 2 * _SIXTH), (_ONE, _SIXTH))


@dataclass(frozen=True, eq=False, repr=False)
class Points(Pasteable):
    r"""Every tilt $\sqrt\tau M\xi$ with ξ from a finite set, and its weight: exact.

    Attributes:
        root: M, shape (d, m), of rank d, exact.
        directions: P, shape (d, k), exact.
        tau: τ > 0.
        gaussian: the points of Gauss and Hermite; otherwise signs.
    """

    root: np.ndarray
    directions: np.ndarray
    tau: Fraction = _ONE
    gaussian: bool = True

    @property
    def kind(self) -> str:
        """Which points."""
        return "Gauss–Hermite points" if self.gaussian else "signs"

    @property
    def d(self) -> int:
        """The number of parameters."""
        return len(self.root)

    @property
    def rank(self) -> int:
        """Of P."""
        return rational.rank(self.directions)

    @property
    def lacking(self) -> int:
        """The number d − rank P."""
        return self.d - self.rank

    @cached_property
    def _each(self) -> list[tuple[Fraction, Gap]]:
        """The weight of each point, and the disturbed quadratic with τ and the factor 3 left out."""
        H = self.root @ self.root.T
        points = product(HERMITE if self.gaussian else SIGNS, repeat=self.root.shape[1])
        return [
            (
                math.prod(w for _, w in point),
                Gap(H, self.directions, 0 * H[0], self.root @ np.array([x for x, _ in point], dtype=object)),
            )
            for point in points
        ]

    @property
    def _square(self) -> Fraction:
        return self.tau * (3 if self.gaussian else 1)

    @cached_property
    def mean(self) -> Fraction:
        """Of the gap, which is measured at every point."""
        return sum(w * self._square * one.gap for w, one in self._each)

    @property
    def law(self) -> list[Fraction]:
        """The variance of the gap."""
        return [sum(w * (self._square * one.gap - self.mean) ** 2 for w, one in self._each)]

    def law_of(self, degrees: int) -> list[Fraction]:
        """The same of τ/2 times a chi-squared variable with these degrees of freedom."""
        return [self.tau**2 * degrees / 2]

    @property
    def damages(self) -> list[Fraction]:
        """Mean rise of the undisturbed loss, of full fine-tuning and of PEFT."""
        pairs = [(w, one.damage_full, one.damage_peft) for w, one in self._each]
        return [self._square * sum(w * pair[i] for w, *pair in pairs) for i in range(2)]

    mean_error = law_error = damages_error = None


@dataclass(frozen=True, eq=False, repr=False)
class Drawn(Pasteable):
    r"""Gaussian tilts $u \sim \mathcal N(0, \tau H)$, each of which is answered by both methods.

    Standard errors are exact, from the moments of chi-squared variables; they are not estimated.

    Attributes:
        d: the number of parameters; H is random, with eigenvalues from 1/10 to 1.
        rank: of P, which is random, 0 < rank < d.
        tau: τ > 0.
        seed: of everything; part of the instance, so that no search can look for an unlucky one.
    """

    d: int
    rank: int
    tau: float = 1.0
    seed: int = 0
    kind = "drawn score noise"

    @property
    def lacking(self) -> int:
        """The number d − rank P."""
        return self.d - self.rank

    @cached_property
    def _gains(self) -> dict[str, np.ndarray]:
        """By draw: the least values of q, all and on the range of P, and the clean loss where they are."""
        rng = np.random.default_rng(self.seed)
        Q = np.linalg.qr(rng.normal(size=(self.d, self.d)))[0]
        M = Q * np.sqrt(np.geomspace(0.1, 1, self.d))
        H, P = M @ M.T, rng.normal(size=(self.d, self.rank))
        u = math.sqrt(self.tau) * rng.normal(size=(DRAWS, self.d)) @ M.T
        found = {}
        for name, B in (("full", np.eye(self.d)), ("peft", P)):
            step = -B @ np.linalg.solve(B.T @ H @ B, B.T @ u.T)
            energy = np.sum(step * (H @ step), axis=0) / 2
            found[name], found[f"clean {name}"] = np.sum(u.T * step, axis=0) + energy, energy
        return found

    @cached_property
    def _gap(self) -> np.ndarray:
        return self._gains["peft"] - self._gains["full"]

    @property
    def mean(self) -> float:
        """Of the gap."""
        return float(self._gap.mean())

    @property
    def mean_error(self) -> float:
        """Of that mean."""
        return self.tau * math.sqrt(self.lacking / (2 * DRAWS))

    @property
    def law(self) -> np.ndarray:
        """The variance of the gap, and the share of gaps below some quantiles of their law."""
        levels = self.tau / 2 * chi2.ppf(QUANTILES, self.lacking)
        return np.array([self._gap.var(ddof=1), *(self._gap[:, None] <= levels).mean(axis=0)])

    def law_of(self, degrees: int) -> np.ndarray:
        """What they are for τ/2 times a chi-squared variable with these degrees of freedom."""
        shares = chi2.cdf(chi2.ppf(QUANTILES, self.lacking), degrees)
        return np.array([self.tau**2 * degrees / 2, *shares])

    @property
    def law_error(self) -> np.ndarray:
        """Of `law`: a sample variance has the variance σ⁴(2/(n − 1) + κ/n), here with κ = 12/(d − k)."""
        m = self.lacking
        spread = self.tau**2 * m / 2 * math.sqrt(2 / (DRAWS - 1) + 12 / (m * DRAWS))
        return np.array([spread, *np.sqrt(QUANTILES * (1 - QUANTILES) / DRAWS)])

    @property
    def damages(self) -> np.ndarray:
        """Mean rise of the undisturbed loss, of full fine-tuning and of PEFT."""
        return np.array([self._gains[f"clean {name}"].mean() for name in ("full", "peft")])

    @property
    def damages_error(self) -> np.ndarray:
        """Of these means."""
        return self.tau * np.sqrt(np.array([self.d, self.rank]) / (2 * DRAWS))


def line() -> Points:
    """One parameter that PEFT lacks, H = 1."""
    return Points(linalg.exact([[1]]), linalg.exact([[0]]))


def plane() -> Points:
    """Two parameters, H = [[5, 2], [2, 1]], one direction e₁."""
    return Points(linalg.exact([[2, 1], [1, 0]]), linalg.exact([[1], [0]]), Fraction(1, 2))


def space(*, gaussian: bool = True) -> Points:
    """Three parameters, two directions of rank one."""
    root = linalg.exact([[1, 1, 0], [0, 1, 1], [0, 0, 2]])
    return Points(root, linalg.exact([[1, 2], [0, 0], [1, 2]]), Fraction(2), gaussian)


_SETTINGS = (
    (2, 1, 1.0),
    (3, 1, 0.5),
    (3, 2, 2.0),
    (4, 2, 0.1),
    (5, 1, 1.0),
    (6, 3, 3.0),
    (6, 5, 0.2),
    (5, 4, 1.0),
)


def drawn() -> dict[str, Drawn]:
    """Fixed settings with fixed seeds."""
    return {
        f"d = {d}, k = {k}, τ = {tau}": Drawn(d, k, tau, seed) for seed, (d, k, tau) in enumerate(_SETTINGS)
    }


def draws() -> st.SearchStrategy[Drawn]:
    """Those settings."""
    return st.sampled_from(tuple(drawn().values()))


@st.composite
def points(draw: st.DrawFn, *, gaussian: bool = True) -> Points:
    """Small roots of rank d, directions of any rank below."""
    d = draw(st.integers(1, 2))
    entry = st.integers(-2, 2)
    lower = linalg.exact([[draw(entry) if j < i else int(i == j) for j in range(d)] for i in range(d)])
    direction = linalg.exact([[draw(entry)] for _ in range(d)])
    return Points(lower, direction * (d > 1), Fraction(draw(st.integers(1, 3))), gaussian)
