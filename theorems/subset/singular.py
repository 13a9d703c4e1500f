r"""Plane curves that are null sets and yet neither manifolds nor far from anything: a cusp, a dense curve."""

from __future__ import annotations

import math
from dataclasses import dataclass
from fractions import Fraction

from hypothesis import strategies as st
from hypothesis.strategies import SearchStrategy

from ..pasteable import Pasteable


@dataclass(frozen=True, repr=False)
class Cusp(Pasteable):
    r"""The curve $g(t) = (t^a, t^b)$, $1 \le a < b$, injective if a or b is odd.

    Near the origin all its points lie in the direction of $(\mathrm{sign}(t)^a, 0)$, seen from there. A
    manifold of dimension 1 would have points in both directions of its tangent.

    Attributes:
        a: the smaller exponent.
        b: the larger one.
    """

    a: int
    b: int
    kind: str = "curve with a cusp"
    k: int = 1

    @property
    def dimension(self) -> int:
        """Dimension of the largest linear space of directions in which the image lies at the origin."""
        directions = {(-1) ** self.a, 1}  # of g(t) for t → 0 from below and from above
        return 1 if directions == {-1, 1} else 0


def cusps() -> SearchStrategy:
    """Injective monomial curves."""
    pairs = st.tuples(st.integers(1, 5), st.integers(1, 5)).filter(
        lambda p: p[0] < p[1] and p[0] * p[1] % 2 == 0
    )
    return pairs.map(lambda pair: Cusp(*pair)).filter(lambda cusp: math.gcd(cusp.a, cusp.b) == 1)


@dataclass(frozen=True, repr=False)
class DenseCurve(Pasteable):
    r"""A polygon through all rational points of the plane: locally Lipschitz, k = 1 < 2, and dense.

    On the way it visits, for n = 1, 2, ..., all points $(i / n, j / n)$ with $|i|, |j| \le n^2$.

    Attributes:
        target: a point.
        n: how far one follows the curve.
    """

    target: tuple[Fraction, Fraction]
    n: int
    kind: str = "curve through all rational points"
    k: int = 1
    rho: int = 2

    @property
    def missed(self) -> Fraction:
        """Squared distance of the target from the corners visited for that n: of the whole curve at most."""
        nearest = (min(max(round(x * self.n), -(self.n**2)), self.n**2) for x in self.target)
        return sum((x - Fraction(i, self.n)) ** 2 for x, i in zip(self.target, nearest, strict=True))


@st.composite
def dense_curves(draw: st.DrawFn) -> DenseCurve:
    """Rational targets, and the curve up to some n."""
    x, y = (Fraction(draw(st.integers(-6, 6)), draw(st.integers(1, 4))) for _ in range(2))
    return DenseCurve((x, y), draw(st.integers(1, 12)))
