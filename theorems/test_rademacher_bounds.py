"""Contraction, bounds of generalisation, and the instances of both against their definitions."""

import itertools
import math
from fractions import Fraction

import numpy as np
import pytest
import sympy

from peftproof.theorems import linalg
from peftproof.theorems.marginal import bounds
from peftproof.theorems.marginal.instances.classes import Bent, Losses, Pieces, correlation
from peftproof.theorems.marginal.instances.kernels import Directions
from peftproof.theorems.marginal.instances.layers import RankedSigns
from peftproof.theorems.marginal.instances.slow import basis_vectors
from peftproof.theorems.rademacher import (
    Ball,
    of_losses,
)

RNG = np.random.default_rng(0)

# ---------------------------------------------------------------- losses and bounds


def test_contraction_constants():
    assert of_losses(2.0, 3.0, scalar=True) == 6
    assert of_losses(2.0, 3.0) == pytest.approx(6 * math.sqrt(2))
    with pytest.raises(ValueError, match="lipschitz: got inf"):
        of_losses(1.0, math.inf)


def test_bounds_by_hand_and_what_they_say():
    given = {"training": 0.1, "complexity": 0.05, "ceiling": 1.0, "samples": 5000, "delta": 0.02}
    empirical = bounds.uniform_bound(**given, guess=0.5)
    assert empirical.total == pytest.approx(0.1 + 0.1 + 3 * math.sqrt(math.log(100) / 10000))
    assert empirical.informative and not empirical.vacuous
    assert empirical.sentence.startswith("With probability 0.98 the risk is at most 0.264: 0.1 fitted")
    expected = bounds.uniform_bound(**given, empirical=False)
    assert expected.total == pytest.approx(0.2 + math.sqrt(math.log(50) / 10000))
    late = bounds.uniform_bound(**{**given, "complexity": 0.2}, guess=0.5)
    assert not late.vacuous and not late.informative and "without any data" in late.sentence
    assert "vacuous" in bounds.uniform_bound(**{**given, "samples": 5}).sentence
    mean = bounds.minimiser_bound(best=0.1, complexity=0.05, ceiling=1.0, samples=50)
    assert mean.total == pytest.approx(0.2) and mean.sentence.startswith("In expectation")
    likely = bounds.minimiser_bound(best=0.1, complexity=0.05, ceiling=1.0, samples=5000, delta=0.02)
    assert likely.total == pytest.approx(0.2 + math.sqrt(2 * math.log(100) / 5000))


def test_radii_ceilings_and_clips():
    shares = [bounds.over_radii(0.1, 2.0**j, 1.0)[1] for j in range(200)]
    assert sum(shares) <= 0.1
    for norm in (0.0, 0.3, 0.5, 0.500001, 7.0):
        radius, share = bounds.over_radii(0.1, norm, 0.5)
        assert norm <= radius <= max(0.5, 2 * norm) and 0 < share <= 0.05
    logits = np.array([[0.0, 3.0, -1.0], [0.0, 0.0, 0.0]])
    spread = float(bounds.cross_entropy_ceiling(3, 4.0))
    y = np.array([2, 0])
    assert np.all(bounds.clipped_cross_entropy(logits, y, np.inf) <= spread)
    np.testing.assert_allclose(bounds.clipped_cross_entropy(logits, y, 1.0), [1.0, 1.0])
    assert bounds.clipped_cross_entropy(logits, y, 2.0)[1] == pytest.approx(math.log(3))
    assert spread == pytest.approx(math.log(1 + 2 * math.exp(4)))
    assert bounds.slow_rate(lipschitz=2, radius=3, trace=4, samples=16) == pytest.approx(6.0)


@pytest.mark.parametrize(
    "wrong, match",
    [
        ({"delta": 1.0}, "delta: got 1"),
        ({"ceiling": math.inf}, "ceiling: got inf"),
        ({"samples": 0}, "samples: got 0"),
        ({"complexity": -1.0}, "complexity: got -1"),
        ({"training": math.nan}, "loss: got nan"),
    ],
)
def test_bounds_refuse(wrong, match):
    given = {"training": 0.1, "complexity": 0.1, "ceiling": 1.0, "samples": 9, "delta": 0.1}
    with pytest.raises(ValueError, match=match):
        bounds.uniform_bound(**given | wrong)


def test_the_other_bounds_refuse():
    with pytest.raises(ValueError, match="trace: got -1"):
        bounds.slow_rate(lipschitz=1, radius=1, trace=-1, samples=1)
    with pytest.raises(ValueError, match="smallest > 0"):
        bounds.over_radii(0.1, 1.0, 0.0)
    with pytest.raises(ValueError, match="needs two outputs"):
        bounds.cross_entropy_ceiling(1, 1.0)


# ---------------------------------------------------------------- instances against their definitions


def test_correlations_and_samples_against_plain_lists():
    values = RNG.integers(-2, 3, size=(3, 4))
    values[:, 3] = values[:, 0]  # columns that are counted together
    tops = [max(values @ s) for s in itertools.product((-1, 1), repeat=4)]
    assert correlation(linalg.exact(values.tolist())) == Fraction(int(sum(tops)), 16 * 4)
    losses = linalg.exact([[0, 1, 2], [2, 0, 1]])
    one = Losses(losses, 2)
    gaps = [max(losses.sum(axis=1) / 3 - (losses[:, a] + losses[:, b]) / 2)
            for a, b in itertools.product(range(3), repeat=2)]  # fmt: skip
    assert one.supremum == sum(gaps) / 9
    assert sum(chance for chance, *_ in one.seen) == 1


def test_more_and_more_points_approach_the_two_of_symmetrisation():
    for points in (3, 6):
        every = linalg.exact(list(itertools.product((0, 1), repeat=points)))
        one = Losses(every, 1)
        assert one.supremum / one.complexity == Fraction(2 * (points - 1), points)


def test_the_root_two_of_several_outputs_is_attained():
    v = np.array([[Fraction(1), Fraction(1)]], object)
    half = linalg.square_root(Fraction(1, 2))
    gradient = np.array([[half, half]], object)
    one = Pieces(np.stack([v, -v]), np.stack([gradient]))
    assert sympy.simplify(one.bound - one.vector * sympy.sqrt(2)) == 0
    assert one.vector == 1 and float(one.bound) == pytest.approx(2 * float(half))


def test_without_the_deviation_a_bound_fails_too_often():
    """The chance term is needed as well: a single hypothesis has no complexity."""
    one = Losses(linalg.exact([[0, 1]]), 3, Fraction(1, 4))
    assert one.complexity == 0
    above = sum(chance for chance, top, *_ in one.seen if top > 0)
    assert above == Fraction(1, 2) > one.delta
    assert max(one.measured) <= one.delta


def test_searches_stay_below_what_is_attained():
    rng = np.random.default_rng(0)  # of its own: which tests ran before must not decide what is drawn
    for norm in ("frobenius", "spectral", "nuclear"):
        one = RankedSigns(rng.normal(size=(3, 3)), 2, Ball(norm, 1.0, 1))
        assert 0.999 * one.closed <= one.searched <= one.closed * (1 + 1e-12)
    assert Bent(linalg.exact([[-1], [1]]), linalg.exact([[1, 2]])).lipschitz == 2
    assert Directions(np.ones((2, 1)), 1.0).low == pytest.approx(0.5)
    gap, supremum = basis_vectors(5, 2).gaps[:2]
    assert gap == supremum == 1
