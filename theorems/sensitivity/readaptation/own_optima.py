r"""A method at its own optimum: where its training on D has come to rest, any map g.

There $D g^T \nabla F = 0$, but $\nabla F \ne 0$, and the Hessian in Φ is
$H_\Phi = Dg^T H\, Dg + \sum_i (\nabla F)_i \nabla^2 g_i$.  LoRA's factors can be turned without changing
their product: H_Φ is singular along these directions, in which nothing moves; they are counted and left out.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

import jax.numpy as jnp
import numpy as np
from jax.flatten_util import ravel_pytree
from jax.tree_util import Partial
from jaxtyping import Float

from ....models import derivatives
from ....models.pulled_back import PulledBackLoss
from ... import curvature, linalg
from ..fact import Fact
from . import descent
from .paths import Coordinates, Trace, at_zero, value

if TYPE_CHECKING:
    from ....models.methods import Method
    from ....models.methods.base import Phi
    from ....models.network import Network
    from ....models.tasks import Split
    from ...curvature import PulledBack

_CUT = 1e-9
"""Relative to the largest eigenvalue: what is smaller counts as a direction that g does not move in."""
_STEEP = 1e-6
_ROUNDS = 4
_STEPS = 20_000
_NEAR = 64 * linalg.EPS
Vector = Float[np.ndarray, " k"]


@dataclass(frozen=True)
class Image:
    """The chart (θ₀, Φ*, V, z) ↦ θ₀ + g(Φ* + V z) of a method; equal ones share their compiled programs."""

    loss: PulledBackLoss

    def __call__(self, theta0: Any, phi: Any, directions: Any, z: Any) -> Any:
        """Θ, raveled."""
        return ravel_pytree(theta0)[0] + self.loss.update(phi + directions @ z, theta0)


@dataclass(frozen=True, eq=False, repr=False)
class OwnOptimum:
    r"""Where a method has come to rest on D.

    Attributes:
        network: f and θ₀.
        loss: F in Φ.
        phi: Φ*, raveled, shape (k,).
        theta: θ₀ + g(Φ*), raveled, shape (d,).
        value: F there.
        gradient_norm: ‖∇_Φ F‖₂.
        decrement: ½∇_ΦFᵀH_Φ⁺∇_ΦF, about how far that is above the minimum.
        directions: V, shape (k, m): $V^T H_\Phi V = I$ on the directions that were kept.
        tangent: Dg V, shape (d, m).
        tangent_hessian: (DgV)ᵀ H (DgV), shape (m, m): what (50) says in place of I.
        off: ‖PᵀHP − H_Φ‖ / ‖H_Φ‖ in Frobenius norms.
        cut: how many directions of Φ were left out.
        least: the least eigenvalue of H_Φ that was kept.
        next: the largest in size that was not; 0 where there is none.
    """

    network: Network
    loss: PulledBackLoss
    phi: Vector
    theta: Float[np.ndarray, " d"]
    value: float
    gradient_norm: float
    decrement: float
    directions: Float[np.ndarray, "k m"]
    tangent: Float[np.ndarray, "d m"]
    tangent_hessian: Float[np.ndarray, "m m"]
    off: float
    cut: int
    least: float
    next: float

    @property
    def stationarity(self) -> Fact:
        """Whether the loss cannot tell Φ* from the minimum."""
        met = self.decrement <= linalg.EPS * abs(self.value)
        return Fact(met, f"|∇_Φ F| = {self.gradient_norm:.2g}, decrement {self.decrement:.2g}")

    @property
    def definiteness(self) -> Fact:
        """Whether H_Φ is positive on what was kept, and what was cut is clearly apart from it."""
        shown = f"smallest eigenvalue that was kept {self.least:.3g}, {self.cut} cut, up to {self.next:.2g}"
        return Fact(self.least > abs(self.next), shown)

    def coordinates(self) -> Coordinates:
        """Coordinates z in which H_Φ is the identity."""
        # Filled up with coordinates that do nothing: the program that brought it to rest serves again.
        V, tangent = (np.pad(A, ((0, 0), (0, self.cut))) for A in (self.directions, self.tangent))
        chart = Partial(Image(self.loss), self.network.params, jnp.asarray(self.phi), jnp.asarray(V))
        return Coordinates(chart, lambda z: np.asarray(chart(jnp.asarray(z))), lambda u: tangent.T @ u)

    def printed(self, u: Float[np.ndarray, " d"]) -> float:
        """What a tilt u gains by (50) and (51), ½uᵀP(PᵀHP)⁺Pᵀu, without the bend of g."""
        w = self.tangent.T @ u
        values, vectors = np.linalg.eigh(self.tangent_hessian)
        kept = values > _CUT * float(np.abs(values).max())
        return float(np.sum((vectors[:, kept].T @ w) ** 2 / values[kept])) / 2


@dataclass(frozen=True, eq=False, repr=False)
class OwnReadaptation:
    r"""A method under one disturbance, from its own optimum on D, beside full fine-tuning from its own.

    Attributes:
        method: its name.
        disturbance: its name.
        k: the number of its parameters.
        full: full fine-tuning along t.
        own: the method along t.
        values: F at both optima, full fine-tuning first.
        printed: what (50) and (51) predict of −change / t², in place of `own.quadratic`.
        start: ½∇_ΦFᵀH_Φ⁺∇_ΦF at Φ*, which should be 0.
        off: ‖PᵀHP − H_Φ‖ / ‖H_Φ‖ in Frobenius norms: how far (50) is off.
    """

    method: str
    disturbance: str
    k: int
    full: Trace
    own: Trace
    values: tuple[float, float]
    printed: float
    start: float
    off: float

    @cached_property
    def limit(self) -> tuple[float, float]:
        """What −change / t² of the method tends to for t → 0, and how far that may be off."""
        crossed = 2 * self.own.t * np.sqrt(self.start * self.own.quadratic) * math.sqrt(2)
        return at_zero(self.own.t, -self.own.change, self.own.rounding + self.own.decrement + crossed)

    @property
    def rises(self) -> tuple[float, float]:
        """F′ at t = 1 less F at the own optimum: the method, and full fine-tuning."""
        ends = [float(one.base[-1] + one.change[-1]) for one in (self.own, self.full)]
        return ends[0] - self.values[1], ends[1] - self.values[0]

    def __repr__(self) -> str:
        """Show prediction, limit and rises."""
        found, error = self.limit
        return (
            f"OwnReadaptation({self.method!r}, {self.disturbance!r}: predicted {self.own.quadratic:.6g} t², "
            f"re-trained {found:.6g} ± {error:.1g} for t → 0, by (50) {self.printed:.6g}; rise "
            f"{self.rises[0]:.4g}, full fine-tuning {self.rises[1]:.4g})"
        )


def own_optimum(
    network: Network, split: Split, method: Method, phi: Phi, *, ridge: float = 1e-3
) -> OwnOptimum:
    r"""Bring a method to rest on D: minimise $F(\theta_0 + g(\Phi))$, from a trained Φ on.

    F is the loss that `stationary` minimises over all θ: the ridge is on θ − θ₀, not on Φ.  L-BFGS runs in
    coordinates in which |H_Φ| at its start is the identity; Newton steps end it.

    Args:
        network: f and θ₀, in float64.
        split: D.
        method: gives g.
        phi: where to start, float64.
        ridge: λ.

    Raises:
        ValueError: not float64, a method without g, or a Φ of another structure.
    """
    loss = PulledBackLoss.of(network, method)
    point = ravel_pytree(phi)[0]
    for _ in range(_ROUNDS):
        there = curvature.pulled_back(network, split, method, loss.phi(point), weight_decay=ridge)
        values, vectors = np.linalg.eigh(there.hessian)
        steep = np.maximum(np.abs(values), _STEEP * np.abs(values).max())
        if np.sum((vectors.T @ there.gradient) ** 2 / steep) / 2 <= _NEAR:
            break
        chart = Partial(Image(loss), network.params, point, jnp.asarray(vectors / np.sqrt(steep)))
        data = derivatives.mixed(there.examples, there.examples, 0.0)
        found = descent.descend(loss.loss, chart, 0 * steep, data, accuracy=0.0, steps=_STEPS)
        point = point + jnp.asarray(vectors / np.sqrt(steep) @ found.z)
    return _at_rest(network, loss, there, values, vectors)


def _at_rest(
    network: Network, loss: PulledBackLoss, there: PulledBack, values: np.ndarray, vectors: np.ndarray
) -> OwnOptimum:
    """Newton steps on the directions that count, and everything that is asked at their end."""
    kept = np.abs(values) > _CUT * np.abs(values).max()
    V = vectors[:, kept] / np.sqrt(np.abs(values[kept]))
    data = network.params, there.examples
    point, gradient = np.asarray(there.point), there.gradient
    for _ in range(_ROUNDS):
        moved = point - V @ (V.T @ gradient)
        slope = np.asarray(derivatives.value_and_gradient(loss, jnp.asarray(moved), data)[1])
        if not np.linalg.norm(slope) < np.linalg.norm(gradient):
            break
        point, gradient = moved, slope
    theta = np.asarray(ravel_pytree(network.params)[0] + loss.update(jnp.asarray(point), network.params))
    return OwnOptimum(
        network=network,
        loss=loss,
        phi=point,
        theta=theta,
        value=value(loss.loss, theta, there.examples),
        gradient_norm=float(np.linalg.norm(gradient)),
        decrement=float(np.sum((V.T @ gradient) ** 2)) / 2,
        directions=V,
        tangent=there.P @ V,
        tangent_hessian=V.T @ there.restricted @ V,
        off=float(np.linalg.norm(there.second) / np.linalg.norm(there.hessian)),
        cut=int(np.sum(~kept)),
        least=float(values[kept].min()),
        next=float(np.abs(values[~kept]).max(initial=0.0)),
    )
