r"""Repairs on the gap after re-adaptation: what each method gains, and what PEFT gains less."""

from __future__ import annotations

from dataclasses import replace
from fractions import Fraction
from typing import Any

from .. import linalg, rational
from ..claims import Assumption, Claim, Control, Judgement
from . import observed
from .comparisons import definite, in_range, restricted_in_range, semidefinite
from .comparisons_gap import below, equal, pair
from .instances import gaps, subspaces
from .instances.gaps import Gap
from .instances.subspaces import Jacobian, Nested


def tilted(H: list, P: list, u: list) -> Gap:
    """An exact instance with g = 0 and ε = u."""
    eps = linalg.exact(u)
    return Gap(linalg.exact(H), linalg.exact(P), 0 * eps, eps)


def coupled(*u: int) -> Gap:
    """H = [[1, −1], [−1, 2]] with H⁻¹ = [[2, 1], [1, 1]], and one direction e₁."""
    return tilted([[1, -1], [-1, 2]], [[1], [0]], list(u))


def seen_once() -> Gap:
    """H = diag(1, 0), P = (1, 1)ᵀ and u = e₁: a direction that H does not see helps P."""
    return tilted([[1, 0], [0, 0]], [[1], [1]], [1, 0])


def flat(curvature: int) -> Gap:
    """H = cI of two parameters, P = e₁ and u = e₂."""
    c = Fraction(curvature)
    return replace(tilted([[c, 0], [0, c]], [[1], [0]], [0, 1]), extremes=(c, c))


def _axes(*others: int) -> Nested:
    """H = I₃ and u = e₁; P = e₁, and other axes."""
    one = rational.identity(3)
    return Nested(Gap(one, one[:, [0]], one[0], 0 * one[0]), one[:, list(others)])


def _fitted() -> Jacobian:
    """Two parameters, three residuals, one direction."""
    return Jacobian(linalg.exact([[1, 0], [1, 1], [0, 1]]), linalg.exact([[1], [0]]), linalg.exact([1, 0, 1]))


def _energy(i: Any) -> Any:
    return i.tilt_full


def _bound_sizes(i: Any) -> Any:
    return pair(_energy, lambda i: _energy(i) + i.tilt @ i.tilt / (2 * i.smallest))(i)


def _half(name: str) -> Any:
    return lambda i: -getattr(i, name) / 2


_larger = Assumption("the second subspace has more dimensions", lambda i: i.larger)

CLAIMS = (
    Claim(
        id="T4.R1",
        theorem="sensitivity",
        statement=(
            r"\min_Dq(D) = -\tfrac12u^TH^+u,\quad q(D) = u^TD+\tfrac12D^THD,\ u = \nabla\mathcal{L}+\epsilon"
        ),
        judgement=Judgement.TRUE,
        reason="completing the square, for H ⪰ 0 and u ∈ range H; otherwise q has no minimum",
        plain=(
            "What full fine-tuning makes of a disturbance: the disturbed loss falls. Equations 8, 45 and 46 "
            "print this number with the sign of a rise."
        ),
        compare=equal(lambda i: i.least_full, _half("tilt_full"), _energy),
        assumes=(semidefinite, in_range),
        exact=lambda: {"H = u = 1: −1/2": tilted([[1]], [[1]], [1]), "singular H": seen_once()},
        worked="u + D = 0 at D = −1, and q(−1) = −1 + 1/2 = −1/2",
        strategy=lambda: gaps.gaps(definite=False),
        control=Control(
            "u ∈ range H: dropped",
            exact=lambda: tilted([[1, 0], [0, 0]], [[1], [1]], [0, 1]),
            compare=equal(lambda i: min(i.rivals_full), _half("tilt_full"), _energy),
            assumes=(semidefinite,),
            strategy=gaps.out_of_range,
        ),
        observe=observed.tilted,
    ),
    Claim(
        id="T4.R2",
        theorem="sensitivity",
        statement=r"\min_\Phi q(P\Phi) = -\tfrac12u^TP(P^THP)^+P^Tu",
        judgement=Judgement.TRUE,
        reason="completing the square in Φ, for H ⪰ 0 and Pᵀu ∈ range PᵀHP; P may have any rank",
        plain=(
            "What PEFT makes of a disturbance. Only Pᵀu enters: no part across the directions, as (53) has "
            "it, and no part of the gradient beside it."
        ),
        compare=equal(lambda i: i.least_peft, _half("tilt_answered"), _energy),
        assumes=(semidefinite, restricted_in_range),
        exact=lambda: {
            "H = [[1, −1], [−1, 2]], P = e₁, u = e₁: −1/2": coupled(1, 0),
            "singular H": seen_once(),
        },
        strategy=lambda: gaps.gaps(definite=False),
        control=Control(
            "the inverse of the restriction: replaced by the restriction of the inverse, ΠH⁺Π",
            exact=lambda: coupled(1, 0),
            compare=equal(lambda i: i.least_peft, _half("restricted_inverse_form"), _energy),
            assumes=(semidefinite, in_range),
        ),
        observe=observed.tilted,
    ),
    Claim(
        id="T4.R3",
        theorem="sensitivity",
        statement=(
            r"\min_\Phi q(P\Phi)-\min_Dq(D) = \tfrac12\|(I-Q)(H^+)^{1/2}u\|^2,\quad Q \text{ projects onto "
            r"range}\,H^{1/2}P"
        ),
        judgement=Judgement.TRUE,
        reason="through H^(1/2) both minima are squared distances from one point: to a subspace, and to all",
        plain=(
            "The gap that Theorem 4 is after. It is a square, so it is computed without the cancellation "
            "that subtracting the two minima would bring."
        ),
        compare=equal(lambda i: i.gap, lambda i: i.residual, _energy),
        assumes=(semidefinite, in_range),
        exact=lambda: {
            "H = [[1, −1], [−1, 2]], P = e₁, u = e₁: 1/2": coupled(1, 0),
            "the same, u = (2, 1): 9/2": coupled(2, 1),
            "H = diag(1, 0), P = (1, 1)ᵀ, u = e₁: 0": seen_once(),
        },
        worked="H⁻¹ = [[2, 1], [1, 1]], PᵀHP = 1: full −1, PEFT −1/2 for u = e₁",
        strategy=lambda: gaps.gaps(definite=False),
        control=Control(
            "PEFT's own minimiser: replaced by the projection of the full one onto range P",
            exact=lambda: coupled(0, 1),
            compare=equal(lambda i: i.gap, lambda i: i.projected, _energy),
            assumes=(semidefinite, in_range),
        ),
        observe=observed.tilted,
    ),
    Claim(
        id="T4.R4",
        theorem="sensitivity",
        statement=r"\min_Dq(D) \le \min_\Phi q(P\Phi)",
        judgement=Judgement.TRUE,
        reason="the least value over more steps is not higher; compared with minima found independently",
        plain=(
            "After both methods re-adapt, the disturbed loss is never lower under PEFT: what the theorem "
            "intends, and the opposite of what its printed formulas give."
        ),
        compare=below(lambda i: i.least_full, lambda i: i.least_peft, _energy),
        assumes=(semidefinite, in_range),
        exact=lambda: {"u = e₂: −1/2 ≤ 0": coupled(0, 1), "no gap": seen_once()},
        strategy=lambda: gaps.gaps(definite=False),
        control=Control(
            "minima of q: replaced by the energies ½ΔθᵀHΔθ that are printed",
            exact=lambda: coupled(0, 1),
            compare=below(lambda i: i.tilt_full / 2, lambda i: i.tilt_answered / 2, _energy),
            assumes=(semidefinite, in_range),
        ),
        observe=observed.tilted,
    ),
    Claim(
        id="T4.R5",
        theorem="sensitivity",
        statement=(
            r"\tfrac{\rho^2}{2\lambda_{\max}} \le \min_\Phi q(P\Phi)-\min_Dq(D) \le "
            r"\tfrac{\rho^2}{2\lambda_{\min}^+},\ \rho = \mathrm{dist}(u,H\,\mathrm{range}\,P):\ \text{0 "
            r"iff } u\in H\,\mathrm{range}\,P"
        ),
        judgement=Judgement.TRUE,
        reason="the gap is half the squared distance of u from H range(P) in the norm of H⁺",
        plain=(
            "There is no gap exactly where one step of PEFT answers the whole tilt, and a small distance "
            "from that means a small gap. That ε lies in the subspace of PEFT is neither needed nor enough."
        ),
        compare=below(
            pair(lambda i: i.missed / (2 * i.largest), lambda i: i.gap),
            pair(lambda i: i.gap, lambda i: i.missed / (2 * i.smallest)),
            _bound_sizes,
        ),
        assumes=(semidefinite, in_range),
        exact=lambda: {
            "u = He₁: no gap": coupled(1, -1),
            "u = e₁: a gap": coupled(1, 0),
            "H = diag(1, 0): no gap": seen_once(),
            "H = 2I, u = e₂: both bounds are attained": flat(2),
        },
        strategy=lambda: gaps.gaps(definite=False),
        control=Control(
            "the distance from H range(P): replaced by that from range(P)",
            exact=lambda: coupled(1, 0),
            compare=below(lambda i: i.gap, lambda i: i.outside / (2 * i.smallest), _energy),
            assumes=(semidefinite, in_range),
        ),
        observe=observed.tilted,
    ),
    Claim(
        id="T4.R6",
        theorem="sensitivity",
        statement=(
            r"H\succ0:\ \min_\Phi q(P\Phi)-\min_Dq(D) = "
            r"\tfrac12(N^TH^{-1}u)^T(N^TH^{-1}N)^{-1}(N^TH^{-1}u),\quad \mathrm{range}\,N = "
            r"\mathrm{range}(P)^\perp"
        ),
        judgement=Judgement.CONDITIONAL,
        reason="H^(−1/2)N spans what is orthogonal to H^(1/2)P; false with H⁺ for a singular H",
        plain=(
            "The gap by what PEFT lacks: only the part of the full answer in the missing directions counts, "
            "in the norm that belongs to them."
        ),
        compare=equal(lambda i: i.gap, lambda i: i.dual, _energy),
        assumes=(definite,),
        exact=lambda: {"u = e₂: 1/2": coupled(0, 1), "u = e₁: 1/2": coupled(1, 0)},
        strategy=gaps.gaps,
        control=Control(
            "H ≻ 0: replaced by H ⪰ 0, with H⁺",
            exact=seen_once,
            assumes=(semidefinite, in_range),
            strategy=gaps.singular,
        ),
        observe=observed.tilted,
    ),
    Claim(
        id="T4.R10",
        theorem="sensitivity",
        statement=(
            r"\mathrm{range}\,P\subset\mathrm{range}\,P'\ \Rightarrow\ \mathrm{gap}(P') \le \mathrm{gap}(P)"
        ),
        judgement=Judgement.TRUE,
        reason="the minimum over a larger set is not higher",
        plain=(
            "More directions leave a smaller gap if the old ones stay. That there are more of them does not "
            "matter by itself: one direction may be worth more than two others."
        ),
        compare=below(lambda i: i.gap_of_both, lambda i: i.gap),
        assumes=(semidefinite, in_range),
        exact=lambda: {"e₁, and e₂ beside it": _axes(1)},
        strategy=subspaces.nested,
        control=Control(
            "range P ⊂ range P′: replaced by more dimensions",
            exact=lambda: _axes(1, 2),
            compare=below(lambda i: i.gap_of_further, lambda i: i.gap),
            assumes=(semidefinite, in_range, _larger),
            strategy=subspaces.unrelated,
        ),
        observe=observed.nested,
    ),
    Claim(
        id="T4.R11",
        theorem="sensitivity",
        statement=(r"H = J^TJ,\ u = J^Tr:\ \min_\Phi q(P\Phi)-\min_Dq(D) = \tfrac12\|(\Pi_J-\Pi_{JP})r\|^2"),
        judgement=Judgement.TRUE,
        reason="q is half the squared distance of −r from JD; no H is formed, and u is always in its range",
        plain=(
            "The gap of the Gauss–Newton model, from QR decompositions of the Jacobian: what residuals the "
            "whole network can fit and PEFT cannot."
        ),
        compare=equal(lambda i: i.gap, lambda i: i.projected),
        exact=lambda: {"three residuals, one of two parameters": _fitted()},
        strategy=subspaces.jacobians,
        control=Control(
            "the projector Π_J: replaced by I",
            exact=_fitted,
            compare=equal(lambda i: i.gap, lambda i: i.unprojected),
        ),
    ),
)
