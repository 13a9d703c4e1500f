"""The transformer of `peftproof.models` once more: plain, naive NumPy that records what it passes through.

It reads a `TransformerConfig` and a parameter tree and shares no code with the flax modules, so that it can
serve as the measured side of a comparison and as the base run that the bounds are centred on.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from jaxtyping import Float

from ..scalars import SCALARS

if TYPE_CHECKING:
    from ....models.transformer import TransformerConfig

Tree = Mapping[str, Any]


@dataclass(frozen=True, eq=False)
class Run:
    """What one forward pass went through.

    Attributes:
        output: f(x; θ), shape (p, outputs).
        stages: the residual stream behind each stage by its name ("embed", "blocks/0/attention",
            "blocks/0/mlp", ..., and "norm" if there is a last one), shapes (p, length, width).
        added: what each sublayer added to the stream, same names and shapes, before a post-norm.
        pooled: what the head reads, shape (p, width).
    """

    output: Float[np.ndarray, "p outputs"]
    stages: dict[str, Float[np.ndarray, "p t width"]]
    added: dict[str, Float[np.ndarray, "p t width"]]
    pooled: Float[np.ndarray, "p width"]


def forward(config: TransformerConfig, params: Tree, x: Float[np.ndarray, "p t features"]) -> Run:
    """Run the network on a batch and record the residual stream.

    The dtype of the arithmetic is that of `params` and `x` (float64, or `np.longdouble` for a reference).

    Args:
        config: sizes and variants.
        params: nested dictionary of arrays, as `peftproof.models.transformer` lays it out.
        x: inputs, shape (p, length, features).

    Returns:
        The output with all recorded stages.
    """
    h = dense(params["embed"], x) + params["position"]["embedding"]
    stages, added = {"embed": h}, {}
    for index in range(config.depth):
        block = params["blocks"][str(index)]
        for norm, name, layer in (("norm1", "attention", attend), ("norm2", "mlp", perceptron)):
            where = f"blocks/{index}/{name}"
            if config.norm_first:
                added[where] = layer(config, block[name], normalize(config, block[norm], h))
                h = h + added[where]
            else:
                added[where] = layer(config, block[name], h)
                h = normalize(config, block[norm], h + added[where])
            stages[where] = h
    if config.norm_first:
        stages["norm"] = h = normalize(config, params["norm"], h)
    pooled = pool(config, h)
    return Run(dense(params["head"], pooled), stages, added, pooled)


def dense(layer: Tree, x: Float[np.ndarray, "*batch n"]) -> Float[np.ndarray, "*batch m"]:
    """Linear layer $x W + b$, with b = 0 where the layer has none."""
    y = x @ layer["kernel"]
    return y + layer["bias"] if "bias" in layer else y


def unit_norm(
    config: TransformerConfig, x: Float[np.ndarray, "*batch n"]
) -> tuple[Float[np.ndarray, "*batch n"], Float[np.ndarray, "*batch"]]:
    r"""Norm layer without its parameters, $h(x) = Cx / s(x)$ with $s(x) = \sqrt{\|Cx\|^2/n + \varepsilon}$.

    C subtracts the mean for LayerNorm and is the identity for RMSNorm.

    Returns:
        h, shape (..., n), and s, shape (...).
    """
    centred = x - x.mean(axis=-1, keepdims=True) if config.norm == "layer" else x
    s = np.sqrt(np.mean(centred**2, axis=-1) + config.epsilon)
    return centred / s[..., None], s


def normalize(config: TransformerConfig, layer: Tree, x: Float[np.ndarray, "*batch n"]) -> np.ndarray:
    r"""Norm layer $\gamma \circ h(x) + \beta$ (RMSNorm has no β)."""
    y = unit_norm(config, x)[0] * layer["scale"]
    return y + layer["bias"] if "bias" in layer else y


def split_heads(config: TransformerConfig, y: Float[np.ndarray, "*batch t n"]) -> np.ndarray:
    """Cut the last axis into heads and put them before the tokens: (..., heads, t, head width)."""
    return np.moveaxis(y.reshape(*y.shape[:-1], config.heads, -1), -2, -3)


def join_heads(y: Float[np.ndarray, "*batch h t c"]) -> np.ndarray:
    """The inverse of `split_heads`."""
    y = np.moveaxis(y, -3, -2)
    return y.reshape(*y.shape[:-2], -1)


def visible(config: TransformerConfig) -> np.ndarray:
    """Which token (row) sees which (column), a boolean matrix."""
    full = np.ones((config.length, config.length), dtype=bool)
    return np.tril(full) if config.causal else full


def softmax(scores: Float[np.ndarray, "*batch i j"], mask: np.ndarray) -> np.ndarray:
    """Softmax along the last axis over the visible entries; the others are exactly 0."""
    scores = np.where(mask, scores, -np.inf)
    weights = np.exp(scores - scores.max(axis=-1, keepdims=True))
    return weights / weights.sum(axis=-1, keepdims=True)


def attend(
    config: TransformerConfig, layers: Tree, z: Float[np.ndarray, "p t n"]
) -> Float[np.ndarray, "p t n"]:
    r"""Multi-head self-attention: in each head of width c, $\mathrm{softmax}(q k^T/\sqrt c)\,v$."""
    q, k, v = (split_heads(config, dense(layers[name], z)) for name in ("query", "key", "value"))
    scores = q @ np.swapaxes(k, -1, -2) / np.sqrt(np.asarray(q.shape[-1], q.dtype))
    return dense(layers["out"], join_heads(softmax(scores, visible(config)) @ v))


def perceptron(
    config: TransformerConfig, layers: Tree, z: Float[np.ndarray, "p t n"]
) -> Float[np.ndarray, "p t n"]:
    """Two linear layers with the activation between them."""
    return dense(layers["down"], SCALARS[config.activation](dense(layers["up"], z)))


def pool(config: TransformerConfig, h: Float[np.ndarray, "p t n"]) -> Float[np.ndarray, "p n"]:
    """Last token of a causal network, mean over the tokens of an encoder."""
    return h[:, -1] if config.causal else h.mean(axis=1)
