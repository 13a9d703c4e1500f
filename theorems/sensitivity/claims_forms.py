r"""Repairs of the proof of Theorem 4 that concern whole matrices and the parts of a disturbance."""

from __future__ import annotations

from dataclasses import replace
from fractions import Fraction
from typing import Any

from ..claims import Claim, Control, Judgement
from . import observed
from .claims_gap import coupled, seen_once, tilted
from .comparisons import definite, in_range, semidefinite, stationary
from .comparisons_gap import along_nothing, below, equal, pair, positive, stacked
from .instances import gaps
from .instances.gaps import Gap


def _matrix_size(i: Any) -> Any:
    return i.matrix_size


def _attained() -> Gap:
    """Eigenvalues 1 and 4, and the direction half-way between their eigenvectors: Kantorovich's case."""
    made = tilted([[1, 0], [0, 4]], [[1], [1]], [1, 0])
    return replace(made, extremes=(Fraction(1), Fraction(4)))


def _excess(i: Any) -> Any:
    return i.parallel_excess


def _mixing_bounds(i: Any) -> tuple[Any, Any]:
    """What the commutator allows from below and from above."""
    hessian, inverse = i.sizes
    return i.commutator / (2 * hessian**2), i.commutator * inverse**2 / 2


def _mixing_size(i: Any) -> Any:
    return i.sizes[1]


CLAIMS = (
    Claim(
        id="T4.R18",
        theorem="sensitivity",
        statement=(
            r"\nabla\mathcal{L}=0:\ \min_\Phi q-\min_Dq = "
            r"\tfrac12(\epsilon_\parallel^TH^+\epsilon_\parallel-\epsilon_\parallel^TPH_\Phi^+P^T\epsilon_\parallel)+\epsilon_\parallel^TH^+\epsilon_\perp+\tfrac12\epsilon_\perp^TH^+\epsilon_\perp"
        ),
        judgement=Judgement.TRUE,
        reason="(57) with its sign turned, its cross term put back and ε_⊥ᵀ∇L dropped; Π = PP⁺ for any P",
        plain=(
            "Equation 57 as it should read. All of it is the gap of R3, written by the parts of the "
            "disturbance."
        ),
        compare=equal(lambda i: i.gap, lambda i: i.by_parts, lambda i: i.parts_size),
        assumes=(semidefinite, in_range, stationary),
        exact=lambda: {
            "ε = (1, 1): 1/2 + 1 + 1/2": coupled(1, 1),
            "ε = (1, −1): 1/2 − 1 + 1/2": coupled(1, -1),
        },
        worked="H⁻¹ = [[2, 1], [1, 1]], ε_∥ = e₁, ε_⊥ = ±e₂: ½(2 − 1) ± 1 + ½",
        strategy=lambda: gaps.gaps(definite=False, stationary=True),
        control=Control(
            "the cross term: dropped, which (56) says is 0",
            exact=lambda: coupled(1, 1),
            compare=equal(lambda i: i.gap, lambda i: i.by_parts_unmixed, lambda i: i.parts_size),
            assumes=(semidefinite, in_range, stationary),
        ),
        observe=observed.tilted,
    ),
    Claim(
        id="T4.R19",
        theorem="sensitivity",
        statement=(
            r"H\succ0:\ P(P^THP)^+P^T\preceq H^{-1};\quad H\succeq0:\ x^TP(P^THP)^+P^Tx\le x^TH^+x \text{ "
            r"for } x\in\mathrm{range}\,H"
        ),
        judgement=Judgement.TRUE,
        reason="H^(1/2)P(PᵀHP)⁺PᵀH^(1/2) is a projector; this is (58) the right way round",
        plain=(
            "Equation 58 with its sign turned, and in a form that does not depend on the choice of the "
            "basis P. For a singular H it holds on the range of H only."
        ),
        compare=positive(lambda i: i.least_excess, _matrix_size),
        assumes=(semidefinite,),
        exact=lambda: {"H⁻¹ = [[2, 1], [1, 1]]": coupled(1, 0), "H = diag(1, 0), P = (1, 1)ᵀ": seen_once()},
        strategy=lambda: gaps.gaps(definite=False),
        control=Control(
            "x ∈ range H: dropped for a singular H",
            exact=seen_once,
            compare=positive(lambda i: i.least_excess_anywhere, _matrix_size),
            assumes=(semidefinite,),
            strategy=gaps.singular,
        ),
        observe=observed.tilted,
    ),
    Claim(
        id="T4.R20",
        theorem="sensitivity",
        statement=(
            r"H\succ0:\ \Pi "
            r"H^{-1}\Pi\preceq\frac{(\lambda_1+\lambda_d)^2}{4\lambda_1\lambda_d}\,P(P^THP)^+P^T,\quad\Pi=PP^+"
        ),
        judgement=Judgement.CONDITIONAL,
        reason="the matrix form of Kantorovich's inequality (Marshall and Olkin 1990); attained",
        plain=(
            "How far (58) can be from an equality: by a factor that depends on the condition of H alone. "
            "With a flat spectrum PEFT answers what lies along its directions almost as well as full "
            "fine-tuning."
        ),
        compare=positive(lambda i: i.reverse_excess, _matrix_size),
        assumes=(definite,),
        exact=lambda: {"eigenvalues 1 and 4, P = (1, 1)ᵀ: attained": _attained(), "e₁": coupled(1, 0)},
        worked="Π = ½[[1, 1], [1, 1]]: ΠH⁻¹Π = ⅝Π, P(PᵀHP)⁻¹Pᵀ = ⅖Π, and ⅝ = 25/16 · ⅖",
        strategy=gaps.gaps,
        control=Control(
            "the constant: replaced by 1, which with R19 would make (58) an equality",
            exact=_attained,
            compare=positive(lambda i: i.reverse_excess_plain, _matrix_size),
            assumes=(definite,),
        ),
        observe=observed.tilted,
    ),
    Claim(
        id="T4.R21",
        theorem="sensitivity",
        statement=(
            r"\epsilon_\parallel^TPH_\Phi^+P^T\epsilon_\parallel = "
            r"\epsilon_\parallel^TH^{-1}\epsilon_\parallel \iff "
            r"H^{-1}\epsilon_\parallel\in\mathrm{range}\,P;\quad "
            r"\lambda_{\min}\rho^2\le\text{difference}\le\lambda_{\max}\rho^2,\ "
            r"\rho=\mathrm{dist}(H^{-1}\epsilon_\parallel,\mathrm{range}\,P)"
        ),
        judgement=Judgement.CONDITIONAL,
        reason="the difference is the squared distance of H⁻¹ε_∥ from range P in the norm of H; H ≻ 0",
        plain=(
            "When PEFT answers a disturbance along its directions completely: when the full answer lies in "
            "them too. That ε_∥ lies in the span of P, the paper's condition, is always so."
        ),
        compare=below(
            pair(lambda i: i.smallest * i.parallel_missed, _excess),
            pair(_excess, lambda i: i.largest * i.parallel_missed),
            lambda i: i.parallel_full * i.largest / i.smallest,
        ),
        assumes=(definite,),
        exact=lambda: {
            "H⁻¹e₁ = (2, 1): no equality": coupled(1, 0),
            "H = diag(1, 2): equality": tilted([[1, 0], [0, 2]], [[1], [0]], [1, 1]),
        },
        strategy=gaps.gaps,
        control=Control(
            "H⁻¹ε_∥ ∈ range P: replaced by ε_∥ ∈ range P, which is always so",
            exact=lambda: coupled(1, 0),
            compare=below(_excess, lambda i: 0 * _excess(i), lambda i: i.parallel_full),
            assumes=(definite,),
        ),
        observe=observed.tilted,
    ),
    Claim(
        id="T4.R22",
        theorem="sensitivity",
        statement=(
            r"(\epsilon_\parallel^TH^{-1}\epsilon_\perp = 0\ \forall\epsilon) \iff \Pi H = H\Pi;\quad "
            r"\frac{\|C\|_F^2}{2\|H\|_F^4}\le\|\Pi H^{-1}(I-\Pi)\|_F^2\le\tfrac12\|H^{-1}\|_F^4\|C\|_F^2,\ "
            r"C=\Pi H-H\Pi"
        ),
        judgement=Judgement.CONDITIONAL,
        reason="ΠH − HΠ = H(H⁻¹Π − ΠH⁻¹)H, and the bracket has ΠH⁻¹(I − Π) twice; for invertible H",
        plain=(
            "Equation 56 holds for every disturbance exactly where the directions of PEFT are spanned by "
            "eigenvectors of the Hessian."
        ),
        compare=below(
            pair(lambda i: _mixing_bounds(i)[0], lambda i: i.mixing),
            pair(lambda i: i.mixing, lambda i: _mixing_bounds(i)[1]),
            _mixing_size,
        ),
        assumes=(definite,),
        exact=lambda: {
            "e₁ is no eigenvector": coupled(1, 0),
            "e₁ is an eigenvector": tilted([[1, 0], [0, 2]], [[1], [0]], [1, 1]),
        },
        strategy=gaps.gaps,
        control=Control(
            "for all ε: replaced by one ε",
            exact=lambda: coupled(1, 0),
            compare=below(lambda i: _mixing_bounds(i)[0], lambda i: i.mixed_full**2, _mixing_size),
            assumes=(definite,),
        ),
    ),
    Claim(
        id="T4.R23",
        theorem="sensitivity",
        statement=(
            r"\epsilon_\parallel=0,\ \nabla\mathcal{L}=0:\ \min_\Phi q(P\Phi)-\min_Dq(D) = "
            r"\tfrac12\epsilon_\perp^TH^+\epsilon_\perp"
        ),
        judgement=Judgement.TRUE,
        reason="Pᵀu = 0, so PEFT does not move; no commuting is needed",
        plain=(
            "A disturbance across all directions of PEFT leaves it where it is, and the gap is everything "
            "that full fine-tuning gains."
        ),
        compare=equal(lambda i: i.gap, lambda i: i.orthogonal_full / 2, lambda i: i.tilt_full),
        assumes=(semidefinite, in_range, stationary, along_nothing),
        exact=lambda: {"ε = e₂: 1/2": coupled(0, 1)},
        strategy=gaps.crossing,
        control=Control(
            "ε_∥ = 0: dropped",
            exact=lambda: coupled(1, 0),
            assumes=(definite, stationary),
            strategy=lambda: gaps.gaps(stationary=True),
        ),
    ),
    Claim(
        id="T4.R30",
        theorem="sensitivity",
        statement=(
            r"\Pi=PP^+:\ \epsilon_\parallel=\Pi\epsilon\in\mathrm{range}\,P,\quad "
            r"P^T(\epsilon-\Pi\epsilon)=0,\quad \epsilon_\parallel^T\epsilon_\perp=0"
        ),
        judgement=Judgement.TRUE,
        reason="PP⁺ is the orthogonal projector onto range P whatever P is; PPᵀ is it only if PᵀP = I",
        plain="Equation 52 for directions of any length and any rank.",
        compare=equal(lambda i: i.overlaps, lambda i: 0 * i.overlaps, lambda i: i.overlaps_size),
        exact=lambda: {
            "P = [2]": tilted([[1]], [[2]], [1]),
            "two directions, rank 1": tilted([[1, 0], [0, 1]], [[1, 2], [1, 2]], [1, 0]),
        },
        strategy=lambda: gaps.gaps(definite=False),
        control=Control(
            "PP⁺: replaced by PPᵀ",
            exact=lambda: tilted([[1]], [[2]], [1]),
            compare=equal(lambda i: i.printed_overlaps, lambda i: 0 * i.overlaps, lambda i: i.overlaps_size),
        ),
    ),
    Claim(
        id="T4.R31",
        theorem="sensitivity",
        statement=(
            r"\Delta\theta_{peft}(\epsilon)=\Delta\theta_{peft}(\epsilon_\parallel);\quad \text{a "
            r"disturbance } \epsilon_\parallel \text{ alone leaves the gap } "
            r"\tfrac12\epsilon_\parallel^TK\epsilon_\parallel"
        ),
        judgement=Judgement.CONDITIONAL,
        reason="Pᵀε = Pᵀε_∥; and R3 with u = ε_∥, for H ≻ 0",
        plain=(
            "PEFT reacts to the part of a disturbance along its directions and to nothing else, but this "
            "does not undo that part: unless H⁻¹ε_∥ lies in the span of P something is left."
        ),
        compare=equal(
            stacked(lambda i: i.answer, lambda i: i.parallel_gap),
            stacked(lambda i: i.answer_to_parallel, lambda i: i.parallel_excess / 2),
            lambda i: i.answer_sizes,
        ),
        assumes=(definite,),
        exact=lambda: {"ε = (1, 1): the gap 1/2 of ε_∥ = e₁": coupled(1, 1)},
        strategy=gaps.gaps,
        control=Control(
            "½ε_∥ᵀKε_∥: replaced by 0, as if PEFT undid what it reacts to",
            exact=lambda: coupled(1, 1),
            compare=equal(lambda i: i.parallel_gap, lambda i: 0 * i.parallel_gap, lambda i: i.parallel_full),
            assumes=(definite,),
        ),
        observe=observed.tilted,
    ),
)
