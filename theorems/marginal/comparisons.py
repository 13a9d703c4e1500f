"""Comparisons and hypotheses that several claims of Theorem 5 share.

Pairs belong to FFT and PEFT, in this order.  Instances that are means over seeds have a `standard_error`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

from ..claims import Assumption, Comparison, at_most


def judged(lhs: Callable[[Any], Any], sign: str, rhs: Callable[[Any], Any]) -> Callable[[Any], Comparison]:
    """Compare two functions of an instance, which may be means over seeds."""
    return lambda i: Comparison(
        lhs(i),
        sign,
        rhs(i),
        standard_error=getattr(i, "standard_error", None),
        rival=getattr(i, "rival", None),
        statistics=getattr(i, "statistics", {}),
    )


def bounded_by(lhs: Callable[[Any], Any], rhs: Callable[[Any], Any]) -> Callable[[Any], Comparison]:
    """Compare two functions of an instance, the second of which may be attained."""
    return lambda i: at_most(
        lhs(i), rhs(i), scale=getattr(i, "scale", None), operations=getattr(i, "operations", 8)
    )


def sums(left: Iterable[Any], right: Iterable[Any]) -> list[Any]:
    """Add two lists."""
    return [a + b for a, b in zip(left, right, strict=True)]


generalisation = bounded_by(lambda i: i.gaps[0], lambda i: i.bounds[0])
"""E[L − L_N] ≤ C √(d/N)."""

generalisation_of_peft = bounded_by(lambda i: [i.gaps[1], i.floors[0]], lambda i: [i.bounds[1], i.floors[1]])
"""E[L − L_N] ≤ C √(k/N) and A_full ≤ A_peft."""

decomposition = judged(lambda i: i.risks, "==", lambda i: sums(i.bests, i.gaps))
"""E L = L* + E[L − L_N], for each class."""

linear = Assumption(
    "a linear class of bounded norm with a Lipschitz loss",
    lambda i: (i.linear, "linear" if i.linear else i.kind),
)
realised = Assumption("the labellings tried are realised", lambda i: (i.realised, i.realised))
noisy = Assumption("σ² > 0", lambda i: (i.noise > 0, f"σ² = {i.noise}"))
