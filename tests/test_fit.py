"""Fitting and polishing: real training of small networks on real digits."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from peftproof.models.batches import batches
from peftproof.models.fit import fit
from peftproof.models.methods import BitFit, Full, Head, LoRA
from peftproof.models.mlp import mlp
from peftproof.models.network import Network
from peftproof.models.polish import polish
from peftproof.models.tasks import Split, Splits, digits_rotated, from_arrays
from peftproof.models.training import Settings

QUICK = {"steps": 60, "eval_every": 20, "batch_size": 50}


@pytest.fixture(scope="module")
def digits():
    new = digits_rotated().new
    return Splits(Split(new.train.x[:300], new.train.y[:300]), new.validation, new.test)


@pytest.fixture(scope="module")
def network():
    return mlp((64, 10), jax.random.key(0))


@pytest.fixture(scope="module")
def double(network):
    return network.astype("float64")


def loss_of(network, theta, split):
    """Cross-entropy and accuracy as the definition has them."""
    f = np.asarray(network.apply(theta, jnp.asarray(split.x, network.dtype)), np.float64)
    p = np.exp(f) / np.exp(f).sum(axis=1, keepdims=True)
    return -np.log(p[np.arange(len(split)), split.y]).mean(), (f.argmax(axis=1) == split.y).mean()


def oracle(network, method, split, decay):
    """Maps Φ to the gradient norm and the value of the objective, as the definition has it."""

    @jax.jit
    @jax.value_and_grad
    def value(phi):
        f = network.apply(tuned(network, method, phi), jnp.asarray(split.x))
        right = jnp.take_along_axis(jax.nn.log_softmax(f), jnp.asarray(split.y)[:, None], axis=1)
        return -right.mean() + decay / 2 * sum(jnp.sum(leaf**2) for leaf in jax.tree.leaves(phi))

    def norm_and_value(phi):
        objective, gradient = value(phi)
        return np.sqrt(sum(np.sum(np.square(leaf)) for leaf in jax.tree.leaves(gradient))), float(objective)

    return norm_and_value


def tuned(network, method, phi):
    return method.reparameterize(network).apply(network.params, jax.tree.map(jnp.asarray, phi))


@pytest.mark.parametrize("method", [Full(), Head(), LoRA(2), BitFit()], ids=lambda m: m.name)
def test_fit_beats_the_network_that_it_started_from(network, digits, method):
    result = fit(network, digits, method, learning_rates=(3e-2,), **QUICK)
    loss, accuracy = loss_of(network, tuned(network, method, result.best(0)), digits.validation)
    before = loss_of(network, network.params, digits.validation)
    assert loss < before[0]
    # Biases alone cannot make a random network see: their loss falls, and nothing else is to be expected.
    assert accuracy > before[1] or isinstance(method, BitFit)
    assert result.step.tolist() == [0, 20, 40, 60]
    curves = (result.train_loss, result.validation_loss, result.train_accuracy, result.validation_accuracy)
    assert all(curve.shape == (1, 1, 4) for curve in (*curves, result.gradient_norm))
    np.testing.assert_allclose(result.validation_loss[0, 0, [0, -1]], [before[0], loss], rtol=1e-5)
    np.testing.assert_allclose(result.validation_accuracy[0, 0, [0, -1]], [before[1], accuracy], rtol=1e-5)
    train = loss_of(network, tuned(network, method, result.best(0)), digits.train)
    np.testing.assert_allclose(
        [result.train_loss[0, 0, -1], result.train_accuracy[0, 0, -1]], train, rtol=1e-5
    )


def test_a_run_is_the_same_alone_and_among_others(double, digits):
    together = fit(double, digits, LoRA(2), seeds=(0, 7), learning_rates=(1e-3, 1e-2), **QUICK)
    alone = fit(double, digits, LoRA(2), seeds=(7,), learning_rates=(1e-2,), **QUICK)
    for one, many in zip(jax.tree.leaves(alone.phi), jax.tree.leaves(together.phi), strict=True):
        np.testing.assert_allclose(one[0, 0], many[1, 1], rtol=1e-9, atol=1e-12)
    np.testing.assert_allclose(alone.validation_loss[0, 0], together.validation_loss[1, 1], rtol=1e-9)


def test_a_seed_decides_the_start_and_the_mini_batches(network, digits):
    first, again = (fit(network, digits, LoRA(2), seeds=(0, 1), **QUICK) for _ in range(2))
    for one, other in zip(jax.tree.leaves(first.phi), jax.tree.leaves(again.phi), strict=True):
        np.testing.assert_array_equal(one, other)
        assert not np.array_equal(one[0], one[1])
    batches = fit(network, digits, Head(), seeds=(0, 1), **QUICK).train_loss
    assert batches[0, 0, 0] == batches[1, 0, 0]
    assert batches[0, 0, -1] != batches[1, 0, -1]


def test_an_epoch_sees_every_example_once():
    chunks = batches(Settings(steps=9, batch_size=7, eval_every=3), (0, 1), 23)
    rows = np.concatenate([next(chunks) for _ in range(3)], axis=1)
    assert rows.shape == (2, 9, 7)
    for of_a_seed in rows:
        for epoch in np.split(of_a_seed, 3):
            assert len(set(epoch.ravel())) == 21
            assert epoch.max() < 23
    assert not np.array_equal(rows[0], rows[1])


def test_early_stopping_returns_the_best_phi_on_validation(network, digits):
    few = Splits(Split(digits.train.x[:20], np.arange(20) % 3), digits.validation, digits.test)
    settings = {"steps": 200, "eval_every": 10, "learning_rates": (1e-2, 1e-1)}
    result = fit(network, few, Head(), patience=3, **settings)
    for rate in range(2):
        curve = result.validation_loss[0, rate]
        ran = np.isfinite(curve)
        best = int(np.nanargmin(curve))
        assert result.returned[0, rate] == best
        assert ran.sum() == min(best + 4, len(curve))
        phi = jax.tree.map(lambda leaf, rate=rate: leaf[0, rate], result.phi)
        np.testing.assert_allclose(
            loss_of(network, tuned(network, Head(), phi), few.validation)[0], curve[best], rtol=1e-5
        )
    assert result.chosen == np.nanargmin(np.nanmin(result.validation_loss[0], axis=-1))
    patient = fit(network, few, Head(), **settings)
    assert np.all(patient.returned == 20)
    assert np.nanmin(result.validation_loss) < patient.validation_loss[0, patient.chosen, -1]


def test_weight_decay_is_part_of_the_objective(double, digits):
    method = LoRA(2)
    norms = []
    for decay in (0.0, 0.1):
        result = fit(double, digits, method, learning_rates=(1e-2,), weight_decay=decay, **QUICK)
        phi = jax.tree.map(jnp.asarray, result.best(0))
        norms.append(sum(np.sum(leaf**2) for leaf in jax.tree.leaves(phi)))
        norm, _ = oracle(double, method, digits.train, decay)(phi)
        assert result.facts(0)["gradient_norm"] == pytest.approx(norm, rel=1e-10)
    assert norms[1] < 0.9 * norms[0]


def test_the_rate_is_chosen_on_validation_and_never_one_that_diverges(network, digits):
    result = fit(network, digits, Head(), seeds=(0, 1), learning_rates=(1e38, 1e-5, 1e-2), **QUICK)
    assert not np.isfinite(result.validation_loss[:, 0, -1]).any()
    assert (result.chosen, result.learning_rate) == (2, 1e-2)
    assert result.facts(1)["learning_rate"] == 1e-2
    with pytest.raises(ValueError, match=r"learning_rates: got \(1e\+38,\).*diverged"):
        fit(network, digits, Head(), learning_rates=(1e38,), **QUICK)


def test_progress_is_told_after_each_evaluation_and_may_interrupt(network, digits):
    seen = []
    fit(network, digits, Head(), seeds=(0, 1), progress=seen.append, **QUICK)
    assert [(p.step, p.steps, p.running, p.label) for p in seen] == [
        (s, 60, 2, "mlp head") for s in (0, 20, 40, 60)
    ]
    assert seen[-1].validation_loss < seen[0].validation_loss

    def interrupt(progress):
        if progress.step == 20:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        fit(network, digits, Head(), progress=interrupt, **QUICK)


def test_any_function_of_a_dictionary_can_be_fitted(digits):
    class Line:
        """Not hashable, like a bound method of an object that holds arrays."""

        __hash__ = None

        def __call__(self, params, x):
            return x @ params["slope"]

    line = Network(Line(), {"slope": jnp.zeros((64, 10), jnp.float32)})
    result = fit(line, digits, Full(), **QUICK)
    assert result.validation_accuracy[0, 0, -1] > 0.5


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"seeds": ()}, "seeds: got"),
        ({"seeds": (0, 0)}, "different whole numbers"),
        ({"seeds": (-1,)}, "seeds: got"),
        ({"learning_rates": ()}, "learning_rates: got"),
        ({"learning_rates": (0.1, -0.1)}, "learning_rates: got"),
        ({"learning_rates": (float("nan"),)}, "learning_rates: got"),
        ({"steps": -1}, "steps: got -1"),
        ({"steps": 50}, r"eval_every: got 20.*steps=60"),
        ({"eval_every": 0}, "eval_every: got 0"),
        ({"batch_size": 0}, "batch_size: got 0.*or None"),
        ({"batch_size": 301}, "batch_size: got 301, needs at most the 300"),
        ({"patience": 0}, "patience: got 0"),
        ({"weight_decay": -1.0}, "weight_decay: got -1"),
        ({"weight_decay": float("nan")}, "weight_decay: got nan"),
    ],
)
def test_settings_out_of_range_are_refused(network, digits, settings, message):
    with pytest.raises(ValueError, match=message):
        fit(network, digits, Full(), **QUICK | settings)


@pytest.mark.parametrize(
    "settings", [{"seeds": (0.5,)}, {"steps": 60.0}], ids=lambda settings: next(iter(settings))
)
def test_settings_of_another_type_are_refused(network, digits, settings):
    # The checked annotations of the tests may be quicker than the check itself.
    with pytest.raises((ValueError, TypeError), match=next(iter(settings))):
        fit(network, digits, Full(), **QUICK | settings)


def test_a_network_that_does_not_fit_the_data_is_refused(network, digits):
    with pytest.raises(ValueError, match=r"cannot be applied to inputs of shape \(1000, 8, 8\).*tokens=True"):
        fit(network, digits_rotated(tokens=True).new, Full(), **QUICK)
    with pytest.raises(ValueError, match=r"needs at least \(p, 10\)"):
        fit(mlp((64, 9), jax.random.key(0)), digits, Full(), **QUICK)
    with pytest.raises(ValueError, match="seed=3 was not fitted"):
        fit(network, digits, Head(), **QUICK).best(3)


@pytest.fixture(scope="module")
def small():
    x = np.random.default_rng(0).normal(size=(120, 4))
    task = from_arrays(new=(x, (x[:, 0] * x[:, 1] > 0) + 2 * (x[:, 2] > 0.5)))
    return mlp((4, 6, 4), jax.random.key(0), dtype="float64"), task.new.train


@pytest.mark.parametrize(("widths", "method"), [((4, 6, 4), Full()), ((4, 4), LoRA(2))], ids=["full", "lora"])
def test_polishing_reaches_a_stationary_point(small, widths, method):
    network, split = mlp(widths, jax.random.key(0), dtype="float64"), small[1]
    phi = method.reparameterize(network).init(jax.random.key(1))
    polished = polish(network, split, method, phi, weight_decay=1e-2)
    evaluate = oracle(network, method, split, 1e-2)
    norm, value = evaluate(polished.phi)
    assert polished.converged
    assert norm <= 1e-8
    assert polished.gradient_norm == pytest.approx(norm, rel=1e-3)
    assert polished.objective == pytest.approx(value, rel=1e-12)
    assert value < evaluate(phi)[1]
    assert polished.newton_steps > 0


def test_polishing_without_the_hessian_is_first_order_and_says_how_far_it_came(small):
    network, split = small
    phi = Full().reparameterize(network).init(jax.random.key(1))
    lines = []
    settings = {"weight_decay": 1e-2, "dense_limit": 0}
    far = polish(network, split, Full(), phi, progress=lines.append, **settings)
    assert far.converged
    assert far.newton_steps == 0
    assert lines[0].startswith("L-BFGS step 0")
    near = polish(network, split, Full(), phi, lbfgs_steps=5, **settings)
    assert near.lbfgs_steps == 5
    assert not near.converged
    assert near.gradient_norm > far.gradient_norm


def test_polishing_refuses_single_precision_and_says_what_to_do(small):
    network, split = small
    phi = Full().reparameterize(network).init(jax.random.key(1))
    single = jax.tree.map(lambda leaf: leaf.astype("float32"), phi)
    with pytest.raises(ValueError, match=r"network: got float32, needs float64.*jax_enable_x64"):
        polish(network.astype("float32"), split, Full(), single)
    with pytest.raises(ValueError, match=r"phi: got float32, needs float64.*jax_enable_x64"):
        polish(network, split, Full(), single)
    with pytest.raises(ValueError, match="phi: got NaN"):
        polish(network, split, Full(), jax.tree.map(lambda leaf: leaf / 0, phi))
