r"""What is exact: marginal benefits, the crossover, given inputs, and what is left of (11) and (15).

The risks themselves, T5.R1, R2, R8 and R9, are compared with draws in `claims_draws`.
"""

from __future__ import annotations

from collections.abc import Callable
from fractions import Fraction

from .. import linalg
from ..claims import Assumption, Claim, Comparison, Control, Judgement, MissingIngredient, relation
from .claims_words import misspecified
from .comparisons import bounded_by, judged, noisy, sums
from .instances import designs, regressions, samples
from .instances.designs import Design
from .instances.regressions import Interpolating, Regression
from .instances.samples import Listed, Means


def _marginals(i: Regression) -> list[Fraction]:
    return [i.model.full.marginal(i.samples), i.model.peft.marginal(i.samples)]


def _late_marginals(i: Regression) -> list[Fraction]:
    """With N − p and N − p + 1 in place of N − p − 1 and N − p."""
    return [
        v * p / Fraction((i.samples - p) * (i.samples - p + 1))
        for v, p in zip(i.bests, (i.d, i.k), strict=True)
    ]


def _quotients(i: Regression) -> list[Fraction]:
    if not i.noise:
        raise MissingIngredient("σ = 0: full fine-tuning gains nothing, and there is no ratio; R5 needs none")
    return [peft / full for full, peft in map(i.gains_at, i.ladder)]


def _between(limit: Callable[[Regression], Fraction]) -> Callable[[Regression], Comparison]:
    """Limit · (1 − (d − k)/(N − k − 1))² < quotient < limit, at N and far beyond: so it is the limit."""

    def compare(i: Regression) -> Comparison:
        quotients, top = _quotients(i), limit(i)
        below = [top * (1 - Fraction(i.d - i.k, n - i.k - 1)) ** 2 for n in i.ladder]
        return Comparison([*below, *quotients], "<", [*quotients, *[top] * len(quotients)])

    return compare


def _gains_more(i: Regression) -> list[int]:
    return [int(peft > full) for full, peft in map(i.gains_at, i.far)]


def _peft_risks(i: Regression) -> list[Fraction]:
    return [i.risks_at(n)[1] for n in i.neighbours]


def _full_risks_and_lead(i: Regression, earlier: int = 0) -> list[Fraction]:
    """R_full and what has the sign of N − N*; without b, where N* is infinite, that of −(d − k)σ²."""
    star = i.bias * (i.model.crossover - earlier) if i.bias else (i.d - i.k) * i.noise
    return [
        i.risks_at(n)[0] + (n - 1) * (i.bias * n - star) / Fraction((n - i.d - 1) * (n - i.k - 1))
        for n in i.neighbours
    ]


def _long_design() -> Design:
    X = linalg.exact([[1, 0], [1, 1], [0, 2], [1, -1]])
    return Design(X, linalg.exact([[1], [1]]), linalg.exact([1, -1]), Fraction(1))


def _repeated() -> Design:
    """The second column of X is twice the first: two parameters, one direction."""
    X = linalg.exact([[1, 2], [1, 2], [2, 4]])
    return Design(X, linalg.exact([[1, 0], [0, 1]]), linalg.exact([1, 1]), Fraction(1))


def _plain_design() -> Design:
    X = linalg.exact([[1, 0], [1, 1], [0, 2], [1, -1]])
    return Design(X, linalg.exact([[1, 0], [0, 1]]), linalg.exact([1, -1]), Fraction(1))


def _two_hypotheses() -> Listed:
    return Listed(linalg.exact([[0, 1], [2, 0]]), 1, 1)


def _turn() -> Interpolating:
    return Interpolating(20, Fraction(1), Fraction(1), 15)


CLAIMS = (
    Claim(
        id="T5.R3",
        theorem="marginal",
        statement=r"R(N)-R(N+1) = \frac{v\,p}{(N-p-1)(N-p)}",
        judgement=Judgement.TRUE,
        reason="the difference of R1 and R2, with p = d, v = σ² and p = k, v = σ² + b²",
        plain=(
            "What one more example is worth: of the order p/N², not p N^(−3/2). It grows with the "
            "parameters and with the noise, and falls with every example."
        ),
        compare=relation(lambda i: i.gains, "==", _marginals),
        exact=lambda: {"σ² = 1, b² = 9, d = 4, k = 1, N = 10: 4/30 and 10/72": misspecified()},
        strategy=regressions.regressions,
        control=Control(
            "the factors: N − p and N − p + 1",
            exact=misspecified,
            compare=relation(lambda i: i.gains, "==", _late_marginals),
        ),
    ),
    Claim(
        id="T5.R4",
        theorem="marginal",
        statement=(
            r"\Big(1-\frac{d-k}{N-k-1}\Big)^2 l < \frac{\Delta R_{peft}(N)}{\Delta R_{full}(N)} = "
            r"l\,\frac{(N-d-1)(N-d)}{(N-k-1)(N-k)} < l,\quad l = \Big(1+\frac{b^2}{\sigma^2}\Big)\frac kd"
        ),
        judgement=Judgement.TRUE,
        reason="both factors lie below 1 and rise to it: a strict bound, and the limit for N → ∞",
        plain=(
            "The ratio that the paper is after. If PEFT misses nothing it is below k/d at every N; what it "
            "misses raises it. Judged at N and at sample sizes far beyond, so that the limit is pinned from "
            "both sides."
        ),
        compare=_between(lambda i: i.model.limit),
        assumes=(noisy,),
        exact=lambda: {
            "b = 0, d = 2, k = 1, N = 4: 1/6 below 1/2": Regression(2, 1, Fraction(1), Fraction(0), 4),
            "σ² = 1, b² = 9, d = 4, k = 1, N = 10: 25/24 below 5/2": misspecified(),
        },
        strategy=lambda: regressions.regressions(noiseless=False),
        control=Control(
            "what PEFT misses: left out, k/d",
            exact=misspecified,
            compare=_between(lambda i: Fraction(i.k, i.d)),
            assumes=(noisy,),
        ),
    ),
    Claim(
        id="T5.R5",
        theorem="marginal",
        statement=(
            r"\Delta R_{peft}(N) > \Delta R_{full}(N) \text{ for all large } N \iff "
            r"\frac{b^2}{\sigma^2} > \frac dk - 1"
        ),
        judgement=Judgement.TRUE,
        reason="the limit of R4 exceeds 1; then from N = k + 1 + 2(d − k)l/(l − 1) on, else nowhere",
        plain="PEFT gains more from an example once there are many, exactly if it misses enough.",
        compare=relation(_gains_more, "==", lambda i: [int(i.model.peft_gains_more)] * len(i.far)),
        exact=lambda: {
            "b² = 9σ², d = 4, k = 1: more": misspecified(),
            "the boundary, b² = 3σ²: never": Regression(4, 1, Fraction(1), Fraction(3), 10),
        },
        strategy=regressions.regressions,
        control=Control(
            "the threshold: d/k",
            exact=lambda: Regression(4, 1, Fraction(1), Fraction(4), 10),
            compare=relation(_gains_more, "==", lambda i: [int(i.k * i.bias > i.d * i.noise)] * len(i.far)),
        ),
    ),
    Claim(
        id="T5.R6",
        theorem="marginal",
        statement=(r"N\ge d+2:\quad R_{full}(N) < R_{peft}(N) \iff N > N^* = d+1+(d-k)\frac{\sigma^2}{b^2}"),
        judgement=Judgement.TRUE,
        reason="cross-multiplied: σ²(d − k) < b²(N − d − 1)",
        plain=(
            "Where full fine-tuning overtakes. More noise moves it up, a larger misspecification down; with "
            "b = 0 there is none. The paper sees LoRA ahead below 20 examples per class, both alike at 20 "
            "and full fine-tuning ahead above: of the same kind, but far below N = d + 2, where this begins. "
            "Judged at the whole numbers next to N*, ties included: R_peft is R_full plus a term with the "
            "sign of N − N*."
        ),
        compare=relation(_peft_risks, "==", _full_risks_and_lead),
        exact=lambda: {
            "σ² = b² = 1, d = 2, k = 1: a tie at N* = 4, both risks are 3": Regression(
                2, 1, Fraction(1), Fraction(1), 4
            ),
            "σ² = 2, b² = 3, d = 4, k = 2: N* = 19/3": Regression(4, 2, Fraction(2), Fraction(3), 7),
            "b = 0: no crossover": Regression(2, 1, Fraction(1), Fraction(0), 4),
        },
        strategy=regressions.regressions,
        control=Control(
            "N*: less by one",
            exact=lambda: Regression(2, 1, Fraction(1), Fraction(1), 4),
            compare=relation(_peft_risks, "==", lambda i: _full_risks_and_lead(i, 1)),
        ),
    ),
    Claim(
        id="T5.R7",
        theorem="marginal",
        statement=r"E\,\mathcal{L}_N(\hat\theta_N) = \sigma^2\,\frac{N-d}{N} \text{ for inputs of rank } d",
        judgement=Judgement.TRUE,
        reason="the residual lies in N − d directions; for any inputs, any noise of covariance σ²I",
        plain=(
            "The loss on the sample lies below the best loss in the class by σ²d/N, however long one trains. "
            "Exact, over all signs of the noise. For PEFT on Gaussian data it is (σ² + b²)(N − k)/N: T5.R8."
        ),
        compare=judged(lambda i: i.training, "==", lambda i: i.claimed),
        assumes=(
            Assumption(
                "independent inputs: rank X = d", lambda i: (i.exact.rank == i.P.shape[1], i.exact.rank)
            ),
        ),
        exact=lambda: {"four inputs in two dimensions: σ²/2": _plain_design()},
        strategy=lambda: designs.designs(full=True),
        control=Control("rank X = d: dropped", exact=_repeated),
    ),
    Claim(
        id="T5.R10",
        theorem="marginal",
        statement=(
            r"N\le p-3:\quad R(N)-R(N+1) = \frac{\|\theta_T\|^2}{p} - "
            r"(\sigma^2+\|\theta_{T^c}\|^2)\,\frac{p-1}{(p-N-1)(p-N-2)}"
        ),
        judgement=Judgement.TRUE,
        reason="differences of the parts of R9; the second is negative and outweighs the first near N = p",
        plain=(
            "With fewer examples than parameters one more example may do harm, and helps by at most "
            "‖θ_T‖²/p. So PEFT, in the regime of R2, gains more from an example than full fine-tuning below "
            "d if (N − k)² ≤ dk(σ² + b²)/‖θ*‖², or if there is as much noise as signal; with little noise it "
            "may gain less."
        ),
        compare=relation(lambda i: i.differences, "==", lambda i: i.marginals),
        exact=lambda: {
            "p = 20, N = 15, ‖θ‖ = σ = 1: −23/15": _turn(),
            "p = 10⁶, N = 1000, ‖θ‖ = σ = 1: −2 · 10⁻⁹": Interpolating(10**6, Fraction(1), Fraction(1), 1000),
        },
        strategy=regressions.interpolations,
        control=Control(
            "the sign: a marginal benefit is not negative",
            exact=_turn,
            compare=relation(lambda i: i.differences[2], ">=", lambda i: 0),
        ),
    ),
    Claim(
        id="T5.R11",
        theorem="marginal",
        statement=(
            r"\tfrac1N E\|X(\hat\theta-\theta^*)\|^2 = \tfrac1N\big(\sigma^2\,\mathrm{rank}(XP) + "
            r"\|(I-\Pi_{XP})X\theta^*\|^2\big)"
        ),
        judgement=Judgement.TRUE,
        reason="Pythagoras on the inputs as they are; any noise of covariance σ²I, here all of its signs",
        plain=(
            "On given inputs, such as the tangent features of a network, without any distribution: the rank "
            "of what is seen counts, not the number of parameters. Exact, over all signs of the noise."
        ),
        compare=judged(lambda i: i.excess, "==", lambda i: i.exact.excess),
        exact=lambda: {
            "four inputs, one direction of two": _long_design(),
            "two parameters, one direction": _repeated(),
        },
        strategy=designs.designs,
        control=Control(
            "the rank: replaced by the number of parameters",
            exact=_repeated,
            compare=judged(lambda i: i.excess, "==", lambda i: i.counted),
        ),
    ),
    Claim(
        id="T5.R12",
        theorem="marginal",
        statement=(
            r"E\,\mathcal{L}(\hat\theta_N) \le E[\mathcal{L}(\hat\theta_N)-\mathcal{L}_N(\hat\theta_N)] + "
            r"\mathcal{L}^*_{\mathcal{H}},\quad R_{full}\le A_{full}+E_{full},\ R_{peft}\le A_{peft}+E_{peft}"
        ),
        judgement=Judgement.TRUE,
        reason="E L_N(θ̂_N) ≤ E L_N(θ) = L(θ) for every fixed θ in the class",
        plain=(
            "What is left of (11) and (15): an upper bound in expectation, for every class and loss and "
            "every minimiser of the training loss."
        ),
        compare=bounded_by(lambda i: i.risks, lambda i: sums(i.gaps, i.bests)),
        exact=lambda: {
            "y = ±1, f = θ, N = 1: 2 ≤ 3": Means(linalg.exact([1, -1]), 1),
            "two hypotheses, two points": _two_hypotheses(),
        },
        strategy=lambda: (samples.lists(), samples.means()),
        control=Control(
            "that the training loss is minimised: dropped, it is maximised",
            exact=_two_hypotheses,
            compare=bounded_by(
                lambda i: [learned.risk for learned in i.careless],
                lambda i: sums([learned.gap for learned in i.careless], i.bests),
            ),
            strategy=samples.lists,
        ),
    ),
)
