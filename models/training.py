"""The compiled functions behind `fit`: all runs at once, one evaluation or one chunk of steps at a time."""

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax.flatten_util import ravel_pytree
from jaxtyping import Array, Bool, Float, Int, PRNGKeyArray, PyTree

from .methods.base import Method, Reparameterization, Schedule
from .network import Network
from .tree import Params

Phi = PyTree[Float[Array, "..."]]
Batch = tuple[Float[Array, "p ..."], Int[Array, " p"]]
Weights = Float[Array, " p"] | None
_ADAM = optax.scale_by_adam()


@dataclass(frozen=True)
class Settings:
    """How runs are trained, as `fit` explains it, checked.

    Raises:
        ValueError: a setting out of range.
    """

    steps: int = 500
    batch_size: int | None = None
    weight_decay: float = 0.0
    eval_every: int = 25
    patience: int | None = None

    def __post_init__(self) -> None:
        for name in ("steps", "eval_every", "batch_size", "patience"):
            value, optional = getattr(self, name), name in ("batch_size", "patience")
            least = 0 if name == "steps" else 1  # no steps: what Φ starts from is evaluated
            if not (optional and value is None) and not (isinstance(value, int) and value >= least):
                raise ValueError(
                    f"{name}: got {value!r}, needs a whole number ≥ {least}{' or None' if optional else ''}"
                )
        if self.steps % self.eval_every:
            raise ValueError(
                f"eval_every: got {self.eval_every}, needs a divisor of steps={self.steps}; "
                f"use steps={self.eval_every * -(-self.steps // self.eval_every)}"
            )
        if not 0 <= self.weight_decay < math.inf:
            raise ValueError(f"weight_decay: got {self.weight_decay}, needs zero or a positive number")


def cross_entropy(
    apply: Callable, theta: Params, batch: Batch, weights: Weights = None
) -> tuple[Float[Array, ""], Float[Array, ""]]:
    """The mean of `log Σ_j exp f_j − f_y` over a batch of examples, and the accuracy.

    With weights, which sum to one, both are weighted means: those of a subset of the examples, for instance.
    """
    x, y = batch
    logits = apply(theta, x)
    losses = optax.softmax_cross_entropy_with_integer_labels(logits, y)
    right = logits.argmax(axis=1).astype(y.dtype) == y
    if weights is None:
        return losses.mean(), right.mean(dtype=logits.dtype)
    return weights @ losses, weights @ right.astype(weights.dtype)


class Runs(NamedTuple):
    """Runs between two chunks of steps: one, or with leading axes (S, R)."""

    phi: Phi
    moments: optax.OptState
    memory: PyTree[Array]
    best_phi: Phi
    best_loss: Float[Array, "..."]
    best: Int[Array, "..."]
    running: Bool[Array, "..."]


@dataclass(frozen=True)
class Program:
    """All that decides what is compiled, apart from shapes; of an extension, on the enlarged network.

    θ₀ and the data are arguments of the compiled functions, not constants in them: XLA would spend seconds
    on folding those.

    The data may hold a `mask`, a tree like Φ with a leading axis S: zeros where an entry of Φ stays as it
    starts, ones elsewhere. So runs of one program can differ in what they train.

    And it may hold `weights`, "train" of shape (S, examples) and "batch" of shape (S, batch), each summing to
    one over its last axis: so runs of one program can differ in the examples that they are trained on.
    """

    apply: Callable
    wrapped: Callable | None
    architecture: Any
    method: Method
    settings: Settings

    @classmethod
    def of(cls, network: Network, method: Method, settings: Settings) -> "Program":
        """The program of a network, without its parameters."""
        return cls(hashable(network.apply), hashable(network.wrapped), network.architecture, method, settings)

    def reparameterization(self, theta0: Params) -> Reparameterization:
        """The map from Φ to an update of θ₀, which may be traced."""
        network = Network(self.apply, theta0, self.architecture, wrapped=self.wrapped)
        return self.method.trainable(network)

    def theta(self, phi: Phi, theta0: Params) -> Params:
        """θ₀ + g(Φ)."""
        return self.reparameterization(theta0).apply(theta0, phi)

    def unravel(self, vector: Float[Array, " k"], theta0: Params) -> Phi:
        """Φ from the vector that `ravel_pytree` makes of it."""
        zeros = jax.tree.map(
            lambda leaf: jnp.zeros(leaf.shape, leaf.dtype), self.reparameterization(theta0).template
        )
        return ravel_pytree(zeros)[1](vector)

    def objective(self, phi: Phi, theta0: Params, batch: Batch, weights: Weights = None) -> Float[Array, ""]:
        """The value that `fit` and `polish` minimize over Φ."""
        square = sum(jnp.sum(leaf**2) for leaf in jax.tree.leaves(phi))
        loss, _ = cross_entropy(self.apply, self.theta(phi, theta0), batch, weights)
        return loss + self.settings.weight_decay / 2 * square + self.penalty(phi, loss.dtype)

    def penalty(self, phi: Phi, dtype: jnp.dtype) -> Float[Array, ""]:
        """What the method adds to the objective; for most, zero."""
        added = self.method.penalty(phi)
        return jnp.zeros((), dtype) if added is None else added


def start(
    init: Callable[[PRNGKeyArray], Phi],
    seeds: tuple[int, ...],
    rates: int,
    schedule: Schedule | None = None,
    mask: Phi | None = None,
) -> Runs:
    """The runs before their first step; the rates of a seed share their Φ, zero where a mask is zero."""
    shape = (len(seeds), rates)

    def repeat(leaf: np.ndarray) -> np.ndarray:
        return np.broadcast_to(leaf[:, None], (*shape, *leaf.shape[1:]))

    drawn = {seed: jax.device_get(init(jax.random.key(seed))) for seed in dict.fromkeys(seeds)}
    phi = jax.tree.map(lambda *leaves: np.stack(leaves), *[drawn[seed] for seed in seeds])
    phi = jax.tree.map(repeat, _masked(phi, mask))
    moments = jax.eval_shape(jax.vmap(jax.vmap(_ADAM.init)), phi)
    return Runs(
        phi=phi,
        moments=jax.tree.map(lambda leaf: np.zeros(leaf.shape, leaf.dtype), moments),
        memory=() if schedule is None else jax.device_get(jax.vmap(jax.vmap(schedule.start))(phi)),
        best_phi=phi,
        best_loss=np.full(shape, np.inf, jax.tree.leaves(phi)[0].dtype),
        best=np.zeros(shape, np.int32),
        running=np.ones(shape, bool),
    )


def evaluate(program: Program, data: dict, runs: Runs, index: int) -> tuple[Runs, dict[str, Array]]:
    """The evaluation number `index` of all runs: the best Φ so far is kept; the curves' values are (S, R).

    The expensive part depends on the network alone, so that one compiled function serves all methods; the
    gradient with respect to Φ follows from that with respect to θ by the chain rule, `Dg(Φ)ᵀ ∇_θ + λ Φ`.
    """
    values, gradient = _measure(program.apply, _thetas(program, data["theta0"], runs.phi), data)
    measured = gradient, values["validation_loss"]
    runs, norm = _keep(program, data["theta0"], runs, measured, data.get("mask"), np.int32(index))
    return runs, {**values, "gradient_norm": norm}


@partial(jax.jit, static_argnums=0)
def _thetas(program: Program, theta0: Params, phi: Phi) -> Params:
    return jax.vmap(jax.vmap(lambda one: program.theta(one, theta0)))(phi)


@partial(jax.jit, static_argnums=0)
def _measure(apply: Callable, thetas: Params, data: dict) -> tuple[dict[str, Array], Params]:
    def one(theta: Params, weights: Weights) -> tuple[dict[str, Array], Params]:
        value = jax.value_and_grad(partial(cross_entropy, apply), has_aux=True)
        (loss, accuracy), gradient = value(theta, data["train"], weights)
        held_out_loss, held_out_accuracy = cross_entropy(apply, theta, data["validation"])
        return {
            "train_loss": loss,
            "train_accuracy": accuracy,
            "validation_loss": held_out_loss,
            "validation_accuracy": held_out_accuracy,
        }, gradient

    return jax.vmap(jax.vmap(one, in_axes=(0, None)))(thetas, _weights(data, "train"))


@partial(jax.jit, static_argnums=0)
def _keep(
    program: Program,
    theta0: Params,
    runs: Runs,
    measured: tuple[Params, Array],
    mask: Phi | None,
    index: Int[Array, ""],
) -> tuple[Runs, Float[Array, "S R"]]:
    decay, patience = program.settings.weight_decay, program.settings.patience

    def one(run: Runs, gradient: Params, loss: Array, mask: Phi | None) -> tuple[Runs, Array]:
        _, pull = jax.vjp(lambda phi: program.theta(phi, theta0), run.phi)
        added = jax.grad(lambda phi: program.penalty(phi, loss.dtype))(run.phi)
        gradient = jax.tree.map(lambda a, b, value: a + b + decay * value, *pull(gradient), added, run.phi)
        gradient = _masked(gradient, mask)
        better = run.running & (loss < run.best_loss)
        best = jnp.where(better, index, run.best)
        return run._replace(
            best_phi=jax.tree.map(lambda new, old: jnp.where(better, new, old), run.phi, run.best_phi),
            best_loss=jnp.where(better, loss, run.best_loss),
            best=best,
            running=run.running if patience is None else run.running & (index - best < patience),
        ), optax.tree.norm(gradient)

    over_rates = jax.vmap(one, in_axes=(0, 0, 0, None))
    return jax.vmap(over_rates)(runs, *measured, mask)


@partial(jax.jit, static_argnums=0)
def train(
    program: Program, data: dict, runs: Runs, rows: Int[Array, "S chunk batch"] | None, index: Int[Array, ""]
) -> Runs:
    """The steps after evaluation number `index`, of all runs: Adam, its rate a half cosine to zero.

    The rates of a seed share its mini-batches, its mask and its weights.
    """
    settings, schedule = program.settings, program.method.schedule()
    numbers = index * settings.eval_every + jnp.arange(settings.eval_every, dtype=jnp.int32)

    def one(
        run: Runs, rate: Array, rows: Int[Array, "chunk batch"] | None, mask: Phi | None, weights: Weights
    ) -> Runs:
        def step(carry: tuple[Phi, optax.OptState, PyTree], now: tuple) -> tuple[tuple, None]:
            (phi, moments, memory), (number, batch) = carry, now
            examples = data["train"] if batch is None else tuple(leaf[batch] for leaf in data["train"])
            gradient = jax.grad(program.objective)(phi, data["theta0"], examples, weights)
            gradient = _masked(gradient, mask)
            with jax.numpy_dtype_promotion("standard"):  # optax mixes integers and floats
                direction, moments = _ADAM.update(gradient, moments)
            scale = rate * (1 + jnp.cos(number.astype(rate.dtype) * (math.pi / settings.steps))) / 2
            phi = jax.tree.map(lambda p, u: p - scale * u, phi, direction)
            if schedule is not None:
                done = (number + 1).astype(rate.dtype) / settings.steps
                phi, memory = schedule.after(phi, gradient, memory, done)
            return (phi, moments, memory), None

        carry = (run.phi, run.moments, run.memory)
        (phi, moments, memory), _ = jax.lax.scan(step, carry, (numbers, rows))
        return run._replace(phi=phi, moments=moments, memory=memory)

    weights = _weights(data, "train" if rows is None else "batch")
    over_rates = jax.vmap(one, in_axes=(0, 0, None, None, None))
    over_seeds = jax.vmap(over_rates, in_axes=(0, None, 0, 0, 0))
    return over_seeds(runs, data["rates"], rows, data.get("mask"), weights)


def _weights(data: dict, of: str) -> Float[Array, "S p"] | None:
    return data["weights"][of] if "weights" in data else None


def _masked(gradient: Phi, mask: Phi | None) -> Phi:
    return gradient if mask is None else jax.tree.map(jnp.multiply, gradient, mask)


def hashable(function: Callable | None) -> Callable | None:
    """The function, as a static argument: one that has no hash is hidden in one found by identity."""
    try:
        hash(function)
    except TypeError:
        return partial(function)
    return function
