"""Comparisons and hypotheses that several claims of Theorem 1 share."""

from __future__ import annotations

from typing import Any

from ..claims import Assumption, Comparison
from . import routes

fewer = Assumption("k < d", lambda i: (i.k < i.d, f"{i.k} < {i.d}"))


def vanishes(instance: Any) -> Comparison:
    """ℓ(f) = 0, for a functional that vanishes on F_full."""
    return Comparison(instance.functional, "==", 0 * instance.functional)


def both_ways(instance: Any) -> Comparison:
    """f(x; θ₀; Φ) computed the ordinary way, against f(x; θ₀ + g(Φ))."""
    if hasattr(instance, "functional"):
        return vanishes(instance)
    if isinstance(instance, routes.Routes):
        return Comparison(instance.ordinary, "==", instance.merged)
    return Comparison(instance.ordinary, "==", instance.merged, instance.scale, instance.operations)


def something_is_missed(instance: Any) -> Comparison:
    """The distance of the target that is missed most: positive where the inclusion is strict."""
    if isinstance(instance.missed, float):
        return Comparison(instance.missed, ">", 0.0, scale=instance.scale, operations=instance.operations)
    return Comparison(instance.missed, ">", 0)
