r"""The equations of Theorem 3 as the paper prints them, each with its judgement.

Equation 7 is the theorem and is printed again as 38; 31 to 37 are its proof.
"""

from __future__ import annotations

from fractions import Fraction

from .. import linalg
from ..claims import Claim, Control, Judgement, relation
from . import observed, observed_sweeps
from .comparisons import (
    admitted,
    bounded,
    enough,
    every_value,
    lipschitz,
    lipschitz_chain,
    printed_bound,
    with_chance,
)
from .instances import layers, quadratics, regressions, spectra
from .instances.layers import Challenged, DiagonalLayer
from .instances.quadratics import Distance, Quadratic, square
from .instances.regressions import Gap, Regression, gap_of
from .instances.spectra import Truncated

_IDENTITY = linalg.exact([1, 1, 1])
_HALF = Fraction(1, 2)


def identity(rank: int = 1, end: int | None = 1) -> Truncated:
    """ΔW* = I₃ with ε = 1/2: r_c = rank(Φ) = 1 fulfils (34) as printed, by an empty sum."""
    return Truncated(_IDENTITY, rank, _HALF, end)


def _steep() -> Distance:
    return Distance(identity())


def _tight() -> Distance:
    return Distance(Truncated(linalg.exact([2, 1]), 1, Fraction(5, 4)), Fraction(3))


def sloping() -> Quadratic:
    """A quadratic loss with a slope at the ideal update, rank 1 of 2."""
    update = Truncated(linalg.exact([3, 1]), 1, Fraction(2), None, (1, 2), (2, 1))
    return Quadratic(update, linalg.exact([[1, 2], [3, 4]]), linalg.exact([[1, 0], [0, -1]]))


def unequal_layer() -> DiagonalLayer:
    """ΔW* = diag(2, 1) in a layer whose second input is ten times the first, with the rival diag(0, 1)."""
    one = linalg.exact([[0], [1]])
    return DiagonalLayer(linalg.exact([2, 1]), linalg.exact([1, 10]), 1, one, one.T)


def _challenged() -> Challenged:
    update = Truncated(linalg.exact([2, 1]), 1, Fraction(2), None, (1, 2))
    return Challenged(update, linalg.exact([[1], [0]]), linalg.exact([[1, 0]]))


_THEOREM = {
    "theorem": "diminishing",
    "statement": (
        r"\mathcal{L}_{\mathcal{D}_{test}}(W+\Delta W_r) \le \mathcal{L}_{\mathcal{D}_{test}}(W+\Delta W^*) "
        r"+ L\sqrt{\epsilon} + O(\sqrt{r/N})"
    ),
    "judgement": Judgement.CONDITIONAL,
    "reason": (
        "true where r_c is repaired and L bounds the gradient on the segment, and then already without the "
        "last term"
    ),
    "plain": (
        "Truncating the ideal update to the critical rank is said to cost at most L√ε and a term that grows "
        "with the rank. The first term alone is enough: (36) holds for the test loss as it does for any "
        "other."
    ),
    "compare": printed_bound,
    "assumes": (enough, bounded),
    "exact": lambda: {"distance loss, where it is nearly attained": _tight(), "a quadratic loss": sloping()},
    "strategy": lambda: (quadratics.distances(), quadratics.quadratics()),
    "control": Control(
        "r_c with the sum up to rank(ΔW*): replaced by (34) as printed",
        exact=_steep,
        assumes=(admitted, bounded),
        strategy=lambda: quadratics.distances(any_rank=True),
    ),
    "observe": observed.segments_of_test_loss,
}

CLAIMS = (
    Claim(id="T3.7", equation="7", repaired_by=("T3.R3", "T3.R4", "T3.R18"), **_THEOREM),
    Claim(
        id="T3.31",
        theorem="diminishing",
        equation="31",
        statement=(
            r"\Delta W^* = U\Sigma V^T = \sum_{i=1}^{r_c}\sigma_iu_iv_i^T,\quad "
            r"\sigma_1\ge\dots\ge\sigma_{r_c}\ge0"
        ),
        judgement=Judgement.ILL_POSED,
        reason=(
            "the limit must be rank(ΔW*); r_c is the critical rank of (34), and were it the rank, nothing "
            "would be left to truncate"
        ),
        plain=(
            "One symbol stands for two numbers: the rank of the ideal update, and the smaller rank that is "
            "enough. With the first reading the theorem is empty, with the second the equation is false."
        ),
        compare=relation(lambda i: i.squared_distance, "==", lambda i: 0 * i.squared_distance),
        assumes=(admitted,),
        repaired_by=("T3.R1",),
        exact=lambda: {"ΔW* = I₃, r_c = rank(Φ) = 1, ε = 1/2": identity()},
        worked=(
            "ΔW* = I₃ with rank(Φ) = 1 and ε = 1/2: r_c = 1 fulfils (34), whose sum is empty.  The sum over "
            "i ≤ 1 is one unit matrix e₁e₁ᵀ, and its squared distance from I₃ is 2, not 0."
        ),
        strategy=spectra.updates,
        observe=observed.printed_ranks,
    ),
    Claim(
        id="T3.32",
        theorem="diminishing",
        equation="32",
        statement=r"\Delta W_r = \sum_{i=1}^{r}\sigma_iu_iv_i^T \text{, the best approximation of rank } r",
        judgement=Judgement.TRUE,
        reason=(
            "the theorem of Eckart and Young; it is the nearest update, and not the one with the least loss"
        ),
        plain=(
            "No matrix of rank r is nearer to the ideal update than its truncated decomposition. True, in "
            "the Frobenius norm. For the loss of a layer whose inputs are not alike in size another one is "
            "better."
        ),
        compare=relation(lambda i: i.plain, "<=", lambda i: i.challenge),
        repaired_by=("T3.R8",),
        exact=lambda: {"diag(2, 1), turned, against the unit matrix e₁e₁ᵀ": _challenged()},
        worked=(
            "ΔW* = diag(2, 1) and the loss ‖(D − ΔW*) diag(1, 10)‖²_F: the truncation diag(2, 0) has the "
            "loss 100, while diag(0, 1), also of rank 1, has 4."
        ),
        strategy=layers.challenges,
        control=Control(
            "the distance: replaced by the loss of a layer with inputs of unequal size",
            exact=unequal_layer,
            strategy=layers.diagonal_layers,
        ),
        observe=observed.trained_rivals,
    ),
    Claim(
        id="T3.33",
        theorem="diminishing",
        equation="33",
        statement=r"\|\Delta W^*-\Delta W_r\|_F^2 = \sum_{i=r+1}^{r_c}\sigma_i^2",
        judgement=Judgement.CONDITIONAL,
        reason="true if the sum ends at rank(ΔW*), as (31) wants r_c to be; not for the r_c of (34)",
        plain="What the truncation leaves out are the other singular values, all of them.",
        compare=relation(lambda i: i.squared_distance, "==", lambda i: i.printed_tail),
        assumes=(every_value,),
        repaired_by=("T3.R1",),
        exact=lambda: {"I₃ at rank 1, the sum up to 3": identity(1, 3)},
        strategy=lambda: (spectra.updates(whole=True), spectra.gaussians()),
        control=Control(
            "that r_c is the rank of ΔW*: dropped",
            exact=lambda: identity(0, 1),
            strategy=spectra.updates,
        ),
        observe=observed.decomposed,
    ),
    Claim(
        id="T3.34",
        theorem="diminishing",
        equation="34",
        statement=r"\sum_{i=r_c+1}^{rank(\Phi)}\sigma_i^2 < \epsilon",
        judgement=Judgement.ILL_POSED,
        reason=(
            "no definition, since no smallest r_c is taken; and with a sum that ends at rank(Φ) it says "
            "nothing of what Φ cannot reach"
        ),
        plain=(
            "The critical rank is meant to leave less than ε of the ideal update. As printed the sum ends at "
            "the rank of Φ, is empty there, and any Φ fulfils it."
        ),
        compare=relation(lambda i: i.squared_distance, "<", lambda i: i.eps),
        assumes=(admitted,),
        repaired_by=("T3.R2",),
        exact=lambda: {"ΔW* = I₃, rank(Φ) = r_c = 1, ε = 1/2": identity()},
        worked=(
            "ΔW* = I₃, rank(Φ) = 1, ε = 1/2: with r_c = 1 the sum runs from 2 to 1 and is empty, 0 < 1/2.  "
            "But ‖I₃ − D‖²_F ≥ 2 for every D of rank 1, and (36) fails too: √2 > √(1/2) for the loss ‖D − "
            "I₃‖_F."
        ),
        strategy=spectra.updates,
        observe=observed.printed_ranks,
    ),
    Claim(
        id="T3.35",
        theorem="diminishing",
        equation="35",
        statement=r"|\mathcal{L}(W+\Delta W_1)-\mathcal{L}(W+\Delta W_2)| \le L\|\Delta W_1-\Delta W_2\|_F",
        judgement=Judgement.CONDITIONAL,
        reason=(
            "smooth and continuous is not enough: w² has no constant for all of ℝ; true where L bounds the "
            "gradient on the segment"
        ),
        plain=(
            "A smooth loss is said to be Lipschitz. On a bounded set it is; the constant depends on the set. "
            "Cross-entropy of a linear layer is so everywhere, with √2 times the mean norm of its inputs."
        ),
        compare=lipschitz,
        assumes=(bounded,),
        repaired_by=("T3.R3",),
        exact=lambda: {"w² between 0 and 2, L = 4": Quadratic(square(1).update, linalg.exact([[2]]))},
        worked="l(w) = w²: between 0 and L + 1 it changes by (L + 1)², more than L (L + 1), for every L.",
        strategy=lambda: (quadratics.claimed_constants(), quadratics.quadratics()),
        control=Control(
            "that L bounds the gradient on the segment: dropped",
            exact=lambda: square(1),
            strategy=quadratics.claimed_constants,
        ),
        observe=observed.segments,
    ),
    Claim(
        id="T3.36",
        theorem="diminishing",
        equation="36",
        statement=(
            r"|\mathcal{L}(W+\Delta W^*)-\mathcal{L}(W+\Delta W_r)| \le L\|\Delta W^*-\Delta W_r\|_F \le "
            r"L\sqrt{\epsilon}"
        ),
        judgement=Judgement.CONDITIONAL,
        reason="true with the repaired (34), and (35) on the segment; attained by the loss L‖D − ΔW*‖",
        plain="Beyond the critical rank the loss is within L√ε of that of the ideal update.",
        compare=lipschitz_chain,
        assumes=(enough, bounded),
        repaired_by=("T3.R4",),
        exact=lambda: {"distance loss": _tight(), "a quadratic loss": sloping()},
        strategy=lambda: (quadratics.distances(), quadratics.quadratics()),
        control=Control(
            "r_c with the sum up to rank(ΔW*): replaced by (34) as printed",
            exact=_steep,
            assumes=(admitted, bounded),
            strategy=lambda: quadratics.distances(any_rank=True),
        ),
        observe=observed.segments,
    ),
    Claim(
        id="T3.37",
        theorem="diminishing",
        equation="37",
        statement=(
            r"\mathcal{L}_{\mathcal{D}_{test}}(W+\Delta W_r)-\mathcal{L}_{\mathcal{D}_{train}}(W+\Delta W_r) "
            r"\propto \sqrt{r/N}"
        ),
        judgement=Judgement.FALSE,
        reason=(
            "proportional to nothing of the kind: with y = 0 the gap is 0 for every r, and in Gaussian "
            "regression it grows faster than r"
        ),
        plain=(
            "Test loss minus training loss is said to be proportional to √(r/N). With nothing to fit it is "
            "0. As an upper bound the rate lacks the sides of the matrix, and applies to fitted updates "
            "only."
        ),
        compare=with_chance(lambda i: i.gap, "==", lambda i: i.claimed),
        repaired_by=("T3.R10", "T3.R18"),
        exact=lambda: {
            "y = 0, ΔW_r = 0, any c, here 1": Gap(Fraction(0), 1, 10, Fraction(1)),
            "Gaussian regression, N = 10: rank 4 against rank 1": gap_of(
                Regression(linalg.exact([1, 0, 0, 0, 0]), 1, 10, Fraction(1)), 4
            ),
        },
        worked=(
            "y = 0 and ΔW_r = 0: both losses are 0 for every r and N, and no c > 0 gives that.  Least "
            "squares with r Gaussian features, N = 10 and noise 1: the expected gap is r/(N − r − 1) + r/N, "
            "which is 9/40 for r = 1 and 6/5 for r = 4.  Their ratio is 16/3, where √4 = 2 is claimed."
        ),
        strategy=regressions.gaps,
        observe=observed_sweeps.sweep_gaps,
        along="rank",
    ),
    Claim(id="T3.38", equation="38", repaired_by=("T3.R4", "T3.R11", "T3.R18"), **_THEOREM),
)
