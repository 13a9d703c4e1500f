"""How far did this fine-tuning move that network?  One call, for any architecture the theorem knows."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Array, Float

from ...models.mlp import MLPConfig
from ...models.network import Network
from ...models.transformer import TransformerConfig
from . import bounds, layers
from .observed import pair_of
from .transformer_pair import TransformerPair

CHAIN_BOUNDS = {"A": bounds.base_weights, "B": bounds.tuned_weights, "C": bounds.a_priori}


@dataclass(frozen=True, eq=False, repr=False)
class Certificate:
    """What a fine-tuning did to the outputs, and what is certified about it.

    Attributes:
        measured: ‖f(x; θ) − f(x; θ₀)‖ per input, shape (p,).
        bounds: certified upper bounds by name, shapes (p,).
        layers: rows (layer, measured, bound, slack) of the sharpest layer-wise bound.
        printed: equation 6 of the paper, where it can be evaluated: **not** a bound.
    """

    measured: np.ndarray
    bounds: dict[str, np.ndarray]
    layers: tuple[dict[str, Any], ...]
    printed: np.ndarray | None = None

    @property
    def best(self) -> np.ndarray:
        """The smallest certified bound per input, shape (p,)."""
        return np.min(list(self.bounds.values()), axis=0)

    def slack(self, name: str) -> float:
        """Median over inputs of bound / measured; nan if nothing moved.

        Raises:
            ValueError: an unknown name of a bound.
        """
        if name not in self.bounds:
            raise ValueError(f"no bound {name!r}: there are {', '.join(self.bounds)}")
        moved = self.measured > 0
        return (
            float(np.median(self.bounds[name][moved] / self.measured[moved])) if moved.any() else float("nan")
        )

    def __repr__(self) -> str:
        slacks = ", ".join(f"{name} {self.slack(name):.3g}x" for name in self.bounds)
        return (
            f"Certificate({len(self.measured)} inputs, moved {np.median(self.measured):.3g}, slack {slacks})"
        )


def certify(network: Network, theta: Mapping[str, Any], x: Float[Array, "p ..."]) -> Certificate:
    r"""Certify upper bounds on $\|f(x;\theta) - f(x;\theta_0)\|_2$ for each input.

    Chains of dense layers get the bounds (A), (B) and (C), transformers the certified chain and the range
    of the last norm layer.

    Args:
        network: the base network with θ₀, float64; an `mlp`, `mlp_from_arrays` or `transformer`.
        theta: the tuned parameters θ, the tree of θ₀.
        x: inputs, float64.

    Returns:
        A `Certificate`.

    Raises:
        ValueError: a network of unknown architecture, float32 parameters or inputs, NaN or infinity.
    """
    if isinstance(network.architecture, MLPConfig):
        pair = pair_of(network, theta, x)
        values = {name: bound(pair) for name, bound in CHAIN_BOUNDS.items()}
        return Certificate(
            pair.deviation, values, layers.slack(bounds.base_weights)(pair), bounds.printed(pair)
        )
    if isinstance(network.architecture, TransformerConfig):
        pair = TransformerPair(network, theta, np.asarray(x))
        found = pair.certificate
        return Certificate(pair.deviation, {"chain": found.chain, "range": found.range}, pair.layers())
    raise ValueError(
        f"network {network.name!r} has no known architecture, so no bound can be built: make it with "
        "mlp_from_arrays or transformer, or use capacity.attack, which needs none, for a lower bound"
    )
