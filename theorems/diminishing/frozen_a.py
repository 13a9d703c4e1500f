r"""Where one more rank begins to hurt: the exact risk of LoRA regression with a frozen A.

The model: $y = (W + \Delta W)x + \xi$ with N samples, $x \sim \mathcal N(0, I_n)$ and
$\xi \sim \mathcal N(0, \sigma^2 I_m)$.  LoRA's A is frozen to the leading r right singular vectors of ΔW, and
B is fitted by least squares.  The excess risk $E\|\hat D - \Delta W\|_F^2$ is then known exactly, and so is
the best rank.  Kernels are (in, out) here, so ΔW is `update.T`.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable
from dataclasses import dataclass
from fractions import Fraction

import numpy as np

from .. import linalg
from .spectrum import Spectrum, tails

Number = Fraction | float | int


def excess_risk(bias: Number, rank: int, *, outputs: int, samples: int, noise: Number) -> Number:
    r"""Excess risk of a frozen A of rank r that misses a squared norm of `bias`.

    $$E = \frac{(N-1)\,b + m\sigma^2 r}{N-r-1},\qquad b = \|\Delta W (I - A^+A)\|_F^2 .$$

    An equality for every fixed A of rank r; for the leading r right singular vectors of ΔW, b = tail(r), the
    least that is possible.

    Args:
        bias: b, the squared Frobenius norm of what A cannot express.
        rank: r, with 0 ≤ r ≤ N − 2.
        outputs: m.
        samples: N.
        noise: σ², the variance of the noise in each output.

    Returns:
        The risk, in the units of b; exact where b and σ² are.

    Raises:
        ValueError: a rank outside 0 … N − 2, beyond which the risk is infinite; a negative bias or noise.

    Source: T3.R12; Gaussian least squares, such as Breiman and Freedman, J. Amer. Statist. Assoc. 78 (1983).
    """
    if not 0 <= rank <= samples - 2:
        raise ValueError(
            f"rank: got {rank} with {samples} samples, needs 0 <= rank <= samples - 2: at "
            "samples - 1 and samples the risk of least squares is infinite; give more samples"
        )
    if bias < 0 or noise < 0:
        raise ValueError(f"bias, noise: got {bias} and {noise}, needs squares, which are >= 0")
    return _ratio((samples - 1) * bias + outputs * noise * rank, samples - rank - 1)


def _ratio(numerator: Number, denominator: int) -> Number:
    return Fraction(numerator, denominator) if isinstance(numerator, int) else numerator / denominator


@dataclass(frozen=True, repr=False)
class BestRank:
    """The rank with the least excess risk, and whether a tie or rounding puts it in doubt.

    Attributes:
        rank: the critical rank, the smallest minimiser.
        risk: the excess risk there.
        least: the smallest rank that rounding leaves possible.
        most: the largest minimiser, or what rounding leaves possible of it.  The minimisers are all ranks
            between two of them, because the risk is unimodal.
    """

    rank: int
    risk: Number
    least: int
    most: int

    @property
    def tie(self) -> bool:
        """Whether several ranks have the least risk, in exact arithmetic or to within rounding."""
        return self.least != self.most

    def __repr__(self) -> str:
        """Show the rank and its risk."""
        doubt = f"; a tie: {self.least} to {self.most}" if self.tie else ""
        return f"BestRank({self.rank}: risk {float(self.risk):.4g}{doubt})"


@dataclass(frozen=True, repr=False)
class FrozenA:
    r"""The model with its four ingredients; fractions stay fractions.

    Attributes:
        squares: $\sigma_i^2$ of the update in descending order, shape (s,), float64 or exact; zeros may stand
            at the end and are ranks that bring nothing.
        outputs: m ≥ 1.
        samples: N ≥ 2.
        noise: σ² ≥ 0.

    Raises:
        ValueError: squares that are negative, not descending, not float64 or not finite; sizes out of range;
            a float noise beside exact squares.
    """

    squares: np.ndarray
    outputs: int
    samples: int
    noise: Number

    def __post_init__(self) -> None:
        squares = np.asarray(self.squares)
        if squares.dtype.kind == "i":
            squares = linalg.exact(squares.tolist())
        linalg.require_judging_precision("squares", squares)
        if squares.ndim != 1 or any(squares < 0) or any(squares[1:] > squares[:-1]):
            raise ValueError(
                "squares: needs a vector of numbers >= 0 in descending order; use FrozenA.of(values, ...)"
            )
        if self.outputs < 1 or self.samples < 2:
            raise ValueError(
                f"outputs, samples: got {self.outputs} and {self.samples}, needs at least 1 and at least 2"
            )
        if not (self.noise >= 0 and math.isfinite(self.noise)):
            raise ValueError(f"noise: got {self.noise}, needs a variance, finite and >= 0")
        if linalg.is_exact(squares) and isinstance(self.noise, float):
            raise ValueError(f"noise: got the float {self.noise} beside exact values; write it as a Fraction")
        object.__setattr__(self, "squares", squares)

    @classmethod
    def of(
        cls,
        spectrum: Spectrum | np.ndarray,
        *,
        outputs: int,
        samples: int,
        noise: Number,
        squared: bool = False,
    ) -> FrozenA:
        """Build the model from singular values in any order, or from their squares if `squared`.

        Raises:
            ValueError: as the class.
        """
        values = np.asarray(spectrum.values if isinstance(spectrum, Spectrum) else spectrum)
        if values.dtype.kind == "i":
            values = linalg.exact(values.tolist())
        return cls(np.sort(values if squared else values * values)[::-1], outputs, samples, noise)

    @functools.cached_property
    def tails(self) -> np.ndarray:
        r"""$\sum_{i>r} \sigma_i^2$ for r = 0 … s."""
        return tails(self.squares)

    @property
    def last(self) -> int:
        """The largest rank that is considered: min(s, N − 2)."""
        return min(len(self.squares), self.samples - 2)

    def risk(self, rank: int) -> Number:
        r"""Excess risk $E(r) = [(N-1)\,\mathrm{tail}(r) + m\sigma^2 r] / (N-r-1)$, an equality.

        Raises:
            ValueError: a rank outside 0 … min(s, N − 2).

        Source: T3.R12.
        """
        self._check(rank, self.last)
        return excess_risk(
            self.tails[rank], rank, outputs=self.outputs, samples=self.samples, noise=self.noise
        )

    def difference(self, rank: int) -> Number:
        r"""$E(r+1) - E(r)$ without cancellation.

        $$\frac{(N-1)\,[\mathrm{tail}(r) + m\sigma^2 - \sigma_{r+1}^2 (N-r-1)]}{(N-r-1)(N-r-2)}$$

        Its sign is that of the bracket, which does not decrease in r from negative to positive: E is
        unimodal.

        Raises:
            ValueError: a rank outside 0 … min(s, N − 2) − 1.

        Source: T3.R13.
        """
        self._check(rank, self.last - 1)
        gain, price = self._sides(rank)
        left = self.samples - rank - 1
        return _ratio((self.samples - 1) * (price - gain), left * (left - 1))

    def helps(self, rank: int) -> bool:
        r"""Whether rank r + 1 is better than rank r: $\sigma_{r+1}^2 (N-r-1) > \mathrm{tail}(r) + m\sigma^2$.

        Raises:
            ValueError: a rank outside 0 … min(s, N − 2) − 1.

        Source: T3.R13.
        """
        self._check(rank, self.last - 1)
        gain, price = self._sides(rank)
        return bool(gain > price)

    def best_rank(self) -> BestRank:
        r"""The critical rank $\min\{r : \sigma_{r+1}^2 (N-r-1) \le \mathrm{tail}(r) + m\sigma^2\}$.

        It is the smallest minimiser of the risk.  Of a tie, σ²_{r+1}(N−r−1) = tail(r) + mσ², all minimisers
        are reported: `rank` is the first and `most` the last of them.

        Source: T3.R13.
        """
        rounding = 0 if linalg.is_exact(self.squares) else linalg.gamma(len(self.squares) + 8)

        def first(stops: Callable[[Number, Number], bool]) -> int:
            return next((r for r in range(self.last) if stops(*self._sides(r))), self.last)

        rank = first(lambda gain, price: gain <= price)
        return BestRank(
            rank,
            self.risk(rank),
            least=first(lambda gain, price: gain * (1 - rounding) <= price * (1 + rounding)),
            most=first(lambda gain, price: gain * (1 + rounding) < price * (1 - rounding)),
        )

    def best_rank_by_search(self) -> BestRank:
        """The same by computing every risk: the oracle, with the first and the last of equal minima."""
        risks = [self.risk(r) for r in range(self.last + 1)]
        found = [r for r, risk in enumerate(risks) if risk == min(risks)]
        return BestRank(found[0], risks[found[0]], found[0], found[-1])

    def _sides(self, rank: int) -> tuple[Number, Number]:
        square = self.squares[rank] if rank < len(self.squares) else 0
        return square * (self.samples - rank - 1), self.tails[rank] + self.outputs * self.noise

    def _check(self, rank: int, last: int) -> None:
        if not 0 <= rank <= last:
            raise ValueError(
                f"rank: got {rank}, needs 0 <= rank <= {last} for {len(self.squares)} singular values and "
                f"{self.samples} samples"
            )

    def __repr__(self) -> str:
        """Show the sizes."""
        return (
            f"FrozenA({len(self.squares)} singular values, {self.outputs} outputs, {self.samples} samples, "
            f"noise variance {float(self.noise):.4g})"
        )
