"""Rademacher complexities: exactly, by sampling with an interval, and between bounds with constants."""

from .compared import Compared, compared, curves, free_compared
from .estimate import Complexity, Sampled
from .ky_fan import Ball
from .linear import LinearClass
from .losses import CROSS_ENTROPY, SYMMETRISATION, of_losses
from .ranked import drawn, enumerated, lower_bound, of_drawn, rank_curves, ratio_bounds, sampled, upper_bound
from .reached import Reached, reached
from .subspace import KernelRatio, kernel_ratio, subspace
from .tangent import Tangent, tangent

__all__ = [
    "CROSS_ENTROPY",
    "SYMMETRISATION",
    "Ball",
    "Compared",
    "Complexity",
    "KernelRatio",
    "LinearClass",
    "Reached",
    "Sampled",
    "Tangent",
    "compared",
    "curves",
    "drawn",
    "enumerated",
    "free_compared",
    "kernel_ratio",
    "lower_bound",
    "of_drawn",
    "of_losses",
    "rank_curves",
    "ratio_bounds",
    "reached",
    "sampled",
    "subspace",
    "tangent",
    "upper_bound",
]
