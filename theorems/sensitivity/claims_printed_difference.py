r"""Theorem 4's printed proof, (52) to (58), line by line; `claims_printed_squares` has the rest.

Where the types do not fit, $\epsilon_\parallel^T H_\Phi^+ \epsilon_\parallel$ is read as
$\epsilon_\parallel^T P H_\Phi^+ P^T \epsilon_\parallel$ (T4.53 judges the letter of it), and
$\epsilon_\parallel$ is the orthogonal projection onto the range of P.
"""

from __future__ import annotations

from dataclasses import replace

from .. import linalg
from ..claims import Claim, Comparison, Control, Judgement, relation
from . import observed
from .comparisons import balance, definite, fewer, orthonormal
from .instances import tilts
from .instances.tilted import Tilted, plane, scalar, skewed


def _leaning() -> Tilted:
    """P = (3, 4)/5 in the plane: orthonormal, and no unit vector."""
    P = linalg.exact([["3/5"], ["4/5"]])
    return replace(skewed((1, 2), (5, 5)), directions=P)


def _overlap(i: Tilted) -> Comparison:
    return Comparison(i.printed_overlap, "==", 0 * i.printed_overlap, i.printed_size, i.operations)


def _as_printed(i: Tilted) -> tuple:
    """The right side of (54)."""
    return (i.parallel_restricted / 2, i.orthogonal_slope, -i.disturbance_full / 2)


CLAIMS = (
    Claim(
        id="T4.52",
        theorem="sensitivity",
        equation="52",
        statement=(
            r"\epsilon=\epsilon_\parallel+\epsilon_\perp,\quad \epsilon_\parallel=PP^T\epsilon,\ "
            r"\epsilon_\perp=(I-PP^T)\epsilon"
        ),
        judgement=Judgement.CONDITIONAL,
        reason="PPᵀ projects orthogonally only if PᵀP = I; PP⁺ does for every P",
        plain=(
            "The disturbance is split into a part along the directions of PEFT and one orthogonal to them. "
            "As printed the two are orthogonal only for orthonormal directions, which no Jacobian need have."
        ),
        compare=_overlap,
        assumes=(orthonormal,),
        repaired_by=("T4.R30",),
        exact=lambda: {"P = (3, 4)/5, ε = (5, 5)": _leaning()},
        worked="P = [2], ε = 1: PPᵀε = 4 and ε − 4 = −3, whose product is −12.",
        strategy=lambda: tilts.tilts(orthonormal_only=True),
        control=Control(
            "PᵀP = I: dropped",
            exact=lambda: replace(scalar(1, 0, 1), directions=linalg.exact([[2]])),
            strategy=tilts.tilts,
        ),
    ),
    Claim(
        id="T4.53",
        theorem="sensitivity",
        equation="53",
        statement=(
            r"\Delta\mathcal{L}_{peft}\approx\tfrac12\epsilon_\parallel^TH_\Phi^+\epsilon_\parallel+"
            r"\epsilon_\perp^T\nabla_\theta\mathcal{L}"
        ),
        judgement=Judgement.ILL_POSED,
        reason="H_Φ⁺ has k rows and columns, ε_∥ has d entries; T4.8b judges what may have been meant",
        plain=(
            "The second half of (8). By (52) ε_∥ is a vector of all parameters, and a k × k matrix has no "
            "product with it. With the types repaired it is false as well: T4.8b."
        ),
        compare=relation(lambda i: i.k, "==", lambda i: i.d),
        assumes=(fewer,),
        repaired_by=("T4.R2",),
        exact=lambda: {"two parameters, P = e₁": plane((0, 1), (0, 1))},
        worked="d = 2, P = e₁: H_Φ⁺ is one number, ε_∥ a point of the plane.",
        strategy=lambda: tilts.small(least=2),
    ),
    Claim(
        id="T4.54",
        theorem="sensitivity",
        equation="54",
        statement=(
            r"\Delta\mathcal{L}_{peft}-\Delta\mathcal{L}_{full}=\tfrac12\epsilon_\parallel^TH_\Phi^+"
            r"\epsilon_\parallel+\epsilon_\perp^T\nabla_\theta\mathcal{L}-\tfrac12\epsilon^TH^{-1}\epsilon"
        ),
        judgement=Judgement.CONDITIONAL,
        reason="true as the difference of (53) and (47); neither of them is a change of the loss",
        plain=(
            "(47) is subtracted from (53). The subtraction is right. Both were false, and one of them has "
            "kept ∇L while the other has dropped it."
        ),
        compare=balance(lambda i: (i.printed_peft, -i.printed_full), "==", _as_printed),
        assumes=(definite,),
        repaired_by=("T4.R3", "T4.R18"),
        exact=lambda: {"H = [[1, −1], [−1, 2]], P = e₁, ∇L = (1, 2), ε = (1, 1)": skewed((1, 2), (1, 1))},
        worked="H = P = ∇L = ε = 1: (53) − (47) = 1/2 − 1/2 = 0, but (53) − (46) = 1/2 − 2.",
        strategy=tilts.tilts,
        control=Control(
            "(47): replaced by (46), which keeps ∇L",
            compare=balance(lambda i: (i.printed_peft, -i.tilt_full / 2), "==", _as_printed),
            assumes=(definite,),
            exact=lambda: scalar(1, 1, 1),
        ),
        observe=observed.tilted,
    ),
    Claim(
        id="T4.55",
        theorem="sensitivity",
        equation="55",
        statement=(
            r"\epsilon^TH^{-1}\epsilon=\epsilon_\parallel^TH^{-1}\epsilon_\parallel+\epsilon_\perp^TH^{-1}"
            r"\epsilon_\perp+2\epsilon_\parallel^TH^{-1}\epsilon_\perp"
        ),
        judgement=Judgement.TRUE,
        reason="a square multiplied out; H⁻¹ is symmetric",
        plain="The form of a sum of two parts, with its mixed term.",
        compare=balance(
            lambda i: (i.disturbance_full,),
            "==",
            lambda i: (i.parallel_full, i.orthogonal_full, 2 * i.mixed_full),
        ),
        assumes=(definite,),
        exact=lambda: {"H⁻¹ = [[2, 1], [1, 1]], P = e₁, ε = (1, 1)": skewed(disturbance=(1, 1))},
        worked="H⁻¹ = [[2, 1], [1, 1]], P = e₁, ε = (1, 1): 5 = 2 + 1 + 2 · 1.",
        strategy=tilts.tilts,
        control=Control(
            "the mixed term: counted once",
            compare=balance(
                lambda i: (i.disturbance_full,),
                "==",
                lambda i: (i.parallel_full, i.orthogonal_full, i.mixed_full),
            ),
            assumes=(definite,),
            exact=lambda: skewed(disturbance=(1, 1)),
        ),
        observe=observed.tilted,
    ),
    Claim(
        id="T4.56",
        theorem="sensitivity",
        equation="56",
        statement=r"\epsilon_\parallel^TH^{-1}\epsilon_\perp=0",
        judgement=Judgement.FALSE,
        reason="orthogonal vectors are orthogonal for H⁻¹ only where H commutes with the projector",
        plain=(
            "The mixed term is said to vanish because the two parts are orthogonal. H⁻¹ turns one of them; "
            "it stays orthogonal to the other for every ε only if H maps the range of P to itself."
        ),
        compare=balance(
            lambda i: (i.mixed_full,), "==", among=lambda i: (i.parallel_full, i.orthogonal_full)
        ),
        assumes=(definite, orthonormal),
        repaired_by=("T4.R22", "T4.R18"),
        exact=lambda: {"H⁻¹ = [[2, 1], [1, 1]], P = e₁, ε = (1, 1)": skewed(disturbance=(1, 1))},
        worked="H = [[1, −1], [−1, 2]], P = e₁, ε = (1, 1): ε_∥ = e₁, ε_⊥ = e₂, and e₁ᵀH⁻¹e₂ = 1.",
        strategy=tilts.roomy,
        observe=observed.tilted,
    ),
    Claim(
        id="T4.57",
        theorem="sensitivity",
        equation="57",
        statement=(
            r"\Delta\mathcal{L}_{peft}-\Delta\mathcal{L}_{full}=\tfrac12(\epsilon_\parallel^TH_\Phi^+"
            r"\epsilon_\parallel-\epsilon_\parallel^TH^{-1}\epsilon_\parallel)+\epsilon_\perp^T"
            r"\nabla_\theta\mathcal{L}-\tfrac12\epsilon_\perp^TH^{-1}\epsilon_\perp"
        ),
        judgement=Judgement.FALSE,
        reason="inherits (8a), (53) and (56): the sign is wrong, a term too many, the mixed term too few",
        plain=(
            "The difference of the two changes. What is right is minus the printed forms, without the term "
            "in ∇L and with the mixed term: T4.R18. The counterexamples are at stationary points, where "
            "(47) holds up to its sign."
        ),
        compare=balance(
            lambda i: (i.least_peft, -i.least_full),
            "==",
            lambda i: (
                i.parallel_restricted / 2,
                -i.parallel_full / 2,
                i.orthogonal_slope,
                -i.orthogonal_full / 2,
            ),
        ),
        assumes=(definite, orthonormal),
        repaired_by=("T4.R18", "T4.R23"),
        exact=lambda: {
            "H = I, P = e₁, ∇L = 0, ε = e₂": plane((0, 0), (0, 1)),
            "H⁻¹ = [[2, 1], [1, 1]], P = e₁, ∇L = 0, ε = (1, 1)": skewed(disturbance=(1, 1)),
        },
        worked=(
            "H = I₂, P = e₁, ∇L = 0, ε = e₂: full fine-tuning changes the loss by −1/2, PEFT by 0, so the "
            "difference is 1/2; printed is −1/2.  With H⁻¹ = [[2, 1], [1, 1]] and ε = (1, 1): −1/2 + 5/2 = 2 "
            "against (1 − 2)/2 − 1/2 = −1; even −(−1) = 1 lacks the mixed term 1."
        ),
        strategy=lambda: tilts.roomy(stationary=True),
        observe=observed.tilted,
    ),
    Claim(
        id="T4.58",
        theorem="sensitivity",
        equation="58",
        statement=(
            r"\epsilon_\parallel^TH_\Phi^+\epsilon_\parallel\ge\epsilon_\parallel^TH^{-1}\epsilon_\parallel"
        ),
        judgement=Judgement.FALSE,
        reason="reversed: P(PᵀHP)⁻¹Pᵀ ⪯ H⁻¹, since PEFT cannot do better than full fine-tuning",
        plain=(
            "The response of PEFT is said to outweigh that of full fine-tuning. Both are what a method can "
            "take back of the same disturbance, and a restricted method takes back less: the inequality "
            "holds the other way round, always."
        ),
        compare=balance(lambda i: (i.parallel_restricted,), ">=", lambda i: (i.parallel_full,)),
        assumes=(definite,),
        repaired_by=("T4.R19", "T4.R20"),
        exact=lambda: {"H = [[1, −1], [−1, 2]], P = ε = e₁": skewed()},
        worked="H = [[1, −1], [−1, 2]], P = ε = e₁: H_Φ = 1, so the left side is 1; e₁ᵀH⁻¹e₁ = 2.",
        strategy=tilts.roomy,
        observe=observed.tilted,
    ),
)
