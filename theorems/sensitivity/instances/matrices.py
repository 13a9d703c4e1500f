"""Pivots and ranks of small symmetric matrices, in fractions or in float64."""

from __future__ import annotations

from fractions import Fraction
from typing import Any

import numpy as np

from ... import linalg, rational


def squared(x: np.ndarray) -> Any:
    """‖x‖²."""
    return x @ x


def exact_rank(A: np.ndarray) -> int:
    """The rank of a matrix of fractions, by elimination."""
    return rational.rank(A)


def least_pivot(A: np.ndarray) -> Any:
    """A number that is not negative if and only if A ⪰ 0: the least pivot, or the least eigenvalue of floats.

    Each pivot of the elimination is the largest diagonal entry that is left. Where all are 0 an entry beside
    the diagonal shows an eigenvalue below 0.
    """
    if not linalg.is_exact(A):
        return float(np.linalg.eigvalsh((A + A.T) / 2)[0]) if len(A) else 0.0
    least, A = None, A.copy()
    while len(A):
        i = int(np.argmax(A.diagonal()))
        pivot = min(A.diagonal()) if A[i, i] == 0 else A[i, i]
        if pivot <= 0:
            pivot = min(pivot, -np.max(abs(A)))
            return pivot if least is None else min(least, pivot)
        least = pivot if least is None else min(least, pivot)
        A = A - np.outer(A[i], A[i]) / pivot
        A = np.delete(np.delete(A, i, 0), i, 1)
    return Fraction(0) if least is None else least
