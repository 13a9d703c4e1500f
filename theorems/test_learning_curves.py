"""Learning curves: planted laws are recovered, ill-behaved curves refused, crossovers found or not."""

import math
from dataclasses import replace
from fractions import Fraction

import numpy as np
import pytest
from scipy import optimize

from peftproof.theorems.claims import MissingIngredient
from peftproof.theorems.comparison import error_of_mean
from peftproof.theorems.marginal import claims_curves
from peftproof.theorems.marginal.claims_curves import bump, parallel, power, regression, slow
from peftproof.theorems.marginal.crossover import Crossing, _crossing, crossover, span
from peftproof.theorems.marginal.fits import Shape, fit_curve
from peftproof.theorems.marginal.gains import gains
from peftproof.theorems.marginal.gaussian import GaussianRegression
from peftproof.theorems.marginal.instances.curves import SIZES, noise
from peftproof.theorems.marginal.prediction import predict_crossover
from peftproof.theorems.marginal.resampling import attainable, limits, resamples
from peftproof.theorems.render import WIDTH

N = np.array(SIZES, np.float64)
R22, R23, R24 = claims_curves.CLAIMS


def drawn(risk, seed, scale=0.05):
    """A curve of ten seeds around a risk, each off by a share of it."""
    return SIZES, risk * (1 + noise(seed, scale, len(SIZES)))


def test_the_fit_is_that_of_a_general_optimiser():
    sizes, losses = drawn(0.2 + 6 * N**-0.7, 3)
    law = fit_curve((sizes, losses)).law
    mean, spread = losses.mean(axis=0), losses.std(axis=0, ddof=1)

    def left(parameters):
        a, c, gamma = parameters
        return (a + c * N**-gamma - mean) / spread

    found = optimize.least_squares(left, (0.1, 3, 0.5), xtol=1e-15, ftol=1e-15, gtol=1e-15)
    np.testing.assert_allclose([law.limit, law.factor, law.exponent], found.x, rtol=1e-6)
    np.testing.assert_allclose(law(N), found.x[0] + found.x[1] * N ** -found.x[2], rtol=1e-7)
    # The negative control: without the weights it is another law.
    plain = optimize.least_squares(lambda p: left(p) * spread, (0.1, 3, 0.5))
    assert abs(plain.x[2] - law.exponent) > 1e-3


@pytest.mark.parametrize(("a", "c", "gamma"), [(0.1, 40, 1), (0.5, 3, 0.5), (0, 8, 0.6)])
def test_an_exact_law_is_recovered(a, c, gamma):
    law = fit_curve((SIZES, a + c * N**-gamma + noise(0, 1e-9, len(SIZES)))).closest
    np.testing.assert_allclose([law.limit, law.factor, law.exponent], [a, c, gamma], rtol=1e-6, atol=1e-8)


def test_intervals_cover_and_a_true_law_is_seldom_refused():
    fits = [fit_curve(drawn(0.1 + 9 * N**-0.8, seed), count=200) for seed in range(100)]
    fitted = [one.law for one in fits if one.law is not None]
    # At a level of 1 %, more than 6 refusals of 100 have a probability of 6e-5.
    assert len(fitted) >= 94
    for name, truth in (("exponent_interval", 0.8), ("limit_interval", 0.1)):
        ends = np.array([getattr(one, name) for one in fitted])
        covered = np.mean((ends[:, 0] <= truth) & (truth <= ends[:, 1]))
        assert 0.88 < covered <= 1, name
    widths = np.array([one.exponent_interval for one in fitted])
    assert np.mean(widths[:, 1] - widths[:, 0]) < 0.2, "an interval that covers everything would say nothing"


def test_the_interval_of_a_few_normal_seeds_is_right_and_the_plain_percentile_is_not():
    rng, seeds, runs = np.random.default_rng(0), 5, 600
    values = rng.normal(size=(seeds, runs))
    means = values[resamples(seeds)].mean(axis=1)
    low, high = limits(means, seeds, 0.95)
    covered = np.mean((low <= 0) & (high >= 0))
    plain_low, plain_high = np.quantile(means, (0.025, 0.975), axis=0)
    plain = np.mean((plain_low <= 0) & (plain_high >= 0))
    # A mean of that many runs is off by 5 errors once in 1.7 million times.
    error = math.sqrt(0.95 * 0.05 / runs)
    assert abs(covered - 0.95) < 5 * error
    assert plain < 0.95 - 5 * error
    assert error_of_mean(values[:, 0]) > values[:, 0].std(ddof=1) / math.sqrt(seeds)
    many = rng.normal(size=4000)
    assert error_of_mean(many) == pytest.approx(many.std(ddof=1) / math.sqrt(4000))


def test_few_seeds_are_not_said_to_give_more_confidence_than_they_can():
    """No resampled mean lies beyond the seeds, and three of them miss the truth in a quarter of all cases."""
    rng, runs = np.random.default_rng(1), 2000
    for seeds in (3, 4):
        low, high = limits(rng.normal(size=(seeds, runs))[resamples(seeds)].mean(axis=1), seeds, 0.95)
        most = attainable(0.95, seeds)
        covered, error = np.mean((low <= 0) & (high >= 0)), math.sqrt(most * (1 - most) / runs)
        assert most == 1 - 0.5 ** (seeds - 1) and abs(covered - most) < 5 * error
    assert attainable(0.95, 6) == 0.95 and attainable(0.99, 7) < 0.99
    sizes, losses = drawn(0.1 + 40 / N, 0)
    assert fit_curve((sizes, losses), count=50).confidence == 0.95
    assert fit_curve((sizes, losses[:4]), count=50).confidence == 0.875
    lift = 0.1 * np.log(150 / N)
    few = crossover((sizes, losses[:3] + lift), (sizes, losses[:3]), count=50)
    assert "75% interval" in few.reason and few.confidence == 0.95
    told = predict_crossover((sizes[:4], losses[:4, :4]), (sizes[:4], 0.2 + losses[4:8, :4] / 2), count=50)
    assert told.confidence == 0.875 and "95%" not in told.reason


@pytest.mark.parametrize("seed", range(3))
def test_ill_behaved_curves_are_said_to_be_so(seed):
    humped = fit_curve(drawn(0.1 + 40 / N + 0.6 * np.exp(-((np.log(N / 209) / 0.4) ** 2)), seed))
    assert humped.shape is Shape.RISES and humped.law is None and humped.closest is None
    assert humped.reason == "the loss at 209 examples is above that at 96"
    knee = fit_curve(drawn(0.1 + np.minimum(1, 200 / N), seed, 0.03))
    assert knee.shape is Shape.OTHER and knee.law is None and knee.p_value < 0.01
    assert fit_curve(drawn(np.ones(len(N)), seed)).shape is Shape.FLAT


def test_too_little_is_undecided():
    sizes, losses = drawn(0.1 + 40 / N, 0)
    for few in ((sizes[:3], losses[:, :3]), (sizes, losses[:1])):
        found = fit_curve(few)
        assert found.shape is Shape.UNDECIDED and found.closest is None
    three = fit_curve((sizes, losses[:3]), count=50)
    assert three.shape is Shape.UNDECIDED and three.closest is not None and three.law is None
    same = fit_curve((sizes, np.repeat(losses[:1], 4, axis=0)), count=50)
    assert same.shape is Shape.UNDECIDED, "seeds that do not differ have no spread"
    assert "power law" in repr(fit_curve((sizes, losses), count=50))
    with pytest.raises(MissingIngredient, match="sizes or seeds"):
        R22.compare(claims_curves.Curve(sizes[:3], losses[:, :3]))


def test_a_limit_below_zero_is_for_those_who_ask_for_it():
    curve = SIZES, -0.5 + 8 * N**-0.6 + noise(0, 0.01, len(SIZES))
    assert fit_curve(curve, bounded=False).law.limit == pytest.approx(-0.5, abs=0.05)
    assert fit_curve(curve).closest.limit == 0


def test_a_crossover_of_lines_is_covered_and_lies_in_its_bracket():
    """Differences that are linear in log N: the interpolation has no bias."""
    truth, covered, logs = 150.0, 0, []
    for seed in range(100):
        lift = 0.1 * np.log(truth / N) + noise(seed, 0.05, len(N))
        base = 1 + noise(1000 + seed, 0.3, len(N))
        found = crossover((SIZES, base + lift), (SIZES, base), count=300)
        assert found.outcome is Crossing.FULL_OVERTAKES
        assert found.bracket[0] <= truth <= found.bracket[1]
        logs.append(math.log(found.estimate))
        covered += found.interval[0] <= truth <= found.interval[1]
    assert covered >= 85
    assert abs(np.mean(logs) - math.log(truth)) < 5 * np.std(logs) / math.sqrt(len(logs))


def test_what_two_curves_show():
    base = 1 + noise(7, 0.2, len(N))

    def of(signs):
        return crossover((SIZES, base + np.array(signs) * (1 + noise(8, 0.1, 6))), (SIZES, base))

    assert of([0.3, 0.2, 0.1, -0.1, -0.2, -0.3]).bracket == (96, 209)
    reverse = of([-0.3, -0.2, -0.1, 0.1, 0.2, 0.3])
    assert reverse.outcome is Crossing.PEFT_OVERTAKES and 96 < reverse.estimate < 209
    assert of([0.3, -0.3, 0.3, 0.3, 0.3, 0.3]).outcome is Crossing.SEVERAL
    none = of([0, 0.1, 0.2, 0, 0.2, 0.1])
    assert none.outcome is Crossing.NONE and none.bracket == (44, 1000) and none.estimate is None
    assert none.reason == "PEFT is better from 44 to 1000 examples; open at 20, 209"
    nothing = of([0] * 6)
    assert nothing.outcome is Crossing.UNDECIDED and not nothing.found
    with pytest.raises(MissingIngredient, match="a difference of the curves"):
        R24.compare(replace(parallel(), peft=parallel().full))
    assert parallel().crossover.outcome is Crossing.NONE
    with pytest.raises(ValueError, match="peft: got 10 seeds at sizes"):
        crossover((SIZES, base), (SIZES[:5], base[:, :5]))
    with pytest.raises(ValueError, match="a single seed"):
        crossover((SIZES, base[:1]), (SIZES, base[:1]))


def test_where_an_interpolated_difference_is_positive():
    sizes = np.array([10.0, 100.0, 1000.0])
    rows = np.array([[1, 1, -1], [3, -1, -1], [1, 2, 3], [-1, -2, -1], [1, -1, 1]], float)
    expected = [10**2.5, 10**1.75, np.inf, 0, 10**2]
    np.testing.assert_allclose(_crossing(sizes, rows), expected, rtol=1e-12)
    assert (span(0, sizes), span(np.inf, sizes), span(42.4, sizes)) == ("< 10", "> 1000", "42")


def test_the_ratio_of_exact_curves_is_the_closed_form():
    sizes, (d, k) = (40, 80, 160, 320, 640), (8, 2)
    model = GaussianRegression(d, k, 1.0, 0.5)
    curves = [
        curve.variance + np.asarray(curve.excess(sizes)) * (1 + noise(i, 1e-9, len(sizes)))
        for i, curve in enumerate((model.full, model.peft))
    ]
    found = gains(*[(sizes, one) for one in curves], d=d, k=k)
    for step in found.steps:
        first, last = step.first, step.last
        shrink = (first - d - 1) * (last - d - 1) / ((first - k - 1) * (last - k - 1))
        assert step.ratio == pytest.approx(1.5 * k / d * shrink, rel=1e-6)
        assert step.interval[0] <= step.ratio <= step.interval[1]
        worth = float(model.full.risk(first) - model.full.risk(last)) / (last - first)
        assert step.full == pytest.approx(worth, rel=1e-6)
    assert [(one.first, one.last) for one in found.steps] == [
        (40, 80),
        (80, 160),
        (160, 320),
        (320, 640),
        (40, 640),
    ]
    assert (found.linear, found.root) == (0.25, 0.5)
    assert found.model is None and found.full.shape is Shape.OTHER, "1/(N − 9) is no power of N"


def test_the_bound_is_read_off_limits_and_a_missing_gain_is_no_ratio():
    found = regression(8, 2, 1.0, 0.5, claims_curves._FAR, 0.15).gains
    assert found.model == pytest.approx(1.5 / 4, rel=0.02)
    assert found.model_interval[0] <= 1.5 / 4 <= found.model_interval[1]
    assert slow().gains.model == pytest.approx(1 / 4, rel=0.2)
    flat = 1 + noise(0, 0.05, len(N))
    still = gains((SIZES, flat), drawn(0.1 + 9 / N, 1), d=16, k=4)
    assert all(step.ratio is None for step in still.steps) and still.model is None
    pair = replace(slow(), full=flat)
    with pytest.raises(MissingIngredient, match="a gain of full fine-tuning"):
        R23.compare(pair)
    clean = claims_curves.Pair(SIZES, drawn(8 / N, 2)[1], drawn(0.1 + 9 / N, 3)[1], 16, 4)
    assert clean.gains.model == math.inf and clean.gains.excess[-1] is None
    with pytest.raises(MissingIngredient, match="the fitted limit of full fine-tuning is 0"):
        R23.compare(clean)
    with pytest.raises(ValueError, match="d, k: got None and None"):
        gains((SIZES, flat), (SIZES, flat))


def test_predictions_of_the_exact_model():
    found = predict_crossover(d=4, k=1, noise=1, bias=Fraction(1, 2))
    model = GaussianRegression(4, 1, Fraction(1), Fraction(1, 2))
    assert found.crossover == float(model.crossover) == 11
    assert found.interval == (11, 11) and found.basis == "exact model"
    assert model.full.risk(12) < model.peft.risk(12) and model.full.risk(10) > model.peft.risk(10)
    wide = predict_crossover(d=4, k=1, noise=(1, 2), bias=(0.5, 1.0))
    assert wide.interval == (8, 17) and 8 < wide.crossover < 17
    never = predict_crossover(d=4, k=1, noise=1, bias=0)
    assert math.isinf(never.crossover) and "never overtakes" in never.reason
    assert all(len(line) <= WIDTH for line in repr(wide).splitlines())
    assert "assumes: inputs and noise are Gaussian" in repr(wide)


def test_predictions_of_pilots():
    """Half of the curve is shown; the crossover lies in the other half."""
    pilot = tuple(range(6))
    sizes = (20, 30, 45, 67, 100, 150)
    full_law, peft_law = (lambda n: 0.1 + 30 * n**-0.9), (lambda n: 0.4 + 4 * n**-0.7)
    truth = optimize.brentq(lambda n: full_law(n) - peft_law(n), 20, 1e4)
    covered = 0
    for seed in range(30):
        full, peft = (
            law(np.array(sizes, float)) * (1 + noise(100 * i + seed, 0.01, len(pilot)))
            for i, law in enumerate((full_law, peft_law))
        )
        found = predict_crossover((sizes, full), (sizes, peft), count=200)
        if found.crossover is None:
            assert "has no law" in found.reason
            continue
        covered += found.interval[0] <= truth <= found.interval[1]
    assert covered >= 24
    assert all(len(line) <= WIDTH for line in repr(found).splitlines())


def test_predictions_say_when_there_is_nothing_to_predict():
    curve, better = power(0.1, 40, 1), power(0.05, 20, 1, seed=4)
    none = predict_crossover((SIZES, bump().losses), (SIZES, curve.losses))
    assert none.crossover is None and none.interval is None
    assert "the curve of full fine-tuning has no law: the loss at 209" in none.reason
    always = predict_crossover((SIZES, better.losses), (SIZES, curve.losses))
    assert always.crossover == 0 and "better at every size from 20 on" in always.reason
    never = predict_crossover((SIZES, curve.losses), (SIZES, better.losses))
    assert math.isinf(never.crossover) and "does not overtake up to N = 1e+05" in never.reason
    for wrong in ({}, {"d": 4, "k": 1, "noise": 1}, {"full": (SIZES, curve.losses), "d": 4}):
        with pytest.raises(ValueError, match="needs either both pilot curves or all of"):
            predict_crossover(**wrong)
    with pytest.raises(ValueError, match=r"noise: got \(2, 1\), needs the lower end first"):
        predict_crossover(d=4, k=1, noise=(2, 1), bias=1)
    for horizon in (0.5, math.inf, math.nan):
        with pytest.raises(ValueError, match=f"horizon: got {horizon}"):
            predict_crossover((SIZES, curve.losses), (SIZES, better.losses), horizon=horizon)
    for d, k in ((10.5, 2), (math.inf, 2), (10, 2.5), (2, 2), (10, 0)):
        with pytest.raises(ValueError, match=r"whole number|1 <= k < d"):
            predict_crossover(d=d, k=k, noise=1, bias=1)


def test_what_a_curve_must_be():
    good = 0.1 + 40 / N + noise(0, 0.1, len(N))
    for sizes, losses, message in (
        (SIZES[::-1], good, "needs ascending numbers from 1 on"),
        ((0, *SIZES[1:]), good, "needs ascending numbers from 1 on"),
        (SIZES, good[:, :5], r"got losses of shape \(10, 5\)"),
        (SIZES, np.where(good > 1, np.nan, good), "needs finite losses"),
    ):
        with pytest.raises(ValueError, match=message):
            fit_curve((sizes, losses))
    with pytest.raises(ValueError, match="confidence: got 95"):
        fit_curve((SIZES, good), confidence=95)
    with pytest.raises(ValueError, match="seeds, count: got 1"):
        resamples(1)


def test_half_is_no_law_of_nature():
    """The exponent of the planted laws is told apart from ½ where it differs, and not where it does not."""
    low, high = fit_curve((SIZES, power(0.1, 40, 1).losses)).law.exponent_interval
    assert low > 0.5
    low, high = fit_curve((SIZES, power(0.5, 3, 0.5).losses)).law.exponent_interval
    assert low < 0.5 < high
