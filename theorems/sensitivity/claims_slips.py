r"""Repairs of the algebra after (58): what each line should say, and what is left of the conclusion."""

from __future__ import annotations

from typing import Any

from .. import linalg, rational
from ..claims import Claim, Control, Judgement
from . import observed
from .claims_gap import coupled, seen_once
from .comparisons import definite, semidefinite
from .comparisons_gap import below, both_in_range, equal, pair
from .instances import gaps, tilts
from .instances.gaps import Gap


def scalar(H: str | int, g: str | int, eps: str | int) -> Gap:
    """One parameter, and P = 0: all of ε is ε_⊥."""
    H, P, g, eps = linalg.exact([[H]]), linalg.exact([[0]]), linalg.exact([g]), linalg.exact([eps])
    return Gap(H, P, g, eps)


def _plane(gradient: int, disturbance: int) -> Gap:
    """H = I₂, P = e₁, with g and ε along e₂."""
    one = rational.identity(2)
    return Gap(one, one[:, :1], gradient * one[1], disturbance * one[1])


def _own_size(i: Any) -> Any:
    return abs(i.least_full) + i.disturbance_full + i.tilt_full


def _peak_sizes(i: Any) -> Any:
    return abs(i.tug) + i.square_size


CLAIMS = (
    Claim(
        id="T4.R24",
        theorem="sensitivity",
        statement=(
            r"\Delta(\epsilon)+\Delta(-\epsilon) = -\epsilon^TK\epsilon \le 0 \text{ for } \Delta(\epsilon) "
            r"= "
            r"\tfrac12\epsilon_\parallel^TPH_\Phi^+P^T\epsilon_\parallel+\epsilon_\perp^T\nabla\mathcal{L}-\tfrac12\epsilon^TH^{-1}\epsilon"
        ),
        judgement=Judgement.TRUE,
        reason=(
            "the one term of odd order cancels; so Δ > 0 fails for ε or for −ε, whatever H ≻ 0, P and g are"
        ),
        plain=(
            "The printed conclusion, with its types repaired, cannot hold for a disturbance and for its "
            "opposite, on any loss and for any method. It is no statement about PEFT at all."
        ),
        compare=below(
            pair(
                lambda i: abs(i.printed_gap + i.mirrored_gap + i.peft_misses),
                lambda i: min(i.printed_gap, i.mirrored_gap),
            ),
            lambda i: 0 * pair(lambda i: i.printed_gap, lambda i: i.mirrored_gap)(i),
            lambda i: i.gap_size,
        ),
        assumes=(definite,),
        exact=lambda: {"g = 2e₂, ε = e₂: 3/2 and −5/2": _plane(2, 1), "g = 0: −1/2 twice": _plane(0, 1)},
        strategy=gaps.gaps,
        control=Control(
            "one of ε and −ε: replaced by ε",
            exact=lambda: _plane(2, 1),
            compare=below(lambda i: i.printed_gap, lambda i: 0 * i.printed_gap, lambda i: i.gap_size),
            assumes=(definite,),
        ),
        observe=observed.tilted,
    ),
    Claim(
        id="T4.R27",
        theorem="sensitivity",
        statement=(
            r"x^T\pi-\tfrac12x^TH^{-1}x \le \tfrac12\pi^TH\pi,\ \text{with equality at } x=H\pi\quad"
            r"(\pi=\nabla\mathcal{L})"
        ),
        judgement=Judgement.CONDITIONAL,
        reason="(59) itself: half a constant less half a square; for H ≻ 0",
        plain=(
            "The largest value of the expression that (60) to (64) try to maximise. It is not ½πᵀH³π, and a "
            "largest value says nothing of the value at the disturbance at hand."
        ),
        compare=below(
            pair(lambda i: i.tug, lambda i: i.slope_curved / 2),
            pair(lambda i: i.slope_curved / 2, lambda i: i.peak),
            _peak_sizes,
        ),
        assumes=(definite,),
        exact=lambda: {
            "H = 2, π = x = 1": scalar(2, 1, 1),
            "H = 1/2, π = 1, x = Hπ": scalar("1/2", 1, "1/2"),
        },
        strategy=gaps.gaps,
        control=Control(
            "½πᵀHπ: replaced by ½πᵀH³π",
            exact=lambda: scalar("1/2", 1, "1/2"),
            compare=below(lambda i: i.tug, lambda i: i.slope_cubed / 2, _peak_sizes),
            assumes=(definite,),
            strategy=gaps.shallow,
        ),
        observe=observed.tilted,
    ),
    Claim(
        id="T4.R28",
        theorem="sensitivity",
        statement=r"(x-H\pi)^TH^{-1}(x-H\pi) = x^TH^{-1}x-2\pi^Tx+\pi^TH\pi",
        judgement=Judgement.TRUE,
        reason="πᵀHH⁻¹x = πᵀx for an invertible symmetric H",
        plain="Equation 60 as it should read: there is no H in the middle term.",
        compare=equal(lambda i: i.shifted_square, lambda i: i.expanded_square, lambda i: i.square_size),
        assumes=(definite,),
        exact=lambda: {"H = 2, π = x = 1: 1/2": scalar(2, 1, 1)},
        strategy=gaps.gaps,
        control=Control(
            "−2πᵀx: replaced by the printed −2πᵀHx",
            exact=lambda: scalar(2, 1, 1),
            compare=equal(lambda i: i.shifted_square, lambda i: i.printed_square, lambda i: i.square_size),
            assumes=(definite,),
            strategy=lambda: tilts.small(least=2).map(Gap.of),
        ),
        observe=observed.tilted,
    ),
    Claim(
        id="T4.R29",
        theorem="sensitivity",
        statement=r"H\succ0:\ H^3\succeq H \iff \lambda_{\min}(H)\ge1",
        judgement=Judgement.CONDITIONAL,
        reason="eigenvalue by eigenvalue: λ³ − λ = λ(λ + 1)(λ − 1) has the sign of λ − 1 for λ > 0",
        plain=(
            "Equation 65 with the hypothesis that it needs. Trained networks do not meet it: most of their "
            "curvatures are far below 1. And it depends on the units in which the loss is measured."
        ),
        compare=equal(lambda i: i.signs[0], lambda i: i.signs[1]),
        assumes=(definite,),
        exact=lambda: {
            "H = 1/2": scalar("1/2", 0, 0),
            "H = 1": scalar(1, 0, 0),
            "H = [[1, −1], [−1, 2]]": coupled(0, 1),
        },
        strategy=lambda: (gaps.gaps()[0], gaps.shallow()),
        control=Control(
            "H ≻ 0: replaced by H ⪰ 0",
            exact=lambda: scalar(0, 0, 0),
            assumes=(semidefinite,),
            strategy=gaps.singular,
        ),
    ),
    Claim(
        id="T4.R32",
        theorem="sensitivity",
        statement=(
            r"\min_Dq|_{\epsilon}-\min_Dq|_{\epsilon=0} = -\tfrac12\epsilon^TH^+\epsilon-\epsilon^TH^+\nabla"
            r"\mathcal{L}"
        ),
        judgement=Judgement.TRUE,
        reason="R1 at ε and at 0, subtracted; for H ⪰ 0 and both tilts in range H",
        plain=(
            "What (47) should say if only the share of the disturbance is wanted: the gradient cannot be "
            "left out unless it is 0, and the sign is that of a fall where it is."
        ),
        compare=equal(lambda i: i.own_share, lambda i: i.share_formula, _own_size),
        assumes=(semidefinite, both_in_range),
        exact=lambda: {"H = g = ε = 1: −3/2": scalar(1, 1, 1), "singular H": seen_once()},
        worked="g = ε = 1: −2²/2 + 1²/2 = −3/2",
        strategy=lambda: gaps.gaps(definite=False),
        control=Control(
            "the term with the gradient: dropped",
            exact=lambda: scalar(1, 1, 1),
            compare=equal(lambda i: i.own_share, lambda i: -i.disturbance_full / 2, _own_size),
            assumes=(semidefinite, both_in_range),
        ),
        observe=observed.tilted,
    ),
)
