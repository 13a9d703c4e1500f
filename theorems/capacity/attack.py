r"""A lower bound on how far updates within norm budgets can move a network: the other half of a sandwich.

$$\text{attack} \;\le\; \sup_{\|\Phi_k\| \le \varphi_k} \|f(x; \theta_0 + \Delta\theta) - f(x; \theta_0)\|
\;\le\; \text{bound (C)}.$$

Whatever the attack finds is attained by an update that it returns, so it is a lower bound no matter how
good the search was.  The search is a conditional gradient: the linear maximiser over a spectral-norm ball
is $\varphi\,U V^T$ of the gradient's singular vectors, over a Euclidean ball $\varphi\,g/\|g\|$, and convex
combinations of feasible points are feasible, so no projection is needed.  Steps are chosen by trying a few
lengths, and a step that does not increase the deviation is not taken.

By T2.R8 the supremum at one input is the same over updates of rank one, so nothing is lost or gained by
restricting the attack to a low-rank method.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, PRNGKeyArray

from ...models import tree
from ...models.network import Network
from .. import linalg

STEP_LENGTHS = (1.0, 0.5, 0.2, 0.05, 0.01)


@dataclass(frozen=True, eq=False)
class Attack:
    """What the attack reached.

    Attributes:
        deviation: ‖f(x; θ₀ + Δθ) − f(x; θ₀)‖ per input, shape (p,): a lower bound on the supremum.
        update: Δθ per input, the tree of θ with a leading axis p, within the budgets.
        x: the inputs, moved within their radius if one was given, shape (p, ...).
        budgets: the norm budget of every leaf.
    """

    deviation: np.ndarray
    update: Any
    x: np.ndarray
    budgets: dict[str, float]


def budgets_of(update: Any) -> dict[str, float]:
    """Norms of the leaves of an update: spectral for matrices, Euclidean for everything else."""
    return {path: _norm(np.asarray(leaf)) for path, leaf in tree.paths(update).items()}


def attack(
    network: Network,
    budgets: Mapping[str, float],
    x: Float[Array, "p ..."],
    *,
    key: PRNGKeyArray,
    radius: float | None = None,
    steps: int = 30,
    restarts: int = 3,
    start: Any = None,
) -> Attack:
    r"""Maximise $\|f(x;\theta_0+\Delta\theta) - f(x;\theta_0)\|$ over updates in norm budgets, per input.

    Args:
        network: the base network, float64.
        budgets: norm budget by path, spectral for matrices and Euclidean for everything else (see
            `budgets_of`); leaves that are not named stay as they are.
        x: inputs, shape (p, ...).
        key: for the random starts.
        radius: None keeps the inputs; otherwise x moves too, within ‖x‖ ≤ radius (one more lower bound).
        steps: conditional-gradient steps of each start.
        restarts: random starts besides the aligned one.
        start: an update within the budgets to start from as well, such as the trained one.

    Returns:
        An `Attack`; its deviations are lower bounds on the supremum whatever the settings.

    Raises:
        ValueError: float32 parameters, an unknown path, a negative budget, a non-positive radius.
    """
    budgets = _check(network, budgets, x, radius)
    leaves = tree.paths(network.params)
    starts = _starts(leaves, budgets, key, restarts, [] if start is None else [tree.paths(start)])
    limit = jnp.full(len(x), 0.0 if radius is None else radius)
    moves = jnp.asarray(radius is not None)
    results = _search(network.apply, steps, network.params, budgets, jnp.asarray(x), limit, starts, moves)
    return _best(network, budgets, *results)


def _check(
    network: Network, budgets: Mapping[str, float], x: Array, radius: float | None
) -> dict[str, float]:
    leaves = tree.paths(network.params)
    linalg.require_judging_precision("network.params", *(np.asarray(leaf) for leaf in leaves.values()))
    unknown = sorted(set(budgets) - set(leaves))
    if unknown:
        raise ValueError(
            f"budgets name {unknown}, which are no leaves of the network: it has {', '.join(leaves)}"
        )
    negative = [path for path, value in budgets.items() if not (np.isfinite(value) and value >= 0)]
    if negative:
        raise ValueError(f"budgets of {negative} must be finite and not negative")
    if radius is not None and not radius > 0:
        raise ValueError(f"radius={radius} must be positive; leave it out to keep the inputs")
    if len(x) == 0:
        raise ValueError("x is empty: give at least one input")
    return {path: float(budgets.get(path, 0.0)) for path in leaves}  # all leaves: one program per network


def _norm(leaf: np.ndarray) -> float:
    return float(linalg.spectral_norm(leaf) if leaf.ndim == 2 else np.linalg.norm(leaf))


def _toward(direction: Array, budget: Array) -> Array:
    """The feasible update that a linear functional likes best."""
    if direction.ndim == 2:
        u, _, vt = jnp.linalg.svd(direction, full_matrices=False)
        return budget * (u @ vt)
    return budget * direction / jnp.maximum(jnp.linalg.norm(direction), 1e-300)


@partial(jax.jit, static_argnames="restarts")
def _starts(base: dict, budgets: dict, key: PRNGKeyArray, restarts: int, given: list[dict]) -> dict:
    """Stack the starting updates: those given, one aligned with the weights, and random ones."""
    aligned = {p: jnp.where(jnp.any(leaf != 0), leaf, 1.0) for p, leaf in base.items()}
    directions = [aligned]
    for one in jax.random.split(key, restarts + 1)[1:]:
        keys = dict(zip(base, jax.random.split(one, len(base)), strict=True))
        directions.append({p: jax.random.normal(keys[p], w.shape, w.dtype) for p, w in base.items()})
    starts = [{p: _toward(leaf, budgets[p]) for p, leaf in one.items()} for one in directions]
    return jax.tree.map(lambda *leaves: jnp.stack(leaves), *given, *starts)


def _moved(apply: Any, params: Any, update: dict, x: Array) -> Array:
    leaves = tree.paths(params)
    theta = tree.from_paths(
        {path: leaf + update[path] if path in update else leaf for path, leaf in leaves.items()}
    )
    return jnp.linalg.norm(apply(theta, x[None])[0] - apply(params, x[None])[0])


@partial(jax.jit, static_argnames=("apply", "steps"))
def _search(
    apply: Any, steps: int, params: Any, budgets: dict, x: Array, limit: Array, starts: dict, moves: Array
) -> tuple[Array, dict, Array]:
    """Climb from every start at every input; the results carry the axes (start, input)."""
    at_inputs = jax.vmap(partial(_climb, apply, steps), in_axes=(None, None, 0, 0, None, None))
    return jax.vmap(at_inputs, in_axes=(None, None, None, None, 0, None))(
        params, budgets, x, limit, starts, moves
    )


def _climb(
    apply: Any, steps: int, params: Any, budgets: dict, x: Array, limit: Array, update: dict, moves: Array
) -> tuple[Array, dict, Array]:
    """Ascend from one start at one input; returns the deviation, the update and the input reached."""
    lengths = jnp.asarray(STEP_LENGTHS, x.dtype)
    x = jnp.where(moves, limit * x / jnp.maximum(jnp.linalg.norm(x), 1e-300), x)

    def step(state: tuple, _: None) -> tuple:
        value, update, x = state
        slopes, slope_x = jax.grad(partial(_moved, apply, params), argnums=(0, 1))(update, x)
        target = {path: _toward(slopes[path], budgets[path]) for path in update}
        target_x = jnp.where(moves, limit * slope_x / jnp.maximum(jnp.linalg.norm(slope_x), 1e-300), x)

        def mixed(s: Array) -> tuple:
            return jax.tree.map(lambda a, b: a + s * (b - a), (update, x), (target, target_x))

        values = jax.vmap(lambda s: _moved(apply, params, *mixed(s)))(lengths)
        best = jnp.argmax(jnp.where(jnp.isfinite(values), values, -jnp.inf))
        better = values[best] > value
        update, x = jax.tree.map(lambda a, b: jnp.where(better, b, a), (update, x), mixed(lengths[best]))
        return (jnp.where(better, values[best], value), update, x), None

    first = (_moved(apply, params, update, x), update, x)
    return jax.lax.scan(step, first, length=steps)[0]


def _best(network: Network, budgets: dict[str, float], values: Array, updates: dict, xs: Array) -> Attack:
    """Keep the best start per input, shrink into the budgets what rounding pushed out, measure again."""
    values = np.asarray(values)
    winner = np.argmax(np.where(np.isfinite(values), values, -np.inf), axis=0)
    inputs = np.arange(len(winner))
    x = np.asarray(xs)[winner, inputs]
    update = {path: np.array(leaf)[winner, inputs] for path, leaf in updates.items()}
    for path, leaf in update.items():
        norms = np.array([_norm(one) for one in leaf])
        shrink = np.minimum(1.0, budgets[path] / np.maximum(norms, 1e-300))
        update[path] = leaf * shrink.reshape(-1, *[1] * (leaf.ndim - 1))
    return Attack(np.asarray(_measure(network.apply, network.params, update, x)), update, x, dict(budgets))


@partial(jax.jit, static_argnames="apply")
def _measure(apply: Any, params: Any, update: dict, x: Array) -> Array:
    return jax.vmap(partial(_moved, apply), in_axes=(None, 0, 0))(params, update, x)
