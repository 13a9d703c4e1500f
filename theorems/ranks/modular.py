r"""Exact ranks: elimination modulo a prime, which cannot find too much."""

from __future__ import annotations

from fractions import Fraction

import numpy as np

PRIMES = (8_388_593, 8_388_587, 8_388_581)
"""Primes below 2²³: a product of two residues stays below 2⁴⁶, and 128 of them add up exactly in float64."""
_BLOCK = 64
_EXACT = 2**53


def modular_rank(matrix: np.ndarray, prime: int = PRIMES[0]) -> int:
    r"""The rank of an integer or rational matrix modulo a prime: a lower bound of its rank, mostly equal.

    A minor that does not vanish mod p does not vanish, so that $\mathrm{rank}_p \le \mathrm{rank}$; they
    differ only for the finitely many primes that divide all largest minors.

    Args:
        matrix: integers or fractions, shape (m, n).
        prime: p < 2²⁶.

    Raises:
        ValueError: floats, a p that is too large, or a denominator that p divides.
    """
    rows = _residues(matrix, prime)
    if rows.shape[0] < rows.shape[1]:
        rows = rows.T.copy()
    rank = 0
    for start in range(0, rows.shape[1], _BLOCK):
        columns = slice(start, min(start + _BLOCK, rows.shape[1]))
        rank += _eliminate(rows, rank, columns, prime)
    return rank


def _eliminate(rows: np.ndarray, done: int, columns: slice, prime: int) -> int:
    """Reduce one block of columns below row `done`, then all later columns at once; returns its pivots."""
    panel = rows[done:, columns].copy()
    m, pivots = len(panel), 0
    # Row operations are collected: after the panel, rows = transform @ old rows (mod p).
    order, steps = np.arange(m), []
    for j in range(panel.shape[1]):
        (nonzero,) = np.nonzero(panel[pivots:, j])
        if not len(nonzero):
            continue
        pivot = pivots + nonzero[0]
        panel[[pivots, pivot]], order[[pivots, pivot]] = panel[[pivot, pivots]], order[[pivot, pivots]]
        for step in steps:
            step[[pivots, pivot]] = step[[pivot, pivots]]
        inverse = pow(int(panel[pivots, j]), -1, prime)
        factors = np.zeros(m, np.int64)
        factors[pivots + 1 :] = panel[pivots + 1 :, j] * inverse % prime
        panel[pivots + 1 :] = (panel[pivots + 1 :] - factors[pivots + 1 :, None] * panel[pivots]) % prime
        steps.append(factors)
        pivots += 1
    later = slice(columns.stop, rows.shape[1])
    if pivots and later.start < later.stop:
        rest = rows[done:, later][order]
        lower = np.stack(steps, axis=1)  # unit lower triangular in its first rows
        for i in range(pivots):  # forward substitution within the block
            rest[i + 1 : pivots] = (rest[i + 1 : pivots] - lower[i + 1 : pivots, i : i + 1] * rest[i]) % prime
        rest[pivots:] = (rest[pivots:] - _product(lower[pivots:], rest[:pivots], prime)) % prime
        rows[done:, later] = rest
    return pivots


def _product(a: np.ndarray, b: np.ndarray, prime: int) -> np.ndarray:
    """A B mod p by float64 products, split so that no sum exceeds 2⁵³."""
    terms = max(1, _EXACT // (prime * prime))
    out = np.zeros((len(a), b.shape[1]), np.int64)
    for i in range(0, a.shape[1], terms):
        part = a[:, i : i + terms].astype(np.float64) @ b[i : i + terms].astype(np.float64)
        out += part.astype(np.int64) % prime
    return out % prime


def _residues(matrix: np.ndarray, prime: int) -> np.ndarray:
    if prime >= 2**26:
        raise ValueError(f"prime: got {prime}, needs one below 2²⁶, so that products stay exact")
    matrix = np.asarray(matrix)
    if matrix.dtype.kind in "iu":
        return matrix.astype(np.int64) % prime
    if matrix.dtype == object:
        flat = [_residue(Fraction(value), prime) for value in matrix.ravel()]
        return np.array(flat, np.int64).reshape(matrix.shape)
    raise ValueError(f"matrix: got {matrix.dtype}, needs integers or fractions; linalg.exact makes them")


def _residue(value: Fraction, prime: int) -> int:
    if value.denominator % prime == 0:
        raise ValueError(f"prime: {prime} divides a denominator; use another one")
    return value.numerator * pow(value.denominator, -1, prime) % prime
