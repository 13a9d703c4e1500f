"""What the claims of Theorem 1 on functions are judged on when a network was really fine-tuned."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import jax
import numpy as np
from scipy.special import logsumexp

from ...models import tree
from ...models.activations import ACTIVATIONS
from ...models.cache import digest
from ...models.mlp import MLPConfig
from .. import memo, ranks
from ..claims import MissingIngredient
from ..pasteable import Pasteable
from .logistic import TrainedMargin

if TYPE_CHECKING:
    from ...models.finetuning import FineTuning
    from ...models.network import Network

INPUTS = 64
CEILING = 1700


@dataclass(frozen=True, eq=False, repr=False)
class TwoWays(Pasteable):
    """Outputs of a tuned network computed the ordinary way and through g, at the trained Φ."""

    ordinary: np.ndarray
    merged: np.ndarray
    scale: float
    operations: int
    kind: str = "trained network"
    note: str = "outputs on test inputs, the ordinary way and through g"


def two_ways(tuning: FineTuning) -> Iterable[TwoWays]:
    """Both ways on some test inputs.

    Raises:
        MissingIngredient: an extension, which has no g.
    """
    if not tuning.weight_space:
        raise MissingIngredient(
            f"{tuning.method.name} adds parameters: it has no map g, equation 4 is not about it"
        )
    x = tuning.task.new.test.x[:INPUTS]
    ordinary, merged = _ordinary(tuning, x), tuning.network.outputs(tuning.theta, x)
    yield TwoWays(ordinary, merged, *rounding_of(tuning.network, ordinary))


def _ordinary(tuning: FineTuning, x: Any) -> np.ndarray:
    """Outputs of the tuned network the way the method is usually applied, without g.

    Raises:
        MissingIngredient: a network without the hook that this takes.
    """
    try:
        return np.asarray(jax.jit(tuning.method.ordinary(tuning.network, tuning.phi))(x))
    except ValueError as error:
        raise MissingIngredient(str(error)) from error


def operations_of(network: Network) -> int:
    """Rounded operations on a path through all leaves, with room for what decompositions of them lose."""
    return 64 * sum(max(leaf.shape, default=1) for leaf in tree.paths(network.params).values())


def rounding_of(network: Network, outputs: np.ndarray) -> tuple[float, int]:
    """The scale that rounding is relative to, and how many rounded operations lead to an output."""
    leaves = tree.paths(network.params)
    size = max(float(np.abs(np.asarray(leaf)).max()) for leaf in leaves.values())
    return float(np.abs(outputs).max()) + size, operations_of(network)


def trained_margin(tuning: FineTuning) -> Iterable[TrainedMargin]:
    """The worst margin over the training examples."""
    train = tuning.task.new.train
    logits = np.asarray(tuning.tuned(train.x))
    rows = np.arange(len(train))
    own, others = logits[rows, train.y], logits.copy()
    others[rows, train.y] = -np.inf
    worst, operations = float((own - others.max(axis=1)).min()), operations_of(tuning.network)
    yield TrainedMargin(worst, float(np.abs(logits).max()), operations)


@dataclass(frozen=True, eq=False, repr=False)
class AtZero(Pasteable):
    """The outputs at x = 0 of a network whose base is a ReLU network without biases: there f(0; θ) = 0."""

    functional: float
    kind: str = "trained network"
    note: str = "an output at x = 0, where every function of the base network vanishes"


def homogeneity(tuning: FineTuning) -> Iterable[AtZero]:
    """The largest output at x = 0, for bias-free perceptrons with σ(0) = 0 only."""
    config = tuning.network.architecture
    if isinstance(config, MLPConfig) and not config.biases and ACTIVATIONS[config.activation].at_zero == 0:
        x = np.zeros((1, config.widths[0]))
        outputs = np.asarray(tuning.tuned(x))[0]
        yield AtZero(float(outputs[np.abs(outputs).argmax()]))


@dataclass(frozen=True, eq=False, repr=False)
class Strictness(Pasteable):
    """The share of a network's functional dimensions that a method cannot have, by counting."""

    missed: float
    k: int
    d: int
    rho: int
    scale: float = 1.0
    operations: int = 8
    kind: str = "trained network"
    note: str = ""


def strictness(tuning: FineTuning) -> Iterable[Strictness]:
    """(ρ_S − k) / ρ_S with a certified lower bound of ρ_S; nothing where k ≥ d.

    Raises:
        MissingIngredient: dim Im g is not below the bound: it takes `subset.verdict` to tell.
    """
    k, d = tuning.reparameterization.k, tuning.network.d
    if k >= d:
        return
    bound = _functional_dimension(tuning)
    # From above: what is proved of the image. A measured rank of Dg is a lower bound and would not do.
    reach = min(k, tuning.method.image(tuning.network).bound)
    if bound <= reach:
        raise MissingIngredient(
            f"dim Im g = {reach} is not below the {bound} functional dimensions that were looked for; "
            "subset.verdict looks for more"
        )
    note = f"dim Im g = {reach} < ρ_S, at least {bound}: functions are missed"
    yield Strictness((bound - reach) / bound, k, d, bound, note=note)


def _functional_dimension(tuning: FineTuning) -> int:
    """At least so many functional dimensions of the base network on test inputs; all its methods ask."""
    return _found_dimension((tuning.network, tuning.task.new.test.x))


def _found_dimension(given: tuple[Network, np.ndarray]) -> int:
    """At least so many; no more than `CEILING` are looked for."""
    network, x = given
    return ranks.enough(network, x, min(network.d, CEILING)).rank or 0


_found_dimension = memo.latest(
    _found_dimension, key=lambda given: digest({"theta0": given[0].params, "x": given[1]}), size=4
)


@dataclass(frozen=True, eq=False, repr=False)
class Downhill(Pasteable):
    """The training loss of the PEFT solution, and after going on from θ₀ + g(Φ) with all parameters."""

    full: float
    peft: float
    scale: float
    operations: int
    kind: str = "trained network"
    note: str = "training loss of PEFT, and of the network after at most one step from θ₀ + g(Φ)"


def downhill(tuning: FineTuning) -> Iterable[Downhill]:
    """At most one gradient step of all parameters from θ₀ + g(Φ), of the first length that goes down.

    The loss of PEFT is that of the method as it is usually applied, without g: a g that is not what the
    method does need not start as low, and then the claim fails.
    """
    train = tuning.task.new.train
    outputs = _ordinary(tuning, train.x)
    own = outputs[np.arange(len(train)), train.y]
    peft = float((logsumexp(outputs, axis=1) - own).mean())
    loss, gradient = _loss_and_gradient(tuning.network, tuning.theta, train)
    theta, gradient = (jax.tree.map(np.asarray, each) for each in (tuning.theta, gradient))
    steps = (2.0**-i for i in range(40))
    values = (
        _loss(tuning.network, jax.tree.map(lambda t, g, s=s: t - s * g, theta, gradient), train)
        for s in steps
    )
    scale, operations = rounding_of(tuning.network, outputs)
    full = next((value for value in values if value < loss), loss)
    yield Downhill(full, peft, scale + loss, operations + len(train))


@dataclass(frozen=True, eq=False, repr=False)
class Untrained(Pasteable):
    """Outputs of a network enlarged by an extension, all of it zero, and of the base network."""

    tuned: np.ndarray
    base: np.ndarray
    scale: float
    operations: int
    neutral: bool
    kind: str = "enlarged network"
    note: str = "outputs with the added parameters at zero, against the base network"


def untrained_extension(tuning: FineTuning) -> Iterable[Untrained]:
    """The enlarged network at zero, on some test inputs; nothing for methods that add nothing."""
    if not tuning.weight_space:
        x = tuning.task.new.test.x[:INPUTS]
        base = np.asarray(tuning.network(x))
        yield Untrained(
            np.asarray(tuning.enlarged(x)), base, *rounding_of(tuning.network, base), tuning.method.neutral
        )


@functools.partial(jax.jit, static_argnums=0)
def _compiled(apply: Callable, theta: Any, x: Any, y: Any) -> tuple[Any, Any]:
    def objective(theta: Any) -> Any:
        logits = apply(theta, x)
        own = logits[np.arange(len(x)), y]
        return (jax.nn.logsumexp(logits, axis=1) - own).mean()

    return jax.value_and_grad(objective)(theta)


def _loss_and_gradient(network: Network, theta: Any, split: Any) -> tuple[float, Any]:
    value, gradient = _compiled(network.apply, theta, split.x, split.y)
    return float(value), gradient


def _loss(network: Network, theta: Any, split: Any) -> float:
    return _loss_and_gradient(network, theta, split)[0]
