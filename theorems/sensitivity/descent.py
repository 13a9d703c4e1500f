r"""Minima of an objective on the image of a chart $z \mapsto \theta$, by L-BFGS in one compiled program.

In coordinates in which the Hessian at the start is the identity few steps are needed; which coordinates is an
argument, as the data are, so that one program serves every subspace of a dimension and every weighting of the
examples.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax.tree_util import Partial
from jaxtyping import Float

from .. import linalg

MEMORY = 60
"""Pairs of steps and gradients that are remembered: together they cost less than a gradient of a network."""
STEPS = 1500
_DECREASE = 1e-4
_SHORTEST = 2.0**-30
_ROUNDING = 8 * linalg.EPS


class Found(NamedTuple):
    r"""Where a descent ended.

    Attributes:
        z: the coordinates, shape (n,).
        point: θ, shape (d,).
        value: the objective there.
        decrement: half the squared Newton decrement, $\frac12 \nabla^T B \nabla$ with the estimate B of
            the inverse Hessian that the steps have built up: about how far the value is above the minimum.
        evaluations: of the objective with its gradient.
    """

    z: Float[np.ndarray, " n"]
    point: Float[np.ndarray, " d"]
    value: float
    decrement: float
    evaluations: int


def along(origin: Float[np.ndarray, " d"], directions: Float[np.ndarray, "d n"]) -> Partial:
    """The chart z ↦ origin + directions z."""
    return Partial(_along, jnp.asarray(origin), jnp.asarray(directions))


def whitened(origin: Float[np.ndarray, " d"], factor: Float[np.ndarray, "d d"]) -> Partial:
    r"""The chart z ↦ origin + L⁻ᵀ z of all θ, in which a Hessian $LL^T$ at the origin is the identity."""
    return Partial(_whitened, jnp.asarray(origin), jnp.asarray(factor))


def plain(origin: Float[np.ndarray, " d"]) -> Partial:
    """The chart z ↦ origin + z."""
    return Partial(jnp.add, jnp.asarray(origin))


def _along(origin: Any, directions: Any, z: Any) -> Any:
    return origin + directions @ z


def _whitened(origin: Any, factor: Any, z: Any) -> Any:
    return origin + jax.scipy.linalg.solve_triangular(factor, z, trans=1, lower=True)


def descend(
    loss: Callable[[Any, Any], Any],
    chart: Partial,
    z: Float[np.ndarray, " n"],
    data: Any,
    *,
    above: float = np.inf,
    accuracy: float = 1e-6,
    steps: int = STEPS,
) -> Found:
    r"""Minimise $z \mapsto L(\theta(z))$ from z on, never going up.

    It stops where the `decrement` is a fraction `accuracy` of what the objective has come down below `above`,
    or where rounding hides further progress.  Steps are halved until the objective has come down enough
    (Armijo); where the curvature along a step is not positive, what was learnt of it is dropped.

    Args:
        loss: maps (θ, data) to a scalar; a static argument of the compiled program.
        chart: maps z to θ.
        z: where to start, shape (n,).
        data: a pytree of arrays.
        above: the value that the progress is measured from; that at the start if it is infinite.
        accuracy: relative, where to stop.
        steps: at most so many evaluations.

    References:
        Liu and Nocedal, *On the limited memory BFGS method for large scale optimization*, Math. Program.
        45, 1989.
    """
    limits = (jnp.asarray(float(above)), jnp.asarray(float(accuracy)), jnp.asarray(int(steps)))
    found = jax.device_get(_descend(loss, chart, jnp.asarray(z), data, limits))
    return Found(
        found["z"], found["point"], float(found["value"]), float(found["decrement"]), int(found["count"])
    )


@partial(jax.jit, static_argnums=0)
def _descend(loss: Callable, chart: Partial, z: Any, data: Any, limits: tuple) -> dict[str, Any]:
    above, accuracy, steps = limits
    quasi_newton = optax.scale_by_lbfgs(memory_size=MEMORY)
    at = jax.value_and_grad(lambda z: loss(chart(z), data))
    value, gradient = at(z)
    above = jnp.where(jnp.isfinite(above), above, value)

    def learn(gradient: Any, state: Any, z: Any) -> tuple[Any, Any]:
        with jax.numpy_dtype_promotion("standard"):  # optax mixes integers
            return quasi_newton.update(gradient, state, z)

    def forget(gradient: Any, z: Any) -> tuple[Any, Any]:
        direction, state = learn(gradient, quasi_newton.init(z), z)
        return -direction, state

    def step(now: dict[str, Any]) -> dict[str, Any]:
        z = now["z"] + now["length"] * now["direction"]
        value, gradient = at(z)
        slope = now["gradient"] @ now["direction"]
        allowed = now["value"] + _DECREASE * now["length"] * slope + _ROUNDING * jnp.abs(now["value"])
        accepted = value <= allowed
        bent = (gradient - now["gradient"]) @ now["direction"] > 0
        learnt, state = learn(gradient, now["state"], z)
        restarted, fresh = forget(gradient, z)
        useful = bent & (gradient @ learnt > 0)
        direction, state = _where(useful, (-learnt, state), (restarted, fresh))
        moved = {
            **now,
            "z": z,
            "value": value,
            "gradient": gradient,
            "direction": direction,
            "state": state,
            "length": jnp.ones_like(now["length"]),
            "decrement": -(gradient @ direction) / 2,
        }
        new = _where(accepted, moved, {**now, "length": now["length"] / 2})
        enough = accuracy * jnp.maximum(above - new["value"], 0) + linalg.EPS * jnp.abs(new["value"])
        done = (accepted & (new["decrement"] <= enough)) | (new["length"] < _SHORTEST)
        return {**new, "count": now["count"] + 1, "done": done}

    direction, state = forget(gradient, z)
    start = {
        "z": z,
        "value": value,
        "gradient": gradient,
        "direction": direction,
        "state": state,
        "length": jnp.ones_like(value),
        "decrement": jnp.full_like(value, jnp.inf),
        "count": jnp.zeros_like(steps),
        "done": jnp.linalg.norm(gradient) == 0,
    }
    end = jax.lax.while_loop(lambda now: ~now["done"] & (now["count"] < steps), step, start)
    return {**{name: end[name] for name in ("z", "value", "decrement", "count")}, "point": chart(end["z"])}


def _where(condition: Any, yes: Any, no: Any) -> Any:
    return jax.tree.map(lambda a, b: jnp.where(condition, a, b), yes, no)
