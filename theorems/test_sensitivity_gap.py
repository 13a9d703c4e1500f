"""The gap after re-adaptation: against 50 digits, against definitions, and what is refused."""

import doctest
import math
from functools import partial

import jax.numpy as jnp
import mpmath
import numpy as np
import pytest
import sympy
from jax.tree_util import Partial

from peftproof.theorems import curvature, linalg
from peftproof.theorems.sensitivity import gap, prepared
from peftproof.theorems.sensitivity.forms import corrected_57, dual_gap, gauss_newton_gap
from peftproof.theorems.sensitivity.gap import prepare, residual_gap
from peftproof.theorems.sensitivity.laws import clean_damage, kantorovich
from peftproof.theorems.sensitivity.roots import span

D, K = 12, 4


def random_spd(rng, d=D, condition=1e2):
    Q = np.linalg.qr(rng.normal(size=(d, d)))[0]
    H = (Q * np.geomspace(1, 1 / condition, d)) @ Q.T
    return (H + H.T) / 2


def with_ratio(rng, ratio, condition=1e2):
    """H, P and u whose gap is about this part of what full fine-tuning gains."""
    H, P = random_spd(rng, condition=condition), rng.normal(size=(D, K))
    z, w = rng.normal(size=K), rng.normal(size=D)
    w = w - P @ np.linalg.solve(P.T @ H @ P, P.T @ H @ w)
    inside = P @ z
    w = w * math.sqrt(ratio * (inside @ H @ inside) / (w @ H @ w))
    return H, P, H @ (inside + w)


def to_fifty_digits(H, P, u):
    """The gap and what full fine-tuning gains, from the very numbers that were given."""
    with mpmath.workdps(50):
        H, P, u = (mpmath.matrix(array.tolist()) for array in (H, P, u))
        full = (u.T * mpmath.lu_solve(H, u))[0] / 2
        v = P.T * u
        return full - (v.T * mpmath.lu_solve(P.T * H * P, v))[0] / 2, full


def subtracted(H, P, u):
    v = P.T @ u
    return (u @ np.linalg.solve(H, u) - v @ np.linalg.solve(P.T @ H @ P, v)) / 2


def naive(H, P, u):
    """By the definition: both minima, with pseudo-inverses."""
    full = u @ np.linalg.pinv(H, rcond=1e-11, hermitian=True) @ u / 2
    v = P.T @ u
    return full - v @ np.linalg.pinv(P.T @ H @ P, rcond=1e-11, hermitian=True) @ v / 2, full


@pytest.mark.parametrize(("ratio", "accuracy"), [(1e-6, 2e-13), (2e-12, 1e-10)])
def test_the_residual_form_agrees_with_fifty_digits_where_subtraction_does_not(ratio, accuracy):
    rng, errors, lost = np.random.default_rng(0), [], []
    for _ in range(15):
        H, P, u = with_ratio(rng, ratio)
        exact, full = map(float, to_fifty_digits(H, P, u))
        found = residual_gap(H, P, u)
        assert exact / full == pytest.approx(ratio, rel=0.01)
        assert abs(found.value - exact) <= found.error
        assert found.full == pytest.approx(full, rel=1e-12)
        assert found.relative == pytest.approx(found.value / full)
        errors.append(abs(found.value / exact - 1))
        lost.append(abs(subtracted(H, P, u) / exact - 1))
    # The last digits depend on the machine: twice the law ε √(full / gap) is what any may lose.
    assert np.median(errors) <= max(accuracy, 2 * linalg.EPS / math.sqrt(ratio))
    assert np.median(lost) > 30 * accuracy


@pytest.mark.parametrize("condition", [1.0, 1e3, 1e6, 1e9])
@pytest.mark.parametrize("ratio", [0.5, 1e-4, 1e-9])
def test_the_stated_error_covers_the_actual_one_and_is_not_absurd(condition, ratio):
    rng = np.random.default_rng(1)
    for _ in range(4):
        H, P, u = with_ratio(rng, ratio, condition)
        exact = float(to_fifty_digits(H, P, u)[0])
        found = residual_gap(H, P, u)
        assert abs(found.value - exact) <= found.error
        assert found.error <= 1e3 * D * np.finfo(float).eps * condition * math.sqrt(found.full * found.value)


def nearly_dependent(rng):
    """Two directions of which the second is the first but for a ten-millionth, and another one."""
    one, off, other = rng.normal(size=(3, D))
    return np.column_stack([one, one + 1e-7 * off, other])


@pytest.mark.parametrize("scale", [1.0, 1e-90])
def test_the_stated_error_covers_what_directions_and_curvature_lose(scale):
    """Each of the derivatives of which it is made has a case in which the others are too small."""
    rng = np.random.default_rng(2)
    for _ in range(6):
        H = random_spd(rng, condition=10)
        steep = random_spd(rng, condition=1e10)
        least = np.linalg.eigh(steep)[1][:, 0]
        for matrix, P, tilt in (
            (H, nearly_dependent(rng), rng.normal(size=D)),
            (steep, rng.normal(size=(D, K)), least),
        ):
            # Steps are of the size of the square of the scale, and squares of theirs underflow.
            A, u = matrix / scale, tilt * scale
            exact = to_fifty_digits(A, P, u)[0]
            found = residual_gap(A, P, u)
            assert abs(found.value - exact) <= found.error <= 1e-2 * found.full


def test_the_stated_error_of_products_covers_an_early_end_of_the_solve(monkeypatch):
    monkeypatch.setattr(prepared, "solve", partial(curvature.solve, relative=1e-9))
    rng = np.random.default_rng(3)
    for _ in range(5):
        H, P, u = random_spd(rng, 60, 1e4), rng.normal(size=(60, K)), rng.normal(size=60)
        found = residual_gap(by_products(H), P, u)
        assert abs(found.value - residual_gap(H, P, u).value) <= found.error <= 1e-6 * found.full


def test_the_stated_error_of_a_jacobian_covers_nearly_dependent_directions():
    rng = np.random.default_rng(4)
    for _ in range(5):
        J, P, r = rng.normal(size=(20, D)), nearly_dependent(rng), rng.normal(size=20)
        with mpmath.workdps(50):
            A, s = mpmath.matrix(J.tolist()), mpmath.matrix(r.tolist())
            H, u = A.T * A, A.T * s
            v, B = mpmath.matrix(P.tolist()).T * u, mpmath.matrix(P.tolist())
            exact = ((u.T * mpmath.lu_solve(H, u))[0] - (v.T * mpmath.lu_solve(B.T * H * B, v))[0]) / 2
        found = gauss_newton_gap(J, P, r)
        assert abs(found.value - exact) <= found.error <= 1e-2 * found.full


SHAPES = {"none": 0, "some": 4, "all": D, "repeated": -1}


@pytest.mark.parametrize("singular", [False, True])
@pytest.mark.parametrize("shape", SHAPES)
def test_it_is_the_difference_of_the_minima_for_any_directions(shape, singular):
    rng = np.random.default_rng(len(shape))
    H = random_spd(rng)
    if singular:
        X = rng.normal(size=(D, 7))
        H = X @ X.T
    if shape == "repeated":
        P = rng.normal(size=(D, 3)) @ rng.normal(size=(3, 5)) * np.array([1, 1e3, 1, 1e-3, 1])
    else:
        P = rng.normal(size=(D, SHAPES[shape]))
    u = H @ rng.normal(size=D)
    expected, full = naive(H, P, u)
    found = residual_gap(H, P, u)
    assert found.range_ok
    assert found.value == pytest.approx(expected, rel=1e-9, abs=1e-10 * full)
    assert found.full - found.peft == pytest.approx(found.value, abs=1e-12 * full)
    assert (found.cut, found.how) == ((5, "eigenvalues") if singular else (0, "Cholesky"))
    assert found.rank == min(np.linalg.matrix_rank(P) if P.size else 0, 7 if singular else D)
    assert found.clear > 1e6
    assert (found.clear == math.inf) == (shape != "repeated")


def test_scaling_and_mixing_the_columns_change_nothing():
    rng = np.random.default_rng(2)
    H, P, u = with_ratio(rng, 1e-3)
    mixed = P * np.array([1e-6, 1, 1e6, 10]) @ np.linalg.qr(rng.normal(size=(K, K)))[0]
    assert residual_gap(H, P * np.array([1e-9, 1, 1e9, -1]), u).value == pytest.approx(
        residual_gap(H, P, u).value, rel=1e-11
    )
    assert residual_gap(H, mixed, u, cutoff=1e-14).value == pytest.approx(
        residual_gap(H, P, u).value, rel=1e-3
    )


def test_what_is_left_is_orthogonal_relative_to_its_own_length():
    """One pass leaves ε‖v‖ along the basis, which is much of a short rest; the second removes it."""
    rng = np.random.default_rng(9)
    found = span(rng.normal(size=(40, 20)))
    for v in (found.basis @ rng.normal(size=20) + 1e-10 * rng.normal(size=40) for _ in range(5)):
        left = found.residual(v)
        assert np.linalg.norm(found.basis.T @ left) <= 1e-14 * np.linalg.norm(left)


def test_by_hand():
    """H⁻¹ = [[2, 1], [1, 1]], P = e₁: for u = e₁ the minima are −1 and −1/2."""
    H, P = np.array([[1.0, -1.0], [-1.0, 2.0]]), np.array([[1.0], [0.0]])
    found = residual_gap(H, P, np.array([1.0, 0.0]))
    assert (found.value, found.full, found.peft) == pytest.approx((0.5, 1.0, 0.5))
    assert residual_gap(H, P, np.array([2.0, 1.0])).value == pytest.approx(4.5)
    assert residual_gap(H, P, np.array([1.0, -1.0])).value == pytest.approx(0, abs=1e-30)  # H e₁
    parts = corrected_57(H, P, np.array([1.0, -1.0]))
    assert (parts.parallel, parts.cross, parts.orthogonal) == pytest.approx((0.5, -1.0, 0.5))


def test_the_root_in_the_statement_may_be_the_symmetric_one():
    """‖(I − Q)H^(−1/2)u‖²/2 symbolically, for H = [[5, 4], [4, 5]], the square of [[2, 1], [1, 2]]."""
    S, P, u = sympy.Matrix([[2, 1], [1, 2]]), sympy.Matrix([1, 0]), sympy.Matrix([3, 1])
    Z = S * P
    left = (sympy.eye(2) - Z * (Z.T * Z).inv() * Z.T) * S.inv() * u
    expected = (left.T * left)[0] / 2
    H = np.array((S * S).tolist(), float)
    found = residual_gap(H, np.array([[1.0], [0.0]]), np.array([3.0, 1.0])).value
    assert found == pytest.approx(float(expected), rel=1e-14)
    assert expected == sympy.Rational(49, 90)


def test_the_forms_agree():
    rng = np.random.default_rng(3)
    for k in (0, 1, 5, D):
        H, P, u = random_spd(rng), rng.normal(size=(D, k)), rng.normal(size=D)
        expected = naive(H, P, u)[0]
        size = residual_gap(H, P, u).full
        assert dual_gap(H, P, u) == pytest.approx(expected, abs=1e-11 * size)
        assert corrected_57(H, P, u).total == pytest.approx(expected, abs=1e-11 * size)


def test_parts_of_a_disturbance_along_and_across():
    rng = np.random.default_rng(4)
    H, P, u = random_spd(rng), rng.normal(size=(D, K)), rng.normal(size=D)
    Pi = P @ np.linalg.pinv(P)
    along, across = Pi @ u, u - Pi @ u
    parts = corrected_57(H, P, u)
    assert parts.parallel == pytest.approx(naive(H, P, along)[0], rel=1e-10)
    assert parts.orthogonal == pytest.approx(across @ np.linalg.solve(H, across) / 2, rel=1e-12)
    assert parts.cross == pytest.approx(along @ np.linalg.solve(H, across), rel=1e-10)
    assert corrected_57(H, P, across).total == pytest.approx(naive(H, P, across)[0], rel=1e-10)


@pytest.mark.parametrize(("n", "d"), [(30, 8), (8, 8), (5, 8)])
def test_gauss_newton_never_forms_the_square(n, d):
    rng = np.random.default_rng(n)
    J, P, r = rng.normal(size=(n, d)), rng.normal(size=(d, 3)), rng.normal(size=n)
    found, formed = gauss_newton_gap(J, P, r), residual_gap(J.T @ J, P, J.T @ r)
    assert found.value == pytest.approx(formed.value, rel=1e-9)
    assert found.value == pytest.approx(naive(J.T @ J, P, J.T @ r)[0], rel=1e-9)
    assert (found.cut, found.rank) == (max(d - n, 0), 3)
    decayed = gauss_newton_gap(np.vstack([J, 0.1 * np.eye(d)]), P, np.append(r, np.zeros(d)))
    assert decayed.value == pytest.approx(
        residual_gap(J.T @ J + 0.01 * np.eye(d), P, J.T @ r).value, rel=1e-9
    )


def test_gauss_newton_keeps_the_digits_that_squaring_loses():
    """A condition of 1e7 of J: squared it is beyond the cutoff of H, and JᵀJ has lost what is small."""
    rng = np.random.default_rng(5)
    U, V = (np.linalg.qr(rng.normal(size=shape))[0] for shape in ((20, 6), (6, 6)))
    J, P, r = (U * np.geomspace(1, 1e-7, 6)) @ V.T, rng.normal(size=(6, 2)), rng.normal(size=20)
    with mpmath.workdps(50):
        A, directions, s = (mpmath.matrix(array.tolist()) for array in (J, P, r))
        parts = [((X.T * s).T * mpmath.lu_solve(X.T * X, X.T * s))[0] / 2 for X in (A, A * directions)]
        expected = float(parts[0] - parts[1])
    found = gauss_newton_gap(J, P, r)
    assert found.value == pytest.approx(expected, abs=found.error)
    assert found.value == pytest.approx(expected, rel=1e-7)
    assert 1e13 < found.condition < 1e15
    assert residual_gap(J.T @ J, P, J.T @ r).value != pytest.approx(expected, rel=1e-3)


def test_an_indefinite_hessian_has_no_gap_and_the_interval_of_its_eigenvalue_is_named():
    H = np.diag([2.0, 1.0, -0.5])
    with pytest.raises(ValueError, match=r"least eigenvalue lies in \[-0\.5, -0\.5\].*weight decay"):
        residual_gap(H, np.eye(3)[:, :1], np.ones(3))
    with pytest.raises(ValueError, match="indefinite"):
        dual_gap(H, np.eye(3)[:, :1], np.ones(3))
    tiny = np.diag([1.0, 1.0, -1e-13])  # no more than a zero by the cutoff
    assert residual_gap(tiny, np.eye(3)[:, :1], np.array([1.0, 1.0, 0.0])).cut == 1


def test_a_tilt_outside_the_range_has_no_gap():
    H, P = np.diag([1.0, 2.0, 0.0]), np.eye(3)[:, :1]
    found = residual_gap(H, P, np.array([1.0, 1.0, 1e-3]))
    assert not found.range_ok
    assert math.isnan(found.value)
    assert (found.cut, found.outside) == (1, pytest.approx(1e-3))
    assert "none: 0.001 of u" in repr(found)
    assert residual_gap(H, P, np.array([1.0, 1.0, 0.0])).value == pytest.approx(0.25)
    assert residual_gap(np.diag([1.0, 2.0, 1e-9]), P, np.array([1.0, 1.0, 1e-3])).range_ok
    with pytest.raises(ValueError, match="1 eigenvalues count as zero"):
        dual_gap(H, P, np.array([1.0, 1.0, 0.0]))
    with pytest.raises(ValueError, match="needs a definite matrix"):
        corrected_57(H, P, np.array([1.0, 1.0, 0.0]))


@pytest.mark.parametrize("smallest", [1.0, 1e-5, 1e-9])
def test_the_range_condition_is_as_sharp_as_the_eigenvectors(smallest):
    rng = np.random.default_rng(10)
    Q = np.linalg.qr(rng.normal(size=(100, 100)))[0]
    V, N = Q[:, :40], Q[:, 40:]
    H = (V * np.geomspace(1, smallest, 40)) @ V.T
    H = (H + H.T) / 2
    inside, P = V @ rng.normal(size=40), rng.normal(size=(100, 5))
    assert residual_gap(H, P, inside).range_ok
    part = 1e-4 if smallest < 1e-6 else 1e-8
    found = residual_gap(H, P, inside + part * N[:, 0])
    assert (found.range_ok, found.cut) == (False, 60)
    assert found.outside == pytest.approx(part, rel=0.1)


def test_the_matrix_inequality_is_false_off_the_range_of_a_singular_hessian():
    """H = diag(1, 0), P = (1, 1)ᵀ: H⁺ − P(PᵀHP)⁺Pᵀ = [[0, −1], [−1, −1]]."""
    H, P = np.diag([1.0, 0.0]), np.ones((2, 1))
    K = np.linalg.pinv(H) - P @ np.linalg.pinv(P.T @ H @ P) @ P.T
    assert np.array_equal(K, [[0, -1], [-1, -1]])
    assert np.linalg.eigvalsh(K)[0] < -1
    assert residual_gap(H, P, np.array([1.0, 0.0])).value == pytest.approx(0, abs=1e-30)


def by_products(H):
    return curvature.of_function(Partial(jnp.matmul, jnp.asarray(H)), len(H), memory=1)


@pytest.mark.parametrize("ratio", [0.3, 1e-4])
def test_products_with_the_hessian_are_enough(ratio):
    rng = np.random.default_rng(6)
    H, P, u = with_ratio(rng, ratio)
    free, dense = residual_gap(by_products(H), P, u), residual_gap(H, P, u)
    assert not by_products(H).dense
    assert free.value == pytest.approx(dense.value, abs=free.error + dense.error)
    assert free.value == pytest.approx(dense.value, rel=1e-8)
    assert (free.full, free.peft) == pytest.approx((dense.full, dense.peft), rel=1e-9)
    assert free.range_ok
    assert "not proved" in free.how
    given = residual_gap(curvature.of_matrix(H), P, u)
    assert (given.value, given.how) == (pytest.approx(dense.value, rel=1e-12), "Cholesky")


def test_every_form_takes_a_curvature():
    rng = np.random.default_rng(11)
    H, P, u = with_ratio(rng, 0.1)
    C, free = curvature.of_matrix(H), by_products(H)
    assert dual_gap(C, P, u) == pytest.approx(dual_gap(H, P, u), rel=1e-12)
    assert corrected_57(C, P, u) == corrected_57(H, P, u)
    assert kantorovich(C) == kantorovich(H)
    for H_of in (C, free):
        assert clean_damage(H_of, P, u).full == pytest.approx(clean_damage(H, P, u).full, rel=1e-9)
    with pytest.raises(ValueError, match="budget"):
        dual_gap(free, P, u)


def test_products_show_when_there_is_no_gap():
    H, P = np.diag([1.0, 2.0, -0.5]), np.eye(3)[:, :1]
    with pytest.raises(ValueError, match="indefinite"):
        residual_gap(by_products(H), P, np.array([1.0, 0.1, 1.0]))
    outside = residual_gap(by_products(np.diag([1.0, 2.0, 0.0])), P, np.ones(3))
    assert not outside.range_ok
    assert math.isnan(outside.value)
    X = np.random.default_rng(8).normal(size=(40, 20))
    stuck = residual_gap(by_products(X @ X.T), np.eye(40)[:, :3], np.ones(40))
    assert not stuck.range_ok
    assert math.isnan(stuck.value)


def test_one_preparation_serves_many_disturbances():
    rng = np.random.default_rng(7)
    H, P, _ = with_ratio(rng, 0.1)
    for made in (prepare(H, P), prepare(by_products(H), P)):
        for u in rng.normal(size=(3, D)):
            assert made.gap(u).value == pytest.approx(naive(H, P, u)[0], rel=1e-8)


def test_the_example_of_the_docstring():
    assert doctest.testmod(gap) == (0, 4)


def test_what_is_refused():
    H, P, u = np.eye(3), np.eye(3)[:, :1], np.ones(3)
    for arguments, message in (
        ((H, P.T, u), r"P: got shape \(1, 3\)"),
        ((H, P, u[:2]), r"u: got shape \(2,\)"),
        ((H[:, :2], P, u), "H: got shape"),
        ((H + np.triu(H + 1, 1), P, u), "not symmetric"),
        ((H.astype(np.float32), P, u), "float64"),
        ((H, P.astype(np.float32), u), "float64"),
        ((H, P, u * np.nan), "NaN"),
    ):
        with pytest.raises(ValueError, match=message):
            residual_gap(*arguments)
    with pytest.raises(ValueError, match=r"r: got shape \(3,\)"):
        gauss_newton_gap(np.ones((2, 3)), P, u)
    with pytest.raises(ValueError, match="J: got shape"):
        gauss_newton_gap(u, P, u)
