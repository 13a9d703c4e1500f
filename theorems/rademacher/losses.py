r"""From the complexity of a class of outputs to that of its losses: contraction, with its constants."""

from __future__ import annotations

import math

CROSS_ENTROPY = math.nextafter(math.sqrt(2), 2)
"""Lipschitz constant of cross-entropy in the logits, √2, rounded up: its gradient p − e_y is no longer."""
SYMMETRISATION = 2
r"""$E\sup(L - L_N) \le 2R_N$."""


def of_losses(complexity: float, lipschitz: float, *, scalar: bool = False) -> float:
    r"""Bound the complexity of the losses of a class by that of its outputs.

    $$\hat R(\ell\circ\mathcal F) \le \sqrt2\,G\,\hat R_{vec}(\mathcal F),\qquad
    \hat R(\ell\circ\mathcal F) \le G\,\hat R(\mathcal F)\ \text{ for one output}$$

    Args:
        complexity: of the outputs; for several outputs the vector complexity, with a sign for each output.
        lipschitz: G, of the loss in the outputs in Euclidean norm; `CROSS_ENTROPY` for cross-entropy.
        scalar: whether functions have one output.

    Returns:
        The bound.  Both constants are the best.

    Raises:
        ValueError: a negative or non-finite argument.

    Source: T5.R18, T5.R19; Ledoux and Talagrand 1991, theorem 4.12; Maurer 2016 (arXiv 1605.00251),
    corollary 4.
    """
    for name, value in (("complexity", complexity), ("lipschitz", lipschitz)):
        if not (value >= 0 and math.isfinite(value)):
            raise ValueError(f"{name}: got {value}, needs a finite number >= 0")
    return (1.0 if scalar else math.nextafter(math.sqrt(2), 2)) * lipschitz * complexity
