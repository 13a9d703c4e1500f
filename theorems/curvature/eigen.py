r"""Extreme eigenvalues with intervals that hold them, and what is proved of their being extreme."""

from __future__ import annotations

import functools
import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np
import scipy.linalg
import scipy.sparse.linalg
from jaxtyping import Float

from .. import linalg
from .definite import cholesky, definiteness
from .intervals import Ritz, kahan_radius, margin, none_above, ritz, rounding_of
from .lanczos import CHANCE, CHUNK, KEYS, Search, room_for, search
from .operator import Curvature, require_curvature

COMPLETE = 1500
"""Rows up to which a matrix within the budget is decomposed completely: cubic cost, a second or two."""
TOLERANCE = 1e-10
MOST = 10_000


@dataclass(frozen=True, eq=False, repr=False)
class Eigenpairs:
    r"""Eigenvalues of a symmetric matrix with approximate eigenvectors and proved intervals.

    There are `count` eigenvalues of the matrix, a repeated one counted as often as it is repeated, one in
    each of the intervals.  Where `complete` is true they are moreover proved to be the extreme ones that were
    asked for, in their order.

    Attributes:
        values: shape (count,); descending for the largest, ascending for the smallest, by size for magnitude.
        vectors: orthonormal, shape (d, count).
        lower: left ends of the intervals.
        upper: right ends.
        complete: whether it is proved that none was missed.
        ceiling: beyond this no further eigenvalue lies, in the order that was asked for: proved where
            `complete` is true, and with a probability of 1 − 2·10⁻⁶ otherwise; infinite if the search was cut
            off.
        products: how many products the search made.
        how: what was computed, what is proved, and what is only probable.
    """

    values: Float[np.ndarray, " count"]
    vectors: Float[np.ndarray, "d count"]
    lower: Float[np.ndarray, " count"]
    upper: Float[np.ndarray, " count"]
    complete: bool
    ceiling: float
    products: int
    how: str

    @property
    def radius(self) -> float:
        """The largest distance from a value to an end of its interval."""
        return float(np.max(np.maximum(self.upper - self.values, self.values - self.lower)))

    def __repr__(self) -> str:
        """Show the values' range and the radius."""
        count, d = len(self.values), len(self.vectors)
        ends = f"{self.values[0]:.6g} to {self.values[-1]:.6g}"
        return f"Eigenpairs({count} of {d}: {ends}, each ± {self.radius:.1e}, {self.how})"


def eigenpairs(
    curvature: Curvature,
    count: int,
    which: str = "largest",
    *,
    tolerance: float = TOLERANCE,
    most: int = MOST,
    seed: int = 0,
    copies: bool = True,
) -> Eigenpairs:
    r"""The extreme eigenvalues of a symmetric matrix, with multiplicities, and intervals that hold them.

    Small matrices within the memory budget are decomposed completely. Otherwise Ritz vectors X come from
    Lanczos' method with locking (`lanczos`), and the intervals from their residual $R = AX - XM$
    (`kahan_radius`), in which A X is made of the products that were computed: they hold whatever else the
    search did. That none was missed is proved within the budget by one Cholesky factorisation, and beyond it
    only probable (`ceiling`).

    Args:
        curvature: the matrix.
        count: how many; 1 to d.
        which: "largest", "smallest" or "magnitude", by absolute value.
        tolerance: of ‖A x − λ x‖ relative to the largest |λ|, where the search may stop.
        most: products that the search may make. A result that is cut off says so.
        seed: of the starting vectors.
        copies: whether to look for further copies of what was found, beyond the budget, which may double the
            number of products. Without, an eigenvalue that is repeated may be reported once.

    Raises:
        ValueError: no `Curvature`, a count out of range, or another way of being extreme.
    """
    require_curvature(curvature)
    if which not in KEYS:
        raise ValueError(f"which: got {which!r}, needs one of {', '.join(map(repr, KEYS))}")
    if not 1 <= count <= curvature.d:
        raise ValueError(f"count: got {count}, needs a whole number from 1 to d = {curvature.d}")
    if not 0 < tolerance < 1:
        raise ValueError(f"tolerance: got {tolerance}, needs a number between 0 and 1, such as 1e-10")
    # The vectors that are asked for would take as much memory as the matrix.
    if 2 * (count + 2 * CHUNK) >= curvature.d and not curvature.dense:
        curvature = replace(curvature, memory=8 * curvature.d**2)
    if not curvature.dense:
        return _probable(curvature, count, which, (tolerance, most, seed), copies)
    if curvature.d <= COMPLETE or 2 * (count + 2 * CHUNK) >= curvature.d:
        return _complete(curvature, count, which)
    return _proved(curvature, count, which, (tolerance, most, seed))


def _complete(curvature: Curvature, count: int, which: str) -> Eigenpairs:
    """From the complete decomposition, in which the positions are known."""
    whole, matrix = curvature.spectrum, curvature.matrix()
    chosen = whole.vectors[:, np.argsort(-KEYS[which](whole.values), kind="stable")[:count]]
    found = ritz(matrix @ chosen, chosen, rounding_of(matrix))

    def beyond(kept: int, sign: int, _level: float, _below: float) -> float:
        rest = sign * whole.values[::-sign][kept:]
        return float(rest.max(initial=-math.inf)) + whole.radius

    sides = _sides(found, which, lambda _: 4 * (whole.radius + found.radius), beyond)
    if sides is None:
        raise ValueError(
            f"the {curvature.kind}: got entries up to {np.abs(matrix).max():.1g}, whose squares overflow; "
            "scale it before"
        )
    how = f"complete decomposition, {curvature.decided}: proved to be the {which} ones"
    return _ordered(found, which, sides, how, 0)


def _proved(curvature: Curvature, count: int, which: str, limits: tuple[float, int, int]) -> Eigenpairs:
    """From a search, and a Cholesky factorisation that shows that nothing is beyond what it found."""
    matrix = curvature.matrix()
    if which == "smallest":  # the lower end is often crowded, where products alone take long
        vectors, products, by = _inverted(curvature, count), 0, "Lanczos' method for the inverse"
        if vectors is None:
            return _complete(curvature, count, which)
    else:
        search = _search(curvature, count, which, limits)
        vectors, products = search.vectors, search.products
        by = f"Lanczos' method, {products} products"
    found = ritz(matrix @ vectors, vectors, rounding_of(matrix))

    def beyond(kept: int, sign: int, level: float, below: float) -> float | None:
        order = np.argsort(-sign * found.values)[:kept]
        return none_above(sign * matrix, sign * found.values[order], found.vectors[:, order], level, below)

    def apart(sign: int) -> float:
        return margin(sign * np.diag(matrix), found, float(np.linalg.norm(matrix)))

    sides = _sides(found, which, apart, beyond)
    if sides is None:
        return _complete(curvature, count, which)
    how = f"{by}, {curvature.decided}: proved to be the {which} ones by a Cholesky factorisation"
    return _ordered(found, which, sides, how, products)


def _inverted(curvature: Curvature, count: int) -> Float[np.ndarray, "d count"] | None:
    """Eigenvectors of the least eigenvalues, by an inverse shifted just below; a copy may be missed."""
    matrix, d = curvature.matrix(), curvature.d
    shift = definiteness(curvature).lower - 1e-6 * float(np.linalg.norm(matrix))
    factor, info = cholesky(matrix, shift)
    if info != 0:
        return None
    back = functools.partial(scipy.linalg.cho_solve, (factor, False), check_finite=False)
    inverse = scipy.sparse.linalg.LinearOperator((d, d), matvec=back, dtype=np.float64)
    start = np.random.default_rng(0).normal(size=d)
    try:
        found = scipy.sparse.linalg.eigsh(inverse, count, which="LA", v0=start)
    except scipy.sparse.linalg.ArpackNoConvergence:
        return None
    return np.linalg.qr(found[1])[0]


def _probable(
    curvature: Curvature, count: int, which: str, limits: tuple[float, int, int], copies: bool
) -> Eigenpairs:
    """From a search alone."""
    search = _search(curvature, count, which, limits, copies)
    # A X is a combination of all products, the coefficients for a unit vector being those of another one.
    operations = curvature.operations + search.products + 2
    rounding = math.sqrt(search.products) * linalg.gamma(operations) * search.scale
    # They are Ritz vectors already, so that M is diagonal up to rounding, and what is off is in the residual.
    values = np.sum(search.vectors * search.images, axis=0)
    radius = kahan_radius(search.images, search.vectors, values, rounding)
    order = np.argsort(-KEYS[which](values), kind="stable")
    how = (
        f"{curvature.decided}; Lanczos' method with locking, {search.products} products; the intervals hold "
        f"for products that are off by up to {rounding:.0e}; "
    )
    if search.ceiling == math.inf:
        how += "nothing is said of eigenvalues that were missed" + ("" if search.converged else ": cut off")
        how += "" if copies else ", such as copies of those found"
    else:
        how += f"none beyond {search.ceiling:.4g} was missed, except with probability {2 * CHANCE:.0e}"
    return Eigenpairs(
        values=values[order],
        vectors=search.vectors[:, order],
        lower=values[order] - radius,
        upper=values[order] + radius,
        complete=False,
        ceiling=-search.ceiling if which == "smallest" else search.ceiling,
        products=search.products,
        how=how,
    )


def _search(
    curvature: Curvature, count: int, which: str, limits: tuple[float, int, int], copies: bool = True
) -> Search:
    tolerance, most, seed = limits
    room = room_for(curvature.d, count, None if curvature.dense else curvature.memory)
    options = {"tolerance": tolerance, "most": most, "room": room, "seed": seed, "copies": copies}
    return search(curvature.linear, curvature.d, count, which, **options)


class Side(NamedTuple):
    """What is proved at one end of the spectrum.

    Attributes:
        sign: 1 for the upper end, −1 for the lower.
        kept: so many of the found eigenvalues, counted from that end, are proved to be the extreme ones.
        ceiling: all further eigenvalues, times the sign, are at most this.
    """

    sign: int
    kept: int
    ceiling: float


def _sides(
    found: Ritz,
    which: str,
    apart: Callable[[int], float],
    beyond: Callable[[int, int, float, float], float | None],
) -> list[Side] | None:
    """What is proved at the ends that matter; None if something could not be.

    All that were found, if nothing else is near them. Otherwise the last ones belong to a cluster that goes
    on beyond them: those that stand apart from it are counted, and of the cluster only its top is bounded.
    """
    signs = {"largest": (1,), "smallest": (-1,), "magnitude": (1, -1)}[which]
    last = float(KEYS[which](found.values).min())
    sides = []
    for sign in signs:
        ends, gap = np.sort(sign * found.values)[::-1], apart(sign)
        ends = ends[ends > 0] if which == "magnitude" else ends
        kept, top = len(ends), last
        ceiling = beyond(kept, sign, last - 2 * gap, last - 4 * gap)
        if ceiling is None or not ceiling < last - found.radius:
            while kept and ends[kept - 1] <= top + 3 * gap:
                kept, top = kept - 1, max(top, ends[kept - 1])
            ceiling = beyond(kept, sign, top + gap, top)
        if ceiling is None or (kept and not ends[kept - 1] - found.radius > ceiling):
            return None
        sides.append(Side(sign, kept, ceiling))
    return sides


def _ordered(found: Ritz, which: str, sides: list[Side], how: str, products: int) -> Eigenpairs:
    """The result with the intervals that the sides prove."""
    order = np.argsort(-KEYS[which](found.values), kind="stable")
    values = found.values[order]
    lower, upper = values - found.radius, values + found.radius
    for sign, kept, ceiling in sides:
        of_side = np.flatnonzero(sign * values > 0) if which == "magnitude" else np.arange(len(values))
        cluster = of_side[np.argsort(-sign * values[of_side], kind="stable")[kept:]]
        ends = np.maximum(sign * values[cluster], ceiling)
        if sign > 0:
            upper[cluster] = ends
        else:
            lower[cluster] = -ends
    ceiling = max(side.ceiling for side in sides)
    return Eigenpairs(
        values,
        found.vectors[:, order],
        lower,
        upper,
        complete=True,
        ceiling=-ceiling if which == "smallest" else ceiling,
        products=products,
        how=how,
    )
