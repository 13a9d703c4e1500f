r"""The critical rank $r_c(\varepsilon)$: the smallest rank that leaves less than ε of the update.

From a spectrum by looking at every tail; for exponential and power-law spectra in closed form, after which
the tails of the neighbours are looked at, because a floor of a rounded logarithm may be off by one.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from fractions import Fraction

import numpy as np
from jaxtyping import Float
from scipy.special import zeta

from .. import linalg
from .spectrum import Spectrum, tails

Number = Fraction | float | int
ZETA_OPERATIONS = 64  # roundings behind a value of the Hurwitz zeta function: its series has about 20 terms
COUNTABLE = 2.0**52
TERMS = 10**6  # up to so many terms a finite power sum is added up, since a difference of zetas would cancel


@dataclass(frozen=True, repr=False)
class CriticalRank:
    r"""The critical rank, and whether a tie or rounding puts it in doubt.

    Attributes:
        rank: $r_c = \min\{r \ge 0 : \mathrm{tail}(r) < \varepsilon\}$, with the strict inequality.
        tail: the tail at `rank`.
        before: the tail at `rank` − 1, which is at least ε; None at rank 0.
        eps: ε.
        least: the smallest rank that is possible if ties count as "<" and each tail may be as small as
            rounding allows.
        most: the largest rank that is possible if each tail may be as large as rounding allows.
    """

    rank: int
    tail: Number
    before: Number | None
    eps: Number
    least: int
    most: int

    @property
    def tie(self) -> bool:
        """Whether a tail equals ε, in exact arithmetic or to within rounding."""
        return self.least != self.most

    def __repr__(self) -> str:
        """Show the rank and the tails on its two sides."""
        before = "" if self.before is None else f", tail({self.rank - 1}) = {_short(self.before)}"
        doubt = f"; a tie: {self.least} to {self.most}" if self.tie else ""
        tail = f"tail({self.rank}) = {_short(self.tail)}"
        return f"CriticalRank({self.rank}: {tail} < {_short(self.eps)}{before}{doubt})"


def _short(value: Number) -> str:
    return str(value) if isinstance(value, Fraction | int) else f"{value:.4g}"


def critical_rank(
    spectrum: Spectrum | Float[np.ndarray, " s"], eps: Number, *, squared: bool = False
) -> CriticalRank:
    r"""The smallest rank whose best approximation is nearer than √ε to the update.

    $$r_c(\varepsilon) = \min\{r \ge 0 : \mathrm{tail}(r) < \varepsilon\},\qquad
    \mathrm{tail}(r) = \sum_{i>r} \sigma_i^2 = \min_{\mathrm{rank} D \le r} \|\Delta - D\|_F^2 .$$

    It exists for every ε > 0 and is at most the rank of Δ, since tail(rank Δ) = 0 < ε.

    Args:
        spectrum: a `Spectrum`, or an array of singular values in any order; of fractions for an exact answer.
        eps: ε > 0, the squared distance allowed; a fraction or an integer where the spectrum is exact.
        squared: whether an array holds $\sigma_i^2$, which are rational for rational matrices more often.

    Returns:
        A `CriticalRank`.  Exact input gives exact ties.  For floats `least` and `most` allow for the error of
        the singular values (the root of the tail is a distance, hence moves by at most that error) and of the
        sum.

    Raises:
        ValueError: ε that is not positive or not finite, a float ε beside exact values, values that are
            negative, not float64 or not finite.

    Source: T3.R2, the repair of equation 34.
    """
    if isinstance(spectrum, Spectrum):
        if squared:
            raise ValueError("squared: got True with a Spectrum, which holds singular values; leave it out")
        squares, error = spectrum.values**2, spectrum.error
    else:
        squares, error = _squares(np.asarray(spectrum), squared), 0.0
    exact = linalg.is_exact(squares)
    _check_eps(eps, exact)
    every = tails(squares)
    rounding = 0.0 if exact else linalg.gamma(len(squares) + 4)
    return _from_tails(every.__getitem__, len(squares), eps, 0, rounding, error)


def joint_critical_rank(spectra: Mapping[str, Spectrum] | Spectrum, share: float) -> CriticalRank:
    r"""The critical rank of a whole update, if all layers are truncated to one rank r.

    The squared distance is then the tail of one spectrum,
    $\sum_l \mathrm{tail}_l(r) = \sum_{i>r} \sum_l \sigma_{l,i}^2$.

    Args:
        spectra: by layer, or one.
        share: ε, as a share of the squared norm of the whole update.

    Raises:
        ValueError: no layer, none that moved, or a share outside of (0, 1).
    """
    layers = {spectra.name or "update": spectra} if isinstance(spectra, Spectrum) else spectra
    if not layers:
        raise ValueError("spectra is empty: give at least one layer")
    if not any(one.energy for one in layers.values()):
        raise ValueError("spectra: no layer moved, so that there is no update to keep a share of")
    if not 0 < share < 1:
        raise ValueError(f"share: got {share}, needs a number between 0 and 1, such as 0.1")
    squares = np.zeros(max(len(one.values) for one in layers.values()))
    for one in layers.values():
        squares[: len(one.values)] += one.values**2
    return critical_rank(squares, share * float(squares.sum()), squared=True)


def _squares(values: np.ndarray, squared: bool) -> np.ndarray:
    """Squares in descending order."""
    if values.ndim != 1:
        raise ValueError(f"spectrum: got shape {values.shape}, needs a vector of singular values")
    if values.dtype.kind == "i":
        values = linalg.exact(values.tolist())
    linalg.require_judging_precision("spectrum", values)
    if any(value < 0 for value in values):
        raise ValueError("spectrum: got a negative number, needs singular values, which are >= 0")
    return np.sort(values if squared else values * values)[::-1]


def _check_eps(eps: Number, exact: bool) -> None:
    if not (eps > 0 and math.isfinite(eps)):
        raise ValueError(f"eps: got {eps}, needs a finite number > 0: no tail is below 0")
    if exact and isinstance(eps, float):
        raise ValueError(f"eps: got the float {eps} beside exact values; write Fraction('{eps}')")


def _from_tails(
    tail: Callable[[int], Number],
    last: int | None,
    eps: Number,
    start: int,
    rounding: float = 0.0,
    error: float = 0.0,
) -> CriticalRank:
    """Walk from `start` to the first rank whose tail is below ε, for the tail and for its two extremes.

    `tail` is not increasing, with a relative error of `rounding`; its root has the absolute error `error`
    besides.  No rank beyond `last` is looked at: nothing is left there.
    """

    def lower(r: int) -> Number:
        value = tail(r)
        return max(0.0, math.sqrt(value * (1 - rounding)) - error) ** 2 if rounding or error else value

    def upper(r: int) -> Number:
        value = tail(r)
        return (math.sqrt(value * (1 + rounding)) + error) ** 2 if rounding or error else value

    rank = _first(lambda r: tail(r) < eps, start, last)
    least = min(rank, _first(lambda r: lower(r) <= eps, rank, last))
    most = max(rank, _first(lambda r: upper(r) < eps, rank, last))
    return CriticalRank(rank, tail(rank), tail(rank - 1) if rank else None, eps, least, most)


def _first(below: Callable[[int], bool], start: int, last: int | None) -> int:
    """The first r with `below(r)`, which stays true once it is; `last` if there is none before."""
    r = start if last is None else min(start, last)
    while r > 0 and below(r - 1):
        r -= 1
    while r != last and not below(r):
        r += 1
    return r


@dataclass(frozen=True)
class Exponential:
    r"""The spectrum $\sigma_i = C e^{-\lambda i}$, i = 1 … R, by its rate λ or its ratio $e^{-\lambda}$.

    Attributes:
        C: a positive number; a fraction for exact tails.
        rate: λ > 0; None if the ratio is given.
        ratio: $\sigma_{i+1}/\sigma_i$ in (0, 1); a fraction for exact tails.
        R: the rank; None for infinitely many values.

    Raises:
        ValueError: numbers out of range, or not exactly one of rate and ratio.
    """

    C: Number = 1
    rate: float | None = None
    ratio: Number | None = None
    R: int | None = None

    def __post_init__(self) -> None:
        _check_scale(self.C, self.R)
        if (self.rate is None) == (self.ratio is None):
            raise ValueError("rate, ratio: needs exactly one of them")
        if self.rate is not None and not (self.rate > 0 and math.isfinite(self.rate)):
            raise ValueError(f"rate: got {self.rate}, needs a finite number > 0")
        if self.ratio is not None and not 0 < self.ratio < 1:
            raise ValueError(f"ratio: got {self.ratio}, needs a number between 0 and 1")

    @property
    def exact(self) -> bool:
        """Whether tails are fractions."""
        return isinstance(self.C, Fraction | int) and isinstance(self.ratio, Fraction)

    @property
    def decay(self) -> float:
        """2λ, the rate of the squares."""
        return 2 * (self.rate if self.rate is not None else -math.log(self.ratio))

    def values(self, count: int) -> np.ndarray:
        """The first singular values; exact where the spectrum is."""
        i = range(1, (count if self.R is None else min(count, self.R)) + 1)
        if self.exact:
            return np.array([self.C * self.ratio**k for k in i], dtype=object)
        return float(self.C) * np.exp(-self.decay / 2 * np.array(i, dtype=float))

    def tail(self, rank: int) -> Number:
        r"""$\mathrm{tail}(r) = C^2 q^{r+1} (1 - q^{R-r}) / (1 - q)$ with $q = e^{-2\lambda}$; an equality."""
        left = None if self.R is None else max(0, self.R - rank)
        if self.exact:
            q = self.ratio**2
            return self.C**2 * q ** (rank + 1) * (1 if left is None else 1 - q**left) / (1 - q)
        whole = float(self.C) ** 2 * math.exp(-self.decay * (rank + 1)) / -math.expm1(-self.decay)
        return whole if left is None else whole * -math.expm1(-self.decay * left)

    def formula(self, eps: Number) -> int:
        r"""The closed form of the critical rank, in floating point.

        $$r_c = \max\{0, \lfloor -\ln a / (2\lambda) \rfloor + 1\},\qquad
        a = \frac{\varepsilon (1-q)}{C^2 q} + q^R,\quad q = e^{-2\lambda},$$

        where $q^R$ is left out for R = ∞.  Near a tie the floor may be off by one; `critical_rank` is not.

        Source: T3.R14.
        """
        _check_eps(eps, False)
        logarithm = math.log(eps) - 2 * math.log(self.C) + self.decay + math.log(-math.expm1(-self.decay))
        if self.R is not None:
            logarithm = float(np.logaddexp(logarithm, -self.decay * self.R))
        found = _countable(-logarithm / self.decay) + 1
        return max(0, found if self.R is None else min(found, self.R))

    def critical_rank(self, eps: Number) -> CriticalRank:
        """The closed form, corrected by the tails at its neighbours; ties are exact for exact spectra.

        Raises:
            ValueError: as `critical_rank`.

        Source: T3.R14.
        """
        _check_eps(eps, self.exact)
        guess = self.formula(eps)
        rounding = 0.0 if self.exact else linalg.gamma(16 + 4 * math.ceil(self.decay * (guess + 2)))
        return _from_tails(self.tail, self.R, eps, guess, rounding)


@dataclass(frozen=True)
class Power:
    r"""The spectrum $\sigma_i = C i^{-p}$, i = 1 … R.

    Attributes:
        C: a positive number.
        p: a positive number, above ½ if R is None (otherwise the tails are infinite).
        R: the rank; None for infinitely many values.

    Raises:
        ValueError: numbers out of range.
    """

    C: Number = 1
    p: float = 1.0
    R: int | None = None

    def __post_init__(self) -> None:
        _check_scale(self.C, self.R)
        if not (self.p > (0.5 if self.R is None else 0) and math.isfinite(self.p)):
            need = "above 1/2 for infinitely many values; give R" if self.R is None else "above 0"
            raise ValueError(f"p: got {self.p}, needs a finite number {need}")

    def values(self, count: int) -> np.ndarray:
        """The first singular values."""
        i = np.arange(1, (count if self.R is None else min(count, self.R)) + 1, dtype=float)
        return float(self.C) * i**-self.p

    def tail(self, rank: int) -> float:
        r"""$\mathrm{tail}(r) = C^2 [\zeta(2p, r+1) - \zeta(2p, R+1)]$, Hurwitz's zeta function; an equality.

        Up to a million terms are added up instead, from the small end: the difference of two zetas cancels,
        and is no series for p ≤ ½.
        """
        square = float(self.C) ** 2
        if self.R is None:
            return square * float(zeta(2 * self.p, rank + 1))
        if self.R - rank <= TERMS or self.p <= 0.5:
            return square * float((np.arange(self.R, rank, -1, dtype=float) ** (-2 * self.p)).sum())
        return square * float(zeta(2 * self.p, rank + 1) - zeta(2 * self.p, self.R + 1))

    def brackets(self, eps: Number) -> tuple[int, int]:
        r"""Two ranks, at most one apart, between which the critical rank lies.

        $$\lfloor s_1 \rfloor \le r_c \le \lfloor s_2 + \tfrac12 \rfloor,\qquad
        s_1 = \Big[(R+1)^{1-2p} + \tfrac{(2p-1)\varepsilon}{C^2}\Big]^{-1/(2p-1)},$$

        and $s_2$ with R + ½ in place of R + 1.  For R = ∞ both are
        $s = (C^2 / ((2p-1)\varepsilon))^{1/(2p-1)}$; for p = ½, $s_1 = (R+1) e^{-\varepsilon/C^2}$.

        Source: T3.R15; integrals from below, the midpoint rule for a convex function from above.
        """
        _check_eps(eps, False)
        low, high = _countable(self._turn(eps, 1.0)), _countable(self._turn(eps, 0.5) + 0.5)
        return (low, high) if self.R is None else (min(low, self.R), min(high, self.R))

    def _turn(self, eps: Number, shift: float) -> float:
        """The s of the brackets, by logarithms that stay accurate for p near ½."""
        power, allowed = 2 * self.p - 1, float(eps) / float(self.C) ** 2
        if self.R is None:
            logarithm = -math.log(power * allowed) / power
            return math.exp(logarithm) if logarithm < 100 else math.inf
        logarithm = math.log(self.R + shift)
        if power == 0:
            return math.exp(logarithm - allowed)
        inner = math.expm1(-power * logarithm) + power * allowed
        return math.exp(-math.log1p(inner) / power) if inner > -1 else 0.0

    def critical_rank(self, eps: Number) -> CriticalRank:
        """The critical rank: the brackets leave two candidates, and the tails at both and beside them decide.

        Raises:
            ValueError: as `critical_rank`.

        Source: T3.R15.
        """
        _check_eps(eps, False)
        low, _ = self.brackets(eps)
        rounding = linalg.gamma(ZETA_OPERATIONS + (0 if self.R is None else 20))
        return _from_tails(self.tail, self.R, eps, low, rounding)


def _countable(value: float) -> int:
    """The floor of a number that is small enough to be told from its neighbours."""
    if value > COUNTABLE:
        raise ValueError(f"eps: it needs a rank near {value:.3g}, too large to count in float64; enlarge eps")
    return math.floor(value)


def _check_scale(C: Number, R: int | None) -> None:
    if not (C > 0 and math.isfinite(C)):
        raise ValueError(f"C: got {C}, needs a finite number > 0")
    if R is not None and R < 1:
        raise ValueError(f"R: got {R}, needs an integer >= 1, or None for infinitely many values")
