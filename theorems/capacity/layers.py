"""The slack of a bound, layer by layer: where it is lost."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from .. import linalg
from .feedforward import FeedForward

Bound = Callable[[FeedForward], np.ndarray]


def slack(bound: Bound) -> Callable[[FeedForward], tuple[dict[str, Any], ...]]:
    """Apply a bound to the first k layers, for every k, and set it against the measured ‖x^k − x_0^k‖.

    Args:
        bound: one of the bounds of `capacity.bounds`.

    Returns:
        A function of the instance that gives, per layer, medians over the inputs of the measured gap, the
        bound and their ratio; the ratio is None where nothing moved.
    """

    def per_layer(pair: FeedForward) -> tuple[dict[str, Any], ...]:
        rows = []
        for k, prefix in enumerate(pair.prefixes, 1):
            allowed = bound(prefix)
            measured = linalg.norm(pair.tuned[k] - pair.base[k])
            moved = measured > linalg.gamma(prefix.operations) * prefix.scale
            ratio = float(np.median(allowed[moved] / measured[moved])) if np.any(moved) else None
            rows.append(
                {
                    "layer": str(k),
                    "measured": float(np.median(measured)),
                    "bound": float(np.median(allowed)),
                    "slack": ratio,
                }
            )
        return tuple(rows)

    return per_layer
