r"""What empirical risk minimisation over updates of rank at most r guarantees, with every constant.

The second term of the bound falls with the rank and the last one rises: the trade-off that equation 7 means.
An upper bound that rises says nothing about the risk, though; the exact U-shape is in `frozen_a`.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from ..rademacher.losses import SYMMETRISATION, of_losses


@dataclass(frozen=True)
class ErmBound:
    """The bound in its three terms, beside what holds for every matrix of the class anyway.

    Attributes:
        optimum: V*, the risk of the reference update.
        approximation: what truncating the reference to rank r costs.
        estimation: what choosing by a sample costs.
        trivial: a bound on the risk of all matrices of the class.
    """

    optimum: float
    approximation: float
    estimation: float
    trivial: float

    @property
    def total(self) -> float:
        """The bound on the expected risk."""
        return self.optimum + self.approximation + self.estimation

    @property
    def vacuous(self) -> bool:
        """Whether the bound says no more than the trivial one."""
        return self.total >= self.trivial


def erm_bound(
    *, optimum: float, lipschitz: float, distance: float, complexity: float, trivial: float
) -> ErmBound:
    r"""Bound the expected risk of a minimiser of the empirical risk over {rank D ≤ r, ‖D‖_F ≤ B}.

    $$E\,L(\hat D_r) \le V^* + G\,E\|(\Delta W^* - \Delta W_r)x\| + 2\sqrt2\,G\,R_N(r),\qquad
    B \ge \|\Delta W_r\|_F$$

    Args:
        optimum: V* = L(ΔW*), for any reference ΔW*; it need not be optimal.
        lipschitz: G, of the loss in the outputs in Euclidean norm; for cross-entropy
            `rademacher.CROSS_ENTROPY`.
        distance: $E\|(\Delta W^* - \Delta W_r)x\|$ or an upper bound, such as the root of
            $E\|(\Delta W^* - \Delta W_r)x\|^2$, which is √tail(r) for inputs with identity covariance.
        complexity: R_N(r), the expectation of the vector Rademacher complexity (`rademacher`) over samples.
        trivial: a bound that holds for the whole class: the range of the loss, or `trivial_bound`.

    Returns:
        An `ErmBound`, which may be vacuous and then says so.  2√2 is 2 by symmetrisation times √2 by
        contraction; the bound is not tight.

    Raises:
        ValueError: a negative or non-finite argument other than the optimum and the trivial bound.

    Source: T3.R11; Maurer 2016 (arXiv 1605.00251), corollary 4, for √2; Bartlett and Mendelson 2002.
    """
    given = {"lipschitz": lipschitz, "distance": distance, "complexity": complexity}
    for name, value in given.items():
        if not (value >= 0 and math.isfinite(value)):
            raise ValueError(f"{name}: got {value}, needs a finite number >= 0")
    estimation = SYMMETRISATION * of_losses(complexity, lipschitz)
    return ErmBound(optimum, lipschitz * distance, estimation, trivial)


def trivial_bound(
    *, optimum: float, lipschitz: float, radius: float, reference_norm: float, mean_input_norm: float
) -> float:
    r"""Risk of every D with ‖D‖_F ≤ B: $L(D) \le V^* + G\,(B + \|\Delta W^*\|_F)\,E\|x\|$.

    Args:
        optimum: V*.
        lipschitz: G.
        radius: B.
        reference_norm: ‖ΔW*‖_F.
        mean_input_norm: E‖x‖.

    Source: T3.R11.
    """
    return optimum + lipschitz * (radius + reference_norm) * mean_input_norm
