"""The settings of `theorems/conftest.py`, checked annotations, and the checks every method must pass."""

from jaxtyping import install_import_hook

# Shapes in annotations are promises; outside of the tests nobody pays for checking them.
CHECKED = ("activations", "tree", "network", "mlp", "transformer", "methods")
with install_import_hook([f"peftproof.models.{module}" for module in CHECKED], "beartype.beartype"):
    from peftproof.theorems.conftest import picture_rules, pytest_configure, pytest_unconfigure

import types

import jax
import numpy as np
import pytest
from jax.flatten_util import ravel_pytree

from peftproof.models import tree
from peftproof.models.mlp import MLPConfig, mlp
from peftproof.models.transformer import TransformerConfig, transformer

__all__ = ["picture_rules", "pytest_configure", "pytest_unconfigure"]

KEY = jax.random.key(0)
GAP = 1e6


def moved(values, scale=0.3, seed=1):
    """A tree with Gaussian noise added to all leaves."""
    leaves, structure = jax.tree.flatten(values)
    rng = np.random.default_rng(seed)
    return jax.tree.unflatten(structure, [leaf + scale * rng.normal(size=leaf.shape) for leaf in leaves])


def network_of(config):
    """A float64 network whose parameters are all off their initial values."""
    build = mlp if isinstance(config, MLPConfig) else transformer
    network = build(config, KEY, np.float64)
    return network.with_params(moved(network.params))


def inputs_of(config):
    shape = config.widths[:1] if isinstance(config, MLPConfig) else (config.length, config.features)
    return np.random.default_rng(2).normal(size=(5 if len(shape) == 1 else 2, *shape))


def agrees(chosen, config, tolerance=1e-12):
    """The network at θ₀ + g(Φ) is the one tuned the ordinary way, g vanishes at the start, Φ matters."""
    network, x = network_of(config), inputs_of(config)
    made = chosen.reparameterize(network)
    start = made.init(KEY)
    for leaf in jax.tree.leaves(made.g(start)):
        np.testing.assert_allclose(leaf, 0, atol=1e-14)
    phi = moved(start)
    expected = chosen.ordinary(network, phi)(x)
    got = network.apply(made.apply(network.params, phi), x)
    np.testing.assert_allclose(got, expected, rtol=tolerance, atol=tolerance, err_msg=chosen.name)
    assert got.dtype == np.float64
    assert np.abs(got - network(x)).max() > 1e-3, f"{chosen.name} did nothing"
    touched = {path for path, leaf in tree.paths(made.g(phi)).items() if np.any(leaf)}
    assert touched == set(made.touched())


def rank_of(made, phi):
    """Rank of the dense Jacobian of g, which a gap in its singular values must justify."""
    matrix = np.asarray(made.jacobian(phi).as_matrix())
    values = np.linalg.svd(matrix, compute_uv=False)
    rank = int((values > 1e-9 * values[0]).sum())
    after = values[rank] if rank < len(values) else 0.0
    assert values[rank - 1] > GAP * after, f"no gap in the singular values of Dg: {values}"
    return rank


def dimensions_agree(chosen, network):
    """The closed forms of the dimension and of the rank at the start, against the Jacobian."""
    made, image = chosen.reparameterize(network), chosen.image(network)
    start = made.init(KEY)
    assert rank_of(made, moved(start)) == image.dimension, chosen.name
    assert rank_of(made, start) == image.initial_rank, chosen.name
    assert image.initial_rank <= image.dimension <= made.k


def distance(changes, target):
    return np.sqrt(sum(float(((changes[path] - target[path]) ** 2).sum()) for path in target))


def descended(made, target, starts=6, steps=4000):
    """The least distance from an update to Im g that L-BFGS finds from several starts: the naive oracle."""
    from scipy.optimize import minimize

    _, unravel = ravel_pytree(made.init(KEY))

    def objective(v):
        changes = made.changes(unravel(v))
        return sum(((changes[path] - target[path]) ** 2).sum() for path in target)

    value = jax.jit(jax.value_and_grad(objective))
    found = []
    for seed in range(starts):
        start = np.asarray(ravel_pytree(moved(made.init(jax.random.key(seed)), 0.5, seed))[0])
        options = {"maxiter": steps, "maxfun": 2 * steps, "ftol": 1e-15, "gtol": 1e-10}
        result = minimize(
            lambda v: [np.asarray(a) for a in value(v)], start, jac=True, method="L-BFGS-B", options=options
        )
        found.append(result.fun)
    return float(np.sqrt(min(found)))


def projects(chosen, network, tolerance=1e-3):
    """The nearest point: fixed on the image, no farther than anything descent finds, and attained by it."""
    made, image = chosen.reparameterize(network), chosen.image(network)
    leaves = tree.paths(network.params)
    phi = moved(made.init(KEY))
    inside = {path: np.asarray(leaf) for path, leaf in made.changes(phi).items()}
    size = distance(inside, {path: 0 * leaf for path, leaf in inside.items()})
    assert distance(image.project(inside), inside) <= (1e-8 if image.exact else 1e-2) * size
    rng = np.random.default_rng(3)
    target = {path: rng.normal(size=leaves[path].shape) for path in made.touched()}
    found, oracle = distance(image.project(target), target), descended(made, target)
    assert found <= oracle * (1 + tolerance), f"{chosen.name}: {found} is farther than {oracle}"
    if image.exact:
        assert found >= oracle * (1 - tolerance), f"{chosen.name}: {found} is nearer than anything: {oracle}"


@pytest.fixture(scope="session")
def checks():
    """The checks that every method with a map g must pass, and the networks to run them on."""
    sizes = {"features": 3, "length": 5, "width": 8, "depth": 1, "heads": 2, "hidden": 12, "outputs": 4}
    return types.SimpleNamespace(
        agrees=agrees,
        dimensions_agree=dimensions_agree,
        projects=projects,
        rank_of=rank_of,
        distance=distance,
        moved=moved,
        network_of=network_of,
        inputs_of=inputs_of,
        mlp=MLPConfig((6, 8, 4), "tanh"),
        plain_mlp=MLPConfig((6, 8, 4), "relu", biases=False),
        transformer=TransformerConfig(**sizes),
        shapes=[MLPConfig((6, 8, 4)), MLPConfig((4, 6, 6, 2)), MLPConfig((12, 4, 8), biases=False)],
    )
