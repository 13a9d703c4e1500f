"""Bounds, averages and instances of the repairs of Theorem 4: soundness in closed form, oracles, power."""

from dataclasses import replace
from fractions import Fraction
from itertools import product

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import minimize

from peftproof.theorems import linalg, oracles, rational
from peftproof.theorems.claims import Outcome
from peftproof.theorems.sensitivity import (
    claims_convex,
    claims_forms,
    claims_gap,
    claims_laws,
    claims_slips,
)
from peftproof.theorems.sensitivity.instances import bends, gaps, noise
from peftproof.theorems.sensitivity.instances.convex import Convex, parabola, sparse
from peftproof.theorems.sensitivity.instances.gaps import Gap
from peftproof.theorems.sensitivity.instances.logistic import Logistic
from peftproof.theorems.sensitivity.instances.lowranks import MatrixLogistic, Separable
from peftproof.theorems.sensitivity.instances.matrices import least_pivot
from peftproof.theorems.sensitivity.laws import clean_damage, distance_bounds, gap_law, kantorovich

FEW = settings(max_examples=40, deadline=None)
CLAIMS = {
    claim.id: claim
    for module in (claims_gap, claims_laws, claims_forms, claims_slips, claims_convex)
    for claim in module.CLAIMS
}


def test_the_repairs_are_numbered_from_1_to_32():
    assert sorted(CLAIMS, key=lambda name: int(name[4:])) == [f"T4.R{n}" for n in range(1, 33)]


def test_kantorovich_bounds_and_is_attained():
    rng = np.random.default_rng(0)
    for _ in range(50):
        d = int(rng.integers(2, 7))
        X = rng.normal(size=(d, d))
        H, P = X @ X.T + 0.1 * np.eye(d), np.linalg.qr(rng.normal(size=(d, int(rng.integers(1, d)))))[0]
        inside, outside = P.T @ np.linalg.inv(H) @ P, np.linalg.inv(P.T @ H @ P)
        assert np.linalg.eigvalsh(inside - outside)[0] >= -1e-10
        assert np.linalg.eigvalsh(kantorovich(H) * outside - inside)[0] >= -1e-10
    H, p = np.diag([1.0, 2.0, 4.0]), np.array([1.0, 0.0, 1.0]) / np.sqrt(2)
    assert p @ np.linalg.inv(H) @ p == pytest.approx(kantorovich(H) / (p @ H @ p), rel=1e-14)
    for scale in (1.0, 1e-170, 1e170):
        assert kantorovich(scale * np.eye(3)) == 1
    with pytest.raises(ValueError, match="needs a positive definite"):
        kantorovich(np.diag([1.0, 0.0]))


def test_the_order_of_58_needs_orthonormal_directions_or_the_invariant_form():
    """H = 1, P = 1/2: PᵀH⁻¹P = 1/4 < 4 = (PᵀHP)⁻¹, while P(PᵀHP)⁻¹Pᵀ = 1 = H⁻¹."""
    H, P = linalg.exact([[1]]), linalg.exact([["1/2"]])
    assert (P.T @ P)[0, 0] < rational.inverse(P.T @ H @ P)[0, 0]
    assert Gap(H, P, linalg.exact([0]), linalg.exact([1])).least_excess == 0


def test_re_adaptation_costs_full_fine_tuning_more_of_the_undisturbed_loss():
    H, P = np.array([[1.0, -1.0], [-1.0, 2.0]]), np.array([[1.0], [0.0]])
    found = clean_damage(H, P, np.array([1.0, 0.0]))
    assert (found.full, found.peft, found.gap.value) == pytest.approx((1.0, 0.5, 0.5))
    assert clean_damage(H, P, np.array([1.0, -1.0])).gap.value == pytest.approx(0, abs=1e-30)


@FEW
@given(st.one_of(gaps.gaps(definite=False)[:2]))
def test_what_is_forgotten_more_is_what_is_fitted_better(one):
    """R16, its equalities: each rise is its form, and they differ by the gap that ε alone leaves."""
    assert one.damage_full == one.disturbance_full / 2
    assert one.damage_peft == one.clean_peft
    assert one.damage_full - one.damage_peft == one.with_disturbance(one.disturbance, stationary=True).gap


@FEW
@given(st.one_of(gaps.gaps(definite=False)[:2]), st.lists(st.integers(-2, 2), min_size=3, max_size=3))
def test_a_further_direction_lowers_the_gap_by_what_the_rest_has_along_it(one, entries):
    """R10, its formula: (pᵀr)² / 2c with r = u − HMu and c = pᵀHp − pᵀHMHp, and nothing for c = 0."""
    p = linalg.exact(entries)[: one.d]
    both = replace(one, directions=np.column_stack([one.directions, p]))
    rest, curved = one.tilt - one.hessian @ one.answers @ one.tilt, one.hessian @ p
    c = p @ curved - curved @ one.answers @ curved
    assert one.gap - both.gap == ((p @ rest) ** 2 / (2 * c) if c else 0)


@FEW
@given(st.one_of(gaps.singular()))
def test_the_dual_form_of_a_singular_hessian_takes_directions_in_its_range(one):
    """R6, its second half; and R19 (b): M ⪯ H⁺ if and only if range M lies in range H."""
    kernel = rational.nullspace(one.hessian)
    N = rational.nullspace(np.concatenate([one.directions.T, kernel.T]))
    x = N.T @ one.inverse @ one.tilt
    assert one.gap == (x @ rational.inverse(N.T @ one.inverse @ N) @ x / 2 if len(x) else 0)
    inside = not (kernel.T @ one.directions @ one.restricted).any()
    assert (one.least_excess_anywhere >= 0) == inside


def test_under_a_singular_hessian_only_directions_that_it_sees_are_counted():
    """R8: H = diag(1, 0) and P = (1, 1)ᵀ lack no direction, though d − rank P = 1."""
    points = noise.Points(linalg.exact([[1], [0]]), linalg.exact([[1], [1]]))
    assert (points.mean, points.lacking) == (0, 1)
    assert points.mean == gap_law(1.0, 0).mean


def test_a_tilt_outside_the_range_violates_a_hypothesis_in_floating_point_too():
    H, P = np.diag([1.0, 0.0]), np.ones((2, 1))
    inside, outside = (Gap(H, P, 0 * u, u) for u in np.eye(2))
    assert inside.range_condition.met
    assert not outside.range_condition.met
    assert CLAIMS["T4.R3"].judge(outside).outcome is Outcome.ASSUMPTION_VIOLATED


def test_distance_bounds():
    assert distance_bounds(2.0, 2.0, 3.0) == (9.0, 9.0)
    assert distance_bounds(0.0, 4.0, 0.5) == (0.0, 0.5)
    for arguments in (
        (-1.0, 1.0, 1.0),
        (2.0, 1.0, 1.0),
        (1.0, 2.0, -1.0),
        (1.0, np.inf, 1.0),
        (1.0, 1.0, np.nan),
    ):
        with pytest.raises(ValueError, match="got"):
            distance_bounds(*arguments)


def test_the_law_of_the_gap():
    rng = np.random.default_rng(1)
    draws = 0.3 / 2 * rng.chisquare(4, 200_000)
    mean, variance = gap_law(0.3, 4)
    assert draws.mean() == pytest.approx(mean, abs=5 * np.sqrt(variance / len(draws)))
    assert draws.var() == pytest.approx(variance, rel=0.03)
    assert gap_law(1.0, 0) == (0.0, 0.0)
    with pytest.raises(ValueError, match="missing"):
        gap_law(1.0, -1)


def test_the_points_have_the_moments_of_a_normal_variable_up_to_the_fifth():
    for power, moment in enumerate([1, 0, 1, 0, 3]):  # odd ones vanish, even ones have powers of 3 for √3
        assert sum(w * x**power for x, w in noise.HERMITE) * Fraction(3) ** (power // 2) == moment
    assert [sum(w * x**power for x, w in noise.SIGNS) for power in range(5)] == [1, 0, 1, 0, 1]


def test_standard_errors_of_draws_are_right():
    """The spread of the means over many seeds is what the moments of the law say."""
    found = [noise.Drawn(3, 1, 1.0, seed) for seed in range(40)]
    for name, error in (("mean", "mean_error"), ("law", "law_error"), ("damages", "damages_error")):
        spread = np.std([np.atleast_1d(getattr(one, name)) for one in found], axis=0, ddof=1)
        ratio = spread / np.atleast_1d(getattr(found[0], error))
        assert np.all((ratio > 0.6) & (ratio < 1.5)), (name, ratio)  # χ with 39 degrees: five of its spreads


def test_pivots_tell_semidefinite_matrices():
    for entries in product((-1, 0, 1), repeat=6):
        a, b, c, x, y, z = entries
        A = linalg.exact([[a, x, y], [x, b, z], [y, z, c]])
        assert (least_pivot(A) >= 0) == rational.inertia(A).semidefinite, entries


def test_quadratic_losses_with_other_images_by_brute_force():
    one = Convex(
        linalg.exact([1, 2, 4]), linalg.exact([1, 1, 0]), linalg.exact([2, -1, 3]), sparse(3, 2), kind="mask"
    )
    A, m = one.hessian.astype(float), one.centre.astype(float)
    assert np.linalg.eigvalsh(A) == pytest.approx([1, 2, 4])

    def loss(x):
        return (x - m) @ A @ (x - m) / 2

    bases = [P.astype(float) for _, P in one.pieces]
    found = [minimize(lambda z, B=B: loss(B @ z), np.zeros(2), tol=1e-12).fun for B in bases]
    assert float(one.reached) == pytest.approx(min(found), abs=1e-9)
    assert float(one.squared_distance) == pytest.approx(min(m**2))
    assert one.optimum == 0
    curve = replace(one, pieces=parabola(3))
    values = [loss(np.array([p, p * p, p])) for p in np.arange(-4, 5) / 2]
    assert float(curve.reached) == pytest.approx(min(values))
    assert float(replace(curve, clean=m.astype(int) + 1).rises[1]) == 0


@pytest.mark.parametrize("masked", [False, True])
def test_logistic_minima_are_minima_to_their_stated_error(masked):
    one = Logistic(4, 12, 0.01, 2, masked, seed=3)
    loss, start = one.loss, one.start
    assert one.error < 1e-8 * (one.reached - one.optimum)
    full = minimize(loss.value, start, jac=loss.gradient, tol=1e-13).fun
    assert one.optimum == pytest.approx(full, abs=1e-9)
    inside = [
        minimize(
            lambda z, P=P: loss.value(start + P @ z),
            np.zeros(2),
            jac=lambda z, P=P: P.T @ loss.gradient(start + P @ z),
            tol=1e-13,
        ).fun
        for P in one.pieces
    ]
    assert one.reached == pytest.approx(min(inside), abs=1e-9)
    values = [
        np.linalg.eigvalsh(loss.hessian(theta)) for theta in np.random.default_rng(0).normal(size=(50, 4))
    ]
    assert one.mu <= min(v[0] for v in values)
    assert one.beta >= max(v[-1] for v in values)
    step = 1e-5 * np.eye(4)
    slopes = np.array([(loss.value(start + e) - loss.value(start - e)) / 2e-5 for e in step])
    bends_ = np.array([(loss.gradient(start + e) - loss.gradient(start - e)) / 2e-5 for e in step])
    assert loss.gradient(start) == pytest.approx(slopes, rel=1e-6, abs=1e-8)
    assert loss.hessian(start) == pytest.approx(bends_, rel=1e-6, abs=1e-8)


def test_separable_weights_have_the_infimum_that_descent_finds():
    one = Separable(linalg.exact([3, 2, 1]), linalg.exact([1, 2, 1]), linalg.exact([1, 1, 3]), 1)
    root = np.sqrt(one.rows.astype(float)), np.sqrt(one.columns.astype(float))
    update = np.diag(one.values.astype(float)) * root[1]
    assert one.reached == Fraction(11, 2)
    assert oracles.descended(np.diag(root[0]), update, 1) / 2 == pytest.approx(5.5, rel=1e-8)
    assert (one.tail, one.mu, one.beta) == (5, 1, 6)


def test_low_rank_logistic_regression_is_between_its_bound_and_a_descent():
    one = MatrixLogistic((2, 3), 10, 0.1, seed=5)
    loss = one.loss
    found = min(
        minimize(
            lambda v: loss.value(np.outer(v[:2], v[2:]).ravel()),
            np.random.default_rng(seed).normal(size=5),
            tol=1e-12,
        ).fun
        for seed in range(6)
    )
    assert one.reached == pytest.approx(found, rel=1e-5)
    assert one.mu * one.tail / 2 < one.reached - one.optimum
    assert one.error < 1e-8 * (one.reached - one.optimum)


def test_the_scalar_map_of_lora_has_a_second_term_and_no_first():
    one = bends.scalar_lora()
    assert one.composed_hessian.tolist() == [[0, 1], [1, 0]]
    assert one.tangent_hessian.tolist() == [[0, 0], [0, 0]]
    assert (one.composed_gradient.tolist(), one.tangent_gradient.tolist()) == ([1, 1], [0, 0])
    G, T = bends.lora(2, 2, 1)
    phi = linalg.exact([1, 2, 3, 4])
    assert (G @ phi + T @ phi @ phi / 2).tolist() == [3, 4, 6, 8]


def floating(seed=0, *, crossing=False):
    """A well-conditioned instance in float64."""
    rng = np.random.default_rng(seed)
    X = rng.normal(size=(4, 4))
    P, eps = rng.normal(size=(4, 2)), rng.normal(size=4)
    one = Gap(X @ X.T + np.eye(4), P, rng.normal(size=4), eps)
    return one.with_disturbance(one.orthogonal, stationary=True) if crossing else one


POWER = {
    "T4.R1": "tilt_full",
    "T4.R2": "tilt_answered",
    "T4.R3": "residual",
    "T4.R6": "dual",
    "T4.R7": "trace",
    "T4.R18": "by_parts",
    "T4.R23": "orthogonal_full",
    "T4.R28": "expanded_square",
    "T4.R31": "parallel_excess",
    "T4.R32": "share_formula",
}


@pytest.mark.parametrize("name", POWER)
def test_a_formula_that_is_off_by_a_millionth_is_refuted_in_floating_point(name):
    claim, attribute = CLAIMS[name], POWER[name]
    one = floating(crossing=name in ("T4.R18", "T4.R23"))
    off = type(
        "Off",
        (Gap,),
        {attribute: property(lambda self: (1 + 1e-6) * getattr(super(type(self), self), attribute))},
    )
    assert claim.judge(one).outcome is Outcome.HOLDS
    assert (
        claim.judge(off(one.hessian, one.directions, one.gradient, one.disturbance)).outcome is Outcome.FAILS
    )


GIVEN = [
    c for c in CLAIMS.values() if any(a.name in ("H ≻ 0", "H ⪰ 0") for a in c.assumes) and c.id != "T4.R10"
]


@pytest.mark.parametrize("H", [[[1, 2], [2, 1]], [[0, 0], [0, -1]], [[-1, 0], [0, -2]], [[0, 1], [1, 0]]])
def test_an_indefinite_hessian_violates_a_hypothesis_and_is_no_verdict(H):
    P, g, eps = [[1], [1]], [1, 0], [1, 2]
    exact = Gap(*map(linalg.exact, (H, P, g, eps)))
    floats = Gap(*(np.array(a, float) for a in (H, P, g, eps)))
    assert len(GIVEN) == 20
    for claim in GIVEN:
        for one in (exact,) if claim.id == "T4.R29" else (exact, floats):
            evidence = claim.judge(one)
            assert (evidence.outcome, evidence.error) == (Outcome.ASSUMPTION_VIOLATED, ""), claim.id
            assert not all(check.met for check in evidence.assumptions)
