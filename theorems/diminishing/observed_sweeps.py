"""What the claims of Theorem 3 are judged on along a sweep: many fine-tunings, paired by seed."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

import numpy as np

from ..claims import MissingIngredient
from ..comparison import error_of_mean
from .instances.observations import PlateauAt, SweepGaps
from .instances.regressions import Gap
from .observed import update_of
from .plateau import Plateau, plateau

if TYPE_CHECKING:
    from ...models.sweep import Sweep


def predicted_rank(sweep: Sweep) -> int:
    """The critical rank of the full update, all layers at one rank; the largest over the seeds that have it.

    Raises:
        MissingIngredient: no full fine-tuning beside the sweep.
    """
    fulls = [one for one in sweep.tunings[0] if one.full is not None]
    if not fulls:
        raise MissingIngredient("the fully fine-tuned parameters are not known: use Sweep.beside")
    return max(update_of(one.full, one.network).rank for one in fulls)


def _gaps(sweep: Sweep) -> np.ndarray:
    return sweep.loss("test") - sweep.loss("train")


def sweep_gaps(sweep: Sweep) -> Iterable[Gap]:
    """The gap of each rank against c √(r/N), c fixed by the smallest rank; means over seeds."""
    gaps, ranks = _gaps(sweep), sweep.values
    count = len(sweep.tunings[0][0].task.new.train)
    for rank, row in zip(ranks[1:], gaps[1:], strict=True):
        error = error_of_mean(row - gaps[0] * np.sqrt(rank / ranks[0]))
        constant = float(gaps[0].mean()) * np.sqrt(count / ranks[0])
        note = f"test less training loss at rank {rank}; c from rank {ranks[0]}"
        yield Gap(float(row.mean()), rank, count, constant, error, float(gaps[0].mean()), note)


def gaps_below(sweep: Sweep) -> Iterable[SweepGaps]:
    """The gaps of neighbouring ranks up to the critical one of the full update.

    Raises:
        MissingIngredient: no full fine-tuning beside the sweep.
    """
    gaps, critical = _gaps(sweep), predicted_rank(sweep)
    pairs = zip(sweep.values[:-1], sweep.values[1:], gaps[:-1], gaps[1:], strict=True)
    for rank, larger, before, after in pairs:
        if larger <= critical:
            pair = float(before.mean()), float(after.mean())
            note = f"test less training loss, rank {rank} to {larger}, r_c = {critical}"
            yield SweepGaps(pair, rank, critical, error_of_mean(after - before), note)


def plateau_at(found: Plateau, predicted: int, shown: dict[str, float] | None = None) -> PlateauAt:
    """A plateau that was looked for, and the point by which it is said to begin.

    Raises:
        MissingIngredient: no gain, so that there is nothing to have a share of; or no point beyond the
            predicted one was tried, so that no outcome could speak against it.
    """
    last = int(found.ranks[-1])
    if found.interval is None:
        raise MissingIngredient(f"a gain: {found.reason}")
    if predicted >= last:
        raise MissingIngredient(
            f"points beyond {predicted}, where the plateau should begin: {last} is the last"
        )
    low, high = found.interval
    ends = {"predicted": predicted, "low": low, "estimate": found.estimate, "high": high}
    return PlateauAt(found.interval, predicted, ends | (shown or {}), found.reason)


def over_guessing(sweep: Sweep) -> Plateau:
    """The plateau of the test loss, gains being counted from a guess of all classes alike.

    The loss before fine-tuning may be worse by any amount: a network that is sure and wrong would make the
    first rank have all of the gain.
    """
    guess = float(np.log(sweep.tunings[0][0].task.classes))
    return plateau(sweep.values, sweep.loss("test"), min(sweep.base_loss("test"), guess))


def rank_plateaus(sweep: Sweep) -> Iterable[PlateauAt]:
    """The plateau of the test loss, and the critical rank of the full update.

    Raises:
        MissingIngredient: as `plateau_at` and `predicted_rank`.
    """
    predicted = predicted_rank(sweep)
    yield plateau_at(over_guessing(sweep), predicted, {"seeds": len(sweep.seeds)})


def layer_plateaus(sweep: Sweep) -> Iterable[PlateauAt]:
    """The plateau of the test loss over the number of tuned layers, and all layers but one.

    Raises:
        MissingIngredient: as `plateau_at`.
    """
    yield plateau_at(over_guessing(sweep), int(sweep.values[-2]), {"seeds": len(sweep.seeds)})
