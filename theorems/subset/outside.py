r"""Functions that no choice of θ gives: methods that leave the family of the network they tune.

A family of functions is left as soon as one linear functional $\ell(f) = \sum_i c_i f(x_i)$ vanishes on it
and not on the tuned network.  Each instance here is a network so small that such a functional is obvious,
in exact arithmetic: the logarithms are chosen so that every softmax weight is rational.
"""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction

from hypothesis import strategies as st
from hypothesis.strategies import SearchStrategy

from ..pasteable import Pasteable


def relu(z: Fraction) -> Fraction:
    """max(z, 0), exact."""
    return max(z, Fraction(0))


@dataclass(frozen=True, repr=False)
class Adapter(Pasteable):
    """Base f(x) = w x, tuned by h + u relu(v h); every base function is odd, so ℓ(f) = f(1) + f(−1)."""

    w: int
    u: int
    v: int
    kind: str = "ReLU adapter"

    def f(self, x: int) -> Fraction:
        """The tuned function."""
        h = Fraction(self.w) * x
        return h + self.u * relu(self.v * h)

    @property
    def functional(self) -> Fraction:
        """ℓ(f), which is 0 for every choice of w without the adapter."""
        return self.f(1) + self.f(-1)


@dataclass(frozen=True, repr=False)
class Prefix(Pasteable):
    r"""One attention head on a sequence of one token x ∈ ℝ, with one prefix (key p, value q).

    Without a prefix the one token has weight 1, so f(x) = v x: affine in x, and ℓ is the second
    difference over x = 0, ln 2, 2 ln 2.  With base key weight 0 the prefix has weight
    $2^{np} / (2^{np} + 1)$ at x = n ln 2.  The base value weight is 0 too.
    """

    p: int
    q: int
    kind: str = "prefix"

    def f(self, n: int) -> Fraction:
        """The tuned function at x = n ln 2."""
        weight = Fraction(2) ** (n * self.p)
        return self.q * weight / (weight + 1)

    @property
    def functional(self) -> Fraction:
        """ℓ(f), which is 0 for every choice of the base weights without the prefix."""
        return self.f(0) - 2 * self.f(1) + self.f(2)


@dataclass(frozen=True, repr=False)
class ZeroPrefix(Pasteable):
    r"""The same head with base weights query 1, key a, value v, and a prefix that is zero.

    At x = n √(ln 2) the token's own score is a n² ln 2 and that of the prefix 0, so that f(x) / √(ln 2) =
    $v n\, 2^{a n^2} / (2^{a n^2} + 1)$.  ℓ is again a second difference.
    """

    a: int
    v: int
    kind: str = "zero prefix"

    def f(self, n: int) -> Fraction:
        """The tuned function at x = n √(ln 2), in units of √(ln 2)."""
        weight = Fraction(2) ** (self.a * n * n)
        return self.v * n * weight / (weight + 1)

    @property
    def functional(self) -> Fraction:
        """ℓ(f), which is 0 for every choice of the base weights without the prefix."""
        return self.f(0) - 2 * self.f(1) + self.f(2)


@dataclass(frozen=True, repr=False)
class NewBias(Pasteable):
    """BitFit on f(x) = w₂ relu(w₁ x), which has no biases: it adds b₁ and b₂.

    All base functions vanish at 0.
    """

    weights: tuple[int, int]
    biases: tuple[int, int]
    kind: str = "BitFit without biases"

    @property
    def functional(self) -> Fraction:
        """ℓ(f) = f(0), which is 0 for every choice of the weights."""
        (_, w2), (b1, b2) = self.weights, self.biases
        return w2 * relu(Fraction(b1)) + b2


@dataclass(frozen=True, repr=False)
class Tuned(Pasteable):
    """Base f(x) = w x tuned within its family, to (w + φ) x: the functional of `Adapter` keeps vanishing."""

    w: int
    phi: int
    kind: str = "tuned in place"

    def f(self, x: int) -> Fraction:
        """The tuned function."""
        return Fraction(self.w * x + self.phi * x)

    @property
    def functional(self) -> Fraction:
        """ℓ(f) = f(1) + f(−1)."""
        return self.f(1) + self.f(-1)


def instances() -> SearchStrategy:
    """Small settings of all kinds, those that stay inside first."""
    small = st.integers(-2, 2)
    pairs = st.tuples(small, small)
    return st.one_of(
        st.builds(Tuned, small, small),
        st.builds(NewBias, pairs, pairs),
        st.builds(Adapter, small, small, small),
        st.builds(Prefix, small, small),
        st.builds(ZeroPrefix, small, small),
    )
