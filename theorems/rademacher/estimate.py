r"""What is known of a Rademacher complexity: an estimate with an interval, and bounds around it.

Of signs s and features A (one row to a sign) let $z = \|A^Ts\|$.  Its mean square is known, $E z^2 =
\|A\|_F^2 = F^2$, and that is a control variate: from $E(F-z)^2 = 2F^2 - 2F\,E z$,

$$E z = F - \frac{E(F-z)^2}{2F} .$$

So the mean of $F - (F-z)^2/2F$ over draws is unbiased as well, never above F, and its variance is of second
order in the spread of z.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float

from .. import linalg


@dataclass(frozen=True)
class Sampled:
    """An estimate of a Rademacher complexity with an interval that is valid for every number of draws.

    Attributes:
        value: mean over the draws.
        low: lower end of the interval.
        high: upper end of the interval.
        standard_error: of the mean; smaller than the interval, and valid only asymptotically.
        draws: number of sign matrices.
        confidence: at least the probability that the interval covers the complexity.
        inequality: which one the interval rests on.
    """

    value: float
    low: float
    high: float
    standard_error: float
    draws: int
    confidence: float
    inequality: str


@dataclass(frozen=True)
class Complexity:
    """A complexity between its bounds.

    Attributes:
        value: the complexity itself where all signs were enumerated, an estimate otherwise.
        low: lower end of an interval; `value` if enumerated.
        high: upper end; likewise.
        standard_error: of `value`; 0 if enumerated.
        lower: a bound that holds for certain.
        upper: likewise.
        how: "all signs", or the number of draws with the confidence and what the interval rests on.
    """

    value: float
    low: float
    high: float
    standard_error: float
    lower: linalg.Lower
    upper: linalg.Upper
    how: str


def check_confidence(confidence: float) -> None:
    """Refuse a confidence outside (0, 1)."""
    if not 0 < confidence < 1:
        raise ValueError(f"confidence: got {confidence}, needs a number between 0 and 1, such as 0.99")


def controlled(
    lengths: Float[np.ndarray, " draws"],
    size: float,
    longest: float,
    *,
    scale: float = 1.0,
    confidence: float = 0.99,
) -> Sampled:
    r"""Estimate $c\,E z$ from independent draws of $z = \|A^Ts\|$, with the control variate above.

    The interval is what two intervals have in common, each with half of δ.  McDiarmid's inequality for the
    plain mean of n draws, in which one sign changes a draw by at most $2\|a_i\|$:
    $F\sqrt{2\ln(4/\delta)/n}$.  The empirical Bernstein inequality of Maurer and Pontil for $w=(F-z)^2/2F$,
    which lies in $[0, R]$, $R = \max(F, z_{max}-F)^2/2F$, and has sample variance V:
    $\sqrt{2V\ln(8/\delta)/n} + 7R\ln(8/\delta)/(3(n-1))$.

    Args:
        lengths: z of each draw, at least two.
        size: F.
        longest: $z_{max}$, or more.
        scale: c, such as B/N.
        confidence: 1 − δ.

    Raises:
        ValueError: fewer than two draws, a confidence outside (0, 1).

    Source: McDiarmid 1989; Maurer and Pontil 2009 (arXiv 0907.3740), theorem 4.
    """
    check_confidence(confidence)
    count = len(lengths)
    if count < 2:
        raise ValueError(f"lengths: got {count} draws, needs at least 2 to see how they spread")
    if size == 0:
        return Sampled(0.0, 0.0, 0.0, 0.0, count, confidence, "all functions vanish")
    short = (size - lengths) ** 2 / (2 * size)
    mean, spread = float(short.mean()), float(short.std(ddof=1))
    log, delta = math.log(8 / (1 - confidence)), 1 - confidence
    span = max(size, longest - size) ** 2 / (2 * size)
    bernstein = spread * math.sqrt(2 * log / count) + 7 * span * log / (3 * (count - 1))
    mcdiarmid = size * math.sqrt(2 * math.log(4 / delta) / count)
    low = max(0.0, size - mean - bernstein, float(lengths.mean()) - mcdiarmid)
    high = min(size, size - mean + bernstein, float(lengths.mean()) + mcdiarmid)
    error = spread / math.sqrt(count)
    numbers = (scale * number for number in (size - mean, low, high, error))
    return Sampled(*numbers, count, confidence, "McDiarmid, Maurer and Pontil")
