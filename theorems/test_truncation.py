"""Truncated updates at every rank against NumPy, and the rule that finds a plateau against known curves."""

import jax
import numpy as np
import pytest

from peftproof.models import tree
from peftproof.models.mlp import mlp
from peftproof.models.tasks import from_arrays
from peftproof.models.transformer import TransformerConfig, transformer
from peftproof.theorems.diminishing.plateau import Found, plateau
from peftproof.theorems.diminishing.truncation import Truncated, naive, truncations


def moved(network, seed=1):
    """An update of every leaf, of the size of the parameters."""
    rng = np.random.default_rng(seed)
    return jax.tree.map(lambda leaf: 0.5 * jax.numpy.asarray(rng.normal(size=leaf.shape)), network.params)


@pytest.fixture(scope="module")
def splits():
    x = np.random.default_rng(0).normal(size=(50, 6))
    return from_arrays(new=(x, (x[:, 0] > 0) + 2 * (x[:, 2] > 0.3)), classes=4).new


@pytest.fixture(scope="module")
def network():
    return mlp((6, 5, 4), jax.random.key(0), dtype="float64")


@pytest.mark.parametrize("others", ["tuned", "base"])
def test_every_rank_agrees_with_the_definition(network, splits, others):
    update = moved(network)
    found = truncations(network, splits, update, others=others, per_layer=True)
    kernels = [path for path in tree.paths(update) if path.endswith("kernel")]
    assert found.joint.ranks.tolist() == [0, 1, 2, 3, 4, 5]
    assert {path: curve.ranks[-1] for path, curve in found.layers.items()} == dict(
        zip(kernels, (5, 4), strict=True)
    )
    for part in ("train", "validation", "test"):
        for r in found.joint.ranks:
            loss, accuracy = naive(network, splits, update, dict.fromkeys(kernels, r), others, part)
            assert found.joint.loss[part][r] == pytest.approx(loss, rel=1e-12)
            assert found.joint.accuracy[part][r] == pytest.approx(accuracy, rel=1e-12)
        for path, curve in found.layers.items():
            for r in curve.ranks:
                ranks = dict.fromkeys(kernels, 9) | {path: r}
                loss, accuracy = naive(network, splits, update, ranks, others, part)
                assert curve.loss[part][r] == pytest.approx(loss, rel=1e-12)
    assert "ranks 0 to 5, 2 single layers" in repr(found)


def test_the_ends_are_the_base_and_the_tuned_network(network, splits):
    update = moved(network)
    tuned, base = (truncations(network, splits, update, others=others) for others in ("tuned", "base"))
    assert tuned.joint.loss["test"][-1] == pytest.approx(tuned.tuned["test_loss"], rel=1e-12)
    assert base.joint.loss["test"][0] == pytest.approx(base.base["test_loss"], rel=1e-12)
    # The biases are tuned too: each of the two ways misses the other end.
    assert abs(tuned.joint.loss["test"][0] - tuned.base["test_loss"]) > 1e-3
    assert abs(base.joint.loss["test"][-1] - base.tuned["test_loss"]) > 1e-3
    assert base.tuned == tuned.tuned
    assert not tuned.layers


def test_nothing_is_lost_beyond_the_rank_of_the_update(network, splits):
    rng = np.random.default_rng(3)
    low = {p: np.zeros(leaf.shape) for p, leaf in tree.paths(network.params).items()}
    for path, leaf in low.items():
        if leaf.ndim == 2:
            low[path] = rng.normal(size=(leaf.shape[0], 2)) @ rng.normal(size=(2, leaf.shape[1]))
    loss = truncations(network, splits, tree.from_paths(low)).joint.loss["train"]
    np.testing.assert_allclose(loss[2:], loss[2], rtol=1e-12)
    assert abs(loss[1] - loss[2]) > 1e-3


def test_a_table_gives_each_layer_a_rank_of_its_own(network, splits):
    update = moved(network)
    found = Truncated.of(network, splits, update, parts=("test",))
    table = np.array([[1, 3], [4, 0], [99, 99]])
    one, eight = (found.evaluate(table, at_once=n) for n in (1, 8))
    for row, (loss, accuracy) in zip(table, zip(*one, strict=True), strict=True):
        expected = naive(network, splits, update, dict(zip(found.sizes, row, strict=True)))
        assert (loss[0], accuracy[0]) == pytest.approx(expected, rel=1e-12)
    np.testing.assert_allclose(one[0], eight[0], rtol=1e-12)


def test_a_transformer_keeps_norms_and_positions():
    config = TransformerConfig(features=3, length=2, width=4, depth=1, heads=1, hidden=6, outputs=4)
    network = transformer(config, jax.random.key(0), dtype="float64")
    x = np.random.default_rng(0).normal(size=(30, 2, 3))
    splits = from_arrays(new=(x, (x[:, 0, 0] > 0).astype(int)), classes=4).new
    update = moved(network)
    found = truncations(network, splits, update, parts=("test",))
    kernels = [path for path in tree.paths(update) if path.endswith("kernel")]
    assert len(found.joint.ranks) == 5
    loss, _ = naive(network, splits, update, dict.fromkeys(kernels, 2))
    assert found.joint.loss["test"][2] == pytest.approx(loss, rel=1e-11)


def test_what_truncation_refuses(network, splits):
    update = moved(network)
    with pytest.raises(ValueError, match="others: got 'zero'"):
        truncations(network, splits, update, others="zero")
    with pytest.raises(ValueError, match=r"parts: got \['dev'\]"):
        truncations(network, splits, update, parts=("dev",))
    with pytest.raises(ValueError, match="parts: got"):
        truncations(network, splits, update, parts=())
    with pytest.raises(ValueError, match=r"float32.*verdicts need float64"):
        truncations(network, splits, jax.tree.map(lambda leaf: leaf.astype("float32"), update))
    with pytest.raises(ValueError, match="network has dtype float32"):
        truncations(network.astype("float32"), splits, update)
    with pytest.raises(ValueError, match="update: missing"):
        truncations(network, splits, {"layers": {}})
    with pytest.raises(ValueError, match="needs two axes"):
        truncations(network, splits, update, targets="*")
    found = Truncated.of(network, splits, update)
    for table, message in (([[1]], r"needs \(V, 2\)"), ([[1, -1]], "whole numbers"), ([[1.0, 2]], "whole")):
        with pytest.raises(ValueError, match=message):
            found.evaluate(np.array(table))


# Plateaus.  ρ of a mean curve by brute force, from the definition; then the rule on many noisy draws of it.

RANKS = (1, 2, 3, 4, 6, 8)
FLAT = np.array([1.5, 0.8, 0.5, 0.5, 0.5, 0.5])
CURVES = {
    "flat from 3": FLAT,
    "exponential": 0.5 + 2 * np.exp(-np.arange(1.0, 7.0)),
    "turns up": np.array([1.5, 0.8, 0.5, 0.55, 0.7, 0.9]),
    "bump": np.array([1.5, 0.5, 0.9, 0.5, 0.5, 0.5]),
    "monotone": np.array([2.4, 2.0, 1.6, 1.2, 0.8, 0.4]),
    "at the boundary": np.array([1.5, 1.0, 0.6, 0.5, 0.5, 0.5]),
}
BASE = 2.5


def begins(mean, base, share):
    """ρ: the smallest rank from which on all ranks suffice."""
    good = [
        all(base - mean[i] >= (1 - share) * (base - later) - 1e-12 for later in mean[i:])
        for i in range(len(mean))
    ]
    return next(i for i in range(len(mean)) if all(good[i:]))


def draws(mean, seeds, repeats, noise=0.1, common=0.3):
    """Losses with noise that grows where the loss does, and a large part that the ranks of a seed share."""
    rng = np.random.default_rng(len(mean) * seeds)
    shared = common * rng.normal(size=(repeats, 1, seeds))
    own = noise * (0.5 + np.array(mean))[:, None] * rng.normal(size=(repeats, len(mean), seeds))
    return np.array(mean)[:, None] + shared + own, BASE + shared[:, 0]


@pytest.mark.parametrize("name", CURVES)
@pytest.mark.parametrize("seeds", [3, 8])
def test_the_interval_covers_the_plateau_as_often_as_it_says(name, seeds):
    mean, share, repeats, alpha = CURVES[name], 0.05, 300, 0.1
    truth = RANKS[begins(mean, BASE, share)]
    found = [
        plateau(RANKS, losses, base, share=share, confidence=1 - 2 * alpha)
        for losses, base in zip(*draws(mean, seeds, repeats), strict=True)
    ]
    known = [one for one in found if one.interval is not None]
    assert len(known) > 0.2 * repeats
    spread = 3 * np.sqrt(alpha * (1 - alpha) / repeats)
    assert sum(one.interval[1] < truth for one in known) / repeats <= alpha + spread
    assert sum(one.interval[0] > truth for one in known) / repeats <= alpha + spread
    assert all(one.interval[0] <= one.estimate <= one.interval[1] for one in known)
    if name == "monotone":
        assert sum(one.found is Found.PLATEAU for one in found) / repeats <= alpha + spread


def test_at_the_boundary_the_error_is_the_level_and_means_alone_would_err_half_the_time():
    """Two ranks, the first just insufficient: the test's level is used up, and the naive rule is refuted."""
    repeats, alpha, share = 2000, 0.1, 0.2
    mean = np.array([BASE - (1 - share) * 2.0 + 1e-9, BASE - 2.0])
    assert begins(mean, BASE, share) == 1
    losses, base = draws(mean, 4, repeats)
    found = [
        plateau((1, 2), *one, share=share, confidence=1 - 2 * alpha) for one in zip(losses, base, strict=True)
    ]
    wrong, naive_wrong = (
        np.mean([test(one) for one in found])
        for test in (lambda one: one.found is Found.PLATEAU, lambda one: one.estimate == 1)
    )
    assert wrong == pytest.approx(alpha, abs=3 * np.sqrt(alpha * (1 - alpha) / repeats))
    assert naive_wrong == pytest.approx(0.5, abs=0.05)


def test_little_noise_finds_the_plateau_and_says_when_there_is_none():
    for name, losses in ((name, draws(mean, 3, 1, 1e-4)) for name, mean in CURVES.items()):
        found = plateau(RANKS, losses[0][0], losses[1][0])
        truth = RANKS[begins(CURVES[name], BASE, 0.05)]
        if name == "monotone":
            assert (found.found, found.interval, found.rank) == (Found.RISING, (8, 8), None)
        elif name != "at the boundary":
            assert (found.found, found.rank, found.estimate) == (Found.PLATEAU, truth, truth)
            # Before the bump rank 2 suffices, though not all ranks above it do: no test excludes it.
            assert found.interval == ((2 if name == "bump" else truth), truth)


def test_noise_alone_shows_no_gain_and_no_plateau():
    repeats, alpha = 400, 0.1
    losses, base = draws(np.full(6, BASE), 4, repeats)
    found = [plateau(RANKS, *one, confidence=1 - 2 * alpha) for one in zip(losses, base, strict=True)]
    kinds = [one.found for one in found]
    assert kinds.count(Found.NO_GAIN) / repeats >= 1 - alpha - 3 * np.sqrt(alpha * (1 - alpha) / repeats)
    assert kinds.count(Found.PLATEAU) / repeats <= 2 * alpha


def test_too_few_seeds_and_too_much_noise_are_undecided():
    one = plateau(RANKS, FLAT[:, None], BASE)
    assert (one.found, one.rank, one.interval) == (Found.UNDECIDED, None, None)
    assert "at least two" in one.reason
    losses, base = draws(FLAT, 2, 1, noise=0.02)
    few = plateau(RANKS, losses[0], base[0])
    losses, base = draws(FLAT, 12, 1, noise=0.02)
    many = plateau(RANKS, losses[0], base[0])
    assert (few.found, few.rank) == (Found.UNDECIDED, None)
    assert "fit more seeds" in few.reason
    assert (many.found, many.rank) == (Found.PLATEAU, 3)


def test_an_absolute_tolerance_does_not_ask_how_bad_rank_0_was():
    losses, base = draws(CURVES["exponential"], 5, 1, 1e-4)
    assert plateau(RANKS, losses[0], base[0] + 100).rank == 1
    mean = CURVES["exponential"]
    for tolerance in (0.02, 0.15, 0.4):
        truth = next(r for r, value in zip(RANKS, mean, strict=True) if value - mean[-1] <= tolerance)
        found = plateau(RANKS, losses[0], base[0] + 100, tolerance=tolerance)
        assert (found.rank, found.share, found.tolerance) == (truth, None, tolerance)
        assert f"all but {tolerance:g}" in found.reason


def test_seeds_are_paired():
    """What the seeds have in common drops out, however large; unpaired, nothing could be said."""
    losses, base = draws(FLAT, 4, 1, noise=0.01, common=5.0)
    assert plateau(RANKS, losses[0], base[0]).rank == 3
    shuffled = np.stack([np.roll(row, i) for i, row in enumerate(losses[0])])
    assert plateau(RANKS, shuffled, base[0]).rank is None


def test_what_plateau_refuses():
    good = np.ones((3, 2))
    for arguments, message in (
        (((1,), np.ones((1, 2)), 1.0), "ranks: got"),
        (((1, 1, 2), good, 1.0), "ranks: got"),
        (((1, 2), good, 1.0), r"losses: got shape \(3, 2\)"),
        (((1, 2, 3), good * np.nan, 1.0), "finite"),
        (((1, 2, 3), good, np.ones(3)), r"base: got shape \(3,\)"),
    ):
        with pytest.raises(ValueError, match=message):
            plateau(*arguments)
    for setting in ({"share": 0.0}, {"share": 1.0}, {"confidence": 95}, {"tolerance": 0.0}):
        with pytest.raises(ValueError, match=next(iter(setting))):
            plateau((1, 2, 3), good, 1.0, **setting)
