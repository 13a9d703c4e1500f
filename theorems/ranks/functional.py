r"""The functional dimension: the rank of the derivative of all outputs on some inputs by the parameters."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import cached_property
from typing import TYPE_CHECKING, Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.flatten_util import ravel_pytree

from .. import linalg
from .free import Products
from .jacobian import BUDGET
from .result import DOUBT, Rank, numerical_rank, rank_at_least
from .sketch import free_rank

if TYPE_CHECKING:
    from jaxtyping import Array, Float

    from ...models.methods import Phi, Reparameterization
    from ...models.network import Network
    from ...models.tree import Params

SPARE = 64
_BATCH = 64
_NEAR = 1e-3


def functional_rank(
    network: Network,
    x: Float[Array, "p ..."],
    theta: Params | None = None,
    *,
    budget_bytes: int = BUDGET,
    seed: int = 0,
) -> Rank:
    r"""The rank of $J_S(\theta) = \partial_\theta (f(x_i; \theta))_i$: p · outputs rows, d columns.

    It is undecided where what counts may be the rounding error of the matrix, which is estimated by moving θ
    by as much as rounding does. The matrix is what automatic differentiation returns at θ; see `enough` for
    inputs on kinks.

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
        matrix = jacobian.dense()
        return _trusted(numerical_rank(matrix), *_error(jacobian, matrix))
    return _trusted(free_rank(jacobian.products(), seed=seed), *_error(jacobian))


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

    The rank is taken at a random point near θ and not at θ. Any θ will do for a lower bound of a maximum, and
    where an input sits exactly on a kink of the network, as zeros in θ and x easily make it, automatic
    differentiation returns something that need not be a derivative; at almost every θ it is right (Lee, Yu,
    Rival and Yang 2020, arXiv 2006.06903). How far rounding has moved the matrix is estimated by moving θ by
    as much as rounding does.

    Args:
        network: float64.
        x: the inputs S.
        target: the rank to show.
        theta: near which; θ₀ if None.
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
    theta = _generic(network.params if theta is None else theta)
    while True:
        jacobian = _Jacobian(network, x[order[:count]], theta)
        if 8 * jacobian.shape[0] * jacobian.shape[1] <= budget_bytes:
            matrix = jacobian.dense()
            found = rank_at_least(matrix, _error(jacobian, matrix)[0])
        else:
            found = free_rank(jacobian.products(), at_most=target, error=_error(jacobian)[0])
        if count == len(x) or (found.rank is not None and found.rank >= target):
            return found
        count = min(len(x), 2 * count)


def _generic(theta: Params) -> Params:
    """A random point near θ; with probability one no input sits on a kink there, for pieces of analytic maps.

    Leaves of zeros are moved as well, by the typical size of the others.
    """
    rng, vector = np.random.default_rng(0), np.asarray(ravel_pytree(theta)[0])
    typical = float(np.sqrt(np.mean(vector**2))) or 1.0

    def moved(leaf: Any) -> np.ndarray:
        size = float(np.sqrt(np.mean(np.asarray(leaf) ** 2))) or typical
        return np.asarray(leaf) + _NEAR * size * rng.normal(size=np.shape(leaf))

    return jax.tree.map(moved, theta)


def _error(jacobian: _Jacobian, matrix: np.ndarray | None = None) -> tuple[float, float]:
    """Estimates of the rounding error of the matrix, from above, and of its spectral norm, from below."""
    smaller = math.sqrt(max(1, min(jacobian.shape)))
    if matrix is not None:
        error = np.linalg.norm(matrix - jacobian.dense(jacobian.rounded()))
        return float(error), float(np.linalg.norm(matrix)) / smaller
    vectors = np.random.default_rng(1).normal(size=(jacobian.shape[1], 4))
    here, there = (jacobian.products(v).right(vectors) for v in (jacobian.vector, jacobian.rounded()))
    error = 10 * math.sqrt(2 / math.pi) * np.linalg.norm(here - there, axis=0).max()
    return float(error), float(np.linalg.norm(here)) / 2 / smaller


def _trusted(found: Rank, error: float, size: float) -> Rank:
    """A rank that rests on singular values within the error of the matrix is none."""
    if not found.rank or found.above * size > DOUBT * error:
        return found
    how = f"{found.how}, rounding of the matrix itself about {error / size if size else math.inf:.0e}"
    return replace(found, rank=None, how=how)


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

    def rounded(self) -> np.ndarray:
        """The vector with a relative change of some units in the last place, as rounding makes them."""
        vector = np.asarray(self.vector)
        return vector * (1 + 4 * linalg.EPS * np.random.default_rng(2).uniform(-1, 1, vector.shape))

    @cached_property
    def _rows(self) -> Callable[[Any, Any], Array]:
        return jax.jit(jax.vmap(jax.jacrev(lambda v, x: self.run(v, x[None])), in_axes=(None, 0)))

    def dense(self, vector: Any = None) -> np.ndarray:
        """All rows, some inputs at a time."""
        at = self.vector if vector is None else vector
        parts = [np.asarray(self._rows(at, self.x[i : i + _BATCH])) for i in range(0, len(self.x), _BATCH)]
        return np.concatenate(parts).reshape(self.shape)

    def products(self, vector: Any = None) -> Products:
        """Blocks of products."""
        at = self.vector if vector is None else jnp.asarray(vector)
        push = jax.jit(jax.vmap(lambda v: jax.jvp(lambda w: self.run(w, self.x), (at,), (v,))[1], 1, 1))
        pull = jax.jit(jax.vmap(lambda u: jax.vjp(lambda w: self.run(w, self.x), at)[1](u)[0], 1, 1))

        def blocked(product: Any) -> Any:
            return lambda v: np.concatenate(
                [np.asarray(product(v[:, i : i + _BATCH])) for i in range(0, v.shape[1], _BATCH)], axis=1
            )

        return Products(self.shape, blocked(push), blocked(pull))
