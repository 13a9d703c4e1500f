"""Counts of parameters, dimensions and ranks: what the claims on the size of an image are judged on."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from hypothesis import strategies as st
from hypothesis.strategies import SearchStrategy

from .. import linalg
from ..pasteable import Pasteable
from .lowrank import Factors, Variety, integers


@dataclass(frozen=True, repr=False)
class Counts(Pasteable):
    """k trained parameters of d."""

    k: int
    d: int
    kind: str = "counts"
    note: str = ""


@dataclass(frozen=True, repr=False)
class MapCounts(Pasteable):
    """The numbers of a map g on a network.

    Attributes:
        k: parameters.
        d: parameters of the network.
        dimension: of the image, by its closed form.
        largest_rank: of Dg, measured at a generic Φ.
        initial_rank: of Dg at the usual initialisation, measured.
        initial_dimension: what the closed form says of that.
    """

    k: int
    d: int
    dimension: int
    largest_rank: int
    initial_rank: int
    initial_dimension: int
    kind: str = "map g"
    note: str = ""


def counts() -> SearchStrategy:
    """Small counts with k ≤ d."""
    return st.integers(1, 6).flatmap(lambda d: st.builds(Counts, st.integers(1, d), st.just(d)))


def counts_of_lora(m: int, n: int, r: int, seed: int = 0) -> MapCounts:
    """The numbers of (B, A) ↦ B A, ranks by exact elimination at integer points."""
    rng = np.random.default_rng(seed)
    B, A = linalg.exact(integers(rng, m, r).tolist()), linalg.exact(integers(rng, r, n).tolist())
    start = Factors(linalg.exact(np.zeros((m, r), int).tolist()), A)
    generic = Factors(B, A)
    return MapCounts(generic.k, m * n, generic.dimension, generic.rank, start.rank, m * r)


@st.composite
def shapes_of_lora(draw: st.DrawFn, *, largest: int) -> tuple[int, int, int]:
    """Sides m and n and a rank up to the smaller of them."""
    m, n = draw(st.integers(1, largest)), draw(st.integers(1, largest))
    return m, n, draw(st.integers(1, min(m, n)))


def lora_counts() -> SearchStrategy:
    """The numbers of LoRA on small matrices."""
    pairs = st.tuples(shapes_of_lora(largest=4), st.integers(0, 999))
    return pairs.map(lambda pair: counts_of_lora(*pair[0], seed=pair[1]))


def varieties(*, fewer: bool = True) -> SearchStrategy:
    """Matrices of rank at most r, of small shapes; with `fewer` only those with r (m + n) < m n."""
    found = shapes_of_lora(largest=12).map(lambda shape: Variety(*shape))
    return found.filter(lambda one: one.k < one.d) if fewer else found
