"""The nearest point of an image where no closed form is known: what a descent from several starts finds."""

from collections.abc import Mapping, Sequence

import jax
import jax.numpy as jnp
import numpy as np
from jax.flatten_util import ravel_pytree
from scipy.optimize import minimize

from .base import Phi, Reparameterization
from .image import Changes

SMALL = 64
"""Up to so many parameters many starts and long runs are cheap."""


def nearest_by_descent(
    made: Reparameterization, target: Mapping[str, np.ndarray], starts: Sequence[Phi] = (), seed: int = 0
) -> Changes:
    r"""Minimize $\|\Delta - g(\Phi)\|_F^2$ over Φ by L-BFGS, from the starts given and some random ones.

    Args:
        made: the map g.
        target: Δ on the leaves that g touches, by path, float64.
        starts: Φ that are near already, if any are known.
        seed: of the random starts.

    Returns:
        The best g(Φ) that was found, by path: its distance is an upper estimate, and no larger than that of
        the usual start, which for most methods is the norm of Δ.

    References:
        Liu and Nocedal, *On the limited memory BFGS method for large scale optimization*, 1989.
    """
    vector, unravel = ravel_pytree(made.init(jax.random.key(seed)))
    wanted = {path: jnp.asarray(leaf) for path, leaf in target.items()}

    @jax.jit
    def value(v: jax.Array, wanted: dict[str, jax.Array]) -> tuple[jax.Array, jax.Array]:
        def objective(v: jax.Array) -> jax.Array:
            changes = made.changes(unravel(v))
            return sum(jnp.sum((changes[path] - leaf) ** 2) for path, leaf in wanted.items())

        return jax.value_and_grad(objective)(v)

    rng = np.random.default_rng(seed)
    begin = [np.asarray(ravel_pytree(start)[0]) for start in starts]
    count, steps = (8, 3000) if made.k <= SMALL else (1, 300)
    scales = 0.3 * 2.0 ** (np.arange(count) % 3)
    begin += [np.asarray(vector) + scale * rng.normal(size=vector.shape) for scale in scales]
    runs = [
        minimize(
            lambda v: tuple(np.asarray(part, np.float64) for part in value(v, wanted)),
            start,
            jac=True,
            method="L-BFGS-B",
            options={"maxiter": steps, "maxfun": 2 * steps, "ftol": 1e-14, "gtol": 1e-9},
        )
        for start in begin
    ]
    found = [(run.fun, run.x) for run in runs] + [(float(value(vector, wanted)[0]), np.asarray(vector))]
    best = min(found, key=lambda one: one[0])[1]
    return {path: np.asarray(leaf) for path, leaf in made.changes(unravel(jnp.asarray(best))).items()}
