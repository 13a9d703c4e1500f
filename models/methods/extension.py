"""Extensions: methods that change the network itself, so that no map g into its parameters exists.

Let f̃(x; θ, Φ) be the enlarged network. If some Φ₀ is neutral, f̃(x; θ, Φ₀) = f(x; θ), then full fine-tuning
is the slice Φ = Φ₀ of its parameters and the extension is the slice θ = θ₀. In general neither contains the
other: a network with an adapter is in no sense one of the base networks.
"""

import abc
import dataclasses
from collections.abc import Callable
from typing import Any, ClassVar

import jax
import jax.numpy as jnp
from jaxtyping import Array, PRNGKeyArray

from .. import tree
from ..network import Batch, Layer, Network, Outputs, Wrap
from ..tree import Params
from .base import Method, Phi, Reparameterization, shapes


class Extension(Method):
    """A method with new parameters Φ and a new function f̃(x; θ, Φ); equation 4 does not cover it.

    The enlarged network has the leaves of θ and, under one key of their own, those of Φ. It can be enlarged
    again, by another extension, and a method with a map g can be applied to it like to any network.

    A subclass that works on activations calls `needs_hook` in `additions` and `intercepted` in `run`.
    """

    key: ClassVar[str]
    """Where the new leaves are in the tree of the enlarged network."""
    weight_space = False
    neutral: ClassVar[bool] = True
    """Whether the function does not change where Φ is zero."""

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
        return Network(
            pure,
            {**network.params, self.key: new},
            # No architecture: what is known of the base network, a bound for example, need not hold here.
            None,
            f"{network.name} with {self.name}",
            None if network.wrapped is None else pure,
        )

    def trainable(self, enlarged: Network) -> Reparameterization:
        """The inclusion of Φ into the parameters of the enlarged network.

        Args:
            enlarged: what `enlarge` gave; other extensions may have enlarged it since.

        Raises:
            ValueError: this method is not among those that enlarged the network.
        """
        base, small = shapes(enlarged.params), self._below(enlarged)
        new = base[self.key]

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

    def _below(self, enlarged: Network) -> Network:
        network = enlarged
        while isinstance(pure := network.apply, Enlarged):
            network = pure.network(network.params)
            if pure.method == self:
                return network
        raise ValueError(
            f"enlarged: {enlarged.name!r} has no parameters of {self.name}; pass what its enlarge returns"
        )


@dataclasses.dataclass(frozen=True)
class Enlarged:
    """The function of an enlarged network; equal for equal settings, so that compiled programs are shared."""

    method: Extension
    # A user's function may have no hash; it still counts when two are compared.
    apply: Callable[[Params, Batch], Outputs] = dataclasses.field(hash=False)
    wrapped: Callable[[Params, Batch, Wrap], Outputs] | None = dataclasses.field(hash=False)
    architecture: Any
    name: str

    def network(self, params: Params) -> Network:
        """The network that was enlarged, with its part of the parameters."""
        theta = {name: node for name, node in params.items() if name != self.method.key}
        return Network(self.apply, theta, self.architecture, self.name, self.wrapped)

    def __call__(self, params: Params, x: Batch, *wrap: Wrap) -> Outputs:
        """f̃(x; θ, Φ), and with a `wrap` its hook.

        That `wrap` meets the linear layers of the base network themselves, and the extension works on what
        it returns. So a change of a kernel and the same change as a side branch agree in an enlarged network
        too, and of two extensions the one that was applied last is nearest to the layers.
        """
        network = self.network(params)
        if wrap:
            hooked = Hooked(network, *wrap)
            network = dataclasses.replace(network, apply=hooked, wrapped=hooked)
        return self.method.run(network, params[self.method.key], x)


@dataclasses.dataclass(frozen=True, eq=False)
class Hooked:
    """The function of a network that an outer extension looks into while it runs."""

    under: Network
    wrap: Wrap

    def network(self, params: Params) -> Network:
        """The network without the hook."""
        return dataclasses.replace(self.under, params=params)

    def __call__(self, params: Params, x: Batch, *outer: Wrap) -> Outputs:
        """The network with its layers called through `wrap`, which an `outer` hook then surrounds."""

        def both(name: str, layer: Layer, h: Array) -> Array:
            return outer[0](name, lambda inside: self.wrap(name, layer, inside), h)

        return self.under.wrapped(params, x, both if outer else self.wrap)


def bottom(network: Network) -> Network:
    """The network below all extensions: the one whose architecture and linear layers are known."""
    while isinstance(network.apply, Enlarged | Hooked):
        network = network.apply.network(network.params)
    return network


def needs_hook(method: Extension, network: Network) -> None:
    """Require `Network.wrapped`, without which nothing inside of a network can be reached.

    Raises:
        ValueError: the network has none.
    """
    if network.wrapped is None:
        raise ValueError(
            f"network: {network.name!r} has no hook at its linear layers, and {method.name} changes what "
            "passes them; give Network the argument wrapped, a function of (params, x, wrap) that calls "
            "wrap(name, layer, x) in place of each layer(x)"
        )
