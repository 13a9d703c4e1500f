"""Comparisons and hypotheses that several claims of Theorem 4 share."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from ..claims import Assumption, Comparison, at_most
from .instances.either import length

definite = Assumption("H ≻ 0", lambda i: i.definiteness)
semidefinite = Assumption("H ⪰ 0", lambda i: i.semidefiniteness)
invertible = Assumption("H is invertible", lambda i: i.invertibility)
in_range = Assumption("u ∈ range H", lambda i: i.range_condition)
restricted_in_range = Assumption("Pᵀu ∈ range PᵀHP", lambda i: i.restricted_range)
stationary = Assumption("∇L = 0", lambda i: i.stationarity)
orthonormal = Assumption("PᵀP = I", lambda i: i.orthonormality)
independent = Assumption("P has full column rank", lambda i: i.independence)
linear = Assumption("g is linear", lambda i: i.linearity)
quadratic = Assumption("the loss is quadratic", lambda i: i.quadraticity)
fewer = Assumption("fewer parameters are trained", lambda i: (i.k < i.d, f"{i.k} < {i.d}"))
several = Assumption("more than one parameter", lambda i: (i.d > 1, i.d))


def _moving(i: Any) -> tuple[bool, str]:
    return bool(np.any(i.gradient)), f"|∇L| = {length(i.gradient):.3g}"


def _outside(i: Any) -> tuple[bool, str]:
    return bool(np.any(i.orthogonal)), f"|ε_⊥| = {length(i.orthogonal):.3g}"


moving = Assumption("∇L ≠ 0", _moving)
outside = Assumption("ε_⊥ ≠ 0", _outside)

Terms = Callable[[Any], tuple[Any, ...]]


def balance(
    lhs: Terms, sign: str, rhs: Terms = lambda _: (0,), *, among: Terms = lambda _: ()
) -> Callable[[Any], Comparison]:
    """Compare two sums, given by their terms: rounding is relative to all of these, whatever cancels.

    `among` names what a side is rounded with besides: what a difference that may vanish was formed of.
    """

    def compare(i: Any) -> Comparison:
        left, right = lhs(i), rhs(i)
        scale = None if i.is_exact else sum(abs(term) for term in (*left, *right, *among(i)))
        return Comparison(sum(left), sign, sum(right), scale, i.operations)

    return compare


def no_rival_is_lower(*, full: bool = False, peft: bool = False) -> Callable[[Any], Comparison]:
    """The value of q under a printed step against its values elsewhere, a measured minimum among them."""

    def compare(i: Any) -> Comparison:
        pairs = [(i.value_full, i.rivals_full)] * full + [(i.value_peft, i.rivals_peft)] * peft
        lhs = np.concatenate([np.full(len(rivals), value) for value, rivals in pairs])
        rhs = np.concatenate([rivals for _, rivals in pairs])
        scale = None if i.is_exact else abs(rhs) + abs(i.tilt_full)
        return at_most(lhs, rhs, scale=scale, operations=i.operations)

    return compare


def no_higher_than_staying(i: Any) -> Comparison:
    """The values of q under both printed steps against q(0) = 0."""
    lhs = np.array([i.value_full, i.value_peft])
    return at_most(lhs, 0 * lhs, scale=None if i.is_exact else abs(i.tilt_full), operations=i.operations)


def both_signs(i: Any) -> Comparison:
    """The printed difference of the two changes, (54), at ε and at −ε: above 0."""
    slope = np.array([1, -1]) * i.orthogonal_slope
    terms = (i.parallel_restricted / 2, slope, -i.disturbance_full / 2)
    scale = None if i.is_exact else sum(abs(term) for term in terms)
    return Comparison(sum(terms), ">", 0 * slope, scale, i.operations)
