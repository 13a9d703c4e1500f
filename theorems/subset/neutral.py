"""Additions to a network that change nothing when they are zero, and one that does."""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction

from hypothesis import strategies as st
from hypothesis.strategies import SearchStrategy

from ..pasteable import Pasteable
from .outside import Adapter, ZeroPrefix


@dataclass(frozen=True, repr=False)
class NeutralAdapter(Pasteable):
    """Base f(x) = w x with an adapter h + u relu(v h) whose up-projection u is 0, at an input x."""

    w: int
    x: int
    v: int
    kind: str = "adapter"
    neutral: bool = True

    @property
    def tuned(self) -> Fraction:
        """With the adapter."""
        return Adapter(self.w, 0, self.v).f(self.x)

    @property
    def base(self) -> Fraction:
        """Without it."""
        return Fraction(self.w * self.x)


@dataclass(frozen=True, repr=False)
class NeutralPrefix(Pasteable):
    """An attention head on one token, with key weight a and value weight v, and a prefix of zeros."""

    a: int
    v: int
    n: int = 1
    kind: str = "prefix"
    neutral: bool = False

    @property
    def tuned(self) -> Fraction:
        """With the prefix, at x = n √(ln 2) and in units of it."""
        return ZeroPrefix(self.a, self.v).f(self.n)

    @property
    def base(self) -> Fraction:
        """Without it the one token has all the weight."""
        return Fraction(self.v * self.n)


def adapters() -> SearchStrategy:
    """Adapters with a zero up-projection, and prefixes of zeros."""
    small = st.integers(-3, 3)
    return st.one_of(st.builds(NeutralAdapter, small, small, small), st.builds(NeutralPrefix, small, small))
