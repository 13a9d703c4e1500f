r"""What the paper says of Theorem 5 in running text: T5.a to T5.d."""

from __future__ import annotations

from fractions import Fraction
from typing import Any

from ..claims import Assumption, Claim, Control, Judgement
from . import observed
from .claims_printed import coin, unit_regression
from .comparisons import judged, noisy
from .instances import rates, regressions, samples
from .instances.rates import SlowRate
from .instances.regressions import Regression


def _moderate(i: Any) -> tuple[bool, str]:
    return i.k * i.bias <= (
        i.d - i.k
    ) * i.noise, f"k b² = {i.k * i.bias}, (d − k) σ² = {(i.d - i.k) * i.noise}"


def noiseless() -> Regression:
    """σ = 0, b² = 1, d = 2, k = 1, N = 4: FFT has nothing left to gain."""
    return Regression(2, 1, Fraction(0), Fraction(1), 4)


def misspecified() -> Regression:
    """σ² = 1, b² = 9, d = 4, k = 1, N = 10: PEFT gains more, at a larger risk."""
    return Regression(4, 1, Fraction(1), Fraction(9), 10)


_smaller_benefit = judged(lambda i: i.gains[1], "<", lambda i: i.gains[0])

CLAIMS = (
    Claim(
        id="T5.a",
        theorem="marginal",
        statement=(
            r"\text{trained for many steps: } \mathcal{L}_N(\hat\theta_N)-\mathcal{L}^*_{\mathcal{H}} \to 0"
        ),
        judgement=Judgement.FALSE,
        reason="training minimises L_N, whose minimum lies below L* on average: by σ²d/N in regression",
        plain=(
            "Long training is said to bring the loss on the sample to the best loss in the class. It goes "
            "below, in regression by σ²d/N, about as much as the estimation error on new data. Only more "
            "data bring the two together."
        ),
        compare=judged(lambda i: i.trainings[0], "==", lambda i: i.bests[0]),
        repaired_by=("T5.R7", "T5.R12"),
        exact=lambda: {
            "y = ±1, f = θ, N = 1: 0 against 1": coin(),
            "Gaussian regression, d = 2, N = 4, σ² = 1: 1/2 against 1": unit_regression(),
        },
        worked="y = ±1, f = θ, N = 1: the fit is perfect, L_N = 0, and L* = 1 however long one trains.",
        strategy=lambda: (samples.means(), samples.lists(), regressions.regressions()),
        observe=observed.trainings,
        along="examples",
    ),
    Claim(
        id="T5.b",
        theorem="marginal",
        statement=(
            r"\text{for each additional sample the risk reduction of PEFT is } \tfrac kd "
            r"\text{ times that of FFT}"
        ),
        judgement=Judgement.FALSE,
        reason=(
            "the paper's own rate gives √(k/d); Gaussian regression less than k/d if PEFT misses nothing, "
            "and up to (1 + b²/σ²)k/d if it does"
        ),
        plain=(
            "An example is said to be worth k/d as much to PEFT. What PEFT cannot express acts on it as "
            "noise, and noise is what examples average out: without other noise they are worth nothing to "
            "full fine-tuning and something to PEFT. Judged as 'at most k/d', which is the weaker reading, "
            "and times d: d ΔR_peft ≤ k ΔR_full."
        ),
        compare=judged(lambda i: i.d * i.gains[1], "<=", lambda i: i.k * i.gains[0]),
        repaired_by=("T5.R4", "T5.R5"),
        exact=lambda: {
            "σ = 0, b² = 1, d = 2, k = 1, N = 4: d times 1/6 against k times 0": noiseless(),
            "σ² = 1, b² = 9, d = 4, k = 1, N = 10": misspecified(),
            "E = √(p/N), d = 4, k = 1": SlowRate(4, 1, 4),
        },
        worked=(
            "σ = 0, b² = 1, d = 2, k = 1, N = 4: FFT is exact already and gains 0, PEFT gains 1 · 1/(2 · 3) "
            "= 1/6.  σ² = 1, b² = 9, d = 4, k = 1, N = 10: FFT gains 4/30, PEFT 10/72, more than FFT with a "
            "quarter of the parameters."
        ),
        strategy=lambda: (regressions.regressions(), rates.slow_rates()),
        observe=observed.shares,
        along="examples",
    ),
    Claim(
        id="T5.c",
        theorem="marginal",
        statement=r"\text{PEFT benefits less from more data: } \Delta R_{peft}(N) < \Delta R_{full}(N)",
        judgement=Judgement.CONDITIONAL,
        reason=(
            "true in Gaussian regression for N ≥ d + 2 if b²/σ² ≤ d/k − 1; otherwise false for all large N; "
            "and it may be reversed below d, as for (N − k)² ≤ dk(σ² + b²)/‖θ*‖²"
        ),
        plain=(
            "The theorem in words. It is true where PEFT misses little, and then no defect: the larger "
            "benefit of full fine-tuning is its larger estimation error, and with b = 0 PEFT has the "
            "smaller risk at every N."
        ),
        compare=_smaller_benefit,
        assumes=(noisy, Assumption("b²/σ² ≤ d/k − 1", _moderate)),
        repaired_by=("T5.R4", "T5.R5", "T5.R6"),
        exact=lambda: {
            "b = 0, d = 2, k = 1, N = 4": unit_regression(),
            "the boundary, b² = 3σ², d = 4, k = 1, N = 10": Regression(4, 1, Fraction(1), Fraction(3), 10),
        },
        worked=(
            "d = 10⁶, N = 1000, k = 100, ‖θ*‖ = σ = 1, b² = 1/2: FFT interpolates and gains −2 · 10⁻⁹ from "
            "an example, PEFT +1.9 · 10⁻⁴: the order is reversed.  With d = 1000, k = 10, N = 500, σ² = "
            "1/1000 and b = 0 it is not: +9.96 · 10⁻⁴ against +4.2 · 10⁻⁸."
        ),
        strategy=lambda: regressions.regressions(noiseless=False, moderate=True),
        control=Control(
            "b²/σ² ≤ d/k − 1: dropped",
            exact=misspecified,
            assumes=(noisy,),
            strategy=regressions.regressions,
        ),
    ),
    Claim(
        id="T5.d",
        theorem="marginal",
        statement=r"\text{the marginal benefit of FFT increases significantly with growing data volume}",
        judgement=Judgement.FALSE,
        reason="it falls: σ²d/((N − d − 1)(N − d)), as does the paper's own N^(−3/2)",
        plain=(
            "Section 4.3 says that each further example is worth more to full fine-tuning than the last "
            "one. The lead of full fine-tuning may grow; the worth of an example falls."
        ),
        compare=judged(lambda i: i.later[0], ">=", lambda i: i.gains[0]),
        repaired_by=("T5.R3", "T5.R6"),
        exact=lambda: {
            "d = 2, σ² = 1: N = 4, then 5: 1, then 1/3": unit_regression(),
            "E = √(d/N), d = 4": SlowRate(4, 1, 4),
        },
        worked="d = 2, σ² = 1: from N = 4 to 5 the risk falls by 2/(1 · 2) = 1, then by 2/(2 · 3) = 1/3.",
        strategy=lambda: (regressions.regressions(), rates.slow_rates()),
        observe=observed.further_gains,
        along="examples",
    ),
)
