"""Comparisons and hypotheses that several claims of Theorem 3 share."""

from __future__ import annotations

from typing import Any

from .. import linalg
from ..claims import Assumption, Comparison, at_most


def less(small: Any, large: Any) -> bool:
    """Whether one number is below another, exact ones without rounding."""
    gap = large - small
    return gap > 0 if isinstance(gap, float | int) else linalg.sign(gap) > 0


def _enough(i: Any) -> tuple[bool, str]:
    return less(i.tail, i.eps), f"tail {float(i.tail):.3g}, ε {float(i.eps):.3g}"


def _bounded(i: Any) -> tuple[bool, str]:
    return not less(i.constant, i.steepest), f"{float(i.steepest):.3g} ≤ {float(i.constant):.3g}"


def _admitted(i: Any) -> tuple[bool, str]:
    return less(i.printed_tail, i.eps), f"printed sum {float(i.printed_tail):.3g}, ε {float(i.eps):.3g}"


enough = Assumption("r ≥ r_c(ε): tail(r) < ε, with the sum up to rank(ΔW*)", _enough)
bounded = Assumption("L bounds the gradient on the segment", _bounded)
admitted = Assumption("r_c fulfils (34) as printed", _admitted)
every_value = Assumption("the sum ends at rank(ΔW*)", lambda i: (i.end in (None, i.whole_rank), i.end))
rank_limited = Assumption("more than one input and output", lambda i: (min(i.counts) > 1, i.counts))


def printed_bound(i: Any) -> Comparison:
    """L(ΔW_r) ≤ L(ΔW*) + L √ε: equation 7 without its last term, which makes it stronger."""
    return _within(i, i.reached, i.optimum + i.constant * root(i.eps))


def lipschitz_chain(i: Any) -> Comparison:
    """|L(ΔW*) − L(ΔW_r)| ≤ L ‖ΔW* − ΔW_r‖ ≤ L √ε."""
    middle = i.constant * i.distance
    return _within(i, [i.change, middle], [middle, i.constant * root(i.eps)])


def lipschitz(i: Any) -> Comparison:
    """|L(D₁) − L(D₂)| ≤ L ‖D₁ − D₂‖."""
    return _within(i, i.change, i.constant * i.distance)


def no_more_than(i: Any) -> Comparison:
    """V(r) − V(r′) ≤ L √ε for a larger rank r′."""
    return _within(i, i.here - i.there, i.constant * root(i.eps))


def root(value: Any) -> Any:
    """Square root, exact for exact numbers."""
    return float(value) ** 0.5 if isinstance(value, float) else linalg.square_root(value)


def _within(i: Any, lhs: Any, rhs: Any) -> Comparison:
    return at_most(lhs, rhs, scale=getattr(i, "scale", None), operations=getattr(i, "operations", 8))


def bounded_by(lhs: Any, rhs: Any) -> Any:
    """Compare two functions of an instance, the second of which may be attained."""
    return lambda i: _within(i, lhs(i), rhs(i))


def with_chance(lhs: Any, sign: str, rhs: Any) -> Any:
    """Compare two functions of an instance, which may be means over seeds."""
    return lambda i: Comparison(
        lhs(i),
        sign,
        rhs(i),
        standard_error=getattr(i, "standard_error", None),
        rival=getattr(i, "rival", None),
    )
