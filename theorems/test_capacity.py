"""Theorem 2: what is particular to it; `test_ledger.py` has what every claim must pass."""

from fractions import Fraction

import jax
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from peftproof.models import tree
from peftproof.models.mlp import MLPConfig, mlp
from peftproof.models.network import Network
from peftproof.theorems import capacity, linalg
from peftproof.theorems.capacity import bounds, identity, rank, strategies
from peftproof.theorems.capacity.attack import attack, budgets_of
from peftproof.theorems.capacity.feedforward import FeedForward, chain
from peftproof.theorems.capacity.observed import pair_of
from peftproof.theorems.capacity.transformer_pair import random_pair
from peftproof.theorems.claims import Outcome, Source
from peftproof.theorems.search import falsify
from peftproof.theorems.verify import observed_evidence

CLAIMS = {claim.id: claim for claim in capacity.CLAIMS}
BOUNDS = {"A": bounds.base_weights, "B": bounds.tuned_weights, "C": bounds.a_priori}


def test_search_shrinks_equation_6_to_two_scalar_layers():
    instance = falsify(CLAIMS["T2.6"]).instance
    assert [w.shape for w in instance.weights] == [(1, 1), (1, 1)]
    assert all(
        entry == 1 for arrays in (instance.weights, instance.updates) for a in arrays for entry in a.ravel()
    )


def test_gaussian_weights_hide_what_aligned_weights_show():
    """The reason for structured strategies: i.i.d. networks 'confirm' equation 6."""
    rng, broken = np.random.default_rng(0), {"gaussian": 0, "aligned": 0}
    for _ in range(200):
        shapes = [(8, 8)] * int(rng.integers(2, 5))
        for kind in broken:
            draw = (
                (lambda s: abs(rng.normal(size=s))) if kind == "aligned" else (lambda s: rng.normal(size=s))
            )
            weights = [draw(s) / 8 for s in shapes]
            updates = [w if kind == "aligned" else draw(w.shape) / 8 for w in weights]
            pair = FeedForward(weights, updates, abs(rng.normal(size=(1, 8))))
            broken[kind] += CLAIMS["T2.6"].judge(pair, Source.SEARCH).outcome is Outcome.FAILS
    assert broken["gaussian"] <= 2
    assert broken["aligned"] >= 150


# Soundness: networks whose deviation or Lipschitz constant is known in closed form.


def nonnegative(rng):
    """Bias-free ReLU nets without negative numbers are linear on the positive orthant: f = ∏(W+Φ) x."""
    sizes = rng.integers(1, 7, int(rng.integers(2, 6)))
    weights = [abs(rng.normal(size=(m, n))) for m, n in zip(sizes[1:], sizes[:-1], strict=True)]
    updates = [rng.choice([1e-6, 0.1, 1.0]) * abs(rng.normal(size=w.shape)) for w in weights]
    base, tuned = np.eye(sizes[0]), np.eye(sizes[0])
    for w, u in zip(weights, updates, strict=True):
        base, tuned = w @ base, (w + u) @ tuned
    x = abs(np.linalg.svd(tuned - base)[2][:1])  # the Perron vector: where the deviation is largest
    return weights, updates, x, "relu", np.linalg.norm((tuned - base) @ x[0])


def diagonal(rng):
    depth, width = int(rng.integers(1, 5)), int(rng.integers(1, 6))
    weights = [np.diag(rng.normal(size=width)) for _ in range(depth)]
    updates = [np.diag(rng.normal(size=width)) for _ in range(depth)]
    x = rng.normal(size=(1, width))
    moved = np.prod([w + u for w, u in zip(weights, updates, strict=True)], axis=0) - np.prod(weights, axis=0)
    return weights, updates, x, "identity", np.linalg.norm(np.diag(moved) * x[0])


def scalar(rng):
    depth = int(rng.integers(1, 7))
    weights, updates = (abs(rng.normal(size=(depth, 1, 1))) for _ in range(2))
    x = abs(rng.normal(size=(1, 1)))
    return (
        list(weights),
        list(updates),
        x,
        "identity",
        (np.prod(weights + updates) - np.prod(weights)) * x[0, 0],
    )


@pytest.mark.parametrize("family", [nonnegative, diagonal, scalar])
def test_bounds_are_never_below_the_closed_form_truth(family):
    rng = np.random.default_rng(1)
    attained = dict.fromkeys(BOUNDS, 0)
    for _ in range(400):  # three families: 1,200 networks
        weights, updates, x, activation, truth = family(rng)
        pair = FeedForward(weights, updates, x, activation)
        for name, bound in BOUNDS.items():
            value = bound(pair)[0]
            assert value >= truth, name
            attained[name] += value <= truth * (1 + 1e-8) + 1e-300
    if family is scalar:
        assert min(attained.values()) == 400, "positive scalar chains attain all three bounds"


def test_a_priori_is_the_supremum_over_inputs_of_positive_networks():
    """For non-negative nets ‖∏(W+Φ) − ∏W‖₂ is the exact supremum over unit inputs: not to be undercut."""
    rng = np.random.default_rng(2)
    for _ in range(100):
        weights, updates, x, activation, truth = nonnegative(rng)
        assert bounds.a_priori(FeedForward(weights, updates, x / np.linalg.norm(x), activation))[0] >= truth


@given(strategies.float_chains())
def test_the_chain_of_bounds_is_ordered(pair):
    """Deviation ≤ (A) ≤ (C) and deviation ≤ (B) ≤ (C): validity and tightness in one comparison."""
    slack = 4 * linalg.gamma(8 * pair.operations) * pair.scale
    a, b, c = (bound(pair) for bound in BOUNDS.values())
    assert np.all(pair.deviation <= a + slack)
    assert np.all(pair.deviation <= b + slack)
    assert np.all(a <= c * (1 + 1e-9) + slack)
    assert np.all(b <= c * (1 + 1e-9) + slack)


def test_bounds_with_biases_and_shifted_activations():
    """Sigmoid and softplus add σ(0) ≠ 0: bound (C) must account for it, equation 6 must not be trusted."""
    pair = FeedForward([np.eye(2)] * 2, [np.zeros((2, 2)), np.eye(2)], np.zeros((1, 2)), "sigmoid")
    assert bounds.printed(pair)[0] < pair.deviation[0] <= bounds.a_priori(pair)[0]


def test_only_the_head_tuned_makes_both_sums_exact():
    rng = np.random.default_rng(3)
    weights = [rng.normal(size=(5, 4)), rng.normal(size=(3, 5))]
    pair = FeedForward(
        weights, [np.zeros((5, 4)), rng.normal(size=(3, 5))], rng.normal(size=(7, 4)), ["tanh", "identity"]
    )
    for bound in (bounds.base_weights, bounds.tuned_weights):
        np.testing.assert_allclose(bound(pair), pair.deviation, rtol=1e-10)


def test_bounds_refuse_norms_from_power_iteration():
    pair = FeedForward([np.eye(2)], [np.eye(2)], np.ones((1, 2)))
    for bound in (bounds.base_weights, bounds.tuned_weights):
        with pytest.raises(ValueError, match=r"unsound.*linalg\.spectral_norm"):
            bound(pair, norms=[linalg.power_iteration(np.eye(2))])
        with pytest.raises(ValueError, match="plain number"):
            bound(pair, norms=[1.0])
        np.testing.assert_allclose(bound(pair, norms=[linalg.Upper(10.0)]), bound(pair), rtol=1e-12)


def test_identity_splits_the_deviation_and_sees_kinks():
    rng = np.random.default_rng(4)
    for activation in ("relu", "gelu", "sigmoid"):
        weights = [rng.normal(size=(6, 4)), rng.normal(size=(6, 6)), rng.normal(size=(2, 6))]
        updates = [rng.normal(size=w.shape) for w in weights]
        pair = FeedForward(weights, updates, rng.normal(size=(1, 4)), [activation] * 2 + ["identity"])
        terms, change = identity.layer_integrals(pair)
        np.testing.assert_allclose(terms.sum(0), (pair.tuned[-1] - pair.base[-1])[0], atol=1e-10)
        assert change < 1e-9


def test_low_rank_twin_has_low_rank():
    rng = np.random.default_rng(5)
    weights, updates = ([rng.normal(size=s) for s in ((6, 5), (4, 6))] for _ in range(2))
    pair = FeedForward(weights, updates, rng.normal(size=(2, 5)))
    twin = rank.low_rank_twin(pair)
    assert [np.linalg.matrix_rank(u) for u in pair.updates] == [5, 4]
    assert [np.linalg.matrix_rank(u) for u in twin.updates] == [2, 2]
    np.testing.assert_allclose(twin.tuned[-1], pair.tuned[-1], atol=1e-12)


@given(st.integers(1, 6), st.integers(1, 6), st.integers(1, 5))
def test_entrywise_bounds_are_attained_by_constant_entries(m, n, r):
    np.testing.assert_allclose(rank.entry_count_bound(np.full((m, n), 2.0)), 2 * np.sqrt(m * n), rtol=1e-9)
    b, a = np.full((m, r), 3.0), np.full((r, n), 3.0)
    np.testing.assert_allclose(rank.factor_box_bound(b, a), np.linalg.norm(b @ a, 2), rtol=1e-9)


# The attack.


@pytest.fixture(scope="module")
def attacked():
    network = mlp(MLPConfig((6, 5, 3), activation="tanh"), key=jax.random.key(0), dtype=jax.numpy.float64)
    update = jax.tree.map(
        lambda w: 0.3 * jax.random.normal(jax.random.key(1), w.shape, w.dtype), network.params
    )
    x = np.random.default_rng(0).normal(size=(3, 6))
    found = attack(network, budgets_of(update), x, key=jax.random.key(2), start=update, steps=20, restarts=1)
    return network, update, x, found


def test_attack_stays_within_its_budgets_and_below_the_bound(attacked):
    network, update, x, found = attacked
    budgets = budgets_of(update)
    for path, stack in found.update.items():
        for one in stack:
            norm = linalg.spectral_norm(one) if one.ndim == 2 else np.linalg.norm(one)
            assert norm <= budgets[path] * (1 + 1e-12)
    pair = pair_of(network, tree.add(network.params, update), x)
    assert np.all(pair.deviation <= found.deviation)
    assert np.all(found.deviation <= bounds.a_priori(pair))


def test_attack_is_attained_by_the_update_it_returns(attacked):
    network, _update, x, found = attacked
    for i in range(len(x)):
        moved = tree.from_paths(
            {p: leaf + found.update[p][i] for p, leaf in tree.paths(network.params).items()}
        )
        deviation = np.linalg.norm(
            network.apply(moved, x[i : i + 1]) - network.apply(network.params, x[i : i + 1])
        )
        np.testing.assert_allclose(deviation, found.deviation[i], rtol=1e-12)


def test_attack_reaches_the_supremum_of_a_linear_layer():
    network = mlp(MLPConfig((4, 3), biases=False), key=jax.random.key(0), dtype=jax.numpy.float64)
    x = np.random.default_rng(0).normal(size=(2, 4))
    found = attack(network, {"layers/0/kernel": 0.7}, x, key=jax.random.key(1), steps=5)
    np.testing.assert_allclose(found.deviation, 0.7 * np.linalg.norm(x, axis=1), rtol=1e-10)
    wide = attack(network, {"layers/0/kernel": 0.7}, x, key=jax.random.key(1), radius=2.0, steps=5)
    np.testing.assert_allclose(wide.deviation, 1.4, rtol=1e-10)


def test_attack_names_what_is_wrong():
    network = mlp(MLPConfig((4, 3)), key=jax.random.key(0), dtype=jax.numpy.float64)
    x, key = np.ones((1, 4)), jax.random.key(0)
    with pytest.raises(ValueError, match="no leaves of the network"):
        attack(network, {"layers/7/kernel": 1.0}, x, key=key)
    with pytest.raises(ValueError, match="not negative"):
        attack(network, {"layers/0/kernel": -1.0}, x, key=key)
    with pytest.raises(ValueError, match="radius"):
        attack(network, {"layers/0/kernel": 1.0}, x, key=key, radius=0.0)
    with pytest.raises(ValueError, match="empty"):
        attack(network, {"layers/0/kernel": 1.0}, x[:0], key=key)


# Instances.


def test_instances_refuse_bad_input():
    eye = np.eye(2)
    with pytest.raises(ValueError, match=r"layer 1.*\(out, 2\)"):
        FeedForward([np.eye(3)], [np.eye(3)], np.ones((1, 2)))
    with pytest.raises(ValueError, match="float64"):
        FeedForward([eye.astype("float32")], [eye.astype("float32")], np.ones((1, 2)))
    with pytest.raises(ValueError, match="NaN"):
        FeedForward([eye * np.nan], [eye], np.ones((1, 2)))
    with pytest.raises(ValueError, match="unknown activations"):
        FeedForward([eye], [eye], np.ones((1, 2)), "swish")
    with pytest.raises(ValueError, match="biases have shapes"):
        FeedForward([eye], [eye], np.ones((1, 2)), biases=[np.ones(3)])


def test_snippets_rebuild_the_instance():
    pair = chain([1, "1/2"], [1, -1], 1, biases=[1, 0], bias_updates=[0, 1])
    again = eval(pair.snippet(), {"FeedForward": FeedForward, "exact": linalg.exact, "np": np})
    assert again.deviation == pair.deviation
    assert again.deviation[0] == Fraction(1)


# One call for one's own network.


def test_certify_bounds_chains_and_transformers(attacked):
    network, update, x, _found = attacked
    found = capacity.certify(network, tree.add(network.params, update), x)
    assert set(found.bounds) == {"A", "B", "C"}
    assert np.all(found.measured <= found.best)
    assert found.best[0] == min(bound[0] for bound in found.bounds.values())
    assert len(found.layers) == 2
    pair = random_pair(0, 0.1)
    found = capacity.certify(pair.network, pair.tuned, pair.x)
    assert set(found.bounds) == {"chain", "range"}
    assert np.all(found.measured <= found.best)
    assert "slack chain" in repr(found)
    with pytest.raises(ValueError, match="there are chain, range"):
        found.slack("A")


def test_certify_refuses_what_it_cannot_bound(attacked):
    network, _update, x, _found = attacked
    with pytest.raises(ValueError, match="no known architecture"):
        capacity.certify(Network(network.apply, network.params, name="mine"), network.params, x)
    with pytest.raises(ValueError, match="float64"):
        capacity.certify(network.astype("float32"), network.astype("float32").params, x.astype("float32"))


# Networks that were really trained.


def test_training_itself_refutes_equation_6(small_grid):
    """Linear probing of a bias-free network meets every hypothesis, on real test images."""
    evidence = observed_evidence(CLAIMS["T2.6"], small_grid["mlp-relu", "head"])
    assert evidence.outcome is Outcome.FAILS
    assert all(check.met for check in evidence.assumptions)
    assert evidence.failing > 0.9 * evidence.count
