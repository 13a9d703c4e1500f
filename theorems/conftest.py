"""Set up for judging: float64, strict promotion, a search that is the same on every machine."""

import os
import shutil
import tempfile

if "PYTEST_XDIST_WORKER" in os.environ:
    # As many workers as cores: threads of their own would only wait for each other.
    os.environ.setdefault("XLA_FLAGS", "--xla_cpu_multi_thread_eigen=false intra_op_parallelism_threads=1")
    for threads in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS"):
        os.environ.setdefault(threads, "1")

import jax
import pytest
from hypothesis import HealthCheck, settings

jax.config.update("jax_enable_x64", True)
jax.config.update("jax_numpy_dtype_promotion", "strict")
jax.config.update("jax_numpy_rank_promotion", "raise")

settings.register_profile(
    "peftproof",
    max_examples=60,  # the claims themselves are searched with more, in test_ledger
    deadline=None,
    derandomize="CI" in os.environ,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture],
)
settings.load_profile("peftproof")

CACHE = "PEFTPROOF_CACHE"


def pytest_configure(config):
    """Give the tests a cache of their own, unless one is named: they must not see the user's fits."""
    if CACHE not in os.environ:
        config.peftproof_cache = tempfile.mkdtemp(prefix="peftproof-tests-")
        os.environ[CACHE] = config.peftproof_cache


def pytest_unconfigure(config):
    """Remove it again."""
    folder = getattr(config, "peftproof_cache", None)
    if folder is not None:
        os.environ.pop(CACHE, None)
        shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture
def picture_rules():
    """A check of what every picture must do; it starts without pictures, and no setting may change."""
    import matplotlib as mpl

    mpl.use("agg")
    from matplotlib import pyplot as plt
    from matplotlib.axes import Axes

    def obeyed(draw):
        figure, (left, right) = plt.subplots(1, 2)
        assert draw(right) is right
        assert not left.has_data()
        assert plt.get_fignums() == [figure.number]
        ax = draw(None)
        assert isinstance(ax, Axes)
        assert ax.figure is not figure
        ax.figure.canvas.draw()

    plt.close("all")  # another file's pictures may be open in this process
    before = mpl.rcParams.copy()
    yield obeyed
    assert mpl.rcParams == before
    plt.close("all")


@pytest.fixture(scope="session")
def pixels():
    """Ninety images of 3 × 3 pixels in three classes, linear but for noise."""
    import numpy as np

    from peftproof.models.tasks import from_arrays

    rng = np.random.default_rng(0)
    x = rng.uniform(size=(90, 9))
    y = ((x - 0.5) @ rng.normal(size=(9, 3)) * 3 + 0.5 * rng.normal(size=(90, 3))).argmax(axis=1)
    return from_arrays(new=(x, y), name="pixels")


@pytest.fixture(scope="session")
def smooth():
    """A tanh network for them, of a few dozen parameters."""
    from peftproof.models.mlp import MLPConfig, mlp

    return mlp(MLPConfig((9, 5, 3), activation="tanh"), jax.random.key(0), name="small").astype("float64")


@pytest.fixture(scope="session")
def small_sweeps():
    """A small sweep along each axis that claims speak of, trained once and cached."""
    from peftproof.models import reference
    from peftproof.models.cache import Cache
    from peftproof.models.methods import Full, LoRA
    from peftproof.models.sweep import layer_sweep, rank_sweep
    from peftproof.models.training import Settings

    cache, chosen = Cache(), reference.reference("mlp-relu")
    (full,) = reference.finetunings("mlp-relu", methods=("full",), seeds=(0,), cache=cache)
    given = {"seeds": (0, 1, 2), "settings": Settings(steps=300, batch_size=100), "cache": cache}
    network, task = full[0].network, full[0].task
    sweeps = (
        rank_sweep(network, task, (1, 4, 16), learning_rates=chosen.rates(LoRA())[1:2], **given),
        layer_sweep(network, task, learning_rates=chosen.rates(Full())[1:2], **given),
    )
    return {("mlp-relu", one.along): one.beside(full) for one in sweeps}


@pytest.fixture(scope="session")
def small_grid():
    """A few real fine-tunings: enough to see every observed claim at work, trained once and cached."""
    from peftproof.models import reference
    from peftproof.models.cache import Cache

    wanted = {
        "mlp-relu": ("full", "head", "lora-r2", "serial-adapter-4"),
        "mlp-tanh": ("full", "bitfit"),
        "transformer": ("full", "lora-r2"),
    }
    return {
        (network, tunings[0].method.name): tunings[0]
        for network, methods in wanted.items()
        for tunings in reference.finetunings(network, methods=methods, seeds=(0,), cache=Cache())
    }


@pytest.fixture(scope="session")
def small_curves():
    """Learning curves of two methods, on few sizes and with short training, made once and cached."""
    from dataclasses import replace

    from peftproof.models import reference
    from peftproof.models.cache import Cache
    from peftproof.models.methods import BitFit, Full
    from peftproof.models.paired_curves import learning_curves
    from peftproof.models.training import Settings

    cache, chosen = Cache(), replace(reference.reference("mlp-tanh"), task="digits_noisy")
    curves = learning_curves(
        reference.pretrained(chosen, cache),
        chosen.load_task(),
        [Full(), BitFit()],
        sizes=(20, 60, 200, 600, 1000),
        learning_rates=lambda method: chosen.rates(method)[1:2],
        settings=Settings(steps=400, batch_size=20, eval_every=100, patience=4),
        cache=cache,
    )
    return {
        (f"curve {place}", one.method.name if hasattr(one, "method") else one.peft.method.name): one
        for place, one in enumerate(curves.subjects)
    }
