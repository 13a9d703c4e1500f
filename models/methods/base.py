"""A method of fine-tuning, and the map g from its parameters Φ ∈ ℝᵏ to an update of θ ∈ ℝᵈ."""

import abc
import dataclasses
from collections.abc import Callable, Iterable
from typing import Any, Protocol

import jax
import jax.numpy as jnp
import lineax as lx
from jax.flatten_util import ravel_pytree
from jaxtyping import Array, Float, PRNGKeyArray, PyTree

from .. import tree
from ..network import Batch, Layer, Network, Outputs, Wrap
from ..tree import Params
from .image import Image

Phi = Any
"""The parameters Φ of a method: a nested dictionary of arrays."""


@dataclasses.dataclass(frozen=True, eq=False, repr=False)
class Reparameterization:
    """The map g: Φ ↦ Δθ of a method on one network, so that fine-tuning gives f(x; θ₀ + g(Φ)).

    Attributes:
        method: the method that made it.
        template: shapes and dtypes of Φ, a nested dictionary of `jax.ShapeDtypeStruct`.
        base: shapes and dtypes of θ, likewise.
        paths: the leaves of θ that g changes.
        changes: maps Φ to the updates of those leaves, by path.
        draw: maps a random key to the usual initialisation of Φ, where g is zero.
    """

    method: "Method"
    template: Phi
    base: Params
    paths: tuple[str, ...]
    changes: Callable[[Phi], dict[str, Array]]
    draw: Callable[[PRNGKeyArray], Phi]

    @property
    def k(self) -> int:
        """The number of parameters in Φ."""
        return tree.size(self.template)

    @property
    def d(self) -> int:
        """The number of parameters in θ."""
        return tree.size(self.base)

    @property
    def dtype(self) -> jnp.dtype:
        """The dtype of θ, which Φ has too."""
        return jax.tree.leaves(self.base)[0].dtype

    def touched(self) -> tuple[str, ...]:
        """Paths of the leaves of θ that g changes; the others always get a zero update."""
        return self.paths

    def init(self, key: PRNGKeyArray) -> Phi:
        """The usual initialisation of Φ; g is zero there.

        Args:
            key: a JAX random key.
        """
        return self.draw(key)

    def g(self, phi: Phi) -> Params:
        """Map Φ to the update Δθ of the parameters.

        Args:
            phi: Φ, with the structure that `init` gives.

        Returns:
            A tree of the shapes of θ, with zeros where the method changes nothing.

        Raises:
            ValueError: Φ has other paths or shapes than `init` gives.
        """
        tree.check_like(phi, self.template, "phi")
        changes = self.changes(phi)
        return tree.from_paths(
            {
                path: changes[path] if path in changes else jnp.zeros(leaf.shape, leaf.dtype)
                for path, leaf in tree.paths(self.base).items()
            }
        )

    def apply(self, theta0: Params, phi: Phi) -> Params:
        """The fine-tuned parameters θ₀ + g(Φ).

        Raises:
            ValueError: θ₀ or Φ has other paths or shapes than the network that this was made for.
        """
        tree.check_like(theta0, self.base, "theta0")
        return tree.add(theta0, self.g(phi))

    def jacobian(self, phi: Phi) -> lx.AbstractLinearOperator:
        """Dg(Φ) as a linear map ℝᵏ → ℝᵈ on raveled vectors, without forming the matrix.

        Args:
            phi: Φ, with the structure that `init` gives.

        Returns:
            A `lineax` operator: ``mv`` is a Jacobian-vector product, ``T.mv`` a vector-Jacobian product and
            ``as_matrix`` the (d, k) matrix. Vectors are laid out as `jax.flatten_util.ravel_pytree` does.

        Raises:
            ValueError: Φ has other paths or shapes than `init` gives.
        """
        tree.check_like(phi, self.template, "phi")
        vector, unravel = ravel_pytree(phi)

        def raveled(v: Float[Array, " k"], _: None) -> Float[Array, " d"]:
            return ravel_pytree(self.g(unravel(v)))[0]

        return lx.JacobianLinearOperator(raveled, vector, jac="fwd")

    def __repr__(self) -> str:
        touched = f"{len(self.paths)} of {len(jax.tree.leaves(self.base))} leaves"
        return f"Reparameterization({self.method.name!r}, k={self.k}, d={self.d}, touches {touched})"


class Method(abc.ABC):
    """A way of fine-tuning; subclasses are frozen dataclasses of settings.

    Most have a map g and say here what is known of it. An `Extension` has none, and a `Staged` method has one
    only after a first training run has told it which.
    """

    weight_space: bool = True
    """Whether there is a map g, as equation 4 wants it."""

    @property
    @abc.abstractmethod
    def name(self) -> str:
        """A short name, which differs for different settings."""

    @abc.abstractmethod
    def reparameterize(self, network: Network) -> Reparameterization:
        """The map g of this method on a network.

        Raises:
            ValueError: the method has nothing to change in this network, or a setting does not fit it.
        """

    @abc.abstractmethod
    def ordinary(self, network: Network, phi: Phi) -> Callable[[Batch], Outputs]:
        """The network fine-tuned the way the method is usually implemented, without g.

        It equals f(x; θ₀ + g(Φ)) up to rounding, and shares no code with g: that is what it is for.

        Args:
            network: the base network.
            phi: Φ, with the structure that `Reparameterization.init` gives.

        Raises:
            ValueError: the method works on activations and the network has no `Network.wrapped`.
        """

    def image(self, network: Network) -> Image:
        """What is known in closed form of Im g on a network whose parameters are concrete.

        Raises:
            ValueError: the method has no closed form, or does not fit the network.
        """
        raise ValueError(
            f"method: no closed form is known for the image of {self.name!r}; measure its rank instead"
        )

    def check(self, network: Network) -> None:
        """Raise the ValueError that says why the method does not fit the network, if it does not."""
        self.trainable(self.enlarge(network))

    def enlarge(self, network: Network) -> Network:
        """The network that training works on: the network itself unless the method is an `Extension`."""
        return network

    def trainable(self, enlarged: Network) -> Reparameterization:
        """The map from Φ to an update of the parameters of the enlarged network; g unless an `Extension`."""
        return self.reparameterize(enlarged)

    def penalty(self, phi: Phi) -> Float[Array, ""] | None:
        """A term that the method adds to the training objective, or None."""
        return None

    def schedule(self) -> "Schedule | None":
        """How the method intervenes between optimizer steps, or None."""
        return None


class Schedule(Protocol):
    """What a method does to Φ after each optimizer step, such as spending a budget of ranks.

    Both functions are traced: they see one run, and Python sees none of its numbers.
    """

    def start(self, phi: Phi) -> PyTree[Array]:
        """What the schedule remembers, before the first step."""

    def after(
        self, phi: Phi, gradient: Phi, memory: PyTree[Array], progress: Float[Array, ""]
    ) -> tuple[Phi, PyTree[Array]]:
        """Φ and the memory after a step that used `gradient`; `progress` in (0, 1] of all steps are done."""


def replaced(network: Network, phi: Phi) -> Callable[[Batch], Outputs]:
    """The network with some leaves trained in place; Φ is a part of the tree of θ."""
    trained = tree.paths(phi)
    params = tree.from_paths(
        {
            path: leaf + trained[path] if path in trained else leaf
            for path, leaf in tree.paths(network.params).items()
        }
    )
    return lambda x: network.apply(params, x)


def intercepted(
    method: Method, network: Network, wrap: Wrap, layers: Iterable[str]
) -> Callable[[Batch], Outputs]:
    """The network with its linear layers called through `wrap`, which must meet all of `layers`."""
    if network.wrapped is None:
        raise ValueError(
            f"network: {network.name!r} has no hook at its linear layers, which {method.name} needs to be "
            "applied the ordinary way; give Network the argument wrapped, or use reparameterize"
        )

    def run(x: Batch) -> Outputs:
        met = set()

        def recorded(name: str, layer: Layer, x: Array) -> Array:
            met.add(name)
            return wrap(name, layer, x)

        y = network.wrapped(network.params, x, recorded)
        # A hook that skips a layer would leave it as it was, and nobody would notice.
        missed = [layer for layer in layers if layer not in met]
        if missed:
            raise ValueError(
                f"network: wrapped of {network.name!r} never called wrap for {', '.join(missed)}, but for "
                f"{', '.join(sorted(met)) or 'nothing'}; call wrap with the path of each linear layer"
            )
        return y

    return run


def shapes(params: Params) -> Params:
    """The tree of shapes and dtypes."""
    return jax.tree.map(lambda leaf: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype), params)
