"""Exact linear algebra on small matrices of fractions: nothing here rounds.

sympy's `DomainMatrix` over the rationals does the elimination; this module turns arrays of
`fractions.Fraction` into it and back, and adds what it lacks: pseudo-inverses, singular systems that have a
solution, and the inertia of a symmetric matrix.  Meant for sides up to ten or so: the numbers grow with them.
"""

from __future__ import annotations

from collections.abc import Iterable
from fractions import Fraction
from typing import NamedTuple

import numpy as np
from jaxtyping import Shaped
from sympy import QQ
from sympy.polys.matrices import DomainMatrix

from .linalg import exact

Matrix = Shaped[np.ndarray, "m n"]


class Inertia(NamedTuple):
    """How many eigenvalues of a symmetric matrix are positive, zero and negative."""

    positive: int
    zero: int
    negative: int

    @property
    def definite(self) -> bool:
        """Whether all of them are positive."""
        return self.zero == self.negative == 0

    @property
    def semidefinite(self) -> bool:
        """Whether none is negative."""
        return self.negative == 0


def identity(n: int) -> Matrix:
    """The unit matrix of fractions, shape (n, n)."""
    return exact(np.eye(n, dtype=int).tolist()) if n else np.empty((0, 0), dtype=object)


def reflection(vector: Iterable[int | Fraction]) -> Matrix:
    r"""The orthogonal matrix $I - 2 v v^T / v^T v$, which is rational and symmetric.

    Raises:
        ValueError: v = 0.
    """
    v = exact(list(vector))
    if not any(v):
        raise ValueError("vector is zero, which no plane is orthogonal to: give one that is not")
    return identity(len(v)) - 2 * np.outer(v, v) / (v @ v)


def solve(a: Matrix, b: Shaped[np.ndarray, " m"]) -> Shaped[np.ndarray, " n"]:
    """One solution of $A x = b$, the unknowns that are free set to 0; A may be singular or not square.

    Raises:
        ValueError: there is none; `in_range` asks first.
    """
    a, b = _matrix("a", a), np.asarray(b)
    if b.shape != (a.shape[0],):
        raise ValueError(f"b has shape {b.shape}, but a of shape {a.shape} needs ({a.shape[0]},)")
    reduced, pivots = _domain(np.column_stack([a, b])).rref()
    if a.shape[1] in pivots:
        raise ValueError("b is not in the range of a, so there is no solution: ask in_range(a, b) first")
    x = np.array([Fraction(0)] * a.shape[1], dtype=object)
    x[list(pivots)] = _array(reduced)[: len(pivots), -1]
    return x


def in_range(a: Matrix, b: Shaped[np.ndarray, " m"]) -> bool:
    """Whether $A x = b$ has a solution."""
    return rank(np.column_stack([_matrix("a", a), b])) == rank(a)


def inverse(a: Matrix) -> Matrix:
    """The inverse.

    Raises:
        ValueError: a matrix that is not square, or singular.
    """
    a = _matrix("a", a)
    n = len(a)
    if a.shape != (n, n):
        raise ValueError(f"a has shape {a.shape} and no inverse: use pseudo_inverse")
    if not n:
        return a
    reduced, pivots = _domain(np.column_stack([a, identity(n)])).rref()
    if pivots != tuple(range(n)):
        raise ValueError(f"a of shape {a.shape} is singular and has no inverse: use pseudo_inverse")
    return _array(reduced)[:, n:]


def rank(a: Matrix) -> int:
    """The rank, by elimination."""
    a = _matrix("a", a)
    return _domain(a).rank() if a.size else 0


def nullspace(a: Matrix) -> Shaped[np.ndarray, "n free"]:
    """Vectors that A maps to 0: a basis of them in the columns of a matrix, shape (n, n − rank)."""
    a = _matrix("a", a)
    if not a.size:
        return identity(a.shape[1])
    return _array(_domain(a).nullspace()).reshape(-1, a.shape[1]).T


def pseudo_inverse(a: Matrix) -> Shaped[np.ndarray, "n m"]:
    r"""The inverse of Moore and Penrose, from a factorisation $A = C F$ of full rank.

    $A^+ = F^T (F F^T)^{-1} (C^T C)^{-1} C^T$, with the pivot columns of A in C and the rows of its reduced
    echelon form that are not zero in F.

    Source: Ben-Israel and Greville, *Generalized Inverses*, 2nd ed. 2003, section 1.6.
    """
    a = _matrix("a", a)
    reduced, pivots = _domain(a).rref() if a.size else (None, ())
    if not pivots:
        return exact(np.zeros(a.shape[::-1], dtype=int).tolist()).reshape(a.shape[::-1])
    if a.shape == (len(pivots),) * 2:
        return inverse(a)
    C, F = a[:, list(pivots)], _array(reduced)[: len(pivots)]
    return F.T @ inverse(F @ F.T) @ inverse(C.T @ C) @ C.T


def projector(a: Matrix) -> Shaped[np.ndarray, "m m"]:
    r"""The orthogonal projector $A A^+$ onto the range."""
    return a @ pseudo_inverse(a)


def inertia(a: Shaped[np.ndarray, "n n"]) -> Inertia:
    """Signs of the eigenvalues of a symmetric matrix, read off a diagonal matrix that is congruent to it.

    Where the diagonal is zero but the matrix is not, adding one row and column to another makes it show.

    Raises:
        ValueError: a matrix that is not symmetric.

    Source: Sylvester's law of inertia; Horn and Johnson, *Matrix Analysis*, 2nd ed. 2013, theorem 4.5.8.
    """
    a = _matrix("a", a).copy()
    if a.shape[0] != a.shape[1] or (a != a.T).any():
        raise ValueError("a is not symmetric, so it has no inertia: pass (a + a.T) / 2")
    signs: list[int] = []
    while a.any():
        if not a.diagonal().any():
            i, j = np.argwhere(a)[0]
            a[i] += a[j]
            a[:, i] += a[:, j]
        i = int(np.argmax(a.diagonal() != 0))
        signs.append(1 if a[i, i] > 0 else -1)
        a = a - np.outer(a[i], a[i]) / a[i, i]
        a = np.delete(np.delete(a, i, 0), i, 1)
    return Inertia(signs.count(1), len(a), signs.count(-1))


def _matrix(name: str, a: np.ndarray) -> np.ndarray:
    a = np.asarray(a)
    if a.ndim != 2 or a.dtype != object:
        raise ValueError(
            f"{name} has shape {a.shape} and dtype {a.dtype}, needs a matrix of fractions: see linalg.exact"
        )
    return a


def _domain(a: np.ndarray) -> DomainMatrix:
    rows = [[QQ(int(x.numerator), int(x.denominator)) for x in row] for row in a]
    return DomainMatrix(rows, a.shape, QQ)


def _array(matrix: DomainMatrix) -> np.ndarray:
    out = np.empty(matrix.shape, dtype=object)
    for index, row in enumerate(matrix.to_dense().to_list()):
        out[index] = [Fraction(int(x.numerator), int(x.denominator)) for x in row]
    return out
