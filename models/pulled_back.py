"""The objective of a network as a function of the parameters of a method."""

from dataclasses import dataclass

import numpy as np
from jax.flatten_util import ravel_pytree
from jaxtyping import Array, Float

from .derivatives import (
    Examples,
    NetworkLoss,
    Part,
    Shapes,
    Vector,
    from_leaves,
    hessian_product,
    shapes_of,
    transposed,
    unraveled,
)
from .methods.base import Method, Phi
from .network import Batch, Network, Outputs
from .training import Program, Settings
from .tree import Params


def tuned(program: Program, phi: Phi, theta0: Params, x: Batch) -> Outputs:
    """The outputs of the tuned network, with Φ in layers of its own wherever the method is applied so."""
    if program.method.weight_space and program.wrapped is not None:
        network = Network(program.apply, theta0, program.architecture, wrapped=program.wrapped)
        return program.method.ordinary(network, phi)(x)
    return program.apply(program.theta(phi, theta0), x)


@dataclass(frozen=True)
class PulledBackLoss:
    """The objective of a network as a function of the parameters Φ of a method: Φ ↦ L(θ₀ + g(Φ)).

    Its data are the tree θ₀ and the `Examples`.

    Attributes:
        loss: L, as a function of θ.
        program: gives g, on a θ₀ that may be traced.
        shapes: the paths and shapes of Φ.
    """

    loss: NetworkLoss
    program: Program
    shapes: Shapes

    @classmethod
    def of(cls, network: Network, method: Method) -> "PulledBackLoss":
        """The objective of a network and a method that has a g, without the parameters."""
        template = method.reparameterize(network).template
        return cls(NetworkLoss.of(network), Program.of(network, method, Settings()), shapes_of(template))

    def __call__(self, vector: Vector, data: tuple[Params, Examples]) -> Float[Array, ""]:
        """L(θ₀ + g(Φ))."""
        theta0, examples = data
        return self.loss(self.theta(vector, theta0), examples)

    def penalty(self, vector: Vector, data: tuple[Params, Examples]) -> Float[Array, ""]:
        """λ/2 ‖θ₀ + g(Φ) − c‖²."""
        theta0, examples = data
        return self.loss.penalty(self.theta(vector, theta0), examples)

    def theta(self, vector: Vector, theta0: Params) -> Float[Array, " d"]:
        """θ₀ + g(Φ), raveled."""
        return ravel_pytree(self.program.theta(self.phi(vector), theta0))[0]

    def against(self, vector: Vector, data: tuple[Params, Vector]) -> Float[Array, ""]:
        """⟨G, g(Φ)⟩ for data θ₀ and G: its Hessian is the part of L's that comes from the bends of g."""
        theta0, direction = data
        return direction @ self.update(vector, theta0)

    def update(self, vector: Vector, theta0: Params) -> Float[Array, " d"]:
        """g(Φ), raveled."""
        return ravel_pytree(self.program.reparameterization(theta0).g(self.phi(vector)))[0]

    def phi(self, vector: Vector) -> Phi:
        """Φ as a tree."""
        return unraveled(vector, self.shapes)

    def forward(self, leaves: list[Array], theta0: Params, x: Batch) -> Outputs:
        """f(x; θ₀ + g(Φ)) for the leaves of Φ, the way the method is usually applied, as `taps` wants it."""
        return tuned(self.program, from_leaves(leaves, self.shapes), theta0, x)

    def parts(self, data: tuple[Params, Examples]) -> tuple[Params, Examples]:
        """What `forward` needs beside the leaves, and the examples."""
        return data

    def penalty_hessian(
        self, vector: Vector, data: tuple[Params, Examples]
    ) -> float | Float[np.ndarray, "k k"]:
        """The Hessian of the penalty."""
        if float(data[1].decay) == 0:
            return 0.0
        return transposed(hessian_product(Part(self, "penalty"), vector, data), vector.size)
