"""Theorem 3, its repairs: risk of frozen-A LoRA, complexity at a given rank, smoothness of the loss."""

import itertools
import math
from fractions import Fraction

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from jax.flatten_util import ravel_pytree

from peftproof.models import tree
from peftproof.models.mlp import MLPConfig, mlp, mlp_from_arrays
from peftproof.models.network import Network
from peftproof.models.tasks import Split
from peftproof.models.training import cross_entropy
from peftproof.models.transformer import TransformerConfig, transformer
from peftproof.theorems import linalg
from peftproof.theorems.claims import MissingIngredient
from peftproof.theorems.diminishing.erm import CROSS_ENTROPY, erm_bound, trivial_bound
from peftproof.theorems.diminishing.frozen_a import FrozenA, excess_risk
from peftproof.theorems.diminishing.ky_fan import NORMS, Ball
from peftproof.theorems.diminishing.lipschitz import (
    _largest_product,
    layer_distances,
    loss_lipschitz,
    segment_change,
)
from peftproof.theorems.diminishing.rademacher import (
    enumerated,
    lower_bound,
    ratio_bounds,
    sampled,
    upper_bound,
)
from peftproof.theorems.diminishing.segment import segment_identity, segment_profile
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


# ---------------------------------------------------------------- Lipschitz constant of the loss

NETWORKS = [
    MLPConfig((4, 6, 5, 3), "tanh"),
    MLPConfig((4, 6, 5, 3), "relu", biases=False),
    MLPConfig((4, 6, 3), "softplus"),
    MLPConfig((4, 6, 3), "gelu", output_activation="sigmoid"),
    MLPConfig((4, 3), "tanh"),
]


def network_and_split(config, seed=0, examples=8):
    rng = np.random.default_rng(seed)
    network = mlp(config, jax.random.key(seed), np.float64)
    network = network.with_params(
        jax.tree.map(lambda leaf: leaf + 0.3 * rng.normal(size=leaf.shape), network.params)
    )
    x, y = rng.normal(size=(examples, config.widths[0])), rng.integers(0, config.widths[-1], size=examples)
    return network, Split(x, y)


def loss_of(network, split):
    data, unravel = (jnp.asarray(split.x), jnp.asarray(split.y)), ravel_pytree(network.params)[1]
    return lambda vector: cross_entropy(network.apply, unravel(vector), data)[0]


def attacked(network, split, radius, steps=60, starts=4):
    """Points of the ball: random ones on the sphere, and the ends of ascents of loss and of gradient norm."""
    loss, centre = loss_of(network, split), ravel_pytree(network.params)[0]
    size = jax.jit(jax.grad(lambda v: jnp.linalg.norm(jax.grad(loss)(v))))
    ascents, rng, found = (jax.jit(jax.grad(loss)), size), np.random.default_rng(0), []
    for _, ascent in itertools.product(range(starts), ascents):
        move = rng.normal(size=centre.size)
        move *= radius / np.linalg.norm(move)
        found.append(centre + move)
        for _ in range(steps):
            step = np.asarray(ascent(centre + move))
            move = move + radius * 0.2 * step / max(np.linalg.norm(step), 1e-300)
            move *= min(1, radius / np.linalg.norm(move))
        found.append(centre + move)
    return np.stack([centre, *found])


@pytest.mark.parametrize("config", NETWORKS, ids=lambda c: f"{c.activation}-{c.layers}")
@pytest.mark.parametrize("radius", [0.1, 2.0])
def test_no_point_of_the_ball_has_a_larger_gradient_or_secant(config, radius):
    network, split = network_and_split(config)
    bound, loss = loss_lipschitz(network, split, radius), loss_of(network, split)
    points = attacked(network, split, radius)
    values, gradients = jax.vmap(jax.value_and_grad(loss))(points)
    norms = np.linalg.norm(np.asarray(gradients), axis=1)
    assert norms.max() <= bound.value
    assert norms.max() > norms[0]  # the attack is one
    unravel = ravel_pytree(network.params)[1]
    for gradient in np.asarray(gradients):
        zero = tree.zeros_like(network.params)
        layers = layer_distances(network, unravel(jnp.asarray(gradient)), zero)
        assert all(size <= G for size, G in zip(layers, bound.layers, strict=True))
    for i, j in itertools.combinations(range(len(points)), 2):
        distances = layer_distances(network, unravel(points[i]), unravel(points[j]))
        change = abs(float(values[i] - values[j]))
        assert change <= bound.change(distances) * (1 + 1e-12)
        assert bound.change(distances) <= bound.value * np.linalg.norm(points[i] - points[j]) * (1 + 1e-9)


def test_a_smaller_constant_is_refuted():
    """One linear layer and one example attain the bound at the centre, and √2 is reached far away."""
    network = mlp_from_arrays([np.array([[1.0, 2.0], [0.5, -1.0], [3.0, 0.0]])], [np.zeros(3)])
    split = Split(np.array([[1.0, 2.0]]), np.array([1]))
    bound, loss = loss_lipschitz(network, split, 0.0), loss_of(network, split)
    gradient = np.linalg.norm(jax.grad(loss)(ravel_pytree(network.params)[0]))
    assert gradient == pytest.approx(bound.value, rel=1e-9)
    far_away = loss_lipschitz(network, split, 50.0).value
    worst = network.with_params(jax.tree.map(lambda leaf: 20 * leaf, network.params))
    reached = np.linalg.norm(jax.grad(loss_of(worst, split))(ravel_pytree(worst.params)[0]))
    assert far_away / math.sqrt(2) < reached <= far_away
    assert reached == pytest.approx(far_away, rel=1e-6)


def test_a_certificate_allows_for_any_order_of_summation_of_wide_inputs():
    width = 4096
    network, x = mlp_from_arrays([np.zeros((2, width))], None), np.arange(1.0, width + 1)
    exact = math.sqrt(0.5 * width * (width + 1) * (2 * width + 1) / 6)
    assert loss_lipschitz(network, Split(x[None], np.array([1])), 0.0).value >= exact * (
        1 + linalg.gamma(width // 2)
    )


def test_certificates_shrink_with_the_ball_and_its_cut():
    network, split = network_and_split(NETWORKS[0])
    sizes = [loss_lipschitz(network, split, R).value for R in (0.0, 0.1, 1.0)]
    assert sizes == sorted(set(sizes))
    assert loss_lipschitz(network, split, 1.0).value <= loss_lipschitz(network, split, [1.0] * 3).value
    assert loss_lipschitz(network, split, [0.0, 0.0, 1.0]).value < loss_lipschitz(network, split, 1.0).value
    other = jax.tree.map(lambda leaf: leaf * 1.3 + 0.1, network.params)
    loss, (a, b) = loss_of(network, split), (ravel_pytree(p)[0] for p in (network.params, other))
    found = [segment_change(network, split, network.params, other, pieces=p) for p in (1, 4, 16)]
    assert all(abs(float(loss(a) - loss(b))) <= change for change, _ in found)
    assert [float(change) for change, _ in found] == sorted((float(c) for c, _ in found), reverse=True)
    profile = segment_profile(network, split, network.params, other)
    assert profile.lipschitz <= found[-1][1]
    assert isinstance(profile.lipschitz, linalg.Lower) and isinstance(profile.smoothness, linalg.Lower)


def test_a_segment_that_attains_its_certificate():
    """Two classes, one example, one layer, and a move along the gradient: no slack but that of the pieces."""
    zero, x = np.zeros((2, 2)), np.array([[3.0, 4.0]])
    network = mlp_from_arrays([zero], None)
    other = network.with_params({"layers": {"0": {"kernel": jnp.asarray(x.T @ np.array([[0.1, -0.1]]))}}})
    change, _ = segment_change(network, Split(x, np.array([1])), network.params, other.params, pieces=64)
    loss = loss_of(network, Split(x, np.array([1])))
    true = float(loss(ravel_pytree(other.params)[0]) - loss(ravel_pytree(network.params)[0]))
    assert true <= change <= 1.03 * true


@given(st.lists(st.floats(0, 100), min_size=1, max_size=4), st.floats(1e-3, 100))
def test_the_largest_product_on_a_ball(norms, radius):
    top, w = _largest_product(norms, radius), np.array(norms)
    moves = np.abs(np.random.default_rng(0).normal(size=(500, len(w))))
    moves *= radius / np.linalg.norm(moves, axis=1, keepdims=True)
    products = np.prod(w + moves, axis=1)
    assert products.max() <= top * (1 + 1e-12)
    assert top <= np.prod(w + radius) * (1 + 1e-9)


def test_lipschitz_refuses():
    network, split = network_and_split(NETWORKS[0])
    with pytest.raises(ValueError, match="needs one finite number"):
        loss_lipschitz(network, split, -1.0)
    with pytest.raises(ValueError, match="3 of them"):
        loss_lipschitz(network, split, [1.0, 1.0])
    with pytest.raises(ValueError, match="verdicts need float64"):
        loss_lipschitz(network.astype(np.float32), split, 1.0)
    with pytest.raises(ValueError, match="labels up to 7"):
        loss_lipschitz(network, Split(split.x, np.full(len(split), 7)), 1.0)
    with pytest.raises(ValueError, match="pieces: got 0"):
        segment_change(network, split, network.params, network.params, pieces=0)
    with pytest.raises(ValueError, match="points: got 1"):
        segment_profile(network, split, network.params, network.params, points=1)
    with pytest.raises(ValueError, match="distances: got 1"):
        loss_lipschitz(network, split, 1.0).change([1.0])
    with pytest.raises(MissingIngredient, match="perceptron"):
        loss_lipschitz(Network(network.apply, network.params), split, 1.0)


# ---------------------------------------------------------------- along a segment


@pytest.mark.parametrize("activation", ["tanh", "gelu", "softplus"])
@pytest.mark.parametrize("scale", [0.1, 3.0])
def test_the_integral_identity_holds(activation, scale):
    network, split = network_and_split(MLPConfig((4, 6, 5, 3), activation))
    rng = np.random.default_rng(1)
    other = jax.tree.map(lambda leaf: leaf + scale * rng.normal(size=leaf.shape), network.params)
    found = segment_identity(network, split, network.params, other)
    assert abs(found.residual) <= 1e-8 * max(1.0, found.scale)
    assert abs(found.residual) <= 10 * (found.error + linalg.gamma(10**4) * found.scale)
    assert abs(found.curvature) > 1e-4  # without it the identity would not close


@pytest.mark.slow
def test_the_identity_of_a_transformer():
    config = TransformerConfig(3, 4, width=8, depth=1, heads=2, hidden=8, outputs=3)
    network = transformer(config, jax.random.key(0), np.float64)
    rng = np.random.default_rng(0)
    split = Split(rng.normal(size=(5, 4, 3)), rng.integers(0, 3, size=5))
    other = jax.tree.map(lambda leaf: leaf + 0.1 * rng.normal(size=leaf.shape), network.params)
    assert abs(segment_identity(network, split, network.params, other).residual) < 1e-8


def test_kinks_are_refused_and_would_break_the_identity():
    for activation in ("relu", "elu"):
        network, split = network_and_split(MLPConfig((4, 6, 3), activation))
        with pytest.raises(MissingIngredient, match="without jumps"):
            segment_identity(network, split, network.params, network.params)
    hidden = Network(lambda p, x: jnp.abs(x @ p["w"]) @ jnp.array([[1.0, -1.0]]), {"w": jnp.ones((1, 1))})
    one = Split(np.ones((1, 1)), np.array([0]))
    found = segment_identity(hidden, one, {"w": jnp.array([[1.0]])}, {"w": jnp.array([[-1.0]])})
    assert abs(found.residual) > 1e-2


def test_a_profile_is_that_of_dense_derivatives():
    network, split = network_and_split(MLPConfig((4, 3, 3), "tanh"))
    other = jax.tree.map(lambda leaf: 1.5 * leaf + 0.2, network.params)
    profile = segment_profile(network, split, network.params, other, points=3)
    loss, (a, b) = loss_of(network, split), (ravel_pytree(p)[0] for p in (network.params, other))
    delta = b - a
    gradients, hessians = jax.jit(jax.grad(loss)), jax.jit(jax.hessian(loss))
    for i, t in enumerate((0.0, 0.5, 1.0)):
        point = a + t * delta
        gradient, hessian = gradients(point), hessians(point)
        np.testing.assert_allclose(profile.loss[i], loss(point), rtol=1e-12)
        np.testing.assert_allclose(profile.gradient_norm[i], np.linalg.norm(gradient), rtol=1e-10)
        np.testing.assert_allclose(profile.slope[i], gradient @ delta, rtol=1e-9, atol=1e-13)
        rayleigh = delta @ hessian @ delta / (delta @ delta)
        np.testing.assert_allclose(profile.curvature[i], rayleigh, atol=1e-12)
    still = segment_profile(network, split, network.params, network.params)
    assert still.length == 0 and not still.curvature.any()
