"""A rank and what justifies it."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float

from .. import linalg
from .parts import singular_values

GAP = 1e6
CLEAR = 1e4
DOUBT = 1e2
"""How far a singular value must stand above the estimated error of the matrix: the estimate is one draw."""


@dataclass(frozen=True, repr=False)
class Rank:
    r"""A numerical rank with the singular values on its two sides.

    Attributes:
        rank: the rank; None where no gap justifies one.
        above: the smallest singular value that counts, relative to the largest.
        below: the largest one that does not, relative to the largest, or what bounds it.
        shape: of the matrix.
        how: by which computation.
        failure_probability: with which `below` is too small a bound; 0 for a decomposition of the matrix.
        lower_bound: whether the rank is known to be at least `rank` and nothing is said of more.
    """

    rank: int | None
    above: float
    below: float
    shape: tuple[int, int]
    how: str
    failure_probability: float = 0.0
    lower_bound: bool = False

    @property
    def gap(self) -> float:
        """Ratio of the two neighbours; infinite where nothing is left below."""
        return self.above / self.below if self.below else float("inf")

    def __repr__(self) -> str:
        """Show the rank, the gap and the computation."""
        rank = "undecided" if self.rank is None else f"{'at least ' if self.lower_bound else ''}{self.rank}"
        chance = (
            f", fails with probability {self.failure_probability:.0e}" if self.failure_probability else ""
        )
        size = "x".join(map(str, self.shape))
        return f"Rank({rank} of {size}: {self.above:.1e} | {self.below:.1e}, {self.how}{chance})"


def numerical_rank(matrix: Float[np.ndarray, "m n"]) -> Rank:
    r"""Count the singular values that stand clear of rounding, where a gap separates them from the others.

    A singular value is at rounding level if $\sigma_i \le \max(m, n)\, \varepsilon\, \sigma_1$.  The rank
    is the position of the largest gap $\sigma_i / \sigma_{i+1}$; it counts only if the gap is at least 10⁶
    and everything after it is within 100 times that level.  Without anything at rounding level the matrix
    has full rank if its smallest singular value is 10⁴ times above it.  What lies at that level may be
    rounding or may be tiny and real: the rank is that of the matrix without it, and a lower bound of the
    matrix's own.

    Args:
        matrix: float64, shape (m, n).

    Raises:
        ValueError: another dtype, NaN or infinity.

    Source: Golub and Van Loan, *Matrix Computations*, 4th ed. 2013, section 5.4.1.  The Gram matrix is never
    formed: it would square the singular values and bury the gap.
    """
    linalg.require_judging_precision("matrix", matrix)
    return from_values(singular_values(matrix), matrix.shape, "dense SVD")


def rank_at_least(matrix: Float[np.ndarray, "m n"], error: float = 0.0) -> Rank:
    r"""Count the singular values that stand clear of rounding: a lower bound of the rank, which needs no gap.

    A singular value above $10^4 \max(m, n)\, \varepsilon\, \sigma_1$ is not zero, as the decomposition's own
    rounding moves it by about a ten-thousandth of that; nor is the exact matrix's if it is also above
    $10^2 \|E\|_2$ where the matrix that was handed over is off by E (Weyl).

    Args:
        matrix: float64, shape (m, n).
        error: an estimate of ‖E‖₂, for a matrix that was itself computed with rounding.

    Raises:
        ValueError: another dtype, NaN or infinity.
    """
    linalg.require_judging_precision("matrix", matrix)
    shape = matrix.shape
    if min(shape) == 0:
        return Rank(0, 0.0, 0.0, shape, "dense SVD", lower_bound=True)
    return at_least(singular_values(matrix), shape, "dense SVD", error)


def at_least(values: Float[np.ndarray, " s"], shape: tuple[int, int], how: str, error: float = 0.0) -> Rank:
    """The lower bound that singular values in descending order show, by the rule of `rank_at_least`."""
    relative = values / values[0] if len(values) and values[0] else np.zeros(1)
    off = DOUBT * error / values[0] if len(values) and values[0] else 0.0
    rank = int((relative > max(CLEAR * max(shape) * linalg.EPS, off)).sum())
    above, below = (float(relative[at]) if 0 <= at < len(relative) else 0.0 for at in (rank - 1, rank))
    return Rank(rank, above, below, shape, how, lower_bound=True)


def from_values(values: Float[np.ndarray, " s"], shape: tuple[int, int], how: str) -> Rank:
    """The rank that singular values in descending order show, by the rule of `numerical_rank`."""
    if len(values) == 0 or values[0] == 0:
        return Rank(0, 0.0, 0.0, shape, how)
    relative = values / values[0]
    floor = max(shape) * linalg.EPS
    candidates = np.append(relative, 0.0)
    ratios = candidates[:-1] / np.maximum(candidates[1:], floor / 100)
    rank = int(ratios.argmax()) + 1
    above, below = float(candidates[rank - 1]), float(candidates[rank])
    clear = above >= GAP * max(below, floor / 100) and below <= 100 * floor
    return Rank(rank if clear else None, above, below, shape, how)
