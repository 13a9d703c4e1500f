"""Derivatives of objectives of a flat vector, and the Hessian layer by layer, against the definition."""

from itertools import pairwise

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.flatten_util import ravel_pytree
from jax.tree_util import Partial

from peftproof.models import derivatives, layered, taps
from peftproof.models.derivatives import NetworkLoss
from peftproof.models.methods import LoRA
from peftproof.models.mlp import mlp_from_arrays
from peftproof.models.network import Network, from_pytree
from peftproof.models.pulled_back import PulledBackLoss
from peftproof.models.tasks import Split

P = 13


@pytest.fixture(scope="module")
def split():
    rng = np.random.default_rng(1)
    return Split(rng.normal(size=(P, 5)), rng.integers(0, 3, size=P))


@pytest.fixture(autouse=True)
def by_layers(monkeypatch):
    monkeypatch.setattr(derivatives, "SMALL", 0)


def drawn(template, seed=0):
    """NumPy draws: random functions of JAX would have to be compiled."""
    rng = np.random.default_rng(seed)
    return jax.tree.map(lambda leaf: jnp.asarray(rng.normal(size=leaf.shape) / 2), template)


def perceptron():
    rng, widths = np.random.default_rng(4), (5, 4, 6, 3)
    weights = [rng.normal(size=(n, m)) / 2 for m, n in pairwise(widths)]
    return mlp_from_arrays(weights, [rng.normal(size=n) / 2 for n in widths[1:]])


def tree_network(apply, **shapes):
    rng = np.random.default_rng(3)
    params = {name: jnp.asarray(rng.normal(size=shape)) for name, shape in shapes.items()}
    return from_pytree(apply, params)


def every_form():
    """Kernels stored (out, in), a compiled part, a custom derivative rule, a bias alone, a shortcut."""

    def apply(p, x):
        first = jax.nn.relu(x @ p["a"].T + p["c"][None])
        second = jax.jit(lambda b, z: jnp.tanh(z @ b))(p["b"], first)
        return jnp.sin(second + p["e"][None]) @ p["f"] + x @ p["s"]

    return tree_network(apply, a=(4, 5), b=(4, 6), c=(4,), e=(6,), f=(6, 3), s=(5, 3))


def interacting():
    def apply(p, x):
        z = x @ p["a"]
        return jnp.tanh(z - z.mean(axis=0, keepdims=True)) @ p["b"]

    return tree_network(apply, a=(5, 4), b=(4, 3))


UNTAPPED = {
    "a shared kernel": lambda: tree_network(
        lambda p, x: jnp.tanh(jnp.tanh(x @ p["a"]) @ p["a"]) @ p["b"], a=(5, 5), b=(5, 3)
    ),
    "a gain": lambda: tree_network(lambda p, x: jnp.tanh(x * p["g"][None]) @ p["b"], g=(5,), b=(5, 3)),
    "a squared kernel": lambda: tree_network(lambda p, x: x @ p["b"] ** 2, b=(5, 3)),
    "a kernel from the left": lambda: tree_network(lambda p, x: (p["b"] @ x.T).T, b=(3, 5)),
    "a parameter that is not used": lambda: tree_network(lambda p, x: x @ p["b"], b=(5, 3), c=(2,)),
    "tokens": lambda: tree_network(
        lambda p, x: jnp.tanh(x @ p["a"]).mean(axis=1) @ p["b"], a=(3, 4), b=(4, 3)
    ),
}


def given(network, split, decay=0.1):
    """The loss, the point and the data, with weights that differ."""
    point, weights = ravel_pytree(network.params)[0], np.random.default_rng(2).uniform(size=P)
    data = derivatives.examples(split, point - 1, weights=weights, weight_decay=decay)
    return NetworkLoss.of(network), point, data


def naive_loss(network, split, point, decay=0.1):
    """The objective as the definition has it."""
    unravel = ravel_pytree(network.params)[1]
    weights = np.random.default_rng(2).uniform(size=P)

    def value(vector):
        logits = network.apply(unravel(vector), jnp.asarray(split.x))
        chances = jnp.exp(logits) / jnp.exp(logits).sum(axis=1, keepdims=True)
        right = (chances * np.eye(3)[split.y]).sum(axis=1)
        return -(weights * jnp.log(right)).sum() + decay / 2 * ((vector - point + 1) ** 2).sum()

    return value


def near(got, expected):
    np.testing.assert_allclose(got, expected, rtol=1e-11, atol=1e-11 * np.abs(expected).max())


@pytest.mark.parametrize(
    ("make", "way"), [(perceptron, "layers"), (every_form, "layers"), (interacting, "columns")]
)
def test_the_dense_hessian_is_that_of_the_definition(split, make, way):
    network = make()
    loss, point, data = given(network, split)
    product = derivatives.hessian_product(loss, point, data)
    matrix, by = derivatives.dense_hessian(loss, point, data, product)
    truth = np.asarray(jax.jit(jax.hessian(naive_loss(network, split, point)))(point))
    near(matrix, truth)
    assert by == way
    quick = derivatives.curvature_product(loss, point, data)
    near(derivatives.apply(quick, point), truth @ point)
    assert jax.tree.structure(quick) != jax.tree.structure(product)


@pytest.mark.parametrize("name", UNTAPPED)
def test_other_uses_of_parameters_have_no_way_by_layers(name):
    network = UNTAPPED[name]()
    loss, x = NetworkLoss.of(network), jnp.zeros((2, 4, 3) if name == "tokens" else (2, 5))
    assert taps.layers_of(loss, jax.tree.leaves(network.params), None, x) is None


def test_the_gauss_newton_matrix_is_that_of_the_definition(split):
    loss, point, data = given(perceptron(), split)
    product = derivatives.gauss_newton_product(loss, point, data)
    matrix, by = derivatives.dense_hessian(loss, point, data, product, gauss_newton=True)
    J = np.asarray(jax.jit(jax.jacobian(loss.outputs))(point, data))
    f = np.asarray(loss.outputs(point, data))
    q = np.exp(f) / np.exp(f).sum(axis=1, keepdims=True)
    expected = 0.1 * np.eye(len(point))
    for weight, chances, rows in zip(np.asarray(data.weights), q, J, strict=True):
        expected += weight * rows.T @ (np.diag(chances) - np.outer(chances, chances)) @ rows
    near(matrix, expected)
    assert by == "layers"
    near(derivatives.transposed(product, point.size), expected)
    quick = derivatives.curvature_product(loss, point, data, gauss_newton=True)
    near(derivatives.apply(quick, point), expected @ np.asarray(point))
    assert jax.tree.structure(quick) != jax.tree.structure(product)


def test_examples_in_several_chunks_are_summed_up(split, monkeypatch):
    network = perceptron()
    loss, _, data = given(network, split)
    leaves = jax.tree.leaves(network.params)
    examples = (data.x, data.y, data.weights)
    what = taps.What(loss, derivatives.cross_entropy, False)
    whole = layered.dense(what, leaves, None, examples)
    monkeypatch.setattr(layered, "ROOM", 8 * 13 * 30 * 4)
    near(layered.dense(what, leaves, None, examples), whole)


def test_a_wrong_result_layer_by_layer_is_not_believed(split, monkeypatch):
    loss, point, data = given(perceptron(), split)
    product = derivatives.hessian_product(loss, point, data)
    right, _ = derivatives.dense_hessian(loss, point, data, product)
    wrong = right.copy()
    wrong[3, 5] *= 1 + 1e-6
    monkeypatch.setattr(derivatives, "_by_layers", lambda *_: wrong)
    matrix, by = derivatives.dense_hessian(loss, point, data, product)
    assert by == "columns"
    near(matrix, right)
    monkeypatch.setattr(layered, "product", lambda *_: Partial(jnp.matmul, jnp.asarray(wrong)))
    near(derivatives.apply(derivatives.curvature_product(loss, point, data), point), right @ point)


def test_a_method_is_differentiated_the_way_it_is_usually_applied(split):
    network, method = perceptron(), LoRA(2)
    phi = drawn(method.reparameterize(network).template)
    point, unravel = ravel_pytree(phi)
    theta0 = ravel_pytree(network.params)[0]
    loss, data = PulledBackLoss.of(network, method), given(network, split)[2]
    both = network.params, data
    value = naive_loss(network, split, theta0)
    made = method.reparameterize(network)
    expected = jax.jit(jax.hessian(lambda v: value(theta0 + ravel_pytree(made.g(unravel(v)))[0])))(point)
    product = derivatives.hessian_product(loss, point, both)
    matrix, by = derivatives.dense_hessian(loss, point, both, product)
    near(matrix, expected)
    assert by == "layers"
    near(
        derivatives.value_and_gradient(loss, point, both)[0],
        value(theta0 + loss.update(point, network.params)),
    )


def test_a_mixture_is_one_program_for_all_t(split):
    network = perceptron()
    loss, point, first = given(network, split)
    rng = np.random.default_rng(5)
    shifted = Split(split.x + rng.normal(size=split.x.shape), split.y[::-1])
    second = derivatives.examples(shifted, point - 1, weight_decay=0.1)
    ends = [derivatives.value_and_gradient(loss, point, each) for each in (first, second)]
    size = derivatives.value_and_gradient._cache_size()
    for t in (0.0, 1e-3, 0.5, 1.0):
        got = derivatives.value_and_gradient(loss, point, derivatives.mixed(first, second, t))
        for mine, a, b in zip(got, *ends, strict=True):
            near(mine, (1 - t) * np.asarray(a) + t * np.asarray(b))
    assert derivatives.value_and_gradient._cache_size() == size + 1


def test_losses_of_equal_networks_share_their_programs(split):
    losses = {NetworkLoss.of(perceptron()) for _ in range(3)}
    assert len(losses) == 1
    assert len({PulledBackLoss.of(perceptron(), LoRA(2)) for _ in range(3)}) == 1
    network = perceptron()
    other = Network(lambda params, x: x @ params["b"], {"b": jnp.ones((5, 3))})
    assert NetworkLoss.of(network) != NetworkLoss.of(other)
