"""Fine-tuned networks: what is judged is what was trained, and nothing is trained twice."""

import dataclasses
import inspect

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from peftproof.models import finetuning as module
from peftproof.models import reference as references
from peftproof.models.cache import Cache, CacheWarning
from peftproof.models.finetuning import FineTuning, finetune
from peftproof.models.methods import IA3, BitFit, Full, Head, LoRA
from peftproof.models.mlp import MLPConfig, mlp
from peftproof.models.network import Network
from peftproof.models.reference import REFERENCES, Reference, finetunings, pretrained, reference
from peftproof.models.tasks import Split, Splits, Task, digits_rotated
from peftproof.models.training import Settings

QUICK = {"steps": 40, "eval_every": 20, "batch_size": 50, "learning_rates": (1e-2, 3e-2), "seeds": (0, 1)}


@pytest.fixture(scope="module")
def task():
    new = digits_rotated().new
    small = Splits(Split(new.train.x[:200], new.train.y[:200]), new.validation, new.test)
    return Task("digits", None, small, 10)


@pytest.fixture(scope="module")
def network():
    return mlp((64, 12, 10), jax.random.key(0))


@pytest.fixture
def cache(tmp_path):
    return Cache(tmp_path)


@pytest.fixture(scope="module")
def filled(tmp_path_factory):
    return Cache(tmp_path_factory.mktemp("filled"))


@pytest.fixture(scope="module")
def tuned(network, task, filled):
    return finetune(network, task, LoRA(2), cache=filled, **QUICK)


def test_what_is_judged_is_double_and_is_theta0_plus_g_of_phi(network, task, tuned):
    assert [one.seed for one in tuned] == [0, 1]
    for one in tuned:
        for params in (one.network.params, one.phi, one.delta, one.theta):
            assert {leaf.dtype.name for leaf in jax.tree.leaves(params)} == {"float64"}
        for layer in ("0", "1"):
            A, B = (np.asarray(one.phi["layers"][layer]["kernel"][factor]) for factor in "AB")
            base = np.asarray(network.params["layers"][layer]["kernel"], np.float64)
            np.testing.assert_allclose(one.delta["layers"][layer]["kernel"], A @ B, rtol=1e-13, atol=1e-15)
            np.testing.assert_allclose(one.theta["layers"][layer]["kernel"], base + A @ B, rtol=1e-13)
        assert not np.any(one.delta["layers"]["0"]["bias"])
        assert one.full is None
    assert repr(tuned[1]).startswith("FineTuning('mlp', 'digits', 'lora-r2', seed=1, k=196, d=910, test_acc")


def test_facts_are_those_of_the_double_network(task, tuned):
    for one in tuned:
        for part in ("train", "validation", "test"):
            split = getattr(task.new, part)
            for prefix, theta in (("", one.theta), ("zero_shot_", one.network.params)):
                f = np.asarray(one.network.apply(theta, jnp.asarray(split.x)))
                p = np.exp(f) / np.exp(f).sum(axis=1, keepdims=True)
                loss = -np.log(p[np.arange(len(split)), split.y]).mean()
                assert one.facts[f"{prefix}{part}_loss"] == pytest.approx(loss, rel=1e-12)
                assert one.facts[f"{prefix}{part}_accuracy"] == np.mean(f.argmax(axis=1) == split.y)
        assert one.facts["test_accuracy"] > one.facts["zero_shot_test_accuracy"]
        assert one.facts["learning_rate"] in QUICK["learning_rates"]
        assert one.facts["gradient_norm"] > 0
        assert all(isinstance(fact, int | float) for fact in one.facts.values())


def test_full_is_known_where_all_parameters_are_trained(network, task):
    one, _ = finetune(network, task, Full(), **QUICK)
    assert one.full is not None
    jax.tree.map(np.testing.assert_array_equal, one.full, one.theta)
    part, _ = finetune(network, task, Full("layers/1/*"), **QUICK)
    assert part.full is None


def test_polishing_makes_it_stationary():
    x = np.random.default_rng(0).normal(size=(60, 3))
    parts = slice(40), slice(40, 50), slice(50, 60)
    small = Task("line", None, Splits(*(Split(x[rows], np.int32(x[rows, 0] > 0)) for rows in parts)), 2)
    settings = QUICK | {"batch_size": 8, "seeds": (0,), "weight_decay": 0.01, "polish_to": 1e-8}
    (one,) = finetune(mlp((3, 2), jax.random.key(0)), small, Full(), **settings)
    assert one.facts["gradient_norm"] <= 1e-8
    assert one.facts["train_accuracy"] > 0.9


@pytest.fixture
def no_training(monkeypatch):
    class TrainedError(Exception):
        """The result was not in the cache."""

    def refuse(*_, **__):
        raise TrainedError

    monkeypatch.setattr(module, "fit", refuse)
    return TrainedError


def test_a_cached_result_is_the_same_and_nothing_is_trained(network, task, tuned, filled, monkeypatch):
    without = finetune(network, task, LoRA(2), **QUICK)
    monkeypatch.setattr(module, "fit", None)
    again = finetune(network, task, LoRA(2), cache=filled, **QUICK)
    for one, other, third in zip(tuned, again, without, strict=True):
        assert one.facts == other.facts
        for a, b, c in zip(*(jax.tree.leaves(x.phi) for x in (one, other, third)), strict=True):
            np.testing.assert_array_equal(a, b)
            np.testing.assert_array_equal(a, c)


def other_code(network):
    return Network(lambda params, x: jnp.tanh(network.apply(params, x)), network.params)


def other_data(task):
    train = task.new.train
    x = train.x.copy()
    x[0, 0] += 1e-6
    return dataclasses.replace(task, new=dataclasses.replace(task.new, train=Split(x, train.y)))


def other_theta0(network):
    return network.with_params(jax.tree.map(lambda leaf: leaf * (1 + 1e-6), network.params))


CHANGES = {
    "theta0": lambda n, t, m, s: (other_theta0(n), t, m, s),
    "code": lambda n, t, m, s: (other_code(n), t, m, s),
    "data": lambda n, t, m, s: (n, other_data(t), m, s),
    "method": lambda n, t, m, s: (n, t, LoRA(2, scale=2.0), s),
    **{
        name: lambda n, t, m, s, name=name, value=value: (n, t, m, s | {name: value})
        for name, value in {
            "seeds": (1,),
            "learning_rates": (1e-2,),
            "steps": 20,
            "batch_size": 20,
            "weight_decay": 0.1,
            "eval_every": 10,
            "patience": 2,
            "dtype": "float64",
            "polish_to": 1e-3,
        }.items()
    },
}


@pytest.mark.parametrize("change", CHANGES)
@pytest.mark.usefixtures("tuned")
def test_whatever_determines_the_result_is_in_the_key(network, task, filled, no_training, change):
    finetune(network, task, LoRA(2), cache=filled, **QUICK)
    changed, other, method, settings = CHANGES[change](network, task, LoRA(2), QUICK)
    with pytest.raises(no_training):
        finetune(changed, other, method, cache=filled, **settings)


def test_the_changes_tried_are_all_settings():
    settings = set(inspect.signature(finetune).parameters) - {"network", "task", "cache", "progress"}
    assert settings <= CHANGES.keys()


@pytest.mark.usefixtures("tuned")
def test_versions_and_device_are_in_the_key(network, task, filled, monkeypatch, no_training):
    environment = module.environment()
    for name in environment:
        monkeypatch.setattr(module, "environment", lambda name=name: environment | {name: "other"})
        with pytest.raises(no_training):
            finetune(network, task, LoRA(2), cache=filled, **QUICK)


def test_a_damaged_entry_is_rebuilt_with_a_warning(network, task, tuned, filled, monkeypatch):
    (path,) = filled.folder.iterdir()
    path.write_bytes(path.read_bytes()[:-8] + bytes(8))
    with pytest.warns(CacheWarning, match="damaged"):
        rebuilt = finetune(network, task, LoRA(2), cache=filled, **QUICK)
    monkeypatch.setattr(module, "fit", None)
    for again in (rebuilt, finetune(network, task, LoRA(2), cache=filled, **QUICK)):
        for one, other in zip(tuned, again, strict=True):
            for a, b in zip(jax.tree.leaves(one.phi), jax.tree.leaves(other.phi), strict=True):
                np.testing.assert_array_equal(a, b)


@pytest.fixture
def tiny(monkeypatch):
    settings = Settings(steps=20, batch_size=50, eval_every=10)
    one = Reference(
        name="tiny",
        description="for tests",
        config=MLPConfig((64, 8, 10)),
        task="digits_rotated",
        pretraining=settings,
        training=settings,
        learning_rates={"full": (1e-2,), "head": (1e-2,), "lora": (1e-2,), "bitfit": (1e-2,), "ia3": (1e-2,)},
        methods=("head", "bitfit"),
    )
    monkeypatch.setitem(REFERENCES, "tiny", one)
    return one


def test_an_interrupted_grid_resumes_where_it_was(tiny, cache):
    seen = []

    def interrupt(progress):
        seen.append(progress.label)
        if progress.label == "tiny bitfit" and progress.step == 10:
            raise KeyboardInterrupt

    groups = finetunings("tiny", cache=cache, progress=interrupt)
    (first, _) = next(groups)
    with pytest.raises(KeyboardInterrupt):
        next(groups)
    assert list(dict.fromkeys(seen)) == ["tiny pretraining", "tiny full", "tiny head", "tiny bitfit"]

    resumed = []
    groups = list(finetunings("tiny", cache=cache, progress=lambda progress: resumed.append(progress.label)))
    assert list(dict.fromkeys(resumed)) == ["tiny bitfit"]
    assert [[(one.method.name, one.seed) for one in group] for group in groups] == [
        [(name, 0), (name, 1)] for name in tiny.methods
    ]
    for one, other in zip(jax.tree.leaves(first.phi), jax.tree.leaves(groups[0][0].phi), strict=True):
        np.testing.assert_array_equal(one, other)
    (full,) = finetunings("tiny", ["full"], cache=cache)
    for group in groups:
        for one, of_same_seed in zip(group, full, strict=True):
            jax.tree.map(np.testing.assert_array_equal, one.full, of_same_seed.theta)


def test_the_base_network_is_exactly_representable_in_single_precision_and_knows_the_base_task(tiny, cache):
    network = pretrained(tiny, cache)
    for leaf in jax.tree.leaves(network.params):
        assert leaf.dtype == jnp.float64
        np.testing.assert_array_equal(leaf, leaf.astype(jnp.float32).astype(jnp.float64))
    base = digits_rotated().base.test
    assert np.mean(np.argmax(np.asarray(network(jnp.asarray(base.x))), axis=1) == base.y) > 0.3


def test_head_tuning_of_the_bias_free_network_breaks_equation_6_on_test_images():
    """Σ_k M^{N−k} L^{N−k} L |Φ_k| |x| has one term there, |Φ_N| |x|: L = 1, and only k = N is tuned."""
    chosen, cache = reference("mlp-relu"), Cache()
    network, new = pretrained(chosen, cache), chosen.load_task()
    settings = dataclasses.asdict(chosen.training) | {"learning_rates": chosen.rates(Head())}
    for one in finetune(network, new, Head(), seeds=(0, 1), cache=cache, **settings):
        x = new.new.test.x
        moved = np.linalg.norm(one.network.apply(one.theta, jnp.asarray(x)) - network(jnp.asarray(x)), axis=1)
        bound = np.linalg.norm(one.delta["layers"]["2"]["kernel"], 2) * np.linalg.norm(x, axis=1)
        assert np.mean(moved > bound) > 0.99
        assert one.facts["test_accuracy"] > 0.7


@pytest.mark.parametrize("name", REFERENCES)
def test_references_have_learning_rates_for_their_methods(name):
    chosen = reference(name)
    methods = [references.find_method(one) for one in chosen.methods]
    assert all(len(chosen.rates(method)) == 3 for method in methods)
    assert {"full", "head", "ia3"} < set(chosen.methods)
    assert not set(chosen.methods) & set(chosen.others)
    assert all(map(chosen.takes, chosen.methods + chosen.others))
    assert chosen.load_task().new.train.x.shape == ((1000, 8, 8) if chosen.tokens else (1000, 64))


def test_what_does_not_exist_or_apply_is_refused_before_anything_is_trained(tiny, no_training):
    with pytest.raises(ValueError, match="mlp-tanh, mlp-relu, transformer"):
        finetunings("resnet")
    with pytest.raises(ValueError, match="lora-r<N>"):
        finetunings("tiny", ["adapter"])
    with pytest.raises(ValueError, match="bias"):
        finetunings("mlp-relu", [BitFit()])
    with pytest.raises(ValueError, match="rank"):
        finetunings("tiny", ["lora-r9"])
    with pytest.raises(ValueError, match="seeds"):
        finetunings("tiny", seeds=())
    with pytest.raises(no_training):
        next(finetunings("tiny", [IA3()]))


def test_single_precision_and_foreign_parameters_are_refused(network, task, tuned):
    one = tuned[0]
    with pytest.raises(ValueError, match=r"network: got float32, needs float64.*jax_enable_x64"):
        FineTuning(network, task, one.method, one.phi)
    with pytest.raises(ValueError, match=r"phi: got float32, needs float64"):
        dataclasses.replace(one, phi=jax.tree.map(lambda leaf: leaf.astype(jnp.float32), one.phi))
    with pytest.raises(ValueError, match="phi: missing"):
        dataclasses.replace(one, method=Full())
    with pytest.raises(ValueError, match="full: missing"):
        dataclasses.replace(one, full=one.network.params["layers"])
    with jax.enable_x64(False), pytest.raises(ValueError, match="jax_enable_x64"):
        finetune(network, task, Head(), **QUICK)
