"""Low-rank methods and their kin: applied two ways, dimensions, nearest points, schedules."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from peftproof.models import tree
from peftproof.models.methods import (
    OFT,
    PERU,
    AdaLoRA,
    DoRA,
    HiRA,
    LoHa,
    LoRA,
    LoRAFA,
    RsLoRA,
    VeRA,
)
from peftproof.models.methods.adalora import Budget, ranks_left
from peftproof.models.mlp import MLPConfig, mlp, mlp_from_arrays

KEY = jax.random.key(0)
METHODS = [LoRA(2), LoRAFA(2), RsLoRA(2), AdaLoRA(2), HiRA(2), LoHa(1), LoHa(2), DoRA(1), DoRA(2), VeRA(2)]
METHODS += [OFT(2)]
each = pytest.mark.parametrize("chosen", METHODS, ids=lambda one: one.name)


@each
def test_update_of_parameters_equals_the_method_applied_the_ordinary_way(chosen, checks):
    for config in (checks.mlp, checks.plain_mlp, checks.transformer):
        # Three features do not split into pairs.
        narrow = isinstance(chosen, OFT) and config is checks.transformer
        one = OFT(2, targets=("*attention*kernel", "*mlp*kernel", "head/kernel")) if narrow else chosen
        checks.agrees(one, config)


@each
def test_dimensions_follow_their_closed_forms(chosen, checks):
    for config in checks.shapes:
        checks.dimensions_agree(chosen, checks.network_of(config))


@pytest.mark.parametrize(
    ("chosen", "widths"),
    [
        (LoRA(3), (3, 5)),
        (LoHa(2), (4, 4)),
        (LoHa(3), (5, 4)),
        (LoHa(4), (4, 5)),
        (DoRA(2), (3, 4)),
        (DoRA(3), (3, 5)),
        (DoRA(3), (5, 3)),
        (HiRA(3), (3, 4)),
        (VeRA(3), (3, 1 + 2)),
        (LoRAFA(3), (3, 4)),
        (OFT(4), (4, 2)),
        (OFT(4), (4, 6)),
    ],
    ids=lambda value: value.name if hasattr(value, "name") else "x".join(map(str, value)),
)
def test_dimensions_where_they_saturate(chosen, widths, checks):
    checks.dimensions_agree(chosen, checks.network_of(MLPConfig(widths)))


@each
def test_projections_against_descent(chosen, checks):
    checks.projects(chosen, checks.network_of(MLPConfig((4, 6, 2))))


def test_hira_counts_only_entries_where_the_kernel_is_not_zero(checks):
    W = np.random.default_rng(0).normal(size=(5, 4))
    W[:2, 0] = W[3, 1:] = 0
    network = mlp_from_arrays([W])
    made, image = HiRA(2).reparameterize(network), HiRA(2).image(network)
    phi = checks.moved(made.init(KEY))
    assert checks.rank_of(made, phi) == image.dimension < HiRA(2).image(mlp_from_arrays([W + 1])).dimension
    assert checks.rank_of(made, made.init(KEY)) == image.initial_rank


def test_dora_sets_the_lengths_of_columns_and_survives_a_dead_neuron():
    W = np.array([[3.0, 4.0], [0.0, 0.0]])
    network = mlp_from_arrays([W])
    made = DoRA(1).reparameterize(network)
    phi = made.init(KEY)
    parts = phi["layers"]["0"]["kernel"]
    moved = {"layers": {"0": {"kernel": parts | {"mu": jnp.array([5.0, 0.0])}}}}
    np.testing.assert_allclose(made.g(moved)["layers"]["0"]["kernel"], [[3.0, 0], [4.0, 0]], rtol=1e-14)
    gradient = jax.grad(lambda p: (made.g(p)["layers"]["0"]["kernel"] ** 2).sum())(moved)
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(gradient))


def test_oft_keeps_lengths_and_inner_products(checks):
    network = checks.network_of(checks.plain_mlp)
    made = OFT(2).reparameterize(network)
    theta = made.apply(network.params, checks.moved(made.init(KEY)))
    for path, leaf in tree.paths(network.params).items():
        before, after = (np.asarray(w).reshape(-1, 2, w.shape[1]) for w in (leaf, tree.paths(theta)[path]))
        grams = [np.einsum("nab,nac->nbc", w, w) for w in (before, after)]
        np.testing.assert_allclose(*grams, atol=1e-12)


def test_frozen_factors_depend_on_seed_and_path_alone():
    network = mlp((5, 5, 5), KEY, jnp.float64)
    start = {"B": jnp.ones((1, 5))}
    phi = {"layers": {i: {"kernel": start} for i in "01"}}
    first, again, other = (
        LoRAFA(1, seed=seed).reparameterize(network).g(phi)["layers"] for seed in (0, 0, 1)
    )
    np.testing.assert_array_equal(first["0"]["kernel"], again["0"]["kernel"])
    assert not np.allclose(first["0"]["kernel"], first["1"]["kernel"])
    assert not np.allclose(first["0"]["kernel"], other["0"]["kernel"])


def test_vera_shares_its_factors_among_layers_of_all_sizes():
    small, large = VeRA(2).frozen((3, 4)), VeRA(2).frozen((6, 7))
    np.testing.assert_array_equal(small[0], large[0][:3])
    np.testing.assert_array_equal(small[1], large[1][:, :4])


def test_rank_stabilised_scale():
    network = mlp((8, 8), KEY, jnp.float64)
    phi = jax.tree.map(lambda leaf: leaf + 1, LoRA(4).reparameterize(network).init(KEY))
    plain, stable = (
        one.reparameterize(network).g(phi)["layers"]["0"]["kernel"] for one in (LoRA(4), RsLoRA(4, scale=3.0))
    )
    np.testing.assert_allclose(stable, 1.5 * plain, rtol=1e-14)


# --- AdaLoRA's budget --------------------------------------------------------------------------------------


def test_the_budget_falls_from_all_ranks_to_its_end():
    left = [float(Budget(4, 1.5).left(jnp.asarray(t), 6)) for t in (0.05, 0.1, 0.4, 0.69, 0.7, 1.0)]
    assert left[:2] == [24, 24]
    assert left[-2:] == [9, 9]
    assert left == sorted(left, reverse=True)
    assert 9 < left[2] < 24


@pytest.mark.parametrize("ties", [False, True])
def test_exactly_the_budget_survives_and_it_is_the_important_part(ties, checks):
    network = checks.network_of(checks.mlp)
    chosen = AdaLoRA(2, budget=1.0)
    made, plan = chosen.reparameterize(network), chosen.schedule()
    phi = checks.moved(made.init(KEY))
    gradient = jax.tree.map(jnp.ones_like if not ties else jnp.zeros_like, phi)
    after, _ = jax.jit(plan.after)(phi, gradient, plan.start(phi), jnp.asarray(1.0))
    assert sum(ranks_left(after).values()) == 2
    if not ties:
        scores = {}
        for path in ("layers/0/kernel", "layers/1/kernel"):
            parts = {name: np.abs(tree.paths(phi)[f"{path}/{name}"]) for name in ("P", "Q", "lambda")}
            # One step: both means are the same multiple of |w|, and the score is their product.
            squares = {name: part * part for name, part in parts.items()}
            for i in range(2):
                score = squares["lambda"][i] + squares["P"][:, i].mean() + squares["Q"][i].mean()
                scores[path, i] = score
        best = sorted(scores, key=scores.get)[-2:]
        kept = {
            (path, i)
            for path in ("layers/0/kernel", "layers/1/kernel")
            for i in np.flatnonzero(np.asarray(tree.paths(after)[f"{path}/lambda"]))
        }
        assert kept == set(best)


def test_the_penalty_vanishes_at_orthonormal_factors_only():
    chosen = AdaLoRA(2)
    eye = jnp.eye(4)[:, :2]
    phi = {"kernel": {"P": eye, "Q": eye.T, "lambda": jnp.ones(2)}}
    assert float(chosen.penalty(phi)) == 0
    phi["kernel"]["P"] = 2 * eye
    assert float(chosen.penalty(phi)) == pytest.approx(0.1 * 2 * 9)


# --- PERU --------------------------------------------------------------------------------------------------


def test_peru_starts_at_the_truncated_update(checks):
    network = checks.network_of(checks.mlp)
    update = checks.moved(jax.tree.map(jnp.zeros_like, network.params))
    resolved = PERU(2).resolve(network, update)
    made = resolved.reparameterize(network)
    got = made.g(made.init(KEY))
    for path, leaf in tree.paths(update).items():
        found = tree.paths(got)[path]
        if path.endswith("bias"):
            assert not np.any(found)
            continue
        values = np.linalg.svd(leaf, compute_uv=False)
        assert np.linalg.norm(leaf - found) == pytest.approx(np.linalg.norm(values[2:]), rel=1e-12)
        assert np.linalg.matrix_rank(found) == 2
    assert resolved == PERU(2).resolve(network, update)
    assert hash(resolved) == hash(PERU(2).resolve(network, update))
    assert resolved != PERU(2).resolve(network, jax.tree.map(lambda leaf: 2 * leaf, update))
    assert (resolved.name, PERU(2).name) == ("peru-r2", "peru-r2")
    with pytest.raises(ValueError, match="chooses its map g by a first training run"):
        PERU(2).reparameterize(network)


# --- refusals and transformations --------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (lambda n: LoRAFA(0), "rank: got 0"),
        (lambda n: AdaLoRA(2, budget=3), "budget: got 3"),
        (lambda n: OFT(1), "block: got 1"),
        (lambda n: OFT(4).reparameterize(n), "block: got 4 for 'layers/0/kernel' with 6 inputs"),
        (lambda n: HiRA(9).reparameterize(n), "rank: got 9 .* needs at most 6"),
        (lambda n: DoRA(2, targets="*bias").reparameterize(n), "needs two axes"),
        (lambda n: VeRA(2, targets="head").reparameterize(n), "'head' matches no parameter"),
        (lambda n: PERU(9).check(n), "rank: got 9"),
        (lambda n: PERU(2).resolve(n, {}), "update: missing"),
    ],
)
def test_what_does_not_fit_is_refused(build, message, checks):
    with pytest.raises(ValueError, match=message):
        build(checks.network_of(checks.mlp))


@each
def test_settings_are_keys_and_maps_can_be_compiled(chosen, checks):
    assert hash(chosen) == hash(dataclasses.replace(chosen))
    network = mlp(MLPConfig((6, 8, 4)), KEY, jnp.float32)
    made = chosen.reparameterize(network)
    phis = jax.vmap(made.init)(jax.random.split(KEY, 2))
    values = jax.jit(
        jax.vmap(jax.grad(lambda phi: sum(jnp.sum((leaf + 1) ** 2) for leaf in jax.tree.leaves(made.g(phi)))))
    )(phis)
    assert {leaf.dtype for leaf in jax.tree.leaves(values)} == {np.dtype("float32")}
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(values))
