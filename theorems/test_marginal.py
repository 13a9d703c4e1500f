"""Theorem 5, its exact half: closed forms against oracles, counterexamples, and what must be able to fail."""

import itertools
import math
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from peftproof.theorems import linalg
from peftproof.theorems.claims import MissingIngredient, Outcome, Source
from peftproof.theorems.marginal import claims_draws, claims_gaussian, claims_printed, claims_words
from peftproof.theorems.marginal.fixed_design import fixed_design
from peftproof.theorems.marginal.gaussian import GaussianRegression, misspecification
from peftproof.theorems.marginal.instances import bounded, designs, regressions, samples
from peftproof.theorems.marginal.instances.rates import Completed, SlowRate
from peftproof.theorems.marginal.instances.regressions import Interpolating, Regression
from peftproof.theorems.marginal.instances.sines import SineSigns
from peftproof.theorems.marginal.least_squares import LeastSquares
from peftproof.theorems.marginal.ridgeless import Ridgeless

CLAIMS = {
    claim.id: claim
    for part in (claims_printed, claims_words, claims_draws, claims_gaussian)
    for claim in part.CLAIMS
}
small = st.integers(0, 12).map(lambda i: Fraction(i, 3))


def judged(claim, instance):
    return CLAIMS[claim].judge(instance, Source.EXACT)


def test_all_that_the_paper_says_of_examples_is_judged():
    printed = {f"T5.{i}" for i in range(9, 20)} | {f"T5.{letter}" for letter in "abcd"}
    assert set(CLAIMS) == printed | {f"T5.R{i}" for i in range(1, 13)}


# ---------------------------------------------------------------- one class, N above p


def test_a_curve_by_hand():
    curve = LeastSquares(2, 3)
    assert curve.risk(4) == 9  # 3 · 3 / 1
    assert (curve.excess(4), curve.training_loss(4), curve.gap(4)) == (6, Fraction(3, 2), Fraction(15, 2))
    assert curve.risk([4, 5, 8]).tolist() == [9, 6, Fraction(21, 5)]
    assert curve.marginal(4) == 3 == curve.risk(4) - curve.risk(5)
    np.testing.assert_array_equal(LeastSquares(2, 3.0).risk(np.array([4, 5])), [9.0, 6.0])


@given(st.integers(0, 9), small, st.integers(0, 30))
def test_parts_of_a_curve_fit_together(p, v, more):
    curve, N = LeastSquares(p, v), p + 2 + more
    assert curve.risk(N) == v + curve.excess(N)
    assert curve.gap(N) == curve.risk(N) - curve.training_loss(N)
    assert curve.marginal(N) == curve.risk(N) - curve.risk(N + 1)
    assert LeastSquares(p, float(v)).gap(N) == pytest.approx(float(curve.gap(N)))


@pytest.mark.parametrize(("p", "N"), [(1, 6), (3, 12), (6, 12), (10, 40)])
def test_moments_are_those_of_the_f_distribution(p, N):
    curve, n = LeastSquares(p, 2.0), N - p + 1
    law = stats.f(p, n)
    assert curve.excess(N) == pytest.approx(2 * p / n * law.mean())
    assert curve.risk_variance(N) == pytest.approx((2 * p / n) ** 2 * law.var())
    assert curve.training_variance(N) == pytest.approx((2 / N) ** 2 * stats.chi2(N - p).var())


def test_what_is_not_finite_is_refused():
    curve = LeastSquares(3, 1.0)
    for method, least in (
        (curve.risk, 5),
        (curve.marginal, 5),
        (curve.risk_variance, 7),
        (curve.training_loss, 3),
    ):
        assert math.isfinite(method(least))
        with pytest.raises(ValueError, match=f"needs at least {least}"):
            method(np.array([50, least - 1]))
    with pytest.raises(ValueError, match="whole numbers"):
        curve.risk(7.5)
    for wrong in ((-1, 1.0), (1, -1.0), (1, math.nan), (1, math.inf)):
        with pytest.raises(ValueError, match="needs a"):
            LeastSquares(*wrong)


# ---------------------------------------------------------------- two classes


@given(st.integers(2, 9), st.data())
def test_the_crossover_is_where_the_risks_cross(d, data):
    k = data.draw(st.integers(1, d - 1))
    noise, bias = data.draw(small), data.draw(small)
    model, sizes = GaussianRegression(d, k, noise, bias), range(d + 2, d + 200)
    wins = [N for N in sizes if model.full.risk(N) < model.peft.risk(N)]
    assert wins == list(filter(lambda N: model.crossover < N, sizes))
    expected = model.overtakes
    assert wins == list(range(min(expected or 10**9, d + 200), d + 200))
    assert [model.advantage(N) for N in (d + 2, d + 9)] == [
        model.peft.risk(N) - model.full.risk(N) for N in (d + 2, d + 9)
    ]


def test_floats_at_a_crossover_are_not_rounded():
    model = GaussianRegression(3, 2, 0.3, 0.1)  # in floats 0.3/0.1 < 3 and 3 + 1 + 0.3/0.1 rounds to 7
    assert model.crossover == 7
    exact = GaussianRegression(3, 2, Fraction(0.3), Fraction(0.1))
    assert exact.crossover < 7
    assert model.overtakes == 7 == exact.overtakes
    assert exact.full.risk(7) < exact.peft.risk(7)
    assert GaussianRegression(3, 2, Fraction(3, 10), Fraction(1, 10)).overtakes == 8


def test_the_ratio_by_hand():
    model = GaussianRegression(4, 1, 1, 9)
    assert (model.full.marginal(10), model.peft.marginal(10)) == (Fraction(4, 30), Fraction(10, 72))
    assert model.ratio(10) == Fraction(25, 24) < model.limit == Fraction(5, 2)
    assert model.peft_gains_more
    assert not GaussianRegression(4, 1, 1, 3).peft_gains_more
    far = GaussianRegression(4, 1, 1.0, 9.0).ratio(np.array([10, 10**4, 10**8]))
    assert np.all(np.diff(far) > 0)
    assert far[-1] == pytest.approx(2.5, rel=1e-6)
    assert GaussianRegression(4, 1, 0, 1).limit == math.inf
    with pytest.raises(ValueError, match="no denominator"):
        GaussianRegression(4, 1, 0, 1).ratio(10)
    with pytest.raises(ValueError, match="1 <= k < d"):
        GaussianRegression(4, 4, 1.0, 1.0)


@given(st.integers(0, 2**31))
def test_the_misspecification_is_the_schur_complement(seed):
    rng = np.random.default_rng(seed)
    root, P, theta = (linalg.exact(rng.integers(-3, 4, size).tolist()) for size in ((3, 3), (3, 2), (3,)))
    Sigma = root @ root.T
    exact = misspecification(theta, Sigma, P)
    assert 0 <= exact <= theta @ Sigma @ theta
    floats = [array.astype(float) for array in (theta, Sigma, P)]
    scale = 1 + float(theta @ Sigma @ theta)
    assert misspecification(*floats) == pytest.approx(float(exact), abs=1e-9 * scale)
    t, S, B = floats
    naive = t @ (S - S @ B @ np.linalg.pinv(B.T @ S @ B, rcond=1e-10) @ B.T @ S) @ t
    assert naive == pytest.approx(float(exact), abs=1e-9 * scale)


def test_a_small_misspecification_survives_rounding():
    rng = np.random.default_rng(3)
    root, P = rng.normal(size=(6, 6)), rng.normal(size=(6, 2))
    Sigma = root @ root.T
    seen = root.T @ P
    beyond = np.linalg.solve(root.T, np.linalg.qr(seen, mode="complete")[0][:, -1])  # b² = 1 on its own
    theta = 1e3 * P @ np.ones(2) + 1e-7 * beyond
    naive = theta @ (Sigma - Sigma @ P @ np.linalg.solve(P.T @ Sigma @ P, P.T @ Sigma)) @ theta
    assert misspecification(theta, Sigma, P) == pytest.approx(1e-14, rel=1e-3)
    assert abs(naive - 1e-14) > 1e-14


def test_models_from_matrices():
    theta, Sigma = linalg.exact([1, 2]), linalg.exact([[2, 1], [1, 2]])
    model = GaussianRegression.of(theta, Sigma, linalg.exact([[1], [0]]), 1)
    assert model.bias == 6  # 2² (2 − 1/2)
    assert model.crossover == 3 + Fraction(1, 6)
    with pytest.raises(ValueError, match="P: has rank 1 and 2 columns"):
        GaussianRegression.of(np.ones(3), np.eye(3), np.ones((3, 2)), 1.0)
    with pytest.raises(ValueError, match="no covariance"):
        misspecification(theta, linalg.exact([[1, 2], [2, 1]]), linalg.exact([[1], [0]]))
    with pytest.raises(ValueError, match="no covariance"):
        misspecification(np.ones(2), np.array([[1.0, 0.5], [0.0, 1.0]]), np.ones((2, 1)))
    with pytest.raises(ValueError, match=r"needs \(d,\)"):
        misspecification(np.ones(3), np.eye(2), np.ones((2, 1)))


# ---------------------------------------------------------------- fewer examples than parameters


@given(st.integers(3, 15), small, small)
def test_ridgeless_marginals_are_differences_and_turn_once(p, signal, variance):
    model = Ridgeless(p, signal, variance)
    sizes = list(range(p - 2))
    gains = [model.marginal(N) for N in sizes]
    assert gains == [model.risk(N) - model.risk(N + 1) for N in sizes]
    assert gains == sorted(gains, reverse=True)
    assert model.hurts_from == next((N for N in sizes if gains[N] < 0), None)
    assert gains[0] <= signal / p


def test_the_order_of_theorem_5_is_reversed_far_below_d():
    full = Ridgeless(10**6, 1, 1).marginal(1000)
    peft = LeastSquares(100, Fraction(3, 2)).marginal(1000)
    assert float(full) == pytest.approx(-2.0e-9, rel=0.01)
    assert float(peft) == pytest.approx(1.9e-4, rel=0.03)
    assert Ridgeless(20, 1, 1).marginal(15) == Fraction(-23, 15)


def test_below_d_the_order_is_reversed_under_a_condition_and_not_always():
    """(N − k)² ‖θ*‖² ≤ dk(σ² + b²) is enough, or as much noise as signal; with little noise it is not."""
    seen = set()
    for d, k, noise, bias in itertools.product((20, 60), (1, 3), (Fraction(1, 100), 1), (0, Fraction(1, 2))):
        full, peft = Ridgeless(d, 1, noise), LeastSquares(k, noise + bias)
        for N in range(k + 2, d - 2):
            reversed_ = peft.marginal(N) > full.marginal(N)
            if (N - k) ** 2 <= d * k * (noise + bias) or noise * d > d - 2:
                assert reversed_
            seen.add(reversed_)
    assert seen == {True, False}
    little = Fraction(1, 1000)
    assert 0 < LeastSquares(10, little).marginal(500) < Ridgeless(1000, 1, little).marginal(500)


@pytest.mark.parametrize(("p", "N"), [(9, 1), (20, 12), (30, 12)])
def test_moments_below_p(p, N):
    model, n = Ridgeless(p, 2.0, 3.0), p - N + 1
    law, share = stats.f(N, n), stats.beta((p - N) / 2, N / 2)
    assert model.noise_part(N) == pytest.approx(3 * N / n * law.mean())
    assert model.noise_variance(N) == pytest.approx((3 * N / n) ** 2 * law.var())
    assert model.bias(N) == pytest.approx(2 * share.mean())
    assert model.bias_variance(N) == pytest.approx(4 * share.var())


def test_ridgeless_refusals():
    for method, most in (("noise_part", 4), ("risk", 4), ("marginal", 3), ("noise_variance", 2)):
        with pytest.raises(ValueError, match=f"needs 0 to {most}"):
            getattr(Ridgeless(6, 1.0, 1.0), method)(most + 1)
    with pytest.raises(ValueError, match="parameters: got 3"):
        Ridgeless.of(np.ones(2), 3, 1.0)
    one = Ridgeless.of(np.array([1, 2, 3]), 2, 1)
    assert (one.signal, one.variance) == (5, 10)


# ---------------------------------------------------------------- given inputs


@given(designs.designs())
def test_fixed_designs_agree_with_all_signs_of_the_noise(i):
    assert i.excess == i.exact.excess
    assert i.training == i.exact.training_loss
    assert i.deviation**2 + i.excess - i.training == i.exact.gap
    arrays = [array.astype(float) for array in (i.X, i.P, i.theta)]
    found = fixed_design(*arrays, float(i.deviation**2))
    assert found.rank == i.exact.rank
    assert found.missed == pytest.approx(float(i.exact.missed), abs=1e-12 * (1 + float(i.X.max()) ** 2))


def test_a_rank_without_a_gap_is_refused():
    X = np.diag([1.0, 1e-8, 1e-14])
    with pytest.raises(ValueError, match="rank of XP is undecided"):
        fixed_design(X, np.eye(3), np.ones(3), 1.0)
    with pytest.raises(ValueError, match="N >= 1"):
        fixed_design(np.ones((0, 3)), np.eye(3), np.ones(3), 1.0)


# ---------------------------------------------------------------- claims: what must be able to fail


def test_the_limit_of_the_ratio_is_pinned_from_both_sides():
    instance = Regression(4, 1, Fraction(1), Fraction(9), 40)
    for factor, outcome in (
        (1, Outcome.HOLDS),
        (Fraction(101, 100), Outcome.FAILS),
        (Fraction(99, 100), Outcome.FAILS),
    ):
        compare = claims_gaussian._between(lambda i, factor=factor: factor * i.model.limit)
        assert compare(instance).worst().outcome is outcome, factor
    equal = claims_gaussian._between(lambda i: claims_gaussian._quotients(i)[-1])  # attained is not below
    assert equal(instance).worst().outcome is Outcome.FAILS
    with pytest.raises(MissingIngredient, match="no ratio"):
        CLAIMS["T5.R4"].compare(Regression(4, 1, Fraction(0), Fraction(9), 10))


@given(regressions.regressions())
def test_neighbours_of_the_crossover_lie_on_both_sides(i):
    star = i.model.crossover
    sides = {(n > star) - (n < star) for n in i.neighbours[:-1]}
    if i.bias and star > i.d + 3:
        assert {-1, 1} <= sides
    assert judged("T5.R6", i).outcome is Outcome.HOLDS


def test_ties_and_interpolation_by_hand():
    tie = Regression(2, 1, Fraction(1), Fraction(1), 4)
    assert tie.model.crossover == 4
    assert tie.risks == (3, 3)
    worst = CLAIMS["T5.R6"].compare(tie).worst()
    assert (worst.lhs, worst.rhs) == (3, 3), "what is shown are risks"
    none = Regression(2, 1, Fraction(1), Fraction(0), 4)
    assert judged("T5.R6", none).outcome is Outcome.HOLDS
    assert 4 in tie.neighbours
    turn = Interpolating(20, Fraction(1), Fraction(1), 15)
    assert turn.differences == [Fraction(1, 20), -Fraction(19, 12), -Fraction(23, 15)]


def test_the_counterexamples_by_hand():
    (coin,) = CLAIMS["T5.11"].exact().values()
    assert (coin.risks, coin.trainings, coin.bests, coin.gaps) == ([2], [0], [1], [2])
    slow = SlowRate(4, 1, 4)
    assert (slow.slope, slow.printed_slope) == (-Fraction(1, 8), -Fraction(1, 16))
    full, peft = SlowRate(9, 4, 5).gains
    assert float(peft / full) == pytest.approx(2 / 3)  # √(k/d), at every N
    wild = [(2 + (-1) ** n) / math.sqrt(n) for n in (100, 101)]
    assert wild[0] - wild[1] > 0.198
    assert (
        judged("T5.c", Regression(4, 1, Fraction(1), Fraction(9), 10)).outcome is Outcome.ASSUMPTION_VIOLATED
    )


@pytest.mark.parametrize(("points", "count"), [(2, 1), (2, 3), (3, 3), (4, 3)])
def test_completed_labellings_by_listing_all_samples(points, count):
    seen = [len(set(sample)) for sample in itertools.product(range(points), repeat=count)]
    unseen = Fraction(sum(points - s for s in seen), points * len(seen))
    assert Completed(points, count).error(count) == (unseen if count % 2 else 0)


def test_completed_labellings_obey_the_slow_rate_and_outgrow_every_constant():
    for d in (1, 2, 5, 30):
        for N in range(1, 4 * d + 2):
            assert float(Completed(d, N).error(N)) <= math.sqrt(d / N) / 2
    d = 10**4 + 1  # E(N) − E(N + 1) at N = d, in units of d N^(−3/2)
    assert float((1 - 1 / d) ** d) / (d * d**-1.5) > 36


@pytest.mark.parametrize(("points", "count"), [(1, 2), (2, 3), (3, 3)])
def test_the_training_loss_of_sines_by_listing_all_samples(points, count):
    outcomes = list(itertools.product(range(points), (-1, 1)))
    total = Fraction(0)
    for sample in itertools.product(outcomes, repeat=count):
        for j in range(points):
            labels = [y for x, y in sample if x == j]
            total += min(labels.count(1), labels.count(-1))
    assert SineSigns(points, count, Fraction(1)).training == total / count / len(outcomes) ** count


def test_one_parameter_realises_all_labellings():
    points = range(1, 9)
    assert all(SineSigns.realises(points, labels) for labels in itertools.product((-1, 1), repeat=8))
    assert SineSigns.realises((3, 700, 1000), (-1, 1, -1))
    assert not SineSigns.realises((0, 1), (1, 1))  # at x = 1 this construction gives sin(π) = 0
    (wild,) = {CLAIMS[f"T5.{i}"].control.exact().snippet() for i in (12, 13, 14)}
    assert wild == SineSigns(1000, 36, Fraction(2)).snippet()
    assert float(SineSigns(1000, 36, Fraction(2)).gaps[0]) == pytest.approx(0.491, abs=1e-3)


@given(bounded.bounded())
def test_gaps_of_bounded_classes_are_those_of_a_loop(i):
    total = Fraction(0)
    for sample in itertools.product(range(len(i.x)), repeat=i.samples):
        losses = [[abs(i.y[j] - w @ i.x[j]) for j in range(len(i.x))] for w in i.w]
        training = [sum(row[j] for j in sample) / Fraction(i.samples) for row in losses]
        risks = [sum(row) / Fraction(len(row)) for row in losses]
        total += max(r - t for r, t in zip(risks, training, strict=True) if t == min(training))
    assert i.gaps[0] == total / len(i.x) ** i.samples
    assert i.floors[0] <= i.floors[1]


@given(samples.lists())
def test_minimisers_lie_below_and_maximisers_above_the_best(i):
    for learned, careless in zip(i.classes, i.careless, strict=True):
        assert learned.training <= learned.best <= careless.training
