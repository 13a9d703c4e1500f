"""Extensions as what is trained: the inclusion of Φ, transformations of JAX, users' networks, refusals."""

import functools
import math

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from jax.flatten_util import ravel_pytree

from peftproof.models import (
    IA3,
    BitFit,
    LoRA,
    MLPConfig,
    Network,
    TransformerConfig,
    mlp,
    plain,
    transformer,
    tree,
)
from peftproof.models.methods.adapter import ParallelAdapter, SerialAdapter
from peftproof.models.methods.extension import Extension
from peftproof.models.methods.fusion import AttentionFusion
from peftproof.models.methods.prefix import Prefix

KEY = jax.random.key(0)
SIZES = {"features": 3, "length": 3, "width": 4, "depth": 2, "heads": 2, "hidden": 5, "outputs": 2}
ENCODER, PERCEPTRON = TransformerConfig(**SIZES), MLPConfig((3, 4, 4, 2), "tanh")
DECODER = TransformerConfig(
    **SIZES, causal=True, norm_first=False, norm="rms", activation="relu", biases=False
)
ALL = [
    Prefix(2),
    SerialAdapter(2),
    ParallelAdapter(3, "gelu", biases=False, scale=0.5),
    AttentionFusion(),
    AttentionFusion(gated=False),
]
CASES = [(chosen, ENCODER) for chosen in ALL] + [(chosen, PERCEPTRON) for chosen in ALL[1:]]


def moved(values, scale=0.5, seed=1):
    leaves, structure = jax.tree.flatten(values)
    rng = np.random.default_rng(seed)
    return jax.tree.unflatten(structure, [leaf + scale * rng.normal(size=leaf.shape) for leaf in leaves])


@functools.cache
def network_of(config):
    build = mlp if isinstance(config, MLPConfig) else transformer
    network = build(config, KEY, jnp.float64)
    return network.with_params(moved(network.params))


def inputs_of(config, examples=2):
    shape = config.widths[:1] if isinstance(config, MLPConfig) else (config.length, config.features)
    return np.random.default_rng(2).normal(size=(examples, *shape))


def tuned(chosen, network, phi):
    """The enlarged network at Φ, which is what training and the theorems see."""
    enlarged = chosen.enlarge(network)
    return enlarged.with_params(chosen.trainable(enlarged).apply(enlarged.params, phi))


def drawn(chosen, network):
    return moved(chosen.trainable(chosen.enlarge(network)).init(KEY))


each_extension = pytest.mark.parametrize("chosen", ALL, ids=lambda each: each.name)
each_case = pytest.mark.parametrize(
    ("chosen", "config"),
    CASES,
    ids=lambda each: type(each).__name__ if isinstance(each, MLPConfig | TransformerConfig) else each.name,
)


def agree(got, expected, **kwargs):
    np.testing.assert_allclose(got, expected, rtol=1e-12, atol=1e-12, **kwargs)


@each_case
def test_phi_is_included_in_the_enlarged_parameters(chosen, config):
    network = network_of(config)
    enlarged = chosen.enlarge(network)
    made = chosen.trainable(enlarged)
    phi = drawn(chosen, network)
    update = made.g(phi)
    assert set(update) == {*network.params, chosen.key}
    assert not any(leaf.any() for name in network.params for leaf in jax.tree.leaves(update[name]))
    jax.tree.map(np.testing.assert_array_equal, update[chosen.key], phi)
    assert set(made.touched()) == {f"{chosen.key}/{path}" for path in tree.paths(phi)}
    assert (made.d, made.k) == (enlarged.d, enlarged.d - network.d)
    np.testing.assert_array_equal(made.jacobian(phi).as_matrix().sum(axis=0), np.ones(made.k))
    assert (enlarged.architecture, enlarged.dtype) == (None, np.float64)
    assert enlarged.name == f"{network.name} with {chosen.name}"


def test_parameters_are_counted_right():
    w, depth, hidden = SIZES["width"], SIZES["depth"], SIZES["hidden"]
    perceptron, encoder = network_of(PERCEPTRON), network_of(ENCODER)
    for chosen, network, k in (
        (Prefix(3), encoder, depth * 2 * 3 * w),
        (Prefix(3, ("blocks/0",)), encoder, 2 * 3 * w),
        (SerialAdapter(2), encoder, depth * 2 * (2 * w * 2 + 2 + w)),
        (SerialAdapter(2, biases=False), encoder, depth * 2 * 2 * w * 2),
        (ParallelAdapter(2), encoder, depth * (2 * w * 2 + 2 + w)),
        (ParallelAdapter(1, biases=False, layers="*mlp/up"), encoder, depth * (w + hidden)),
        (SerialAdapter(3), perceptron, 2 * (4 * 3 + 3 + 3 * 4 + 4)),
        (ParallelAdapter(3), perceptron, (3 * 3 + 3 + 3 * 4 + 4) + (4 * 3 + 3 + 3 * 4 + 4)),
        (AttentionFusion(), encoder, w + 1),
        (AttentionFusion(gated=False), perceptron, 4),
    ):
        assert chosen.trainable(chosen.enlarge(network)).k == k, chosen.name


@each_extension
def test_transformations_of_jax_go_through(chosen):
    config = DECODER
    network, x = network_of(config), inputs_of(config)
    enlarged = chosen.enlarge(network)
    vector, unravel = ravel_pytree(drawn(chosen, network))

    @jax.jit
    def loss(v, theta):
        made = chosen.trainable(enlarged.with_params(theta))
        return (enlarged.apply(made.apply(theta, unravel(v)), x) ** 2).sum()

    other = jax.tree.map(lambda leaf: leaf + 0.25 * jnp.ones_like(leaf), unravel(vector))
    both = jax.vmap(loss, in_axes=(0, None))(jnp.stack([vector, ravel_pytree(other)[0]]), enlarged.params)
    agree(both, [(tuned(chosen, network, phi)(x) ** 2).sum() for phi in (unravel(vector), other)])
    gradient, direction = jax.grad(loss)(vector, enlarged.params), np.cos(np.arange(len(vector)))
    h = 1e-5
    central = (
        (loss(vector + h * direction, enlarged.params) - loss(vector - h * direction, enlarged.params))
        / 2
        / h
    )
    np.testing.assert_allclose(gradient @ direction, central, rtol=1e-6)


@each_case
def test_thirty_steps_of_training_lower_the_loss(chosen, config):
    network, x = network_of(config), inputs_of(config, 8)
    enlarged = chosen.enlarge(network)
    made, optimizer = chosen.trainable(enlarged), optax.adam(0.03)
    labels = np.arange(8) % 2

    def loss(phi):
        logits = enlarged.apply(made.apply(enlarged.params, phi), x)
        return optax.softmax_cross_entropy_with_integer_labels(logits, labels).mean()

    def step(state, _):
        phi, moments = state
        value, gradient = jax.value_and_grad(loss)(phi)
        with jax.numpy_dtype_promotion("standard"):  # optax mixes integers and floats
            updates, moments = optimizer.update(gradient, moments)
        return (optax.apply_updates(phi, updates), moments), value

    start = made.init(KEY)
    (phi, _), values = jax.jit(lambda state: jax.lax.scan(step, state, length=30))(
        (start, optimizer.init(start))
    )
    assert values[-1] < values[0] - 1e-3
    # Only Φ was trained.
    after = made.apply(enlarged.params, phi)
    jax.tree.map(
        np.testing.assert_array_equal, {name: after[name] for name in network.params}, network.params
    )


@each_extension
def test_equal_settings_share_compiled_programs(chosen):
    first, second = (chosen.enlarge(network_of(ENCODER)) for _ in range(2))
    assert first.apply == second.apply
    assert hash(first.apply) == hash(second.apply)
    assert first.apply != Prefix(9).enlarge(network_of(ENCODER)).apply


@each_case
def test_single_precision_stays_single(chosen, config):
    network, x = network_of(config).astype("float32"), inputs_of(config).astype("float32")
    enlarged = chosen.enlarge(network)
    made = chosen.trainable(enlarged)
    assert enlarged.apply(made.apply(enlarged.params, made.init(KEY)), x).dtype == np.float32


# --- with a hook of its own -----------------------------------------------------------------------------


@each_case
def test_maps_g_work_on_enlarged_networks_as_on_any(chosen, config):
    network, x = network_of(config), inputs_of(config)
    patterns = {"outputs": "*/1/*key", "inputs": "*down"}
    patterns = patterns if isinstance(config, TransformerConfig) else {"inputs": "layers/1"}
    enlarged = tuned(chosen, network, drawn(chosen, network))
    for inner in (LoRA(1), IA3(**patterns), BitFit()):
        made = inner.reparameterize(enlarged)
        assert not any(path.startswith(chosen.key) for path in made.touched())
        phi = moved(made.init(KEY))
        got = enlarged.apply(made.apply(enlarged.params, phi), x)
        agree(inner.ordinary(enlarged, phi)(x), got, err_msg=f"{inner.name} on {chosen.name}")
        assert np.abs(got - enlarged(x)).max() > 1e-4


@each_extension
def test_the_hook_of_an_enlarged_network_meets_the_layers_of_the_base_network(chosen):
    network, x = network_of(ENCODER), inputs_of(ENCODER)
    enlarged, met = tuned(chosen, network, drawn(chosen, network)), {True: [], False: []}

    def recorded(name, layer, h, *, extended):
        met[extended].append((name, layer(h).shape))
        return plain(name, layer, h)

    got = enlarged.wrapped(enlarged.params, x, functools.partial(recorded, extended=True))
    np.testing.assert_array_equal(got, enlarged(x))
    network.wrapped(network.params, x, functools.partial(recorded, extended=False))
    assert met[True] == met[False]


# --- networks of the users ---------------------------------------------------------------------------------


def own_wrapped(params, x, wrap):
    return wrap("slope", lambda h: h @ params["slope"], x)


def own_apply(params, x):
    return own_wrapped(params, x, plain)


class Unhashable:
    """A network function without a hash."""

    __hash__ = None

    def __call__(self, params, x):
        """Apply."""
        return own_apply(params, x)


SLOPE = {"slope": np.arange(6.0).reshape(3, 2)}
OWN = Network(own_apply, SLOPE, name="own", wrapped=own_wrapped)
MUTE = Network(own_apply, SLOPE, name="mute")
DEAF = Network(own_apply, SLOPE, name="deaf", wrapped=lambda params, x, wrap: own_apply(params, x))


@pytest.mark.parametrize("network", [OWN, Network(Unhashable(), SLOPE, wrapped=own_wrapped)])
def test_adapters_work_on_a_network_with_names_of_its_own(network):
    x = np.random.default_rng(0).normal(size=(4, 3))
    for chosen in (SerialAdapter(2, "tanh", layers="slope"), ParallelAdapter(2, "tanh", layers="slope")):
        phi = drawn(chosen, network)
        y = x @ SLOPE["slope"]
        h, node = y if isinstance(chosen, SerialAdapter) else x, jax.tree.map(np.asarray, phi["slope"])
        expected = y + np.tanh(h @ node["down"] + node["down_bias"]) @ node["up"] + node["up_bias"]
        agree(tuned(chosen, network, phi)(x), expected)
        hash(chosen.enlarge(network).apply)


# --- refusals ----------------------------------------------------------------------------------------------

UNEVEN, SHALLOW, LINE = MLPConfig((3, 4, 5, 2)), MLPConfig((3, 4, 2)), MLPConfig((3, 2))


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (lambda: Prefix(0), "length: got 0, needs a positive number"),
        (lambda: Prefix(1.5), r"length: got 1\.5"),
        (lambda: SerialAdapter(0), "width: got 0"),
        (lambda: ParallelAdapter(True), "width: got True"),
        (lambda: SerialAdapter(1, "swish"), "activation: got 'swish', needs one of relu"),
        (lambda: ParallelAdapter(scale=0.0), "scale: got 0"),
        (lambda: ParallelAdapter(scale=math.inf), "scale: got inf"),
        (lambda: Prefix().enlarge(network_of(PERCEPTRON)), "'mlp' is a perceptron and has no attention"),
        (lambda: Prefix().enlarge(OWN), "'own' has no known architecture"),
        (lambda: Prefix(blocks="layers/*").enlarge(network_of(ENCODER)), "'layers/.' matches no block"),
        (
            lambda: SerialAdapter().enlarge(network_of(LINE)),
            "one layer and so no hidden one .* layers='layers/0'",
        ),
        (lambda: SerialAdapter().enlarge(OWN), "where serial-adapter-4 adapts 'own' is not known.*slope"),
        (lambda: SerialAdapter(layers="x").enlarge(OWN), "'x' matches no linear layer"),
        (
            lambda: ParallelAdapter(layers="slope").enlarge(MUTE),
            "'mute' has no hook .* give Network the argument",
        ),
        (
            lambda: ParallelAdapter(layers="slope").enlarge(DEAF)(np.ones((1, 3))),
            "'deaf' never called wrap for slope",
        ),
        (lambda: AttentionFusion().enlarge(OWN), "'own' has no known architecture"),
        (lambda: AttentionFusion().enlarge(network_of(UNEVEN)), r"have the widths \(4, 5\)"),
        (lambda: AttentionFusion().enlarge(network_of(SHALLOW)), "has 1 hidden layers"),
        (lambda: AttentionFusion().enlarge(network_of(LINE)), "has 0 hidden layers"),
    ],
)
def test_what_cannot_be_done_is_refused_with_a_reason(build, message):
    with pytest.raises(ValueError, match=message):
        build()


@each_extension
def test_there_is_no_map_g_and_no_second_application(chosen):
    network = network_of(ENCODER)
    enlarged = chosen.enlarge(network)
    with pytest.raises(ValueError, match="there is no map g and equation 4 does not cover it"):
        chosen.reparameterize(network)
    with pytest.raises(ValueError, match=f"has a node {chosen.key!r} already"):
        chosen.enlarge(enlarged)
    with pytest.raises(ValueError, match=f"has no parameters of {chosen.name.split('[')[0]}"):
        chosen.trainable(network)
    with pytest.raises(ValueError, match=r"phi: missing .*, unknown \['x'\]"):
        chosen.ordinary(network, {"x": np.ones(2)})


def test_names_tell_settings_apart():
    several = [
        *ALL,
        Prefix(3),
        Prefix(3, ("blocks/0", "blocks/1")),
        SerialAdapter(2, "gelu"),
        SerialAdapter(2, layers=["layers/0", "layers/1"]),
        ParallelAdapter(2, scale=4.0),
    ]
    assert all(isinstance(chosen, Extension) for chosen in several)
    assert len({chosen.name for chosen in several}) == len(set(several)) == len(several)
    assert several[-1].name == "parallel-adapter-2[scale=4.0]"
