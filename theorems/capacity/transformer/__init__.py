"""Theorem 2 for transformers: certified bounds on ‖f(x; θ) − f(x; θ₀)‖.

`deviation_bound` looks at one update, `budget_bound` at all updates of given norms, `path_bound` follows an
update in steps, `range_bound` knows only the last norm layer, and `plain_chain` is the product of layer
constants to compare with.
"""

from .attention import attention_lipschitz
from .bound import DeviationBound, Layer, deviation_bound, path_bound, range_bound
from .budget import BudgetBound, budget_bound
from .forward import Run, forward
from .norms import norm_lipschitz, norm_radius, sphere_chord, sphere_remainder, two_point, two_point_from_base
from .perceptron import activation_change, activation_remainder
from .plain import plain_chain
from .softmax import softmax_lipschitz, softmax_move, softmax_remainder

__all__ = [
    "BudgetBound",
    "DeviationBound",
    "Layer",
    "Run",
    "activation_change",
    "activation_remainder",
    "attention_lipschitz",
    "budget_bound",
    "deviation_bound",
    "forward",
    "norm_lipschitz",
    "norm_radius",
    "path_bound",
    "plain_chain",
    "range_bound",
    "softmax_lipschitz",
    "softmax_move",
    "softmax_remainder",
    "sphere_chord",
    "sphere_remainder",
    "two_point",
    "two_point_from_base",
]
