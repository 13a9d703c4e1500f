r"""A class with one parameter that fits everything: $\mathrm{sign}\sin(\theta x)$."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from fractions import Fraction
from functools import cached_property
from math import comb
from typing import Any

from hypothesis import strategies as st

from ... import linalg
from ...pasteable import Pasteable


def angle(points: Iterable[int], labels: Iterable[int]) -> Fraction:
    r"""θ/π that gives $x_j = 10^{-j}$ the labels: $1 + \sum_j [y_j = -1]\,10^j$."""
    return 1 + sum((Fraction(10) ** j for j, y in zip(points, labels, strict=True) if y < 0), Fraction(0))


def sign_of_sine(turns: Fraction) -> int:
    """The sign of sin(π t)."""
    place = turns % 2
    return 0 if place.denominator == 1 else 1 if place < 1 else -1


@dataclass(frozen=True, eq=False, repr=False)
class SineSigns(Pasteable):
    r"""$x = 10^{-j}$ with j uniform on 1 … M, labels from a fair coin, 0–1 loss; d = k = 1.

    Every hypothesis has the risk 1/2.  The minimiser agrees with the majority of the labels at every point
    that it has seen, since all labellings are realised.

    Attributes:
        points: M.
        samples: N.
        constant: the C that is claimed in $C\sqrt{d/N}$.
    """

    points: int
    samples: int
    constant: Fraction
    kind = "sign(sin(θx))"
    linear = False

    @cached_property
    def realised(self) -> bool:
        """Whether the labels 1, those with one −1, and their opposites are realised at the first N points."""
        seen = range(1, min(self.points, self.samples) + 1)
        patterns = [[1 if i == j else -1 for i in seen] for j in (0, *seen)]
        return all(self.realises(seen, [s * y for y in labels]) for labels in patterns for s in (1, -1))

    @staticmethod
    def realises(points: Iterable[int], labels: Iterable[int]) -> bool:
        """Whether the hypothesis with parameter π · `angle` has these labels, by exact evaluation."""
        points, labels = list(points), list(labels)
        turns = angle(points, labels)
        return all(sign_of_sine(turns / 10**j) == y for j, y in zip(points, labels, strict=True))

    @cached_property
    def training(self) -> Fraction:
        r"""E L_N: a point that occurs m times, h of them with label 1, costs min(h, m − h)/N."""
        one, total = Fraction(1, self.points), Fraction(0)
        for m in range(self.samples + 1):
            occurs = comb(self.samples, m) * one**m * (1 - one) ** (self.samples - m)
            total += occurs * Fraction(sum(comb(m, h) * min(h, m - h) for h in range(m + 1)), 2**m)
        return self.points * total / self.samples

    @property
    def gaps(self) -> list[Fraction]:
        """E[L − L_N], the same for FFT and for PEFT."""
        return [Fraction(1, 2) - self.training] * 2

    @property
    def floors(self) -> list[Fraction]:
        """A_full and A_peft."""
        return [Fraction(1, 2)] * 2

    @property
    def bounds(self) -> list[Any]:
        """What is claimed."""
        return [self.constant * linalg.square_root(Fraction(1, self.samples))] * 2


@st.composite
def sines(draw: st.DrawFn) -> SineSigns:
    """Constants up to 2, and numbers of examples on both sides of what refutes them."""
    samples, constant = draw(st.integers(1, 36)), Fraction(draw(st.integers(1, 4)), 2)
    return SineSigns(draw(st.integers(2, 40)), samples, constant)
