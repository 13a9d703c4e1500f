"""The model of frozen-A LoRA regression itself: drawn, fitted and measured; its formula does not enter."""

from __future__ import annotations

import functools
import math
from dataclasses import dataclass

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, PRNGKeyArray

from .. import linalg

LEAST_DEGREES = 4  # of freedom N − r: below, the simulated risk has no second moment and no standard error
CHUNK = 1024


@dataclass(frozen=True, repr=False)
class Simulated:
    """Mean excess risks over many draws of the model.

    Attributes:
        ranks: the ranks simulated, shape (k,).
        mean: mean excess risk, shape (k,).
        standard_error: of the mean, shape (k,).  All ranks see the same draws, so entries are correlated.
        draws: number of independent data sets.
    """

    ranks: tuple[int, ...]
    mean: Float[np.ndarray, " k"]
    standard_error: Float[np.ndarray, " k"]
    draws: int

    def __repr__(self) -> str:
        """Show the risks."""
        risks = zip(self.ranks, self.mean, self.standard_error, strict=True)
        shown = ", ".join(f"{r}: {mean:.4g} ± {error:.1g}" for r, mean, error in risks)
        return f"Simulated({shown}; {self.draws} draws)"


def simulate(
    update: Float[np.ndarray, "n m"],
    ranks: tuple[int, ...],
    key: PRNGKeyArray,
    *,
    samples: int,
    noise: float,
    draws: int = 4000,
    directions: Float[np.ndarray, "n n"] | None = None,
) -> Simulated:
    r"""Draw the model, fit B, and measure $\|\hat D - \Delta W\|_F^2$, for several ranks at once.

    Nothing of the formula enters: inputs and noise are drawn, the targets made, B fitted by QR, and the
    excess risk of the fit evaluated exactly, which for inputs with identity covariance is that norm.

    Args:
        update: the kernel update, shape (in, out), float64.
        ranks: each with N − r ≥ 4.  With N − r ≥ 8 the standard error itself has a finite variance.
        key: a JAX random key.
        samples: N.
        noise: σ².
        draws: number of independent data sets.
        directions: an orthogonal matrix whose first r columns are the frozen A; the left singular vectors of
            `update` if None, which are the right ones of ΔW.

    Raises:
        ValueError: ranks without a standard error or above n, or an update that is not a float64 matrix.
    """
    update = np.asarray(update)
    linalg.require_judging_precision("update", update)
    if update.ndim != 2:
        raise ValueError(f"update: got shape {update.shape}, needs a matrix (in, out)")
    most = min(len(update), samples - LEAST_DEGREES)
    if not ranks or min(ranks) < 0 or max(ranks) > most:
        raise ValueError(
            f"ranks: got {ranks}, needs ranks from 0 to {most} for {len(update)} inputs and {samples} samples"
        )
    if directions is None:
        directions = np.linalg.svd(update, full_matrices=True)[0]
    directions = np.asarray(directions, np.float64)[:, : max(ranks)]
    kept = np.arange(max(ranks)) < np.array(ranks)[:, None]
    given = [jnp.asarray(array, jnp.float64) for array in (update, directions, kept, math.sqrt(noise))]
    chunks = jax.random.split(key, (-(-draws // CHUNK), CHUNK))  # of one size, so that one program serves all
    found = np.concatenate([np.asarray(_risks(*given, keys, samples)) for keys in chunks])[:draws]
    return Simulated(tuple(ranks), found.mean(0), found.std(0, ddof=1) / math.sqrt(draws), draws)


@functools.partial(jax.jit, static_argnums=5)
def _risks(
    update: Float[Array, "n m"],
    directions: Float[Array, "n q"],
    kept: Float[Array, "k q"],
    deviation: Float[Array, ""],
    keys: PRNGKeyArray,
    samples: int,
) -> Float[Array, "draws k"]:
    """Excess risks, one row per draw; a mask takes the place of a shape that depends on the rank."""
    (n, m), most = update.shape, kept.shape[1]

    def one(key: PRNGKeyArray) -> Float[Array, " k"]:
        drawn = jax.random.normal(key, (samples, n + m), jnp.float64)
        x, y = drawn[:, :n], drawn[:, :n] @ update + deviation * drawn[:, n:]
        # The factor R of (features, targets) holds the least squares problems of all leading columns.
        r = jnp.linalg.qr(jnp.concatenate([x @ directions, y], axis=1), mode="r")[:most]
        return jax.vmap(lambda mask: excess(r[:, :most], r[:, most:], mask))(kept)

    def excess(r: Float[Array, "q q"], right: Float[Array, "q m"], mask: Float[Array, " q"]) -> Array:
        r = r * mask[None] * mask[:, None] + jnp.diag(1 - mask)
        b = jax.scipy.linalg.solve_triangular(r, mask[:, None] * right)
        return jnp.sum((directions @ b - update) ** 2)

    return jax.vmap(one)(keys)
