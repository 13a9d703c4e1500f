r"""The network itself, not linearised: what updates of bounded norm reach against random signs.

The supremum over a class that is not linear has no closed form.  Ascent finds some update for each sign
matrix, and the mean of what it reaches is a *lower* estimate of

$$\hat R(B) = E_S \sup_{u \in \mathrm{Im}\,g,\ \|u\| \le B} \frac1N \sum_{i,j} S_{ij} f_j(x_i; \theta_0 + u)$$
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

import jax
import jax.numpy as jnp
import numpy as np
from jax.flatten_util import ravel_pytree
from jaxtyping import Array, Float, PRNGKeyArray
from scipy import stats

from ...models.methods import Full
from ...models.training import hashable
from .. import linalg
from .estimate import check_confidence

if TYPE_CHECKING:
    from ...models.methods import Reparameterization
    from ...models.network import Network
    from ...models.tree import Params

LISTABLE = 12  # signs: 2^12 ascents
_HALVINGS = 40
_LENGTHS = 12  # step lengths tried at each step, each half of the one before


@dataclass(frozen=True)
class Reached:
    """A lower estimate of a complexity.

    Attributes:
        value: mean of what was reached.
        lower: a lower bound of the complexity: for certain, up to rounding, where all sign matrices were
            listed; otherwise with the stated confidence, for normal means.
        standard_error: of the mean over draws; 0 if listed.
        draws: how many sign matrices.
        how: "all signs", or what the bound rests on.
    """

    value: float
    lower: linalg.Lower
    standard_error: float
    draws: int
    how: str


def reached(
    network: Network,
    x: Float[Array, "N ..."],
    *,
    radius: float,
    key: PRNGKeyArray,
    made: Reparameterization | None = None,
    draws: int = 64,
    steps: int = 40,
    confidence: float = 0.99,
) -> Reached:
    r"""Climb, for each sign matrix, over the updates of a method with ‖g(Φ)‖ ≤ B.

    From the usual start, where g = 0, each step goes along the gradient in Φ, or its part along the boundary,
    by the best of several lengths; what leaves the ball is drawn back towards the start until it is inside.
    Only points of the class are ever evaluated.

    Args:
        network: float64, with θ₀.
        x: N inputs.
        radius: B.
        key: a JAX random key.
        made: the map g; all of θ if None.
        draws: number of sign matrices; up to 12 signs all of them are listed.
        steps: of ascent.
        confidence: one-sided, of `Reached.lower`.

    Returns:
        A `Reached`.  Not tight: ascent may stop at a local maximum.

    Raises:
        ValueError: float32, NaN or infinity; a radius that is not positive; fewer than two draws.
    """
    x = np.asarray(x)
    linalg.require_judging_precision("x", x)
    linalg.require_judging_precision("network", *jax.tree.leaves(network.params))
    check_confidence(confidence)
    if not (radius > 0 and math.isfinite(radius)):
        raise ValueError(f"radius: got {radius}, needs a positive number")
    if draws < 2:
        raise ValueError(f"draws: got {draws}, needs at least 2 to see how they spread")
    made = Full().reparameterize(network) if made is None else made
    shape = jax.eval_shape(network.apply, network.params, x).shape
    listed = math.prod(shape) <= LISTABLE
    begin, draw = jax.random.split(key)
    if listed:
        codes = np.arange(2 ** math.prod(shape))[:, None]
        signs = (1.0 - 2.0 * ((codes >> np.arange(math.prod(shape))) & 1)).reshape(-1, *shape)
    else:
        signs = jax.random.rademacher(draw, (draws, *shape), jnp.float64)
    start, given = made.init(begin), (network.params, jnp.asarray(x), jnp.asarray(signs), radius)
    found = np.asarray(_climb(hashable(network.apply), made, steps, start, *given))
    mean = float(found.mean())
    if listed:
        lower = linalg.Lower(mean - linalg.gamma(len(found)) * float(np.abs(found).max()))
        return Reached(mean, lower, 0.0, len(found), "all signs")
    error = float(found.std(ddof=1)) / math.sqrt(len(found))
    lower = linalg.Lower(max(0.0, mean - float(stats.t.ppf(confidence, len(found) - 1)) * error))
    return Reached(mean, lower, error, len(found), f"{confidence:.0%} of Student's t, normal means")


@functools.partial(jax.jit, static_argnums=(0, 1, 2))
def _climb(
    apply: Callable,
    made: Reparameterization,
    steps: int,
    start: Params,
    theta0: Params,
    x: Float[Array, "N ..."],
    signs: Float[Array, "draws N m"],
    radius: Float[Array, ""],
) -> Float[Array, " draws"]:
    """What is reached for each sign matrix, less the value at θ₀, whose mean over signs is 0."""
    origin, unravel = ravel_pytree(start)
    before = apply(theta0, x)

    def squared(v: Float[Array, " k"]) -> Float[Array, ""]:
        return sum(jnp.sum(leaf**2) for leaf in jax.tree.leaves(made.g(unravel(v))))

    def inside(v: Float[Array, " k"]) -> Float[Array, " k"]:
        """The point on the way from the start that is in the ball: v itself, or the last found by halving."""

        def halve(_: int, ends: tuple) -> tuple:
            low, high = ends
            middle = (low + high) / 2
            fits = squared(origin + middle * (v - origin)) <= radius**2
            return jnp.where(fits, middle, low), jnp.where(fits, high, middle)

        low, _ = jax.lax.fori_loop(0, _HALVINGS, halve, (jnp.zeros(()), jnp.ones(())))
        return jnp.where(squared(v) <= radius**2, v, origin + low * (v - origin))

    def value(v: Float[Array, " k"], one: Float[Array, "N m"]) -> Float[Array, ""]:
        return jnp.sum(one * (apply(made.apply(theta0, unravel(v)), x) - before)) / len(x)

    lengths = radius * 4.0 * 0.5 ** jnp.arange(_LENGTHS, dtype=x.dtype)

    def along(slope: Float[Array, " k"]) -> Float[Array, " k"]:
        return slope / jnp.maximum(jnp.linalg.norm(slope), jnp.finfo(slope.dtype).tiny)

    def climb(one: Float[Array, "N m"]) -> Float[Array, ""]:
        def step(state: tuple, _: None) -> tuple:
            v, best = state
            slope = jax.grad(value)(v, one)
            # On the boundary only what runs along it helps: drawing back would undo the rest.
            outwards = along(jax.grad(squared)(v))
            sideways = slope - jnp.sum(slope * outwards) * outwards
            ways = jnp.concatenate([lengths[:, None] * along(way)[None] for way in (slope, sideways)])
            tried = jax.vmap(lambda way: inside(v + way))(ways)
            values = jax.vmap(lambda w: value(w, one))(tried)
            top = jnp.argmax(values)
            better = values[top] > best
            return (jnp.where(better, tried[top], v), jnp.where(better, values[top], best)), None

        (_, best), _ = jax.lax.scan(step, (origin, jnp.zeros(())), None, steps)
        return best

    return jax.lax.map(climb, signs, batch_size=16)
