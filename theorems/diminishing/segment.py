r"""The loss along the segment from one update to another: its slopes and curvatures, and an exact identity.

Along $\theta(t) = \theta_1 + t\Delta$, $\Delta = \theta_2 - \theta_1$, for instance from the full update to
its truncation. What is measured on a grid bounds a maximum from *below*; the identity is exact.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from ...models import tree
from ...models.inputs import arrays
from ...models.training import cross_entropy, hashable
from .. import linalg
from ..claims import MissingIngredient

if TYPE_CHECKING:
    from ...models.network import Network
    from ...models.tasks import Split

NODES = (16, 10)  # Gauss-Legendre nodes per panel: the rule, and the coarser one that it is compared with
POINTS = sum(NODES)  # evaluated in one call of the compiled program
HALVINGS = 24
JUMPS = ("relu", "elu")  # of the gradient, of the Hessian


@dataclass(frozen=True, repr=False)
class SegmentProfile:
    r"""Loss, slope and curvature at points of a segment.

    Attributes:
        t: shape (s,), from 0 to 1.
        loss: L(θ(t)), shape (s,).
        gradient_norm: ‖∇L(θ(t))‖ over all parameters, shape (s,).
        slope: ⟨∇L(θ(t)), Δ⟩, shape (s,).
        curvature: $\Delta^T H(\theta(t))\,\Delta / \|\Delta\|^2$, the Rayleigh quotient of the Hessian in the
            direction of the segment, shape (s,); zeros if Δ = 0.
        length: ‖Δ‖.
    """

    t: Float[np.ndarray, " s"]
    loss: Float[np.ndarray, " s"]
    gradient_norm: Float[np.ndarray, " s"]
    slope: Float[np.ndarray, " s"]
    curvature: Float[np.ndarray, " s"]
    length: float

    @property
    def lipschitz(self) -> linalg.Lower:
        """Lower estimate of the largest gradient norm on the segment: the maximum over the grid."""
        return linalg.Lower(self.gradient_norm.max())

    @property
    def smoothness(self) -> linalg.Lower:
        """Lower estimate of the largest curvature in the direction of the segment, over the grid."""
        return linalg.Lower(self.curvature.max())

    def __repr__(self) -> str:
        """Show the extremes."""
        return (
            f"SegmentProfile({len(self.t)} points, length {self.length:.4g}, gradient norm up to "
            f"{self.lipschitz:.4g}, curvature {self.curvature.min():.4g} to {self.smoothness:.4g}, both on "
            "the grid only)"
        )


@dataclass(frozen=True)
class SegmentIdentity:
    r"""The two sides of $L(\theta_2) - L(\theta_1) = \langle\nabla L(\theta_1), \Delta\rangle + \int$.

    Attributes:
        change: L(θ₂) − L(θ₁), measured.
        linear: $\langle \nabla L(\theta_1), \Delta \rangle$.
        curvature: $\int_0^1 (1-t)\,\Delta^T H(\theta(t))\,\Delta\,dt$ by quadrature.
        error: an estimate (not a bound) of the quadrature error, from a coarser rule.
        scale: the largest magnitude that enters the sum, for judging what rounding can do.
        panels: number of panels of the quadrature.
    """

    change: float
    linear: float
    curvature: float
    error: float
    scale: float
    panels: int

    @property
    def residual(self) -> float:
        """Left side minus right side: 0 up to quadrature and rounding."""
        return self.change - self.linear - self.curvature


def segment_profile(
    network: Network, split: Split, first: Any, second: Any, *, points: int = POINTS
) -> SegmentProfile:
    r"""Measure the mean cross-entropy and its first two derivatives on a grid of a segment.

    Args:
        network: any network, float64; its own parameters do not matter.
        split: the examples.
        first: θ₁, a tree like the parameters, float64.
        second: θ₂.
        points: of the grid, at least 2.

    Returns:
        A `SegmentProfile`. With β the *true* maximum of its curvature, L(θ₂) ≤ L(θ₁) + slope(0) + β‖Δ‖²/2
        (T3.R4); the maximum over the grid may be smaller.

    Raises:
        ValueError: fewer than two points; trees that are not like the parameters, or not float64.

    Source: T3.R4.
    """
    if points < 2:
        raise ValueError(f"points: got {points}, needs at least 2")
    segment = _Segment.of(network, split, first, second)
    t = np.linspace(0, 1, points)
    loss, norm, slope, curvature = segment.at(t).T
    squared = segment.length**2
    return SegmentProfile(
        t, loss, norm, slope, curvature / squared if squared else np.zeros(points), segment.length
    )


def segment_identity(network: Network, split: Split, first: Any, second: Any) -> SegmentIdentity:
    r"""Compute both sides of the integral identity between two parameters.

    $$L(\theta_2) - L(\theta_1) = \langle\nabla L(\theta_1), \Delta\rangle
      + \int_0^1 (1-t)\,\Delta^T H(\theta_1 + t\Delta)\,\Delta\,dt$$

    The integral is summed over panels, which are halved until two Gauss-Legendre rules agree to rounding.
    Hessians are never formed: Δ meets them in one derivative of the gradient.

    Args:
        network: any network, float64, that is twice continuously differentiable in its parameters: where the
            Hessian jumps (ELU) the identity holds but the quadrature may miss it, and where the gradient
            jumps (ReLU) it fails.  Its own parameters do not matter.
        split: the examples.
        first: θ₁, a tree like the parameters, float64; T3.R6 takes W + ΔW* here.
        second: θ₂; T3.R6 takes W + ΔW_r.

    Raises:
        ValueError: trees that are not like the parameters, or not float64.
        MissingIngredient: one of our networks with ReLU or ELU; a quadrature that does not settle.

    Source: T3.R6; Taylor's formula with the integral remainder.  An equality.
    """
    name = getattr(network.architecture, "activation", "identity")
    if name in JUMPS:
        raise MissingIngredient(
            f"a Hessian without jumps: at the kinks of {name} or of its slope no quadrature is trusted here"
        )
    segment = _Segment.of(network, split, first, second)
    ends = segment.at(np.array([0.0, 1.0]))
    total, error, panels, magnitude = _integrate(segment)
    change, linear = float(ends[1, 0] - ends[0, 0]), float(ends[0, 2])
    scale = max(float(np.abs(ends[:, 0]).max()), abs(linear), magnitude)
    return SegmentIdentity(change, linear, total, error, scale, panels)


def _integrate(segment: _Segment) -> tuple[float, float, int, float]:
    """The integral, the estimate of its error, the number of panels, and the integral of the magnitude."""
    edges, total, error, panels, magnitude = np.array([[0.0, 1.0]]), 0.0, 0.0, 0, 0.0
    rules = [np.polynomial.legendre.leggauss(count) for count in NODES]
    for _ in range(HALVINGS):
        unsettled = []
        for low, high in edges:
            half = (high - low) / 2
            t = np.concatenate([low + half * (1 + nodes) for nodes, _ in rules])
            values = (1 - t) * segment.at(t)[:, 3] * half
            fine, coarse = (
                float(weights @ part)
                for (_, weights), part in zip(rules, np.split(values, [NODES[0]]), strict=True)
            )
            size = float(rules[0][1] @ np.abs(values[: NODES[0]]))
            if abs(fine - coarse) <= linalg.gamma(segment.operations) * (size + segment.floor * half):
                total, error, panels = total + fine, error + abs(fine - coarse), panels + 1
                magnitude += size
            else:
                unsettled += [(low, low + half), (low + half, high)]
        edges = np.array(unsettled)
        if not unsettled:
            return total, error, panels, magnitude
    raise MissingIngredient(
        f"a quadrature that settles: {len(edges)} panels do not after {HALVINGS} halvings"
    )


@dataclass(frozen=True, eq=False)
class _Segment:
    apply: Callable
    start: tree.Params
    direction: tree.Params
    data: tuple
    length: float
    operations: int

    @classmethod
    def of(cls, network: Network, split: Split, first: Any, second: Any) -> _Segment:
        for argument, given in (("first", first), ("second", second)):
            tree.check_like(given, network.params, argument)
            linalg.require_judging_precision(argument, *map(np.asarray, jax.tree.leaves(given)))
        start = jax.tree.map(jnp.asarray, tree.from_paths(tree.paths(first)))
        end = jax.tree.map(jnp.asarray, tree.from_paths(tree.paths(second)))
        direction = jax.tree.map(jnp.subtract, end, start)
        length = math.sqrt(sum(float(np.sum(np.asarray(leaf) ** 2)) for leaf in jax.tree.leaves(direction)))
        return cls(
            hashable(network.apply),
            start,
            direction,
            arrays(split, jnp.dtype(jnp.float64)),
            length,
            64 * (network.d + len(split)),
        )

    @functools.cached_property
    def floor(self) -> float:
        """What rounding of the integrand is measured against where the integrand happens to be small."""
        loss, norm, slope, curvature = self.at(np.array([0.0]))[0]
        return abs(loss) + norm * self.length + abs(slope) + abs(curvature)

    def at(self, t: Float[np.ndarray, " s"]) -> Float[np.ndarray, "s 4"]:
        """Loss, gradient norm, slope and ΔᵀHΔ at some t, in calls of one compiled program."""
        padded = np.concatenate([t, np.zeros(-len(t) % POINTS)]).reshape(-1, POINTS)
        rows = [_measured(self.apply, self.start, self.direction, self.data, jnp.asarray(p)) for p in padded]
        return np.concatenate([np.asarray(row) for row in rows])[: len(t)]


@functools.partial(jax.jit, static_argnums=0)
def _measured(
    apply: Callable, start: tree.Params, direction: tree.Params, data: tuple, t: Float[Array, " s"]
) -> Float[Array, "s 4"]:
    def loss(params: tree.Params) -> Float[Array, ""]:
        return cross_entropy(apply, params, data)[0]

    def dot(one: tree.Params, two: tree.Params) -> Float[Array, ""]:
        return sum(jax.tree.leaves(jax.tree.map(lambda a, b: jnp.sum(a * b), one, two)))

    def one(s: Float[Array, ""]) -> Float[Array, " 4"]:
        point = jax.tree.map(lambda a, b: a + s * b, start, direction)
        (value, gradient), (slope, product) = jax.jvp(jax.value_and_grad(loss), (point,), (direction,))
        return jnp.stack([value, jnp.sqrt(dot(gradient, gradient)), slope, dot(direction, product)])

    return jax.lax.map(one, t)
