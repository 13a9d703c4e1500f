r"""Classes of real networks that the claims on samples and losses are judged on.

Symmetrisation and contraction are looked at on a finite class, the networks on the way from θ₀ to θ; bounds
of generalisation on a last layer, which is refitted on examples that no training has seen.
"""

from __future__ import annotations

import functools
import itertools
import math
from collections.abc import Callable, Iterable
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from ...models import tree
from ...models.methods import Head
from ...models.training import hashable
from .. import linalg, memo
from ..claims import MissingIngredient
from ..rademacher import CROSS_ENTROPY, of_losses
from .bounds import clipped_cross_entropy, uniform_bound
from .instances.networks import Composed, HeldOut, SampledSupremum

if TYPE_CHECKING:
    from ...models.finetuning import FineTuning
    from ...models.network import Network
    from ...models.tree import Params

_DRAWS = 1024
_POINTS = 9  # networks on the way from θ₀ to θ
_ENUMERATED = 10  # inputs, all signs of which are listed
_SAMPLE = 16
_STEPS = 40
RADII = (0.1, 1.0, 10.0)
"""Of the class of last layers, fixed before any data."""
DELTA = 1e-3


@functools.partial(jax.jit, static_argnums=0)
def _outputs(apply: Callable, first: Params, last: Params, x: Float[Array, "p ..."]) -> Float[Array, "M p m"]:
    def at(t: Float[Array, ""]) -> Float[Array, "p m"]:
        return apply(jax.tree.map(lambda a, b: (1 - t) * a + t * b, first, last), x)

    return jax.lax.map(at, jnp.linspace(0.0, 1.0, _POINTS, dtype=x.dtype))


@memo.latest
def _line(tuning: FineTuning) -> tuple[np.ndarray, np.ndarray]:
    """Outputs of the networks on the way from θ₀ to θ at some test inputs, (M, p, m), and the labels."""
    test = tuning.task.new.test
    x, y = test.x[: 2 * _DRAWS], test.y[: 2 * _DRAWS]
    found = _outputs(hashable(tuning.network.apply), tuning.network.params, tuning.theta, jnp.asarray(x))
    return np.asarray(found), y


def _first(tuning: FineTuning) -> tuple[np.ndarray, np.ndarray]:
    outputs, y = _line(tuning)
    return outputs[:, :_ENUMERATED], y[:_ENUMERATED]


def _losses(outputs: np.ndarray, y: np.ndarray) -> np.ndarray:
    return np.stack([clipped_cross_entropy(one, y, np.inf) for one in outputs])


def _on_the_way(tuning: FineTuning) -> str:
    return f"{_POINTS} networks from θ₀ to the θ of {tuning.method.name}"


def sampled_suprema(tuning: FineTuning) -> Iterable[SampledSupremum]:
    """Samples from the test examples: how far test loss exceeds training loss, at worst in the class.

    Both means are taken less what the base network has, which is 0 in expectation and varies most.
    """
    losses, rng = _losses(*_line(tuning)), np.random.default_rng(0)
    drawn_losses = losses[:, rng.integers(losses.shape[1], size=(2 * _DRAWS, _SAMPLE))]
    signs = rng.choice((-1.0, 1.0), size=(2 * _DRAWS, _SAMPLE))
    gaps = losses.mean(axis=1)[:, None] - drawn_losses.mean(axis=2)
    correlations = (drawn_losses * signs).mean(axis=2)
    suprema, complexities = ((each - each[0]).max(axis=0) for each in (gaps, correlations))
    difference = suprema - 2 * complexities
    yield SampledSupremum(
        float(suprema.mean()),
        float(complexities.mean()),
        float(difference.std(ddof=1)) / math.sqrt(len(difference)),
        f"{_on_the_way(tuning)}, cross-entropy, N = {_SAMPLE}, {len(difference)} samples",
    )


def _signs(count: int) -> np.ndarray:
    return np.array(list(itertools.product((-1.0, 1.0), repeat=count)))


def margin_losses(tuning: FineTuning) -> Iterable[Composed]:
    """The logistic loss of margins, both complexities with all signs listed; its Lipschitz constant is 1."""
    outputs, y = _first(tuning)
    at, others = np.arange(_ENUMERATED), outputs.copy()
    others[:, at, y] = -np.inf
    margins = outputs[:, at, y] - others.max(axis=2)
    signs = _signs(_ENUMERATED)
    left, right = (
        float((values @ signs.T).max(axis=0).mean()) / _ENUMERATED
        for values in (np.logaddexp(0, -margins), margins)
    )
    note = f"{_on_the_way(tuning)}, logistic loss of margins, {_ENUMERATED} inputs, all signs"
    yield Composed(left, of_losses(right, 1.0, scalar=True), note=note)


def logit_losses(tuning: FineTuning) -> Iterable[Composed]:
    """Cross-entropy, with all signs listed, against random signs for all logits."""
    outputs, y = _first(tuning)
    left = (_losses(outputs, y) @ _signs(_ENUMERATED).T).max(axis=0).mean() / _ENUMERATED
    flat = outputs.reshape(_POINTS, -1)
    signs = np.random.default_rng(0).choice((-1.0, 1.0), size=(flat.shape[1], 4 * _DRAWS))
    tops = ((flat - flat[0]) @ signs).max(axis=0) / _ENUMERATED  # the base network's mean is 0
    bound, constant = of_losses(float(tops.mean()), CROSS_ENTROPY), of_losses(1.0, CROSS_ENTROPY)
    error = constant * float(tops.std(ddof=1)) / math.sqrt(len(tops))
    note = f"{_on_the_way(tuning)}, cross-entropy, {_ENUMERATED} inputs, {len(tops)} draws of signs"
    yield Composed(float(left), bound, error, note)


@functools.partial(jax.jit, static_argnums=(0, 1))
def _last_layer(
    apply: Callable, made: Any, phi: Any, theta: Params, x: Float[Array, "p ..."]
) -> tuple[Float[Array, "p m"], Any, Float[Array, "p m"]]:
    """Outputs, the derivative of their sum by the last layer, and outputs with a last layer moved by Φ."""

    def total(p: Any, inputs: Array) -> Array:
        return apply(made.apply(theta, p), inputs[None]).sum()

    zero = jax.tree.map(jnp.zeros_like, phi)
    slopes = jax.vmap(lambda inputs: jax.grad(total)(zero, inputs))(x)
    return apply(theta, x), slopes, apply(made.apply(theta, phi), x)


def _shapes(network: Network) -> tuple:
    """What tells two networks apart for a map g: what they compute, and the shapes of their parameters."""
    leaves = tree.paths(network.params).items()
    return network.apply, network.architecture, tuple((path, leaf.shape) for path, leaf in leaves)


@functools.partial(memo.latest, key=_shapes)
def _head(network: Network) -> tuple[Any, Any]:
    """The map of linear probing, and a random Φ."""
    made, rng = Head().reparameterize(network), np.random.default_rng(0)
    return made, jax.tree.map(lambda leaf: rng.normal(size=leaf.shape), made.template)


def last_layers(tuning: FineTuning) -> Iterable[HeldOut]:
    """The last layer on top of what was trained, refitted on examples that no training has seen.

    One half of the test examples is the sample, the other is held out; cross-entropy is clipped at ln m, what
    equal probabilities have.  Each radius has its share of δ.

    Raises:
        MissingIngredient: a network whose last layer is not known.
    """
    test, m = tuning.task.new.test, tuning.task.classes
    outputs, features = _affine(tuning)
    half, rows = len(test) // 2, []
    for radius in RADII:
        v = _fitted(features[:half], outputs[:half], test.y[:half], radius)
        losses = clipped_cross_entropy(outputs + _moved(features, v), test.y, math.log(m))
        complexity = of_losses(radius * float(np.linalg.norm(features[:half])) / half, CROSS_ENTROPY)
        rows.append((float(losses[:half].mean()), float(losses[half:].mean()), complexity))
    share = DELTA / (2 * len(RADII))
    bounds = [
        uniform_bound(training=fitted, complexity=complexity, ceiling=math.log(m), samples=half, delta=share)
        for fitted, _, complexity in rows
    ]
    width = math.log(m) * math.sqrt(math.log(1 / share) / (2 * (len(test) - half)))  # Hoeffding
    best = min(range(len(RADII)), key=lambda j: bounds[j].total)
    # The best of them is picked afterwards: what is sure of it is what is sure of all at once.
    told = replace(bounds[best], confidence=1 - share * len(RADII)).sentence
    shown = {"radius": RADII[best], "fitted": rows[best][0], "held out": rows[best][1]}
    shown |= {f"bound, B = {B:g}": bound.total for B, bound in zip(RADII, bounds, strict=True)}
    note = f"last layer on {tuning.method.name}, {half} examples, loss cut at ln m. {told}"
    limits = np.array([held_out - width for _, held_out, _ in rows])
    yield HeldOut(limits, np.array([bound.total for bound in bounds]), shown, note)


def _affine(tuning: FineTuning) -> tuple[Float[np.ndarray, "p m"], Float[np.ndarray, "p n m"]]:
    """Outputs at all test examples, and how each output moves with its own column of the last layer.

    Raises:
        MissingIngredient: the last layer is not known, or is no matrix with a column to an output.
    """
    try:
        made, phi = _head(tuning.network)
    except ValueError as error:
        raise MissingIngredient(f"the last layer of the network: {error}") from None
    x = jnp.asarray(tuning.task.new.test.x)
    outputs, slopes, moved = _last_layer(hashable(tuning.network.apply), made, phi, tuning.theta, x)
    outputs, flat = np.asarray(outputs), [np.asarray(leaf) for leaf in jax.tree.leaves(slopes)]
    features = np.concatenate([leaf.reshape(len(x), -1, outputs.shape[1]) for leaf in flat], axis=1)
    v = np.concatenate([leaf.reshape(-1, outputs.shape[1]) for leaf in jax.tree.leaves(phi)])
    off = np.abs(outputs + _moved(features, v) - moved).max()
    if off > linalg.gamma(v.size**2) * (np.abs(moved).max() + np.abs(outputs).max()):
        raise MissingIngredient("a last layer in which each output has a column of its own")
    return outputs, features


def _moved(features: Float[np.ndarray, "p n m"], v: Float[np.ndarray, "n m"]) -> Float[np.ndarray, "p m"]:
    return np.einsum("pnm,nm->pm", features, v)


def _fitted(
    features: Float[np.ndarray, "p n m"], outputs: Float[np.ndarray, "p m"], y: np.ndarray, radius: float
) -> Float[np.ndarray, "n m"]:
    """Projected gradient descent on cross-entropy over ‖v‖ ≤ B; any v of the ball would do for the bound."""
    v, hot = np.zeros(features.shape[1:]), np.eye(outputs.shape[1])[y]
    # The features of all outputs are the same, and the curvature of cross-entropy is at most 1/2.
    step = 2 * len(y) * outputs.shape[1] / (float(np.linalg.norm(features)) ** 2 or 1.0)
    for _ in range(_STEPS):
        logits = outputs + _moved(features, v)
        chances = np.exp(logits - logits.max(axis=1, keepdims=True))
        off = chances / chances.sum(axis=1, keepdims=True) - hot
        v = v - step * np.einsum("pm,pnm->nm", off, features) / len(y)
        v = v * (radius / max(float(np.linalg.norm(v)), radius))
    return v
