"""The activations once more, in NumPy: the naive twin that the measured side of a comparison runs on.

`peftproof.models.ACTIVATIONS` holds the JAX functions that networks are built from; these share nothing with
them but the name.  `relu` and `identity` work on exact numbers too.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from scipy import special

_SQRT_TWO_OVER_PI = np.sqrt(2 / np.pi)

SCALARS: dict[str, Callable[[np.ndarray], np.ndarray]] = {
    "identity": lambda z: z,
    "relu": lambda z: np.maximum(z, 0),
    "tanh": np.tanh,
    "sigmoid": special.expit,
    "softplus": lambda z: np.logaddexp(0, z),
    "elu": lambda z: np.where(z > 0, z, np.expm1(np.minimum(z, 0))),
    "silu": lambda z: z * special.expit(z),
    "gelu": lambda z: z * special.ndtr(z),
    "gelu_tanh": lambda z: 0.5 * z * (1 + np.tanh(_SQRT_TWO_OVER_PI * (z + 0.044715 * z**3))),
}


def _gelu_tanh_slope(z: np.ndarray) -> np.ndarray:
    t = np.tanh(_SQRT_TWO_OVER_PI * (z + 0.044715 * z**3))
    return 0.5 * (1 + t) + 0.5 * z * (1 - t**2) * _SQRT_TWO_OVER_PI * (1 + 3 * 0.044715 * z**2)


SLOPES: dict[str, Callable[[np.ndarray], np.ndarray]] = {
    "identity": np.ones_like,
    "relu": lambda z: np.where(z > 0, 1.0, 0.0),
    "tanh": lambda z: 1 - np.tanh(z) ** 2,
    "sigmoid": lambda z: special.expit(z) * special.expit(-z),
    "softplus": special.expit,
    "elu": lambda z: np.where(z > 0, 1.0, np.exp(np.minimum(z, 0))),
    "silu": lambda z: special.expit(z) * (1 + z * special.expit(-z)),
    "gelu": lambda z: special.ndtr(z) + z * np.exp(-0.5 * z**2) / np.sqrt(2 * np.pi),
    "gelu_tanh": _gelu_tanh_slope,
}
