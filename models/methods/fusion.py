"""Attention fusion: a late look back at what all layers of a frozen network computed."""

import dataclasses
import math

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, PRNGKeyArray

from ..mlp import MLPConfig
from ..network import Batch, Layer, Network, Outputs
from ..transformer import TransformerConfig
from ..tree import Params
from .base import Phi, intercepted
from .extension import Extension, bottom, needs_hook


@dataclasses.dataclass(frozen=True)
class AttentionFusion(Extension):
    r"""Replace the last hidden state by a mixture of all layers, chosen by a trained query.

    With h_l the output of layer l at one token, L layers and a query u of the same width m,

    α = softmax_l(u · h_l / √m) and h = (1 − γ) h_L + γ Σ_l α_l h_l

    takes the place of h_L, on the way to the last norm, the pooling and the head. Everything below stays as
    it was, so no gradient has to pass through it. The idea, tokens that are attuned to a task by attention
    over the layers of a frozen network, is that of Cao, Prakash and Hamza (2022, Findings of NAACL,
    doi 10.18653/v1/2022.findings-naacl.64); this is its smallest form. The gate γ is added here for a neutral
    start, γ = 0; `gated=False` fixes γ = 1. The head is not trained along.

    The layers of a transformer are its embedding and its blocks, seen at ``embed/output`` and
    ``blocks/<i>/output``; those of a perceptron are its hidden activations, which must be of equal width. On
    a single layer the mixture would be the layer itself.

    Attributes:
        gated: whether Φ has the gate γ.
    """

    gated: bool = True
    key = "attention_fusion"

    @property
    def neutral(self) -> bool:
        """With the gate, which is closed at zero."""
        return self.gated

    @property
    def name(self) -> str:
        """``attention-fusion``, with a note if there is no gate."""
        return "attention-fusion" + ("" if self.gated else "[gated=False]")

    def additions(self, network: Network) -> Params:
        """Φ is ``{"query": (m,), "gate": ()}``: k = m + 1.

        Raises:
            ValueError: the network is not one of ours, has fewer than two layers to fuse, or they differ in
                width.
        """
        width = self._width(network)
        needs_hook(self, network)
        query = jax.ShapeDtypeStruct((width,), network.dtype)
        gate = jax.ShapeDtypeStruct((), network.dtype)
        return {"query": query, "gate": gate} if self.gated else {"query": query}

    def draw(self, network: Network, key: PRNGKeyArray) -> Phi:
        """A query u ~ N(0, I) and the gate γ = 0: the function does not change."""
        new = self.additions(network)
        query = jax.random.normal(key, new["query"].shape, network.dtype)
        return {"query": query} | ({"gate": jnp.zeros((), network.dtype)} if self.gated else {})

    def run(self, network: Network, phi: Phi, x: Batch) -> Outputs:
        """The network with the mixture in place of its last hidden state."""
        architecture = bottom(network).architecture
        if isinstance(architecture, TransformerConfig):
            blocks = (f"blocks/{index}/output" for index in range(architecture.depth))
            layers = ["embed/output", *blocks]
        else:
            layers = [f"layers/{index}" for index in range(1, architecture.layers)]
        seen = []

        def wrap(name: str, layer: Layer, h: Array) -> Array:
            if name not in layers:
                return layer(h)
            # A hidden activation of a perceptron is met where it enters the next layer.
            before = isinstance(architecture, MLPConfig)
            seen.append(h if before else layer(h))
            mixed = _fused(seen, phi) if name == layers[-1] else seen[-1]
            return layer(mixed) if before else mixed

        return intercepted(self, network, wrap, layers)(x)

    def _width(self, network: Network) -> int:
        match bottom(network).architecture:
            case TransformerConfig(depth=count, width=width):
                widths = (width,) * (count + 1)
            case MLPConfig(widths=(_, *hidden, _)):
                widths = tuple(hidden)
            case _:
                raise ValueError(
                    f"network: {network.name!r} has no known architecture, so {self.name} does not know its "
                    "layers; use a network that mlp or transformer built"
                )
        if len(widths) < 2:
            raise ValueError(
                f"network: {network.name!r} has {len(widths)} hidden layers, and {self.name} needs "
                "two or more to choose among; use a deeper network"
            )
        if len(set(widths)) > 1:
            raise ValueError(
                f"network: the hidden layers of {network.name!r} have the widths {widths}, and {self.name} "
                "adds them up; use a network whose hidden layers have one width"
            )
        return widths[0]


def _fused(states: list[Float[Array, "... m"]], phi: Phi) -> Float[Array, "... m"]:
    """(1 − γ) h_L + γ Σ α_l h_l, as h_L + γ (Σ α_l h_l − h_L): exactly h_L at γ = 0."""
    h = jnp.stack(states)
    weights = jax.nn.softmax(h @ phi["query"] / math.sqrt(h.shape[-1]), axis=0)
    mixed = jnp.sum(weights[..., None] * h, axis=0)
    return h[-1] + phi["gate"] * (mixed - h[-1]) if "gate" in phi else mixed
