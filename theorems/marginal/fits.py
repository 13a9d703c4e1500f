r"""How a measured learning curve falls: $R(N) = a + c\,N^{-\gamma}$, or not like that.

Many learning curves are ill-behaved: they rise somewhere, have a bump, or do not fall at all (Viering and
Loog 2023).  A power law can be put through any of them.  So a curve is asked first, in this order:

1. does the mean loss *rise* from some size to a larger one?  One-sided paired t tests of all pairs of sizes,
   Bonferroni;
2. is it established that it *falls* at all?  The same from the first size to the later ones;
3. does the law *fit*?  Let m be the V mean losses, f the fitted values and Q a basis of the q = V − 3
   directions (V − 2 where a = 0) that the tangents of the law leave free.  Hotelling's
   $T^2 = S\,(m-f)^TQ\,(Q^T\hat\Sigma Q)^{-1}Q^T(m-f)$ has the distribution
   $\frac{(S-1)q}{S-q}F_{q,\,S-q}$ for normal seeds, up to the curvature of the law.  Nested examples make
   the losses of a seed move together from size to size; it allows for that, which a χ² of the residuals over
   their variances does not.

Only a curve that passes has a law.  "No misfit seen" is no proof of one: q directions were looked at, with as
much power as S seeds give.

*Estimation.*  Least squares with the weights 1/s² of the seeds' variances.  For a given γ it is linear in a
and c, so that γ is searched alone, over a grid first, and nothing depends on a start.  c ≥ 0, and a ≥ 0 where
the loss is bounded below by 0.  Intervals are those of `resampling`, over seeds.

*What the seeds stand for.*  All of them take their examples from one finite set, and intervals speak of that
set; where N comes near to all of it, seeds differ by less than new data would.

Sources: Viering and Loog, *The shape of learning curves: a review*, IEEE TPAMI 45 (2023); Golub and Pereyra,
SIAM J. Numer. Anal. 10 (1973), for separable least squares; Hotelling, Ann. Math. Statist. 2 (1931).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from itertools import combinations
from typing import TYPE_CHECKING

import numpy as np
from jaxtyping import Float
from scipy import stats

from .resampling import RESAMPLES, attainable, below, check_confidence, limits, resamples

if TYPE_CHECKING:
    from ...models.curves import LearningCurve

Losses = Float[np.ndarray, "S V"]
LEVEL = 0.01
"""Of each of the three questions."""
GRID, REFINEMENTS = 128, 40
STEEPEST = 1e-3
"""A γ that leaves less than this share of the fall for the second size says no more than a larger one."""


class Shape(StrEnum):
    """What a learning curve looks like."""

    POWER = "power law"
    """It falls, and a + cN^(−γ) fits as far as these seeds can tell."""
    OTHER = "other"
    """It falls, and a + cN^(−γ) does not fit."""
    RISES = "rises"
    """It is established that more examples are worse somewhere: ill-behaved."""
    FLAT = "flat"
    """It is not established that it falls."""
    UNDECIDED = "undecided"
    """Too few sizes or seeds to ask."""


@dataclass(frozen=True, repr=False)
class PowerLaw:
    r"""$R(N) = a + c\,N^{-\gamma}$ with intervals over seeds.

    Attributes:
        limit: a.
        factor: c.
        exponent: γ.
        limit_interval: of a.
        exponent_interval: of γ; an end at `steepest` means: or more.
        steepest: the largest γ that was looked at.
    """

    limit: float
    factor: float
    exponent: float
    limit_interval: tuple[float, float]
    exponent_interval: tuple[float, float]
    steepest: float

    def __call__(self, samples: float | np.ndarray) -> np.ndarray:
        """The loss at N examples, within the range of the fit or, at one's own risk, beyond it."""
        return self.limit + self.factor * np.asarray(samples, np.float64) ** -self.exponent

    def __repr__(self) -> str:
        (low, high), (bottom, top) = self.exponent_interval, self.limit_interval
        return (
            f"PowerLaw({self.limit:.3g} + {self.factor:.3g} N^-{self.exponent:.3g}: exponent {low:.3g} to "
            f"{high:.3g}, limit {bottom:.3g} to {top:.3g})"
        )


@dataclass(frozen=True, eq=False, repr=False)
class CurveFit:
    """What a learning curve looks like, and its law if it has one.

    Attributes:
        shape: see `Shape`.
        reason: a sentence that says why.
        closest: the law that is closest, whether or not it fits; None unless the curve falls.
        p_value: of the misfit; None where it was not asked.
        sizes: V sample sizes.
        mean: mean loss at each, shape (V,).
        error: its standard error over seeds, shape (V,).
        seeds: S.
        confidence: of the intervals: what was asked for, or the most that so few seeds can give.
        draws: a, c and γ of each resample of the seeds, shape (3, B); None unless the curve falls.  The same
            resamples for any two curves of as many seeds, so that what is derived from both is paired.
    """

    shape: Shape
    reason: str
    closest: PowerLaw | None
    p_value: float | None
    sizes: np.ndarray
    mean: Float[np.ndarray, " V"]
    error: Float[np.ndarray, " V"]
    seeds: int
    confidence: float
    draws: Float[np.ndarray, "3 B"] | None = None

    @property
    def law(self) -> PowerLaw | None:
        """The law, if it fits."""
        return self.closest if self.shape is Shape.POWER else None

    def __repr__(self) -> str:
        return f"CurveFit({self.shape}: {self.law or self.reason})"


def fit_curve(
    curve: LearningCurve | tuple[Sequence[int], Losses],
    *,
    confidence: float = 0.95,
    level: float = LEVEL,
    bounded: bool = True,
    count: int = RESAMPLES,
) -> CurveFit:
    """Ask a learning curve whether it is well-behaved, and fit a + cN^(−γ) to it if it is.

    Args:
        curve: of `models.curves`, or V sizes and the losses of S seeds at them, shape (S, V).
        confidence: of the intervals of a and γ.
        level: of the tests.
        bounded: whether the loss is at least 0, so that a is.
        count: resamples behind the intervals.

    Raises:
        ValueError: sizes that do not ascend, losses of another shape or not finite, a confidence or a level
            outside of (0, 1).
    """
    sizes, losses = values_of(curve)
    check_confidence(confidence)
    seeds, V = losses.shape
    mean = losses.mean(axis=0)
    error = losses.std(axis=0, ddof=1) / math.sqrt(seeds) if seeds > 1 else np.full(V, np.nan)

    def made(shape: Shape, reason: str, *of: PowerLaw | float | np.ndarray | None) -> CurveFit:
        closest, p_value, draws = of or (None, None, None)
        sure = attainable(confidence, seeds)
        return CurveFit(shape, reason, closest, p_value, sizes, mean, error, seeds, sure, draws)

    if seeds < 2 or V < 4:
        return made(Shape.UNDECIDED, f"{seeds} seeds at {V} sizes, needs at least 2 at 4")
    if (rise := _rise(losses, level)) is not None:
        first, last = (int(sizes[i]) for i in rise)
        return made(Shape.RISES, f"the loss at {last} examples is above that at {first}")
    if not _falls(losses, level):
        return made(Shape.FLAT, f"no fall is established with these {seeds} seeds")
    law, draws = _law(sizes, losses, bounded, confidence, count)
    p_value = _misfit(sizes, losses, law)
    found = law, p_value, draws
    if p_value is None:
        few = f"{seeds} seeds, or seeds that do not differ, cannot test a fit to {V} sizes"
        return made(Shape.UNDECIDED, few, *found)
    if p_value < level:
        return made(Shape.OTHER, f"it falls, but not by this law: p = {p_value:.2g}", *found)
    return made(Shape.POWER, f"no misfit is seen: p = {p_value:.2g}", *found)


def values_of(curve: LearningCurve | tuple[Sequence[int], Losses]) -> tuple[np.ndarray, Losses]:
    """Sizes and test losses of a learning curve, checked.

    Raises:
        ValueError: sizes that do not ascend from 1, losses of another shape or not finite.
    """
    sizes, losses = curve if isinstance(curve, tuple) else (curve.sizes, curve.loss())
    sizes, losses = np.asarray(sizes, np.float64), np.asarray(losses, np.float64)
    if sizes.ndim != 1 or not len(sizes) or sizes[0] < 1 or np.any(np.diff(sizes) <= 0):
        raise ValueError(f"curve: got sizes {sizes.tolist()}, needs ascending numbers from 1 on")
    if losses.ndim != 2 or losses.shape[1] != len(sizes) or not len(losses):
        raise ValueError(f"curve: got losses of shape {losses.shape}, needs (seeds, {len(sizes)})")
    if not np.isfinite(losses).all():
        raise ValueError("curve: needs finite losses; leave out sizes at which training diverged")
    return sizes, losses


def _rise(losses: Losses, level: float) -> tuple[int, int] | None:
    """The pair of sizes at which the loss rises most clearly, if it is established that it does."""
    pairs = list(combinations(range(losses.shape[1]), 2))
    steps = np.stack([losses[:, j] - losses[:, i] for i, j in pairs], axis=1)
    low = below(steps, level / len(pairs))
    return pairs[int(low.argmax())] if low.max() > 0 else None


def _falls(losses: Losses, level: float) -> bool:
    steps = losses[:, :1] - losses[:, 1:]
    return bool((below(steps, level / steps.shape[1]) > 0).any())


def _law(
    sizes: np.ndarray, losses: Losses, bounded: bool, confidence: float, count: int
) -> tuple[PowerLaw, Float[np.ndarray, "3 B"]]:
    """The law of the mean curve, and a, c and γ of each resample, with the weights of the whole."""
    weights, seeds = _weights(losses), len(losses)
    a, c, gamma = _least_squares(sizes, losses.mean(axis=0)[None], weights, bounded)[:, 0].tolist()
    draws = _least_squares(sizes, losses[resamples(seeds, count)].mean(axis=1), weights, bounded)
    low, high = limits(draws.T, seeds, confidence)
    ends = list(zip(low.tolist(), high.tolist(), strict=True))
    return PowerLaw(a, c, gamma, ends[0], ends[2], float(_exponents(sizes)[-1])), draws


def _weights(losses: Losses) -> Float[np.ndarray, " V"]:
    """1/s², of which no size has more than rounding allows: equal seeds are no proof of certainty."""
    floor = (np.finfo(np.float64).eps * np.abs(losses).max()) ** 2
    return 1 / np.maximum(losses.var(axis=0, ddof=1), floor)


def _exponents(sizes: np.ndarray) -> Float[np.ndarray, " G"]:
    """What is looked at: from no fall to be seen over all sizes to one that is over at the second size."""
    low = np.sqrt(np.finfo(np.float64).eps) / math.log(sizes[-1] / sizes[0])
    high = -math.log(STEEPEST) / math.log(sizes[1] / sizes[0])
    return np.concatenate([[low], np.geomspace(high / 1e3, high, GRID)])


def _least_squares(
    sizes: np.ndarray, means: Float[np.ndarray, "B V"], weights: Float[np.ndarray, " V"], bounded: bool
) -> Float[np.ndarray, "3 B"]:
    """a, c and γ of each row: the best of a grid of γ, refined by golden sections."""
    grid = _exponents(sizes)

    def left_over(gamma: np.ndarray) -> np.ndarray:
        return _profile(sizes, means, weights, gamma, bounded)[2]

    best = np.stack([left_over(np.full(len(means), one)) for one in grid]).argmin(axis=0)
    low, high = grid[np.maximum(best - 1, 0)], grid[np.minimum(best + 1, len(grid) - 1)]
    golden = (math.sqrt(5) - 1) / 2
    for _ in range(REFINEMENTS):
        left, right = high - golden * (high - low), low + golden * (high - low)
        lower = left_over(left) < left_over(right)
        low, high = np.where(lower, low, left), np.where(lower, right, high)
    gamma = (low + high) / 2
    a, c, _ = _profile(sizes, means, weights, gamma, bounded)
    return np.stack([a, c * sizes[0] ** gamma, gamma])


def _profile(
    sizes: np.ndarray, means: np.ndarray, weights: np.ndarray, gamma: Float[np.ndarray, " B"], bounded: bool
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The best a, the best c of (N/N₁)^(−γ), and what is left of the weighted squares, for given γ."""
    x = (sizes / sizes[0]) ** -gamma[:, None]
    total = weights.sum()
    x_mean, mean = x @ weights / total, means @ weights / total
    centred = x - x_mean[:, None]
    c = np.maximum((centred * (means - mean[:, None])) @ weights / (centred**2 @ weights), 0)
    a = mean - c * x_mean
    if bounded:
        through = np.maximum((x * means) @ weights / (x**2 @ weights), 0)
        a, c = np.where(a < 0, 0, a), np.where(a < 0, through, c)
    return a, c, (means - a[:, None] - c[:, None] * x) ** 2 @ weights


def _misfit(sizes: np.ndarray, losses: Losses, law: PowerLaw) -> float | None:
    """The p-value of Hotelling's test of what is left; None if the seeds do not allow for it."""
    decay = (sizes / sizes[0]) ** -law.exponent
    tangents = [decay, decay * np.log(sizes / sizes[0])] + ([np.ones(len(sizes))] if law.limit > 0 else [])
    full, _ = np.linalg.qr(np.stack(tangents, axis=1), mode="complete")
    free, seeds = full[:, len(tangents) :], len(losses)
    q = free.shape[1]
    if seeds <= q:
        return None
    left = (losses - law(sizes)) @ free
    mean, covariance = left.mean(axis=0), np.cov(left, rowvar=False).reshape(q, q)
    if np.linalg.matrix_rank(covariance, hermitian=True) < q:
        return None  # seeds that do not differ have no spread to compare with
    squared = seeds * float(mean @ np.linalg.solve(covariance, mean))
    return float(stats.f.sf(squared * (seeds - q) / ((seeds - 1) * q), q, seeds - q))
