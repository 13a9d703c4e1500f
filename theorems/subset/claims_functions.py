r"""Repairs of Theorem 1, first part: families of functions, what is contained in what, and when strictly."""

from __future__ import annotations

from fractions import Fraction
from typing import Any

from .. import linalg
from ..claims import Assumption, Claim, Comparison, Control, Judgement
from . import families, logistic, lowrank, observed_functions, widths
from .comparisons import something_is_missed
from .families import LeastSquares, LinearModel, ReluNeuron
from .logistic import Logistic
from .lowrank import Samples
from .neutral import NeutralAdapter, NeutralPrefix, adapters
from .singular import DenseCurve, dense_curves
from .widths import AttentionScores, ReluNetwork, TanhNetwork


def _not_below_the_start(instance: Logistic) -> Comparison:
    return Comparison(instance.loss(instance.n), ">=", instance.loss(0))


def _contained(instance: Any) -> Comparison:
    if isinstance(instance.full, float):
        return Comparison(instance.full, "<=", instance.peft, instance.scale, instance.operations)
    return Comparison(instance.full, "<=", instance.peft)


def _nothing_missed(instance: ReluNeuron) -> Comparison:
    return Comparison(instance.missed, "==", 0)


def _dimension(relation: str, shift: int = 0) -> Any:
    def compare(instance: Any) -> Comparison:
        return Comparison(instance.rho, relation, instance.known - shift)

    return compare


def _unmoved(instance: Any) -> Comparison:
    if hasattr(instance, "scale"):
        return Comparison(instance.tuned, "==", instance.base, instance.scale, instance.operations)
    return Comparison(instance.tuned, "==", instance.base)


_below = Assumption("k < ρ_S", lambda i: (i.k < i.rho, f"{i.k} < {i.rho}"))
_definable = Assumption("g is definable", lambda i: (not isinstance(i, DenseCurve), "by its form"))
UNLUCKY = 2
"""A seed whose one draw has a dead unit."""
TRUE = Judgement.TRUE

CLAIMS = (
    Claim(
        id="T1.R1",
        theorem="subset",
        judgement=TRUE,
        statement=(
            r"L_\lambda(\theta) = L(\theta) + \tfrac\lambda2\|\theta\|^2 \ge L_\lambda(0) \text{ where } "
            r"\tfrac\lambda2\|\theta\|^2 \ge L(0),\ L \ge 0,\ \lambda > 0"
        ),
        reason="with a ridge all minimizers lie in a ball, where a continuous loss attains its minimum",
        plain="Weight decay makes the setting well-posed: a minimizer exists.",
        compare=_not_below_the_start,
        assumes=(Assumption("outside the ball", lambda i: i.outside),),
        exact=lambda: {"z = 1, λ = 1, w = 3 ln 2": Logistic((1,), Fraction(1), 3)},
        strategy=logistic.with_ridge,
        control=Control(
            "λ = 0",
            exact=lambda: Logistic((1,), Fraction(0), 1),
            strategy=lambda: logistic.with_ridge(ridges=(0, 0)),
        ),
    ),
    Claim(
        id="T1.R2",
        theorem="subset",
        judgement=Judgement.DEFINITION,
        statement=r"\mathcal{F}_{peft} = \{f(\cdot;\theta_0+g(\Phi)) : \Phi\in\mathbb{R}^k\}",
        reason="equation 3 as it was meant",
    ),
    Claim(
        id="T1.R3",
        theorem="subset",
        judgement=TRUE,
        statement=(
            r"\inf_{\mathcal{F}_{full}} J \le \inf_{\mathcal{F}_{peft}} J \text{ for every functional } J"
        ),
        reason=(
            "(a) the infimum over a larger set; the one order between the two that always holds, given (4)"
        ),
        plain="The best fully tuned network is at least as good as the best PEFT one, in any respect.",
        compare=_contained,
        exact=lambda: {
            "least squares, one of two coordinates": LeastSquares(
                linalg.exact([[1, 0], [0, 1]]), linalg.exact([1, 2]), (0,)
            )
        },
        strategy=families.least_squares,
        control=Control(
            "equation 4: dropped; the smaller family has a column of its own",
            exact=lambda: LeastSquares(
                linalg.exact([[1], [0]]), linalg.exact([0, 1]), (0,), linalg.exact([0, 1])
            ),
            strategy=lambda: families.least_squares(outside=True),
        ),
        observe=observed_functions.downhill,
    ),
    Claim(
        id="T1.R6",
        theorem="subset",
        judgement=TRUE,
        statement=r"k < \rho_S \Rightarrow \mathcal{F}_{peft}|_S \subsetneq \mathcal{F}_{full}|_S",
        reason=(
            "(c) the full family covers an open set of ρ_S coordinates, a Lipschitz image of ℝᵏ is null there"
        ),
        plain=(
            "With fewer parameters than the network has functional dimensions on the inputs, some function "
            "is lost. "
            "The threshold is sharp: w₂w₁x has functional dimension 1."
        ),
        compare=something_is_missed,
        assumes=(_below,),
        exact=lambda: {
            "two outputs, one matrix": LinearModel(linalg.exact([[1]]), (linalg.exact([[1], [0]]),))
        },
        strategy=families.linear_models,
        control=Control(
            "k < ρ_S: dropped (one input)",
            exact=lambda: LinearModel(linalg.exact([[1], [0]]), (linalg.exact([[1, 0]]),)),
        ),
        observe=observed_functions.strictness,
    ),
    Claim(
        id="T1.R7",
        theorem="subset",
        judgement=TRUE,
        statement=(
            r"w_2\,\mathrm{relu}(w_1x+b) = \rho\,\mathrm{relu}(\cos\varphi\,x+\sin\varphi),\ \rho = "
            r"w_2\|(w_1,b)\|"
        ),
        reason=(
            "positive homogeneity: each ReLU unit has one parameter too many, and giving it up loses nothing"
        ),
        plain="Weight-normalising ReLU units drops one parameter per unit and no function.",
        compare=_nothing_missed,
        exact=lambda: {"w₂ = −2, ρ = 3": ReluNeuron(-2, 3, Fraction(1, 3))},
        strategy=families.neurons,
        control=Control(
            "the unit keeps its length and w₂ = 1 is frozen instead: −relu(x) is lost",
            exact=lambda: ReluNeuron(-1, 1, Fraction(0), normalised=False),
            strategy=lambda: families.neurons(normalised=False),
        ),
    ),
    Claim(
        id="T1.R8",
        theorem="subset",
        judgement=TRUE,
        statement=r"\rho_S \le d - h \text{ for ReLU networks with } h \text{ hidden units}",
        reason="(e) each unit can be scaled up before and down behind: h directions of θ that move nothing",
        plain="A ReLU network has at most d − h functional dimensions, and well-spread inputs attain that.",
        compare=_dimension("<="),
        exact=lambda: {"1-2-1": ReluNetwork((1, 2, 1)), "2-3-1": ReluNetwork((2, 3, 1))},
        strategy=widths.relu_networks,
        control=Control(
            "one more for each unit",
            compare=_dimension("<=", 1),
            exact=lambda: ReluNetwork((1, 2, 1), draws=12),
        ),
    ),
    Claim(
        id="T1.R9",
        theorem="subset",
        judgement=TRUE,
        statement=(
            r"\max_\theta \mathrm{rank} = d - h \text{ (ReLU)},\ d \text{ (tanh), one hidden layer with "
            r"biases}"
        ),
        reason="attained at some θ; one random θ may have dead units and give less, so take several",
        plain="The bound is attained; tanh networks have no such symmetry and use all their parameters.",
        compare=_dimension("=="),
        exact=lambda: {
            "ReLU 1-2-1, 12 draws": ReluNetwork((1, 2, 1), draws=12),
            "ReLU 2-3-1, 12 draws": ReluNetwork((2, 3, 1), draws=12),
            "tanh 1-2-1": TanhNetwork((1, 2, 1)),
        },
        strategy=widths.tanh_networks,
        control=Control(
            "one draw in place of the maximum",
            exact=lambda: ReluNetwork((1, 2, 1), draws=1, seed=UNLUCKY),
            strategy=widths.relu_networks,
        ),
    ),
    Claim(
        id="T1.R10",
        theorem="subset",
        judgement=TRUE,
        statement=r"\mathrm{rank}\,D(W_QW_K^T) \le d - d_h^2,\quad d_h \le n",
        reason=(
            "(e) queries and keys enter as W_Q W_Kᵀ alone: an invertible d_h × d_h matrix can be moved across"
        ),
        plain="Each attention head has d_h² parameters too many.",
        compare=_dimension("<="),
        exact=lambda: {"width 3, head 2": AttentionScores(3, 2)},
        strategy=widths.attention_scores,
        control=Control("one more", compare=_dimension("<=", 1), exact=lambda: AttentionScores(3, 2)),
    ),
    Claim(
        id="T1.R16",
        theorem="subset",
        judgement=TRUE,
        statement=(
            r"p \le r \Rightarrow \exists\ \mathrm{rank}\,\Delta' \le r:\ \Delta'x_i = \Delta x_i,\ i = 1..p"
        ),
        reason="Δ' = ΔΠ with Π the projector on the span of the inputs, of rank at most p",
        plain=(
            "On no more inputs than the rank nothing is strict: with few data a verdict on functions is "
            "impossible."
        ),
        compare=lambda i: Comparison(i.needed, "<=", i.r),
        assumes=(Assumption("p ≤ r", lambda i: i.few),),
        exact=lambda: {
            "two inputs, rank 2": Samples(linalg.exact([[1, 2], [3, 4]]), linalg.exact([[1, 0], [0, 1]]), 2)
        },
        strategy=lowrank.samples,
        control=Control(
            "p ≤ r: dropped",
            exact=lambda: Samples(linalg.exact([[1, 2], [3, 4]]), linalg.exact([[1, 0], [0, 1]]), 1),
        ),
    ),
    Claim(
        id="T1.R17",
        theorem="subset",
        judgement=Judgement.CONDITIONAL,
        statement=r"\tilde f(\cdot;\theta,\Phi_0) = f(\cdot;\theta) \text{ for a neutral } \Phi_0",
        reason=(
            "F_full and F_peft are then slices of one larger family; an adapter has a neutral Φ₀, the zero "
            "prefix is none"
        ),
        plain=(
            "Methods that add parameters live in a larger family. With the added up-projection at zero an "
            "adapter "
            "changes nothing; a prefix of zeros still takes its share of the softmax."
        ),
        compare=_unmoved,
        assumes=(Assumption("the addition is neutral at zero", lambda i: (i.neutral, i.kind)),),
        exact=lambda: {"up-projection 0": NeutralAdapter(2, 3, 1)},
        strategy=adapters,
        control=Control("neutral: dropped", exact=lambda: NeutralPrefix(1, 1)),
        observe=observed_functions.untrained_extension,
        on_extensions=True,
    ),
    Claim(
        id="T1.R18",
        theorem="subset",
        judgement=TRUE,
        statement=(
            r"\min(k, \dim \mathrm{Im}\,g) < \rho_S,\ g, F_S \text{ definable} \Rightarrow "
            r"\inf_\Phi \|F_S(\theta) - F_S(\theta_0 + g(\Phi))\| > 0 \text{ for an open set of } \theta"
        ),
        reason="(d) the closure of a definable set has its dimension, so that a whole ball is missed",
        plain=(
            "With fewer dimensions than the network has, some functions cannot even be approximated. A curve "
            "through all rational points misses almost all of the plane, and comes arbitrarily near to all."
        ),
        compare=something_is_missed,
        assumes=(_below, _definable),
        exact=lambda: {
            "two outputs, one matrix": LinearModel(linalg.exact([[1]]), (linalg.exact([[1], [0]]),))
        },
        strategy=families.linear_models,
        control=Control(
            "definable: dropped; a locally Lipschitz curve with k = 1 < 2 that passes through the target",
            exact=lambda: DenseCurve((Fraction(1, 2), Fraction(-2, 3)), 6),
            assumes=(_below,),
            strategy=dense_curves,
        ),
    ),
)
