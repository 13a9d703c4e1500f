"""Set up for judging: float64, strict promotion, a search that is the same on every machine."""

import os
import shutil
import tempfile

import jax
import pytest
from hypothesis import HealthCheck, settings

jax.config.update("jax_enable_x64", True)
jax.config.update("jax_numpy_dtype_promotion", "strict")
jax.config.update("jax_numpy_rank_promotion", "raise")

settings.register_profile(
    "peftproof",
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
