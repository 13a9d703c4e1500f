r"""Do singular values decay exponentially, by a power law, in neither way, or can these few not tell?

Both laws are lines in $y_i = \log\sigma_i$: $a - \lambda i$ and $a - p \log i$.  A good $R^2$ says little of
a line, because singular values are sorted and repel each other: those of pure noise lie on a smooth falling
curve as well.  So each line has to stand against a cubic in the same variable, and then the lines stand
against each other.

What the numbers mean.  The statistics read the deviations from a line as independent normal numbers of one
size.  Singular values are no such sample, so neither a ratio of likelihoods nor a p-value is a probability of
anything here: they are a fixed rule for "systematically curved" and "clearly closer", with error rates that
the tests measure on spectra $C e^{-\lambda i}$ or $C i^{-p}$ times independent lognormal factors whose spread
is below the spacing of neighbours.  Where it is above, sorting makes neighbours deviate together, and the
rule says *neither* more often.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from enum import StrEnum
from typing import NamedTuple

import numpy as np
from jaxtyping import Float
from scipy import stats

from .. import linalg
from ..ranks.result import CLEAR
from .spectrum import Spectrum

FEWEST = 8
"""Below this many values a cubic and its error take up nearly all there is."""
RANGE = 3.0
"""Values within this factor of each other are described by either law, and by most others."""
CURVED = 3
CORRELATIONS = np.linspace(0.0, 0.95, 39)


class Decay(StrEnum):
    """How singular values decay."""

    EXPONENTIAL = "exponential"
    POWER = "power"
    NEITHER = "neither"
    UNDECIDED = "undecided"


@dataclass(frozen=True, repr=False)
class DecayFit:
    r"""One law, fitted to logarithms of singular values by least squares.

    Attributes:
        law: EXPONENTIAL, $\sigma_i = C e^{-\lambda i}$, or POWER, $\sigma_i = C i^{-p}$.
        rate: λ or p.
        interval: of the rate: profile likelihood for deviations with serial correlation ρ ≥ 0 of the first
            order.  It covers a true rate; of a law that does not hold it is only the steepness of a line.
        C: the factor.
        misfit: the largest factor between a value and the law, ≥ 1.
        aicc: Akaike's criterion, corrected for small samples.
        aicc_curved: that of the cubic.
        p_value: of the F test of the line against the cubic.
    """

    law: Decay
    rate: float
    interval: tuple[float, float]
    C: float
    misfit: float
    aicc: float
    aicc_curved: float
    p_value: float

    def __repr__(self) -> str:
        """Show the rate with its interval, and the misfit."""
        low, high = self.interval
        return (
            f"DecayFit({self.law}: rate {self.rate:.4g} in [{low:.4g}, {high:.4g}], within a factor "
            f"{self.misfit:.3g}, p = {self.p_value:.2g})"
        )


@dataclass(frozen=True, repr=False)
class DecayVerdict:
    """How the singular values of one layer decay.

    Attributes:
        outcome: see `Decay`.
        reason: a sentence that says why.
        exponential: the fit; None if there are too few values.
        power: the fit; None if there are too few values.
        log_evidence: logarithm of the likelihood ratio of exponential to power, half their difference in
            AICc; negative where the power law is closer, 0 if there are too few values.
        used: values that the fits are of.
        dropped: values at rounding level, or zero.
        name: of the layer.
    """

    outcome: Decay
    reason: str
    exponential: DecayFit | None
    power: DecayFit | None
    log_evidence: float
    used: int
    dropped: int
    name: str = ""

    @property
    def closer(self) -> DecayFit | None:
        """The better of the two fits, whether or not it is good."""
        return self.exponential if self.log_evidence >= 0 else self.power

    @property
    def accepted(self) -> DecayFit | None:
        """The fit of the law that was found; None if none was."""
        return {Decay.EXPONENTIAL: self.exponential, Decay.POWER: self.power}.get(self.outcome)

    def __repr__(self) -> str:
        """Show the outcome and the reason."""
        name = f"{self.name}: " if self.name else ""
        return f"DecayVerdict({name}{self.outcome}, {self.reason})"


def decay_model(
    spectrum: Spectrum | Float[np.ndarray, " s"],
    *,
    evidence: float = 20.0,
    level: float = 0.01,
    confidence: float = 0.95,
) -> DecayVerdict:
    r"""Choose between exponential decay, a power law, neither, and no answer.

    Of the values above rounding level (10⁴ max(m, n) ε σ₁), in this order:

    1. fewer than 8: undecided; all equal to rounding: neither;
    2. a line is *rejected* if a cubic in the same variable (i or log i) is better in an F test at `level`;
       both rejected: neither;
    3. values within a factor 3 of each other: undecided;
    4. the likelihood ratio of the two lines, $(RSS_P/RSS_E)^{n/2} = e^{\Delta AICc/2}$, is below `evidence`
       either way: undecided;
    5. otherwise the closer law, unless it is rejected while the other is not: undecided.

    Residual sums include what the singular values may be wrong by, so that exact laws are not refuted by
    rounding.

    Args:
        spectrum: a `Spectrum`, or singular values in any order, float64.
        evidence: the likelihood ratio needed, > 1.
        level: of each F test, in (0, 1).
        confidence: of the intervals, in (0, 1).

    Returns:
        A `DecayVerdict`.

    Raises:
        ValueError: settings out of range, negative or non-finite values, or not float64.

    Source: Burnham and Anderson, *Model Selection and Multimodel Inference*, 2nd ed. 2002, for AICc and the
    evidence ratio; Seber and Lee, *Linear Regression Analysis*, 2nd ed. 2003, for the F test of lack of fit.
    """
    for name, value in (("level", level), ("confidence", confidence)):
        if not 0 < value < 1:
            raise ValueError(f"{name}: got {value}, needs a number between 0 and 1")
    if not evidence > 1:
        raise ValueError(f"evidence: got {evidence}, needs a number above 1, such as 20")
    sample = _sample(spectrum)
    name = spectrum.name if isinstance(spectrum, Spectrum) else ""
    n, dropped = len(sample.y), sample.dropped
    if n < FEWEST:
        reason = f"{n} values above rounding, at least {FEWEST} are needed"
        return DecayVerdict(Decay.UNDECIDED, reason, None, None, 0.0, n, dropped, name)
    i = np.arange(1.0, n + 1)
    fits = [_fit(law, x, sample, confidence) for law, x in ((Decay.EXPONENTIAL, i), (Decay.POWER, np.log(i)))]
    log_evidence = (fits[1].aicc - fits[0].aicc) / 2
    outcome, reason = _decide(sample, fits, log_evidence, math.log(evidence), level)
    return DecayVerdict(outcome, reason, *fits, log_evidence, n, dropped, name)


class _Sample(NamedTuple):
    y: np.ndarray
    floor: float
    dropped: int


def _sample(spectrum: Spectrum | np.ndarray) -> _Sample:
    """Logarithms of the values above rounding, and how much rounding moves them, root mean square."""
    if not isinstance(spectrum, Spectrum):
        values = np.sort(np.asarray(spectrum, dtype=np.float64).ravel())[::-1]
        spectrum = Spectrum(values, (len(values), len(values)))
    values, size = spectrum.values, max(*spectrum.shape, 1)
    floor = CLEAR * size * linalg.EPS * (values[0] if len(values) else 0.0)
    kept = values[values > floor]
    errors = np.maximum(spectrum.error / kept, size * linalg.EPS) if len(kept) else np.zeros(1)
    return _Sample(np.log(kept), float(np.sqrt((errors**2).mean())), min(spectrum.shape) - len(kept))


def _fit(law: Decay, x: np.ndarray, sample: _Sample, confidence: float) -> DecayFit:
    y, n = sample.y, len(sample.y)
    z = 2 * (x - x[0]) / (x[-1] - x[0]) - 1
    residual, rss = _residual(z, y, 1, sample.floor)
    _, curved = _residual(z, y, CURVED, sample.floor)
    slope = float((x - x.mean()) @ y / ((x - x.mean()) @ x))
    free, more = n - CURVED - 1, CURVED - 1
    p_value = float(stats.f.sf((rss - curved) / more / (curved / free), more, free))
    return DecayFit(
        law=law,
        rate=-slope,
        interval=_interval(x, y, sample.floor, confidence),
        C=float(np.exp(y.mean() - slope * x.mean())),
        misfit=float(np.exp(np.abs(residual).max())),
        aicc=_aicc(rss, n, 3),
        aicc_curved=_aicc(curved, n, CURVED + 2),
        p_value=p_value,
    )


def _residual(z: np.ndarray, y: np.ndarray, degree: int, floor: float) -> tuple[np.ndarray, float]:
    """What a polynomial leaves, and its sum of squares, together with that of rounding."""
    basis, _ = np.linalg.qr(np.vander(z, degree + 1))
    residual = y - basis @ (basis.T @ y)
    return residual, float(residual @ residual) + len(y) * floor**2


def _aicc(rss: float, n: int, k: int) -> float:
    """Akaike's criterion with the correction of the second order; k counts the variance."""
    return n * math.log(rss / n) + 2 * k + 2 * k * (k + 1) / (n - k - 1)


def _interval(x: np.ndarray, y: np.ndarray, floor: float, confidence: float) -> tuple[float, float]:
    r"""Profile-likelihood interval of the rate −b in y = a + b x + e, e autoregressive of order one.

    For each ρ the transformed problem is one of least squares, S_ρ(b) = S_ρ + w_ρ (b − b_ρ)²; the likelihood
    n log S_ρ(b) − log(1 − ρ²) is profiled over ρ, and the threshold is that which gives Student's interval
    for a known ρ, with one degree of freedom less.
    """
    n, found = len(y), []
    for rho in CORRELATIONS:
        one, u, v = (_whiten(series, rho) for series in (np.ones(n), x, y))
        u, v = (series - one * (one @ series) / (one @ one) for series in (u, v))
        slope = (u @ v) / (u @ u)
        found.append((slope, u @ u, ((v - slope * u) ** 2).sum() + n * floor**2))
    slopes, weights, sums = np.array(found).T
    penalty = np.log1p(-(CORRELATIONS**2))
    df = n - 3
    threshold = n * np.log1p(stats.t.ppf((1 + confidence) / 2, df) ** 2 / df)
    excess = np.exp(((n * np.log(sums) - penalty).min() + threshold + penalty) / n) - sums
    inside = excess >= 0
    reach = np.sqrt(excess[inside] / weights[inside])
    return float((-slopes[inside] - reach).min()), float((-slopes[inside] + reach).max())


def _whiten(series: np.ndarray, rho: float) -> np.ndarray:
    """Prais and Winsten's transform, which makes autoregressive errors independent."""
    return np.append(np.sqrt(1 - rho**2) * series[0], series[1:] - rho * series[:-1])


def _decide(
    sample: _Sample, fits: list[DecayFit], log_evidence: float, needed: float, level: float
) -> tuple[Decay, str]:
    spread = float(sample.y[0] - sample.y[-1])
    rejected = [fit.p_value < level for fit in fits]
    best = fits[0] if log_evidence >= 0 else fits[1]
    ratio = f"likelihood ratio 10^{abs(log_evidence) / math.log(10):.1f}"
    if spread <= 4 * sample.floor:
        return Decay.NEITHER, "all values are equal, to rounding: there is no decay"
    if all(rejected):
        return Decay.NEITHER, (
            f"both laws miss a systematic curvature (p = {fits[0].p_value:.1g} and {fits[1].p_value:.1g}); "
            f"the {best.law} one is closer, within a factor {best.misfit:.3g} everywhere"
        )
    if spread < math.log(RANGE):
        return Decay.UNDECIDED, (
            f"all values are within a factor {math.exp(spread):.3g} of each other, where both laws are close"
        )
    if abs(log_evidence) < needed:
        return Decay.UNDECIDED, f"{ratio} for the {best.law} law, below the wanted {math.exp(needed):.3g}"
    if rejected[fits.index(best)]:
        return Decay.UNDECIDED, (
            f"the {best.law} law is closer ({ratio}) but misses a systematic curvature "
            f"(p = {best.p_value:.1g})"
        )
    low, high = best.interval
    return best.law, (
        f"rate {best.rate:.4g} in [{low:.4g}, {high:.4g}], {ratio}, within a factor {best.misfit:.3g}"
    )
