r"""Are the functions of a tuned network fewer?  A verdict with its certificate."""

from __future__ import annotations

import textwrap
from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING, Any

import jax
import numpy as np
from jax.flatten_util import ravel_pytree

from .. import linalg, ranks
from ..ranks import Rank

if TYPE_CHECKING:
    from jaxtyping import Array, Float

    from ...models.methods import Method, Phi, Reparameterization
    from ...models.network import Network
    from ...models.tree import Params

SLACK = 8
"""Outputs beyond what is needed, so that a rank is not read off a square matrix."""
CLEAR = 1e-4
"""An effect below that share may be rounding."""


class Relation(StrEnum):
    """How the functions of a tuned network on some inputs stand to those of the network."""

    INSIDE = "inside"
    STRICTLY_INSIDE = "strictly inside"
    NOT_DECIDED = "not decided"
    NOT_COVERED = "not covered"


@dataclass(frozen=True, repr=False)
class SubsetVerdict:
    r"""What is certified of $\mathcal{F}_{peft}|_S$ and $\mathcal{F}_{full}|_S$.

    Attributes:
        relation: see `Relation`.
        reason: a sentence that says why, and what would decide it.
        k: parameters of the method.
        reach: an upper bound on the dimensions of functions that it reaches: min(k, dim Im g).
        functional: the rank behind the lower bound of ρ_S, or None.
        witness: a direction of θ (a tree like θ, norm 1) whose first-order effect on the outputs no change
            of Φ has; None unless strictly inside, and where there is none at this Φ or the matrices are too
            large.  The verdict does not rest on it.
        effect: the share of the witness's effect on the outputs that no change of Φ has, in (0, 1].
    """

    relation: Relation
    reason: str
    k: int
    reach: int
    functional: Rank | None = None
    witness: Params | None = None
    effect: float | None = None

    def __repr__(self) -> str:
        """Show the relation and the reason, at most 79 columns wide."""
        return "\n".join(textwrap.wrap(f"{self.relation}: {self.reason}", 79, break_on_hyphens=False))


def verdict(
    network: Network, method: Method, x: Float[Array, "p ..."], phi: Phi | None = None
) -> SubsetVerdict:
    r"""Decide whether a method gives fewer functions on the inputs x than full fine-tuning.

    Containment is equation 5 and needs no computation.  It is strict if
    $\min(k, \dim \mathrm{Im}\,g) < \rho_S$, the largest rank of $\partial_\theta (f(x_i;\theta))_i$ over θ: a
    lower bound of ρ_S at one θ, here a random one near θ₀, is enough (T1.R6).  For a method that says nothing
    of its image, k alone counts, and its g must be locally Lipschitz.

    Args:
        network: the base network, float64.
        method: any method.
        x: inputs S, shape (p, ...).
        phi: where the witness is taken; the usual initialisation if None.

    Returns:
        A `SubsetVerdict`, where strict with a witness if there is one at Φ.

    Raises:
        ValueError: float32 parameters, or a method that does not fit the network.

    Source: T1.R6; Grigsby, Lindsey, Meyerhoff and Wu 2022 (arXiv 2209.04036) for the functional dimension.
    """
    x = np.asarray(x)
    try:
        made = method.reparameterize(network)
    except ValueError as error:
        method.check(network)
        return SubsetVerdict(Relation.NOT_COVERED, str(error), method.trainable(method.enlarge(network)).k, 0)
    reach = min(made.k, _bound(method, network, made.k))
    if reach >= made.d:
        return SubsetVerdict(
            Relation.INSIDE, f"the method reaches {reach} of {made.d} dimensions", made.k, reach
        )
    found = ranks.enough(network, x, reach + 1)
    if found.rank is None or found.rank <= reach:
        return SubsetVerdict(Relation.NOT_DECIDED, _undecided(network, x, reach, found), made.k, reach, found)
    phi = made.init(jax.random.key(0)) if phi is None else phi
    witness, effect = _witness(network, made, phi, x)
    reason = (
        f"the method reaches at most {reach} dimensions of functions, the network has at least {found.rank}"
    )
    return SubsetVerdict(Relation.STRICTLY_INSIDE, reason, made.k, reach, found, witness, effect)


def _bound(method: Method, network: Network, k: int) -> int:
    """A bound of dim Im g that rounding cannot make too small; k for a method that knows none."""
    try:
        return method.image(network).bound
    except ValueError:
        return k


def _undecided(network: Network, x: Any, reach: int, found: Rank) -> str:
    outputs = int(np.prod(jax.eval_shape(network.apply, network.params, x).shape))
    if outputs <= reach:
        return (
            f"{outputs} outputs are seen and the method reaches {reach} dimensions: give more inputs (on p "
            f"inputs "
            "an update of rank p loses nothing)"
        )
    return (
        f"on these inputs the network has functional dimension {found.rank}, not above the {reach} that the "
        "method reaches: give more, and more varied, inputs; if it stays so, the inclusion may be an equality"
    )


def _witness(
    network: Network, made: Reparameterization, phi: Phi, x: np.ndarray, budget_bytes: int = 2**30
) -> tuple[Params | None, float | None]:
    """A unit direction of θ that moves the outputs on some of the inputs as no direction of Φ does.

    With more outputs than Φ has directions there is a vector w of changes of the outputs that is orthogonal
    to all that Φ can do; the least-squares solution v of J v = w is the direction. It is taken on the first
    inputs, as many as that takes, or else on all. None where nothing is found, as at a Φ at which the network
    itself has few dimensions, and where the matrices are too large to form.
    """
    outputs = int(np.prod(jax.eval_shape(network.apply, network.params, x[:1]).shape))
    theta = made.apply(network.params, phi)
    for count in dict.fromkeys((min(len(x), -(-(made.k + SLACK) // outputs)), len(x))):
        if 8 * count * outputs * made.d > budget_bytes:
            break
        jacobian = ranks.functional_jacobian(network, x[:count], theta)
        found, effect = _beyond(jacobian, ranks.tangent_jacobian(network, x[:count], made, phi))
        if effect > CLEAR:
            return jax.tree.map(np.asarray, ravel_pytree(theta)[1](found)), effect
    return None, None


def _beyond(jacobian: np.ndarray, tangent: np.ndarray) -> tuple[np.ndarray, float]:
    """A unit vector v for which J v leaves the range of the tangent, and the share of J v that does."""
    u, s, _ = np.linalg.svd(tangent, full_matrices=False)
    reached = u[:, s > max(tangent.shape) * linalg.EPS * s[0]]

    def outside(v: np.ndarray) -> np.ndarray:
        v = v - reached @ (reached.T @ v)
        return v - reached @ (reached.T @ v)  # twice is enough

    direction = np.linalg.lstsq(jacobian, outside(np.random.default_rng(0).normal(size=len(jacobian))))[0]
    length = np.linalg.norm(direction)
    if length == 0:
        return direction, 0.0
    moved = jacobian @ (direction / length)
    size = np.linalg.norm(moved)
    return direction / length, float(np.linalg.norm(outside(moved)) / size) if size else 0.0
