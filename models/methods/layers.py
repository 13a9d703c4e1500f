"""Training the top of a network: its last k layers or blocks, and what comes after them."""

import dataclasses
from collections.abc import Callable

from .. import tree
from ..mlp import MLPConfig
from ..network import Batch, Network, Outputs
from ..transformer import TransformerConfig
from .base import Method, Phi, Reparameterization, replaced
from .full import coordinates, inclusion
from .image import Image


@dataclasses.dataclass(frozen=True)
class TopLayers(Method):
    """Train the last k linear layers, or in a transformer the last k blocks, the final norm and the head.

    Attributes:
        k: how many layers or blocks.

    Raises:
        ValueError: a k below 1.
    """

    k: int = 1

    def __post_init__(self) -> None:
        if isinstance(self.k, bool) or int(self.k) != self.k or self.k < 1:
            raise ValueError(f"k: got {self.k}, needs a positive number of layers")

    @property
    def name(self) -> str:
        """``top-<k>``."""
        return f"top-{self.k}"

    def reparameterize(self, network: Network) -> Reparameterization:
        """The inclusion of the leaves of the top.

        Raises:
            ValueError: more layers than there are, or a network whose layers are not known.
        """
        return inclusion(self, network, tree.match(network.params, self._patterns(network)))

    def ordinary(self, network: Network, phi: Phi) -> Callable[[Batch], Outputs]:
        """The network with the trained leaves in place of the base ones."""
        tree.check_like(phi, self.reparameterize(network).template, "phi")
        return replaced(network, phi)

    def image(self, network: Network) -> Image:
        """A coordinate subspace."""
        return coordinates(self.reparameterize(network))

    def _patterns(self, network: Network) -> tuple[str, ...]:
        match network.architecture:
            case MLPConfig(layers=count):
                kind, patterns = "layers", ()
            case TransformerConfig(depth=count, norm_first=final):
                kind, patterns = "blocks", ("norm/*", "head/*") if final else ("head/*",)
            case _:
                raise ValueError(
                    f"network: the layers of {network.name!r} are not known; name their leaves with "
                    f"Full(pattern), the paths being {', '.join(tree.paths(network.params))}"
                )
        if self.k > count:
            raise ValueError(f"k: got {self.k}, needs at most the {count} {kind} of {network.name!r}")
        return (*(f"{kind}/{i}/*" for i in range(count - self.k, count)), *patterns)
