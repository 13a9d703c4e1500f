"""The functional rank of small ReLU networks in exact arithmetic: a backward pass written out by hand."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from .modular import modular_rank


def exact_functional_rank(
    weights: Sequence[np.ndarray],
    biases: Sequence[np.ndarray] | None,
    inputs: np.ndarray,
    activation: str = "relu",
) -> int:
    r"""The rank of $\partial_\theta (f(x_i; \theta))_i$ of a perceptron, by elimination modulo a prime.

    Args:
        weights: matrices (out, in), integers or fractions.
        biases: vectors (out,), or None for a network without.
        inputs: shape (p, n).
        activation: relu or identity, after every layer but the last; inputs at a kink are left out.

    Returns:
        A lower bound of the rank, equal to it for all but finitely many primes.

    Raises:
        ValueError: an activation that is not piecewise linear.
    """
    if activation not in ("relu", "identity"):
        raise ValueError(f"activation: got {activation!r}, needs relu or identity: others are not rational")
    rows = [row for x in inputs for row in _gradients(weights, biases, x, activation)]
    return modular_rank(np.array(rows)) if rows else 0


def _gradients(
    weights: Sequence, biases: Sequence | None, x: np.ndarray, activation: str
) -> list[np.ndarray]:
    """The gradients of all outputs at one input, each (d,); nothing at a kink."""
    states, slopes, last = [x], [], len(weights) - 1
    for index, W in enumerate(weights):
        z = W @ states[-1] + (0 if biases is None else biases[index])
        active = (z > 0) if activation == "relu" and index < last else np.ones(len(z), bool)
        if activation == "relu" and index < last and (z == 0).any():
            return []
        slopes.append(active.astype(int))
        states.append(z * slopes[-1])
    gradients = []
    for output in range(len(weights[-1])):
        back, parts = np.eye(len(weights[-1]), dtype=int)[output], []
        for index in range(last, -1, -1):
            back = back * slopes[index]
            parts += [np.outer(back, states[index]).ravel()] + ([back] if biases is not None else [])
            back = back @ weights[index]
        gradients.append(np.concatenate(parts))
    return gradients
