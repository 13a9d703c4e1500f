r"""What the claims on complexities are judged on when a network was really fine-tuned.

Tangent classes at the trained parameters, and first layers at LoRA's rank, both on a few training inputs.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import TYPE_CHECKING

import jax
import numpy as np

from ...models import tree
from ...models.methods import LoRA
from ...models.mlp import MLPConfig
from .. import memo
from ..claims import MissingIngredient
from ..rademacher import (
    Ball,
    Compared,
    Tangent,
    compared,
    drawn,
    kernel_ratio,
    lower_bound,
    of_drawn,
    ratio_bounds,
    tangent,
    upper_bound,
)
from .instances.networks import SampledClass, SampledPart, SampledRanks, TangentRatio

if TYPE_CHECKING:
    from ...models.finetuning import FineTuning
    from ...models.methods import Phi
    from ...models.tasks import Task

_INPUTS = 16
_LAYER_INPUTS = 24
_DRAWS = 1024


def _part_of(tuning: FineTuning) -> bool:
    """Whether the method has fewer parameters than the network."""
    return tuning.weight_space and tuning.reparameterization.k < tuning.network.d


@memo.latest
def _tangent(tuning: FineTuning) -> Tangent:
    return _tangent_at(tuning, tuning.phi)


def _tangent_at(tuning: FineTuning, phi: Phi) -> Tangent:
    """The tangent classes.

    Raises:
        MissingIngredient: a derivative that is too large to form, or a rank of Dg(Φ) that nothing decides.
    """
    x = tuning.task.new.train.x[:_INPUTS]
    try:
        return tangent(tuning.network, x, tuning.reparameterization, phi)
    except ValueError as error:
        raise MissingIngredient(f"the tangent class: {error}") from None


@memo.latest
def _compared(tuning: FineTuning) -> Compared:
    return compared(_tangent(tuning), jax.random.key(0), draws=_DRAWS)


def tangent_classes(tuning: FineTuning) -> Iterable[SampledClass]:
    """The tangent class of a method at its trained Φ, that of full fine-tuning for `Full`."""
    found = _compared(tuning).part
    note = f"tangent class of {tuning.method.name} on {_INPUTS} inputs, {found.how}"
    yield SampledClass(float(found.lower), found.value, float(found.upper), found.standard_error, note)


def _statistics(found: Compared, prefix: str = "") -> dict[str, float]:
    shown = {
        "ratio": found.ratio,
        "√(rank/d)": found.by_rank,
        "√(k/d)": found.by_parameters,
        "√(tr/tr)": found.traces,
    }
    return {f"{prefix}{name}": value for name, value in shown.items()}


def tangent_parts(tuning: FineTuning) -> Iterable[SampledPart]:
    """A method's tangent class within that of full fine-tuning, at the trained Φ."""
    if _part_of(tuning):
        found, classes = _compared(tuning), _tangent(tuning)
        bounds = kernel_ratio(classes.full, classes.part)
        yield SampledPart(
            float(bounds.lower),
            float(bounds.upper),
            found.full.value,
            found.part.value,
            (found.full.standard_error, found.part.standard_error),
            _statistics(found),
            f"tangent class of {tuning.method.name} on {_INPUTS} inputs, rank {found.rank} of {found.d}",
        )


def tangent_ratios(tuning: FineTuning) -> Iterable[TangentRatio]:
    """The same ratio at the trained Φ and at the usual start, where g has fewer directions."""
    if _part_of(tuning):
        start = tuning.reparameterization.init(jax.random.key(tuning.seed))
        first = compared(_tangent_at(tuning, start), jax.random.key(0), draws=_DRAWS)
        both = _compared(tuning), first
        shown = _statistics(both[0]) | _statistics(first, "start: ")
        ranks = " and ".join(str(one.rank) for one in both)
        note = f"{tuning.method.name}, trained and at the start: ranks {ranks}, k = {first.k}, d = {first.d}"
        yield TangentRatio(
            np.array([one.ratio for one in both]), np.array([one.by_rank for one in both]), shown, note
        )


@memo.latest
def _drawn(given: tuple[Task, int]) -> np.ndarray:
    task, outputs = given
    return drawn(task.new.train.x[:_LAYER_INPUTS], outputs, jax.random.key(0), draws=_DRAWS)


def first_layers(tuning: FineTuning) -> Iterable[SampledRanks]:
    """The first layer of a perceptron on some training inputs, at LoRA's rank, on a ball of radius 1."""
    config = tuning.network.architecture
    factor = tree.paths(tuning.phi).get("layers/0/kernel/A") if type(tuning.method) is LoRA else None
    if isinstance(config, MLPConfig) and factor is not None:
        outputs, rank, x = config.widths[1], factor.shape[1], tuning.task.new.train.x[:_LAYER_INPUTS]
        values = _drawn((tuning.task, outputs))
        part, full = (of_drawn(values, x, outputs, Ball(rank=r)) for r in (rank, None))
        ratio = part.value / full.value
        low, high = map(float, ratio_bounds(x, outputs, rank))
        share = rank * (outputs + x.shape[1]) / (outputs * x.shape[1])
        error = (part.standard_error + ratio * full.standard_error) / full.value
        yield SampledRanks(
            float(lower_bound(x, outputs, Ball(rank=rank))),
            part.value,
            float(upper_bound(x, outputs, Ball(rank=rank))),
            [low, ratio, high, math.sqrt(share / 2), ratio, 1.0],
            (part.standard_error, error),
            f"first layer, rank {rank}, {len(x)} inputs: ratio {ratio:.3g}, √(k/d) = {math.sqrt(share):.3g}",
        )
