"""Theorem 3, the loss along a segment: certified Lipschitz constants, curvature, the identity."""

import itertools
import math

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
from peftproof.theorems.diminishing.lipschitz import (
    _largest_product,
    layer_distances,
    loss_lipschitz,
    segment_change,
)
from peftproof.theorems.diminishing.segment import segment_identity, segment_profile

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
