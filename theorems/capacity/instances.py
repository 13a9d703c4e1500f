"""The smaller instances of Theorem 2: for claims that do not speak of a whole chain of layers."""

from __future__ import annotations

from dataclasses import dataclass, field
from fractions import Fraction
from typing import Any

import numpy as np
from hypothesis import strategies as st
from hypothesis.strategies import SearchStrategy

from .. import linalg
from ..pasteable import Pasteable
from . import strategies
from .feedforward import FeedForward
from .rank import low_rank_twin
from .scalars import SCALARS


@dataclass(frozen=True, repr=False)
class TwoPoints(Pasteable):
    """An activation and two points: what a Lipschitz condition is tested on."""

    activation: str
    u: Any
    v: Any
    kind: str = "two points"


@dataclass(frozen=True, repr=False)
class Extents(Pasteable):
    """How far two updates move the same network: one with few parameters, one with many."""

    k_few: int
    few: Any
    k_many: int
    many: Any
    kind: str = "a rank-limited twin"
    source: FeedForward | None = field(default=None, repr=False)
    note: str = ""


@dataclass(frozen=True, repr=False)
class Coefficients(Pasteable):
    """The constants M and L and the depth N, from which the printed coefficients of the layers follow."""

    M: Any
    L: Any
    N: int
    kind: str = "constants"

    def printed(self) -> np.ndarray:
        """(M L)^{N-k} for k = 1, ..., N, by which equation 6 weighs the layers."""
        values = [(self.M * self.L) ** (self.N - k) for k in range(1, self.N + 1)]
        return np.array(values, dtype=object if isinstance(self.M, Fraction) else float)


@dataclass(frozen=True, repr=False)
class UpdateNorms(Pasteable):
    """Layer-wise norms L‖Φ_k‖ of a PEFT solution and of the full solution of the same problem."""

    peft: np.ndarray
    full: np.ndarray
    kind: str = "trained solutions"
    note: str = ""


def twin_extents(pair: FeedForward) -> Extents:
    """Compare an update with its low-rank twin on one input: fewer parameters, the same reach."""
    pair = pair.first()
    twin = low_rank_twin(pair)
    rank_one = sum(sum(u.shape) - 1 for u in pair.updates)  # dimension r(m + n - r) at r = 1
    return Extents(
        rank_one, twin.deviation[0], sum(u.size for u in pair.updates), pair.deviation[0], source=pair
    )


def least_squares_norms(h: tuple[tuple[int, int], tuple[int, int]], target: tuple[int, int]) -> UpdateNorms:
    """Solve min ½(θ−t)ᵀH(θ−t) fully and over the first coordinate alone, and return the norms of both."""
    H, t = linalg.exact(h), linalg.exact(target)
    return UpdateNorms(np.array([abs((H @ t)[0] / H[0, 0])], dtype=object), linalg.norm(t[None]))


def two_points() -> tuple[SearchStrategy, ...]:
    """Integers for the piecewise linear activations, floats for all of them."""
    small = st.integers(-3, 3).map(Fraction)
    exact = st.builds(
        TwoPoints, st.sampled_from(("relu", "identity")), small, small, st.just("small integers")
    )
    floats = st.floats(-12, 12).map(np.float64)
    return exact, st.builds(TwoPoints, st.sampled_from(strategies.ALL), floats, floats, st.just("floats"))


def close_points() -> SearchStrategy:
    """Pairs of nearby floats: the difference quotient comes close to the slope."""

    def pair(name: str, centre: float, log_distance: float) -> TwoPoints:
        return TwoPoints(name, np.float64(centre), np.float64(centre + 10.0**log_distance), "close floats")

    return st.builds(pair, st.sampled_from(strategies.ALL), st.floats(-4, 4), st.floats(-3, 0))


def extents() -> SearchStrategy:
    """Exact chains of 2x2 layers and their rank-one twins."""
    chains = strategies.integer_chains(depths=(1, 2), widths=(2, 2), activations=("identity", "relu"),
                                       update_entries=strategies.nonzero)  # fmt: skip
    return chains.map(twin_extents)


def coefficients() -> SearchStrategy:
    """Small rational constants."""
    numbers = st.integers(1, 4).map(Fraction) | st.fractions(Fraction(1, 4), 4, max_denominator=4)
    return st.builds(Coefficients, numbers, numbers, st.integers(2, 4))


def least_squares() -> SearchStrategy:
    """Positive definite 2x2 integer matrices and integer targets."""
    entries = st.tuples(st.integers(1, 10), st.integers(-6, 6), st.integers(1, 10))
    definite = entries.filter(lambda e: e[0] * e[2] > e[1] ** 2)
    targets = st.tuples(st.integers(-3, 3), st.integers(-3, 3)).filter(any)
    return st.builds(lambda e, t: least_squares_norms(((e[0], e[1]), (e[1], e[2])), t), definite, targets)


def scalar_value(name: str, z: Any) -> Any:
    """σ(z) for an exact or a floating-point number."""
    if isinstance(z, Fraction):
        return SCALARS[name](linalg.exact([z]))[0]
    return SCALARS[name](np.float64(z))
