r"""A stationary point of the regularised loss, its dense Hessian, factored once, and whether it is definite.

Statements about minimisers can be judged at minimisers only.  L-BFGS comes down to where rounding hides
further progress of the loss; from there the gradient, which is still accurate, is reduced to its own rounding
by Newton steps with one and the same Cholesky factor.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

import jax.numpy as jnp
import numpy as np
from jaxtyping import Float

from ....models import derivatives, tree
from ....models.derivatives import Examples, NetworkLoss
from ... import curvature, linalg
from ...curvature import BUDGET, Curvature, Definiteness
from ...curvature.network import objective
from ..fact import Fact
from ..roots import Triangular, root
from . import descent

if TYPE_CHECKING:
    from ....models.network import Network
    from ....models.tasks import Split
    from ....models.tree import Params

Say = Callable[[str], None]
Vector = Float[np.ndarray, " d"]
_NEWTON = 8
_STEPS = 20_000


@dataclass(frozen=True, eq=False)
class Hessian:
    """The Hessian at a point; formed and factored when it is asked for, and then kept."""

    network: Network
    split: Split
    theta: Vector
    ridge: float
    memory: int = BUDGET

    @cached_property
    def curvature(self) -> Curvature:
        """Its products, and the matrix."""
        params = NetworkLoss.of(self.network).params(jnp.asarray(self.theta))
        given = {"weight_decay": self.ridge, "memory": self.memory}
        return curvature.hessian(self.network, self.split, params=params, **given)

    @cached_property
    def definite(self) -> Definiteness:
        """Proved bounds of the least eigenvalue."""
        return curvature.definiteness(self.curvature)

    @cached_property
    def root(self) -> Triangular | None:
        """The Cholesky factor; None where the matrix is not definite, or not beyond rounding."""
        if not self.definite.definite:
            return None
        found = root(self.curvature.matrix())
        return found if isinstance(found, Triangular) else None


@dataclass(frozen=True, eq=False, repr=False)
class Stationary:
    r"""A point θ* where full fine-tuning on D has come to rest.

    The objective is $F(\theta) = L_D(\theta) + \frac\lambda2\|\theta - \theta_0\|^2$, with the mean
    cross-entropy on D and the parameters $\theta_0$ of the base network.

    Attributes:
        network: f and θ₀.
        loss: F, as a function of θ and of `Examples`.
        examples: its data.
        theta: θ*, raveled, shape (d,).
        value: F(θ*).
        gradient_norm: ‖∇F(θ*)‖₂.
        decrement: ½∇FᵀH⁻¹∇F, about how far F(θ*) is above the minimum; where H is not definite the estimate
            of L-BFGS.
        lower: proved lower bound of the least eigenvalue of H = ∇²F, where L-BFGS stopped.
        upper: proved upper bound.
        moved: ‖θ* − that point‖₂: how far the Newton steps went, by rounding of the loss alone.
        evaluations: of F by L-BFGS.
        hessian: H.
    """

    network: Network
    loss: NetworkLoss
    examples: Examples
    theta: Vector
    value: float
    gradient_norm: float
    decrement: float
    lower: float
    upper: float
    moved: float
    evaluations: int
    hessian: Hessian

    @property
    def stationarity(self) -> Fact:
        """Whether the loss cannot tell θ* from the minimum: the decrement is below its rounding."""
        met = self.decrement <= linalg.EPS * abs(self.value)
        return Fact(met, f"|∇F| = {self.gradient_norm:.2g}, decrement {self.decrement:.2g}")

    @property
    def definiteness(self) -> Fact:
        """Whether H ≻ 0 is proved, with the interval of the least eigenvalue."""
        return Fact(self.lower > 0, f"smallest eigenvalue in [{self.lower:.6g}, {self.upper:.6g}]")

    def __repr__(self) -> str:
        """Show the certificates."""
        return (
            f"Stationary(d={len(self.theta)}, F = {self.value:.6g}, {self.stationarity.shown}, "
            f"{self.definiteness.shown})"
        )


def stationary(
    network: Network,
    split: Split,
    *,
    ridge: float = 1e-3,
    start: Params | None = None,
    accuracy: float = 0.0,
    memory: int = BUDGET,
    progress: Say | None = None,
) -> Stationary:
    r"""Bring full fine-tuning to rest, at a minimum of $F = L_D + \frac\lambda2\|\theta-\theta_0\|^2$.

    Args:
        network: f and θ₀, in float64.
        split: D.
        ridge: λ.  Without it the Hessian is often indefinite or singular, and a minimum need not exist.
        start: parameters to start from, such as fully fine-tuned ones; θ₀ if None.
        accuracy: relative, where to stop early and leave the Newton steps out; 0 goes down to rounding.
        memory: bytes that the Hessian may take.
        progress: called with a line of text now and then.

    Raises:
        ValueError: not float64, another tree than the network's, labels without an output, a negative ridge,
            or a network whose Hessian does not fit into the memory.
    """
    say = progress or (lambda _: None)
    start = network.params if start is None else start
    tree.check_like(start, network.params, "start")
    loss, point, examples = objective(network, split, start, None, ridge)
    if 8 * point.size**2 > memory:
        raise ValueError(
            f"network: its Hessian takes {8 * point.size**2:.2g} bytes, and memory={memory:.2g}; give more, "
            "or use residual_gap with curvature.gauss_newton, which forms no matrix of this size"
        )
    say("full fine-tuning comes to rest: L-BFGS")
    # Every example twice, once with weight 0: what is compiled here will serve two sets of data as well.
    doubled, theta = derivatives.mixed(examples, examples, 0.0), np.asarray(point)
    found = descent.descend(loss, descent.plain(theta), 0 * theta, doubled, accuracy=accuracy, steps=_STEPS)
    say(f"its Hessian: {theta.size} products")
    H = Hessian(network, split, found.point, ridge, memory)
    theta, value, gradient = _rest(loss, examples, found.point, None if accuracy else H.root)
    decrement = found.decrement
    if H.root is not None:
        decrement = float(np.sum(H.root.whitened(gradient) ** 2)) / 2
    return Stationary(
        network=network,
        loss=loss,
        examples=examples,
        theta=theta,
        value=value,
        gradient_norm=float(np.linalg.norm(gradient)),
        decrement=decrement,
        lower=H.definite.lower,
        upper=H.definite.upper,
        moved=float(np.linalg.norm(theta - found.point)),
        evaluations=found.evaluations,
        hessian=H,
    )


def _rest(
    loss: NetworkLoss, examples: Examples, theta: Vector, factor: Triangular | None
) -> tuple[Vector, float, Vector]:
    """Newton steps with one factor as long as they halve the gradient, and value and gradient at the end."""
    best, last = None, math.inf
    for _ in range(_NEWTON):
        value, gradient = derivatives.value_and_gradient(loss, jnp.asarray(theta), examples)
        gradient = np.asarray(gradient)
        norm = float(np.linalg.norm(gradient))
        if best is None or norm < last:
            best = theta, float(value), gradient
        if factor is None or norm > last / 2:
            break
        last = norm
        theta = theta - factor.back(factor.whitened(gradient))
    return best
