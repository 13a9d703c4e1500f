"""The maps g(Φ) against the methods as they are usually applied, and against finite differences."""

import functools
import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.flatten_util import ravel_pytree

from peftproof.models import (
    IA3,
    BitFit,
    Full,
    Head,
    LoRA,
    MLPConfig,
    Network,
    TransformerConfig,
    method,
    mlp,
    mlp_from_arrays,
    plain,
    transformer,
    tree,
)

KEY = jax.random.key(0)
SIZES = {"features": 3, "length": 5, "width": 8, "depth": 2, "heads": 2, "hidden": 12, "outputs": 4}
MLPS = [
    MLPConfig((6, 7, 7, 4), activation, output, biases)
    for (activation, output), biases in itertools.product(
        [("tanh", "identity"), ("relu", "identity"), ("gelu", "softplus"), ("silu", "sigmoid")], [True, False]
    )
]
TRANSFORMERS = [
    TransformerConfig(**SIZES, causal=causal, norm_first=norm_first, norm=norm, activation=act, biases=biases)
    for causal, norm_first, norm, (act, biases) in itertools.product(
        [False, True], [True, False], ["layer", "rms"], [("gelu", True), ("relu", False)]
    )
]
METHODS = [
    Full(),
    Full("*kernel"),
    Head(),
    LoRA(rank=2),
    LoRA(rank=1, scale=0.5, targets="*0*kernel", ranks={"*0*": 3}),
    BitFit(),
    IA3(),
]


@functools.cache
def network_of(config):
    """A float64 network whose parameters are all off their initial values."""
    build = mlp if isinstance(config, MLPConfig) else transformer
    network = build(config, KEY, jnp.float64)
    return network.with_params(moved(network.params))


def moved(values, scale=0.3, seed=1):
    """A tree with Gaussian noise added to all leaves."""
    leaves, structure = jax.tree.flatten(values)
    rng = np.random.default_rng(seed)
    return jax.tree.unflatten(structure, [leaf + scale * rng.normal(size=leaf.shape) for leaf in leaves])


def inputs_of(config):
    shape = config.widths[:1] if isinstance(config, MLPConfig) else (config.length, config.features)
    return np.random.default_rng(2).normal(size=(5 if len(shape) == 1 else 2, *shape))


def short(config):
    parts = [config.activation]
    if isinstance(config, TransformerConfig):
        parts += [
            "causal" if config.causal else "encoder",
            "pre" if config.norm_first else "post",
            config.norm,
        ]
    return "-".join([*parts, "biases" if config.biases else "plain"])


def has_biases(config):
    return any(path.endswith("bias") for path in tree.paths(network_of(config).params))


each_method = pytest.mark.parametrize("chosen", METHODS, ids=lambda each: each.name)
SMALL = (MLPConfig((4, 5, 3), "tanh"), TransformerConfig(**SIZES | {"depth": 1}))
each_small_network = pytest.mark.parametrize("config", SMALL, ids=["mlp", "transformer"])


@pytest.mark.parametrize("config", [*MLPS, *TRANSFORMERS], ids=short)
def test_update_of_parameters_equals_the_method_applied_the_ordinary_way(config):
    network, x = network_of(config), inputs_of(config)
    for chosen in METHODS:
        if chosen == BitFit() and not has_biases(config):
            continue
        made = chosen.reparameterize(network)
        phi = moved(made.init(KEY))
        expected = chosen.ordinary(network, phi)(x)
        got = network.apply(made.apply(network.params, phi), x)
        np.testing.assert_allclose(got, expected, rtol=1e-12, atol=1e-12, err_msg=chosen.name)
        assert got.dtype == np.float64
        assert np.abs(got - network(x)).max() > 1e-3, f"{chosen.name} did nothing"


def test_that_comparison_would_notice_a_billionth():
    # Its negative control: one entry of Φ off by 1e-9 must not pass.
    config = TRANSFORMERS[0]
    network, x, chosen = network_of(config), inputs_of(config), LoRA(2)
    made = chosen.reparameterize(network)
    vector, unravel = ravel_pytree(moved(made.init(KEY)))
    expected = chosen.ordinary(network, unravel(vector))(x)
    got = network.apply(made.apply(network.params, unravel(vector.at[0].add(1e-9))), x)
    with pytest.raises(AssertionError):
        np.testing.assert_allclose(got, expected, rtol=1e-12, atol=1e-12)


@each_method
@each_small_network
def test_initialisation_changes_nothing(config, chosen):
    network = network_of(config)
    made = chosen.reparameterize(network)
    phi = made.init(KEY)
    assert not any(leaf.any() for leaf in jax.tree.leaves(made.g(phi)))
    assert {leaf.dtype for leaf in jax.tree.leaves(phi)} == {made.dtype} == {network.dtype}
    assert (made.k, made.d) == (tree.size(phi), network.d)


@each_method
@each_small_network
def test_update_has_the_shapes_of_the_parameters_and_is_zero_where_untouched(config, chosen):
    network = network_of(config)
    made = chosen.reparameterize(network)
    update = made.g(moved(made.init(KEY)))
    tree.check_like(update, network.params, "update")
    changed = tuple(path for path, leaf in tree.paths(update).items() if leaf.any())
    assert changed == made.touched()


@each_method
def test_jacobian_agrees_with_finite_differences_and_with_its_transpose(chosen):
    network = network_of(SMALL[0])
    made = chosen.reparameterize(network)
    phi = moved(made.init(KEY))
    vector, unravel = ravel_pytree(phi)
    rng = np.random.default_rng(3)
    v, w = rng.normal(size=made.k), rng.normal(size=made.d)
    # All maps here are quadratic at most, so central differences are exact but for rounding.
    ahead, behind = (ravel_pytree(made.g(unravel(vector + sign * v)))[0] for sign in (1, -1))

    @jax.jit
    def products(phi, v, w):
        operator = made.jacobian(phi)
        return operator.mv(v), operator.T.mv(w), operator.as_matrix()

    forward, backward, matrix = products(phi, v, w)
    np.testing.assert_allclose(forward, (ahead - behind) / 2, atol=1e-13)
    np.testing.assert_allclose(w @ forward, backward @ v, rtol=1e-12, atol=1e-13)
    assert matrix.shape == (made.d, made.k)
    np.testing.assert_allclose(matrix @ v, forward, atol=1e-13)


def test_jacobian_of_full_fine_tuning_is_the_identity():
    made = Full().reparameterize(network_of(SMALL[0]))
    np.testing.assert_array_equal(made.jacobian(made.init(KEY)).as_matrix(), np.eye(made.d))


def rank_and_gap(matrix, expected):
    """Numerical rank, and the ratio of the singular values on its two sides."""
    values = np.linalg.svd(np.asarray(matrix), compute_uv=False)
    rank = int((values > 1e-9 * values[0]).sum())
    after = values[expected] if expected < len(values) else 0.0
    return rank, values[expected - 1] / max(after, np.finfo(float).tiny)


@pytest.mark.parametrize("rank", [1, 3])
def test_tangent_rank_of_lora_drops_at_its_initialisation(rank):
    # A update (in, out) of rank r has r (in + out − r) degrees of freedom; with B = 0 only r · out are left.
    shapes = [(6, 7), (7, 4)]
    network = mlp(MLPConfig((6, 7, 4), biases=False), KEY, jnp.float64)
    made = LoRA(rank).reparameterize(network)
    start = made.init(KEY)
    matrix_at = jax.jit(lambda phi: made.jacobian(phi).as_matrix())
    for phi, known in (
        (start, sum(rank * fan_out for _, fan_out in shapes)),
        (moved(start), sum(rank * (fan_in + fan_out - rank) for fan_in, fan_out in shapes)),
    ):
        found, gap = rank_and_gap(matrix_at(phi), known)
        assert found == known
        assert gap > 1e6
    assert made.k == sum(rank * (fan_in + fan_out) for fan_in, fan_out in shapes)


def test_lora_update_is_the_scaled_product():
    network = network_of(SMALL[0])
    phi = moved(LoRA(2).reparameterize(network).init(KEY))
    pair = phi["layers"]["1"]["kernel"]
    update = LoRA(2, scale=0.5).reparameterize(network).g(phi)["layers"]["1"]["kernel"]
    np.testing.assert_allclose(update, 0.5 * np.asarray(pair["A"]) @ np.asarray(pair["B"]), rtol=1e-13)
    assert np.linalg.matrix_rank(update) == 2


def test_lora_ranks_are_chosen_per_layer_by_the_first_pattern():
    network = network_of(MLPS[0])
    made = LoRA(1, ranks={"layers/1/*": 3, "layers/*": 2}).reparameterize(network)
    columns = {path: leaf.shape[1] for path, leaf in tree.paths(made.template).items() if path.endswith("A")}
    assert columns == {"layers/0/kernel/A": 2, "layers/1/kernel/A": 3, "layers/2/kernel/A": 2}


def test_lora_draws_differ_between_layers_and_keys_and_repeat_for_a_key():
    made = LoRA(2).reparameterize(network_of(MLPConfig((5, 5, 5))))
    first, again, other = made.init(KEY), made.init(KEY), made.init(jax.random.key(1))
    A = [phi["layers"][i]["kernel"]["A"] for phi in (first, again, other) for i in ("0", "1")]
    np.testing.assert_array_equal(A[0], A[2])
    assert not np.allclose(A[0], A[1])
    assert not np.allclose(A[0], A[4])


def test_ia3_scales_by_hand():
    W1, W2 = np.array([[1.0, 2.0], [3.0, 4.0]]), np.array([[1.0, -1.0]])
    network = mlp_from_arrays([W1, W2], [np.ones(2), np.ones(1)], "relu")
    update = IA3().reparameterize(network).g({"layers": {"1": np.array([3.0, 5.0])}})
    np.testing.assert_array_equal(update["layers"]["1"]["kernel"], [[2.0], [-4.0]])
    outputs = IA3(outputs="layers/0").reparameterize(network).g({"layers": {"0": np.array([3.0, 5.0])}})
    np.testing.assert_array_equal(outputs["layers"]["0"]["kernel"], (np.diag([2.0, 4.0]) @ W1).T)
    np.testing.assert_array_equal(outputs["layers"]["0"]["bias"], [2.0, 4.0])


@each_small_network
def test_each_method_touches_what_it_should(config):
    network = network_of(config)
    paths = tuple(tree.paths(network.params))
    touched = {
        name: method(name).reparameterize(network).touched() for name in ("full", "head", "bitfit", "ia3")
    }
    assert touched["full"] == paths
    assert touched["bitfit"] == tuple(path for path in paths if path.endswith("/bias"))
    lora = method("lora-r2").reparameterize(network).touched()
    assert lora == tuple(path for path in paths if path.endswith("/kernel"))
    if isinstance(config, MLPConfig):
        assert touched["head"] == ("layers/1/bias", "layers/1/kernel")
        assert touched["ia3"] == ("layers/1/kernel",)
    else:
        block = "blocks/0"
        assert touched["head"] == ("head/bias", "head/kernel")
        assert touched["ia3"] == (
            *(f"{block}/attention/key/{leaf}" for leaf in ("bias", "kernel")),
            *(f"{block}/attention/value/{leaf}" for leaf in ("bias", "kernel")),
            f"{block}/mlp/down/kernel",
        )


def test_maps_can_be_compiled_vmapped_and_differentiated():
    network, x = network_of(SMALL[0]), inputs_of(SMALL[0])
    made = LoRA(2).reparameterize(network)
    phis = jax.vmap(made.init)(jax.random.split(KEY, 3))

    def loss(theta0, phi):
        return (network.apply(made.apply(theta0, phi), x) ** 2).sum()

    gradients = jax.jit(jax.vmap(jax.grad(loss, argnums=1), in_axes=(None, 0)))(network.params, phis)
    one = jax.jit(jax.grad(loss, argnums=1))(network.params, jax.tree.map(lambda leaf: leaf[1], phis))
    for batch, single in zip(jax.tree.leaves(gradients), jax.tree.leaves(one), strict=True):
        np.testing.assert_allclose(batch[1], single, rtol=1e-12, atol=1e-13)


# --- names -------------------------------------------------------------------------------------------------


def test_names_tell_settings_apart():
    names = [
        each.name
        for each in (*METHODS, LoRA(4), LoRA(4, targets="*0*"), IA3(outputs="head"), Full("*a", "mine"))
    ]
    assert len(set(names)) == len(names)
    assert [Full().name, Head().name, LoRA(4).name, BitFit().name, IA3().name] == [
        "full",
        "head",
        "lora-r4",
        "bitfit",
        "ia3",
    ]
    assert Full("*a", "mine").name == "mine"


@pytest.mark.parametrize("each", [Full(), Head(), LoRA(1), LoRA(12), BitFit(), IA3()], ids=lambda m: m.name)
def test_names_lead_back_to_the_method(each):
    assert method(each.name) == each
    assert hash(method(each.name)) == hash(each)


def test_repr_gives_the_counts():
    made = LoRA(1).reparameterize(network_of(SMALL[0]))
    assert repr(made) == "Reparameterization('lora-r1', k=17, d=43, touches 2 of 4 leaves)"


# --- networks of the users ---------------------------------------------------------------------------------


def own_apply(params, x):
    return own_wrapped(params, x, plain)


def own_wrapped(params, x, wrap):
    return wrap("slope", lambda h: h @ params["slope"], x)


OWN = Network(own_apply, {"slope": np.ones((3, 2))}, name="own", wrapped=own_wrapped)
MUTE = Network(own_apply, {"slope": np.ones((3, 2))}, name="mute")
DEAF = Network(own_apply, {"slope": np.ones((3, 2))}, name="deaf", wrapped=lambda p, x, wrap: own_apply(p, x))


def test_lora_works_on_a_network_with_names_of_its_own():
    chosen = LoRA(1, targets="slope")
    made = chosen.reparameterize(OWN)
    phi, x = moved(made.init(KEY)), np.ones((1, 3))
    np.testing.assert_allclose(
        OWN.apply(made.apply(OWN.params, phi), x), chosen.ordinary(OWN, phi)(x), rtol=1e-13
    )


def lora_phi(network):
    return LoRA(1, targets="slope").reparameterize(network).init(KEY)


# --- refusals ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (lambda: method("lora"), "got 'lora', needs one of full, head, top-<N>, lora-r<N>, "),
        (lambda: method("lora-rx"), "got 'lora-rx'"),
        (lambda: method("prefix"), "got 'prefix'"),
        (lambda: method("lora-r0"), "rank: got 0"),
        (lambda: LoRA(rank=-1), "rank: got -1"),
        (lambda: LoRA(ranks={"*": 0}), "rank: got 0 for '.', needs a positive integer"),
        (lambda: LoRA(scale=0.0), "scale: got 0"),
        (lambda: LoRA(scale=float("nan")), "scale: got nan"),
        (lambda: LoRA(4).reparameterize(network_of(SMALL[0])), r"rank: got 4 for .* needs at most 3"),
        (
            lambda: LoRA(targets="*query*").reparameterize(network_of(SMALL[0])),
            "'.query.' matches no parameter",
        ),
        (
            lambda: LoRA(1, ranks={"x": 2}).reparameterize(network_of(SMALL[0])),
            "'x' matches no target of LoRA",
        ),
        (lambda: LoRA(1, targets="*bias").reparameterize(network_of(SMALL[0])), "needs two axes"),
        (
            lambda: Full("decoder/*").reparameterize(network_of(SMALL[0])),
            r"matches no parameter; .*layers/0/bias",
        ),
        (lambda: BitFit().reparameterize(network_of(MLPS[1])), "no leaf called 'bias'"),
        (lambda: IA3().reparameterize(network_of(MLPConfig((6, 4)))), "one layer"),
        (lambda: IA3(outputs="x").reparameterize(network_of(SMALL[0])), "'x' matches no linear layer"),
        (lambda: IA3("layers/*", "layers/1").reparameterize(network_of(SMALL[0])), "among the outputs too"),
        (lambda: IA3().reparameterize(OWN), "where IA3 scales 'own' is not known"),
        (lambda: Head().reparameterize(OWN), "the last layer of 'own' is not known"),
        (lambda: LoRA(1, targets="slope").ordinary(MUTE, lora_phi(MUTE)), "'mute' has no hook"),
        (
            lambda: LoRA(1, targets="slope").ordinary(DEAF, lora_phi(DEAF))(np.ones((1, 3))),
            "'deaf' never called wrap for slope, but for nothing",
        ),
    ],
)
def test_methods_that_do_not_fit_are_refused(build, message):
    with pytest.raises(ValueError, match=message):
        build()


@each_method
def test_phi_of_another_network_is_refused(chosen):
    network, other = network_of(SMALL[0]), network_of(MLPConfig((6, 7, 4)))
    made, phi = chosen.reparameterize(network), chosen.reparameterize(other).init(KEY)
    for use in (made.g, made.jacobian, lambda phi: chosen.ordinary(network, phi)):
        with pytest.raises(ValueError, match=r"phi: .* has shape"):
            use(phi)
        with pytest.raises(ValueError, match=r"phi: missing .*, unknown \['x'\]"):
            use({"x": np.ones(2)})


def test_base_parameters_of_another_network_are_refused():
    made = LoRA(1).reparameterize(network_of(SMALL[0]))
    with pytest.raises(ValueError, match=r"theta0: .* has shape"):
        made.apply(network_of(MLPConfig((6, 7, 4))).params, made.init(KEY))
