r"""The curvature of a loss in the parameters of a method: what the chain rule adds to P^T H P."""

from __future__ import annotations

import functools
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.flatten_util import ravel_pytree
from jaxtyping import Float

from ...models import derivatives, tree
from ...models.derivatives import Examples, Part
from ...models.pulled_back import PulledBackLoss
from .. import linalg
from .network import objective, of_objective
from .operator import BUDGET, Curvature

if TYPE_CHECKING:
    from ...models.methods import Method, Phi
    from ...models.network import Network
    from ...models.tasks import Split
    from ...models.tree import Params


@dataclass(frozen=True, eq=False, repr=False)
class PulledBack:
    r"""The derivatives of $\Phi \mapsto L(\theta_0 + g(\Phi))$, term by term, computed when asked for.

    $$\nabla_\Phi L = P^T \nabla L, \qquad
    H_\Phi = P^T H P + \sum_i (\nabla L)_i \nabla^2 g_i(\Phi), \qquad P = Dg(\Phi).$$

    Attributes:
        curvature: H_Φ by its products, shape (k, k).
        method: the name of the method.
        loss: the pulled-back loss, and below it what it takes.
        point: Φ, raveled.
        theta0: θ₀.
        examples: the data.
    """

    curvature: Curvature
    method: str
    loss: PulledBackLoss
    point: Any
    theta0: Params
    examples: Examples

    @property
    def k(self) -> int:
        """The number of parameters in Φ."""
        return self.curvature.d

    @functools.cached_property
    def P(self) -> Float[np.ndarray, "d k"]:  # noqa: N802
        """Dg(Φ), shape (d, k)."""
        product = derivatives.jacobian_product(Part(self.loss, "update"), self.point, self.theta0)
        return derivatives.transposed(product, self.k).T

    @property
    def gradient(self) -> Float[np.ndarray, " k"]:
        """∇_Φ L, shape (k,)."""
        return self.curvature.gradient

    @functools.cached_property
    def full_gradient(self) -> Float[np.ndarray, " d"]:
        """∇L at θ₀ + g(Φ), shape (d,)."""
        theta = self.loss.theta(self.point, self.theta0)
        return np.asarray(derivatives.value_and_gradient(self.loss.loss, theta, self.examples)[1])

    @functools.cached_property
    def hessian(self) -> Float[np.ndarray, "k k"]:
        """H_Φ, the Hessian of the composition, by differentiating that."""
        return self.curvature.matrix()

    @functools.cached_property
    def second(self) -> Float[np.ndarray, "k k"]:
        r"""$\sum_i (\nabla L)_i \nabla^2 g_i(\Phi)$: the Hessian of ⟨∇L, g(Φ)⟩ with ∇L held fixed."""
        data = self.theta0, jnp.asarray(self.full_gradient)
        product = derivatives.hessian_product(Part(self.loss, "against"), self.point, data)
        matrix = derivatives.transposed(product, self.k)
        return (matrix + matrix.T) / 2

    @functools.cached_property
    def restricted(self) -> Float[np.ndarray, "k k"]:
        r"""$P^T H P = H_\Phi - \sum_i (\nabla L)_i \nabla^2 g_i(\Phi)$; neither H nor P is formed."""
        return self.hessian - self.second

    def __repr__(self) -> str:
        """Show the sizes."""
        return f"PulledBack({self.method!r}, k={self.k}, d={tree.size(self.theta0)})"


def pulled_back(
    network: Network,
    split: Split,
    method: Method,
    phi: Phi,
    *,
    weights: Float[np.ndarray, " p"] | None = None,
    weight_decay: float = 0.0,
    centre: Params | None = None,
    memory: int = BUDGET,
) -> PulledBack:
    r"""The derivatives in Φ of the loss that `hessian` has, at $\theta_0 + g(\Phi)$.

    The penalty is $\frac\lambda2\|\theta - c\|^2$ as there, a part of L: to decay Φ instead, add $\lambda
    \Phi$ to the gradient and $\lambda I$ to the Hessian (`Curvature.shifted`).

    Args:
        network: f and θ₀, in float64.
        split: x and y.
        method: gives g.
        phi: Φ, in float64.
        weights: as `hessian`, like the arguments that follow.
        weight_decay: λ.
        centre: c; θ₀ if None.
        memory: bytes that a matrix may take.

    Raises:
        ValueError: a method without a map g, a Φ of another structure, and what `hessian` raises.
    """
    if not method.weight_space:
        raise ValueError(
            f"method: {method.name!r} is an extension of the network and has no map g; use `hessian` of the "
            "network that it makes, method.enlarge(network)"
        )
    made = method.reparameterize(network)
    tree.check_like(phi, made.template, "phi")
    linalg.require_judging_precision("phi", *tree.paths(phi).values())
    _, _, data = objective(network, split, None, weights, weight_decay, centre)
    loss, point = PulledBackLoss.of(network, method), ravel_pytree(jax.tree.map(jnp.asarray, phi))[0]
    both = network.params, data
    kind = f"Hessian of {network.name!r} in the parameters of {method.name!r}"
    linear = derivatives.curvature_product(loss, point, both)
    curvature = of_objective(linear, kind, loss, point, both, memory)
    return PulledBack(curvature, method.name, loss, point, network.params, data)
