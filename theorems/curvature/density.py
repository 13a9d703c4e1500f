r"""The trace and the density of the spectrum: exact within the memory budget, estimated beyond it."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import scipy.linalg
from jax.tree_util import Partial
from jaxtyping import Float
from matfree.decomp import tridiag_sym
from matfree.stochtrace import monte_carlo_trace, sampler_normal, sampler_signs

from .. import linalg
from .operator import Curvature, require_curvature

PROBES = 32
DEPTH = 48
AT_ONCE = 8
"""Random vectors that are pushed through a network at once."""


@dataclass(frozen=True)
class Trace:
    """The trace of a symmetric matrix.

    Attributes:
        value: the trace, or its estimate.
        standard_error: of the estimate; 0 where it is exact up to rounding.
        probes: how many random vectors were used.
        how: by which computation.
    """

    value: float
    standard_error: float
    probes: int
    how: str


def trace(curvature: Curvature, *, probes: int = PROBES, seed: int = 0) -> Trace:
    r"""$\operatorname{tr} A$: the sum of the diagonal, or the mean of $v^T A v$ over random signs v.

    Args:
        curvature: A.
        probes: random vectors, beyond the memory budget; at least two.
        seed: of the vectors.

    Raises:
        ValueError: no `Curvature`, or fewer than two probes, from which no standard error follows.

    Source: Hutchinson, *A stochastic estimator of the trace of the influence matrix*, Commun. Stat. Simul.
    Comput. 19, 1990.
    """
    require_curvature(curvature)
    if curvature.dense:
        how = f"sum of the diagonal, {curvature.decided}"
        return Trace(math.fsum(np.diag(curvature.matrix())), 0.0, 0, how)
    samples = np.asarray(_forms(curvature.linear, jnp.zeros(curvature.d), _keys(probes, seed), AT_ONCE))
    how = f"{probes} random vectors of signs, {curvature.decided}"
    return Trace(float(samples.mean()), _standard_error(samples), probes, how)


@dataclass(frozen=True, eq=False, repr=False)
class SpectralDensity:
    r"""The distribution of eigenvalues, $\frac1d \sum_i \delta_{\lambda_i}$, as weighted points.

    Attributes:
        nodes: shape (probes, n); the eigenvalues themselves in one row where it is exact.
        weights: of the nodes; those of a row sum to 1.
        how: by which computation.
    """

    nodes: Float[np.ndarray, "probes n"]
    weights: Float[np.ndarray, "probes n"]
    how: str

    def mean(self, function: Callable[[np.ndarray], np.ndarray]) -> tuple[float, float]:
        r"""$\frac1d \operatorname{tr} f(A)$ and the standard error of the estimate.

        Args:
            function: f, of an array and elementwise.
        """
        samples = np.sum(self.weights * function(self.nodes), axis=1)
        return float(samples.mean()), _standard_error(samples) if len(samples) > 1 else 0.0

    def density(self, points: Float[np.ndarray, " m"], width: float) -> Float[np.ndarray, " m"]:
        """The density smoothed by Gaussians, at some points.

        Args:
            points: where.
            width: standard deviation of the Gaussians.

        Raises:
            ValueError: a width that is not positive.
        """
        if not width > 0:
            raise ValueError(f"width: got {width}, needs a positive number, in the units of eigenvalues")
        scaled = (np.asarray(points)[:, None] - self.nodes.ravel()) / width
        bumps = np.exp(-(scaled**2) / 2) / (width * math.sqrt(2 * math.pi))
        return bumps @ (self.weights.ravel() / len(self.nodes))

    def __repr__(self) -> str:
        """Show the range."""
        return f"SpectralDensity({self.nodes.min():.3g} to {self.nodes.max():.3g}, {self.how})"


def spectral_density(
    curvature: Curvature, *, probes: int = PROBES, depth: int = DEPTH, seed: int = 0
) -> SpectralDensity:
    r"""The distribution of eigenvalues: all of them, or Gauss quadrature from Lanczos' method.

    For a random unit vector v the Gauss quadrature of $v^T f(A) v$ with m nodes, exact for polynomials of
    degree $2m - 1$, comes from m steps of Lanczos' method; its mean over v is $\frac1d \operatorname{tr}
    f(A)$.

    Args:
        curvature: A.
        probes: random vectors, beyond the memory budget; at least two.
        depth: m, at most d.
        seed: of the vectors.

    Raises:
        ValueError: no `Curvature`, fewer than two probes, or a depth below one.

    Source: Golub and Welsch, *Calculation of Gauss quadrature rules*, Math. Comp. 23, 1969; Ubaru, Chen and
    Saad, *Fast estimation of tr(f(A)) via stochastic Lanczos quadrature*, SIAM J. Matrix Anal. Appl. 38,
    2017.
    """
    require_curvature(curvature)
    if depth < 1:
        raise ValueError(f"depth: got {depth}, needs at least one step")
    if curvature.dense:
        values = curvature.spectrum.values[None]
        how = f"all eigenvalues, {curvature.decided}"
        return SpectralDensity(values, np.full(values.shape, 1 / curvature.d), how)
    depth = min(depth, curvature.d)
    fits = 4 * AT_ONCE * depth * 8 * curvature.d <= max(curvature.memory, 2**26)
    start, keys = jnp.zeros(curvature.d), _keys(probes, seed)
    steps = _tridiagonal(curvature.linear, start, keys, depth, AT_ONCE if fits else 1)
    rules = [_quadrature(*map(np.asarray, each)) for each in zip(*steps, strict=True)]
    how = f"{probes} random vectors, {depth} steps each, {curvature.decided}"
    return SpectralDensity(np.stack([rule[0] for rule in rules]), np.stack([rule[1] for rule in rules]), how)


def _keys(probes: int, seed: int) -> Any:
    if probes < 2:
        raise ValueError(f"probes: got {probes}, needs at least 2: one alone tells no standard error")
    return jax.random.split(jax.random.key(seed), probes)


def _standard_error(samples: Float[np.ndarray, " n"]) -> float:
    return float(samples.std(ddof=1) / math.sqrt(len(samples)))


@partial(jax.jit, static_argnums=3)
def _forms(linear: Partial, like: Any, keys: Any, at_once: int) -> Any:
    form, sampler = monte_carlo_trace(), sampler_signs(like, num=1)
    return jax.lax.map(lambda key: form(linear, sampler(key)[0]), keys, batch_size=at_once)


@partial(jax.jit, static_argnums=(3, 4))
def _tridiagonal(linear: Partial, like: Any, keys: Any, depth: int, at_once: int) -> tuple[Any, Any]:
    """Both diagonals of Lanczos' method from a random vector for each key."""
    lanczos, sampler = tridiag_sym(depth, materialize=False, custom_vjp=False), sampler_normal(like, num=1)
    return jax.lax.map(lambda key: lanczos(linear, sampler(key)[0])[1], keys, batch_size=at_once)


def _quadrature(
    diagonal: Float[np.ndarray, " n"], off: Float[np.ndarray, " m"]
) -> tuple[Float[np.ndarray, " n"], Float[np.ndarray, " n"]]:
    """Nodes and weights; nodes past the end of an invariant space weigh nothing."""
    size = np.nanmax(np.abs(np.append(diagonal, off)))
    alive = off > 100 * math.sqrt(len(diagonal)) * linalg.EPS * size
    n = len(diagonal) if alive.all() else int(np.argmin(alive)) + 1
    values, vectors = scipy.linalg.eigh_tridiagonal(diagonal[:n], off[: n - 1])
    missing = len(diagonal) - n
    return np.append(values, np.full(missing, values[-1])), np.append(vectors[0] ** 2, np.zeros(missing))
