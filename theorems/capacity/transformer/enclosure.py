"""What is known, token by token, of the difference between the tuned and the base stream."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import numpy as np
from jaxtyping import Float

Array = np.ndarray
EPS = float(np.finfo(np.float64).eps)


class Piece(Protocol):
    """A part of the network around given tokens, as facts about how it acts on perturbations of them."""

    def ball(self, x: Enclosure) -> Float[Array, "p t"]:
        """Radius around the value here that holds the values at all perturbed tokens."""

    def tangent(self, v: Float[Array, "p t n"]) -> Float[Array, "p t n"]:
        """The linear part."""

    def adjoint(self, c: Float[Array, "m p t n"]) -> Float[Array, "m p t n"]:
        """The transpose of the linear part, for several functionals at once."""

    def linear(self, r: Float[Array, "p t"]) -> Float[Array, "p t"]:
        """Bound on the linear part of all perturbations within r."""

    def remainder(self, x: Enclosure) -> Float[Array, "p t"]:
        """Bound on the change of the value minus its linear part."""

    def loss(self, sizes: Float[Array, "p t"]) -> Float[Array, "p t"]:
        """Rounding of `tangent` at perturbations of these norms, and of `adjoint` at such functionals."""

    def adjoint_loss(self, sizes: Float[Array, "p t"]) -> Float[Array, "p t"]:
        """Bound on the rounding of `adjoint` at vectors of these norms."""


@dataclass(frozen=True, eq=False)
class Enclosure:
    """Where the difference of two streams is known to lie, token by token.

    Attributes:
        centre: a prediction of it, shape (p, t, n).
        rest: distance from the prediction, at most.
        radius: norm of the difference, at most; never more than that of the centre plus the rest.
        fresh: the part of the rest that the last step added, the other part being what the step's linear map
            made of the rest before it.
    """

    centre: Float[Array, "p t n"]
    rest: Float[Array, "p t"]
    radius: Float[Array, "p t"]
    fresh: Float[Array, "p t"]

    @property
    def length(self) -> Float[Array, "p t"]:
        """Norm of the centre."""
        return np.linalg.norm(self.centre, axis=-1)

    @classmethod
    def of(cls, centre: Array, rest: Array, fresh: Array, radius: Array | None = None) -> Enclosure:
        """Let centre and rest sharpen the radius, and centre and radius the rest."""
        length, up = np.linalg.norm(centre, axis=-1), 1 + centre.shape[-1] * EPS
        radius = (length + rest) * up if radius is None else np.minimum(radius, (length + rest) * up)
        return cls(centre, np.minimum(rest, (length + radius) * up), radius, fresh)

    @classmethod
    def ball(cls, like: Float[Array, "p t n"], radius: Float[Array, "p t"]) -> Enclosure:
        """Nothing known but a radius."""
        return cls.of(np.zeros_like(like), radius, radius)

    def through(self, piece: Piece) -> Enclosure:
        """The enclosure behind a part of the network."""
        fresh = piece.remainder(self) + piece.loss(self.length)
        rest = piece.linear(self.rest) + fresh
        return Enclosure.of(piece.tangent(self.centre), rest, fresh, piece.ball(self))

    def moved(self, shift: Float[Array, "p t n"], *, predict: bool = True) -> Enclosure:
        """The enclosure of the difference plus a known shift, of which only the norm may be used."""
        size = np.linalg.norm(shift, axis=-1) * (1 + shift.shape[-1] * EPS)
        fresh = shift.shape[-1] * EPS * (self.length + size) if predict else size
        centre = self.centre + shift if predict else self.centre
        return Enclosure.of(centre, self.rest + fresh, self.fresh + fresh, self.radius + size)

    def plus(self, other: Enclosure, stream: Float[Array, "p t n"]) -> Enclosure:
        """The enclosure of the sum of two differences, the base stream being rounded once more."""
        small = (
            2
            * EPS
            * (np.linalg.norm(stream, axis=-1) + self.radius + other.radius + self.length + other.length)
        )
        rest, fresh = self.rest + other.rest + small, other.fresh + small
        return Enclosure.of(self.centre + other.centre, rest, fresh, self.radius + other.radius + small)

    def scaled(self, scale: Float[Array, " n"], unknown: Float[Array, "p t"]) -> Enclosure:
        """The enclosure behind a diagonal matrix, something unknown of that norm being added."""
        most, small = np.max(np.abs(scale)), unknown + EPS * np.linalg.norm(self.centre * scale, axis=-1)
        return Enclosure.of(self.centre * scale, most * self.rest + small, small, most * self.radius + small)
