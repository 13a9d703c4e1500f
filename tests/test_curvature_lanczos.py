"""The search for extreme eigenvectors by products: copies, restarts, and what it says it did not see."""

import math

import jax.numpy as jnp
import numpy as np
import pytest
from jax.tree_util import Partial

from peftproof.theorems import curvature
from peftproof.theorems.curvature import lanczos

D = 120
SPECTRA = {
    "repeated": np.repeat([5.0, 4.0, 3.0, 1.0, -2.0, -6.0], [3, 2, 1, 110, 1, 3]),
    "a multiple of I": np.full(D, 2.0),
    "crowded": np.linspace(-1.0, 1.0, D),
    "of low rank": np.repeat([3.0, 2.0, 0.0], [2, 3, 115]),
}


def matrix(values):
    Q = np.linalg.qr(np.random.default_rng(1).normal(size=(D, D)))[0]
    A = (Q * values) @ Q.T
    return (A + A.T) / 2


def search(A, which="largest", **options):
    limits = {"tolerance": 1e-10, "most": 10_000, "room": 128, "seed": 0} | options
    return lanczos.search(Partial(jnp.matmul, jnp.asarray(A)), D, 6, which, **limits)


def extreme(values, which, count=6):
    return np.sort(values[np.argsort(-lanczos.KEYS[which](values), kind="stable")[:count]])


@pytest.mark.parametrize("which", lanczos.KEYS)
@pytest.mark.parametrize("name", SPECTRA)
def test_every_copy_is_found_and_no_ghost(name, which):
    values, A = SPECTRA[name], matrix(SPECTRA[name])
    for room in (128, 6 + lanczos.KEPT + 2 * lanczos.CHUNK):
        found = search(A, which, room=room)
        X = found.vectors
        np.testing.assert_allclose(X.T @ X, np.eye(6), atol=1e-12)
        np.testing.assert_allclose(A @ X, found.images, atol=1e-12)
        ritz = np.sort(np.linalg.eigvalsh(X.T @ A @ X))
        np.testing.assert_allclose(np.abs(ritz), np.abs(extreme(values, which)), atol=1e-9)
        assert found.converged
        assert found.scale <= np.abs(values).max() * (1 + 1e-12)
        rest = np.sort(lanczos.KEYS[which](values))[: D - 6]
        assert found.ceiling >= rest.max() - 1e-9 or found.ceiling == -math.inf


def test_without_looking_for_copies_what_is_found_are_eigenvalues_each_once_or_more_often():
    values = SPECTRA["repeated"]
    A = matrix(values)
    found = search(A, copies=False)
    ritz = np.linalg.eigvalsh(found.vectors.T @ A @ found.vectors)
    # A Krylov space of an exact machine has each eigenvalue once; rounding may let a copy in.
    assert np.all(np.abs(ritz[:, None] - np.unique(values)).min(axis=1) < 1e-9)
    assert abs(ritz[-1] - values.max()) < 1e-9
    assert found.ceiling == math.inf
    assert found.products < search(A).products


def test_a_search_that_is_cut_off_says_so_and_its_intervals_hold():
    A = matrix(SPECTRA["crowded"])
    given = curvature.of_function(Partial(jnp.matmul, jnp.asarray(A)), D, memory=8 * D**2 - 1)
    found = curvature.eigenpairs(given, 6, most=16)
    assert "cut off" in found.how
    assert found.radius > 1e-6
    for low, high in zip(found.lower, found.upper, strict=True):
        assert np.any((low <= SPECTRA["crowded"]) & (SPECTRA["crowded"] <= high))
    once = curvature.eigenpairs(given, 6, copies=False)
    assert "copies" in once.how and not once.complete
    assert np.all(once.lower <= SPECTRA["crowded"][:-7:-1]) and np.all(
        SPECTRA["crowded"][:-7:-1] <= once.upper
    )
