"""Comparisons and hypotheses that several claims of Theorem 2 share."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from ..claims import Assumption, Comparison
from .feedforward import FeedForward


def deviation_at_most(bound: Callable) -> Callable[[FeedForward], Comparison]:
    """Compare the measured deviation with a bound, input by input."""

    def compare(pair: FeedForward) -> Comparison:
        return Comparison(pair.deviation, "<=", bound(pair), scale=pair.scale, operations=pair.operations)

    return compare


def _bias_untuned(pair: FeedForward) -> tuple[bool, None]:
    return not any(np.any(b != 0) for b in pair.bias_updates or ()), None


chain_form = Assumption(
    "the network is a chain of dense layers (27)", lambda p: (isinstance(p, FeedForward), type(p).__name__)
)
bias_free = Assumption("no biases", lambda p: (p.bias_free, None))
untuned_biases = Assumption("no bias is tuned", _bias_untuned)
keeps_zero = Assumption("σ(0) = 0", lambda p: (p.keeps_zero, None))
