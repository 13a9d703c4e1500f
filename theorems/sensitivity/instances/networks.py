r"""What was measured at one point of a network, with the attributes that the claims ask for."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
from jaxtyping import Float

from ...claims import MissingIngredient
from ...pasteable import Pasteable
from ..fact import Fact
from ..reduction import Reduced
from .gaps import Gap

Each = Float[np.ndarray, " n"]


@dataclass(frozen=True, eq=False, repr=False)
class Observed(Gap):
    """The tilted quadratic of a network, on a subspace from which the same numbers come out.

    Attributes:
        whole: whether the Hessian of the whole network is definite, with the interval of its least
            eigenvalue; that of the subspace is no smaller.
        rest: whether the network is at a stationary point of the undisturbed loss.
        note: a sentence for the record.
    """

    whole: Fact = field(default=Fact(False, "not known"))
    rest: Fact = field(default=Fact(False, "not known"))
    note: str = ""

    @classmethod
    def of_network(cls, small: Reduced, whole: Fact, rest: Fact, note: str) -> Observed:
        """From a reduced quadratic; at rest what is left of the gradient is rounding, and becomes 0."""
        gradient = 0 * small.gradient if rest else small.gradient
        kind = f"network, {len(gradient)} of {small.of} dimensions"
        given = small.hessian, small.directions, gradient, small.disturbance
        return cls(*given, kind, whole=whole, rest=rest, note=note)

    @property
    def definiteness(self) -> Fact:
        """Of the whole Hessian."""
        return self.whole

    @property
    def semidefiniteness(self) -> Fact:
        """Likewise."""
        return self.whole

    @property
    def invertibility(self) -> Fact:
        """A definite matrix is; of another one it was not proved."""
        return self.whole

    @property
    def stationarity(self) -> Fact:
        """Of the network."""
        return self.rest

    @property
    def least_full(self) -> Any:
        """As measured; 0 where H is not definite: there is no minimum, and no number is a verdict."""
        return super().least_full if self.whole else 0.0

    @property
    def least_peft(self) -> Any:
        """Likewise."""
        return super().least_peft if self.whole else 0.0

    @property
    def infinity(self) -> float:
        """What stands for the gap where there is no minimum: nothing that looks like a verdict."""
        return 0.0


@dataclass(frozen=True, eq=False, repr=False)
class Measured(Pasteable):
    """Numbers for the bounds by distance: a convex loss on D′ and the image of a method.

    Attributes:
        reached: the least loss over the image.
        optimum: the least loss.
        squared_distance: of the full update from the image.
        mu: strong convexity.
        beta: smoothness.
        error: how far a side may be off.
        scale: what rounding is relative to.
        operations: rounded operations behind a value.
        tail: Σ_{i>r} σ_i² of the full update, where the image is of rank r.
        note: a sentence for the record.
    """

    reached: Each
    optimum: Each
    squared_distance: Each
    mu: float
    beta: Each
    error: Each
    scale: Each
    operations: int
    tail: Each | None = None
    note: str = ""
    kind = "head of a network, ridge softmax regression"


@dataclass(frozen=True, eq=False, repr=False)
class Pulled(Pasteable):
    """The derivatives of a trained network's loss in the parameters of its method, on some of these.

    Attributes:
        composed_gradient: of Φ ↦ L(θ₀ + g(Φ)), differentiated as it stands, shape (n,).
        pulled_gradient: Dgᵀ∇L.
        composed_hessian: likewise, shape (n, n).
        tangent_hessian: PᵀHP.
        second: Σ (∇L)ᵢ ∇²gᵢ.
        bent: whether g is bent.
        operations: rounded operations behind an entry.
        note: a sentence for the record.
    """

    composed_gradient: np.ndarray
    pulled_gradient: np.ndarray
    composed_hessian: np.ndarray
    tangent_hessian: np.ndarray
    second: np.ndarray
    bent: bool
    operations: int
    note: str = ""
    kind = "trained network"

    @property
    def linearity(self) -> Fact:
        """Whether g is linear."""
        return Fact(not self.bent, "g is bent" if self.bent else "g is linear")

    @property
    def measured_gradient(self) -> np.ndarray:
        """As `composed_gradient`."""
        return self.composed_gradient

    @property
    def printed_gradient(self) -> np.ndarray:
        """Pᵀ∇L, with P = Dg where the network is."""
        return self.pulled_gradient

    @property
    def measured_hessian(self) -> np.ndarray:
        """As `composed_hessian`."""
        return self.composed_hessian

    @property
    def printed_hessian(self) -> np.ndarray:
        """PᵀHP."""
        return self.tangent_hessian

    @property
    def pulled_hessian(self) -> np.ndarray:
        """PᵀHP + Σ (∇L)ᵢ ∇²gᵢ."""
        return self.tangent_hessian + self.second

    @property
    def scale(self) -> float:
        """What rounding is relative to: the largest entry, and what cancels in it."""
        return float(np.abs(self.composed_hessian).max() + np.abs(self.second).max()) + float(
            np.abs(self.composed_gradient).max()
        )


@dataclass(frozen=True, eq=False, repr=False)
class Unregularised(Pasteable):
    """The Hessian of the training loss alone, where training with a ridge came to rest.

    Attributes:
        d: the number of parameters.
        lower: of the least eigenvalue, proved.
        upper: likewise.
        note: a sentence for the record.
    """

    d: int
    lower: float
    upper: float
    note: str = ""
    kind = "Hessian of a network"

    @property
    def positive(self) -> int:
        """How many eigenvalues are positive, at most; all of them only if that is proved.

        Raises:
            MissingIngredient: the interval of the least eigenvalue holds 0.
        """
        if self.lower <= 0 < self.upper:
            raise MissingIngredient("the sign of the least eigenvalue: its proved interval holds 0")
        return self.d if self.lower > 0 else self.d - 1
