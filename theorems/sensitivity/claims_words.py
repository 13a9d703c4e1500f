r"""What the paper says of Theorem 4 in running text: T4.a to T4.e.

T4.f and T4.g, on the robustness of trained networks, are empirical: see `claims_robustness`.
"""

from __future__ import annotations

from .. import linalg
from ..claims import Claim, Judgement, relation
from . import observed
from .comparisons import balance, both_signs, definite, independent, outside
from .instances import tilts, trainings
from .instances.tilted import plane, skewed
from .instances.trainings import Training

CLAIMS = (
    Claim(
        id="T4.a",
        theorem="sensitivity",
        statement=(
            r"\text{for PEFT, } H \text{ is typically a } d\times k \text{ matrix with } k\ll d "
            r"\text{, hence non-invertible}"
        ),
        judgement=Judgement.FALSE,
        reason="by (50) it is k × k, and definite where H is and the directions are independent",
        plain=(
            "The Hessian of PEFT is said to be no square matrix and to have no inverse. A Hessian in k "
            "parameters is k × k, and PᵀHP inherits definiteness. It is singular where directions repeat, as "
            "those of LoRA do, and that is another reason."
        ),
        compare=relation(lambda i: i.restricted_rank, "<", lambda i: i.k),
        assumes=(definite, independent),
        repaired_by=("T4.R2", "T4.R25"),
        exact=lambda: {"H = I, P = e₁": plane((0, 0), (0, 1))},
        worked="H = I₂, P = e₁: H_Φ = 1, of rank 1 = k, with the inverse 1.",
        strategy=lambda: (tilts.small(), tilts.structured()),
        observe=observed.tilted,
    ),
    Claim(
        id="T4.b",
        theorem="sensitivity",
        statement=(
            r"\text{for FFT, } H \text{ is a positive definite or semi-definite matrix and invertible}"
        ),
        judgement=Judgement.FALSE,
        reason="fewer samples than parameters make it singular, and products of weights indefinite",
        plain=(
            "The Hessian of full fine-tuning is said to be definite. With more parameters than data there "
            "are directions in which the training loss is flat, and between two layers it can be a saddle. "
            "Weight decay can make it definite; that has to be checked."
        ),
        compare=relation(lambda i: i.positive, "==", lambda i: i.d),
        repaired_by=("T4.R1", "T4.R11"),
        exact=lambda: {
            "one sample (1, 1), two weights": Training(
                linalg.exact([[1, 1]]), linalg.exact([0]), linalg.exact([0, 0])
            ),
            "f = w₂w₁x at w = 0, one sample x = y = 1": Training(
                linalg.exact([1]), linalg.exact([1]), linalg.exact([0, 0])
            ),
        },
        worked=(
            "f = w₁x₁ + w₂x₂ with the one sample (1, 1): H = [[1, 1], [1, 1]], eigenvalues 2 and 0.  f = "
            "w₂w₁x with x = y = 1 at w = 0: H = [[0, −1], [−1, 0]], eigenvalues 1 and −1."
        ),
        strategy=trainings.trainings,
        observe=observed.unregularised,
    ),
    Claim(
        id="T4.c",
        theorem="sensitivity",
        statement=(
            r"\text{equality holds in (58) iff the subspace spanned by } P \text{ coincides with the "
            r"subspace containing } \epsilon_\parallel"
        ),
        judgement=Judgement.FALSE,
        reason="ε_∥ always lies in the span of P; equality needs H⁻¹ε_∥ there",
        plain=(
            "When (58) is an equality. The printed condition is met by every ε_∥, by definition, and even "
            "with ε_∥ spanning the range of P the two sides differ. What decides is where H⁻¹ takes ε_∥: "
            "T4.R21."
        ),
        compare=balance(lambda i: (i.parallel_restricted,), "==", lambda i: (i.parallel_full,)),
        assumes=(definite,),
        repaired_by=("T4.R21",),
        exact=lambda: {"H = [[1, −1], [−1, 2]], P = ε = e₁": skewed()},
        worked=(
            "H = [[1, −1], [−1, 2]], P = ε = e₁: ε_∥ = e₁ spans the range of P, and the two sides are 1 and "
            "2.  H⁻¹e₁ = (2, 1) is outside."
        ),
        strategy=tilts.roomy,
        observe=observed.tilted,
    ),
    Claim(
        id="T4.d",
        theorem="sensitivity",
        statement=r"\Delta\mathcal{L}_{peft}-\Delta\mathcal{L}_{full}>0",
        judgement=Judgement.FALSE,
        reason="for every H ≻ 0, P and ∇L it fails at ε or at −ε: the two values add up to −εᵀKε ≤ 0",
        plain=(
            "The conclusion: PEFT is more sensitive. By the paper's own formulas, with their types "
            "repaired, it fails for every loss and method at a disturbance or at its opposite. The true "
            "difference of the minima after re-adaptation is never negative (T4.R4), but not for the "
            "reasons given; and in the clean loss, which the printed forms measure, full fine-tuning "
            "changes more (T4.R16)."
        ),
        compare=both_signs,
        assumes=(definite, outside),
        repaired_by=("T4.R4", "T4.R15", "T4.R16", "T4.R24"),
        exact=lambda: {
            "H = I, P = e₁, ∇L = 0, ε = e₂": plane((0, 0), (0, 1)),
            "true at ε, false at −ε: H = I, P = e₁, ∇L = ε = e₂": plane((0, 1), (0, 1)),
        },
        worked=(
            "H = I₂, P = e₁, ∇L = 0, ε = e₂: (54) is 0 + 0 − 1/2, at ε as at −ε.  With ∇L = e₂ it is 1 − "
            "1/2 = 1/2 at ε, and −1 − 1/2 = −3/2 at −ε."
        ),
        strategy=tilts.roomy,
        observe=observed.tilted,
    ),
    Claim(
        id="T4.e",
        theorem="sensitivity",
        statement=(
            r"\text{PEFT can only counteract the component } \epsilon_\parallel=PP^T\epsilon \text{, and "
            r"cannot counteract } \epsilon_\perp"
        ),
        judgement=Judgement.FALSE,
        reason="it answers ε_∥ alone, but does not undo it: ½ε_∥ᵀKε_∥ is left",
        plain=(
            "That the step of PEFT does not depend on ε_⊥ is true (T4.R31). That the parallel part is "
            "counteracted is not: a disturbance within the range of P still costs PEFT more than full "
            "fine-tuning, unless H⁻¹ε_∥ lies there too."
        ),
        compare=balance(
            lambda i: (i.parallel_gap,), "==", among=lambda i: (i.parallel_restricted, i.parallel_full)
        ),
        assumes=(definite,),
        repaired_by=("T4.R31",),
        exact=lambda: {"H = [[1, −1], [−1, 2]], P = ε = e₁": skewed()},
        worked=(
            "H = [[1, −1], [−1, 2]], P = e₁, ∇L = 0, ε = e₁: PEFT reaches −1/2, full fine-tuning −1; 1/2 is "
            "left."
        ),
        strategy=tilts.roomy,
        observe=observed.tilted,
    ),
)
