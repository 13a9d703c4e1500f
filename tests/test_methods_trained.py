"""Every row of the table of supported methods is trained, on a perceptron and on a transformer."""

import jax
import numpy as np
import pytest
from scipy.special import logsumexp

from peftproof.models import tree
from peftproof.models.finetuning import FineTuning, finetune
from peftproof.models.methods import SUPPORT, Staged, method
from peftproof.models.mlp import MLPConfig, mlp
from peftproof.models.tasks import Split, Splits, Task
from peftproof.models.transformer import TransformerConfig, transformer

SETTINGS = {"steps": 20, "eval_every": 20, "learning_rates": (3e-2,)}
KEY = jax.random.key(0)
NETWORKS = {
    "mlp": mlp(MLPConfig((8, 12, 12, 4), "tanh"), KEY, name="mlp"),
    "transformer": transformer(
        TransformerConfig(features=4, length=3, width=8, depth=2, heads=2, hidden=12, outputs=4), KEY
    ),
}
UNDEFINED = {("prefix", "mlp"): "attention", ("s4", "mlp"): "no transformer"}
"""What a method needs that a network lacks, as the error says it."""


def learnable(shape, examples=32):
    """Inputs around four centres."""
    rng = np.random.default_rng(0)
    centres, y = rng.normal(size=(4, *shape)), rng.integers(0, 4, size=3 * examples).astype(np.int32)
    y[:4] = y[examples : examples + 4] = y[2 * examples : 2 * examples + 4] = range(4)
    x = centres[y] + 0.3 * rng.normal(size=(3 * examples, *shape))
    parts = [Split(x[i : i + examples], y[i : i + examples]) for i in range(0, 3 * examples, examples)]
    splits = Splits(*parts)
    return Task("four centres", None, splits, 4)


def cross_entropy(network, split):
    logits = np.asarray(network(split.x))
    return float((logsumexp(logits, axis=1) - logits[np.arange(len(split)), split.y]).mean())


TASKS = {"mlp": learnable((8,)), "transformer": learnable((3, 4))}


@pytest.mark.parametrize("name", NETWORKS)
@pytest.mark.parametrize("row", SUPPORT, ids=lambda row: row.stem)
def test_every_supported_method_trains(row, name):
    network, chosen = NETWORKS[name], method(row.example)
    missing = UNDEFINED.get((row.stem, name))
    if missing is not None:
        with pytest.raises(ValueError, match=missing):
            finetune(network, TASKS[name], chosen, **SETTINGS)
        return
    (tuned,) = finetune(network, TASKS[name], chosen, **SETTINGS)
    # A method starts from what it does at Φ₀: for a prefix, which takes a share of the softmax, that is not f.
    start = FineTuning(tuned.network, tuned.task, tuned.method, tuned.trainable.init(jax.random.key(0)))
    before, after = (cross_entropy(one.tuned, tuned.task.new.train) for one in (start, tuned))
    assert after < before - 1e-3, f"{row.title} went from {before} to {after}"
    assert not isinstance(tuned.method, Staged)  # the first stage has chosen the map
    if tuned.weight_space:
        moved = {path for path, leaf in tree.paths(tuned.delta).items() if np.any(np.asarray(leaf))}
        assert moved
        assert moved <= set(tuned.reparameterization.touched())
