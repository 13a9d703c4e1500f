"""Networks as pure functions: against naive NumPy, in float64 throughout, refusing what they cannot use."""

import doctest
import importlib
import itertools
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.special
from flax import nnx
from hypothesis import given, settings
from hypothesis import strategies as st

from peftproof.models import (
    MLPConfig,
    Network,
    TransformerConfig,
    from_module,
    from_pytree,
    mlp,
    mlp_from_arrays,
    plain,
    transformer,
    tree,
)
from peftproof.models.transformer import attention

KEY = jax.random.key(0)
SIZES = {"features": 3, "length": 5, "width": 8, "depth": 2, "heads": 2, "hidden": 12, "outputs": 4}
TOKENS = np.random.default_rng(0).normal(size=(2, 5, 3))
VECTORS = np.random.default_rng(0).normal(size=(5, 6))

NUMPY_ACTIVATIONS = {
    "relu": lambda x: np.maximum(x, 0),
    "tanh": np.tanh,
    "gelu": lambda x: x / 2 * (1 + scipy.special.erf(x / math.sqrt(2))),
    "gelu_tanh": lambda x: x / 2 * (1 + np.tanh(math.sqrt(2 / math.pi) * (x + 0.044715 * x**3))),
    "silu": lambda x: x * scipy.special.expit(x),
    "elu": lambda x: np.where(x > 0, x, np.expm1(np.minimum(x, 0))),
    "softplus": lambda x: np.logaddexp(x, 0),
    "sigmoid": scipy.special.expit,
    "identity": lambda x: x,
}


def perturbed(network, scale=0.3):
    """The network with all parameters off their initial values, so that biases and scales of norms count."""
    leaves, structure = jax.tree.flatten(network.params)
    rng = np.random.default_rng(1)
    moved = [leaf + scale * rng.normal(size=leaf.shape) for leaf in leaves]
    return network.with_params(jax.tree.unflatten(structure, moved))


def naive_linear(params, x):
    return x @ np.asarray(params["kernel"]) + (np.asarray(params["bias"]) if "bias" in params else 0)


def naive_norm(params, token, config):
    if config.norm == "layer":
        centred = token - token.mean()
        return centred / math.sqrt((centred**2).mean() + config.epsilon) * params["scale"] + params["bias"]
    return token / math.sqrt((token**2).mean() + config.epsilon) * params["scale"]


def naive_attention(params, h, config):
    query, key, value = (naive_linear(params[name], h) for name in ("query", "key", "value"))
    width, mixed = config.width // config.heads, np.zeros_like(h)
    for head in range(config.heads):
        own = slice(head * width, (head + 1) * width)
        for i in range(len(h)):
            seen = range(i + 1) if config.causal else range(len(h))
            weights = np.array([math.exp(query[i, own] @ key[j, own] / math.sqrt(width)) for j in seen])
            mixed[i, own] = sum(w * value[j, own] for w, j in zip(weights / weights.sum(), seen, strict=True))
    return naive_linear(params["out"], mixed)


def naive_transformer(params, x, config):
    """One example, token by token, as a textbook writes it."""
    act = NUMPY_ACTIVATIONS[config.activation]

    def norm(which, h):
        return np.stack([naive_norm(jax.tree.map(np.asarray, which), token, config) for token in h])

    h = naive_linear(params["embed"], x) + np.asarray(params["position"]["embedding"])
    for index in range(config.depth):
        block = params["blocks"][str(index)]

        def feed_forward(h, block=block):
            return naive_linear(block["mlp"]["down"], act(naive_linear(block["mlp"]["up"], h)))

        if config.norm_first:
            h = h + naive_attention(block["attention"], norm(block["norm1"], h), config)
            h = h + feed_forward(norm(block["norm2"], h))
        else:
            h = norm(block["norm1"], h + naive_attention(block["attention"], h, config))
            h = norm(block["norm2"], h + feed_forward(h))
    h = norm(params["norm"], h) if config.norm_first else h
    return naive_linear(params["head"], h[-1] if config.causal else h.mean(axis=0))


# --- perceptrons -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("biases", [True, False])
@pytest.mark.parametrize("activation", NUMPY_ACTIVATIONS)
def test_mlp_agrees_with_numpy(activation, biases):
    config = MLPConfig((6, 7, 7, 4), activation, "sigmoid", biases)
    network = perturbed(mlp(config, KEY, jnp.float64))
    h = VECTORS
    for index in range(3):
        h = naive_linear(network.params["layers"][str(index)], h)
        h = NUMPY_ACTIVATIONS[config.activation_of(index)](h)
    np.testing.assert_allclose(network(VECTORS), h, rtol=1e-13, atol=1e-14)
    assert network.d == 6 * 7 + 7 * 7 + 7 * 4 + biases * 18


def test_mlp_from_arrays_multiplies_as_mathematics_writes_it():
    rng = np.random.default_rng(0)
    weights = [rng.normal(size=shape) for shape in ((4, 6), (3, 4))]
    biases = [rng.normal(size=4), rng.normal(size=3)]
    network = mlp_from_arrays(weights, biases, "relu", "tanh")
    expected = [np.tanh(weights[1] @ np.maximum(weights[0] @ x + biases[0], 0) + biases[1]) for x in VECTORS]
    np.testing.assert_allclose(network(VECTORS), expected, rtol=1e-13)
    assert mlp_from_arrays([[[1, 2]]])(np.array([[3.0, 4.0]])) == 11


def test_more_than_ten_layers_keep_their_order():
    # As strings, "10" sorts before "2".
    weights = [np.array([[1.0 + k, 1.0], [0.5, 1.0]]) for k in range(12)]
    network = mlp_from_arrays(weights, activation="identity")
    h = np.ones(2)
    for W in weights:
        h = W @ h
    np.testing.assert_allclose(network(np.ones((1, 2)))[0], h, rtol=1e-14)


def test_one_compiled_program_serves_all_networks_of_a_configuration():
    first, second = mlp((6, 7, 4), KEY, jnp.float64), mlp((6, 7, 4), jax.random.key(1), jnp.float64)
    from_arrays = mlp_from_arrays([np.ones((7, 6)), np.ones((4, 7))], [np.ones(7), np.ones(4)])
    assert first.apply == second.apply == from_arrays.apply
    traces = []

    @jax.jit
    def counted(params, x):
        traces.append(1)
        return first.apply(params, x)

    for network in (first, second, from_arrays):
        np.testing.assert_allclose(counted(network.params, VECTORS), network(VECTORS), rtol=1e-13)
    assert len(traces) == 1


# --- transformers ------------------------------------------------------------------------------------------

every_transformer = pytest.mark.parametrize(
    ("causal", "norm_first", "norm"), list(itertools.product([False, True], [True, False], ["layer", "rms"]))
)


@every_transformer
@pytest.mark.parametrize("activation", ["gelu", "relu", "silu"])
def test_transformer_agrees_with_naive_numpy(causal, norm_first, norm, activation):
    biases = activation != "relu"
    config = TransformerConfig(
        **SIZES, activation=activation, causal=causal, norm_first=norm_first, norm=norm, biases=biases
    )
    network = perturbed(transformer(config, KEY, jnp.float64))
    expected = np.stack([naive_transformer(network.params, x, config) for x in TOKENS])
    np.testing.assert_allclose(network(TOKENS), expected, rtol=1e-12, atol=1e-13)


@every_transformer
def test_float64_stays_float64_in_every_operation(causal, norm_first, norm):
    config = TransformerConfig(**SIZES, causal=causal, norm_first=norm_first, norm=norm)
    network = transformer(config, KEY, jnp.float64)
    program = str(jax.make_jaxpr(network.apply)(network.params, TOKENS))
    assert "f64[" in program
    assert not any(narrow in program for narrow in ("f32[", "bf16[", "f16["))


def test_float32_stays_float32():
    network = transformer(TransformerConfig(**SIZES), KEY, jnp.float64).astype("float32")
    out = jax.eval_shape(network.apply, network.params, TOKENS.astype(np.float32))
    assert network.dtype == out.dtype == np.float32


def test_attention_is_accurate_where_a_float32_softmax_is_not():
    # jax.nn.dot_product_attention, which flax uses, is off by 1e-6 here.
    q, k, v = 3 * np.random.default_rng(0).normal(size=(3, 2, 5, 8))
    expected = np.zeros_like(q)
    for p, i, head in np.ndindex(2, 5, 2):
        own = slice(4 * head, 4 * head + 4)
        weights = np.exp(k[p, :, own] @ q[p, i, own] / 2)
        expected[p, i, own] = weights @ v[p, :, own] / weights.sum()
    np.testing.assert_allclose(attention(*map(jnp.asarray, (q, k, v)), heads=2), expected, atol=1e-14)


@pytest.mark.parametrize("causal", [False, True])
def test_only_a_causal_decoder_hides_later_tokens(causal):
    network = transformer(TransformerConfig(**SIZES, causal=causal), KEY, jnp.float64)

    def last_hidden(x):
        seen = {}

        def recorded(name, layer, h):
            seen[name] = h
            return layer(h)

        network.wrapped(network.params, x, recorded)
        return seen["blocks/1/mlp/down"]

    later = TOKENS.copy()
    later[:, 3:] += 1
    change = np.abs(last_hidden(later) - last_hidden(TOKENS)).max(axis=(0, 2))
    assert (change[3:] > 1e-3).all()
    assert (change[:3] == 0).all() if causal else (change[:3] > 1e-6).all()


def test_parameters_are_named_as_documented():
    config = TransformerConfig(**SIZES | {"depth": 1}, norm="rms", biases=False, norm_first=False)
    shapes = {
        path: leaf.shape for path, leaf in tree.paths(transformer(config, KEY, jnp.float64).params).items()
    }
    assert shapes == {
        "blocks/0/attention/key/kernel": (8, 8),
        "blocks/0/attention/out/kernel": (8, 8),
        "blocks/0/attention/query/kernel": (8, 8),
        "blocks/0/attention/value/kernel": (8, 8),
        "blocks/0/mlp/down/kernel": (12, 8),
        "blocks/0/mlp/up/kernel": (8, 12),
        "blocks/0/norm1/scale": (8,),
        "blocks/0/norm2/scale": (8,),
        "embed/kernel": (3, 8),
        "head/kernel": (8, 4),
        "position/embedding": (5, 8),
    }


# --- the pure-function view --------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["mlp", "transformer"])
def test_wrap_meets_each_linear_layer_once_and_leaves_the_network_alone(kind):
    network = mlp((6, 7, 4), KEY, jnp.float64) if kind == "mlp" else None
    network = network or transformer(TransformerConfig(**SIZES), KEY, jnp.float64)
    x = VECTORS if kind == "mlp" else TOKENS
    met = []

    def recorded(name, layer, h):
        met.append(name)
        return plain(name, layer, h)

    np.testing.assert_array_equal(network.wrapped(network.params, x, recorded), network(x))
    kernels = [path for path in tree.paths(network.params) if path.endswith("/kernel")]
    # A transformer also shows its residual stream, by names that no layer has.
    points = [name for name in met if name.endswith("/output")]
    blocks = [f"blocks/{index}/output" for index in range(SIZES["depth"])]
    assert points == ([] if kind == "mlp" else ["embed/output", *blocks])
    assert sorted(f"{name}/kernel" for name in met if name not in points) == sorted(kernels)


def test_repr_shows_shapes_and_no_numbers():
    assert repr(mlp((6, 7), KEY, jnp.float64, "probe")) == (
        "Network('probe', d=49)\n  layers/0/bias    f64[7]\n  layers/0/kernel  f64[6,7]"
    )


def test_astype_changes_parameters_and_outputs():
    network = mlp((6, 7, 4), KEY, jnp.float64).astype("float32")
    assert network.dtype == network(VECTORS.astype(np.float32)).dtype == np.float32
    assert network.astype("float64")(VECTORS).dtype == np.float64


def test_a_module_of_the_users_is_a_network():
    layer = nnx.Linear(6, 2, param_dtype=jnp.float64, rngs=nnx.Rngs(0))
    network = from_module(layer, name="mine")
    assert (network.d, network.architecture, network.wrapped) == (14, None, None)
    np.testing.assert_array_equal(network(VECTORS), layer(VECTORS))


def test_any_pytree_of_arrays_is_a_network():
    params = [(np.ones((6, 3)), np.zeros(3)), {"last": np.full((3, 2), 0.5)}]

    def apply(params, x):
        (W, b), last = params[0], params[1]["last"]
        return (x @ W + b[None]) @ last

    network = from_pytree(apply, params)
    assert list(tree.paths(network.params)) == ["0/0", "0/1", "1/last"]
    np.testing.assert_allclose(network(VECTORS), apply(params, VECTORS), rtol=1e-14)


nested = st.recursive(
    st.just(np.ones(2)),
    lambda node: st.dictionaries(st.text("ab.-1", min_size=1, max_size=3), node, min_size=1, max_size=3),
    max_leaves=6,
)


@settings(max_examples=50)
@given(st.dictionaries(st.text("ab.-1", min_size=1, max_size=3), nested, min_size=1, max_size=3))
def test_paths_are_inverted_and_come_in_the_order_of_ravel(params):
    flat = tree.paths(params)
    assert jax.tree.structure(tree.from_paths(flat)) == jax.tree.structure(params)
    numbered = tree.from_paths({path: index for index, path in enumerate(flat)})
    assert jax.tree.leaves(numbered) == list(range(len(flat)))


@pytest.mark.parametrize(
    "name",
    ["activations", "tree", "network", "mlp", "transformer", "methods", "methods.base", "methods.lora"],
)
def test_examples_in_docstrings_run(name):
    # The submodule, not the function of the same name that the package exports.
    module = importlib.import_module(f"peftproof.models.{name}")
    assert doctest.testmod(module).failed == 0


# --- refusals ----------------------------------------------------------------------------------------------

ONE = np.ones((2, 2))


@pytest.mark.parametrize(
    ("params", "message"),
    [
        ({}, "got no leaf"),
        ({"a": {}}, "got no leaf"),
        ({"a": np.ones(2, int)}, "'a': got int64, needs a floating dtype"),
        ({"a": {"b": np.array([1.0, np.nan])}}, "'a/b' has NaN or infinite entries"),
        ({"a": np.array([np.inf])}, "'a' has NaN or infinite entries"),
        ({"a": {0: ONE}}, "got the key 0 under 'a/'"),
        ({"a": {"b/c": ONE}}, "got the key 'b/c' under 'a/'"),
        ({"a": [1.0]}, "'a' is of type list"),
        ({"a": ONE, "b": ONE.astype(np.float32)}, "mixed dtypes"),
    ],
)
def test_parameters_that_cannot_be_used_are_refused(params, message):
    with pytest.raises(ValueError, match=message):
        Network(lambda params, x: x, params)


@pytest.mark.parametrize(
    ("params", "message"),
    [
        ({"layers": {"0": {"kernel": np.ones((6, 2))}}}, "missing .'layers/0/bias'., unknown nothing"),
        (
            {"layers": {"0": {"kernel": np.ones((2, 6)), "bias": np.ones(2)}}},
            r"shape \(2, 6\), needs \(6, 2\)",
        ),
        ({"other": ONE}, "unknown .'other'."),
    ],
)
def test_parameters_of_another_network_are_refused(params, message):
    with pytest.raises(ValueError, match=message):
        mlp((6, 2), KEY, jnp.float64).with_params(params)


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (lambda: MLPConfig((3,)), "widths: got"),
        (lambda: MLPConfig((3, 0, 2)), "widths: got"),
        (lambda: MLPConfig((3, 2), "swish"), "activation: got 'swish'"),
        (lambda: MLPConfig((3, 2), "tanh", "swish"), "activation: got 'swish'"),
        (lambda: mlp((3, 2), KEY, "int32"), "needs a floating dtype"),
        (lambda: mlp_from_arrays([]), "weights: got none"),
        (lambda: mlp_from_arrays([np.ones(3)]), r"W_1 has shape \(3,\)"),
        (lambda: mlp_from_arrays([np.ones((4, 3)), np.ones((2, 3))]), "W_2 takes 3 inputs but W_1 gives 4"),
        (lambda: mlp_from_arrays([ONE], []), "biases: got 0, needs 1"),
        (lambda: mlp_from_arrays([ONE], [np.ones(3)]), r"b_1 has shape \(3,\)"),
        (lambda: mlp_from_arrays([ONE * np.nan]), "NaN or infinite"),
        (lambda: TransformerConfig(**SIZES | {"heads": 3}), "heads: got 3, needs a divisor of the width 8"),
        (lambda: TransformerConfig(**SIZES | {"depth": 0}), "depth: got 0"),
        (lambda: TransformerConfig(**SIZES, activation="swish"), "activation: got 'swish'"),
        (lambda: TransformerConfig(**SIZES, epsilon=0.0), "epsilon: got 0"),
        (lambda: mlp((6, 2), KEY, jnp.float64)(VECTORS[0]), r"add the batch axis with x\[None\]"),
        (lambda: mlp((5, 2), KEY, jnp.float64)(VECTORS), r"got shape \(5, 6\), needs \(p, 5\)"),
        (lambda: transformer(TransformerConfig(**SIZES), KEY, jnp.float64)(VECTORS), r"needs \(p, 5, 3\)"),
        (lambda: mlp((6, 2), KEY, jnp.float64).apply({"a": ONE}, VECTORS), "params: got the leaves a, needs"),
        (lambda: tree.from_paths({"a": ONE, "a/b": ONE}), "continues the path"),
        (lambda: tree.from_paths({"a/b": ONE, "a": ONE}), "other paths continue 'a'"),
        (lambda: tree.match({"a": ONE, "b": ONE}, "c*"), "'c.' matches no parameter; .* one of a, b"),
        (lambda: tree.match({"a": ONE}, ("a", "c")), "'c' matches no parameter"),
        (lambda: tree.match({"a": ONE}, ()), "got none"),
        (lambda: tree.add({"a": ONE}, {"a": np.ones(2)}), "b: 'a' has shape"),
        (lambda: from_pytree(lambda p, x: x, {"a/b": ONE, "a": {"b": ONE}}), "not unique"),
    ],
)
def test_wrong_arguments_are_named(build, message):
    with pytest.raises(ValueError, match=message):
        build()


def test_float64_without_x64_says_how_to_enable_it():
    with jax.enable_x64(False), pytest.raises(ValueError, match="jax_enable_x64"):
        mlp((6, 2), KEY, "float64")
