r"""Plane curves g: ℝ → ℝ²: crossing themselves, Lipschitz, filling the square."""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction

import numpy as np
import sympy
from hypothesis import strategies as st
from hypothesis.strategies import SearchStrategy

from ..pasteable import Pasteable

T = sympy.Symbol("t")
EPSILON = Fraction(1, 4)
"""The area that a null set must be able to stay below, as a share of the unit square."""


@dataclass(frozen=True, repr=False)
class Crossing(Pasteable):
    r"""The curve $g(t) = (t-s)(t-u)\,(p(t), q(t))$, which is at the origin at t = s and at t = u.

    Attributes:
        s: first parameter.
        u: second parameter, another one.
        p: coefficients of p, constant term first.
        q: likewise.
    """

    s: int
    u: int
    p: tuple[int, ...]
    q: tuple[int, ...]
    kind: str = "curve that meets itself"
    k: int = 1

    @property
    def dimension(self) -> int:
        """Dimension of the span of the tangents at the origin: at most 1 for a 1-manifold."""
        rows = [[value.subs(T, at) for value in self._velocity] for at in (self.s, self.u)]
        return int(sympy.Matrix(rows).rank())

    @property
    def immersion(self) -> tuple[bool, str]:
        """Whether g′ never vanishes: the common real roots of its two components."""
        common = sympy.gcd(*self._velocity)
        roots = sympy.real_roots(common) if common.free_symbols else [] if common != 0 else ["every t"]
        return not roots, f"g′ vanishes at {', '.join(map(str, roots)) or 'no t'}"

    @property
    def _velocity(self) -> tuple[sympy.Expr, sympy.Expr]:
        node = (T - self.s) * (T - self.u)
        return tuple(
            sympy.expand(sympy.diff(node * sum(c * T**i for i, c in enumerate(part)), T))
            for part in (self.p, self.q)
        )


@st.composite
def _crossings(draw: st.DrawFn) -> Crossing:
    s = draw(st.integers(-2, 2))
    u = draw(st.integers(-2, 2).filter(lambda value: value != s))
    line = st.tuples(st.integers(-2, 2), st.integers(-1, 1))
    return Crossing(s, u, draw(line), draw(line))


def crossings() -> SearchStrategy:
    """Curves with small coefficients whose velocity never vanishes."""
    return _crossings().filter(lambda curve: curve.immersion[0])


@dataclass(frozen=True, repr=False)
class Polynomial(Pasteable):
    r"""A polynomial curve on [0, 1], covered by boxes of side 1/n in the plane.

    $|g'_i| \le C = \max_i \sum_j j\,|a_{ij}|$ on [0, 1], so that each of n equal pieces has an image of
     sup-diameter at most C/n, which meets at most $(\lceil C \rceil + 1)^2$ boxes.

    Attributes:
        x: coefficients of the first coordinate, constant term first.
        y: of the second.
        n: boxes per unit length.
    """

    x: tuple[int, ...]
    y: tuple[int, ...]
    n: int
    kind: str = "polynomial curve"
    epsilon: Fraction = EPSILON

    @property
    def lipschitz(self) -> int:
        """C, an integer."""
        return max(sum(j * abs(a) for j, a in enumerate(part)) for part in (self.x, self.y))

    @property
    def met(self) -> int:
        """How many boxes hold one of 4 n (C + 1) sample points: at most as many as the curve meets."""
        steps = 4 * self.n * (self.lipschitz + 1)
        t = np.arange(steps + 1, dtype=np.int64)
        x, y = (self._box(part, t, steps) for part in (self.x, self.y))
        return len(np.unique(np.stack([x, y]), axis=1).T)

    @property
    def allowed(self) -> int:
        """At most so many: n pieces, each in $(C + 1)^2$ boxes."""
        return self.n * (self.lipschitz + 1) ** 2

    @property
    def volume(self) -> Fraction:
        """Area of the boxes that hold a sample point."""
        return Fraction(self.met, self.n**2)

    def _box(self, part: tuple[int, ...], t: np.ndarray, steps: int) -> np.ndarray:
        """Floors of n times a coordinate at t / steps, in integers: Horner's rule on numerators."""
        value = np.zeros_like(t)
        for power, a in enumerate(reversed(part)):
            value = value * t + a * steps**power
        return self.n * value // steps ** (len(part) - 1)


def polynomials(levels: tuple[int, ...] = (1, 3, 10, 30)) -> SearchStrategy:
    """Cubic curves and flatter ones."""
    part = st.lists(st.integers(-3, 3), min_size=1, max_size=4).map(tuple)
    return st.builds(Polynomial, part, part, st.sampled_from(levels))


@dataclass(frozen=True, repr=False)
class Hilbert(Pasteable):
    r"""Hilbert's curve H: [0, 1] → [0, 1]², of Hölder exponent 1/2 = k/d, which fills the square.

    $H(m / 4^\ell)$ is a corner of a box of side $2^{-\ell}$, and every box of that side has one: it is a
    limit, of which these values are exact.  $|H(s) - H(t)|_2^2 \le 6\,|s - t|$, and 6 is the least such
    constant (Bauman 2006).

    Attributes:
        level: ℓ.
        pairs: numbers m of two parameters to compare, at that level.
    """

    level: int
    pairs: tuple[int, int] = (0, 1)
    kind: str = "Hilbert curve"
    epsilon: Fraction = EPSILON

    @property
    def n(self) -> int:
        """Boxes per unit length."""
        return 2**self.level

    @property
    def met(self) -> int:
        """How many boxes hold a point of the curve."""
        return len({hilbert(m, self.level) for m in range(4**self.level)})

    @property
    def allowed(self) -> int:
        """What a curve with Lipschitz constant 1 could meet at most."""
        return 4 * self.n

    @property
    def volume(self) -> Fraction:
        """Area of the boxes that are met."""
        return Fraction(self.met, self.n**2)

    @property
    def squared_distance(self) -> Fraction:
        """$|H(s) - H(t)|_2^2$, from the boxes of the two parameters: their nearest points are not farther."""
        boxes = (hilbert(m, self.level) for m in self.pairs)
        gaps = (max(abs(a - b) - 1, 0) for a, b in zip(*boxes, strict=True))
        return Fraction(sum(gap**2 for gap in gaps), self.n**2)

    @property
    def separation(self) -> Fraction:
        """|s − t| at most: the intervals of the two parameters included."""
        return Fraction(abs(self.pairs[0] - self.pairs[1]) + 1, 4**self.level)


def hilbert(m: int, level: int) -> tuple[int, int]:
    """The box of side $2^{-ℓ}$ in which Hilbert's curve is on the m-th of $4^ℓ$ intervals."""
    x = y = 0
    for i in range(level):
        right, up = 1 & (m >> (2 * i + 1)), 0
        up = 1 & ((m >> (2 * i)) ^ right)
        if up == 0:  # turn and reflect the quadrant drawn so far
            if right == 1:
                x, y = 2**i - 1 - x, 2**i - 1 - y
            x, y = y, x
        x, y = x + right * 2**i, y + up * 2**i
    return x, y


@st.composite
def hilbert_pairs(draw: st.DrawFn, *, levels: tuple[int, int] = (1, 6)) -> Hilbert:
    """Two parameters at one of several levels."""
    level = draw(st.integers(*levels))
    number = st.integers(0, 4**level - 1)
    return Hilbert(level, (draw(number), draw(number)))
