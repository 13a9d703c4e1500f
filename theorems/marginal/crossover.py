r"""Where full fine-tuning overtakes: the sample size N* at which two measured learning curves cross.

Let $D(N) = R_{full}(N) - R_{peft}(N)$, paired by seed.  A sign of D is *established* at a size by a t
interval, Bonferroni over the sizes and both signs, so that all of them hold at once.  A crossover is found if
both signs are established; it lies between the last size of the one and the first of the other, whatever D
does in between.  If only one sign is, there is none in the range over which it is, granted that the curves
cross at most once.

*Estimate.*  D is interpolated linearly over log N; the length of the part on which PEFT is better, from the
first size on, is log N* − log N₁ if D falls through zero once, and a compromise if noise makes it touch zero
more often.  The interval resamples seeds; where a resample does not cross, N* is 0 or infinite in it: beyond
the sizes that were tried, nothing is known.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING

import numpy as np
from jaxtyping import Float

from .fits import Losses, values_of
from .resampling import RESAMPLES, attainable, below, check_confidence, limits, resamples

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ...models.curves import LearningCurve


class Crossing(StrEnum):
    """What two learning curves show about a crossover."""

    FULL_OVERTAKES = "full overtakes"
    """PEFT is better with few examples, full fine-tuning with many."""
    PEFT_OVERTAKES = "peft overtakes"
    """The other way round."""
    NONE = "none in range"
    """One of the two is better at all sizes where it is established which."""
    SEVERAL = "several"
    """The established signs change more than once."""
    UNDECIDED = "undecided"
    """It is established at no size which is better."""


@dataclass(frozen=True, eq=False, repr=False)
class Crossover:
    """Where two learning curves cross.

    Attributes:
        outcome: see `Crossing`.
        reason: a sentence that says why.
        estimate: N*; None unless one is found.
        interval: of N*, over seeds; an end of 0 or infinity is outside of the sizes that were tried.
        bracket: the sizes between which it lies, at the confidence, or over which there is none.
        sizes: V sample sizes.
        difference: mean loss of full fine-tuning less that of PEFT, shape (V,).
        low: simultaneous lower limits of the difference, shape (V,).
        high: upper ones.
        seeds: S.
        confidence: of all signs together; and of the interval, if there are enough seeds (`attainable`).
    """

    outcome: Crossing
    reason: str
    estimate: float | None
    interval: tuple[float, float] | None
    bracket: tuple[int, int] | None
    sizes: np.ndarray
    difference: Float[np.ndarray, " V"]
    low: Float[np.ndarray, " V"]
    high: Float[np.ndarray, " V"]
    seeds: int
    confidence: float

    @property
    def found(self) -> bool:
        """Whether one crossover is established."""
        return self.estimate is not None

    def __repr__(self) -> str:
        return f"Crossover({self.outcome}: {self.reason})"


def crossover(
    full: LearningCurve | tuple[Sequence[int], Losses],
    peft: LearningCurve | tuple[Sequence[int], Losses],
    *,
    confidence: float = 0.95,
    count: int = RESAMPLES,
) -> Crossover:
    """Where two measured learning curves cross, with an interval over seeds, or that they do not.

    Args:
        full: that of full fine-tuning, or V sizes and losses of shape (S, V).
        peft: the other one, at the same sizes and seeds.
        confidence: of what is established, and of the interval.
        count: resamples behind the interval.

    Raises:
        ValueError: curves that are not paired, fewer than two seeds, and what `fit_curve` refuses.
    """
    sizes, D = differences(full, peft)
    check_confidence(confidence)
    if len(D) < 2:
        raise ValueError(
            "full, peft: got a single seed, which says nothing of its spread; needs two, better ten"
        )
    level = (1 - confidence) / (2 * len(sizes))
    low, high = below(D, level), -below(-D, level)
    signs = np.where(low > 0, 1, np.where(high < 0, -1, 0))
    outcome, bracket = _read(signs, sizes)
    estimate, interval = None, None
    if outcome in (Crossing.FULL_OVERTAKES, Crossing.PEFT_OVERTAKES):
        towards = D if outcome is Crossing.FULL_OVERTAKES else -D
        estimate = float(_crossing(sizes, towards.mean(axis=0)[None])[0])
        drawn = _crossing(sizes, towards[resamples(len(D), count)].mean(axis=1))
        interval = tuple(float(end) for end in limits(drawn, len(D), confidence))
    sure = attainable(confidence, len(D))
    reason = _reason(outcome, bracket, estimate, interval, signs, sizes, sure)
    mean = D.mean(axis=0)
    return Crossover(outcome, reason, estimate, interval, bracket, sizes, mean, low, high, len(D), confidence)


def differences(
    full: LearningCurve | tuple[Sequence[int], Losses], peft: LearningCurve | tuple[Sequence[int], Losses]
) -> tuple[np.ndarray, Losses]:
    """Sizes, and the loss of full fine-tuning less that of PEFT at each seed.

    Raises:
        ValueError: curves of other sizes or numbers of seeds than each other.
    """
    (sizes, one), (others, other) = values_of(full), values_of(peft)
    if one.shape != other.shape or np.any(sizes != others):
        raise ValueError(
            f"peft: got {len(other)} seeds at sizes {others.tolist()}, needs those of full: {len(one)} at "
            f"{sizes.tolist()}"
        )
    return sizes, one - other


def _read(signs: np.ndarray, sizes: np.ndarray) -> tuple[Crossing, tuple[int, int] | None]:
    known = np.flatnonzero(signs)
    if not len(known):
        return Crossing.UNDECIDED, None
    changes = np.flatnonzero(np.diff(signs[known]))
    if len(changes) > 1:
        return Crossing.SEVERAL, None
    if not len(changes):
        return Crossing.NONE, (int(sizes[known[0]]), int(sizes[known[-1]]))
    first, last = known[changes[0]], known[changes[0] + 1]
    found = Crossing.FULL_OVERTAKES if signs[first] > 0 else Crossing.PEFT_OVERTAKES
    return found, (int(sizes[first]), int(sizes[last]))


def _crossing(sizes: np.ndarray, D: Float[np.ndarray, "B V"]) -> Float[np.ndarray, " B"]:
    """N* of each row; 0 where D is negative throughout, infinite where it is positive."""
    logs = np.log(sizes)
    left, right = D[:, :-1], D[:, 1:]
    # The share of each interval on which the interpolated D is positive.
    above = np.maximum(left, 0) + np.maximum(right, 0)
    share = np.divide(above, np.abs(left) + np.abs(right), out=np.zeros_like(above), where=above > 0)
    where = np.exp(logs[0] + share @ np.diff(logs))
    return np.where(np.all(D > 0, axis=1), np.inf, np.where(np.all(D <= 0, axis=1), 0.0, where))


def _reason(
    outcome: Crossing,
    bracket: tuple[int, int] | None,
    estimate: float | None,
    interval: tuple[float, float] | None,
    signs: np.ndarray,
    sizes: np.ndarray,
    confidence: float,
) -> str:
    better = {1: "PEFT", -1: "full fine-tuning"}
    if outcome is Crossing.UNDECIDED:
        return "at no size is it established which of the two is better"
    if outcome is Crossing.SEVERAL:
        read = ", ".join(f"{better[s]} at {int(n)}" for s, n in zip(signs, sizes, strict=True) if s)
        return f"the curves cross more than once: {read}"
    first, last = bracket
    if outcome is Crossing.NONE:
        where = f"from {first} to {last}" if first < last else f"at {first}"
        text = f"{better[int(signs[np.flatnonzero(signs)[0]])]} is better {where} examples"
        open_at = [str(int(n)) for n, s in zip(sizes, signs, strict=True) if not s]
        return text + (f"; open at {', '.join(open_at)}" if open_at else "")
    low, high = (span(end, sizes) for end in interval)
    return (
        f"at N = {estimate:.0f}, {confidence:.0%} interval {low} to {high}; "
        f"{better[int(signs[np.flatnonzero(signs)[0]])]} is better at {first}, the other at {last}"
    )


def span(end: float, sizes: np.ndarray) -> str:
    """An end of an interval as text; outside of the sizes it says so."""
    if end == 0:
        return f"< {int(sizes[0])}"
    return f"> {int(sizes[-1])}" if math.isinf(end) else f"{end:.0f}"
