r"""The exact model against draws: T5.R1, R2, R8 and R9, expectations over Gaussian data.

Data are drawn and fitted, and the mean over many data sets is compared with the formula: five standard
errors, which are known in closed form, must separate the formula from each of its rivals.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np

from ..claims import Assumption, Claim, Comparison, Control, Judgement
from .instances import draws
from .instances.draws import Drawn, Interpolated

MARGIN = 6  # N − p from which on the risk has a third moment, so that a mean of many is close to normal


class Row(NamedTuple):
    """A mean over draws beside its formula.

    Attributes:
        mean: measured.
        formula: what the claim says.
        variance: of what is averaged, from one data set to another; known.
        rivals: what wrong formulas say.
    """

    mean: Any
    formula: Any
    variance: Any
    rivals: Sequence[Any]


def _columns(*rows: Sequence[Any]) -> list[np.ndarray]:
    return [np.concatenate([np.atleast_1d(x) for x in column]) for column in zip(*rows, strict=True)]


def _drawn(rows: Callable[[Any], list[Row]]) -> Callable[[Any], Comparison]:
    """Each mean against its formula, once for every rival."""

    def compare(i: Any) -> Comparison:
        each = [(r.mean, r.formula, i.error(r.variance), rival) for r in rows(i) for rival in r.rivals]
        mean, formula, error, rival = _columns(*each)
        shown = {"draws": i.simulated.draws, "largest standard error": float(error.max())}
        return Comparison(mean, "==", formula, standard_error=error, rival=rival, statistics=shown)

    return compare


def _rejected(rows: Callable[[Any], list[Row]], which: int) -> Callable[[Any], Comparison]:
    """Each mean against one of the rivals in place of its formula."""

    def compare(i: Any) -> Comparison:
        mean, wrong, error = _columns(*((r.mean, r.rivals[which], i.error(r.variance)) for r in rows(i)))
        return Comparison(mean, "==", wrong, standard_error=error)

    return compare


def _calibrated(excess: np.ndarray, rate: np.ndarray) -> np.ndarray:
    """Const × rate, with the constant that fits the other sample size: rates are judged, not constants."""
    return rate * (excess / rate)[::-1]


def _full_risk(i: Drawn) -> list[Row]:
    N, curve, d = i.sizes, i.model.full, i.d
    excess, floor = curve.excess(N), curve.variance
    rivals = [
        floor + _calibrated(excess, d / N),
        floor + _calibrated(excess, np.sqrt(d / N)),
        floor + floor * d / (N - d),
    ]
    return [Row(i.mean("risk", 0), curve.risk(N), curve.risk_variance(N), rivals)]


def _peft_risk(i: Drawn) -> list[Row]:
    N, curve, k = i.sizes, i.model.peft, i.k
    spread = curve.risk_variance(N) / curve.variance**2
    per_noise, excess = k / (N - k - 1), curve.excess(N)
    noise = i.noise * per_noise, i.noise**2 * spread, [i.noise * k / (N - k)]
    misfit = i.bias * (1 + per_noise), i.bias**2 * spread, [np.full(2, i.bias)]
    whole = curve.risk(N), curve.risk_variance(N), [curve.variance + _calibrated(excess, np.sqrt(k / N))]
    return [
        Row(i.mean("noise part", 1), *noise),
        Row(i.mean("misfit part", 1), *misfit),
        Row(i.mean("risk", 1), *whole),
    ]


def _gaps(i: Drawn) -> list[Row]:
    N, rows = i.sizes, []
    for column, curve in enumerate((i.model.full, i.model.peft)):
        p, gap, training = curve.parameters, curve.gap(N), curve.training_loss(N)
        spread = curve.training_variance(N)
        rivals = [curve.excess(N), _calibrated(gap, np.sqrt(p / N))]
        rows += [
            Row(i.mean("gap", column), gap, curve.risk_variance(N) + spread, rivals),
            Row(i.mean("training loss", column), training, spread, [np.full(2, curve.variance)] * 2),
        ]
    return rows


def _interpolation(i: Interpolated) -> list[Row]:
    p, N, model = i.parameters, i.samples, i.model
    variances = model.bias_variance(N), model.noise_variance(N)
    share = 1 - N / p
    return [
        Row(i.mean("bias"), model.bias(N), variances[0], [i.signal * share**2, i.signal * (1 - N / (p - 1))]),
        Row(i.mean("noise part"), model.noise_part(N), variances[1], [model.variance * N / (p - N)] * 2),
        Row(i.mean("risk"), model.risk(N), sum(variances), [i.signal * share + model.variance] * 2),
    ]


_moments = Assumption(
    f"N ≥ d + {MARGIN}: the risk has three moments",
    lambda i: (min(i.samples) >= i.d + MARGIN, f"N = {i.samples}, d = {i.d}"),
)
_moments_below = Assumption(
    f"N ≤ p − {MARGIN}: the risk has three moments",
    lambda i: (i.samples <= i.parameters - MARGIN, f"N = {i.samples}, p = {i.parameters}"),
)


def _settings() -> dict[str, Drawn]:
    settings = (Drawn(3, 1.0, 0.5), Drawn(4, 0.5, 3.0, seed=1), Drawn(3, 2.0, 1.0, seed=2))
    return {f"d = {i.d}, k = {i.k}, σ² = {i.noise}, b² = {i.bias}, N = {i.samples}": i for i in settings}


CLAIMS = (
    Claim(
        id="T5.R1",
        theorem="marginal",
        statement=r"E R_{full}(N) = \sigma^2\,\frac{N-1}{N-d-1},\quad N\ge d+2",
        judgement=Judgement.TRUE,
        reason="E(XᵀX)⁻¹ = Σ⁻¹/(N − d − 1), inverse Wishart; draws reject const √(d/N) and const d/N",
        plain=(
            "The risk of full fine-tuning in Gaussian regression, for every number of examples above d + 1. "
            "Near d it is far from any power of N; for large N it is σ²(1 + d/N), the fast rate, and not "
            "√(d/N)."
        ),
        compare=_drawn(_full_risk),
        assumes=(_moments,),
        exact=_settings,
        strategy=draws.draws,
        examples=6,
        control=Control(
            "the 1 of N − d − 1: dropped",
            exact=lambda: Drawn(3, 1.0, 0.5),
            compare=_rejected(_full_risk, 2),
        ),
    ),
    Claim(
        id="T5.R2",
        theorem="marginal",
        statement=(
            r"E R_{peft}(N) = (\sigma^2+b^2)\,\frac{N-1}{N-k-1},\quad N\ge k+2,\quad "
            r"b^2=\theta^{*T}(\Sigma-\Sigma P(P^T\Sigma P)^{-1}P^T\Sigma)\theta^*"
        ),
        judgement=Judgement.TRUE,
        reason="what P misses is Gaussian and independent of what it sees: it is noise of variance b²",
        plain=(
            "The same for PEFT. What it cannot express costs b² even with all data, and with few data it "
            "also disturbs the fit. Its two parts, from the noise and from what is missed, are measured "
            "apart."
        ),
        compare=_drawn(_peft_risk),
        assumes=(_moments,),
        exact=_settings,
        strategy=draws.draws,
        examples=6,
        control=Control(
            "that what is missed disturbs the fit: dropped, b² + σ²(1 + k/(N − k)) in parts",
            exact=lambda: Drawn(3, 1.0, 0.5),
            compare=_rejected(_peft_risk, 0),
        ),
    ),
    Claim(
        id="T5.R8",
        theorem="marginal",
        statement=(
            r"E[\mathcal{L}(\hat\theta_N)-\mathcal{L}_N(\hat\theta_N)] = v\,p\,\frac{2N-p-1}{N(N-p-1)},\quad "
            r"E\,\mathcal{L}_N = v\,\frac{N-p}{N}"
        ),
        judgement=Judgement.TRUE,
        reason="R1 and R2 less R7; told apart from the estimation error and from const √(p/N) by draws",
        plain=(
            "The gap between test and training loss is about twice the estimation error, which is why (11) "
            "counts it twice. Its order is p/N and not √(p/N)."
        ),
        compare=_drawn(_gaps),
        assumes=(_moments,),
        exact=_settings,
        strategy=draws.draws,
        examples=6,
        control=Control(
            "the training loss: replaced by the best loss, and the gap by the estimation error",
            exact=lambda: Drawn(3, 1.0, 0.5),
            compare=_rejected(_gaps, 0),
        ),
    ),
    Claim(
        id="T5.R9",
        theorem="marginal",
        statement=(
            r"N\le p-2:\quad E\|\hat\theta_T-\theta_T\|^2 = \|\theta_T\|^2\Big(1-\frac Np\Big) + "
            r"(\sigma^2+\|\theta_{T^c}\|^2)\,\frac{N}{p-N-1}"
        ),
        judgement=Judgement.TRUE,
        reason="a random N-dimensional span keeps N/p of ‖θ_T‖²; E tr(XXᵀ)⁻¹ = N/(p − N − 1)",
        plain=(
            "Fewer examples than parameters, isotropic Gaussian inputs, the interpolating fit of least "
            "norm: what the examples do not show is missed, and the noise is fitted too. Both parts are "
            "measured apart."
        ),
        compare=_drawn(_interpolation),
        assumes=(_moments_below,),
        exact=lambda: {
            "p = 20 of 24, N = 12": Interpolated(1.0, 0.5, 0.5),
            "the same, nothing outside": Interpolated(2.0, 0.0, 1.0, seed=1),
        },
        strategy=draws.interpolated,
        examples=6,
        control=Control(
            "the bias: (1 − N/p)², the square of the mean shrinkage; the noise part: N/(p − N)",
            exact=lambda: Interpolated(1.0, 0.5, 0.5),
            compare=_rejected(_interpolation, 0),
        ),
    ),
)
