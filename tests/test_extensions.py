"""Prefixes, adapters and attention fusion against naive NumPy, and against equation 4, which they break."""

import functools
import itertools
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.flatten_util import ravel_pytree

from peftproof.models import (
    BitFit,
    MLPConfig,
    TransformerConfig,
    mlp,
    mlp_from_arrays,
    transformer,
    tree,
)
from peftproof.models.methods.adapter import ParallelAdapter, SerialAdapter
from peftproof.models.methods.extension import bottom
from peftproof.models.methods.fusion import AttentionFusion
from peftproof.models.methods.prefix import Prefix

KEY = jax.random.key(0)
SIZES = {"features": 3, "length": 3, "width": 4, "depth": 2, "heads": 2, "hidden": 5, "outputs": 2}
TRANSFORMERS = [
    TransformerConfig(**SIZES, causal=causal, norm_first=norm_first, norm=norm, activation=act, biases=biases)
    for (causal, norm_first), (norm, act, biases) in zip(
        itertools.product([False, True], [True, False]),
        [("layer", "gelu", True), ("rms", "relu", False), ("rms", "tanh", True), ("layer", "relu", False)],
        strict=True,
    )
]
PERCEPTRONS = [MLPConfig((3, 4, 4, 2), "tanh"), MLPConfig((3, 4, 4, 2), "relu", biases=False)]
NEUTRAL = [SerialAdapter(2), ParallelAdapter(3, "gelu", False, scale=0.5), AttentionFusion()]
ALL = [Prefix(2), *NEUTRAL, AttentionFusion(gated=False)]


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


def short(config):
    if isinstance(config, MLPConfig):
        return f"mlp-{config.activation}"
    return f"{'causal' if config.causal else 'encoder'}-{'pre' if config.norm_first else 'post'}"


def stacked(network, additions):
    """All extensions in turn, and the parameters that hold all of their Φ."""
    enlarged = network
    for chosen in additions:
        enlarged = chosen.enlarge(enlarged)
    theta = enlarged.params
    for chosen, phi in additions.items():
        theta = chosen.trainable(enlarged).apply(theta, phi)
    return enlarged.with_params(theta)


def tuned(chosen, network, phi):
    return stacked(network, {chosen: phi})


def drawn(chosen, network):
    return moved(chosen.trainable(chosen.enlarge(network)).init(KEY))


each_config = pytest.mark.parametrize("config", [*TRANSFORMERS, *PERCEPTRONS], ids=short)


# --- the reference: one token, one head, one key at a time -------------------------------------------------

SIGMA = {
    "relu": lambda t: max(t, 0.0),
    "tanh": math.tanh,
    "gelu": lambda t: t * (1 + math.erf(t / math.sqrt(2))) / 2,
    "identity": lambda t: t,
}


def sigma(name, h):
    return np.array([SIGMA[name](t) for t in h])


def affine(node, h):
    return np.array(h) @ np.array(node["kernel"]) + np.array(node.get("bias", 0.0))


def bottleneck(chosen, node, h):
    inner = sigma(
        chosen.activation, np.array(h) @ np.array(node["down"]) + np.array(node.get("down_bias", 0))
    )
    return inner @ np.array(node["up"]) + np.array(node.get("up_bias", 0))


def normed(config, node, h):
    centre = h.mean() if config.norm == "layer" else 0.0
    scaled = (h - centre) / math.sqrt(((h - centre) ** 2).mean() + config.epsilon)
    return scaled * np.array(node["scale"]) + np.array(node.get("bias", 0.0))


def attended(config, node, tokens, prefix):
    q, k, v = ([affine(node[part], h) for h in tokens] for part in ("query", "key", "value"))
    extra = (
        [] if prefix is None else list(zip(np.array(prefix["key"]), np.array(prefix["value"]), strict=True))
    )
    outputs, size = [], config.width // config.heads
    for i in range(len(tokens)):
        row = np.zeros(config.width)
        seen = extra + [(k[j], v[j]) for j in range(len(tokens)) if j <= i or not config.causal]
        for head in range(config.heads):
            own = slice(head * size, head * size + size)
            weights = [math.exp(q[i][own] @ one[own] / math.sqrt(size)) for one, _ in seen]
            for weight, (_, value) in zip(weights, seen, strict=True):
                row[own] += weight / sum(weights) * value[own]
        outputs.append(affine(node["out"], row))
    return outputs


def looked_back(chosen, phi, states):
    scores = [math.exp(np.array(phi["query"]) @ h / math.sqrt(len(h))) for h in states]
    mixture = sum(score / sum(scores) * h for score, h in zip(scores, states, strict=True))
    gate = float(phi["gate"]) if chosen.gated else 1.0
    return (1 - gate) * states[-1] + gate * mixture


class Reference:
    """The network of one configuration with any of the extensions, parameters as `{method: Φ}`."""

    def __init__(self, config, params, additions):
        self.config, self.params = config, params
        self.by_kind = {type(chosen): (chosen, phi) for chosen, phi in additions.items()}

    def __call__(self, x):
        """Outputs of a batch."""
        one = self.perceptron if isinstance(self.config, MLPConfig) else self.transformer
        return np.array([one(example) for example in np.asarray(x)])

    def node(self, kind, *path):
        """An extension and a node of its Φ, None where it has none."""
        chosen, node = self.by_kind.get(kind, (None, None))
        for part in path:
            node = None if node is None else node.get(part)
        return chosen, node

    def followed(self, y, *path):
        """Behind a serial adapter."""
        chosen, node = self.node(SerialAdapter, *path)
        return y if node is None else y + bottleneck(chosen, node, y)

    def accompanied(self, y, h, *path):
        """Beside a parallel adapter."""
        chosen, node = self.node(ParallelAdapter, *path)
        return y if node is None else y + chosen.scale * bottleneck(chosen, node, h)

    def fused(self, states):
        """The last state, or the mixture."""
        chosen, phi = self.node(AttentionFusion)
        return states[-1] if chosen is None else looked_back(chosen, phi, states)

    def perceptron(self, h):
        """Outputs of one vector."""
        states, last = [], self.config.layers - 1
        for i in range(self.config.layers):
            if i == last:
                h = self.fused(states)
            y = self.accompanied(affine(self.params["layers"][str(i)], h), h, "layers", str(i))
            y = self.followed(y, "layers", str(i))
            h = y if i == last else sigma(self.config.activation, y)
            states.append(h)
        return h

    def transformer(self, x):
        """Outputs of one sequence."""
        positions = np.array(self.params["position"]["embedding"])
        tokens = [affine(self.params["embed"], h) + p for h, p in zip(x, positions, strict=True)]
        layers = [tokens]
        for i in range(self.config.depth):
            tokens = self.block(self.params["blocks"][str(i)], tokens, ("blocks", str(i)))
            layers.append(tokens)
        tokens = [self.fused(list(states)) for states in zip(*layers, strict=True)]
        if self.config.norm_first:
            tokens = [normed(self.config, self.params["norm"], h) for h in tokens]
        return affine(self.params["head"], tokens[-1] if self.config.causal else sum(tokens) / len(tokens))

    def block(self, node, tokens, path):
        """One block on a list of tokens."""

        def attention(inputs):
            outputs = attended(self.config, node["attention"], inputs, self.node(Prefix, *path)[1])
            return [self.followed(y, *path, "attention", "out") for y in outputs]

        def perceptron(inputs):
            outputs = []
            for h in inputs:
                hidden = sigma(self.config.activation, affine(node["mlp"]["up"], h))
                y = self.accompanied(affine(node["mlp"]["down"], hidden), h, *path, "mlp")
                outputs.append(self.followed(y, *path, "mlp", "down"))
            return outputs

        for norm, layer in ((node["norm1"], attention), (node["norm2"], perceptron)):
            if self.config.norm_first:
                changes = layer([normed(self.config, norm, h) for h in tokens])
                tokens = [h + change for h, change in zip(tokens, changes, strict=True)]
            else:
                changes = layer(tokens)
                tokens = [normed(self.config, norm, h + c) for h, c in zip(tokens, changes, strict=True)]
        return tokens


def agree(got, expected, **kwargs):
    np.testing.assert_allclose(got, expected, rtol=1e-12, atol=1e-12, **kwargs)


@each_config
def test_extended_networks_are_what_naive_loops_compute(config):
    network, x = network_of(config), inputs_of(config)
    agree(Reference(config, network.params, {})(x), network(x))
    for chosen in ALL if isinstance(config, TransformerConfig) else ALL[1:]:
        phi = drawn(chosen, network)
        got = tuned(chosen, network, phi)(x)
        agree(got, Reference(config, network.params, {chosen: phi})(x), err_msg=chosen.name)
        agree(chosen.ordinary(network, phi)(x), got, err_msg=chosen.name)
        assert np.abs(got - network(x)).max() > 1e-3, f"{chosen.name} did nothing"


def test_that_comparison_would_notice_a_billionth():
    config = TRANSFORMERS[0]
    network, x = network_of(config), inputs_of(config)
    for chosen in ALL:
        vector, unravel = ravel_pytree(drawn(chosen, network))
        off = unravel(vector.at[-1].add(1e-9))
        with pytest.raises(AssertionError):
            agree(
                tuned(chosen, network, off)(x),
                Reference(config, network.params, {chosen: unravel(vector)})(x),
            )


def test_a_part_of_the_places_can_be_chosen():
    config = TRANSFORMERS[0]
    network, x = network_of(config), inputs_of(config)
    for chosen, leaves in (
        (Prefix(1, blocks="blocks/1"), {"blocks/1/key", "blocks/1/value"}),
        (
            SerialAdapter(1, biases=False, layers="*/1/mlp/down"),
            {"blocks/1/mlp/down/down", "blocks/1/mlp/down/up"},
        ),
    ):
        phi = drawn(chosen, network)
        assert set(tree.paths(phi)) == leaves
        agree(tuned(chosen, network, phi)(x), Reference(config, network.params, {chosen: phi})(x))
    # Beside a single layer the adapter is a change of that layer alone; with σ = id, of its kernel.
    beside = ParallelAdapter(2, "identity", biases=False, layers=("blocks/0/attention/query",), scale=-2.0)
    phi = drawn(beside, network)
    node = tree.paths(phi)
    change = -2.0 * node["blocks/0/attention/query/down"] @ node["blocks/0/attention/query/up"]
    merged = tree.paths(network.params)
    merged["blocks/0/attention/query/kernel"] = merged["blocks/0/attention/query/kernel"] + change
    agree(tuned(beside, network, phi)(x), network.apply(tree.from_paths(merged), x))


# --- neutral starts ----------------------------------------------------------------------------------------


@each_config
def test_adapters_and_fusion_start_as_the_base_network(config):
    network, x = network_of(config), inputs_of(config)
    for chosen in NEUTRAL:
        enlarged = chosen.enlarge(network)
        start = chosen.trainable(enlarged).init(KEY)
        assert any(leaf.any() for leaf in jax.tree.leaves(start))
        np.testing.assert_array_equal(tuned(chosen, network, start)(x), network(x), err_msg=chosen.name)
        np.testing.assert_array_equal(enlarged(x), network(x), err_msg=chosen.name)


@pytest.mark.parametrize("config", TRANSFORMERS, ids=short)
def test_a_prefix_of_zeros_is_not_neutral(config):
    network, x = network_of(config), inputs_of(config)
    assert np.abs(Prefix(2).enlarge(network)(x) - network(x)).max() > 1e-3


def test_fusion_without_a_gate_is_the_mean_of_the_layers_at_the_zero_query():
    config = PERCEPTRONS[0]
    network, x = network_of(config), inputs_of(config)
    layers = jax.tree.map(np.asarray, network.params["layers"])
    first = np.tanh(x @ layers["0"]["kernel"] + layers["0"]["bias"])
    second = np.tanh(first @ layers["1"]["kernel"] + layers["1"]["bias"])
    expected = (first + second) / 2 @ layers["2"]["kernel"] + layers["2"]["bias"]
    agree(AttentionFusion(gated=False).enlarge(network)(x), expected)


# --- equation 4 fails: functions that no parameters of the base network give -------------------------------


@pytest.mark.parametrize("kind", [SerialAdapter, ParallelAdapter])
def test_a_relu_adapter_on_the_identity_is_not_odd_as_all_base_functions_are(kind):
    base = mlp_from_arrays([[[1.0]]])
    chosen = kind(1, "relu", biases=False, layers="layers/0")
    ones = {"layers": {"0": {"down": np.ones((1, 1)), "up": np.ones((1, 1))}}}
    x = np.array([[1.0], [-1.0]])
    assert tuned(chosen, base, ones)(x)[:, 0].tolist() == [2, -1]
    for slope in (-3.0, 0.0, 0.5):
        assert base.apply(jax.tree.map(lambda leaf, w=slope: w + 0 * leaf, base.params), x).sum() == 0


def scalar_attention(query, key, value):
    """One token of one feature x: x + attention(x), by a norm whose epsilon is too large to notice x."""
    config = TransformerConfig(1, 1, 1, 1, 1, 1, 1, "identity", norm="rms", biases=False, epsilon=1e32)
    network = transformer(config, KEY, jnp.float64)
    flat = {path: 0 * leaf for path, leaf in tree.paths(network.params).items()}
    flat |= {path: 1e16 + leaf for path, leaf in flat.items() if path.endswith("scale")}
    flat |= {f"{layer}/kernel": np.ones((1, 1)) for layer in ("embed", "head", "blocks/0/attention/out")}
    weights = {"query": query, "key": key, "value": value}
    flat |= {f"blocks/0/attention/{part}/kernel": np.full((1, 1), w) for part, w in weights.items()}
    return network.with_params(tree.from_paths(flat))


def attention_of(network, phi, x):
    return tuned(Prefix(1), network, phi)(x[:, None, None])[:, 0] - x


def prefix_of(key, value):
    return {"blocks": {"0": {"key": np.full((1, 1), key), "value": np.full((1, 1), value)}}}


def test_one_prefix_turns_affine_attention_into_a_sigmoid():
    base = scalar_attention(1.0, 0.0, 0.0)
    x = np.log([1.0, 2.0, 4.0])
    got = attention_of(base, prefix_of(1.0, 1.0), x)
    agree(got, [1 / 2, 2 / 3, 4 / 5])
    agree(got[2] - 2 * got[1] + got[0], -1 / 30)
    # Without a prefix the one key has weight 1: affine, whatever the parameters are.
    for weights in ((1.0, 0.0, 0.0), (1.0, 2.0, 3.0), (-0.5, 1.0, 0.25)):
        first, second, third = scalar_attention(*weights)(x[:, None, None])[:, 0]
        agree(third - 2 * second + first, 0.0)


def test_the_zero_prefix_turns_the_identity_into_x_sigmoid_of_its_square():
    x = np.sqrt(math.log(2)) * np.array([1.0, 2.0])
    base = scalar_attention(1.0, 1.0, 1.0)
    agree(base(x[:, None, None])[:, 0], 2 * x)
    agree(attention_of(base, prefix_of(0.0, 0.0), x) / x, [2 / 3, 16 / 17])


def test_biases_for_a_base_without_any_are_an_extension_and_not_bitfit():
    bare = mlp_from_arrays([[[1.0]]])
    with pytest.raises(ValueError, match="no leaf called 'bias'"):
        BitFit().reparameterize(bare)
    chosen = SerialAdapter(1, layers="*")
    phi = jax.tree.map(lambda leaf: np.zeros(leaf.shape), chosen.additions(bare))
    phi["layers"]["0"]["up_bias"] = np.ones(1)
    zero = np.zeros((1, 1))
    assert (tuned(chosen, bare, phi)(zero).item(), bare(zero).item()) == (1, 0)


# --- one on top of another ---------------------------------------------------------------------------------


@pytest.mark.parametrize("config", TRANSFORMERS[:3:2], ids=short)
def test_extensions_stack_and_where_they_do_not_meet_the_order_is_free(config):
    network, x = network_of(config), inputs_of(config)
    additions = {
        chosen: drawn(chosen, network) for chosen in (Prefix(2), SerialAdapter(2), AttentionFusion())
    }
    expected = Reference(config, network.params, additions)(x)
    for order in itertools.permutations(additions):
        got = stacked(network, {chosen: additions[chosen] for chosen in order})
        agree(got(x), expected)
        assert bottom(got).architecture == config
        assert got.d == network.d + sum(tree.size(phi) for phi in additions.values())


def test_of_two_that_meet_the_one_applied_last_is_nearer_to_the_layer():
    config = TRANSFORMERS[1]
    network, x = network_of(config), inputs_of(config)
    serial, parallel = SerialAdapter(2), ParallelAdapter(2)
    additions = {chosen: drawn(chosen, network) for chosen in (serial, parallel)}
    expected = Reference(config, network.params, additions)(x)  # F + a, then what follows it
    agree(stacked(network, additions)(x), expected)
    other = stacked(network, {chosen: additions[chosen] for chosen in (parallel, serial)})
    assert np.abs(other(x) - expected).max() > 1e-3
