r"""Bounds of generalisation with every constant, which say in words when they say nothing.

All need examples that are drawn independently, a class that was fixed before they were seen, and losses in
[0, c].  Cross-entropy has no such c: clip it, $\min(\ell, c)$, which keeps its Lipschitz constant √2, or
restrict the logits, as `cross_entropy_ceiling` does.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Int
from scipy.special import logsumexp

from .. import linalg
from ..rademacher import SYMMETRISATION


@dataclass(frozen=True)
class Bound:
    """An upper bound of a risk, in its terms.

    Attributes:
        fitted: the training loss, or the least loss of the class.
        complexity: what the size of the class costs.
        deviation: what it costs to be sure; 0 for a bound in expectation.
        confidence: 1 − δ, or None for a bound in expectation.
        ceiling: c, which bounds every loss without any data.
        guess: the loss that a prediction without data has for certain, such as log of the number of classes
            for equal probabilities; None if none is known.
        source: who proved it.
    """

    fitted: float
    complexity: float
    deviation: float
    confidence: float | None
    ceiling: float
    guess: float | None
    source: str

    @property
    def total(self) -> float:
        """The bound."""
        return self.fitted + self.complexity + self.deviation

    @property
    def vacuous(self) -> bool:
        """Whether the bound says no more than that losses are at most c."""
        return self.total >= self.ceiling

    @property
    def informative(self) -> bool:
        """Whether it guarantees a smaller loss than a prediction without data has."""
        return self.total < min(self.ceiling, math.inf if self.guess is None else self.guess)

    @property
    def sentence(self) -> str:
        """What is guaranteed, in words."""
        how = "In expectation" if self.confidence is None else f"With probability {self.confidence:g}"
        bound = f"{how} the risk is at most {self.total:.3g}"
        if self.vacuous:
            return f"{bound}: the bound is vacuous, since no loss exceeds {self.ceiling:.3g} anyway."
        if not self.informative:
            return f"{bound}: no better than a prediction without any data, which has {self.guess:.3g}."
        return (
            f"{bound}: {self.fitted:.3g} fitted, {self.complexity:.3g} for the size of the class, "
            f"{self.deviation:.3g} to be sure."
        )

    def __repr__(self) -> str:
        """Show the sentence."""
        return f"Bound({self.sentence!r})"


def uniform_bound(
    *,
    training: float,
    complexity: float,
    ceiling: float,
    samples: int,
    delta: float,
    empirical: bool = True,
    guess: float | None = None,
) -> Bound:
    r"""Bound the risk of *every* member of a class by its training loss, with probability at least 1 − δ.

    $$L \le L_N + 2\hat R + 3c\sqrt{\frac{\ln(2/\delta)}{2N}},\qquad
    L \le L_N + 2R_N + c\sqrt{\frac{\ln(1/\delta)}{2N}}$$

    Args:
        training: L_N of the member.
        complexity: of the losses: $\hat R$ on the sample, or $R_N = E\hat R$, or a bound of it; `of_losses`
            makes it from that of the outputs.
        ceiling: c; losses lie in [0, c].
        samples: N.
        delta: δ.
        empirical: whether the complexity is $\hat R$.
        guess: as `Bound` has it.

    Returns:
        A `Bound`; not tight.

    Raises:
        ValueError: a negative loss or complexity, c that is not positive, N below 1, δ outside (0, 1).

    Source: T5.R25; Bartlett and Mendelson 2002; Mohri, Rostamizadeh and Talwalkar, *Foundations of Machine
    Learning*, 2nd ed. 2018, theorem 3.3, there for c = 1.
    """
    _check(complexity=complexity, ceiling=ceiling, samples=samples, delta=delta, training=training)
    if empirical:
        deviation = 3 * ceiling * math.sqrt(math.log(2 / delta) / (2 * samples))
    else:
        deviation = ceiling * math.sqrt(math.log(1 / delta) / (2 * samples))
    source = (
        f"Mohri, Rostamizadeh and Talwalkar 2018, theorem 3.3 ({'empirical' if empirical else 'expected'})"
    )
    return Bound(training, SYMMETRISATION * complexity, deviation, 1 - delta, ceiling, guess, source)


def minimiser_bound(
    *,
    best: float,
    complexity: float,
    ceiling: float,
    samples: int,
    delta: float | None = None,
    guess: float | None = None,
) -> Bound:
    r"""Bound the risk of a minimiser of the training loss by the least risk of the class.

    $$E\,L(\hat f) \le L^* + 2R_N,\qquad
    L(\hat f) \le L^* + 2R_N + c\sqrt{\frac{2\ln(2/\delta)}{N}}\ \text{ with probability } 1-\delta$$

    Args:
        best: L*, the least risk of the class.
        complexity: R_N of the losses, or a bound of it.
        ceiling: c.
        samples: N.
        delta: δ; None for the bound in expectation, which does not need c.
        guess: as `Bound` has it.

    Returns:
        A `Bound`; not tight.

    Raises:
        ValueError: as `uniform_bound`.

    Source: T5.R12, T5.R17, T5.R25; Bartlett and Mendelson 2002.
    """
    _check(complexity=complexity, ceiling=ceiling, samples=samples, delta=delta, training=best)
    deviation = 0.0 if delta is None else ceiling * math.sqrt(2 * math.log(2 / delta) / samples)
    confidence = None if delta is None else 1 - delta
    source = "symmetrisation; Bartlett and Mendelson 2002"
    return Bound(best, SYMMETRISATION * complexity, deviation, confidence, ceiling, guess, source)


def slow_rate(*, lipschitz: float, radius: float, trace: float, samples: int) -> linalg.Upper:
    r"""Bound the expected gap of a linear class: $E\sup(L-L_N) \le 2GB\sqrt{\mathrm{tr}\,\Sigma/N}$.

    Args:
        lipschitz: G, of the loss in the one output.
        radius: B, of w in Euclidean norm.
        trace: $\mathrm{tr}\,\Sigma = E\|x\|^2$; for updates in the range of an orthonormal P,
            $\mathrm{tr}(P^T\Sigma P)$.
        samples: N.

    Raises:
        ValueError: a negative or non-finite argument, N below 1.

    Source: T5.R20; Kakade, Sridharan and Tewari 2008.  The order is attained (T5.R13), the constant is not.
    """
    for name, value in (("lipschitz", lipschitz), ("radius", radius), ("trace", trace)):
        if not (value >= 0 and math.isfinite(value)):
            raise ValueError(f"{name}: got {value}, needs a finite number >= 0")
    if samples < 1:
        raise ValueError(f"samples: got {samples}, needs at least 1")
    return linalg.Upper(2 * lipschitz * radius * math.sqrt(trace / samples) * (1 + linalg.gamma(8)))


def over_radii(delta: float, norm: float, smallest: float) -> tuple[float, float]:
    r"""The radius and the share of δ for a class whose norm became known only after the fit.

    The bounds for the radii $B_j = 2^jb$, $j = 0, 1, \dots$, each with $\delta_j = \delta/((j+1)(j+2))$, hold
    all together with probability 1 − δ.  The first radius that the norm does not exceed may then be used.

    Args:
        delta: δ.
        norm: of what was fitted.
        smallest: b, chosen before the data.

    Returns:
        $B_j$ and $\delta_j$, to be given to `uniform_bound` as they are.

    Raises:
        ValueError: δ outside (0, 1), a norm that is negative or not finite, b that is not positive.

    Source: a union bound; $\sum_j 1/((j+1)(j+2)) = 1$.
    """
    if not 0 < delta < 1:
        raise ValueError(f"delta: got {delta}, needs a number between 0 and 1")
    if not (norm >= 0 and math.isfinite(norm) and smallest > 0 and math.isfinite(smallest)):
        raise ValueError(f"norm, smallest: got {norm} and {smallest}, needs a finite norm and smallest > 0")
    j = max(0, math.ceil(math.log2(norm / smallest))) if norm > 0 else 0
    j += smallest * 2.0**j < norm  # the logarithm is rounded
    return smallest * 2.0**j, delta / ((j + 1) * (j + 2))


def cross_entropy_ceiling(outputs: int, spread: float) -> linalg.Upper:
    r"""The largest cross-entropy of logits whose differences are at most a spread: $\ln(1+(m-1)e^{\Delta})$.

    Args:
        outputs: m.
        spread: Δ, a bound of $f_j - f_y$.  Of logits $f_0 + Dh$ with $\|D\|_F \le B$ it is that of f_0 plus
            $\sqrt2\,B\,\|h\|$.

    Raises:
        ValueError: fewer than two outputs, a spread that is negative or not finite.
    """
    if outputs < 2 or not (spread >= 0 and math.isfinite(spread)):
        raise ValueError(f"outputs, spread: got {outputs} and {spread}, needs two outputs and a spread >= 0")
    value = float(np.logaddexp(0.0, math.log(outputs - 1) + spread))
    return linalg.Upper(value * (1 + linalg.gamma(32)))


def clipped_cross_entropy(
    logits: Float[np.ndarray, "p m"], y: Int[np.ndarray, " p"], ceiling: float
) -> Float[np.ndarray, " p"]:
    r"""Cross-entropy of each example, cut at c: $\min(\ln\sum_je^{f_j} - f_y,\ c)$; √2-Lipschitz, in [0, c].

    Args:
        logits: f.
        y: labels.
        ceiling: c.
    """
    return np.minimum(logsumexp(logits, axis=1) - logits[np.arange(len(y)), y], ceiling)


def _check(*, complexity: float, ceiling: float, samples: int, delta: float | None, training: float) -> None:
    for name, value in (("complexity", complexity), ("loss", training)):
        if not (value >= 0 and math.isfinite(value)):
            raise ValueError(f"{name}: got {value}, needs a finite number >= 0")
    if not (ceiling > 0 and math.isfinite(ceiling)):
        raise ValueError(
            f"ceiling: got {ceiling}, needs a finite positive bound of the losses; clip them, or restrict "
            "the logits and use cross_entropy_ceiling"
        )
    if samples < 1:
        raise ValueError(f"samples: got {samples}, needs at least 1")
    if delta is not None and not 0 < delta < 1:
        raise ValueError(f"delta: got {delta}, needs a number between 0 and 1, such as 0.01")
