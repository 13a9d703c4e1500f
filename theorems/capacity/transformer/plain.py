r"""The plain chain, to measure the sharper one by: products of norms, the largest token for all.

$e \leftarrow e + \mathrm{Lip}(G; R)\, e' + d$ for each residual sublayer, where $e'$ is the two-point bound
of its norm layer from the base point, R the radius of its outputs, and $d$ the measured effect of the update
on the base run.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from jaxtyping import Float

from ....models.activations import activation
from ... import linalg
from .forward import attend, dense, forward, normalize, perceptron, pool, unit_norm
from .layout import Tree
from .norms import norm_radius, two_point_from_base

if TYPE_CHECKING:
    from ....models.transformer import TransformerConfig

Array = np.ndarray


def plain_chain(
    config: TransformerConfig, base: Tree, tuned: Tree, x: Float[Array, "p t features"]
) -> Float[Array, " p"]:
    r"""Upper bound on $\|f(x;\theta) - f(x;\theta_0)\|_2$ from layer constants alone, for pre-norm networks.

    Args:
        config: sizes and variants; pre-norm.
        base: θ₀.
        tuned: θ.
        x: inputs.

    Returns:
        One bound per input, without an allowance for rounding; valid, and usually far above
        `deviation_bound`.

    Raises:
        ValueError: a post-norm configuration.
    """
    if not config.norm_first:
        raise ValueError("config: got norm_first=False, but the plain chain is written for pre-norm networks")
    run = forward(config, base, x)
    stream = run.stages["embed"]
    e = _largest(dense(tuned["embed"], x) + tuned["position"]["embedding"] - stream)
    for index in range(config.depth):
        old, new = base["blocks"][str(index)], tuned["blocks"][str(index)]
        for norm, name, layer in (("norm1", "attention", attend), ("norm2", "mlp", perceptron)):
            lipschitz = _lipschitz(
                config, name, new[name], norm_radius(config, new[norm]["scale"], new[norm].get("bias"))
            )
            with_new = layer(config, new[name], normalize(config, new[norm], stream))
            with_old = layer(config, old[name], normalize(config, old[norm], stream))
            e = e + lipschitz * _behind(config, new[norm], stream, e) + _largest(with_new - with_old)
            stream = run.stages[f"blocks/{index}/{name}"]
    head = linalg.spectral_norm(tuned["head"]["kernel"])
    last = dense(tuned["head"], pool(config, normalize(config, tuned["norm"], stream))) - run.output
    return head * _behind(config, tuned["norm"], stream, e) + np.linalg.norm(last, axis=-1)


def _largest(change: Float[Array, "p t n"]) -> Float[Array, " p"]:
    return np.linalg.norm(change, axis=-1).max(axis=-1)


def _behind(
    config: TransformerConfig, norm: Tree, stream: Float[Array, "p t n"], e: Float[Array, " p"]
) -> Array:
    s = unit_norm(config, stream)[1]
    moves = two_point_from_base(e[:, None], s, config.width, config.epsilon)
    return np.max(np.abs(norm["scale"])) * moves.max(axis=-1)


def _lipschitz(config: TransformerConfig, name: str, layers: Tree, radius: float) -> float:
    if name == "mlp":
        norms = [linalg.spectral_norm(layers[each]["kernel"]) for each in ("up", "down")]
        return activation(config.activation).lipschitz * norms[0] * norms[1]
    root, total = np.sqrt(config.width // config.heads), 0.0
    cut = {each: np.split(layers[each]["kernel"], config.heads, axis=1) for each in ("query", "key", "value")}
    outs = np.split(layers["out"]["kernel"], config.heads, axis=0)
    biases = np.split(layers["query"].get("bias", np.zeros(config.width)), config.heads)
    for wq, wk, wv, wo, bq in zip(cut["query"], cut["key"], cut["value"], outs, biases, strict=True):
        score = linalg.spectral_norm(wq @ wk.T) / root
        reach = np.linalg.norm(wk @ bq) / root
        total += linalg.spectral_norm(wv @ wo) * (1 + radius * (2 * score * radius + reach))
    return total
