"""Extensions: methods that change the network itself, so that no map g into its parameters exists."""

import abc
import dataclasses
from collections.abc import Callable
from typing import Any, ClassVar

import jax
import jax.numpy as jnp
from jaxtyping import PRNGKeyArray

from .. import tree
from ..network import Batch, Network, Outputs, Wrap
from ..tree import Params
from .base import Method, Phi, Reparameterization, shapes


class Extension(Method):
    """A method with new parameters Φ and a new function f̃(x; θ, Φ); equation 4 does not cover it.

    The enlarged network has the leaves of θ and, under one key of their own, those of Φ. Full fine-tuning and
    the extension are two slices of it, and neither contains the other in general.
    """

    key: ClassVar[str]
    """Where the new leaves are in the tree of the enlarged network."""

    @abc.abstractmethod
    def additions(self, network: Network) -> Params:
        """Shapes and dtypes of Φ, a nested dictionary of `jax.ShapeDtypeStruct`.

        Raises:
            ValueError: the method is not defined for this network; the message says why.
        """

    @abc.abstractmethod
    def draw(self, network: Network, key: PRNGKeyArray) -> Phi:
        """The usual initialisation of Φ."""

    @abc.abstractmethod
    def run(self, network: Network, phi: Phi, x: Batch) -> Outputs:
        """The function f̃(x; θ, Φ), for the θ of `network` and a Φ that may be traced."""

    def enlarge(self, network: Network) -> Network:
        """The network with Φ among its parameters, all of it zero.

        Raises:
            ValueError: the method is not defined for this network, or was applied to it already.
        """
        if self.key in network.params:
            raise ValueError(
                f"network: {network.name!r} has a node {self.key!r} already, where {self.name} keeps its "
                "parameters; apply the method to the base network, or rename the node"
            )
        new = jax.tree.map(lambda leaf: jnp.zeros(leaf.shape, leaf.dtype), self.additions(network))
        pure = Enlarged(self, network.apply, network.wrapped, network.architecture, network.name)
        return Network(pure, {**network.params, self.key: new}, None, f"{network.name} with {self.name}")

    def trainable(self, enlarged: Network) -> Reparameterization:
        """The inclusion of Φ into the parameters of the enlarged network."""
        base, new = shapes(enlarged.params), shapes(enlarged.params[self.key])
        small = enlarged.apply.network(enlarged.params)

        def changes(phi: Phi) -> dict[str, Any]:
            return {f"{self.key}/{path}": leaf for path, leaf in tree.paths(phi).items()}

        return Reparameterization(
            self, new, base, tuple(changes(new)), changes, lambda key: self.draw(small, key)
        )

    def reparameterize(self, network: Network) -> Reparameterization:
        """There is no g.

        Raises:
            ValueError: always.
        """
        raise ValueError(
            f"method: {self.name!r} adds parameters instead of reparameterizing those that {network.name!r} "
            "has, so there is no map g and equation 4 does not cover it; use enlarge, then trainable"
        )

    def ordinary(self, network: Network, phi: Phi) -> Callable[[Batch], Outputs]:
        """The extended network, which is the ordinary way of applying the method."""
        tree.check_like(phi, self.additions(network), "phi")
        return lambda x: self.run(network, phi, x)


@dataclasses.dataclass(frozen=True)
class Enlarged:
    """The function of an enlarged network; equal for equal settings, so that compiled programs are shared."""

    method: Extension
    apply: Callable[[Params, Batch], Outputs]
    wrapped: Callable[[Params, Batch, Wrap], Outputs] | None
    architecture: Any
    name: str

    def network(self, params: Params) -> Network:
        """The base network, with its part of the parameters."""
        theta = {name: node for name, node in params.items() if name != self.method.key}
        return Network(self.apply, theta, self.architecture, self.name, self.wrapped)

    def __call__(self, params: Params, x: Batch) -> Outputs:
        """f̃(x; θ, Φ)."""
        return self.method.run(self.network(params), params[self.method.key], x)
