r"""The first half of Theorem 4's printed proof, with the theorem itself: (8) and (39) to (51), line by line.

The two halves of (8) are printed again as (45), (46) and (53).  Wherever the paper speaks of a change of the
loss it minimises (41), so that the change is the least value of the tilted quadratic: it is measured here.
"""

from __future__ import annotations

import numpy as np

from .. import linalg
from ..claims import Claim, Comparison, Control, Judgement, relation
from . import observed
from .comparisons import (
    balance,
    definite,
    in_range,
    independent,
    invertible,
    linear,
    no_higher_than_staying,
    no_rival_is_lower,
    quadratic,
    restricted_in_range,
    semidefinite,
    several,
)
from .instances import compositions, expansions, tilts
from .instances.compositions import scalar_lora, turned
from .instances.expansions import Expansion, cube
from .instances.tilted import Tilted, flat, plane, scalar, skewed


def _row_plus_column(i: Tilted) -> Comparison:
    """How many entries (row + column) times a column has: NumPy, too, makes a matrix of the sum."""
    summed = np.broadcast(i.gradient[None, :], i.disturbance[:, None])
    return Comparison(summed.shape[0], "==", 1)


def _bowl() -> Expansion:
    H = linalg.exact([[2, 1], [1, 3]])
    return Expansion(H, linalg.exact([1, -1]), linalg.exact([1, 2]), linalg.exact([-1, "1/2"]))


def _witnesses() -> dict[str, Tilted]:
    return {"H = 1, u = 1": scalar(1, 0, 1), "H = [[1, −1], [−1, 2]], u = (2, 1)": skewed((1, 0), (1, 1))}


_ENERGY = {
    "theorem": "sensitivity",
    "judgement": Judgement.FALSE,
    "compare": balance(lambda i: (i.least_full,), "==", lambda i: (i.step_energy / 2,)),
    "assumes": (definite,),
    "repaired_by": ("T4.R1", "T4.R16"),
    "exact": lambda: {"H = 1, ∇L = 0, ε = 1": scalar(1, 0, 1)},
    "strategy": tilts.tilts,
    "observe": observed.tilted,
}

CLAIMS = (
    Claim(
        id="T4.8a",
        equation="8",
        statement=r"\Delta\mathcal{L}_{full} \approx \tfrac12\Delta\theta^TH\Delta\theta",
        reason="the sign: re-adaptation lowers the disturbed loss by that amount, −½ΔθᵀHΔθ",
        plain=(
            "What full fine-tuning gains on the disturbed loss is printed as a loss. The printed number is "
            "positive, the change is negative. It would be the rise of the clean loss, from a stationary "
            "point, and for that the order of the theorem is reversed: T4.R16."
        ),
        worked=(
            "One parameter, H = 1, ∇L = 0, ε = 1: the disturbed loss D + D²/2 is least at D = −1, where it "
            "has changed by −1/2.  Printed is +1/2."
        ),
        **_ENERGY,
    ),
    Claim(
        id="T4.8b",
        theorem="sensitivity",
        equation="8",
        statement=(
            r"\Delta\mathcal{L}_{peft} \approx \tfrac12\epsilon_\parallel^TH_\Phi^+\epsilon_\parallel + "
            r"\epsilon_\perp^T\nabla_\theta\mathcal{L}"
        ),
        judgement=Judgement.FALSE,
        reason=(
            "with its types repaired (T4.53): the sign is that of (8a) again, and no step of PEFT sees ε_⊥"
        ),
        plain=(
            "As printed a matrix of k rows meets a vector of d entries. Read ε_∥ᵀP H_Φ⁺ Pᵀε_∥, and it is "
            "still false: steps within the range of P change the loss by amounts in which ε_⊥ does not "
            "occur."
        ),
        compare=balance(
            lambda i: (i.least_peft,), "==", lambda i: (i.parallel_restricted / 2, i.orthogonal_slope)
        ),
        assumes=(definite,),
        repaired_by=("T4.R2",),
        exact=lambda: {
            "a term that no step sees: H = I, P = e₁, ∇L = ε = e₂": plane((0, 1), (0, 1)),
            "the sign: H = P = 1, ∇L = 0, ε = 1": scalar(1, 0, 1),
        },
        worked=(
            "H = I₂, P = e₁, ∇L = ε = e₂: along e₁ the disturbed loss is D₁²/2, so PEFT stays and the "
            "change is 0.  Printed is 0 + e₂ᵀe₂ = 1.  H = P = 1, ∇L = 0, ε = 1: the change is −1/2, printed "
            "is 1/2."
        ),
        strategy=tilts.tilts,
        observe=observed.tilted,
    ),
    Claim(
        id="T4.39",
        theorem="sensitivity",
        equation="39",
        statement=(
            r"\theta'_{perturbed} = \arg\min_{\theta\in\Theta}\mathbb{E}_{(x,y)\sim D'}"
            r"[\mathcal{L}(f(x;\theta),y)]"
        ),
        judgement=Judgement.DEFINITION,
        reason=(
            "a definition, and not used again: it speaks of re-training on disturbed data, while the paper's "
            "experiments disturb the data of a model that stays as it is"
        ),
    ),
    Claim(
        id="T4.40",
        theorem="sensitivity",
        equation="40",
        statement=(
            r"\mathcal{L}(\delta+\Delta\delta) \approx \mathcal{L}(\delta)+\nabla_\delta\mathcal{L}(\delta)^T"
            r"\Delta\delta+\tfrac12\Delta\delta^TH\Delta\delta"
        ),
        judgement=Judgement.TRUE,
        reason="Taylor's expansion to second order; exact for quadratic losses, which is what is compared",
        plain=(
            "The loss is replaced by a quadratic one. For quadratic losses nothing is lost; for others the "
            "remainder is of third order in the step, and large steps are another matter."
        ),
        compare=relation(lambda i: i.change, "==", lambda i: i.predicted),
        assumes=(quadratic,),
        repaired_by=("T4.R33",),
        exact=lambda: {"a quadratic loss of two parameters": _bowl()},
        worked="L(δ) = δ³ at δ = 0: all that is kept of it is 0, but a step of 1 changes the loss by 1.",
        strategy=expansions.expansions,
        control=Control(
            "that the loss is quadratic: dropped",
            exact=cube,
            strategy=lambda: expansions.expansions(quadratic=False),
        ),
    ),
    Claim(
        id="T4.41",
        theorem="sensitivity",
        equation="41",
        statement=(
            r"\mathcal{L}(\delta+\Delta\delta) \approx "
            r"\mathcal{L}(\delta)+(\nabla_\delta\mathcal{L}(\delta)^T+\epsilon)\Delta\delta+\tfrac12\Delta\delta^TH\Delta\delta"
        ),
        judgement=Judgement.ILL_POSED,
        reason="a row plus a column: as it stands a d × d matrix, and d numbers where one loss is meant",
        plain=(
            "A slip: read (∇L + ε)ᵀ. Then it is the model of all that follows: a disturbance tilts the loss "
            "and leaves its curvature. That is exact for other labels in least squares, and not for other "
            "inputs."
        ),
        compare=_row_plus_column,
        assumes=(several,),
        repaired_by=("T4.R1", "T4.R33"),
        exact=lambda: {"two parameters, ∇L = (1, 2), ε = (3, 4)": plane((1, 2), (3, 4))},
        worked=(
            "∇L = (1, 2), ε = (3, 4): the row (1, 2) plus the column (3, 4)ᵀ is [[4, 5], [5, 6]].  Times "
            "Δδ = (1, 1)ᵀ it is (9, 11)ᵀ: two numbers for one loss."
        ),
        strategy=lambda: tilts.small(least=2),
    ),
    Claim(
        id="T4.42",
        theorem="sensitivity",
        equation="42",
        statement=(
            r"\nabla_{\Delta\delta}\left[(\nabla_\delta\mathcal{L}+\epsilon)^T\Delta\delta+\tfrac12\Delta\delta^TH\Delta\delta\right]=0"
        ),
        judgement=Judgement.TRUE,
        reason="where a smooth function is least its derivative vanishes",
        plain="The condition that is solved next: at its minimum the tilted quadratic has no slope.",
        compare=lambda i: Comparison(i.slopes, "==", 0 * i.slopes, i.slopes_size, i.operations),
        assumes=(semidefinite, in_range),
        exact=_witnesses,
        strategy=lambda: tilts.tilts(definite=False),
        control=Control(
            "the minimum over all steps: replaced by that over the steps of PEFT",
            compare=lambda i: Comparison(i.slopes_peft, "==", 0 * i.slopes_peft, i.slopes_size, i.operations),
            exact=lambda: plane((0, 0), (0, 1)),
        ),
        observe=observed.tilted,
    ),
    Claim(
        id="T4.43",
        theorem="sensitivity",
        equation="43",
        statement=(
            r"\nabla_\delta\mathcal{L}+\epsilon+H\Delta\delta=0 \Rightarrow "
            r"\Delta\delta=-H^{-1}(\nabla_\delta\mathcal{L}+\epsilon)"
        ),
        judgement=Judgement.CONDITIONAL,
        reason="needs H invertible; and H ≻ 0, or what is found is no minimum",
        plain=(
            "The step that re-adapts, in θ as in Φ. It exists where H is invertible, and is the best one "
            "where H is definite: for H = −1 it leads uphill."
        ),
        compare=no_rival_is_lower(full=True, peft=True),
        assumes=(definite, independent),
        repaired_by=("T4.R1", "T4.R2"),
        exact=_witnesses,
        worked="H = −1, u = 1: −H⁻¹u = 1 is stationary, but q(1) = 1 − 1/2 = 1/2 > 0 = q(0).",
        strategy=tilts.tilts,
        control=Control(
            "H ≻ 0: dropped; the step is to be no worse than staying",
            compare=no_higher_than_staying,
            assumes=(invertible,),
            exact=lambda: scalar(-1, 0, 1),
            strategy=tilts.indefinite,
        ),
        observe=observed.tilted,
    ),
    Claim(
        id="T4.44",
        theorem="sensitivity",
        equation="44",
        statement=r"\Delta\theta_{full}=-H^{-1}(\nabla_\theta\mathcal{L}+\epsilon)",
        judgement=Judgement.CONDITIONAL,
        reason="true for H ≻ 0; Hessians of networks are often singular (T4.b)",
        plain=(
            "(43) in all parameters. Where H is singular the pseudo-inverse takes the place of the inverse, "
            "if u lies in the range of H; if not, the tilted loss has no minimum."
        ),
        compare=no_rival_is_lower(full=True),
        assumes=(definite,),
        repaired_by=("T4.R1",),
        exact=_witnesses,
        worked=(
            "H = diag(1, 0), u = e₂: with H⁺ for the inverse that is missing the step is 0, yet −e₂ gains 1, "
            "and −t e₂ gains t."
        ),
        strategy=tilts.tilts,
        control=Control(
            "that H is invertible: dropped, and its pseudo-inverse taken",
            assumes=(semidefinite,),
            exact=lambda: flat((0, 1)),
            strategy=lambda: tilts.structured(kinds=("out of range",)),
        ),
        observe=observed.tilted,
    ),
    Claim(
        id="T4.45",
        equation="45",
        statement=r"\Delta\mathcal{L}_{full}\approx\tfrac12\Delta\theta^TH\Delta\theta",
        reason="the term of first order does not vanish: at the minimum it is −ΔθᵀHΔθ, twice as large",
        plain=(
            "The term of first order is dropped from (41). At (44) it is uᵀΔθ = −ΔθᵀHΔθ, so the change is "
            "−½ΔθᵀHΔθ. Dropping it is right for the clean loss (40) at a stationary point: T4.R16."
        ),
        worked=(
            "H = 1, ∇L = 0, ε = 1: Δθ = −1.  The first order is εΔθ = −1, the second ΔθHΔθ/2 = 1/2, "
            "together −1/2."
        ),
        **_ENERGY,
    ),
    Claim(
        id="T4.46",
        theorem="sensitivity",
        equation="46",
        statement=(
            r"\Delta\mathcal{L}_{full}\approx\tfrac12[-H^{-1}(\nabla_\theta\mathcal{L}+\epsilon)]^TH"
            r"[-H^{-1}(\nabla_\theta\mathcal{L}+\epsilon)]"
            r"=\tfrac12(\nabla_\theta\mathcal{L}+\epsilon)^TH^{-1}(\nabla_\theta\mathcal{L}+\epsilon)"
        ),
        judgement=Judgement.FALSE,
        reason="the algebra is right, what it starts from is (45): the sign is wrong",
        plain="(44) inserted into (45). The two forms are equal; the change of the loss is minus either.",
        compare=balance(lambda i: (i.least_full,), "==", lambda i: (i.tilt_full / 2,)),
        assumes=(definite,),
        repaired_by=("T4.R1",),
        exact=lambda: {"H = 2, ∇L = 1, ε = 1": scalar(2, 1, 1)},
        worked="H = 2, ∇L = ε = 1: 2D + D² is least at D = −1, where it is −1.  Printed is 4/(2 · 2) = 1.",
        strategy=tilts.tilts,
        observe=observed.tilted,
    ),
    Claim(
        id="T4.47",
        theorem="sensitivity",
        equation="47",
        statement=r"\Delta\mathcal{L}_{full}\approx\tfrac12\epsilon^TH^{-1}\epsilon",
        judgement=Judgement.FALSE,
        reason="(46) without ∇L, which (53) keeps: true only at a stationary point",
        plain=(
            "Only the disturbance is to be looked at, and ∇L is left out. But it occurs in a product with ε, "
            "and (53), which is compared with this line, still has it."
        ),
        compare=balance(lambda i: (i.tilt_full / 2,), "==", lambda i: (i.disturbance_full / 2,)),
        assumes=(definite,),
        repaired_by=("T4.R32",),
        exact=lambda: {"H = ∇L = ε = 1": scalar(1, 1, 1)},
        worked="H = ∇L = ε = 1: (46) is (1 + 1)²/2 = 2, and (47) is 1/2.",
        strategy=tilts.tilts,
        observe=observed.tilted,
    ),
    Claim(
        id="T4.48",
        theorem="sensitivity",
        equation="48",
        statement=r"\theta=\theta_0+g(\Phi),\quad g=P\Phi",
        judgement=Judgement.DEFINITION,
        reason="a definition: from here on g is linear, as it is for BitFit and LoRA with a frozen factor",
    ),
    Claim(
        id="T4.49",
        theorem="sensitivity",
        equation="49",
        statement=(
            r"\nabla_\Phi\mathcal{L}=\frac{\partial\mathcal{L}}{\partial\theta}\cdot\frac{\partial\theta}"
            r"{\partial\Phi}=\nabla_\theta\mathcal{L}\cdot P=P^T\nabla_\theta\mathcal{L}"
        ),
        judgement=Judgement.CONDITIONAL,
        reason="the chain rule for linear g; in general P is Dg(Φ) and changes with Φ",
        plain=(
            "The gradient in Φ. For a linear map it is Pᵀ∇L, and ∇L · P in the middle should be transposed, "
            "a slip. For LoRA there is no one P."
        ),
        compare=relation(lambda i: i.measured_gradient, "==", lambda i: i.printed_gradient),
        assumes=(linear,),
        repaired_by=("T4.R26",),
        exact=lambda: {"three parameters, two of them in Φ": turned()},
        worked="LoRA with θ = ba at b = a = 1 and L(θ) = θ: ∇_Φ L = (1, 1), but the linear part of ba is 0.",
        strategy=compositions.compositions,
        control=Control(
            "that g is linear: dropped, P the matrix of its linear part",
            exact=scalar_lora,
            strategy=lambda: compositions.compositions(linear=False),
        ),
        observe=observed.derivatives,
    ),
    Claim(
        id="T4.50",
        theorem="sensitivity",
        equation="50",
        statement=(
            r"H_\Phi=\nabla_\Phi^2\mathcal{L}=\left(\frac{\partial\theta}{\partial\Phi}\right)^T"
            r"\frac{\partial^2\mathcal{L}}{\partial\theta^2}\left(\frac{\partial\theta}{\partial\Phi}\right)"
            r"=P^THP"
        ),
        judgement=Judgement.CONDITIONAL,
        reason="true for linear g; for LoRA the term Σ (∇L)ᵢ∇²gᵢ is missing, which vanishes only with ∇L",
        plain=(
            "The curvature in Φ. A curved map adds to it, in proportion to the gradient: for LoRA the "
            "printed matrix is right only where ∇L = 0."
        ),
        compare=relation(lambda i: i.measured_hessian, "==", lambda i: i.printed_hessian),
        assumes=(linear,),
        repaired_by=("T4.R25",),
        exact=lambda: {"three parameters, two of them in Φ": turned()},
        worked="LoRA, θ = ba and L(θ) = θ: the Hessian in (b, a) is [[0, 1], [1, 0]], but H = 0.",
        strategy=compositions.compositions,
        control=Control(
            "that g is linear: dropped, P = Dg(Φ)",
            exact=scalar_lora,
            strategy=lambda: compositions.compositions(linear=False),
        ),
        observe=observed.derivatives,
    ),
    Claim(
        id="T4.51",
        theorem="sensitivity",
        equation="51",
        statement=r"\Delta\theta_{peft}=-PH_\Phi^+P^T(\nabla_\theta\mathcal{L}+\epsilon)",
        judgement=Judgement.CONDITIONAL,
        reason="true for H ⪰ 0 and Pᵀu in the range of H_Φ, which H ≻ 0 implies",
        plain=(
            "The best step within the range of P. The paper derives it from its equation 29, which is a "
            "bound of Theorem 2; (43) is meant, a slip."
        ),
        compare=no_rival_is_lower(peft=True),
        assumes=(semidefinite, restricted_in_range),
        repaired_by=("T4.R2",),
        exact=lambda: {
            "H = [[1, −1], [−1, 2]], P = e₁, u = (2, 1)": skewed((1, 0), (1, 1)),
            "H = diag(1, 0), P = e₁, u = e₁": flat((1, 0)),
        },
        worked="H = diag(1, 0), P = e₂, u = e₂: H_Φ = 0 and the step is 0, but −e₂ gains 1.",
        strategy=lambda: tilts.tilts(definite=False),
        control=Control(
            "Pᵀu ∈ range H_Φ: dropped",
            assumes=(semidefinite,),
            exact=lambda: flat((0, 1), 1),
            strategy=lambda: tilts.structured(kinds=("out of range",)),
        ),
        observe=observed.tilted,
    ),
)
