"""What a method is on a network: parameters, dimensions, gauge, and what its map g looks like at Φ."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import jax

from .. import ranks
from ..ranks import Rank

if TYPE_CHECKING:
    from ...models.methods import Method, Phi
    from ...models.network import Network


@dataclass(frozen=True, repr=False)
class Description:
    r"""The numbers of a method on a network.

    Attributes:
        method: its name.
        network: the network's name.
        weight_space: whether it has a map g; if not, everything from `dimension` on is None.
        k: parameters of Φ.
        d: parameters of θ.
        touched: paths of the leaves of θ that it changes (of the added ones, for an extension).
        dimension: of Im g, by its closed form; where that holds for almost every kernel only, `formula` says
            so.
        formula: how that comes about.
        linear: whether g is affine in Φ.
        rank: rank of Dg at the Φ that was asked for, with the gap that justifies it.
        immersion: whether that rank is k.
        injective_up_to_gauge: whether that rank is the dimension of Im g, so that near Φ only the
            k − dimension gauge directions leave g(Φ) where it is (constant rank theorem): a statement on a
            neighbourhood of Φ, where g is continuously differentiable.
        projection: "exact", or "upper estimate" where no nearest point of the image is known.
    """

    method: str
    network: str
    weight_space: bool
    k: int
    d: int
    touched: tuple[str, ...]
    dimension: int | None = None
    formula: str | None = None
    linear: bool | None = None
    rank: Rank | None = None
    immersion: bool | None = None
    injective_up_to_gauge: bool | None = None
    projection: str | None = None

    @property
    def share(self) -> float:
        """K / d."""
        return self.k / self.d

    @property
    def gauge(self) -> int | None:
        """K − dimension: how many parameters are redundant."""
        return None if self.dimension is None else self.k - self.dimension

    def lines(self) -> list[str]:
        """The description as text of at most 79 columns."""
        said = {None: "undecided", True: "yes", False: "no"}
        rows = [("parameters k", f"{self.k}, {self.share:.3%} of d = {self.d}")]
        if self.weight_space:
            rows += [
                ("dimension of Im g", f"{self.dimension} = {self.formula}"),
                ("gauge k − dim", str(self.gauge)),
                ("rank of Dg at Φ", f"{self.rank.rank}, gap {self.rank.gap:.1e} ({self.rank.how})"),
                ("g linear", said[self.linear]),
                ("immersion at Φ", said[self.immersion]),
                ("injective up to gauge", said[self.injective_up_to_gauge]),
                ("distance to Im g", self.projection),
            ]
        else:
            rows += [("map g", "none: it adds parameters, equation 4 does not cover it")]
        rows += [("touches", f"{len(self.touched)} leaves: {self.touched[0]}")]
        rows += [("", path) for path in self.touched[1:]]
        return [f"{self.method} on {self.network}", *(f"  {name:<23}{text}" for name, text in rows)]

    def __repr__(self) -> str:
        """Show the lines."""
        return "\n".join(self.lines())


def describe(method: Method, network: Network, phi: Phi | None = None) -> Description:
    r"""Measure what a method is on a network.

    Args:
        method: any method; a `Staged` one must be resolved first.
        network: the base network, float64.
        phi: where to take the Jacobian; the usual initialisation if None.

    Returns:
        A `Description`.

    Raises:
        ValueError: float32 parameters, or a method that does not fit the network.
    """
    enlarged = method.enlarge(network)
    made = method.trainable(enlarged)
    if enlarged is not network:
        return Description(method.name, network.name, False, made.k, network.d, made.touched())
    image = method.image(network)
    found = ranks.jacobian_rank(made, made.init(jax.random.key(0)) if phi is None else phi)
    return Description(
        method=method.name,
        network=network.name,
        weight_space=True,
        k=made.k,
        d=made.d,
        touched=made.touched(),
        dimension=image.dimension,
        formula=image.formula,
        linear=image.linear,
        rank=found,
        immersion=None if found.rank is None else found.rank == made.k,
        injective_up_to_gauge=None if found.rank is None else found.rank == image.dimension,
        projection="exact" if image.exact else "upper estimate",
    )
