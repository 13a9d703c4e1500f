r"""Where full fine-tuning will overtake PEFT: from variances of the exact model, or from pilot curves.

*Exact model.*  In Gaussian least squares with N ≥ d + 2, FFT has the smaller risk iff
N > N* = d + 1 + (d − k)σ²/b².

*Pilot curves.*  Fine-tune with both methods on a few small sizes with some seeds; a + cN^(−γ) is fitted to
each curve, and both are continued.  Nothing in theory guarantees that a curve goes on as it began, and what
is predicted depends on it; the interval knows the noise of the seeds and not this.
"""

from __future__ import annotations

import math
import textwrap
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from jaxtyping import Float

from .crossover import differences
from .fits import Losses, Shape, fit_curve
from .gaussian import GaussianRegression
from .least_squares import Number
from .resampling import RESAMPLES, attainable, limits

if TYPE_CHECKING:
    from ...models.curves import LearningCurve

POINTS = 512
"""Sizes at which continued curves are compared, evenly on the logarithmic scale."""
WIDTH = 79
_MODEL = (
    "inputs and noise are Gaussian, the loss is squared, both methods are least squares",
    "σ² is the variance of the noise, b² what PEFT cannot express; both are right",
    "there are at least d + 2 examples: below, full fine-tuning interpolates, and this says nothing",
)
_PILOT = (
    "both curves go on as a + cN^(−γ); a pilot cannot show that they do",
    "further examples are like those of the pilot, and training stays as it was",
    "the interval has the noise of the seeds in it, and no doubt about the law",
)


@dataclass(frozen=True, repr=False)
class Prediction:
    """Where full fine-tuning is predicted to overtake.

    Attributes:
        crossover: N*: with more examples, full fine-tuning has the smaller loss. 0 if it has at every size
            looked at, infinite if at none; None if nothing can be predicted.
        interval: of N*, ends likewise; None if nothing can be predicted.
        basis: "exact model" or "pilot curves".
        reason: a sentence.
        assumptions: what all of this presumes, in plain words.
        sizes: the smallest and the largest sample size that were looked at; infinite of the exact model.
        confidence: of the interval, at most what so few seeds can give; None where it follows from given
            ends.
    """

    crossover: float | None
    interval: tuple[float, float] | None
    basis: str
    reason: str
    assumptions: tuple[str, ...]
    sizes: tuple[float, float]
    confidence: float | None = None

    def __repr__(self) -> str:
        lines = textwrap.wrap(f"Prediction from {self.basis}: {self.reason}", WIDTH, subsequent_indent="  ")
        for one in self.assumptions:
            lines += textwrap.wrap(f"assumes: {one}", WIDTH, initial_indent="  ", subsequent_indent="    ")
        return "\n".join(lines)


def predict_crossover(
    full: LearningCurve | tuple[Sequence[int], Losses] | None = None,
    peft: LearningCurve | tuple[Sequence[int], Losses] | None = None,
    *,
    d: int | None = None,
    k: int | None = None,
    noise: Number | tuple[Number, Number] | None = None,
    bias: Number | tuple[Number, Number] | None = None,
    confidence: float = 0.95,
    horizon: float = 100.0,
    count: int = RESAMPLES,
) -> Prediction:
    r"""Predict the sample size from which on full fine-tuning beats PEFT.

    Either from the exact model, $N^* = d + 1 + (d-k)\,\sigma^2/b^2$ with `d`, `k`, `noise` and `bias`, or
    from pilot learning curves `full` and `peft`, continued as fitted.

    Args:
        full: pilot curve of full fine-tuning: of `models.curves`, or sizes and losses of shape (S, V).
        peft: the other one, at the same sizes and seeds.
        d: parameters of full fine-tuning.
        k: of PEFT.
        noise: σ², or its two ends.
        bias: b², or its two ends.
        confidence: of the interval that pilot curves give.
        horizon: how many times the largest size of the pilot to look.
        count: resamples behind the interval.

    Returns:
        A `Prediction`, with its interval and what it assumes.

    Raises:
        ValueError: neither or both of the two, ends in the wrong order, a horizon below 1 or infinite, and
            what `GaussianRegression` and `fit_curve` refuse.

    Source: T5.R6 for the exact model.
    """
    given = [value is not None for value in (d, k, noise, bias)]
    pilots = [curve is not None for curve in (full, peft)]
    if not ((all(pilots) and not any(given)) or (all(given) and not any(pilots))):
        raise ValueError(
            "full, peft, d, k, noise, bias: needs either both pilot curves or all of d, k, noise and bias"
        )
    if all(given):
        return _from_model(d, k, _pair("noise", noise), _pair("bias", bias))
    if not 1 <= horizon < math.inf:
        raise ValueError(f"horizon: got {horizon}, needs a finite number of at least 1, such as 100")
    return _from_pilots(full, peft, confidence, horizon, count)


def _pair(name: str, value: Number | tuple[Number, Number]) -> tuple[Number, Number]:
    low, high = value if isinstance(value, tuple) else (value, value)
    if not low <= high:
        raise ValueError(f"{name}: got ({low}, {high}), needs the lower end first")
    return low, high


def _from_model(d: int, k: int, noise: tuple[Number, Number], bias: tuple[Number, Number]) -> Prediction:
    """N* rises with σ² and falls with b², so that its ends are at ends of theirs."""
    low = GaussianRegression(d, k, noise[0], bias[1]).crossover
    high = GaussianRegression(d, k, noise[1], bias[0]).crossover
    middle = GaussianRegression(d, k, sum(noise) / 2, sum(bias) / 2).crossover
    ends = float(low), float(high)
    text = f"between N = {_size(low)} and {_size(high)}" if ends[0] < ends[1] else f"at N = {_size(low)}"
    never = "full fine-tuning never overtakes: PEFT misses nothing"
    reason = never if math.isinf(ends[0]) else f"full fine-tuning overtakes {text}"
    return Prediction(float(middle), ends, "exact model", reason, _MODEL, (d + 2.0, math.inf))


def _from_pilots(
    full: LearningCurve | tuple[Sequence[int], Losses],
    peft: LearningCurve | tuple[Sequence[int], Losses],
    confidence: float,
    horizon: float,
    count: int,
) -> Prediction:
    sizes, D = differences(full, peft)
    looked, sure = (float(sizes[0]), float(sizes[-1] * horizon)), attainable(confidence, len(D))
    fits = [fit_curve(curve, confidence=confidence, count=count) for curve in (full, peft)]

    def made(reason: str, at: float | None = None, ends: tuple[float, float] | None = None) -> Prediction:
        return Prediction(at, ends, "pilot curves", reason, _PILOT, looked, sure)

    for name, one in zip(("full fine-tuning", "PEFT"), fits, strict=True):
        if one.law is None:
            hint = "; give more seeds or sizes" if one.shape in (Shape.UNDECIDED, Shape.FLAT) else ""
            return made(f"none, since the curve of {name} has no law: {one.reason}{hint}")
    grid = np.geomspace(*looked, POINTS)
    laws = [one.law for one in fits]
    gap = _gaps(grid, [np.array([[one.limit], [one.factor], [one.exponent]]) for one in laws])
    changes = int(np.sum(gap[0, :-1] * gap[0, 1:] < 0))
    drawn = _overtaking(grid, _gaps(grid, [one.draws for one in fits]))
    ends = tuple(float(end) for end in limits(drawn, len(D), confidence))
    at = float(_overtaking(grid, gap)[0])
    return made(_told(at, ends, changes, looked, sure, float(sizes[-1])), at, ends)


def _gaps(grid: Float[np.ndarray, " G"], laws: list[Float[np.ndarray, "3 B"]]) -> Float[np.ndarray, "B G"]:
    """Loss of full fine-tuning less that of PEFT, of continued curves."""
    risks = [a[:, None] + c[:, None] * grid ** -gamma[:, None] for a, c, gamma in laws]
    return risks[0] - risks[1]


def _overtaking(grid: Float[np.ndarray, " G"], gap: Float[np.ndarray, "B G"]) -> Float[np.ndarray, " B"]:
    """The size after which FFT stays better; 0 if it always is, infinite if it is not at the horizon."""
    behind = gap > 0
    last = gap.shape[1] - 1 - behind[:, ::-1].argmax(axis=1)
    rows, after = np.arange(len(gap)), np.minimum(last + 1, gap.shape[1] - 1)
    before, beyond = gap[rows, last], gap[rows, after]
    share = np.divide(before, before - beyond, out=np.zeros_like(before), where=before != beyond)
    at = np.exp(np.log(grid[last]) * (1 - share) + np.log(grid[after]) * share)
    return np.where(behind[:, -1], np.inf, np.where(behind.any(axis=1), at, 0.0))


def _told(
    at: float,
    ends: tuple[float, float],
    changes: int,
    looked: tuple[float, float],
    confidence: float,
    pilot: float,
) -> str:
    low, high = (
        f"below {looked[0]:.0f}" if end == 0 else f"beyond {looked[1]:.3g}" if math.isinf(end) else _size(end)
        for end in ends
    )
    if at == 0:
        text = f"full fine-tuning is better at every size from {looked[0]:.0f} on"
    elif math.isinf(at):
        text = f"full fine-tuning does not overtake up to N = {looked[1]:.3g}"
    else:
        where = "within the pilot, which `crossover` measures" if at <= pilot else f"beyond its {pilot:.0f}"
        text = f"full fine-tuning overtakes at N = {_size(at)}, {where}"
    more = f"; the continued curves cross {changes} times, and this is the last" if changes > 1 else ""
    return f"{text}; {confidence:.0%} interval {low} to {high}{more}"


def _size(value: Number) -> str:
    value = float(value)
    return "infinity" if math.isinf(value) else f"{value:.0f}" if value < 1e6 else f"{value:.3g}"
