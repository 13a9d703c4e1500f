"""The parameter tree that a `TransformerConfig` stands for, and the checks at the boundary."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
from jaxtyping import Float

from ... import linalg

if TYPE_CHECKING:
    from ....models.transformer import TransformerConfig

Tree = Mapping[str, Any]


def expected_shapes(config: TransformerConfig) -> dict[str, tuple[int, ...]]:
    """Shape of every parameter by its path."""
    n, shapes = config.width, {"position/embedding": (config.length, config.width)}
    layers = {"embed": (config.features, n), "head": (n, config.outputs)}
    norms = ["norm"] if config.norm_first else []
    for b in range(config.depth):
        layers |= {f"blocks/{b}/attention/{name}": (n, n) for name in ("query", "key", "value", "out")}
        layers |= {f"blocks/{b}/mlp/up": (n, config.hidden), f"blocks/{b}/mlp/down": (config.hidden, n)}
        norms += [f"blocks/{b}/norm1", f"blocks/{b}/norm2"]
    for path, shape in layers.items():
        shapes[f"{path}/kernel"] = shape
        shapes |= {f"{path}/bias": shape[1:]} if config.biases else {}
    for path in norms:
        shapes[f"{path}/scale"] = (n,)
        shapes |= {f"{path}/bias": (n,)} if config.norm == "layer" else {}
    return shapes


def flat(params: Tree, prefix: str = "") -> dict[str, np.ndarray]:
    """Leaves by path, as NumPy arrays."""
    leaves = {}
    for key, node in params.items():
        path = f"{prefix}{key}"
        leaves |= flat(node, f"{path}/") if isinstance(node, Mapping) else {path: np.asarray(node)}
    return leaves


def checked(config: TransformerConfig, params: Tree, argument: str) -> Tree:
    """Return the parameters as float64 NumPy arrays in the layout of the configuration.

    Raises:
        ValueError: missing or unknown paths, a wrong shape, another dtype than float64, NaN or infinity.
    """
    leaves, wanted = flat(params), expected_shapes(config)
    missing, unknown = wanted.keys() - leaves.keys(), leaves.keys() - wanted.keys()
    if missing or unknown:
        raise ValueError(
            f"{argument}: missing {sorted(missing) or 'nothing'}, unknown {sorted(unknown) or 'nothing'}; "
            "pass the parameters of a network built from this config"
        )
    nested: dict[str, Any] = {}
    for path, leaf in leaves.items():
        if leaf.shape != wanted[path]:
            raise ValueError(
                f"{argument}: {path!r} has shape {leaf.shape}, but the config needs {wanted[path]}"
            )
        linalg.require_judging_precision(f"{argument}, {path!r},", leaf)
        *parents, last = path.split("/")
        node = nested
        for part in parents:
            node = node.setdefault(part, {})
        node[last] = leaf
    return nested


def checked_input(config: TransformerConfig, x: np.ndarray) -> Float[np.ndarray, "p t features"]:
    """Return the inputs as a float64 array.

    Raises:
        ValueError: another shape than (p, length, features) with p >= 1, another dtype, NaN or infinity.
    """
    x = np.asarray(x)
    shape = (config.length, config.features)
    if x.ndim != 3 or x.shape[1:] != shape or len(x) == 0:
        raise ValueError(
            f"x: got shape {x.shape}, needs (p, {shape[0]}, {shape[1]}) with p >= 1; x[None] adds an axis"
        )
    linalg.require_judging_precision("x", x)
    return x
