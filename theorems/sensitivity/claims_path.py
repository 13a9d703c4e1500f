r"""Repairs on what the quadratic model says of re-training: right in the limit of small disturbances."""

from __future__ import annotations

from typing import Any

from .. import linalg
from ..claims import Claim, Comparison, Control, Judgement
from . import observed
from .comparisons import definite, stationary
from .instances import blends, own_paths
from .instances.blends import Blend
from .instances.convex import Convex
from .instances.own_paths import Bowl
from .instances.readaptations import Rises


def _tends(wrong: str = "predicted") -> Any:
    """The continued limit against a formula."""

    def compare(i: Any) -> Comparison:
        return Comparison(
            i.limit,
            "==",
            getattr(i, wrong),
            getattr(i, "scale", None),
            getattr(i, "operations", 8),
            extra=getattr(i, "error", 0.0),
            statistics=getattr(i, "statistics", {}),
        )

    return compare


def _both_signs(i: Rises) -> Comparison:
    counts = {"smaller for PEFT": i.smaller, "larger": i.larger, "of": len(i.peft)}
    return Comparison(min(i.smaller, i.larger), ">=", 1, statistics=counts)


def _turned() -> Blend:
    """H = [[1, −1], [−1, 2]] turns into its mirror image; P = e₁ and u = e₂."""
    H, other = linalg.exact([[1, -1], [-1, 2]]), linalg.exact([[2, 1], [1, 1]])
    u = linalg.exact([0, 1])
    return Blend(H, other, linalg.exact([[1], [0]]), u, 0 * u)


def _bowl() -> Bowl:
    """The parabola (φ, φ²/2): A = c = 1, so that H_Φ = 2 where (50) has 1."""
    one = linalg.exact([[1]])
    return Bowl(one, 2 * one, one, linalg.exact([1, 0]), linalg.exact([2]))


def _planted(*clean: int) -> Rises:
    """Two parameters of which PEFT moves the first, A = I, and L′ least at (1, 1): by the clean optima."""
    pieces = ((linalg.exact([0, 0]), linalg.exact([[1], [0]])),)
    one = linalg.exact([1, 1])
    rises = [Convex(one, 0 * one, one, pieces, linalg.exact([0, away])).rises for away in clean]
    return Rises(*(linalg.exact([pair[i] for pair in rises]) for i in (0, 1)))


CLAIMS = (
    Claim(
        id="T4.R33",
        theorem="sensitivity",
        statement=(
            r"\mathcal{L}_t = (1-t)\mathcal{L}+t\mathcal{L}',\ \nabla\mathcal{L}=0,\ H\succ0:\ "
            r"\tfrac{1}{t^2}\big(\min_\Phi\mathcal{L}_t-\min_\theta\mathcal{L}_t\big) = "
            r"\tfrac12\|(I-Q)H^{-1/2}u\|^2 + O(t),\quad u = \nabla\mathcal{L}'-\nabla\mathcal{L}"
        ),
        judgement=Judgement.TRUE,
        reason="both minima move by −t times the quadratic model's step, up to O(t²): implicit functions",
        plain=(
            "What the quadratic model is good for: re-training really leaves the gap that it predicts, in "
            "the limit of a small share t of disturbed data. How small, no formula says; networks are "
            "re-trained to see."
        ),
        compare=_tends(),
        assumes=(definite, stationary),
        exact=lambda: {"H turns, P = e₁, u = e₂: 1/2": _turned()},
        worked=(
            "H = [[1, −1], [−1, 2]] and H′ = [[2, 1], [1, 1]], P = e₁, u = e₂: at t = 1/2 the least values "
            "are 0 and −1/12, so gap / t² is 1/3; for t → 0 it is ½ (H⁻¹)₂₂ = 1/2."
        ),
        strategy=lambda: (blends.blends(), blends.exponentials()),
        control=Control(
            "the residual form: replaced by (53) less (47)",
            exact=_turned,
            compare=_tends("printed"),
            assumes=(definite, stationary),
        ),
        observe=observed.readapted,
        detail=lambda i: i.rows,
        examples=60,
    ),
    Claim(
        id="T4.R34",
        theorem="sensitivity",
        statement=(
            r"Dg^T\nabla\mathcal{L}=0 \text{ at } \Phi^*:\ "
            r"\min_\Phi\mathcal{L}_t(g(\Phi))-\mathcal{L}_t(g(\Phi^*)) = -\tfrac{t^2}2\,u^TP H_\Phi^+P^Tu "
            r"+ O(t^3),\quad H_\Phi = P^THP+\sum_i(\nabla\mathcal{L})_i\nabla^2g_i"
        ),
        judgement=Judgement.TRUE,
        reason="the same at the own optimum of any method, with the Hessian in Φ as it is (R25)",
        plain=(
            "A method that bends, such as LoRA, starts at its own optimum, where the gradient in θ is not 0. "
            "There its curvature has a term that (50) lacks, and with it the model is right in the limit; "
            "without it, it is not."
        ),
        compare=_tends(),
        assumes=(definite, stationary),
        exact=lambda: {"the parabola (φ, φ²/2): H_Φ = 2": _bowl()},
        worked=(
            "g(φ) = (φ, φ²/2), L = x²/2 + y and L′ = 2x + x²: L_t(g(φ)) = 2tφ + φ², least at −t with the "
            "value −t².  So the limit is 1 = ½ · 2²/2; (50) has H_Φ = 1, and 2."
        ),
        strategy=lambda: (own_paths.bowls(), own_paths.low_rank_paths()),
        control=Control(
            "the second term of H_Φ: dropped, as (50) does",
            exact=_bowl,
            compare=_tends("printed"),
            assumes=(definite, stationary),
        ),
        observe=observed.own_readapted,
        examples=60,
    ),
    Claim(
        id="T4.R35",
        theorem="sensitivity",
        statement=(
            r"\min_{\mathrm{PEFT}}\mathcal{L}'-\min_{\mathrm{PEFT}}\mathcal{L} \text{ against } "
            r"\min\mathcal{L}'-\min\mathcal{L}: \text{ no fixed sign}"
        ),
        judgement=Judgement.EMPIRICAL,
        reason="each increase is a difference of two minima; only the minima themselves are ordered (R15)",
        plain=(
            "What “more sensitive” would most naturally mean: how much the re-trained loss rises over the "
            "own undisturbed optimum. For either sign there are examples, and networks show which is usual."
        ),
        compare=_both_signs,
        exact=lambda: {"the clean optimum at (0, 0), and at (0, 2)": _planted(0, 2)},
        worked=(
            "PEFT moves the first of two parameters, A = I, L′ is least at (1, 1). PEFT's least L′ is 1/2, "
            "full's is 0.  From (0, 0) the rises are 1/2 and 0; from (0, 2) PEFT's is 1/2 − 2 = −3/2, and "
            "full's is 0."
        ),
        control=Control("the second case: replaced by one like the first", exact=lambda: _planted(0, 0)),
        observe=observed.rises,
    ),
)
