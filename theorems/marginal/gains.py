r"""What further examples gain on measured learning curves, and what PEFT gains of it: three predictions.

Between two sizes N < N′ of a grid a method gains $(R(N)-R(N'))/(N'-N)$ per example, the mean of its marginal
benefits there.  Of the ratio PEFT over FFT is predicted

- k/d, by the paper in words (T5.b);
- √(k/d), by an error c√(p/N), which is the paper's own rate;
- at most $(1+b^2/\sigma^2)\,k/d$, by Gaussian least squares with N ≥ d + 2 (T5.R4).  There σ² and σ² + b² are
  what the two risks fall to, so that $1+b^2/\sigma^2$ is read off as the quotient of the fitted limits a.
  Cross-entropy is no squared loss and a network no linear model: what is read off is an analogy.

A ratio is given only where full fine-tuning is known to gain; its interval resamples seeds in pairs.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from jaxtyping import Float

from .crossover import differences
from .fits import CurveFit, Losses, fit_curve, values_of
from .resampling import RESAMPLES, below, check_confidence, limits, resamples

if TYPE_CHECKING:
    from ...models.curves import LearningCurve

Interval = tuple[float, float]


class Step(NamedTuple):
    """What the examples between two sizes gain.

    Attributes:
        first: N.
        last: N′.
        full: mean loss that full fine-tuning gains per example.
        full_interval: of it, for normal seeds.
        peft: the same of PEFT.
        peft_interval: of it.
        ratio: PEFT over FFT; None if it is not established that FFT gains.
        interval: of the ratio, over seeds.
    """

    first: int
    last: int
    full: float
    full_interval: Interval
    peft: float
    peft_interval: Interval
    ratio: float | None
    interval: Interval | None


@dataclass(frozen=True, eq=False, repr=False)
class Gains:
    """What examples gain, step by step over a grid of sizes, with and without all parameters.

    Attributes:
        steps: between neighbouring sizes, V − 1 of them, and last the whole range.
        linear: k/d.
        root: √(k/d).
        model: (1 + b²/σ²) k/d; infinite if the limit of FFT is 0; None if a curve has no law.
        model_interval: of it, over seeds.
        full: what the curve of full fine-tuning looks like.
        peft: what that of PEFT looks like.
        excess: ratio less `model` of each step, its limits over the same resamples; None where either is
            missing or infinite.
        confidence: of each interval alone; of those over seeds, if there are enough of them
            (`resampling.attainable`).
    """

    steps: tuple[Step, ...]
    linear: float
    root: float
    model: float | None
    model_interval: Interval | None
    full: CurveFit
    peft: CurveFit
    excess: tuple[Interval | None, ...]
    confidence: float

    def __repr__(self) -> str:
        whole = self.steps[-1]
        ratio = "not established" if whole.ratio is None else f"{whole.ratio:.3g}"
        model = "none" if self.model is None else f"{self.model:.3g}"
        return (
            f"Gains(N = {whole.first} to {whole.last}: ratio {ratio}, k/d = {self.linear:.3g}, √(k/d) = "
            f"{self.root:.3g}, (1 + b²/σ²)k/d = {model})"
        )


def gains(
    full: LearningCurve | tuple[Sequence[int], Losses],
    peft: LearningCurve | tuple[Sequence[int], Losses],
    *,
    d: int | None = None,
    k: int | None = None,
    confidence: float = 0.95,
    count: int = RESAMPLES,
) -> Gains:
    """Measure what examples gain, and the ratio of PEFT to full fine-tuning beside its predictions.

    Args:
        full: the curve of full fine-tuning, or V sizes and losses of shape (S, V).
        peft: the other one, at the same sizes and seeds.
        d: parameters of full fine-tuning; known of a `LearningCurve`.
        k: parameters of PEFT.
        confidence: of each interval.
        count: resamples behind them.

    Raises:
        ValueError: curves that are not paired, no d or k where they are not known or k > d, fewer than two
            seeds or sizes, and what `fit_curve` refuses.
    """
    d, k = (getattr(full, "d", None) if d is None else d), (getattr(peft, "k", None) if k is None else k)
    if d is None or k is None or not 0 < k <= d:
        raise ValueError(f"d, k: got {d} and {k}, needs 0 < k <= d; a LearningCurve knows them")
    sizes, _ = differences(full, peft)
    check_confidence(confidence)
    losses = [values_of(curve)[1] for curve in (full, peft)]
    if len(sizes) < 2 or len(losses[0]) < 2:
        raise ValueError(f"full: got {len(losses[0])} seeds at {len(sizes)} sizes, needs two of both")
    fits = [fit_curve(curve, confidence=confidence, count=count) for curve in (full, peft)]
    spans = [*pairwise(range(len(sizes))), (0, len(sizes) - 1)][: max(len(sizes), 1)]
    rows = resamples(len(losses[0]), count)
    drawn = [one[rows].mean(axis=1) for one in losses]
    model, models = _model(fits, k / d)
    steps, excess = [], []
    for i, j in spans:
        ratios = _ratios(*losses, i, j, drawn, (1 - confidence) / 2)
        steps.append(_step(sizes, losses, i, j, ratios, confidence))
        known = ratios is not None and models is not None and math.isfinite(model)
        excess.append(_ends(ratios - models, len(losses[0]), confidence) if known else None)
    interval = None if models is None else _ends(models, len(losses[0]), confidence)
    return Gains(tuple(steps), k / d, math.sqrt(k / d), model, interval, *fits, tuple(excess), confidence)


def _step(
    sizes: np.ndarray, losses: list[Losses], i: int, j: int, ratios: np.ndarray | None, confidence: float
) -> Step:
    count, alpha = float(sizes[j] - sizes[i]), (1 - confidence) / 2
    per_example = [(one[:, i] - one[:, j]) / count for one in losses]
    full, peft = (float(one.mean()) for one in per_example)
    ends = [(float(below(one, alpha)), -float(below(-one, alpha))) for one in per_example]
    ratio = None if ratios is None else peft / full
    interval = None if ratios is None else _ends(ratios, len(losses[0]), confidence)
    return Step(int(sizes[i]), int(sizes[j]), full, ends[0], peft, ends[1], ratio, interval)


def _ratios(
    full: Losses, peft: Losses, i: int, j: int, drawn: list[np.ndarray], alpha: float
) -> Float[np.ndarray, " B"] | None:
    """PEFT over FFT in each resample; None unless FFT is known to gain, and gains in all of them."""
    bottom, top = (one[:, i] - one[:, j] for one in drawn)
    if below(full[:, i] - full[:, j], alpha) <= 0 or bottom.min() <= 0:
        return None
    return top / bottom


def _model(fits: list[CurveFit], share: float) -> tuple[float | None, Float[np.ndarray, " B"] | None]:
    """(1 + b²/σ²) k/d of the fitted limits, and in each resample; b² is not negative."""
    if any(one.law is None for one in fits):
        return None, None
    limit, limits_drawn = [one.law.limit for one in fits], [one.draws[0] for one in fits]
    with np.errstate(divide="ignore", invalid="ignore"):
        drawn = np.where(limits_drawn[0] > 0, np.maximum(limits_drawn[1] / limits_drawn[0], 1), np.inf)
    at = max(limit[1] / limit[0], 1.0) if limit[0] > 0 else math.inf
    return at * share, drawn * share


def _ends(values: Float[np.ndarray, " B"], seeds: int, confidence: float) -> Interval:
    low, high = limits(values, seeds, confidence)
    return float(low), float(high)
