"""Training the parameters themselves: all of them (full fine-tuning) or those that match a pattern."""

import dataclasses
from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array

from .. import tree
from ..mlp import MLPConfig
from ..network import Batch, Network, Outputs
from ..transformer import TransformerConfig
from .base import Method, Phi, Reparameterization, replaced, shapes
from .image import Image


@dataclasses.dataclass(frozen=True)
class Full(Method):
    """Train the leaves that match a pattern: g(Φ) is Φ on them and zero elsewhere.

    Attributes:
        pattern: a shell pattern on paths such as ``layers/0/kernel``, or several.
        name: how reports call it; by default ``full``, with the pattern if it is not ``*``.
    """

    pattern: str | tuple[str, ...] = "*"
    name: str | None = None

    def __post_init__(self) -> None:
        if not isinstance(self.pattern, str):
            object.__setattr__(self, "pattern", tuple(self.pattern))
        if self.name is None:
            patterns = self.pattern if isinstance(self.pattern, str) else ",".join(self.pattern)
            object.__setattr__(self, "name", "full" if patterns == "*" else f"full[{patterns}]")

    def reparameterize(self, network: Network) -> Reparameterization:
        """The inclusion of a coordinate subspace; Φ is the part of the tree of θ that matches.

        Raises:
            ValueError: the pattern matches no parameter; the message lists those there are.
        """
        return inclusion(self, network, tree.match(network.params, self.pattern))

    def ordinary(self, network: Network, phi: Phi) -> Callable[[Batch], Outputs]:
        """The network with the trained leaves in place of the base ones."""
        tree.check_like(phi, self.reparameterize(network).template, "phi")
        return replaced(network, phi)

    def image(self, network: Network) -> Image:
        """A coordinate subspace."""
        return coordinates(self.reparameterize(network))


@dataclasses.dataclass(frozen=True)
class Head(Method):
    """Train the last linear layer only (linear probing)."""

    @property
    def name(self) -> str:
        """Always ``head``."""
        return "head"

    def reparameterize(self, network: Network) -> Reparameterization:
        """As `Full` on the last layer.

        Raises:
            ValueError: it is not known which layer is the last one of the network.
        """
        return inclusion(self, network, tree.match(network.params, head_pattern(network)))

    def ordinary(self, network: Network, phi: Phi) -> Callable[[Batch], Outputs]:
        """The network with the trained last layer."""
        tree.check_like(phi, self.reparameterize(network).template, "phi")
        return replaced(network, phi)

    def image(self, network: Network) -> Image:
        """A coordinate subspace."""
        return coordinates(self.reparameterize(network))


def head_pattern(network: Network) -> str:
    """The pattern of the leaves of the last linear layer.

    Raises:
        ValueError: the network is a user's own, so that its last layer is not known.
    """
    match network.architecture:
        case MLPConfig() as config:
            return f"layers/{config.layers - 1}/*"
        case TransformerConfig():
            return "head/*"
        case _:
            raise ValueError(
                f"network: the last layer of {network.name!r} is not known; name its leaves with "
                f"Full(pattern, name='head'), the paths being {', '.join(tree.paths(network.params))}"
            )


def inclusion(method: Method, network: Network, paths: tuple[str, ...]) -> Reparameterization:
    """The map g that puts Φ into the leaves `paths` and zero elsewhere; it starts at Φ = 0."""
    base = shapes(network.params)
    leaves = tree.paths(base)
    template = tree.from_paths({path: leaves[path] for path in paths})

    def draw(_: Array) -> Phi:
        return jax.tree.map(lambda leaf: jnp.zeros(leaf.shape, leaf.dtype), template)

    return Reparameterization(method, template, base, paths, tree.paths, draw)


def coordinates(inclusion: Reparameterization) -> Image:
    """The image of an inclusion of whole leaves: a subspace of dimension k, nearest on them is the update."""
    return Image(
        dimension=inclusion.k,
        initial_rank=inclusion.k,
        linear=True,
        formula="k",
        project=lambda target: {path: np.array(target[path], np.float64) for path in inclusion.paths},
    )
