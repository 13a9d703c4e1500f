"""BitFit: train the biases and nothing else."""

import dataclasses
from collections.abc import Callable

from .. import tree
from ..network import Batch, Network, Outputs
from .base import Method, Phi, Reparameterization, replaced
from .full import coordinates, inclusion
from .image import Image


@dataclasses.dataclass(frozen=True)
class BitFit(Method):
    """Train all leaves called ``bias``, those of LayerNorm included.

    Ben Zaken et al. (2022), arXiv 2106.10199.
    """

    @property
    def name(self) -> str:
        """Always ``bitfit``."""
        return "bitfit"

    def reparameterize(self, network: Network) -> Reparameterization:
        """The inclusion of the biases; Φ is the part of the tree of θ that holds them.

        Raises:
            ValueError: the network has no leaf called ``bias``.
        """
        paths = tuple(path for path in tree.paths(network.params) if path.split("/")[-1] == "bias")
        if not paths:
            raise ValueError(
                f"network: {network.name!r} has no leaf called 'bias', so BitFit has nothing to train; build "
                "it with biases=True, or name other leaves with Full(pattern)"
            )
        return inclusion(self, network, paths)

    def ordinary(self, network: Network, phi: Phi) -> Callable[[Batch], Outputs]:
        """The network with the trained biases in place of the base ones."""
        tree.check_like(phi, self.reparameterize(network).template, "phi")
        return replaced(network, phi)

    def image(self, network: Network) -> Image:
        """A coordinate subspace: of dimension k, the number of bias entries."""
        return coordinates(self.reparameterize(network))
