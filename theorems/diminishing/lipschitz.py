r"""How fast the mean cross-entropy of a perceptron can change with its weights: certified upper bounds.

The loss of a network is Lipschitz in its weights on bounded sets only; the paper's "smooth and continuous"
gives no constant and no set.  Here both are given: per layer k, a bound G_k on the Frobenius norm of the
gradient with respect to (W_k, b_k) that holds in a whole ball of parameters.  It comes from spectral norms
(upper estimates), the Lipschitz constants of the activations, and one run of the network at the centre.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import jax.numpy as jnp
import numpy as np

from ...models import tree
from ...models.activations import ACTIVATIONS, Activation
from ...models.mlp import MLPConfig
from .. import linalg
from ..claims import MissingIngredient

if TYPE_CHECKING:
    from ...models.network import Network
    from ...models.tasks import Split

RANGES = {"tanh": 1.0, "sigmoid": 1.0}  # sup |σ|, where it is finite
ULPS = 16  # which evaluating an activation may be off by, relative to its argument and its value
ROOT_TWO = math.nextafter(math.sqrt(2), 2)


@dataclass(frozen=True, repr=False)
class LossLipschitz:
    r"""Certified constants of the loss in a ball of parameters.

    Attributes:
        layers: G_k, one per layer, upper bounds on $\|\nabla_{(W_k, b_k)} L\|_F$ throughout the ball.
        radii: of the ball around the parameters of the network, one per layer.
        joint: the radius that all layers share, $\sum_k \|\cdot\|_F^2 \le R^2$; None if each has its own.
    """

    layers: tuple[linalg.Upper, ...]
    radii: tuple[float, ...]
    joint: float | None

    @property
    def value(self) -> linalg.Upper:
        r"""$G = (\sum_k G_k^2)^{1/2}$: $|L(\theta) - L(\theta')| \le G\,\|\theta - \theta'\|$ in the ball."""
        squares = sum(each * each for each in self.layers)
        return linalg.Upper(math.sqrt(squares) * (1 + linalg.gamma(len(self.layers) + 4)))

    def change(self, distances: Sequence[float]) -> linalg.Upper:
        r"""Bound on $|L(\theta) - L(\theta')|$: $\sum_k G_k \|\theta_k - \theta'_k\|_F$, at most G times all.

        Args:
            distances: $\|(W_k, b_k) - (W'_k, b'_k)\|_F$ per layer, of two points of the ball.

        Raises:
            ValueError: another number of distances than of layers.
        """
        if len(distances) != len(self.layers):
            raise ValueError(
                f"distances: got {len(distances)}, needs {len(self.layers)}: use layer_distances"
            )
        total = sum(G * distance for G, distance in zip(self.layers, distances, strict=True))
        return linalg.Upper(total * (1 + linalg.gamma(2 * len(self.layers) + 2)))

    def __repr__(self) -> str:
        """Show the constants."""
        each = ", ".join(f"{G:.4g}" for G in self.layers)
        ball = f"joint radius {self.joint:.4g}" if self.joint is not None else "a radius per layer"
        return f"LossLipschitz({self.value:.4g}; per layer {each}; {ball})"


def loss_lipschitz(network: Network, split: Split, radius: float | Sequence[float]) -> LossLipschitz:
    r"""Bound the gradient of the mean cross-entropy in a ball around the parameters of a perceptron.

    With $w_k = \|W_k\|_2 + \rho_k$, and the norms $m_k$ of the activations and $e_k$ of their deviation from
    the run $a^0$ at the centre bounded by

    $$e_k = L_k\big(w_k e_{k-1} + \rho_k (\|a^0_{k-1}\|^2 + 1)^{1/2}\big),\qquad
      m_k = \min\{\|a^0_k\| + e_k,\ \sqrt{n_k}\,\sup|\sigma_k|\},$$

    the bound of one example is

    $$G_k = \min\{\sqrt2,\ \|p^0 - \mathbf e_y\| + \tfrac12 e_N\}\; L_k \prod_{j>k} L_j w_j\;
    (m_{k-1}^2 + 1)^{1/2},$$

    and that of the loss is the mean over examples.  In a joint ball the product is bounded by its maximum
    under $\sum_k \rho_k^2 \le R^2$.  Attained by one linear layer and one example at
    radius 0.

    Args:
        network: a perceptron of `peftproof.models.mlp`, float64; its parameters are the centre.  Its
            activations are taken to be evaluated to within 16 ε of argument and value.
        split: the examples that the loss is the mean of.
        radius: R of the ball $\sum_k \|(\delta W_k, \delta b_k)\|_F^2 \le R^2$, or one ρ_k per layer, 0 where
            a layer does not move.

    Returns:
        A `LossLipschitz`; rounding is accounted for.

    Raises:
        ValueError: float32 parameters; radii that are negative, or not one per layer; data that do not fit.
        MissingIngredient: a network that is no perceptron, of which nothing is certified here.

    Source: T3.R3; $\|p - \mathbf e_y\| \le \sqrt2$ is the Lipschitz constant of cross-entropy in the logits.
    """
    config = _config(network, split)
    weights, biases = _layers(network, config)
    joint = float(radius) if np.ndim(radius) == 0 else None
    radii = _radii(radius, config.layers)
    activations = [ACTIVATIONS[config.activation_of(k)] for k in range(config.layers)]
    norms = [float(linalg.spectral_norm(weight)) for weight in weights]
    sizes, deviation, residual = _forward(split, weights, biases, activations, norms, radii)
    head = np.minimum(ROOT_TWO, residual + deviation / 2)
    steps = linalg.gamma(8 * config.layers + len(split) + 16)
    constants = []
    for k in range(config.layers):
        above = [norms[j] for j in range(k + 1, config.layers)]
        slopes = math.prod(each.lipschitz for each in activations[k:])
        if joint is None:
            product = math.prod(w + rho for w, rho in zip(above, radii[k + 1 :], strict=True))
        else:
            product = _largest_product(above, joint)
        one = float(biases is not None)
        mean = float(np.mean(head * np.sqrt(sizes[k] ** 2 + one)))
        constants.append(linalg.Upper(slopes * product * mean * (1 + steps)))
    return LossLipschitz(tuple(constants), radii, joint)


def layer_distances(network: Network, first: Any, second: Any) -> tuple[float, ...]:
    """Frobenius distances of two parameter trees of a perceptron, one per layer, bias included.

    Raises:
        ValueError: trees that are not like the network's parameters.
        MissingIngredient: a network that is no perceptron.
    """
    if not isinstance(network.architecture, MLPConfig):
        raise MissingIngredient(f"a perceptron, whose layers are known: {network.name!r} is none")
    for name, given in (("first", first), ("second", second)):
        tree.check_like(given, network.params, name)
    one, two = tree.paths(first), tree.paths(second)
    squares = [0.0] * network.architecture.layers
    for path in one:
        gap = np.asarray(one[path], np.float64) - np.asarray(two[path], np.float64)
        squares[int(path.split("/")[1])] += float(np.sum(gap**2))
    return tuple(math.sqrt(square) * (1 + linalg.gamma(network.d + 4)) for square in squares)


def segment_change(
    network: Network, split: Split, first: Any, second: Any, *, pieces: int = 8
) -> tuple[linalg.Upper, linalg.Upper]:
    r"""Certify the change of the loss along a segment, and its Lipschitz constant there.

    The segment is cut into pieces of equal length; each lies in the product of balls of radii
    $\|\Delta_k\|_F / (2\,\mathrm{pieces})$ around its middle, where `loss_lipschitz` applies.  More pieces
    give smaller constants and take more time.

    Args:
        network: a perceptron; its own parameters do not matter.
        split: the examples.
        first: one end, a tree like the parameters, float64.
        second: the other end.
        pieces: number of pieces, at least 1.

    Returns:
        An upper bound on |L(second) − L(first)|, and one on the gradient norm all along the segment.

    Raises:
        ValueError: fewer than one piece, or as `loss_lipschitz`.
        MissingIngredient: a network that is no perceptron.

    Source: T3.R3.
    """
    if pieces < 1:
        raise ValueError(f"pieces: got {pieces}, needs at least 1")
    distances = layer_distances(network, first, second)
    sizes = layer_distances(network, tree.zeros_like(network.params), second)
    radii = [  # the middles are rounded
        distance / (2 * pieces) * (1 + linalg.gamma(16)) + linalg.gamma(8) * (size + distance)
        for distance, size in zip(distances, sizes, strict=True)
    ]
    change, largest = 0.0, 0.0
    one, two = tree.paths(first), tree.paths(second)
    for piece in range(pieces):
        t = (piece + 0.5) / pieces
        middle = {path: (1 - t) * np.asarray(one[path]) + t * np.asarray(two[path]) for path in one}
        found = loss_lipschitz(network.with_params(tree.from_paths(middle)), split, radii)
        change += found.change(distances) / pieces
        largest = max(largest, found.value)
    return linalg.Upper(change * (1 + linalg.gamma(pieces + 4))), linalg.Upper(largest)


def _forward(
    split: Split,
    weights: list[np.ndarray],
    biases: list[np.ndarray] | None,
    activations: list[Activation],
    norms: list[float],
    radii: tuple[float, ...],
) -> tuple[list[np.ndarray], np.ndarray, np.ndarray]:
    """Bounds, per example, on the inputs of each layer, the deviation of the logits, and ‖p⁰ − e_y‖.

    The deviation starts with what rounding has done to the run at the centre, so the true run is covered.
    """
    a = split.x
    size, error = linalg.norm(a) * (1 + linalg.gamma(a.shape[1] + 8)), np.zeros(len(a))
    sizes = []
    for k, (weight, sigma) in enumerate(zip(weights, activations, strict=True)):
        bias = np.zeros(len(weight)) if biases is None else biases[k]
        sizes.append(size)
        z = a @ weight.T + bias
        up = 1 + linalg.gamma(4 * sum(weight.shape) + 32)
        rounding = linalg.gamma(weight.shape[1] + 2) * linalg.norm(
            np.abs(a) @ np.abs(weight).T + np.abs(bias)
        )
        moved = radii[k] * np.sqrt(linalg.norm(a) ** 2 + float(biases is not None))
        error = sigma.lipschitz * ((norms[k] + radii[k]) * error + moved + rounding)
        a = np.asarray(sigma(jnp.asarray(z)))
        error = (error + ULPS * linalg.EPS * (linalg.norm(z) + linalg.norm(a))) * up
        size = (linalg.norm(a) + error) * up
        size = np.minimum(size, RANGES.get(sigma.name, math.inf) * math.sqrt(len(weight)) * up)
    p = np.exp(a - a.max(axis=1, keepdims=True))
    p /= p.sum(axis=1, keepdims=True)
    p[np.arange(len(p)), split.y] -= 1
    return sizes, error, linalg.norm(p) + linalg.gamma(64 * p.shape[1]) * 2


def _largest_product(norms: list[float], radius: float) -> float:
    r"""Upper bound on $\prod_j (w_j + \rho_j)$ under $\sum_j \rho_j^2 \le R^2$, ρ ≥ 0.

    The logarithm is concave, so its tangent at any point bounds it; at the maximiser the bound is exact.
    """
    w = np.asarray(norms)
    if len(w) == 0 or radius == 0:
        return float(np.prod(w))
    # The maximiser has ρ_j (w_j + ρ_j) = μ² for all j with a μ in which the sum of squares grows.
    low, high = 0.0, 2 * math.sqrt(radius * (radius + float(w.max())))
    for _ in range(200):
        middle = (low + high) / 2
        rho = (np.sqrt(w**2 + 4 * middle**2) - w) / 2
        low, high = (middle, high) if rho @ rho <= radius**2 else (low, middle)
    rho = (np.sqrt(w**2 + 4 * high**2) - w) / 2
    slope = 1 / (w + rho)
    excess = radius * float(np.linalg.norm(slope)) - float(rho @ slope)
    rounding = 64 * len(w) * linalg.EPS * (1 + radius * float(np.linalg.norm(slope)))
    return float(np.prod(w + rho)) * math.exp(max(excess, 0.0) + rounding)


def _config(network: Network, split: Split) -> MLPConfig:
    config = network.architecture
    if not isinstance(config, MLPConfig):
        raise MissingIngredient(
            f"a perceptron, for which this Lipschitz constant is certified: {network.name!r} is none"
        )
    if split.x.shape[1:] != config.widths[:1] or int(split.y.max()) >= config.widths[-1]:
        raise ValueError(
            f"split: got inputs of shape {split.x.shape[1:]} and labels up to {int(split.y.max())}, needs "
            f"({config.widths[0]},) and at most {config.widths[-1] - 1}"
        )
    return config


def _layers(network: Network, config: MLPConfig) -> tuple[list[np.ndarray], list[np.ndarray] | None]:
    leaves = {path: np.asarray(leaf) for path, leaf in tree.paths(network.params).items()}
    linalg.require_judging_precision("network", *leaves.values())
    weights = [leaves[f"layers/{k}/kernel"].T for k in range(config.layers)]
    biases = [leaves[f"layers/{k}/bias"] for k in range(config.layers)] if config.biases else None
    return weights, biases


def _radii(radius: float | Sequence[float], layers: int) -> tuple[float, ...]:
    radii = (float(radius),) * layers if np.ndim(radius) == 0 else tuple(float(each) for each in radius)
    if len(radii) != layers or not all(0 <= each < math.inf for each in radii):
        raise ValueError(
            f"radius: got {radius}, needs one finite number >= 0, or {layers} of them, one per layer"
        )
    return radii
