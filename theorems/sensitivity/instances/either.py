"""Small symmetric matrices, in fractions or in float64: what instances measure and assume with either.

In floating point a singular value counts as 0 where rounding can have made it of 0.
"""

from __future__ import annotations

import numpy as np

from ... import linalg, rational
from ..fact import Fact


def lowest(H: np.ndarray, u: np.ndarray) -> np.ndarray | None:
    r"""The point where $u^T x + \frac12 x^T H x$ is least, or None; no linear system is solved for it.

    Exact: complete the square in one variable, leave the rest to the others, and go back.  Floating point:
    one coordinate at a time in the eigenbasis.

    Args:
        H: symmetric, shape (n, n).
        u: shape (n,).
    """
    if not linalg.is_exact(H):
        return _lowest_float(H, u)
    if not len(u):
        return u
    i = int(np.argmax(H.diagonal() != 0))
    pivot, rest = H[i, i], np.delete(np.arange(len(u)), i)
    if pivot < 0 or (pivot == 0 and (H.any() or u.any())):
        return None
    out = 0 * u
    if pivot == 0:
        return out
    inner = lowest(
        H[np.ix_(rest, rest)] - np.outer(H[rest, i], H[i, rest]) / pivot, u[rest] - H[rest, i] * u[i] / pivot
    )
    if inner is None:
        return None
    out[rest] = inner
    out[i] = -(u[i] + H[i, rest] @ inner) / pivot
    return out


def _lowest_float(H: np.ndarray, u: np.ndarray) -> np.ndarray | None:
    values, vectors = np.linalg.eigh((H + H.T) / 2)
    slopes, least = vectors.T @ u, cut(values, len(u))
    flat = abs(values) <= least
    if np.any(values < -least) or np.any(abs(slopes[flat]) > linalg.gamma(64 * len(u)) * np.linalg.norm(u)):
        return None
    return vectors[:, ~flat] @ (-slopes[~flat] / values[~flat])


def signs(H: np.ndarray) -> rational.Inertia:
    """Signs of the eigenvalues; in floating point those within rounding of 0 count as zero."""
    if linalg.is_exact(H):
        return rational.inertia(H)
    values = np.linalg.eigvalsh(H)
    least = cut(values, len(H))
    positive, negative = int(np.sum(values > least)), int(np.sum(values < -least))
    return rational.Inertia(positive, len(H) - positive - negative, negative)


def pseudo_inverse(A: np.ndarray) -> np.ndarray:
    """A⁺ of a symmetric matrix; in floating point eigenvalues within rounding of 0 are cut."""
    if linalg.is_exact(A):
        return rational.pseudo_inverse(A)
    return np.linalg.pinv(A, rcond=linalg.gamma(64 * max(A.shape)), hermitian=True)


def solve(A: np.ndarray, b: np.ndarray) -> np.ndarray:
    """A solution of $A x = b$ for a symmetric matrix and b in its range, by elimination or least squares."""
    if linalg.is_exact(A):
        return rational.solve(A, b)
    return np.linalg.lstsq(A, b, rcond=linalg.gamma(64 * len(b)))[0]


def in_range(A: np.ndarray, u: np.ndarray) -> Fact:
    """Whether u is in the range of a symmetric matrix, with what lies outside."""
    if linalg.is_exact(A):
        inside = rational.in_range(A, u)
        return Fact(inside, "exactly" if inside else "a part lies outside")
    values, vectors = np.linalg.eigh(A)
    outside = np.linalg.norm(vectors[:, abs(values) <= cut(values, len(u))].T @ u)
    return Fact(outside <= linalg.gamma(64 * len(u)) * np.linalg.norm(u), f"outside: {outside:.3g}")


def cut(values: np.ndarray, d: int) -> float:
    """What rounding can make of a singular value that is 0."""
    return linalg.gamma(64 * d) * float(np.max(np.abs(values), initial=0.0))


def length(vector: np.ndarray) -> float:
    """The Euclidean norm, as a float to show."""
    return float(np.linalg.norm(vector.astype(np.float64)))
