r"""A linear method at a stationary point: its differential, factored with the Hessian, and forms of both."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.flatten_util import ravel_pytree
from jaxtyping import Float

from ..prepared import Dense
from ..reduction import Reduced, reduced
from ..roots import CUTOFF, Range, Triangular, span
from .results import Forms

if TYPE_CHECKING:
    from ....models.methods import Method, Reparameterization
    from ....models.network import Network

Directions = Float[np.ndarray, "d k"]


def linear(method: Method, network: Network) -> bool:
    """Whether the map g of a method is linear, so that every point is the start of its whole image."""
    if not method.weight_space:
        return False
    try:
        return method.image(network).linear
    except ValueError:
        return False


def differential(made: Reparameterization) -> Directions:
    """The matrix of a linear g: differences along unit vectors, for which nothing has to be compiled."""
    phi, unravel = ravel_pytree(made.init(jax.random.key(0)))

    def g(vector: Any) -> Any:
        return ravel_pytree(made.g(unravel(vector)))[0]

    return np.asarray(jax.vmap(lambda unit: g(phi + unit) - g(phi))(jnp.eye(phi.size))).T


def factored(P: Directions, root: Triangular) -> Dense:
    """P and its image under a root of H, each with an orthonormal basis of its range."""
    B = _range(P, CUTOFF)
    image = _range(root.coordinates(B.basis), math.sqrt(CUTOFF), math.sqrt(root.size))
    return Dense(root, B, image, CUTOFF)


def _range(A: np.ndarray, cutoff: float, size: float | None = None) -> Range:
    """As `span`; without its pivots, which take most of its time, where no direction has to be dropped."""
    lengths = np.linalg.norm(A, axis=0)
    if lengths.min(initial=np.inf) > 0:
        Q, R = np.linalg.qr(A / lengths if size is None else A)
        values = np.linalg.svd(R, compute_uv=False)
        if values[-1] > cutoff * (values[0] if size is None else size):
            return Range(Q, float(values[-1] / values[0]), 0.0)
    return span(A, cutoff, size)


def forms(dense: Dense, u: Float[np.ndarray, " d"]) -> Forms:
    """Both sides of (56) to (58) at a stationary point."""
    B, Q = dense.directions.basis, dense.image.basis
    along = B @ (B.T @ u)
    answer, across = dense.root.whitened(along), dense.root.whitened(u - along)
    return Forms(
        parallel_full=float(answer @ answer),
        parallel_restricted=float(np.sum((Q.T @ answer) ** 2)),
        mixed=float(answer @ across),
        orthogonal_full=float(across @ across),
    )


def small(dense: Dense, P: Directions, u: Float[np.ndarray, " d"]) -> Reduced:
    """The tilted quadratic at a stationary point, as a small one."""
    root, B = dense.root, dense.directions.basis
    along = B @ (B.T @ u)
    also = tuple(root.back(root.whitened(part)) for part in (along, u - along))
    return reduced(lambda D: root.matrix @ D, B, root.matrix @ B, P, 0 * u, u, also)
