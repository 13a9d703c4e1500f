r"""Repairs without the quadratic model: any convex loss, any map g, and derivatives seen through g."""

from __future__ import annotations

from typing import Any

from .. import linalg, rational
from ..claims import Claim, Control, Judgement
from . import observed
from .comparisons_gap import below, equal
from .instances import bends, convex, landscapes, logistic, lowranks
from .instances.bends import Bend
from .instances.convex import Convex
from .instances.landscapes import Landscape
from .instances.lowranks import Separable


def _plane(values: list[int], centre: list[int], *, clean: list[int] | None = None) -> Convex:
    """Two parameters of which PEFT moves the first."""
    zero = linalg.exact([0, 0])
    pieces = ((zero, linalg.exact([[1], [0]])),)
    before = None if clean is None else linalg.exact(clean)
    return Convex(linalg.exact(values), zero, linalg.exact(centre), pieces, before)


def _masked() -> Convex:
    """Three parameters, eigenvalues 1, 2 and 4 in turned directions, any one entry of the update."""
    return Convex(
        linalg.exact([1, 2, 4]), linalg.exact([1, 1, 0]), linalg.exact([2, -1, 3]), convex.sparse(3, 1)
    )


def _curve() -> Convex:
    """The parabola (φ, φ²) and a centre beside it."""
    return Convex(linalg.exact([1, 3]), linalg.exact([1, -1]), linalg.exact([1, 2]), convex.parabola(2))


def _wells() -> Landscape:
    """Four minima at (±1, ±2), and the line (φ, φ)."""
    curve = linalg.exact([[0, 0], [1, 1], [0, 0]])
    return Landscape(linalg.exact([1, 2]), linalg.exact([1, 1]), curve)


def _weighted(rank: int = 1) -> Separable:
    return Separable(linalg.exact([3, 2, 1]), linalg.exact([1, 2, 1]), linalg.exact([1, 1, 3]), rank)


def _bent() -> Bend:
    """LoRA of rank 1 on a row of two weights, with a cubic loss."""
    G, T = bends.lora(1, 2, 1)
    H = linalg.exact([[2, 1], [1, 2]])
    return Bend(linalg.exact([1, -1]), H, linalg.exact([1, 2]), G, T, linalg.exact([1, 2, -1]), "LoRA")


def _linear() -> Bend:
    """A linear map of one number into two."""
    G, T = linalg.exact([[1], [2]]), 0 * linalg.exact([[[1]], [[1]]])
    return Bend(linalg.exact([1, 1]), rational.identity(2), linalg.exact([0, 1]), G, T, linalg.exact([1]))


def _rise(i: Any) -> Any:
    return i.reached - i.optimum


def _times(constant: str, square: str) -> Any:
    return lambda i: getattr(i, constant) * getattr(i, square) / 2


def _convex() -> Any:
    return convex.convexes(), logistic.logistics()


CLAIMS = (
    Claim(
        id="T4.R12",
        theorem="sensitivity",
        statement=(
            r"\mathcal{L}' \ \mu\text{-strongly convex, any } g:\ "
            r"\tfrac\mu2\,\mathrm{dist}(\theta'_F-\theta_0,\mathrm{Im}\,g)^2 \le "
            r"\inf_\Phi\mathcal{L}'(\theta_0+g(\Phi))-\min\mathcal{L}'"
        ),
        judgement=Judgement.TRUE,
        reason="strong convexity at the minimiser, and the infimum over the image on both sides",
        plain=(
            "After re-adaptation PEFT keeps at least this much loss. There is no quadratic model and no "
            "tangent: only how far the best parameters are from everything that PEFT can reach."
        ),
        compare=below(_times("mu", "squared_distance"), _rise),
        exact=lambda: {
            "a learned mask": _masked(),
            "a curve": _curve(),
            "curvature 2 everywhere: equality": _plane([2, 2], [1, 1]),
        },
        strategy=_convex,
        control=Control(
            "the smallest curvature μ: replaced by the largest",
            exact=lambda: _plane([5, 1], [1, 1]),
            compare=below(_times("beta", "squared_distance"), _rise),
        ),
        observe=observed.bounded,
    ),
    Claim(
        id="T4.R13",
        theorem="sensitivity",
        statement=(
            r"\nabla\mathcal{L}' \ \beta\text{-Lipschitz, any } g:\ "
            r"\inf_\Phi\mathcal{L}'(\theta_0+g(\Phi))-\min\mathcal{L}' \le "
            r"\tfrac\beta2\,\mathrm{dist}(\theta'_F-\theta_0,\mathrm{Im}\,g)^2"
        ),
        judgement=Judgement.TRUE,
        reason="smoothness at the minimiser, where the gradient is 0; convexity is not needed",
        plain="And at most this much: what is near to what PEFT can reach is lost cheaply.",
        compare=below(_rise, _times("beta", "squared_distance")),
        exact=lambda: {
            "a learned mask": _masked(),
            "a curve": _curve(),
            "curvature 2 everywhere: equality": _plane([2, 2], [1, 1]),
        },
        strategy=_convex,
        control=Control(
            "the largest curvature β: replaced by the smallest",
            exact=lambda: _plane([1, 5], [1, 1]),
            compare=below(_rise, _times("mu", "squared_distance")),
        ),
        observe=observed.bounded,
    ),
    Claim(
        id="T4.R14",
        theorem="sensitivity",
        statement=(
            r"\text{LoRA of rank } r:\ \inf_\Phi\mathcal{L}'(\Theta_0+BA)-\min\mathcal{L}' \ge "
            r"\tfrac\mu2\sum_{i>r}\sigma_i(\Theta'_F-\Theta_0)^2"
        ),
        judgement=Judgement.TRUE,
        reason="R12 with the distance of Eckart and Young; held against infima, and updates found, of rank r",
        plain=(
            "What LoRA keeps of a disturbed loss at least: the tail of the singular values of what full "
            "fine-tuning would do. With several layers their tails add up."
        ),
        compare=below(_times("mu", "tail"), _rise),
        exact=lambda: {
            "weights 1, 2, 3 on diag(3, 2, 1), rank 1: 1/2 · 5 ≤ 11/2": _weighted(),
            "rank 0": _weighted(0),
            "all weights 2: equality": Separable(
                linalg.exact([3, 2, 1]), linalg.exact([2, 2, 2]), linalg.exact([1, 1, 1]), 1
            ),
        },
        worked="weights a_i b_i = 1, 2, 3: squares 9, 8 and 3, of which the largest is kept: (8 + 3)/2",
        strategy=lambda: (lowranks.separables(), lowranks.matrix_logistics()),
        control=Control(
            "the smallest curvature: replaced by the largest",
            exact=_weighted,
            compare=below(_times("beta", "tail"), _rise),
            strategy=lowranks.separables,
        ),
        observe=observed.low_rank,
    ),
    Claim(
        id="T4.R15",
        theorem="sensitivity",
        statement=r"\inf_\Phi\mathcal{L}'(\theta_0+g(\Phi)) \ge \inf_\theta\mathcal{L}'(\theta)",
        judgement=Judgement.TRUE,
        reason="the first infimum is over a part of the set of the second: any loss, any g, no hypotheses",
        plain=(
            "The sign alone. On one and the same loss, trained to the end, PEFT is never better than full "
            "fine-tuning. It says nothing of how much each of them has lost by the disturbance."
        ),
        compare=below(lambda i: i.optimum, lambda i: i.reached),
        exact=lambda: {"four minima and a line": _wells(), "a learned mask": _masked(), "a curve": _curve()},
        strategy=lambda: (landscapes.landscapes(), convex.convexes(), logistic.logistics()),
        control=Control(
            "the same loss: replaced by the rise of each over its own undisturbed optimum",
            exact=lambda: _plane([1, 1], [1, 0], clean=[1, 1]),
            compare=below(lambda i: i.rises[1], lambda i: i.rises[0]),
            strategy=convex.convexes,
        ),
        observe=observed.ended,
    ),
    Claim(
        id="T4.R25",
        theorem="sensitivity",
        statement=(r"H_\Phi = P^THP+\sum_i(\nabla_\theta\mathcal{L})_i\nabla^2g_i(\Phi),\quad P=Dg(\Phi)"),
        judgement=Judgement.TRUE,
        reason="the chain rule, differentiated once more; the sum is 0 for linear g, or where ∇L = 0",
        plain=(
            "Equation 50 for maps that are not linear. For LoRA the second term is there wherever the "
            "gradient of the loss is not zero, and it is indefinite."
        ),
        compare=equal(lambda i: i.composed_hessian, lambda i: i.pulled_hessian),
        exact=lambda: {
            "θ = ba, L = θ: [[0, 1], [1, 0]]": bends.scalar_lora(),
            "LoRA, a cubic loss": _bent(),
            "a linear map": _linear(),
        },
        strategy=bends.bends,
        control=Control(
            "the second term: dropped, as (50) does",
            exact=bends.scalar_lora,
            compare=equal(lambda i: i.composed_hessian, lambda i: i.tangent_hessian),
        ),
        observe=observed.derivatives,
    ),
    Claim(
        id="T4.R26",
        theorem="sensitivity",
        statement=r"\nabla_\Phi\mathcal{L} = Dg(\Phi)^T\nabla_\theta\mathcal{L}",
        judgement=Judgement.TRUE,
        reason="the chain rule",
        plain="Equation 49 for any map: the directions are those of g at the present Φ, and move with it.",
        compare=equal(lambda i: i.composed_gradient, lambda i: i.pulled_gradient),
        exact=lambda: {
            "θ = ba at b = a = 1": bends.scalar_lora(),
            "LoRA, a cubic loss": _bent(),
            "a linear map": _linear(),
        },
        strategy=bends.bends,
        control=Control(
            "Dg at Φ: replaced by the linear part of g",
            exact=bends.scalar_lora,
            compare=equal(lambda i: i.composed_gradient, lambda i: i.tangent_gradient),
        ),
        observe=observed.derivatives,
    ),
)
