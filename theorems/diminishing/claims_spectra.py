r"""Repairs that speak of the spectrum: tails, the critical rank, its closed forms, gains, and counts."""

from __future__ import annotations

from fractions import Fraction
from typing import Any

from .. import linalg
from ..claims import Claim, Comparison, Control, Judgement, at_most, relation
from . import observed
from .claims_printed import identity, unequal_layer
from .comparisons import bounded_by, rank_limited
from .instances import layers, quadratics, spectra
from .instances.determinants import Determinant, determinants
from .instances.layers import TwoMethods
from .instances.quadratics import Gains
from .instances.spectra import Geometric, PowerLaw, Truncated

_TIE = Geometric(Fraction(1, 2), Fraction(1, 48))
_critical_is_counted = relation(lambda i: i.critical, "==", lambda i: i.count)
_ties_count = Control(
    "tail(r) < ε: replaced by tail(r) ≤ ε",
    exact=lambda: _TIE,
    compare=relation(lambda i: i.count_above, "==", lambda i: i.count),
)


def _turned() -> Truncated:
    return Truncated(linalg.exact([3, 2, 1]), 1, Fraction(5), 2, (1, 2, 2), (2, 1, 0))


def _bracketed(i: PowerLaw) -> Comparison:
    low, high = i.brackets
    return at_most([low, i.count, high - low], [i.count, high, 1])


def _counts_and_ranks(i: Any) -> Comparison:
    return Comparison([i.counts[0], i.ranks[1]], "<", [i.counts[1], i.ranks[0]])


CLAIMS = (
    Claim(
        id="T3.R1",
        theorem="diminishing",
        statement=(
            r"\|\Delta W^*-\Delta W_r\|_F^2 = \sum_{i=r+1}^{R}\sigma_i^2 = \mathrm{tail}(r),\quad R = "
            r"\mathrm{rank}(\Delta W^*)"
        ),
        judgement=Judgement.TRUE,
        reason="the rank-one terms are orthonormal",
        plain="Equations 31 and 33 with the limit that they need: the rank of the update itself.",
        compare=relation(lambda i: i.squared_distance, "==", lambda i: i.tail),
        exact=lambda: {"I₃ at rank 1: 2": identity(), "singular values 3, 2, 1, turned": _turned()},
        strategy=lambda: (spectra.updates(), spectra.gaussians()),
        control=Control(
            "the limit R: replaced by a smaller one",
            exact=_turned,
            compare=relation(lambda i: i.squared_distance, "==", lambda i: i.printed_tail),
            strategy=spectra.updates,
        ),
        observe=observed.decomposed,
    ),
    Claim(
        id="T3.R2",
        theorem="diminishing",
        statement=(
            r"r_c(\epsilon) = \min\{r \ge 0 : \mathrm{tail}(r) < \epsilon\} \text{ exists and } r_c \le R"
        ),
        judgement=Judgement.TRUE,
        reason="the tail falls, and is 0 at R: r_c is the number of ranks that are not enough",
        plain=(
            "The critical rank that (34) is after: the smallest rank within √ε of the ideal update. No decay "
            "is assumed. At a tie, tail(r) = ε, the strict inequality counts."
        ),
        compare=_critical_is_counted,
        exact=lambda: {
            "σ_i = 2^(−i), ε = 1/48 = tail(2): 3": _TIE,
            "singular values 2, 1 and ε = 1 = tail(1): 2": Truncated(linalg.exact([2, 1]), 0),
        },
        strategy=lambda: (spectra.updates(), spectra.gaussians()),
        control=Control(_ties_count.broken, _ties_count.exact, _ties_count.compare, strategy=spectra.updates),
        observe=observed.layer_ranks,
        detail=lambda i: i.rows(),
    ),
    Claim(
        id="T3.R8",
        theorem="diminishing",
        statement=(
            r"D_r = [\Delta W^*\Sigma^{1/2}]_r\,\Sigma^{-1/2}:\ E\|(D_r-\Delta W^*)x\|^2 = "
            r"\sum_{i>r}\sigma_i(\Delta W^*\Sigma^{1/2})^2 \le E\|(D-\Delta W^*)x\|^2 \text{ if } "
            r"\mathrm{rank} D \le r"
        ),
        judgement=Judgement.TRUE,
        reason="Eckart and Young for ΔW*Σ^(1/2), since E‖(D − ΔW*)x‖² is a squared distance there",
        plain=(
            "The best update of rank r for a linear layer: truncate in the coordinates in which its inputs "
            "are alike in all directions. Truncating the update itself is worse, in the example 25 times."
        ),
        compare=bounded_by(lambda i: [i.reached, i.tail], lambda i: [i.tail, i.challenge]),
        exact=lambda: {"diag(2, 1), inputs of size 1 and 10: 4": unequal_layer()},
        strategy=lambda: (layers.diagonal_layers(), layers.layers()),
        control=Control(
            "whitening: dropped, the update itself is truncated",
            exact=unequal_layer,
            compare=relation(lambda i: i.plain, "<=", lambda i: i.challenge),
            strategy=layers.diagonal_layers,
        ),
        observe=observed.first_layer,
    ),
    Claim(
        id="T3.R14",
        theorem="diminishing",
        statement=(
            r"\sigma_i = Ce^{-\lambda i}:\ r_c = \max\{0, \lfloor-\ln a/(2\lambda)\rfloor+1\},\quad a = "
            r"\epsilon(1-q)/(C^2q)+q^R,\ q = e^{-2\lambda}"
        ),
        judgement=Judgement.TRUE,
        reason="a geometric sum, solved for r; an integer solution is a tie, and then one more is needed",
        plain=(
            "The critical rank of an exponential spectrum in closed form: ten times the accuracy costs "
            "1.15/λ ranks."
        ),
        compare=_critical_is_counted,
        exact=lambda: {
            "σ_i = 2^(−i), ε = 1/48: 3": _TIE,
            "R = 4, ε beyond the last value": Geometric(Fraction(1, 2), Fraction(1, 1000), R=4),
        },
        strategy=spectra.geometrics,
        control=Control("one more at a tie: dropped", exact=lambda: _TIE, compare=_ties_count.compare),
    ),
    Claim(
        id="T3.R15",
        theorem="diminishing",
        statement=(
            r"\sigma_i = Ci^{-p},\ p > \tfrac12:\ \lfloor s\rfloor \le r_c \le \lfloor "
            r"s+\tfrac12\rfloor,\quad s = (C^2/((2p-1)\epsilon))^{1/(2p-1)}"
        ),
        judgement=Judgement.TRUE,
        reason="the sum lies between an integral and the midpoint rule; also for R < ∞ with R + 1 and R + ½",
        plain="The critical rank of a power law, up to one: the tails at two neighbours decide.",
        compare=_bracketed,
        exact=lambda: {
            "1/i, ε = 0.6: 1 or 2, and it is 2": PowerLaw(1.0, 0.6),
            "ε = 0.645: 1": PowerLaw(1.0, 0.645),
        },
        strategy=spectra.power_laws,
        control=Control(
            "the half in the upper end: dropped",
            exact=lambda: PowerLaw(1.0, 0.6),
            compare=relation(lambda i: i.count, "<=", lambda i: i.turn),
        ),
    ),
    Claim(
        id="T3.R16",
        theorem="diminishing",
        statement=(
            r"\mathcal{L}(D) = \tfrac12\|D-\Delta W^*\|_F^2:\ V(r)-V(r+1) = \tfrac12\sigma_{r+1}^2, \text{ "
            r"which does not increase}"
        ),
        judgement=Judgement.TRUE,
        reason="V(r) = tail(r)/2",
        plain="For the squared distance from the ideal update the marginal benefit of rank does diminish.",
        compare=relation(lambda i: i.gains, "==", lambda i: i.halves),
        exact=lambda: {"singular values 3, 2, 1: 9/2, 2, 1/2": Gains(_turned())},
        strategy=quadratics.gains,
        control=Control(
            "the loss: replaced by (det D − 1)²", exact=lambda: Determinant(2), strategy=determinants
        ),
        observe=observed.distance_gains,
    ),
    Claim(
        id="T3.R17",
        theorem="diminishing",
        statement=(
            r"n \ge 2:\ \text{a diagonal update has } n \text{ parameters and rank } n,\ \text{LoRA } r = 1 "
            r"\text{ has } 2n \text{ and rank } 1"
        ),
        judgement=Judgement.CONDITIONAL,
        reason="rank and number of parameters order these two in opposite ways; not for n = 1",
        plain=(
            "Rank is no count of parameters. With half the parameters of LoRA of rank 1 a diagonal update "
            "has full rank; IA3 is of this kind."
        ),
        compare=_counts_and_ranks,
        assumes=(rank_limited,),
        exact=lambda: {"n = 2": TwoMethods(*(linalg.exact([1, 1]) for _ in range(3)))},
        strategy=layers.two_methods,
        control=Control(
            "n ≥ 2: dropped",
            exact=lambda: TwoMethods(*(linalg.exact([1]) for _ in range(3))),
            strategy=lambda: layers.two_methods(least=1),
        ),
    ),
)
