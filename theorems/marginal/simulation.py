r"""The models themselves: data drawn, both classes fitted, losses measured. No closed form enters.

A fit is linear in the targets, so that fits to the noise-free targets and to the noise alone are measured
apart from the same draw: a formula that errs in one of the two cannot hide behind the other.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, PRNGKeyArray

from .. import linalg
from .gaussian import GaussianRegression

LEAST_DEGREES = 4  # of freedom N − p (or p − N): below, the risk has no second moment over samples
CHUNK = 1024
QUANTITIES = ("noise part", "misfit part", "risk", "training loss", "gap")
PIECES = ("bias", "noise part", "risk")


@dataclass(frozen=True, repr=False)
class Simulated:
    """Means over many draws of the model, with the standard errors that the draws themselves show.

    Attributes:
        samples: the sample sizes, all n from the same draws (the first N rows of the largest).
        draws: number of independent data sets.
        means: by quantity; shape (n, 2) with FFT in column 0 and PEFT in column 1, or (n,) for one class.
        errors: standard errors of the means, alike.
    """

    samples: tuple[int, ...]
    draws: int
    means: Mapping[str, np.ndarray]
    errors: Mapping[str, np.ndarray]

    def __repr__(self) -> str:
        """Show the sizes."""
        return f"Simulated({', '.join(self.means)} at N = {self.samples}; {self.draws} draws)"


@dataclass(frozen=True, repr=False)
class Problem:
    """A regression to draw from.

    Attributes:
        theta: θ* − θ₀, shape (d,), float64.
        Sigma: covariance of the inputs, shape (d, d), positive definite.
        P: basis of the updates of PEFT, shape (d, k) with independent columns, k < d.
        noise: σ².

    Raises:
        ValueError: as `GaussianRegression.of`.
    """

    theta: Float[np.ndarray, " d"]
    Sigma: Float[np.ndarray, "d d"]
    P: Float[np.ndarray, "d k"]
    noise: float

    def __post_init__(self) -> None:
        self.exact  # noqa: B018  (refuses what cannot be drawn from)

    @functools.cached_property
    def exact(self) -> GaussianRegression:
        """The closed forms for this problem."""
        return GaussianRegression.of(self.theta, self.Sigma, self.P, self.noise)

    @classmethod
    def random(cls, d: int, k: int, *, noise: float, bias: float, seed: int) -> Problem:
        """A problem with random Σ, P and θ*, of given σ² and b²; a numpy seed.

        Raises:
            ValueError: as the class.
        """
        rng = np.random.default_rng(seed)
        factor, P = rng.normal(size=(d, d)) / math.sqrt(d), rng.normal(size=(d, k))
        Sigma, theta = factor @ factor.T + np.eye(d) / 2, rng.normal(size=d)
        reached = P @ np.linalg.lstsq(np.linalg.cholesky(Sigma).T @ P, np.linalg.cholesky(Sigma).T @ theta)[0]
        missed = theta - reached
        return cls(reached + missed * math.sqrt(bias / (missed @ Sigma @ missed)), Sigma, P, noise)

    def __repr__(self) -> str:
        """Show the sizes."""
        return f"Problem({self.exact!r})"


def simulate(
    problem: Problem, samples: tuple[int, ...], key: PRNGKeyArray, *, draws: int = 8 * CHUNK
) -> Simulated:
    r"""Draw samples, fit FFT and PEFT by QR, and measure the fits, at several sample sizes at once.

    The quantities are `QUANTITIES`.  The noise part is $\|\hat\theta-0\|_\Sigma^2$ of a fit to the noise
    alone, the misfit part $\|\hat\theta-\theta^*\|_\Sigma^2$ of one to the noise-free targets (0 for FFT, up
    to rounding), the risk that of the fit to both, with σ² added; $\|u\|_\Sigma^2 = u^T\Sigma u$ is exactly
    the expected squared error on a new input.

    Args:
        problem: what to draw from.
        samples: sample sizes N, each with N − d ≥ 4.  With N − d ≥ 8 the standard errors themselves have a
            finite variance.
        key: a JAX random key.
        draws: number of independent data sets, rounded up to a multiple of 1024.

    Raises:
        ValueError: sample sizes without a second moment of the risk, or fewer than one draw.
    """
    d, k = problem.exact.d, problem.exact.k
    if not samples or min(samples) < d + LEAST_DEGREES:
        raise ValueError(
            f"samples: got {samples}, needs sizes of at least {d + LEAST_DEGREES} for {d} parameters: below, "
            "the risk has no second moment and its mean over draws no standard error"
        )
    complement = np.linalg.qr(problem.P, mode="complete")[0][:, k:]
    widths = np.arange(d) < np.array([[d], [k]])
    rows = np.arange(max(samples)) < np.array(samples)[:, None]
    arrays = np.linalg.cholesky(problem.Sigma), np.hstack([problem.P, complement]), problem.theta
    given = [jnp.asarray(a, jnp.float64) for a in (*arrays, math.sqrt(problem.noise), widths, rows)]
    return _collect(lambda keys: _fits(*given, keys), QUANTITIES, samples, key, draws)


def simulate_ridgeless(
    theta: Float[np.ndarray, " d"],
    parameters: int,
    noise: float,
    samples: int,
    key: PRNGKeyArray,
    *,
    draws: int = 8 * CHUNK,
) -> Simulated:
    r"""Draw fewer samples than coefficients, fit with least norm, and measure the parts of the risk apart.

    The quantities are `PIECES`: the bias $\|\hat\theta_T-\theta_T\|^2$ of the fit to the targets that θ_T
    alone gives, the noise part $\|\hat\theta_T\|^2$ of the fit to all the rest (the noise and what lies
    outside T), and the risk of the fit to both, with σ² + ‖θ_{Tᶜ}‖² added.

    Args:
        theta: θ*, shape (d,), of whose coordinates T is the first p; inputs have identity covariance.
        parameters: p ≤ d.
        noise: σ².
        samples: N ≤ p − 4.
        key: a JAX random key.
        draws: number of independent data sets, rounded up to a multiple of 1024.

    Raises:
        ValueError: sizes out of range.
    """
    theta = np.asarray(theta)
    linalg.require_judging_precision("theta", theta)
    if not (parameters <= len(theta) and 1 <= samples <= parameters - LEAST_DEGREES):
        raise ValueError(
            f"parameters, samples: got {parameters} and {samples}, needs parameters <= {len(theta)} and 1 <= "
            f"samples <= parameters - {LEAST_DEGREES}: above, the risk has no second moment"
        )
    given = jnp.asarray(theta, jnp.float64), jnp.asarray(math.sqrt(noise), jnp.float64)
    run = functools.partial(_interpolations, *given, parameters=parameters, samples=samples)
    return _collect(run, PIECES, (samples,), key, draws)


def _collect(
    run: Callable[[PRNGKeyArray], Array],
    names: tuple[str, ...],
    samples: tuple[int, ...],
    key: Array,
    draws: int,
) -> Simulated:
    """Run in chunks of one size, so that one program serves all; the last axis is that of the quantities."""
    if draws < 1:
        raise ValueError(f"draws: got {draws}, needs at least 1")
    chunks = jax.random.split(key, (-(-draws // CHUNK), CHUNK))
    found = np.concatenate([np.asarray(run(keys)) for keys in chunks])
    mean, error = found.mean(0), found.std(0, ddof=1) / math.sqrt(len(found))
    means, errors = ({name: a[..., i] for i, name in enumerate(names)} for a in (mean, error))
    return Simulated(tuple(samples), len(found), means, errors)


@jax.jit
def _fits(
    root: Float[Array, "d d"],
    basis: Float[Array, "d d"],
    theta: Float[Array, " d"],
    deviation: Float[Array, ""],
    widths: Float[Array, "2 d"],
    rows: Float[Array, "n N"],
    keys: PRNGKeyArray,
) -> Float[Array, "draws n 2 5"]:
    """All quantities, a row to a draw; masks take the place of shapes that depend on N and on the class."""
    d, most = len(theta), rows.shape[1]

    def one(key: PRNGKeyArray) -> Float[Array, "n 2 5"]:
        drawn = jax.random.normal(key, (most, d + 1), jnp.float64)
        x = drawn[:, :d] @ root.T
        table = jnp.concatenate([x @ basis, (x @ theta)[:, None], deviation * drawn[:, d:]], axis=1)
        return jax.vmap(lambda kept: sample(jnp.linalg.qr(table * kept[:, None], mode="r"), kept.sum()))(rows)

    def sample(r: Float[Array, "q q"], size: Float[Array, ""]) -> Float[Array, "2 5"]:
        # R of (features, targets) holds the problems of all leading columns, and their residuals.
        return jax.vmap(lambda mask: measured(r[:, :d] * mask[None], r[:, d:], mask, size))(widths)

    def measured(
        r: Float[Array, "q d"], right: Float[Array, "q 2"], mask: Float[Array, " d"], size: Float[Array, ""]
    ) -> Float[Array, " 5"]:
        square = r[:d] * mask[:, None] + jnp.diag(1 - mask)
        fitted = jax.scipy.linalg.solve_triangular(square, mask[:, None] * right[:d])
        training = jnp.sum(jnp.sum(right - r @ fitted, axis=1) ** 2) / size
        signal, noise = (basis @ fitted).T
        signal, noise = root.T @ (signal - theta), root.T @ noise  # their lengths are losses on new inputs
        risk = jnp.sum((signal + noise) ** 2) + deviation**2
        return jnp.stack([jnp.sum(noise**2), jnp.sum(signal**2), risk, training, risk - training])

    return jax.vmap(one)(keys)


@functools.partial(jax.jit, static_argnames=("parameters", "samples"))
def _interpolations(
    theta: Float[Array, " d"],
    deviation: Float[Array, ""],
    keys: PRNGKeyArray,
    *,
    parameters: int,
    samples: int,
) -> Float[Array, "draws 1 3"]:
    """Bias, noise part and risk, a row to a draw."""
    inside, outside = theta[:parameters], theta[parameters:]

    def one(key: PRNGKeyArray) -> Float[Array, "1 3"]:
        drawn = jax.random.normal(key, (samples, len(theta) + 1), jnp.float64)
        x, rest = drawn[:, :parameters], drawn[:, parameters:]
        targets = jnp.stack([x @ inside, rest @ jnp.append(outside, deviation)], axis=1)
        # X⁺ = Xᵀ(XXᵀ)⁻¹ with XXᵀ = RᵀR.  Not QR⁻ᵀ: batches that need Q and a solve were seen to hang on CPUs.
        r = jnp.linalg.qr(x.T, mode="r")
        weights = jax.scipy.linalg.solve_triangular(r, jax.scipy.linalg.solve_triangular(r, targets, trans=1))
        signal, noise = (x.T @ weights).T
        beyond = jnp.sum(outside**2) + deviation**2
        risk = jnp.sum((signal + noise - inside) ** 2) + beyond
        return jnp.stack([jnp.sum((signal - inside) ** 2), jnp.sum(noise**2), risk])[None]

    return jax.vmap(one)(keys)
