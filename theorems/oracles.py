"""Naive oracles of the tests on spectra: matrices with given singular values, and minima by descent."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from jaxtyping import Float
from scipy.optimize import minimize


def truncated(matrix: Float[np.ndarray, "m n"], rank: int) -> Float[np.ndarray, "m n"]:
    """The nearest matrix of that rank, from a dense decomposition."""
    u, s, vt = np.linalg.svd(matrix, full_matrices=False)
    return (u[:, :rank] * s[:rank]) @ vt[:rank]


def orthogonal(rng: np.random.Generator, m: int, n: int) -> Float[np.ndarray, "m n"]:
    """Random orthonormal columns."""
    return np.linalg.qr(rng.normal(size=(m, n)))[0]


def with_values(
    rng: np.random.Generator, values: Sequence[float], m: int, n: int
) -> Float[np.ndarray, "m n"]:
    """A random matrix with these singular values."""
    s = len(values)
    return (orthogonal(rng, m, s) * values) @ orthogonal(rng, n, s).T


def descended(
    weight: Float[np.ndarray, "p m"], update: Float[np.ndarray, "m n"], rank: int, starts: int = 6
) -> float:
    """The least ‖weight (A B − update)‖²_F that L-BFGS finds over factors A and B of that rank."""
    m, n = update.shape
    rng, found = np.random.default_rng(0), []

    def loss(v: np.ndarray) -> tuple[float, np.ndarray]:
        A, B = v[: m * rank].reshape(m, rank), v[m * rank :].reshape(rank, n)
        gap = weight @ (A @ B - update)
        slope = 2 * weight.T @ gap
        return (gap**2).sum(), np.concatenate([(slope @ B.T).ravel(), (A.T @ slope).ravel()])

    options = {"maxiter": 5000, "maxfun": 10**5, "ftol": 1e-15, "gtol": 1e-10}
    for _ in range(starts):
        start = rng.normal(size=rank * (m + n))
        found.append(minimize(loss, start, jac=True, method="L-BFGS-B", options=options).fun)
    return min(found)
