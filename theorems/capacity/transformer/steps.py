"""The sublayers on the way back: functionals of the output meet the errors that the way forward added.

Each error then counts with the norm of the functional at the place where it arose, and not with the product
of the norms of all layers behind it. Theorem C2 of the page.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from jaxtyping import Float

from .enclosure import EPS, Enclosure
from .rounding import schatten_norms

if TYPE_CHECKING:
    from .enclosure import Piece
    from .norms import UnitNorm

Array = np.ndarray


def meet(c: Float[Array, "m p t n"], error: Float[Array, "p t"]) -> Float[Array, " p"]:
    r"""Bound $\sum_i \|c_i\|_2\,\mathrm{error}_i$ on what errors of the given norms do to m functionals."""
    return np.sum(schatten_norms(np.moveaxis(c, 0, -2)) * error, axis=-1)


def transpose(
    piece: Piece, c: Float[Array, "m p t n"], rest: Float[Array, "p t"]
) -> tuple[Array, Float[Array, " p"]]:
    """Functionals before a piece, and the most that their rounding can make of the rest there."""
    total = np.linalg.norm(c, axis=(0, -1)).sum(axis=-1, keepdims=True)
    return piece.adjoint(c), np.sum(piece.adjoint_loss(np.broadcast_to(total, rest.shape)) * rest, axis=-1)


@dataclass(frozen=True, eq=False)
class Norm:
    """A norm layer without its parameters, with the enclosures before and behind it."""

    unit: UnitNorm
    before: Enclosure
    behind: Enclosure

    def back(self, c: Float[Array, "m p t n"]) -> tuple[Float[Array, "m p t n"], Float[Array, " p"]]:
        """Functionals of the stream before the norm, and what its errors add to the output."""
        through, lost = transpose(self.unit, c, self.before.rest)
        return through, lost + meet(c, self.behind.fresh) + EPS * meet(c, self.behind.rest)


@dataclass(frozen=True, eq=False)
class PreNorm:
    """A residual sublayer behind its norm: x + G(h(x)); `after` encloses the sum."""

    norm: Norm
    piece: Piece
    after: Enclosure

    def back(self, c: Float[Array, "m p t n"]) -> tuple[Float[Array, "m p t n"], Float[Array, " p"]]:
        """Functionals of the stream before the sublayer, and what its errors add to the output."""
        inside, lost = transpose(self.piece, c, self.norm.behind.rest)
        through, met = self.norm.back(inside)
        whole = c + through
        return whole, met + lost + meet(c, self.after.fresh) + EPS * meet(whole, self.norm.before.rest)


@dataclass(frozen=True, eq=False)
class PostNorm:
    """A residual sublayer before its norm: h(x + G(x)), then scaled; `final` encloses what comes out."""

    norm: Norm
    piece: Piece
    before: Enclosure
    scale: Float[Array, " n"]
    final: Enclosure

    def back(self, c: Float[Array, "m p t n"]) -> tuple[Float[Array, "m p t n"], Float[Array, " p"]]:
        """Functionals of the stream before the sublayer, and what its errors add to the output."""
        whole, met = self.back_from_norm(c * self.scale)
        return whole, met + meet(c, self.final.fresh)

    def back_from_norm(
        self, c: Float[Array, "m p t n"]
    ) -> tuple[Float[Array, "m p t n"], Float[Array, " p"]]:
        """The same from functionals of the normalised token, before it is scaled."""
        summed, met = self.norm.back(c)
        through, lost = transpose(self.piece, summed, self.before.rest)
        whole = summed + through
        met = met + lost + meet(summed, self.norm.before.fresh) + EPS * meet(whole, self.before.rest)
        return whole, met
