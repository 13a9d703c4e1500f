r"""What is measured on learning curves of trained networks: T5.R22 to T5.R24, with planted curves.

Nothing here is a theorem.  Each instrument must see what is planted, and must not see what is not.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from ..claims import Claim, Comparison, Control, Judgement, MissingIngredient
from . import observed
from .crossover import Crossing
from .fits import Shape
from .gaussian import GaussianRegression
from .instances.curves import SIZES, Curve, Pair, noise

_N = np.array(SIZES, np.float64)


def _follows(i: Curve) -> Comparison:
    """1 if no misfit of a + cN^(−γ) is seen."""
    found, law = i.fit, i.fit.closest
    if found.shape is Shape.UNDECIDED:
        raise MissingIngredient(f"sizes or seeds: {found.reason}")
    shown = {"seeds": found.seeds, "sizes": len(found.sizes)}
    if law is not None:
        (low, high), (bottom, top) = law.exponent_interval, law.limit_interval
        shown |= {"exponent": law.exponent, "low": low, "high": high, "p": found.p_value}
        shown |= {"limit": law.limit, "limit from": bottom, "limit to": top}
    return Comparison(int(found.shape is Shape.POWER), "==", 1, statistics=shown)


def _at_most_model(i: Pair) -> Comparison:
    """Ratio over the whole range ≤ (1 + b²/σ²)k/d; what is tolerated is the interval of their difference."""
    found, whole, excess = i.gains, i.gains.steps[-1], i.gains.excess[-1]
    if whole.ratio is None:
        raise MissingIngredient("a gain of full fine-tuning, for a ratio to it")
    if found.model is None:
        curve = found.full if found.full.law is None else found.peft
        raise MissingIngredient(f"fitted limits of both curves, for b²/σ²: {curve.reason}")
    if excess is None:
        raise MissingIngredient("noise: the fitted limit of full fine-tuning is 0, and the bound infinite")
    margin, (low, high) = found.model - whole.ratio, excess
    # Told apart if the interval of the difference does not have zero in it: on the side where it is.
    slack = margin + high if margin > 0 else -low - margin
    shown = {"low": whole.interval[0], "high": whole.interval[1], "k/d": found.linear, "root": found.root}
    return Comparison(whole.ratio, "<=", found.model, extra=max(slack, 0.0), statistics=shown)


def _crosses(i: Pair) -> Comparison:
    """1 if PEFT is better with few examples and full fine-tuning with many."""
    found = i.crossover
    if found.outcome is Crossing.UNDECIDED:
        raise MissingIngredient(f"a difference of the curves: {found.reason}")
    shown: dict[str, Any] = {"seeds": found.seeds}
    if found.bracket is not None:
        shown |= {"from": found.bracket[0], "to": found.bracket[1]}
    if found.found:
        shown |= {"crossover": found.estimate}
        ends = zip(("low", "high"), found.interval, strict=True)
        shown |= {name: end for name, end in ends if 0 < end < math.inf}
    return Comparison(int(found.outcome is Crossing.FULL_OVERTAKES), "==", 1, statistics=shown)


def _steps(i: Pair) -> tuple[dict[str, Any], ...]:
    """The ratio at every step, for the record."""
    return tuple(
        {
            "layer": f"N = {one.first} to {one.last}",
            "full": one.full,
            "peft": one.peft,
            "ratio": one.ratio,
            "low": None if one.interval is None else one.interval[0],
            "high": None if one.interval is None else one.interval[1],
        }
        for one in i.gains.steps
    )


def power(limit: float, factor: float, exponent: float, seed: int = 0) -> Curve:
    """Losses a + cN^(−γ), each seed off by 3 % of what is above the limit."""
    fall = factor * _N**-exponent
    return Curve(SIZES, limit + fall + noise(seed, 0.03 * fall, len(SIZES)))


def bump() -> Curve:
    """A curve that rises on its way, as around as many examples as parameters."""
    risk = 0.1 + 40 / _N + 0.6 * np.exp(-((np.log(_N / 209) / 0.4) ** 2))
    return Curve(SIZES, risk + noise(1, 0.03, len(SIZES)))


def regression(d: int, k: int, sigma2: float, b2: float, sizes: tuple[int, ...], scale: float) -> Pair:
    """The exact risks of Gaussian least squares, each seed off by a share of what is above the limit."""
    model = GaussianRegression(d, k, sigma2, b2)
    made = []
    for seed, curve in enumerate((model.full, model.peft)):
        excess = np.asarray(curve.excess(sizes))
        made.append(curve.variance + excess * (1 + noise(seed, scale, len(sizes))))
    return Pair(sizes, *made, d, k)


def slow() -> Pair:
    """Losses a + √(p/N)/4 with one limit: a ratio of √(k/d) = 1/2, k/d = 1/4."""
    risks = [0.2 + np.sqrt(p / _N) / 4 * (1 + noise(p, 0.03, len(SIZES))) for p in (16, 4)]
    return Pair(SIZES, *risks, 16, 4)


def parallel() -> Pair:
    """Two curves that differ by 0.1 everywhere."""
    full, lift = power(0.1, 40, 1).losses, 0.1 + noise(3, 0.01, len(SIZES))
    return Pair(SIZES, full, full + lift, 16, 4)


_NEAR, _FAR = (18, 20, 24, 32, 64, 128), (32, 64, 128, 256, 512, 1024)
"""Sizes around the crossover, and where a power law is close."""

CLAIMS = (
    Claim(
        id="T5.R22",
        theorem="marginal",
        statement=r"R(N) = a + c\,N^{-\gamma},\quad a \ge 0,\ \gamma > 0",
        judgement=Judgement.EMPIRICAL,
        reason="curves of trained networks: γ is measured, not ½ or 1 by assumption; some have no law",
        plain=(
            "How the test loss of a network falls with the number of examples that it is fine-tuned on, for "
            "a fixed number of steps. Whether the curve is well-behaved is asked first; only then are an "
            "exponent and a limit given, with intervals over seeds. 'No misfit is seen' is no proof of a "
            "law, and with more steps the exponent may be another."
        ),
        compare=_follows,
        exact=lambda: {
            "0.1 + 40/N": power(0.1, 40, 1),
            "0.5 + 3/√N": power(0.5, 3, 0.5),
            "8 N^(−0.6), no limit above 0": power(0, 8, 0.6),
        },
        control=Control("the curve: with a bump on its way down", exact=bump),
        observe=observed.curves,
        along="examples",
    ),
    Claim(
        id="T5.R23",
        theorem="marginal",
        statement=(
            r"\frac{R_{peft}(N)-R_{peft}(N')}{R_{full}(N)-R_{full}(N')} \le "
            r"\Big(1+\frac{b^2}{\sigma^2}\Big)\frac kd,\quad 1+\frac{b^2}{\sigma^2} = "
            r"\frac{a_{peft}}{a_{full}}"
        ),
        judgement=Judgement.EMPIRICAL,
        reason="T5.R4 carried over to networks, which have other losses and fewer examples than parameters",
        plain=(
            "What an example is worth to PEFT, as a share of what it is worth to full fine-tuning: measured, "
            "beside k/d (T5.b), √(k/d) (the paper's own rate) and the bound of the exact model, with σ² and "
            "σ² + b² read off the fitted limits of the two curves."
        ),
        compare=_at_most_model,
        exact=lambda: {
            "Gaussian regression, d = 8, k = 2, σ² = 1, b² = 1/2": regression(8, 2, 1.0, 0.5, _FAR, 0.15)
        },
        control=Control("the rate: a + √(p/N)/4 with equal limits, a ratio of √(k/d)", exact=slow),
        observe=observed.pairs,
        along="examples",
        detail=_steps,
    ),
    Claim(
        id="T5.R24",
        theorem="marginal",
        statement=r"\exists N^*:\ R_{peft}(N) < R_{full}(N) \text{ for } N < N^*,\ > \text{ for } N > N^*",
        judgement=Judgement.EMPIRICAL,
        reason="the crossover of T5.R6 looked for on networks: it depends on the task and on the method",
        plain=(
            "With few examples PEFT has the smaller test loss, with many full fine-tuning. A crossover is "
            "found if both are established, and given with an interval over seeds; otherwise it is said over "
            "which sizes there is none."
        ),
        compare=_crosses,
        exact=lambda: {
            "Gaussian regression, d = 16, k = 4, σ² = b² = 1: N* = 29": regression(
                16, 4, 1.0, 1.0, _NEAR, 0.03
            )
        },
        control=Control("the curves: parallel", exact=parallel),
        observe=observed.pairs,
        along="examples",
    ),
)
