"""Prefix tuning: trainable keys and values in front of those that a transformer computes."""

import dataclasses

import jax
import jax.numpy as jnp
from jaxtyping import Array, PRNGKeyArray

from .. import tree
from ..mlp import MLPConfig
from ..network import Batch, Layer, Network, Outputs
from ..transformer import TransformerConfig
from ..tree import Params
from .base import Phi, intercepted
from .extension import Extension, bottom, needs_hook
from .ia3 import Patterns


@dataclasses.dataclass(frozen=True)
class Prefix(Extension):
    r"""Put n trainable keys P_K and values P_V in front of those of each attention layer.

    softmax(q [P_K; k]ᵀ / √c) [P_V; v] in each head of width c, with P_K and P_V of shape (n, width) split
    among the heads as the keys are. All positions see the prefix, those of causal decoders too. It enters
    behind the projections, so that it can hold what no input token could (Li and Liang 2021,
    arXiv 2101.00190; they train it through an auxiliary network, which is left out here).

    No Φ is neutral: a prefix of zeros still takes the softmax weight that scores of zero get, and shrinks
    what attention returns. The start is Φ ~ N(0, 1 / width).

    Attributes:
        length: n.
        blocks: pattern (or several) of the blocks that get a prefix.

    Raises:
        ValueError: a length below 1.
    """

    length: int = 4
    blocks: Patterns = "blocks/*"
    key = "prefix"
    neutral = False

    def __post_init__(self) -> None:
        if isinstance(self.length, bool) or int(self.length) != self.length or self.length < 1:
            raise ValueError(
                f"length: got {self.length}, needs a positive number of prefix tokens, such as 4"
            )
        if not isinstance(self.blocks, str):
            object.__setattr__(self, "blocks", tuple(self.blocks))

    @property
    def name(self) -> str:
        """``prefix-<length>``, followed by the blocks if they are given."""
        blocks = self.blocks if isinstance(self.blocks, str) else ",".join(self.blocks)
        return f"prefix-{self.length}" + ("" if blocks == "blocks/*" else f"[{blocks}]")

    def additions(self, network: Network) -> Params:
        """Φ is ``{block: {"key": (n, width), "value": (n, width)}}``, as a tree: k = 2 n · width · blocks.

        Raises:
            ValueError: the network is not one of our transformers, or a pattern matches no block.
        """
        base = bottom(network)
        if not isinstance(base.architecture, TransformerConfig):
            why = (
                "is a perceptron and has no attention"
                if isinstance(base.architecture, MLPConfig)
                else "has no known architecture, so where its keys and values are is not known"
            )
            raise ValueError(
                f"network: {network.name!r} {why}, and {self.name} puts keys and values into attention; use "
                "a network that transformer built, or another method"
            )
        needs_hook(self, network)
        names = [f"blocks/{index}" for index in range(base.architecture.depth)]
        shape = jax.ShapeDtypeStruct((self.length, base.architecture.width), base.dtype)
        blocks = tree.match_names(names, self.blocks, "block")
        return tree.from_paths({f"{block}/{part}": shape for block in blocks for part in ("key", "value")})

    def draw(self, network: Network, key: PRNGKeyArray) -> Phi:
        """Φ ~ N(0, 1 / width), which changes the function: there is no neutral start."""
        leaves, structure = jax.tree.flatten(self.additions(network))
        keys = jax.random.split(key, len(leaves))
        drawn = [
            jax.random.normal(one, leaf.shape, leaf.dtype) / leaf.shape[1] ** 0.5
            for one, leaf in zip(keys, leaves, strict=True)
        ]
        return jax.tree.unflatten(structure, drawn)

    def run(self, network: Network, phi: Phi, x: Batch) -> Outputs:
        """The transformer with the prefix in front of its keys and values."""
        prefixes = {}
        for path, leaf in tree.paths(phi).items():
            block, part = path.rsplit("/", 1)
            prefixes[f"{block}/attention/{part}"] = leaf

        def wrap(name: str, layer: Layer, h: Array) -> Array:
            y = layer(h)
            if name not in prefixes:
                return y
            prefix = prefixes[name]
            return jnp.concatenate([jnp.broadcast_to(prefix[None], (len(y), *prefix.shape)), y], axis=1)

        return intercepted(self, network, wrap, prefixes)(x)
