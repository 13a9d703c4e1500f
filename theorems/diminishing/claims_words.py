r"""What the paper says of Theorem 3 in running text: T3.a to T3.e."""

from __future__ import annotations

from fractions import Fraction

import numpy as np

from .. import linalg
from ..claims import Assumption, Claim, Comparison, Control, Judgement, at_most, relation
from . import observed, observed_sweeps
from .comparisons import bounded, enough, less, no_more_than, with_chance
from .instances import determinants, quadratics, regressions, spectra
from .instances.determinants import Determinant
from .instances.quadratics import Distance
from .instances.regressions import Regression
from .instances.spectra import Truncated, planted

_INDEX = np.arange(1, 33)


def _exponential_found(i: spectra.Decaying) -> Comparison:
    found, law = i.verdict, i.verdict.closer
    shown = {"values": found.used}
    if law is not None:
        shown |= {"rate": law.rate, "low": law.interval[0], "high": law.interval[1], "misfit": law.misfit}
    return Comparison(i.exponential, "==", 1, statistics=shown | {"log evidence": found.log_evidence})


def _noisy(rate: float, seed: int) -> np.ndarray:
    return np.exp(-rate * _INDEX + 0.02 * np.random.default_rng(seed).normal(size=len(_INDEX)))


def _bound_rises(i: Distance) -> tuple[bool, str]:
    low, high = i.bounds
    return less(low, high), f"{float(low):.3g} < {float(high):.3g}"


def _bound_holds(i: Distance) -> tuple[bool, str]:
    pairs = list(zip(i.losses, i.bounds, strict=True))
    return not any(less(bound, loss) for loss, bound in pairs), "at both ranks"


def _before(i: Regression) -> tuple[bool, str]:
    return i.rank < i.critical, f"{i.rank} < {i.critical}"


def _smaller_gain(i: Determinant) -> Comparison:
    return at_most(
        i.gains[1:], i.gains[:-1], scale=getattr(i, "scale", None), operations=getattr(i, "operations", 8)
    )


def _saturating() -> Distance:
    update = Truncated(linalg.exact([3, 2, 1]), 1, Fraction(6))
    return Distance(update, larger=2)


def _plateau() -> Distance:
    return Distance(Truncated(linalg.exact([4, 2, 1]), 1, Fraction(6)), Fraction(2), 3)


CLAIMS = (
    Claim(
        id="T3.a",
        theorem="diminishing",
        statement=r"\sigma_i \approx O(e^{-\lambda i}),\quad \lambda > 0",
        judgement=Judgement.EMPIRICAL,
        reason="a remark on what updates look like; nothing in the theorem needs it",
        plain=(
            "The singular values of the ideal update are said to decay exponentially. That is looked at, "
            "layer by layer: exponential, a power law, neither, or too few values to tell."
        ),
        compare=_exponential_found,
        exact=lambda: {
            "σ_i = e^(−i/5), 32 values": planted(np.exp(-_INDEX / 5)),
            "the same with 2 % noise": planted(_noisy(0.2, 0)),
        },
        control=Control("the law: replaced by σ_i = i^(−1.2)", exact=lambda: planted(_INDEX**-1.2)),
        observe=observed.decays,
    ),
    Claim(
        id="T3.b",
        theorem="diminishing",
        statement=(
            r"\text{for Rank} \ge r_c \text{, more parameters do not significantly improve the optimum}"
        ),
        judgement=Judgement.CONDITIONAL,
        reason="true of the rank, V(r_c) − V(r) ≤ L√ε; the number of parameters is another matter",
        plain=(
            "Beyond the critical rank no larger rank gains more than L√ε, by (36). Read of parameters it is "
            "false: a diagonal update has fewer parameters than LoRA of rank 1, and full rank."
        ),
        compare=no_more_than,
        assumes=(enough, bounded),
        repaired_by=("T3.R7", "T3.R17"),
        exact=lambda: {"singular values 4, 2, 1, ε = 6": _plateau()},
        strategy=quadratics.distances,
        control=Control(
            "r ≥ r_c(ε): dropped",
            exact=lambda: Distance(Truncated(linalg.exact([4, 2, 1]), 0, Fraction(6)), larger=3),
            assumes=(bounded,),
            strategy=lambda: quadratics.distances(any_rank=True),
        ),
        observe=observed.further_ranks,
    ),
    Claim(
        id="T3.c",
        theorem="diminishing",
        statement=(
            r"\text{the first term is unchanged, the second approaches 0, the third increases: performance "
            r"plateaus or declines}"
        ),
        judgement=Judgement.FALSE,
        reason="a rising upper bound says nothing about the loss below it; and L√ε does not depend on r",
        plain=(
            "From a term of an upper bound that grows with the rank it is inferred that larger ranks do not "
            "help. A bound may rise while the loss falls. That no more than L√ε is left to gain is T3.b, and "
            "needs no third term; where the loss itself turns is known exactly for one model: T3.R13."
        ),
        compare=relation(lambda i: i.losses[1], ">=", lambda i: i.losses[0]),
        assumes=(
            Assumption("the bound holds", _bound_holds),
            Assumption("the bound rises", _bound_rises),
        ),
        repaired_by=("T3.R13",),
        exact=lambda: {"singular values 3, 2, 1 and L = ‖D − ΔW*‖: rank 1 to 2": _saturating()},
        worked=(
            "L(D) = ‖D − ΔW*‖_F with singular values 3, 2, 1, ε = 6, N = 100: the printed bound rises from "
            "√6 + 1/10 at rank 1 to √6 + √2/10 at rank 2, and the loss falls from √5 to 1."
        ),
        strategy=lambda: quadratics.distances(any_rank=True),
        observe=observed.rising_bounds,
    ),
    Claim(
        id="T3.d",
        theorem="diminishing",
        statement=(
            r"r < r_c:\ \text{increasing } r \text{ reduces both optimization and generalization errors}"
        ),
        judgement=Judgement.FALSE,
        reason=(
            "the generalization error rises by the paper's own third term, and in the exact model from rank "
            "0 on"
        ),
        plain=(
            "Below the critical rank both errors are said to fall. The gap between test and training loss, "
            "as in (37), rises with the rank there. The test loss itself, the sum of both, does fall in the "
            "exact model: T3.R13."
        ),
        compare=with_chance(lambda i: i.gaps[1], "<=", lambda i: i.gaps[0]),
        assumes=(Assumption("r < r_c", _before),),
        repaired_by=("T3.R13",),
        exact=lambda: {
            "σ₁² = 4, one output, N = 10, noise 1: rank 0 to 1": Regression(
                linalg.exact([4]), 1, 10, Fraction(1)
            )
        },
        worked=(
            "One singular value 2, one output, N = 10, σ² = 1: r_c = 1, as 4 · 9 > 4 + 1, and by (34) "
            "for every ε ≤ 4.  At rank 0 nothing is fitted and the gap is 0; at rank 1 it is 1/8 + 1/10 = "
            "9/40."
        ),
        strategy=regressions.regressions,
        observe=observed_sweeps.gaps_below,
        along="rank",
    ),
    Claim(
        id="T3.e",
        theorem="diminishing",
        statement=r"\text{the marginal benefit of rank diminishes: } V(r+1)-V(r+2) \le V(r)-V(r+1)",
        judgement=Judgement.FALSE,
        reason="for (det D − 1)² the first rank gains 0 and the second one everything",
        plain=(
            "The title of the theorem. It holds for the squared distance from the ideal update (T3.R16), and "
            "not for losses in general: a rank may be worth nothing before the next one is there. That "
            "little is left beyond the critical rank is T3.b."
        ),
        compare=_smaller_gain,
        repaired_by=("T3.R16",),
        exact=lambda: {"(det D − 1)² on 2 × 2 matrices": Determinant(2)},
        worked=(
            "L(D) = (det D − 1)² on 2 × 2 matrices: below rank 2 the determinant is 0, so V(0) = V(1) = 1, "
            "and V(2) = L(I) = 0.  The gains are 0 and then 1."
        ),
        strategy=determinants.determinants,
        observe=observed.gains,
    ),
)
