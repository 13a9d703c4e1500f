r"""Repairs that speak of the loss: between what curvature allows from above and from below, and its slope."""

from __future__ import annotations

from fractions import Fraction
from typing import Any

from .. import linalg
from ..claims import Claim, Comparison, Control, Judgement, relation
from . import observed
from .claims_printed import identity, sloping
from .comparisons import bounded, bounded_by, enough, lipschitz, no_more_than, root
from .instances import determinants, quadratics
from .instances.determinants import Segment
from .instances.quadratics import Distance, Quadratic, square
from .instances.spectra import Truncated


def _isotropic() -> Quadratic:
    return Quadratic(Truncated(linalg.exact([3, 1]), 1), linalg.exact([[2, 2], [2, 2]]))


def _diagonal(weights: list[list[int]]) -> Quadratic:
    return Quadratic(Truncated(linalg.exact([2, 1]), 1), linalg.exact(weights))


_above = bounded_by(
    lambda i: i.reached - i.optimum, lambda i: i.at_optimum * root(i.tail) + i.beta * i.tail / 2
)
_below = bounded_by(lambda i: i.mu * i.tail / 2, lambda i: i.of_rival - i.optimum)


def _identity(i: Any) -> Comparison:
    scale, operations = getattr(i, "scale", None), getattr(i, "operations", 8)
    return Comparison(i.change, "==", i.expansion, scale, operations, getattr(i, "error", 0.0))


CLAIMS = (
    Claim(
        id="T3.R3",
        theorem="diminishing",
        statement=(
            r"|\mathcal{L}(W+D_1)-\mathcal{L}(W+D_2)| \le G\|D_1-D_2\|_F,\quad G \ge \max_{0\le "
            r"t\le1}\|\nabla\mathcal{L}(W+(1-t)D_1+tD_2)\|_F"
        ),
        judgement=Judgement.TRUE,
        reason="the mean value theorem; for perceptrons a G is certified on every segment",
        plain=(
            "Equation 35 with a constant that belongs to the segment between the two updates, and is "
            "computed: spectral norms, slopes of the activations and one run of the network give an upper "
            "bound."
        ),
        compare=lipschitz,
        exact=lambda: {
            "w² between 0 and 2, G = 4": Quadratic(square(1).update, linalg.exact([[2]])),
            "a quadratic loss with a slope": sloping(),
        },
        strategy=quadratics.quadratics,  # for distance losses both sides would be one and the same number
        control=Control(
            "the largest gradient on the segment: replaced by that at one end",
            exact=lambda: Quadratic(square(1).update, linalg.exact([[2]])),
            compare=bounded_by(lambda i: i.change, lambda i: i.at_optimum * i.distance),
            strategy=quadratics.quadratics,
        ),
        observe=observed.segments,
    ),
    Claim(
        id="T3.R4",
        theorem="diminishing",
        statement=(
            r"V(r)-V^* \le \mathcal{L}(\Delta W_r)-\mathcal{L}(\Delta W^*) \le \|\nabla\mathcal{L}(\Delta "
            r"W^*)\|_F\sqrt{\mathrm{tail}(r)}+\tfrac\beta2\mathrm{tail}(r)"
        ),
        judgement=Judgement.TRUE,
        reason="Taylor's formula along the segment; at a stationary ΔW* (β/2) ε takes the place of L√ε",
        plain=(
            "At an optimum the loss of truncation is of second order: half the largest curvature times what "
            "is left out. The term √(r/N) is not needed."
        ),
        compare=_above,
        exact=lambda: {
            "curvature 2 everywhere: equality": _isotropic(),
            "a quadratic loss with a slope": sloping(),
        },
        strategy=lambda: (
            quadratics.quadratics(stationary=True),
            quadratics.quadratics(),
            quadratics.separables(),
        ),
        control=Control(
            "the largest curvature: replaced by the smallest",
            exact=lambda: _diagonal([[1, 1], [1, 5]]),
            compare=bounded_by(
                lambda i: i.reached - i.optimum, lambda i: i.at_optimum * root(i.tail) + i.mu * i.tail / 2
            ),
            strategy=lambda: quadratics.quadratics(stationary=True),
        ),
        observe=observed.smooth_segments,
    ),
    Claim(
        id="T3.R5",
        theorem="diminishing",
        statement=(
            r"\mathcal{L}(D)\ge V^*+\tfrac\mu2\|D-\Delta W^*\|_F^2\ \forall D\ \Rightarrow\ "
            r"\tfrac\mu2\mathrm{tail}(r) \le V(r)-V^*"
        ),
        judgement=Judgement.TRUE,
        reason="no D of rank r is nearer to ΔW* than the truncation; with R4 an equality for μ = β",
        plain=(
            "Where the loss grows at least quadratically around its optimum, no update of rank r can be "
            "better than this."
        ),
        compare=_below,
        exact=lambda: {
            "curvature 2 everywhere: equality": _isotropic(),
            "curvatures 1 and 5": _diagonal([[5, 5], [5, 1]]),
        },
        strategy=lambda: (
            quadratics.quadratics(stationary=True, isotropic=True, rival=True),
            quadratics.quadratics(stationary=True, rival=True),
            quadratics.separables(),
        ),
        control=Control(
            "the smallest curvature: replaced by the largest",
            exact=lambda: _diagonal([[5, 5], [5, 1]]),
            compare=bounded_by(lambda i: i.beta * i.tail / 2, lambda i: i.of_rival - i.optimum),
            strategy=lambda: quadratics.quadratics(stationary=True, rival=True),
        ),
    ),
    Claim(
        id="T3.R6",
        theorem="diminishing",
        statement=(
            r"\mathcal{L}(\Delta+D)-\mathcal{L}(\Delta) = \langle\nabla\mathcal{L}(\Delta),D\rangle + "
            r"\int_0^1(1-t)\,D^TH(\Delta+tD)\,D\,dt"
        ),
        judgement=Judgement.TRUE,
        reason=(
            "Taylor's formula with the remainder as an integral, for losses that are twice differentiable"
        ),
        plain=(
            "The loss of truncation exactly, from the slope and the curvature along the segment: an oracle "
            "for the bounds."
        ),
        compare=_identity,
        exact=lambda: {
            "(det D − 1)² from I to 0": Segment(
                linalg.exact([[1, 0], [0, 1]]), linalg.exact([[0, 0], [0, 0]])
            ),
            "from a point that is not stationary": Segment(
                linalg.exact([[2, 1], [0, 1]]), linalg.exact([[1, -1], [3, 0]])
            ),
        },
        strategy=determinants.segments,
        control=Control(
            "the Hessian along the segment: replaced by that at its start",
            exact=lambda: Segment(linalg.exact([[1, 0], [0, 1]]), linalg.exact([[0, 0], [0, 0]])),
            compare=relation(lambda i: i.change, "==", lambda i: i.frozen),
        ),
        observe=observed.smooth_segments,
    ),
    Claim(
        id="T3.R7",
        theorem="diminishing",
        statement=(
            r"V^*=\min\mathcal{L}\ \Rightarrow\ V(r_c)-V(r) \le G\sqrt\epsilon \text{ for all } "
            r"r \ge r_c(\epsilon)"
        ),
        judgement=Judgement.TRUE,
        reason="V(r) ≥ V*, and V(r_c) ≤ L(ΔW_{r_c}) ≤ V* + G√ε by R3, for V* the least loss of all",
        plain=(
            "T3.b as it can be proved: of the rank, with the repaired critical rank, and a G for the segment."
        ),
        compare=no_more_than,
        assumes=(enough, bounded),
        exact=lambda: {
            "singular values 4, 2, 1, ε = 6": Distance(
                Truncated(linalg.exact([4, 2, 1]), 1, Fraction(6)), Fraction(2), 3
            )
        },
        strategy=quadratics.distances,
        control=Control(
            "the repaired r_c: replaced by (34) as printed",
            exact=lambda: Distance(identity(), larger=3),
            assumes=(bounded,),
            strategy=lambda: quadratics.distances(any_rank=True),
        ),
    ),
)
