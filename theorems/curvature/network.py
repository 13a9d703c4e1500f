"""The curvature of a network's loss, and of any scalar function."""

from __future__ import annotations

import functools
import math
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.flatten_util import ravel_pytree
from jaxtyping import Float

from ...models import derivatives, tree
from ...models.derivatives import Examples, Layered, NetworkLoss
from ...models.tasks import Split
from ...models.training import hashable
from .. import linalg
from . import rank_one
from .operator import BUDGET, Curvature, of_function

if TYPE_CHECKING:
    from jax.tree_util import Partial

    from ...models.network import Network
    from ...models.tree import Params


def hessian(
    network: Network,
    split: Split,
    *,
    params: Params | None = None,
    weights: Float[np.ndarray, " p"] | None = None,
    weight_decay: float = 0.0,
    centre: Params | None = None,
    memory: int = BUDGET,
) -> Curvature:
    r"""The Hessian of a network's loss with weight decay.

    $$L(\theta) = \sum_i w_i\, \mathrm{CE}(f(x_i; \theta), y_i) + \frac\lambda2 \|\theta - c\|^2$$

    θ is laid out as `jax.flatten_util.ravel_pytree` does. Nothing is formed: forward and backward pass run
    once, and each product is one linear pass.

    Args:
        network: f, in float64.
        split: x and y.
        params: the point θ; the network's own parameters if None.
        weights: w, 1/p each if None; zero or more.
        weight_decay: λ.
        centre: c, which matters for the gradient only; the network's own parameters if None.
        memory: bytes that the matrix may take; it is formed only where a function needs it and it fits.

    Raises:
        ValueError: no `Split`, float32, NaN or infinity, labels without an output, or another tree than the
            network's.
    """
    loss, point, data = objective(network, split, params, weights, weight_decay, centre)
    linear = derivatives.curvature_product(loss, point, data)
    return of_objective(linear, f"Hessian of {network.name!r}", loss, point, data, memory)


def gauss_newton(
    network: Network,
    split: Split,
    *,
    params: Params | None = None,
    weights: Float[np.ndarray, " p"] | None = None,
    weight_decay: float = 0.0,
    centre: Params | None = None,
    memory: int = BUDGET,
) -> Curvature:
    r"""The Gauss-Newton matrix $J^T \Lambda J + \lambda I \succeq \lambda I$ of the loss that `hessian` has.

    J is the Jacobian of the outputs in θ and Λ the Hessian of the weighted cross-entropies in the outputs,
    positive semidefinite. It is the Hessian with the network replaced by its linearisation at θ.

    Args and Raises: as `hessian`.
    """
    loss, point, data = objective(network, split, params, weights, weight_decay, centre)
    linear = derivatives.curvature_product(loss, point, data, gauss_newton=True)
    kind = f"Gauss-Newton matrix of {network.name!r}"
    return of_objective(linear, kind, loss, point, data, memory, gauss_newton=True)


def of_loss(
    loss: Callable[[Any, Any], Any],
    point: Float[np.ndarray, " d"],
    data: Any = None,
    *,
    kind: str = "Hessian",
    memory: int = BUDGET,
) -> Curvature:
    r"""The Hessian $\nabla^2 L(\theta)$ of any scalar function.

    Args:
        loss: maps (vector, data) to a scalar; arrays belong into the data, or they are compiled in.
        point: θ, shape (d,), float64.
        data: any pytree of arrays.
        kind: what reports call it.
        memory: as `hessian`.

    Raises:
        ValueError: a point that is not a finite float64 vector, or a loss that is not a finite scalar there.
    """
    point = np.asarray(point)
    if point.ndim != 1 or point.size == 0:
        raise ValueError(f"point: got shape {point.shape}, needs a vector (d,); ravel it with ravel_pytree")
    linalg.require_judging_precision("point", point)
    loss, point = hashable(loss), jnp.asarray(point)
    value, gradient = derivatives.value_and_gradient(loss, point, data)
    linalg.require_judging_precision("the loss and its gradient at the point", value, gradient)
    linear = derivatives.hessian_product(loss, point, data)
    return of_function(linear, point.size, kind=kind, memory=memory, gradient=np.asarray(gradient))


def objective(
    network: Network,
    split: Split,
    params: Params | None = None,
    weights: Float[np.ndarray, " p"] | None = None,
    weight_decay: float = 0.0,
    centre: Params | None = None,
) -> tuple[NetworkLoss, Any, Examples]:
    """The loss of `hessian` as a function of a vector and data, the vector, and the data: all checked."""
    if not isinstance(split, Split):
        raise ValueError(f"split: got a {type(split).__name__}, needs a Split; give models.tasks.Split(x, y)")
    params = network.params if params is None else params
    centre = network.params if centre is None else centre
    for name, each in (("network", network.params), ("params", params), ("centre", centre)):
        tree.check_like(each, network.params, name)
        linalg.require_judging_precision(name, *tree.paths(each).values())
    if not 0 <= weight_decay < math.inf:
        raise ValueError(f"weight_decay: got {weight_decay}, needs zero or a positive number")
    if weights is not None:
        weights = np.asarray(weights)
        linalg.require_judging_precision("weights", weights)
        if weights.shape != (len(split),) or weights.min() < 0:
            raise ValueError(
                f"weights: got shape {weights.shape} with least entry {weights.min(initial=np.inf):.3g}, "
                f"needs ({len(split)},), zero or more: one for each example"
            )
    point, middle = ravel_pytree(params)[0], ravel_pytree(centre)[0]
    data = derivatives.examples(split, middle, weights=weights, weight_decay=weight_decay)
    loss = NetworkLoss.of(network)
    _check_outputs(loss, point, data, network.name)
    return loss, point, data


def _check_outputs(loss: NetworkLoss, point: Any, data: Examples, name: str) -> None:
    shape = _outputs_of(loss, point.size, data.x.shape, data.x.dtype)
    top = int(np.max(np.asarray(data.y))) + 1
    if len(shape) != 2 or shape[0] != len(data.y) or shape[1] < top:
        raise ValueError(
            f"network: {name!r} gives outputs of shape {shape}, needs at least ({len(data.y)}, {top}) "
            "for the labels of this split"
        )


@functools.lru_cache(maxsize=64)
def _outputs_of(loss: NetworkLoss, d: int, shape: tuple[int, ...], dtype: Any) -> tuple[int, ...]:
    """The shape of the outputs; tracing the network for it would cost more than a few products."""
    data = Examples(jax.ShapeDtypeStruct(shape, dtype), None, None, None, None)
    return jax.eval_shape(loss.outputs, jax.ShapeDtypeStruct((d,), np.float64), data).shape


def of_objective(
    linear: Partial,
    kind: str,
    loss: Layered,
    point: Any,
    data: Any,
    memory: int,
    *,
    gauss_newton: bool = False,
) -> Curvature:
    """A curvature of a network's objective, by the product that was made of it."""
    value, gradient = derivatives.value_and_gradient(loss, point, data)
    linalg.require_judging_precision("the loss and its gradient at the point", value, gradient)
    given = loss, point, data, linear
    return of_function(
        linear,
        point.size,
        kind=kind,
        memory=memory,
        operations=_operations(loss, data),
        gradient=np.asarray(gradient),
        former=functools.partial(derivatives.dense_hessian, *given, gauss_newton=gauss_newton),
        restrictor=functools.partial(rank_one.restricted, *given, gauss_newton=gauss_newton),
        floor=float(data.decay) if gauss_newton else -math.inf,
    )


def _operations(loss: Layered, data: Any) -> int:
    """About the longest chain of rounded operations: the sums over examples and over inputs."""
    return len(loss.parts(data)[1].y) + sum(max(shape, default=1) for _, shape in loss.shapes)
