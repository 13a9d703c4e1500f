"""Learning curves: a point is what `fit` gives on its examples, nested and paired by seed; none is lost."""

import dataclasses
import itertools

import jax
import numpy as np
import pytest

from peftproof.models import reference, tree
from peftproof.models.batches import batches, batches_of, weights_of
from peftproof.models.cache import Cache
from peftproof.models.curves import learning_curve
from peftproof.models.fit import fit, fit_masked
from peftproof.models.methods import LTSFT, BitFit, Full
from peftproof.models.mlp import mlp
from peftproof.models.paired_curves import LearningPair, learning_curves
from peftproof.models.sizes import log_sizes, nested_order
from peftproof.models.tasks import Split, Splits, digits_noisy, from_arrays
from peftproof.models.training import Settings

QUICK = Settings(steps=20, batch_size=8, eval_every=10, patience=2)
RATES = (3e-3, 3e-2)
SIZES = (5, 12, 40)


@pytest.fixture(scope="module")
def task():
    x = np.random.default_rng(0).normal(size=(100, 6))
    return from_arrays(new=(x, (x[:, 0] * x[:, 1] > 0) + 2 * (x[:, 2] > 0.3)))


@pytest.fixture(scope="module")
def network():
    return mlp((6, 4), jax.random.key(0), dtype="float64")


@pytest.fixture(scope="module")
def curves(network, task):
    return learning_curves(
        network, task, [Full(), BitFit()], sizes=SIZES, seeds=(0, 5), learning_rates=RATES, settings=QUICK
    )


def part_of(splits, rows):
    return Splits(Split(splits.train.x[rows], splits.train.y[rows]), splits.validation, splits.test)


@pytest.mark.parametrize(
    ("method", "sizes", "settings"),
    [
        (Full(), (5, 40), {"steps": 20, "batch_size": 8, "eval_every": 10, "weight_decay": 0.1}),
        (BitFit(), (40,), {"steps": 20, "batch_size": None, "eval_every": 10, "patience": 1}),
    ],
    ids=["mini-batches", "all examples"],
)
def test_a_point_is_the_fit_of_its_examples(network, task, method, sizes, settings):
    seeds = (0, 5)
    order = np.stack([nested_order(task.new.train.y, seed) for seed in seeds])
    fits = fit_masked(
        network,
        task.new,
        method,
        (None,),
        seeds,
        RATES,
        Settings(**settings),
        None,
        "",
        [order[:, :5], order[:, :40]],
    )
    for size, found in dict(zip((5, 40), fits, strict=True)).items():
        if size not in sizes:
            continue
        for row, seed in enumerate(seeds):
            few = settings | {"batch_size": settings["batch_size"] and min(settings["batch_size"], size)}
            alone = fit(
                network,
                part_of(task.new, order[row, :size]),
                method,
                seeds=(seed,),
                learning_rates=RATES,
                **few,
            )
            for name in ("train_loss", "validation_loss", "train_accuracy", "gradient_norm"):
                got = getattr(found, name)[row, :, : alone.train_loss.shape[2]]
                np.testing.assert_allclose(got, getattr(alone, name)[0], rtol=1e-9, atol=1e-11, err_msg=name)
            np.testing.assert_array_equal(found.returned[row], alone.returned[0])
            for one, other in zip(jax.tree.leaves(found.phi), jax.tree.leaves(alone.phi), strict=True):
                np.testing.assert_allclose(one[row], other[0], rtol=1e-7, atol=1e-10)
    # The negative control: the examples matter.
    assert np.abs(fits[0].train_loss - fits[1].train_loss).max() > 1e-2


def test_mini_batches_stay_within_the_subset():
    settings, seeds = Settings(steps=6, batch_size=4, eval_every=3), (0, 7)
    subsets = [np.array([[9, 3, 5], [1, 0, 8]]), np.array([[9, 3, 5, 2, 7, 11], [1, 0, 8, 4, 6, 10]])]
    rows = np.concatenate(list(itertools.islice(batches_of(settings, seeds, subsets), 2)), axis=1)
    assert rows.shape == (4, 6, 4)
    weights = weights_of(subsets, 12, 4, np.float64)
    assert np.asarray(weights["batch"]).tolist() == 2 * [[1 / 3, 1 / 3, 1 / 3, 0]] + 2 * [[0.25] * 4]
    np.testing.assert_allclose(np.asarray(weights["train"]).sum(axis=1), 1)
    for row, allowed in enumerate([one for of in subsets for one in of]):
        weighed = rows[row][:, np.asarray(weights["batch"])[row] > 0]
        assert set(weighed.ravel()) <= set(allowed)
        assert set(np.flatnonzero(weights["train"][row])) == set(allowed)
        assert all(len(set(step)) == len(step) for step in weighed)
    assert set(rows[0, 0, :3]) == {9, 3, 5}, "fewer examples than a mini-batch: every step sees all of them"
    plain = next(batches(settings, seeds, 6))
    np.testing.assert_array_equal(rows[2:, :3], np.stack([subsets[1][i][plain[i]] for i in (0, 1)]))


def test_examples_are_nested_paired_and_stratified():
    y = digits_noisy().new.train.y
    orders = [nested_order(y, seed) for seed in (0, 1)]
    assert not np.array_equal(*orders)
    for order in orders:
        np.testing.assert_array_equal(np.sort(order), np.arange(len(y)))
        for size in (10, 20, 77, 500):
            counts = np.bincount(y[order[:size]], minlength=10)
            assert np.abs(counts - np.bincount(y) * size / len(y)).max() <= 1
    # The negative control: a plain permutation has classes that are further off.
    plain = np.bincount(y[np.random.default_rng(0).permutation(len(y))[:500]], minlength=10)
    assert np.abs(plain - np.bincount(y) / 2).max() > 1


def test_curves_share_examples_and_hold_what_they_say(curves, task, network):
    full, bitfit = curves["full"], curves["bitfit"]
    for one, other in zip(full.subsets, bitfit.subsets, strict=True):
        np.testing.assert_array_equal(one, other)
    for row in (0, 1):
        assert set(full.subsets[0][row]) < set(full.subsets[1][row]) < set(full.subsets[2][row])
    assert full.loss().shape == full.accuracy("train").shape == full.steps.shape == (2, 3)
    assert (full.k, full.d, bitfit.k) == (28, 28, 4)
    assert set(full.chosen_rates) <= set(RATES)
    tuning = full.tuning(12, 5)
    assert len(tuning.task.new.train) == 12 and tuning.task.name == "arrays[12]"
    assert tuning.full is not None and bitfit.tuning(12, 5).full is None
    for part, split in (("train", tuning.task.new.train), ("test", task.new.test)):
        logits = np.asarray(tuning.tuned(split.x))
        loss = np.log(np.exp(logits).sum(axis=1)) - logits[np.arange(len(split)), split.y]
        assert full.loss(part)[1, 1] == pytest.approx(loss.mean(), rel=1e-12)
        assert full.accuracy(part)[1, 1] == (logits.argmax(axis=1) == split.y).mean()
    np.testing.assert_array_equal(tuning.task.new.train.x, task.new.train.x[full.subsets[1][1]])
    logits = np.asarray(network(task.new.test.x))
    loss = np.log(np.exp(logits).sum(axis=1)) - logits[np.arange(len(logits)), task.new.test.y]
    assert full.base_loss() == pytest.approx(loss.mean(), rel=1e-12)
    assert full.seconds > 0
    assert "LearningCurve(mlp full, 2 seeds, test_loss={5: " in repr(full)


def test_pairs_are_what_claims_are_judged_on(curves):
    (pair,) = curves.pairs
    assert (pair.full, pair.peft) == (curves["full"], curves["bitfit"])
    assert curves.subjects == (*curves.curves.values(), pair)
    assert {one.along for one in curves.subjects} == {"examples"}
    assert pair.subject["method"] == "bitfit" and pair.subject["seed"] is None
    assert pair.sizes == curves.sizes == SIZES and curves.seeds == (0, 5)
    assert "LearningCurves(mlp, arrays, full, bitfit, N = 5, 12, 40, 2 seeds)" in repr(curves)
    assert type(curves)({"bitfit": curves["bitfit"]}).pairs == ()


def test_an_interrupted_curve_goes_on_where_it_was(network, task, tmp_path, curves):
    cache, seen = Cache(tmp_path), []

    def interrupt(progress):
        seen.append(progress.label)
        if progress.label.endswith("N = 40"):
            raise KeyboardInterrupt

    settings = {"seeds": (0, 5), "learning_rates": RATES, "settings": QUICK, "cache": cache}
    with pytest.raises(KeyboardInterrupt):
        learning_curve(network, task, BitFit(), sizes=SIZES, progress=interrupt, at_once=1, **settings)
    assert len(list(cache.folder.iterdir())) == 2
    seen.clear()
    note = lambda progress: seen.append(progress.label)  # noqa: E731
    rest = learning_curve(network, task, BitFit(), sizes=SIZES, progress=note, **settings)
    assert set(seen) == {"mlp bitfit N = 40"}
    np.testing.assert_array_equal(rest.loss(), curves["bitfit"].loss())
    seen.clear()
    again = learning_curve(network, task, BitFit(), sizes=(5, 40), progress=note, **settings)
    assert not seen
    np.testing.assert_array_equal(again.loss(), rest.loss()[:, [0, 2]])
    for one, other in zip(
        tree.paths(again.tuning(5, 5).phi).values(), tree.paths(rest.tuning(5, 5).phi).values(), strict=True
    ):
        np.testing.assert_array_equal(one, other)


def test_how_many_sizes_run_at_once_changes_nothing_but_rounding(network, task, curves):
    settings = {"seeds": (0, 5), "learning_rates": RATES, "settings": QUICK}
    two = learning_curve(network, task, BitFit(), sizes=SIZES, at_once=2, **settings)
    one = curves["bitfit"]
    np.testing.assert_allclose(two.loss(), one.loss(), rtol=1e-4)
    assert [len({f["runs"][0]["seconds"] for _, f in of.points}) for of in (one, two)] == [3, 2]


def test_sizes_on_a_logarithmic_scale(task):
    assert log_sizes(digits_noisy()) == (20, 44, 96, 209, 457, 1000)
    assert log_sizes(task, 3, 1) == (4, 15, 60)
    with pytest.raises(ValueError, match="needs at least 2 sizes from 80 examples on, and there are 60"):
        log_sizes(task, per_class=20)


def test_what_a_curve_refuses(network, task, curves):
    for sizes in ((), (5, 5), (40, 5), (5.0, 40)):
        with pytest.raises(ValueError, match=r"sizes: got .* needs ascending whole numbers"):
            learning_curve(network, task, Full(), sizes=sizes)
    for sizes in ((3, 40), (5, 61)):
        with pytest.raises(ValueError, match=r"needs 4 \(the number of classes\) to 60"):
            learning_curve(network, task, Full(), sizes=sizes)
    with pytest.raises(ValueError, match="method: 'lt-sft-5%' trains in two stages"):
        learning_curve(network, task, LTSFT())
    with pytest.raises(ValueError, match="at_once: got 0"):
        learning_curve(network, task, Full(), at_once=0)
    with pytest.raises(ValueError, match="size: got 6, needs one of 5, 12, 40"):
        curves["full"].tuning(6, 0)
    with pytest.raises(ValueError, match="seed: got 1, needs one of 0, 5"):
        curves["full"].tuning(5, 1)
    with pytest.raises(ValueError, match="part: got 'dev'"):
        curves["full"].loss("dev")
    with pytest.raises(ValueError, match="part: got 'train', of which there is one for each size"):
        curves["full"].base_loss("train")
    with pytest.raises(ValueError, match="method: got 'ia3', needs one of full, bitfit"):
        curves["ia3"]
    for methods in ([], [Full(), Full()]):
        with pytest.raises(ValueError, match="methods: got"):
            learning_curves(network, task, methods)
    short = dataclasses.replace(curves["bitfit"], sizes=(5,))
    with pytest.raises(ValueError, match=r"peft: got sizes \(5,\), needs those of full"):
        LearningPair(curves["full"], short)
    job = curves["bitfit"].job
    elsewhere = dataclasses.replace(job, task=dataclasses.replace(job.task, name="another"))
    with pytest.raises(ValueError, match="peft: got the task another, needs that of full"):
        LearningPair(curves["full"], dataclasses.replace(curves["bitfit"], job=elsewhere))
    shuffled = tuple(rows[:, ::-1] for rows in curves["bitfit"].subsets)
    with pytest.raises(ValueError, match="other examples than full"):
        LearningPair(curves["full"], dataclasses.replace(curves["bitfit"], subsets=shuffled))
    with pytest.raises(ValueError, match="name: got 'perceptron'"):
        reference.curves("perceptron")
    with pytest.raises(ValueError, match="is not a task"):
        reference.curves("mlp-tanh", task_name="digits_upside_down")
