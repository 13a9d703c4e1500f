"""Theorem 2 for transformers: each local fact by itself, where it is attained, and the network's twin."""

from itertools import product

import jax
import numpy as np
import pytest
import sympy
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from peftproof.models import tree
from peftproof.models.activations import ACTIVATIONS
from peftproof.models.transformer import TransformerConfig, transformer
from peftproof.theorems.capacity import transformer as tb
from peftproof.theorems.capacity.scalars import SCALARS, SLOPES
from peftproof.theorems.capacity.transformer.attention import Attention
from peftproof.theorems.capacity.transformer.enclosure import Enclosure
from peftproof.theorems.capacity.transformer.extents import Extents
from peftproof.theorems.capacity.transformer.forward import attend, forward, perceptron, unit_norm
from peftproof.theorems.capacity.transformer.layout import expected_shapes
from peftproof.theorems.capacity.transformer.linear import Admitted
from peftproof.theorems.capacity.transformer.norms import UnitNorm
from peftproof.theorems.capacity.transformer.perceptron import CURVATURE, Perceptron
from peftproof.theorems.capacity.transformer.rounding import Margin, schatten_norms
from peftproof.theorems.capacity.transformer.softmax import Sight

VARIANTS = list(product((True, False), ("layer", "rms"), (True, False), (True, False)))
PATHS = st.integers(0, 10**6)


def config(variant=(True, "layer", False, True), **sizes):
    norm_first, norm, causal, biases = variant
    shape = {
        "features": 3,
        "length": 4,
        "width": 8,
        "depth": 2,
        "heads": 2,
        "hidden": 12,
        "outputs": 3,
    } | sizes
    return TransformerConfig(**shape, norm_first=norm_first, norm=norm, causal=causal, biases=biases)


def nested(leaves):
    return tree.from_paths(leaves)


def drawn(cfg, rng, gain=1.0):
    """Random parameters: kernels of about unit norm, scales around 1."""
    leaves = {}
    for path, shape in expected_shapes(cfg).items():
        spread = gain / np.sqrt(shape[0]) if path.endswith("kernel") else 0.3
        leaves[path] = path.endswith("scale") + spread * rng.normal(size=shape)
    return leaves


def update(cfg, rng, kind, base):
    """An update of relative size 1: independent, aligned with the weights, of rank one, or in some leaves."""
    noise = {p: rng.normal(size=s) / np.sqrt(s[0]) for p, s in expected_shapes(cfg).items()}
    if kind == "aligned":
        return dict(base)
    if kind == "rank one":
        return {p: np.outer(n[:, 0], n[0]) if p.endswith("kernel") else 0 * n for p, n in noise.items()}
    if kind in ("attention", "norm", "embed"):
        return {p: n * (kind in p) for p, n in noise.items()}
    return noise


def plus(base, change, scale):
    return {p: leaf + scale * change[p] for p, leaf in base.items()}


# ------------------------------------------------------------------------------------ the network's twin


@pytest.mark.parametrize("variant", VARIANTS)
def test_forward_agrees_with_flax(variant):
    for name in list(ACTIVATIONS)[:: 1 if variant == VARIANTS[0] else 5]:
        cfg = config(variant, activation=name)
        network = transformer(cfg, jax.random.key(1), dtype=np.float64)
        leaves = {p: np.asarray(leaf) for p, leaf in tree.paths(network.params).items()}
        assert {p: leaf.shape for p, leaf in leaves.items()} == expected_shapes(cfg)
        params = plus(leaves, update(cfg, np.random.default_rng(0), "noise", leaves), 0.3)
        x = np.random.default_rng(1).normal(size=(5, cfg.length, cfg.features))
        wanted = np.asarray(network.apply(nested(params), x))
        np.testing.assert_allclose(forward(cfg, nested(params), x).output, wanted, rtol=1e-12, atol=1e-13)


# ------------------------------------------------------------------------------------ local facts


def softmax(u):
    e = np.exp(u - u.max())
    return e / e.sum()


@given(arrays(float, 4, elements=st.floats(-8, 8)), arrays(float, 4, elements=st.floats(-6, 6)))
def test_softmax_facts_hold(u, d):
    p, q, osc = softmax(u), softmax(u + d), np.ptp(d)
    move, bend = np.abs(q - p).sum() / 2, np.abs(q - p - p * (d - p @ d)).sum() / 2
    sharp = tb.softmax_move(osc, p.max())
    assert move <= sharp + 1e-15
    assert sharp <= tb.softmax_move(osc) * (1 + 1e-12) + 1e-15
    assert tb.softmax_move(osc) <= tb.softmax_lipschitz(osc) * (1 + 1e-12) + 1e-15
    assert bend <= tb.softmax_remainder(osc) + 1e-15


def test_softmax_facts_are_attained():
    for osc in (0.1, 1.0, 5.0, 30.0):
        m = 1 / (1 + np.exp(osc / 2))
        p, q = np.array([m, 1 - m]), softmax(np.log([m, 1 - m]) + np.array([osc, 0]))
        assert np.isclose(q[0] - p[0], tb.softmax_move(osc), rtol=1e-12)
        assert np.isclose(tb.softmax_move(osc), np.tanh(osc / 4), rtol=1e-12)
        m = 0.01  # a choice already made: the bound knows it, and this move attains it
        q = softmax(np.log([m, 1 - m]) + np.array([osc, 0]))
        wanted = q[0] - m if m < 1 / (1 + np.exp(osc / 2)) else np.tanh(osc / 4)
        assert np.isclose(tb.softmax_move(osc, 1 - m), wanted, rtol=1e-9)
    m, osc = (3 - np.sqrt(3)) / 6, 1e-3
    p, d = np.array([m, 1 - m]), np.array([osc, 0])
    bend = np.abs(softmax(np.log(p) + d) - p - p * (d - p @ d)).sum() / 2
    assert np.isclose(bend, tb.softmax_remainder(osc), rtol=2e-3)


@given(PATHS, st.sampled_from(["layer", "rms"]), st.floats(-4, 1), st.floats(-6, 0))
def test_norm_facts_hold(seed, norm, log_distance, log_epsilon):
    rng = np.random.default_rng(seed)
    cfg = config((True, norm, False, True), epsilon=10**log_epsilon)
    x = rng.normal(size=(1, 4, 8)) * 10.0 ** rng.uniform(-3, 1)
    y = x + 10**log_distance * rng.normal(size=x.shape) * rng.choice([1, 0], size=x.shape)
    distance, unit = np.linalg.norm(y - x, axis=-1), UnitNorm(cfg, x, Margin.of(cfg))
    (h, s), (k, s_y) = unit_norm(cfg, x), unit_norm(cfg, y)
    move, known = np.linalg.norm(k - h, axis=-1), Enclosure.ball(x, distance)
    bend = np.linalg.norm(k - h - unit.tangent(y - x), axis=-1)
    from_base = tb.two_point_from_base(distance, s, cfg.width, cfg.epsilon)
    near = 1 + 1e-10
    assert np.all(move <= tb.two_point(distance, s, s_y) * near + 1e-13)
    assert np.all(tb.two_point(distance, s, s_y) <= from_base * near)
    assert np.all(move <= unit.ball(known))
    assert np.all(unit.ball(known) <= from_base * near + 1e-10), "the chord is never worse than two points"
    assert np.all(bend <= unit.remainder(known))
    assert np.all(np.linalg.norm(k, axis=-1) <= tb.norm_radius(cfg, np.ones(8)))
    assert np.all(move <= tb.norm_lipschitz(cfg, np.ones(8)) * distance * near + 1e-13)


def test_chord_and_remainder_are_sharp():
    for t in (0.01, 0.3, 0.9):
        angle = np.linspace(0, np.pi, 40001)
        y = np.stack([1 + t * np.cos(angle), t * np.sin(angle)])
        unit = y / np.linalg.norm(y, axis=0)
        assert np.isclose(np.hypot(unit[0] - 1, unit[1]).max(), tb.sphere_chord(t), rtol=1e-6)
        bend = np.hypot(unit[0] - 1, unit[1] - y[1]).max()
        assert bend <= tb.sphere_remainder(t) <= (1.1 if t < 0.9 else 1.2) * bend
    assert np.isclose(tb.sphere_remainder(1e-4), 1e-8 / np.sqrt(3), rtol=1e-3)


@pytest.mark.parametrize("name", list(ACTIVATIONS))
def test_activation_facts_hold_and_constants_are_sharp(name):
    rng = np.random.default_rng(0)
    u, radius = rng.normal(size=4000) * 3, 10.0 ** rng.uniform(-4, 1, size=4000)
    d = radius * rng.choice([-1, 1, 0.5, -0.3], size=4000)
    sigma = SCALARS[name]
    change = np.abs(sigma(u + d) - sigma(u))
    bend = np.abs(sigma(u + d) - sigma(u) - SLOPES[name](u) * d)
    assert np.all(change <= tb.activation_change(name, u, radius) + 1e-15)
    assert np.all(bend <= tb.activation_remainder(name, u, radius) + 1e-14)
    if name in CURVATURE and name != "identity":
        z = np.linspace(-12, 12, 200001)
        steepest = np.abs(np.diff(SLOPES[name](z)) / np.diff(z)).max()
        assert CURVATURE[name] * (1 - 1e-3) <= steepest <= CURVATURE[name] * (1 + 1e-9)
    assert (name in CURVATURE) == ACTIVATIONS[name].smooth


def piece_at(cfg, params, h, kind, budgets=()):
    admitted, margin = Admitted(cfg, params, dict(budgets)), Margin.of(cfg)
    if kind == "attention":
        layers = {n: admitted.layer(f"blocks/0/attention/{n}") for n in ("query", "key", "value", "out")}
        return Attention(cfg, layers, h, np.inf, margin), attend
    up, down = (admitted.layer(f"blocks/0/mlp/{n}") for n in ("up", "down"))
    return Perceptron(cfg.activation, up, down, h, margin), perceptron


@given(PATHS, st.sampled_from(["attention", "mlp"]), st.booleans(), st.integers(1, 5), st.floats(-5, 1))
def test_pieces_hold_around_their_tokens(seed, kind, causal, length, log_size):
    rng = np.random.default_rng(seed)
    name = str(rng.choice(list(ACTIVATIONS)))
    cfg = config((True, "layer", causal, True), length=length, activation=name)
    params, h = nested(drawn(cfg, rng, gain=rng.choice([0.5, 1, 4]))), rng.normal(size=(2, length, 8))
    piece, layer = piece_at(cfg, params, h, kind)
    centre, rest = rng.normal(size=h.shape) * 10**log_size, 10.0 ** rng.uniform(-6, 1, size=(2, length))
    off = rng.normal(size=h.shape)
    off *= (rest / np.linalg.norm(off, axis=-1))[..., None]
    x = Enclosure.of(centre, rest, 0 * rest)
    layers = params["blocks"]["0"][kind]
    change = layer(cfg, layers, h + centre + off) - layer(cfg, layers, h)
    size = np.linalg.norm(change, axis=-1)
    assert np.all(size <= piece.ball(x))
    assert np.all(size <= piece.ball(Enclosure.ball(h, x.radius))), "with nothing known but the radius"
    assert np.all(
        np.linalg.norm(change - piece.tangent(centre + off), axis=-1) <= piece.remainder(x) * (1 + 1e-9)
    )
    assert np.all(np.linalg.norm(piece.tangent(off), axis=-1) <= piece.linear(rest))
    c = rng.normal(size=(3, *h.shape))
    both = np.sum(c * piece.tangent(off), (2, 3)), np.sum(piece.adjoint(c) * off, (2, 3))
    np.testing.assert_allclose(*both, rtol=1e-9, atol=1e-11 * np.abs(c).sum())


def test_unknown_layer_behind_a_norm_attains_its_budgets():
    """Everything aligned with one axis: budgets of kernel, bias, scale and shift add up without slack."""
    cfg, axis = config((True, "layer", False, True)), np.eye(8)[0]
    base = {path: 0 * leaf for path, leaf in drawn(cfg, np.random.default_rng(0)).items()}
    base["head/kernel"][0, 0], base["norm/scale"][0], base["norm/bias"][0] = 2.0, 1.5, 0.7
    budgets = {"head/kernel": 0.3, "head/bias": 0.2, "norm/scale": 0.4, "norm/bias": 0.1}
    h, d = 0.9 * axis, 0.25
    # RMSNorm has no β in our networks; without centring the same formula is attained with it.
    layer = Admitted(config((True, "rms", False, True)), nested(base), budgets).behind("norm", "head", h)
    tuned = ((1.5 + 0.4) * (0.9 + d) + 0.7 + 0.1) * (2.0 + 0.3) + 0.2
    known = layer(h)[0] + d * layer.kernel[0, 0]
    assert np.isclose(tuned - known, layer.shift(np.linalg.norm(h)) + layer.phi * d, rtol=1e-9)
    assert np.isclose((0.7 + 0.1) * (2.0 + 0.3) + 0.2 - layer.bias[0], layer.phi_bias, rtol=1e-9)
    key = Admitted(cfg, nested(base), budgets).behind("norm", "head", h, bias=False)
    assert key.bias[0] == 0 and key.phi_bias < 1e-9, "what is constant over the tokens is left out for keys"


@pytest.mark.parametrize(("first", "second"), [("attention/value", "attention/out"), ("mlp/up", "mlp/down")])
def test_pieces_attain_budgets_of_two_layers(first, second):
    """One token, no curvature, all aligned: (h + d)(V + φ)(O + ψ) − hVO, with every product of errors."""
    cfg, axis = config(length=1, heads=1, hidden=8, activation="identity"), np.zeros((8, 8))
    axis[0, 0] = 1.0
    base = {path: 0 * leaf for path, leaf in drawn(cfg, np.random.default_rng(0)).items()}
    base |= {f"blocks/0/{first}/kernel": 1.3 * axis, f"blocks/0/{second}/kernel": 0.8 * axis}
    budgets = {
        f"blocks/0/{first}/kernel": 0.4,
        f"blocks/0/{second}/kernel": 0.3,
        f"blocks/0/{first}/bias": 0.2,
    }
    h, d = 0.9 * axis[None, :1], 0.25
    piece, _ = piece_at(cfg, nested(base), h, first.split("/")[0], budgets)
    true = ((0.9 + d) * (1.3 + 0.4) + 0.2) * (0.8 + 0.3) - 0.9 * 1.3 * 0.8
    ball, moved = Enclosure.ball(h, np.full((1, 1), d)), Enclosure.of(d * h / 0.9, *np.zeros((2, 1, 1)))
    np.testing.assert_allclose(piece.ball(ball), true, rtol=1e-7)
    np.testing.assert_allclose(piece.remainder(moved), true - d * 1.3 * 0.8, rtol=1e-7)


@pytest.mark.parametrize("causal", [True, False])
def test_extents_agree_with_their_definitions(causal):
    rng, sight = np.random.default_rng(0), Sight(causal)
    points, values = rng.normal(size=(5, 6, 3)), rng.uniform(size=(5, 6))
    for t in range(6):
        seen = slice(0, t + 1 if causal else 6)
        pairs = np.linalg.norm(points[:, None, seen] - points[:, seen, None], axis=-1)
        np.testing.assert_allclose(sight.diameter(points)[:, t], pairs.max((1, 2)))
        np.testing.assert_allclose(sight.largest(values)[:, t], values[:, seen].max(-1))
        two = np.sort(values[:, seen], axis=-1)[:, -2:].sum(-1) * (t > 0 or not causal)
        np.testing.assert_allclose(sight.two_largest(values)[:, t], two)
    assert np.all(Sight(causal).two_largest(values[:, :1]) == 0), "a single score cannot oscillate"


@given(PATHS, st.floats(0, 1), st.booleans())
def test_averages_cover_all_weights_nearby(seed, move, causal):
    """For all weights within a total variation: one average attains its bound, joined heads keep to it."""
    rng = np.random.default_rng(seed)
    cfg = config((True, "layer", causal, True), length=5)
    piece, _ = piece_at(cfg, nested(drawn(cfg, rng, 2)), rng.normal(size=(2, 5, 8)), "attention")
    at, values, moves = piece.at, rng.uniform(size=(2, 5)), np.full((2, 2, 5), move)
    covered, reached = at.averages(values, moves), np.zeros((2, 2, 5))
    parts = rng.normal(size=(2, 2, 5, 4))  # per input, head and token; their joint norm is the value
    parts *= (values / np.linalg.norm(parts, axis=(1, 3)))[:, None, :, None]
    joined = at.joined(values, moves, np.ones((2, 1)), 1.0)
    for to in range(5):
        for order in (np.argsort(values), np.argsort(rng.uniform(size=(2, 5)))):
            weights = at.p.copy()
            for a, i in product(range(2), range(5)):
                left = np.full(2, move if at.mask[i, to] else 0.0)
                for j in order[a]:
                    taken = np.minimum(left, weights[a, :, i, j]) * (j != to)
                    weights[a, :, i, j] -= taken
                    weights[a, :, i, to] += taken
                    left -= taken
            average = (weights @ values[:, None, :, None])[..., 0]
            assert np.all(average <= covered * (1 + 1e-12))
            reached = np.maximum(reached, average)
            assert np.all(np.linalg.norm(weights @ parts, axis=(1, 3)) <= joined * (1 + 1e-12))
    np.testing.assert_allclose(reached, covered, rtol=1e-9)


def test_attention_by_blocks_is_sharper_than_apart():
    cfg = config()
    piece, _ = piece_at(
        cfg,
        nested(drawn(cfg, np.random.default_rng(0))),
        np.random.default_rng(1).normal(size=(2, 4, 8)),
        "attention",
    )
    sharp = piece.linear(np.ones((2, 4)))
    piece.blocks = None
    assert np.all(sharp < piece.linear(np.ones((2, 4))))


def max_norm(z):
    return np.linalg.norm(z, axis=-1).max()


@given(PATHS, st.integers(1, 5), st.floats(-4, 0.5))
def test_attention_is_lipschitz_on_a_ball(seed, length, log_distance):
    rng = np.random.default_rng(seed)
    cfg = config((True, "layer", bool(seed % 2), True), length=length)
    params = nested(drawn(cfg, rng, gain=2))
    x = rng.normal(size=(1, length, 8))
    y = x + 10**log_distance * rng.normal(size=x.shape)
    admitted, layers = Admitted(cfg, params), params["blocks"]["0"]["attention"]
    affine = {n: admitted.layer(f"blocks/0/attention/{n}") for n in ("query", "key", "value", "out")}
    constant = tb.attention_lipschitz(
        affine, Extents(cfg, affine, x), np.array([max(max_norm(x), max_norm(y))])
    )
    moved = max_norm(attend(cfg, layers, x) - attend(cfg, layers, y))
    assert moved <= constant[0] * max_norm(x - y) * (1 + 1e-9) + 1e-12


def test_attention_is_not_globally_lipschitz():
    y, t = sympy.symbols("y t", real=True)
    output = (sympy.exp(y * y) * y + sympy.exp(y * t) * t) / (sympy.exp(y * y) + sympy.exp(y * t))
    slope = sympy.simplify(sympy.diff(output, y).subs(y, 0))
    assert sympy.simplify(slope - (sympy.Rational(1, 2) + t**2 / 4)) == 0


def test_schatten_norms_are_upper_and_close():
    a = np.random.default_rng(0).normal(size=(200, 12, 32)) * 10.0 ** np.arange(-190, 10)[:, None, None]
    exact = np.linalg.svd(a, compute_uv=False)[..., 0]
    assert np.all(schatten_norms(a) >= exact)
    assert np.all(schatten_norms(a) <= 12 ** (1 / 16) * exact * (1 + 1e-9))
    assert np.all(schatten_norms(np.zeros((2, 3, 3))) == 0)
