"""Adversarial inputs: they stay in the ball, are worse than what they start from, and exact where known."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from peftproof.models import adversary
from peftproof.models.adversary import ATTACKS, PGD, losses
from peftproof.models.mlp import MLPConfig, mlp
from peftproof.models.network import Network
from peftproof.models.tasks import Split

NORMS = pytest.mark.parametrize("norm", ["inf", "2"])
EPS = np.finfo(float).eps


def network(seed=0, scale=3.0):
    made = mlp(MLPConfig((12, 9, 4), "tanh"), jax.random.key(seed), np.float64)
    return made.with_params(jax.tree.map(lambda leaf: scale * leaf, made.params))


def examples(count=60, seed=0, shape=(12,), classes=4):
    rng = np.random.default_rng(seed)
    return Split(rng.uniform(size=(count, *shape)), rng.integers(0, classes, size=count))


def linear(params, x):
    return x.reshape(len(x), -1) @ params["w"] + params["b"][None]


def each(net, split):
    return np.asarray(losses(net.apply, net.params, split.x.astype(net.dtype), split.y))


def lengths(change, norm):
    flat = change.reshape(len(change), -1)
    return np.abs(flat).max(axis=1) if norm == "inf" else np.linalg.norm(flat, axis=1)


@NORMS
@pytest.mark.parametrize("bounds", [None, (0.0, 1.0)])
@pytest.mark.parametrize("restarts", [0, 2])
def test_the_ball_and_the_bounds_are_never_left(norm, bounds, restarts):
    split, radius = examples(), 0.3
    found = PGD(radius, norm, 8, restarts, bounds)(network(), split)
    rounding = 16 * EPS * (np.abs(split.x).max() + radius)
    size = lengths(found.x - split.x, norm)
    assert size.max() <= radius + rounding
    assert size.max() > 0.9 * radius
    if bounds is not None:
        assert found.x.min() >= 0 and found.x.max() <= 1
    np.testing.assert_array_equal(found.y, split.y)


@NORMS
def test_no_input_gets_easier_and_random_noise_of_that_size_is_weaker(norm):
    net, split, radius = network(), examples(), 0.2
    clean, found = each(net, split), each(net, PGD(radius, norm, 8, 2, None)(net, split))
    assert np.all(found >= clean * (1 - 64 * EPS))
    assert found.mean() > 1.2 * clean.mean()
    rng = np.random.default_rng(1)
    for _ in range(20):
        noise = rng.choice([-1.0, 1.0], size=split.x.shape)
        noise *= (radius / lengths(noise, norm))[:, None]
        noisy = each(net, Split(split.x + noise, split.y))
        assert np.mean(noisy > found) < 0.05
        assert noisy.mean() < found.mean()


@NORMS
@pytest.mark.parametrize("radius", [0.01, 0.5])
def test_a_linear_classifier_is_attacked_exactly(norm, radius):
    """Two classes, f₁ − f₀ = wᵀx + b: the margin falls by ρ times the dual norm of w, and by no more."""
    rng = np.random.default_rng(2)
    w, b = rng.normal(size=5), 0.3
    params = {"w": jnp.asarray(np.stack([0 * w, w], axis=1)), "b": jnp.asarray([0.0, b])}
    net = Network(linear, params)
    split = Split(rng.normal(size=(20, 5)), rng.integers(0, 2, size=20))
    dual = np.abs(w).sum() if norm == "inf" else np.linalg.norm(w)
    margin = (2 * split.y - 1) * (split.x @ w + b)
    worst = np.logaddexp(0, -(margin - radius * dual))
    for restarts in (0, 1):
        found = each(net, PGD(radius, norm, 10, restarts, None)(net, split))
        np.testing.assert_allclose(found, worst, rtol=1e-12)
    boxed = Split(np.clip(split.x, -1, 1), split.y)
    if norm == "inf":  # a corner of the ball, cut by the box
        corner = np.clip(boxed.x - radius * np.sign(w) * (2 * split.y - 1)[:, None], -1, 1)
        found = PGD(radius, norm, 10, 0, (-1, 1))(net, boxed)
        np.testing.assert_allclose(each(net, found), each(net, Split(corner, split.y)), rtol=1e-12)


@NORMS
def test_more_effort_finds_no_less_and_the_seed_decides(norm):
    net, split = network(), examples()
    few, more = (each(net, PGD(0.3, norm, 8, restarts)(net, split)) for restarts in (0, 2))
    assert np.all(more >= few)
    assert more.mean() > few.mean()
    first, again, other = (PGD(0.3, norm, 8, 2)(net, split, seed).x for seed in (0, 0, 1))
    np.testing.assert_array_equal(first, again)
    assert not np.array_equal(first, other)


def test_tokens_and_single_precision_are_attacked_as_well():
    params = {
        "w": np.random.default_rng(0).normal(size=(12, 4)).astype(np.float32),
        "b": np.zeros(4, np.float32),
    }
    net, split = Network(linear, params), examples(10, shape=(4, 3))
    found = PGD(0.2, "2", 5, 0)(net, split)
    assert found.x.shape == split.x.shape and found.x.dtype == np.float64
    assert lengths(found.x - split.x, "2").max() <= 0.2 + 16 * np.finfo(np.float32).eps
    assert each(net, found).mean() > each(net, split).mean()


def test_parameters_norms_and_radii_share_a_program():
    traced = []

    def apply(params, x):
        traced.append(x.shape)
        return jnp.tanh(x @ params["w"])

    split, w = examples(), np.random.default_rng(0).normal(size=(12, 4))
    PGD(0.1, "inf", 4, 0)(Network(apply, {"w": jnp.asarray(w)}), split)
    once = len(traced)
    PGD(0.2, "2", 4, 0)(Network(apply, {"w": jnp.asarray(2 * w)}), split)
    assert len(traced) == once


def test_flat_losses_leave_inputs_alone():
    net = Network(linear, {"w": jnp.zeros((12, 4)), "b": jnp.arange(4.0)})
    split = examples()
    for norm in ("inf", "2"):
        np.testing.assert_array_equal(PGD(0.1, norm, 3, 0)(net, split).x, split.x)


def test_the_standard_attacks_have_names():
    assert [one.name for one in ATTACKS] == ["pgd-inf-0.05", "pgd-2-0.25"]
    assert adversary.PGD(0.1).bounds == (0.0, 1.0)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: PGD(0), "radius: got 0, needs a positive number"),
        (lambda: PGD(norm=2), "norm: got 2, needs 'inf' or '2'"),
        (lambda: PGD(steps=0), "steps: got 0, needs a whole number >= 1"),
        (lambda: PGD(restarts=-1), "restarts: got -1, needs a whole number >= 0"),
        (lambda: PGD(bounds=(1, 1)), r"bounds: got \(1, 1\), needs \(low, high\)"),
        (
            lambda: PGD(bounds=(0, 0.5))(network(), examples()),
            "outside bounds=.*give the bounds of your inputs",
        ),
    ],
)
def test_bad_settings_are_refused(make, message):
    with pytest.raises(ValueError, match=message):
        make()
