r"""Ranks of linear maps that are only known by their products with vectors: a randomized range finder."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float

from .. import linalg
from .result import GAP, Rank, at_least, from_values

PROBES = 10
WORKSPACE = 2**32
"""Bytes that a rank may take besides the matrix; beyond, what was found so far is a lower bound."""
_BLOCK = 64


@dataclass(frozen=True)
class Products:
    """A matrix by its products with blocks of vectors.

    Attributes:
        shape: (m, n).
        right: maps (n, s) to A V, (m, s).
        left: maps (m, s) to Aᵀ U, (n, s).
    """

    shape: tuple[int, int]
    right: Callable[[Float[np.ndarray, "n s"]], Float[np.ndarray, "m s"]]
    left: Callable[[Float[np.ndarray, "m s"]], Float[np.ndarray, "n s"]]


def products_rank(
    products: Products, *, at_most: int | None = None, seed: int = 0, error: float = 0.0
) -> Rank:
    r"""The rank of a matrix that is never formed, from a sketch of its range.

    Q is an orthonormal basis of A Ω for Gaussian Ω, grown in blocks until A's image of new vectors is
    rounding.  Then

    $$\sigma_i(Q^T A) \le \sigma_i(A), \qquad
    \sigma_{\rho+1}(A) \le \|(I - QQ^T) A\| + \sigma_{\rho+1}(Q^T A), \qquad
    \|(I - QQ^T) A\| \le 10\sqrt{2/\pi}\, \max_{i \le q} \|(I - QQ^T) A \omega_i\|,$$

    the last with probability at least $1 - 10^{-q}$ over q Gaussian vectors ω, here 10, which are drawn after
    Q and independently of it.  Memory is (m + n)(ρ + q) numbers.

    Args:
        products: the matrix.
        at_most: stop at that rank and certify what is found as a lower bound, for which the first inequality
            is enough and nothing is left to chance.
        seed: of the Gaussian vectors.
        error: as in `rank_at_least`, with `at_most` only.

    Returns:
        A `Rank` with its failure probability; with `at_most` a lower bound.

    Source: Halko, Martinsson and Tropp, *Finding structure with randomness*, SIAM Review 53 (2011),
    algorithm 4.2 and lemma 4.1.
    """
    (m, n), rng = products.shape, np.random.default_rng(seed)
    full = min(m, n) if at_most is None else min(m, n, at_most)
    limit = min(full, max(_BLOCK, WORKSPACE // (8 * (m + n))))
    basis, scale = np.zeros((m, 0)), 0.0
    while basis.shape[1] < limit:
        drawn = products.right(rng.normal(size=(n, min(_BLOCK, limit - basis.shape[1]))))
        scale = max(scale, float(np.linalg.norm(drawn, axis=0).max()))
        rest = _outside(basis, drawn)
        new, triangle = np.linalg.qr(rest)
        size = np.abs(np.diag(triangle))
        keep = size > max(m, n) * linalg.EPS * scale
        basis = np.concatenate([basis, _outside(basis, new[:, keep])], axis=1)
        basis, _ = np.linalg.qr(basis)
        if not keep.all():
            break
    values = np.linalg.svd(products.left(basis), compute_uv=False) if basis.shape[1] else np.zeros(1)
    how = f"range finder, {basis.shape[1]} of {min(m, n)} directions"
    if at_most is not None or (basis.shape[1] == limit and limit < full):
        return at_least(values, products.shape, how, error)
    if basis.shape[1] == min(m, n) and (found := from_values(values, products.shape, how)).rank == min(m, n):
        return found
    probes = _outside(basis, products.right(rng.normal(size=(n, PROBES))))
    left = 10 * math.sqrt(2 / math.pi) * float(np.linalg.norm(probes, axis=0).max())
    return _certified(values, left, products.shape, how)


def _certified(values: np.ndarray, left: float, shape: tuple[int, int], how: str) -> Rank:
    """The rank shown by the values of Qᵀ A, with what may be left outside of Q below it."""
    found = from_values(values, shape, how)
    below = found.below + left / values[0] if values[0] else left
    clear = found.rank is not None and found.above >= GAP * below
    rank = found.rank if clear or (values[0] == 0 and left == 0) else None
    return Rank(rank, found.above, below, shape, how, 10.0**-PROBES)


def _outside(basis: np.ndarray, vectors: np.ndarray) -> np.ndarray:
    for _ in range(2):  # once leaves rounding errors of the size of what was removed
        vectors = vectors - basis @ (basis.T @ vectors)
    return vectors
