"""Theorem 2 for transformers: the chain, its rounding, budgets, and what must not pass."""

from itertools import product

import jax
import numpy as np
import pytest

from peftproof.models.activations import ACTIVATIONS
from peftproof.models.transformer import transformer
from peftproof.theorems.capacity import transformer as tb
from peftproof.theorems.capacity.attack import attack
from peftproof.theorems.capacity.transformer import attention as attention_module
from peftproof.theorems.capacity.transformer import norms as norms_module
from peftproof.theorems.capacity.transformer import perceptron as perceptron_module
from peftproof.theorems.capacity.transformer.bound import certify
from peftproof.theorems.capacity.transformer.forward import forward, unit_norm
from peftproof.theorems.capacity.transformer.layout import expected_shapes, flat
from peftproof.theorems.capacity.transformer.linear import Admitted
from peftproof.theorems.test_transformer_facts import VARIANTS, config, drawn, nested, plus, update


def example(seed, variant, scale, kind="noise", gain=1.0, **sizes):
    rng = np.random.default_rng(seed)
    cfg = config(variant, **sizes)
    base = drawn(cfg, rng, gain)
    tuned = plus(base, update(cfg, rng, kind, base), scale)
    return cfg, nested(base), nested(tuned), rng.normal(size=(3, cfg.length, cfg.features))


def violations(result):
    """Inputs at which a certificate lies below the truth, over output and all stages."""
    count = int(np.sum(result.chain < result.measured) + np.sum(result.range < result.measured))
    return count + sum(int(np.sum(layer.radius < layer.measured)) for layer in result.layers)


# ---------------------------------------------------------------------------------------- the chain


@pytest.mark.parametrize("variant", VARIANTS)
def test_no_certificate_is_below_the_truth(variant):
    kinds = ("noise", "aligned", "rank one", "attention", "norm", "embed")
    for seed, (scale, smooth) in enumerate(product(10.0 ** np.arange(-6, 1), ("gelu", "relu"))):
        name = smooth if seed % 3 else list(ACTIVATIONS)[seed % len(ACTIVATIONS)]
        sizes = {
            "activation": name,
            "length": 1 + seed % 5,
            "depth": 1 + seed % 3,
            "heads": (1, 2, 8)[seed % 3],
        }
        case = example(seed, variant, scale, kinds[seed % len(kinds)], gain=(1, 1, 4)[seed % 3], **sizes)
        for predict in (True, False):
            assert violations(tb.deviation_bound(*case, predict=predict)) == 0


def test_tokens_without_variance_are_covered():
    for variant in VARIANTS:
        cfg, base, tuned, x = example(0, variant, 1e-2, epsilon=1e-3)
        for params in (base, tuned):
            params["position"]["embedding"] *= 0
            params["embed"].pop("bias", None)
        base["embed"]["bias"] = tuned["embed"]["bias"] = np.zeros(8)
        if not cfg.biases:
            base["embed"].pop("bias"), tuned["embed"].pop("bias")
        assert violations(tb.deviation_bound(cfg, base, tuned, 0 * x)) == 0


@pytest.mark.parametrize("variant", VARIANTS)
def test_head_only_tuning_is_exact(variant):
    cfg, base, tuned, x = example(3, variant, 0.5)
    tuned = base | {"head": tuned["head"]}
    result = tb.deviation_bound(cfg, base, tuned, x)
    np.testing.assert_allclose(result.chain, result.measured, rtol=1e-7)
    assert all(layer.radius.max() < 1e-7 for layer in result.layers)


@pytest.mark.parametrize("variant", VARIANTS)
def test_bound_is_asymptotically_exact(variant):
    excess = {}
    for scale in (1e-5, 1e-4):
        result = tb.deviation_bound(*example(5, variant, scale, activation="tanh", depth=1))
        excess[scale] = np.median(result.bound / result.measured) - 1
        np.testing.assert_allclose(result.layers[0].radius, result.layers[0].measured, rtol=1e-6)
    assert 0 < excess[1e-5] < 1e-2
    assert 5 < excess[1e-4] / excess[1e-5] < 20, "the excess is of first order in the update"


def test_prediction_lies_within_its_certified_rest():
    cfg, base, tuned, x = example(7, VARIANTS[0], 1e-3)
    run, after = forward(cfg, base, x), forward(cfg, tuned, x)
    outcome, rounding = certify(cfg, base, Admitted(cfg, tuned), run, x)
    error = np.linalg.norm(after.output - run.output - outcome.centre, axis=-1)
    assert np.all(error <= outcome.rest + rounding)
    assert np.all(error > 0)


def chord_case(t=1.0):
    """A network that is its last norm, with an isometric head: the token moves to the foot of the tangent."""
    cfg = config(
        (True, "rms", False, False), length=1, depth=1, width=8, features=8, outputs=8, epsilon=1e-12
    )
    base = nested({p: np.zeros(s) for p, s in expected_shapes(cfg).items()})
    base["embed"]["kernel"], base["head"]["kernel"], base["norm"]["scale"] = np.eye(8), np.eye(8), np.ones(8)
    tuned = nested({p: leaf.copy() for p, leaf in flat(base).items()})
    x = np.eye(8)[None, :1]
    tuned["position"]["embedding"] = (t * np.array([[-t, np.sqrt(1 - t * t)] + [0] * 6])).astype(float)
    return cfg, base, tuned, x


@pytest.mark.parametrize("t", [0.1, 0.6, 0.95])
def test_ball_chain_attains_the_chord(t):
    result = tb.deviation_bound(*chord_case(t), predict=False)
    np.testing.assert_allclose(result.chain, result.measured, rtol=1e-5)


def test_range_is_attained_by_opposite_tokens():
    cfg, base, tuned, x = chord_case(0.5)
    tuned["position"]["embedding"] = -3.0 * np.eye(8)[:1]
    result = tb.deviation_bound(cfg, base, tuned, x)
    np.testing.assert_allclose(result.range, result.measured, rtol=1e-5)
    np.testing.assert_allclose(result.range, tb.range_bound(cfg, base, tuned, x))


def test_chain_beats_the_product_of_constants():
    ratios = []
    for seed, scale in product(range(5), (1e-5, 1e-3, 1e-1)):
        case = example(seed, VARIANTS[1], scale)
        result, plain = tb.deviation_bound(*case), tb.plain_chain(*case)
        assert np.all(plain >= result.measured)
        ratios.append(np.median(plain / result.bound))
    assert min(ratios) > 5
    assert np.median(ratios) > 100


def test_stages_are_reported_in_order():
    result = tb.deviation_bound(*example(0, VARIANTS[0], 1e-2))
    names = ["embed", "blocks/0/attention", "blocks/0/mlp", "blocks/1/attention", "blocks/1/mlp", "norm"]
    assert [layer.name for layer in result.layers] == names
    assert all(layer.slack >= 1 for layer in result.layers)
    assert result.slack >= 1
    assert np.array_equal(result.bound, np.minimum(result.chain, result.range))
    assert "3 inputs" in repr(result) and "blocks/0/mlp" in repr(result.layers[2])


def test_steps_converge_to_the_deviation():
    cfg, base, tuned, x = example(2, VARIANTS[0], 0.05, depth=1, activation="tanh")
    one = tb.deviation_bound(cfg, base, tuned, x)
    bounds = {m: tb.path_bound(cfg, base, tuned, x, steps=m) for m in (1, 32, 64)}
    np.testing.assert_allclose(bounds[1], one.chain, rtol=1e-12)
    assert all(np.all(bound >= one.measured) for bound in bounds.values())
    excess = {m: np.median(bound / one.measured) - 1 for m, bound in bounds.items()}
    assert excess[64] < 0.1
    assert 1.6 < excess[32] / excess[64] < 2.6, "the excess falls like 1/steps"


# ---------------------------------------------------------------------------------------- rounding


def extended(params):
    return nested({p: leaf.astype(np.longdouble) for p, leaf in flat(params).items()})


@pytest.mark.parametrize("variant", VARIANTS)
def test_rounding_of_the_run_is_allowed_for(variant):
    for seed, gain in product(range(3), (1, 5)):
        cfg, base, tuned, x = example(seed, variant, 1e-14, activation="tanh", gain=gain)
        base["position"]["embedding"] += 1e3  # centring then loses three digits
        tuned["position"]["embedding"] += 1e3
        run = forward(cfg, base, x)
        outcome, rounding = certify(cfg, base, Admitted(cfg, tuned), run, x)
        exact, moved = (forward(cfg, extended(p), x.astype(np.longdouble)) for p in (base, tuned))
        error = np.linalg.norm((run.output - exact.output).astype(float), axis=-1)
        true = np.linalg.norm((moved.output - exact.output).astype(float), axis=-1)
        assert np.all(error <= rounding)
        assert np.all(true <= outcome.bound + rounding)
        assert np.median(rounding) < 1e-3


def test_without_its_allowance_rounding_would_win():
    cfg, base, tuned, x = example(1, VARIANTS[0], 0.0, activation="tanh")
    run, exact = forward(cfg, base, x), forward(cfg, extended(base), x.astype(np.longdouble))
    error = np.linalg.norm((run.output - exact.output).astype(float), axis=-1)
    assert np.all(error > 0), "the deviation of a network from itself is not what float64 says"
    assert np.all(tb.deviation_bound(cfg, base, tuned, x).chain >= 2 * error)


# ---------------------------------------------------------------------------------------- negative controls


def found(cases, **options):
    return sum(violations(tb.deviation_bound(*case, **options)) for case in cases)


def sharp_cases():
    """Networks on which the chain has little slack: a last norm alone, attention that is about to choose."""
    yield chord_case(0.95)
    for seed in range(8):
        yield example(seed, VARIANTS[0], 1e-2, "embed", gain=4, depth=1, activation="identity")
        yield example(seed, VARIANTS[0], 1e-3, activation="tanh", depth=1)


def test_the_cases_of_the_controls_pass_untouched():
    assert found(sharp_cases()) == 0
    assert found(sharp_cases(), predict=False) == 0


def test_control_two_points_need_the_factor_two():
    x, y = np.array([1.0, 0.0]), np.array([0.0, 1.0])
    h, s = unit_norm(config((True, "rms", False, True), width=2, epsilon=1e-12), np.stack([x, y]))
    assert np.linalg.norm(h[0] - h[1]) > tb.two_point(np.linalg.norm(x - y), *s) / 2


def test_control_chord_without_its_factor(monkeypatch):
    monkeypatch.setattr(norms_module, "sphere_chord", lambda t: tb.sphere_chord(t) / 2)
    assert found(sharp_cases(), predict=False) > 0


@pytest.mark.parametrize("fact", ["softmax_move", "softmax_remainder"])
def test_control_softmax_without_its_oscillation(monkeypatch, fact):
    """Frozen attention weights: the mistake of treating attention as linear in the values."""
    monkeypatch.setattr(attention_module, fact, lambda oscillation, *_: 0 * oscillation)
    assert found(sharp_cases(), predict=fact == "softmax_remainder") > 0


def test_control_prediction_without_the_remainder_of_norms(monkeypatch):
    """A linearisation that is taken for the network."""
    monkeypatch.setattr(norms_module, "sphere_remainder", np.zeros_like)
    assert found(sharp_cases()) > 0


def kink_case():
    """The perceptron alone: attention adds nothing, and hidden units of ReLU change sign."""
    cfg, base, tuned, x = example(0, VARIANTS[0], 0.03, "embed", depth=1, activation="relu")
    up, nothing = base["blocks"]["0"]["mlp"]["up"], {"kernel": np.zeros((8, 8)), "bias": np.zeros(8)}
    for params in (base, tuned):
        params["blocks"]["0"]["attention"]["out"] = nothing
        params["blocks"]["0"]["mlp"]["up"] = {"kernel": 20 * up["kernel"], "bias": 0 * up["bias"]}
    return cfg, base, tuned, x


def test_control_prediction_without_the_remainder_of_the_perceptron(monkeypatch):
    assert found([kink_case()]) == 0
    monkeypatch.setattr(perceptron_module, "activation_remainder", lambda _name, _u, radius: 0 * radius)
    assert found([kink_case()]) > 0


def test_control_base_weights_on_base_activations():
    """(B) needs the tuned weights; with the base weights the products of updates are dropped."""
    cfg, base, tuned, x = chord_case(0.9)
    tuned = tuned | {"head": {"kernel": np.diag([1.0, 3.0] + [1.0] * 6)}}  # no effect on the base run
    result = tb.deviation_bound(cfg, base, tuned, x)
    assert violations(result) == 0
    run = forward(cfg, base, x)
    np.testing.assert_array_equal(run.pooled @ tuned["head"]["kernel"], run.output)
    slip, _ = certify(cfg, base, Admitted(cfg, tuned | {"head": base["head"]}), run, x, predict=False)
    assert np.all(slip.bound < result.measured)


def test_control_sampled_norms_are_no_norms(monkeypatch):
    """A few steps of power iteration approach the norm from below, and the certificate fails with it."""
    monkeypatch.setattr(
        tb.linear.linalg,
        "spectral_norm",
        lambda a: np.linalg.norm(a @ np.ones(a.shape[1])) / np.sqrt(a.shape[1]) / 2,
    )
    assert found(sharp_cases(), predict=False) > 0


# ---------------------------------------------------------------------------------------- budgets


def within(cfg, rng, budgets):
    """An update that uses up every budget."""
    change = {}
    for path, shape in expected_shapes(cfg).items():
        raw = rng.normal(size=shape)
        raw = np.outer(raw[:, 0], raw[0]) if len(shape) == 2 and rng.integers(2) else raw
        change[path] = raw * budgets.get(path, 0.0) / np.linalg.norm(raw, 2)
    return change


def all_budgets(cfg, base, scale, *, everything=True):
    chosen = {p: leaf for p, leaf in base.items() if everything or p.endswith("kernel")}
    return {p: scale * float(np.linalg.norm(leaf, 2)) for p, leaf in chosen.items()}


@pytest.mark.parametrize("variant", VARIANTS)
def test_budgets_cover_every_update_within_them(variant):
    for seed, scale in enumerate((1e-6, 1e-4, 1e-2, 0.1, 1.0)):
        rng, cfg = (
            np.random.default_rng(seed),
            config(variant, length=1 + seed, activation=list(ACTIVATIONS)[seed]),
        )
        base, x = drawn(cfg, rng), rng.normal(size=(3, cfg.length, 3))
        budgets = all_budgets(cfg, base, scale, everything=seed % 2)
        result, run = tb.budget_bound(cfg, nested(base), budgets, x), forward(cfg, nested(base), x)
        for _ in range(6):
            after = forward(cfg, nested(plus(base, within(cfg, rng, budgets), 1.0)), x)
            assert np.all(np.linalg.norm(after.output - run.output, axis=-1) <= result.bound)
            for name, stream in run.stages.items():
                assert np.all(np.linalg.norm(after.stages[name] - stream, axis=-1) <= result.radii[name])


@pytest.mark.parametrize("variant", VARIANTS[::5])
def test_budget_of_each_parameter_alone_covers_it(variant):
    rng, cfg = np.random.default_rng(9), config(variant, depth=1)
    base, x = drawn(cfg, rng), rng.normal(size=(3, 4, 3))
    run = forward(cfg, nested(base), x)
    for path, leaf in base.items():
        budgets = {path: 0.3 * float(np.linalg.norm(leaf, 2))}
        result, reached = tb.budget_bound(cfg, nested(base), budgets, x), 0.0
        for _ in range(4):
            after = forward(cfg, nested(plus(base, within(cfg, rng, budgets), 1.0)), x)
            deviation = np.linalg.norm(after.output - run.output, axis=-1)
            assert np.all(deviation <= result.bound), path
            reached = np.maximum(reached, deviation)
        drops_out = path.endswith("key/bias")
        assert np.all((reached > 1e-10) != drops_out)
        assert np.all(result.chain < 1e-7) == drops_out, (
            "the bias of the keys cannot matter, anything else can"
        )


def test_attack_lies_below_the_budget_bound_and_not_far():
    cfg = config(depth=1)
    network = transformer(cfg, jax.random.key(0), dtype=np.float64)
    base, x = flat(network.params), np.random.default_rng(0).normal(size=(2, 4, 3))
    for scale, factor in ((1e-4, 8), (1.0, 4)):
        budgets = all_budgets(cfg, base, scale, everything=False)
        reached = attack(network, budgets, x, key=jax.random.key(1), steps=8, restarts=1).deviation
        bound = tb.budget_bound(cfg, nested(base), budgets, x).bound
        assert np.all(reached <= bound)
        assert np.all(bound <= factor * reached), "the sandwich is thin at both ends"


def test_budget_of_the_head_is_its_supremum():
    cfg, base, _, x = example(0, VARIANTS[0], 0.0)
    pooled = forward(cfg, base, x).pooled
    bound = tb.budget_bound(cfg, base, {"head/kernel": 0.7, "head/bias": 0.2}, x)
    np.testing.assert_allclose(bound.chain, 0.7 * np.linalg.norm(pooled, axis=-1) + 0.2, rtol=1e-7)
    change = np.random.default_rng(1).normal(size=base["head"]["kernel"].shape)
    head = {
        "kernel": base["head"]["kernel"] + 0.7 * change / np.linalg.norm(change, 2),
        "bias": base["head"]["bias"],
    }
    assert np.all(tb.deviation_bound(cfg, base, base | {"head": head}, x).chain <= bound.chain)


def test_budgets_of_the_head_widen_the_range_by_their_share():
    cfg, base, _, x = example(0, VARIANTS[0], 0.0)
    budgets = {"head/kernel": 0.7, "head/bias": 0.2}
    none, both = (tb.budget_bound(cfg, base, chosen, x).range for chosen in ({}, budgets))
    scale, beta = base["norm"]["scale"], base["norm"]["bias"]
    share = 0.7 * (np.abs(scale).max() * np.sqrt(8) + np.linalg.norm(beta)) + 0.2
    np.testing.assert_allclose(both - none, share, rtol=1e-7)


@pytest.mark.parametrize("variant", VARIANTS)
def test_budgets_are_monotone(variant):
    rng, cfg = np.random.default_rng(4), config(variant)
    base, x = drawn(cfg, rng), rng.normal(size=(2, 4, 3))
    budgets = all_budgets(cfg, base, 1e-2)
    before = tb.budget_bound(cfg, nested(base), budgets, x)
    for path in list(budgets)[::5]:
        after = tb.budget_bound(cfg, nested(base), budgets | {path: 3 * budgets[path]}, x)
        assert np.all(after.chain >= before.chain * (1 - 1e-12))
        assert np.all(after.range >= before.range * (1 - 1e-12))
    nothing = tb.budget_bound(cfg, nested(base), {}, x)
    assert nothing.chain.max() < 1e-7
    assert "2 inputs" in repr(nothing)


# ---------------------------------------------------------------------------------------- the boundary


def test_wrong_arguments_are_named():
    cfg, base, tuned, x = example(0, VARIANTS[0], 0.1)
    leaves = flat(base)
    wrong = {
        "missing": {p: leaf for p, leaf in leaves.items() if p != "head/kernel"},
        "unknown": leaves | {"head/extra": np.zeros(3)},
        "shape": leaves | {"head/kernel": np.zeros((3, 8))},
        "float64": leaves | {"head/kernel": leaves["head/kernel"].astype(np.float32)},
        "NaN": leaves | {"head/kernel": np.full((8, 3), np.nan)},
    }
    for word, broken in wrong.items():
        with pytest.raises(ValueError, match=f"tuned.*{word}"):
            tb.deviation_bound(cfg, base, nested(broken), x)
    for bad in (x[0], x[:0], x[:, :2], x.astype(np.float32)):
        with pytest.raises(ValueError, match="x"):
            tb.deviation_bound(cfg, base, tuned, bad)
    with pytest.raises(ValueError, match="no parameters"):
        tb.budget_bound(cfg, base, {"head/kernels": 1.0}, x)
    for value in (-1.0, np.inf, np.nan):
        with pytest.raises(ValueError, match="finite"):
            tb.budget_bound(cfg, base, {"head/kernel": value}, x)
    with pytest.raises(ValueError, match="steps"):
        tb.path_bound(cfg, base, tuned, x, steps=0)
    with pytest.raises(ValueError, match="pre-norm"):
        tb.plain_chain(*example(0, VARIANTS[-1], 0.1))
