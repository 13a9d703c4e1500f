r"""The rank of a long matrix that is never formed, from a sketch of its long side."""

from __future__ import annotations

import math

import numpy as np
import scipy.sparse

from .. import linalg
from .free import WORKSPACE, Products, products_rank
from .result import GAP, Rank, from_values

NONZEROS = 8
"""In each column of the sketching matrix."""
LONG = 4
"""From which ratio of the sides on a matrix is sketched."""
_BLOCK = 64


def free_rank(products: Products, *, at_most: int | None = None, seed: int = 0, error: float = 0.0) -> Rank:
    """The rank of a matrix that is never formed, by the way that suits its shape.

    A long matrix is sketched; one that is large on both sides goes to the range finder, and so does one of
    which only a lower bound is asked for.

    Args:
        products: the matrix.
        at_most: a rank that is enough; the result is then a lower bound.
        seed: of the random vectors.
        error: as in `rank_at_least`, with `at_most` only.

    Returns:
        A `Rank` whose `how` says which way was taken; a lower bound where memory ends before the range does.
    """
    long, short = max(products.shape), min(products.shape)
    if at_most is None and long >= LONG * short and sketch_bytes(products.shape) <= WORKSPACE:
        return sketched_rank(products, seed=seed)
    return products_rank(products, at_most=at_most, seed=seed, error=error)


def sketch_bytes(shape: tuple[int, int]) -> int:
    """Memory that `sketched_rank` takes for a matrix of that shape: the sketch and its singular vectors."""
    short = min(shape)
    return 8 * 4 * short * short


def sketched_rank(products: Products, *, seed: int = 0) -> Rank:
    r"""The rank of A (m, n) with m ≫ n from S A, where S is a sparse random matrix with 2n rows.

    With the singular values of S A and its right singular vectors $V_0$ after the first ρ,

    $$\sigma_\rho(A) \ge \sigma_\rho(SA) / \|S\|_2, \qquad \sigma_{\rho+1}(A) \le \|A V_0\|_F, \qquad
    \|S\|_2 \le \sqrt{\|S\|_1 \|S\|_\infty},$$

    the first because $\sigma_\rho(SA) \le \|S\|\,\sigma_\rho(A)$, the second by Courant and Fischer. Both
    hold whatever S is: chance decides whether they are good enough to decide, not whether the answer is
    right. A wide matrix is transposed. It takes n products and 4 n² numbers, whatever m is.

    Args:
        products: the matrix.
        seed: of S.

    Returns:
        A `Rank` with failure probability 0; undecided where the two bounds leave no gap.

    Source: the sparse sign matrix is that of Nelson and Nguyen, *OSNAP*, FOCS 2013.
    """
    m, n = products.shape
    right = products.right
    if m < n:
        m, n, right = n, m, products.left
    S = _signs(min(m, 2 * n), m, seed)
    sketch = np.concatenate([S @ right(_unit(n, at)) for at in range(0, n, _BLOCK)], axis=1)
    triangle = np.linalg.qr(sketch, mode="r")
    _, values, vt = np.linalg.svd(triangle)
    how = f"sketch of {S.shape[0]} rows for {m}, null space checked"
    found = from_values(values, products.shape, how)
    if found.rank is None:
        return found
    norm = math.sqrt(abs(S).sum(axis=0).max() * abs(S).sum(axis=1).max())
    null = vt[found.rank :].T
    left = sum(float((right(null[:, at : at + _BLOCK]) ** 2).sum()) for at in range(0, null.shape[1], _BLOCK))
    if found.rank == 0:  # the sketch vanishes: so must the matrix
        return Rank(0 if left == 0 else None, 0.0, math.sqrt(left), products.shape, how)
    largest = float(np.linalg.norm(right(vt[:1].T)))
    above, below = float(values[found.rank - 1]) / norm / largest, math.sqrt(left) / largest
    floor = max(m, n) * linalg.EPS
    clear = above >= GAP * max(below, floor / 100) and below <= 100 * floor
    return Rank(found.rank if clear else None, above, below, products.shape, how)


def _signs(rows: int, columns: int, seed: int) -> scipy.sparse.csr_array:
    """A matrix whose columns have `NONZEROS` entries ±1/√NONZEROS at random rows, so that E SᵀS = I."""
    rng, count = np.random.default_rng(seed), min(NONZEROS, rows)
    # One place in each of `count` bands of rows: no two of a column fall together.
    bands = np.linspace(0, rows, count + 1).astype(np.int64)
    places = rng.integers(bands[:-1, None], bands[1:, None], size=(count, columns))
    signs = rng.choice((-1.0, 1.0), size=(count, columns)) / math.sqrt(count)
    where = np.broadcast_to(np.arange(columns), places.shape)
    return scipy.sparse.csr_array((signs.ravel(), (places.ravel(), where.ravel())), shape=(rows, columns))


def _unit(n: int, start: int) -> np.ndarray:
    """Some columns of the identity."""
    width = min(_BLOCK, n - start)
    block = np.zeros((n, width))
    block[start : start + width] = np.eye(width)
    return block
