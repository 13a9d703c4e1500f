"""Rademacher complexities: exactly, by sampling with an interval, and between bounds with constants."""

from .ky_fan import Ball
from .losses import CROSS_ENTROPY, SYMMETRISATION, of_losses
from .ranked import Sampled, enumerated, lower_bound, ratio_bounds, sampled, upper_bound

__all__ = [
    "CROSS_ENTROPY",
    "SYMMETRISATION",
    "Ball",
    "Sampled",
    "enumerated",
    "lower_bound",
    "of_losses",
    "ratio_bounds",
    "sampled",
    "upper_bound",
]
