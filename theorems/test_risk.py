"""Theorem 3, its exact model: the risk of LoRA with a frozen factor, and its critical rank."""

import itertools
import math
from fractions import Fraction

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from peftproof.theorems import linalg
from peftproof.theorems.diminishing.frozen_a import FrozenA, excess_risk
from peftproof.theorems.diminishing.simulation import CHUNK, simulate

# ---------------------------------------------------------------- frozen A: exact risk, critical rank

small = st.integers(0, 6).map(lambda i: Fraction(i, 2))
models = st.builds(
    lambda values, outputs, samples, noise: FrozenA.of(
        linalg.exact(values), outputs=outputs, samples=samples, noise=noise, squared=True
    ),
    st.lists(small, min_size=1, max_size=7),
    st.integers(1, 3),
    st.integers(2, 12),
    small,
)


@given(models)
def test_best_rank_is_the_brute_force_one_on_random_and_tied_spectra(model):
    fast, slow = model.best_rank(), model.best_rank_by_search()
    assert (fast.rank, fast.risk, fast.least, fast.most) == (slow.rank, slow.risk, slow.least, slow.most)
    assert isinstance(fast.risk, Fraction)


@given(models)
def test_differences_are_exact_and_change_sign_once(model):
    risks = [model.risk(r) for r in range(model.last + 1)]
    gains = [model.difference(r) for r in range(model.last)]
    assert gains == [b - a for a, b in itertools.pairwise(risks)]
    assert [gain < 0 for gain in gains] == [model.helps(r) for r in range(model.last)]
    signs = [linalg.sign(gain) for gain in gains]
    assert signs == sorted(signs)


@given(models)
def test_floats_agree_with_fractions_within_their_doubt(model):
    floats = FrozenA(model.squares.astype(float), model.outputs, model.samples, float(model.noise))
    exact, rounded = model.best_rank(), floats.best_rank()
    assert rounded.least <= exact.rank <= exact.most <= rounded.most
    assert float(rounded.risk) == pytest.approx(float(exact.risk))


def test_a_tie_by_hand():
    model = FrozenA.of(linalg.exact([1]), outputs=2, samples=4, noise=Fraction(1))
    assert model.risk(0) == model.risk(1) == 1
    best = model.best_rank()
    assert (best.rank, best.most, best.tie) == (0, 1, True)
    assert not model.helps(0)
    more = FrozenA.of(linalg.exact([1]), outputs=2, samples=5, noise=Fraction(1))
    assert (more.best_rank().rank, more.best_rank().tie) == (1, False)


def test_the_critical_rank_grows_with_the_sample():
    values = np.exp(-0.5 * np.arange(40))
    ranks = [
        FrozenA.of(values, outputs=10, samples=N, noise=1e-4).best_rank().rank for N in (10, 100, 1000, 10**4)
    ]
    assert ranks == sorted(set(ranks))
    # σ² e^{2λr} grows by a factor 10 per log(10)/(2λ) = 2.3 ranks
    assert abs((ranks[-1] - ranks[1]) - 2 * math.log(10)) <= 1


SETTINGS = [  # inputs, outputs, samples, ranks, singular values, noise variance
    (5, 3, 16, (0, 1, 2, 5), (2.0, 1.0, 0.5), 0.5),
    (5, 3, 16, (1, 2, 3, 4), (1.0, 1.0, 1.0), 0.0),
    (5, 3, 16, (0, 1, 3, 5), (1.0, 0.1, 0.01), 2.0),
    (4, 5, 12, (0, 1, 2, 3), (3.0, 1.0, 1.0, 0.2), 1.0),
    (4, 5, 12, (1, 2, 3, 4), (1.0, 0.5, 0.25, 0.125), 0.01),
    (6, 1, 30, (0, 1, 3, 6), (1.5,), 0.3),
]


def with_values(rng, values, n, m):
    u, v = (np.linalg.qr(rng.normal(size=(k, k)))[0] for k in (n, m))
    return (u[:, : len(values)] * values) @ v[: len(values)]


def simulated(setting, draws=8 * CHUNK, seed=0):
    n, m, N, ranks, values, noise = setting
    update = with_values(np.random.default_rng(seed), np.array(values), n, m)
    return simulate(update, ranks, jax.random.key(seed), samples=N, noise=noise, draws=draws)


def tail_of(setting, rank):
    return sum(value**2 for value in setting[4][rank:])


def far(found, index, expected):
    """Distance in standard errors; a risk that does not vary, as at rank 0, is compared to rounding."""
    floor = linalg.gamma(found.draws + 10**3) * found.mean.max()
    return abs(found.mean[index] - expected) / (found.standard_error[index] + floor)


@pytest.fixture(scope="module")
def draws():
    return [simulated(setting, seed=i) for i, setting in enumerate(SETTINGS)]


@pytest.mark.parametrize("which", range(len(SETTINGS)))
def test_risk_agrees_with_the_simulated_model(draws, which):
    _, m, N, ranks, _, noise = setting = SETTINGS[which]
    for i, rank in enumerate(ranks):
        expected = excess_risk(tail_of(setting, rank), rank, outputs=m, samples=N, noise=noise)
        assert far(draws[which], i, expected) < 5, (setting, rank)


WRONG = {
    "N in place of N - 1": lambda tail, m, N, s, r: (N * tail + m * s * r) / (N - r - 1),
    "N - r in place of N - r - 1": lambda tail, m, N, s, r: ((N - 1) * tail + m * s * r) / (N - r),
    "the missed part adds no noise": lambda tail, m, N, s, r: tail + m * s * r / (N - r - 1),
    "the noise of one output": lambda tail, m, N, s, r: ((N - 1) * tail + s * r) / (N - r - 1),
}


@pytest.mark.parametrize("wrong", WRONG)
def test_wrong_risks_are_rejected(draws, wrong):
    setting, found = SETTINGS[0], draws[0]
    _, m, N, ranks, _, noise = setting
    distances = [
        far(found, i, WRONG[wrong](tail_of(setting, r), m, N, noise, r)) for i, r in enumerate(ranks) if r
    ]
    assert max(distances) > 10


def test_any_frozen_a_has_the_same_formula():
    rng = np.random.default_rng(5)
    update = with_values(rng, np.array([2.0, 1.0, 0.5]), 5, 3)
    basis = np.linalg.qr(rng.normal(size=(5, 5)))[0]
    found = simulate(
        update, (0, 1, 2, 5), jax.random.key(3), samples=16, noise=0.5, draws=4 * CHUNK, directions=basis
    )
    for i, rank in enumerate(found.ranks):
        missed = float(np.sum((basis[:, rank:].T @ update) ** 2))
        assert far(found, i, excess_risk(missed, rank, outputs=3, samples=16, noise=0.5)) < 5
        assert missed >= tail_of(SETTINGS[0], rank) - 1e-12


def test_a_simulated_fit_is_the_one_of_lstsq():
    rng, key = np.random.default_rng(1), jax.random.key(9)
    update = with_values(rng, np.array([2.0, 1.0, 0.5]), 5, 3)
    found = simulate(update, (0, 1, 2, 5), key, samples=16, noise=0.5, draws=2)
    u = np.linalg.svd(update)[0]
    risks = []
    for one in jax.random.split(key, (1, CHUNK))[0][:2]:
        drawn = np.asarray(jax.random.normal(one, (16, 8), jnp.float64))
        x, y = drawn[:, :5], drawn[:, :5] @ update + math.sqrt(0.5) * drawn[:, 5:]
        fits = [u[:, :r] @ np.linalg.lstsq(x @ u[:, :r], y)[0] for r in (1, 2, 5)]
        risks.append([np.sum((fit - update) ** 2) for fit in fits])
    np.testing.assert_allclose(found.mean[1:], np.mean(risks, axis=0), rtol=1e-10)


def test_what_has_no_risk_is_refused():
    with pytest.raises(ValueError, match="samples - 2"):
        excess_risk(1.0, 9, outputs=1, samples=10, noise=1.0)
    with pytest.raises(ValueError, match="squares, which are >= 0"):
        excess_risk(-1.0, 1, outputs=1, samples=10, noise=1.0)
    with pytest.raises(ValueError, match="beside exact values"):
        FrozenA.of(linalg.exact([1]), outputs=1, samples=4, noise=0.5)
    with pytest.raises(ValueError, match="descending"):
        FrozenA(np.array([1.0, 2.0]), 1, 4, 0.5)
    with pytest.raises(ValueError, match="at least 1 and at least 2"):
        FrozenA(np.array([1.0]), 1, 1, 0.5)
    with pytest.raises(ValueError, match="rank: got 3"):
        FrozenA(np.array([1.0]), 1, 9, 0.5).risk(3)
    with pytest.raises(ValueError, match="ranks: got"):
        simulate(np.eye(3), (3,), jax.random.key(0), samples=6, noise=1.0)
