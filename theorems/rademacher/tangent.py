r"""Networks linearised in their parameters: the tangent class of full fine-tuning, and that of a method.

Near θ a network is $f(x;\theta) + J(x)v$, with J the derivative of the outputs by θ.  The tangent classes

$$\{J(\cdot)\,v : \|v\| \le B\},\qquad \{J(\cdot)\,v : \|v\| \le B,\ v \in \mathrm{range}\,Dg(\Phi)\}$$

are linear, and all of `linear` holds for them.  A class is one of *updates*: redundant directions of Φ, along
which g does not move (LoRA's gauge), add nothing to it.  All this speaks of the linearised network, and of
the network itself only as far as that is near; `reached` looks at the network itself.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

import jax
import jax.numpy as jnp
import numpy as np

from ...models import tree
from ...models.methods import Full, Method, Reparameterization
from ...models.training import hashable
from .. import linalg
from ..ranks import jacobian_blocks
from .linear import LinearClass
from .subspace import range_factor

if TYPE_CHECKING:
    from jaxtyping import Array, Float

    from ...models.methods import Phi
    from ...models.network import Network
    from ...models.tree import Params

BUDGET = 2**29
"""Bytes that the derivative of all outputs may take; beyond, products with it are used."""


@dataclass(frozen=True, eq=False, repr=False)
class Tangent:
    """The tangent classes of full fine-tuning and of a method, on the same inputs.

    Attributes:
        full: of all directions of θ.
        part: of those in the range of Dg(Φ).
        d: number of parameters of the network.
        k: number of parameters of the method.
        rank: of Dg(Φ).
        name: of the method.
    """

    full: LinearClass
    part: LinearClass
    d: int
    k: int
    rank: int
    name: str

    def first(self, examples: int) -> Tangent:
        """Both classes on the first N inputs alone."""
        return Tangent(
            self.full.first(examples), self.part.first(examples), self.d, self.k, self.rank, self.name
        )

    def __repr__(self) -> str:
        """Show the sizes."""
        return f"Tangent({self.name!r}, {self.full!r}, d={self.d}, k={self.k}, rank={self.rank})"


def tangent(
    network: Network,
    x: Float[Array, "N ..."],
    made: Reparameterization,
    phi: Phi,
    *,
    radius: float = 1.0,
    budget_bytes: int = BUDGET,
) -> Tangent:
    r"""The tangent classes at θ₀ + g(Φ), with the derivative of all outputs formed.

    Args:
        network: float64, with θ₀.
        x: N inputs.
        made: the map g.
        phi: Φ.
        radius: B, of updates of θ in Euclidean norm.
        budget_bytes: of the derivative, N · outputs · d numbers.

    Raises:
        ValueError: another thing than a map for g; float32, NaN or infinity; a derivative beyond the budget
            (`free_compared` needs none); a rank of Dg(Φ) that no gap in its singular values decides.
    """
    require_map(made)
    theta = made.apply(network.params, phi)
    pieces, outputs = derivative(network, x, theta, budget_bytes=budget_bytes)
    full = sum(piece @ piece.T for piece in pieces.values())
    part, rank = np.zeros_like(full), 0
    for leaves, block in blocks(made, phi).items():
        moved = np.concatenate([pieces[leaf] for leaf in leaves], axis=1)
        if block is not None:
            moved = moved @ block @ range_factor(block)
        part, rank = part + moved @ moved.T, rank + moved.shape[1]
    classes = (LinearClass(kernel, outputs, radius) for kernel in (full, part))
    return Tangent(*classes, made.d, made.k, rank, made.method.name)


def require_map(made: Reparameterization) -> None:
    """Refuse a method, or arguments in another order, where its map g on the network is needed.

    Raises:
        ValueError: no `Reparameterization`.
    """
    if isinstance(made, Reparameterization):
        return
    what = f"the method {made.name!r}" if isinstance(made, Method) else f"a {type(made).__name__}"
    raise ValueError(
        f"made: got {what}, needs the map g of a method on this network; give "
        "method.reparameterize(network), in the order network, x, made, phi"
    )


def derivative(
    network: Network, x: Float[Array, "N ..."], theta: Params, *, budget_bytes: int = BUDGET
) -> tuple[dict[str, Float[np.ndarray, "rows size"]], int]:
    r"""The derivative of all outputs by the parameters, leaf by leaf, and the number of outputs.

    Args:
        network: float64.
        x: N inputs.
        theta: where.
        budget_bytes: as `tangent` has it.

    Returns:
        Matrices by path, rows ordered by example and then by output.

    Raises:
        ValueError: float32, NaN or infinity; a derivative beyond the budget.
    """
    x = np.asarray(x)
    linalg.require_judging_precision("x", x)
    linalg.require_judging_precision("theta", *jax.tree.leaves(theta))
    outputs = int(np.prod(jax.eval_shape(network.apply, theta, x[:1]).shape))
    size = 8 * len(x) * outputs * tree.size(theta)
    if size > budget_bytes:
        raise ValueError(
            f"budget_bytes: got {budget_bytes}, and the derivative takes {size}; give fewer inputs, or use "
            "free_compared, which does not form it"
        )
    found = tree.paths(derivatives(hashable(network.apply), theta, jnp.asarray(x)))
    return {path: np.asarray(leaf).reshape(len(x) * outputs, -1) for path, leaf in found.items()}, outputs


@functools.partial(jax.jit, static_argnums=0)
def derivatives(apply: Callable, theta: Params, x: Float[Array, "N ..."]) -> Params:
    """The derivative of the outputs by each leaf, shape (N, outputs, *leaf)."""

    def of_one(one: Array) -> Params:
        return jax.jacrev(lambda params: apply(params, one[None]).ravel())(theta)

    return jax.vmap(of_one)(x)


def blocks(made: Reparameterization, phi: Phi) -> dict[tuple[str, ...], np.ndarray | None]:
    r"""The independent blocks of Dg(Φ).

    Returns:
        Matrices by the leaves of θ that a block moves, raveled one after the other; None for the identity.

    Raises:
        ValueError: a block that is too large to form.
    """
    if isinstance(made.method, Full):
        return {(leaf,): None for leaf in made.paths}
    return jacobian_blocks(made, phi)
