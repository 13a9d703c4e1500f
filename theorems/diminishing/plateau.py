r"""From which rank on nothing worth having is left: a plateau in a curve of losses, with its confidence.

Let μ(r) be the expected loss at rank r over seeds and μ(0) that before fine-tuning.  Rank r *suffices* if it
has all but a share δ of the gain of every larger rank r′ that was tried,

$$c(r, r') = \mu(r) - (1-\delta)\,\mu(r') - \delta\,\mu(0) \le 0,
  \quad\text{that is}\quad \mu(0) - \mu(r) \ge (1-\delta)\,(\mu(0) - \mu(r')).$$

Or, with an absolute tolerance ε in the units of the loss, c(r, r′) = μ(r) − μ(r′) − ε: choose it where rank 0
is so bad that a share of the gain over it says little.  The plateau begins at ρ, the smallest rank from which
on all ranks suffice; the largest rank does.  Because c is linear in μ, each seed gives one value of it, and a
paired t interval applies: what seeds have in common drops out, and no estimated gain enters as if it were
known.

*Upper limit.*  Going down from the largest rank, a rank is accepted while, for every larger r′, the one-sided
t test at level α rejects c(r, r′) ≥ 0 (for all r′ at once this needs no correction: an intersection–union
test).  The last one accepted is the limit.  It lies below ρ only if the rank just below ρ is accepted, which
does not suffice: one wrong rejection of one test.  So the probability is at most α, with no correction for
the number of ranks (a test in fixed sequence).

*Lower limit.*  Going up, a rank is excluded while, for some larger r′, a one-sided t test rejects
c(r, r′) ≤ 0; half of the level α goes to the largest rank, where most is to be seen if losses fall, and the
other half is shared by the ranks between (Bonferroni).  The first rank not excluded is the limit.  It lies
above ρ only if ρ is excluded, of probability at most α.  (A rank that suffices and is followed by one that
does not keeps the limit below ρ.)  Together the limits cover ρ with probability at least 1 − 2α, for any
number of seeds from 2 on, if the seeds' values are independent and normal.

All of this presumes a gain.  It is asked for first: some rank must improve on rank 0, by a one-sided t test
with Bonferroni's correction for the ranks.  An interval is given only then, so that 2α bounds the probability
that one is given and is wrong; of those that are given, more may be wrong where a gain is rarely found.

Sources: Berger, *Multiparameter hypothesis testing and acceptance sampling*, Technometrics 24 (1982), for the
intersection–union test; Maurer, Hothorn and Lehmacher 1995 for the fixed sequence.  A bootstrap over seeds is
not used: from 3 seeds there are 10 resamples, and at a nominal 5 % its limits err about four times as often.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING, Literal

import numpy as np
from jaxtyping import Float
from scipy import stats

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ...models.sweep import Sweep


class Found(StrEnum):
    """What a curve of losses shows about a plateau."""

    PLATEAU = "plateau"
    """A rank below the largest one suffices, at the stated confidence."""
    RISING = "no plateau"
    """Every rank below the largest one is excluded: the gain goes on to where the ranks end."""
    NO_GAIN = "no gain"
    """It is not established that any rank improves on rank 0, so that there is nothing to have a share of."""
    UNDECIDED = "undecided"
    """Neither: too few seeds, or too much noise."""


@dataclass(frozen=True, eq=False)
class Plateau:
    r"""Where the plateau begins.

    Attributes:
        found: what was found.
        rank: the smallest rank that is known to suffice, and all above it: the upper limit; None unless a
            plateau was found.
        interval: limits of ρ, (lower, upper), at the confidence; an upper limit that is the largest rank
            tried says nothing about ranks beyond.  None without a gain.
        estimate: ρ of the mean curve; None without a gain.
        share: δ; None where a tolerance was given.
        tolerance: ε, or None.
        confidence: 1 − 2α.
        ranks: shape (V,).
        mean: mean loss at each rank, shape (V,).
        error: its standard error over seeds, shape (V,); NaN for one seed.
        reason: the finding as a sentence.
    """

    found: Found
    rank: int | None
    interval: tuple[int, int] | None
    estimate: int | None
    share: float | None
    tolerance: float | None
    confidence: float
    ranks: np.ndarray
    mean: Float[np.ndarray, " V"]
    error: Float[np.ndarray, " V"]
    reason: str


def plateau(
    ranks: Sequence[int],
    losses: Float[np.ndarray, "V S"],
    base: float | Float[np.ndarray, " S"],
    *,
    share: float = 0.05,
    tolerance: float | None = None,
    confidence: float = 0.95,
) -> Plateau:
    """Where the plateau of a curve of losses begins, with a confidence interval over seeds.

    Args:
        ranks: V ranks, ascending, at least 2; or another axis with an order, such as numbers of layers.
        losses: a loss for each rank and seed; column s is the same seed everywhere.  For accuracies give
            1 − accuracy.
        base: the loss at rank 0, before fine-tuning, of each seed or of all.
        share: δ, the share of the gain over rank 0 that may be left unhad.
        tolerance: ε, a loss that may be left unhad, instead of a share.
        confidence: of the interval, 1 − 2α.  That `rank` suffices has confidence 1 − α.

    Raises:
        ValueError: shapes that do not fit, losses that are not finite, ranks that do not ascend, a share or a
            confidence outside of (0, 1), a tolerance that is not positive.
    """
    ranks, losses = np.asarray(ranks), np.asarray(losses, np.float64)
    _check(ranks, losses, base, share, tolerance, confidence)
    seeds, alpha = losses.shape[1], (1 - confidence) / 2
    base = np.broadcast_to(np.asarray(base, np.float64), (seeds,))
    error = losses.std(axis=1, ddof=1) / np.sqrt(seeds) if seeds > 1 else np.full(len(ranks), np.nan)

    def made(found: Found, places: tuple[int, int, int] | None, reason: str) -> Plateau:
        lower, estimate, upper = (None, None, None) if places is None else (int(ranks[i]) for i in places)
        return Plateau(
            found=found,
            rank=upper if found is Found.PLATEAU else None,
            interval=None if places is None else (lower, upper),
            estimate=estimate,
            share=share if tolerance is None else None,
            tolerance=tolerance,
            confidence=confidence,
            ranks=ranks,
            mean=losses.mean(axis=1),
            error=error,
            reason=reason,
        )

    if seeds == 1:
        return made(
            Found.UNDECIDED, None, "one seed says nothing about its spread; fit at least two, better five"
        )
    if not _gains(losses, base, alpha):
        return made(Found.NO_GAIN, None, f"no rank is known to improve on rank 0 with these {seeds} seeds")
    if tolerance is None:
        contrast = losses[:, None] - (1 - share) * losses[None] - share * base[None, None]
        kept = f"{1 - share:.0%} of the gain of every larger rank"
    else:
        contrast = losses[:, None] - losses[None] - tolerance
        kept = f"all but {tolerance:g} of the gain of every larger rank"
    lower, estimate, upper = places = _limits(contrast, alpha)
    last = len(ranks) - 1
    sure = f"at {1 - alpha:.1%} confidence"
    if upper < last:
        return made(Found.PLATEAU, places, f"rank {ranks[upper]} and all above have {kept}, {sure}")
    if lower == last:
        return made(Found.RISING, places, f"no rank below {ranks[last]} has {kept}, {sure}")
    return made(
        Found.UNDECIDED,
        places,
        f"with {seeds} seeds it is open which of the ranks {ranks[lower]} to {ranks[last]} first has {kept}; "
        f"the means say {ranks[estimate]}; fit more seeds or allow a larger share",
    )


def of_sweep(
    sweep: Sweep,
    part: str = "test",
    quantity: Literal["loss", "error"] = "loss",
    *,
    share: float = 0.05,
    tolerance: float | None = None,
    confidence: float = 0.95,
) -> Plateau:
    """The plateau of a `RankSweep`, or of another sweep with an ordered axis, on one split.

    The learning rate of each rank was chosen on validation: the test split is the one that this does not
    flatter. What is inferred is about the ranks at these rates: that other seeds might have chosen other
    rates is not in the interval.

    Args:
        sweep: V points × S seeds.
        part: the split.
        quantity: the loss, or the share of the examples that are classified wrongly.
        share: as `plateau` has it, like all that follow.
        tolerance: in nats, or as a share of the examples.
        confidence: of the interval.

    Raises:
        ValueError: as `plateau`, and an unknown split or quantity.
    """
    if quantity not in ("loss", "error"):
        raise ValueError(f"quantity: got {quantity!r}, needs 'loss' or 'error'")
    if quantity == "loss":
        values, base = sweep.loss(part), sweep.base_loss(part)
    else:
        values, base = 1 - sweep.accuracy(part), 1 - sweep.base_accuracy(part)
    return plateau(sweep.values, values, base, share=share, tolerance=tolerance, confidence=confidence)


def _gains(losses: Float[np.ndarray, "V S"], base: Float[np.ndarray, " S"], alpha: float) -> bool:
    """Whether some rank improves on rank 0: one-sided paired t tests, Bonferroni over ranks."""
    gain = base[None, :] - losses
    lower, _ = _bounds(gain, alpha / len(losses))
    return bool((lower > 0).any())


def _limits(contrast: Float[np.ndarray, "V V S"], alpha: float) -> tuple[int, int, int]:
    """Places of the lower limit, of the estimate and of the upper limit, from c(r, r′) for each seed."""
    last, places = len(contrast) - 1, np.arange(len(contrast))
    later = places[None, :] > places[:, None]
    suffices = _all_later(_bounds(contrast, alpha)[1], later)
    in_mean = _all_later(contrast.mean(axis=-1), later)
    # Level by pair: α/2 against the largest rank, α/2 shared by those between; α where there are none.
    between = np.maximum(last - places - 1, 0)[:, None]
    level = np.where(places[None, :] == last, alpha / 2, alpha / 2 / np.maximum(between, 1))
    level = np.where(between == 0, alpha, level)
    excluded = ((_bounds(contrast, level)[0] > 0) & later).any(axis=1)
    return int(np.argmin(excluded)), _first_of_last_run(in_mean), _first_of_last_run(suffices)


def _all_later(values: Float[np.ndarray, "V V"], later: np.ndarray) -> np.ndarray:
    return ((values <= 0) | ~later).all(axis=1)


def _first_of_last_run(true: np.ndarray) -> int:
    """Where the run of True at the end begins; the last one is always True."""
    false = np.flatnonzero(~true)
    return int(false[-1]) + 1 if len(false) else 0


def _bounds(
    values: Float[np.ndarray, "... S"], alpha: float | Float[np.ndarray, " ..."]
) -> tuple[np.ndarray, np.ndarray]:
    """One-sided limits of the mean over the last axis, each at its level α."""
    count = values.shape[-1]
    half = stats.t.ppf(1 - alpha, count - 1) * values.std(axis=-1, ddof=1) / np.sqrt(count)
    return values.mean(axis=-1) - half, values.mean(axis=-1) + half


def _check(
    ranks: np.ndarray,
    losses: np.ndarray,
    base: object,
    share: float,
    tolerance: float | None,
    confidence: float,
) -> None:
    if ranks.ndim != 1 or len(ranks) < 2 or np.any(np.diff(ranks) <= 0):
        raise ValueError(f"ranks: got {ranks.tolist()}, needs at least two, ascending")
    if losses.ndim != 2 or len(losses) != len(ranks) or not losses.shape[1]:
        raise ValueError(f"losses: got shape {losses.shape}, needs ({len(ranks)}, S): a row for each rank")
    if not np.isfinite(losses).all() or not np.isfinite(np.asarray(base)).all():
        raise ValueError("losses, base: need finite numbers; leave diverged ranks out")
    if np.shape(base) not in ((), losses.shape[1:]):
        raise ValueError(
            f"base: got shape {np.shape(base)}, needs one number or {losses.shape[1]}, one a seed"
        )
    for name, value in (("share", share), ("confidence", confidence)):
        if not 0 < value < 1:
            raise ValueError(f"{name}: got {value}, needs a number between 0 and 1, such as 0.05 and 0.95")
    if tolerance is not None and not 0 < tolerance < np.inf:
        raise ValueError(
            f"tolerance: got {tolerance}, needs a positive number in the units of the loss, or None"
        )
