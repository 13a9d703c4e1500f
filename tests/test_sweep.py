"""Sweeps: a masked run is the run of the smaller method, rates are chosen point by point, nothing is lost."""

import dataclasses

import jax
import numpy as np
import pytest

from peftproof.models import reference, tree
from peftproof.models.cache import Cache
from peftproof.models.finetuning import finetune
from peftproof.models.fit import fit, fit_masked
from peftproof.models.methods import Full, LoRA, TopLayers
from peftproof.models.methods.rank import capped, methods_of_rank
from peftproof.models.mlp import mlp
from peftproof.models.nested import mask, narrowed
from peftproof.models.network import Network
from peftproof.models.sweep import layer_sweep, method_sweep, rank_sweep
from peftproof.models.tasks import from_arrays
from peftproof.models.training import Settings
from peftproof.models.transformer import TransformerConfig, transformer

QUICK = Settings(steps=20, batch_size=32, eval_every=10)
RATES = (3e-3, 3e-2)


@pytest.fixture(scope="module")
def task():
    x = np.random.default_rng(0).normal(size=(160, 6))
    return from_arrays(new=(x, (x[:, 0] * x[:, 1] > 0) + 2 * (x[:, 2] > 0.3)))


@pytest.fixture(scope="module")
def network():
    return mlp((6, 8, 4), jax.random.key(0), dtype="float64")


@pytest.fixture(scope="module")
def swept(network, task):
    return rank_sweep(network, task, (1, 2, 4, 6), seeds=(0, 5), learning_rates=RATES, settings=QUICK)


class From(LoRA):
    """LoRA that starts at the first columns of a wider draw: the oracle has no mask anywhere."""

    def reparameterize(self, network):
        """The same map with another start."""
        own = super().reparameterize(network)
        wide = LoRA(4).reparameterize(network)
        return dataclasses.replace(own, draw=lambda key: narrowed(wide.draw(key), own.template))


def test_a_masked_run_is_lora_of_the_smaller_rank_from_the_same_start(network, task):
    settings = {"steps": 60, "batch_size": 32, "eval_every": 10, "weight_decay": 0.1}
    wide = LoRA(4).reparameterize(network).template
    corners = {rank: LoRA(rank).reparameterize(network).template for rank in (1, 3, 4)}
    masks = [mask(wide, corner) for corner in corners.values()]
    fits = fit_masked(
        network, task.new, LoRA(4), masks, (0, 5), RATES, Settings(**settings), progress=None, label="masked"
    )
    for (rank, corner), masked in list(zip(corners.items(), fits, strict=True))[:2]:
        plain = fit(network, task.new, From(rank), seeds=(0, 5), learning_rates=RATES, **settings)
        for name in ("train_loss", "validation_loss", "train_accuracy", "gradient_norm"):
            got, expected = getattr(masked, name), getattr(plain, name)
            np.testing.assert_allclose(got, expected, rtol=1e-9, atol=1e-11, err_msg=name)
        assert masked.chosen == plain.chosen
        for path, leaf in tree.paths(masked.phi).items():
            beyond = leaf[..., rank:] if path.endswith("/A") else leaf[..., rank:, :]
            np.testing.assert_array_equal(beyond, 0)
            inside = tree.paths(narrowed(masked.phi, corner))[path]
            np.testing.assert_allclose(inside, tree.paths(plain.phi)[path], rtol=1e-8, atol=1e-10)
        # The negative control: the next larger mask gives other runs.
        assert np.abs(fits[list(corners).index(rank) + 1].train_loss - plain.train_loss).max() > 1e-3


def test_without_a_mask_the_top_of_a_network_would_not_stay_the_top(network, task):
    """The negative control: full fine-tuning moves every layer, and only the mask keeps the lower ones."""
    whole = Full().reparameterize(network).template
    masks = [mask(whole, TopLayers(1).reparameterize(network).template), mask(whole, whole)]
    top, full = fit_masked(
        network, task.new, Full(), masks, (0,), (1e-2,), QUICK, progress=None, label="masked"
    )
    assert not np.any(top.phi["layers"]["0"]["kernel"])
    assert np.all(np.any(full.phi["layers"]["0"]["kernel"], axis=(-1, -2)))
    plain = fit(network, task.new, TopLayers(1), steps=20, batch_size=32, eval_every=10)
    np.testing.assert_allclose(top.train_loss, plain.train_loss, rtol=1e-10)
    np.testing.assert_allclose(top.gradient_norm, plain.gradient_norm, rtol=1e-9)


def test_a_rank_sweep_holds_what_it_says(swept, network, task):
    assert swept.ranks.tolist() == [1, 2, 4, 6]
    assert swept.loss("test").shape == swept.accuracy("train").shape == (4, 2)
    assert np.all(swept.loss("train").mean(axis=1) < swept.base_loss("train"))
    # The head is 8 × 4: its rank ends at 4, that of the layer before it goes on to 6.
    assert swept.k == (14 + 12, 28 + 24, 56 + 48, 84 + 48)
    tuning = swept.tuning(6, 5)
    assert tuning.method.ranks == (("layers/1/kernel", 4),)
    x, y = task.new.test.x, task.new.test.y
    logits = np.asarray(tuning.tuned(x))
    loss = np.log(np.exp(logits).sum(axis=1)) - logits[np.arange(len(y)), y]
    assert swept.loss("test")[3, 1] == pytest.approx(loss.mean(), rel=1e-12)
    assert swept.accuracy("test")[3, 1] == (logits.argmax(axis=1) == y).mean()
    assert np.linalg.matrix_rank(np.asarray(swept.tuning(2, 0).delta["layers"]["0"]["kernel"])) == 2
    assert "RankSweep(rank, seeds=(0, 5)" in repr(swept)


def test_each_rank_chooses_its_rate_on_validation(swept, network, task):
    alone = [
        rank_sweep(network, task, (1, 2, 4, 6), seeds=(0, 5), learning_rates=(rate,), settings=QUICK)
        for rate in RATES
    ]
    losses = np.stack([one.loss("validation").mean(axis=1) for one in alone])
    assert swept.chosen_rates == tuple(RATES[i] for i in losses.argmin(axis=0))
    np.testing.assert_allclose(swept.loss("validation").mean(axis=1), losses.min(axis=0), rtol=1e-5)


def test_how_many_ranks_run_at_once_changes_nothing_but_rounding(network, task):
    settings = {"seeds": (0,), "learning_rates": (1e-2,), "settings": QUICK, "dtype": "float64"}
    one, two, three = (rank_sweep(network, task, (1, 2, 4), at_once=n, **settings) for n in (1, 2, 3))
    np.testing.assert_allclose(two.loss(), one.loss(), rtol=1e-9)
    np.testing.assert_allclose(three.loss(), one.loss(), rtol=1e-9)


def test_an_interrupted_sweep_goes_on_where_it_was(network, task, tmp_path, swept):
    cache, seen = Cache(tmp_path), []

    def interrupt(progress):
        seen.append(progress.label)
        if progress.label.endswith("rank 4"):
            raise KeyboardInterrupt

    settings = {"seeds": (0, 5), "learning_rates": RATES, "settings": QUICK, "cache": cache}
    with pytest.raises(KeyboardInterrupt):
        rank_sweep(network, task, (1, 2, 4, 6), progress=interrupt, at_once=1, **settings)
    assert len(list(cache.folder.iterdir())) == 2
    seen.clear()
    rest = rank_sweep(network, task, (1, 2, 4, 6), progress=lambda p: seen.append(p.label), **settings)
    assert sorted(set(seen)) == ["mlp rank 4", "mlp rank 6"]
    np.testing.assert_array_equal(rest.loss(), swept.loss())
    seen.clear()
    again = rank_sweep(network, task, (2, 6), progress=lambda p: seen.append(p.label), **settings)
    assert not seen
    np.testing.assert_array_equal(again.loss(), swept.loss()[[1, 3]])
    for one, other in zip(
        jax.tree.leaves(again.tuning(2, 5).phi), jax.tree.leaves(swept.tuning(2, 5).phi), strict=True
    ):
        np.testing.assert_array_equal(one, other)


def test_top_layers_end_with_the_whole_network(task, network):
    found = layer_sweep(network, task, seeds=(0,), learning_rates=(1e-2,), settings=QUICK, dtype="float64")
    assert found.values == (1, 2)
    assert found.k == (36, network.d)
    (full,) = finetune(
        network, task, Full(), learning_rates=(1e-2,), steps=20, batch_size=32, eval_every=10, dtype="float64"
    )
    assert found.loss()[1, 0] == pytest.approx(full.facts["test_loss"], rel=1e-9)
    assert found.tuning(2, 0).full is not None
    assert found.with_full([full]).tuning(1, 0).full is full.full
    with pytest.raises(ValueError, match=r"full: got no full fine-tuning of seeds \[0\]"):
        found.with_full([])
    assert found.beside([]).tuning(2, 0).full is None, "what is not known is left out"
    assert found.along == "layers"
    assert found.subject["method"] == "top layers 1..2" and found.subject["seed"] is None


def test_top_blocks_of_a_transformer_then_the_rest():
    config = TransformerConfig(
        features=3, length=2, width=4, depth=2, heads=1, hidden=6, outputs=4, activation="gelu"
    )
    network = transformer(config, jax.random.key(0), dtype="float64")
    x = np.random.default_rng(0).normal(size=(60, 2, 3))
    tokens = from_arrays(new=(x, (x[:, 0, 0] > 0) + 2 * (x[:, 1, 1] > 0)))
    found = layer_sweep(network, tokens, seeds=(0,), settings=Settings(steps=0, eval_every=1))
    assert found.values == (1, 2, 3)
    assert [row[0].method for row in found.tunings] == [TopLayers(1), TopLayers(2), Full()]
    assert found.k == (*(TopLayers(k).reparameterize(network).k for k in (1, 2)), network.d)


def test_rank_is_not_a_count(network, task):
    low, square = methods_of_rank(network, 2), methods_of_rank(network, 6)
    assert list(low) == ["diagonal", "lora-fa", "lora"]
    assert list(square) == ["diagonal", "full", "lora"]
    counts = [one.reparameterize(network).k for one in low.values()]
    assert counts == [2 + 2, 2 * 8 + 2 * 4, 2 * (6 + 8) + 2 * (8 + 4)]
    assert [one.reparameterize(network).k for one in square.values()] == [6 + 4, 48 + 32, 84 + 48]
    found = method_sweep(network, task, low, seeds=(0,), learning_rates=(3e-2,), settings=QUICK)
    assert found.k == tuple(counts)
    for tunings in found.tunings:
        for layer in ("0", "1"):
            delta = np.asarray(tunings[0].delta["layers"][layer]["kernel"])
            assert np.linalg.matrix_rank(delta) == 2
    diagonal = np.asarray(found.tuning("diagonal", 0).delta["layers"]["0"]["kernel"])
    assert np.count_nonzero(diagonal) == np.count_nonzero(np.diag(diagonal)) == 2


def test_what_a_sweep_refuses(network, task, swept):
    for ranks in ((), (0, 1), (2, 1), (1, 1), (1.5,)):
        with pytest.raises(ValueError, match=r"ranks: got .* needs ascending whole numbers"):
            rank_sweep(network, task, ranks)
    with pytest.raises(ValueError, match="ranks: got 7, needs at most 6"):
        rank_sweep(network, task, (1, 7))
    with pytest.raises(ValueError, match="at_once: got 0"):
        rank_sweep(network, task, (1,), at_once=0)
    with pytest.raises(ValueError, match="rank: got 3, needs one of 1, 2, 4, 6"):
        swept.tuning(3, 0)
    with pytest.raises(ValueError, match="seed: got 1, needs one of 0, 5"):
        swept.tuning(1, 1)
    with pytest.raises(ValueError, match="part: got 'dev'"):
        swept.loss("dev")
    with pytest.raises(ValueError, match="methods: got none"):
        method_sweep(network, task, {})
    with pytest.raises(ValueError, match="the layers of 'own' are not known"):
        layer_sweep(Network(network.apply, network.params, name="own"), task)
    template = LoRA(2).reparameterize(network).template
    with pytest.raises(ValueError, match="nested methods"):
        mask(template, LoRA(4).reparameterize(network).template)
    assert capped(network, LoRA(2)) == LoRA(2)


def test_sweeps_of_reference_networks_are_asked_for_by_name():
    with pytest.raises(ValueError, match="name: got 'perceptron'"):
        reference.swept("perceptron")
    with pytest.raises(ValueError, match="axis: got 'width'"):
        reference.swept("mlp-tanh", "width")


@pytest.mark.slow
def test_on_a_reference_network_rank_pays_and_then_pays_no_more():
    cache = Cache()
    ranks = reference.swept("mlp-tanh", seeds=(0, 1, 2), cache=cache)
    error = 1 - ranks.accuracy().mean(axis=1)
    assert error[0] > error[1] > error[3] > error[5]
    assert abs(error[-1] - error[5]) < 0.03
    layers = 1 - reference.swept("mlp-tanh", "layers", seeds=(0, 1, 2), cache=cache).accuracy().mean(axis=1)
    assert np.all(np.diff(layers) < 0)
    alike = reference.swept("mlp-tanh", "method", seeds=(0, 1, 2), ranks=(32,), cache=cache)
    # A diagonal has rank 32 and is worse than LoRA of rank 1, which has more parameters.
    assert 1 - alike.accuracy()[alike.values.index("diagonal")].mean() > error[0]
    assert alike.k[alike.values.index("diagonal")] < ranks.k[0]
