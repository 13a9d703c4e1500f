r"""The functional dimension: the rank of the derivative of all outputs on some inputs by the parameters."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import jax
import numpy as np
from jax.flatten_util import ravel_pytree

from .free import Products
from .jacobian import BUDGET
from .result import Rank, numerical_rank, rank_at_least
from .sketch import free_rank

if TYPE_CHECKING:
    from jaxtyping import Array, Float

    from ...models.methods import Phi, Reparameterization
    from ...models.network import Network
    from ...models.tree import Params

SPARE = 64
_BATCH = 64


def functional_rank(
    network: Network,
    x: Float[Array, "p ..."],
    theta: Params | None = None,
    *,
    budget_bytes: int = BUDGET,
    seed: int = 0,
) -> Rank:
    r"""The rank of $J_S(\theta) = \partial_\theta (f(x_i; \theta))_i$: p · outputs rows, d columns.

    Args:
        network: float64.
        x: the inputs S.
        theta: where; θ₀ if None.
        budget_bytes: of the dense matrix; a larger one is looked at through products with vectors.
        seed: of these.

    Returns:
        A `Rank`; its `how` says which way was taken.

    Raises:
        ValueError: float32 parameters, NaN or infinity.
    """
    jacobian = _Jacobian(network, x, network.params if theta is None else theta)
    if jacobian.shape[0] * jacobian.shape[1] * 8 <= budget_bytes:
        return numerical_rank(jacobian.dense())
    return free_rank(jacobian.products(), seed=seed)


def functional_dimension(
    network: Network, x: Float[Array, "p ..."], thetas: Sequence[Params], *, budget_bytes: int = BUDGET
) -> tuple[int, tuple[Rank, ...]]:
    r"""A lower bound of $\rho_S = \max_\theta \mathrm{rank}\, J_S(\theta)$: the largest rank over several θ.

    A single θ is not enough: dead or always active units take away directions.

    Args:
        network: float64.
        x: the inputs S.
        thetas: at least one θ; trained ones and random ones, say.
        budget_bytes: as in `functional_rank`.

    Returns:
        The maximum over the θ at which a gap decides, and the rank at each θ.

    Raises:
        ValueError: no θ, or none with a gap.
    """
    found = tuple(functional_rank(network, x, theta, budget_bytes=budget_bytes) for theta in thetas)
    decided = [one.rank for one in found if one.rank is not None]
    if not decided:
        raise ValueError(
            f"thetas: at none of {len(found)} is there a gap in the singular values; give others"
        )
    return max(decided), found


def tangent_rank(
    network: Network,
    x: Float[Array, "p ..."],
    made: Reparameterization,
    phi: Phi,
    *,
    budget_bytes: int = BUDGET,
) -> Rank:
    r"""The rank of $J_S(\theta_0 + g(\Phi))\, Dg(\Phi)$: in how many directions Φ moves the outputs.

    Args:
        network: float64.
        x: the inputs S.
        made: the map g on the network.
        phi: Φ.
        budget_bytes: as in `functional_rank`.

    Raises:
        ValueError: float32 parameters, NaN or infinity.
    """
    jacobian = _through(network, x, made, phi)
    if jacobian.shape[0] * jacobian.shape[1] * 8 <= budget_bytes:
        return numerical_rank(jacobian.dense())
    return free_rank(jacobian.products())


def functional_jacobian(
    network: Network, x: Float[Array, "p ..."], theta: Params | None = None
) -> Float[np.ndarray, "rows d"]:
    r"""The matrix $\partial_\theta (f(x_i; \theta))_i$, p · outputs rows; θ₀ if no θ is given."""
    return _Jacobian(network, x, network.params if theta is None else theta).dense()


def tangent_jacobian(
    network: Network, x: Float[Array, "p ..."], made: Reparameterization, phi: Phi
) -> Float[np.ndarray, "rows k"]:
    r"""The matrix $\partial_\Phi (f(x_i; \theta_0 + g(\Phi)))_i$, p · outputs rows."""
    return _through(network, x, made, phi).dense()


def _through(network: Network, x: Float[Array, "p ..."], made: Reparameterization, phi: Phi) -> _Jacobian:
    """The derivative of the outputs by Φ."""
    vector, unravel = ravel_pytree(phi)
    return _Jacobian(network, x, None, (lambda v: made.apply(network.params, unravel(v)), vector))


def enough(
    network: Network,
    x: Float[Array, "p ..."],
    target: int,
    theta: Params | None = None,
    *,
    budget_bytes: int = BUDGET,
) -> Rank:
    r"""Look for `target` functional dimensions, with no more inputs than that takes.

    Some inputs with about `target` outputs are used, with some to spare; if they do not show the target,
    twice as many, and so on until all are used. What is counted is a lower bound of the functional dimension,
    whatever the inputs that were left out.

    Args:
        network: float64.
        x: the inputs S.
        target: the rank to show.
        theta: where; θ₀ if None.
        budget_bytes: of the dense matrix; a larger one is sketched.

    Returns:
        A `Rank` with `lower_bound`, at least `target` if that was found.

    Raises:
        ValueError: float32 parameters, NaN or infinity.
    """
    x = np.asarray(x)
    outputs = int(np.prod(jax.eval_shape(network.apply, network.params, x[:1]).shape))
    order = np.random.default_rng(0).permutation(len(x))  # inputs often come sorted by class
    count = min(len(x), -(-(target + SPARE) // outputs))
    while True:
        jacobian = _Jacobian(network, x[order[:count]], network.params if theta is None else theta)
        if 8 * jacobian.shape[0] * jacobian.shape[1] <= budget_bytes:
            found = rank_at_least(jacobian.dense())
        else:
            found = free_rank(jacobian.products(), at_most=target)
        if count == len(x) or (found.rank is not None and found.rank >= target):
            return found
        count = min(len(x), 2 * count)


class _Jacobian:
    """The derivative of all outputs by a vector of parameters."""

    def __init__(self, network: Network, x: Any, theta: Params | None, through: Any = None) -> None:
        if through is None:
            vector, unravel = ravel_pytree(theta)
            through = (unravel, vector)
        self.params, self.vector = through
        self.x = np.asarray(x)
        apply = network.apply
        probe = jax.eval_shape(lambda v: apply(self.params(v), self.x[:1]), self.vector)
        self.outputs = int(np.prod(probe.shape))
        self.shape = (len(self.x) * self.outputs, self.vector.size)
        self.run = lambda v, x: apply(self.params(v), x).ravel()

    def dense(self) -> np.ndarray:
        """All rows, some inputs at a time."""
        one = jax.jit(jax.vmap(jax.jacrev(lambda v, x: self.run(v, x[None])), in_axes=(None, 0)))
        parts = [np.asarray(one(self.vector, self.x[i : i + _BATCH])) for i in range(0, len(self.x), _BATCH)]
        return np.concatenate(parts).reshape(self.shape)

    def products(self) -> Products:
        """Blocks of products."""
        push = jax.jit(
            jax.vmap(lambda v: jax.jvp(lambda w: self.run(w, self.x), (self.vector,), (v,))[1], 1, 1)
        )
        pull = jax.jit(jax.vmap(lambda u: jax.vjp(lambda w: self.run(w, self.x), self.vector)[1](u)[0], 1, 1))

        def blocked(product: Any) -> Any:
            return lambda v: np.concatenate(
                [np.asarray(product(v[:, i : i + _BATCH])) for i in range(0, v.shape[1], _BATCH)], axis=1
            )

        return Products(self.shape, blocked(push), blocked(pull))
