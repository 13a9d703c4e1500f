"""Methods whose map g is chosen by a first training run: masks of what changed most, factors of an update."""

import abc
from collections.abc import Callable

from ..network import Batch, Network, Outputs
from ..tree import Params
from .base import Method, Phi, Reparameterization
from .full import Full


class Staged(Method):
    """A method in two stages: train `first`, let `resolve` make a method with a map g of what came out.

    `fit` runs both stages for each seed. Where `retrains` is False the second stage only evaluates: Φ is then
    what the resolved method starts from.
    """

    retrains: bool = True

    @property
    def first(self) -> Method:
        """What is trained in the first stage: all parameters, unless a subclass says otherwise."""
        return Full()

    @abc.abstractmethod
    def resolve(self, network: Network, update: Params) -> Method:
        """The method of the second stage, which starts again from θ₀.

        Args:
            network: the base network.
            update: Δθ of the first stage, a tree like θ.

        Raises:
            ValueError: the update has another structure than θ, or the method does not fit the network.
        """

    def reparameterize(self, network: Network) -> Reparameterization:
        """There is no g before the first stage.

        Raises:
            ValueError: always.
        """
        raise ValueError(
            f"method: {self.name!r} chooses its map g by a first training run; train it with fit or "
            f"finetune, "
            "or call resolve(network, update) with an update that you have"
        )

    def ordinary(self, network: Network, phi: Phi) -> Callable[[Batch], Outputs]:
        """There is no g before the first stage either.

        Raises:
            ValueError: always.
        """
        raise ValueError(
            f"method: {self.name!r} is applied as the method that resolve gives, with its own ordinary"
        )

    def check(self, network: Network) -> None:
        """Check what can be known before the first stage; subclasses add their own conditions."""
        self.first.check(network)
