r"""Repairs that count parameters: what the gap is on average under score noise, and what is forgotten."""

from __future__ import annotations

from typing import Any

from .. import linalg
from ..claims import Claim, Control, Judgement
from . import observed
from .claims_gap import coupled, tilted
from .comparisons import definite, semidefinite
from .comparisons_gap import below, disturbance_in_range, equal, mean
from .instances import gaps, noise
from .instances.gaps import Gap

DRAWN = len(noise.drawn())


def _deficient() -> Gap:
    """Two parameters, two directions of rank one."""
    return tilted([[1, 0], [0, 2]], [[1, 1], [0, 0]], [1, 1])


def _tilted_start() -> Gap:
    """H = I₂, P = e₁, a gradient e₂ that PEFT cannot see, and no disturbance."""
    one = linalg.exact([[1, 0], [0, 1]])
    return Gap(one, one[:, :1], one[1], 0 * one[1])


def _half_tau(i: Any, *counts: int) -> list[Any]:
    return [i.tau * count / 2 for count in counts]


CLAIMS = (
    Claim(
        id="T4.R7",
        theorem="sensitivity",
        statement=(
            r"\mathrm{tr}(HK) = \mathrm{rank}\,H-\mathrm{rank}\,HP\ (= d-\mathrm{rank}\,P \text{ for } "
            r"H\succ0),\quad K = H^+-P(P^THP)^+P^T"
        ),
        judgement=Judgement.TRUE,
        reason=(
            "H^(1/2) K H^(1/2) is the projector onto what PEFT lacks of range H, and its trace is its rank"
        ),
        plain=(
            "Where parameters are counted rightly: the gap has as many degrees of freedom as PEFT lacks "
            "directions. Directions that repeat others do not count."
        ),
        compare=equal(lambda i: i.trace, lambda i: i.lacking, lambda i: i.d),
        assumes=(semidefinite,),
        exact=lambda: {"d = 2, k = 1": coupled(0, 1), "d = k = 2, but rank 1": _deficient()},
        strategy=lambda: gaps.gaps(definite=False),
        control=Control(
            "rank P: replaced by the number of columns, k",
            exact=_deficient,
            compare=equal(lambda i: i.trace, lambda i: i.columns_lacking, lambda i: i.d),
            assumes=(definite,),
            strategy=gaps.gaps,
        ),
        observe=observed.tilted,
    ),
    Claim(
        id="T4.R8",
        theorem="sensitivity",
        statement=(
            r"H\succ0,\ u\sim\mathcal{N}(0,\tau H):\ E[\min_\Phi q(P\Phi)-\min_Dq(D)] = "
            r"\tfrac\tau2(d-\mathrm{rank}\,P)"
        ),
        judgement=Judgement.CONDITIONAL,
        reason="the mean of uᵀKu is τ tr(KH); it needs the covariance τH and nothing else of the law",
        plain=(
            "If the disturbance is like the noise of a gradient, which has the covariance τH where a model "
            "fits its data, then each direction that PEFT lacks costs τ/2 on average."
        ),
        compare=mean(
            lambda i: i.mean,
            lambda i: i.tau * i.lacking / 2,
            lambda i: i.tau * i.d / 2,
            lambda i: i.mean_error,
        ),
        exact=lambda: {
            "d = 1, P = 0: 1/2": noise.line(),
            "d = 2, k = 1, τ = 1/2: 1/4": noise.plane(),
            "d = 3, two directions of rank 1, τ = 2, all signs: 2": noise.space(gaussian=False),
        },
        strategy=noise.draws,
        examples=DRAWN,
        control=Control(
            "d − rank P: replaced by d",
            exact=noise.plane,
            compare=mean(
                lambda i: i.mean,
                lambda i: i.tau * i.d / 2,
                lambda i: i.tau * i.lacking / 2,
                lambda i: i.mean_error,
            ),
        ),
    ),
    Claim(
        id="T4.R9",
        theorem="sensitivity",
        statement=(
            r"H\succ0,\ u\sim\mathcal{N}(0,\tau H):\ \tfrac2\tau\big(\min_\Phi q(P\Phi)-\min_Dq(D)\big)\sim "
            r"\chi^2_{d-\mathrm{rank}\,P};\ \text{variance } \tfrac{\tau^2}2(d-\mathrm{rank}\,P)"
        ),
        judgement=Judgement.CONDITIONAL,
        reason="I − Q projects a standard normal vector onto d − rank P dimensions",
        plain=(
            "The whole law of the gap under Gaussian score noise: its variance, and how often it stays below "
            "three of its quantiles. For the law, unlike for the mean, the noise has to be Gaussian."
        ),
        compare=mean(
            lambda i: i.law,
            lambda i: i.law_of(i.lacking),
            lambda i: i.law_of(i.d),
            lambda i: i.law_error,
        ),
        exact=lambda: {
            "d = 1, P = 0: 1/2": noise.line(),
            "d = 2, k = 1, τ = 1/2: 1/8": noise.plane(),
            "d = 3, two directions of rank 1, τ = 2: 4": noise.space(),
        },
        strategy=noise.draws,
        examples=DRAWN,
        control=Control(
            "Gaussian: replaced by signs with the same covariance",
            exact=lambda: noise.space(gaussian=False),
            strategy=lambda: noise.points(gaussian=False),
        ),
    ),
    Claim(
        id="T4.R16",
        theorem="sensitivity",
        statement=(
            r"\tfrac12\epsilon^TH^+\epsilon \ge \tfrac12\epsilon^TP(P^THP)^+P^T\epsilon \text{: the rise of "
            r"the undisturbed loss, from } \nabla\mathcal{L}=0 \text{ resp. } P^T\nabla\mathcal{L}=0"
        ),
        judgement=Judgement.TRUE,
        reason="their difference is the gap of R3 with u = ε, a square",
        plain=(
            "What ½ΔθᵀHΔθ really measures at a stationary point is how much of the undisturbed loss is "
            "given up in re-adapting. By it the printed conclusion is exactly reversed: full fine-tuning "
            "forgets more."
        ),
        compare=below(lambda i: i.damage_peft, lambda i: i.damage_full, lambda i: i.disturbance_full),
        assumes=(semidefinite, disturbance_in_range),
        exact=lambda: {"ε = e₂: 0 and 1/2": coupled(0, 1), "ε = e₁: 1/2 and 1": coupled(1, 0)},
        strategy=lambda: gaps.gaps(definite=False),
        control=Control(
            "each from its own stationary point: dropped, both from a point with a gradient",
            exact=_tilted_start,
            compare=below(
                lambda i: i.careless_damages[0],
                lambda i: i.careless_damages[1],
                lambda i: i.disturbance_full + i.tilt_full,
            ),
            assumes=(definite,),
            strategy=gaps.gaps,
        ),
        observe=observed.damaged,
    ),
    Claim(
        id="T4.R17",
        theorem="sensitivity",
        statement=(
            r"\epsilon\sim\mathcal{N}(0,\tau H):\ E\,\tfrac12\epsilon^TH^{-1}\epsilon = \tfrac\tau2d,\quad "
            r"E\,\tfrac12\epsilon^TP(P^THP)^+P^T\epsilon = \tfrac\tau2\,\mathrm{rank}\,P"
        ),
        judgement=Judgement.CONDITIONAL,
        reason="traces of τ times a projector of rank d, and of rank P; only the covariance τH is needed",
        plain=(
            "What re-adaptation to score noise costs on the undisturbed loss on average: τ/2 for each "
            "direction that a method has. What PEFT loses in fitting the disturbance it saves here, to the "
            "digit."
        ),
        compare=mean(
            lambda i: i.damages,
            lambda i: _half_tau(i, i.d, i.rank),
            lambda i: _half_tau(i, i.rank, i.d),
            lambda i: i.damages_error,
        ),
        exact=lambda: {
            "d = 2, k = 1, τ = 1/2: 1/2 and 1/4": noise.plane(),
            "d = 3, two directions of rank 1, τ = 2, all signs: 3 and 1": noise.space(gaussian=False),
        },
        strategy=noise.draws,
        examples=DRAWN,
        control=Control(
            "that PEFT forgets less: dropped, τd/2 for both",
            exact=noise.plane,
            compare=mean(
                lambda i: i.damages,
                lambda i: _half_tau(i, i.d, i.d),
                lambda i: _half_tau(i, i.rank, i.rank),
                lambda i: i.damages_error,
            ),
        ),
    ),
)
