"""Repairs of Theorem 2, third part: activation constants, and how the deviation splits into layers."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from fractions import Fraction
from typing import Any

import numpy as np
from hypothesis import strategies as st

from ...models.activations import ACTIVATIONS
from .. import linalg
from ..claims import Assumption, Claim, Comparison, Control, Judgement, MissingIngredient
from ..pasteable import Pasteable
from . import bounds, identity, instances, observed, strategies
from .feedforward import FeedForward, chain
from .instances import TwoPoints


def _identity_holds(drop: bool = False) -> Callable[[FeedForward], Comparison]:
    def compare(pair: FeedForward) -> Comparison:
        pair = pair.first()
        terms, change = identity.layer_integrals(pair)
        total = sum(terms[1:] if drop else terms)
        moved = pair.tuned[-1][0] - pair.base[-1][0]
        rest = linalg.norm((moved - total)[None])[0]
        if pair.is_exact:
            return Comparison(rest, "==", 0)
        tolerance = linalg.gamma(64 * pair.operations) * float(pair.scale[0]) + float(change)
        if float(np.linalg.norm(moved)) < 1000 * tolerance:
            raise MissingIngredient("a deviation large enough beside rounding for a missing term to be seen")
        return Comparison(
            rest, "==", 0.0, scale=float(pair.scale[0]), operations=64 * pair.operations, extra=float(change)
        )

    return compare


def _lipschitz(factor: float) -> Callable[[TwoPoints], Comparison]:
    def compare(points: TwoPoints) -> Comparison:
        L, name = ACTIVATIONS[points.activation].lipschitz, points.activation
        L = Fraction(L * factor) if isinstance(points.u, Fraction) else L * factor
        lhs = abs(instances.scalar_value(name, points.u) - instances.scalar_value(name, points.v))
        size = 1 + abs(float(points.u)) + abs(float(points.v))
        allowance = 0 if isinstance(L, Fraction) else 2 * linalg.gamma(32) * size
        return Comparison(lhs, "<=", L * abs(points.u - points.v) + allowance, scale=size, operations=32)

    return compare


@dataclass(frozen=True, repr=False)
class OneLayerTuned(Pasteable):
    """A uniform chain (all base norms M) in which layer k alone is tuned, by norm φ."""

    M: object
    L: object
    N: int
    k: int
    phi: object
    kind: str = "uniform chain"
    norms: tuple | None = None

    def gap(self, k: int) -> object:
        """Bound (C) with ‖x‖ = 1 when layer k alone is tuned."""
        norms = self.norms or (self.M,) * self.N
        updates = [self.phi if j == k else self.phi * 0 for j in range(1, self.N + 1)]
        zeros = [0] * self.N
        return bounds.envelope_gap(self.M * 0 + 1, [self.L] * self.N, norms, updates, zeros, zeros, zeros)


def _layer_symmetric(one: OneLayerTuned) -> Comparison:
    formula = one.L**one.N * one.M ** (one.N - 1) * one.phi
    return Comparison(one.gap(one.k), "==", formula, operations=8 * one.N)


def _equal_norms(one: OneLayerTuned) -> tuple[bool, Any]:
    return all(norm == one.M for norm in one.norms or ()), one.norms


@st.composite
def _one_layer_tuned(draw: st.DrawFn) -> OneLayerTuned:
    rational = st.fractions(Fraction(1, 4), 4, max_denominator=4)
    N = draw(st.integers(2, 5))
    return OneLayerTuned(draw(rational), draw(rational), N, draw(st.integers(1, N)), draw(rational))


def _linear_or_smooth() -> tuple[st.SearchStrategy, ...]:
    floats = strategies.float_chains(activations=(*strategies.SMOOTH, "relu"), depths=(1, 3))
    return strategies.integer_chains(activations=("identity",), biases=True), floats


TRUE, CONDITIONAL = Judgement.TRUE, Judgement.CONDITIONAL

CLAIMS = (
    Claim(
        id="T2.R12",
        theorem="capacity",
        judgement=TRUE,
        statement=r"|\sigma(u)-\sigma(v)| \le L|u-v| \text{ with the table's } L",
        reason="the activation table, rounded up",
        plain="The Lipschitz condition that was meant, with the constants the library uses.",
        compare=_lipschitz(1.0),
        exact=lambda: {"relu, 2 and -1": TwoPoints("relu", *linalg.exact([2, -1]))},
        strategy=lambda: (*instances.two_points(), instances.close_points()),
        control=Control(
            "L lowered by 5 %",
            compare=_lipschitz(0.95),
            exact=lambda: TwoPoints("relu", *linalg.exact([2, 1])),
        ),
    ),
    Claim(
        id="T2.R13",
        theorem="capacity",
        judgement=CONDITIONAL,
        statement=(
            r"\text{tuning any single layer by norm } \varphi \text{ changes (C) by the same } L^N "
            r"M^{N-1}\varphi\|x\|"
        ),
        reason=(
            "if all base norms are M: the layer index drops out; with unequal norms layer k has ∏_{j≠k}‖W_j‖"
        ),
        plain="No layer is privileged by its position: what repairs 'deeper layers matter more'.",
        compare=_layer_symmetric,
        assumes=(Assumption("all base norms are equal", _equal_norms),),
        exact=lambda: {"M=2, L=1, N=3, k=2, φ=1": OneLayerTuned(*linalg.exact([2, 1]), 3, 2, Fraction(1))},
        strategy=_one_layer_tuned,
        control=Control(
            "equal norms: dropped",
            exact=lambda: OneLayerTuned(
                *linalg.exact([1, 1]), 2, 2, Fraction(1), norms=(Fraction(2), Fraction(1))
            ),
            strategy=lambda: _one_layer_tuned().map(
                lambda o: replace(o, norms=tuple(o.M + j for j in range(o.N)))
            ),
        ),
    ),
    Claim(
        id="T2.R15",
        theorem="capacity",
        judgement=TRUE,
        statement=r"f-f_0 = \sum_k \int_0^1 J_{>k}(t)\,D_k(t)\,(\Phi_k x_t^{k-1}+\beta_k)\,dt",
        reason=(
            "the fundamental theorem of calculus along W + tΦ, sorted by layers; σ locally Lipschitz, "
            "kinks allowed"
        ),
        plain=(
            "The deviation is exactly a sum of one integral per layer, whose norm every bound "
            "estimates from above."
        ),
        compare=_identity_holds(),
        exact=lambda: {
            "W=(1,2), Φ=(3,1), x=1": chain([1, 2], [3, 1], 1, activations="identity"),
            "with biases": chain(
                [1, 2], [3, 1], 1, activations="identity", biases=[1, 1], bias_updates=[2, -1]
            ),
        },
        strategy=_linear_or_smooth,
        control=Control(
            "the term of layer 1 is left out",
            compare=_identity_holds(drop=True),
            exact=lambda: chain([1, 2], [3, 1], 1, activations="identity"),
        ),
        observe=observed.one_input_split,
    ),
)
