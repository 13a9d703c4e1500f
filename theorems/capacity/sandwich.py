r"""Truth between two numbers: what an attack reaches, and what a bound allows, for the same norm budgets."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from itertools import product
from typing import TYPE_CHECKING, Any

import jax
import numpy as np

from ..claims import Comparison
from ..pasteable import Pasteable
from . import bounds, observed
from .attack import attack, budgets_of
from .feedforward import FeedForward

if TYPE_CHECKING:
    from ...models.finetuning import FineTuning

INPUTS = 2  # test inputs that the attack works on
STEPS = 15


@dataclass(frozen=True, eq=False, repr=False)
class Sandwich(Pasteable):
    """A lower and an upper bound on the supremum over all updates within budgets, per input.

    Attributes:
        lower: what some update within the budgets really does, shape (p,).
        upper: the bound, shape (p,).
        scale: the magnitude that rounding in `lower` is relative to; None for exact numbers.
        operations: rounded operations behind `lower`.
        pair: the chain it speaks of, where there is one.
    """

    lower: np.ndarray
    upper: np.ndarray
    scale: Any = None
    operations: int = 8
    kind: str = "sandwich"
    pair: FeedForward | None = None
    note: str = ""


def within_budgets(pair: FeedForward) -> Sandwich:
    """Try the update with every choice of signs, layer by layer: each stays within the norms ‖Φ_k‖."""
    reached = []
    for signs in product((1, -1), repeat=pair.depth):
        flipped = pair.with_updates([s * u for s, u in zip(signs, pair.updates, strict=True)])
        reached.append(flipped.deviation)
    lower = reached[0]
    for other in reached[1:]:
        lower = np.where(other > lower, other, lower)
    return Sandwich(lower, bounds.a_priori(pair), pair.scale, pair.operations, pair.kind, pair)


def compare(sandwich: Sandwich) -> Comparison:
    """Lower ≤ upper, input by input."""
    return Comparison(sandwich.lower, "<=", sandwich.upper, sandwich.scale, sandwich.operations)


def attacked(tuning: FineTuning) -> Iterable[Sandwich]:
    """Attack a trained chain of layers within the norms of its trained update."""
    for pair in observed.feed_forward(tuning):
        few = pair.first(INPUTS)
        found = attack(
            tuning.network,
            budgets_of(tuning.delta),
            few.x,
            key=jax.random.key(tuning.seed),
            steps=STEPS,
            restarts=0,
            start=tuning.delta,
        )
        gain = np.median(found.deviation / np.maximum(few.deviation, 1e-300))
        note = f"an update of the same norms moves the output {gain:.3g} times as far as the trained one"
        yield Sandwich(found.deviation, bounds.a_priori(few), few.scale, few.operations, "attack", few, note)
