"""How often noise is taken for a finding when many sizes are looked at, and findings that must not be."""

import math

import numpy as np
import pytest
from scipy import stats

from peftproof.theorems.marginal import crossover, fit_curve, gains
from peftproof.theorems.marginal.crossover import Crossing
from peftproof.theorems.marginal.fits import PowerLaw, _falls, _misfit, _rise
from peftproof.theorems.marginal.prediction import _overtaking
from peftproof.theorems.marginal.resampling import limits

SIZES, RUNS, SEEDS = (20, 44, 96, 209, 457, 1000), 400, 10
LEVEL = 0.1


def share_of(found):
    """Of all runs on seeds that differ by noise only; at most LEVEL, and by chance five errors more."""
    rng = np.random.default_rng(0)
    share = np.mean([found(rng.normal(size=(SEEDS, len(SIZES)))) for _ in range(RUNS)])
    return share, LEVEL + 5 * math.sqrt(LEVEL * (1 - LEVEL) / RUNS)


def test_flat_curves_seldom_rise_or_fall():
    """Fifteen pairs of sizes, and five: without Bonferroni's correction 0.63 and 0.30 of them did."""
    for found in (lambda losses: _rise(losses, LEVEL) is not None, lambda losses: _falls(losses, LEVEL)):
        share, most = share_of(found)
        assert 0 < share <= most < 0.2


def test_equal_curves_seldom_differ_anywhere():
    """All six signs hold together; each at that level for itself, half of the curves would differ."""

    def differ(noise):
        found = crossover((SIZES, 1 + noise), (SIZES, np.ones_like(noise)), confidence=1 - LEVEL, count=2)
        return found.outcome is not Crossing.UNDECIDED

    share, most = share_of(differ)
    assert 0 < share <= most


def test_no_ratio_to_a_gain_that_is_not_established():
    """Positive in all resamples is not enough, and neither is what a t interval says if resamples lose."""
    peft = np.array([[2.0, 1.0]])
    few = np.array([0.1, 1.0, 2.0])  # mean 1.03, Student's limit below 0
    many = np.array([1.0] * 9 + [-1.5])  # established, and lost where the last seed comes four times
    for gained in (few, many):
        full = np.stack([10 + gained, np.full(len(gained), 10.0)], axis=1)
        made = gains(((20, 40), full), ((20, 40), np.repeat(peft, len(gained), axis=0)), d=4, k=1)
        assert made.steps[-1].ratio is None
    assert made.steps[-1].full_interval[0] > 0
    sure = np.stack([10 + np.array([0.9, 1.0, 1.1]), np.full(3, 10.0)], axis=1)
    made = gains(((20, 40), sure), ((20, 40), np.repeat(peft, 3, axis=0)), d=4, k=1)
    assert made.steps[-1].ratio == 1


def test_of_several_continued_crossings_the_last_one_counts():
    grid = np.array([1.0, 10.0, 100.0, 1000.0])
    gap = np.array([[1.0, -1.0, 1.0, -1.0], [-1.0, -1.0, -1.0, -1.0], [-1.0, -1.0, -1.0, 1.0]])
    np.testing.assert_allclose(_overtaking(grid, gap), [10**2.5, 0.0, np.inf])


def test_the_p_of_a_misfit_is_that_of_the_law():
    """Five seeds, so that the two degrees of freedom of F matter: p is uniform, to within five errors."""
    rng, runs, sizes = np.random.default_rng(0), 100, np.array(SIZES, float)
    fall, found = 9 * sizes**-0.8, []
    for _ in range(runs):
        noise = rng.normal(size=(5, 1)) + rng.normal(size=(5, len(SIZES)))
        found.append(fit_curve((SIZES, 0.1 + fall * (1 + 0.05 * noise)), count=2).p_value)
    for level in (0.1, 0.5):
        error = math.sqrt(level * (1 - level) / runs)
        assert abs(np.mean(np.array(found) < level) - level) < 5 * error


def test_limits_go_to_the_expanded_level():
    """Of values that are their own share: Φ(−√(S/(S − 1)) t), for five seeds about 1 in 1000 and not 25."""
    low, high = limits(np.linspace(0, 1, 100_001), 5, 0.95)
    level = stats.norm.cdf(-math.sqrt(5 / 4) * stats.t.ppf(0.975, 4))
    np.testing.assert_allclose([low, 1 - high], level, atol=2e-5)


def test_a_limit_of_peft_below_that_of_full_fine_tuning_is_no_negative_misspecification():
    rng, sizes = np.random.default_rng(0), np.array(SIZES, float)
    full, peft = ((a + 9 * sizes**-0.8 * (1 + 0.02 * rng.normal(size=(SEEDS, 6)))) for a in (0.3, 0.2))
    made = gains((SIZES, full), (SIZES, peft), d=4, k=1, count=100)
    assert made.model == 0.25 and made.model_interval == (0.25, 0.25)


def test_what_another_exponent_would_explain_is_no_misfit():
    """A change along the derivative in γ lies in the tangents of the law, a step of that size does not."""
    rng, sizes = np.random.default_rng(0), np.array(SIZES, float)
    law = PowerLaw(0.1, 9.0, 0.8, (0, 1), (0, 1), 10.0)
    noise = 1e-5 * rng.normal(size=(SEEDS, 6))
    turned = law(sizes) + 1e-3 * 9 * sizes**-0.8 * np.log(sizes) + noise
    assert _misfit(sizes, turned, law) == pytest.approx(_misfit(sizes, law(sizes) + noise, law), rel=1e-6)
    assert _misfit(sizes, law(sizes) + 1e-3 * (sizes > 100) + noise, law) < 1e-6
