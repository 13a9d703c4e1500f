"""Every row of the table of supported methods is trained, on a perceptron and on a transformer."""

import jax
import numpy as np
import pytest
from scipy.special import logsumexp

from peftproof.models import tree
from peftproof.models.fit import fit
from peftproof.models.methods import SUPPORT, Staged, method
from peftproof.models.mlp import MLPConfig, mlp
from peftproof.models.tasks import Split, Splits
from peftproof.models.transformer import TransformerConfig, transformer

SETTINGS = {"steps": 20, "eval_every": 20, "learning_rates": (3e-2,)}
EXAMPLES = 32
KEY = jax.random.key(0)
SIZES = {"features": 4, "length": 3, "width": 8, "depth": 2, "heads": 2, "hidden": 12, "outputs": 4}
NETWORKS = {
    "mlp": mlp(MLPConfig((8, 12, 12, 4), "tanh"), KEY, np.float32, name="mlp"),
    "transformer": transformer(TransformerConfig(**SIZES), KEY, np.float32),
}
UNDEFINED = {("prefix", "mlp"): "attention", ("s4", "mlp"): "no transformer"}
"""Methods that a network lacks what they need for, and what the error says of it."""


def learnable(shape):
    """Inputs around four centres, the same examples in each split."""
    rng = np.random.default_rng(0)
    centres, y = rng.normal(size=(4, *shape)), np.arange(EXAMPLES, dtype=np.int32) % 4
    split = Split(centres[y] + 0.3 * rng.normal(size=(EXAMPLES, *shape)), y)
    return Splits(split, split, split)


DATA = {"mlp": learnable((8,)), "transformer": learnable((3, 4))}


def cross_entropy(network, split):
    logits = np.asarray(network(split.x.astype(np.float32)))
    return float((logsumexp(logits, axis=1) - logits[np.arange(len(split)), split.y]).mean())


@pytest.mark.parametrize("name", NETWORKS)
@pytest.mark.parametrize("row", SUPPORT, ids=lambda row: row.stem)
def test_every_supported_method_trains(row, name):
    network, chosen = NETWORKS[name], method(row.example)
    missing = UNDEFINED.get((row.stem, name))
    if missing is not None:
        with pytest.raises(ValueError, match=missing):
            fit(network, DATA[name], chosen, **SETTINGS)
        return
    result = fit(network, DATA[name], chosen, **SETTINGS)
    # A prefix takes its share of the softmax from the start: what training starts from is not always f.
    staged = isinstance(chosen, Staged)
    before = cross_entropy(network, DATA[name].train) if staged else result.train_loss[0, 0, 0]
    after = result.train_loss[0, 0, -1]
    assert after < before - 1e-3, f"{row.title} went from {before} to {after}"
    (resolved,) = result.methods
    assert not isinstance(resolved, Staged), "the first stage has chosen the map"
    if resolved.weight_space:
        made = resolved.reparameterize(network)
        moved = {path for path, leaf in tree.paths(made.g(result.best(0))).items() if np.any(leaf)}
        assert moved
        assert moved <= set(made.touched())
