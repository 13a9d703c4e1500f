"""Theorem 3, its sample complexity: suprema over matrices of a rank, Rademacher averages, ERM."""

import itertools
import math
from fractions import Fraction

import jax
import numpy as np
import pytest

from peftproof.theorems import linalg
from peftproof.theorems.diminishing.erm import erm_bound, trivial_bound
from peftproof.theorems.diminishing.simulation import CHUNK
from peftproof.theorems.rademacher import Ball, enumerated, lower_bound, ratio_bounds, sampled, upper_bound
from peftproof.theorems.rademacher.ky_fan import NORMS
from peftproof.theorems.rademacher.losses import CROSS_ENTROPY

# ---------------------------------------------------------------- Ky Fan suprema


@pytest.mark.parametrize("norm", NORMS)
@pytest.mark.parametrize("rank", [1, 2, 3, None])
def test_supremum_is_attained_and_never_exceeded(norm, rank):
    rng = np.random.default_rng(0)
    special = (np.diag([3.0, 2.0, 1.0]), np.ones((2, 5)), np.eye(3), np.zeros((2, 3)))
    for z in (rng.normal(size=(4, 3)), *special):
        ball = Ball(norm, 1.7, rank)
        top, best = ball.supremum(z), ball.maximiser(z)
        assert ball.size(best) <= 1.7 * (1 + 1e-12)
        assert np.linalg.matrix_rank(best) <= ball.limit(z.shape)
        np.testing.assert_allclose(np.sum(best * z), top, atol=1e-12)
        for _ in range(200):
            d = ball.draw(rng, z.shape)
            assert np.sum(d * z) <= top + 1e-12
            climbed = ball.maximiser(0.1 * d + z)  # near the best, where an attack has a chance
            assert np.sum(climbed * z) <= top + 1e-12


def test_suprema_by_hand():
    values = linalg.exact([3, 2, 1])
    assert Ball("frobenius", Fraction(1), 1).of_values(values) == 3
    assert Ball("frobenius", 1, 2).of_values(linalg.exact([4, 3, 1])) == 5
    assert Ball("spectral", Fraction(1, 2), 2).of_values(values) == Fraction(5, 2)
    assert Ball("nuclear", 2, 3).of_values(values) == 6
    with pytest.raises(ValueError, match="norm: got 'l1'"):
        Ball("l1")
    with pytest.raises(ValueError, match="rank: got 0"):
        Ball(rank=0)
    with pytest.raises(ValueError, match="radius: got -1"):
        Ball(radius=-1)


# ---------------------------------------------------------------- Rademacher complexity

INPUTS = {
    "gaussian": np.random.default_rng(1).normal(size=(4, 3)),
    "isotropic": np.eye(4),
    "one example": np.array([[1.0, -2.0, 2.0]]),
    "equal examples": np.ones((2, 1)),
    "one direction": np.outer([1.0, 2.0, -1.0], [2.0, 1.0]),
    "spiked": np.diag([10.0, 1.0, 0.1]),
    "a zero example": np.array([[1.0, 0.0], [0.0, 0.0], [1.0, 1.0]]),
}
CASES = [
    (name, m, Ball(norm, 1.5, r))
    for name, m, norm, r in itertools.product(INPUTS, (1, 2, 3), NORMS, (1, 2, None))
    if len(INPUTS[name]) * m <= 12 and (m > 1 or r == 1)
]


def naive_complexity(x, m, ball):
    """By the definition, one sign matrix after the other, the supremum from the maximiser."""
    found = []
    for signs in itertools.product((-1.0, 1.0), repeat=len(x) * m):
        z = np.reshape(signs, (len(x), m)).T @ x / len(x)
        found.append(np.sum(ball.maximiser(z) * z))
    return np.mean(found)


def test_enumeration_is_the_definition():
    for name, m, ball in CASES[::9]:
        if len(INPUTS[name]) * m <= 8:
            np.testing.assert_allclose(
                enumerated(INPUTS[name], m, ball), naive_complexity(INPUTS[name], m, ball), rtol=1e-12
            )
    assert enumerated(np.array([[3.0], [1.0]]), 1, Ball()) == pytest.approx((4 + 2) / 4)


def test_complexity_lies_between_its_bounds():
    for name, m, ball in CASES:
        exact, x = enumerated(INPUTS[name], m, ball), INPUTS[name]
        assert lower_bound(x, m, ball) <= exact * (1 + 1e-12), (name, m, ball)
        assert exact <= upper_bound(x, m, ball) * (1 + 1e-12), (name, m, ball)
        assert ball.norm != "frobenius" or upper_bound(x, m, ball) <= 4.96 * lower_bound(x, m, ball)


def test_bounds_are_attained_and_nothing_smaller_would_do():
    equal = INPUTS["equal examples"]
    assert lower_bound(equal, 1, Ball()) == pytest.approx(enumerated(equal, 1, Ball()))  # Khintchine's √2
    assert enumerated(equal, 1, Ball()) < np.linalg.norm(equal) / 2 * 0.8  # Jensen's bound is no lower bound
    one = INPUTS["one example"]
    assert upper_bound(one, 3, Ball(rank=1)) == pytest.approx(enumerated(one, 3, Ball(rank=1)))
    two = np.eye(2)  # Chevet's bound without the Frobenius norm
    assert enumerated(two, 1, Ball()) > math.sqrt(math.pi / 2) * np.linalg.norm(two, 2) / 2


def test_ratio_of_low_rank_to_full():
    for name, x in INPUTS.items():
        for m, rank in itertools.product((2, 3), (1, 2)):
            if len(x) * m <= 12:
                low, high = ratio_bounds(x, m, rank)
                ratio = enumerated(x, m, Ball(rank=rank)) / enumerated(x, m, Ball())
                assert low <= ratio * (1 + 1e-12) and ratio <= high * (1 + 1e-12), (name, m, rank)
    x = np.linalg.qr(np.random.default_rng(0).normal(size=(200, 60)))[0]
    low, high = ratio_bounds(x, 60, 1)
    ratio = [sampled(x, 60, Ball(rank=r), jax.random.key(0), draws=CHUNK).value for r in (1, None)]
    assert low < ratio[0] / ratio[1] < high < 0.5


def test_the_sampled_interval_covers():
    for seed, norm in enumerate(NORMS):
        x, ball = INPUTS["gaussian"], Ball(norm, 1.5, 2)
        found, exact = sampled(x, 3, ball, jax.random.key(seed), draws=4096), enumerated(x, 3, ball)
        assert found.low <= exact <= found.high
        assert abs(found.value - exact) <= 5 * found.standard_error
        assert found.draws == 4096 and found.inequality in ("Hoeffding", "McDiarmid")
        other = enumerated(x, 3, Ball(norm, 2.5, 2))
        assert not found.low <= other <= found.high


@pytest.mark.parametrize("size", [1, 4, 9, 16])
def test_the_printed_order_is_impossible(size):
    """With r = N = 1 and a loss 1-Lipschitz in one output the gap is √n, where √(r/N) stays 1."""
    signs = np.ones((1, size))
    assert enumerated(signs, 1, Ball(rank=1)) == pytest.approx(math.sqrt(size))
    assert enumerated(np.ones((1, 1)), size, Ball(rank=1)) == pytest.approx(math.sqrt(size))


def test_complexity_refuses():
    with pytest.raises(ValueError, match="at most 16 can be enumerated"):
        enumerated(np.eye(9), 2, Ball())
    with pytest.raises(ValueError, match="needs \\(N, n\\)"):
        upper_bound(np.ones(3), 2, Ball())
    with pytest.raises(ValueError, match="outputs: got 0"):
        lower_bound(np.eye(3), 0, Ball())
    with pytest.raises(ValueError, match="confidence: got 1"):
        sampled(np.eye(3), 1, Ball(), jax.random.key(0), confidence=1.0)
    with pytest.raises(ValueError, match="have no ratio"):
        ratio_bounds(np.zeros((2, 2)), 1, 1)


# ---------------------------------------------------------------- empirical risk minimisation

CORNERS = np.array([[1.0, 0.0], [0.0, 1.0], [1.0, 1.0], [1.0, -1.0]])
LABELS = np.array([[1.0, 0.0], [0.0, 1.0], [0.6, 0.8], [-0.8, 0.6]])


def erm_problem(rank, samples, radius=1.0):
    """Loss −⟨y, Dx⟩ over four points, whose minimisers are known: the risk of ERM and what bounds it."""
    ball, points = Ball("frobenius", radius, rank), range(len(CORNERS))
    moment = LABELS.T @ CORNERS / len(CORNERS)
    best = Ball("frobenius", radius).maximiser(moment)
    u, s, vt = np.linalg.svd(best)
    cut = (u[:, :rank] * s[:rank]) @ vt[:rank]
    risks, complexities = [], []
    for chosen in itertools.combinations_with_replacement(points, samples):
        count = math.factorial(samples) / math.prod(math.factorial(chosen.count(p)) for p in points)
        x, y = CORNERS[list(chosen)], LABELS[list(chosen)]
        fitted = ball.maximiser(y.T @ x / samples)
        risks.append(-count * np.sum(fitted * moment))
        complexities.append(count * enumerated(x, 2, ball))
    total = len(CORNERS) ** samples
    optimum = -np.sum(best * moment)
    bound = erm_bound(
        optimum=optimum,
        lipschitz=1.0,
        distance=np.mean(np.linalg.norm(CORNERS @ (best - cut).T, axis=1)),
        complexity=sum(complexities) / total,
        trivial=trivial_bound(
            optimum=optimum,
            lipschitz=1.0,
            radius=radius,
            reference_norm=radius,
            mean_input_norm=np.mean(np.linalg.norm(CORNERS, axis=1)),
        ),
    )
    return sum(risks) / total, bound


@pytest.mark.parametrize("rank", [1, 2])
@pytest.mark.parametrize("samples", [1, 2, 4])
def test_the_risk_of_erm_is_bounded(rank, samples):
    risk, bound = erm_problem(rank, samples)
    assert risk <= bound.total
    assert risk <= bound.trivial
    assert (rank == 2) == (bound.approximation < 1e-12)
    if rank == 2:  # without the price of estimation it is no bound
        assert risk > bound.optimum + bound.approximation + 1e-3


def test_the_bound_says_when_it_is_vacuous():
    assert erm_problem(2, 1)[1].vacuous
    assert not erm_bound(optimum=0, lipschitz=1, distance=0, complexity=0.01, trivial=1).vacuous
    with pytest.raises(ValueError, match="complexity: got -1"):
        erm_bound(optimum=0, lipschitz=1, distance=0, complexity=-1, trivial=1)


def test_contraction_of_cross_entropy_over_a_finite_class():
    rng = np.random.default_rng(0)
    for spread in (0.1, 1.0, 10.0):
        x, labels = rng.normal(size=(4, 2)), rng.integers(0, 3, size=4)
        outputs = np.einsum("dmn,pn->dpm", spread * rng.normal(size=(30, 3, 2)), x)
        losses = np.logaddexp.reduce(outputs, axis=2) - outputs[:, range(4), labels]
        left = np.mean([np.max(losses @ s) for s in itertools.product((-1, 1), repeat=4)])
        signs = np.array(list(itertools.product((-1, 1), repeat=12))).reshape(-1, 4, 3)
        right = np.mean(np.max(np.einsum("spm,dpm->sd", signs, outputs), axis=1))
        assert left <= math.sqrt(2) * CROSS_ENTROPY * right
