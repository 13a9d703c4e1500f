"""What the claims on frozen networks are judged on when a network was really fine-tuned."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from typing import TYPE_CHECKING

import jax

from ...models.adversary import ATTACKS, PGD
from ...models.disturbances import Brightness, Disturbance, LabelNoise, Noise
from ...models.methods import Full
from ...models.tasks import Split
from .. import memo
from ..claims import MissingIngredient
from .frozen import SHIFTS, Robustness, frozen
from .instances.frozen_pairs import FrozenPair, Steepness

if TYPE_CHECKING:
    from ...models.finetuning import FineTuning

_EXAMPLES = 1000
_FROZEN = tuple(one for one in SHIFTS if not isinstance(one, LabelNoise))
"""Label noise changes no input: what it does to the loss of a frozen network is confidence alone."""


def suited(split: Split) -> tuple[tuple[Disturbance, ...], tuple[PGD, ...]]:
    """The disturbances and attacks that are defined for these inputs, scaled to their range.

    Inputs in [0, 1] get the strengths that suit the digits, others those times their range, and keep to it.
    """
    low, high = float(split.x.min()), float(split.x.max())
    shifts, attacks = _FROZEN, ATTACKS
    if low < 0 or high > 1:
        size, bounds = high - low, (low, high)
        shifts = tuple(_scaled(one, size, bounds) for one in shifts)
        attacks = tuple(replace(one, radius=size * one.radius, bounds=bounds) for one in attacks)
    return tuple(one for one in shifts if _defined(one, split)), attacks


def _scaled(one: Disturbance, size: float, bounds: tuple[float, float]) -> Disturbance:
    if isinstance(one, Noise):
        return Noise(size * one.scale, bounds)
    return Brightness(size * one.shift, bounds) if isinstance(one, Brightness) else one


def _defined(one: Disturbance, split: Split) -> bool:
    try:
        one(split)
    except ValueError:
        return False
    return True


@memo.latest
def measured(tuning: FineTuning) -> Robustness:
    """The method beside full fine-tuning, on at most 1000 test examples.

    An extension has a program of its own, and is attacked only where someone asks for it.

    Raises:
        MissingIngredient: no full fine-tuning is known, or too few test examples.
    """
    if tuning.full is None:
        raise MissingIngredient("the fully fine-tuned parameters are not known: give FineTuning its full")
    test = tuning.task.new.test
    split = Split(test.x[:_EXAMPLES], test.y[:_EXAMPLES])
    if len(split) < 2:
        raise MissingIngredient("two test examples or more: one has no standard error")
    shifts, attacks = suited(split)
    attacks = attacks if tuning.weight_space else ()
    both = tuning.tuned, tuning.network.with_params(tuning.full)
    return Robustness(tuning.method.name, *(frozen(one, split, shifts, attacks) for one in both))


def frozen_pairs(tuning: FineTuning) -> Iterable[FrozenPair]:
    """Each method beside full fine-tuning; nothing for full fine-tuning itself."""
    if not _whole(tuning):
        found = measured(tuning)
        yield FrozenPair(found, f"mean over {', '.join(found.names)}")


def steepness(tuning: FineTuning) -> Iterable[Steepness]:
    """The same pair, ordered by the spread of the updates; nothing for full fine-tuning itself."""
    if not _whole(tuning):
        pair = FrozenPair(measured(tuning))
        full = jax.tree.map(lambda a, b: a - b, tuning.full, tuning.network.params)
        yield Steepness(pair, tuning.delta, full)


def _whole(tuning: FineTuning) -> bool:
    """Whether this is full fine-tuning, of all parameters."""
    return isinstance(tuning.method, Full) and tuning.trainable.k == tuning.network.d
