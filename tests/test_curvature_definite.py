"""Definiteness with proved bounds, and the certificates of solves and of forms with a pseudo-inverse."""

import jax.numpy as jnp
import mpmath
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from jax.tree_util import Partial

from peftproof.models.mlp import mlp_from_arrays
from peftproof.models.tasks import Split
from peftproof.theorems import curvature, linalg
from peftproof.theorems.curvature import definite, forms

D = 120
RNG = np.random.default_rng(5)
LEAST = {
    "definite": np.append(RNG.uniform(0.1, 1, size=D - 1), 1e-3),
    "repeated": np.append(RNG.uniform(0.1, 1, size=D - 30), np.full(30, 0.01)),
    "barely indefinite": np.append(RNG.uniform(0.1, 1, size=D - 1), -1e-6),
    "indefinite": RNG.normal(size=D),
    "negative definite": -RNG.uniform(1, 2, size=D),
    "crowded below": np.append(RNG.uniform(0.1, 1, size=D - 40), -0.2 + 1e-7 * np.arange(40)),
}


def with_spectrum(values, seed=0):
    q, _ = np.linalg.qr(np.random.default_rng(seed).normal(size=(len(values), len(values))))
    matrix = (q * values) @ q.T
    return (matrix + matrix.T) / 2


def free(matrix, **options):
    linear = Partial(jnp.matmul, jnp.asarray(matrix))
    return curvature.of_function(linear, len(matrix), memory=0, **options)


@pytest.mark.parametrize("name", LEAST)
def test_the_least_eigenvalue_is_bounded_from_both_sides_without_a_decomposition(name, monkeypatch):
    matrix = with_spectrum(LEAST[name])
    truth, rounding = np.linalg.eigvalsh(matrix)[0], D * np.finfo(float).eps * D
    monkeypatch.setattr(definite, "SMALL", 0)
    monkeypatch.delattr(curvature.Curvature, "spectrum")
    found = curvature.definiteness(curvature.of_matrix(matrix))
    assert found.lower <= truth + rounding
    assert truth - rounding <= found.upper
    assert found.upper - found.lower <= 1e-5 * abs(truth) + 10 * rounding
    assert found.definite == (truth > 0)
    np.testing.assert_allclose(np.linalg.norm(found.vector), 1, rtol=1e-12)
    np.testing.assert_allclose(found.vector @ matrix @ found.vector, truth, atol=1e-5 * abs(truth))


def test_a_matrix_that_is_singular_up_to_rounding_is_undecided():
    matrix = with_spectrum(np.append(np.linspace(0.1, 1, 30), 0.0))
    found = curvature.definiteness(curvature.of_matrix(matrix))
    assert found.definite is None
    assert -1e-10 < found.lower <= 0 < found.upper < 1e-10


def test_zero_and_single_numbers():
    zero = curvature.definiteness(curvature.of_matrix(np.zeros((3, 3))))
    assert zero.definite is not True
    assert zero.lower <= 0 <= zero.upper
    for number in (2.0, -2.0):
        found = curvature.definiteness(curvature.of_matrix(np.array([[number]])))
        assert found.lower <= number <= found.upper
        assert found.definite == (number > 0)


@given(st.integers(2, 6), st.integers(1, 40), st.integers(0, 2**32 - 1))
@settings(max_examples=40, deadline=None)
def test_a_bound_from_below_holds_where_rounding_decides(d, exponent, seed):
    """MMᵀ of integers plus a tiny shift: the least eigenvalue may be zero, or anything near it."""
    rng = np.random.default_rng(seed)
    M = rng.integers(-2, 3, size=(d, d - 1)).astype(float)
    matrix = M @ M.T + 2.0**-exponent * np.eye(d)
    bound = definite.least_eigenvalue_above(matrix, 0.0)
    with mpmath.workdps(50):
        truth = min(mpmath.eigsy(mpmath.matrix(matrix.tolist()), eigvals_only=True))
        assert bound is None or mpmath.mpf(bound) <= truth
    assert bound is not None or exponent > 30


def test_a_factorisation_that_runs_through_is_no_proof_by_itself():
    """MMᵀ of rank d − 1, rounded: a factor may exist though the least eigenvalue is below zero."""
    rng, below = np.random.default_rng(0), 0
    for _ in range(600):
        d = int(rng.integers(3, 9))
        M = rng.normal(size=(d, d - 1))
        matrix = M @ M.T
        bound = definite.least_eigenvalue_above(matrix, 0.0)
        if bound is not None and np.linalg.eigvalsh(matrix)[0] < linalg.EPS * np.trace(matrix):
            with mpmath.workdps(50):
                least = min(mpmath.eigsy(mpmath.matrix(matrix.tolist()), eigvals_only=True))
            assert mpmath.mpf(bound) <= least
            below += least < 0
    assert below > 10


@pytest.mark.parametrize("entries", [(3.0,), (3.0, 1.0, 2.0)])
def test_what_a_factorisation_may_lose_is_what_the_theorem_says(entries):
    """Rump 2006: Σ γ_{j+1} b_jj / (1 − γ_{j+1}), and the rounding of the shifted diagonal."""
    diagonal = np.array(entries)
    terms = [linalg.gamma(j + 2) / (1 - linalg.gamma(j + 2)) * each for j, each in enumerate(diagonal)]
    assert sum(terms) + 3 * linalg.EPS / 2 <= definite.lost(diagonal) <= 4 * sum(terms)


def test_beyond_the_budget_the_structure_bounds_from_below():
    rng = np.random.default_rng(0)
    network = mlp_from_arrays([rng.normal(size=(4, 6)), rng.normal(size=(3, 4))])
    split = Split(rng.normal(size=(20, 6)), rng.integers(0, 3, size=20))
    made = curvature.gauss_newton(network, split, weight_decay=0.03, memory=0)
    truth = np.linalg.eigvalsh(curvature.gauss_newton(network, split, weight_decay=0.03).matrix())[0]
    found = curvature.definiteness(made)
    assert found.lower == 0.03
    assert found.definite
    assert truth - 1e-12 <= found.upper <= truth + 1e-6
    assert curvature.definiteness(made.shifted(-0.01)).lower == pytest.approx(0.02)
    hessian = curvature.definiteness(curvature.hessian(network, split, weight_decay=0.03, memory=0))
    assert hessian.lower == -np.inf
    assert "not proved" in hessian.how


@given(st.integers(0, 2**32 - 1))
@settings(max_examples=15, deadline=None)
def test_errors_of_solves_and_forms_are_bounded(seed):
    rng = np.random.default_rng(seed)
    M = rng.integers(-3, 4, size=(5, 5)).astype(float)
    matrix = M @ M.T + np.eye(5)
    u = rng.integers(-3, 4, size=5).astype(float) + 0.5
    made = curvature.of_matrix(matrix)
    solution, lower = curvature.solve(made, u), curvature.definiteness(made).lower
    form = curvature.quadratic_form(made, u)
    with mpmath.workdps(50):
        x = mpmath.lu_solve(mpmath.matrix(matrix.tolist()), mpmath.matrix(u.tolist()))
        error = mpmath.norm(x - mpmath.matrix(solution.x.tolist()))
        value = sum(mpmath.mpf(a) * b for a, b in zip(u.tolist(), x, strict=True))
        assert error <= solution.error(lower)
        assert abs(value - mpmath.mpf(form.value)) <= form.error
    assert solution.error(lower) < 1e-9
    assert form.error < 1e-9 * max(1, form.value)


def _form(matrix, u):
    """uᵀA⁻¹u to fifty digits."""
    with mpmath.workdps(50):
        x = mpmath.lu_solve(mpmath.matrix(matrix.tolist()), mpmath.matrix(u.tolist()))
        return sum(mpmath.mpf(a) * b for a, b in zip(u.tolist(), x, strict=True))


@pytest.mark.parametrize("condition", [1e2, 1e6, 1e10])
@pytest.mark.parametrize("make", ["dense", "cut", "free"])
def test_the_error_of_a_form_covers_what_cancels_in_an_ill_conditioned_product(make, condition):
    for seed in range(6):
        matrix = with_spectrum(np.geomspace(1 / condition, 1, 6), seed)
        u = np.linalg.eigh(matrix)[1][:, 0] if seed % 2 else np.random.default_rng(seed).normal(size=6)
        made = free(matrix, floor=0.5 / condition) if make == "free" else curvature.of_matrix(matrix)
        if make == "cut":  # decomposed, though nothing is small enough to be cut
            form = forms._cut(made, u, 1e-15)
            assert form.cut == 0
        else:
            form = curvature.quadratic_form(made, u)
        assert abs(_form(matrix, u) - mpmath.mpf(form.value)) <= form.error
        if make != "free" or condition < 1e8:  # conjugate gradients need not get anywhere: the error says so
            assert form.error <= 1e-11 * condition * form.value


def test_the_error_of_a_form_covers_an_iteration_that_ends_early():
    """What is left is of second order in the residual: uᵀx alone would be off by one of first order."""
    matrix = with_spectrum(np.geomspace(1e-2, 1, 40))
    made = free(matrix, floor=np.linalg.eigvalsh(matrix)[0] * (1 - 1e-6))
    for seed in range(4):
        u = np.random.default_rng(seed).normal(size=40)
        form = curvature.quadratic_form(made, u, relative=1e-3)
        assert abs(u @ np.linalg.solve(matrix, u) - form.value) <= form.error <= 1e-3 * form.value


@pytest.mark.parametrize("scale", [1e-170, 1e-150, 1e160])
def test_bounds_hold_where_squares_underflow_or_overflow(scale):
    matrix = with_spectrum(np.geomspace(1e-3, 1, 6)) * scale
    u = np.random.default_rng(0).normal(size=6)
    made, small = curvature.of_matrix(matrix), np.full(6, 1e-170)
    bounds, form = curvature.definiteness(made), curvature.quadratic_form(made, u)
    with mpmath.workdps(50):
        least = min(mpmath.eigsy(mpmath.matrix(matrix.tolist()), eigvals_only=True))
        assert mpmath.mpf(bounds.lower) <= least <= mpmath.mpf(bounds.upper)
        assert abs(_form(matrix, u) - mpmath.mpf(form.value)) <= form.error <= 1e-8 * form.value
    assert bounds.upper - bounds.lower <= 1e-10 * scale
    solution = curvature.solve(curvature.of_matrix(with_spectrum(np.geomspace(1e-3, 1, 6))), small)
    assert 0 < solution.relative < 1e-10
    assert np.all(solution.x != 0)


@pytest.mark.parametrize("make", [curvature.of_matrix, free], ids=["dense", "free"])
def test_a_form_off_the_range_shows_what_is_outside(make):
    values = np.append(np.linspace(1, 2, D - 2), [0.0, 0.0])
    matrix = with_spectrum(values)
    kernel = np.linalg.eigh(matrix)[1][:, :2]
    inside = matrix @ np.random.default_rng(1).normal(size=D)
    expected = inside @ np.linalg.pinv(matrix, rcond=1e-8) @ inside
    for part in (0.0, 3.0):
        form = curvature.quadratic_form(make(matrix), inside + part * kernel[:, 0])
        np.testing.assert_allclose(form.value, expected, rtol=1e-6 if part and make is free else 1e-10)
        np.testing.assert_allclose(form.outside, part, atol=1e-6)
        if make is curvature.of_matrix:
            assert form.cut == 2
            np.testing.assert_allclose(np.abs(form.cut_directions.T @ matrix), 0, atol=1e-12)
        else:
            assert form.cut is None


@pytest.mark.parametrize("make", [curvature.of_matrix, free], ids=["dense", "free"])
def test_indefinite_and_singular_systems_are_solved_with_their_residual_told(make):
    values = np.append(RNG.uniform(0.5, 1, size=D - 3), [-2.0, -1.0, 0.0])
    matrix = with_spectrum(values)
    whole, kernel = np.linalg.eigh(matrix)[1], np.linalg.eigh(matrix)[1][:, 2]
    inside = matrix @ whole.sum(axis=1)
    solution = curvature.solve(make(matrix), inside)
    assert solution.relative < 1e-9
    np.testing.assert_allclose(matrix @ solution.x, inside, atol=1e-8)
    off = curvature.solve(make(matrix), inside + kernel)
    np.testing.assert_allclose(off.residual, 1, rtol=1e-6)


def test_conjugate_gradients_need_a_known_floor():
    matrix = with_spectrum(LEAST["definite"])
    u = np.random.default_rng(2).normal(size=D)
    known = curvature.solve(free(matrix, floor=1e-4), u)
    assert "conjugate gradients" in known.how
    assert "minimal residuals" in curvature.solve(free(matrix), u).how
    for solution in (known, curvature.solve(free(matrix), u)):
        np.testing.assert_allclose(solution.x, np.linalg.solve(matrix, u), rtol=1e-7, atol=1e-7)
    none = curvature.solve(free(matrix), np.zeros(D))
    assert (none.residual, none.relative) == (0, 0)


@pytest.mark.parametrize(("condition", "left"), [(1e4, 1e-11), (1e5, 1e-10), (1e6, 1e-9)])
def test_conjugate_gradients_do_not_go_on_for_what_rounding_keeps_from_them(condition, left):
    matrix = with_spectrum(np.geomspace(1 / condition, 1, 30))
    made = free(matrix, floor=0.9 / condition)
    for seed in range(3):
        u = np.random.default_rng(seed).normal(size=30)
        solution = curvature.solve(made, u)
        assert solution.relative < left
        assert solution.iterations < 1000
