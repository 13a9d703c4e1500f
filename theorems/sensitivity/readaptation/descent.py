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
import scipy.linalg
from jax.tree_util import Partial
from jaxtyping import Float

from ... import linalg

MEMORY = 60
"""Pairs of steps and gradients that are remembered: together they cost less than a gradient of a network."""
STEPS = 1500
PATIENCE = 4
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
            the inverse Hessian that the steps have built up: about how far the value is above the minimum
            where the objective is nearly quadratic, and often much less elsewhere.
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
    r"""The chart z ↦ origin + L⁻ᵀ z of all θ, in which a Hessian $LL^T$ at the origin is the identity.

    L is inverted once: a compiled program that solves with it copies it in each call.
    """
    inverse = scipy.linalg.solve_triangular(factor, np.eye(len(factor)), lower=True, check_finite=False)
    return Partial(_whitened, jnp.asarray(origin), jnp.asarray(inverse))


def plain(origin: Float[np.ndarray, " d"]) -> Partial:
    """The chart z ↦ origin + z."""
    return Partial(jnp.add, jnp.asarray(origin))


def _along(origin: Any, directions: Any, z: Any) -> Any:
    return origin + directions @ z


def _whitened(origin: Any, inverse: Any, z: Any) -> Any:
    return origin + z @ inverse


def descend(
    loss: Callable[[Any, Any], Any],
    chart: Partial,
    z: Float[np.ndarray, " n"],
    data: Any,
    *,
    above: float = np.inf,
    accuracy: float = 1e-6,
    patience: int = PATIENCE,
    steps: int = STEPS,
) -> Found:
    r"""Minimise $z \mapsto L(\theta(z))$ from z on, never going up.

    It stops where the `decrement` is a fraction `accuracy` of what the objective has come down below `above`
    for some steps in a row, or where rounding hides further progress.  Steps are halved until the objective
    has come down enough (Armijo); where the curvature along a step is not positive, what was learnt of it is
    dropped.

    Args:
        loss: maps (θ, data) to a scalar; a static argument of the compiled program.
        chart: maps z to θ.
        z: where to start, shape (n,).
        data: a pytree of arrays.
        above: the value that the progress is measured from; that at the start if it is infinite.
        accuracy: relative, where to stop.
        patience: after how many steps in a row that are as good as that.  In a bent valley one may look so
            by what was learnt of its walls; 1 is enough where the quadratic model is right.
        steps: at most so many evaluations.

    References:
        Liu and Nocedal, *On the limited memory BFGS method for large scale optimization*, Math. Program.
        45, 1989.
    """
    limits = tuple(jnp.asarray(one) for one in (float(above), float(accuracy), int(patience), int(steps)))
    found = jax.device_get(_descend(loss, chart, jnp.asarray(z), data, limits))
    return Found(
        found["z"], found["point"], float(found["value"]), float(found["decrement"]), int(found["count"])
    )


@partial(jax.jit, static_argnums=0)
def _descend(loss: Callable, chart: Partial, z: Any, data: Any, limits: tuple) -> dict[str, Any]:
    above, accuracy, patience, steps = limits
    quasi_newton = optax.scale_by_lbfgs(memory_size=MEMORY)
    at = jax.value_and_grad(lambda z: loss(chart(z), data))

    def step(now: dict[str, Any]) -> dict[str, Any]:
        z = now["z"] + now["length"] * now["direction"]
        value, gradient = at(z)
        slope = now["gradient"] @ now["direction"]
        allowed = now["value"] + _DECREASE * now["length"] * slope + _ROUNDING * jnp.abs(now["value"])
        accepted = value <= allowed
        bent = (gradient - now["gradient"]) @ now["direction"] > 0
        with jax.numpy_dtype_promotion("standard"):  # optax mixes integers
            learnt, state = quasi_newton.update(gradient, now["state"], z)
        useful = bent & (gradient @ learnt > 0)
        steepest = gradient / jnp.maximum(1.0, jnp.linalg.norm(gradient))
        forgotten = quasi_newton.init(z)._replace(count=jnp.int32(1), params=z, updates=gradient)
        direction, state = _where(useful, (-learnt, state), (-steepest, forgotten))
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
        first = jnp.where(now["count"] == 0, value, now["first"])
        down = jnp.maximum(jnp.where(jnp.isfinite(above), above, first) - new["value"], 0)
        hidden = new["decrement"] <= linalg.EPS * jnp.abs(new["value"])
        good = accepted & (new["decrement"] <= accuracy * down)
        row = jnp.where(good, now["row"] + 1, jnp.where(accepted, 0, now["row"]))
        done = (accepted & hidden) | (row >= patience) | (new["length"] < _SHORTEST)
        return {**new, "first": first, "count": now["count"] + 1, "row": row, "done": done}

    # The first step has the length 0 from a value that is infinite: so the objective is compiled once.
    infinite, none = jnp.full_like(above, jnp.inf), jnp.zeros_like(steps)
    start = {
        **{name: jnp.zeros_like(z) for name in ("gradient", "direction")},
        **dict.fromkeys(("value", "first", "decrement"), infinite),
        **dict.fromkeys(("count", "row"), none),
        "z": z,
        "state": quasi_newton.init(z),
        "length": jnp.ones_like(above),
        "done": jnp.asarray(False),
    }
    end = jax.lax.while_loop(lambda now: ~now["done"] & (now["count"] < steps), step, start)
    return {**{name: end[name] for name in ("z", "value", "decrement", "count")}, "point": chart(end["z"])}


def _where(condition: Any, yes: Any, no: Any) -> Any:
    return jax.tree.map(lambda a, b: jnp.where(condition, a, b), yes, no)
