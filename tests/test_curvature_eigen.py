"""Eigenvalues: intervals that hold, multiplicities that are right, none that is missed or made up."""

import itertools

import jax
import jax.numpy as jnp
import mpmath
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from jax.tree_util import Partial

from peftproof.models.mlp import mlp_from_arrays
from peftproof.models.tasks import Split
from peftproof.theorems import curvature
from peftproof.theorems.curvature import eigen, lanczos
from peftproof.theorems.curvature.intervals import kahan_radius, none_above, rounding_of

D = 100
RNG = np.random.default_rng(7)
SPECTRA = {
    "spread": RNG.normal(size=D),
    "repeated": np.repeat([5.0, 3.0, 2.0, 1.0, 0.0, -2.0], [3, 1, 4, 2, 80, 10]),
    "zero": np.zeros(D),
    "identity": np.ones(D),
    "clustered": np.concatenate([1 + 1e-9 * np.arange(6), RNG.uniform(size=D - 6)]),
    "negative definite": -RNG.uniform(1, 2, size=D),
    "one spike": np.append(np.zeros(D - 1), 1.0),
    "decaying": 10.0 ** -np.linspace(0, 9, D),
}


def with_spectrum(values, seed=0):
    q, _ = np.linalg.qr(np.random.default_rng(seed).normal(size=(len(values), len(values))))
    matrix = (q * values) @ q.T
    return (matrix + matrix.T) / 2


def free(matrix):
    """The same matrix, known by its products alone."""
    return curvature.of_function(Partial(jnp.matmul, jnp.asarray(matrix)), len(matrix), memory=0)


def extreme(values, count, which):
    """The naive oracle: all eigenvalues, sorted."""
    return values[np.argsort(-lanczos.KEYS[which](values), kind="stable")][:count]


@pytest.mark.parametrize("which", ["largest", "smallest", "magnitude"])
@pytest.mark.parametrize("name", SPECTRA)
def test_extreme_eigenvalues_are_those_of_a_complete_decomposition(name, which, monkeypatch):
    matrix = with_spectrum(SPECTRA[name])
    truth = np.linalg.eigvalsh(matrix)
    rounding = D * np.finfo(float).eps * np.abs(truth).max()
    for count in (1, 10):
        expected = np.sort(extreme(truth, count, which))
        found = {"complete": curvature.eigenpairs(curvature.of_matrix(matrix), count, which)}
        if (name, which) != ("decaying", "smallest"):  # too crowded for products
            found["free"] = curvature.eigenpairs(free(matrix), count, which)
        monkeypatch.setattr(eigen, "COMPLETE", 0)
        found["proved"] = curvature.eigenpairs(curvature.of_matrix(matrix), count, which)
        monkeypatch.undo()
        for way, each in found.items():
            values = np.sort(each.values)
            # Of absolute values that are equal only the size is determined.
            same = np.abs if which == "magnitude" else np.positive
            np.testing.assert_allclose(
                np.sort(same(values)), np.sort(same(expected)), rtol=0, atol=10 * rounding
            )
            np.testing.assert_allclose(each.vectors.T @ each.vectors, np.eye(count), atol=1e-12)
            assert np.all(each.lower <= each.values)
            assert np.all(each.values <= each.upper)
            assert each.radius <= 1e-8 * np.abs(truth).max() + 1e-300
            assert each.complete == (way != "free")
            assert ("by a Cholesky factorisation" in each.how) == (way == "proved")
            assert way == "complete" or each.products <= 60 * count + 400


@given(st.integers(0, 2**32 - 1), st.integers(2, 5), st.data())
@settings(max_examples=30, deadline=None)
def test_intervals_hold_the_eigenvalues_to_fifty_digits(seed, d, data):
    rng = np.random.default_rng(seed)
    matrix = rng.integers(-3, 4, size=(d, d)).astype(float)
    matrix = matrix + matrix.T
    count, which = data.draw(st.integers(1, d)), data.draw(st.sampled_from(["largest", "smallest"]))
    found = curvature.eigenpairs(curvature.of_matrix(matrix), count, which)
    bounds = curvature.definiteness(curvature.of_matrix(matrix))
    with mpmath.workdps(50):
        truth = sorted(mpmath.eigsy(mpmath.matrix(matrix.tolist()), eigvals_only=True))
        assert mpmath.mpf(bounds.lower) <= truth[0] <= mpmath.mpf(bounds.upper)
        expected = truth[::-1][:count] if which == "largest" else truth[:count]
        for low, value, high in zip(found.lower, expected, found.upper, strict=True):
            assert mpmath.mpf(low) <= value <= mpmath.mpf(high)
    assert found.radius <= 1e-12 * max(np.abs(matrix).sum(), 1)


@given(st.integers(0, 2**32 - 1), st.integers(1, 3), st.floats(-12, -0.5))
@settings(max_examples=60, deadline=None)
def test_some_eigenvalues_are_within_the_radius_whatever_the_vectors_are(seed, c, log_defect):
    """Columns that are no eigenvectors, not orthonormal, and an M that is not theirs."""
    rng, defect = np.random.default_rng(seed), 10.0**log_defect / 4
    values = rng.integers(-2, 3, size=6).astype(float)
    matrix = with_spectrum(values, seed)
    X = np.linalg.qr(rng.normal(size=(6, c)))[0] + defect * rng.uniform(-1, 1, size=(6, c))
    M = X.T @ matrix @ X + defect * np.diag(rng.normal(size=c))
    M = (M + M.T) / 2
    radius = kahan_radius(matrix @ X, X, M, 1e-14)
    mine = np.linalg.eigvalsh(M)
    distances = (
        np.abs(np.array(chosen) - mine).max() for chosen in itertools.combinations(sorted(values), c)
    )
    assert min(distances) <= radius


def test_the_radius_is_attained():
    A, x = np.array([[0.0, 1e-3], [1e-3, 0.0]]), np.array([[1.0], [0.0]])
    radius = kahan_radius(A @ x, x, np.zeros((1, 1)), 0.0)
    assert 1e-3 <= radius <= 1e-3 * (1 + 1e-12)


@pytest.mark.parametrize("scale", [1e-160, 1e-150, 1e160])
def test_the_radius_does_not_vanish_where_squares_underflow(scale):
    """e₁ is at the distance 10⁻¹⁰ from eigenvectors, in entries that are smaller still."""
    d = 400
    A = np.zeros((d, d))
    A[0, 1:] = A[1:, 0] = 1e-10 / np.sqrt(d - 1)
    A *= scale
    x = np.eye(d)[:, :1]
    radius = kahan_radius(A @ x, x, np.zeros((1, 1)), rounding_of(A))
    assert 1e-10 <= radius / scale <= 1e-10 * (1 + 1e-9)


def test_vectors_that_are_dependent_prove_nothing():
    A, X = np.eye(3), np.ones((3, 2))
    assert kahan_radius(A @ X, X, np.eye(2), 0.0) == np.inf


def test_one_factorisation_shows_whether_something_is_missed():
    values = np.array([5.0, 4.0, 4.0, 1.0, 0.5])
    matrix = with_spectrum(values)
    vectors = np.linalg.eigh(matrix)[1][:, ::-1]
    bound = none_above(matrix, values[:3], vectors[:, :3], 1.5, 1.2)
    assert 1.5 <= bound <= 1.5 + 1e-12
    assert none_above(matrix, values[:2], vectors[:, :2], 1.5, 1.2) is None  # a copy of 4 is left
    assert none_above(matrix, values[:3], np.eye(5)[:, :3], 1.5, 1.2) is None


def test_a_missed_copy_is_noticed_and_found(monkeypatch):
    """One vector per eigenspace, which is what a Krylov space has, does not pass the proof."""
    matrix = with_spectrum(np.array([3.0, 3.0, 2.0, 1.0] + 96 * [0.0]))
    vectors = np.linalg.eigh(matrix)[1]

    def without_copies(*_, **__):
        chosen = vectors[:, [-1, -3, -4]]
        return lanczos.Search(chosen, matrix @ chosen, 3.0, 10, True, -np.inf)

    monkeypatch.setattr(eigen, "search", without_copies)
    monkeypatch.setattr(eigen, "COMPLETE", 0)
    found = curvature.eigenpairs(curvature.of_matrix(matrix), 3)
    np.testing.assert_allclose(found.values, [3, 3, 2], atol=1e-12)
    assert found.complete
    assert "complete decomposition" in found.how


def test_a_network_with_a_spectrum_that_repeats_itself():
    r"""Softmax regression at 0: the Hessian is $(I - 11^T/C)/C \otimes X^TX/p$, so C − 1 copies of each."""
    rng, p, inputs, classes = np.random.default_rng(0), 40, 12, 10
    split = Split(rng.normal(size=(p, inputs)), rng.integers(0, classes, size=p))
    network = mlp_from_arrays([np.zeros((classes, inputs))])
    once = np.linalg.eigvalsh(split.x.T @ split.x / p)[::-1] / classes
    expected = np.concatenate([np.repeat(once, classes - 1), np.zeros(inputs)])
    for memory in (2**30, 0):
        made = curvature.hessian(network, split, memory=memory)
        for count in (9, 20):  # the second one ends inside of a cluster
            found = curvature.eigenpairs(made, count)
            np.testing.assert_allclose(found.values, expected[:count], rtol=1e-10)
            assert np.all(found.lower <= expected[:count])
            assert np.all(expected[:count] <= found.upper)
            images = made.product(found.vectors)
            np.testing.assert_allclose(images, found.vectors * found.values, atol=1e-9 * expected[0])
        least = curvature.eigenpairs(made, 12, "smallest")
        np.testing.assert_allclose(least.values, 0, atol=1e-12 * expected[0])


def test_the_whole_spectrum_can_be_asked_for():
    matrix = with_spectrum(SPECTRA["repeated"])
    for made in (curvature.of_matrix(matrix), free(matrix)):
        found = curvature.eigenpairs(made, D)
        np.testing.assert_allclose(found.values, np.sort(SPECTRA["repeated"])[::-1], atol=1e-12)
        assert found.complete
        assert found.ceiling == -np.inf
    one = curvature.eigenpairs(curvature.of_matrix(np.array([[-3.0]])), 1, "magnitude")
    assert (one.values, one.lower <= -3, one.upper >= -3) == ([-3.0], True, True)


def test_a_search_that_is_cut_off_says_so():
    found = curvature.eigenpairs(free(with_spectrum(SPECTRA["clustered"])), 3, most=16)
    assert "cut off" in found.how
    assert found.ceiling == np.inf
    truth = np.sort(SPECTRA["clustered"])
    # Its intervals still hold an eigenvalue each.
    assert all(
        np.any((low <= truth) & (truth <= high)) for low, high in zip(found.lower, found.upper, strict=True)
    )


def test_a_bounded_basis_finds_the_same():
    """Room for a third of the vectors that a search would otherwise hold: restarts, and the same result."""
    matrix = with_spectrum(np.linspace(0, 1, D) ** 2)
    limits = {"tolerance": 1e-10, "most": 3000, "seed": 0}
    found = lanczos.search(
        free(matrix).linear, D, 2, "largest", room=2 + lanczos.KEPT + lanczos.CHUNK, **limits
    )
    assert found.converged
    values = np.einsum("dc,de,ec->c", found.vectors, matrix, found.vectors)
    np.testing.assert_allclose(values, [1, (98 / 99) ** 2], rtol=1e-12)


def test_what_was_missed_is_below_the_ceiling_as_often_as_it_says():
    """The bound of Kuczyński and Woźniakowski: not one failure in 40 starts."""
    values = np.append(np.linspace(0, 0.9, D - 1), 1.0)
    linear, none = Partial(jnp.multiply, jnp.asarray(values)), jnp.zeros((0, D))
    for seed in range(40):
        basis = lanczos._started(none, none, np.random.default_rng(seed).normal(size=D), 64)
        for _ in range(2):
            basis, projected, _, _ = lanczos._grown(linear, basis, 8, 64)
        ritz = np.linalg.eigvalsh(projected)[::-1]
        assert 1 <= lanczos._ceiling(ritz[0], ritz, basis.size, D) < np.inf


@pytest.mark.parametrize("name", ["negative definite", "repeated", "clustered"])
def test_bases_stay_orthonormal_and_images_true(name):
    matrix, none = with_spectrum(SPECTRA[name]), jnp.zeros((0, D))
    rng = np.random.default_rng(0)
    basis = lanczos._started(none, none, rng.normal(size=D), 64)
    for _ in range(5):
        basis, projected, ended, _ = lanczos._grown(free(matrix).linear, basis, 8, 64)
        if ended:
            basis = basis._replace(direction=rng.normal(size=D))
    Q, images = (np.asarray(each)[: basis.size] for each in (basis.rows, basis.images))
    np.testing.assert_allclose(Q @ Q.T, np.eye(basis.size), atol=1e-12)
    np.testing.assert_allclose(images, Q @ matrix, atol=1e-12)
    np.testing.assert_allclose(projected, Q @ matrix @ Q.T, atol=1e-12)


def test_a_large_matrix_takes_a_basis_and_no_matrix():
    d = 200_000
    values = np.append(np.random.default_rng(0).uniform(size=d - 3), [3.0, 3.0, 2.0])
    made = curvature.of_function(Partial(jnp.multiply, jnp.asarray(values)), d)
    assert not made.dense
    found = curvature.eigenpairs(made, 3, tolerance=1e-8)
    np.testing.assert_allclose(found.values, [3, 3, 2], rtol=1e-12)
    assert 1 <= found.ceiling < 2
    assert jax.tree.leaves(made.linear)[0].size == d
