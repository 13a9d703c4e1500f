"""The constants behind intervals and bounds, each where a smaller one would be wrong or would be seen."""

import importlib
import itertools
import math
from dataclasses import replace
from fractions import Fraction

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from peftproof.models.methods import Full
from peftproof.models.network import Network
from peftproof.theorems import linalg
from peftproof.theorems.marginal import bounds
from peftproof.theorems.rademacher import Ball, Compared, Complexity, LinearClass, free_compared, ranked
from peftproof.theorems.rademacher.estimate import controlled


def test_draws_that_agree_leave_room_for_what_was_not_drawn():
    """All draws at F: without the term of the range the interval would be a point, and above the mean."""
    count, size, longest, delta = 10**5, 2.0, 6.0, 0.1
    found = controlled(np.full(count, size), size, longest, confidence=1 - delta)
    span = (longest - size) ** 2 / (2 * size)  # w = (F − z)²/2F, at the longest z
    assert found.value == found.high == size
    assert found.low == pytest.approx(size - 7 * span * math.log(8 / delta) / (3 * (count - 1)), rel=1e-12)
    near = controlled(np.full(count, size), size, 3.0, confidence=1 - delta)  # here w is largest at z = 0
    assert near.low == pytest.approx(size - 7 * (size / 2) * math.log(8 / delta) / (3 * (count - 1)))


def test_the_plain_mean_has_the_constant_of_mcdiarmid():
    """Where w may be huge the other interval is useless, and this one decides on both sides."""
    lengths, size, delta = np.tile([0.0, 2.0], 500), 2.0, 0.05
    found = controlled(lengths, size, 1e3, scale=3.0, confidence=1 - delta)
    width = size * math.sqrt(2 * math.log(4 / delta) / len(lengths))
    assert (found.low, found.high) == pytest.approx((3 * (1 - width), 3 * (1 + width)))


def test_an_interval_misses_no_more_often_than_it_says():
    """Two equal rows: z is 0 or 2 with equal chance, so that the law of any number of draws is known."""
    features, count, delta = np.ones((2, 1)), 64, 0.2
    exact = LinearClass.of(features).enumerated() * 2
    missed = 0.0
    for heads in range(count + 1):
        lengths = np.repeat([0.0, 2.0], [heads, count - heads])
        found = controlled(lengths, math.sqrt(2), 2.0, confidence=1 - delta)
        missed += math.comb(count, heads) / 2**count * (not found.low <= exact <= found.high)
    assert missed <= delta


@pytest.fixture
def longest(monkeypatch):
    """What is said to be the longest z, by each caller."""
    seen = []

    def listen(lengths, size, most, **rest):
        seen.append((float(np.max(lengths)), most))
        return controlled(lengths, size, most, **rest)

    for name in ("linear", "compared"):  # the function `compared` hides its module
        module = importlib.import_module(f"peftproof.theorems.rademacher.{name}")
        monkeypatch.setattr(module, "controlled", listen)
    return seen


def test_no_sign_makes_a_longer_sum_than_is_said(longest):
    """Equal rows add up to N times one of them, far beyond F = √N."""
    LinearClass.of(np.ones((20, 1))).sampled(jax.random.key(0))
    network = Network(lambda params, x: x @ params["w"], {"w": jnp.zeros((1, 1))}, name="line")
    made = Full().reparameterize(network)
    free_compared(network, np.ones((20, 1)), made, made.init(jax.random.key(0)), jax.random.key(0), draws=32)
    assert len(longest) == 3
    for drawn, most in longest:
        assert drawn <= most and most == pytest.approx(20)


def half_width(x, outputs, ball, draws=100, delta=0.1):
    values = np.zeros((draws, min(outputs, x.shape[1])))
    found = ranked.of_drawn(values, x, outputs, ball, confidence=1 - delta)
    return found.high / math.sqrt(math.log(2 / delta) / draws), found.inequality


def test_draws_of_layers_have_the_range_of_hoeffding():
    """The signs of a Hadamard matrix attain the range c on a spectral ball: nothing smaller will do."""
    x, r = 2 * np.eye(2), 1.5
    signs = [np.array(s).reshape(2, 2) for s in itertools.product((-1.0, 1.0), repeat=4)]
    for norm in ("frobenius", "spectral", "nuclear"):
        ball = Ball(norm, r, 2)
        top = max(float(ball.supremum(s.T @ x / 2)) for s in signs)
        width, inequality = half_width(x, 2, ball)
        assert inequality == "Hoeffding" and width >= top / math.sqrt(2) * (1 - 1e-12)
        assert norm == "nuclear" or width == pytest.approx(top / math.sqrt(2))


def test_draws_of_layers_have_the_differences_of_mcdiarmid():
    """One sign moves a draw by at most 2B‖xᵢ‖/N: √(Σ c²/2k) with Nm of them."""
    x, outputs, r = 2 * np.ones((16, 1)), 3, 1.5
    width, inequality = half_width(x, outputs, Ball("frobenius", r))
    assert inequality == "McDiarmid"
    assert width == pytest.approx(math.sqrt(16 * outputs * (2 * r * 2 / 16) ** 2 / 2))


def test_bounds_of_layers_have_the_constants_of_khintchine_and_chevet():
    """Too loose for any input to betray a smaller constant, so by hand: n = m = N = 100 unit vectors."""
    x, root = np.eye(100), math.sqrt(math.pi / 2)
    cases = ("frobenius", 1, 1), ("frobenius", 4, 2), ("spectral", 4, 4), ("nuclear", 4, 1)
    for norm, rank, factor in cases:
        chevet = factor * root * (10 + 10) / 100
        assert float(ranked.upper_bound(x, 100, Ball(norm, 3.0, rank))) == pytest.approx(3 * chevet)
    low, high = ranked.ratio_bounds(x, 100, 1)
    assert (float(low), float(high)) == pytest.approx((1 / 10, math.sqrt(math.pi) * (1 / 10 + 1 / 10)))
    low = ranked.lower_bound(x, 100, Ball("frobenius", 3.0, 4))
    assert float(low) == pytest.approx(3 * 20 / 100 / math.sqrt(2))


def test_the_interval_of_a_ratio_takes_opposite_ends():
    def of(low, high):
        return Complexity(1.0, low, high, 0.1, linalg.Lower(low), linalg.Upper(high), "by hand")

    found = Compared("made", 1, 4, 1, 1, full=of(0.8, 1.6), part=of(0.4, 2.4), traces=0.5)
    assert found.interval == pytest.approx((0.25, 3.0))
    assert tuple(map(float, found.bounds)) == pytest.approx((0.25, 3.0))


def test_bounds_have_the_unit_of_the_loss():
    """A loss in other units has a bound in these: nothing in it may leave c out."""
    given = {"complexity": 0.05, "ceiling": 1.0, "samples": 50, "delta": 0.02}
    scaled = given | {"complexity": 0.35, "ceiling": 7.0}
    for empirical in (True, False):
        one = bounds.uniform_bound(training=0.1, empirical=empirical, **given)
        other = bounds.uniform_bound(training=0.7, empirical=empirical, **scaled)
        assert other.total == pytest.approx(7 * one.total)
    one, other = (bounds.minimiser_bound(best=best, **each) for best, each in ((0.1, given), (0.7, scaled)))
    assert other.total == pytest.approx(7 * one.total)


def test_a_bound_is_vacuous_from_the_ceiling_on():
    made = bounds.Bound(0.5, 0.25, 0.25, 0.9, 1.0, None, "by hand")
    assert made.vacuous and not made.informative
    assert not replace(made, deviation=0.125).vacuous and replace(made, deviation=0.125).informative


def test_shares_of_radii_add_up_to_delta():
    shares = [bounds.over_radii(0.5, 2.0**j, 1.0)[1] for j in range(500)]
    assert sum(map(Fraction, shares)) == pytest.approx(0.5 * (1 - 1 / 501))
